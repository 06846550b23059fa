"""Proof that weights arrived: an LSTM and its conversion, both run, judged in units of roundoff.

Source and destination are run straight from their own tensors (`run_as_placed`), the destination
also by this package's `lstm_forward`, on random inputs and non-zero initial states; y, h and c must
be within K roundoffs of the source's outputs in float64. (`lstm_forward` has sigmoid and tanh; with
other activations it is left out.) Learned initial states, instead of which the random ones are
taken, are compared as they are. Whether the way back would give the very bits of the source is a
part of the proof that decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import lstm_forward
from numpy_lstm.porting.layouts.arrangement import to_canonical
from numpy_lstm.porting.layouts.bias_pair import with_forget_bias
from numpy_lstm.porting.layouts.canonical import INITIAL_STATES, SIGMOID_TANH, CanonicalLSTM
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.proof.run_as_placed import (
    Outputs,
    moves_of_twins,
    run_as_placed,
    working_dtype,
)
from numpy_lstm.roundoff import K, distance

OUTPUT_NAMES = ("y", "h_n", "c_n")
NOISE_SEED = 1
InitialStates = Literal[
    "none", "same", "different", "only in the source", "only in the destination"
]
RESOLUTION = 0.01
"""The largest error, as a part of the largest output, that a proof may overlook. Weights in a wrong
order move outputs by half their range and more; a proof that would not see one part in a hundred
proves nothing."""


class DifferentSizes(InputError):
    """Two LSTMs of different sizes, which cannot be the same."""


@dataclass(frozen=True)
class RandomInputs:
    """What the LSTMs of a proof are run on: standard normal numbers of a seed.

    Args:
        seed: of the random numbers.
        T: the number of time steps.
        N: the number of sequences.
    """

    seed: int = 0
    T: int = 5
    N: int = 3

    def draw(self, model: CanonicalLSTM) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x [T, N, I], h0 [layers * D, N, P] and c0 [layers * D, N, H], in float64.

        They are rounded to float32, so that every arithmetic is given the same numbers.
        """
        config = model.config
        rng = np.random.default_rng(self.seed)
        layers = len(config.suffixes)
        shapes = (
            (self.T, self.N, config.input_size),
            (layers, self.N, config.output_size),
            (layers, self.N, config.hidden_size),
        )
        x, h0, c0 = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
        return x.astype(np.float64), h0.astype(np.float64), c0.astype(np.float64)


USUAL_INPUTS = RandomInputs()


@dataclass(frozen=True)
class Proof:
    """What a comparison found.

    Args:
        reversible: whether the destination, converted back, is the source bit for bit.
        distances: by run ("source", "destination", "numpy_lstm") and output, in roundoffs.
        resolution: the smallest error that would have been seen, as a part of the largest output.
        inputs: what the LSTMs were run on.
        initial_states: how the learned ones compare, which are no part of what was run.
    """

    reversible: bool
    distances: Mapping[str, Mapping[str, float]]
    resolution: float
    inputs: RandomInputs
    initial_states: InitialStates = "none"

    @property
    def worst(self) -> float:
        """The largest of all distances."""
        return max(max(by_output.values()) for by_output in self.distances.values())

    @property
    def determined(self) -> bool:
        """Whether a wrong weight would have been seen at all."""
        return self.resolution <= RESOLUTION

    @property
    def passed(self) -> bool:
        """Whether the destination computes what the source does."""
        return self.determined and self.worst <= K and self.initial_states != "different"


@np.errstate(over="ignore", invalid="ignore")  # weights near the largest number: undetermined
def prove(
    source: PlacedLSTM, destination: PlacedLSTM, inputs: RandomInputs = USUAL_INPUTS
) -> Proof:
    """Run two LSTMs and compare their outputs.

    The arithmetic is in the narrower of the two dtypes, float32 at least; it is whose roundoff is
    the unit.

    Raises:
        DifferentSizes: the two differ in sizes.
    """
    before, after = to_canonical(source), to_canonical(destination)
    _check_sizes(before, after)
    dtype = _narrower(working_dtype(source), working_dtype(destination))
    given = inputs.draw(before)
    exact = run_as_placed(source, *given)
    noise = moves_of_twins(source, given, exact, dtype, NOISE_SEED)
    x, h0, c0 = (array.astype(dtype) for array in given)
    runs = {
        "source": run_as_placed(source, x, h0, c0),
        "destination": run_as_placed(destination, x, h0, c0),
    }
    if after.facts.activations == SIGMOID_TANH:
        runs["numpy_lstm"] = run_canonical(after, x, h0, c0)
    distances = {
        run: {
            name: distance(actual.astype(np.float64), reference, moves, dtype)
            for name, actual, reference, moves in zip(
                OUTPUT_NAMES, outputs, exact, noise, strict=True
            )
        }
        for run, outputs in runs.items()
    }
    return Proof(
        reversible=_comes_back(before, after, source.layout),
        distances=distances,
        resolution=_resolution(exact, noise, dtype),
        inputs=inputs,
        initial_states=_initial_states(before, after),
    )


def _check_sizes(before: CanonicalLSTM, after: CanonicalLSTM) -> None:
    sizes = []
    for c in (before.config, after.config):
        sizes.append((c.input_size, c.hidden_size, c.num_layers, c.directions, c.proj_size))
    if sizes[0] != sizes[1]:
        raise DifferentSizes(
            f"sizes (I, H, layers, directions, proj_size): the source has {sizes[0]}, the"
            f" destination {sizes[1]}"
        )


def _narrower(a: np.dtype, b: np.dtype) -> np.dtype:
    return b if b.itemsize < a.itemsize else a


def _initial_states(before: CanonicalLSTM, after: CanonicalLSTM) -> InitialStates:
    """Whether both have the same learned initial states, up to rounding to the narrower dtype."""
    if before.initial_h is None and after.initial_h is None:
        return "none"
    if after.initial_h is None:
        return "only in the source"
    if before.initial_h is None:
        return "only in the destination"
    narrower = _narrower(before.dtype, after.dtype)
    a, b = (model.astype(narrower).arrays() for model in (before, after))
    same = all(a[name].tobytes() == b[name].tobytes() for name in INITIAL_STATES)
    return "same" if same else "different"


def _comes_back(before: CanonicalLSTM, after: CanonicalLSTM, layout: Layout) -> bool:
    """Whether the destination, converted back to the source's dtype too, would be the source."""
    try:
        back, _ = fit_to_layout(after.astype(before.dtype), layout)
    except InputError:
        return False
    return back.digest() == before.digest()


def run_canonical(model: CanonicalLSTM, x: np.ndarray, h0: np.ndarray, c0: np.ndarray) -> Outputs:
    """The outputs of `lstm_forward` in the dtype of x, for a model with the usual activations."""
    parameters = {name: p.astype(x.dtype) for name, p in model.parameters.items()}
    parameters = with_forget_bias(parameters, model.config, model.facts.forget_bias)
    outputs, _ = lstm_forward(model.config, parameters, x, h0, c0)
    return outputs


def _resolution(exact: Outputs, noise: list[list[np.ndarray]], dtype: np.dtype) -> float:
    """K units, relative to each output's largest magnitude; the largest of the three."""
    parts = []
    for reference, moves in zip(exact, noise, strict=True):
        largest = np.abs(reference).max()
        moved = max(np.abs(move).max() for move in moves)
        parts.append(K * max(moved, largest * np.finfo(dtype).eps / 2) / max(largest, 1e-30))
    return float(max(parts))


def verdict(proof: Proof) -> str:
    """One sentence for a person about whether the weights arrived."""
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
