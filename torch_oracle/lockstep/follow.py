"""Train both at once: does torch, with its own autograd and torch.optim, stay with NumPy?

Two correct programs round differently, and training amplifies that: the curves must part, and the
question is how fast. Twins answer it: NumPy runs whose initial weights are one ulp away and which
take every batch in two parts, so that its sums round differently. The noise floor of a quantity is
the largest distance from any twin so far, and at least one spacing of its floating-point format
(for the clipping coefficient, the roundoff of a norm). Torch must stay within FACTOR of the floor,
at every step, in the loss, every gradient, the clipping coefficients and every parameter.

The floor grows until the free runs say little. So each step is also judged alone: all gradients at
tied weights (`compare.check_parity`), and clipping and update from our own gradients and state
(`check_update`), both by the rule K, which stays sharp to the end.
"""

import signal
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.nn.utils import clip_grad_norm_

from numpy_lstm.language_model import LanguageModel
from numpy_lstm.roundoff import distance, distances
from numpy_lstm.training.batching import Batch
from numpy_lstm.training.loop import (
    Position,
    Recipe,
    TrainingStep,
    Validation,
    apply_gradients,
    batch_gradients,
    evaluate,
    loss_divisor,
)
from numpy_lstm.training.optimizers import SGD, Adam, Optimizer
from numpy_lstm.training.tasks import Task
from torch_oracle.proof.compare import Comparison, check_parity
from torch_oracle.proof.lstmcell_model import Oracle, oracle_loss
from torch_oracle.proof.trace import Problem

FACTOR = 4.0
"""Largest allowed ratio of divergence and noise floor."""

Quantities = dict[str, np.ndarray]
"""What is compared after a step, by name."""


@dataclass(frozen=True)
class Agreement:
    """How far torch is from NumPy after one step or validation, and how far that may be.

    `divergence` and `floor` are largest absolute differences, by quantity. `update` holds the
    distances of clipping and optimiser alone, from the same gradients and the same state. `parity`
    compares all time steps' gradients at tied weights, at the steps where that was asked for.
    """

    torch_loss: float
    divergence: dict[str, float]
    floor: dict[str, float]
    update: dict[str, float] = field(default_factory=dict)
    parity: Comparison | None = None

    @property
    def ratios(self) -> dict[str, float]:
        """Divergence in units of the noise floor; FACTOR is allowed."""
        pairs = {name: (far, self.floor[name]) for name, far in self.divergence.items()}
        return {
            name: far / floor if np.isfinite(far) and np.isfinite(floor) else float("inf")
            for name, (far, floor) in pairs.items()
        }


@dataclass
class _Runs:
    """The free-running twins and torch; what `lockstep` carries from step to step."""

    model: LanguageModel
    recipe: Recipe
    twins: list[Position]
    oracle: Oracle
    optimizer: torch.optim.Optimizer
    state: tuple[torch.Tensor, torch.Tensor] | None = None
    floor: dict[str, float] = field(default_factory=dict)


def lockstep(
    records: Iterable[TrainingStep | Validation],
    model: LanguageModel,
    recipe: Recipe,
    task: Task,
    *,
    twins: int = 8,
    parity_every: int = 1,
    executor: Executor | None = None,
) -> Iterator[tuple[TrainingStep | Validation, Agreement]]:
    """Follow a training run with torch and with NumPy twins, record by record.

    Args:
        records: what `numpy_lstm.training.loop.train` yields, from the beginning.
        model: the model that is trained.
        recipe: the recipe of the run.
        task: for the validation batches.
        twins: runs that measure the noise floor.
        parity_every: compare all time steps at tied weights at every so many steps; 0 for never.
        executor: where that comparison runs, beside the free runs; here when None.

    Yields:
        Each record, with its `Agreement`.
    """
    runs: _Runs | None = None
    for record in records:
        if runs is None:
            before = (
                record.parameters if isinstance(record, Validation) else record.before.parameters
            )
            runs = _start(model, recipe, before, twins)
        if isinstance(record, Validation):
            yield record, _follow_validation(runs, record, task.validation_batches())
            continue
        if not parity_every or record.index % parity_every:
            yield record, _follow_step(runs, record)
            continue
        problem = step_problem(model, recipe, record)
        check = partial(check_parity, problem, seed=record.index, twins=2)
        later = executor.submit(check) if executor is not None else None
        agreement = _follow_step(runs, record)
        parity = later.result() if later is not None else check()
        yield record, replace(agreement, parity=parity)


def parity_worker(threads: int) -> ProcessPoolExecutor:
    """A process for the comparisons at tied weights; Ctrl-C is left to the main process."""
    context = get_context("spawn")  # a fork would inherit the threads' locks
    return ProcessPoolExecutor(1, context, _start_worker, (threads,))


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _start(
    model: LanguageModel, recipe: Recipe, parameters: Mapping[str, np.ndarray], twins: int
) -> _Runs:
    positions = []
    for seed in range(twins):
        rng = np.random.default_rng(seed)
        moved = {name: neighbour(array, rng) for name, array in parameters.items()}
        positions.append(Position(moved, recipe.optimizer.init(moved)))
    oracle = Oracle(parameters, tied=False)
    return _Runs(model, recipe, positions, oracle, torch_optimizer(recipe.optimizer, oracle))


