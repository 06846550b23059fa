"""Many correct training runs: how often does the free run's verdict raise a false alarm?

    python -m parity_tests.campaigns.free_runs --seeds 13 --out runs/free-runs.jsonl

Every run is judged as `lstm-oracle lockstep` judges it. Each is written to the file when it is
done, and a second call goes on where the first was stopped. At the end the campaign prints how many
runs failed, the probability of a false alarm that the rule promises, how near any run came, and
whether torch's losses rank among NumPy's as chance would have it. Exit status 1 if a run failed.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from scipy.stats import kstest, rankdata
from threadpoolctl import threadpool_limits

from numpy_lstm.training.experiment import CountingExperiment, Experiment, TextExperiment
from numpy_lstm.training.loop import TrainingStep, train
from numpy_lstm.training.tasks import Task
from numpy_lstm.training.tasks.text import TextTask
from torch_oracle.lockstep.free_run import (
    FACTOR,
    NUMPY_RUNS,
    TORCH_RUNS,
    FreeRun,
    Separations,
    false_alarm_probability,
)

SIZES = (4, 8, 16, 32)
LEARNING_RATES = {"sgd": 0.3, "adam": 0.1}


@dataclass(frozen=True)
class Settings:
    """Which runs: for every seed four sizes, two optimisers, two dtypes and two tasks."""

    seeds: int = 13
    """Seeds from 0 on; with 13 there are 416 runs."""
    steps: int = 24
    """Training steps of each run."""
    out: Path = Path("runs/free-runs.jsonl")
    """Where each run's figures are written; runs that stand there are not repeated."""


@dataclass(frozen=True)
class Configuration:
    """One run of the campaign."""

    seed: int
    hidden_size: int
    optimizer: str
    dtype: str
    task: str


def configurations(seeds: int) -> Iterator[Configuration]:
    """All runs, seed by seed."""
    grid = product(range(seeds), SIZES, LEARNING_RATES, ("float32", "float64"), TASKS)
    for seed, size, optimizer, dtype, task in grid:
        yield Configuration(seed, size, optimizer, dtype, task)


def counting(seed: int, settings: dict[str, Any]) -> tuple[Experiment, Task]:
    """Short sequences of the counting language, eight steps an epoch."""
    experiment = CountingExperiment(
        n_max=5, num_sequences=80, batch_size=8, epochs=20, seed=seed, **settings
    )
    return experiment, experiment.task()


def text(seed: int, settings: dict[str, Any]) -> tuple[Experiment, Task]:
    """A generated text, 14 steps an epoch, with states carried from batch to batch."""
    experiment = TextExperiment(epochs=8, seed=seed, **settings)
    return experiment, TextTask(generated_text(1000, seed), streams=8, steps=8)


TASKS = {"counting": counting, "text": text}


def generated_text(characters: int, seed: int) -> str:
    """Sentences of made-up words, whose frequencies fall as Zipf's law says."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(1, 9))) for _ in range(400)]
    frequencies = 1 / np.arange(1, 401)
    frequencies /= frequencies.sum()
    sentences = []
    while sum(map(len, sentences)) < characters:
        chosen = rng.choice(400, rng.integers(5, 15), p=frequencies)
        sentences.append(" ".join(words[k] for k in chosen) + ".\n")
    return "".join(sentences)[:characters]


def judge(configuration: Configuration, steps: int) -> dict[str, Any]:
    """Train once, with all runs beside it, and say what the free run's verdict would be."""
    settings = {
        "hidden_size": configuration.hidden_size,
        "optimizer": configuration.optimizer,
        "lr": LEARNING_RATES[configuration.optimizer],
        "dtype": configuration.dtype,
    }
    experiment, task = TASKS[configuration.task](configuration.seed, settings)
    model = experiment.model(len(task.vocabulary))
    parameters = experiment.parameters(model)
    recipe = experiment.recipe
    total_steps = recipe.epochs * len(task.training_batches(0))
    noise = list(json.dumps(asdict(configuration)).encode())  # of its own for every run
    free = FreeRun(model, recipe, parameters, total_steps, steps, seed=noise)
    separations = Separations()
    start = time.perf_counter()
    judged = 0
    for record in train(model, parameters, task, recipe):
        if free.ended:
            break
        if isinstance(record, TrainingStep):
            groups = free.step(record)
            judged += 1
        else:
            groups = free.validate(task.validation_batches(), record.step)
        separations.add(groups)
    return {
        **asdict(configuration),
        "failed": separations.programs_differ(),
        "largest": max(separations.by_quantity.values()),
        "other": separations.other,
        "steps": judged,
        "ended": free.ended,
        "spread": float(np.ptp(free.losses) / max(free.losses)),
        "rank": rank_deviate(free.losses),
        "seconds": time.perf_counter() - start,
    }


def rank_deviate(losses: list[float]) -> float:
    """Sum of the ranks of torch's losses among all, standardised; near normal if chance decides."""
    ranks = float(rankdata(losses)[:TORCH_RUNS].sum())
    runs = TORCH_RUNS + NUMPY_RUNS
    mean = TORCH_RUNS * (runs + 1) / 2
    return (ranks - mean) / math.sqrt(TORCH_RUNS * NUMPY_RUNS * (runs + 1) / 12)


def campaign(settings: Settings) -> list[dict[str, Any]]:
    """All runs' figures, those of an earlier call among them."""
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    results = []
    if settings.out.exists():
        results = [json.loads(line) for line in settings.out.read_text().splitlines()]
    names = list(asdict(Configuration(0, 0, "", "", "")))
    done = {tuple(result[name] for name in names) for result in results}
    wanted = [
        configuration
        for configuration in configurations(settings.seeds)
        if tuple(asdict(configuration).values()) not in done
    ]
    with settings.out.open("a") as file:
        for configuration in track(wanted, "correct runs"):
            results.append(judge(configuration, settings.steps))
            file.write(json.dumps(results[-1]) + "\n")
            file.flush()
    return results


def main(settings: Settings) -> int:
    """Run the campaign and print its figures; 1 if any run failed, or if there was none."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        results = campaign(settings)
    console = Console(highlight=False)
    failures = [result for result in results if result["failed"]]
    for result in failures:
        console.print(f"failed: {result}")
    if not results:
        console.print("no run: nothing was shown")
        return 1
    ranks = np.array([result["rank"] for result in results])
    uniformity = kstest(ranks, "norm").pvalue
    chaotic = sum("chance decides" in result["ended"] for result in results)
    promised = false_alarm_probability()
    console.print(
        f"{len(results)} correct runs, {sum(result['steps'] for result in results)} steps,"
        f" {chaotic} of them until chance decided the loss,"
        f" {sum(result['seconds'] for result in results) / 60:.0f} minutes"
    )
    console.print(
        f"{len(failures)} failed; promised at most {promised:.1e} a run,"
        f" {len(results) * promised:.1e} for all"
    )
    console.print(
        f"largest separation of torch from NumPy {max(r['largest'] for r in results):.2f},"
        f" allowed {FACTOR:g}; of another division {max(r['other'] for r in results):.2f}"
    )
    console.print(
        f"ranks of torch's last losses: mean {ranks.mean():+.2f}, standard deviation"
        f" {ranks.std():.2f} (chance: 0 and 1; Kolmogorov-Smirnov p = {uniformity:.2g})"
    )
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Settings, description=__doc__)))
