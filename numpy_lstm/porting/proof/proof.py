"""Proof that weights arrived: an LSTM and its conversion, both run, judged in units of roundoff.

Source and destination are run straight from their own tensors (`lstm`), the destination also by
this package's `lstm_forward`, on random inputs and non-zero initial states; y, h and c must be
within K roundoffs of the source's outputs in float64. (`lstm_forward` knows sigmoid and tanh; with
other activations it is left out.) Learned initial states, which those take the place of, are
compared as they are. Whether the way back would give the very bits of the source is said beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import lstm_forward
from numpy_lstm.porting.layouts.arrangement import to_canonical
from numpy_lstm.porting.layouts.canonical import INITIAL_STATES, SIGMOID_TANH, CanonicalLSTM
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.proof.run_as_placed import Outputs, run_as_placed, working_dtype
from numpy_lstm.roundoff import K, Noise, distance

TWINS = 4
NAMES = ("y", "h_n", "c_n")
InitialStates = Literal[
    "none", "same", "different", "only in the source", "only in the destination"
]
RESOLUTION = 0.01
"""Errors that must be visible for a proof. Weights in a wrong order move outputs by half their
range and more; a proof that would not see one part in a hundred proves nothing."""


class OtherSizes(InputError):
    """Two LSTMs that cannot be the same."""


@dataclass(frozen=True)
class Inputs:
    """What the LSTMs were run on: standard normal numbers of this seed."""

    seed: int = 0
    T: int = 5
    N: int = 3

    def draw(self, model: CanonicalLSTM) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x [T, N, I], h0 [layers * D, N, P] and c0 [layers * D, N, H], in float64."""
        c, rng = model.config, np.random.default_rng(self.seed)
        L = len(c.suffixes)
        shapes = (
            (self.T, self.N, c.input_size),
            (L, self.N, c.output_size),
            (L, self.N, c.hidden_size),
        )
        x, h0, c0 = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
        return x.astype(np.float64), h0.astype(np.float64), c0.astype(np.float64)


@dataclass(frozen=True)
class Proof:
    """What a comparison found.

    Args:
        reversible: whether the destination, converted back, is the source bit for bit.
        distances: by run ("source", "destination", "numpy_lstm") and output, in roundoffs.
        resolution: the smallest error that would have been seen, as a part of the largest output.
        inputs: what they were run on.
        initial_states: how the learned ones compare, which are no part of what was run.
    """

    reversible: bool
    distances: Mapping[str, Mapping[str, float]]
    resolution: float
    inputs: Inputs
    initial_states: InitialStates = "none"

    @property
    def worst(self) -> float:
        """The largest distance."""
        return max(far for run in self.distances.values() for far in run.values())

    @property
    def determined(self) -> bool:
        """Whether a wrong weight would have been seen at all."""
        return self.resolution <= RESOLUTION

    @property
    def passed(self) -> bool:
        """Whether the weights arrived."""
        return self.determined and self.worst <= K and self.initial_states != "different"


@np.errstate(over="ignore", invalid="ignore")  # weights near the largest number: undetermined
def prove(source: PlacedLSTM, destination: PlacedLSTM, inputs: Inputs = Inputs()) -> Proof:
    """Run both and compare.

    The arithmetic is in the narrower of the two dtypes, float32 at least; it is whose roundoff is
    the unit.

    Raises:
        OtherSizes: the two differ in sizes.
    """
    ours, theirs = to_canonical(source), to_canonical(destination)
    sizes = [
        (c.input_size, c.hidden_size, c.num_layers, c.directions, c.proj_size)
        for c in (ours.config, theirs.config)
    ]
    if sizes[0] != sizes[1]:
        raise OtherSizes(
            f"sizes (I, H, layers, directions, proj_size): the source has {sizes[0]}, the"
            f" destination {sizes[1]}"
        )
    dtype = min((working_dtype(source), working_dtype(destination)), key=lambda d: d.itemsize)
    given = inputs.draw(ours)
    exact = run_as_placed(source, *given)
    noise = _noise(source, given, exact, dtype)
    x, h0, c0 = (array.astype(dtype) for array in given)
    runs = {
        "source": run_as_placed(source, x, h0, c0),
        "destination": run_as_placed(destination, x, h0, c0),
    }
    if theirs.facts.activations == SIGMOID_TANH:
        runs["numpy_lstm"] = run_canonical(theirs, x, h0, c0)
    distances = {
        name: {
            output: distance(actual.astype(np.float64), reference, moves, dtype)
            for output, actual, reference, moves in zip(NAMES, outputs, exact, noise, strict=True)
        }
        for name, outputs in runs.items()
    }
    back = _comes_back(ours, theirs, source.layout)
    resolution = _resolution(exact, noise, dtype)
    return Proof(back, distances, resolution, inputs, _initial_states(ours, theirs))


