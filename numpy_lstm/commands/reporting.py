"""How a command reports what a user can mend: one sentence and exit status 2.

Nothing is imported at the top that takes time, so that Ctrl-C meets the report from the start.
"""

import io
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any, get_type_hints


@contextmanager
def one_line_errors(*commands: Callable[..., Any], extra: str = "") -> Iterator[None]:
    """Whatever a user can mend becomes one sentence and exit status 2.

    That is an `InputError`, an optional package that is not installed (so a command imports such
    packages inside as well), too little memory, and a file or a standard output that cannot be
    written. Ctrl-C gives exit status 130, and a reader that went away, as ``head`` does, 141, as a
    signal would: neither is an error. Exit status 1 is left to verdicts.

    Args:
        commands: as for `errors_name_options`.
        extra: the extra of numpy-lstm that installs what the command imports.
    """
    _prepare_streams()
    try:
        try:
            with errors_name_options(*commands):
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
    except (ValueError, ModuleNotFoundError, MemoryError, OSError) as error:
        sentence = _sentence(error, extra)
        if sentence is None:
            raise
        if isinstance(error, OSError) and error.filename is None:
            _drop_standard_output()
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def errors_name_options(*commands: Callable[..., Any]) -> Iterator[None]:
    """An error of the argument ``hidden_size`` becomes one of the option ``--hidden-size``.

    Args:
        commands: the dataclasses or functions whose fields or arguments are the command's options.

    Raises:
        InputError: as it came, or in the words of the command line.
    """
    try:
        yield
    except ValueError as error:
        from numpy_lstm.errors import InputError

        if isinstance(error, InputError) and error.argument in option_names(commands):
            flag = str(error.argument).replace("_", "-")
            raise InputError(f"--{flag}: {error.message}") from error
        raise


def option_names(commands: Collection[Callable[..., Any]]) -> set[str]:
    """Names of dataclasses' fields or functions' arguments, those of nested dataclasses too."""
    names: set[str] = set()
    for command in commands:
        for name, kind in get_type_hints(command).items():
            names.add(name)
            if is_dataclass(kind) and isinstance(kind, type):
                names |= option_names([kind])
    return names


def _prepare_streams() -> None:
    """Escape what a stream cannot show, as \\xe9; drop what is written to a closed stream."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _sentence(error: Exception, extra: str) -> str | None:
    """What a command says of an error; None if it is a mistake of the program's."""
    from numpy_lstm.errors import InputError, MissingPackage, optional_package

    if isinstance(error, MissingPackage):
        return str(MissingPackage(error.package, error.needed_by, extra))
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        package = optional_package(error)
        return None if package is None else str(MissingPackage(package, extra=extra))
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}); ask for something smaller"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'standard output'}: cannot be used ({error.strerror})"
    return None


def _drop_standard_output() -> None:
    """Throw away what is still to be written there: it could only fail once more, at exit."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # not a file: nothing is flushed at exit
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
