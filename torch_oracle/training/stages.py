"""Is a training program right? Each step's stages, from its own position, against torch.

A step is judged from the weights that the program itself reported before it: loss and gradients by
nn.LSTMCell and autograd; clipping by clip_grad_norm_ on the gradients that it reported; moments and
update by torch.optim from the clipped gradients that it reported, whose moments are torch's own.
Where it reports no gradients, torch's take their place, with the noise that they have. So the first
stage that goes wrong is named, and what was right before it is not blamed. The rule is that of
`compare`: K units of roundoff or noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from numpy_lstm.roundoff import K, distances
from torch_oracle.json_values import json_value
from torch_oracle.proof.compare import TWINS
from torch_oracle.training.adapter import Report, TrainingAdapter, moments, run_adapter_on
from torch_oracle.training.cases import TrainingCase, training_cases
from torch_oracle.training.torch_steps import ExpectedStep, TorchSteps, tensor_name

TrainingStage = Literal["state", "loss", "gradient", "clip", "moment", "update"]
STAGES: tuple[TrainingStage, ...] = get_args(TrainingStage)
"""In the order of computation. The state is what a step takes over from the one before."""
STAGE_OF: dict[str, TrainingStage] = {
    "loss": "loss",
    "gradients": "gradient",
    "clipped": "clip",
    "m": "moment",
    "v": "moment",
    "momentum": "moment",
    "weights": "update",
}
"""The stage that computes a reported quantity."""


@dataclass(frozen=True)
class StageDivergence:
    """Where a training run first differs from torch: the worst element of the first tensor."""

    case: str
    step: int
    stage: TrainingStage
    tensor: str
    index: tuple[int, ...]
    actual: float
    reference: float
    distance: float
    possible: tuple[TrainingStage, ...]
    """The stages that may be to blame: this one, and those before it that were not reported."""

    def __str__(self) -> str:
        """The divergence in a sentence."""
        others = [stage for stage in self.possible if stage != self.stage]
        unseen = f" (not reported, and possible too: {', '.join(others)})" if others else ""
        return (
            f"{self.case}: step {self.step}: {self.stage}{unseen}: {self.tensor}, index"
            f" {list(self.index)}: got {self.actual:.9g}, torch has {self.reference:.9g};"
            f" distance {self.distance:.3g}, allowed {K:g}"
        )


@dataclass(frozen=True)
class CaseJudgement:
    """One run: the largest distance of each stage that was judged, and the first above K.

    Nothing is judged after that.
    """

    case: str
    steps: int
    distances: dict[str, float]
    first: StageDivergence | None
    unjudged: tuple[TrainingStage, ...]
    """Stages of which nothing was reported."""


@dataclass(frozen=True)
class TrainingJudgement:
    """The judgement on all runs of one training program."""

    cases: tuple[CaseJudgement, ...]
    refused: dict[str, str] = field(default_factory=dict)
    """The runs that the program does not take, by name, and why."""

    @property
    def first(self) -> StageDivergence | None:
        """The first divergence of the first run that has one."""
        return next((case.first for case in self.cases if case.first is not None), None)

    @property
    def passed(self) -> bool:
        """Whether no run differs from torch."""
        return self.first is None

    def to_json(self) -> dict[str, Any]:
        """The judgement as JSON has it; a distance that is not finite becomes a string."""
        cases = [json_value(asdict(case)) for case in self.cases]
        return {"passed": self.passed, "refused": self.refused, "cases": cases}


def judge_training(
    function: TrainingAdapter, *, cases: Sequence[TrainingCase] | None = None
) -> TrainingJudgement:
    """Compare a training program with torch, stage by stage.

    Args:
        function: the training adapter; see `torch_oracle.training.adapter`.
        cases: the runs; `training_cases()` when None.

    Raises:
        InputError: the adapter raises, or returns something of another form.
    """
    if cases is None:
        cases = training_cases()
    runs, refused = run_adapter_on(function, cases)
    return TrainingJudgement(tuple(judge_training_case(*run) for run in runs), refused)


def judge_training_case(case: TrainingCase, reports: Sequence[Report]) -> CaseJudgement:
    """Compare one run, as far as it is reported, with torch.

    Noise is measured only where a distance in roundoffs alone would exceed K: it makes distances
    smaller, never larger.
    """
    exact = TorchSteps(case, reports, 0)
    twins = [TorchSteps(case, reports, member) for member in range(1, 1 + TWINS)]
    unjudged = _unjudged(case, reports[0])
    worst: dict[str, float] = {}
    for step, report in enumerate(reports):
        for tensor in _tensors(report):
            distance = _distance(tensor, exact.at(step), ())
            if distance > K:
                distance = _distance(tensor, exact.at(step), [twin.at(step) for twin in twins])
            worst[tensor.stage] = max(worst.get(tensor.stage, 0.0), distance)
            if distance > K:
                stage = tensor.stage
                if stage in ("loss", "gradient") and _other_state(report, step, exact, twins):
                    stage = "state"
                first = StageDivergence(
                    case=case.name,
                    step=step,
                    stage=stage,
                    tensor=tensor.name,
                    **_worst_element(tensor.array, exact.at(step).tensors[tensor.name]),
                    distance=distance,
                    possible=_possible(stage, report, unjudged),
                )
                return CaseJudgement(case.name, len(reports), worst, first, unjudged)
    return CaseJudgement(case.name, len(reports), worst, None, unjudged)


def _unjudged(case: TrainingCase, report: Report) -> tuple[TrainingStage, ...]:
    """The stages that the recipe has and that nothing was reported of."""
    judged = _judged(report)
    if case.recipe.max_norm is None:
        judged.add("clip")
    if not moments(case.recipe):
        judged.add("moment")
    return tuple(stage for stage in STAGES if stage not in judged)


def _judged(report: Report) -> set[TrainingStage]:
    """The stages of which something was reported."""
    stages: set[TrainingStage] = {STAGE_OF[quantity] for quantity in report}
    if stages & {"loss", "gradient"}:
        stages.add("state")
    return stages


@dataclass(frozen=True)
class _Tensor:
    """One tensor that was reported of a step."""

    stage: TrainingStage
    name: str
    array: np.ndarray


def _tensors(report: Report) -> Iterator[_Tensor]:
    """Everything that was reported of a step, in the order of computation."""
    for quantity, stage in STAGE_OF.items():
        for name, array in report.get(quantity, {}).items():
            yield _Tensor(stage, tensor_name(quantity, name), array)


def _distance(tensor: _Tensor, exact: ExpectedStep, twins: Sequence[ExpectedStep]) -> float:
    """Distance of a reported tensor from torch's, in roundoffs, or noise where there are twins."""
    reference = exact.tensors[tensor.name]
    magnitudes = exact.magnitudes.get(tensor.name)
    (distance,) = distances(
        tensor.array[None],
        reference[None],
        moves=[(twin.tensors[tensor.name] - reference)[None] for twin in twins],
        magnitudes=None if magnitudes is None else magnitudes[None],
    )
    return float(distance)


