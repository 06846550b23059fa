"""What the commands that judge an adapter have in common: one thread, and files for the result."""

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from numpy_lstm.errors import InputError
from numpy_lstm.files import write_atomically
from torch_oracle.diagnosis.diagnose import diagnose
from torch_oracle.diagnosis.results import Diagnosis
from torch_oracle.verification.adapters import Adapter
from torch_oracle.verification.outputs import AdapterError


@contextmanager
def one_thread() -> Iterator[None]:
    """NumPy and torch compute in one thread: the problems are small."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


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
        if file is None:
            continue
        if not file.parent.is_dir():
            raise InputError(f"{file}: cannot be written (there is no folder {file.parent})")
        if file.is_dir():
            raise InputError(f"{file}: expected the name of a file, got that of a folder")


def check_folder(folder: Path) -> None:
    """Raise `InputError` now if a folder cannot be made, or is a file."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected the name of a folder, got that of a file")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder}: cannot be made (there is no folder {folder.parent})")


@contextmanager
def reported(spec: str, json: Path | None, *, show_traceback: bool = False) -> Iterator[None]:
    """What makes an adapter unusable is written as JSON too, and shown whole if asked for.

    Args:
        spec: the adapter's name.
        json: the file for the result, if one is wanted.
        show_traceback: whether to print the traceback of what its own code raised.
    """
    try:
        yield
    except InputError as error:
        if show_traceback and error.__cause__ is not None:
            print_traceback(error.__cause__)
        if json is not None:
            write_json(json, {"adapter": spec, "status": "unusable", "error": str(error)})
        raise


def print_traceback(error: BaseException) -> None:
    """Print the traceback of what an adapter raised."""
    traceback.print_exception(error, file=sys.stderr)


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
