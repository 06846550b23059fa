"""Follow a NumPy training run with torch, step by step, by three comparisons.

Tied weights: at every step torch computes all gradients from the very weights of the run
(`proof.compare.check_parity`). Clip and update: torch's optimiser takes the same step from the same
gradients and state (`update`). Both are judged by the rule K and stay sharp to the end.

Free run: torch trains by itself from start to end. How far two correct programs may part by then is
a question of chance, and `free_run` answers it.
"""

import signal
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from numpy_lstm.language_model import LanguageModel
from numpy_lstm.training.batching import Batch
from numpy_lstm.training.loop import Recipe, TrainingStep, Validation
from numpy_lstm.training.tasks import Task
from torch_oracle.lockstep.free_run import MOST_STEPS, FreeRun, Groups
from torch_oracle.lockstep.torch_run import Quantities, TorchRun, step_quantities
from torch_oracle.lockstep.update import check_update
from torch_oracle.proof.batch_problem import batch_problem
from torch_oracle.proof.compare import Comparison, check_parity
from torch_oracle.proof.trace import Problem


@dataclass(frozen=True)
class Agreement:
    """What the comparisons found after one step or validation.

    `torch_loss` is that of torch's own run without noise, and `divergence` how far that run is from
    ours: the largest absolute difference of each quantity, for information.
    """

    torch_loss: float
    divergence: dict[str, float]
    groups: dict[str, Groups] = field(default_factory=dict)
    """The runs with noise, by quantity; empty once they are no longer followed."""
    ended: str = ""
    """Why they are no longer followed."""
    update: dict[str, float] = field(default_factory=dict)
    """Distances of clipping and optimiser alone, from the same gradients and state."""
    parity: Comparison | None = None
    """All time steps' gradients at tied weights, at the steps where that was asked for."""


def lockstep(
    records: Iterable[TrainingStep | Validation],
    model: LanguageModel,
    recipe: Recipe,
    task: Task,
    *,
    free_run_steps: int = MOST_STEPS,
    parity_every: int = 1,
    executor: Executor | None = None,
) -> Iterator[tuple[TrainingStep | Validation, Agreement]]:
    """Follow a training run with torch, record by record.

    Args:
        records: what `numpy_lstm.training.loop.train` yields, from the beginning.
        model: the model that is trained.
        recipe: the recipe of the run.
        task: for the validation batches and the number of steps.
        free_run_steps: for how many steps the free run is judged at most; 0 for none.
        parity_every: compare all time steps at tied weights at every so many steps; 0 for never.
        executor: where that comparison runs, while the free runs go on here; here when None.

    Yields:
        Each record, with its `Agreement`.
    """
    free: FreeRun | None = None
    torch_run: TorchRun | None = None
    for record in records:
        if free is None or torch_run is None:
            total_steps = recipe.epochs * len(task.training_batches(0))
            parameters = _initial_parameters(record)
            free = FreeRun(model, recipe, parameters, total_steps, free_run_steps)
            torch_run = TorchRun(parameters, recipe, total_steps)
        if isinstance(record, Validation):
            yield record, _follow_validation(free, torch_run, record, task.validation_batches())
            continue
        if parity_every == 0 or record.index % parity_every:
            yield record, _follow_step(free, torch_run, recipe, record)
            continue
        problem = step_problem(model, recipe, record)
        check = partial(check_parity, problem, seed=record.index, twins=2)
        if executor is None:
            agreement = _follow_step(free, torch_run, recipe, record)
            yield record, replace(agreement, parity=check())
            continue
        later = executor.submit(check)
        agreement = _follow_step(free, torch_run, recipe, record)
        yield record, replace(agreement, parity=later.result())


def parity_worker(threads: int) -> ProcessPoolExecutor:
    """A process for the comparisons at tied weights; Ctrl-C is left to the main process."""
    context = get_context("spawn")  # a fork would inherit the threads' locks
    return ProcessPoolExecutor(1, context, _start_worker, (threads,))


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def step_problem(model: LanguageModel, recipe: Recipe, step: TrainingStep) -> Problem:
    """The forward and backward run of a training step, for `check_parity`."""
    states = step.before.state if step.batch.continues else None
    return batch_problem(model, recipe, step.before.parameters, step.batch, states)


def _initial_parameters(record: TrainingStep | Validation) -> Mapping[str, np.ndarray]:
    if isinstance(record, Validation):
        return record.parameters
    return record.before.parameters


def _follow_step(
    free: FreeRun, torch_run: TorchRun, recipe: Recipe, step: TrainingStep
) -> Agreement:
    """Take the same step with torch and with the runs with noise, and check the update."""
    ours = step_quantities(step.loss, step.gradients, step.coefficients, step.after.parameters)
    theirs = torch_run.step(step.batch)
    return Agreement(
        torch_loss=float(theirs["loss"]),
        divergence=_divergence(ours, theirs),
        groups=free.step(step),
        ended=free.ended,
        update=check_update(recipe, step),
    )


def _follow_validation(
    free: FreeRun, torch_run: TorchRun, record: Validation, batches: list[Batch]
) -> Agreement:
    """Validate torch's run and the runs with noise, each at its own weights."""
    torch_loss = torch_run.validation_loss(batches)
    divergence = _divergence(
        {"validation loss": np.asarray(record.loss)}, {"validation loss": np.asarray(torch_loss)}
    )
    groups = free.validate(batches, record.step)
    return Agreement(torch_loss, divergence, groups, free.ended)


def _divergence(ours: Quantities, theirs: Quantities) -> dict[str, float]:
    """The largest absolute difference of each quantity, infinite where one is not finite."""
    result = {}
    for name, value in ours.items():
        largest = float(np.abs(theirs[name] - value).max())
        result[name] = largest
        if not np.isfinite(largest):
            result[name] = float("inf")
    return result
