"""Is a training program right? Each step's stages, from its own position, against torch.

A step is judged from the weights that the program itself reported before it: loss and gradients by
nn.LSTMCell and autograd; clipping by clip_grad_norm_ on the gradients that it reported; moments and
update by torch.optim from the clipped gradients that it reported, whose moments are torch's own.
Where it reports no gradients, torch's take their place, with the noise that they have. So the first
stage that goes wrong is named, and what was right before it is not blamed. The rule is that of
`compare`: K units of roundoff or noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from numpy_lstm.roundoff import K, distances
from torch_oracle.lockstep.torch_run import torch_clip, torch_optimizer
from torch_oracle.lockstep.update import norm_roundoffs
from torch_oracle.proof.compare import TWINS, deviations, plain
from torch_oracle.proof.lstmcell_model import Oracle
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import Problem, Trace, contribution
from torch_oracle.training.adapter import Report, TrainingAdapter, moments, run_adapter
from torch_oracle.training.cases import TrainingCase, training_cases

Stage = Literal["state", "loss", "gradient", "clip", "moment", "update"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order of computation. The state is what a step takes over from the one before."""
STAGE_OF: dict[str, Stage] = {
    "loss": "loss",
    "gradients": "gradient",
    "clipped": "clip",
    "m": "moment",
    "v": "moment",
    "momentum": "moment",
    "weights": "update",
}
"""The stage that computes a reported quantity."""

Arrays = Mapping[str, np.ndarray]
States = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class StageDivergence:
    """Where a training run first differs from torch: the worst element of the first tensor."""

    case: str
    step: int
    stage: Stage
    tensor: str
    index: tuple[int, ...]
    actual: float
    reference: float
    distance: float
    possible: tuple[Stage, ...]
    """The stages that may be to blame: this one, and those before it that were not reported."""

    def __str__(self) -> str:
        """One sentence for a person."""
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
    unjudged: tuple[Stage, ...]
    """Stages of which nothing was reported."""


@dataclass(frozen=True)
class TrainingJudgement:
    """All runs of one training program."""

    cases: tuple[CaseJudgement, ...]

    @property
    def first(self) -> StageDivergence | None:
        """The first divergence of the first run that has one."""
        return next((case.first for case in self.cases if case.first is not None), None)

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return self.first is None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts; a distance that is not finite is a string."""
        return {"passed": self.passed, "cases": [plain(asdict(case)) for case in self.cases]}


def judge_training(
    function: TrainingAdapter, *, cases: Sequence[TrainingCase] | None = None
) -> TrainingJudgement:
    """Compare a training program with torch, stage by stage.

    Args:
        function: the training adapter; see `training_reports`.
        cases: the runs; `training_cases()` when None.

    Raises:
        InputError: the adapter raises, or returns something of another form.
    """
    cases = training_cases() if cases is None else cases
    return TrainingJudgement(tuple(judge_case(case, run_adapter(function, case)) for case in cases))


def judge_case(case: TrainingCase, reports: Sequence[Report]) -> CaseJudgement:
    """Compare one run, as far as it is reported, with torch.

    Noise is measured only where a distance in roundoffs alone would exceed K: it makes distances
    smaller, never larger.
    """
    exact, *twins = (_Torch(case, reports, member) for member in range(1 + TWINS))
    unjudged, worst = _unjudged(case, reports[0]), {}
    for step, report in enumerate(reports):
        for tensor in _tensors(report):
            far = _distance(tensor, step, exact)
            if far > K:
                far = _distance(tensor, step, exact, twins)
            worst[tensor.stage] = max(worst.get(tensor.stage, 0.0), far)
            if far > K:
                stage = tensor.stage
                if stage in ("loss", "gradient") and _other_state(report, step, exact, twins):
                    stage = "state"
                first = _divergence(case, step, stage, tensor, far, exact, unjudged)
                return CaseJudgement(case.name, len(reports), worst, first, unjudged)
    return CaseJudgement(case.name, len(reports), worst, None, unjudged)


def _unjudged(case: TrainingCase, report: Report) -> tuple[Stage, ...]:
    """The stages that the recipe has and that nothing was reported of."""
    absent = set() if case.recipe.max_norm is not None else {"clip"}
    absent |= set() if moments(case.recipe) else {"moment"}
    return tuple(stage for stage in STAGES if stage not in _judged(report) | absent)


def _judged(report: Report) -> set[Stage]:
    """The stages of which something was reported."""
    stages: set[Stage] = {STAGE_OF[quantity] for quantity in report}
    if stages & {"loss", "gradient"}:
        stages.add("state")
    return stages


@dataclass(frozen=True)
class _Tensor:
    """One reported tensor."""

    stage: Stage
    name: str
    array: np.ndarray


def _tensors(report: Report) -> Iterator[_Tensor]:
    """Everything that was reported of a step, in the order of computation."""
    for quantity, stage in STAGE_OF.items():
        for name, array in report.get(quantity, {}).items():
            yield _Tensor(stage, _label(quantity, name), array)


def _label(quantity: str, name: str) -> str:
    prefix = {"loss": "", "gradients": "d ", "weights": ""}.get(quantity, f"{quantity} ")
    return f"{prefix}{name}"


def _distance(tensor: _Tensor, step: int, exact: "_Torch", twins: Sequence["_Torch"] = ()) -> float:
    """Of a reported tensor from torch's, in roundoffs, or noise where there are twins."""
    reference = exact.at(step).tensors[tensor.name]
    sizes = exact.at(step).magnitudes.get(tensor.name)
    others = [(twin.at(step).tensors[tensor.name] - reference)[None] for twin in twins]
    magnitudes = None if sizes is None else sizes[None]
    (far,) = distances(tensor.array[None], reference[None], others, magnitudes)
    return float(far)


