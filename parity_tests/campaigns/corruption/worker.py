"""The process that reads and converts files, as it is told by lines of JSON.

It may use a gibibyte more than at its start. Whatever a library prints goes to stderr.
"""

import json
import os
import resource
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import onnx

from numpy_lstm.errors import InputError
from numpy_lstm.porting.convert import convert
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.read import read_archive
from numpy_lstm.porting.inspection import inspect
from numpy_lstm.porting.layouts.canonical import digest
from numpy_lstm.porting.options import ReadOptions
from torch_oracle.weights.pt_files import read_pt

HEADROOM = 1 << 30
READERS = {"pt": read_pt}
LOADED = (h5py, ml_dtypes, onnx)
"""Beforehand, so that they are not counted."""


def limit_memory() -> None:
    """The address space, to what it is now and a gibibyte."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def describe(archive: Archive) -> str:
    """A digest of everything that was read."""
    facts = sorted((name, repr(facts)) for name, facts in archive.facts.items())
    return digest(dict(archive.tensors), repr((archive.container, facts)))


def check_message(error: InputError, path: Path) -> str | None:
    """What is wrong with the message of an unreadable file; None if nothing is."""
    text = str(error)
    if not any(text.startswith(str(p)) for p in (path, path.with_suffix(""))):
        return f"the message does not begin with the path: {text!r}"
    return None if text.isprintable() else f"the message is not one line of text: {text!r}"


def leaks(archive: Archive, secret: float) -> bool:
    """Whether a value is there that only another file holds."""
    arrays = [array for array in archive.tensors.values() if array.dtype.kind in "fV"]
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return any(bool((array.astype(np.float64) == secret).any()) for array in arrays)


def read(order: dict[str, Any]) -> dict[str, str]:
    """Read and inspect a file: "read" is "refused" or a digest; "wrong" what must not be."""
    path, answer = Path(order["path"]), {"read": "refused"}
    try:
        archive = read_archive(path, READERS)
    except InputError as error:
        return answer | {"message": str(error), "wrong": check_message(error, path) or ""}
    answer["read"] = describe(archive)
    if leaks(archive, order["secret"]):
        return answer | {"wrong": "holds what only another file does"}
    try:
        json.dumps(inspect(archive), allow_nan=False).encode()
    except InputError as error:
        return answer | {"wrong": f"inspect refuses: {error}"}
    return answer


def convert_it(order: dict[str, Any]) -> dict[str, str]:
    """Convert a file: "convert" is "refused" or "done"; "wrong" what must not be."""
    path, out, told = Path(order["path"]), Path(order["destination"]), ReadOptions(**order["facts"])
    try:
        convert(path, out, "numpy-lstm", told, allow_lossy=True, overwrite=True, readers=READERS)
    except InputError as error:
        text = str(error)
        # It may list several problems, a line each.
        wrong = "" if text.replace("\n", "").isprintable() else f"convert's message: {text!r}"
        return {"convert": "refused", "not converted": text, "wrong": wrong}
    return {"convert": "done"}


STEPS = {"read": read, "convert": convert_it}


def main() -> None:
    """Answer one order after another until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("error", RuntimeWarning)
    limit_memory()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        try:
            order = json.loads(line)
            answer = STEPS[order["step"]](order)
        except BaseException as error:  # whatever it is, the campaign is to hear of it
            kept = traceback.format_exception(error)[-12:]
            answer = {"wrong": "".join(kept)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
