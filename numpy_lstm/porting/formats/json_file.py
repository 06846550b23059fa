"""JSON files of named nested lists of numbers, as RTNeural has them.

Source: RTNeural python/model_utils.py.
"""

import json
import math
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import MAX_AXES, check_name, errors_as_damage, read_bytes


def read_json(path: Path) -> Archive:
    """Read named nested lists of numbers: {"lstm.weight_ih_l0": [[0.25, ...], ...], ...}.

    JSON has no dtypes: the tensors are float32 if every number of the file is one exactly, else
    float64, and a note says so.

    Raises:
        InputError: no JSON; or one of another form, with a key twice, ragged lists, or what is
            not a finite number of float64.
    """
    content = _parsed(path, read_bytes(path, "a .json file"))
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object of named lists of numbers at its top")
    tensors = {name: _array(path, name, value) for name, value in content.items()}
    with np.errstate(over="ignore", under="ignore"):
        narrow = {name: array.astype(np.float32) for name, array in tensors.items()}
    if all(np.array_equal(narrow[name], array) for name, array in tensors.items()):
        note = "read as float32, since every number is one exactly; JSON has no dtypes"
        return Archive("json", narrow, notes=(note,))
    note = "read as float64, since not every number is a float32; JSON has no dtypes"
    return Archive("json", tensors, notes=(note,))


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
