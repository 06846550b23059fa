"""The one LSTM of a file that is meant, read and checked, with what the file leaves unsaid."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.read import main_file, read_archive
from numpy_lstm.porting.layouts.canonical import RuntimeFacts
from numpy_lstm.porting.layouts.named_activations import normalized
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.layouts.table import TABLE
from numpy_lstm.porting.proof.record import load_record, sha256
from numpy_lstm.porting.recognise.defects import check_tensors, expected_tensors
from numpy_lstm.porting.recognise.recognition import (
    FoundLSTM,
    fault,
    missing_facts,
    needed,
    own_tensors,
    recognise,
)

Readers = Mapping[str, Callable[[Path], Archive]]


SHOWN = 8
"""Names that a sentence lists."""


@dataclass(frozen=True)
class ReadOptions:
    """What the caller knows and the file may not say.

    Args:
        layout: a row's key; found out when None.
        select: the prefix of the LSTM that is meant, or those of its layers, with commas.
        forget_bias: added at run time.
        activations: of the gates, the candidate and the output.
        second: whether of a second file; for messages, which name the options of the command.
    """

    layout: str | None = None
    select: str | tuple[str, ...] | None = None
    forget_bias: float | None = None
    activations: tuple[str, str, str] | None = None
    second: bool = False

    def option(self, name: str) -> str:
        """What the command calls a field."""
        if name == "layout":
            return "--to" if self.second else "--from"
        return f"--{'to-' * self.second}{name.replace('_', '-')}"


NOTHING = ReadOptions()
"""Whatever the file says."""


@dataclass(frozen=True)
class Source:
    """An LSTM of a file, read and checked."""

    path: Path
    archive: Archive
    lstm: PlacedLSTM
    notes: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that were read."""
        return self.archive.files


def read_lstm(
    path: Path,
    told: ReadOptions = NOTHING,
    readers: Readers | None = None,
    recorded: Iterable[Mapping[str, Any]] = (),
) -> Source:
    """Read the one LSTM of a file that is meant, and check all of it.

    What a proof beside the file says of it (layout, forget bias, activations) counts as known, as
    long as the file has not changed since.

    Args:
        path: the file.
        told: what the caller knows, who comes first.
        readers: more readers, by container.
        recorded: sides of other records that may be of this file.

    Raises:
        InputError: a file that is not whole, holds no LSTM, several, or one that can be read in
            several ways; facts that it does not say; tensors that are wrong.
    """
    path = main_file(path)
    archive, beside = read_archive(path, readers), load_record(path)
    hashes = sorted(sha256(file) for file in archive.files)
    remembered = told
    for side in (*recorded, *([beside["destination"]] if beside else [])):
        if sorted(side["files"].values()) == hashes:
            remembered = known(side, remembered)
    try:
        return lstm_in_archive(path, archive, remembered)
    except InputError as error:
        if remembered == told:
            raise
        raise InputError(f"{error} (the proof of its conversion says so; is it right?)") from error


def lstm_in_archive(path: Path, archive: Archive, told: ReadOptions = NOTHING) -> Source:
    """The one LSTM that is meant of tensors already read; as `read_lstm`, without its memory."""
    finding = choose(path, recognise(archive, told.layout), told)
    lstm = finding.best.lstm
    check_tensors(str(path), own_tensors(lstm, archive), expected_tensors(lstm))
    check(not finding.best.problem, f"{path}: {finding.best.problem}")
    facts = _facts(path, lstm, archive, told)
    left = sorted(archive.tensors.keys() - finding.best.names)
    note = f"not of this LSTM, left alone: {_listed(left)}"
    guessed = archive.chains is None and not lstm.layout.layers_in_names and told.select is None
    guess = (
        f"{finding.label} were taken for layers of one LSTM, since their names count up and their"
        f" sizes fit: the file does not say; {told.option('select')} takes one of them"
    )
    assumed = missing_facts(lstm, archive).get("activations") if told.activations is None else None
    notes = (
        *archive.notes,
        *([guess] if guessed and lstm.num_layers > 1 else []),
        *([f"not in the file: {assumed}"] if assumed else []),
        *([note] if left else []),
    )
    return Source(path, archive, replace(lstm, facts=facts), notes)


