"""One problem, given to an LSTM, to torch, and to our plain code with faults in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from numpy_lstm.roundoff import K, distance_where_finite, roundoff
from torch_oracle.diagnosis.faults.fault import faulty
from torch_oracle.diagnosis.hypothesis import Hypothesis, HypothesisKey
from torch_oracle.diagnosis.injection import CannotEdit
from torch_oracle.diagnosis.replay import slope
from torch_oracle.proof.compare import noise_moves
from torch_oracle.proof.numpy_trace import plain_trace
from torch_oracle.proof.random_problems import Sizes
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import Problem, Trace, order
from torch_oracle.proof.witnesses import differentiable, gradient_name

NAMING = 1000.0
"""Largest distance, in the units of `Probe`, at which two faulty programs give the same numbers.

K is not enough, since what a faulty program does to rounding is not measured. It need not be small:
two faults that are told apart differ by far more than 1000 roundoffs (a test measures by how much).
"""

Observations = dict[str, np.ndarray]
"""The numbers of one run, by what they are: "da_f at step 3", "dW_ih of gate f", "y"."""


@runtime_checkable
class Subject(Protocol):
    """An LSTM to diagnose, such as an `adapters.Adapter`."""

    def problem(self, seed: int, sizes: Sizes) -> Problem:
        """A random problem of the sizes T, N, I, H, or as near to them as the LSTM can take."""
        ...

    def run(self, problem: Problem) -> Trace:
        """The numbers that the LSTM computes and returns."""
        ...


def observations(trace: Trace, reference: Trace) -> Observations:
    """All numbers of a trace, in the order in which the reference computes them.

    Args:
        trace: of the LSTM; what it does not hold is left out.
        reference: the trace whose order counts: torch's, or the same trace.
    """
    result: Observations = {}
    for name, t in order(reference):
        if t is None and name in trace.totals:
            result |= _by_gate(name, trace.totals[name])
        if t is not None and name in trace.steps:
            result[f"{name} at step {t}"] = trace.steps[name][t]
    return result


def _by_gate(name: str, total: np.ndarray) -> Observations:
    """A total over the steps; of a gradient with a block for each gate, views of these blocks."""
    if name.startswith(("dW_ih", "dW_hh", "db")) and name != "db_v":
        blocks = zip("ifgo", np.split(total, 4), strict=True)
        return {f"{name} of gate {gate}": block for gate, block in blocks}
    return {name: total}


@dataclass
class Probe:
    """One problem, and how far what the LSTM makes of it is from what each hypothesis predicts.

    Args:
        problem: what the LSTM was given.
        observed: what it returned.
        expected: what torch makes of the same problem.
        units: for each observation, the distance that rounding alone may make.
    """

    problem: Problem
    observed: Observations
    expected: Observations
    units: dict[str, float]
    _distances: dict[HypothesisKey, dict[str, float] | None] = field(default_factory=dict)

    def distances(self, hypothesis: Hypothesis) -> dict[str, float] | None:
        """Distance of each observation from what the hypothesis predicts, in its unit.

        None if the faults of the hypothesis cannot be in the code together.
        """
        if hypothesis.key not in self._distances:
            self._distances[hypothesis.key] = self._measured(hypothesis)
        return self._distances[hypothesis.key]

    def agreeing(self, hypothesis: Hypothesis) -> set[str] | None:
        """The observations that are as the hypothesis predicts.

        None if the faults of the hypothesis cannot be in the code together.
        """
        distances = self.distances(hypothesis)
        if distances is None:
            return None
        allowed = NAMING if hypothesis.faults else K
        return {name for name, distance in distances.items() if distance <= allowed}

    def disagreeing(self, hypothesis: Hypothesis) -> list[str]:
        """The observations that are not as the hypothesis predicts, in the order of computation."""
        agreeing = self.agreeing(hypothesis) or set()
        return [name for name in self.observed if name not in agreeing]

    def is_explained_by(self, hypothesis: Hypothesis) -> bool:
        """Whether every observation is as the hypothesis predicts."""
        return self.agreeing(hypothesis) == set(self.observed)

    def factor_in_words(self, name: str) -> str:
        """In words, the factor by which an observation differs from torch's in every element alike.

        Empty if there is no such factor.
        """
        observed, expected = self.observed[name], self.expected[name]
        largest = np.unravel_index(np.abs(expected).argmax(), expected.shape)
        if expected[largest] == 0 or not np.isfinite(observed).all():
            return ""
        factor = observed[largest] / expected[largest]
        difference = float(np.abs(observed - factor * expected).max())
        if difference > NAMING * self.units[name]:
            return ""
        return f" ({factor:.6g} times torch's)"

    def _measured(self, hypothesis: Hypothesis) -> dict[str, float] | None:
        try:
            predicted = self._predicted(hypothesis)
            distances = {
                name: distance_where_finite(observed, predicted[name], self.units[name])
                for name, observed in self.observed.items()
            }
            if hypothesis.autograd:
                distances |= self._distances_from_derivative(hypothesis)
        except CannotEdit:
            return None
        return distances

    def _predicted(self, hypothesis: Hypothesis) -> Observations:
        """What the plain code with these faults makes of the problem; without faults, torch's."""
        if not hypothesis.faults:
            return self.expected
        with faulty(hypothesis.faults), np.errstate(all="ignore"):
            trace = plain_trace(self.problem)
        return observations(trace, trace)

    def _distances_from_derivative(self, hypothesis: Hypothesis) -> dict[str, float]:
        """Distance of each gradient from the exact derivative of the faulty forward pass.

        They are compared along one direction of random signs, so that any wrong element shows in
        the sum. The unit is the roundoff of a sum of the elements' magnitudes.
        """
        result = {}
        rng = np.random.default_rng(0)
        for input_name, value in differentiable(self.problem).items():
            gradient = gradient_name(input_name)
            for name, direction, signs in self._directions(gradient, value, rng):
                with faulty(hypothesis.faults), np.errstate(all="ignore"):
                    exact = slope(self.problem, input_name, direction)
                observed = self.observed[name]
                difference = abs(float((observed * signs).sum()) - exact)
                size = max(float(np.abs(observed).sum()), abs(exact))
                if difference == 0:
                    result[name] = 0.0
                elif size == 0 or not np.isfinite(difference):
                    result[name] = np.inf
                else:
                    result[name] = difference / (size * roundoff(observed.dtype))
        return result

    def _directions(
        self, gradient: str, value: np.ndarray, rng: np.random.Generator
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Each observed part of a gradient, with a direction that is zero outside this part.

        The signs in that direction are random; they are yielded once more as the part alone.

        Args:
            gradient: name of the whole gradient in a trace.
            value: the input with respect to which it is taken.
            rng: for the signs.
        """
        for name in self.observed:
            direction = np.zeros_like(value)
            parts = _by_gate(gradient, direction)
            if gradient == "dx":
                parts |= {f"dx at step {t}": part for t, part in enumerate(direction)}
            if name in parts:
                signs = parts[name]  # a view: what is written to it is written to the direction
                signs[...] = rng.choice([-1.0, 1.0], signs.shape)
                yield name, direction, signs


def make_probe(subject: Subject, problem: Problem) -> Probe:
    """Give a problem to the LSTM and to torch.

    The unit of an observation is how far torch's own number moves with noise, or the roundoff of
    its size, whichever is larger, in the precision in which the LSTM computes.
    """
    reference = torch_trace(problem)
    expected = observations(reference, reference)
    observed = observations(subject.run(problem), reference)
    noise = [observations(moves, reference) for moves in noise_moves(problem)]
    units = {}
    for name, array in observed.items():
        moved = max(float(np.abs(moves[name]).max(initial=0)) for moves in noise)
        coarser = roundoff(array.dtype) / roundoff(expected[name].dtype)
        size = float(np.abs(expected[name]).max(initial=0))
        units[name] = max(moved * coarser, size * roundoff(array.dtype))
    return Probe(problem, observed, expected, units)
