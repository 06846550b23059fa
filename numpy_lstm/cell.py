"""One step of the LSTM: the specification.

Every line that bears a number implements that equation. `layer.py` computes the same over whole
sequences, faster; tests hold the two equal, for every option.

The cell with a forget gate is that of Gers, Schmidhuber & Cummins (2000), "Learning to forget";
notation, gate order (i, f, g, o) and stacking are those of torch.nn.LSTMCell. The projection is
that of Sak, Senior & Beaufays (2014); peepholes (Gers & Schmidhuber 2000) and the coupled gate are
as in Greff et al. (2017), "LSTM: A Search Space Odyssey". docs/derivation.md derives the backward
equations.
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
class CellWeights:
    """Parameters of a cell. G is 4H, with the blocks of i, f, g, o stacked; 3H (i, g, o) where
    input and forget gate are coupled. P is H without a projection."""

    W_ih: Shaped[np.ndarray, "G I"]
    """Input weights."""
    W_hh: Shaped[np.ndarray, "G P"]
    """Recurrent weights."""
    b: Shaped[np.ndarray, " G"] | None = None
    """Bias; of PyTorch's pair, the sum."""
    W_hr: Shaped[np.ndarray, "P H"] | None = None
    """Projection of the output."""
    W_ch: Shaped[np.ndarray, "gates H"] | None = None
    """Peepholes, one weight a unit: rows i, f, o; or i, o where the gates are coupled."""
    coupled: bool = False
    """Whether f = 1 - i."""


@dataclass(frozen=True)
class CellCache:
    """What `cell_backward` needs of a `cell_forward`."""

    weights: CellWeights
    x: Shaped[np.ndarray, "N I"]
    h_prev: Shaped[np.ndarray, "N P"]
    c_prev: Shaped[np.ndarray, "N H"]
    a: Shaped[np.ndarray, "N G"]
    i: Shaped[np.ndarray, "N H"]
    f: Shaped[np.ndarray, "N H"]
    g: Shaped[np.ndarray, "N H"]
    o: Shaped[np.ndarray, "N H"]
    c: Shaped[np.ndarray, "N H"]
    m: Shaped[np.ndarray, "N H"]


@dataclass(frozen=True)
class CellGradients:
    """Gradients of one step; each is `d` + the name of what it is the gradient of."""

    dW_ih: Shaped[np.ndarray, "G I"]
    dW_hh: Shaped[np.ndarray, "G P"]
    db: Shaped[np.ndarray, " G"]
    dW_hr: Shaped[np.ndarray, "P H"] | None
    dW_ch: Shaped[np.ndarray, "gates H"] | None
    dx: Shaped[np.ndarray, "N I"]
    dh_prev: Shaped[np.ndarray, "N P"]
    dc_prev: Shaped[np.ndarray, "N H"]
    da: Shaped[np.ndarray, "N G"]
    dc: Shaped[np.ndarray, "N H"]


def cell_forward(
    weights: CellWeights,
    x: Shaped[np.ndarray, "N I"],
    h_prev: Shaped[np.ndarray, "N P"],
    c_prev: Shaped[np.ndarray, "N H"],
) -> tuple[tuple[Shaped[np.ndarray, "N P"], Shaped[np.ndarray, "N H"]], CellCache]:
    """Advance the states by one step.

    ::

        (1)  a = W_ih x + W_hh h_prev + b        (5)  o = sigmoid(a_o)
        (2)  i = sigmoid(a_i)                    (6)  c = f * c_prev + i * g
        (3)  f = sigmoid(a_f)                    (7)  h = o * tanh(c)
        (4)  g = tanh(a_g)

    and, where asked for::

        (19) a_i += p_i * c_prev,  a_f += p_f * c_prev,  a_o += p_o * c      peepholes
        (20) f = 1 - i  in the place of (3)                                  coupled gates
        (21) m = o * tanh(c),  h = W_hr m  in the place of (7)               projection

    Args:
        weights: the parameters.
        x: inputs [N, I].
        h_prev: hidden state of the previous step [N, P].
        c_prev: cell state of the previous step [N, H].

    Returns:
        ``(h, c), cache``: the states [N, P] and [N, H].
    """
    w, p = weights, weights.W_ch
    a = x @ w.W_ih.T + h_prev @ w.W_hh.T  # (1)
    if w.b is not None:
        a = a + w.b  # (1)
    a_i, *a_f, a_g, a_o = np.split(a, 3 if w.coupled else 4, axis=-1)
    if p is not None:
        a_i = a_i + p[0] * c_prev  # (19)
        a_f = [block + p[1] * c_prev for block in a_f]  # (19)
    i = sigmoid(a_i)  # (2)
    f = 1 - i if w.coupled else sigmoid(a_f[0])  # (20), (3)
    g = tanh(a_g)  # (4)
    c = f * c_prev + i * g  # (6)
    if p is not None:
        a_o = a_o + p[-1] * c  # (19)
    o = sigmoid(a_o)  # (5)
    m = o * tanh(c)  # (7)
    h = m if w.W_hr is None else m @ w.W_hr.T  # (21)
    a = np.concatenate([a_i, *a_f, a_g, a_o], axis=-1)
    return (h, c), CellCache(w, x, h_prev, c_prev, a, i, f, g, o, c, m)


