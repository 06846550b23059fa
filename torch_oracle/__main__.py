"""Judge an LSTM of your own by PyTorch: python -m torch_oracle verify package.module:adapter

The adapter is a small function; torch_oracle/adapters.py says what it takes and returns. Exit
status: 0 passed, 1 failed, 2 unusable input.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import tyro
from rich.console import Console
from threadpoolctl import threadpool_limits

from numpy_lstm.errors import InputError, one_line_errors
from torch_oracle.adapters import load
from torch_oracle.verification import Verification, verify
from torch_oracle.verification_report import print_verification


class Command(Protocol):
    """A subcommand; its fields are its arguments."""

    def run(self) -> int:
        """Do it; the exit status."""
        ...


@dataclass(frozen=True)
class Verify:
    """Compare all that the adapter returns with torch, on random problems."""

    spec: tyro.conf.Positional[str]
    """package.module:name of an adapter, or of a torch.nn.Module; see torch_oracle/adapters.py."""
    full: bool = False
    """More seeds and larger sizes; about half a minute instead of seconds."""
    json: Path | None = None
    """Write the result to this file."""

    def run(self) -> int:
        """0 if everything passed."""
        verification = verify(load(self.spec), "full" if self.full else "quick")
        print_verification(verification, Console())
        if self.json is not None:
            write_json(self.json, verification)
        return 0 if verification.passed else 1


COMMANDS: dict[str, type[Command]] = {"verify": Verify}


def write_json(file: Path, verification: Verification) -> None:
    """Write a verdict.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        file.write_text(json.dumps(verification.to_json(), indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error})") from error


def main() -> int:
    """Run the command line; the exit status."""
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, description=__doc__)
    torch.set_num_threads(1)  # the problems are small
    with threadpool_limits(1):
        return command.run()


if __name__ == "__main__":
    with one_line_errors():
        raise SystemExit(main())
