"""Readings of tensors whose names say nothing, by their shapes alone: guesses, which are shown.

No guess is converted: two matrices of the right shapes fit many layouts, and a GRU's or a pair of
Linear layers' may fit as well. Whoever knows better gives the names.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np

from numpy_lstm.porting.formats.archive import module_of
from numpy_lstm.porting.layouts.layout import Layout, Tensor
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.recognise.other_tensors.leftovers import group_of
from numpy_lstm.porting.recognise.readings import (
    REQUIRED,
    Reading,
    misfit_of,
    sizes_text,
    with_leading_directions,
)

MOST_TENSORS = 4
"""The tensors of a layer are tried in every order, as long as there are no more than these."""
MOST_GROUPS = 20
"""How many groups of tensors are tried; a file with more has names that say something."""


def readings_by_shape(row: Layout, groups: Sequence[Mapping[str, np.ndarray]]) -> Iterator[Reading]:
    """All readings of one layer, for each group of tensors whose names begin alike."""
    parts = [t for t in row.tensors if t.holds in (*REQUIRED, "b", "b_ih", "b_hh", "b_pair")]
    if any("{gate}" in tensor.name for tensor in parts):
        return
    layout_names = [t.name.format(layer=0, direction=row.tokens(1)[0]) for t in parts]
    for group in groups:
        if len(group) not in _possible_counts(parts, row):
            continue
        for names in permutations(group):
            renamed = {
                new: with_axes(group[old], part)
                for new, old, part in zip(layout_names, names, parts, strict=False)
            }
            lstm = with_leading_directions(PlacedLSTM(row, renamed, ("",)))
            if not lstm.coupled and not misfit_of(lstm):
                guess = {part.holds: name for part, name in zip(parts, names, strict=False)}
                reasons = (
                    f"by shape alone: {', '.join(names)} could be {', '.join(renamed)}",
                    f"shapes fit: {sizes_text(lstm)}",
                )
                evidence = (0, True, False)
                yield Reading(lstm, frozenset(names), evidence, False, reasons, guess=guess)


def groups_of(tensors: Mapping[str, np.ndarray]) -> list[Mapping[str, np.ndarray]]:
    """Tensors whose names begin alike, where two of them may be the matrices of one LSTM."""
    possible = []
    for module in _grouped(tensors, module_of):
        parts = [module]
        if len(module) > MOST_TENSORS:
            parts = _grouped(module, group_of)
        possible += [part for part in parts if _may_be_an_lstm(part)]
    return possible[:MOST_GROUPS]


def _grouped(
    tensors: Mapping[str, np.ndarray], key: Callable[[str], str]
) -> list[Mapping[str, np.ndarray]]:
    """The tensors, those together for whose names the function gives the same."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        groups.setdefault(key(name), {})[name] = array
    return list(groups.values())


def with_axes(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The array with as many axes as a row's tensor, where axes of 1 alone are more or fewer."""
    if array.ndim == len(tensor.groups):
        return array
    longer = [size for size in array.shape if size != 1]
    if len(longer) != sum(map(bool, tensor.groups)):
        return array
    shape = [longer.pop(0) if group else 1 for group in tensor.groups]
    return array.reshape(shape)


def _may_be_an_lstm(group: Mapping[str, np.ndarray]) -> bool:
    """Whether few tensors, among them a matrix with four blocks, or two matrices, are there."""
    shapes = [array.squeeze().shape for array in group.values()]
    matrices = [shape for shape in shapes if len(shape) == 2]
    if not 2 <= len(group) <= MOST_TENSORS or not matrices:
        return False
    if len(matrices) >= 2:
        return any(max(shape) == 4 * min(shape) for shape in matrices)
    # [I + H, 4H] and [4H]: or a Linear layer, which these names are usual for.
    leaves = {name.removeprefix(group_of(name)).lower() for name in group}
    return not leaves & {"weight", "weights", "bias", "biases", "kernel", "w", "b"}


def _possible_counts(parts: Sequence[Tensor], row: Layout) -> set[int]:
    """How many tensors one layer can have: with biases, and without if the row allows it."""
    if row.bias_required:
        return {len(parts)}
    matrices = [tensor for tensor in parts if tensor.holds in REQUIRED]
    return {len(matrices), len(parts)}
