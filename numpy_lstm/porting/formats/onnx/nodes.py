"""An LSTM node of ONNX: its attributes, and activations by ONNX's names and by ours.

What would change results and has no place in the equations is refused by name.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_lstm.errors import check
from numpy_lstm.porting.formats.onnx.constants import Unreadable
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH
from numpy_lstm.porting.layouts.named_activations import activation

NAMES = {
    **{"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softsign": "Softsign"},
    **{"linear": "Affine", "hard_sigmoid": "HardSigmoid", "scaled_tanh": "ScaledTanh"},
}
"""ONNX's names by ours; linear is alpha x + beta with 1 and 0."""
NUMBERS = {"Affine": (1.0, 0.0), "HardSigmoid": (0.2, 0.5), "ScaledTanh": None}
"""alpha and beta where there are any: those that hold when none are given, if there are."""
OURS = {onnx.lower(): name for name, onnx in NAMES.items()}
ATTRIBUTES = {
    **{"activation_alpha": "floats", "activation_beta": "floats", "activations": "strings"},
    **{"direction": "s", "hidden_size": "i", "layout": "i", "input_forget": "i", "clip": "f"},
    "output_sequence": "i",
}
"""All there are, and the field of AttributeProto with their value; the last until version 7."""
ACTIVATIONS_KEY = "numpy_lstm.activations"
"""Of the model's metadata: the names of activations with exact numbers; attributes are float32."""
Activations = tuple[str, str, str]


@dataclass(frozen=True)
class Attributes:
    """What the attributes of an LSTM node say.

    Args:
        directions: 1 or 2.
        hidden_size: None if it is not said.
        batch_first: whether inputs, outputs and states begin with the batch.
        activations: of the gates, the candidate and the output, by our names.
    """

    directions: int
    hidden_size: int | None
    batch_first: bool
    activations: Activations


def attributes_of(node: Any) -> Attributes:
    """The attributes of an LSTM node (NodeProto).

    Raises:
        Unreadable: what our equations lack, by name.
    """
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        source = ATTRIBUTES.get(attribute.name)
        if source is None or attribute.name in found:
            raise Unreadable(f"attribute {attribute.name!r} is unknown or there twice")
        found[attribute.name] = getattr(attribute, source)
    direction = _text(found.get("direction", b"forward"))
    if direction not in ("forward", "bidirectional"):
        raise Unreadable(
            f"direction = {direction!r} has no place here; expected 'forward' or 'bidirectional'"
        )
    if "clip" in found:
        raise Unreadable(f"clip = {found['clip']:g} of pre-activations has no place here")
    if found.get("input_forget", 0):
        raise Unreadable("input_forget = 1 (f = 1 - i) has no place in the layout onnx")
    layout = found.get("layout", 0)
    if layout not in (0, 1):
        raise Unreadable(f"layout = {layout}; expected 0 or 1")
    directions = 1 if direction == "forward" else 2
    activations = _activations(
        [_text(name) for name in found.get("activations", ())],
        found.get("activation_alpha", ()),
        found.get("activation_beta", ()),
        directions,
    )
    return Attributes(directions, found.get("hidden_size"), layout == 1, activations)


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _activations(
    names: Sequence[str], alpha: Sequence[float], beta: Sequence[float], directions: int
) -> Activations:
    """By our names, for both directions alike. Those with numbers take them in turn."""
    if not names and not alpha and not beta:
        return SIGMOID_TANH
    if not names:
        names = ("Sigmoid", "Tanh", "Tanh") * directions
    if len(names) != 3 * directions:
        raise Unreadable(
            f"activations: expected 3 for each direction, {3 * directions}, got {len(names)}"
        )
    alphas, betas = list(alpha), list(beta)
    ours = []
    for name in names:
        own = OURS.get(name.lower())
        if own is None:
            known = ", ".join(NUMBERS.keys() | set(NAMES.values()) - NUMBERS.keys())
            raise Unreadable(f"activation {name!r} has no place here; expected one of {known}")
        ours.append(_with_numbers(NAMES[own], own, alphas, betas))
    if alphas or betas:
        raise Unreadable(
            f"activation_alpha = {[*alpha]}, activation_beta = {[*beta]}: more than the activations"
            f" {', '.join(names)} take"
        )
    if ours[:3] != ours[-3:]:
        raise Unreadable(f"activations: {', '.join(names)} differ between the directions")
    return ours[0], ours[1], ours[2]


def _with_numbers(name: str, own: str, alphas: list[float], betas: list[float]) -> str:
    """Our name of an activation with its numbers, which are taken from the lists."""
    if name not in NUMBERS:
        return own
    usual = NUMBERS[name]
    if usual is None and not (alphas and betas):
        raise Unreadable(f"activation {name!r}: expected activation_alpha and activation_beta")
    a, b = usual or (0.0, 0.0)
    a, b = (_shortest(n.pop(0)) if n else given for n, given in ((alphas, a), (betas, b)))
    if own == "linear":
        if (a, b) != (1, 0):
            raise Unreadable(f"activation Affine with alpha = {a}, beta = {b}; expected 1 and 0")
        return own
    return f"{own}({a}, {b})"


def _shortest(number: float) -> float:
    """What a float32 is written as: 0.2, and not 0.20000000298."""
    return float(str(np.float32(number)))


def parsed(name: str) -> tuple[str, tuple[np.float32, ...]]:
    """ONNX's name of one of our activations, and its numbers as ONNX can hold them.

    Raises:
        InputError: there is no such activation.
    """
    activation(name)
    own, _, numbers = name.partition("(")
    check(own in NAMES, f"activation: expected one of {', '.join(NAMES)}, got {name!r}")
    values = tuple(np.float32(n) for n in numbers.rstrip(")").split(",") if n)
    return NAMES[own], values or tuple(map(np.float32, NUMBERS.get(NAMES[own]) or ()))


def exact(said: Activations, model: Any) -> Activations:
    """The activations as the model's metadata has them, if they are those that its node has."""
    told = next((p.value for p in model.metadata_props if p.key == ACTIVATIONS_KEY), "null")
    try:
        gate, candidate, output = json.loads(told)
        same = [parsed(n) for n in (gate, candidate, output)] == [parsed(n) for n in said]
    except (ValueError, TypeError, RecursionError):  # InputError is a ValueError
        return said
    return (gate, candidate, output) if same else said
