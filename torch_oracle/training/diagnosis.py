"""Which known faults explain what a training program gets wrong.

Our own training is run on the same batches with faults of the catalogue in it, each step from the
weights that the program reported before it. One fault, or two together, explain the program if that
gives everything it reported, at every step of every run. What none explains is unknown. The verdict
that something is wrong, and at which stage, is torch's (`stages`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any, Literal

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.roundoff import distance_where_finite
from torch_oracle.diagnosis.faults.catalogue import TRAINING_FAULTS
from torch_oracle.diagnosis.faults.fault import TrainingFault, faulty
from torch_oracle.diagnosis.injection import CannotEdit
from torch_oracle.json_values import json_value
from torch_oracle.training.adapter import (
    QUANTITIES,
    Report,
    TrainingAdapter,
    replay,
    run_adapter_on,
)
from torch_oracle.training.cases import TrainingCase, training_cases
from torch_oracle.training.stages import STAGES, TrainingJudgement, judge_training_case

NAMING = 100.0
"""Largest distance, in roundoffs, at which a replay gives the same numbers. K is not enough, for
the noise of a faulty program is not measured. Faults that are told apart differ by more (a test
measures by how much), and what differs by less from the right code is not named."""

Faults = tuple[TrainingFault, ...]
Run = tuple[TrainingCase, list[Report]]
Status = Literal["correct", "explained", "unknown"]


@dataclass(frozen=True)
class NamedTrainingFault:
    """A fault that is part of the explanation, with the evidence.

    `without` is the largest distance that remains when this fault alone is left out, in roundoffs;
    `equivalents` are faults that give the same numbers in its place.
    """

    fault: TrainingFault
    without: float
    equivalents: Faults


@dataclass(frozen=True)
class TrainingDiagnosis:
    """What was found.

    `distance` is the largest distance, in roundoffs, of what was reported from our training with
    all findings in it, and `before` without any. `alternatives` are other pairs that explain as
    much. `inactive` are the faults that would change nothing that was reported: of them nothing is
    known.
    """

    status: Status
    judgement: TrainingJudgement
    findings: tuple[NamedTrainingFault, ...] = ()
    alternatives: tuple[Faults, ...] = ()
    before: float = 0.0
    distance: float = 0.0
    inactive: Faults = ()

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as JSON has it; a distance that is not finite becomes a string."""
        findings = [
            {
                "fault": finding.fault.id,
                "wrong": finding.fault.wrong,
                "right": finding.fault.right,
                "fix": finding.fault.fix,
                "seen": finding.fault.seen,
                "without": finding.without,
                "equivalents": [fault.id for fault in finding.equivalents],
            }
            for finding in self.findings
        ]
        result = {
            "status": self.status,
            "findings": findings,
            "alternatives": [[fault.id for fault in pair] for pair in self.alternatives],
            "before": self.before,
            "distance": self.distance,
            "inactive": {fault.id: fault.needs for fault in self.inactive},
            "judgement": self.judgement.to_json(),
        }
        return json_value(result)


def diagnose_training(
    function: TrainingAdapter, *, cases: Sequence[TrainingCase] | None = None
) -> TrainingDiagnosis:
    """Judge a training program, and explain what it gets wrong by the faults of the catalogue.

    Args:
        function: the training adapter; see `training_reports`.
        cases: the runs; `training_cases()` when None.

    Raises:
        InputError: the adapter raises, or returns something of another form.
    """
    if cases is None:
        cases = training_cases()
    runs, refused = run_adapter_on(function, cases)
    judgement = TrainingJudgement(tuple(judge_training_case(*run) for run in runs), refused)
    inactive = tuple(fault for fault in TRAINING_FAULTS if not _visible(fault, runs))
    before = _largest_distance((), runs)
    if judgement.first is None:
        return TrainingDiagnosis("correct", judgement, distance=before, inactive=inactive)
    candidates = _by_stage(judgement.first.stage, inactive)
    # Runs that went wrong come first: they rule most out.
    runs = [*_runs_that(judgement, runs, passed=False), *_runs_that(judgement, runs, passed=True)]
    found = _explaining([(fault,) for fault in candidates], runs)
    if not found:
        found = _explaining(combinations(candidates, 2), runs)
    if not found or before <= NAMING:
        return TrainingDiagnosis("unknown", judgement, (), (), before, before, inactive)
    best, others = found[0], found[1:]
    findings = tuple(_named(best, fault, others, runs) for fault in best)
    swapped = {fault.id for finding in findings for fault in finding.equivalents}
    alternatives = tuple(h for h in others if not swapped & {fault.id for fault in h})
    distance = _largest_distance(best, runs)
    return TrainingDiagnosis(
        "explained", judgement, findings, alternatives, before, distance, inactive
    )


