"""Commands run in this process, which spares importing their packages again."""

import io
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
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
