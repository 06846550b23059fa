"""All known faults together, as the TOML files beside this module record them, a file a stage.

A new fault is a record in one of those files; here they are only joined and listed in Markdown.
"""

from collections.abc import Iterator, Sequence

from torch_oracle.diagnosis.faults.fault import Fault, FaultStage, TrainingFault
from torch_oracle.diagnosis.faults.gate_orders import gate_order_faults
from torch_oracle.diagnosis.faults.records import faults_in

FORWARD = faults_in("forward.toml")
LOSS = faults_in("loss.toml")
BACKWARD = faults_in("backward.toml")
GATE_ORDERS = tuple(gate_order_faults())
ALIASING = faults_in("aliasing.toml")
"""Faults that show only afterwards: an argument is changed, or a second backward pass is wrong."""
CELL_FAULTS = (*FORWARD, *LOSS, *BACKWARD, *GATE_ORDERS)
"""Faults of one forward and backward run; of two that give the same numbers, the first is named."""
TRAINING_FAULTS = tuple(
    fault for fault in faults_in("training.toml") if isinstance(fault, TrainingFault)
)
"""Faults of training; of two that give the same numbers, the first is named."""
FAULTS = (*CELL_FAULTS, *ALIASING, *TRAINING_FAULTS)
"""Every known fault."""

TITLES: dict[FaultStage, str] = {
    "forward": "Forward pass",
    "loss": "Loss and its gradient",
    "backward": "Backward pass",
    "training": "Training",
}
"""The heading of each stage in the list."""
INTRODUCTION = """\
# Known faults of hand-written LSTMs

Of each fault, the formula marked `-` is wrong and the formula marked `+` is the one to compute, in
the notation and with the numbers of the docstrings of numpy_lstm/cell.py. "First shown by" names
the tensor, in the order of computation, whose number is the first to be wrong; steps go from 0 to T
- 1, and gradients are computed from the last step to the first.
`lstm-oracle diagnose package.module:adapter` finds which of these faults an LSTM has.
"""


def catalogue(faults: Sequence[Fault] = FAULTS) -> str:
    """The list of all faults, in Markdown."""
    lines = [INTRODUCTION]
    by_stage: dict[FaultStage, list[Fault]] = {}
    for stage in TITLES:
        by_stage[stage] = [fault for fault in faults if fault.stage == stage]
    for stage, found in by_stage.items():
        anchor = TITLES[stage].lower().replace(" ", "-")
        lines.append(f"- [{TITLES[stage]}](#{anchor}): {len(found)}")
    for stage, found in by_stage.items():
        lines += ["", f"## {TITLES[stage]}"]
        for fault in found:
            lines += ["", f"### {fault.id}", "", *_entry(fault)]
    return "\n".join(lines) + "\n"


def _entry(fault: Fault) -> Iterator[str]:
    """What is wrong, where it shows, and how to mend it."""
    yield f"Breaks {subject(fault)}; first shown by {_first(fault)}."
    yield from ("", "```diff", f"- {fault.wrong}", f"+ {fault.right}", "```", "")
    yield fault.fix
    if fault.seen:
        yield f"Seen in: {fault.seen}."


def subject(fault: Fault) -> str:
    """The equation, or the rule, that a fault breaks, in words."""
    if fault.equation.startswith("("):
        return f"equation {fault.equation}"
    return fault.equation


def _first(fault: Fault) -> str:
    """The tensor and the step that first show it, in words."""
    tensor, step = fault.first
    if isinstance(fault, TrainingFault):
        return f"the {tensor}, at training step {step}"
    if step is None:
        return f"the total `{tensor}`"
    if step < 0:
        return f"`{tensor}` at step T - {-step}"
    return f"`{tensor}` at step {step}"
