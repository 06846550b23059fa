"""Recurrent networks of a file that are no LSTMs, and LSTMs whose weights are not in it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from numpy_lstm.porting.formats.archive import QUANTISED, Archive
from numpy_lstm.porting.layouts.all_frameworks import ROWS
from numpy_lstm.porting.layouts.placed_lstm import Place, PlacedLSTM
from numpy_lstm.porting.recognise.readings import RECURRENT, Reading

KINDS = {3: "a GRU (three blocks of weights, not four)", 1: "a plain RNN (one block, not four)"}
"""What has so many blocks of weights."""


def network_of(lstm: PlacedLSTM) -> str:
    """What these tensors are by their number of blocks, a phrase; "" if an LSTM, whole or not.

    All of them must agree: one tensor that is too small is that of a broken LSTM.
    """
    matrices = [p for p in lstm.present if p.tensor.holds == "W_hh" and p.gate is None]
    if not matrices or any(place.tensor.holds == "W_hr" for place in lstm.present):
        return ""
    first = matrices[0]
    sizes = dict(zip(first.tensor.groups, lstm.tensors[first.name].shape, strict=False))
    hidden_size = sizes.get("r", 0)
    rows = next((size for letters, size in sizes.items() if "g" in letters), 0)
    if hidden_size < 1 or rows not in (hidden_size, 3 * hidden_size):
        return ""
    for place in lstm.present:
        if "g" in place.tensor.letters and not _has_blocks(place, rows, lstm):
            return ""
    return KINDS[rows // hidden_size]


def _has_blocks(place: Place, rows: int, lstm: PlacedLSTM) -> bool:
    """Whether a tensor has as many rows as the recurrent matrix, or twice that in two biases."""
    shape = lstm.tensors[place.name].shape
    if place.tensor.holds.startswith("b"):
        return int(np.prod(shape)) in (rows, 2 * rows, 2 * rows * lstm.directions)
    return rows in shape


def others_by_name(readings: Sequence[Reading]) -> list[str]:
    """What readings found under names of a layout that is no LSTM, a sentence for each prefix."""
    found: dict[str, str] = {}
    most = max((len(reading.names) for reading in readings), default=0)
    for reading in readings:
        kind = network_of(reading.lstm)
        for prefix in dict.fromkeys(reading.lstm.prefixes):
            sentence = f"{prefix or 'the file'} is {kind}, and no LSTM"
            if reading.lstm.coupled and not reading.misfit and len(reading.names) == most:
                key = reading.lstm.layout.key
                found[prefix] = f"{sentence}; if its gates are coupled, say the layout {key}"
            found.setdefault(prefix, sentence)
    return list(found.values())


def others_by_shape(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """What has the shapes of a GRU, where no name says anything."""
    matrices = {n: a for n, a in tensors.items() if a.ndim == 2}
    if not 2 <= len(matrices) <= 4:
        return []
    for name, array in matrices.items():
        if max(array.shape) == 3 * min(array.shape):
            same = [n for n, a in matrices.items() if n != name and max(array.shape) in a.shape]
            if same:
                names = ", ".join(sorted([name, same[0]]))
                return [f"{names} have the shapes of a GRU (three blocks of weights, not four)"]
    return []


def quantised(archive: Archive) -> Iterator[str]:
    """A sentence for the recurrent matrices that are there as integers."""
    integers = [name for name, array in archive.tensors.items() if array.dtype.kind in "iu"]
    for name in integers:
        if archive.tensors[name].ndim == 2 and _is_recurrent(name):
            dtype = archive.tensors[name].dtype.name
            yield f"{name} is quantised: {QUANTISED.format(dtype)}"
            return


def _is_recurrent(name: str) -> bool:
    """Whether some layout calls a recurrent matrix this, maybe with a word more."""
    stem = name.removesuffix("_quantized").removesuffix("_int8")
    for row in ROWS:
        for tensor, pattern in row.name_patterns(1):
            if tensor.holds in RECURRENT and pattern.fullmatch(stem):
                return True
    return False
