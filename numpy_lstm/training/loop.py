"""The training loop: a generator of records, one for each step and one for each validation."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from numpy_lstm.errors import InputError, check_choice, check_finite, check_positive
from numpy_lstm.language_model import (
    LanguageModel,
    State,
    language_model_backward,
    language_model_forward,
)
from numpy_lstm.lstm import Parameters
from numpy_lstm.training.batching import Batch
from numpy_lstm.training.clipping import Clipping, clip_each_norm, clip_global_norm, global_norm
from numpy_lstm.training.divergence import TrainingDiverged
from numpy_lstm.training.optimizers import Optimizer, OptimizerState, Schedule, learning_rate
from numpy_lstm.training.tasks import Task

Divisor = Literal["tokens", "sequences"]


@dataclass(frozen=True)
class Recipe:
    """The choices that make a training run, besides its model and its data.

    Args:
        optimizer: SGD, Adam or AdamW.
        epochs: passes over the training data.
        max_norm: bound of the gradient norm; None for no clipping.
        clipping: one norm over all parameters, or each tensor's own.
        divisor: what divides the gradient of the summed token losses: the real tokens of the
            batch, or its sequences. With clipping the choice changes the step.
        schedule: course of the learning rate over the whole run.
    """

    optimizer: Optimizer
    epochs: int
    max_norm: float | None = 0.25
    clipping: Clipping = "global"
    divisor: Divisor = "tokens"
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        check_positive(epochs=self.epochs)
        check_choice("clipping", self.clipping, Clipping)
        check_choice("divisor", self.divisor, Divisor)
        check_choice("schedule", self.schedule, Schedule)
        if self.max_norm is not None and not 0 < self.max_norm < math.inf:
            raise InputError(
                f"expected a positive number or none, got {self.max_norm}", argument="max_norm"
            )


@dataclass(frozen=True)
class Position:
    """Where a run stands: everything on which the next step depends, except its batch.

    `state` is the LSTM's (h, c) at the end of the last batch, which a batch that continues it
    carries on.
    """

    parameters: Parameters
    optimizer: OptimizerState
    state: State | None = None


@dataclass(frozen=True)
class TrainingStep:
    """One training step, with everything that led to it and came of it.

    `loss` is in nats per token; `gradients` are as derived, before clipping; `coefficients` are
    the clipping factors of each tensor.
    """

    epoch: int
    index: int
    lr: float
    batch: Batch
    before: Position
    loss: float
    gradients: dict[str, np.ndarray]
    coefficients: dict[str, float]
    after: Position
    seconds: float

    def summary(self) -> dict[str, float | int]:
        """The numbers of this step that a log keeps."""
        return {
            "step": self.index,
            "epoch": self.epoch,
            "loss": self.loss,
            "gradient_norm": global_norm(self.gradients),
            "clip_coefficient": min(self.coefficients.values()),
            "lr": self.lr,
            "tokens": self.batch.tokens,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Validation:
    """Validation after `epoch` epochs (0: before training), in nats per token.

    `training_loss` is the mean over the tokens of the epoch just finished, while the weights
    changed; None at epoch 0.
    """

    epoch: int
    step: int
    training_loss: float | None
    loss: float
    parameters: Parameters

    def summary(self) -> dict[str, float | int | None]:
        """The numbers of this validation that a log keeps."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "training_loss": self.training_loss,
            "validation_loss": self.loss,
        }


def loss_divisor(divisor: Divisor, batch: Batch) -> int:
    """What divides the gradient of a batch's summed loss: its real tokens or its sequences."""
    return batch.tokens if divisor == "tokens" else len(batch.lengths)