def _other_state(report: Report, step: int, exact: "_Torch", twins: Sequence["_Torch"]) -> bool:
    """Whether loss and gradients are right, but from the other state: reset or carried on."""
    if step == 0:
        return False
    others = [twin.from_other_state(step) for twin in twins]
    reference = exact.from_other_state(step)

    def near(tensor: _Tensor) -> bool:
        expected, sizes = reference.tensors[tensor.name], reference.magnitudes[tensor.name]
        moves = [(other.tensors[tensor.name] - expected)[None] for other in others]
        (far,) = distances(tensor.array[None], expected[None], moves, sizes[None])
        return bool(far <= K)

    return all(near(t) for t in _tensors(report) if t.stage in ("loss", "gradient"))


def _divergence(
    case: TrainingCase,
    step: int,
    stage: Stage,
    tensor: _Tensor,
    distance: float,
    exact: "_Torch",
    unjudged: Sequence[Stage],
) -> StageDivergence:
    before = STAGES[: STAGES.index(stage)]
    judged = _judged(exact.reports[step])
    last = max((n for n, each in enumerate(before) if each in judged), default=-1)
    # A loss that is only reported wrongly changes nothing after it.
    silent: set[Stage] = {each for each in unjudged if each != "loss"}
    hidden: list[Stage] = [each for each in before[last + 1 :] if each in silent]
    reference = exact.at(step).tensors[tensor.name]
    error = np.nan_to_num(np.abs(tensor.array - reference), nan=np.inf)
    index = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
    return StageDivergence(
        case=case.name,
        step=step,
        stage=stage,
        tensor=tensor.name,
        index=index,
        actual=float(tensor.array[index]),
        reference=float(reference[index]),
        distance=distance,
        possible=(*hidden, stage),
    )


@dataclass(frozen=True)
class _Expected:
    """What torch makes of a step: arrays under the labels of what may be reported.

    `magnitudes` are those of `roundoff.distances`; `state` is the one at the end.
    """

    tensors: dict[str, np.ndarray]
    magnitudes: dict[str, np.ndarray]
    state: States


