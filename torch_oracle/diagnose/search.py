"""Which known faults explain what an LSTM gets wrong.

The LSTM is asked for small problems: one step, where the bias's gradient is da itself, so that each
gate's formula stands alone; two steps, which show the carries; three, which show shifted indices;
then a batch. On each, its numbers are cut into facts (a tensor, at one step, of one gate) and
compared with torch's. Where they differ, the plain code of `unrolled.py` is run with faults of the
catalogue in it: a set of faults explains a problem if that gives the same wrong numbers, every one
of them. The search adds one fault at a time, each of which must set facts right and none wrong, and
two at once where no single one does; it goes on to the next problem with every set that explains
the ones before. What no set explains is unknown.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from numpy_lstm.roundoff import K
from torch_oracle.diagnose.faults.catalogue import CELL_FAULTS, GATE_ORDERS
from torch_oracle.diagnose.faults.fault import Fault, faulty
from torch_oracle.diagnose.injection import CannotEdit
from torch_oracle.diagnose.replay import slope
from torch_oracle.proof.compare import deviations
from torch_oracle.proof.numpy_trace import plain_trace
from torch_oracle.proof.random_problems import Sizes, loud
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import Problem, Trace, order
from torch_oracle.proof.witnesses import differentiable, gradient_name

NAMING = 1000.0
"""Largest distance, in roundoffs, at which a replay gives the same numbers. K is not enough: what a
faulty program does to rounding is not measured. It need not be small: two faults that are told
apart differ by far more than 1000 roundoffs (a test measures by how much)."""
MOST_FAULTS = 12
"""Faults at once beyond which the search ends."""
BEAM = 12
"""Explanations of one problem that are followed to the next."""

Facts = dict[str, np.ndarray]
Status = Literal["correct", "explained", "partly explained", "unknown"]


@runtime_checkable
class Subject(Protocol):
    """Whom to diagnose: `adapters.Adapter`."""

    def problem(self, seed: int, sizes: Sizes) -> Problem:
        """A random problem of the sizes T, N, I, H, or as near as the subject can take."""
        ...

    def run(self, problem: Problem) -> Trace:
        """What the subject makes of it, as far as it tells."""
        ...


@dataclass(frozen=True)
class Finding:
    """A fault that is part of the explanation, with the evidence.

    `without` is the largest distance that remains when this fault alone is left out, in roundoffs;
    `equivalents` are faults that give the same numbers in its place.
    """

    fault: Fault
    without: float
    equivalents: tuple[Fault, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    `distance` is the largest distance that remains with all findings together, and `before` without
    any. `first` is the first fact that differs from torch's, `unexplained` those that no set of
    faults sets right. With `autograd`, the gradients are the exact derivative of the wrong forward
    pass: nothing but the forward pass is wrong.
    """

    status: Status
    findings: tuple[Finding, ...] = ()
    before: float = 0.0
    distance: float = 0.0
    first: str = ""
    unexplained: tuple[str, ...] = ()
    autograd: bool = False


@dataclass(frozen=True)
class _Hypothesis:
    """Faults, and whether the gradients are the exact ones of their forward pass."""

    faults: tuple[Fault, ...] = ()
    autograd: bool = False

    def __len__(self) -> int:
        return len(self.faults) + self.autograd

    def plus(self, *faults: Fault) -> "_Hypothesis":
        """With these faults too; always in the order of the catalogue."""
        return replace(self, faults=tuple(sorted(self.faults + faults, key=CELL_FAULTS.index)))

    @property
    def key(self) -> tuple[frozenset[str], bool]:
        """Equal for the same faults in another order."""
        return frozenset(fault.id for fault in self.faults), self.autograd


