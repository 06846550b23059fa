"""The one LSTM of a file that is meant, read and checked, with what the file leaves unsaid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.archive import Archive
from numpy_lstm.porting.canonical import Facts
from numpy_lstm.porting.layouts import NativeLSTM
from numpy_lstm.porting.native import activation
from numpy_lstm.porting.problems import check_tensors, expected_of
from numpy_lstm.porting.reading import read_archive
from numpy_lstm.porting.recognition import Finding, is_named_like_lstm, recognise, unsaid
from numpy_lstm.porting.records import load_record, parts, sha256
from numpy_lstm.porting.table import TABLE

Readers = Mapping[str, Callable[[Path], Archive]]


SHOWN = 8
"""Names of other tensors that a note lists."""


@dataclass(frozen=True)
class Told:
    """What the caller knows and the file may not say.

    Args:
        layout: a row's key; found out when None.
        select: the prefix of the LSTM that is meant, or those of its layers, with commas.
        forget_bias: added at run time.
        activations: of the gates, the candidate and the output.
    """

    layout: str | None = None
    select: str | None = None
    forget_bias: float | None = None
    activations: tuple[str, str, str] | None = None


NOTHING = Told()
"""Whatever the file says."""


@dataclass(frozen=True)
class Source:
    """An LSTM of a file, read and checked."""

    path: Path
    archive: Archive
    native: NativeLSTM
    notes: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """All files that the path stands for."""
        return parts(self.path, self.archive)


def read_lstm(path: Path, told: Told = NOTHING, readers: Readers | None = None) -> Source:
    """Read the one LSTM of a file that is meant, and check all of it.

    What a proof beside the file says of it (layout, forget bias, activations) counts as known.

    Raises:
        InputError: a file that is not whole, holds no LSTM, several, or one that can be read in
            several ways; facts that it does not say; tensors that are wrong.
    """
    return lstm_of(path, read_archive(path, readers), _remembered(path, told))


def lstm_of(path: Path, archive: Archive, told: Told = NOTHING) -> Source:
    """The one LSTM that is meant of tensors already read; as `read_lstm`, without its memory."""
    finding = choose(path, recognise(archive, told.layout), told)
    native = finding.best.native
    check_tensors(str(path), _own(native, archive), expected_of(native))
    check(not finding.best.problem, f"{path}: {finding.best.problem}")
    facts = _facts(path, native, archive, told)
    left = sorted(set(archive.tensors) - set(native.tensors))
    more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    note = f"not of this LSTM, left alone: {', '.join(left[:SHOWN])}{more}"
    notes = (*archive.notes, *([note] if left else []))
    return Source(path, archive, replace(native, facts=facts), notes)


def choose(path: Path, findings: list[Finding], told: Told) -> Finding:
    """The LSTM that is meant.

    Raises:
        InputError: none, several, or an ambiguous one.
    """
    layout = f" in the layout {told.layout}" if told.layout else ""
    check(
        bool(findings),
        f"{path}: no LSTM found{layout}; see `port.py inspect` for what is there",
    )
    names = ", ".join(repr(finding.label) for finding in findings)
    if told.select is not None:
        selected = [_selected(finding, told.select) for finding in findings]
        meant = [finding for finding in selected if finding is not None]
        check(len(meant) == 1, f"{path}: no LSTM under {told.select!r}; expected one of {names}")
    else:
        meant = findings
    if len(meant) > 1:
        broken = ", ".join(repr(finding.label) for finding in findings if finding.best.problem)
        but = f" (not whole: {broken})" if broken else ""
        raise InputError(f"{path}: {len(meant)} LSTMs: choose one with --select from {names}{but}")
    (finding,) = meant
    if finding.ambiguous:
        keys = " or ".join(dict.fromkeys(h.native.layout.key for h in finding.equals))
        raise InputError(
            f"{path}: its tensors can be read in several ways, as {keys}; say which with --from,"
            " and give the tensors that layout's names"
        )
    return finding


def _selected(finding: Finding, select: str) -> Finding | None:
    """The finding, or one layer or some layers of it, if that is what is meant."""
    wanted = tuple(part.strip() for part in select.split(","))
    if wanted == finding.prefixes:
        return finding
    parts = []
    for hypothesis in finding.equals:
        native = hypothesis.native
        if not native.layout.layers_in_names and set(wanted) <= set(native.prefixes):
            tensors = {n: a for n, a in native.tensors.items() if n.startswith(wanted)}
            part = replace(native, prefixes=wanted, tensors=tensors)
            parts.append(replace(hypothesis, native=part, names=frozenset(tensors)))
    return Finding(tuple(parts)) if parts else None


def _own(native: NativeLSTM, archive: Archive) -> dict[str, np.ndarray]:
    """The LSTM's tensors, and those right beside them that might belong to it."""

    def beside(name: str) -> bool:
        rests = {p: name.removeprefix(p) for p in native.prefixes if name.startswith(p)}
        return any(
            is_named_like_lstm(rest) or (bool(prefix) and not set("./") & set(rest))
            for prefix, rest in rests.items()
        )

    return {n: a for n, a in archive.tensors.items() if n in native.tensors or beside(n)}


def _facts(path: Path, native: NativeLSTM, archive: Archive, told: Told) -> Facts:
    """Forget bias and activations, from the caller, the container, or the layout.

    Raises:
        InputError: a forget bias that nobody says, or one that the layout has no room for.
    """
    layout, said = native.layout, archive.facts.get(native.prefixes[0], Facts())
    if layout.forget_bias == "told":
        if told.forget_bias is None:
            raise InputError(
                f"{path}: does not say {unsaid(native, archive)[0]}; give it with --forget-bias"
            )
        said = replace(said, forget_bias=told.forget_bias)
    else:
        fixed = layout.forget_bias if isinstance(layout.forget_bias, float) else 0.0
        check(
            told.forget_bias in (None, fixed),
            f"forget_bias: {layout.key} always has {fixed:g} at run time, got {told.forget_bias};"
            " leave --forget-bias out",
        )
        said = replace(said, forget_bias=fixed)
    if told.activations is not None:
        check(
            layout.activations == "told",
            f"activations: {layout.key} always has {', '.join(said.activations)}; leave them out",
        )
        said = replace(said, activations=told.activations)
    for name in said.activations:
        activation(name)
    return said


def _remembered(path: Path, told: Told) -> Told:
    """What a proof beside the file adds to what the caller knows."""
    record = load_record(path)
    if record is None or record["destination"]["files"].get(path.name) != sha256(path):
        return told
    return known(record["destination"], told)


def known(described: Mapping[str, Any], told: Told) -> Told:
    """What a record adds to what the caller knows, who comes first."""
    if told.layout not in (None, described["layout"]):
        return told
    layout, facts = TABLE[described["layout"]], described["facts"]
    return Told(
        described["layout"],
        told.select or ",".join(dict.fromkeys(described["prefixes"])),
        facts["forget_bias"] if told.forget_bias is None else told.forget_bias,
        tuple(facts["activations"])
        if told.activations is None and layout.activations == "told"
        else told.activations,
    )
