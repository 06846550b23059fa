"""Every training fault, alone and in random pairs, through the judgement and the diagnosis:

python -m parity_tests.campaigns.training_faults
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import InputError, check_not_negative, check_positive
from numpy_lstm.training.batching import Batch
from numpy_lstm.training.loop import Recipe
from torch_oracle.diagnosis.faults.catalogue import TRAINING_FAULTS
from torch_oracle.diagnosis.faults.fault import TrainingFault, faulty
from torch_oracle.diagnosis.injection import CannotEdit
from torch_oracle.training.adapter import QUANTITIES, TrainingAdapter, moments, numpy_training
from torch_oracle.training.cases import TrainingCase, training_cases
from torch_oracle.training.diagnosis import (
    NAMING,
    TrainingDiagnosis,
    activity,
    diagnose_training,
)

ORDER = np.array([2, 0, 1])
"""The adapters take each batch's sequences in another order, so that they round differently."""
Level = Literal["everything", "weights"]
LEVELS: dict[Level, tuple[str, ...]] = {"everything": QUANTITIES, "weights": ("weights",)}


@dataclass(frozen=True)
class Settings:
    """How many pairs of faults are tried, and what the training program reports."""

    pairs: int = 30
    """Random pairs of faults."""
    levels: tuple[Level, ...] = ("everything", "weights")
    """What the training program reports of each step."""
    few_cases: bool = False
    """Judge each fault by its own case and one more instead of by all."""
    seed: int = 0
    """Of the pairs."""


def faulty_adapter(
    faults: Sequence[TrainingFault], quantities: Sequence[str] = QUANTITIES
) -> TrainingAdapter:
    """Our own training with faults in it, rounding differently, as somebody's."""

    def adapter(
        weights: Mapping[str, np.ndarray], batches: Sequence[Batch], recipe: Recipe
    ) -> list[dict[str, Any]]:
        reordered = [
            replace(
                batch,
                inputs=batch.inputs[:, ORDER],
                targets=batch.targets[:, ORDER],
                lengths=batch.lengths[ORDER],
            )
            for batch in batches
        ]
        with faulty(faults), np.errstate(all="ignore"):
            reports = numpy_training(weights, reordered, recipe)
        return [{name: report[name] for name in report if name in quantities} for report in reports]

    return adapter