class _Torch:
    """Torch at the positions of one run, with its own states and moments; noisy if asked."""

    def __init__(self, case: TrainingCase, reports: Sequence[Report], member: int) -> None:
        self.reports, self._case, self._member = reports, case, member
        self._optimizer = _TorchOptimizer(case)
        self._steps: list[_Expected] = []

    def at(self, step: int) -> _Expected:
        """Everything of a step; the steps before are taken first."""
        while len(self._steps) <= step:
            self._steps.append(self._next())
        return self._steps[step]

    def from_other_state(self, step: int) -> _Expected:
        """Loss and gradients of a step that wrongly starts from zero states, or from the last."""
        continues = self._case.batches[step].continues
        return self._gradients(step, None if continues else self.at(step - 1).state)

    def _weights(self, step: int) -> Arrays:
        """Those that were reported before a step."""
        return self.reports[step - 1]["weights"] if step else self._case.weights

    def _next(self) -> _Expected:
        step, case = len(self._steps), self._case
        carried = self._steps[-1].state if case.batches[step].continues else None
        expected, report = self._gradients(step, carried), self.reports[step]
        tensors, magnitudes = expected.tensors, expected.magnitudes
        own = {name: tensors[_label("gradients", name)] for name in case.weights}
        gradients = report.get("gradients", own)
        clipped = _torch_clipped(case, gradients)
        unit = norm_roundoffs(gradients)
        for name, array in clipped.items():
            label = _label("clipped", name)
            tensors[label], magnitudes[label] = array, np.abs(array) * unit
        update = self._optimizer.step(self._weights(step), report.get("clipped", clipped))
        for quantity, arrays in update.items():
            tensors |= {_label(quantity, name): array for name, array in arrays.items()}
        return expected

    def _gradients(self, step: int, state: States | None) -> _Expected:
        """Forward and backward run of a batch."""
        problem, batch = self._problem(step, state), self._case.batches[step]
        trace, tokens = _trace(problem, step, self._member), int(batch.lengths.sum())
        loss = np.asarray(trace.steps["loss"].sum() / tokens)
        # The loss is a sum of as many terms of one sign; see `roundoff.distances`.
        tensors, magnitudes = {"loss": loss}, {"loss": np.asarray(loss * tokens**0.5, loss.dtype)}
        for name in self._case.weights:
            label, own = _label("gradients", name), contribution(name)
            tensors[label] = trace.totals[own]
            if own in trace.magnitudes:
                magnitudes[label] = trace.magnitudes[own].sum(axis=0)
        h_n, c_n = (trace.totals[name].astype(self._case.dtype) for name in ("h_n", "c_n"))
        return _Expected(tensors, magnitudes, (h_n, c_n))

    def _problem(self, step: int, state: States | None) -> Problem:
        case, batch = self._case, self._case.batches[step]
        N, H = len(batch.lengths), case.model.hidden_size
        zeros = np.zeros((case.model.num_layers, N, H), case.dtype)
        h0, c0 = state if state is not None else (zeros, zeros)
        divisor = int(batch.lengths.sum()) if case.recipe.divisor == "tokens" else N
        return Problem(
            config=case.model,
            parameters=self._weights(step),
            x=batch.inputs,
            lengths=batch.lengths,
            h0=h0,
            c0=c0,
            dh_n=zeros,
            dc_n=zeros,
            targets=batch.targets,
            dloss=1.0 / divisor,
        )


def _trace(problem: Problem, step: int, member: int) -> Trace:
    """Torch's forward and backward run; members after the first are moved by noise, in float64."""
    exact = torch_trace(problem)
    if member == 0:
        return exact
    (moves,) = deviations(problem, seed=step, twins=1, first=member)
    steps = {name: array + moves.steps[name] for name, array in exact.steps.items()}
    totals = {name: array + moves.totals[name] for name, array in exact.totals.items()}
    return Trace(steps, totals)


def _torch_clipped(case: TrainingCase, gradients: Arrays) -> Arrays:
    """The gradients after torch's own clipping."""
    oracle = Oracle(case.weights, tied=False)
    _give(oracle, gradients)
    torch_clip(case.recipe, oracle)
    return oracle.gradients()


def _give(oracle: Oracle, gradients: Arrays) -> None:
    for name, parameter in oracle.by_name.items():
        parameter.grad = torch.from_numpy(gradients[name].copy()).to(parameter.dtype)


class _TorchOptimizer:
    """torch.optim and torch's schedule, with moments of their own, at weights that are given."""

    def __init__(self, case: TrainingCase) -> None:
        self._oracle = Oracle(case.weights, tied=False)
        self._optimizer = torch_optimizer(case.recipe.optimizer, self._oracle)
        lr, last = case.recipe.optimizer.lr, max(1, len(case.batches) - 1)
        self._schedule = None
        if case.recipe.schedule == "cosine":
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR
            self._schedule = schedule(self._optimizer, last, eta_min=lr / 10)

    def step(self, weights: Arrays, gradients: Arrays) -> Report:
        """Moments and weights after one step."""
        with torch.no_grad():
            for name, parameter in self._oracle.by_name.items():
                parameter.copy_(torch.from_numpy(weights[name].copy()))
        _give(self._oracle, gradients)
        self._optimizer.step()
        if self._schedule is not None:
            self._schedule.step()
        result: Report = {"weights": {n: a.copy() for n, a in self._oracle.arrays().items()}}
        names = {"m": "exp_avg", "v": "exp_avg_sq", "momentum": "momentum_buffer"}
        for name, parameter in self._oracle.by_name.items():
            state = self._optimizer.state[parameter]
            for moment, own in names.items():
                if isinstance(state.get(own), torch.Tensor):
                    result.setdefault(moment, {})[name] = state[own].numpy().copy()
        return result
