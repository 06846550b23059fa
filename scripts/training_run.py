"""One training run of a command: progress on the screen, a log on disk, the best weights so far."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from numpy_lstm.errors import one_line_errors
from numpy_lstm.training.checkpoint import Checkpoint
from numpy_lstm.training.divergence import Divergence
from numpy_lstm.training.experiment import Experiment
from numpy_lstm.training.loop import TrainingStep, Validation, train
from numpy_lstm.training.run_folder import RunFolder
from numpy_lstm.training.tasks import Task

with one_line_errors():
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Table


@dataclass(frozen=True)
class Oracle:
    """How torch follows the run: its free runs, how often all time steps are compared, threads."""

    free_run_steps: int
    parity_every: int
    threads: int


class TrainingRun:
    """One training run: progress on the screen, a log on disk, the best weights so far."""

    def __init__(
        self, experiment: Experiment, task: Task, folder: RunFolder, oracle: Oracle | None
    ) -> None:
        self.experiment = experiment
        self.task = task
        self.folder = folder
        self.oracle = oracle
        self.console = Console()
        self.recipe = experiment.recipe
        self.model = experiment.model(len(task.vocabulary))
        self.parameters = experiment.parameters(self.model)
        self.best: Validation | None = None
        self.last: Validation | None = None
        self.divergence = Divergence(len(task.vocabulary))
        self.summary = None
        self.start = time.perf_counter()

    def records(self) -> Iterator[tuple[TrainingStep | Validation, Any]]:
        """The records of training, each with torch's agreement where the oracle runs."""
        records = train(self.model, self.parameters, self.task, self.recipe)
        if self.oracle is None:
            yield from ((record, None) for record in records)
            return
        from torch_oracle.lockstep.follow import (  # only here is torch needed
            lockstep,
            parity_worker,
        )
        from torch_oracle.lockstep.report import LockstepSummary

        self.summary = LockstepSummary()
        with parity_worker(self.oracle.threads) as worker:
            yield from lockstep(
                records,
                self.model,
                self.recipe,
                self.task,
                free_run_steps=self.oracle.free_run_steps,
                parity_every=self.oracle.parity_every,
                executor=worker,
            )

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
            with Progress(*columns, console=self.console, disable=hidden) as progress:
                bar = progress.add_task("training", total=total, shown="")
                for record, agreement in self.records():
                    entry = self.entry(record, agreement)
                    if isinstance(record, TrainingStep):
                        self.folder.write(entry)
                        self.divergence.training_loss(record.index, record.loss)
                        progress.update(bar, advance=1, shown=self.shown(record))
                    else:
                        self.validated(record, entry)
        finally:
            self.folder.finish(floor=self.task.floor, title=self.title())

    def entry(self, record: TrainingStep | Validation, agreement: Any) -> dict[str, Any]:
        """What the log keeps of a record."""
        entry: dict[str, Any] = dict(record.summary())
        if agreement is not None:
            assert self.summary is not None
            self.summary.add(record, agreement)
            name = "validation loss"
            if isinstance(record, TrainingStep):
                name = "loss"
            entry["torch_loss"] = agreement.torch_loss
            entry["divergence"] = agreement.divergence[name]
            if agreement.groups:
                entry["noise_floor"] = agreement.groups[name].within
                ratios = [groups.ratio for groups in agreement.groups.values()]
                entry["largest_separation"] = max(ratios)
            if agreement.parity is not None:
                entry["worst_parity_distance"] = agreement.parity.worst
        return entry

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
        elapsed = time.perf_counter() - self.start
        text = f"{elapsed:4.0f} s  epoch {record.epoch:2d}  validation {record.loss:.4f} nats/token"
        if self.task.floor is not None:
            text += f"  excess {record.loss - self.task.floor:+.4f}"
        if "torch_loss" in entry:
            text += f"  torch {abs(entry['torch_loss'] - record.loss):.0e} off"
        for name, reason in self.folder.failures.items():
            text += f"; {name} cannot be written ({reason}), training goes on"
        self.say(text)

    def shown(self, record: TrainingStep) -> str:
        """What the progress bar says of a step."""
        rate = record.batch.tokens / record.seconds
        excess = ""
        if self.task.floor is not None:
            excess = f"  excess {record.loss - self.task.floor:+.4f}"
        return f"loss {record.loss:.4f}{excess}  {rate:,.0f} tokens/s"

    def say(self, text: str | Table) -> None:
        """Print, unless standard output is full: then training goes on in silence."""
        try:
            self.console.print(text, highlight=False, soft_wrap=isinstance(text, str))
        except BrokenPipeError:
            raise
        except OSError as error:
            self.folder.failures["standard output"] = str(error.strerror)
            self.console = Console(quiet=True)

    def title(self) -> str:
        """The heading of the picture of the curves."""
        e = self.experiment
        return f"{type(self.task).__name__}: H={e.hidden_size}, {e.optimizer} {e.lr:g}, {e.dtype}"
