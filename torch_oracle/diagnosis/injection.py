"""Break the real code, line by line, to see that whoever judges it objects."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from numpy_lstm.errors import InputError


@dataclass(frozen=True)
class Edit:
    """A piece of a function's source, which must stand there exactly once, and what replaces it."""

    function: Callable[..., Any]
    right: str
    wrong: str


class CannotEdit(ValueError):
    """The piece to be replaced does not stand in the source exactly once."""


@contextmanager
def injected(edits: Sequence[Edit]) -> Iterator[None]:
    """Run with these edits, one after the other.

    The code objects themselves are exchanged, so that every caller gets the broken functions.

    Raises:
        CannotEdit: a piece is not there, or no longer there after the edits before it.
    """
    by_function: dict[FunctionType, list[tuple[str, str]]] = {}
    for edit in edits:
        function = inspect.unwrap(edit.function)
        assert isinstance(function, FunctionType)
        by_function.setdefault(function, []).append((edit.right, edit.wrong))
    broken = {f: _edited(f, tuple(replacements)) for f, replacements in by_function.items()}
    whole = {function: function.__code__ for function in broken}
    try:
        for function, code in broken.items():
            function.__code__ = code
        yield
    finally:
        for function, code in whole.items():
            function.__code__ = code


@cache
def _source(function: FunctionType) -> str:
    """The function's source without its docstring, in which the equations stand once more."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError as error:
        raise InputError(
            f"the diagnosis plants faults into the source text of {function.__module__}, which is"
            " not installed; install numpy-lstm with its .py files"
        ) from error
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef)
    if ast.get_docstring(definition) is None:
        return source
    docstring, lines = definition.body[0], source.splitlines(keepends=True)
    del lines[docstring.lineno - 1 : docstring.end_lineno]
    return "".join(lines)


@cache
def _edited(function: FunctionType, replacements: tuple[tuple[str, str], ...]) -> CodeType:
    source = _source(function)
    for right, wrong in replacements:
        if source.count(right) != 1:
            name = f"{function.__module__}.{function.__qualname__}"
            raise CannotEdit(f"{right!r} stands {source.count(right)} times in {name}")
        source = source.replace(right, wrong)
    namespace: dict[str, Any] = {}
    exec(
        compile(source, f"<edited {function.__qualname__}>", "exec"),
        function.__globals__,
        namespace,
    )
    return inspect.unwrap(namespace[function.__name__]).__code__
