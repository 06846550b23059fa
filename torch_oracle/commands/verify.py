"""Compare all that an LSTM returns with torch, on random problems.

The adapter is a small function; torch_oracle/adapters.py says what it takes and returns. Exit
status: 0 passed, 1 failed, 2 unusable input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from numpy_lstm.commands.usage import parse
from numpy_lstm.errors import require
from torch_oracle.commands.judging import (
    check_folders,
    diagnosed,
    one_thread,
    write,
    write_json,
)
from torch_oracle.verification.loading import load
from torch_oracle.verification.terminal import print_verification
from torch_oracle.verification.verify import verify


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
        if self.html is not None:
            require("jinja2")
        adapter, console = load(self.spec), Console()
        verification = verify(adapter, "full" if self.full else "quick")
        print_verification(verification, console)
        if self.json is not None:
            write_json(self.json, verification.to_json())
        if self.html is not None:
            from torch_oracle.html_report.page import page  # the only place that needs jinja2

            found = None
            if not verification.passed:
                found = diagnosed(adapter, console)
            write(self.html, page(verification, found))
        return 0 if verification.passed else 1


def main(program: str, arguments: Sequence[str]) -> int:
    """Run the command line `lstm-oracle verify`; the exit status."""
    command: Verify = parse(Verify, program, __doc__, arguments, [Verify])
    with one_thread():
        return command.run()
