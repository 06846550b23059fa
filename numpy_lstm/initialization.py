"""Initial weights. All draws are made in float64, so that every dtype gets the same weights."""

from typing import Literal

import numpy as np

from numpy_lstm.config import LSTM
from numpy_lstm.errors import InputError, check_choice
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.shapes import Shaped

InputInit = Literal["orthogonal", "scaled"]


def orthogonal(
    shape: tuple[int, int], *, rng: np.random.Generator
) -> Shaped[np.ndarray, "rows columns"]:
    """A matrix with orthonormal rows or columns (whichever are fewer), uniformly distributed.

    QR of a Gaussian matrix; the signs of R's diagonal make the distribution uniform over the
    orthogonal group (Mezzadri 2007, "How to generate random matrices from the classical compact
    groups", section 5).
    """
    rows, columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return q if rows >= columns else q.T


def uniform(
    shape: tuple[int, ...], bound: float, *, rng: np.random.Generator
) -> Shaped[np.ndarray, "..."]:
    """Uniform on [-bound, bound]; torch.nn.Linear's default has bound 1 / sqrt(fan_in)."""
    return rng.uniform(-bound, bound, shape)


def init_lstm(
    config: LSTM,
    *,
    rng: np.random.Generator,
    dtype: type = np.float64,
    forget_bias: float = 1.0,
    input_init: InputInit = "orthogonal",
) -> dict[str, np.ndarray]:
    """Weights of an LSTM, gate block by gate block; a projection is orthogonal, peepholes are 0,
    and a layer normalisation leaves what it normalises at deviation 1.

    Args:
        config: sizes.
        rng: source of all randomness.
        dtype: float32 or float64.
        forget_bias: bias of the forget gate (1 after Gers et al. 2000 and Jozefowicz et al.
            2015); where there are two biases their sum has this value, where the gates are
            coupled the input gate's bias is its negative, and without a bias it plays no part.
            The other biases are zero.
        input_init: each gate's block of W_ih orthogonal, or uniform within 1 / sqrt(I).
    """
    check_choice("input_init", input_init, InputInit)
    if not np.issubdtype(dtype, np.inexact):
        raise InputError(f"expected a floating type, got {dtype}", argument="dtype")
    if not np.isfinite(forget_bias):
        raise InputError(f"expected a finite number, got {forget_bias}", argument="forget_bias")
    H = config.hidden_size
    weights: dict[str, np.ndarray] = {}
    for name, shape in config.parameter_shapes().items():
        kind, sizes = name.partition("_l")[0], tuple(size for _, size in shape)
        if kind == "weight_ih" and input_init == "scaled":
            weights[name] = uniform(sizes, sizes[1] ** -0.5, rng=rng)
        elif kind in ("weight_ih", "weight_hh"):
            blocks = [orthogonal((H, sizes[1]), rng=rng) for _ in range(sizes[0] // H)]
            weights[name] = np.concatenate(blocks)
        elif kind == "weight_hr":
            weights[name] = orthogonal((sizes[0], sizes[1]), rng=rng)
        elif kind == "gain":
            weights[name] = np.ones(sizes)
        else:
            weights[name] = np.zeros(sizes)
        if kind in config.bias_names[:1]:
            _set_forget_bias(config, weights[name], forget_bias)
        if kind == "shift" and config.variant == "layer_norm":
            weights[name][1] = forget_bias
    return {name: weight.astype(dtype) for name, weight in weights.items()}


def _set_forget_bias(config: LSTM, b: Shaped[np.ndarray, " G"], forget_bias: float) -> None:
    """Let a bias make the forget gate start open; a variant of one's own is left alone."""
    H = config.hidden_size
    if config.variant in (None, "peephole"):
        b[H : 2 * H] = forget_bias
    elif config.variant in ("coupled", "coupled_peephole"):
        b[:H] = -forget_bias  # f = 1 - i = sigmoid(-a_i)


def init_language_model(
    model: LanguageModel,
    *,
    rng: np.random.Generator,
    dtype: type = np.float64,
    forget_bias: float = 1.0,
    input_init: InputInit = "orthogonal",
) -> dict[str, np.ndarray]:
    """Weights of the language model: `init_lstm`, an orthogonal W_v and a zero b_v."""
    lstm = init_lstm(
        model.lstm, rng=rng, dtype=dtype, forget_bias=forget_bias, input_init=input_init
    )
    W_v = orthogonal((model.vocab_size, model.hidden_size), rng=rng)
    return {f"lstm.{name}": weight for name, weight in lstm.items()} | {
        "projection.weight": np.ascontiguousarray(W_v, dtype),
        "projection.bias": np.zeros(model.vocab_size, dtype),
    }
