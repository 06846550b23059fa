"""Compare all that an LSTM returns with torch, on random problems.

The adapter is a small function; torch_oracle/adapters.py says what it takes and returns. Exit
status: 0 passed, 1 failed, 2 unusable input.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from numpy_lstm.commands.reporting import errors_name_options
from numpy_lstm.commands.usage import parse
from numpy_lstm.errors import InputError, require
from torch_oracle.commands.judging import (
    check_folder,
    check_folders,
    diagnosed,
    one_thread,
    print_traceback,
    reported,
    write,
    write_json,
)
from torch_oracle.verification.adapters import Adapter
from torch_oracle.verification.loading import load
from torch_oracle.verification.results import Verification
from torch_oracle.verification.saved_case import save_case
from torch_oracle.verification.terminal import print_line, print_verification
from torch_oracle.verification.verify import verify
from torch_oracle.verification.watch import TimeIsUp


@dataclass(frozen=True)
class Verify:
    """Compare all that the adapter returns with torch, on random problems."""

    spec: tyro.conf.Positional[str]
    """package.module:name or file.py:name of an adapter, or of a torch.nn.Module; see
    torch_oracle/adapters.py."""
    full: bool = False
    """More seeds and larger sizes; about half a minute instead of seconds."""
    json: Path | None = None
    """Write the result to this file."""
    html: Path | None = None
    """Write the result to this file as a page to read; with the diagnosis, if it failed."""

    case: str | None = None
    """Run this case alone, by the name that a report gives it."""
    save: Path | None = None
    """Write the arrays of the first failing case to this folder, and a script that runs it."""
    timeout: float | None = None
    """Stop a case that takes longer than so many seconds."""
    traceback: bool = False
    """Print the whole traceback of what the adapter raises."""

    def run(self) -> int:
        """0 if everything passed, 1 if not."""
        check_folders(self.json, self.html)
        if self.timeout is not None and not self.timeout > 0:
            raise InputError(f"expected more than 0 s, got {self.timeout:g}", argument="timeout")
        if self.save is not None:
            check_folder(self.save)
        if self.html is not None:
            require("jinja2")
        with reported(self.spec, self.json, show_traceback=self.traceback):
            adapter = load(self.spec)
            verification = self._verification(adapter)
        console = Console()
        if self.traceback and isinstance(verification.cause, Exception):
            print_traceback(verification.cause)
        print_verification(verification, console)
        if self.json is not None:
            write_json(self.json, verification.to_json())
        if self.save is not None:
            self._save(adapter, verification, self.save, console)
        if self.html is not None:
            self._write_page(adapter, verification, self.html, console)
        return 0 if verification.passed else 1

    def _verification(self, adapter: Adapter) -> Verification:
        """The verdict; on a terminal of its own, it says which case takes long."""

        def say(sentence: str) -> None:
            print(sentence, file=sys.stderr, flush=True)

        mode = "full" if self.full else "quick"
        return verify(adapter, mode, case=self.case, limit=self.timeout, say=say)

    def _save(
        self, adapter: Adapter, verification: Verification, folder: Path, console: Console
    ) -> None:
        failing = [result for result in verification.results if not result.passed]
        if failing:
            script = save_case(folder, adapter, failing[0])
            print_line(console, f"the first failing case is in {folder}; run `python {script}`")

    def _write_page(
        self, adapter: Adapter, verification: Verification, file: Path, console: Console
    ) -> None:
        from torch_oracle.html_report.page import page  # the only place that needs jinja2

        found = None
        if not verification.passed and not isinstance(verification.cause, TimeIsUp):
            try:
                found = diagnosed(adapter, console)
            except InputError as error:  # the verdict stands without a diagnosis
                found = error
                print_line(console, str(error))
        write(file, page(verification, found))


def main(program: str, arguments: Sequence[str]) -> int:
    """Run the command line `lstm-oracle verify`; the exit status."""
    command: Verify = parse(Verify, program, __doc__, arguments, [Verify])
    with errors_name_options(Verify), one_thread():
        return command.run()
