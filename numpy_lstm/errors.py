"""The errors that a user can mend, and the checks that raise them."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, get_args

import numpy as np

Shape = tuple[tuple[str, int], ...]
"""Axes as (symbol, size), for example ``(("4H", 32), ("H", 8))``."""

EXTRAS = {
    "google.protobuf": ("port",),
    "google_crc32c": ("port",),
    "h5py": ("port",),
    "jinja2": ("verify",),
    "matplotlib": ("train", "verify"),
    "ml_dtypes": ("port",),
    "onnx": ("port",),
    "rich": ("train", "port", "verify"),
    "torch": ("verify",),
    "tyro": ("train", "port", "verify"),
}
"""The optional packages as they are imported, and the extras of numpy-lstm that install each."""


class InputError(ValueError):
    """Input that cannot be used; the message says what, where, what was expected and what to do.

    Args:
        message: what is wrong and what to do, as one sentence.
        argument: name of the argument that is wrong, for example ``hidden_size``. The message then
            begins with it, and a command that has an option of this name calls it by that option.
    """

    def __init__(self, message: str, *, argument: str | None = None) -> None:
        super().__init__(message if argument is None else f"{argument}: {message}")
        self.message = message
        self.argument = argument


class MissingPackage(InputError):
    """A package is needed that is not installed; the message has the line that installs it.

    Args:
        package: name by which it is imported; one of `EXTRAS`.
        needed_by: what needs it; the message begins with it.
        extra: the extra to name, if it installs the package; by default the first that does.
    """

    def __init__(self, package: str, needed_by: str = "this", extra: str = "") -> None:
        extras = EXTRAS[package]
        if extra not in extras:
            extra = extras[0]
        super().__init__(
            f"{needed_by} needs the package {package}, which is not installed;"
            f" pip install 'numpy-lstm[{extra}]'"
        )
        self.package = package
        self.needed_by = needed_by


def require(package: str, needed_by: str = "this") -> None:
    """Raise `MissingPackage` unless an optional package can be imported.

    Args:
        package: name by which it is imported; one of `EXTRAS`.
        needed_by: what needs it; the message begins with it.
    """
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        missing = optional_package(error)
        if f"{package}.".startswith(f"{error.name}."):  # itself, or a folder that it is in
            missing = package
        if missing is None:
            raise
        raise MissingPackage(missing, needed_by) from error


def optional_package(error: ModuleNotFoundError) -> str | None:
    """The package of `EXTRAS` that lacks a module; None if it is a module of none of them."""
    for package in EXTRAS:
        if f"{error.name}.".startswith(f"{package}."):
            return package
    return None


def check(condition: bool | np.bool, message: str) -> None:
    """Raise ``InputError(message)`` unless ``condition`` holds."""
    if not condition:
        raise InputError(message)


def check_choice(name: str, value: str, literal: Any) -> None:
    """Raise unless ``value`` is one of the strings of a ``Literal`` type."""
    choices = get_args(literal)
    if value not in choices:
        raise InputError(f"expected one of {list(choices)}, got {value!r}", argument=name)


def check_positive(**sizes: int) -> None:
    """Raise unless every named size is an integer of at least 1."""
    _check_integers(1, sizes)


def check_not_negative(**numbers: int) -> None:
    """Raise unless every named number is an integer of at least 0."""
    _check_integers(0, numbers)


def _check_integers(least: int, values: Mapping[str, int]) -> None:
    for name, value in values.items():
        is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_integer or value < least:
            raise InputError(
                f"expected an integer of at least {least}, got {value!r}", argument=name
            )


def check_memory(name: str, purpose: str, needed: int) -> None:
    """Raise if something needs more bytes than this machine has memory, where that is known."""
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not a POSIX system
        return
    if needed > available:
        raise InputError(
            f"{purpose} need at least {needed / 1e9:.3g} GB, and this machine has"
            f" {available / 1e9:.3g} GB of memory; ask for less",
            argument=name,
        )


def check_is_array(name: str, value: Any) -> None:
    """Raise unless ``value`` is a NumPy array of numbers."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iufc":
        got = getattr(value, "dtype", None) or type(value).__name__
        raise InputError(
            f"expected a NumPy array of numbers, got {got}; convert it with np.asarray",
            argument=name,
        )


def check_array(name: str, array: np.ndarray, shape: Shape, dtype: np.dtype) -> None:
    """Raise unless ``array`` has this shape and dtype and is finite everywhere."""
    check_is_array(name, array)
    sizes = tuple(size for _, size in shape)
    if array.shape != sizes:
        symbols = ", ".join(symbol for symbol, _ in shape)
        hint = ""
        if len(sizes) == 2 and array.shape == sizes[::-1]:
            hint = "; transposed?"
        raise InputError(
            f"expected [{symbols}] = {list(sizes)}, got {list(array.shape)}{hint}", argument=name
        )
    check_dtype(name, array, dtype)
    check_finite(name, array)


def check_dtype(name: str, array: np.ndarray, dtype: np.dtype) -> None:
    """Raise unless ``array`` has this dtype."""
    if array.dtype != dtype:
        raise InputError(
            f"expected dtype {dtype}, got {array.dtype}; convert it with .astype('{dtype}')",
            argument=name,
        )


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise if ``array`` holds NaN or infinity, naming the first place."""
    finite = np.isfinite(array)
    if not finite.all():
        place = [int(index) for index in np.argwhere(~finite)[0]]
        value = array[tuple(place)]
        count = int((~finite).sum())
        raise InputError(
            f"{value} at index {place} ({count} of {array.size} values are not finite);"
            " expected finite numbers",
            argument=name,
        )


def check_parameters(parameters: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]) -> np.dtype:
    """Check names, shapes, dtypes and finiteness of all parameters; return their common dtype.

    Raises:
        InputError: names missing or unexpected; a wrong shape; a dtype that is not floating
            (or complex), or differs between parameters; NaN or infinity.
    """
    if parameters.keys() != shapes.keys():
        missing = [name for name in shapes if name not in parameters]
        unexpected = [name for name in parameters if name not in shapes]
        raise InputError(
            f"missing {missing}, unexpected {unexpected}; expected exactly {list(shapes)}",
            argument="parameters",
        )
    for name, parameter in parameters.items():
        check_is_array(name, parameter)
    dtype = next(iter(parameters.values())).dtype
    if not np.issubdtype(dtype, np.inexact) or dtype == np.float16:
        raise InputError(
            f"expected a floating dtype such as float32 or float64, got {dtype}",
            argument="parameters",
        )
    for name, shape in shapes.items():
        check_array(name, parameters[name], shape, dtype)
    return dtype