@dataclass
class _Probe:
    """One problem, what the subject and torch make of it, and what replays did."""

    problem: Problem
    observed: Facts
    expected: Facts
    units: dict[str, float]
    distances: dict[tuple[frozenset[str], bool], dict[str, float] | None] = field(
        default_factory=dict
    )

    def to(self, hypothesis: _Hypothesis) -> dict[str, float] | None:
        """Distance of each fact from the replay; None if the faults exclude each other."""
        if hypothesis.key not in self.distances:
            try:
                distances = self._distances(self._replayed(hypothesis))
                if hypothesis.autograd:
                    distances |= self._exact(hypothesis)
                self.distances[hypothesis.key] = distances
            except CannotEdit:
                self.distances[hypothesis.key] = None
        return self.distances[hypothesis.key]

    def agreeing(self, hypothesis: _Hypothesis) -> set[str] | None:
        """The facts that the hypothesis gives; None if its faults exclude each other."""
        distances, allowed = self.to(hypothesis), NAMING if len(hypothesis) else K
        if distances is None:
            return None
        return {name for name, distance in distances.items() if distance <= allowed}

    def explained(self, hypothesis: _Hypothesis) -> bool:
        """Whether the hypothesis gives every fact."""
        return self.agreeing(hypothesis) == set(self.observed)

    def ratio(self, name: str) -> str:
        """In words, how many times torch's a fact is, if that is the same in every element."""
        observed, expected = self.observed[name], self.expected[name]
        largest = np.unravel_index(np.abs(expected).argmax(), expected.shape)
        if not expected[largest] or not np.isfinite(observed).all():
            return ""
        factor = observed[largest] / expected[largest]
        far = float(np.abs(observed - factor * expected).max())
        return f" ({factor:.6g} times torch's)" if far <= NAMING * self.units[name] else ""

    def _replayed(self, hypothesis: _Hypothesis) -> Facts:
        if not len(hypothesis):
            return self.expected
        with faulty(hypothesis.faults), np.errstate(all="ignore"):
            return facts(plain_trace(self.problem))

    def _exact(self, hypothesis: _Hypothesis) -> dict[str, float]:
        """Distance of each gradient from that of the faulty forward pass, along one direction.

        The direction is of random signs: a wrong element shows in the sum. Its unit is the
        roundoff of a sum of the elements' magnitudes.
        """
        result, rng = {}, np.random.default_rng(0)
        for input, value in differentiable(self.problem).items():
            total = gradient_name(input)
            for name in self.observed:
                direction = np.zeros_like(value)
                blocks = _blocks(total, direction)
                if total == "dx":
                    blocks |= {f"dx at step {t}": block for t, block in enumerate(direction)}
                if name not in blocks:
                    continue
                block = blocks[name]
                block[...] = rng.choice([-1.0, 1.0], block.shape)
                with faulty(hypothesis.faults), np.errstate(all="ignore"):
                    exact = slope(self.problem, input, direction)
                observed = self.observed[name]
                far = abs(float((observed * block).sum()) - exact)
                unit = _roundoff(observed) * max(float(np.abs(observed).sum()), abs(exact))
                result[name] = 0.0 if far == 0 else far / unit if unit else np.inf
        return {name: far if np.isfinite(far) else np.inf for name, far in result.items()}

    def _distances(self, replayed: Facts) -> dict[str, float]:
        result = {}
        for name, observed in self.observed.items():
            other = replayed[name]
            alike = (observed == other) | ~(np.isfinite(observed) | np.isfinite(other))
            error = np.abs(np.where(alike, 0, observed) - np.where(alike, 0, other))
            roundoff = _roundoff(observed) * float(np.abs(other[np.isfinite(other)]).max(initial=0))
            unit = max(self.units[name], roundoff)
            far = float(error.max(initial=0))
            result[name] = 0.0 if far == 0 else far / unit if unit else np.inf
        return {name: np.inf if np.isnan(far) else far for name, far in result.items()}


def facts(trace: Trace, reference: Trace | None = None) -> Facts:
    """Every tensor of a trace, step by step, gradients of gates' weights gate by gate.

    The order is that of computation in the reference (the trace itself when None).
    """
    result: Facts = {}
    for name, t in order(reference or trace):
        where = trace.totals if t is None else trace.steps
        if name not in where:
            continue
        array = where[name] if t is None else where[name][t]
        if t is not None:
            result[f"{name} at step {t}"] = array
        else:
            result |= _blocks(name, array)
    return result


def _blocks(name: str, total: np.ndarray) -> Facts:
    """A total, and views of it gate by gate if it is the gradient of gates' weights."""
    if name.startswith(("dW_ih", "dW_hh", "db")) and name != "db_v":
        blocks = zip("ifgo", np.split(total, 4), strict=True)
        return {f"{name} of gate {gate}": block for gate, block in blocks}
    return {name: total}


