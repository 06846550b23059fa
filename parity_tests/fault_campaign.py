"""Every fault of the catalogue, alone and with others, through the checks and the diagnosis:

python -m parity_tests.fault_campaign
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from torch_oracle.arithmetic import Noise
from torch_oracle.catalogue import CELL_FAULTS
from torch_oracle.cell_faults import BACKWARD
from torch_oracle.compare import Comparison, compare
from torch_oracle.diagnosis import Diagnosis, diagnose, loud
from torch_oracle.faults import Fault, faulty
from torch_oracle.injection import CannotEdit
from torch_oracle.problems import Sizes, random_problem
from torch_oracle.replay import unrolled_trace
from torch_oracle.trace import Problem, Trace, torch_trace
from torch_oracle.witnesses import in_precision

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
        trace = faulty_trace(in_precision(problem, self.dtype), self.faults)
        if not self.gradients_alone:
            return trace
        names = [name for name in trace.totals if name.startswith(("dW", "db"))]
        return Trace({}, {name: trace.totals[name] for name in names})


def faulty_trace(problem: Problem, faults: Sequence[Fault]) -> Trace:
    """The trace of the plain code with these faults; overflows are their own affair."""
    with faulty(faults), np.errstate(all="ignore"):
        return unrolled_trace(problem)


@cache
def _reference(form: str) -> tuple[Problem, Trace, list[Trace]]:
    """A ragged problem in which most sequences end early, torch's trace, and its twins."""
    problem = random_problem(1, sizes=(T, 5, 6, 9), **FORMS[form])
    problem = replace(problem, lengths=np.array([T, T - 1, 3, T, T - 1]))
    if form.endswith("loud"):
        (problem,) = loud(problem)
    twins = [torch_trace(problem, Noise(0, opposite)) for opposite in (False, True)]
    return problem, torch_trace(problem), twins


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
    problem, reference, twins = _reference(form)
    return compare(faulty_trace(problem, [fault]), reference, twins)


def at_the_right_place(fault: Fault, comparison: Comparison) -> bool:
    """Whether the first divergence is where the catalogue says."""
    first, (tensor, step) = comparison.first, fault.first
    return first is not None and (first.tensor, first.step) in [
        (name, step if step is None else step % T) for name in (tensor, f"{tensor}_ih")
    ]


def verdict(faults: Sequence[Fault], diagnosis: Diagnosis) -> str:
    """named, equivalent (a fault that gives the same numbers), partly, unknown, or wrong."""
    wanted = {fault.id for fault in faults}
    found = {finding.fault.id for finding in diagnosis.findings}
    if diagnosis.status == "explained" and found == wanted and not diagnosis.autograd:
        return "named"
    if diagnosis.status == "explained":
        names = [{f.fault.id, *(e.id for e in f.equivalents)} for f in diagnosis.findings]
        matched = len(names) == len(wanted) and all(any(w in n for n in names) for w in wanted)
        return "equivalent" if matched else "wrong"
    return "unknown" if diagnosis.status == "unknown" else "partly"


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


@dataclass(frozen=True)
class Settings:
    """What to try."""

    combinations: int = 100
    """Random pairs, and as many triples, of backward faults."""
    seed: int = 0
    """Of the combinations."""


def main(settings: Settings) -> int:
    """Print what was caught, placed and named; 1 if an active fault was not caught."""
    torch.set_num_threads(1)
    console, checks = Console(), Counter()
    for fault in CELL_FAULTS:
        form = active_form([fault])
        if form is None:
            console.print(f"inactive: {fault.id}")
            continue
        comparison = checked(fault, form)
        checks["active"] += 1
        checks["caught"] += comparison.first is not None
        checks["placed"] += at_the_right_place(fault, comparison)
        if not at_the_right_place(fault, comparison):
            console.print(f"{fault.id}: expected {fault.first}, found {comparison.first}")
    console.print(f"{len(CELL_FAULTS)} faults, {dict(checks)}")
    table = Table(title="Diagnosis")
    columns = ("named", "equivalent", "partly", "unknown", "wrong")
    for column in ("faults", "from", *columns):
        table.add_column(column)
    singles = [(fault,) for fault in CELL_FAULTS]
    pairs = list(combinations_of(2, settings.combinations, settings.seed))
    triples = list(combinations_of(3, settings.combinations, settings.seed))
    for label, sets in (("single", singles), ("pairs", pairs), ("triples", triples)):
        for alone, dtype in ((False, np.float64), (True, np.float64), (True, np.float32)):
            counts: Counter[str] = Counter()
            source = f"gradients alone, {dtype.__name__}" if alone else "everything"
            for faults in track(sets, f"{label}, {source}"):
                form = active_form(faults, alone)
                if form is None:
                    continue
                diagnosis = diagnose(Plain(faults, form, alone, dtype))
                said = verdict(faults, diagnosis)
                counts[said] += 1
                if said not in ("named", "equivalent"):
                    names = [finding.fault.id for finding in diagnosis.findings]
                    console.print(said, [fault.id for fault in faults], "->", names, source)
            row = [str(counts[column]) for column in columns]
            table.add_row(label, f"{source} ({counts.total()})", *row)
    console.print(table)
    return int(checks["caught"] < checks["active"] or checks["placed"] < 0.98 * checks["active"])


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Settings, description=__doc__)))
