"""Is it equal? Traces compared in units of roundoff, and where two runs part first."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from numpy_lstm.roundoff import K, Noise, amplitude, distances
from numpy_lstm.shapes import Shaped
from torch_oracle.proof.numpy_trace import numpy_trace
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import Problem, Trace, in_dtype, order

ARGUMENTS = ("a_i", "a_f", "a_g", "a_o", "c", "logits")
"""What sigmoid, tanh and softmax are taken of."""
TWINS = 4
"""Number of noisy twins, which are runs of torch with noise, by default; see docs/the-rule.md."""


@dataclass(frozen=True)
class TensorDivergence:
    """Where two runs differ: a tensor and its step, which is None for a total.

    `steps` is the number of time steps. `index` is that of the element with the largest difference,
    `distance` that of the whole tensor.
    """

    tensor: str
    step: int | None
    steps: int
    index: tuple[int, ...]
    actual: float
    reference: float
    distance: float

    def __str__(self) -> str:
        """One sentence for a person."""
        where = "total" if self.step is None else f"step {self.step} (of 0 to {self.steps - 1})"
        return (
            f"{self.tensor} at {where}, index {list(self.index)}: got {self.actual:.9g},"
            f" the reference has {self.reference:.9g};"
            f" distance {self.distance:.3g}, allowed {K:g}"
        )


@dataclass(frozen=True)
class Comparison:
    """The distances of two traces, and where they part.

    Args:
        steps: distances [T] of each tensor, step by step.
        totals: distance of each total.
        divergences: the first distance of each tensor that exceeds K, in the order of computation.
        undetermined: the first (tensor, step) where noise moves the argument of a nonlinear
            function so far that any result may be correct. From there on nothing is judged, and
            the distances are NaN.
    """

    steps: dict[str, Shaped[np.ndarray, " T"]]
    totals: dict[str, float]
    divergences: dict[str, TensorDivergence] = field(default_factory=dict)
    undetermined: tuple[str, int] | None = None

    @property
    def first(self) -> TensorDivergence | None:
        """The first distance to exceed K, in the order of computation; None if nothing does."""
        return next(iter(self.divergences.values()), None)

    @property
    def worst(self) -> float:
        """The largest distance of all."""
        return max(self.by_tensor().values(), default=np.nan)

    def by_tensor(self) -> dict[str, float]:
        """The largest distance of each tensor that was judged, over steps and total."""
        largest = {}
        for name in self.steps | self.totals:
            every = [*self.steps.get(name, []), self.totals.get(name, np.nan)]
            judged = [float(distance) for distance in every if not np.isnan(distance)]
            if judged:
                largest[name] = max(judged)
        return largest

    def distance_at(self, name: str, step: int | None) -> float:
        """The distance of a tensor at a step, or of a total (None)."""
        return self.totals[name] if step is None else float(self.steps[name][step])


def compare(
    actual: Trace, reference: Trace, moves: Sequence[Trace], *, partial: bool = False
) -> Comparison:
    """Distances of every tensor at every step, and the first that exceeds K.

    Args:
        actual: the trace to judge.
        reference: the whole trace to judge it by.
        moves: how far each noisy twin is from the exact run; see `noise_moves`.
        partial: judge what the actual trace holds, instead of asking for every tensor.

    Raises:
        ValueError: the actual trace lacks tensors, or has some that the reference lacks.
    """
    common = _common(actual, reference, partial)
    steps = _step_distances(actual, common, moves)
    totals = _total_distances(actual, common, moves)
    found: dict[str, TensorDivergence] = {}
    comparison = Comparison(steps, totals, found)
    undetermined: tuple[str, int] | None = None
    for name, t in order(reference):
        if undetermined is None and t is not None and _is_undetermined(name, t, reference, moves):
            undetermined = (name, t)
        if name not in (totals if t is None else steps):
            continue
        if undetermined is not None:
            _mark_unjudged(comparison, name, t)
        elif name not in found and comparison.distance_at(name, t) > K:
            found[name] = _divergence(name, t, actual, reference, comparison)
    return replace(comparison, undetermined=undetermined)


def _step_distances(
    actual: Trace, reference: Trace, moves: Sequence[Trace]
) -> dict[str, Shaped[np.ndarray, " T"]]:
    """Distance of each tensor at each step."""
    result = {}
    for name, expected in reference.steps.items():
        tensor_moves = [twin.steps[name] for twin in moves]
        magnitudes = reference.magnitudes.get(name)
        result[name] = distances(actual.steps[name], expected, tensor_moves, magnitudes)
    return result


def _total_distances(actual: Trace, reference: Trace, moves: Sequence[Trace]) -> dict[str, float]:
    """Distance of each total, as that of a tensor with one step.

    A total gradient is a sum over steps: its unit has the terms of all steps, times the root of the
    batch size, which is stricter than the root of the number of all terms.
    """
    result = {}
    for name, expected in reference.totals.items():
        tensor_moves = [twin.totals[name][None] for twin in moves]
        magnitudes = None
        if name in reference.magnitudes:
            magnitudes = reference.magnitudes[name].sum(axis=0)[None]
        (distance,) = distances(actual.totals[name][None], expected[None], tensor_moves, magnitudes)
        result[name] = float(distance)
    return result


def _common(actual: Trace, reference: Trace, partial: bool) -> Trace:
    """The reference, reduced to what the actual trace holds."""
    reduced = []
    for ours, theirs in ((actual.steps, reference.steps), (actual.totals, reference.totals)):
        missing = [name for name in theirs if name not in ours and not partial]
        unknown = [name for name in ours if name not in theirs]
        if missing or unknown:
            raise ValueError(f"actual trace: missing {missing}, not in the reference {unknown}")
        reduced.append({name: array for name, array in theirs.items() if name in ours})
    steps, totals = reduced
    return Trace(steps, totals, reference.magnitudes)


def _is_undetermined(name: str, t: int, reference: Trace, moves: Sequence[Trace]) -> bool:
    """Whether noise moves an argument of a nonlinear function by more than a K-th of its width.

    The width of sigmoid, tanh and softmax is 1. K units of noise must stay below it, so that what
    correct results differ by is the first-order response that the twins measure; and so must the
    twins' own moves, which are `amplitude` units.
    """
    if name.partition("_l")[0] not in ARGUMENTS:
        return False
    limit = 1 / max(K, amplitude(reference.steps["h"].dtype))
    return any(np.abs(twin.steps[name][t]).max() > limit for twin in moves)


def _mark_unjudged(comparison: Comparison, name: str, t: int | None) -> None:
    """Put NaN in the place of a distance that says nothing."""
    if t is None:
        comparison.totals[name] = np.nan
    else:
        comparison.steps[name][t] = np.nan


def _divergence(
    name: str, t: int | None, actual: Trace, reference: Trace, comparison: Comparison
) -> TensorDivergence:
    """The worst element of a tensor that is too far from the reference."""
    got, expected = actual.at(name, t), reference.at(name, t)
    error = np.nan_to_num(np.abs(got - expected), nan=np.inf)
    index = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
    return TensorDivergence(
        tensor=name,
        step=t,
        steps=len(reference.steps["h"]),
        index=index,
        actual=float(got[index]),
        reference=float(expected[index]),
        distance=comparison.distance_at(name, t),
    )


def noise_moves(
    problem: Problem,
    *,
    seed: int = 0,
    twins: int = TWINS,
    exact: Trace | None = None,
    first: int = 0,
) -> list[Trace]:
    """How far every tensor of each noisy twin is from the exact run.

    These are differences with their sign, divided by the amplitude of the noise: what noise of one
    to two roundoffs would do.

    Args:
        problem: the inputs, float32 or float64.
        seed: of the noise.
        twins: how many of them.
        exact: `torch_trace` of the problem in float64, where it is at hand.
        first: index of the first twin, where earlier ones were made before.
    """
    if exact is None:
        exact = torch_trace(in_dtype(problem, np.float64))
    result = []
    for k in range(first, first + twins):
        noise = Noise([seed, k], problem.h0.dtype)
        twin = torch_trace(problem, noise)
        steps = _scaled_moves(twin.steps, exact.steps, noise)
        result.append(Trace(steps, _scaled_moves(twin.totals, exact.totals, noise)))
    return result


def _scaled_moves(
    twin: dict[str, np.ndarray], exact: dict[str, np.ndarray], noise: Noise
) -> dict[str, np.ndarray]:
    """The differences of a twin's tensors from the exact ones, divided by the noise's amplitude."""
    moves = {}
    for name, array in twin.items():
        moves[name] = np.asarray((array - exact[name]) / noise.amplitude)
    return moves


def judge_trace(
    actual: Trace, problem: Problem, *, seed: int = 0, twins: int = TWINS, partial: bool = False
) -> Comparison:
    """Compare somebody's trace of a problem with torch's.

    What few twins find too far is judged again with four times as many: a single number may
    happen to be moved little by each of a few.

    Args:
        actual: the trace.
        problem: the inputs, float32 or float64.
        seed: of the noise.
        twins: noisy twins. Two are enough where every tensor has many elements.
        partial: see `compare`.
    """
    reference = exact = torch_trace(problem)
    if problem.h0.dtype != np.float64:
        exact = torch_trace(in_dtype(problem, np.float64))
    moves = noise_moves(problem, seed=seed, twins=twins, exact=exact)
    comparison = compare(actual, reference, moves, partial=partial)
    if comparison.first is None:
        return comparison
    moves += noise_moves(problem, seed=seed, twins=3 * twins, exact=exact, first=twins)
    return compare(actual, reference, moves, partial=partial)


def check_parity(problem: Problem, *, seed: int = 0, twins: int = TWINS) -> Comparison:
    """`judge_trace` of the hand-written code."""
    return judge_trace(numpy_trace(problem), problem, seed=seed, twins=twins)
