"""What a page shows of a comparison: its distances as a coloured table, and the worst as curves."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from numpy_lstm.roundoff import K
from torch_oracle.proof.compare import Comparison
from torch_oracle.proof.trace import Trace, order
from torch_oracle.verification.terminal import distance_text

LEVELS = (1.0, K, 1e4, 1e8, 1e12, 1e14, 1e16)
"""Upper ends of the heat map's colours; the last has none."""
CURVES = 4
"""At most so many curves in one picture."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 240, 46, 12, 12, 38
"""Size and margins of a picture of curves."""
LOWEST = 0.1
"""Distance at the foot of the curves; smaller ones are drawn there."""


@dataclass(frozen=True)
class HeatCell:
    """A number of the heat map, and its colour."""

    distance: float

    @property
    def level(self) -> int:
        """0 to 7; above 1, the distance exceeds K. What could not be judged is the worst."""
        if math.isnan(self.distance):
            return len(LEVELS)
        return len([end for end in LEVELS if self.distance > end])

    @property
    def text(self) -> str:
        """The distance in at most five characters."""
        if math.isnan(self.distance):
            return "?"
        if math.isinf(self.distance):
            return "∞"
        if 0 < self.distance < 10:
            return f"{self.distance:.1f}"
        if self.distance < 1e3:
            return f"{self.distance:.0f}"
        return f"{self.distance:.0e}".replace("e+", "e").replace("e0", "e")


@dataclass(frozen=True)
class HeatRow:
    """A tensor of the heat map."""

    name: str
    steps: tuple[HeatCell, ...]
    """Empty if the tensor was not returned step by step."""
    total: HeatCell | None


def ordered(comparison: Comparison) -> list[str]:
    """The names of the tensors that were compared, in the order of computation."""
    T = max((len(each) for each in comparison.steps.values()), default=1)
    steps = {"h": np.zeros(T)} | comparison.steps  # `order` counts the steps of h
    totals = {name: np.asarray(distance) for name, distance in comparison.totals.items()}
    compared = comparison.steps.keys() | comparison.totals.keys()
    names = dict.fromkeys(name for name, _ in order(Trace(steps, totals)))
    return [name for name in names if name in compared]


def heat_map(comparison: Comparison) -> list[HeatRow]:
    """A row for each tensor, in the order of computation."""
    rows = []
    for name in ordered(comparison):
        steps = tuple(HeatCell(float(distance)) for distance in comparison.steps.get(name, ()))
        total = None
        if name in comparison.totals:
            total = HeatCell(comparison.totals[name])
        rows.append(HeatRow(name, steps, total))
    return rows


def heat_map_legend() -> list[tuple[HeatCell, str]]:
    """The heat map's colours in words."""
    entries = []
    for end in LEVELS:
        text = f"{end:g}" if end < 1e3 else HeatCell(end).text
        entries.append((HeatCell(end), f"to {text}"))
    return [*entries, (HeatCell(math.inf), "more")]


@dataclass(frozen=True)
class Curve:
    """A tensor's distance over the steps: points (x, y, step, distance)."""

    name: str
    points: tuple[tuple[float, float, int, float], ...]

    @property
    def path(self) -> str:
        """The points as an SVG polyline has them."""
        return " ".join(f"{x:g},{y:g}" for x, y, *_ in self.points)


@dataclass(frozen=True)
class CurvePicture:
    """A picture of curves; its ticks are (position, text)."""

    title: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    K: float
    """The position of the line of K."""

    @property
    def label(self) -> str:
        """What the picture shows, in words, for those who cannot see it."""
        worst = []
        for curve in self.curves:
            largest = max(distance for *_, distance in curve.points)
            worst.append(f"{curve.name} at most {distance_text(largest)}")
        return f"{self.title}: distance over the time steps. {', '.join(worst)}; {K:g} are allowed."


def curve_pictures(comparison: Comparison) -> Iterator[CurvePicture]:
    """Curves of the worst values and of the worst gradients."""

    def largest(name: str) -> float:
        return float(np.nan_to_num(comparison.steps[name], nan=np.inf).max())

    names = [name for name in ordered(comparison) if name in comparison.steps]
    values = [name for name in names if not name.startswith("d")]
    gradients = [name for name in names if name.startswith("d")]
    for title, group in (("Values, forward", values), ("Gradients, backward", gradients)):
        worst = sorted(group, key=largest, reverse=True)[:CURVES]
        if worst:
            yield _picture(title, {name: comparison.steps[name] for name in worst})


def _picture(title: str, distances: dict[str, np.ndarray]) -> CurvePicture:
    T = max(len(array) for array in distances.values())
    together = np.concatenate(list(distances.values()))
    largest = float(max(1.0, together[np.isfinite(together)].max(initial=0.0)))
    decades = max(2, math.ceil(math.log10(largest)) + 1)
    every_decade, every_step = math.ceil(decades / 6), math.ceil(T / 12)

    def x(t: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (t + 0.5) / T, 1)

    def y(distance: float) -> float:
        height = decades + 1.0
        if math.isfinite(distance):
            height = math.log10(max(distance, LOWEST) / LOWEST)
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * height / (decades + 1), 1)

    curves = []
    for name, array in distances.items():
        points = [(x(t), y(float(d)), t, float(d)) for t, d in enumerate(array)]
        curves.append(Curve(name, tuple(points)))
    x_ticks = tuple((x(t), str(t)) for t in range(0, T, every_step))
    y_ticks = tuple((y(10.0**k), f"1e{k}") for k in range(0, decades + 1, every_decade))
    return CurvePicture(title, tuple(curves), x_ticks, y_ticks, y(K))
