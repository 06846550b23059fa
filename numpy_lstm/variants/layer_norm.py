"""One step of an LSTM with layer normalisation of each gate and of the cell state.

Ba, Kiros & Hinton (2016), "Layer normalization", with the norms where TensorFlow's
`LayerNormBasicLSTMCell` has them: one on each gate's pre-activation, in the place of the bias, and
one on the new cell state, which is carried to the next step *normalised*. (In the paper's own
equations the state is carried as it is, and only what enters tanh is normalised.) Equations taken
from `cell.py` keep their numbers.
"""

from collections import namedtuple

import numpy as np

from numpy_lstm.activations import sigmoid, tanh
from numpy_lstm.shapes import Shaped

WEIGHTS = {"W_ih": ("4H", "I"), "W_hh": ("4H", "P"), "gain": ("5", "H"), "shift": ("5", "H")}
"""As in `cell.py`, without a bias; the rows of gain and shift are those of i, f, g, o and of c."""

EPSILON = 1e-12
"""Added to the variance, as TensorFlow's layer_norm adds it."""

Cache = namedtuple("Cache", "weights x h_prev c_prev z_i z_f z_g z_o a_i a_f a_g i f g s c a_o o")
Gradients = namedtuple(
    "Gradients", "weights dx dh_prev dc_prev da_o dc ds da_i da_f da_g dz_i dz_f dz_g dz_o"
)


def standardised(v: Shaped[np.ndarray, "N H"]) -> Shaped[np.ndarray, "N H"]:
    """The values of all units with mean 0 and deviation 1.

    ::

        (31) standardised(v) = (v - mean(v)) / sqrt(var(v) + EPSILON)
    """
    return (v - v.mean(axis=-1, keepdims=True)) / deviation(v)  # (31)


def deviation(v: Shaped[np.ndarray, "N H"]) -> Shaped[np.ndarray, "N 1"]:
    """``sqrt(var(v) + EPSILON)``, over the units."""
    centred = v - v.mean(axis=-1, keepdims=True)
    return np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)


def standardised_backward(
    dn: Shaped[np.ndarray, "N H"], v: Shaped[np.ndarray, "N H"]
) -> Shaped[np.ndarray, "N H"]:
    """Gradient of v, given that of ``n = standardised(v)``.

    Mean and deviation depend on every unit; that subtracts two means::

        (32) dv = (dn - mean(dn) - n * mean(dn * n)) / sqrt(var(v) + EPSILON)
    """
    n = standardised(v)
    mean_dn = dn.mean(axis=-1, keepdims=True)
    mean_dn_n = (dn * n).mean(axis=-1, keepdims=True)
    return (dn - mean_dn - n * mean_dn_n) / deviation(v)  # (32)


def cell_forward(
    weights: tuple[np.ndarray, ...],
    x: Shaped[np.ndarray, "N I"],
    h_prev: Shaped[np.ndarray, "N P"],
    c_prev: Shaped[np.ndarray, "N H"],
) -> tuple[tuple[Shaped[np.ndarray, "N H"], Shaped[np.ndarray, "N H"]], Cache]:
    """Advance the states by one step; arguments and results are those of `cell.cell_forward`.

    ::

        (33) z = W_ih x + W_hh h_prev
        (34) a_k = gain_k * standardised(z_k) + shift_k        for each gate k of i, f, g, o
        (2)  i = sigmoid(a_i)
        (3)  f = sigmoid(a_f)
        (4)  g = tanh(a_g)
        (5)  o = sigmoid(a_o)
        (35) s = f * c_prev + i * g
        (36) c = gain_c * standardised(s) + shift_c
        (7)  h = o * tanh(c)
    """
    W_ih, W_hh, (gain_i, gain_f, gain_g, gain_o, gain_c), shift = weights
    shift_i, shift_f, shift_g, shift_o, shift_c = shift
    z = x @ W_ih.T + h_prev @ W_hh.T  # (33)
    z_i, z_f, z_g, z_o = np.split(z, 4, axis=-1)
    a_i = gain_i * standardised(z_i) + shift_i  # (34)
    a_f = gain_f * standardised(z_f) + shift_f  # (34)
    a_g = gain_g * standardised(z_g) + shift_g  # (34)
    a_o = gain_o * standardised(z_o) + shift_o  # (34)
    i = sigmoid(a_i)  # (2)
    f = sigmoid(a_f)  # (3)
    g = tanh(a_g)  # (4)
    o = sigmoid(a_o)  # (5)
    s = f * c_prev + i * g  # (35)
    c = gain_c * standardised(s) + shift_c  # (36)
    h = o * tanh(c)  # (7)
    cache = Cache(
        weights, x, h_prev, c_prev, z_i, z_f, z_g, z_o, a_i, a_f, a_g, i, f, g, s, c, a_o, o
    )
    return (h, c), cache


