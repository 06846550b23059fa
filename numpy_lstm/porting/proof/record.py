"""The record of a conversion: a JSON file in the destination's folder, which `check` verifies."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from numpy_lstm.errors import InputError
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import to_canonical
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.proof.proof import Proof
from numpy_lstm.roundoff import K

FORMAT = "numpy_lstm.proof/1"
REMEDY = "expected a proof as `convert` writes it; remove it, or convert again"
LARGEST = 100
"""More steps or sequences, or a larger seed, than any record of `convert` has."""


def proof_path(path: Path) -> Path:
    """The path of the record that belongs to a file, in the same folder."""
    return path.with_name(path.name + ".proof.json")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Side:
    """One of the two files of a conversion.

    Args:
        lstm: the LSTM as the file places it.
        hashes: the SHA-256 of each of its files.
        names: those of the tensors that the caller said, if any.
    """

    lstm: PlacedLSTM
    hashes: Mapping[Path, str]
    names: Mapping[str, str] | None = None

    def described(self) -> dict[str, Any]:
        """What a record says of the side: its files with their hashes, and how it is read."""
        described = {
            "files": {path.name: sha for path, sha in self.hashes.items()},
            "layout": self.lstm.layout.key,
            "prefixes": list(self.lstm.prefixes),
            "facts": asdict(self.lstm.facts),
            "weights_sha256": to_canonical(self.lstm).digest(),
        }
        if self.names is not None:
            described["names"] = dict(self.names)
        return described


def make_record(
    source: Side, destination: Side, proof: Proof, sentences: Mapping[str, list[str]]
) -> dict[str, Any]:
    """What was converted, from which files to which, and the proof; for JSON.

    Args:
        source: what was read.
        destination: what was written.
        proof: that both hold the same LSTM.
        sentences: for a person, under `lost`, `unsaid` (facts not in the file) and `notes`.
    """
    return {
        "format": FORMAT,
        "version": version("numpy-lstm"),
        "source": source.described(),
        "destination": destination.described(),
        "sizes": asdict(to_canonical(destination.lstm).config),
        **sentences,
        "proof": asdict(proof) | {"allowed": K, "worst": proof.worst, "passed": proof.passed},
    }


def load_record(path: Path) -> dict[str, Any] | None:
    """The record of the conversion that wrote a file; None if there is none.

    Raises:
        InputError: there is a record that cannot be read.
    """
    if not path.name:  # such as "."
        return None
    file = proof_path(path)
    if not os.path.isfile(file):
        return None
    try:
        record = json.loads(file.read_text())
        if record["format"] != FORMAT:
            raise InputError(f"{file}: expected the format {FORMAT}; {REMEDY}")
        if not _is_record(record):
            raise InputError(f"{file}: {REMEDY}")
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
    """Whether everything that is read of one side of a record is there, and of the right kind."""
    files, prefixes, facts = side["files"], side["prefixes"], side["facts"]
    names = side.get("names", {})
    texts = [*files, *files.values(), *prefixes, *facts["activations"], side["weights_sha256"]]
    texts += [*names, *names.values()]
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
