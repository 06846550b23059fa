"""The functions that are not linear: sigmoid, tanh, and the softmax of the output.

Nothing here takes an absolute value, a maximum, a branch or a cast on the differentiated path, so
that a complex step ``f(a + i h)`` differentiates each function exactly.
"""

import numpy as np

from numpy_lstm.shapes import Shaped


def sigmoid(a: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """``1 / (1 + exp(-a))``, accurate relative to itself, however small.

    (``(1 + tanh(a/2)) / 2`` is accurate relative to 1 only: in float32 a gate of 1e-7 would have
    no right digit.) Where exp overflows, the sigmoid is 0, as it should be.
    """
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-a))


def tanh(a: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """The hyperbolic tangent of each element."""
    return np.tanh(a)


def log_softmax(logits: Shaped[np.ndarray, "*batch V"]) -> Shaped[np.ndarray, "*batch V"]:
    """Log-probabilities over the last axis.

    The shift by the largest real part leaves the value unchanged (softmax is invariant to a
    constant) and keeps ``exp`` from overflowing.
    """
    shifted = logits - np.real(logits).max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
