"""A diagnosis in words, for a person at a terminal; and as JSON."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console

from numpy_lstm.roundoff import K
from torch_oracle.diagnosis.faults.catalogue import subject
from torch_oracle.diagnosis.faults.fault import Fault
from torch_oracle.diagnosis.probe import NAMING
from torch_oracle.diagnosis.results import Diagnosis, NamedFault
from torch_oracle.json_values import json_value
from torch_oracle.training.diagnosis import NamedTrainingFault, TrainingDiagnosis
from torch_oracle.verification.terminal import distance_text, print_line

StyledLine = tuple[str, str]
"""A line and the style in which a terminal shows it."""
AUTOGRAD = (
    "The gradients are the exact derivative of this wrong forward pass: only the forward pass"
    " needs mending."
)


def verdict(diagnosis: Diagnosis) -> str:
    """What the status means, in a sentence or two."""
    distance = roundoffs(diagnosis.distance)
    faults_give = f"these {len(diagnosis.findings)} known faults together give"
    if len(diagnosis.findings) == 1:
        faults_give = "this known fault gives"
    sentences = {
        "correct": "Nothing wrong was found: on the problems of the diagnosis, every number that"
        f" is returned agrees with PyTorch's (largest distance {distance}; {K:g} are allowed).",
        "explained": f"Everything that is wrong is explained: put into a correct LSTM,"
        f" {faults_give} the same wrong numbers (largest distance {distance}; up to {NAMING:g}"
        " count as the same).",
        "partly explained": f"A part of what is wrong is explained: {faults_give} some"
        " of the wrong numbers, but not all. Mend what is listed, and diagnose again.",
        "unknown": "Some numbers are wrong, and no known fault or set of known faults gives these"
        " numbers: the fault is not in the catalogue. What is wrong, the list says.",
    }
    return sentences[diagnosis.status]


def roundoffs(distance: float) -> str:
    """A distance with its unit."""
    if not math.isfinite(distance):
        return "infinite"
    return f"{distance_text(distance)} roundoffs"


def evidence(
    finding: NamedFault | NamedTrainingFault, diagnosis: Diagnosis | TrainingDiagnosis
) -> str:
    """How far the numbers are without this fault and with all that were found."""
    without, with_all = roundoffs(finding.without), roundoffs(diagnosis.distance)
    n = len(diagnosis.findings)
    if n == 1:
        return f"largest distance without it: {without}; with it: {with_all}"
    return f"largest distance if this one alone is left out: {without}; with all {n}: {with_all}"


def print_training_diagnosis(name: str, diagnosis: TrainingDiagnosis, console: Console) -> None:
    """The stage that goes wrong first, the verdict, each finding, and what could not be seen."""
    d = diagnosis
    if d.judgement.first is not None:
        print_line(console, f"first to be wrong: {d.judgement.first}", "bold")
    sentences = {
        "correct": "Nothing wrong was found: every stage of every step that is reported agrees"
        " with PyTorch.",
        "explained": "Everything that is wrong is explained by what follows.",
        "unknown": "Some numbers are wrong, and no known fault or pair of known faults gives these"
        " numbers: the fault is not in the catalogue. The stage is named above.",
    }
    print_line(console, f"{name}: {sentences[d.status]}")
    _print_styled(_findings(d), console)
    for pair in d.alternatives:
        print_line(console, f"\nor instead: {' and '.join(fault.id for fault in pair)}")
    unjudged = {stage for case in d.judgement.cases for stage in case.unjudged}
    if unjudged:
        print_line(console, f"\nnot judged, since not reported: {', '.join(sorted(unjudged))}")
    by_reason: dict[str, list[str]] = {}
    for case, reason in d.judgement.refused.items():
        by_reason.setdefault(reason, []).append(case)
    for reason, refused in by_reason.items():
        print_line(
            console, f"not tried, since the adapter refuses: {', '.join(refused)} ({reason})"
        )
    for fault in d.inactive:
        print_line(console, f"could not be seen: {fault.id} (needs {fault.needs})")


def print_diagnosis(name: str, diagnosis: Diagnosis, console: Console) -> None:
    """Print the lines of a diagnosis."""
    _print_styled(diagnosis_lines(name, diagnosis), console)


def diagnosis_lines(name: str, diagnosis: Diagnosis) -> Iterator[StyledLine]:
    """What is wrong first, the verdict, each finding with its evidence, and what is unexplained."""
    if diagnosis.first:
        yield f"first to be wrong: {diagnosis.first}", "bold"
    yield f"{name}: {verdict(diagnosis)}", ""
    if diagnosis.autograd:
        yield AUTOGRAD, ""
    yield from _findings(diagnosis)
    if diagnosis.unexplained:
        yield "\nunexplained:", "bold"
    for fact in diagnosis.unexplained:
        yield f"  {fact}", ""


def _findings(diagnosis: Diagnosis | TrainingDiagnosis) -> Iterator[StyledLine]:
    for number, finding in enumerate(diagnosis.findings, 1):
        fault = finding.fault
        yield f"\n{number}. {fault.id}, {subject(fault)}", "bold"
        yield f"   wrong  {fault.wrong}", "red"
        yield f"   right  {fault.right}", "green"
        yield f"   {fault.fix}", ""
        yield f"   evidence: {evidence(finding, diagnosis)}", ""
        if finding.equivalents:
            others = ", ".join(other.id for other in finding.equivalents)
            yield f"   gives the same numbers: {others}", ""
        if fault.seen:
            yield f"   seen in: {fault.seen}", ""


def _print_styled(lines: Iterable[StyledLine], console: Console) -> None:
    for text, style in lines:
        print_line(console, text, style)


def diagnosis_json(name: str, diagnosis: Diagnosis) -> dict[str, Any]:
    """As plain numbers, strings, lists and dicts; a number that is not finite is a string."""
    d = diagnosis
    return json_value(
        {
            "adapter": name,
            "status": d.status,
            "verdict": verdict(d),
            "first": d.first,
            "distance_without_findings": d.before,
            "distance_with_findings": d.distance,
            "autograd": d.autograd,
            "findings": [
                _fault_json(f.fault)
                | {"distance_without": f.without, "equivalents": [e.id for e in f.equivalents]}
                for f in d.findings
            ],
            "unexplained": d.unexplained,
        }
    )


def _fault_json(fault: Fault) -> dict[str, Any]:
    return {
        "id": fault.id,
        "stage": fault.stage,
        "equation": fault.equation,
        "wrong": fault.wrong,
        "right": fault.right,
        "fix": fault.fix,
        "seen": fault.seen,
    }