def _runs_that(judgement: TrainingJudgement, runs: Sequence[Run], *, passed: bool) -> list[Run]:
    judged = zip(judgement.cases, runs, strict=True)
    return [run for case, run in judged if (case.first is None) == passed]


def _by_stage(stage: str, inactive: Faults) -> list[TrainingFault]:
    """The faults that could be seen, those of the stage that first went wrong in front."""
    visible = [fault for fault in TRAINING_FAULTS if fault not in inactive]
    order = [stage, *(each for each in STAGES if each != stage)]
    return sorted(visible, key=lambda fault: order.index(fault.first[0]))


def _explaining(hypotheses: Iterable[Faults], runs: Sequence[Run]) -> list[Faults]:
    """Those whose replay gives everything that was reported."""
    remaining = list(hypotheses)
    for case, reports in runs:
        remaining = [
            faults for faults in remaining if _distance(faults, case, reports, NAMING) <= NAMING
        ]
    return remaining


def _largest_distance(faults: Faults, runs: Sequence[Run]) -> float:
    return max(_distance(faults, *run) for run in runs)


def _distance(
    faults: Faults, case: TrainingCase, reports: Sequence[Report], limit: float = np.inf
) -> float:
    """Largest distance of what was reported from the replay; infinite if it cannot be run.

    Above the limit, the first distance that exceeds it.
    """
    largest = 0.0
    ordered = sorted(faults, key=TRAINING_FAULTS.index)
    try:
        with faulty(ordered), np.errstate(all="ignore"):
            replayed = replay(case.model, case.weights, case.batches, case.recipe, reports)
            for report, computed in zip(reports, replayed, strict=True):
                largest = max(largest, *report_distances(report, computed).values())
                if largest > limit:
                    break
    except (CannotEdit, InputError):
        return np.inf
    return largest


def report_distances(report: Report, other: Report) -> dict[str, float]:
    """Distance of each reported quantity, in roundoffs of its tensors' largest elements."""
    return {
        quantity: max(
            distance_where_finite(array, other[quantity][name]) for name, array in arrays.items()
        )
        for quantity, arrays in report.items()
    }


def _named(
    best: Faults, fault: TrainingFault, others: Sequence[Faults], runs: Sequence[Run]
) -> NamedTrainingFault:
    """A fault of the best explanation, with what explains as much in its place."""
    rest = tuple(each for each in best if each != fault)
    equivalents = [
        each for other in others if set(rest) < set(other) for each in other if each not in rest
    ]
    return NamedTrainingFault(fault, _largest_distance(rest, runs), tuple(equivalents))


def _visible(fault: TrainingFault, runs: Sequence[Run]) -> bool:
    """Whether the fault changes anything that was reported, by more than rounding."""
    return any(
        activity(fault, case).get(quantity, 0.0) > NAMING
        for case, reports in runs
        for quantity in reports[0]
    )


@cache
def activity(fault: TrainingFault, case: TrainingCase) -> dict[str, float]:
    """How far the fault moves each quantity of our own training, in roundoffs.

    Each step starts where the run without the fault stands. Infinite if the run fails.
    """
    correct = _correct_run(case)
    moved: dict[str, float] = dict.fromkeys(QUANTITIES, 0.0)
    try:
        with faulty([fault]), np.errstate(all="ignore"):
            replayed = replay(case.model, case.weights, case.batches, case.recipe, correct)
            for right, wrong in zip(correct, replayed, strict=True):
                for quantity, distance in report_distances(wrong, right).items():
                    moved[quantity] = max(moved[quantity], distance)
    except InputError:
        return dict.fromkeys(QUANTITIES, np.inf)
    return moved


@cache
def _correct_run(case: TrainingCase) -> list[Report]:
    return list(replay(case.model, case.weights, case.batches, case.recipe))
