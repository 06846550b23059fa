"""Which LSTMs a file holds, and in whose layout: readings with reasons, the likeliest first.

Names decide. Where no names fit, shapes alone are tried; and whatever leaves several equally likely
readings that give different weights is called ambiguous.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.all_frameworks import ROWS, TABLE
from numpy_lstm.porting.layouts.canonical import WEIGHT_DTYPES, RuntimeFacts
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.recognise.by_name import readings_by_name
from numpy_lstm.porting.recognise.by_shape import groups_of, readings_by_shape
from numpy_lstm.porting.recognise.other_tensors.other_networks import (
    network_of,
    others_by_name,
    others_by_shape,
    quantised,
)
from numpy_lstm.porting.recognise.readings import REQUIRED, FoundLSTM, Reading


@dataclass(frozen=True)
class Survey:
    """What a file holds.

    Args:
        lstms: in the order of their prefixes.
        others: recurrent networks that are no LSTMs, and LSTMs that cannot be had, a sentence each.
    """

    lstms: list[FoundLSTM]
    others: tuple[str, ...]


def recognise(archive: Archive, layout: str | None = None) -> list[FoundLSTM]:
    """Every LSTM in a file, as `survey` finds them."""
    return survey(archive, layout).lstms


def survey(archive: Archive, layout: str | None = None) -> Survey:
    """Every LSTM in a file, and what else might be taken for one.

    Args:
        archive: the file.
        layout: the key of the row to read it by, where the caller knows it.

    Raises:
        InputError: there is no such row in the table.
    """
    keys = (layout,) if layout else archive.rows
    for key in keys:
        if key not in TABLE:
            raise InputError(f"layout: expected one of {', '.join(TABLE)}, got {key!r}")
    rows = [TABLE[key] for key in keys] or ROWS
    floating = {
        name: array for name, array in archive.tensors.items() if array.dtype.name in WEIGHT_DTYPES
    }
    readings: list[Reading] = []
    other_readings: list[Reading] = []
    for row in rows:
        for reading in readings_by_name(row, floating, archive):
            coupled = layout is not None and reading.lstm.coupled
            if network_of(reading.lstm) and not coupled and not _is_coupled(reading):
                other_readings.append(reading)
            else:
                readings.append(reading)
    others = [*archive.others, *others_by_name(other_readings), *quantised(archive)]
    if not readings and not other_readings:
        groups = groups_of(floating)
        for row in rows:
            readings += readings_by_shape(row, groups)
        if not readings:
            others += others_by_shape(floating)
    if archive.asks_layout and layout is None:
        readings = [replace(reading, guess=_names_by_kind(reading)) for reading in readings]
    found = _grouped([replace(r, lstm=_with_facts(r.lstm, archive)) for r in readings])
    return Survey(found, tuple(others))


def _names_by_kind(reading: Reading) -> dict[str, str]:
    return {place.tensor.holds: place.name for place in reading.lstm.present}


def _is_coupled(reading: Reading) -> bool:
    """Whether three blocks are an LSTM's with coupled gates, since a GRU has no such tensors."""
    lstm = reading.lstm
    kinds = {place.tensor.holds for place in lstm.present}
    return lstm.coupled and not reading.misfit and bool(kinds - {*REQUIRED, "W_hr"})


def _grouped(readings: Sequence[Reading]) -> list[FoundLSTM]:
    """Readings of the same tensors together, the likeliest first."""
    ranked = sorted(readings, key=lambda r: (*r.evidence, r.usual_separator), reverse=True)
    groups: list[list[Reading]] = []
    group_of: dict[str, int] = {}  # by tensor: the number of the group whose best reading has it
    for reading in ranked:
        shared = [group_of[name] for name in reading.names if name in group_of]
        if shared:
            groups[min(shared)].append(reading)
        else:
            group_of |= dict.fromkeys(reading.names, len(groups))
            groups.append([reading])
    ordered = sorted(groups, key=lambda group: group[0].lstm.prefixes)
    return [FoundLSTM(tuple(group)) for group in ordered]


def _with_facts(lstm: PlacedLSTM, archive: Archive) -> PlacedLSTM:
    """The LSTM with the facts that the file says or, where it does not, the usual ones."""
    facts = archive.facts.get(lstm.prefixes[0], RuntimeFacts())
    if isinstance(lstm.layout.forget_bias, float):
        facts = replace(facts, forget_bias=lstm.layout.forget_bias)
    return replace(lstm, facts=facts)
