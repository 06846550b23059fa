"""Say which known faults explain what an LSTM gets wrong, and how to mend them.

The adapter is a small function; torch_oracle/adapters.py says what it takes and returns. Exit
status: 0 nothing is wrong, 1 something is, 2 unusable input.
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
    reported,
    write,
    write_json,
)
from torch_oracle.diagnosis.terminal import diagnosis_json, print_diagnosis
from torch_oracle.verification.adapters import Adapter
from torch_oracle.verification.loading import load
from torch_oracle.verification.outputs import AdapterError
from torch_oracle.verification.terminal import print_line
from torch_oracle.verification.verify import verify

ADVICE = "run `lstm-oracle verify` on the same adapter to see which."


@dataclass(frozen=True)
class Diagnose:
    """Say which known faults explain what the adapter gets wrong, and how to mend them."""

    spec: tyro.conf.Positional[str]
    """package.module:name or file.py:name of an adapter, or of a torch.nn.Module; see
    torch_oracle/adapters.py."""
    json: Path | None = None
    """Write the diagnosis to this file."""
    html: Path | None = None
    """Write diagnosis and verification to this file as a page to read."""

    def run(self) -> int:
        """0 if nothing is wrong, 1 if something is."""
        check_folders(self.json, self.html)
        if self.html is not None:
            require("jinja2")
        with reported(self.spec, self.json):
            adapter = load(self.spec)
            return self._diagnose(adapter, Console())

    def _diagnose(self, adapter: Adapter, console: Console) -> int:
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
            from torch_oracle.html_report.page import page  # the only place that needs jinja2

            write(self.html, page(verification, found))
        return 0 if correct and verification.passed else 1


def main(program: str, arguments: Sequence[str]) -> int:
    """Run the command line `lstm-oracle diagnose`; the exit status."""
    command: Diagnose = parse(Diagnose, program, __doc__, arguments, [Diagnose])
    with one_thread():
        return command.run()
