"""Convert an LSTM from one file to another, with a proof that it is the same LSTM.

Everything here needs NumPy alone; what reads and writes a container is looked up by `read_archive`
and `encode`, and may need a package of its own.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.files import write_atomically
from numpy_lstm.porting.formats.read import read_archive
from numpy_lstm.porting.formats.write import encode
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import to_canonical, to_layout
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH, CanonicalLSTM, digest
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.options import NO_OPTIONS, OptionError, ReadOptions
from numpy_lstm.porting.proof.proof import Proof, prove, verdict
from numpy_lstm.porting.proof.record import Side, make_record, proof_path, sha256
from numpy_lstm.porting.recognise.loading import LoadedLSTM, Readers, read_lstm

Writers = Mapping[str, Callable[[PlacedLSTM], bytes]]
"""Writers of containers that this package has none for, by ending: {".pt": pt_bytes}."""


def convert(
    source: Path,
    destination: Path,
    to: str,
    options: ReadOptions = NO_OPTIONS,
    *,
    dtype: str | None = None,
    allow_lossy: bool = False,
    overwrite: bool = False,
    readers: Readers | None = None,
    writers: Writers | None = None,
) -> dict[str, Any]:
    """Convert a file, prove the result, and only then put it and its proof where they belong.

    Args:
        source: the file to read.
        destination: the file to write; its ending says the container.
        to: the key of the layout to write.
        options: what the source may not say.
        dtype: of the destination: float32 or float64; that of the source when None.
        allow_lossy: give up what the layout has no place for.
        overwrite: replace a file that exists.
        readers: more readers, by container.
        writers: more writers, by ending.

    Returns:
        The record, as it is written to `proof_path(destination)`; `lost` says what was given up.

    Raises:
        InputError: the input cannot be used, something would be lost, or the proof fails. Nothing
            is written then.
    """
    if to not in TABLE:
        raise OptionError("", "to", f": expected one of {', '.join(TABLE)}, got {to!r}")
    before = read_lstm(source, options, readers)
    model, narrowed = _cast(to_canonical(before.lstm), dtype, allow_lossy)
    model, lost = fit_to_layout(model, TABLE[to], allow_lossy=allow_lossy)
    written = to_layout(model, TABLE[to])
    files = encode(written, destination, writers)
    conversion = Conversion(before, written, destination, [*lost, *narrowed], readers)
    record: dict[str, Any] = {}

    def verify(folder: Path) -> dict[Path, bytes]:
        record.update(conversion.proven_record([folder / path.name for path in files]))
        return {proof_path(destination): (json.dumps(record, indent=1) + "\n").encode()}

    try:
        _check_free([*files, proof_path(destination)], before.hashes, overwrite)
        write_atomically(files, verify)
    except OSError as error:
        raise InputError(f"{destination}: cannot be written ({error.strerror})") from error
    return record


def _check_free(files: Sequence[Path], sources: Iterable[Path], overwrite: bool) -> None:
    """Raise unless no such file exists, or it may be replaced and is not the source."""
    existing = [path for path in files if os.path.lexists(path)]
    if existing and not overwrite:
        raise OptionError(
            f"{existing[0]}: exists already; choose another name, or allow it with ", "overwrite"
        )
    for path in existing:
        if not os.path.isfile(path):
            raise InputError(f"{path}: is no file to be replaced; choose another name")
    for path, source in product(existing, sources):
        if path.samefile(source):
            raise InputError(f"{path}: is the source itself; choose another name")


def _cast(
    model: CanonicalLSTM, dtype: str | None, allow_lossy: bool
) -> tuple[CanonicalLSTM, list[str]]:
    """The model in another dtype, and sentences about what that lost."""
    if dtype is None or dtype == model.dtype.name:
        return model, []
    if dtype not in ("float32", "float64"):
        raise OptionError("", "dtype", f": expected float32 or float64, got {dtype!r}")
    cast = model.astype(dtype)
    if np.dtype(dtype).itemsize >= model.dtype.itemsize:
        return cast, []
    if not allow_lossy:
        raise OptionError(
            f"dtype: {model.dtype.name} would be rounded to {dtype}; allow it with ", "allow_lossy"
        )
    large = [name for name, array in cast.arrays().items() if not np.isfinite(array).all()]
    if large:
        raise InputError(f"{', '.join(large)}: too large for {dtype}; keep {model.dtype.name}")
    return cast, [f"dtype: {model.dtype.name} was rounded to {dtype}"]


@dataclass(frozen=True)
class Conversion:
    """A conversion whose files are written to a folder of their own and not yet proven.

    Args:
        before: what was read.
        written: what was written.
        destination: the path that the file is to have.
        lost: sentences about what was given up.
        readers: more readers, by container.
    """

    before: LoadedLSTM
    written: PlacedLSTM
    destination: Path
    lost: list[str]
    readers: Readers | None

    def proven_record(self, files: list[Path]) -> dict[str, Any]:
        """The record of the conversion, once the files on the disk are read back and proven.

        Raises:
            InputError: they do not hold what was to be written, bit for bit; the proof fails.
        """
        after, missing = self._read_back(files[-1].with_name(self.destination.name))
        proof = prove(self.before.lstm, after)
        if not proof.passed:
            raise self._failure(proof)
        hashes = {path: sha256(path) for path in files}
        sentences = {"lost": self.lost, "unsaid": missing, "notes": list(self.before.notes)}
        source = Side(self.before.lstm, self.before.hashes, self.before.names)
        return make_record(source, Side(after, hashes), proof, sentences)

    def _failure(self, proof: Proof) -> InputError:
        sentence = f"{self.destination}: not written, since the proof fails: {verdict(proof)}"
        if self.written.dtype.itemsize == 2:
            return OptionError(f"{sentence}; half precision? try ", "dtype", " float32")
        return InputError(sentence)

    def _read_back(self, path: Path) -> tuple[PlacedLSTM, list[str]]:
        """What is on the disk, and sentences about the facts that the file does not hold."""
        written = self.written
        archive = read_archive(path, self.readers)
        tensors = {n: a for n, a in archive.tensors.items() if n in written.tensors}
        stored = archive.facts.get(written.prefixes[0], written.facts)
        facts = replace(stored, forget_bias=written.facts.forget_bias)
        if facts != written.facts or digest(tensors) != digest(written.tensors):
            raise InputError(
                f"{path.name}: not written, since it does not read back as what was written;"
                " please report this"
            )
        missing = []
        if written.layout.forget_bias == "given":
            missing.append(f"forget_bias = {facts.forget_bias:g}, to be added at run time")
        if facts.activations != SIGMOID_TANH and written.prefixes[0] not in archive.facts:
            missing.append(f"activations = {', '.join(facts.activations)}")
        return replace(written, tensors=tensors, facts=facts), missing
