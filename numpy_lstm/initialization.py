"""Initial weights. All draws are made in float64, so that every dtype gets the same weights."""

from typing import Literal

import numpy as np
from jaxtyping import Shaped

from numpy_lstm.errors import check_choice
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.lstm import LSTM

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
    """Weights of one layer, gate block by gate block.

    Args:
        config: sizes.
        rng: source of all randomness.
        dtype: float32 or float64.
        forget_bias: bias of the forget gate (1 after Gers et al. 2000 and Jozefowicz et al.
            2015); where there are two biases their sum has this value. The others are zero.
        input_init: each gate's block of W_ih orthogonal, or uniform within 1 / sqrt(I).
    """
    I, H = config.input_size, config.hidden_size
    check_choice("input_init", input_init, InputInit)

    def input_block() -> np.ndarray:
        if input_init == "orthogonal":
            return orthogonal((H, I), rng=rng)
        return uniform((H, I), I**-0.5, rng=rng)

    weights = {
        "weight_ih_l0": np.concatenate([input_block() for _ in range(4)]),
        "weight_hh_l0": np.concatenate([orthogonal((H, H), rng=rng) for _ in range(4)]),
    }
    for name in config.bias_names:
        weights[name] = np.zeros(4 * H)
    for name in config.bias_names[:1]:
        weights[name][H : 2 * H] = forget_bias
    return {name: weight.astype(dtype) for name, weight in weights.items()}


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
