"""A verdict on an adapter as one page of HTML, which needs nothing but itself.

The layout is `report.html`; here is what it shows: the case that tells most, its distances as a
table of numbers with colours, and the worst tensors as curves over the time steps.
"""

import math
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from numpy_lstm.roundoff import K
from torch_oracle.diagnose import terminal as diagnosis_report
from torch_oracle.diagnose.faults.catalogue import LEGEND
from torch_oracle.diagnose.injection import Edit
from torch_oracle.diagnose.search import Diagnosis
from torch_oracle.proof.compare import Comparison
from torch_oracle.proof.trace import Trace, order
from torch_oracle.verify.results import Complaint
from torch_oracle.verify.terminal import shown
from torch_oracle.verify.verification import Result, Verification, sentence

LEVELS = (1.0, K, 1e4, 1e8, 1e12, 1e14, 1e16)
"""Upper ends of the heat map's colours; the last has none."""
CURVES = 4
"""At most so many curves in one picture."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 240, 46, 12, 12, 38
"""Size and margins of a picture of curves."""
LOWEST = 0.1
"""Distance at the foot of the curves; smaller ones are drawn there."""


def page(verification: Verification, found: Diagnosis | Complaint | None) -> str:
    """The page.

    Args:
        verification: the verdict.
        found: the diagnosis, if there is one; or the complaint for which there is none.
    """
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    case = telling(verification.results)
    diagnosis = found if isinstance(found, Diagnosis) else None
    return templates.get_template("report.html").render(
        v=verification,
        d=diagnosis,
        refusal=str(found) if isinstance(found, Complaint) else "",
        fine=verification.passed and (diagnosis is None or diagnosis.status == "correct"),
        summary=summary(verification, diagnosis),
        case=case.case if case else None,
        rows=rows(case.comparison) if case and case.comparison else [],
        panels=list(panels(case.comparison)) if case and case.comparison else [],
        legend=legend(),
        run=run(verification),
        words=diagnosis_report,
        reading=LEGEND,
        K=K,
        shown=shown,
        sentence=sentence,
        changed=changed,
    )


def summary(v: Verification, d: Diagnosis | None) -> str:
    """The verdict in one line."""
    n, wrong = len(v.results), len(v.divergences)
    if v.passed and d is not None and d.status != "correct":
        return f"All {n} cases agree with PyTorch, but the diagnosis found a fault."
    if v.passed:
        return f"Right: all {n} cases agree with PyTorch."
    if all(r.comparison is None for r in v.results):
        return f"Wrong: in none of {n} cases did it return numbers to compare."
    parts = [f"{wrong} of {n} cases differ from PyTorch"] if wrong else []
    others = sum(r.complaint is not None for r in v.results)
    parts += [f"{others} of {n} cases were not run as they should"] if others else []
    return f"Wrong: {', and '.join(parts)}{'' if d is None else _explanation(d)}."


def _explanation(d: Diagnosis) -> str:
    n = len(d.findings)
    if n == 0:
        return "; no known fault explains it" if d.status == "unknown" else ""
    faults = "1 known fault explains" if n == 1 else f"{n} known faults explain"
    return f"; {faults} {'all' if d.status == 'explained' else 'part'} of it"


def telling(results: Sequence[Result]) -> Result | None:
    """The largest case that fails, in float64 if one does; the largest of all if none fails."""
    judged = [r for r in results if r.comparison is not None]
    failing = [r for r in judged if r.first is not None]
    double = [r for r in failing if r.case.dtype == "float64"]
    chosen = double or failing or judged
    return max(chosen, key=lambda r: (math.prod(r.case.sizes), r.case.dtype), default=None)


@dataclass(frozen=True)
class Cell:
    """A number of the heat map, and its colour."""

    distance: float

    @property
    def level(self) -> int:
        """0 to 7; above 1, the distance exceeds K. What could not be judged is the worst."""
        if math.isnan(self.distance):
            return len(LEVELS)
        return sum(self.distance > end for end in LEVELS)

    @property
    def text(self) -> str:
        """In at most five characters."""
        if math.isnan(self.distance):
            return "?"
        if math.isinf(self.distance):
            return "∞"
        if self.distance < 1e3:
            return f"{self.distance:.{1 if 0 < self.distance < 10 else 0}f}"
        return f"{self.distance:.0e}".replace("e+", "e").replace("e0", "e")


@dataclass(frozen=True)
class Row:
    """A tensor of the heat map."""

    name: str
    steps: tuple[Cell, ...]
    """Empty if the tensor was not returned step by step."""
    total: Cell | None


def ordered(comparison: Comparison) -> list[str]:
    """The tensors in the order of computation."""
    T = max((len(each) for each in comparison.steps.values()), default=1)
    steps = {"h": np.zeros(T)} | comparison.steps  # `order` counts the steps of h
    names = order(Trace(steps, {n: np.asarray(far) for n, far in comparison.totals.items()}))
    both = comparison.steps.keys() | comparison.totals.keys()
    return [name for name in dict.fromkeys(name for name, _ in names) if name in both]


def rows(comparison: Comparison) -> list[Row]:
    """The heat map."""
    totals = comparison.totals
    return [
        Row(
            name,
            tuple(Cell(float(far)) for far in comparison.steps.get(name, ())),
            Cell(totals[name]) if name in totals else None,
        )
        for name in ordered(comparison)
    ]


def legend() -> list[tuple[Cell, str]]:
    """The heat map's colours in words."""
    texts = [f"to {end:g}" if end < 1e3 else f"to {Cell(end).text}" for end in LEVELS]
    ends = (*LEVELS, math.inf)
    return [(Cell(end), text) for end, text in zip(ends, [*texts, "more"], strict=True)]


