"""Break the real code in one line, to see that the suite objects."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch_oracle.diagnosis.injection import Edit, injected


def planted(function: Callable[..., Any], right: str, wrong: str) -> AbstractContextManager[None]:
    """Run with one piece of a function's source replaced."""
    return injected([Edit(function, right, wrong)])
