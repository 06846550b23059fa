"""A hand-written NumPy LSTM language model, proven against PyTorch (see README.md).

The public names are those of `numpy_lstm.api`. They are loaded when the first of them is used, so
that a command answers at once, and Ctrl-C does not meet half an import.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from numpy_lstm.api import *  # noqa: F403
else:

    def __getattr__(name):
        from importlib import import_module

        api = import_module("numpy_lstm.api")
        if name == "__all__" or name in api.__all__:
            return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__getattr__("__all__")})
