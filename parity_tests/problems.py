"""Random problems in which nothing is special: all sizes differ, nothing is zero or constant."""

from typing import Any

import numpy as np

from numpy_lstm.errors import Shape
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.lstm import LSTM, dropout_masks, lstm_backward, lstm_forward
from torch_oracle.trace import Problem, contribution

SIZES = np.arange(2, 14)


def random_parameters(
    shapes: dict[str, Shape], rng: np.random.Generator, dtype: Any, scale: float = 1.0
) -> dict[str, np.ndarray]:
    """Normal weights of standard deviation scale / sqrt(fan_in), biases of `scale`."""
    parameters = {}
    for name, shape in shapes.items():
        sizes = tuple(size for _, size in shape)
        fan_in = sizes[1] if len(sizes) == 2 and "weight_ch" not in name else 1
        parameters[name] = (rng.standard_normal(sizes) * scale * fan_in**-0.5).astype(dtype)
    return parameters


def random_problem(
    seed: int,
    *,
    model: bool = False,
    dtype: Any = np.float64,
    scale: float = 1.0,
    sizes: tuple[int, int, int, int] | None = None,
    **options: Any,
) -> Problem:
    """An LSTM's or a language model's problem with sizes (T, N, I, H), ragged, all non-zero.

    The options are those of `LSTM` or `LanguageModel`; with dropout, masks are drawn.
    """
    rng = np.random.default_rng(seed)
    T, N, I, H = sizes or map(int, rng.choice(SIZES, 4, replace=False))

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


def public_totals(problem: Problem, **arguments: Any) -> dict[str, np.ndarray]:
    """All outputs and gradients by the public functions, time-major, as a trace names them."""
    p, order = problem, (1, 0, 2) if problem.lstm.batch_first else (0, 1, 2)
    given = {"lengths": p.lengths, "masks": p.masks} | arguments
    (y, h_n, c_n), cache = lstm_forward(
        p.lstm, p.parameters, p.x.transpose(order), p.h0, p.c0, **given
    )
    g = lstm_backward(p.dy.transpose(order), cache, p.dh_n, p.dc_n)
    totals = {"y": y.transpose(order), "h_n": h_n, "c_n": c_n}
    totals |= {"dx": g.dx.transpose(order), "dh0": g.dh0, "dc0": g.dc0}
    return totals | {contribution(name): gradient for name, gradient in g.parameters.items()}
