"""The record of a conversion: a JSON file beside the destination, which `check` verifies again."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.archive import Archive
from numpy_lstm.porting.arrangement import to_canonical
from numpy_lstm.porting.canonical import Facts
from numpy_lstm.porting.layouts import NativeLSTM
from numpy_lstm.porting.proof import Inputs, Proof
from numpy_lstm.porting.table import TABLE
from numpy_lstm.roundoff import K

FORMAT = "numpy_lstm.proof/1"


def proof_path(path: Path) -> Path:
    """Where the proof of a file lies: beside it."""
    return path.with_name(path.name + ".proof.json")


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record(
    before: tuple[NativeLSTM, list[Path]],
    after: tuple[NativeLSTM, list[Path]],
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


def described(native: NativeLSTM, files: list[Path]) -> dict[str, Any]:
    """One side: its files with their hashes, and how they are to be read."""
    return {
        "files": {path.name: sha256(path) for path in files},
        "layout": native.layout.key,
        "prefixes": list(native.prefixes),
        "facts": asdict(native.facts),
        "weights_sha256": to_canonical(native).digest(),
    }


def parts(path: Path, archive: Archive) -> list[Path]:
    """The files that a path stands for: a TensorFlow bundle has several."""
    if archive.container != "tf-bundle":
        return [path]
    stem = path.name.rsplit(".data-")[0].removesuffix(".index")
    own = re.compile(re.escape(stem) + r"\.(index|data-\d{5}-of-\d{5})")
    return sorted(p for p in path.parent.iterdir() if own.fullmatch(p.name))


def load_record(path: Path) -> dict[str, Any] | None:
    """The record beside a file; None if there is none.

    Raises:
        InputError: it is there and cannot be read.
    """
    file = proof_path(path)
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text())
        check(record["format"] == FORMAT, f"{file}: expected the format {FORMAT}")
        for side in ("source", "destination"):
            _check_side(record[side])
        Inputs(**record["proof"]["inputs"])
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: expected a proof as `convert` writes it ({error!r}); remove it or convert"
            " again"
        ) from error
    return record


def _check_side(side: dict[str, Any]) -> None:
    """Raise what comes unless a side has everything that is read of it, of the right kind."""
    Facts(**side["facts"])
    texts = [*side["files"], *side["files"].values(), *side["prefixes"], side["weights_sha256"]]
    check(side["layout"] in TABLE and all(isinstance(t, str) for t in texts), "sides")
