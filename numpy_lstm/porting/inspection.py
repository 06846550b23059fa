"""A report of what is in a file, for a person or as JSON."""

from typing import Any

import numpy as np

from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.recognise.defects import expected_tensors, problems
from numpy_lstm.porting.recognise.recognition import (
    FoundLSTM,
    missing_facts,
    own_tensors,
    recognise,
)

SHOWN = 6
"""Layouts that are listed for an LSTM, each with its likeliest reading."""


def inspect(archive: Archive) -> dict[str, Any]:
    """Tensors, LSTMs with their ranked readings, and the facts that the file does not hold.

    Returns:
        What JSON can hold: `container`, `notes`, `tensors` and `lstms`.
    """
    return {
        "container": archive.container,
        "notes": list(archive.notes),
        "tensors": [_tensor(name, array) for name, array in archive.tensors.items()],
        "lstms": [_finding(finding, archive) for finding in recognise(archive)],
    }


def _tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    finite = np.isfinite(array) if array.dtype.kind in "fcV" else np.ones(array.shape, bool)
    values = array[finite]
    ends = (f"{values.min():.4g}", f"{values.max():.4g}") if values.size else ("", "")
    bad = int((~finite).sum())
    return {
        "name": name,
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "min": ends[0],
        "max": ends[1],
        "trouble": f"{bad} not finite" if bad else "",
    }


def _finding(finding: FoundLSTM, archive: Archive) -> dict[str, Any]:
    lstm = finding.best.lstm
    said = archive.facts.get(lstm.prefixes[0])
    likeliest = {h.lstm.layout.key: h for h in reversed(finding.hypotheses)}
    likeliest = dict(list(reversed(likeliest.items()))[:SHOWN])
    wrong = [
        str(problem) for problem in problems(own_tensors(lstm, archive), expected_tensors(lstm))
    ]
    return {
        "select": finding.label,
        "ambiguous": finding.ambiguous,
        "problems": wrong,
        "activations": list(said.activations) if said else None,
        "unsaid": list(missing_facts(lstm, archive).values()),
        "hypotheses": [
            {
                "layout": h.lstm.layout.key,
                "title": h.lstm.layout.title,
                "fits": not h.problem,
                "reasons": list(h.reasons),
            }
            for h in likeliest.values()
        ],
    }
