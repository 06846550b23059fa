"""Every fault of the catalogue, alone and with others, through the checks and the diagnosis:

python -m parity_tests.campaigns.faults
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from numpy_lstm.cell import cell_backward, cell_forward
from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import InputError, check_not_negative, check_positive
from numpy_lstm.unrolled import unrolled_backward, unrolled_forward
from torch_oracle.diagnosis.diagnose import diagnose
from torch_oracle.diagnosis.faults.catalogue import BACKWARD, CELL_FAULTS, GATE_ORDERS
from torch_oracle.diagnosis.faults.fault import Fault, faulty
from torch_oracle.diagnosis.injection import CannotEdit, Edit
from torch_oracle.diagnosis.results import Diagnosis
from torch_oracle.proof.compare import Comparison, compare, noise_moves
from torch_oracle.proof.numpy_trace import plain_trace
from torch_oracle.proof.random_problems import Sizes, loud, random_problem
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import Problem, Trace, in_dtype

FORMS = {
    "layer": {},
    "language model": {"model": True},
    "layer with two biases": {"bias_pair": True},
    "language model, loud": {"model": True},
}
"""What a fault is looked for in, one after the other, until it is active."""
T = 7


@dataclass(frozen=True)
class Plain:
    """The plain code, with faults in it, as a subject of the diagnosis."""

    faults: tuple[Fault, ...]
    form: str
    gradients_alone: bool
    dtype: type = np.float64

    def problem(self, seed: int, sizes: Sizes) -> Problem:
        """A random problem of this form, without padding where there is one step."""
        return random_problem(seed, sizes=sizes, **FORMS[self.form])

    def run(self, problem: Problem) -> Trace:
        """All of the trace, or the parameters' gradients alone."""
        trace = faulty_trace(in_dtype(problem, self.dtype), self.faults)
        if not self.gradients_alone:
            return trace
        names = [name for name in trace.totals if name.startswith(("dW", "db"))]
        return Trace({}, {name: trace.totals[name] for name in names})


def faulty_trace(problem: Problem, faults: Sequence[Fault]) -> Trace:
    """The trace of the plain code with these faults; overflows are their own affair."""
    with faulty(faults), np.errstate(all="ignore"):
        return plain_trace(problem)


@cache
def _reference(form: str) -> tuple[Problem, Trace, list[Trace]]:
    """A ragged problem in which most sequences end early, torch's trace, and its noise."""
    problem = random_problem(1, sizes=(T, 5, 6, 9), **FORMS[form])
    problem = replace(problem, lengths=np.array([T, T - 1, 3, T, T - 1]))
    if form.endswith("loud"):
        problem = loud(problem)
    return problem, torch_trace(problem), noise_moves(problem)


def active_form(faults: Sequence[Fault], gradients_alone: bool = False) -> str | None:
    """The first form in which every fault changes something; None if there is none."""
    for form in FORMS:
        problem, _, _ = _reference(form)
        whole = Plain(tuple(faults), form, gradients_alone).run(problem)
        rest = [tuple(f for f in faults if f is not fault) for fault in faults]
        if all(differ(whole, Plain(some, form, gradients_alone).run(problem)) for some in rest):
            return form
    return None


def differ(a: Trace, b: Trace) -> bool:
    """Whether any number of two traces differs by more than rounding."""
    pairs = [(a.totals[name], b.totals[name]) for name in a.totals]
    pairs += [(a.steps[name], b.steps[name]) for name in a.steps]
    return not all(np.allclose(x, y, rtol=1e-13, atol=1e-15, equal_nan=True) for x, y in pairs)


def checked(fault: Fault, form: str) -> Comparison:
    """What the parity checks say of the plain code with a fault."""
    problem, reference, noise = _reference(form)
    return compare(faulty_trace(problem, [fault]), reference, noise)


