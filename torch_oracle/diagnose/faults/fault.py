"""What a known fault is: where it breaks the real code, what first shows it, and the remedy."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from torch_oracle.diagnose.injection import Edit, injected

Stage = Literal["forward", "loss", "backward", "training"]


@dataclass(frozen=True)
class Fault:
    """A known bug of hand-written LSTMs, which can be injected into the real code."""

    id: str
    """Short, in words and hyphens."""
    stage: Stage
    equation: str
    """The number of the equation it breaks (docs/derivation.md), or the name of the rule."""
    edits: tuple[Edit, ...]
    """The right lines of the real code, and the wrong ones."""
    first: tuple[str, int | None]
    """The tensor and the step that first show it, in the order of computation. Steps count as in
    Python: 0 is the first, -1 the last, which is the backward pass's first; None is a total.
    Of training faults: the stage (loss, gradient, clip, moment, update) and the training step."""
    fix: str
    """The remedy in a sentence, with the right formula."""
    seen: str = ""
    """Where it was found: repository and issue."""


def faulty(faults: Sequence[Fault]) -> AbstractContextManager[None]:
    """Run with all these faults in the code.

    Raises:
        CannotEdit: two of them replace the same line.
    """
    return injected([edit for fault in faults for edit in fault.edits])