def cell_backward(
    dh: Shaped[np.ndarray, "N H"], dc_next: Shaped[np.ndarray, "N H"], cache: Cache
) -> Gradients:
    """Carry the gradients back; arguments and results are those of `cell.cell_backward`.

    ::

        (8)  da_o = dh * tanh(c) * o (1 - o)
        (9)  dc = dc_next + dh * o * (1 - tanh(c)^2)
        (37) ds = standardised_backward(dc * gain_c, s)
        (38) da_i = ds * g * i (1 - i), da_f = ds * c_prev * f (1 - f), da_g = ds * i * (1 - g^2)
        (39) dz_k = standardised_backward(da_k * gain_k, z_k)  for each gate k of i, f, g, o
        (40) dW_ih = dz^T x, dW_hh = dz^T h_prev
        (41) dgain_k = sum of da_k * standardised(z_k), dshift_k = sum of da_k
                                                               for each gate k of i, f, g, o
        (42) dgain_c = sum of dc * standardised(s), dshift_c = sum of dc
        (43) dx = dz W_ih, dh_prev = dz W_hh, dc_prev = ds * f
    """
    W_ih, W_hh, (gain_i, gain_f, gain_g, gain_o, gain_c), _ = cache.weights
    x, h_prev, c_prev = cache.x, cache.h_prev, cache.c_prev
    z_i, z_f, z_g, z_o = cache.z_i, cache.z_f, cache.z_g, cache.z_o
    i, f, g, s, c, o = cache.i, cache.f, cache.g, cache.s, cache.c, cache.o
    da_o = dh * tanh(c) * (o * (1 - o))  # (8)
    dc = dc_next + dh * o * (1 - tanh(c) ** 2)  # (9)
    ds = standardised_backward(dc * gain_c, s)  # (37)
    da_i = ds * g * (i * (1 - i))  # (38)
    da_f = ds * c_prev * (f * (1 - f))  # (38)
    da_g = ds * i * (1 - g**2)  # (38)
    dz_i = standardised_backward(da_i * gain_i, z_i)  # (39)
    dz_f = standardised_backward(da_f * gain_f, z_f)  # (39)
    dz_g = standardised_backward(da_g * gain_g, z_g)  # (39)
    dz_o = standardised_backward(da_o * gain_o, z_o)  # (39)
    dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=-1)
    dW_ih = dz.T @ x  # (40)
    dW_hh = dz.T @ h_prev  # (40)
    dgain_i = (da_i * standardised(z_i)).sum(axis=0)  # (41)
    dgain_f = (da_f * standardised(z_f)).sum(axis=0)  # (41)
    dgain_g = (da_g * standardised(z_g)).sum(axis=0)  # (41)
    dgain_o = (da_o * standardised(z_o)).sum(axis=0)  # (41)
    dgain_c = (dc * standardised(s)).sum(axis=0)  # (42)
    dgain = np.stack([dgain_i, dgain_f, dgain_g, dgain_o, dgain_c])
    dshift = np.stack([da.sum(axis=0) for da in (da_i, da_f, da_g, da_o, dc)])  # (41), (42)
    dx = dz @ W_ih  # (43)
    dh_prev = dz @ W_hh  # (43)
    dc_prev = ds * f  # (43)
    dweights = (dW_ih, dW_hh, dgain, dshift)
    return Gradients(
        dweights, dx, dh_prev, dc_prev, da_o, dc, ds, da_i, da_f, da_g, dz_i, dz_f, dz_g, dz_o
    )
