"""JSON files of weights: named nested lists of numbers, a state_dict among others, and layers.

Sources: RTNeural python/model_utils.py (`layers`); GuitarML's Automated-GuitarAmpModelling, whose
files have a `state_dict` and `model_data`.
"""

import json
import math
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import (
    MAX_AXES,
    check_name,
    errors_as_damage,
    left_out_note,
    read_bytes,
)
from numpy_lstm.porting.layouts.canonical import RuntimeFacts


def read_json(path: Path) -> Archive:
    """Read named nested lists of numbers: {"lstm.weight_ih_l0": [[0.25, ...], ...], ...}.

    They may be in an object "state_dict", beside which everything is left out; or in a list
    "layers" of {"type": "lstm", "weights": [W, U, b], ...}, which have Keras' layout.

    JSON has no dtypes: the tensors are float32 if every number of the file is one exactly, else
    float64, and a note says so.

    Raises:
        InputError: no JSON; or one of another form, with a key twice, ragged lists, or what is
            not a finite number of float64.
    """
    content = _parsed(path, read_bytes(path, "a .json file"))
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object of named lists of numbers at its top")
    if isinstance(content.get("layers"), list):
        return _with_dtype(layers_archive(path, content["layers"]))
    if isinstance(content.get("state_dict"), dict):
        others = sorted(content.keys() - {"state_dict"})
        named = {f"state_dict.{name}": value for name, value in content["state_dict"].items()}
        arrays = {name: _array(path, name, value) for name, value in named.items()}
        return _with_dtype(Archive("json", arrays, notes=_notes_of_model(content, others)))
    tensors = {name: _array(path, name, value) for name, value in content.items()}
    return _with_dtype(Archive("json", tensors))


def _notes_of_model(content: dict[str, Any], others: list[str]) -> tuple[str, ...]:
    """What beside a state_dict was left out, and that outputs have the inputs added to them."""
    notes = left_out_note(others)
    model = content.get("model_data")
    if isinstance(model, dict) and model.get("skip"):
        notes += ("model_data.skip: the model adds its input to its output, which is no weight",)
    return notes


def layers_archive(path: Path, layers: list[Any]) -> Archive:
    """The layers of a network as RTNeural's writer lists them.

    Raises:
        InputError: a layer is of no such form, or an LSTM has other activations than RTNeural's.
    """
    tensors: dict[str, np.ndarray] = {}
    facts: dict[str, RuntimeFacts] = {}
    chains: set[tuple[str, str]] = set()
    below = ""
    for k, layer in enumerate(layers):
        kind = layer.get("type") if isinstance(layer, dict) else None
        weights = layer.get("weights", []) if isinstance(layer, dict) else None
        if not isinstance(kind, str) or not isinstance(weights, list):
            raise InputError(
                f"{path}: layers[{k}]: expected an object with a type and a list of weights"
            )
        prefix = f"layers/{k}/{kind}/"
        is_recurrent = kind in ("lstm", "gru") and len(weights) == 3
        names = ("kernel", "recurrent_kernel", "bias") if is_recurrent else range(len(weights))
        for name, value in zip(names, weights, strict=True):
            tensors[f"{prefix}{name}"] = _array(path, f"{prefix}{name}", value)
        if kind == "lstm":
            if layer.get("activation") not in ("tanh", "", None):
                raise InputError(
                    f"{path}: layers[{k}]: activation is {str(layer['activation'])[:40]!r};"
                    " expected tanh, which is that of RTNeural's LSTM"
                )
            facts[prefix] = RuntimeFacts()
            if below:
                chains.add((below, prefix))
        below = prefix if kind == "lstm" else ""
    rows = ("keras",) if facts else ()
    return Archive("json", tensors, facts, rows, frozenset(chains))


def _with_dtype(archive: Archive) -> Archive:
    """The tensors in float32 if that loses nothing."""
    tensors = archive.tensors
    with np.errstate(over="ignore", under="ignore"):
        narrow = {name: array.astype(np.float32) for name, array in tensors.items()}
    if all(np.array_equal(narrow[name], array) for name, array in tensors.items()):
        note = "read as float32, since every number is one exactly; JSON has no dtypes"
        return replace(archive, tensors=narrow, notes=(note, *archive.notes))
    note = "read as float64, since not every number is a float32; JSON has no dtypes"
    return replace(archive, notes=(note, *archive.notes))


def _parsed(path: Path, data: bytes) -> Any:
    """The content of a JSON file, with every number a finite float64."""

    def refuse(token: str) -> NoReturn:
        shown = token
        if len(token) > 30:
            shown = f"{token[:30]}... of {len(token)} characters"
        raise InputError(f"{path}: expected numbers that float64 can hold, got {shown}")

    def decimal(token: str) -> float:
        value = float(token)
        if not math.isfinite(value):
            refuse(token)
        return value

    def integer(token: str) -> float:
        value = decimal(token)
        if int(value) != int(token):
            refuse(token)
        return value

    with errors_as_damage(path, "JSON file", (ValueError, RecursionError)):
        return json.loads(
            data.decode(),
            object_pairs_hook=lambda pairs: unique_keys(path, pairs),
            parse_int=integer,
            parse_float=decimal,
            parse_constant=refuse,
        )


def unique_keys(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: it has a key twice.
    """
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(
            f"{path}: expected the key {twice!r} once, got it {keys.count(twice)} times"
        )
    return result


def _array(path: Path, name: str, value: Any) -> np.ndarray:
    """The float64 array of nested lists, whose shape is found level by level."""
    check_name(path, name)
    shape, level = [], [value]
    while level and all(isinstance(part, list) for part in level):
        lengths = {len(part) for part in level}
        if len(lengths) > 1 or len(shape) >= MAX_AXES:
            raise InputError(
                f"{path}: {name}: expected lists as long as one another, at most {MAX_AXES} deep,"
                f" got lengths {sorted(lengths)[:4]} at depth {len(shape) + 1}"
            )
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))
    for part in level:
        if not isinstance(part, float):
            raise InputError(f"{path}: {name}: expected nested lists of numbers, got {_kind(part)}")
    return np.array(level, np.float64).reshape(shape)


def _kind(value: Any) -> str:
    """What a person calls a JSON value that is no number."""
    if isinstance(value, list):
        return "a list beside numbers"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        return "a text"
    return json.dumps(value)  # true, false, null
