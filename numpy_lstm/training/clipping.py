"""Gradient clipping by norm, with the arithmetic of torch.nn.utils.clip_grad_norm_."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

Arrays = Mapping[str, np.ndarray]
Clipping = Literal["global", "per_tensor"]


def global_norm(gradients: Arrays) -> float:
    """Euclidean norm of all gradients together, from the norm of each, as torch computes it."""
    norms = np.array([np.linalg.norm(g.ravel()) for g in gradients.values()])
    return float(np.linalg.norm(norms))


def clip_coefficient(norm: float, max_norm: float) -> float:
    """``min(1, max_norm / (norm + 1e-6))``, the factor by which gradients are scaled."""
    return min(1.0, max_norm / (norm + 1e-6))


def clip_global_norm(
    gradients: Arrays, max_norm: float
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Scale all gradients by one coefficient, so that their common norm is at most max_norm.

    Returns:
        The scaled gradients and the coefficient of each tensor (all equal).
    """
    coefficient = clip_coefficient(global_norm(gradients), max_norm)
    clipped = {name: coefficient * g for name, g in gradients.items()}
    return clipped, dict.fromkeys(gradients, coefficient)


def clip_each_norm(
    gradients: Arrays, max_norm: float
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Scale each tensor's gradient by its own coefficient, so that each norm is at most max_norm.

    Returns:
        The scaled gradients and the coefficient of each tensor.
    """
    coefficients = {
        name: clip_coefficient(global_norm({name: g}), max_norm) for name, g in gradients.items()
    }
    return {name: coefficients[name] * g for name, g in gradients.items()}, coefficients
