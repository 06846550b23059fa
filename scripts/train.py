"""Train the NumPy LSTM language model; with --oracle, while PyTorch checks every gradient."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TextIO

from threadpoolctl import threadpool_limits

from numpy_lstm.errors import InputError, check, one_line_errors, require
from numpy_lstm.training.checkpoint import Checkpoint, save_checkpoint
from numpy_lstm.training.curves import plot_curves
from numpy_lstm.training.experiment import (
    RECOMMENDED,
    SEED_RECIPE,
    CountingExperiment,
    Experiment,
    TextExperiment,
)
from numpy_lstm.training.loop import TrainingStep, Validation, evaluate, train
from numpy_lstm.training.memory import keep_freed_memory
from numpy_lstm.training.tasks import Task
from numpy_lstm.training.tasks.counting import CountingTask, longest_solved

with one_line_errors():
    import tyro
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Table

LIMIT = 200
"""Largest n that is tried on the counting language."""


@dataclass(frozen=True)
class Output:
    """Where results go, and how the run is watched."""

    out: Path = Path("runs/latest")
    """Folder for log.jsonl, curves.png and best.safetensors."""
    oracle: bool = False
    """Train a torch.nn.LSTMCell beside it, and compare every gradient of every time step."""
    twins: int = 8
    """With the oracle: NumPy runs one ulp apart, which measure the rounding noise."""
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


class Run:
    """One training run: progress on the screen, a log on disk, the best weights so far."""

    def __init__(self, experiment: Experiment, task: Task, output: Output, console: Console):
        self.experiment, self.task, self.output, self.console = experiment, task, output, console
        self.recipe = experiment.recipe
        self.model = experiment.model(len(task.vocabulary))
        self.log: list[dict[str, Any]] = []
        self.best: Validation | None = None
        self.last: Validation | None = None
        self.summary = None
        self.start = time.perf_counter()

    def records(self) -> Iterator[tuple[TrainingStep | Validation, Any]]:
        """The records of training, each with torch's agreement where the oracle runs."""
        parameters = self.experiment.parameters(self.model)
        records = train(self.model, parameters, self.task, self.recipe)
        if not self.output.oracle:
            yield from ((record, None) for record in records)
            return
        from torch_oracle.lockstep.follow import (  # only here is torch needed
            lockstep,
            parity_worker,
        )
        from torch_oracle.lockstep.report import LockstepSummary

        self.summary = LockstepSummary()
        with parity_worker(self.output.threads) as worker:
            yield from lockstep(
                records,
                self.model,
                self.recipe,
                self.task,
                twins=self.output.twins,
                parity_every=self.output.parity_every,
                executor=worker,
            )

    def train(self) -> None:
        """Train to the end, or until Ctrl-C; then draw the curves of what was logged."""
        try:
            self.output.out.mkdir(parents=True, exist_ok=True)
            file = (self.output.out / "log.jsonl").open("w")
        except OSError as error:
            raise InputError(f"{self.output.out}: cannot be written to ({error})") from error
        total = self.recipe.epochs * len(self.task.training_batches(0))
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(),
        )
        try:
            with file, Progress(*columns, console=self.console) as progress:
                bar = progress.add_task("training", total=total, shown="")
                for record, agreement in self.records():
                    entry = self.write(file, record, agreement)
                    if isinstance(record, TrainingStep):
                        rate = record.batch.tokens / record.seconds
                        progress.update(bar, advance=1, shown=self.show(record.loss, rate))
                    else:
                        self.validated(record, entry)
        finally:
            plot_curves(
                self.output.out / "curves.png", self.log, floor=self.task.floor, title=self.title()
            )

    def write(
        self, file: TextIO, record: TrainingStep | Validation, agreement: Any
    ) -> dict[str, Any]:
        """Log one record, on disk at once."""
        entry: dict[str, Any] = dict(record.summary())
        if agreement is not None:
            assert self.summary is not None
            self.summary.add(record, agreement)
            entry["torch_loss"] = agreement.torch_loss
            name = "loss" if isinstance(record, TrainingStep) else "validation loss"
            entry["divergence"], entry["noise_floor"] = (
                agreement.divergence[name],
                agreement.floor[name],
            )
            entry["worst_divergence_in_noise_floors"] = max(agreement.ratios.values())
            if agreement.parity is not None:
                entry["worst_parity_distance"] = agreement.parity.worst
        self.log.append(entry)
        file.write(json.dumps(entry) + "\n")
        file.flush()
        return entry

    def validated(self, record: Validation, entry: dict[str, Any]) -> None:
        """Show a validation, and keep the weights if they are the best so far."""
        self.last = record
        elapsed = time.perf_counter() - self.start
        text = f"{elapsed:4.0f} s  epoch {record.epoch:2d}  validation {record.loss:.4f} nats/token"
        if self.task.floor is not None:
            text += f"  excess {record.loss - self.task.floor:+.4f}"
        if "torch_loss" in entry:
            text += f"  torch {abs(entry['torch_loss'] - record.loss):.0e} off"
        self.console.print(text, highlight=False)
        if self.best is None or record.loss < self.best.loss:
            self.best = record
            notes = {"experiment": asdict(self.experiment), **record.summary()}
            path = self.output.out / "best.safetensors"
            save_checkpoint(
                path, Checkpoint(self.model, self.task.vocabulary, record.parameters, notes)
            )

    def show(self, loss: float, rate: float) -> str:
        """What the progress bar says of a step."""
        floor = self.task.floor
        excess = "" if floor is None else f"  excess {loss - floor:+.4f}"
        return f"loss {loss:.4f}{excess}  {rate:,.0f} tokens/s"

    def title(self) -> str:
        """Heading of the picture."""
        e = self.experiment
        return f"{type(self.task).__name__}: H={e.hidden_size}, {e.optimizer} {e.lr:g}, {e.dtype}"