def clip(
    recipe: Recipe, gradients: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Clipped gradients and each tensor's coefficient, as the recipe says."""
    if recipe.max_norm is None:
        return gradients, dict.fromkeys(gradients, 1.0)
    rule = clip_global_norm if recipe.clipping == "global" else clip_each_norm
    return rule(gradients, recipe.max_norm)


def batch_gradients(
    model: LanguageModel, before: Position, batch: Batch, divisor: int
) -> tuple[Any, dict[str, np.ndarray], State]:
    """Summed loss in nats, its gradients over ``divisor``, and the states at the end."""
    outputs, cache = language_model_forward(
        model,
        before.parameters,
        batch.inputs,
        batch.targets,
        batch.lengths,
        before.state if batch.continues else None,
    )
    gradients = language_model_backward(1.0 / divisor, cache).parameters
    return outputs.losses.sum(), gradients, (outputs.h_n, outputs.c_n)


def apply_gradients(
    recipe: Recipe, before: Position, gradients: dict[str, np.ndarray], state: State, lr: float
) -> tuple[dict[str, float], Position]:
    """Clip and update: each tensor's clipping coefficient, and the position after."""
    clipped, coefficients = clip(recipe, gradients)
    parameters, optimizer = recipe.optimizer.update(
        before.parameters, clipped, before.optimizer, lr
    )
    return coefficients, Position(parameters, optimizer, state)


def training_step(
    model: LanguageModel,
    recipe: Recipe,
    before: Position,
    batch: Batch,
    lr: float,
    *,
    epoch: int = 0,
    index: int = 0,
) -> TrainingStep:
    """One step of `train` from a given position; the number of the step is for its record.

    Raises:
        TrainingDiverged: the loss, a gradient or a parameter is no longer finite.
    """
    start = time.perf_counter()
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow becomes one sentence
            divisor = loss_divisor(recipe.divisor, batch)
            loss_sum, gradients, state = batch_gradients(model, before, batch, divisor)
            coefficients, after = apply_gradients(recipe, before, gradients, state, lr)
        if not np.isfinite(loss_sum):
            raise InputError(f"the loss is {loss_sum}")
        for name, parameter in after.parameters.items():
            check_finite(name, parameter)
    except InputError as error:
        raise TrainingDiverged(index, error) from error
    loss = float(loss_sum / batch.tokens)
    seconds = time.perf_counter() - start
    return TrainingStep(
        epoch, index, lr, batch, before, loss, gradients, coefficients, after, seconds
    )


def evaluate(model: LanguageModel, parameters: Parameters, batches: Sequence[Batch]) -> float:
    """Loss over all real tokens of the batches, in nats per token; nothing is changed.

    Raises:
        InputError: parameters or loss are not finite.
    """
    total = 0.0
    tokens = 0
    state = None
    for batch in batches:
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            outputs, _ = language_model_forward(
                model,
                parameters,
                batch.inputs,
                batch.targets,
                batch.lengths,
                state if batch.continues else None,
            )
        state = (outputs.h_n, outputs.c_n)
        total += float(outputs.losses.sum(dtype=np.float64))
        tokens += batch.tokens
    if not math.isfinite(total):
        raise InputError(f"validation: expected a finite loss, got {total}")
    return total / tokens


def train(
    model: LanguageModel, parameters: Parameters, task: Task, recipe: Recipe
) -> Iterator[TrainingStep | Validation]:
    """Validate, then train, in every epoch; validate once more at the end.

    Nothing that was yielded changes afterwards, so a caller may stop at any record and keep it.

    Raises:
        TrainingDiverged: the loss, a gradient or a parameter is no longer finite.
    """
    position = Position(parameters, recipe.optimizer.init(parameters))
    training_loss = None
    index = 0
    total_steps = recipe.epochs * len(task.training_batches(0))
    for epoch in range(recipe.epochs):
        yield _validate(model, position, task, epoch, index, training_loss)
        epoch_loss = 0.0
        epoch_tokens = 0
        for batch in task.training_batches(epoch):
            lr = learning_rate(recipe.schedule, recipe.optimizer.lr, index, total_steps)
            step = training_step(model, recipe, position, batch, lr, epoch=epoch, index=index)
            yield step
            position = step.after
            index += 1
            epoch_loss += step.loss * batch.tokens
            epoch_tokens += batch.tokens
        training_loss = epoch_loss / epoch_tokens
    yield _validate(model, position, task, recipe.epochs, index, training_loss)


def _validate(
    model: LanguageModel,
    position: Position,
    task: Task,
    epoch: int,
    index: int,
    training_loss: float | None,
) -> Validation:
    try:
        loss = evaluate(model, position.parameters, task.validation_batches())
    except InputError as error:
        if index == 0:  # not training, but what it was given
            raise
        raise TrainingDiverged(index, error) from error
    return Validation(epoch, index, training_loss, loss, position.parameters)
