"""What a run with the oracle showed: gathered, judged and printed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from numpy_lstm.roundoff import K
from numpy_lstm.training.loop import TrainingStep, Validation
from torch_oracle.lockstep.follow import FACTOR, Agreement
from torch_oracle.proof.compare import Divergence


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
    ratios: dict[str, float] = field(default_factory=dict)
    """Largest divergence of each quantity, in units of its noise floor."""
    divergence: dict[str, float] = field(default_factory=dict)
    """Largest absolute divergence of each quantity."""
    update: dict[str, float] = field(default_factory=dict)
    """Largest distance of clipping and updated parameters, from equal gradients and state."""
    first: tuple[int, Divergence] | None = None
    """The first training step, and the first tensor in it, whose distance exceeds K."""

    def add(self, record: TrainingStep | Validation, agreement: Agreement) -> None:
        """Take one record of `lockstep` into account."""
        for name, ratio in agreement.ratios.items():
            self.ratios[name] = max(self.ratios.get(name, 0.0), ratio)
            largest = max(self.divergence.get(name, 0.0), agreement.divergence[name])
            self.divergence[name] = largest
        if isinstance(record, TrainingStep):
            self.steps += 1
            self.clipped += min(record.coefficients.values()) < 1
        for name, distance in agreement.update.items():
            self.update[name] = max(self.update.get(name, 0.0), distance)
        if agreement.parity is not None:
            self.parity_steps += agreement.parity.undetermined is None
            for name, distance in agreement.parity.by_tensor().items():
                self.parity[name] = max(self.parity.get(name, 0.0), distance)
            if isinstance(record, TrainingStep) and self.first is None and agreement.parity.first:
                self.first = record.index, agreement.parity.first

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
        name = max(self.ratios, key=self.ratios.__getitem__)
        figure = f"{self.ratios[name]:.2f} in {name}"
        claim = f"torch's run within {FACTOR:g} x noise floor, {self.steps} steps"
        return [*verdicts, Verdict(claim, figure, self.ratios[name] <= FACTOR)]

    def tables(self) -> list[Table]:
        """The worst distance of every tensor, and the worst divergence of every quantity."""
        parity = _distance_table(
            "Tied weights: worst distance over all time steps and training steps", self.parity
        )
        update = _distance_table(
            "Clipping and update from equal gradients and state: worst distance", self.update
        )
        free = Table(title="Free run: largest divergence of torch from NumPy over all steps")
        free.add_column("quantity")
        free.add_column("absolute", justify="right")
        free.add_column(f"in noise floors (allowed {FACTOR:g})", justify="right")
        for name, ratio in self.ratios.items():
            free.add_row(name, f"{self.divergence[name]:.1e}", f"{ratio:.2f}")
        return [parity, update, free] if self.parity else [update, free]


def _distance_table(title: str, distances: Mapping[str, float]) -> Table:
    table = Table(title=title)
    table.add_column("tensor")
    table.add_column(f"distance (allowed {K:g})", justify="right")
    for name, distance in distances.items():
        table.add_row(name, f"{distance:.2f}")
    return table


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Claims, figures, and whether they hold."""
    table = Table(title="Verdict")
    for column in ("claim", "figure", ""):
        table.add_column(column)
    for verdict in verdicts:
        mark = "[green]holds[/]" if verdict.holds else "[bold red]FAILS[/]"
        table.add_row(verdict.claim, verdict.figure, mark)
    return table
