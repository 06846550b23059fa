"""Break the real code, one line at a time, to see that the suite objects."""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any


@contextmanager
def planted(function: Callable[..., Any], right: str, wrong: str) -> Iterator[None]:
    """Run with one piece of a function's source replaced; it must stand there exactly once.

    The code object itself is exchanged, so that every caller gets the broken function.
    """
    original = inspect.unwrap(function)
    assert isinstance(original, FunctionType)
    source = textwrap.dedent(inspect.getsource(original))
    assert source.count(right) == 1, f"{right!r} stands {source.count(right)} times in {function}"
    broken_namespace: dict[str, Any] = {}
    exec(source.replace(right, wrong), original.__globals__, broken_namespace)
    code = original.__code__
    original.__code__ = inspect.unwrap(broken_namespace[original.__name__]).__code__
    try:
        yield
    finally:
        original.__code__ = code
