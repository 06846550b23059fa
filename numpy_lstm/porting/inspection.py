"""A report of what is in a file, for a person or as JSON."""

from typing import Any

import numpy as np

from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.recognise.defects import find_defects
from numpy_lstm.porting.recognise.expected import expected_tensors
from numpy_lstm.porting.recognise.facts import missing_facts
from numpy_lstm.porting.recognise.naming import names_text
from numpy_lstm.porting.recognise.other_tensors.leftovers import tensors_and_neighbours
from numpy_lstm.porting.recognise.readings import FoundLSTM, Reading
from numpy_lstm.porting.recognise.recognition import survey

MOST_LAYOUTS = 6
"""The layouts that are listed for an LSTM at most, each with its likeliest reading."""


def inspect(archive: Archive) -> dict[str, Any]:
    """Tensors, LSTMs with their ranked readings, and the facts that the file does not hold.

    Returns:
        What JSON can hold: `container`, `notes`, `tensors` and `lstms`.
    """
    surveyed = survey(archive)
    return {
        "container": archive.container,
        "notes": [*archive.notes, *surveyed.others],
        "tensors": [_tensor_report(name, array) for name, array in archive.tensors.items()],
        "lstms": [_lstm_report(found, archive) for found in surveyed.lstms],
    }


def _tensor_report(name: str, array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind in "fcV":  # V: bfloat16
        finite = np.isfinite(array)
    else:
        finite = np.ones(array.shape, bool)
    values = array[finite]
    smallest, largest, trouble = "", "", ""
    if values.size:
        smallest, largest = f"{values.min():.4g}", f"{values.max():.4g}"
    if values.size < array.size:
        trouble = f"{array.size - values.size} not finite"
    return {
        "name": name,
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "min": smallest,
        "max": largest,
        "trouble": trouble,
    }


def _lstm_report(found: FoundLSTM, archive: Archive) -> dict[str, Any]:
    lstm = found.best.lstm
    stored = archive.facts.get(lstm.prefixes[0])
    defects = []
    if not found.best.guess:
        defects = find_defects(tensors_and_neighbours(lstm, archive), expected_tensors(lstm))
    return {
        "select": found.label,
        "ambiguous": found.ambiguous,
        "guess": bool(found.best.guess),
        "names": names_text(found.best.guess),
        "problems": [str(defect) for defect in defects],
        "activations": None if stored is None else list(stored.activations),
        "unsaid": list(missing_facts(lstm, archive).values()),
        "hypotheses": [
            {
                "layout": reading.lstm.layout.key,
                "title": reading.lstm.layout.title,
                "fits": not reading.misfit,
                "reasons": list(reading.reasons),
            }
            for reading in _likeliest_by_layout(found)
        ],
    }


def _likeliest_by_layout(found: FoundLSTM) -> list[Reading]:
    """The likeliest reading in each layout, up to `MOST_LAYOUTS`."""
    result: dict[str, Reading] = {}
    for reading in found.readings:
        result.setdefault(reading.lstm.layout.key, reading)
    return list(result.values())[:MOST_LAYOUTS]
