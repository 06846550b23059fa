"""One step of an LSTM whose gates see the cell state through peepholes.

Gers & Schmidhuber (2000), "Recurrent nets that time and count"; the gates i and f see the old cell
state and o the new one, as in Greff et al. (2017), "LSTM: A Search Space Odyssey". Equations taken
from `cell.py` keep their numbers.
"""

from collections import namedtuple

import numpy as np

from numpy_lstm.activations import sigmoid, tanh
from numpy_lstm.shapes import Shaped

WEIGHTS = {"W_ih": ("4H", "I"), "W_hh": ("4H", "P"), "b": ("4H",), "W_ch": ("3", "H")}
"""As in `cell.py`; the rows of W_ch are the peepholes p_i, p_f, p_o, one weight a unit."""

Cache = namedtuple("Cache", "weights x h_prev c_prev a_i a_f a_g i f g c a_o o")
Gradients = namedtuple("Gradients", "weights dx dh_prev dc_prev da_o dc da_i da_f da_g")


def cell_forward(
    weights: tuple[np.ndarray, ...],
    x: Shaped[np.ndarray, "N I"],
    h_prev: Shaped[np.ndarray, "N P"],
    c_prev: Shaped[np.ndarray, "N H"],
) -> tuple[tuple[Shaped[np.ndarray, "N H"], Shaped[np.ndarray, "N H"]], Cache]:
    """Advance the states by one step; arguments and results are those of `cell.cell_forward`.

    ::

        (21) z = W_ih x + W_hh h_prev + b
        (22) a_i = z_i + p_i * c_prev, a_f = z_f + p_f * c_prev, a_g = z_g, a_o = z_o + p_o * c
        (2)  i = sigmoid(a_i)
        (3)  f = sigmoid(a_f)
        (4)  g = tanh(a_g)
        (6)  c = f * c_prev + i * g
        (5)  o = sigmoid(a_o)
        (7)  h = o * tanh(c)
    """
    W_ih, W_hh, b, (p_i, p_f, p_o) = weights
    z = x @ W_ih.T + h_prev @ W_hh.T + b  # (21)
    z_i, z_f, a_g, z_o = np.split(z, 4, axis=-1)
    a_i = z_i + p_i * c_prev  # (22)
    a_f = z_f + p_f * c_prev  # (22)
    i = sigmoid(a_i)  # (2)
    f = sigmoid(a_f)  # (3)
    g = tanh(a_g)  # (4)
    c = f * c_prev + i * g  # (6)
    a_o = z_o + p_o * c  # (22)
    o = sigmoid(a_o)  # (5)
    h = o * tanh(c)  # (7)
    return (h, c), Cache(weights, x, h_prev, c_prev, a_i, a_f, a_g, i, f, g, c, a_o, o)


def cell_backward(
    dh: Shaped[np.ndarray, "N H"], dc_next: Shaped[np.ndarray, "N H"], cache: Cache
) -> Gradients:
    """Carry the gradients back; arguments and results are those of `cell.cell_backward`.

    ::

        (8)  da_o = dh * tanh(c) * o (1 - o)
        (23) dc = dc_next + dh * o * (1 - tanh(c)^2) + da_o * p_o
        (10) da_i = dc * g * i (1 - i)
        (11) da_f = dc * c_prev * f (1 - f)
        (12) da_g = dc * i * (1 - g^2)
        (13) dW_ih = da^T x, dW_hh = da^T h_prev, db = sum of da
        (24) dp_i = sum of da_i * c_prev, dp_f = sum of da_f * c_prev, dp_o = sum of da_o * c
        (25) dx = da W_ih, dh_prev = da W_hh, dc_prev = dc * f + da_i * p_i + da_f * p_f
    """
    W_ih, W_hh, _, (p_i, p_f, p_o) = cache.weights
    x, h_prev, c_prev = cache.x, cache.h_prev, cache.c_prev
    i, f, g, c, o = cache.i, cache.f, cache.g, cache.c, cache.o
    da_o = dh * tanh(c) * (o * (1 - o))  # (8)
    dc = dc_next + dh * o * (1 - tanh(c) ** 2) + da_o * p_o  # (23)
    da_i = dc * g * (i * (1 - i))  # (10)
    da_f = dc * c_prev * (f * (1 - f))  # (11)
    da_g = dc * i * (1 - g**2)  # (12)
    da = np.concatenate([da_i, da_f, da_g, da_o], axis=-1)
    dW_ih = da.T @ x  # (13)
    dW_hh = da.T @ h_prev  # (13)
    db = da.sum(axis=0)  # (13)
    dp_i = (da_i * c_prev).sum(axis=0)  # (24)
    dp_f = (da_f * c_prev).sum(axis=0)  # (24)
    dp_o = (da_o * c).sum(axis=0)  # (24)
    dW_ch = np.stack([dp_i, dp_f, dp_o])
    dx = da @ W_ih  # (25)
    dh_prev = da @ W_hh  # (25)
    dc_prev = dc * f + da_i * p_i + da_f * p_f  # (25)
    return Gradients((dW_ih, dW_hh, db, dW_ch), dx, dh_prev, dc_prev, da_o, dc, da_i, da_f, da_g)
