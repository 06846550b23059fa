"""Judge an LSTM of your own by PyTorch: python -m torch_oracle verify package.module:adapter

The adapter is a small function; torch_oracle/adapters.py says what it takes and returns, and
torch_oracle/training/adapter.py does for training programs. Exit status: 0 passed, 1 failed, 2
unusable input.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from numpy_lstm.errors import InputError, one_line_errors
from numpy_lstm.files import write_atomically

with one_line_errors():  # where torch, tyro, rich or jinja2 is not installed
    import torch
    import tyro
    from rich.console import Console

    from torch_oracle.diagnosis.diagnose import diagnose
    from torch_oracle.diagnosis.faults.catalogue import catalogue
    from torch_oracle.diagnosis.results import Diagnosis
    from torch_oracle.diagnosis.terminal import (
        diagnosis_json,
        print_diagnosis,
        print_training_diagnosis,
    )
    from torch_oracle.html_report.page import page
    from torch_oracle.training.adapter import TrainingAdapter
    from torch_oracle.training.diagnosis import diagnose_training
    from torch_oracle.verification.adapters import Adapter
    from torch_oracle.verification.loading import import_object, load
    from torch_oracle.verification.outputs import AdapterError
    from torch_oracle.verification.terminal import print_line, print_verification
    from torch_oracle.verification.verify import verify

ADVICE = "run `python -m torch_oracle verify` on the same adapter to see which."


class Command(Protocol):
    """A subcommand; its fields are its arguments."""

    def run(self) -> int:
        """Carry out the command and return its exit status."""
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
    html: Path | None = None
    """Write the result to this file as a page to read; with the diagnosis, if it failed."""

    def run(self) -> int:
        """0 if everything passed, 1 if not."""
        check_folders(self.json, self.html)
        adapter, console = load(self.spec), Console()
        verification = verify(adapter, "full" if self.full else "quick")
        print_verification(verification, console)
        if self.json is not None:
            write_json(self.json, verification.to_json())
        if self.html is not None:
            found = None
            if not verification.passed:
                found = diagnosed(adapter, console)
            write(self.html, page(verification, found))
        return 0 if verification.passed else 1


@dataclass(frozen=True)
class Diagnose:
    """Say which known faults explain what the adapter gets wrong, and how to mend them."""

    spec: tyro.conf.Positional[str]
    """package.module:name of an adapter, or of a torch.nn.Module; see torch_oracle/adapters.py."""
    json: Path | None = None
    """Write the diagnosis to this file."""
    html: Path | None = None
    """Write diagnosis and verification to this file as a page to read."""

    def run(self) -> int:
        """0 if nothing is wrong, 1 if something is."""
        check_folders(self.json, self.html)
        adapter, console = load(self.spec), Console()
        found = diagnosed(adapter, console)
        if isinstance(found, AdapterError):
            print_line(console, f"{adapter.name} {found}")
            result = {"adapter": adapter.name, "status": "failed", "complaint": str(found)}
        else:
            print_diagnosis(adapter.name, found, console)
            result = diagnosis_json(adapter.name, found)
        if self.json is not None:
            write_json(self.json, result)
        verification = verify(adapter)
        correct = result["status"] == "correct"
        if correct and not verification.passed:
            print_line(
                console, f"But verify fails, in cases that the diagnosis does not try: {ADVICE}"
            )
        if self.html is not None:
            write(self.html, page(verification, found))
        return 0 if correct and verification.passed else 1


@dataclass(frozen=True)
class Training:
    """Say which stage of a training program goes wrong first, and which known faults explain it."""

    spec: tyro.conf.Positional[str]
    """package.module:name of a training adapter; see torch_oracle/training/adapter.py."""
    json: Path | None = None
    """Write the diagnosis to this file."""

    def run(self) -> int:
        """0 if nothing is wrong, 1 if something is."""
        check_folders(self.json)
        function: TrainingAdapter = import_object(self.spec)
        console = Console()
        if not callable(function):
            raise InputError(f"{self.spec}: expected a function, got {function!r:.80}")
        with console.status("training beside torch; at most about a minute"):
            found = diagnose_training(function)
        print_training_diagnosis(self.spec, found, console)
        if self.json is not None:
            write_json(self.json, {"adapter": self.spec} | found.to_json())
        return 0 if found.status == "correct" else 1


@dataclass(frozen=True)
class Catalogue:
    """Print all known faults with their formulas, in Markdown."""

    def run(self) -> int:
        """Print them; the exit status is always 0."""
        print(catalogue(), end="")
        return 0


COMMANDS: dict[str, type[Command]] = {
    "verify": Verify,
    "diagnose": Diagnose,
    "training": Training,
    "catalogue": Catalogue,
}


def diagnosed(adapter: Adapter, console: Console) -> Diagnosis | AdapterError:
    """The diagnosis; or the error for which there is none."""
    try:
        with console.status("comparing with known faults; at most about a minute"):
            return diagnose(adapter)
    except AdapterError as error:
        return error


def check_folders(*files: Path | None) -> None:
    """Raise `InputError` now, and not after the work, if there is no folder to write a file to."""
    for file in files:
        if file is not None and not file.parent.is_dir():
            raise InputError(f"{file}: cannot be written (there is no folder {file.parent})")


def write_json(file: Path, result: dict[str, Any]) -> None:
    """Write a verdict as JSON.

    Raises:
        InputError: the file cannot be written.
    """
    write(file, json.dumps(result, indent=1, allow_nan=False) + "\n")


def write(file: Path, text: str) -> None:
    """Write a file, in one moment or not at all.

    Raises:
        InputError: it cannot be written.
    """
    try:
        write_atomically({file: text.encode()})
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from error


def main() -> int:
    """Run the command line; the exit status."""
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, description=__doc__)
    torch.set_num_threads(1)  # the problems are small
    with threadpool_limits(1):
        return command.run()


if __name__ == "__main__":
    with one_line_errors():
        raise SystemExit(main())
