"""One step of an LSTM that forgets exactly as much as it takes in: coupled input and forget gates.

Called CIFG in Greff et al. (2017), "LSTM: A Search Space Odyssey". There is no forget gate of its
own: the weights hold the blocks of i, g, o. Equations taken from `cell.py` keep their numbers.
"""

from collections import namedtuple

import numpy as np

from numpy_lstm.activations import sigmoid, tanh
from numpy_lstm.shapes import Shaped

WEIGHTS = {"W_ih": ("3H", "I"), "W_hh": ("3H", "P"), "b": ("3H",)}
"""As in `cell.py`, with the blocks of the gates i, g, o."""

Cache = namedtuple("Cache", "weights x h_prev c_prev a_i a_g i f g c a_o o")
Gradients = namedtuple("Gradients", "weights dx dh_prev dc_prev da_o dc da_i da_g")


def cell_forward(
    weights: tuple[np.ndarray, ...],
    x: Shaped[np.ndarray, "N I"],
    h_prev: Shaped[np.ndarray, "N P"],
    c_prev: Shaped[np.ndarray, "N H"],
) -> tuple[tuple[Shaped[np.ndarray, "N H"], Shaped[np.ndarray, "N H"]], Cache]:
    """Advance the states by one step; arguments and results are those of `cell.cell_forward`.

    ::

        (1)  a = W_ih x + W_hh h_prev + b
        (2)  i = sigmoid(a_i)
        (26) f = 1 - i
        (4)  g = tanh(a_g)
        (5)  o = sigmoid(a_o)
        (6)  c = f * c_prev + i * g
        (7)  h = o * tanh(c)
    """
    W_ih, W_hh, b = weights
    a = x @ W_ih.T + h_prev @ W_hh.T + b  # (1)
    a_i, a_g, a_o = np.split(a, 3, axis=-1)
    i = sigmoid(a_i)  # (2)
    f = 1 - i  # (26)
    g = tanh(a_g)  # (4)
    o = sigmoid(a_o)  # (5)
    c = f * c_prev + i * g  # (6)
    h = o * tanh(c)  # (7)
    return (h, c), Cache(weights, x, h_prev, c_prev, a_i, a_g, i, f, g, c, a_o, o)


def cell_backward(
    dh: Shaped[np.ndarray, "N H"], dc_next: Shaped[np.ndarray, "N H"], cache: Cache
) -> Gradients:
    """Carry the gradients back; arguments and results are those of `cell.cell_backward`.

    ::

        (8)  da_o = dh * tanh(c) * o (1 - o)
        (9)  dc = dc_next + dh * o * (1 - tanh(c)^2)
        (27) da_i = dc * (g - c_prev) * i (1 - i)
        (12) da_g = dc * i * (1 - g^2)
        (13) dW_ih = da^T x, dW_hh = da^T h_prev, db = sum of da
        (14) dx = da W_ih, dh_prev = da W_hh, dc_prev = dc * f
    """
    W_ih, W_hh, _ = cache.weights
    x, h_prev, c_prev = cache.x, cache.h_prev, cache.c_prev
    i, f, g, c, o = cache.i, cache.f, cache.g, cache.c, cache.o
    da_o = dh * tanh(c) * (o * (1 - o))  # (8)
    dc = dc_next + dh * o * (1 - tanh(c) ** 2)  # (9)
    da_i = dc * (g - c_prev) * (i * (1 - i))  # (27)
    da_g = dc * i * (1 - g**2)  # (12)
    da = np.concatenate([da_i, da_g, da_o], axis=-1)
    dW_ih = da.T @ x  # (13)
    dW_hh = da.T @ h_prev  # (13)
    db = da.sum(axis=0)  # (13)
    dx = da @ W_ih  # (14)
    dh_prev = da @ W_hh  # (14)
    dc_prev = dc * f  # (14)
    return Gradients((dW_ih, dW_hh, db), dx, dh_prev, dc_prev, da_o, dc, da_i, da_g)
