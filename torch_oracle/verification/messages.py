"""Words for messages about an adapter: what it raised, and which name was probably meant."""

import difflib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

import torch_oracle

OTHERS_CODE = (
    *(sysconfig.get_paths()[kind] for kind in ("stdlib", "purelib", "platlib")),
    str(Path(torch_oracle.__path__[0])),
    "<",
)
"""How the file names of code begin that is not the user's: Python's, installed, ours, generated."""


def describe_error(error: BaseException) -> str:
    """An exception's type and message, and the last place of the user's own code in its traceback.

    For example ``ValueError: no weights (/home/me/my_lstm.py:12)``.
    """
    description = type(error).__name__
    message = " ".join(str(error).split())
    if message:
        description += f": {message}"
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{f.filename}:{f.lineno}" for f in frames if not f.filename.startswith(OTHERS_CODE)]
    if places:
        description += f" ({places[-1]})"
    return description


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A hint at the most similar of the names, to end a message; empty if none is similar."""
    matches = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""