def cell_backward(
    dh: Shaped[np.ndarray, "N P"], dc_next: Shaped[np.ndarray, "N H"], cache: CellCache
) -> CellGradients:
    """Carry the gradients of one step's outputs back to its inputs.

    ::

        (8)  da_o = dh * tanh(c) * o (1 - o)               (11) da_f = dc * c_prev * f (1 - f)
        (9)  dc   = dc_next + dh * o * (1 - tanh(c)^2)     (12) da_g = dc * i * (1 - g^2)
        (10) da_i = dc * g * i (1 - i)
        (13) dW_ih = da^T x,  dW_hh = da^T h_prev,  db = sum over the batch of da
        (14) dx = da W_ih,  dh_prev = da W_hh,  dc_prev = dc * f

    and, where asked for::

        (22) dW_hr = dh^T m,  dm = dh W_hr in the place of dh in (8) and (9)      projection
        (23) dc += da_o * p_o,  dc_prev += da_i * p_i + da_f * p_f,               peepholes
             dp_i = sum of da_i * c_prev,  dp_f = sum of da_f * c_prev,  dp_o = sum of da_o * c
        (24) da_i = dc * (g - c_prev) * i (1 - i)  in the place of (10) and (11)  coupled gates

    Args:
        dh: total gradient of h [N, P]: from this step's output and from the next step.
        dc_next: gradient of c [N, H] that arrives through the next step's (6) and (19).
        cache: what `cell_forward` returned.
    """
    k, w, p = cache, cache.weights, cache.weights.W_ch
    dm = dh if w.W_hr is None else dh @ w.W_hr  # (22)
    tanh_c = tanh(k.c)
    da_o = dm * tanh_c * sigmoid_derivative_from_output(k.o)  # (8)
    dc = dc_next + dm * k.o * tanh_derivative_from_output(tanh_c)  # (9)
    if p is not None:
        dc = dc + da_o * p[-1]  # (23)
    di = dc * (k.g - k.c_prev) if w.coupled else dc * k.g
    da_i = di * sigmoid_derivative_from_output(k.i)  # (24), (10)
    da_f = [] if w.coupled else [dc * k.c_prev * sigmoid_derivative_from_output(k.f)]  # (11)
    da_g = dc * k.i * tanh_derivative_from_output(k.g)  # (12)
    da = np.concatenate([da_i, *da_f, da_g, da_o], axis=-1)
    dc_prev = dc * k.f  # (14)
    dW_ch = None
    if p is not None:
        for p_gate, da_gate in zip(p[:-1], [da_i, *da_f], strict=True):
            dc_prev = dc_prev + da_gate * p_gate  # (23)
        pairs = [(da_gate, k.c_prev) for da_gate in (da_i, *da_f)] + [(da_o, k.c)]
        dW_ch = np.stack([(da_gate * c).sum(axis=0) for da_gate, c in pairs])  # (23)
    return CellGradients(
        dW_ih=da.T @ k.x,  # (13)
        dW_hh=da.T @ k.h_prev,  # (13)
        db=da.sum(axis=0),  # (13)
        dW_hr=None if w.W_hr is None else dh.T @ k.m,  # (22)
        dW_ch=dW_ch,
        dx=da @ w.W_ih,  # (14)
        dh_prev=da @ w.W_hh,  # (14)
        dc_prev=dc_prev,
        da=da,
        dc=dc,
    )
