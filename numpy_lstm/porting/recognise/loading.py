"""An LSTM of a file: found, selected, checked, and with the facts that its equations need."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.read import main_file, read_archive
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.options import NO_OPTIONS, OptionError, ReadOptions
from numpy_lstm.porting.proof.record import load_record, sha256
from numpy_lstm.porting.recognise.defects import check_no_defects
from numpy_lstm.porting.recognise.expected import expected_tensors
from numpy_lstm.porting.recognise.facts import facts_of, missing_facts
from numpy_lstm.porting.recognise.naming import with_given_names
from numpy_lstm.porting.recognise.other_tensors.leftovers import (
    tensors_and_neighbours,
    unnamed_parts,
)
from numpy_lstm.porting.recognise.readings import FoundLSTM
from numpy_lstm.porting.recognise.recognition import survey
from numpy_lstm.porting.recognise.select import is_prefix, listed, select_lstm, split_prefixes

Readers = Mapping[str, Callable[[Path], Archive]]
"""Readers of containers that this package has none for, by container: {"pt": read_pt}."""


@dataclass(frozen=True)
class LoadedLSTM:
    """An LSTM of a file, read and checked.

    Args:
        lstm: the LSTM as the file places it.
        hashes: the SHA-256 of every file that was read; empty for what is in memory.
        notes: what a person should know of how it was read, a sentence each.
        record: that of the conversion which wrote the file; None if there is none.
        names: those of the tensors that the caller said, as in `ReadOptions`.
    """

    lstm: PlacedLSTM
    hashes: Mapping[Path, str]
    notes: tuple[str, ...]
    record: dict[str, Any] | None = None
    names: Mapping[str, str] | None = None


def read_lstm(
    path: Path,
    options: ReadOptions = NO_OPTIONS,
    readers: Readers | None = None,
    recorded: Iterable[Mapping[str, Any]] = (),
) -> LoadedLSTM:
    """Read one LSTM of a file, and check all of it.

    What the record beside the file says of it (layout, prefixes, forget bias, activations) need not
    be said by the caller, as long as the file has not changed since.

    Args:
        path: the file; of a TensorFlow checkpoint any of its files, or what their names begin with.
        options: what the caller knows, who is believed before the record.
        readers: more readers, by container.
        recorded: sides of other records, which may be of this file.

    Raises:
        InputError: the file is not whole, holds no LSTM, several, or one that can be read in
            several ways; it does not say a fact that is needed; tensors are wrong.
    """
    path = main_file(path)
    archive = read_archive(path, readers)
    record = load_record(path)
    hashes = {file: sha256(file) for file in archive.files}
    sides = list(recorded)
    if record is not None:
        sides.append(record["destination"])
    completed = options
    for side in sides:
        if sorted(side["files"].values()) == sorted(hashes.values()):
            completed = _completed(completed, side)
    try:
        loaded = lstm_in_archive(path, archive, completed)
    except InputError as error:
        if completed == options:
            raise
        remark = " (the proof of its conversion says so; is it right?)"
        if isinstance(error, OptionError):
            raise OptionError(error.before, error.option, error.after + remark) from error
        raise InputError(f"{error}{remark}") from error
    return replace(loaded, hashes=hashes, record=record)


def lstm_in_archive(path: Path, archive: Archive, options: ReadOptions = NO_OPTIONS) -> LoadedLSTM:
    """One LSTM of tensors that are read already; otherwise as `read_lstm`, but without records."""
    used = archive
    if options.names is not None:
        used = with_given_names(path, archive, options)
    surveyed = survey(used, options.layout)
    found = select_lstm(path, surveyed, options)
    lstm = found.best.lstm
    check_no_defects(str(path), tensors_and_neighbours(lstm, used), expected_tensors(lstm))
    if found.best.misfit:
        raise InputError(f"{path}: {found.best.misfit}")
    if options.names is not None:
        _check_all_are_named(path, lstm, options.names, archive)
    facts = facts_of(path, lstm, used, options)
    notes = (*_notes(archive, found, options), *surveyed.others)
    return LoadedLSTM(replace(lstm, facts=facts), {}, notes, names=options.names)


def _check_all_are_named(
    path: Path, lstm: PlacedLSTM, names: Mapping[str, str], archive: Archive
) -> None:
    """Raise if a tensor that the caller did not name may be a part of the LSTM."""
    parts = unnamed_parts(lstm, set(names.values()), archive)
    if parts:
        raise OptionError(
            f"{path}: {listed(parts)} may be a part of this LSTM, such as a bias; name it in ",
            "names",
            ", or leave it out of the file if it is none",
        )


def _notes(archive: Archive, found: FoundLSTM, options: ReadOptions) -> tuple[str, ...]:
    """What was assumed, and what was left alone, in reading this LSTM."""
    lstm = found.best.lstm
    notes = list(archive.notes)
    stack_in_file = archive.chains is not None or lstm.layout.layers_in_names
    if lstm.num_layers > 1 and not stack_in_file and options.select is None:
        notes.append(
            f"{found.label} were taken for layers of one LSTM, since their names count up and their"
            " sizes fit: the file does not say; each of them can be selected alone"
        )
    missing = missing_facts(lstm, archive)
    if "activations" in missing and options.activations is None:
        notes.append(f"not in the file: {missing['activations']}")
    own = found.best.names
    if options.names is not None:
        own = set(options.names.values())
    others = sorted(archive.tensors.keys() - own)
    if others:
        notes.append(f"not of this LSTM, left alone: {listed(others)}")
    return tuple(notes)


def _completed(options: ReadOptions, side: Mapping[str, Any]) -> ReadOptions:
    """The options, completed by what a record says of one of its two files.

    Nothing is taken from it where the caller reads another LSTM of the file, or another layout.
    """
    prefixes = tuple(dict.fromkeys(side["prefixes"]))
    if options.select is not None and options.select != ",".join(prefixes):
        for given in split_prefixes(options.select):
            if not any(is_prefix(given, prefix) for prefix in prefixes):
                return options
    if options.layout not in (None, side["layout"]):
        return options
    result = replace(options, layout=side["layout"])
    if options.names is None and side.get("names"):
        result = replace(result, names=side["names"])
    if options.select is None:
        result = replace(result, select=prefixes)
    if options.forget_bias is None:
        result = replace(result, forget_bias=side["facts"]["forget_bias"])
    if not options.activations and TABLE[side["layout"]].activations == "given":
        result = replace(result, activations=tuple(side["facts"]["activations"]))
    return result
