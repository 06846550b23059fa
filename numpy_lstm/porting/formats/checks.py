"""What every reader of named tensors checks: files, names, shapes, and the bytes that are there."""

import math
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError, check

MAX_AXES = 8
"""Of a tensor of a file; an LSTM's have four at most."""


@contextmanager
def whole(path: Path, what: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn what a library raises of a damaged file into one sentence.

    Raises:
        InputError: as it came, or for any of the errors.
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
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "no such file" if missing else getattr(error, "strerror", None) or error
        raise InputError(f"{path}: {reason}; expected {what}") from error
    check(regular, f"{path}: not a regular file; expected {what}")


def file_bytes(path: Path, what: str) -> bytes:
    """All of a regular file."""
    check_is_file(path, what)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def unsafe(name: str) -> str | None:
    """Why a tensor may not be called this; None if it may. Slashes within are common."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not text"
    if not name or not name.isprintable():
        return "is empty, or holds characters that cannot be printed"
    parts = name.replace("\\", "/").split("/")
    return "is that of a path out of the file" if ".." in parts or parts[0] == "" else None


def check_name(path: Path, name: str) -> None:
    """Raise if a tensor of a file may not be called this."""
    reason = unsafe(name)
    check(reason is None, f"{path}: the name {name!r} of a tensor {reason}; rename it")


def check_tensors(tensors: Mapping[str, np.ndarray], allowed: str, otherwise: str) -> None:
    """Raise unless each tensor may be written: a good name, and a dtype of these kinds."""
    for name, array in tensors.items():
        reason = unsafe(name)
        check(reason is None, f"{name!r}: expected another name, since this one {reason}")
        check(
            array.dtype.kind in allowed or array.dtype.name in otherwise.split(),
            f"{name}: cannot be written with dtype {array.dtype};"
            f" expected numbers, such as float32 (--dtype float32), float64 or"
            f" {otherwise or 'int32'}",
        )
        check(
            array.ndim <= MAX_AXES,
            f"{name}: expected at most {MAX_AXES} axes, got {array.ndim}",
        )


def tensor(path: Path, name: str, data: Any, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor that these bytes are, in memory of its own and in the machine's byte order.

    Raises:
        InputError: the shape is impossible, or not that of as many bytes.
    """
    check(
        len(shape) <= MAX_AXES and all(0 <= size < 1 << 40 for size in shape),
        f"{path}: {name}: expected a shape of at most {MAX_AXES} sizes below 2^40,"
        f" got {list(shape[: MAX_AXES + 1])}",
    )
    declared = math.prod(shape) * dtype.itemsize
    check(
        declared == len(data),
        f"{path}: {name}: expected {declared:,} bytes for {dtype} {list(shape)},"
        f" got {len(data):,}; was it damaged?",
    )
    array = np.frombuffer(data, dtype)
    return array.astype(dtype.newbyteorder("="), copy=True).reshape(shape)


def left_out_note(names: list[str]) -> tuple[str, ...]:
    """For `Archive.notes`: which tensors were not read."""
    return (f"left out, as no numbers of a dtype read here: {', '.join(names)}",) * bool(names)
