"""What every reader of named tensors checks: files, sizes, names, shapes, and the bytes there."""

import math
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError

MAX_AXES = 8
"""The most axes that a tensor of a file may have; an LSTM's have four at most."""


# --- files --------------------------------------------------------------------------------------


@contextmanager
def errors_as_damage(path: Path, what: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn what a library raises when it reads a damaged file into one sentence.

    Raises:
        InputError: as it came, or in place of any of the errors.
    """
    try:
        yield
    except InputError:  # is a ValueError too
        raise
    except errors as error:
        # A library may quote what it found there.
        text = "".join(c if c.isprintable() else " " for c in str(error))
        reason = " ".join(text.split())[:200] or type(error).__name__
        raise InputError(
            f"{path}: not a whole {what} ({reason}); was it damaged or cut short?"
        ) from error


def check_is_file(path: Path, what: str) -> None:
    """Raise unless there is a regular file: a pipe or device would never end."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            reason = "no such file"
        raise InputError(f"{path}: {reason}; expected {what}") from error
    if not regular:
        raise InputError(f"{path}: not a regular file; expected {what}")


def read_bytes(path: Path, what: str) -> bytes:
    """The whole content of a regular file."""
    check_is_file(path, what)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def check_declared(path: Path, declared: int, file_bytes: int | None = None) -> None:
    """Raise unless a file may hold this much once unpacked: 64 MiB, or 100 times its own size.

    Trained weights hardly shrink when compressed, so that nothing honest comes near.
    """
    size = file_bytes
    if size is None:
        size = path.stat().st_size
    allowed = (64 << 20) + 100 * size
    if declared > allowed:
        raise InputError(
            f"{path}: declares {declared:,} bytes of tensors in a file of {size:,};"
            f" expected at most {allowed:,}; is it damaged?"
        )


# --- names --------------------------------------------------------------------------------------


def name_fault(name: str) -> str | None:
    """Why a tensor may not be called this; None if it may. Slashes within are common."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not text"
    if not name or not name.isprintable():
        return "is empty, or holds characters that cannot be printed"
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "":
        return "is that of a path out of the file"
    return None


def check_name(path: Path, name: str) -> None:
    """Raise if a tensor of a file may not be called this."""
    fault = name_fault(name)
    if fault is not None:
        raise InputError(f"{path}: the name {name!r} of a tensor {fault}; rename it")


def left_out_note(names: list[str]) -> tuple[str, ...]:
    """The note of an archive that says which tensors were not read; none if all were."""
    if not names:
        return ()
    return (f"left out, as no numbers of a dtype read here: {', '.join(names)}",)


# --- tensors ------------------------------------------------------------------------------------


def check_size(
    path: Path, name: str, held_bytes: int, dtype: np.dtype, shape: tuple[int, ...]
) -> None:
    """Raise unless a tensor of this dtype and shape has exactly as many bytes as the file holds."""
    if len(shape) > MAX_AXES or not all(0 <= size < 1 << 40 for size in shape):
        raise InputError(
            f"{path}: {name}: expected a shape of at most {MAX_AXES} sizes below 2^40,"
            f" got {list(shape[: MAX_AXES + 1])}"
        )
    declared = math.prod(shape) * dtype.itemsize
    if declared != held_bytes:
        raise InputError(
            f"{path}: {name}: expected {declared:,} bytes for {dtype} {list(shape)},"
            f" got {held_bytes:,}; was it damaged?"
        )


def tensor_of_bytes(
    path: Path, name: str, data: Any, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
    """The tensor that these bytes are, in memory of its own and in the machine's byte order.

    Raises:
        InputError: the shape is impossible, or not that of as many bytes.
    """
    check_size(path, name, len(data), dtype, shape)
    array = np.frombuffer(data, dtype)
    return array.astype(dtype.newbyteorder("="), copy=True).reshape(shape)


def check_can_be_written(tensors: Mapping[str, np.ndarray], kinds: str, dtypes: str) -> None:
    """Raise unless each tensor has a good name and a dtype that a container can hold.

    Args:
        tensors: by name.
        kinds: letters of NumPy's dtype.kind that the container holds.
        dtypes: names of further dtypes that it holds, separated by spaces.
    """
    for name, array in tensors.items():
        fault = name_fault(name)
        if fault is not None:
            raise InputError(f"{name!r}: expected another name, since this one {fault}")
        if array.dtype.kind not in kinds and array.dtype.name not in dtypes.split():
            raise InputError(
                f"{name}: cannot be written with dtype {array.dtype};"
                f" expected numbers, such as float32 (--dtype float32), float64 or"
                f" {dtypes or 'int32'}"
            )
        if array.ndim > MAX_AXES:
            raise InputError(f"{name}: expected at most {MAX_AXES} axes, got {array.ndim}")
