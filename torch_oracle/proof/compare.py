"""Is it equal? Traces compared in units of roundoff, and where two runs part first."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from numpy_lstm.roundoff import K, Noise, amplitude, distances
from torch_oracle.proof.numpy_trace import numpy_trace
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import Problem, Trace, in_dtype, order

ARGUMENTS = ("a_i", "a_f", "a_g", "a_o", "c", "logits")
"""What sigmoid, tanh and softmax are taken of."""
TWINS = 4
"""Noisy twins, unless told otherwise."""


@dataclass(frozen=True)
class Divergence:
    """Where two runs differ: tensor, step (None for a total), and the worst element."""

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
    """Distances of all tensors: [T] for those of the steps, a number for the totals."""

    steps: dict[str, np.ndarray]
    totals: dict[str, float]
    first: Divergence | None
    """The first to exceed K, in the order of computation; None if nothing does."""
    divergences: dict[str, Divergence] = field(default_factory=dict)
    """The first of each tensor that exceeds K, in the order of computation."""
    undetermined: tuple[str, int] | None = None
    """The first argument of a nonlinear function (tensor, step) that noise moves by so much that a
    correct result may be any: from there on nothing is judged, and distances are NaN."""

    @property
    def worst(self) -> float:
        """The largest distance of all."""
        return max(self.by_tensor().values(), default=np.nan)

    def by_tensor(self) -> dict[str, float]:
        """The largest distance of each tensor that was judged, over steps and total."""
        worst = {name: [*self.steps.get(name, [])] for name in self.steps | self.totals}
        for name, distance in self.totals.items():
            worst[name].append(distance)
        judged = {name: [d for d in far if not np.isnan(d)] for name, far in worst.items()}
        return {name: float(max(far)) for name, far in judged.items() if far}


def compare(
    actual: Trace, reference: Trace, noise: Sequence[Trace], *, partial: bool = False
) -> Comparison:
    """Distances of every tensor at every step, and the first that exceeds K.

    Args:
        actual: the trace to judge.
        reference: the whole trace to judge it by.
        noise: what `deviations` returned for the problem.
        partial: judge what the actual trace holds, instead of asking for every tensor.

    Raises:
        ValueError: tensors are missing, or the reference lacks them.
    """
    reference, whole = _common(actual, reference, partial), reference
    magnitudes = reference.magnitudes
    steps = {
        name: distances(
            actual.steps[name], value, [moves.steps[name] for moves in noise], magnitudes.get(name)
        )
        for name, value in reference.steps.items()
    }
    totals = {}
    for name, value in reference.totals.items():
        terms = magnitudes[name].sum(axis=0)[None] if name in magnitudes else None
        others = [moves.totals[name][None] for moves in noise]
        (far,) = distances(actual.totals[name][None], value[None], others, terms)
        totals[name] = float(far)
    undetermined, found = None, {}
    for name, t in order(whole):
        undetermined = undetermined or _lost(noise, name, t, whole.steps["h"].dtype)
        if name not in (totals if t is None else steps):
            continue
        if undetermined is not None:
            if t is None:
                totals[name] = np.nan
            else:
                steps[name][t] = np.nan
        elif name not in found and (totals[name] if t is None else steps[name][t]) > K:
            found[name] = _divergence(name, t, actual, whole, steps, totals)
    return Comparison(steps, totals, next(iter(found.values()), None), found, undetermined)


def _common(actual: Trace, reference: Trace, partial: bool) -> Trace:
    """The reference, reduced to what the actual trace holds."""
    pairs = ((actual.steps, reference.steps), (actual.totals, reference.totals))
    for ours, theirs in pairs:
        missing = [] if partial else [name for name in theirs if name not in ours]
        unknown = [name for name in ours if name not in theirs]
        if missing or unknown:
            raise ValueError(f"actual trace: missing {missing}, not in the reference {unknown}")
    steps, totals = ({n: a for n, a in theirs.items() if n in ours} for ours, theirs in pairs)
    return Trace(steps, totals, reference.magnitudes)


def _lost(
    noise: Sequence[Trace], name: str, t: int | None, dtype: np.dtype
) -> tuple[str, int] | None:
    """The place itself, if noise moves an argument of a nonlinear function there by its width.

    The width of sigmoid, tanh and softmax is 1. K units of noise must stay below it, so that what
    correct results differ by is the first-order response that the twins measure; and so must the
    twins' own moves, which are `amplitude` units.
    """
    if t is None or name.partition("_l")[0] not in ARGUMENTS:
        return None
    limit = 1 / max(K, amplitude(dtype))
    return (name, t) if any(np.abs(moves.steps[name][t]).max() > limit for moves in noise) else None


def _divergence(
    name: str,
    t: int | None,
    actual: Trace,
    reference: Trace,
    steps: dict[str, np.ndarray],
    totals: dict[str, float],
) -> Divergence:
    if t is None:
        got, expected, far = actual.totals[name], reference.totals[name], totals[name]
    else:
        got, expected, far = actual.steps[name][t], reference.steps[name][t], steps[name][t]
    error = np.nan_to_num(np.abs(got - expected), nan=np.inf)
    index = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
    T = len(reference.steps["h"])
    return Divergence(name, t, T, index, float(got[index]), float(expected[index]), float(far))


def deviations(
    problem: Problem,
    *,
    seed: int = 0,
    twins: int = TWINS,
    exact: Trace | None = None,
    first: int = 0,
) -> list[Trace]:
    """How far every tensor moves in each noisy twin, in units of the problem's own noise.

    Args:
        problem: the inputs, float32 or float64.
        seed: of the noise.
        twins: how many.
        exact: `torch_trace` of the problem in float64, where it is at hand.
        first: the number of the first twin, to have more of them.
    """
    if exact is None:
        exact = torch_trace(in_dtype(problem, np.float64))
    result = []
    for k in range(first, first + twins):
        noise = Noise([seed, k], problem.h0.dtype)
        twin = torch_trace(problem, noise)
        result.append(
            Trace(
                _moves(twin.steps, exact.steps, noise.amplitude),
                _moves(twin.totals, exact.totals, noise.amplitude),
            )
        )
    return result


def _moves(
    twin: dict[str, np.ndarray], exact: dict[str, np.ndarray], amplitude: float
) -> dict[str, np.ndarray]:
    return {name: np.asarray((array - exact[name]) / amplitude) for name, array in twin.items()}


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
    reference = torch_trace(problem)
    double = problem.h0.dtype == np.float64
    exact = reference if double else torch_trace(in_dtype(problem, np.float64))
    noise = deviations(problem, seed=seed, twins=twins, exact=exact)
    comparison = compare(actual, reference, noise, partial=partial)
    if comparison.first is None:
        return comparison
    noise += deviations(problem, seed=seed, twins=3 * twins, exact=exact, first=twins)
    return compare(actual, reference, noise, partial=partial)


def check_parity(problem: Problem, *, seed: int = 0, twins: int = TWINS) -> Comparison:
    """`judge_trace` of the hand-written code."""
    return judge_trace(numpy_trace(problem), problem, seed=seed, twins=twins)
