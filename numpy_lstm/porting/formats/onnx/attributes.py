"""The attributes of ONNX's operator LSTM, and its activations by ONNX's names and by ours.

What would change results and has no place in the equations is refused by name.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.onnx.constants import Unreadable
from numpy_lstm.porting.formats.onnx.model import ACTIVATIONS_KEY
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH
from numpy_lstm.porting.layouts.named_activations import activation

ONNX_NAMES = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "softsign": "Softsign",
    "linear": "Affine",
    "hard_sigmoid": "HardSigmoid",
    "scaled_tanh": "ScaledTanh",
}
"""ONNX's names of activations by ours; linear is alpha x + beta with 1 and 0."""
OUR_NAMES = {theirs.lower(): ours for ours, theirs in ONNX_NAMES.items()}
"""Our names by ONNX's, whose case does not count."""
ALPHA_AND_BETA = {"Affine": (1.0, 0.0), "HardSigmoid": (0.2, 0.5), "ScaledTanh": None}
"""Of the activations that have them: what holds where the node gives none, if anything does."""
FIELDS = {
    "activation_alpha": "floats",
    "activation_beta": "floats",
    "activations": "strings",
    "clip": "f",
    "direction": "s",
    "hidden_size": "i",
    "input_forget": "i",
    "layout": "i",
    "output_sequence": "i",  # until version 7
}
"""All attributes there are, and the field of AttributeProto that holds the value of each."""
Activations = tuple[str, str, str]
"""Of the gates, the candidate and the output, by our names."""


@dataclass(frozen=True)
class Attributes:
    """What the attributes of an LSTM node say.

    Args:
        directions: 1 or 2.
        reverse: whether the only direction reads sequences from their end.
        hidden_size: None if it is not given.
        batch_first: whether inputs, outputs and states begin with the batch.
        activations: of both directions alike.
    """

    directions: int
    reverse: bool
    hidden_size: int | None
    batch_first: bool
    activations: Activations


def attributes_of(node: onnx.NodeProto) -> Attributes:
    """The attributes of an LSTM node.

    Raises:
        Unreadable: what our equations lack, by name.
    """
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.name not in FIELDS or attribute.name in found:
            raise Unreadable(f"attribute {attribute.name!r} is unknown or there twice")
        found[attribute.name] = getattr(attribute, FIELDS[attribute.name])
    direction = _text(found.get("direction", b"forward"))
    if direction not in ("forward", "reverse", "bidirectional"):
        raise Unreadable(
            f"direction = {direction!r} is unknown; expected 'forward', 'reverse' or"
            " 'bidirectional'"
        )
    if "clip" in found:
        raise Unreadable(f"clip = {found['clip']:g} of pre-activations has no place here")
    if found.get("input_forget", 0):
        raise Unreadable("input_forget = 1 (f = 1 - i) has no place in the layout onnx")
    layout = found.get("layout", 0)
    if layout not in (0, 1):
        raise Unreadable(f"layout = {layout}; expected 0 or 1")
    directions = 2 if direction == "bidirectional" else 1
    activations = _activations(
        [_text(name) for name in found.get("activations", ())],
        found.get("activation_alpha", ()),
        found.get("activation_beta", ()),
        directions,
    )
    reverse = direction == "reverse"
    return Attributes(directions, reverse, found.get("hidden_size"), layout == 1, activations)


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


# --- activations --------------------------------------------------------------------------------


def _activations(
    names: Sequence[str], alpha: Sequence[float], beta: Sequence[float], directions: int
) -> Activations:
    """The activations by our names; those that have alpha and beta take them in turn."""
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
        if name.lower() not in OUR_NAMES:
            expected = ", ".join(ONNX_NAMES.values())
            raise Unreadable(f"activation {name!r} has no place here; expected one of {expected}")
        ours.append(_with_numbers(OUR_NAMES[name.lower()], alphas, betas))
    if alphas or betas:
        raise Unreadable(
            f"activation_alpha = {[*alpha]}, activation_beta = {[*beta]}: more than the activations"
            f" {', '.join(names)} take"
        )
    if ours[:3] != ours[-3:]:
        raise Unreadable(f"activations: {', '.join(names)} differ between the directions")
    return ours[0], ours[1], ours[2]


def _with_numbers(ours: str, alphas: list[float], betas: list[float]) -> str:
    """Our name of an activation with its numbers, which are taken from the lists."""
    theirs = ONNX_NAMES[ours]
    if theirs not in ALPHA_AND_BETA:
        return ours
    usual = ALPHA_AND_BETA[theirs]
    if usual is None and not (alphas and betas):
        raise Unreadable(f"activation {theirs!r}: expected activation_alpha and activation_beta")
    a, b = usual or (0.0, 0.0)
    if alphas:
        a = _shortest(alphas.pop(0))
    if betas:
        b = _shortest(betas.pop(0))
    if ours != "linear":
        return f"{ours}({a}, {b})"
    if (a, b) != (1, 0):
        raise Unreadable(f"activation Affine with alpha = {a}, beta = {b}; expected 1 and 0")
    return ours


def _shortest(number: float) -> float:
    """What a float32 is written as: 0.2, and not 0.20000000298."""
    return float(str(np.float32(number)))


def onnx_activation(name: str) -> tuple[str, tuple[np.float32, ...]]:
    """ONNX's name of one of our activations, and its numbers as ONNX can hold them.

    Raises:
        InputError: there is no such activation.
    """
    activation(name)
    function, _, numbers = name.partition("(")
    if function not in ONNX_NAMES:
        raise InputError(f"activation: expected one of {', '.join(ONNX_NAMES)}, got {name!r}")
    theirs = ONNX_NAMES[function]
    given = [float(number) for number in numbers.rstrip(")").split(",") if number]
    values = given or ALPHA_AND_BETA.get(theirs) or ()
    return theirs, tuple(np.float32(value) for value in values)


def exact_activations(of_node: Activations, model: onnx.ModelProto) -> Activations:
    """The activations as the model's metadata has them, if they are those that its node has."""
    texts = [p.value for p in model.metadata_props if p.key == ACTIVATIONS_KEY]
    if not texts:
        return of_node
    try:
        gate, candidate, output = json.loads(texts[0])
        exact = [onnx_activation(name) for name in (gate, candidate, output)]
    except (ValueError, TypeError, RecursionError):  # InputError is a ValueError
        return of_node
    if exact != [onnx_activation(name) for name in of_node]:
        return of_node
    return gate, candidate, output
