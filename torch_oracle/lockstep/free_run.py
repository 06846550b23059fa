"""Trained freely, does torch end where NumPy does? A test with a known chance of a false alarm.

Two correct programs round differently, and training amplifies that. So one program is not asked to
repeat the other. Instead both train several times, TORCH_RUNS runs by torch and NUMPY_RUNS by
NumPy, and before every step each run moves all its parameters by random noise, far larger than
rounding. If both programs compute the same, then it is chance alone which of the runs come to lie
where, and torch's runs are any ten of the 23.

A quantity separates the runs into two groups of these sizes if every distance between the groups is
more than FACTOR times every distance within them. The verdict asks which separation, of all
quantities and steps, is the widest. Equal programs give each choice of ten runs the same chance to
be the one that is separated most, so that this choice is exactly torch's runs with a probability of
at most 1 / C(23, 10) = 8.7e-7. docs/the-rule.md has the derivation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.distance import pdist, squareform

from numpy_lstm.errors import InputError
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.roundoff import K
from numpy_lstm.training.batching import Batch
from numpy_lstm.training.loop import Recipe, TrainingStep
from torch_oracle.lockstep.numpy_run import NumpyRun
from torch_oracle.lockstep.torch_run import Quantities, TorchRun
from torch_oracle.lockstep.update import norm_roundoffs

TORCH_RUNS = 10
NUMPY_RUNS = 13
FACTOR = 2.0
"""Groups are separate if distances between them are more than this times those within."""
DECIDED_BY_CHANCE = 0.01
"""The free run is judged until the runs' losses differ by this part of the loss itself."""
MOST_STEPS = 1000
"""The free run is judged for so many steps at most, for its 23 runs take time."""


def false_alarm_probability(torch_runs: int = TORCH_RUNS, numpy_runs: int = NUMPY_RUNS) -> float:
    """The largest probability with which equal programs fail, in one run.

    It is one over the number of ways to divide the runs into two groups of these sizes.
    """
    ways = math.comb(torch_runs + numpy_runs, torch_runs)
    if torch_runs == numpy_runs:
        ways //= 2  # either group may be torch's
    return 1 / ways


@dataclass(frozen=True)
class Groups:
    """How far the runs are from each other in one quantity, after one step.

    `between` is the smallest distance of a torch run from a NumPy run, `within` the largest of two
    runs of one program. `other` is the ratio of smallest and largest distance for another division
    of the runs into two groups of the same sizes, where that exceeds 1, and otherwise 0.
    """

    between: float
    within: float
    other: float = 0.0

    @property
    def ratio(self) -> float:
        """Distance between the programs in units of that within them."""
        return _ratio(self.between, self.within)


def compare_groups(runs: Sequence[np.ndarray], torch_runs: int, least: float = 0.0) -> Groups:
    """Compare one quantity of all runs, of which torch's come first.

    The distance of two runs is the largest absolute difference of an element.

    Args:
        runs: the quantity's value in each run.
        torch_runs: how many of them are torch's.
        least: distances below this are those of equal results.
    """
    rows = np.stack([np.asarray(run, np.float64).ravel() for run in runs])
    distances = squareform(pdist(rows, "chebyshev"))
    is_torch = np.arange(len(rows)) < torch_runs
    between, within = _between_and_within(distances, is_torch, least)
    # If any division into groups has a ratio above 1, then the two runs that are farthest apart are
    # in different groups, and each run is nearer to that of its own group. So there is only one.
    one, another = np.unravel_index(distances.argmax(), distances.shape)
    group = distances[one] < distances[another]
    sizes = sorted([int(group.sum()), int((~group).sum())])
    other = 0.0
    is_division_of_programs = bool((group == is_torch).all() or (group == ~is_torch).all())
    if sizes == sorted([torch_runs, len(rows) - torch_runs]) and not is_division_of_programs:
        ratio = _ratio(*_between_and_within(distances, group, least))
        if ratio > 1:
            other = ratio
    return Groups(between, within, other)


def _between_and_within(
    distances: np.ndarray, group: np.ndarray, least: float
) -> tuple[float, float]:
    """Smallest distance between a group and the rest, and largest within either."""
    between = float(distances[np.ix_(group, ~group)].min())
    within = max(
        least,
        float(distances[np.ix_(group, group)].max()),
        float(distances[np.ix_(~group, ~group)].max()),
    )
    return between, within


