"""Say which stage of a training program goes wrong first, and which known faults explain it.

The adapter is a function; torch_oracle/training/adapter.py says what it takes and returns. Exit
status: 0 nothing is wrong, 1 something is, 2 unusable input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from numpy_lstm.commands.usage import parse
from numpy_lstm.errors import InputError
from torch_oracle.commands.judging import check_folders, one_thread, reported, write_json
from torch_oracle.diagnosis.terminal import print_training_diagnosis
from torch_oracle.training.adapter import TrainingAdapter
from torch_oracle.training.diagnosis import diagnose_training
from torch_oracle.verification.loading import import_object


@dataclass(frozen=True)
class Training:
    """Say which stage of a training program goes wrong first, and which known faults explain it."""

    spec: tyro.conf.Positional[str]
    """package.module:name or file.py:name of a training adapter; see
    torch_oracle/training/adapter.py."""
    json: Path | None = None
    """Write the diagnosis to this file."""

    def run(self) -> int:
        """0 if nothing is wrong, 1 if something is."""
        check_folders(self.json)
        console = Console()
        with reported(self.spec, self.json):
            function: TrainingAdapter = import_object(self.spec)
            if not callable(function):
                raise InputError(f"{self.spec}: expected a function, got {function!r:.80}")
            with console.status("training beside torch; at most about a minute"):
                found = diagnose_training(function)
        print_training_diagnosis(self.spec, found, console)
        if self.json is not None:
            write_json(self.json, {"adapter": self.spec} | found.to_json())
        return 0 if found.status == "correct" else 1


def main(program: str, arguments: Sequence[str]) -> int:
    """Run the command line `lstm-oracle training`; the exit status."""
    command: Training = parse(Training, program, __doc__, arguments, [Training])
    with one_thread():
        return command.run()