def at_the_right_place(fault: Fault, comparison: Comparison) -> bool:
    """Whether the first divergence is where the catalogue says."""
    first, (tensor, step) = comparison.first, fault.first
    return first is not None and (first.tensor, first.step) in [
        (name, step if step is None else step % T) for name in (tensor, f"{tensor}_ih")
    ]


def verdict(subject: Plain, diagnosis: Diagnosis) -> str:
    """named; equivalent: other faults that give the same numbers; partly; unknown; or wrong.

    Whether they give the same numbers is seen on problems that the diagnosis did not have.
    """
    if diagnosis.status != "explained":
        return "unknown" if diagnosis.status == "unknown" else "partly"
    found = tuple(finding.fault for finding in diagnosis.findings)
    if set(found) == set(subject.faults) and not diagnosis.autograd:
        return "named"
    fresh = [subject.problem(seed, (5, 3, 4, 6)) for seed in (1000, 1001, 1002)]
    other = replace(subject, faults=found)
    alike = not any(differ(subject.run(problem), other.run(problem)) for problem in fresh)
    return "equivalent" if alike and not diagnosis.autograd else "wrong"


def combinations_of(size: int, count: int, seed: int = 0) -> Iterator[tuple[Fault, ...]]:
    """Random sets of backward faults, each of which can be told in the presence of the others."""
    rng = np.random.default_rng([seed, size])
    while count:
        drawn = tuple(BACKWARD[k] for k in rng.choice(len(BACKWARD), size, replace=False))
        try:
            form = active_form(drawn, gradients_alone=True)
        except CannotEdit:  # two of them replace the same line
            continue
        if form is not None:
            yield drawn
            count -= 1


def novel_fault(function: Callable[..., Any], right: str, wrong: str) -> Fault:
    """A fault that is in no catalogue."""
    return Fault(
        id=f"novel: {wrong}",
        stage="backward",
        equation="",
        wrong=wrong,
        right=right,
        first=("", 0),
        fix="",
        edits=(Edit(function, right, wrong),),
    )


NOVEL = tuple(
    novel_fault(function, right, wrong)
    for function, right, wrong in (
        (cell_backward, "da_i = dc * g", "da_i = 1.01 * dc * g"),
        (cell_backward, "dc_prev = dc * f", "dc_prev = dc * f**2"),
        (cell_backward, "da_o = dh * tanh(c)", "da_o = -dh * tanh(c)"),
        (cell_backward, "da_g = dc * i", "da_g = np.nan * dc * i"),
        (cell_backward, "da_f = dc * c_prev", "da_f = (1 + 1e-9) * dc * c_prev"),
        (cell_backward, "(i * (1 - i))", "i * (0.9 - i)"),
        (cell_backward, "dW_hh = da.T @ h_prev", "dW_hh = np.roll(da, 1, axis=1).T @ h_prev"),
        (cell_backward, "db = da.sum(axis=0)", "db = 0.5 * da.sum(axis=0)"),
        (cell_backward, "dx = da @ W_ih", "dx = da @ W_ih * 0.5"),
        (cell_forward, "c = f * c_prev + i * g  # (6)", "c = f * c_prev + 0.5 * i * g"),
        (cell_forward, "h = o * tanh(c)  # (7)", "h = o**2 * tanh(c)"),
        (cell_forward, "g = tanh(a_g)  # (4)", "g = tanh(0.5 * a_g)"),
        (unrolled_backward, "alive, gradients.dh_prev", "alive, 0.9 * gradients.dh_prev"),
        (unrolled_backward, "alive, gradients.dc_prev", "alive, 1.1 * gradients.dc_prev"),
        (unrolled_forward, "x[t], h[t], c[t])", "x[t], h[t], c[max(t - 1, 0)])"),
    )
)
"""Bugs that are in no catalogue: nothing may be said to explain them."""
Source = Literal["everything", "gradients", "gradients-float32"]
"""What the diagnosis gets: all values and gradients of every step, or the weights' gradients."""


