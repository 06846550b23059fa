"""The record of a conversion: a JSON file beside the destination, which `check` verifies again."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.layouts.arrangement import to_canonical
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.layouts.table import TABLE
from numpy_lstm.porting.proof.proof import Proof
from numpy_lstm.roundoff import K

FORMAT = "numpy_lstm.proof/1"
REMEDY = "expected a proof as `convert` writes it; remove it, or convert again"
LARGEST = 100
"""Of steps, sequences and seeds; what has more was not written by `convert`."""


def proof_path(path: Path) -> Path:
    """Where the proof of a file lies: beside it."""
    return path.with_name(path.name + ".proof.json")


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record(
    before: tuple[PlacedLSTM, Sequence[Path]],
    after: tuple[PlacedLSTM, Sequence[Path]],
    proof: Proof,
    sentences: Mapping[str, list[str]],
) -> dict[str, Any]:
    """What was converted, from which files to which, and the proof; for JSON.

    Args:
        before: the source, and its files.
        after: the destination, and its files.
        proof: of both.
        sentences: for a person, under `lost`, `unsaid` (facts not in the file) and `notes`.
    """
    config = to_canonical(after[0]).config
    return {
        "format": FORMAT,
        "version": version("numpy-lstm"),
        "source": described(*before),
        "destination": described(*after),
        "sizes": asdict(config),
        **sentences,
        "proof": asdict(proof) | {"allowed": K, "worst": proof.worst, "passed": proof.passed},
    }


def described(lstm: PlacedLSTM, files: Sequence[Path]) -> dict[str, Any]:
    """One side: its files with their hashes, and how they are to be read."""
    return {
        "files": {path.name: sha256(path) for path in files},
        "layout": lstm.layout.key,
        "prefixes": list(lstm.prefixes),
        "facts": asdict(lstm.facts),
        "weights_sha256": to_canonical(lstm).digest(),
    }


def load_record(path: Path) -> dict[str, Any] | None:
    """The record beside a file; None if there is none.

    Raises:
        InputError: it is there and cannot be read.
    """
    if not path.name:  # such as "."
        return None
    file = proof_path(path)
    if not os.path.isfile(file):
        return None
    try:
        record = json.loads(file.read_text())
        check(record["format"] == FORMAT, f"{file}: expected the format {FORMAT}; {REMEDY}")
        check(_is_record(record), f"{file}: {REMEDY}")
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: {REMEDY} ({type(error).__name__})") from error
    return record


def _is_record(record: Any) -> bool:
    """Whether everything that is read of a record is there, and of the right kind."""
    inputs, passed = record["proof"]["inputs"], record["proof"]["passed"]
    return (
        all(_is_side(record[side]) for side in ("source", "destination"))
        and isinstance(passed, bool)
        and inputs.keys() == {"seed", "T", "N"}
        and all(type(n) is int and 0 <= n <= LARGEST for n in inputs.values())
        and min(inputs["T"], inputs["N"]) >= 1
    )


def _is_side(side: Any) -> bool:
    files, prefixes, facts = side["files"], side["prefixes"], side["facts"]
    texts = [*files, *files.values(), *prefixes, *facts["activations"], side["weights_sha256"]]
    return (
        isinstance(prefixes, list)
        and isinstance(facts["activations"], list)
        and len(facts["activations"]) == 3
        and isinstance(facts["forget_bias"], float)
        and isfinite(facts["forget_bias"])
        and len(prefixes) >= 1
        and side["layout"] in TABLE
        and all(isinstance(text, str) for text in texts)
    )