def neighbour(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each element's neighbouring number, up or down at random; zeros stay."""
    towards = np.copysign(np.inf, rng.uniform(-1.0, 1.0, array.shape)).astype(array.dtype)
    return np.where(array == 0, array, np.nextafter(array, towards))


def step_problem(model: LanguageModel, recipe: Recipe, step: TrainingStep) -> Problem:
    """The forward and backward run of a training step, for `check_parity`."""
    N, H = len(step.batch.lengths), model.hidden_size
    dtype = step.before.parameters["projection.weight"].dtype
    zeros = np.zeros((model.num_layers, N, H), dtype)
    carried = step.before.state if step.batch.continues else None
    h0, c0 = carried if carried is not None else (zeros, zeros)
    return Problem(
        config=model,
        parameters=step.before.parameters,
        x=step.batch.inputs,
        lengths=step.batch.lengths,
        h0=h0,
        c0=c0,
        dh_n=zeros,
        dc_n=zeros,
        targets=step.batch.targets,
        dloss=1.0 / loss_divisor(recipe.divisor, step.batch),
    )


def torch_optimizer(optimizer: Optimizer, oracle: Oracle) -> torch.optim.Optimizer:
    """The torch.optim optimizer with the same settings."""
    parameters, decay = list(oracle.by_name.values()), optimizer.weight_decay
    if isinstance(optimizer, SGD):
        return torch.optim.SGD(parameters, optimizer.lr, optimizer.momentum, weight_decay=decay)
    kind = torch.optim.Adam if isinstance(optimizer, Adam) else torch.optim.AdamW
    return kind(parameters, optimizer.lr, optimizer.betas, optimizer.eps, weight_decay=decay)


def torch_clip(recipe: Recipe, oracle: Oracle) -> dict[str, float]:
    """Clip the oracle's gradients by torch's own function; the factor seen on each tensor.

    The factor is read off each gradient's largest element, before and after.
    """
    if recipe.max_norm is None:
        return dict.fromkeys(oracle.by_name, 1.0)
    names = list(oracle.by_name)
    factors = {}
    for group in [names] if recipe.clipping == "global" else [[name] for name in names]:
        parameters = [oracle.by_name[name] for name in group]
        before = _largest(parameters)
        clip_grad_norm_(parameters, recipe.max_norm)
        factors |= dict.fromkeys(group, _largest(parameters) / before if before else 1.0)
    return factors


def _largest(parameters: list[torch.nn.Parameter]) -> float:
    return max(float(p.grad.abs().max()) for p in parameters if p.grad is not None)


def check_update(recipe: Recipe, step: TrainingStep) -> dict[str, float]:
    """Distances of clipping and optimiser alone: one step of torch.optim from our own position.

    Torch is given the parameters, the optimiser's state and the gradients of this very step, so
    that the rule K decides, however far the free runs have parted.
    """
    oracle = Oracle(step.before.parameters, tied=False)
    optimizer = torch_optimizer(recipe.optimizer, oracle)
    state = step.before.optimizer
    for name, parameter in oracle.by_name.items():
        parameter.grad = torch.from_numpy(step.gradients[name].copy())
        if "momentum" in state:
            buffer = torch.from_numpy(state["momentum"][name].copy())
            optimizer.state[parameter]["momentum_buffer"] = buffer
        if "m" in state:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(state["t"])),
                "exp_avg": torch.from_numpy(state["m"][name].copy()),
                "exp_avg_sq": torch.from_numpy(state["v"][name].copy()),
            }
    factors = _torch_update(recipe, oracle, optimizer, step.lr)
    dtype = step.before.parameters["projection.weight"].dtype
    ours = np.array([step.coefficients[name] for name in factors], dtype)
    theirs = np.array(list(factors.values()), dtype)
    (far,) = distances(
        ours[None], theirs[None], magnitudes=theirs[None] * norm_roundoffs(step.gradients)
    )
    result = {"clip coefficient": float(far)}
    for name, array in oracle.arrays().items():
        result[name] = distance(step.after.parameters[name], array)
    return result


def _torch_update(
    recipe: Recipe, oracle: Oracle, optimizer: torch.optim.Optimizer, lr: float
) -> dict[str, float]:
    """Clip the gradients and take torch.optim's step; each tensor's clipping coefficient."""
    coefficients = torch_clip(recipe, oracle)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return coefficients


def norm_roundoffs(gradients: Mapping[str, np.ndarray]) -> float:
    """Rounding error to be expected of a gradient norm, in roundoffs.

    It is the root of a sum of n squares, n up to the size of the largest tensor, and a sum's error
    is of the order of root n roundoffs (see `roundoff.distances`); the root halves it. In float32
    torch's norm of 65,536 elements was seen 19 roundoffs from the exact one, NumPy's 3.
    """
    return max(1.0, max(gradient.size for gradient in gradients.values()) ** 0.5 / 2)


