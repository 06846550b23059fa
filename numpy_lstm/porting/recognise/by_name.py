"""Readings of tensors by their names, as the rows of the table give them."""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.recognise.readings import (
    Reading,
    misfit_of,
    sizes_text,
    with_leading_directions,
)
from numpy_lstm.porting.recognise.stacks import StackFinder


def readings_by_name(
    row: Layout, tensors: Mapping[str, np.ndarray], archive: Archive
) -> Iterator[Reading]:
    """The readings of a layout, those in both directions first.

    Args:
        row: the layout.
        tensors: the floating tensors of the file.
        archive: the file.
    """
    remaining = dict(tensors)
    for directions in (2, 1):
        if directions == 2 and row.directions is None:
            continue
        # A list: what an LSTM has is taken from the others only after all of them are found.
        for prefixes in list(StackFinder(row, directions, remaining, archive).stacks()):
            places = PlacedLSTM(row, tensors, prefixes, directions).present
            names = sorted({place.name for place in places})
            own = {name: tensors[name] for name in names}
            lstm = with_leading_directions(PlacedLSTM(row, own, prefixes, directions))
            yield _judged(lstm, tensors, archive.chains is not None)
            for name in names:
                remaining.pop(name, None)


def _judged(lstm: PlacedLSTM, tensors: Mapping[str, np.ndarray], stack_in_file: bool) -> Reading:
    """A reading with what speaks for it; `stack_in_file`: the file says which layer feeds which."""
    row = lstm.layout
    names = frozenset(lstm.tensors)
    misfit = misfit_of(lstm)
    prefixes = tuple(prefix for prefix in dict.fromkeys(lstm.prefixes) if prefix)
    unexplained = [name for name in tensors if name.startswith(prefixes) and name not in names]
    reasons = [f"{len(names)} tensors have the names of {row.title}"]
    if lstm.prefixes[0]:
        reasons.append(f"under {', '.join(prefixes)}")
    if lstm.num_layers > 1 and not row.layers_in_names:
        if stack_in_file:
            reasons.append("one stack, as the file says")
        else:
            reasons.append("taken for one stack, since the names count up and the sizes fit")
    if unexplained:
        reasons.append(f"{len(unexplained)} others beside them are not explained")
    if misfit:
        reasons.append(f"shapes: {misfit}")
    else:
        reasons.append(f"shapes fit: {sizes_text(lstm)}")
    # What explains more comes first, even if something is wrong with it: a broken LSTM with biases
    # is not to be taken for a whole one without.
    evidence = (len(names), not misfit, _has_own_prefix(lstm))
    return Reading(lstm, names, evidence, _has_usual_separator(lstm), tuple(reasons), misfit)


def _has_own_prefix(lstm: PlacedLSTM) -> bool:
    """Whether the prefix is one that only this framework gives."""
    pattern = lstm.layout.own_prefix
    return bool(pattern) and re.search(rf"(^|/)({pattern})$", lstm.prefixes[0]) is not None


def _has_usual_separator(lstm: PlacedLSTM) -> bool:
    """Whether the prefix ends in the separator that the framework puts there."""
    usual = lstm.layout.stacked or lstm.layout.single
    return usual.endswith((".", "/", "_")) and lstm.prefixes[0].endswith(usual[-1])
