"""One step of the LSTM: the specification.

Every line below the docstrings implements the one numbered equation that it bears. `lstm.py`
computes the same over whole sequences, faster; tests hold the two equal.

The cell with a forget gate is that of Gers, Schmidhuber & Cummins (2000), "Learning to forget",
without peepholes; notation, gate order (i, f, g, o) and stacking are those of torch.nn.LSTMCell.
The derivation of (8) to (14) is in docs/derivation.md.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from numpy_lstm.activations import (
    sigmoid,
    sigmoid_derivative_from_output,
    tanh,
    tanh_derivative_from_output,
)


@dataclass(frozen=True)
class CellCache:
    """What `cell_backward` needs of a `cell_forward`."""

    W_ih: Shaped[np.ndarray, "G I"]
    W_hh: Shaped[np.ndarray, "G H"]
    x: Shaped[np.ndarray, "N I"]
    h_prev: Shaped[np.ndarray, "N H"]
    c_prev: Shaped[np.ndarray, "N H"]
    a: Shaped[np.ndarray, "N G"]
    i: Shaped[np.ndarray, "N H"]
    f: Shaped[np.ndarray, "N H"]
    g: Shaped[np.ndarray, "N H"]
    o: Shaped[np.ndarray, "N H"]
    c: Shaped[np.ndarray, "N H"]


@dataclass(frozen=True)
class CellGradients:
    """Gradients of one step; each is `d` + the name of what it is the gradient of."""

    dW_ih: Shaped[np.ndarray, "G I"]
    dW_hh: Shaped[np.ndarray, "G H"]
    db: Shaped[np.ndarray, " G"]
    dx: Shaped[np.ndarray, "N I"]
    dh_prev: Shaped[np.ndarray, "N H"]
    dc_prev: Shaped[np.ndarray, "N H"]
    da: Shaped[np.ndarray, "N G"]
    dc: Shaped[np.ndarray, "N H"]


def cell_forward(
    W_ih: Shaped[np.ndarray, "G I"],
    W_hh: Shaped[np.ndarray, "G H"],
    b: Shaped[np.ndarray, " G"],
    x: Shaped[np.ndarray, "N I"],
    h_prev: Shaped[np.ndarray, "N H"],
    c_prev: Shaped[np.ndarray, "N H"],
) -> tuple[tuple[Shaped[np.ndarray, "N H"], Shaped[np.ndarray, "N H"]], CellCache]:
    """Advance the states by one step.

    ::

        (1)  a = W_ih x + W_hh h_prev + b        (5)  o = sigmoid(a_o)
        (2)  i = sigmoid(a_i)                    (6)  c = f * c_prev + i * g
        (3)  f = sigmoid(a_f)                    (7)  h = o * tanh(c)
        (4)  g = tanh(a_g)

    Args:
        W_ih: input weights [G, I], G = 4H, the blocks of i, f, g, o stacked.
        W_hh: recurrent weights [G, H].
        b: bias [G]; of PyTorch's pair, the sum.
        x: inputs [N, I].
        h_prev: hidden state of the previous step [N, H].
        c_prev: cell state of the previous step [N, H].

    Returns:
        ``(h, c), cache`` with both states [N, H].
    """
    a = x @ W_ih.T + h_prev @ W_hh.T + b  # (1)
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=-1)
    i = sigmoid(a_i)  # (2)
    f = sigmoid(a_f)  # (3)
    g = tanh(a_g)  # (4)
    o = sigmoid(a_o)  # (5)
    c = f * c_prev + i * g  # (6)
    h = o * tanh(c)  # (7)
    return (h, c), CellCache(W_ih, W_hh, x, h_prev, c_prev, a, i, f, g, o, c)


def cell_backward(
    dh: Shaped[np.ndarray, "N H"], dc_next: Shaped[np.ndarray, "N H"], cache: CellCache
) -> CellGradients:
    """Carry the gradients of one step's outputs back to its inputs.

    ::

        (8)  da_o = dh * tanh(c) * o (1 - o)               (11) da_f = dc * c_prev * f (1 - f)
        (9)  dc   = dc_next + dh * o * (1 - tanh(c)^2)     (12) da_g = dc * i * (1 - g^2)
        (10) da_i = dc * g * i (1 - i)
        (13) dW_ih = da^T x,  dW_hh = da^T h_prev,  db = sum over the batch of da
        (14) dx = da W_ih,  dh_prev = da W_hh,  dc_prev = dc * f

    Args:
        dh: total gradient of h [N, H]: from this step's output and from the next step.
        dc_next: gradient of c [N, H] that arrives through the next step's (6).
        cache: what `cell_forward` returned.
    """
    k = cache
    tanh_c = tanh(k.c)
    da_o = dh * tanh_c * sigmoid_derivative_from_output(k.o)  # (8)
    dc = dc_next + dh * k.o * tanh_derivative_from_output(tanh_c)  # (9)
    da_i = dc * k.g * sigmoid_derivative_from_output(k.i)  # (10)
    da_f = dc * k.c_prev * sigmoid_derivative_from_output(k.f)  # (11)
    da_g = dc * k.i * tanh_derivative_from_output(k.g)  # (12)
    da = np.concatenate([da_i, da_f, da_g, da_o], axis=-1)
    return CellGradients(
        dW_ih=da.T @ k.x,  # (13)
        dW_hh=da.T @ k.h_prev,  # (13)
        db=da.sum(axis=0),  # (13)
        dx=da @ k.W_ih,  # (14)
        dh_prev=da @ k.W_hh,  # (14)
        dc_prev=dc * k.f,  # (14)
        da=da,
        dc=dc,
    )
