"""The random cases by which an adapter is judged: sizes, arithmetic, scale of the weights, seed."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from numpy_lstm.errors import InputError
from torch_oracle.proof.random_problems import Sizes, loud
from torch_oracle.proof.trace import Problem
from torch_oracle.verification.adapters import Adapter
from torch_oracle.verification.messages import did_you_mean

Mode = Literal["quick", "full"]
QUICK: tuple[tuple[Sizes, str, float], ...] = (
    ((1, 2, 3, 4), "float64", 1.0),
    ((1, 2, 3, 4), "float32", 1.0),
    ((3, 1, 2, 4), "float64", 1.0),
    ((2, 4, 3, 5), "float32", 1.0),
    ((4, 3, 2, 5), "float64", 0.3),
    ((4, 3, 2, 5), "float64", 1.0),
    ((5, 2, 6, 3), "float32", 0.3),
    ((5, 2, 6, 3), "float64", 4.0),
    ((7, 3, 5, 4), "float32", 4.0),
    ((7, 3, 5, 4), "float64", 1.0),
    ((12, 4, 3, 7), "float32", 1.0),
    ((12, 4, 3, 7), "float64", 1.0),
)
"""(T, N, I, H), dtype and scale of the weights; the smallest first."""
MORE: tuple[tuple[int, Sizes], ...] = (
    (4, (2, 1, 5, 3)),
    (4, (8, 3, 5, 6)),
    (3, (16, 4, 6, 9)),
    (1, (64, 3, 10, 16)),
    (1, (20, 5, 48, 64)),
    (1, (64, 5, 33, 48)),
)
"""In full mode, how often each of these sizes in addition, for every dtype and scale."""
SCALES = (0.3, 1.0, 4.0)


@dataclass(frozen=True)
class Case:
    """One random problem: sizes (T, N, I, H), arithmetic, scale of the weights, seed."""

    sizes: Sizes
    dtype: str
    scale: float
    seed: int
    ragged: bool = False
    loud: bool = False
    """Whether arguments go beyond the range of exp; see `random_problems.loud`."""

    @property
    def name(self) -> str:
        """The case in one word, for a person and for a test's id: T1-N2-I3-H4-float64-x1-seed0."""
        T, N, I, H = self.sizes
        parts = [f"T{T}-N{N}-I{I}-H{H}-{self.dtype}-x{self.scale:g}"]
        if self.ragged:
            parts.append("ragged")
        if self.loud:
            parts.append("loud")
        return "-".join([*parts, f"seed{self.seed}"])

    def problem(self, adapter: Adapter) -> Problem:
        """The problem that an adapter is given; equal for equal cases and adapters."""
        dtype = np.dtype(self.dtype).type
        problem = adapter.problem(self.seed, self.sizes, dtype, self.scale, ragged=self.ragged)
        return loud(problem) if self.loud else problem


def verification_cases(adapter: Adapter, mode: Mode = "quick") -> list[Case]:
    """The cases of a mode, the smallest first; every second one ragged, where lengths are taken."""
    settings = list(QUICK)
    if mode == "full":
        for times, sizes in MORE:
            settings += times * [
                (sizes, dtype, scale) for dtype, scale in product(("float64", "float32"), SCALES)
            ]
    cases: list[Case] = []
    for seed, ((T, N, I, H), dtype, scale) in enumerate(settings):
        I, H = adapter.fixed or (I, H)
        if adapter.options.single:
            N = 1
        ragged = "lengths" in adapter.takes and min(T, N) > 1 and seed % 2 == 1
        case = Case((T, N, I, H), dtype, scale, seed, ragged)
        cases.append(case)
        if len(cases) == len(QUICK):
            cases.append(replace(case, loud=True))
    return cases


def case_of_name(adapter: Adapter, name: str) -> Case:
    """The case of that name, of any mode.

    Raises:
        InputError: there is none.
    """
    cases = {case.name: case for case in verification_cases(adapter, "full")}
    if name not in cases:
        hint = did_you_mean(name, cases) or f"; expected one such as {next(iter(cases))}"
        raise InputError(f"there is no case {name!r} for {adapter.name}{hint}", argument="case")
    return cases[name]