def is_active(fault: TrainingFault, level: Level, cases: Sequence[TrainingCase]) -> bool:
    """Whether the fault moves anything that is reported, in any of the cases."""
    return any(
        activity(fault, case)[quantity] > NAMING for case in cases for quantity in LEVELS[level]
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one fault."""

    fault: TrainingFault
    level: Level
    active: bool
    diagnosis: TrainingDiagnosis

    @property
    def caught(self) -> bool:
        """Whether torch judges the step with the fault to be wrong."""
        return not self.diagnosis.judgement.passed

    @property
    def stage(self) -> bool:
        """Whether the stage is right, and in the fault's own case the step."""
        first = self.diagnosis.judgement.first
        own = next(c for c in self.diagnosis.judgement.cases if c.case == self.fault.case).first
        if first is None or own is None:
            return False
        expected, step = self.fault.first
        if self.level == "weights":
            possible = {"loss" if each == "gradient" else each for each in own.possible}
            possible |= set(own.possible)
            return first.stage == "update" and own.step == step and expected in possible
        case = next(case for case in training_cases() if case.name == first.case)
        if expected == "moment" and not moments(case.recipe):
            expected = "update"
        return first.stage == expected and (own.stage, own.step) == self.fault.first

    @property
    def named(self) -> bool:
        """Whether the fault is named first, or as equivalent to what is."""
        findings = self.diagnosis.findings
        return len(findings) == 1 and self.fault in (findings[0].fault, *findings[0].equivalents)

    @property
    def misnamed(self) -> bool:
        """Whether something else is named."""
        return bool(self.diagnosis.findings) and not self.named


def telling_cases(fault: TrainingFault) -> list[TrainingCase]:
    """The fault's own case, and the one that tells clipping by value from none."""
    return [case for case in training_cases() if case.name in (fault.case, "momentum-float32")]


def outcome(
    fault: TrainingFault, level: Level, cases: Sequence[TrainingCase] | None = None
) -> Outcome:
    """Put one fault to the test, in these cases or in all; its own must be among them."""
    cases = training_cases() if cases is None else cases
    diagnosis = diagnose_training(faulty_adapter([fault], LEVELS[level]), cases=cases)
    return Outcome(fault, level, is_active(fault, level, cases), diagnosis)


def random_pairs(number: int, seed: int) -> Iterator[tuple[TrainingFault, TrainingFault]]:
    """Different pairs that can stand in the code together and run."""
    pairs = list(combinations(TRAINING_FAULTS, 2))
    rng, found = np.random.default_rng(seed), 0
    for n in rng.permutation(len(pairs)):
        try:
            with faulty(pairs[n]):
                pass
        except CannotEdit:
            continue
        yield pairs[n]
        found += 1
        if found == number:
            return


def pair_outcome(pair: tuple[TrainingFault, TrainingFault]) -> str:
    """What became of two faults at once: both named, one named, explained by others, unknown."""
    try:
        diagnosis = diagnose_training(faulty_adapter(pair))
    except InputError:
        return "diverges"
    named = {f for finding in diagnosis.findings for f in (finding.fault, *finding.equivalents)}
    alternatives = [set(alternative) for alternative in diagnosis.alternatives]
    if set(pair) <= named or set(pair) in alternatives:
        return "both named"
    if diagnosis.findings:
        return "one named, which hides the other" if named & set(pair) else "others named"
    return diagnosis.status


def _table(outcomes: Sequence[Outcome], level: Level) -> Table:
    table = Table(title=f"Training faults, from {level}")
    for column in ("fault", "active", "first divergence", "right", "named", "with", "without"):
        table.add_column(column)
    for each in outcomes:
        d, first = each.diagnosis, each.diagnosis.judgement.first
        table.add_row(
            each.fault.id,
            "yes" if each.active else "no",
            "" if first is None else f"{first.case} step {first.step}: {first.stage}",
            "yes" if each.stage else "no",
            ", ".join(f.fault.id for f in d.findings) or d.status,
            f"{d.distance:.1f}",
            f"{d.before:.1e}",
        )
    return table


def summary(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """The counts over the active faults, and of inactive ones those that were taken for errors."""
    active = [each for each in outcomes if each.active]
    return {
        "faults": len(outcomes),
        "active": len(active),
        "caught": sum(each.caught for each in active),
        "right stage": sum(each.stage for each in active),
        "named": sum(each.named for each in active),
        "misnamed": sum(each.misnamed for each in outcomes),
        "inactive but caught": sum(each.caught for each in outcomes if not each.active),
        "inactive and listed so": sum(
            each.fault in each.diagnosis.inactive for each in outcomes if not each.active
        ),
    }


def main(settings: Settings) -> int:
    """Print all outcomes; 1 if an active fault was not caught, placed and named."""
    check_positive(pairs=settings.pairs)
    check_not_negative(seed=settings.seed)
    if not settings.levels:
        raise InputError(f"expected some of {list(LEVELS)}, got none", argument="levels")
    torch.set_num_threads(1)
    console, failures = Console(), 0
    for level in settings.levels:
        outcomes = []
        for fault in track(TRAINING_FAULTS, level):
            cases = telling_cases(fault) if settings.few_cases else training_cases()
            outcomes.append(outcome(fault, level, cases))
        counts = summary(outcomes)
        console.print(_table(outcomes, level))
        console.print(", ".join(f"{count} {name}" for name, count in counts.items()))
        failures += counts["active"] - min(counts[k] for k in ("caught", "right stage", "named"))
        failures += counts["misnamed"]
        if not counts["active"]:
            console.print(f"no fault is active from {level}: nothing was shown")
            failures += 1
    pairs = list(random_pairs(settings.pairs, settings.seed))
    results = {pair: pair_outcome(pair) for pair in track(pairs, "pairs")}
    for pair, result in results.items():
        if result != "both named":
            console.print(f"{pair[0].id} + {pair[1].id}: {result}")
    console.print(f"{len(pairs)} pairs: {dict(Counter(results.values()))}")
    return int(failures > 0)


if __name__ == "__main__":
    with one_line_errors(Settings):
        raise SystemExit(main(tyro.cli(Settings, description=__doc__)))
