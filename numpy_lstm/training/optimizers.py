"""Gradient clipping, learning-rate schedules, and SGD, Adam and AdamW as pure functions.

An optimizer is a frozen configuration with ``init(parameters) -> state`` and
``update(parameters, gradients, state, lr) -> (parameters, state)``; neither changes what it is
given. Arguments, defaults and arithmetic are those of torch.optim.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from numpy_lstm.errors import check

Arrays = Mapping[str, np.ndarray]
OptimizerState = Mapping[str, Any]
Schedule = Literal["constant", "cosine"]
Clipping = Literal["global", "per_tensor"]


def _check_nonnegative(**settings: float) -> None:
    for name, value in settings.items():
        valid = isinstance(value, int | float | np.number) and 0 <= value < math.inf
        check(valid, f"{name}: expected a finite number of at least 0, got {value}")


def _zeros(arrays: Arrays) -> dict[str, np.ndarray]:
    return {name: np.zeros_like(array) for name, array in arrays.items()}


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum.

    ::

        d = gradient + weight_decay * p
        b = momentum * b + d        (b = d in the first step)
        p = p - lr * b
    """

    lr: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_nonnegative(lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def init(self, parameters: Arrays) -> OptimizerState:
        """Momentum buffers at zero (none without momentum)."""
        return {"momentum": _zeros(parameters)} if self.momentum else {}

    def update(
        self, parameters: Arrays, gradients: Arrays, state: OptimizerState, lr: float
    ) -> tuple[dict[str, np.ndarray], OptimizerState]:
        """One step; see the class."""
        step = {k: g + self.weight_decay * parameters[k] for k, g in gradients.items()}
        if self.momentum:
            step = {k: self.momentum * state["momentum"][k] + d for k, d in step.items()}
            state = {"momentum": step}
        return {k: p - lr * step[k] for k, p in parameters.items()}, state


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1), its weight decay added to the gradient (L2).

    ::

        g = gradient + weight_decay * p
        m = m + (1 - beta1) (g - m)
        v = beta2 v + (1 - beta2) g^2
        p = p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_nonnegative(lr=self.lr, eps=self.eps, weight_decay=self.weight_decay)
        valid = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        check(valid, f"betas: expected two numbers in [0, 1), got {self.betas}")

    def init(self, parameters: Arrays) -> OptimizerState:
        """Both moments at zero, before step 1."""
        return {"t": 0, "m": _zeros(parameters), "v": _zeros(parameters)}

    def update(
        self, parameters: Arrays, gradients: Arrays, state: OptimizerState, lr: float
    ) -> tuple[dict[str, np.ndarray], OptimizerState]:
        """One step; see the class."""
        if self.weight_decay:
            gradients = {k: g + self.weight_decay * parameters[k] for k, g in gradients.items()}
        beta1, beta2 = self.betas
        t = state["t"] + 1
        m = {k: state["m"][k] + (1 - beta1) * (g - state["m"][k]) for k, g in gradients.items()}
        v = {k: beta2 * state["v"][k] + (1 - beta2) * (g * g) for k, g in gradients.items()}
        step_size, root = lr / (1 - beta1**t), math.sqrt(1 - beta2**t)
        updated = {
            k: p - step_size * (m[k] / (np.sqrt(v[k]) / root + self.eps))
            for k, p in parameters.items()
        }
        return updated, {"t": t, "m": m, "v": v}


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    ::

        p = p - lr * weight_decay * p,  then Adam's step without its own decay
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        _check_nonnegative(weight_decay=self.weight_decay)
        _ = self._adam  # which checks the rest

    @property
    def _adam(self) -> Adam:
        return Adam(self.lr, self.betas, self.eps)

    def init(self, parameters: Arrays) -> OptimizerState:
        """As Adam's."""
        return self._adam.init(parameters)

    def update(
        self, parameters: Arrays, gradients: Arrays, state: OptimizerState, lr: float
    ) -> tuple[dict[str, np.ndarray], OptimizerState]:
        """One step; see the class."""
        decayed = {k: p * (1 - lr * self.weight_decay) for k, p in parameters.items()}
        return self._adam.update(decayed, gradients, state, lr)


Optimizer = SGD | Adam | AdamW


def global_norm(gradients: Arrays) -> float:
    """Euclidean norm of all gradients together, from the norm of each, as torch computes it."""
    norms = np.array([np.linalg.norm(g.ravel()) for g in gradients.values()])
    return float(np.linalg.norm(norms))


def clip_coefficient(norm: float, max_norm: float) -> float:
    """``min(1, max_norm / (norm + 1e-6))``, the factor of torch.nn.utils.clip_grad_norm_."""
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


def learning_rate(schedule: Schedule, lr: float, step: int, total_steps: int) -> float:
    """Learning rate of a step (from 0): constant, or half a cosine from lr down to lr / 10."""
    if schedule == "constant":
        return lr
    progress = step / max(1, total_steps - 1)
    return lr * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)
