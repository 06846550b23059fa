"""Readings of tensors whose names say nothing, by their shapes alone."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np

from numpy_lstm.porting.layouts.layout import Layout, Tensor
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.recognise.readings import (
    REQUIRED,
    Reading,
    misfit_of,
    sizes_text,
    with_leading_directions,
)

MOST_TENSORS = 4
"""The tensors of a layer are tried in every order, as long as there are no more than these."""


def readings_by_shape(row: Layout, tensors: Mapping[str, np.ndarray]) -> Iterator[Reading]:
    """All readings of one layer, for each group of tensors whose names begin alike."""
    parts = [t for t in row.tensors if t.holds in (*REQUIRED, "b", "b_ih", "b_hh", "b_pair")]
    if any("{gate}" in tensor.name for tensor in parts):
        return
    layout_names = [t.name.format(layer=0, direction=row.tokens(1)[0]) for t in parts]
    for group in _grouped(tensors):
        if len(group) > MOST_TENSORS or len(group) not in _possible_counts(parts, row):
            continue
        for names in permutations(group):
            renamed = {new: tensors[old] for new, old in zip(layout_names, names, strict=False)}
            lstm = with_leading_directions(PlacedLSTM(row, renamed, ("",)))
            if not misfit_of(lstm):
                reasons = (
                    f"by shape alone: {', '.join(names)} could be {', '.join(renamed)}",
                    f"shapes fit: {sizes_text(lstm)}",
                )
                yield Reading(lstm, frozenset(names), (0, True, False), False, reasons)


def _possible_counts(parts: Sequence[Tensor], row: Layout) -> set[int]:
    """How many tensors one layer can have: with biases, and without if the row allows it."""
    if row.bias_required:
        return {len(parts)}
    matrices = [tensor for tensor in parts if tensor.holds in REQUIRED]
    return {len(matrices), len(parts)}


def _grouped(tensors: Mapping[str, np.ndarray]) -> list[list[str]]:
    """The tensors' names, those together that are the same up to their last separator."""
    groups: dict[str, list[str]] = {}
    for name in tensors:
        match = re.match(r".*[./_:-]", name)
        groups.setdefault(match[0] if match else "", []).append(name)
    return list(groups.values())
