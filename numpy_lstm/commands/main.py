"""The program `numpy-lstm`, which is `python -m numpy_lstm` too."""

import sys
from collections.abc import Sequence

DESCRIPTION = "A hand-written NumPy LSTM: train a language model, let it write, carry weights."
TABLE = {
    "train": (
        "numpy_lstm.commands.train",
        "train on the counting language, or on a text of yours",
        "train",
    ),
    "sample": ("numpy_lstm.commands.sample", "let a trained model write; a prompt begins", "train"),
    "port": (
        "numpy_lstm.commands.port",
        "inspect, convert or check the LSTM weights of 26 frameworks' layouts",
        "port",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `numpy-lstm` with these arguments, or with those of this process; the exit status."""
    try:
        from numpy_lstm.commands.dispatch import run_program
    except KeyboardInterrupt:  # while Python itself still loads
        sys.exit(130)
    return run_program("numpy-lstm", DESCRIPTION, TABLE, arguments)
