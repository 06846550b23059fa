"""Files that hold nothing but named tensors: safetensors, JSON as RTNeural has it, and npz.

Sources: the page "Format" of safetensors; RTNeural python/model_utils.py.
"""

import json
import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import (
    MAX_AXES,
    check_name,
    check_tensors,
    file_bytes,
    left_out_note,
    tensor,
    whole,
)
from numpy_lstm.porting.formats.npz_file import npz_bytes, read_npz

__all__ = [
    "npz_bytes",
    "read_json",
    "read_npz",
    "read_safetensors",
    "safetensors_bytes",
]

SAFETENSORS_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{f"{sign}{bits}": f"{kind}{bits}" for bits in (8, 16, 32, 64)
       for sign, kind in (("I", "int"), ("U", "uint"))},
    **{"BOOL": "bool", "C64": "complex64"},
}  # fmt: skip
"""NumPy's name by the format's; its other dtypes are of less than a byte, or of eight bits."""


def read_safetensors(path: Path) -> Archive:
    """Read a safetensors file; tensors of less than a byte or of eight-bit floats are left out.

    Raises:
        InputError: no whole safetensors file, or one with two tensors of one name.
    """
    return _safetensors(path, file_bytes(path, "a .safetensors file"))


def _safetensors(path: Path, data: bytes) -> Archive:
    with whole(path, "safetensors file", (SafetensorError, ValueError, RecursionError)):
        found = dict(deserialize(data))
        # The library keeps the last of several of one name.
        json.loads(_header(data), object_pairs_hook=lambda pairs: _unique(path, pairs))
    tensors, left_out = {}, []
    for name in sorted(found):  # the library gives them in any order
        check_name(path, name)
        dtype = SAFETENSORS_DTYPES.get(found[name]["dtype"])
        if dtype is None:
            left_out.append(f"{name} ({found[name]['dtype']})")
            continue
        shape = tuple(found[name]["shape"])
        tensors[name] = tensor(path, name, found[name]["data"], _dtype(dtype), shape)
    return Archive("safetensors", tensors, notes=left_out_note(left_out))


def _header(data: bytes) -> bytes:
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def _dtype(name: str) -> np.dtype:
    """By name; the files are little-endian."""
    if name != "bfloat16":
        return np.dtype(name).newbyteorder("<")
    try:
        import ml_dtypes
    except ImportError as error:
        raise InputError("bfloat16: needs pip install 'numpy-lstm[porting]'") from error
    return np.dtype(ml_dtypes.bfloat16)


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, unless a key is there twice."""
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(
            f"{path}: expected the key {twice!r} once, got it {keys.count(twice)} times"
        )
    return result


def safetensors_bytes(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> bytes:
    """A safetensors file: always the same bytes for the same tensors and metadata.

    What was written is read back and compared: the library writes an array's memory as it lies.

    Raises:
        InputError: a name or dtype that safetensors cannot hold.
    """
    check_tensors(tensors, "biuf", "bfloat16 complex64")
    check("__metadata__" not in tensors, "__metadata__: is no name for a tensor; rename it")
    straight = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    try:
        data = _sorted_metadata(save(straight, dict(metadata) if metadata else None))
    except (SafetensorError, KeyError, ValueError) as error:  # longdouble; a lone surrogate
        raise InputError(f"safetensors: cannot hold these tensors ({error})") from error
    written = _safetensors(Path("safetensors"), data).tensors
    same = written.keys() == tensors.keys() and all(
        written[name].dtype.name == array.dtype.name
        and written[name].shape == array.shape
        and written[name].tobytes() == array.astype(written[name].dtype).tobytes()
        for name, array in tensors.items()
    )
    if not same:
        raise AssertionError("safetensors wrote other tensors than it was given")
    return data


def _sorted_metadata(data: bytes) -> bytes:
    """The same file with its metadata in order, which the library shuffles anew each time."""
    header = json.loads(_header(data))
    if "__metadata__" not in header:
        return data
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of eight bytes
    return len(text).to_bytes(8, "little") + text + data[8 + len(_header(data)) :]


def read_json(path: Path) -> Archive:
    """Read named nested lists of numbers: {"lstm.weight_ih_l0": [[0.25, ...], ...], ...}.

    JSON has no dtypes: the tensors are float32 if every number of the file is one exactly, else
    float64, and a note says so.

    Raises:
        InputError: no JSON; or one of another form, with a key twice, ragged lists, or what is
            not a finite number of float64.
    """
    data = file_bytes(path, "a .json file")

    def integer(digits: str) -> float:
        value = float(digits)
        exact = math.isfinite(value) and int(value) == int(digits)
        return value if exact else refused(digits)

    def refused(token: str) -> NoReturn:
        shown = token if len(token) <= 30 else f"{token[:30]}... of {len(token)} characters"
        raise InputError(f"{path}: expected numbers that float64 can hold, got {shown}")

    with whole(path, "JSON file", (ValueError, RecursionError)):
        content = json.loads(
            data.decode(),
            object_pairs_hook=lambda pairs: _unique(path, pairs),
            parse_int=integer,
            parse_float=lambda t: value if math.isfinite(value := float(t)) else refused(t),
            parse_constant=refused,
        )
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object of named lists of numbers at its top")
    tensors = {name: _nested(path, name, value) for name, value in content.items()}
    with np.errstate(over="ignore", under="ignore"):
        narrow = {name: array.astype(np.float32) for name, array in tensors.items()}
    if all(np.array_equal(narrow[name], array) for name, array in tensors.items()):
        note = "read as float32, since every number is one exactly; JSON has no dtypes"
        return Archive("json", narrow, notes=(note,))
    note = "read as float64, since not every number is a float32; JSON has no dtypes"
    return Archive("json", tensors, notes=(note,))


def _nested(path: Path, name: str, value: Any) -> np.ndarray:
    """The float64 array of nested lists, found level by level."""
    check_name(path, name)
    shape, level = [], [value]
    while level and all(isinstance(part, list) for part in level):
        lengths = {len(part) for part in level}
        check(
            len(lengths) == 1 and len(shape) < MAX_AXES,
            f"{path}: {name}: expected lists as long as one another, at most {MAX_AXES} deep,"
            f" got lengths {sorted(lengths)[:4]} at depth {len(shape) + 1}",
        )
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))
    other = next((part for part in level if not isinstance(part, float)), None)
    if other is not None or None in level:
        kind = {list: "a list beside numbers", dict: "an object", str: "a text"}.get(
            type(other), json.dumps(other)
        )
        raise InputError(f"{path}: {name}: expected nested lists of numbers, got {kind}")
    return np.array(level, np.float64).reshape(shape)
