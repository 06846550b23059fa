"""The numbered equations of the docstrings, read as mathematics and evaluated.

The notation: `W x` is a matrix times each row of a batch, `da W` goes back through it, `da^T x` is
a sum of outer products over the batch, `*` is elementwise, `f (1 - f)` is a product too, and `_k`
stands for each gate.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from numpy_lstm import cell, language_model, loss, unrolled
from numpy_lstm.variants import coupled, coupled_peephole, layer_norm, peephole

MODULES = (
    cell,
    loss,
    language_model,
    unrolled,
    peephole,
    coupled,
    coupled_peephole,
    layer_norm,
)
"""Where equations are, in the order of their numbers."""


@dataclass(frozen=True)
class Equation:
    """One formula `name = expression` of a numbered line."""

    number: int
    name: str
    expression: str

    def evaluate(self, values: Mapping[str, Any]) -> np.ndarray:
        """The expression with these values, which are extended to long double."""
        extended = {}
        for name, value in values.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                value = value.astype(np.longdouble)
            extended[name] = value
        return eval(python(self.expression), FUNCTIONS | extended)


def equations_of(module: ModuleType) -> list[Equation]:
    """Every equation in the docstrings of a module's functions, in the order of the file."""
    found = []
    for function in vars(module).values():
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            found += _equations(inspect.getdoc(function) or "")
    return found


def _equations(docstring: str) -> Iterator[Equation]:
    for number, text in re.findall(
        r"^ +\((\d+)\) +(.*?)(?=\n *\(|\n *\n|\Z)", docstring, re.M | re.S
    ):
        text = " ".join(text.split())
        text, each_gate, _ = text.partition(" for each gate k of i, f, g, o")
        for formula in re.split(r"[,;] +(?=\w+ = )", text):
            name, expression = formula.rstrip(",;").split(" = ")
            gates = "ifgo" if each_gate and "_k" in formula else "k"
            for gate in gates:
                yield Equation(
                    int(number),
                    name.strip().replace("_k", f"_{gate}"),
                    expression.strip().replace("_k", f"_{gate}"),
                )


def python(expression: str) -> str:
    """The expression of a docstring as one of Python."""
    e = expression.replace("-log softmax(logits)[target]", "-picked(log_softmax(logits), target)")
    e = re.sub(r"sum of (.+)", r"(\1).sum(axis=0)", e)
    e = re.sub(r"\b(W_\w+) (\w+)", r"\2 @ \1.T", e)
    e = re.sub(r"\b(d\w+)\^T (\w+)", r"\1.T @ \2", e)
    e = re.sub(r"\b(d\w+) (W_\w+)", r"\1 @ \2", e)
    e = re.sub(r"\b(\w+) \(1 - ", r"\1 * (1 - ", e)
    return e.replace("^2", "**2")


def _sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def _mean(v: np.ndarray) -> np.ndarray:
    return v.mean(axis=-1, keepdims=True)


def _var(v: np.ndarray) -> np.ndarray:
    return _mean((v - _mean(v)) ** 2)


def _standardised(v: np.ndarray) -> np.ndarray:
    return (v - _mean(v)) / np.sqrt(_var(v) + layer_norm.EPSILON)


def _standardised_backward(dn: np.ndarray, v: np.ndarray) -> np.ndarray:
    n = _standardised(v)
    return (dn - _mean(dn) - n * _mean(dn * n)) / np.sqrt(_var(v) + layer_norm.EPSILON)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _picked(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.take_along_axis(rows, target[..., None], axis=-1)[..., 0]


FUNCTIONS: dict[str, Any] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "mean": _mean,
    "var": _var,
    "sqrt": np.sqrt,
    "standardised": _standardised,
    "standardised_backward": _standardised_backward,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "picked": _picked,
    "EPSILON": layer_norm.EPSILON,
}
"""What the docstrings' functions mean; in long double even exp(2000) is a number."""
