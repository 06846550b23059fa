"""Print all known faults of hand-written LSTMs with their formulas, in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy_lstm.commands.usage import parse
from torch_oracle.diagnosis.faults.catalogue import catalogue


@dataclass(frozen=True)
class Faults:
    """Print all known faults with their formulas, in Markdown."""


def main(program: str, arguments: Sequence[str]) -> int:
    """Run the command line `lstm-oracle faults`; the exit status is always 0."""
    parse(Faults, program, __doc__, arguments, [Faults])
    print(catalogue(), end="")
    return 0
