"""The errors that a user can mend, the checks that raise them, and how a command reports them."""

import io
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any, get_args, get_type_hints

import numpy as np

Shape = tuple[tuple[str, int], ...]
"""Axes as (symbol, size), for example ``(("4H", 32), ("H", 8))``."""

EXTRAS = {
    "google.protobuf": "porting",
    "google_crc32c": "porting",
    "h5py": "porting",
    "jinja2": "commands",
    "matplotlib": "commands",
    "ml_dtypes": "porting",
    "onnx": "porting",
    "rich": "commands",
    "torch": "torch",
    "tyro": "commands",
}
"""The optional packages as they are imported, and which extra of numpy-lstm installs each."""


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
    """A package is needed that is not installed; the message has the line that installs it."""


def require(package: str, needed_by: str = "this") -> None:
    """Raise `MissingPackage` unless an optional package can be imported.

    Args:
        package: name by which it is imported; one of `EXTRAS`.
        needed_by: what needs it; the message begins with it.
    """
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        missing = _optional_package(error)
        if f"{package}.".startswith(f"{error.name}."):  # itself, or a folder that it is in
            missing = package
        if missing is None:
            raise
        raise missing_package(missing, needed_by) from error


def missing_package(package: str, needed_by: str = "this") -> MissingPackage:
    """The sentence for a package of `EXTRAS` that is not installed, with the line that installs it.

    Args:
        package: name by which it is imported.
        needed_by: what needs it; the message begins with it.
    """
    return MissingPackage(
        f"{needed_by} needs the package {package}, which is not installed;"
        f" pip install 'numpy-lstm[{EXTRAS[package]}]'"
    )


def _optional_package(error: ModuleNotFoundError) -> str | None:
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


@contextmanager
def one_line_errors(*commands: Callable[..., Any]) -> Iterator[None]:
    """For commands: whatever a user can mend becomes one sentence and exit status 2.

    That is an `InputError`, an optional package that is not installed (so a command imports such
    packages inside as well), too little memory, and a file or a standard output that cannot be
    written. Ctrl-C gives exit status 130, and a reader that went away, as ``head`` does, 141, as a
    signal would: neither is an error. Exit status 1 is left to verdicts.

    Args:
        commands: the dataclasses or functions whose fields or arguments are the command's
            options: an error of the argument ``hidden_size`` is then one of ``--hidden-size``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal shows é as \xe9
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, where a full disk can still be reported
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        _drop_standard_output()
        raise SystemExit(141) from None
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich makes that exit status 1
            raise SystemExit(141) from None
        raise
    except (InputError, ModuleNotFoundError, MemoryError, OSError) as error:
        sentence = _sentence(error, {name for each in commands for name in _option_names(each)})
        if sentence is None:
            raise
        if isinstance(error, OSError) and error.filename is None:
            _drop_standard_output()
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(2) from None


def _sentence(error: Exception, options: Collection[str]) -> str | None:
    """What a command says of an error; None if it is a mistake of the program's."""
    if isinstance(error, InputError):
        if error.argument in options:
            return f"--{str(error.argument).replace('_', '-')}: {error.message}"
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        package = _optional_package(error)
        return None if package is None else str(missing_package(package))
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}); ask for something smaller"
    assert isinstance(error, OSError)
    return f"{error.filename or 'standard output'}: cannot be used ({error.strerror})"


def _option_names(command: Callable[..., Any]) -> Iterator[str]:
    """Names of a dataclass' fields or a function's arguments, those of nested dataclasses too."""
    for name, kind in get_type_hints(command).items():
        yield name
        if is_dataclass(kind) and isinstance(kind, type):
            yield from _option_names(kind)


def _drop_standard_output() -> None:
    """Throw away what is still to be written there: it could only fail once more, at exit."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # not a file: nothing is flushed at exit
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