def _torch_step(runs: _Runs, batch: Batch, lr: float) -> tuple[float, Quantities]:
    """One step of the free-running torch model: loss, and everything that is compared."""
    runs.optimizer.zero_grad()
    loss_sum, (h, c) = runs.oracle(batch, runs.state if batch.continues else None)
    runs.state = h.detach(), c.detach()
    lengths = torch.from_numpy(batch.lengths)
    divisor = lengths.sum() if runs.recipe.divisor == "tokens" else len(lengths)
    (loss_sum / divisor).backward()
    gradients = {name: gradient.copy() for name, gradient in runs.oracle.gradients().items()}
    coefficients = _torch_update(runs.recipe, runs.oracle, runs.optimizer, lr)
    loss = (loss_sum.detach() / batch.tokens).numpy()
    quantities = _quantities(loss, gradients, coefficients, runs.oracle.arrays())
    return float(loss), quantities


def _quantities(
    loss: Any,
    gradients: Mapping[str, np.ndarray],
    coefficients: Mapping[str, float],
    parameters: Mapping[str, np.ndarray],
) -> Quantities:
    clipping = np.array([coefficients[name] for name in gradients])
    scalars = {"loss": np.asarray(loss), "clip coefficient": clipping}
    return scalars | {f"d {name}": array for name, array in gradients.items()} | dict(parameters)


def _follow_step(runs: _Runs, step: TrainingStep) -> Agreement:
    """Take the same step with every twin and with torch."""
    ours = _quantities(step.loss, step.gradients, step.coefficients, step.after.parameters)
    others = []
    for k, before in enumerate(runs.twins):
        quantities, runs.twins[k] = _twin_step(runs, before, step.batch, step.lr, seed=k)
        others.append(quantities)
    torch_loss, theirs = _torch_step(runs, step.batch, step.lr)
    least = {"clip coefficient": norm_roundoffs(step.gradients)}
    agreement = _agreement(runs, torch_loss, ours, theirs, others, least)
    return replace(agreement, update=check_update(runs.recipe, step))


def _twin_step(
    runs: _Runs, before: Position, batch: Batch, lr: float, seed: int
) -> tuple[Quantities, Position]:
    """The step of `train`, with the batch in two parts (the same for all batches of a size)."""
    N = len(batch.lengths)
    order = np.random.default_rng([seed, N]).permutation(N)
    divisor = loss_divisor(runs.recipe.divisor, batch)
    results = []
    carried = before.state if batch.continues else None
    for part in (p for p in np.array_split(order, 2) if p.size):
        state = None if carried is None else (carried[0][:, part], carried[1][:, part])
        rows = replace(
            batch,
            inputs=batch.inputs[:, part],
            targets=batch.targets[:, part],
            lengths=batch.lengths[part],
        )
        results.append(batch_gradients(runs.model, replace(before, state=state), rows, divisor))
    losses, gradients, states = zip(*results, strict=True)
    gradient = {name: np.sum([g[name] for g in gradients], axis=0) for name in gradients[0]}
    back = np.argsort(order)
    h, c = (np.concatenate(parts, axis=1)[:, back] for parts in zip(*states, strict=True))
    coefficients, after = apply_gradients(runs.recipe, before, gradient, (h, c), lr)
    return _quantities(sum(losses) / batch.tokens, gradient, coefficients, after.parameters), after


def _follow_validation(runs: _Runs, record: Validation, batches: list[Batch]) -> Agreement:
    """Validate every twin and torch at their own weights."""
    losses = [evaluate(runs.model, twin.parameters, batches) for twin in runs.twins]
    torch_loss = oracle_loss(runs.oracle, batches)
    name = "validation loss"
    return _agreement(
        runs,
        torch_loss,
        {name: np.asarray(record.loss)},
        {name: np.asarray(torch_loss)},
        [{name: np.asarray(loss)} for loss in losses],
        {},
    )


def _agreement(
    runs: _Runs,
    torch_loss: float,
    ours: Quantities,
    theirs: Quantities,
    twins: list[Quantities],
    least: Mapping[str, float],
) -> Agreement:
    """Compare, with a floor of at least one spacing, or of as many as `least` says."""
    dtype = runs.twins[0].parameters["projection.weight"].dtype if runs.twins else np.float64
    for name, value in ours.items():
        spacing = float(np.spacing(np.abs(value).max().astype(dtype))) * least.get(name, 1.0)
        noise = [_difference(twin[name], value) for twin in twins]
        runs.floor[name] = max([runs.floor.get(name, 0.0), spacing, *noise])
    divergence = {name: _difference(theirs[name], value) for name, value in ours.items()}
    floor = {name: runs.floor[name] for name in ours}
    return Agreement(torch_loss, divergence, floor)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    largest = float(np.abs(a - b).max())
    return largest if np.isfinite(largest) else float("inf")