@dataclass(frozen=True)
class Settings:
    """How many random combinations of faults are tried, and what the diagnosis sees."""

    combinations: int = 100
    """Random pairs, and as many triples, of backward faults."""
    sources: tuple[Source, ...] = ("everything", "gradients", "gradients-float32")
    """What the diagnosis gets to see."""
    seed: int = 0
    """Of the combinations."""


def check_all(console: Console) -> bool:
    """Whether every active fault is caught, and 98 % of them at the right step and tensor."""
    counts: Counter[str] = Counter()
    for fault in CELL_FAULTS:
        form = active_form([fault])
        if form is None:
            console.print(f"inactive: {fault.id}")
            continue
        comparison = checked(fault, form)
        counts["active"] += 1
        counts["caught"] += comparison.first is not None
        placed = at_the_right_place(fault, comparison)
        counts["placed"] += placed
        if not placed:
            console.print(f"{fault.id}: expected {fault.first}, found {comparison.first}")
    console.print(
        f"{len(CELL_FAULTS)} faults, {len(CELL_FAULTS) - len(GATE_ORDERS)} of them no gate orders:"
        f" {counts['active']} active, {counts['caught']} caught,"
        f" {counts['placed']} at the right step and tensor"
    )
    if not counts["active"]:
        return False
    return counts["caught"] == counts["active"] and counts["placed"] >= 0.98 * counts["active"]


def diagnosed(
    sets: Sequence[tuple[Fault, ...]], source: Source, label: str, console: Console
) -> Counter[str]:
    """How the diagnoses of these sets of faults ended."""
    counts: Counter[str] = Counter()
    alone = source != "everything"
    dtype = np.float32 if source == "gradients-float32" else np.float64
    for faults in track(sets, f"{label}, {source}", console=console):
        form = active_form(faults, alone)
        if form is None:
            counts["inactive"] += 1
            continue
        subject = Plain(faults, form, alone, dtype)
        diagnosis = diagnose(subject)
        said = verdict(subject, diagnosis)
        counts[said] += 1
        if said not in ("named", "equivalent") and faults[0] not in NOVEL:
            ids = " + ".join(fault.id for fault in faults)
            found = " + ".join(finding.fault.id for finding in diagnosis.findings)
            console.print(f"{said}: {ids} -> {found or 'nothing'} ({source})")
    return counts


def enough(label: str, source: Source, counts: Counter[str]) -> bool:
    """Whether as many were named as are claimed, and at most 1 % wrongly."""
    named, active = counts["named"] + counts["equivalent"], counts.total() - counts["inactive"]
    if not active:
        return False
    if label == "novel":
        return counts["unknown"] + counts["partly"] == active  # nothing explained
    share = 0.9 if label != "single" else 1.0 if source == "everything" else 0.95
    return named >= share * active and counts["wrong"] <= 0.01 * active


def main(settings: Settings) -> int:
    """Print what was caught, placed and named; 1 if less than is claimed."""
    check_positive(combinations=settings.combinations)
    check_not_negative(seed=settings.seed)
    if not settings.sources:
        raise InputError(f"expected some of {get_args(Source)}, got none", argument="sources")
    torch.set_num_threads(1)
    console = Console()
    holds = check_all(console)
    table = Table(title="Diagnosis")
    columns = ("named", "equivalent", "partly", "unknown", "wrong", "inactive")
    for column in ("faults", "from", *columns):
        table.add_column(column)
    sets = {
        "novel": [(fault,) for fault in NOVEL],
        "single": [(fault,) for fault in CELL_FAULTS],
        "pairs": list(combinations_of(2, settings.combinations, settings.seed)),
        "triples": list(combinations_of(3, settings.combinations, settings.seed)),
    }
    for label, drawn in sets.items():
        for source in settings.sources:
            counts = diagnosed(drawn, source, label, console)
            table.add_row(label, source, *[str(counts[column]) for column in columns])
            holds &= enough(label, source, counts)
    console.print(table)
    return int(not holds)


if __name__ == "__main__":
    with one_line_errors(Settings):
        raise SystemExit(main(tyro.cli(Settings, description=__doc__)))
