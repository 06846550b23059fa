"""From one file to another, with a proof beside it; and the proof verified again.

Everything here needs NumPy alone; what reads and writes a container is looked up by `read_archive`
and `encode`, and may need a package of its own.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.files import write_atomically
from numpy_lstm.porting.formats.read import main_file, read_archive
from numpy_lstm.porting.formats.write import check_writable, encode
from numpy_lstm.porting.layouts.arrangement import to_canonical, to_layout
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH, CanonicalLSTM, digest
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.layouts.table import TABLE
from numpy_lstm.porting.proof.proof import Inputs, Proof, prove, verdict
from numpy_lstm.porting.proof.record import described, load_record, proof_path, record
from numpy_lstm.porting.recognise.select import NOTHING, Readers, ReadOptions, read_lstm

Writers = Mapping[str, Callable[[PlacedLSTM], bytes]]


def convert(
    source: Path,
    destination: Path,
    to: str,
    told: ReadOptions = NOTHING,
    *,
    dtype: str | None = None,
    allow_lossy: bool = False,
    overwrite: bool = False,
    readers: Readers | None = None,
    writers: Writers | None = None,
) -> dict[str, Any]:
    """Convert a file, prove it, and only then put it and its proof where they belong.

    Args:
        source: the file to read.
        destination: the file to write; its ending says the container.
        to: key of the row.
        told: what the source may not say.
        dtype: of the destination: float32 or float64; that of the source when None.
        allow_lossy: give up what the row has no place for.
        overwrite: replace a file that exists.
        readers: more readers, by container.
        writers: more writers, by ending.

    Returns:
        The proof, as it is written beside the destination; `lost` says what was given up.

    Raises:
        InputError: unusable input; what would be lost; a proof that fails. Nothing is written then.
    """
    check(to in TABLE, f"--to: expected one of {', '.join(TABLE)}, got {to!r}")
    check_writable(destination, TABLE[to])
    before = read_lstm(source, told, readers)
    model, narrowed = _cast(to_canonical(before.lstm), dtype, allow_lossy)
    model, lost = fit_to_layout(model, TABLE[to], allow_lossy=allow_lossy)
    after = to_layout(model, TABLE[to])
    files = encode(after, destination, writers)
    result: dict[str, Any] = {}

    def verify(folder: Path) -> dict[Path, bytes]:
        again, unsaid = _reread(folder / destination.name, after, readers)
        proof = prove(before.lstm, again)
        half = "; half precision? try --dtype float32" * (after.dtype.itemsize == 2)
        check(
            proof.passed,
            f"{destination}: not written, since the proof fails: {verdict(proof)}{half}",
        )
        own = [folder / path.name for path in files]
        sentences = {"lost": [*lost, *narrowed], "unsaid": unsaid, "notes": list(before.notes)}
        result.update(record((before.lstm, before.files), (again, own), proof, sentences))
        return {proof_path(destination): (json.dumps(result, indent=1) + "\n").encode()}

    try:
        _check_free([*files, proof_path(destination)], before.files, overwrite)
        write_atomically(files, verify)
    except OSError as error:
        raise InputError(f"{destination}: cannot be written ({error.strerror})") from error
    return result


def _check_free(files: list[Path], sources: Sequence[Path], overwrite: bool) -> None:
    """Raise unless no such file is there, or it may be replaced and is not the source."""
    there = [path for path in files if os.path.lexists(path)]
    check(
        overwrite or not there,
        f"{there[0] if there else ''}: exists already; choose another name, or allow it with"
        " --overwrite",
    )
    for path in there:
        check(os.path.isfile(path), f"{path}: is no file to be replaced; choose another name")
    for path, source in product(there, sources):
        check(not path.samefile(source), f"{path}: is the source itself; choose another name")


def _cast(
    model: CanonicalLSTM, dtype: str | None, allow_lossy: bool
) -> tuple[CanonicalLSTM, list[str]]:
    """The model in another dtype, and what that lost."""
    if dtype is None or dtype == model.dtype.name:
        return model, []
    check(dtype in ("float32", "float64"), f"--dtype: expected float32 or float64, got {dtype!r}")
    cast = model.astype(dtype)
    lost = []
    if np.dtype(dtype).itemsize < model.dtype.itemsize:
        lost = [f"dtype: {model.dtype.name} was rounded to {dtype}"]
        check(allow_lossy, f"{lost[0].replace('was', 'would be')}; allow it with --allow-lossy")
        large = [name for name, array in cast.arrays().items() if not np.isfinite(array).all()]
        check(not large, f"{', '.join(large)}: too large for {dtype}; keep {model.dtype.name}")
    return cast, lost


def _reread(
    path: Path, written: PlacedLSTM, readers: Readers | None
) -> tuple[PlacedLSTM, list[str]]:
    """What was written, from the disk; and the facts that the file does not hold.

    Raises:
        InputError: it is not what was meant to be written, bit for bit.
    """
    archive = read_archive(path, readers)
    tensors = {n: a for n, a in archive.tensors.items() if n in written.tensors}
    said = archive.facts.get(written.prefixes[0], written.facts)
    facts = replace(said, forget_bias=written.facts.forget_bias)
    check(
        facts == written.facts and digest(tensors) == digest(written.tensors),
        f"{path.name}: not written, since it does not read back as what was written;"
        " please report this",
    )
    unsaid = []
    if written.layout.forget_bias == "told":
        unsaid.append(f"forget_bias = {facts.forget_bias:g}, to be added at run time")
    if facts.activations != SIGMOID_TANH and written.prefixes[0] not in archive.facts:
        unsaid.append(f"activations = {', '.join(facts.activations)}")
    return replace(written, tensors=tensors, facts=facts), unsaid


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Args:
        proof: of the two files as they are.
        claims: each that the record beside the second makes of them, and whether it holds.
        other: whether that record is of another source.
    """

    proof: Proof
    claims: tuple[tuple[str, bool], ...]
    other: bool = False

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return self.proof.passed and all(holds for _, holds in self.claims)


