"""HDF5 files: named tensors and a few attributes, read without trust in the file."""

import json
import subprocess
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.checks import check_declared, check_name, tensor_of_bytes
from numpy_lstm.porting.formats.dtypes import bfloat16
from numpy_lstm.porting.formats.keras import hdf5_listing

SIGNATURE = b"\x89HDF\r\n\x1a\n"
PROCESSOR_SECONDS = 3
"""What a listing may take, and twenty times that by the clock of a machine that is busy with other
things. An honest file takes milliseconds."""
Texts = Mapping[str, Mapping[str, str]]
"""By path of an object in the file, its attributes of `hdf5_listing.TEXTS`."""


def read_hdf5(path: Path, data: bytes) -> tuple[dict[str, np.ndarray], Texts]:
    """Read all tensors by their paths in the file, and texts.

    Args:
        path: for messages.
        data: the file's content.

    Raises:
        InputError: not HDF5, or not whole; links; data elsewhere, compressed, of other kinds than
            numbers, or larger than the file allows.
    """
    if not data.startswith(SIGNATURE):
        raise InputError(f"{path}: expected an HDF5 file, got another; was it damaged?")
    found = _listing(path, data)
    places = [(name, np.dtype(d), tuple(s), o) for name, (d, s, o) in found["tensors"].items()]
    total = sum(prod(shape) * dtype.itemsize for _, dtype, shape, _ in places)
    check_declared(path, total, len(data))
    tensors = {}
    for name, dtype, shape, offset in places:
        check_name(path, name)
        if dtype.kind == "V":
            dtype = _marked_bfloat16(path, name, found["texts"].get(name, {}))
        raw = data[offset : offset + prod(shape) * dtype.itemsize]
        tensors[name] = tensor_of_bytes(path, name, raw, dtype, shape)
    return tensors, found["texts"]


def _listing(path: Path, data: bytes) -> dict[str, Any]:
    """What `hdf5_listing` finds, in a process of its own."""
    program = [sys.executable, "-P", hdf5_listing.__file__, str(PROCESSOR_SECONDS)]
    try:
        child = subprocess.run(
            program, input=data, capture_output=True, timeout=20 * PROCESSOR_SECONDS, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise InputError(
            f"{path}: the HDF5 library crashes or never ends on it; was it damaged?"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: Python cannot be started to read it ({error})") from error
    found = json.loads(child.stdout)
    if "problem" in found:
        raise InputError(
            f"{path}: not a whole and plain HDF5 file: {found['problem']}; was it damaged, or not"
            " written by Keras?"
        )
    return found


def _marked_bfloat16(path: Path, name: str, attributes: Mapping[str, str]) -> np.dtype:
    """The dtype bfloat16, if the attribute that Keras writes marks a dataset as that."""
    if attributes.get("dtype") != "bfloat16":
        raise InputError(f"{path}: {name}: expected numbers, got 2 bytes each of an unknown kind")
    return bfloat16()
