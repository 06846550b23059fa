"""What a diagnosis found, with the evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from torch_oracle.diagnosis.faults.fault import Fault
from torch_oracle.diagnosis.hypothesis import Hypothesis
from torch_oracle.diagnosis.probe import Probe

Status = Literal["correct", "explained", "partly explained", "unknown"]


@dataclass(frozen=True)
class NamedFault:
    """A fault that is part of the explanation, with the evidence.

    Args:
        fault: the fault.
        without: the largest distance that remains, in roundoffs, if this fault alone is left out.
        equivalents: faults that give the same numbers in its place.
    """

    fault: Fault
    without: float
    equivalents: tuple[Fault, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What a diagnosis found.

    Args:
        status: whether everything, a part or nothing of what is wrong is explained.
        findings: the faults that explain it.
        before: the largest distance from a correct LSTM, in roundoffs.
        distance: the largest distance from an LSTM with all the findings in it.
        first: the first observation, in the order of computation, that is not torch's.
        unexplained: observations that no set of faults predicts.
        autograd: whether the gradients are the exact derivative of the wrong forward pass, so that
            nothing but the forward pass is wrong.
    """

    status: Status
    findings: tuple[NamedFault, ...] = ()
    before: float = 0.0
    distance: float = 0.0
    first: str = ""
    unexplained: tuple[str, ...] = ()
    autograd: bool = False


def correct_diagnosis(probes: Sequence[Probe]) -> Diagnosis:
    """The diagnosis of an LSTM of which every observation is torch's."""
    return Diagnosis("correct", distance=largest_distance(probes, Hypothesis()))


def diagnosis_of(
    status: Status,
    hypothesis: Hypothesis,
    probes: Sequence[Probe],
    others: Sequence[Hypothesis] = (),
) -> Diagnosis:
    """The diagnosis that a hypothesis amounts to.

    Args:
        status: how much the hypothesis explains.
        hypothesis: the best that was found.
        probes: what was observed.
        others: hypotheses that explain everything too.
    """
    return Diagnosis(
        status,
        tuple(_named(fault, hypothesis, probes, others) for fault in hypothesis.faults),
        largest_distance(probes, Hypothesis()),
        largest_distance(probes, hypothesis),
        _first_divergence(probes),
        _unexplained(probes, hypothesis),
        hypothesis.autograd,
    )


def largest_distance(probes: Sequence[Probe], hypothesis: Hypothesis) -> float:
    """The largest distance of any observation from what the hypothesis predicts.

    It is infinite if the faults of the hypothesis cannot be in the code together.
    """
    largest = 0.0
    for probe in probes:
        distances = probe.distances(hypothesis)
        if distances is None:
            return np.inf
        largest = max([largest, *distances.values()])
    return largest


def _named(
    fault: Fault, hypothesis: Hypothesis, probes: Sequence[Probe], others: Sequence[Hypothesis]
) -> NamedFault:
    """A fault of the hypothesis, and what stands in its place in other explanations."""
    rest = hypothesis.minus(fault)
    equivalents: dict[str, Fault] = {}
    for other in others:
        replacing = [each for each in other.faults if each not in rest.faults]
        if other.size == hypothesis.size and len(replacing) == 1 and replacing[0] != fault:
            equivalents[replacing[0].id] = replacing[0]
    return NamedFault(fault, largest_distance(probes, rest), tuple(equivalents.values()))


def _first_divergence(probes: Sequence[Probe]) -> str:
    """The first observation that is not torch's, with the sizes of its problem."""
    for probe in probes:
        for name in probe.disagreeing(Hypothesis()):
            return f"{name} (T = {len(probe.problem.x)}, N = {len(probe.problem.lengths)})"
    return ""


def _unexplained(probes: Sequence[Probe], hypothesis: Hypothesis) -> tuple[str, ...]:
    """What the hypothesis does not predict, in the first problem where there is any."""
    for probe in probes:
        names = probe.disagreeing(hypothesis)
        if names:
            return tuple(f"{name}{probe.factor_in_words(name)}" for name in names)
    return ()