def check_files(
    source: Path,
    destination: Path,
    told: ReadOptions = NOTHING,
    readers: Readers | None = None,
    told_second: ReadOptions = NOTHING,
) -> Checked:
    """Prove again that two files hold the same LSTM, and verify the proof beside the second.

    Args:
        source: one file.
        destination: another; what a proof beside it says of either counts as known.
        told: what the source may not say.
        readers: more readers, by container.
        told_second: what the destination may not say.
    """
    written = load_record(main_file(destination))
    recorded = [written["source"]] if written else []
    a = read_lstm(source, told, readers, recorded)
    b = read_lstm(destination, replace(told_second, second=True), readers)
    inputs = Inputs(**written["proof"]["inputs"]) if written else Inputs()
    proof = prove(a.lstm, b.lstm, inputs)
    claims: list[tuple[str, bool]] = []
    other = False
    if written is not None:
        now = {"source": described(a.lstm, a.files), "destination": described(b.lstm, b.files)}
        other = _is_of_another(written["source"], now["source"])
        if other:
            del now["source"]
        for side, found in now.items():
            said = written[side]
            hashes = [sorted(each["files"].values()) for each in (said, found)]
            claims.append((f"{side}: same files (SHA-256)", hashes[0] == hashes[1]))
            same = all(said[key] == found[key] for key in ("layout", "prefixes", "weights_sha256"))
            claims.append((f"{side}: same layout and weights", same))
        claims.append(("the recorded proof passed", written["proof"]["passed"] is True))
    return Checked(proof, tuple(claims), other)


def _is_of_another(said: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether a record is of other files: neither of these names nor of these contents."""
    names, hashes = set(said["files"]), set(said["files"].values())
    return not names & set(found["files"]) and not hashes & set(found["files"].values())
