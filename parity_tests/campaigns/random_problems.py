"""Many seeded problems, and how near to K the farthest correct result comes:

python -m parity_tests.campaigns.random_problems --problems 10000

"Lost" are the problems that chaos keeps from being judged to their end: the dtype leaves a
pre-activation no right digit (`compare.Comparison.undetermined`).
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import ThreadpoolController

from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import check_not_negative, check_positive
from numpy_lstm.roundoff import K
from parity_tests.support.problems import random_problem
from torch_oracle.proof.compare import Comparison, check_parity
from torch_oracle.proof.torch_cells import TORCH_CELLS
from torch_oracle.proof.trace import Problem

SCALES = (0.05, 1.0, 8.0, 30.0, 1e3)
"""Sizes of the weights, in units of 1 / sqrt(fan-in)."""


@dataclass(frozen=True)
class Settings:
    """How many random problems are tried, and from which seed on."""

    problems: int = 1000
    """How many seeds."""
    first: int = 0
    """The first of them: an interrupted campaign goes on from there."""


@dataclass(frozen=True)
class Case:
    """One seed's problem, and with how many threads NumPy's BLAS and torch solve it."""

    seed: int
    scale: float
    threads: int
    problem: Problem

    @property
    def shape(self) -> str:
        """Sizes and options, for a person."""
        p, lstm = self.problem, self.problem.lstm
        T, N = p.x.shape[:2]
        return f"T={T} N={N} {lstm} {p.h0.dtype} weights x {self.scale:g} threads {self.threads}"


def random_options(rng: np.random.Generator, model: bool, H: int) -> dict[str, Any]:
    """Layers and biases for every problem; the other options for an LSTM alone."""
    options: dict[str, Any] = {"num_layers": int(rng.integers(1, 3))}
    names = ("bias", "bias_pair", "bidirectional")
    flags = {name: bool(rng.integers(2)) for name in names}
    flags["bias"] |= bool(rng.integers(2))
    flags["bias_pair"] &= flags["bias"]
    if model:
        return options | {"bias_pair": flags["bias_pair"]}
    variant = str(rng.choice(["none", *TORCH_CELLS]))
    if variant == "layer_norm":
        flags["bias_pair"] = False
    options["variant"] = None if variant == "none" else variant
    dropout = float(rng.choice([0, 0.5])) if options["num_layers"] > 1 else 0.0
    proj_size = int(rng.integers(H)) * int(rng.integers(2))
    return options | flags | {"dropout": dropout, "proj_size": proj_size}


def random_case(seed: int) -> Case:
    """Sizes from 1 to 40, small ones as often as large ones; one problem in a hundred has H = 128.

    T, N, I and H are drawn independently, and may be equal. One problem in ten has two threads.
    """
    rng = np.random.default_rng([seed, 1])
    T, N, I, H = (int(size) for size in np.exp(rng.uniform(0, np.log(41), 4)))
    if rng.random() < 0.01:
        H = 128
    model = bool(rng.integers(2))
    scale, threads = float(rng.choice(SCALES)), 2 if rng.random() < 0.1 else 1
    dtype = np.float32 if rng.integers(2) else np.float64
    options = random_options(rng, model, H)
    problem = random_problem(
        seed, model=model, dtype=dtype, scale=scale, sizes=(T, N, I, H), **options
    )
    return Case(seed, scale, threads, problem)


def check(case: Case, blas: ThreadpoolController) -> Comparison:
    """The parity of one case, with its threads."""
    torch.set_num_threads(case.threads)
    with blas.limit(limits=case.threads, user_api="blas"):
        return check_parity(case.problem, seed=case.seed)


def report(worst: dict[float, list[tuple[float, str, int, bool]]]) -> Table:
    """One row per size of the weights, and one for all."""
    table = Table(title=f"Distance of correct results (allowed {K:g})")
    columns = ("weights", "problems", "median", "99 %", "largest", "in", "seed", "above", "lost")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    rows = {f"{scale:g}": worst[scale] for scale in SCALES if worst[scale]}
    rows["all"] = [result for found in rows.values() for result in found]
    for name, found in rows.items():
        far = np.array([distance for distance, *_ in found])
        figures = (f"{figure:.2f}" for figure in (np.median(far), np.quantile(far, 0.99)))
        largest, tensor, seed, _ = max(found)
        lost = str(sum(undetermined for *_, undetermined in found))
        above = str((far > K).sum())
        table.add_row(
            name, str(len(far)), *figures, f"{largest:.2f}", tensor, str(seed), above, lost
        )
    return table


def main(settings: Settings) -> int:
    """Print the largest distances; 1 if one exceeds K, whose seed is then named; 130 on Ctrl-C."""
    check_positive(problems=settings.problems)
    check_not_negative(first=settings.first)
    blas, console = ThreadpoolController(), Console()
    worst: dict[float, list[tuple[float, str, int, bool]]] = defaultdict(list)
    alarms, seed, interrupted = 0, settings.first, False
    seeds = range(settings.first, settings.first + settings.problems)
    try:
        for seed in track(seeds, "problems", console=console):
            case = random_case(seed)
            comparison = check(case, blas)
            far, name = max((far, name) for name, far in comparison.by_tensor().items())
            worst[case.scale].append((far, name, seed, comparison.undetermined is not None))
            if comparison.first is not None:
                alarms += 1
                console.print(f"seed {seed}: {comparison.first}; {case.shape}", soft_wrap=True)
    except KeyboardInterrupt:
        console.print(f"interrupted; go on with --first {seed}")
        interrupted = True
    if worst:
        console.print(report(worst))
    if alarms:
        return 1
    return 130 if interrupted else 0


if __name__ == "__main__":
    with one_line_errors(Settings):
        raise SystemExit(main(tyro.cli(Settings, description=__doc__)))
