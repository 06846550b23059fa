"""A training run in which torch follows every step, and the verdict on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy_lstm.commands import train
from numpy_lstm.commands.training_run import TrainingRun
from numpy_lstm.training.experiment import Experiment
from numpy_lstm.training.loop import TrainingStep, Validation
from numpy_lstm.training.run_folder import RunFolder
from numpy_lstm.training.tasks import Task
from torch_oracle.lockstep.follow import Agreement, lockstep, parity_worker
from torch_oracle.lockstep.report import LockstepSummary, Verdict


@dataclass(frozen=True)
class Output(train.Output):
    """Where results go, how torch follows, and what is asked of the run."""

    free_run_steps: int = 1000
    """Judge torch's free runs for so many steps at most, or until chance decides the loss; they
    take most of the time."""
    parity_every: int = 1
    """Compare all time steps in every so many training steps; 0 for never."""
    target_excess: float = 0.005
    """Counting: the verdict asks for at most this loss over the floor, in nats per token."""
    tables: bool = False
    """Show the worst distance of every tensor, not only of the worst."""


class LockstepRun(TrainingRun):
    """One training run with torch beside it.

    Args:
        experiment: the model and its recipe.
        task: the data.
        folder: where results go.
        options: how torch follows.
    """

    def __init__(
        self, experiment: Experiment, task: Task, folder: RunFolder, options: Output
    ) -> None:
        super().__init__(experiment, task, folder)
        self.options = options
        self.summary = LockstepSummary()
        self.agreement: Agreement | None = None
        """With the record that came last."""

    def records(self) -> Iterator[TrainingStep | Validation]:
        """The records of training, each after torch has followed."""
        with parity_worker(self.options.threads) as worker:
            followed = lockstep(
                super().records(),
                self.model,
                self.recipe,
                self.task,
                free_run_steps=self.options.free_run_steps,
                parity_every=self.options.parity_every,
                executor=worker,
            )
            for record, self.agreement in followed:
                yield record

    def entry(self, record: TrainingStep | Validation) -> dict[str, Any]:
        """What the log keeps of a record, torch's agreement with it."""
        entry = super().entry(record)
        agreement = self.agreement
        assert agreement is not None
        self.summary.add(record, agreement)
        name = "validation loss"
        if isinstance(record, TrainingStep):
            name = "loss"
        entry["torch_loss"] = agreement.torch_loss
        entry["divergence"] = agreement.divergence[name]
        if agreement.groups:
            entry["noise_floor"] = agreement.groups[name].within
            entry["largest_separation"] = max(each.ratio for each in agreement.groups.values())
        if agreement.parity is not None:
            entry["worst_parity_distance"] = agreement.parity.worst
        return entry

    def report(self) -> bool:
        """Print result, comparison and verdicts; whether every verdict holds."""
        verdicts = self.summary.verdicts()
        excess = self.counting_excess()
        target = self.options.target_excess
        if excess is not None:
            claim = f"excess over the floor at most {target:g} nats per token"
            verdicts.insert(0, Verdict(claim, f"{excess:.4f}", excess <= target))
        if self.options.tables:
            for table in self.summary.tables():
                self.say(table)
        for verdict in verdicts:
            word = "holds" if verdict.holds else "FAILS"
            self.say(f"{word}  {verdict.claim}: {verdict.figure}")
        return all(verdict.holds for verdict in verdicts)
