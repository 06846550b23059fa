"""One training run of a command: progress on the screen, a log on disk, the best weights so far."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from threadpoolctl import threadpool_limits

from numpy_lstm.errors import InputError
from numpy_lstm.training.checkpoint import Checkpoint
from numpy_lstm.training.divergence import Divergence, TrainingDiverged
from numpy_lstm.training.experiment import Experiment
from numpy_lstm.training.loop import TrainingStep, Validation, evaluate, train
from numpy_lstm.training.run_folder import LOG, PICTURE, WEIGHTS, RunFolder
from numpy_lstm.training.tasks import Task
from numpy_lstm.training.tasks.counting import CountingTask, longest_solved

LIMIT = 200
"""Largest n that is tried on the counting language."""
SHOWN = 5
"""So many validations are shown of a long run, besides the first; the log has all."""


class TrainingRun:
    """One training run: progress on the screen, a log on disk, the best weights so far.

    Args:
        experiment: the model and its recipe.
        task: the data.
        folder: where results go.
    """

    def __init__(self, experiment: Experiment, task: Task, folder: RunFolder) -> None:
        self.experiment = experiment
        self.task = task
        self.folder = folder
        self.console = Console()
        self.recipe = experiment.recipe
        self.model = experiment.model(len(task.vocabulary))
        self.parameters = experiment.parameters(self.model)
        self.best: Validation | None = None
        self.last: Validation | None = None
        self.divergence = Divergence(len(task.vocabulary))
        self.start = time.perf_counter()

    def run(self, threads: int) -> int:
        """Train and report; the exit status.

        Args:
            threads: of the linear algebra.

        Raises:
            InputError: something could not be written; the rest is saved.
        """
        folder = self.folder
        with threadpool_limits(threads):
            try:
                self.train()
            except KeyboardInterrupt:
                self.say(self.interrupted())
                return 130
            except TrainingDiverged as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            holds = self.report()
        if folder.failures:
            reasons = ", ".join(f"{name} ({reason})" for name, reason in folder.failures.items())
            raise InputError(f"{folder.path}: could not write {reasons}; the rest is saved")
        seconds = time.perf_counter() - self.start
        self.say(f"{seconds:.0f} s; curves: {folder.path / PICTURE}")
        self.say(f"log and best weights: {folder.path / LOG}, {folder.path / WEIGHTS}")
        if self.divergence.sentence is not None:
            print(f"error: {self.divergence.sentence}", file=sys.stderr)
            return 1
        return 0 if holds else 1

    def interrupted(self) -> str:
        """What is left of a run that Ctrl-C ended."""
        path = self.folder.path
        if not self.folder.begun:
            return f"interrupted before the first validation; nothing was written to {path}"
        return f"interrupted; the log and the best weights so far are in {path}"

    def records(self) -> Iterator[TrainingStep | Validation]:
        """The records of training."""
        return train(self.model, self.parameters, self.task, self.recipe)

    def train(self) -> None:
        """Train to the end, or until Ctrl-C; then draw the curves of what was logged."""
        total = self.recipe.epochs * len(self.task.training_batches(0))
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(),
        )
        hidden = not self.console.is_terminal
        try:
            with Progress(
                *columns, console=self.console, disable=hidden, transient=True
            ) as progress:
                bar = progress.add_task("training", total=total, shown="")
                for record in self.records():
                    entry = self.entry(record)
                    if isinstance(record, TrainingStep):
                        self.folder.write(entry)
                        self.divergence.training_loss(record.index, record.loss)
                        progress.update(bar, advance=1, shown=self.shown(record))
                    else:
                        self.validated(record, entry)
        finally:
            self.folder.finish(floor=self.task.floor, title=self.title())

    def entry(self, record: TrainingStep | Validation) -> dict[str, Any]:
        """What the log keeps of a record."""
        return dict(record.summary())

    def validated(self, record: Validation, entry: dict[str, Any]) -> None:
        """Log and show a validation, and keep the weights if they are the best so far."""
        self.last = record
        self.divergence.validation_loss(record.step, record.loss)
        is_best = self.best is None or record.loss < self.best.loss
        notes = {"experiment": asdict(self.experiment), **record.summary()}
        checkpoint = Checkpoint(self.model, self.task.vocabulary, record.parameters, notes)
        if is_best:
            self.best = record
        if not self.folder.begun:
            self.folder.begin(entry, checkpoint)
        else:
            self.folder.write(entry)
            if is_best:
                self.folder.save(checkpoint)
            self.folder.retry()
        self._show(record, entry)

    def _show(self, record: Validation, entry: dict[str, Any]) -> None:
        """One line, of a few validations of a long run; but what goes wrong is always said."""
        elapsed = time.perf_counter() - self.start
        text = f"{elapsed:4.0f} s  epoch {record.epoch:2d}  validation {record.loss:.4f} nats/token"
        if self.task.floor is not None:
            text += f"  excess {record.loss - self.task.floor:+.4f}"
        if "torch_loss" in entry:
            text += f"  torch {abs(entry['torch_loss'] - record.loss):.0e} off"
        for name, reason in self.folder.failures.items():
            text += f"; {name} cannot be written ({reason}), training goes on"
        is_last = record.epoch == self.recipe.epochs
        is_due = record.epoch % max(1, self.recipe.epochs // SHOWN) == 0
        if is_due or is_last or self.folder.failures:
            self.say(text)

    def shown(self, record: TrainingStep) -> str:
        """What the progress bar says of a step."""
        rate = record.batch.tokens / record.seconds
        excess = ""
        if self.task.floor is not None:
            excess = f"  excess {record.loss - self.task.floor:+.4f}"
        return f"loss {record.loss:.4f}{excess}  {rate:,.0f} tokens/s"

    def report(self) -> bool:
        """Print what was learnt; whether every verdict on it holds."""
        self.counting_excess()
        return True

    def counting_excess(self) -> float | None:
        """Print what was learnt of the counting language; the excess over its exact floor.

        None if it was another language.
        """
        task = self.task
        if not isinstance(task, CountingTask):
            return None
        assert self.last is not None
        parameters = self.last.parameters
        loss = evaluate(self.model, parameters, task.language_batches())
        excess = loss - task.language_floor
        longest = longest_solved(self.model, parameters, task.vocabulary, LIMIT, task.n_min)
        self.say(
            f"last weights, every sequence once: loss {loss:.6f}, floor {task.language_floor:.6f},"
            f" excess {excess:.6f}; longest n solved {longest} (of {LIMIT})"
        )
        return excess

    def say(self, text: Any) -> None:
        """Print, unless standard output is full: then training goes on in silence."""
        try:
            self.console.print(text, highlight=False, markup=False, soft_wrap=isinstance(text, str))
        except BrokenPipeError:
            raise
        except OSError as error:
            self.folder.failures["standard output"] = str(error.strerror)
            self.console = Console(quiet=True)

    def title(self) -> str:
        """The heading of the picture of the curves."""
        e = self.experiment
        return f"{type(self.task).__name__}: H={e.hidden_size}, {e.optimizer} {e.lr:g}, {e.dtype}"
