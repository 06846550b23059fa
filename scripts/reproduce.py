"""Measure the counting-language recipes over several seeds: excess over the exact floor."""

import json
import platform
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import InputError, check_positive
from numpy_lstm.files import check_new_file, write_atomically
from numpy_lstm.training.experiment import RECOMMENDED, SEED_RECIPE, CountingExperiment
from numpy_lstm.training.loop import Validation, evaluate, train
from numpy_lstm.training.tasks.counting import longest_solved

with one_line_errors():
    import tyro
    from rich.console import Console
    from rich.table import Table

RECIPES = {
    "recommended: Adam 0.01, batch 32": RECOMMENDED,
    "seed: SGD 0.1, one sequence at a time": SEED_RECIPE,
}
TARGET = 0.003
"""What the recommended recipe must reach in the median, in nats per token over the floor."""
COLUMNS = (
    "excess_language",
    "excess_test",
    "excess_validation",
    "excess_validation_mean",
    "longest_n",
)
Figures = dict[str, Any]
"""Of one run: recipe, seed, steps and the figures of `COLUMNS`."""


@dataclass(frozen=True)
class Settings:
    """How much is measured, and where the figures go."""

    seeds: int = 10
    """Runs of each recipe, with seeds 0, 1, ..."""
    processes: int = 2
    """Runs at a time."""
    out: Path = Path("runs/reproduce.json")
    """File for every run's figures, written anew after each run."""
    overwrite: bool = False
    """Replace the file if it exists already."""


def measure(job: tuple[str, int]) -> Figures:
    """Train once by a recipe and with a seed; the last weights' figures."""
    name, seed = job
    experiment: CountingExperiment = replace(RECIPES[name], seed=seed)
    task = experiment.task()
    model = experiment.model(len(task.vocabulary))
    with threadpool_limits(1):
        records = train(model, experiment.parameters(model), task, experiment.recipe)
        _, *trained = (record for record in records if isinstance(record, Validation))
        last = trained[-1]
        language = evaluate(model, last.parameters, task.language_batches())
        test = evaluate(model, last.parameters, task.test_batches())
        longest = longest_solved(model, last.parameters, task.vocabulary)
    return {
        "recipe": name,
        "seed": seed,
        "steps": last.step,
        "excess_language": language - task.language_floor,
        "excess_validation": last.loss - task.floor,
        "excess_validation_mean": float(np.mean([v.loss for v in trained])) - task.floor,
        "excess_test": test - task.sample_floor(task.split("test")),
        "longest_n": longest,
    }


def ignore_ctrl_c() -> None:
    """In a worker: leave Ctrl-C to the main process, which ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_all(settings: Settings) -> Iterator[Figures]:
    """Every recipe with every seed, in this order."""
    jobs = [(name, seed) for name in RECIPES for seed in range(settings.seeds)]
    with Pool(settings.processes, ignore_ctrl_c) as pool:
        yield from pool.imap(measure, jobs)


def save(settings: Settings, results: Sequence[Figures]) -> None:
    """Write the figures of all runs so far.

    Raises:
        InputError: the file cannot be written.
    """
    asked = {"seeds": settings.seeds, "recipes": list(RECIPES)}
    machine = {"machine": platform.machine(), "numpy": np.__version__}
    data = json.dumps(asked | machine | {"runs": results}, indent=1) + "\n"
    try:
        write_atomically({settings.out: data.encode()})
    except OSError as error:
        raise InputError(f"{settings.out}: cannot be written ({error.strerror})") from error


def table_of(results: Sequence[Figures]) -> Table:
    """Median, smallest and largest of each figure, by recipe."""
    table = Table(title="Last weights, all seeds: median (smallest to largest)")
    table.add_column("recipe")
    for column in ("steps", *COLUMNS):
        table.add_column(column.replace("_", " "), justify="right")
    for name in RECIPES:
        runs = [result for result in results if result["recipe"] == name]
        cells = []
        for column in COLUMNS:
            values = np.array([run[column] for run in runs])
            form = "{:g}"
            if column.startswith("excess"):
                form = "{:.4f}"
            median, low, high = np.median(values), values.min(), values.max()
            cells.append(f"{form.format(median)} ({form.format(low)} to {form.format(high)})")
        table.add_row(name, str(runs[0]["steps"]), *cells)
    return table


def main(settings: Settings) -> int:
    """Run everything, write the JSON file and print the table; 1 if the target is missed."""
    check_positive(seeds=settings.seeds, processes=settings.processes)
    check_new_file(settings.out, overwrite=settings.overwrite)
    console = Console()
    results: list[Figures] = []
    total = len(RECIPES) * settings.seeds
    for figures in run_all(settings):
        results.append(figures)
        save(settings, results)
        console.print(
            f"{len(results)} of {total}: {figures['recipe']}, seed {figures['seed']}:"
            f" excess {figures['excess_language']:.4f}, longest n {figures['longest_n']}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(table_of(results))
    console.print(
        "Excess in nats per token. 'language': every n once, over the exact floor"
        f" ln {RECOMMENDED.n_max} / {RECOMMENDED.n_min + RECOMMENDED.n_max};"
        " 'validation', 'test': the split, over its own floor;"
        " 'mean': over the validations after every epoch, not only the last."
    )
    console.print(f"every run: {settings.out}", highlight=False)
    excesses = [r["excess_language"] for r in results if RECIPES[r["recipe"]] is RECOMMENDED]
    median = float(np.median(excesses))
    holds = median <= TARGET
    verdict = "holds" if holds else "FAILS"
    console.print(
        f"recommended recipe: median excess {median:.4f}, at most {TARGET} asked: {verdict}",
        highlight=False,
    )
    return 0 if holds else 1


if __name__ == "__main__":
    with one_line_errors(Settings):
        raise SystemExit(main(tyro.cli(Settings, description=__doc__)))
