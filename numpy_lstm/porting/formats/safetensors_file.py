"""The container safetensors: a JSON header, and the tensors' bytes.

Source: the page "Format" of safetensors.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import (
    check_can_be_written,
    check_name,
    errors_as_damage,
    left_out_note,
    read_bytes,
    tensor_of_bytes,
)
from numpy_lstm.porting.formats.dtypes import little_endian
from numpy_lstm.porting.formats.json_file import unique_keys
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
"""NumPy's name by the format's; its other dtypes are of less than a byte, or of eight bits."""


def read_safetensors(path: Path) -> Archive:
    """Read a safetensors file; tensors of less than a byte or of eight-bit floats are left out.

    Raises:
        InputError: no whole safetensors file, or one with two tensors of one name.
    """
    return _archive(path, read_bytes(path, "a .safetensors file"))


def _archive(path: Path, data: bytes) -> Archive:
    with errors_as_damage(path, "safetensors file", (SafetensorError, ValueError, RecursionError)):
        found = dict(deserialize(data))
        # The library keeps the last of several of one name.
        json.loads(_header(data), object_pairs_hook=lambda pairs: unique_keys(path, pairs))
    tensors, left_out = {}, []
    for name in sorted(found):  # the library gives them in any order
        check_name(path, name)
        dtype = SAFETENSORS_DTYPES.get(found[name]["dtype"])
        if dtype is None:
            left_out.append(f"{name} ({found[name]['dtype']})")
            continue
        shape = tuple(found[name]["shape"])
        data_of_tensor = found[name]["data"]
        tensors[name] = tensor_of_bytes(path, name, data_of_tensor, little_endian(dtype), shape)
    return Archive("safetensors", tensors, notes=left_out_note(left_out))


def _header(data: bytes) -> bytes:
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def write_safetensors(lstm: PlacedLSTM, path: Path) -> dict[Path, bytes]:
    """The content of the .safetensors file of an LSTM."""
    return {path: safetensors_bytes(lstm.tensors)}


def safetensors_bytes(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> bytes:
    """A safetensors file: always the same bytes for the same tensors and metadata.

    What was written is read back and compared: the library writes an array's memory as it lies.

    Raises:
        InputError: a name or dtype that safetensors cannot hold.
    """
    check_can_be_written(tensors, "biuf", "bfloat16 complex64")
    if "__metadata__" in tensors:
        raise InputError("__metadata__: is no name for a tensor; rename it")
    straight = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    try:
        data = _sorted_metadata(save(straight, dict(metadata) if metadata else None))
    except (SafetensorError, KeyError, ValueError) as error:  # longdouble; a lone surrogate
        raise InputError(f"safetensors: cannot hold these tensors ({error})") from error
    written = _archive(Path("safetensors"), data).tensors
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