def _roundoff(array: np.ndarray) -> float:
    return float(np.finfo(array.dtype).eps) / 2


def _probe(subject: Subject, problem: Problem) -> _Probe:
    reference = torch_trace(problem)
    expected, observed = facts(reference), facts(subject.run(problem), reference)
    noise = [facts(moves, reference) for moves in deviations(problem)]
    units = {}
    for name, seen in observed.items():
        moved = max(float(np.abs(moves[name]).max(initial=0)) for moves in noise)
        coarser = _roundoff(seen) / _roundoff(expected[name])
        size = float(np.abs(expected[name]).max(initial=0))
        units[name] = max(moved * coarser, size * _roundoff(seen))
    return _Probe(problem, observed, expected, units)


PROBES: tuple[Sizes, ...] = ((1, 1, 3, 4), (2, 1, 3, 4), (3, 1, 4, 3), (4, 3, 2, 5), (6, 5, 4, 3))
"""Sizes T, N, I, H of the problems, the telling ones first."""


def diagnose(subject: Subject, *, seed: int = 0, sizes: Sequence[Sizes] = PROBES) -> Diagnosis:
    """Explain what the subject gets wrong by the faults of the catalogue.

    Args:
        subject: an `adapters.Adapter`.
        seed: of the random problems.
        sizes: of the problems, the simplest first.
    """
    problems = [subject.problem(seed + k, size) for k, size in enumerate(sizes)]
    if problems[-1].targets is not None:
        problems.append(loud(problems[-1]))
    probes = [_probe(subject, p) for p in problems]
    right = _Hypothesis()
    if all(probe.explained(right) for probe in probes):
        return Diagnosis("correct", distance=_farthest(probes, right))
    beam = [right]
    for k, probe in enumerate(probes):
        found, best = _extended(beam, probe, probes[:k])
        if not found:
            return _result("partly explained" if len(best) else "unknown", best, probes)
        beam = found[:BEAM]
    smallest = {h.key: h for h in (_reduced(h, probes) for h in beam)}
    best, *others = _ranked(smallest.values())
    return _result("explained", best, probes, others)


def _reduced(hypothesis: _Hypothesis, probes: Sequence[_Probe]) -> _Hypothesis:
    """Without faults that it can do without, all facts still explained."""
    h = hypothesis
    smaller = [replace(h, faults=h.faults[:n] + h.faults[n + 1 :]) for n in range(len(h.faults))]
    forward = tuple(fault for fault in h.faults if fault.stage != "backward")
    if forward and not h.autograd and len(forward) + 1 < len(h):
        smaller.append(_Hypothesis(forward, autograd=True))
    for candidate in smaller:
        if candidate.faults and all(probe.explained(candidate) for probe in probes):
            return _reduced(candidate, probes)
    return h


def _extended(
    beam: Sequence[_Hypothesis], probe: _Probe, before: Sequence[_Probe]
) -> tuple[list[_Hypothesis], _Hypothesis]:
    """Smallest extensions that explain this probe and those before; and the best that do not."""
    frontier, best = list(beam), beam[0]
    for _ in range(MOST_FAULTS):
        found = [h for h in frontier if probe.explained(h)]
        if found:
            return _ranked(found), found[0]
        scored: dict[object, tuple[int, _Hypothesis]] = {}
        for base in frontier:
            for larger in _improvements(base, probe, before):
                agreeing = probe.agreeing(larger)
                assert agreeing is not None
                scored[larger.key] = (len(agreeing), larger)
        if not scored:
            break
        ranked = sorted(scored.values(), key=lambda pair: -pair[0])
        frontier = [hypothesis for _, hypothesis in ranked[: 2 * BEAM]]
        best = frontier[0]
    return [], best


def _ranked(found: Iterable[_Hypothesis]) -> list[_Hypothesis]:
    """Fewest faults first; then as in the catalogue, where the public ones have a source."""
    return sorted(found, key=lambda h: (len(h), [CELL_FAULTS.index(f) for f in h.faults]))