@dataclass(frozen=True)
class Curve:
    """A tensor's distance over the steps: points (x, y, step, distance)."""

    name: str
    points: tuple[tuple[float, float, int, float], ...]

    @property
    def path(self) -> str:
        """For an SVG polyline."""
        return " ".join(f"{x:g},{y:g}" for x, y, *_ in self.points)


@dataclass(frozen=True)
class Panel:
    """A picture of curves: ticks are (position, text)."""

    title: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    K: float
    """The position of the line of K."""

    @property
    def label(self) -> str:
        """The picture in words."""
        worst = ", ".join(
            f"{curve.name} at most {shown(max(far for *_, far in curve.points))}"
            for curve in self.curves
        )
        return f"{self.title}: distance over the time steps. {worst}; {K:g} are allowed."


def panels(comparison: Comparison) -> Iterator[Panel]:
    """Curves of the worst values and of the worst gradients."""
    names = [name for name in ordered(comparison) if name in comparison.steps]
    for title, gradients in (("Values, forward", False), ("Gradients, backward", True)):
        chosen = [name for name in names if (name[0] == "d") == gradients]
        chosen.sort(
            key=lambda name: -float(np.nan_to_num(comparison.steps[name], nan=np.inf).max())
        )
        if chosen:
            yield _panel(title, {name: comparison.steps[name] for name in chosen[:CURVES]})


def _panel(title: str, worst: dict[str, np.ndarray]) -> Panel:
    T = max(len(far) for far in worst.values())
    finite = [float(far) for array in worst.values() for far in array if np.isfinite(far)]
    decades = max(2, math.ceil(math.log10(max([*finite, 1.0]))) + 1)
    every_decade, every_step = math.ceil(decades / 6), math.ceil(T / 12)

    def x(t: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (t + 0.5) / T, 1)

    def y(far: float) -> float:
        height = math.log10(max(far, LOWEST) / LOWEST) if math.isfinite(far) else decades + 1
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * height / (decades + 1), 1)

    curves = tuple(
        Curve(name, tuple((x(t), y(float(far)), t, float(far)) for t, far in enumerate(array)))
        for name, array in worst.items()
    )
    x_ticks = tuple((x(t), str(t)) for t in range(0, T, every_step))
    y_ticks = tuple((y(10.0**k), f"1e{k}") for k in range(0, decades + 1, every_decade))
    return Panel(title, curves, x_ticks, y_ticks, y(K))


def changed(edit: Edit) -> Iterator[tuple[str, str, str, str]]:
    """The wrong line and the right one, each as: name, common start, difference, common end.

    Words are never cut.
    """
    right, wrong = (re.findall(r"\w+|\W", each) for each in edit.lines)
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


def run(v: Verification) -> dict[str, str]:
    """How the page came about."""
    options = {name: value for name, value in v.options.items() if value is not None}
    return {
        "command": shlex.join(["python", "-m", "torch_oracle", *sys.argv[1:]]),
        "adapter": f"{v.adapter}, {v.form} form",
        "options": ", ".join(f"{name} = {value}" for name, value in options.items()),
        "cases": f"{len(v.results)}, {v.mode} mode",
        **{name: version(name) for name in ("numpy-lstm", "numpy", "torch")},
        "python": platform.python_version(),
    }
