"""A verdict on an adapter as one page of HTML, which needs nothing but itself.

The layout is `report.html`; here is what it shows: the verdict, the diagnosis, the distances of the
case that tells most, and how the page came about.
"""

import math
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files

import numpy as np
import torch
from jinja2 import Environment, StrictUndefined

import numpy_lstm
from numpy_lstm.errors import InputError
from numpy_lstm.roundoff import K
from torch_oracle.diagnosis import terminal as diagnosis_report
from torch_oracle.diagnosis.faults.catalogue import subject
from torch_oracle.diagnosis.faults.fault import Fault
from torch_oracle.diagnosis.results import Diagnosis
from torch_oracle.html_report.figures import curve_pictures, heat_map, heat_map_legend
from torch_oracle.verification.outputs import AdapterError
from torch_oracle.verification.results import CaseResult, Verification, divergence_sentence
from torch_oracle.verification.terminal import distance_text


def page(verification: Verification, found: Diagnosis | AdapterError | InputError | None) -> str:
    """The page.

    Args:
        verification: the verdict.
        found: the diagnosis, if there is one; or the error for which there is none.
    """
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    layout = files("torch_oracle.html_report").joinpath("report.html").read_text("utf-8")
    result = telling(verification.results)
    diagnosis, refusal = None, ""
    if isinstance(found, Diagnosis):
        diagnosis = found
    elif isinstance(found, AdapterError):
        refusal = f"There is none, since on the problems of the diagnosis it {found}"
    elif isinstance(found, InputError):
        refusal = str(found)
    case, rows, pictures = None, [], []
    if result is not None:
        case = result.case
        if result.comparison is not None:
            rows = heat_map(result.comparison)
            pictures = list(curve_pictures(result.comparison))
    return environment.from_string(layout).render(
        v=verification,
        d=diagnosis,
        refusal=refusal,
        fine=verification.passed and (diagnosis is None or diagnosis.status == "correct"),
        summary=summary(verification, diagnosis),
        case=case,
        rows=rows,
        pictures=pictures,
        legend=heat_map_legend(),
        run=run_facts(verification),
        words=diagnosis_report,
        subject=subject,
        K=K,
        distance_text=distance_text,
        divergence_sentence=divergence_sentence,
        changed_words=changed_words,
    )


def summary(verification: Verification, diagnosis: Diagnosis | None) -> str:
    """The verdict in one line."""
    results = verification.results
    n = len(results)
    if verification.passed and diagnosis is not None and diagnosis.status != "correct":
        return f"All {n} cases agree with PyTorch, but the diagnosis found a fault."
    if verification.passed:
        return f"Right: all {n} cases agree with PyTorch."
    if all(result.comparison is None for result in results):
        return f"Wrong: in none of {n} cases did it return numbers to compare."
    parts = []
    if verification.divergences:
        parts.append(f"{len(verification.divergences)} of {n} cases differ from PyTorch")
    complaints = [result for result in results if result.complaint is not None]
    if complaints:
        parts.append(f"{len(complaints)} of {n} cases were not run as they should")
    explanation = ""
    if diagnosis is not None:
        explanation = _explanation(diagnosis)
    return f"Wrong: {', and '.join(parts)}{explanation}."


def _explanation(diagnosis: Diagnosis) -> str:
    n = len(diagnosis.findings)
    if n == 0 and diagnosis.status == "unknown":
        return "; no known fault explains it"
    if n == 0:
        return ""
    faults = "1 known fault explains" if n == 1 else f"{n} known faults explain"
    how_much = "all" if diagnosis.status == "explained" else "part"
    return f"; {faults} {how_much} of it"


def telling(results: Sequence[CaseResult]) -> CaseResult | None:
    """The largest case that fails, in float64 if one does; the largest of all if none fails."""
    judged = [r for r in results if r.comparison is not None]
    failing = [r for r in judged if r.first is not None]
    double = [r for r in failing if r.case.dtype == "float64"]
    candidates = double or failing or judged
    return max(candidates, key=lambda r: (math.prod(r.case.sizes), r.case.dtype), default=None)


def changed_words(fault: Fault) -> Iterator[tuple[str, str, str, str]]:
    """The wrong formula and the right one, each as: name, common start, difference, common end.

    Words are never cut.
    """
    right, wrong = (re.findall(r"\w+|\W", each) for each in (fault.right, fault.wrong))
    start = 0
    while start < min(len(right), len(wrong)) and right[start] == wrong[start]:
        start += 1
    end = 0
    while end < min(len(right), len(wrong)) - start and right[-1 - end] == wrong[-1 - end]:
        end += 1
    for name, words in (("wrong", wrong), ("right", right)):
        middle = len(words) - end
        head, part, tail = words[:start], words[start:middle], words[middle:]
        yield name, "".join(head), "".join(part), "".join(tail)


def run_facts(verification: Verification) -> dict[str, str]:
    """How the page came about: command, options, cases, versions."""
    options = {n: value for n, value in verification.options.items() if value is not None}
    return {
        "command": shlex.join(["lstm-oracle", *sys.argv[1:]]),
        "adapter": f"{verification.adapter}, {verification.form} form",
        "options": ", ".join(f"{name} = {value}" for name, value in options.items()),
        "cases": f"{len(verification.results)}, {verification.mode} mode",
        "numpy-lstm": numpy_lstm.__version__,
        "numpy": np.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
