"""Random problems in which nothing is special: all sizes differ, nothing is zero or constant."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from numpy_lstm.errors import Shape
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.lstm import LSTM, dropout_masks
from torch_oracle.proof.trace import Problem

Sizes = tuple[int, int, int, int]
"""(T, N, I, H)."""
SIZES = np.arange(1, 14)


def random_parameters(
    shapes: Mapping[str, Shape], rng: np.random.Generator, dtype: Any, scale: float = 1.0
) -> dict[str, np.ndarray]:
    """Normal weights of standard deviation scale / sqrt(fan_in), biases of `scale`."""
    parameters = {}
    for name, shape in shapes.items():
        sizes = tuple(size for _, size in shape)
        fan_in = sizes[1] if len(sizes) == 2 and "weight_ch" not in name else 1
        parameters[name] = (rng.standard_normal(sizes) * scale * fan_in**-0.5).astype(dtype)
    return parameters


def loud(problem: Problem) -> Problem:
    """The same with arguments far beyond the range of exp: logits, or a layer's pre-activations."""
    name = "projection.bias" if problem.targets is not None else "bias"
    scaled = {n: a * 2000 for n, a in problem.parameters.items() if n.startswith(name)}
    return replace(problem, parameters={**problem.parameters, **scaled})


def random_sizes(rng: np.random.Generator) -> Sizes:
    """Four sizes, all different, so that no mix-up of axes goes unnoticed."""
    T, N, I, H = map(int, rng.choice(SIZES, 4, replace=False))
    return T, N, I, H


def random_problem(
    seed: int,
    *,
    model: bool = False,
    dtype: Any = np.float64,
    scale: float = 1.0,
    sizes: Sizes | None = None,
    **options: Any,
) -> Problem:
    """An LSTM's or a language model's problem with sizes (T, N, I, H), ragged, all non-zero.

    The options are those of `LSTM` or `LanguageModel`; with dropout, masks are drawn.
    """
    rng = np.random.default_rng(seed)
    T, N, I, H = sizes or random_sizes(rng)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    config = (LanguageModel if model else LSTM)(I, H, **options)
    lstm = config.lstm if isinstance(config, LanguageModel) else config
    lengths = rng.integers(1, T + 1, N)
    lengths[rng.integers(N)] = T
    L, P = len(lstm.suffixes), lstm.output_size
    return Problem(
        config=config,
        parameters=random_parameters(config.parameter_shapes(), rng, dtype, scale),
        x=rng.integers(0, I, (T, N)) if model else normal(T, N, I),
        lengths=lengths,
        h0=normal(L, N, P),
        c0=normal(L, N, H),
        dh_n=normal(L, N, P),
        dc_n=normal(L, N, H),
        dy=None if model else normal(T, N, lstm.directions * P),
        targets=rng.integers(0, I, (T, N)) if model else None,
        dloss=0.37,
        masks=tuple(dropout_masks(lstm, T, N, dtype, rng=rng)),
    )