def counting_table(run: Run, task: CountingTask, parameters: Any) -> tuple[Table, float]:
    """What was learnt of the counting language; and the excess over its exact floor."""
    loss = evaluate(run.model, parameters, task.language_batches())
    excess = loss - task.language_floor
    longest = longest_solved(run.model, parameters, task.vocabulary, LIMIT, task.n_min)
    table = Table(title="Result (last weights, every sequence of the language once)")
    for column in ("loss", "floor", "excess, nats per token", f"longest n solved (of {LIMIT})"):
        table.add_column(column, justify="right")
    table.add_row(f"{loss:.6f}", f"{task.language_floor:.6f}", f"{excess:.6f}", str(longest))
    return table, excess


def report(run: Run) -> bool:
    """Print result, comparison and verdicts; return whether every verdict holds."""
    assert run.last is not None
    excess = None
    if isinstance(run.task, CountingTask):
        table, excess = counting_table(run, run.task, run.last.parameters)
        run.console.print(table)
    if run.summary is None:
        return True
    from torch_oracle.lockstep.report import Verdict, verdict_table

    verdicts = run.summary.verdicts()
    if excess is not None:
        target = run.output.target_excess
        claim = f"excess over the floor at most {target:g} nats per token"
        verdicts.insert(0, Verdict(claim, f"{excess:.4f}", excess <= target))
    for table in (*run.summary.tables(), verdict_table(verdicts)):
        run.console.print(table)
    return all(verdict.holds for verdict in verdicts)


def main(command: Command) -> int:
    """Run the command; the exit status."""
    keep_freed_memory()
    require("matplotlib")
    if command.output.oracle:
        require("torch")
    console = Console()
    experiment, output = command.experiment, command.output
    check(output.threads >= 1, f"threads: expected at least 1, got {output.threads}")
    check(output.twins >= 1, f"twins: expected at least 1, got {output.twins}")
    check(output.parity_every >= 0, f"parity-every: expected 0 or more, got {output.parity_every}")
    if isinstance(command, Text):
        task: Task = command.experiment.task(command.file)
    else:
        task = command.experiment.task()
    run = Run(experiment, task, output, console)
    with threadpool_limits(output.threads):
        if output.oracle:
            import torch

            torch.set_num_threads(output.threads)
        try:
            run.train()
        except KeyboardInterrupt:
            console.print(f"interrupted; the log and the best weights so far are in {output.out}")
            return 130
        holds = report(run)
    seconds = time.perf_counter() - run.start
    console.print(
        f"{seconds:.0f} s; log, curves and best weights are in {output.out}", highlight=False
    )
    return 0 if holds else 1


if __name__ == "__main__":
    with one_line_errors():
        raise SystemExit(main(tyro.cli(Command, description=__doc__)))