def _other_state(report: Report, step: int, exact: TorchSteps, twins: Sequence[TorchSteps]) -> bool:
    """Whether loss and gradients are right, but from the other state: reset or carried on."""
    if step == 0:
        return False
    expected = exact.from_other_state(step)
    noise = [twin.from_other_state(step) for twin in twins]
    tensors = [tensor for tensor in _tensors(report) if tensor.stage in ("loss", "gradient")]
    return all(_distance(tensor, expected, noise) <= K for tensor in tensors)


def _possible(
    stage: TrainingStage, report: Report, unjudged: Sequence[TrainingStage]
) -> tuple[TrainingStage, ...]:
    """The stages that may be to blame: since the last one before that was judged, if any was."""
    before = STAGES[: STAGES.index(stage)]
    judged = _judged(report)
    last = max((n for n, each in enumerate(before) if each in judged), default=-1)
    # A loss that is only reported wrongly changes nothing after it.
    hidden: list[TrainingStage] = [
        each for each in before[last + 1 :] if each in unjudged and each != "loss"
    ]
    return (*hidden, stage)


def _worst_element(array: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """The index of the element that differs most, and what it is in both."""
    error = np.nan_to_num(np.abs(array - reference), nan=np.inf)
    index = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
    return {"index": index, "actual": float(array[index]), "reference": float(reference[index])}