def _improvements(
    base: _Hypothesis, probe: _Probe, before: Sequence[_Probe]
) -> Iterator[_Hypothesis]:
    """The base with one fault more (two, where no single one helps) that sets facts right."""
    agreeing = probe.agreeing(base)
    assert agreeing is not None

    def improves(hypothesis: _Hypothesis) -> bool:
        more = probe.agreeing(hypothesis)
        return more is not None and more > agreeing and all(p.explained(hypothesis) for p in before)

    others = [fault for fault in CELL_FAULTS if fault not in base.faults]
    singles = [base.plus(fault) for fault in others]
    if not base.autograd and any(fault.stage != "backward" for fault in base.faults):
        singles.append(replace(base, autograd=True))
    found = [hypothesis for hypothesis in singles if improves(hypothesis)]
    if found:
        yield from found
        return
    for moving in _movers(base, probe, [fault for fault in others if fault not in GATE_ORDERS]):
        pairs = [base.plus(*pair) for pair in combinations(moving, 2)]
        found = [hypothesis for hypothesis in pairs if improves(hypothesis)]
        if found:
            yield from found
            return


def _movers(base: _Hypothesis, probe: _Probe, faults: Sequence[Fault]) -> list[tuple[Fault, ...]]:
    """For each fact that the base gets wrong, the faults that change it; the fewest first.

    A fault that sets a right fact wrong is left out: another one seldom makes up for that exactly.
    """
    at_base, agreeing = probe.to(base), probe.agreeing(base)
    assert at_base is not None
    assert agreeing is not None
    moving: dict[str, list[Fault]] = {n: [] for n in probe.observed if n not in agreeing}
    for fault in faults:
        moved, still = probe.to(base.plus(fault)), probe.agreeing(base.plus(fault))
        for name, movers in moving.items():
            if moved and still and still >= agreeing and moved[name] != at_base[name]:
                movers.append(fault)
    return sorted(dict.fromkeys(map(tuple, moving.values())), key=len)


def _farthest(probes: Iterable[_Probe], hypothesis: _Hypothesis) -> float:
    """The largest distance of any fact; infinite if the faults exclude each other."""
    distances = [probe.to(hypothesis) for probe in probes]
    return max(max(d.values(), default=0.0) if d is not None else np.inf for d in distances)


def _result(
    status: Status,
    hypothesis: _Hypothesis,
    probes: Sequence[_Probe],
    others: Sequence[_Hypothesis] = (),
) -> Diagnosis:
    """Gather the evidence; `others` explain everything too."""
    right = _Hypothesis()
    first = next(
        f"{name} (T = {len(probe.problem.x)}, N = {len(probe.problem.lengths)})"
        for probe in probes
        for name in probe.observed
        if name not in (probe.agreeing(right) or ())
    )
    findings = []
    for n, fault in enumerate(hypothesis.faults):
        rest = hypothesis.faults[:n] + hypothesis.faults[n + 1 :]
        without = replace(hypothesis, faults=rest)
        alike = {
            other.id: other
            for h in others
            if len(h) == len(hypothesis)
            for other in _swapped(h, without)
            if other != fault
        }
        farthest = _farthest(probes, without)
        findings.append(Finding(fault, farthest, tuple(alike.values())))
    unexplained: tuple[str, ...] = ()
    for probe in probes:
        agreeing = probe.agreeing(hypothesis)
        assert agreeing is not None
        wrong = [name for name in probe.observed if name not in agreeing]
        unexplained = tuple(f"{name}{probe.ratio(name)}" for name in wrong)
        if unexplained:
            break
    return Diagnosis(
        status,
        tuple(findings),
        _farthest(probes, right),
        _farthest(probes, hypothesis),
        first,
        unexplained,
        hypothesis.autograd,
    )


def _swapped(other: _Hypothesis, rest: _Hypothesis) -> tuple[Fault, ...]:
    """The one fault of another explanation that stands where one was left out of this one."""
    ids: Mapping[str, Fault] = {fault.id: fault for fault in other.faults}
    left = [fault for id, fault in ids.items() if id not in {f.id for f in rest.faults}]
    return tuple(left) if len(left) == 1 and len(other) == len(rest) + 1 else ()