def _ratio(between: float, within: float) -> float:
    if between == 0:
        return 0.0
    if within == 0:
        return math.inf
    return between / within


@dataclass
class Separations:
    """The widest separations of a run so far: the state of the test."""

    by_quantity: dict[str, float] = field(default_factory=dict)
    """The largest ratio of torch's runs against NumPy's, for each quantity."""
    other: float = 0.0
    """The largest ratio of any other division of the runs into groups of these sizes."""

    def add(self, groups: Mapping[str, Groups]) -> None:
        """Take one step's comparisons into account."""
        for name, each in groups.items():
            self.by_quantity[name] = max(self.by_quantity.get(name, 0.0), each.ratio)
            self.other = max(self.other, each.other)

    def programs_differ(self) -> bool:
        """Whether torch against NumPy is a separation, and the widest of all."""
        largest = max(self.by_quantity.values(), default=0.0)
        return largest > FACTOR and largest > self.other


class FreeRun:
    """All runs with noise, and how far they are from each other after every step.

    Args:
        model: the model that is trained.
        recipe: the recipe of the run.
        parameters: its initial weights.
        total_steps: of the run.
        steps: how many of them are judged at most.
        seed: of the noise, one number or several.
    """

    def __init__(
        self,
        model: LanguageModel,
        recipe: Recipe,
        parameters: Mapping[str, np.ndarray],
        total_steps: int,
        steps: int = MOST_STEPS,
        seed: int | Sequence[int] = 0,
    ) -> None:
        self.steps_left = steps
        self.ended = ""
        """Why the runs are no longer followed; empty as long as they are."""
        self.losses: list[float] = []
        """Each run's loss at the last step that was judged, torch's first."""
        seeds = np.random.SeedSequence(seed).spawn(TORCH_RUNS + NUMPY_RUNS)
        generators = [np.random.default_rng(each) for each in seeds]
        self._torch = [
            TorchRun(parameters, recipe, total_steps, rng) for rng in generators[:TORCH_RUNS]
        ]
        self._numpy = [NumpyRun(model, parameters, recipe, rng) for rng in generators[TORCH_RUNS:]]
        if steps == 0:
            self.ended = "no step was to be judged"

    def step(self, step: TrainingStep) -> dict[str, Groups]:
        """Take the same training step with every run; empty once they are no longer followed."""
        if self.ended:
            return {}
        try:
            results = [run.step(step.batch) for run in self._torch]
            results += [run.step(step.batch, step.lr) for run in self._numpy]
        except InputError:
            results = []
        norms = norm_roundoffs(step.gradients)
        groups = self._compare(results, {"clip coefficient": norms}, step.index)
        if not groups:
            return {}
        self.losses = [float(result["loss"]) for result in results]
        self.steps_left -= 1
        if np.ptp(self.losses) > DECIDED_BY_CHANCE * max(self.losses):
            self._end(f"from step {step.index + 1} on chance decides more than 1 % of the loss")
        elif self.steps_left == 0:
            self._end(f"only the first {step.index + 1} steps are judged")
        return groups

    def validate(self, batches: list[Batch], index: int) -> dict[str, Groups]:
        """Validate every run at its own weights; empty once they are no longer followed."""
        if self.ended:
            return {}
        try:
            losses = [run.validation_loss(batches) for run in (*self._torch, *self._numpy)]
        except InputError:
            losses = []
        return self._compare([{"validation loss": np.asarray(loss)} for loss in losses], {}, index)

    def _compare(
        self, results: Sequence[Quantities], roundoffs: Mapping[str, float], index: int
    ) -> dict[str, Groups]:
        """Compare every quantity; `roundoffs` are their units where those exceed one roundoff.

        Distances of up to K units are those of equal results, as everywhere.
        """
        finite = all(np.isfinite(array).all() for each in results for array in each.values())
        if not results or not finite:
            self._end(f"at step {index} a run with noise is no longer finite")
            return {}
        groups = {}
        for name in results[0]:
            values = [each[name] for each in results]
            size = max(float(np.abs(value).max()) for value in values)
            unit = size * self._roundoff * roundoffs.get(name, 1.0)
            groups[name] = compare_groups(values, TORCH_RUNS, K * unit)
        return groups

    @property
    def _roundoff(self) -> float:
        weights = self._numpy[0].position.parameters["projection.weight"]
        return float(np.finfo(weights.dtype).eps) / 2

    def _end(self, reason: str) -> None:
        self.ended = reason
