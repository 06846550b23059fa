"""Files of every layout are recognised as what they are; what cannot be told is ambiguous."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.arrangement import VARIANTS, to_canonical, to_layout
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM, RuntimeFacts
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.layouts.table import ROWS
from numpy_lstm.porting.recognise.recognition import recognise
from parity_tests.support.problems import random_parameters

FILES = 50
SURROUNDINGS = {
    ".": {"embedding.weight": (11, 3), "head.weight": (7, 5), "head.bias": (7,), "norm.bias": (5,)},
    "/": {"embedding/embeddings": (11, 3), "dense/kernel": (5, 20), "dense/bias": (20,)},
    "_": {"embedding_weight": (11, 3), "dense0_weight": (7, 5), "dense0_bias": (7,)},
}
"""What else a model of the same framework has in its file; the dense kernel has LSTM-like sizes."""


def random_model(row: Layout, rng: np.random.Generator) -> CanonicalLSTM:
    """An LSTM that uses what the row has a place for; sizes may coincide."""
    several = bool(row.stacked) or row.layers_in_names
    H = int(rng.integers(2, 9))
    config = LSTM(
        int(rng.integers(1, 9)),
        H,
        int(rng.integers(1, 4)) if several else 1,
        bias=row.bias_required or bool(rng.random() < 0.8),
        bidirectional=row.both_directions and bool(rng.random() < 0.5),
        proj_size=int(rng.integers(1, H)) if row.holds("W_hr") and rng.random() < 0.3 else 0,
        variant=VARIANTS[
            row.holds("W_ch") and bool(rng.random() < 0.3),
            row.coupled and bool(rng.random() < 0.3),
        ],
    )
    config = replace(config, bias_pair=config.bias and row.bias_pair)
    dtype = rng.choice([np.float32, np.float64])
    parameters = random_parameters(config.parameter_shapes(), rng, dtype)
    told = row.forget_bias if isinstance(row.forget_bias, float) else 0.0
    return CanonicalLSTM(config, parameters, RuntimeFacts(forget_bias=told))


def random_file(row: Layout, rng: np.random.Generator) -> tuple[Archive, PlacedLSTM]:
    """An LSTM among other tensors, as models of this framework are saved."""
    lstm = to_layout(fit_to_layout(random_model(row, rng), row)[0], row)
    style = (row.stacked or row.single or ".")[-1]
    word = rng.choice(["", "model", "decoder", "encoder_lstm" if row.prefix else "rnn"])
    outer = f"{word}{style}" if word else ""
    tensors = {outer + name: array for name, array in lstm.tensors.items()}
    if rng.random() < 0.7:
        others = SURROUNDINGS[style]
        tensors |= {name: rng.standard_normal(shape) for name, shape in others.items()}
    names = list(tensors)
    rng.shuffle(names)
    prefixes = tuple(outer + prefix for prefix in lstm.prefixes)
    return Archive("npz", {n: tensors[n] for n in names}), replace(lstm, prefixes=prefixes)


def verdict(row: Layout, archive: Archive, truth: PlacedLSTM) -> str:
    """Of the likeliest reading: "right", and whether that is what it is called."""
    findings = recognise(archive)
    if len(findings) != 1:
        return f"{len(findings)} found"
    (finding,) = findings
    if finding.best.misfit:
        return f"refused: {finding.best.misfit}"
    weights = to_canonical(replace(truth, tensors=archive.tensors)).digest()
    readings = {to_canonical(h.lstm).digest() for h in finding.equally_likely}
    if finding.ambiguous and weights not in readings:
        return f"ambiguous without it: {finding.best.lstm.layout.key}"
    if to_canonical(finding.best.lstm).digest() != weights:
        key = finding.best.lstm.layout.key
        return f"{'ambiguous, first' if finding.ambiguous else 'misread as'} {key}"
    return "right, ambiguous" if finding.ambiguous else "right"


def verdicts(files: int, change) -> Counter[str]:
    """Of so many files a layout, after a change."""
    return Counter(
        verdict(row, *change(*random_file(row, np.random.default_rng([seed, k]))))
        for k, row in enumerate(ROWS)
        for seed in range(files)
    )


def test_98_of_100_files_have_their_layout_first_and_none_is_confidently_misread():
    counts = verdicts(FILES, lambda archive, truth: (archive, truth))
    print(dict(counts))
    assert len(ROWS) >= 20
    assert counts["right"] + counts["right, ambiguous"] >= 0.98 * FILES * len(ROWS), counts
    assert not [what for what in counts if what.startswith("misread")], counts
    assert not [what for what in counts if "found" in what or "without" in what], counts
    refused = [what for what in counts if what.startswith("refused")]
    assert all("a GRU, or an LSTM with coupled gates?" in what for what in refused), counts
    # Keras and Haste, and PyTorch's cell, Equinox and Core ML, share their names.
    assert counts["right"] >= 0.9 * FILES * len(ROWS), counts


@pytest.mark.parametrize("separator", list("./_:"))
def test_other_separators_before_the_names_mislead_nobody(separator):
    """What a person called the LSTM says nothing of the framework."""

    def renamed(archive: Archive, truth: PlacedLSTM) -> tuple[Archive, PlacedLSTM]:
        outer = {p: f"{'lstm' * bool(truth.layout.prefix)}net{separator}{k}{separator}"
                 for k, p in enumerate(dict.fromkeys(truth.prefixes))}  # fmt: skip
        own = {
            place.name: outer[prefix] + place.name.removeprefix(prefix)
            for place in truth.places
            for prefix in [truth.prefixes[place.layer]]
        }
        tensors = {own.get(name, name): array for name, array in archive.tensors.items()}
        prefixes = tuple(outer[prefix] for prefix in truth.prefixes)
        changed = replace(truth, tensors=tensors, prefixes=prefixes)
        return replace(archive, tensors=tensors), changed

    counts = verdicts(4, renamed)
    assert sum(counts.values()) == 4 * len(ROWS)
    assert not [what for what in counts if what.startswith("misread")], counts
    assert counts["right"] >= 0.6 * 4 * len(ROWS), counts
