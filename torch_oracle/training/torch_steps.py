"""Torch's side of a training run: what it computes in each step from the weights reported before.

Loss and gradients are nn.LSTMCell's and autograd's, clipping is clip_grad_norm_, moments and update
are torch.optim's. States and moments are torch's own and go on from step to step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from torch_oracle.lockstep.torch_run import torch_clip, torch_optimizer, torch_schedule
from torch_oracle.lockstep.update import norm_roundoffs
from torch_oracle.proof.batch_problem import States, batch_problem
from torch_oracle.proof.compare import noise_moves
from torch_oracle.proof.lstmcell_model import LSTMCellModel
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import Problem, Trace, contribution
from torch_oracle.training.adapter import Report
from torch_oracle.training.cases import TrainingCase

Arrays = Mapping[str, np.ndarray]
MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq", "momentum": "momentum_buffer"}
"""What torch.optim calls the moments."""


@dataclass(frozen=True)
class ExpectedStep:
    """What torch computes in a step, under the names that `tensor_name` gives.

    `magnitudes` are those of `roundoff.distances`, of the tensors that are sums; `states` are h and
    c at the end of the batch.
    """

    tensors: dict[str, np.ndarray]
    magnitudes: dict[str, np.ndarray]
    states: States


class TorchSteps:
    """Torch in each step of one run, from the weights that were reported before the step.

    Args:
        case: the run.
        reports: what was reported of its steps.
        member: 0 for torch's own numbers; 1, 2, ... for noisy twins, which tell how far correct
            numbers may be from them.
    """

    def __init__(self, case: TrainingCase, reports: Sequence[Report], member: int) -> None:
        self._case, self._reports, self._member = case, reports, member
        self._optimizer = _TorchOptimizer(case)
        self._steps: list[ExpectedStep] = []

    def at(self, step: int) -> ExpectedStep:
        """Everything of a step; the steps before are taken first."""
        while len(self._steps) <= step:
            self._steps.append(self._next())
        return self._steps[step]

    def from_other_state(self, step: int) -> ExpectedStep:
        """Loss and gradients of a step that wrongly starts from zero states, or carries them on."""
        if self._case.batches[step].continues:
            return self._gradients(step, None)
        return self._gradients(step, self.at(step - 1).states)

    def _next(self) -> ExpectedStep:
        step, case = len(self._steps), self._case
        states = self._steps[-1].states if case.batches[step].continues else None
        expected, report = self._gradients(step, states), self._reports[step]
        tensors, magnitudes = expected.tensors, expected.magnitudes
        gradients = report.get("gradients")
        if gradients is None:
            gradients = {name: tensors[tensor_name("gradients", name)] for name in case.weights}
        clipped = _torch_clipped(case, gradients)
        unit = norm_roundoffs(gradients)
        for name, array in clipped.items():
            tensors[tensor_name("clipped", name)] = array
            magnitudes[tensor_name("clipped", name)] = np.abs(array) * unit
        update = self._optimizer.step(self._weights(step), report.get("clipped", clipped))
        for quantity, arrays in update.items():
            tensors |= {tensor_name(quantity, name): array for name, array in arrays.items()}
        return expected

    def _weights(self, step: int) -> Arrays:
        """The weights that were reported before a step."""
        return self._reports[step - 1]["weights"] if step else self._case.weights

    def _gradients(self, step: int, states: States | None) -> ExpectedStep:
        """Forward and backward run of a batch."""
        case, batch = self._case, self._case.batches[step]
        problem = batch_problem(case.model, case.recipe, self._weights(step), batch, states)
        trace, tokens = _trace(problem, step, self._member), int(batch.lengths.sum())
        loss = np.asarray(trace.steps["loss"].sum() / tokens)
        # The loss is a sum of as many terms of one sign; see `roundoff.distances`.
        tensors, magnitudes = {"loss": loss}, {"loss": np.asarray(loss * tokens**0.5, loss.dtype)}
        for name in case.weights:
            gradient, total = tensor_name("gradients", name), contribution(name)
            tensors[gradient] = trace.totals[total]
            if total in trace.magnitudes:
                magnitudes[gradient] = trace.magnitudes[total].sum(axis=0)
        h_n, c_n = (trace.totals[name].astype(case.dtype) for name in ("h_n", "c_n"))
        return ExpectedStep(tensors, magnitudes, (h_n, c_n))


def tensor_name(quantity: str, name: str) -> str:
    """What a reported tensor is called: `d lstm.bias_l0` for a gradient, `m lstm.bias_l0`, ..."""
    if quantity in ("loss", "weights"):
        return name
    return f"d {name}" if quantity == "gradients" else f"{quantity} {name}"


def _trace(problem: Problem, step: int, member: int) -> Trace:
    """Torch's forward and backward run; members after the first are moved by noise, in float64."""
    exact = torch_trace(problem)
    if member == 0:
        return exact
    (moves,) = noise_moves(problem, seed=step, twins=1, first=member)
    steps = {name: array + moves.steps[name] for name, array in exact.steps.items()}
    totals = {name: array + moves.totals[name] for name, array in exact.totals.items()}
    return Trace(steps, totals)


def _torch_clipped(case: TrainingCase, gradients: Arrays) -> Arrays:
    """The gradients after torch's own clipping."""
    oracle = LSTMCellModel(case.weights, tied=False)
    _set_gradients(oracle, gradients)
    torch_clip(case.recipe, oracle)
    return oracle.gradients()


def _set_gradients(oracle: LSTMCellModel, gradients: Arrays) -> None:
    for name, parameter in oracle.by_name.items():
        parameter.grad = torch.from_numpy(gradients[name].copy()).to(parameter.dtype)


class _TorchOptimizer:
    """torch.optim and torch's schedule, with moments of their own, at weights that are given."""

    def __init__(self, case: TrainingCase) -> None:
        self._oracle = LSTMCellModel(case.weights, tied=False)
        self._optimizer = torch_optimizer(case.recipe.optimizer, self._oracle)
        self._schedule = torch_schedule(case.recipe, self._optimizer, len(case.batches))

    def step(self, weights: Arrays, gradients: Arrays) -> Report:
        """Moments and weights after one step."""
        with torch.no_grad():
            for name, parameter in self._oracle.by_name.items():
                parameter.copy_(torch.from_numpy(weights[name].copy()))
        _set_gradients(self._oracle, gradients)
        self._optimizer.step()
        if self._schedule is not None:
            self._schedule.step()
        result: Report = {"weights": {n: a.copy() for n, a in self._oracle.arrays().items()}}
        for name, parameter in self._oracle.by_name.items():
            state = self._optimizer.state[parameter]
            for moment, torch_name in MOMENTS.items():
                if isinstance(state.get(torch_name), torch.Tensor):
                    array = state[torch_name].numpy().copy()
                    result.setdefault(moment, {})[name] = array
        return result
