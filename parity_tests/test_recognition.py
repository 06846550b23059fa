"""Files of every layout are recognised as what they are; what cannot be told is ambiguous."""

from collections import Counter
from dataclasses import replace

import numpy as np

from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.archive import Archive
from numpy_lstm.porting.arrangement import to_canonical, to_native
from numpy_lstm.porting.canonical import CanonicalLSTM, Facts
from numpy_lstm.porting.layouts import Layout, NativeLSTM
from numpy_lstm.porting.losses import fitted
from numpy_lstm.porting.recognition import recognise
from numpy_lstm.porting.table import ROWS
from parity_tests.problems import random_parameters

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
        peephole=row.holds("W_ch") and bool(rng.random() < 0.3),
        coupled=row.coupled and bool(rng.random() < 0.3),
    )
    config = replace(config, bias_pair=config.bias and row.bias_pair)
    dtype = rng.choice([np.float32, np.float64])
    parameters = random_parameters(config.parameter_shapes(), rng, dtype)
    told = row.forget_bias if isinstance(row.forget_bias, float) else 0.0
    return CanonicalLSTM(config, parameters, Facts(forget_bias=told))


def random_file(row: Layout, rng: np.random.Generator) -> tuple[Archive, NativeLSTM]:
    """An LSTM among other tensors, as models of this framework are saved."""
    native = to_native(fitted(random_model(row, rng), row)[0], row)
    style = (row.stacked or row.single or ".")[-1]
    word = rng.choice(["", "model", "decoder", "encoder_lstm" if row.prefix else "rnn"])
    outer = f"{word}{style}" if word else ""
    tensors = {outer + name: array for name, array in native.tensors.items()}
    if rng.random() < 0.7:
        others = SURROUNDINGS[style]
        tensors |= {name: rng.standard_normal(shape) for name, shape in others.items()}
    names = list(tensors)
    rng.shuffle(names)
    prefixes = tuple(outer + prefix for prefix in native.prefixes)
    return Archive("npz", {n: tensors[n] for n in names}), replace(native, prefixes=prefixes)


def verdict(row: Layout, seed: int) -> str:
    rng = np.random.default_rng([seed, ROWS.index(row)])
    archive, truth = random_file(row, rng)
    findings = recognise(archive)
    if len(findings) != 1:
        return f"{len(findings)} found"
    (finding,) = findings
    if finding.ambiguous:
        keys = {h.native.layout.key for h in finding.equals}
        return "ambiguous" if row.key in keys else f"ambiguous without it: {keys}"
    best = finding.best.native
    same = (
        to_canonical(best).digest()
        == to_canonical(replace(truth, tensors=archive.tensors)).digest()
    )
    return "right" if same else f"misread as {best.layout.key}: {best.prefixes}"


def test_98_of_100_files_are_recognised_and_none_is_confidently_misread():
    verdicts = {row.key: Counter(verdict(row, seed) for seed in range(FILES)) for row in ROWS}
    wrong = {
        key: counts for key, counts in verdicts.items() if counts.keys() - {"right", "ambiguous"}
    }
    assert not wrong
    assert len(verdicts) >= 20
    right = sum(counts["right"] for counts in verdicts.values())
    assert right >= 0.98 * FILES * len(ROWS), verdicts
    # A bare "kernel" could be Keras' or Haste's; more often, names say it.
    assert min(counts["right"] for counts in verdicts.values()) >= 0.85 * FILES, verdicts
