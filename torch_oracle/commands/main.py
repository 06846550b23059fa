"""The program `lstm-oracle`, which is `python -m torch_oracle` too."""

import sys
from collections.abc import Sequence

DESCRIPTION = """\
PyTorch's autograd judges a hand-written LSTM, tensor by tensor and step by step.
Exit status: 0 everything agrees, 1 something does not, 2 unusable input."""
TABLE = {
    "verify": (
        "torch_oracle.commands.verify",
        "is your LSTM right? (an adapter or an nn.Module)",
        "verify",
    ),
    "diagnose": (
        "torch_oracle.commands.diagnose",
        "which known faults does your LSTM have?",
        "verify",
    ),
    "training": (
        "torch_oracle.commands.training",
        "which stage of your training goes wrong first?",
        "verify",
    ),
    "lockstep": (
        "torch_oracle.commands.lockstep",
        "train the NumPy LSTM while PyTorch checks every gradient",
        "verify",
    ),
    "faults": (
        "torch_oracle.commands.faults",
        "list all known faults with their formulas",
        "verify",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `lstm-oracle` with these arguments, or with those of this process; the exit status."""
    try:
        from numpy_lstm.commands.dispatch import run_program
    except KeyboardInterrupt:  # while Python itself still loads
        sys.exit(130)
    return run_program("lstm-oracle", DESCRIPTION, TABLE, arguments)
