"""Random LSTMs of every layout, in files as models of its framework are saved, whole and broken."""

from dataclasses import replace

import numpy as np

from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.arrangement import VARIANTS, to_layout
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM, RuntimeFacts
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from parity_tests.support.problems import random_parameters

SURROUNDINGS = {
    ".": {"embedding.weight": (11, 3), "head.weight": (7, 5), "head.bias": (7,), "norm.bias": (5,)},
    "/": {"embedding/embeddings": (11, 3), "dense/kernel": (5, 20), "dense/bias": (20,)},
    "_": {"embedding_weight": (11, 3), "dense0_weight": (7, 5), "dense0_bias": (7,)},
}
"""What else a model of the same framework has in its file; the dense kernel has LSTM-like sizes."""


def random_model(row: Layout, rng: np.random.Generator) -> CanonicalLSTM:
    """An LSTM that uses what the row has a place for; sizes may coincide."""
    several = row.several_layers
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
    facts = RuntimeFacts(forget_bias=row.fixed_forget_bias)
    return CanonicalLSTM(config, parameters, facts)


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


def rich_model(row: Layout, seed: int) -> CanonicalLSTM:
    """One with whatever the row has a place for: second biases that say little, initial states,
    activations, a forget bias at run time."""
    rng = np.random.default_rng([seed, 3])
    made = random_model(row, rng)
    c, parameters, facts = made.config, dict(made.parameters), made.facts
    if c.bias_pair and rng.random() < 0.7:
        for suffix in c.suffixes:
            b = parameters[f"bias_hh{suffix}"]
            b[...] = 0
            b[c.hidden_size : 2 * c.hidden_size] = 1.0 if seed % 2 else 0.0
    if row.forget_bias == "given":
        facts = replace(facts, forget_bias=float(rng.choice([0.0, 1.0, 2.5])))
    if row.activations == "given" and rng.random() < 0.3:
        facts = replace(facts, activations=("hard_sigmoid(0.2, 0.5)", "tanh", "relu"))
    states = {}
    if row.holds("initial_h") and rng.random() < 0.5:
        L = len(c.suffixes)
        states["initial_h"] = rng.standard_normal((L, c.output_size)).astype(made.dtype)
        states["initial_c"] = rng.standard_normal((L, c.hidden_size)).astype(made.dtype)
    return CanonicalLSTM(c, parameters, facts, **states)


def broken_at_random(tensors: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """One to three tensors gone, shortened, transposed, reshaped, of another dtype, or empty."""
    for _ in range(rng.integers(1, 4)):
        name = list(tensors)[rng.integers(len(tensors))]
        x = tensors[name]
        changes = (
            x[: max(0, len(x) - int(rng.integers(1, 4)))],
            np.ascontiguousarray(x.T),
            x.reshape(-1),
            x[None],
            x.astype([np.float16, np.float64, np.int8][rng.integers(3)]),
            np.zeros((0,) * x.ndim, x.dtype),
            x[: max(1, len(x) * 3 // 4)],
        )
        k = int(rng.integers(len(changes) + 1))
        if k < len(changes):
            tensors[name] = changes[k]
        elif len(tensors) > 1:
            del tensors[name]
