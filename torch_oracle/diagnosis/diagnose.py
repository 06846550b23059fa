"""Which known faults explain what an LSTM gets wrong.

The LSTM is given small problems: one step, where the gradient of the bias is da itself, so that
each gate's formula stands alone; two steps, which show the carries; three, which show shifted
indices; then a batch. Where its numbers differ from torch's, the plain code of `unrolled.py` is run
with faults of the catalogue in it. A hypothesis, which is a set of faults, explains a problem if
that run gives all of the same wrong numbers.

The search begins with no fault. It adds one fault at a time, or two at once where no single one
helps; what is added must make more of the observations agree, and none disagree that agreed
before. The simplest hypotheses that explain a problem go on to the next. Where none does, the
nearest one is a partial diagnosis, or, if it has no fault, the cause is unknown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from torch_oracle.diagnosis.faults.catalogue import CELL_FAULTS, GATE_ORDERS
from torch_oracle.diagnosis.faults.fault import Fault
from torch_oracle.diagnosis.hypothesis import Hypothesis, HypothesisKey
from torch_oracle.diagnosis.probe import Probe, Subject, make_probe
from torch_oracle.diagnosis.results import Diagnosis, correct_diagnosis, diagnosis_of
from torch_oracle.proof.random_problems import Sizes, loud

SIZES: tuple[Sizes, ...] = ((1, 1, 3, 4), (2, 1, 3, 4), (3, 1, 4, 3), (4, 3, 2, 5), (6, 5, 4, 3))
"""T, N, I and H of the problems, the simplest first."""
MOST_ROUNDS = 12
"""Rounds of the search for one problem; each adds one fault, or two, to the hypotheses."""
KEPT = 12
"""Hypotheses that go on from one problem to the next."""


def diagnose(subject: Subject, *, seed: int = 0, sizes: Sequence[Sizes] = SIZES) -> Diagnosis:
    """Explain what an LSTM gets wrong by the faults of the catalogue.

    Args:
        subject: the LSTM, such as an `adapters.Adapter`.
        seed: for the random problems.
        sizes: T, N, I and H of the problems, the simplest first.
    """
    problems = [subject.problem(seed + k, size) for k, size in enumerate(sizes)]
    if problems[-1].targets is not None:
        problems.append(loud(problems[-1]))
    probes = [make_probe(subject, problem) for problem in problems]
    if all(probe.is_explained_by(Hypothesis()) for probe in probes):
        return correct_diagnosis(probes)
    kept = [Hypothesis()]
    for k, probe in enumerate(probes):
        explaining, nearest = _explanations(kept, probe, probes[:k])
        if not explaining:
            status = "partly explained" if nearest.faults else "unknown"
            return diagnosis_of(status, nearest, probes)
        kept = explaining[:KEPT]
    reduced = {}
    for hypothesis in kept:
        needed = _without_needless_faults(hypothesis, probes)
        reduced[needed.key] = needed
    best, *others = _simplest_first(reduced.values())
    return diagnosis_of("explained", best, probes, others)


def _explanations(
    kept: Sequence[Hypothesis], probe: Probe, earlier: Sequence[Probe]
) -> tuple[list[Hypothesis], Hypothesis]:
    """The smallest hypotheses that explain this problem as well as the earlier ones.

    Args:
        kept: hypotheses that explain the earlier problems, the simplest first.
        probe: this problem.
        earlier: the problems before it.

    Returns:
        ``explaining, nearest``: those found, the simplest first; and if there are none, the one
        with which the most observations agree.
    """
    candidates, nearest = list(kept), kept[0]
    for _ in range(MOST_ROUNDS):
        explaining = [each for each in candidates if probe.is_explained_by(each)]
        if explaining:
            return _simplest_first(explaining), explaining[0]
        larger: dict[HypothesisKey, Hypothesis] = {}
        for candidate in candidates:
            for improved in _improvements(candidate, probe, earlier):
                larger[improved.key] = improved
        if not larger:
            break
        ranked = sorted(larger.values(), key=lambda each: len(probe.disagreeing(each)))
        candidates = ranked[: 2 * KEPT]
        nearest = candidates[0]
    return [], nearest


def _improvements(
    hypothesis: Hypothesis, probe: Probe, earlier: Sequence[Probe]
) -> list[Hypothesis]:
    """The hypothesis with one fault more, or with two where no single one improves it."""
    others = [fault for fault in CELL_FAULTS if fault not in hypothesis.faults]
    larger = [hypothesis.plus(fault) for fault in others]
    if hypothesis.breaks_the_forward_pass and not hypothesis.autograd:
        larger.append(replace(hypothesis, autograd=True))
    improved = [each for each in larger if _improves(each, hypothesis, probe, earlier)]
    if improved:
        return improved
    single_faults = [fault for fault in others if fault not in GATE_ORDERS]
    for faults in _faults_that_move(hypothesis, probe, single_faults):
        larger = [hypothesis.plus(*pair) for pair in combinations(faults, 2)]
        improved = [each for each in larger if _improves(each, hypothesis, probe, earlier)]
        if improved:
            return improved
    return []


def _improves(
    larger: Hypothesis, hypothesis: Hypothesis, probe: Probe, earlier: Sequence[Probe]
) -> bool:
    """Whether more observations agree with the larger one, and all that agreed before.

    The earlier problems must stay explained.
    """
    agreed, agrees = probe.agreeing(hypothesis), probe.agreeing(larger)
    if agreed is None or agrees is None or not agrees > agreed:
        return False
    return all(each.is_explained_by(larger) for each in earlier)


def _faults_that_move(
    hypothesis: Hypothesis, probe: Probe, faults: Sequence[Fault]
) -> list[tuple[Fault, ...]]:
    """For each observation that disagrees, the faults that change its distance; fewest first.

    Two of them may together do what none does alone. A fault that makes an observation disagree
    that agreed is left out, since another one seldom makes up for that exactly.
    """
    before, agreed = probe.distances(hypothesis), probe.agreeing(hypothesis)
    assert before is not None
    assert agreed is not None
    moving: dict[str, list[Fault]] = {name: [] for name in probe.disagreeing(hypothesis)}
    for fault in faults:
        larger = hypothesis.plus(fault)
        distances, agrees = probe.distances(larger), probe.agreeing(larger)
        if distances is None or agrees is None or not agrees >= agreed:
            continue
        for name, movers in moving.items():
            if distances[name] != before[name]:
                movers.append(fault)
    return sorted(dict.fromkeys(tuple(movers) for movers in moving.values()), key=len)


def _without_needless_faults(hypothesis: Hypothesis, probes: Sequence[Probe]) -> Hypothesis:
    """The hypothesis without the faults that it can do without, everything still explained."""
    smaller = [hypothesis.minus(fault) for fault in hypothesis.faults]
    forward = tuple(fault for fault in hypothesis.faults if fault.stage != "backward")
    exact = Hypothesis(forward, autograd=True)
    if not hypothesis.autograd and exact.size < hypothesis.size:
        smaller.append(exact)
    for candidate in smaller:
        if candidate.faults and all(probe.is_explained_by(candidate) for probe in probes):
            return _without_needless_faults(candidate, probes)
    return hypothesis


def _simplest_first(hypotheses: Iterable[Hypothesis]) -> list[Hypothesis]:
    """Those with the fewest faults first; of as many, those that the catalogue has first."""

    def rank(hypothesis: Hypothesis) -> tuple[int, list[int]]:
        return hypothesis.size, [CELL_FAULTS.index(fault) for fault in hypothesis.faults]

    return sorted(hypotheses, key=rank)
