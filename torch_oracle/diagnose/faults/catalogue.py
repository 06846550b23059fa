"""All known faults together, and the page that lists them (docs/faults.md)."""

from collections.abc import Iterator, Sequence

from torch_oracle.diagnose.faults.cell_faults import ALIASING, BACKWARD, FORWARD, LOSS, ORDERS
from torch_oracle.diagnose.faults.fault import Fault, Stage
from torch_oracle.diagnose.faults.training_faults import TRAINING_FAULTS

CELL_FAULTS = (*FORWARD, *LOSS, *BACKWARD, *ORDERS)
"""Faults of one forward and backward run."""
FAULTS = (*CELL_FAULTS, *ALIASING, *TRAINING_FAULTS)
"""Every known fault."""
STAGES: dict[Stage, str] = {
    "forward": "Forward pass",
    "loss": "Loss and its gradient",
    "backward": "Backward pass",
    "training": "Training",
}
LEGEND = (
    "In these lines w is the weights, k what the forward pass kept, m and dm are h and dh, a_f and"
    " da_f are lists of one, and w.coupled is False."
)
"""How to read lines of the real code, whose options are those of an ordinary LSTM."""
INTRODUCTION = f"""\
# Known faults of hand-written LSTMs

This page is printed by `python -m torch_oracle catalogue`. Each fault is a change to the real
code of this package: the line marked `-` is wrong, the line marked `+` is the one to write. Numbers
of equations are those of [derivation.md](derivation.md), and names of tensors too: `dc` is the
gradient of `c`, `a_f` what goes into the forget gate's sigmoid. "First shown by" names the
tensor, in the order of computation, whose number is the first to be wrong; steps go from 0 to
T - 1, and gradients are computed from the last step to the first.
`python -m torch_oracle diagnose package.module:adapter` finds which of these faults an LSTM has.

{LEGEND}
"""


def catalogue(faults: Sequence[Fault] = FAULTS) -> str:
    """The page, in Markdown."""
    lines = [INTRODUCTION]
    sections: dict[Stage, list[tuple[str, Fault]]] = {
        stage: _shown(faults, stage) for stage in STAGES
    }
    for stage, shown in sections.items():
        if shown:
            title = STAGES[stage]
            anchor = title.lower().replace(" ", "-")
            count = sum(fault.stage == stage for fault in faults)
            lines.append(f"- [{title}](#{anchor}): {count}")
    for stage, shown in sections.items():
        if shown:
            lines += ["", f"## {STAGES[stage]}"]
        for title, fault in shown:
            lines += ["", f"### {title}", "", *_entry(fault)]
    return "\n".join(lines) + "\n"


def _shown(faults: Sequence[Fault], stage: Stage) -> list[tuple[str, Fault]]:
    """Title and fault; of the gate orders, one example for all of the same place."""
    of_stage = [fault for fault in faults if fault.stage == stage]
    families: dict[str, list[Fault]] = {}
    for fault in of_stage:
        if fault in ORDERS:
            families.setdefault(fault.id.rpartition("-")[0], []).append(fault)
    shown = [(fault.id, fault) for fault in of_stage if fault not in ORDERS]
    for name, orders in families.items():
        example = next((fault for fault in orders if fault.seen), orders[0])
        shown.append((f"{name}-..., {len(orders)} orders, such as {example.id}", example))
    return shown


def _entry(fault: Fault) -> Iterator[str]:
    """Where, what and how to mend it."""
    places = dict.fromkeys(edit.place for edit in fault.edits)
    yield f"{fault.equation}, {' and '.join(f'`{place}`' for place in places)}."
    yield f"First shown by {_first(fault)}."
    yield from ("", "```diff")
    for edit in fault.edits:
        right, wrong = edit.lines
        yield from (f"-{line}" for line in wrong.splitlines())
        yield from (f"+{line}" for line in right.splitlines())
    yield from ("```", "", fault.fix)
    if fault.seen:
        yield f"Seen in: {fault.seen}."


def _first(fault: Fault) -> str:
    """The tensor and the step that first show it, in words."""
    tensor, step = fault.first
    if fault.stage == "training":
        return f"the {tensor}, at training step {step}"
    if step is None:
        return f"the total `{tensor}`"
    return f"`{tensor}` at step {step if step >= 0 else f'T - {-step}'}"
