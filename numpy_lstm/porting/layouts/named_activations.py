"""Activation functions by the names that this package gives them in files, notes and options."""

import re
from collections.abc import Callable, Mapping

import numpy as np

from numpy_lstm.activations import sigmoid, tanh
from numpy_lstm.errors import InputError

Function = Callable[[np.ndarray], np.ndarray]

ACTIVATIONS: Mapping[str, Callable[..., np.ndarray]] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "linear": lambda a: a,
    "relu": lambda a: np.maximum(a, 0),
    "softsign": lambda a: a / (1 + np.abs(a)),
    "hard_sigmoid": lambda a, alpha, beta: np.clip(alpha * a + beta, 0, 1),
    "scaled_tanh": lambda a, alpha, beta: alpha * np.tanh(beta * a),
}
"""The functions that an LSTM may have instead of sigmoid and tanh. Keras 3's hard sigmoid is
hard_sigmoid(1/6, 1/2), that of Keras 2 and of ONNX hard_sigmoid(0.2, 0.5)."""


def activation(name: str) -> Function:
    """The function of a name such as "tanh" or "hard_sigmoid(0.2, 0.5)".

    Raises:
        InputError: the name is unknown, or has the wrong number of arguments.
    """
    base, numbers = _parsed(name)
    function = ACTIVATIONS[base]
    return lambda a: function(a, *numbers)


def normalized(name: str) -> str:
    """The one spelling of an activation: hard_sigmoid(.2,5e-1) becomes hard_sigmoid(0.2, 0.5).

    Raises:
        InputError: as `activation`.
    """
    base, numbers = _parsed(name)
    if not numbers:
        return base
    return f"{base}({', '.join(map(str, numbers))})"


def _parsed(name: str) -> tuple[str, list[float]]:
    """A name's function and numbers, which must be finite and as many as the function takes."""
    match = re.fullmatch(r"(\w+)(?:\((.*)\))?", name)
    try:
        if match is None:
            raise ValueError(name)
        base, arguments = match.groups()
        numbers = [float(number) for number in arguments.split(",")] if arguments else []
        if not np.isfinite(numbers).all():
            raise ValueError(name)
        ACTIVATIONS[base](np.zeros(1), *numbers)
    except (LookupError, ValueError, TypeError):
        raise InputError(
            f"activation: expected one of {', '.join(ACTIVATIONS)}, the last two as"
            " hard_sigmoid(0.2, 0.5), which is that of Keras 2 and ONNX, or"
            f" hard_sigmoid(0.16666666666666666, 0.5), of Keras 3; got {name!r}"
        ) from None
    return base, numbers