def _initial_states(ours: CanonicalLSTM, theirs: CanonicalLSTM) -> InitialStates:
    """Whether both have the same learned initial states, up to rounding to the narrower dtype."""
    if ours.initial_h is None or theirs.initial_h is None:
        if ours.initial_h is theirs.initial_h:
            return "none"
        return "only in the source" if theirs.initial_h is None else "only in the destination"
    narrower = min(ours.dtype, theirs.dtype, key=lambda dtype: dtype.itemsize)
    a, b = (model.astype(narrower).arrays() for model in (ours, theirs))
    return "same" if all(a[n].tobytes() == b[n].tobytes() for n in INITIAL_STATES) else "different"


def _comes_back(ours: CanonicalLSTM, theirs: CanonicalLSTM, layout: Layout) -> bool:
    """Whether the destination, converted back to the source's dtype too, would be the source."""
    try:
        back, _ = fit_to_layout(theirs.astype(ours.dtype), layout)
    except InputError:
        return False
    return back.digest() == ours.digest()


def run_canonical(model: CanonicalLSTM, x: np.ndarray, h0: np.ndarray, c0: np.ndarray) -> Outputs:
    """`lstm_forward`, with the forget bias of run time added to the bias; activations usual."""
    parameters = {name: p.astype(x.dtype) for name, p in model.parameters.items()}
    if model.facts.forget_bias:
        H, first = model.config.hidden_size, model.config.bias_names[0]
        for suffix in model.config.suffixes:
            parameters[first + suffix][H : 2 * H] += model.facts.forget_bias
    outputs, _ = lstm_forward(model.config, parameters, x, h0, c0)
    return outputs


def _noise(
    source: PlacedLSTM,
    given: tuple[np.ndarray, np.ndarray, np.ndarray],
    exact: Outputs,
    dtype: np.dtype,
) -> list[list[np.ndarray]]:
    """By output: how far it moves in each twin whose weights, inputs and activations are moved."""
    twins = []
    for k in range(TWINS):
        noise = Noise([1, k], dtype)
        x, h0, c0 = (noise.moved(array) for array in given)
        twin = run_as_placed(source, x, h0, c0, noise)
        twins.append([(a - b) / noise.amplitude for a, b in zip(twin, exact, strict=True)])
    return [list(moves) for moves in zip(*twins, strict=True)]


def _resolution(exact: Outputs, noise: list[list[np.ndarray]], dtype: np.dtype) -> float:
    """K units, relative to each output's largest magnitude; the largest of the three."""
    parts = []
    for reference, moves in zip(exact, noise, strict=True):
        largest = np.abs(reference).max()
        moved = max(np.abs(move).max() for move in moves)
        parts.append(K * max(moved, largest * np.finfo(dtype).eps / 2) / max(largest, 1e-30))
    return float(max(parts))


def verdict(proof: Proof) -> str:
    """One sentence for a person."""
    if not np.isfinite(proof.resolution):
        return "these weights overflow, so that no outputs can be compared"
    if not proof.determined:
        return (
            f"these weights leave too few digits to tell: an error of {proof.resolution:.1%} of the"
            " largest output would not be seen"
        )
    if proof.initial_states == "different":
        return "the learned initial states differ"
    return f"largest distance {proof.worst:.3g} roundoffs of {K:g} allowed"
