"""HDF5 files: named tensors and a few attributes, read without trust in the file."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.formats.archive import check_declared
from numpy_lstm.porting.formats.checks import check_name, tensor
from numpy_lstm.porting.formats.keras import hdf5_listing

SIGNATURE = b"\x89HDF\r\n\x1a\n"
Texts = Mapping[str, Mapping[str, str]]
"""By path of an object in the file, its attributes of `hdf5_listing.TEXTS`."""


def need_h5py() -> None:
    """Raise unless h5py is installed."""
    check(
        importlib.util.find_spec("h5py") is not None,
        "h5py: not installed, and Keras' files need it; pip install 'numpy-lstm[porting]'",
    )


def read_hdf5(path: Path, data: bytes) -> tuple[dict[str, np.ndarray], Texts]:
    """Read all tensors by their paths in the file, and texts.

    Args:
        path: for messages.
        data: the file's content.

    Raises:
        InputError: not HDF5, or not whole; links; data elsewhere, compressed, of other kinds than
            numbers, or larger than the file allows.
    """
    check(
        data.startswith(SIGNATURE), f"{path}: expected an HDF5 file, got another; was it damaged?"
    )
    need_h5py()
    found = _listing(path, data)
    places = [(name, np.dtype(d), tuple(s), o) for name, (d, s, o) in found["tensors"].items()]
    total = sum(prod(shape) * dtype.itemsize for _, dtype, shape, _ in places)
    check_declared(path, total, len(data))
    tensors = {}
    for name, dtype, shape, offset in places:
        check_name(path, name)
        if dtype.kind == "V":
            dtype = _bfloat16(path, name, found["texts"].get(name, {}))
        own = data[offset : offset + prod(shape) * dtype.itemsize]
        tensors[name] = tensor(path, name, own, dtype, shape)
    return tensors, found["texts"]


def _listing(path: Path, data: bytes) -> dict[str, Any]:
    """What `hdf5_listing` finds, in a process of its own."""
    program = [sys.executable, "-P", hdf5_listing.__file__]
    seconds = 3 * hdf5_listing.SECONDS  # of a busy machine; the child's own limit is processor time
    try:
        child = subprocess.run(program, input=data, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        child = None
    except OSError as error:
        raise InputError(f"{path}: Python cannot be started to read it ({error})") from error
    check(
        child is not None and child.returncode == 0,
        f"{path}: the HDF5 library crashes or never ends on it; was it damaged?",
    )
    assert child is not None
    found = json.loads(child.stdout)
    check(
        "problem" not in found,
        f"{path}: not a whole and plain HDF5 file: {found.get('problem')}; was it damaged, or not"
        " written by Keras?",
    )
    return found


def _bfloat16(path: Path, name: str, attributes: Mapping[str, str]) -> np.dtype:
    """That of ml_dtypes, if the attribute that Keras writes says so."""
    check(
        attributes.get("dtype") == "bfloat16",
        f"{path}: {name}: expected numbers, got 2 bytes each of an unknown kind",
    )
    try:
        import ml_dtypes
    except ImportError:
        raise InputError(
            f"{path}: {name} is bfloat16, for which ml_dtypes is missing;"
            " pip install 'numpy-lstm[porting]'"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)
