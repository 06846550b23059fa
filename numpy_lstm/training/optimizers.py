"""SGD, Adam and AdamW as pure functions, and schedules of the learning rate.

An optimizer is a frozen configuration with ``init(parameters) -> state`` and
``update(parameters, gradients, state, lr) -> (parameters, state)``; neither changes what it is
given. Arguments, defaults and arithmetic are those of torch.optim.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from numpy_lstm.errors import InputError

Arrays = Mapping[str, np.ndarray]
OptimizerState = Mapping[str, Any]
Schedule = Literal["constant", "cosine"]


def _check_nonnegative(**settings: float) -> None:
    for name, value in settings.items():
        is_number = isinstance(value, int | float | np.number)
        if not is_number or not 0 <= value < math.inf:
            raise InputError(f"expected a finite number of at least 0, got {value}", argument=name)


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
        """The state before the first step: momentum buffers of zeros, none without momentum."""
        return {"momentum": _zeros(parameters)} if self.momentum else {}

    def update(
        self, parameters: Arrays, gradients: Arrays, state: OptimizerState, lr: float
    ) -> tuple[dict[str, np.ndarray], OptimizerState]:
        """The parameters and the state after one step by the equations of the class."""
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
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"expected two numbers in [0, 1), got {self.betas}", argument="betas")

    def init(self, parameters: Arrays) -> OptimizerState:
        """The state before the first step: both moments are zero."""
        return {"t": 0, "m": _zeros(parameters), "v": _zeros(parameters)}

    def update(
        self, parameters: Arrays, gradients: Arrays, state: OptimizerState, lr: float
    ) -> tuple[dict[str, np.ndarray], OptimizerState]:
        """The parameters and the state after one step by the equations of the class."""
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
        """The state before the first step: both moments are zero."""
        return self._adam.init(parameters)

    def update(
        self, parameters: Arrays, gradients: Arrays, state: OptimizerState, lr: float
    ) -> tuple[dict[str, np.ndarray], OptimizerState]:
        """The parameters and the state after one step by the equations of the class."""
        decayed = {k: p * (1 - lr * self.weight_decay) for k, p in parameters.items()}
        return self._adam.update(decayed, gradients, state, lr)


Optimizer = SGD | Adam | AdamW


def learning_rate(schedule: Schedule, lr: float, step: int, total_steps: int) -> float:
    """The learning rate of a step, counted from 0.

    Args:
        schedule: "constant", or "cosine" for half a cosine from lr down to lr / 10.
        lr: learning rate of the first step.
        step: index of the step.
        total_steps: steps of the whole run.
    """
    if schedule == "constant":
        return lr
    progress = step / max(1, total_steps - 1)
    return lr * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)
