"""Many random problems, and how near to K the farthest of them comes:

python -m parity_tests.campaign --problems 1000
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from parity_tests.problems import random_problem
from torch_oracle.compare import K, check_parity


@dataclass(frozen=True)
class Settings:
    """What to try."""

    problems: int = 1000
    """Random problems for each scale."""
    scales: tuple[float, ...] = (0.05, 1.0, 8.0, 30.0)
    """Sizes of the weights, in units of 1 / sqrt(fan-in)."""


def random_options(seed: int) -> dict[str, Any]:
    """Layers and biases for every problem; the other options for an LSTM alone."""
    rng = np.random.default_rng([seed, 1])
    options: dict[str, Any] = {"num_layers": int(rng.integers(1, 3))}
    names = ("bias_pair", "bidirectional", "peephole", "coupled")
    flags = {name: bool(rng.integers(2)) for name in names}
    if seed % 2 == 0:
        return options | {"bias_pair": flags["bias_pair"]}
    dropout = float(rng.choice([0, 0.5])) if options["num_layers"] > 1 else 0.0
    return options | flags | {"dropout": dropout, "proj_size": int(rng.integers(2))}


def main(settings: Settings) -> int:
    """Print the largest distances; 1 if one exceeds K."""
    torch.set_num_threads(1)
    table = Table(title=f"Distance of correct results (allowed {K:g})")
    for column in ("weights", "problems", "median", "99 %", "largest", "in"):
        table.add_column(column, justify="right")
    failures = 0
    for scale in settings.scales:
        worst: list[tuple[float, str]] = []
        for seed in track(range(settings.problems), f"weights x {scale:g}"):
            problem = random_problem(
                seed,
                model=seed % 2 == 0,
                dtype=np.float32 if seed % 4 < 2 else np.float64,
                scale=scale,
                **random_options(seed),
            )
            by_tensor = check_parity(problem, seed=seed).by_tensor()
            worst.append(max((far, name) for name, far in by_tensor.items()))
        far = np.array([distance for distance, _ in worst])
        failures += int((far > K).sum())
        figures = [np.median(far), np.quantile(far, 0.99), far.max()]
        cells = [f"{figure:.2f}" for figure in figures]
        table.add_row(f"{scale:g}", str(len(far)), *cells, max(worst)[1])
    Console().print(table)
    return int(failures > 0)


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Settings, description=__doc__)))
