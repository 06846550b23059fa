"""Commands run in this process, which spares importing their packages again, or interrupted."""

import io
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from numpy_lstm.commands.main import main as numpy_lstm
from torch_oracle.commands.main import main as lstm_oracle

Result = subprocess.CompletedProcess[str]
PROGRAMS = {"numpy-lstm": numpy_lstm, "lstm-oracle": lstm_oracle}
MODULES = {"numpy-lstm": "numpy_lstm", "lstm-oracle": "torch_oracle"}
"""Those that `python -m` runs."""


def run_here(program: str, *arguments: object) -> Result:
    """What a program prints, and its exit status, as if it had run in a process of its own."""
    given = [str(argument) for argument in arguments]
    return _captured(program, lambda: PROGRAMS[program](given), given)


def run_script_here(script: Path, *arguments: object) -> Result:
    """The same for a script, which runs as `__main__`."""
    given = [str(argument) for argument in arguments]
    with mock.patch.object(sys, "path", [str(script.parent), *sys.path]):
        return _captured(
            str(script), lambda: runpy.run_path(str(script), run_name="__main__"), given
        )


def _captured(program: str, call: Callable[[], object], arguments: list[str]) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [program, *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            returned = call()
            status = returned if isinstance(returned, int) else 0
        except SystemExit as stop:
            status = stop.code
    assert isinstance(status, int), status
    return Result([program, *arguments], status, out.getvalue(), err.getvalue())


def command_line(program: str, *arguments: object) -> list[str]:
    """What runs a program in a process of its own."""
    return [sys.executable, "-m", MODULES[program], *map(str, arguments)]


def run_in_a_process(program: str, *arguments: object, timeout: float = 120) -> Result:
    """Run a program as a user does."""
    command = command_line(program, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@contextmanager
def interruptible(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A running command that Ctrl-C reaches; it does not outlive the test, whatever happens.

    A shell starts what it runs in the background with SIGINT ignored, and programs inherit that.
    A signal that is handled here is at its default there.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()
