"""One step of torch.nn.LSTMCell: the specification of everything that this project computes.

A line that bears a number computes the equation of that number. `unrolled.py` repeats the step over
whole sequences; `fast/` computes the same numbers faster; `variants/` holds cells that torch lacks.
docs/derivation.md derives the backward equations.

The cell with a forget gate is that of Gers, Schmidhuber & Cummins (2000), "Learning to forget";
notation and gate order (i, f, g, o) are those of torch.nn.LSTMCell.
"""

from collections import namedtuple

import numpy as np

from numpy_lstm.activations import sigmoid, tanh
from numpy_lstm.shapes import Shaped

WEIGHTS = {"W_ih": ("4H", "I"), "W_hh": ("4H", "P"), "b": ("4H",)}
"""The weights in the order in which both functions take and return them, with their axes.

The rows are the blocks of the gates i, f, g, o. `b` is the bias; of PyTorch's pair, the sum. P is
the size of the h that the cell reads: H, unless the outputs are projected.
"""

Cache = namedtuple("Cache", "weights x h_prev c_prev a_i a_f a_g i f g c a_o o")
"""What `cell_forward` hands to `cell_backward`: what it read, then what it computed, [N, H] each.

`a_o` and `o` are last, so that a variant whose output gate reads `c` has the same order.
"""

Gradients = namedtuple("Gradients", "weights dx dh_prev dc_prev da_o dc da_i da_f da_g")
"""What `cell_backward` returns; each is `d` and the name of what it is the gradient of.

`weights` is a tuple, the gradients of the weights in the order of `WEIGHTS`.
"""


def cell_forward(
    weights: tuple[np.ndarray, ...],
    x: Shaped[np.ndarray, "N I"],
    h_prev: Shaped[np.ndarray, "N P"],
    c_prev: Shaped[np.ndarray, "N H"],
) -> tuple[tuple[Shaped[np.ndarray, "N H"], Shaped[np.ndarray, "N H"]], Cache]:
    """Advance the states by one step.

    ::

        (1) a = W_ih x + W_hh h_prev + b
        (2) i = sigmoid(a_i)
        (3) f = sigmoid(a_f)
        (4) g = tanh(a_g)
        (5) o = sigmoid(a_o)
        (6) c = f * c_prev + i * g
        (7) h = o * tanh(c)

    Args:
        weights: W_ih, W_hh and b; see `WEIGHTS`.
        x: inputs [N, I].
        h_prev: hidden state of the previous step [N, P].
        c_prev: cell state of the previous step [N, H].

    Returns:
        ``(h, c), cache``: the new states, both [N, H], and what the backward pass needs.
    """
    W_ih, W_hh, b = weights
    a = x @ W_ih.T + h_prev @ W_hh.T + b  # (1)
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=-1)
    i = sigmoid(a_i)  # (2)
    f = sigmoid(a_f)  # (3)
    g = tanh(a_g)  # (4)
    o = sigmoid(a_o)  # (5)
    c = f * c_prev + i * g  # (6)
    h = o * tanh(c)  # (7)
    return (h, c), Cache(weights, x, h_prev, c_prev, a_i, a_f, a_g, i, f, g, c, a_o, o)


def cell_backward(
    dh: Shaped[np.ndarray, "N H"], dc_next: Shaped[np.ndarray, "N H"], cache: Cache
) -> Gradients:
    """Carry the gradients of one step's new states back to everything that the step read.

    ::

        (8)  da_o = dh * tanh(c) * o (1 - o)
        (9)  dc = dc_next + dh * o * (1 - tanh(c)^2)
        (10) da_i = dc * g * i (1 - i)
        (11) da_f = dc * c_prev * f (1 - f)
        (12) da_g = dc * i * (1 - g^2)
        (13) dW_ih = da^T x, dW_hh = da^T h_prev, db = sum of da
        (14) dx = da W_ih, dh_prev = da W_hh, dc_prev = dc * f

    Args:
        dh: total gradient of h [N, H]: from this step's output and from the next step.
        dc_next: gradient of c [N, H] that arrives through the next step's (6).
        cache: what `cell_forward` returned; not changed.

    Returns:
        The gradients of everything that the step read and computed; those of the weights are sums
        over the batch.
    """
    W_ih, W_hh, _ = cache.weights
    x, h_prev, c_prev = cache.x, cache.h_prev, cache.c_prev
    i, f, g, c, o = cache.i, cache.f, cache.g, cache.c, cache.o
    da_o = dh * tanh(c) * (o * (1 - o))  # (8)
    dc = dc_next + dh * o * (1 - tanh(c) ** 2)  # (9)
    da_i = dc * g * (i * (1 - i))  # (10)
    da_f = dc * c_prev * (f * (1 - f))  # (11)
    da_g = dc * i * (1 - g**2)  # (12)
    da = np.concatenate([da_i, da_f, da_g, da_o], axis=-1)
    dW_ih = da.T @ x  # (13)
    dW_hh = da.T @ h_prev  # (13)
    db = da.sum(axis=0)  # (13)
    dx = da @ W_ih  # (14)
    dh_prev = da @ W_hh  # (14)
    dc_prev = dc * f  # (14)
    return Gradients((dW_ih, dW_hh, db), dx, dh_prev, dc_prev, da_o, dc, da_i, da_f, da_g)