def _listed(names: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def choose(path: Path, findings: list[FoundLSTM], told: ReadOptions) -> FoundLSTM:
    """The LSTM that is meant.

    Raises:
        InputError: none, several, or an ambiguous one.
    """
    layout = f" in the layout {told.layout}" if told.layout else ""
    check(
        bool(findings),
        f"{path}: no LSTM found{layout}; see `port.py inspect` for what is there",
    )
    names = _listed([repr(finding.label) for finding in findings])
    if told.select is not None:
        selected = [_selected(finding, told.select) for finding in findings]
        meant = [finding for finding in selected if finding is not None]
        check(
            len(meant) == 1,
            f"{path}: no LSTM under {','.join(_split(told.select))!r}; expected one of {names}, or"
            " layers of one of them that are neighbours",
        )
    else:
        meant = findings
    if len(meant) > 1:
        broken = _listed([repr(finding.label) for finding in findings if finding.best.problem])
        but = f" (not whole: {broken})" if broken else ""
        option = told.option("select")
        raise InputError(f"{path}: {len(meant)} LSTMs: choose one with {option} from {names}{but}")
    (finding,) = meant
    if finding.ambiguous:
        keys = " or ".join(dict.fromkeys(h.lstm.layout.key for h in finding.equals))
        raise InputError(
            f"{path}: its tensors can be read in several ways, as {keys}; say which with"
            f" {told.option('layout')}"
            + (", and give the tensors that layout's names" if not finding.best.score[0] else "")
        )
    return finding


def _selected(finding: FoundLSTM, select: str | tuple[str, ...]) -> FoundLSTM | None:
    """The finding, or neighbouring layers of it, if that is what is meant."""
    if select == finding.label:
        return finding
    wanted, parts = _split(select) or ("",), []
    for hypothesis in finding.equals:
        lstm, n = hypothesis.lstm, len(wanted)
        if lstm.layout.layers_in_names:
            lstm = replace(lstm, prefixes=finding.prefixes)
        for k in range(len(lstm.prefixes) - n + 1):
            run = lstm.prefixes[k : k + n]
            if not all(map(_means, wanted, run)):
                continue
            if run == lstm.prefixes:
                return finding
            part = replace(lstm, prefixes=run)
            names = {place.name for place in part.places} & lstm.tensors.keys()
            part = replace(part, tensors={name: lstm.tensors[name] for name in sorted(names)})
            problem = fault(part, needed(lstm))
            parts.append(replace(hypothesis, lstm=part, names=names, problem=problem))
    return FoundLSTM(tuple(parts)) if parts else None


def _split(select: str | tuple[str, ...]) -> tuple[str, ...]:
    """Prefixes, which are given with commas."""
    return tuple(p.strip() for p in select.split(",")) if isinstance(select, str) else select


def _means(given: str, prefix: str) -> bool:
    """Whether this is the prefix, with or without the separator that it ends in."""
    return given == prefix or (given != "" and prefix[:-1] == given and prefix[-1] in "./_:-")


def _facts(path: Path, lstm: PlacedLSTM, archive: Archive, told: ReadOptions) -> RuntimeFacts:
    """Forget bias and activations, from the caller, the container, or the layout.

    Raises:
        InputError: a forget bias that nobody says, or one that the layout has no room for;
            activations other than those that the file says.
    """
    layout, said = lstm.layout, archive.facts.get(lstm.prefixes[0], RuntimeFacts())
    if layout.forget_bias == "told":
        if told.forget_bias is None:
            raise InputError(
                f"{path}: does not say {missing_facts(lstm, archive)['forget_bias']}; give it with"
                f" {told.option('forget_bias')}"
            )
        with np.errstate(over="ignore"):
            number = float(lstm.dtype.type(told.forget_bias))  # as it is added at run time
        check(
            np.isfinite(number),
            f"forget_bias: expected a number that {lstm.dtype.name} can hold, got"
            f" {told.forget_bias:g}",
        )
        said = replace(said, forget_bias=number)
    else:
        fixed = layout.forget_bias if isinstance(layout.forget_bias, float) else 0.0
        check(
            told.forget_bias in (None, fixed),
            f"forget_bias: {layout.key} always has {fixed:g} at run time, got {told.forget_bias};"
            f" leave {told.option('forget_bias')} out",
        )
        said = replace(said, forget_bias=fixed)
    if told.activations is not None:
        check(
            layout.activations == "told",
            f"activations: {layout.key} always has {', '.join(said.activations)}; leave them out",
        )
        gate, candidate, output = (normalized(name) for name in told.activations)
        given = replace(said, activations=(gate, candidate, output))
        check(
            lstm.prefixes[0] not in archive.facts or given == said,
            f"activations: {path} says {', '.join(said.activations)} itself, got"
            f" {', '.join(given.activations)}; leave them out",
        )
        said = given
    return said


def known(described: Mapping[str, Any], told: ReadOptions) -> ReadOptions:
    """What a record adds to what the caller knows, who comes first."""
    prefixes = tuple(dict.fromkeys(described["prefixes"]))
    given = () if told.select in (None, ",".join(prefixes)) else _split(told.select)
    other = not all(any(_means(each, prefix) for prefix in prefixes) for each in given)
    if other or told.layout not in (None, described["layout"]):
        return told
    layout, facts = TABLE[described["layout"]], described["facts"]
    activations = tuple(facts["activations"]) if layout.activations == "told" else None
    return replace(
        told,
        layout=described["layout"],
        select=prefixes if told.select is None else told.select,
        forget_bias=facts["forget_bias"] if told.forget_bias is None else told.forget_bias,
        activations=told.activations or activations,
    )
