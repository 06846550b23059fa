"""The program `numpy-lstm`, which is `python -m numpy_lstm` too."""

from collections.abc import Sequence

from numpy_lstm.commands.dispatch import Subcommand, run_program

DESCRIPTION = "A hand-written NumPy LSTM: train a language model, let it write, carry weights."
TABLE = {
    "train": Subcommand(
        "numpy_lstm.commands.train",
        "train on the counting language, or on a text of yours",
        "train",
    ),
    "sample": Subcommand(
        "numpy_lstm.commands.sample", "let a trained model write; a prompt begins", "train"
    ),
    "port": Subcommand(
        "numpy_lstm.commands.port",
        "inspect, convert or check the LSTM weights of 26 frameworks' layouts",
        "port",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `numpy-lstm` with these arguments, or with those of this process; the exit status."""
    return run_program("numpy-lstm", DESCRIPTION, TABLE, arguments)
