"""What a known fault is: its wrong and its right formula, what first shows it, and the remedy."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from torch_oracle.diagnosis.injection import Edit, injected

FaultStage = Literal["forward", "loss", "backward", "training"]
"""The part of a program that has the fault."""

RULES = (
    "lengths",
    "batch",
    "state",
    "gradient",
    "clipping",
    "SGD",
    "Adam",
    "weight decay",
    "schedule",
)
"""What a fault may break that is no numbered equation."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A known bug of hand-written LSTMs, which can be put into the code of this package.

    Formulas are in the notation of docs/derivation.md and of the docstrings of `cell.py`.

    Args:
        id: a short name, in words and hyphens.
        stage: the part of the program that is wrong.
        equation: the number of the equation that is broken, such as "(11)"; or one of `RULES`.
        wrong: the formula that the faulty program computes.
        right: the formula that it should compute.
        first: the tensor and the step that show it first, in the order of computation. Steps count
            as in Python: 0 is the first, -1 the last, with which the backward pass begins; None is
            a total over the steps. Of a training fault, the stage and the training step.
        fix: the remedy, in a sentence.
        seen: where it was found: repository and issue.
        edits: where the formula stands in the code of this package, and how it is broken there.
    """

    id: str
    stage: FaultStage
    equation: str
    wrong: str
    right: str
    first: tuple[str, int | None]
    fix: str
    seen: str = ""
    edits: tuple[Edit, ...]


@dataclass(frozen=True, kw_only=True)
class TrainingFault(Fault):
    """A known bug of training programs.

    Args:
        case: the name of one of `training_cases`, in which `first` holds.
        needs: what batches or recipe must have for it to change anything; empty if nothing.
    """

    case: str
    needs: str = ""


def faulty(faults: Sequence[Fault]) -> AbstractContextManager[None]:
    """Run with all these faults in the code.

    Raises:
        CannotEdit: two of them replace the same line.
    """
    return injected([edit for fault in faults for edit in fault.edits])
