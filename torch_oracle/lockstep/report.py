"""What a run with the oracle showed: gathered, judged and printed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.table import Table

from numpy_lstm.roundoff import K
from numpy_lstm.training.divergence import Divergence
from numpy_lstm.training.loop import Position, TrainingStep, Validation
from torch_oracle.lockstep.follow import Agreement
from torch_oracle.lockstep.free_run import FACTOR, Separations, false_alarm_probability
from torch_oracle.proof import compare


@dataclass(frozen=True)
class Verdict:
    """One claim, the figure that decides it, and whether it holds."""

    claim: str
    figure: str
    holds: bool


@dataclass
class LockstepSummary:
    """The worst of everything that `lockstep` compared, over all steps."""

    steps: int = 0
    clipped: int = 0
    parity_steps: int = 0
    parity: dict[str, float] = field(default_factory=dict)
    """Largest distance of each tensor, over time steps and training steps."""
    divergence: dict[str, float] = field(default_factory=dict)
    """Largest absolute divergence of each quantity, of torch's run without noise."""
    update: dict[str, float] = field(default_factory=dict)
    """Largest distance of clipping, moments and updated parameters, from equal gradients."""
    separations: Separations = field(default_factory=Separations)
    """How far torch's runs with noise are from NumPy's."""
    judged_steps: int = 0
    """Steps for which the runs with noise were followed."""
    ended: str = ""
    """Why they were no longer followed."""
    first: tuple[int, compare.TensorDivergence] | None = None
    """The first training step, and the first tensor in it, whose distance exceeds K."""
    discontinuity: int | None = None
    """The first training step that does not start where the one before ended."""
    not_finite: str = ""
    """Whose loss was not finite, and when; empty if all were finite."""
    losses: Divergence | None = None
    """Follows the losses, to say whether the run ended worse than it could have begun."""
    last: Position | None = None
    """Where the last training step ended."""

    def add(self, record: TrainingStep | Validation, agreement: Agreement) -> None:
        """Take one record of `lockstep` into account."""
        for name, distance in agreement.divergence.items():
            self.divergence[name] = max(self.divergence.get(name, 0.0), distance)
        self.separations.add(agreement.groups)
        self.ended = agreement.ended
        for name, distance in agreement.update.items():
            self.update[name] = max(self.update.get(name, 0.0), distance)
        if isinstance(record, TrainingStep):
            self._add_step(record, agreement)
        if agreement.parity is not None:
            self.parity_steps += agreement.parity.undetermined is None
            for name, distance in agreement.parity.by_tensor().items():
                self.parity[name] = max(self.parity.get(name, 0.0), distance)
            if isinstance(record, TrainingStep) and self.first is None and agreement.parity.first:
                self.first = record.index, agreement.parity.first
        self._add_loss(record, agreement)

    def _add_step(self, step: TrainingStep, agreement: Agreement) -> None:
        self.steps += 1
        if min(step.coefficients.values()) < 1:
            self.clipped += 1
        if agreement.groups:
            self.judged_steps += 1
        if self.discontinuity is None and self.last is not None and step.before is not self.last:
            self.discontinuity = step.index
        self.last = step.after

    def _add_loss(self, record: TrainingStep | Validation, agreement: Agreement) -> None:
        if isinstance(record, TrainingStep):
            parameters, index = record.after.parameters, record.index
        else:
            parameters, index = record.parameters, record.step
        for program, loss in (("NumPy", record.loss), ("torch", agreement.torch_loss)):
            if not self.not_finite and not math.isfinite(loss):
                self.not_finite = f"the loss of {program} is {loss} at step {index}"
        if self.losses is None:
            self.losses = Divergence(len(parameters["projection.bias"]))
        if isinstance(record, TrainingStep):
            self.losses.training_loss(index, record.loss)
        else:
            self.losses.validation_loss(index, record.loss)

    def verdicts(self) -> list[Verdict]:
        """Parity of every gradient and update, and agreement of the two training runs."""
        verdicts = []
        if self.parity:
            name = max(self.parity, key=self.parity.__getitem__)
            figure = f"{self.parity[name]:.1f} in {name}"
            claim = f"every time step within K = {K:g} roundoffs, {self.parity_steps} steps"
            if self.first is not None:
                figure = f"training step {self.first[0]}: {self.first[1]}"
            verdicts.append(Verdict(claim, figure, self.first is None))
        if self.update:
            name = max(self.update, key=self.update.__getitem__)
            figure = f"{self.update[name]:.1f} in {name}"
            claim = f"every clip and update within K = {K:g} roundoffs, {self.steps} steps"
            verdicts.append(Verdict(claim, figure, self.update[name] <= K))
        if self.separations.by_quantity:
            verdicts.append(self._free_run_verdict())
        if self.steps:
            claim = "each step starts where the one before ended"
            figure = f"{self.steps} steps"
            if self.discontinuity is not None:
                figure = f"step {self.discontinuity} does not"
            verdicts.append(Verdict(claim, figure, self.discontinuity is None))
        verdicts.append(self._divergence_verdict())
        return verdicts

    def _free_run_verdict(self) -> Verdict:
        ratios = self.separations.by_quantity
        name = max(ratios, key=ratios.__getitem__)
        figure = f"{ratios[name]:.2f} (allowed {FACTOR:g}) in {name}"
        claim = (
            f"torch's free runs are not apart from NumPy's, {self.judged_steps} steps"
            f" (false alarms: {false_alarm_probability():.1g} a run)"
        )
        return Verdict(claim, figure, not self.separations.programs_differ())

    def _divergence_verdict(self) -> Verdict:
        """A loss that is not finite, or far above that of guessing, is no trained model's."""
        figure = self.not_finite
        if not figure and self.losses is not None:
            figure = self.losses.sentence or ""
        return Verdict("the run does not diverge", figure or "no loss is out of bounds", not figure)

    def tables(self) -> list[Table]:
        """The worst distance of every tensor, and the worst divergence of every quantity."""
        tables = []
        if self.parity:
            title = "Tied weights: worst distance over all time steps and training steps"
            tables.append(_distance_table(title, self.parity))
        title = "Clipping, moments and update from equal gradients and state: worst distance"
        tables.append(_distance_table(title, self.update))
        return [*tables, self._free_run_table()]

    def _free_run_table(self) -> Table:
        table = Table(title="Free run: how far torch went from NumPy, over all steps")
        if self.ended:
            table.caption = f"Separation: {self.ended}; after that the free run only informs."
        table.add_column("quantity")
        table.add_column("divergence", justify="right")
        table.add_column(f"separation (allowed {FACTOR:g})", justify="right")
        for name, divergence in self.divergence.items():
            separation = "not judged"
            if name in self.separations.by_quantity:
                separation = f"{self.separations.by_quantity[name]:.2f}"
            table.add_row(name, f"{divergence:.1e}", separation)
        return table


def _distance_table(title: str, distances: Mapping[str, float]) -> Table:
    table = Table(title=title)
    table.add_column("tensor")
    table.add_column(f"distance (allowed {K:g})", justify="right")
    for name, distance in distances.items():
        table.add_row(name, f"{distance:.2f}")
    return table
