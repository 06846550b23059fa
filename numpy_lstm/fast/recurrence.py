"""What must be done step after step, forward and backward.

Forward, that is the recurrent part of (1), then (2) to (7) and (19); backward, (8) to (12), dm of
(20), and `dh_prev` and `dc_prev` of (14). What need not be computed in the order of the steps, the
rest of (1), (13), dW_hr of (20) and `dx` of (14), is left to `segment.py` and `layer.py`, which do
it for many steps at once.

Features are rows and the batch is the last axis, so that each gate is one contiguous block. The
loops run over blocks of s consecutive steps which have one batch size n. As an axis, G is 4H.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from numpy_lstm.config import LSTM, Parameters
from numpy_lstm.shapes import Shaped


class LayerWeights(NamedTuple):
    """The weights of one direction of one layer: those of `cell.py`, and the projection."""

    W_ih: Shaped[np.ndarray, "G I"]
    W_hh: Shaped[np.ndarray, "G P"]
    b: Shaped[np.ndarray, " G"]
    W_hr: Shaped[np.ndarray, "P H"] | None = None


def layer_weights(config: LSTM, parameters: Parameters, suffix: str) -> LayerWeights:
    """The weights of one direction of one layer; the suffix is one such as `_l0_reverse`."""
    W_ih, W_hh, b = config.cell_weights(parameters, suffix)
    return LayerWeights(W_ih, W_hh, b, config.projection(parameters, suffix))


@dataclass(frozen=True)
class StepBlock:
    """What is kept of consecutive steps with one batch size n.

    `gates` are f, i, o, g and tanh(c) of each step. `c` begins with the cell state that the first
    step reads, so that it has s + 1 states. `a` are -a_f, -a_i, -a_o and a_g, where asked for.
    """

    steps: range
    gates: Shaped[np.ndarray, "s 5 H n"]
    c: Shaped[np.ndarray, "states H n"]
    a: Shaped[np.ndarray, "s G n"] | None


class ForwardWeights:
    """Copies of the weights with the gates in the order f, i, o, g, those of f, i, o negated.

    The three sigmoids are then one contiguous block, and sigmoid(a) = 1 / (1 + exp(-a)) needs -a:
    the sign, whose change is exact, is changed once in the weights and not at every step.
    """

    def __init__(self, weights: LayerWeights) -> None:
        self.H = len(weights.b) // 4
        self.W_ih = _reordered(weights.W_ih)
        self.W_hh = _reordered(weights.W_hh)
        self.b = _reordered(weights.b)
        self.W_hr = None
        if weights.W_hr is not None:
            self.W_hr = weights.W_hr.copy()
        self.one = np.array(1, weights.b.dtype)  # at every step cheaper than a Python number


def _reordered(W: np.ndarray) -> np.ndarray:
    """Rows [4H, F] of i, f, g, o as -f, -i, -o, g; a bias as a column [4H, 1]."""
    i, f, g, o = np.split(W.reshape(len(W), -1), 4)
    return np.concatenate([-f, -i, -o, g])


def block_forward(
    weights: ForwardWeights,
    block: StepBlock,
    a_x: Shaped[np.ndarray, "s G n"],
    h: Shaped[np.ndarray, "P n"],
    h_out: Shaped[np.ndarray, "s P n"],
) -> None:
    """The time loop forward: fills the block, and h_out with every step's h.

    Args:
        weights: prepared weights.
        block: its first cell state is there; the rest is written.
        a_x: W_ih x + b of (1), in the order and with the signs of `ForwardWeights`.
        h: hidden state that the first step reads.
        h_out: written.
    """
    s, _, H, n = block.gates.shape
    a = np.empty((4 * H, n), h.dtype)
    scratch = np.empty((H, n), h.dtype)
    c = block.c[0]
    for k in range(s):
        np.matmul(weights.W_hh, h, out=a)  # W_hh h_prev of (1)
        np.add(a, a_x[k], out=a)  # (1), as -a_f, -a_i, -a_o, a_g
        advance(weights, a, block.gates[k], c, block.c[k + 1], h_out[k], scratch)
        if block.a is not None:
            block.a[k] = a
        h, c = h_out[k], block.c[k + 1]


def advance(
    weights: ForwardWeights,
    a: Shaped[np.ndarray, "G n"],
    gates: Shaped[np.ndarray, "5 H n"],
    c_prev: Shaped[np.ndarray, "H n"],
    c: Shaped[np.ndarray, "H n"],
    h: Shaped[np.ndarray, "P n"],
    scratch: Shaped[np.ndarray, "H n"],
) -> None:
    """One step from its pre-activations -a_f, -a_i, -a_o, a_g: writes the gates, c and h."""
    one, H = weights.one, weights.H
    sigmoids = gates[:3].reshape(3 * H, -1, copy=False)  # a view of f, i and o
    f, i, o, g, tanh_c = gates
    np.exp(a[: 3 * H], out=sigmoids)
    np.add(sigmoids, one, out=sigmoids)
    np.divide(one, sigmoids, out=sigmoids)  # (2), (3), (5)
    np.tanh(a[3 * H :], out=g)  # (4)
    np.multiply(f, c_prev, out=c)  # f * c_prev of (6)
    np.multiply(i, g, out=scratch)  # i * g of (6)
    np.add(c, scratch, out=c)  # (6)
    np.tanh(c, out=tanh_c)  # tanh(c) of (7)
    if weights.W_hr is None:
        np.multiply(o, tanh_c, out=h)  # (7)
    else:
        np.multiply(o, tanh_c, out=scratch)  # (7)
        np.matmul(weights.W_hr, scratch, out=h)  # (19)


class BackwardWeights(NamedTuple):
    """Transposed copies of the weights that the backward loop multiplies by."""

    W_hh_T: Shaped[np.ndarray, "P G"]
    W_hr_T: Shaped[np.ndarray, "H P"] | None


def backward_weights(weights: LayerWeights) -> BackwardWeights:
    """Contiguous transposes of W_hh and W_hr."""
    W_hr_T = None
    if weights.W_hr is not None:
        W_hr_T = np.ascontiguousarray(weights.W_hr.T)
    return BackwardWeights(np.ascontiguousarray(weights.W_hh.T), W_hr_T)


def block_backward(
    weights: BackwardWeights,
    block: StepBlock,
    dh: Shaped[np.ndarray, "s P n"],
    da: Shaped[np.ndarray, "s G n"],
    dh_next: Shaped[np.ndarray, "P n"],
    dc_next: Shaped[np.ndarray, "H n"],
    dc: Shaped[np.ndarray, "s H n"] | None,
) -> None:
    """The time loop backward; the carries come in from the step after and leave for the one before.

    Args:
        weights: transposed weights.
        block: what the forward loop kept.
        dh: holds dy; the total gradient of h is written.
        da: da_i, da_f, da_g, da_o are written, in PyTorch's order and with their own signs.
        dh_next: carry of h; written.
        dc_next: carry of c; written.
        dc: the total gradient of c is written, where it is asked for.
    """
    factors = backward_factors(block)
    s, (H, n) = len(block.steps), dc_next.shape
    products = np.empty((6, H, n), dc_next.dtype)  # dc_prev, da_i, da_f, da_g, da_o, dc
    dc_prev, dc_t = products[0], products[5]
    da_t = products[1:5].reshape(4 * H, n, copy=False)
    dc_prev[...] = dc_next  # each step finds dc_next here, and leaves dc_prev in its place
    dm = np.empty((H, n), dc_next.dtype)
    for k in reversed(range(s)):
        np.add(dh[k], dh_next, out=dh[k])  # dh: from this step's output and from the next step
        if weights.W_hr_T is None:
            np.multiply(dh[k], factors[k, 4:], out=products[4:])  # (8), and (9) but for the carry
        else:
            np.matmul(weights.W_hr_T, dh[k], out=dm)  # dm of (20)
            np.multiply(dm, factors[k, 4:], out=products[4:])  # (8), and (9) but for the carry
        np.add(dc_t, dc_prev, out=dc_t)  # (9): dc_prev of the step after is dc_next of this one
        np.multiply(dc_t, factors[k, :4], out=products[:4])  # (10), (11), (12), dc_prev of (14)
        np.matmul(weights.W_hh_T, da_t, out=dh_next)  # dh_prev of (14)
        np.copyto(da[k], da_t)
        if dc is not None:
            dc[k] = dc_t
    dc_next[...] = dc_prev


def backward_factors(block: StepBlock) -> Shaped[np.ndarray, "s 6 H n"]:
    """What (8) to (12), and `dc_prev` of (14), multiply by: known from the forward pass.

    For all steps of the block at once; in this order the factors of dc in dc_prev, da_i, da_f and
    da_g, and those of dh in da_o and dc. docs/derivation.md has the table.
    """
    f, i, o, g, tanh_c = block.gates.swapaxes(0, 1)
    factors = np.empty((len(block.steps), 6, *f.shape[1:]), f.dtype)
    # The derivatives of sigmoid and tanh, from their outputs.
    slopes = 1 - block.gates[:, :3]
    slopes *= block.gates[:, :3]
    f_slope, i_slope, o_slope = slopes.swapaxes(0, 1)  # f (1 - f), i (1 - i), o (1 - o)
    squares = block.gates[:, 3:] * block.gates[:, 3:]
    np.subtract(1, squares, out=squares)
    g_slope, tanh_c_slope = squares.swapaxes(0, 1)  # 1 - g^2, 1 - tanh(c)^2
    factors[:, 0] = f  # dc_prev of (14)
    np.multiply(i_slope, g, out=factors[:, 1])  # (10)
    np.multiply(f_slope, block.c[:-1], out=factors[:, 2])  # (11)
    np.multiply(g_slope, i, out=factors[:, 3])  # (12)
    np.multiply(o_slope, tanh_c, out=factors[:, 4])  # (8)
    np.multiply(tanh_c_slope, o, out=factors[:, 5])  # (9)
    return factors
