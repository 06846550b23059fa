"""One step of torch's cell and of each variant by torch's single operations, for autograd.

Each function takes the blocks of z = W_ih x + W_hh h_prev + b in the order of the gates, the cell
state before, and the weights that are neither of these, for each sequence its own copy [N, ...].
It returns every value that the hand-written cell of the same name computes; `m` is o tanh(c), which
the projection reads if there is one. A file of `numpy_lstm/variants` is judged by the function of
its name in `TORCH_CELLS`.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

from numpy_lstm.config import LSTM
from torch_oracle.proof.arithmetic import Arithmetic, Tensors

EPSILON = 1e-12
"""What TensorFlow's layer_norm adds to the variance."""

TorchCell = Callable[
    [Arithmetic, Sequence[torch.Tensor], torch.Tensor, Mapping[str, torch.Tensor]], Tensors
]


def lstm_cell(
    arithmetic: Arithmetic,
    z: Sequence[torch.Tensor],
    c_prev: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
) -> Tensors:
    """The equations of nn.LSTMCell, for noise to enter between them."""
    a_i, a_f, a_g, a_o = z
    i, f, g = arithmetic.sigmoid(a_i), arithmetic.sigmoid(a_f), arithmetic.tanh(a_g)
    o = arithmetic.sigmoid(a_o)
    c = f * c_prev + i * g
    m = o * arithmetic.tanh(c)
    a = {"a_i": a_i, "a_f": a_f, "a_g": a_g, "a_o": a_o}
    return a | {"i": i, "f": f, "g": g, "o": o, "c": c, "m": m}


def peephole(
    arithmetic: Arithmetic,
    z: Sequence[torch.Tensor],
    c_prev: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
) -> Tensors:
    """Gates that see the cell state: i and f the old one, o the new one."""
    z_i, z_f, a_g, z_o = z
    p_i, p_f, p_o = weights["weight_ch"].unbind(dim=1)
    a_i = z_i + p_i * c_prev
    a_f = z_f + p_f * c_prev
    i, f, g = arithmetic.sigmoid(a_i), arithmetic.sigmoid(a_f), arithmetic.tanh(a_g)
    c = f * c_prev + i * g
    a_o = z_o + p_o * c
    o = arithmetic.sigmoid(a_o)
    m = o * arithmetic.tanh(c)
    a = {"a_i": a_i, "a_f": a_f, "a_g": a_g, "a_o": a_o}
    return a | {"i": i, "f": f, "g": g, "o": o, "c": c, "m": m}


def coupled(
    arithmetic: Arithmetic,
    z: Sequence[torch.Tensor],
    c_prev: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
) -> Tensors:
    """A forget gate that is what the input gate leaves over."""
    a_i, a_g, a_o = z
    i, g, o = arithmetic.sigmoid(a_i), arithmetic.tanh(a_g), arithmetic.sigmoid(a_o)
    f = arithmetic.complement(i)
    c = f * c_prev + i * g
    m = o * arithmetic.tanh(c)
    a = {"a_i": a_i, "a_g": a_g, "a_o": a_o}
    return a | {"i": i, "f": f, "g": g, "o": o, "c": c, "m": m}


def coupled_peephole(
    arithmetic: Arithmetic,
    z: Sequence[torch.Tensor],
    c_prev: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
) -> Tensors:
    """Coupled gates, of which i sees the old cell state and o the new one."""
    z_i, a_g, z_o = z
    p_i, p_o = weights["weight_ch"].unbind(dim=1)
    a_i = z_i + p_i * c_prev
    i, g = arithmetic.sigmoid(a_i), arithmetic.tanh(a_g)
    f = arithmetic.complement(i)
    c = f * c_prev + i * g
    a_o = z_o + p_o * c
    o = arithmetic.sigmoid(a_o)
    m = o * arithmetic.tanh(c)
    a = {"a_i": a_i, "a_g": a_g, "a_o": a_o}
    return a | {"i": i, "f": f, "g": g, "o": o, "c": c, "m": m}


def layer_norm(
    arithmetic: Arithmetic,
    z: Sequence[torch.Tensor],
    c_prev: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
) -> Tensors:
    """Each gate's z, and the new cell state, normalised over the units."""
    gains, shifts = weights["gain"].unbind(dim=1), weights["shift"].unbind(dim=1)
    values = {f"z_{gate}": block for gate, block in zip("ifgo", z, strict=True)}
    for gate, block, gain, shift in zip("ifgo", z, gains, shifts, strict=False):
        values[f"a_{gate}"] = gain * arithmetic.standardised(block, EPSILON) + shift
    i, f = arithmetic.sigmoid(values["a_i"]), arithmetic.sigmoid(values["a_f"])
    g, o = arithmetic.tanh(values["a_g"]), arithmetic.sigmoid(values["a_o"])
    s = f * c_prev + i * g
    c = gains[4] * arithmetic.standardised(s, EPSILON) + shifts[4]
    m = o * arithmetic.tanh(c)
    return values | {"i": i, "f": f, "g": g, "o": o, "s": s, "c": c, "m": m}


TORCH_CELLS: dict[str, TorchCell] = {
    "peephole": peephole,
    "coupled": coupled,
    "coupled_peephole": coupled_peephole,
    "layer_norm": layer_norm,
}
"""By the name of the variant."""


def torch_cell_of(config: LSTM) -> TorchCell:
    """The cell of a configuration, by torch's single operations.

    Raises:
        ValueError: a variant of one's own, of which torch has no version.
    """
    if config.variant is None:
        return lstm_cell
    if isinstance(config.variant, str) and config.variant in TORCH_CELLS:
        return TORCH_CELLS[config.variant]
    raise ValueError(
        f"variant {config.variant!r}: torch has no version of it; give one as torch_trace(cell=...)"
    )
