"""Commands run in this process, which spares importing their packages again, or interrupted."""

import io
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

Result = subprocess.CompletedProcess[str]


def run_here(script: Path, *arguments: object) -> Result:
    """What a script prints, and its exit status, as if it had run in a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [str(script), *map(str, arguments)]),
        mock.patch.object(sys, "path", [str(script.parent), *sys.path]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            runpy.run_path(str(script), run_name="__main__")
            status = 0
        except SystemExit as stop:
            status = stop.code
    assert isinstance(status, int), status
    return Result([str(script)], status, out.getvalue(), err.getvalue())


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
