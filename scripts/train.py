"""Train the NumPy LSTM language model; with --oracle, while PyTorch checks every gradient."""

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from threadpoolctl import threadpool_limits

from numpy_lstm.errors import (
    InputError,
    check_not_negative,
    check_positive,
    one_line_errors,
    require,
)
from numpy_lstm.training.divergence import TrainingDiverged
from numpy_lstm.training.experiment import (
    RECOMMENDED,
    SEED_RECIPE,
    CountingExperiment,
    TextExperiment,
)
from numpy_lstm.training.loop import evaluate
from numpy_lstm.training.run_folder import RunFolder, next_free_folder
from numpy_lstm.training.tasks import Task
from numpy_lstm.training.tasks.counting import CountingTask, longest_solved

with one_line_errors():
    import tyro
    from rich.table import Table
    from training_run import Oracle, TrainingRun

LIMIT = 200
"""Largest n that is tried on the counting language."""


@dataclass(frozen=True)
class Output:
    """Where results go, and how the run is watched."""

    out: Path | None = None
    """Folder for log.jsonl, curves.png and best.safetensors; by default a new one below runs/."""
    overwrite: bool = False
    """Replace the run that the folder holds already."""
    oracle: bool = False
    """Train a torch.nn.LSTMCell as well, and compare every gradient of every time step."""
    free_run_steps: int = 1000
    """With the oracle: judge torch's free runs for so many steps at most, or until chance decides
    the loss; they take most of the time."""
    parity_every: int = 1
    """With the oracle: compare all time steps in every so many training steps."""
    threads: int = 1
    """Threads of the linear algebra; one is fastest for small models."""
    target_excess: float = 0.005
    """Counting: the verdict asks for at most this loss over the floor, in nats per token."""


@dataclass(frozen=True)
class Counting:
    """Learn the counting language a^n b^n EOS, by the recommended recipe (Adam, batches of 32)."""

    experiment: tyro.conf.OmitArgPrefixes[CountingExperiment] = RECOMMENDED
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)


@dataclass(frozen=True)
class CountingSeed:
    """The same by the recipe of the script this project began with (SGD, one at a time)."""

    experiment: tyro.conf.OmitArgPrefixes[CountingExperiment] = SEED_RECIPE
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)


@dataclass(frozen=True)
class Text:
    """Learn a UTF-8 text file, character by character."""

    file: tyro.conf.Positional[Path]
    """The text."""
    experiment: tyro.conf.OmitArgPrefixes[TextExperiment] = field(default_factory=TextExperiment)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)


Command = (
    Annotated[Counting, tyro.conf.subcommand("counting")]
    | Annotated[CountingSeed, tyro.conf.subcommand("counting-seed")]
    | Annotated[Text, tyro.conf.subcommand("text")]
)


def counting_table(run: TrainingRun, task: CountingTask, parameters: Any) -> tuple[Table, float]:
    """What was learnt of the counting language; and the excess over its exact floor."""
    loss = evaluate(run.model, parameters, task.language_batches())
    excess = loss - task.language_floor
    longest = longest_solved(run.model, parameters, task.vocabulary, LIMIT, task.n_min)
    table = Table(title="Result (last weights, every sequence of the language once)")
    for column in ("loss", "floor", "excess, nats per token", f"longest n solved (of {LIMIT})"):
        table.add_column(column, justify="right")
    table.add_row(f"{loss:.6f}", f"{task.language_floor:.6f}", f"{excess:.6f}", str(longest))
    return table, excess


def report(run: TrainingRun, target_excess: float) -> bool:
    """Print result, comparison and verdicts; return whether every verdict holds."""
    assert run.last is not None
    excess = None
    if isinstance(run.task, CountingTask):
        table, excess = counting_table(run, run.task, run.last.parameters)
        run.say(table)
    if run.summary is None:
        return True
    from torch_oracle.lockstep.report import Verdict, verdict_table

    verdicts = run.summary.verdicts()
    if excess is not None:
        claim = f"excess over the floor at most {target_excess:g} nats per token"
        verdicts.insert(0, Verdict(claim, f"{excess:.4f}", excess <= target_excess))
    for table in (*run.summary.tables(), verdict_table(verdicts)):
        run.say(table)
    return all(verdict.holds for verdict in verdicts)


def prepared(command: Command) -> TrainingRun:
    """The run of a command, everything checked and nothing written.

    Raises:
        InputError: a package is missing, or a setting, the text or the folder cannot be used.
    """
    require("matplotlib")
    experiment = command.experiment
    output = command.output
    if output.oracle:
        require("torch")
    check_positive(threads=output.threads)
    check_not_negative(parity_every=output.parity_every, free_run_steps=output.free_run_steps)
    cores = os.cpu_count() or 1
    if output.threads > cores:
        raise InputError(
            f"expected at most {cores}, the cores of this machine, got {output.threads}",
            argument="threads",
        )
    if isinstance(command, Text):
        task: Task = command.experiment.task(command.file)
        name = "text"
    else:
        task = command.experiment.task()
        name = "counting-seed" if isinstance(command, CountingSeed) else "counting"
    path = output.out
    if path is None:
        path = next_free_folder(Path("runs") / name)
    folder = RunFolder(path, overwrite=output.overwrite)
    oracle = None
    if output.oracle:
        oracle = Oracle(output.free_run_steps, output.parity_every, output.threads)
    return TrainingRun(experiment, task, folder, oracle)


def interrupted(folder: RunFolder) -> str:
    """What is left of a run that Ctrl-C ended."""
    if not folder.begun:
        return f"interrupted before the first validation; nothing was written to {folder.path}"
    return f"interrupted; the log and the best weights so far are in {folder.path}"


def main(command: Command) -> int:
    """Run the command; the exit status."""
    run = prepared(command)
    folder = run.folder
    threads = command.output.threads
    with threadpool_limits(threads):
        if run.oracle is not None:
            import torch

            torch.set_num_threads(threads)
        try:
            run.train()
        except KeyboardInterrupt:
            run.say(interrupted(folder))
            return 130
        except TrainingDiverged as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        holds = report(run, command.output.target_excess)
    if folder.failures:
        reasons = ", ".join(f"{name} ({reason})" for name, reason in folder.failures.items())
        raise InputError(f"{folder.path}: could not write {reasons}; the rest is saved")
    seconds = time.perf_counter() - run.start
    run.say(f"{seconds:.0f} s; log, curves and best weights are in {folder.path}")
    if run.divergence.sentence is not None:
        print(f"error: {run.divergence.sentence}", file=sys.stderr)
        return 1
    return 0 if holds else 1


if __name__ == "__main__":
    with one_line_errors(Counting, CountingSeed, Text):
        raise SystemExit(main(tyro.cli(Command, description=__doc__)))
