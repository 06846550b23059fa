"""Two witnesses of the gradient that owe nothing to autograd.

The complex step (Squire & Trapp 1998): for an analytic f, Im f(x + i h v) / h is the derivative
along v, exact to rounding, since nothing is subtracted; h = 1e-200. It knows the forward pass only.
Extended precision: the hand-written code in 80-bit long double, whose rounding is 2048 times finer
than that of float64.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from numpy_lstm.language_model import LanguageModel, language_model_forward
from numpy_lstm.lstm import lstm_forward
from torch_oracle.proof.trace import Problem, contribution

STEP = 1e-200


def differentiable(problem: Problem) -> dict[str, np.ndarray]:
    """All inputs that the scalar depends on: parameters, h0, c0, and x unless it holds tokens."""
    inputs = dict(problem.parameters) | {"h0": problem.h0, "c0": problem.c0}
    if np.issubdtype(problem.x.dtype, np.inexact):
        inputs["x"] = problem.x
    return inputs


def with_inputs(problem: Problem, inputs: Mapping[str, np.ndarray]) -> Problem:
    """The problem with other values of its `differentiable` inputs."""
    parameters = {name: inputs[name] for name in problem.parameters}
    x = inputs.get("x", problem.x)
    return replace(problem, parameters=parameters, h0=inputs["h0"], c0=inputs["c0"], x=x)


def scalar(problem: Problem) -> Any:
    """The scalar that is differentiated, by the hand-written forward pass, in any dtype."""
    if isinstance(problem.config, LanguageModel):
        assert problem.targets is not None
        outputs, _ = language_model_forward(
            problem.config,
            problem.parameters,
            problem.x,
            problem.targets,
            problem.lengths,
            (problem.h0, problem.c0),
        )
        value, h_n, c_n = problem.dloss * outputs.losses.sum(), outputs.h_n, outputs.c_n
    else:
        (y, h_n, c_n), _ = lstm_forward(
            problem.config,
            problem.parameters,
            problem.x,
            problem.h0,
            problem.c0,
            problem.lengths,
            masks=problem.masks,
        )
        value = (y * problem.dy).sum()
    return value + (h_n * problem.dh_n).sum() + (c_n * problem.dc_n).sum()


def complex_step(problem: Problem, direction: Mapping[str, np.ndarray]) -> Any:
    """Derivative of the scalar along a direction in the `differentiable` inputs.

    Its dtype is the real counterpart of the problem's: a long double problem gives a long double.
    """
    moved = {
        name: value + direction[name].astype(value.dtype) * (1j * STEP)
        for name, value in differentiable(problem).items()
    }
    return scalar(with_inputs(problem, moved)).imag / STEP


def complex_step_gradient(problem: Problem, name: str) -> np.ndarray:
    """The whole gradient with respect to one input, element by element."""
    inputs = differentiable(problem)
    zero = {key: np.zeros_like(value) for key, value in inputs.items()}
    gradient = np.zeros_like(inputs[name])
    for index in np.ndindex(gradient.shape):
        direction = zero | {name: zero[name].copy()}
        direction[name][index] = 1
        gradient[index] = complex_step(problem, direction)
    return gradient


def gradient_name(name: str) -> str:
    """Name in a trace of the gradient with respect to a `differentiable` input."""
    return f"d{name}" if name in ("h0", "c0", "x") else contribution(name)
