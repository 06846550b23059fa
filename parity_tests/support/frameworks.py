"""Does a framework's own LSTM do what a row of the table says? The same weights, run by both.

This module needs NumPy and numpy_lstm alone, so that it also serves where only an old framework
can be installed (`parity_tests.campaigns.old_frameworks_check`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.layouts.arrangement import to_canonical
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM, RuntimeFacts
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.proof.proof import run_canonical
from numpy_lstm.porting.proof.run_as_placed import Outputs, moves_of_twins, run_as_placed
from numpy_lstm.roundoff import distance

T, N, I, H, P = 4, 2, 3, 7, 5
"""Sizes: all different, and 2H and 2P differ from every other too."""
Inputs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""x [T, N, I], h0 [layers * D, N, P], c0 [layers * D, N, H]."""


def random_model(config: LSTM, dtype: type, forget_bias: float = 0.0) -> CanonicalLSTM:
    """Random weights, twice as large as usual, and random biases."""
    rng = np.random.default_rng(1)
    parameters = {}
    for name, shape in config.parameter_shapes().items():
        sizes = tuple(size for _, size in shape)
        fan_in = sizes[-1] if name.startswith(("weight_ih", "weight_hh", "weight_hr")) else 1
        parameters[name] = (rng.standard_normal(sizes) * 2 / fan_in**0.5).astype(dtype)
    return CanonicalLSTM(config, parameters, RuntimeFacts(forget_bias=forget_bias))


def random_inputs(config: LSTM, dtype: type) -> Inputs:
    """Random inputs and initial states."""
    rng = np.random.default_rng(2)
    L = len(config.suffixes)
    shapes = ((T, N, config.input_size), (L, N, config.output_size), (L, N, config.hidden_size))
    x, h0, c0 = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, h0, c0


def renamed(lstm: PlacedLSTM, prefixes: tuple[str, ...]) -> PlacedLSTM:
    """The same LSTM under other prefixes, layer by layer."""
    other = replace(lstm, prefixes=prefixes)
    names = {old.name: new.name for old, new in zip(lstm.places, other.places, strict=True)}
    return replace(other, tensors={names[name]: array for name, array in lstm.tensors.items()})


def worst_distance(
    lstm: PlacedLSTM,
    inputs: Inputs,
    outputs: Outputs,
    canonical: Callable[[CanonicalLSTM, Inputs], Outputs] | None = None,
) -> float:
    """The largest distance of y, h_n and c_n, in roundoffs of the framework's dtype.

    They are judged twice: by `lstm.run` of the very tensors, and by what `canonical` makes of the
    canonical parameters (`canonical_run` when None), both in float64.
    """
    canonical = canonical or canonical_run
    x, h0, c0 = (array.astype(np.float64) for array in inputs)
    exact = run_as_placed(lstm, x, h0, c0)
    noise = moves_of_twins(lstm, (x, h0, c0), exact, lstm.dtype, seed=0)
    worst = 0.0
    for reference in (exact, canonical(to_canonical(lstm), (x, h0, c0))):
        for actual, expected, moves in zip(outputs, reference, noise, strict=True):
            assert actual.dtype == lstm.dtype, f"it ran in {actual.dtype}, not {lstm.dtype}"
            worst = max(worst, distance(actual, expected.astype(lstm.dtype), moves))
    return worst


def canonical_run(model: CanonicalLSTM, inputs: Inputs) -> Outputs:
    """y, h_n and c_n by the package's own LSTM, in the dtype of the inputs."""
    return run_canonical(model, *inputs)


def nested(tensors: Mapping[str, np.ndarray], separator: str) -> dict:
    """Names split at the separator, as dictionaries within dictionaries."""
    tree: dict = {}
    for name, array in tensors.items():
        *path, last = name.split(separator)
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = array
    return tree
