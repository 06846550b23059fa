"""The one exception that a user's input can raise, and the checks that raise it."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np

Shape = tuple[tuple[str, int], ...]
"""Axes as (symbol, size), for example ``(("4H", 32), ("H", 8))``."""


class InputError(ValueError):
    """Input that cannot be used; the message says what, where, what was expected and what to do."""


def check(condition: bool | np.bool, message: str) -> None:
    """Raise ``InputError(message)`` unless ``condition`` holds."""
    if not condition:
        raise InputError(message)


def check_choice(name: str, value: str, literal: Any) -> None:
    """Raise unless ``value`` is one of the strings of a ``Literal`` type."""
    choices = get_args(literal)
    check(value in choices, f"{name}: expected one of {list(choices)}, got {value!r}")


def check_positive(**sizes: int) -> None:
    """Raise unless every named size is an integer of at least 1."""
    for name, size in sizes.items():
        valid = isinstance(size, int | np.integer) and not isinstance(size, bool) and size >= 1
        check(valid, f"{name}: expected an integer of at least 1, got {size!r}")


def check_is_array(name: str, value: Any) -> None:
    """Raise unless ``value`` is a NumPy array of numbers."""
    check(
        isinstance(value, np.ndarray) and value.dtype.kind in "iufc",
        f"{name}: expected a NumPy array of numbers, got"
        f" {getattr(value, 'dtype', None) or type(value).__name__}; convert it with np.asarray",
    )


def check_array(name: str, array: np.ndarray, shape: Shape, dtype: np.dtype) -> None:
    """Raise unless ``array`` has this shape and dtype and is finite everywhere."""
    check_is_array(name, array)
    symbols = "[" + ", ".join(symbol for symbol, _ in shape) + "]"
    sizes = [size for _, size in shape]
    hint = "; transposed?" if len(sizes) == 2 and list(array.shape) == sizes[::-1] else ""
    check(
        list(array.shape) == sizes,
        f"{name}: expected {symbols} = {sizes}, got {list(array.shape)}{hint}",
    )
    check_dtype(name, array, dtype)
    check_finite(name, array)


def check_dtype(name: str, array: np.ndarray, dtype: np.dtype) -> None:
    """Raise unless ``array`` has this dtype."""
    check(
        array.dtype == dtype,
        f"{name}: expected dtype {dtype}, got {array.dtype}; convert it with .astype('{dtype}')",
    )


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise if ``array`` holds NaN or infinity, naming the first place."""
    finite = np.isfinite(array)
    if not finite.all():
        place = [int(index) for index in np.argwhere(~finite)[0]]
        value = array[tuple(place)]
        count = int((~finite).sum())
        raise InputError(
            f"{name}: {value} at index {place} ({count} of {array.size} values are not finite);"
            " expected finite numbers"
        )


def check_parameters(parameters: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]) -> np.dtype:
    """Check names, shapes, dtypes and finiteness of all parameters; return their common dtype.

    Raises:
        InputError: names missing or unexpected; a wrong shape; a dtype that is not floating
            (or complex), or differs between parameters; NaN or infinity.
    """
    missing = [name for name in shapes if name not in parameters]
    unexpected = [name for name in parameters if name not in shapes]
    check(
        not missing and not unexpected,
        f"parameters: missing {missing}, unexpected {unexpected}; expected exactly {list(shapes)}",
    )
    for name, parameter in parameters.items():
        check_is_array(name, parameter)
    dtype = next(iter(parameters.values())).dtype
    check(
        np.issubdtype(dtype, np.inexact) and dtype != np.float16,
        f"parameters: expected a floating dtype such as float32 or float64, got {dtype}",
    )
    for name, shape in shapes.items():
        check_array(name, parameters[name], shape, dtype)
    return dtype


@contextmanager
def one_line_errors() -> Iterator[None]:
    """For commands: an `InputError` becomes one line and exit status 2; Ctrl-C status 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
