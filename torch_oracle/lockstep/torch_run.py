"""A training run by PyTorch alone: LSTMCell, autograd, clipping and optimiser are all torch's."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from numpy_lstm.training.batching import Batch
from numpy_lstm.training.loop import Recipe
from numpy_lstm.training.optimizers import SGD, Adam, Optimizer
from torch_oracle.lockstep.noise import noise_factors
from torch_oracle.proof.lstmcell_model import LSTMCellModel, oracle_loss

Quantities = dict[str, np.ndarray]
"""What is compared of a training step, by name."""


class TorchRun:
    """A model that torch trains on the batches of somebody else's run.

    Args:
        parameters: the initial weights, which are copied.
        recipe: optimiser, clipping, divisor and schedule.
        total_steps: of the whole run, for the schedule.
        rng: draws the noise that moves all parameters before each step; None for no noise.
    """

    def __init__(
        self,
        parameters: Mapping[str, np.ndarray],
        recipe: Recipe,
        total_steps: int,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.recipe = recipe
        self.rng = rng
        self.oracle = LSTMCellModel(parameters, tied=False)
        self.optimizer = torch_optimizer(recipe.optimizer, self.oracle)
        self.schedule = torch_schedule(recipe, self.optimizer, total_steps)
        self.state: tuple[torch.Tensor, torch.Tensor] | None = None
        self._add_noise()

    def step(self, batch: Batch) -> Quantities:
        """Take one training step, and return everything of it that is compared."""
        self.optimizer.zero_grad()
        state = None
        if batch.continues:
            state = self.state
        loss_sum, (h, c) = self.oracle(batch, state)
        self.state = h.detach(), c.detach()
        lengths = torch.from_numpy(batch.lengths)
        divisor = len(lengths)
        if self.recipe.divisor == "tokens":
            divisor = lengths.sum()
        (loss_sum / divisor).backward()
        gradients = {name: gradient.copy() for name, gradient in self.oracle.gradients().items()}
        coefficients = torch_clip(self.recipe, self.oracle)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        self._add_noise()
        loss = (loss_sum.detach() / batch.tokens).numpy()
        parameters = {name: array.copy() for name, array in self.oracle.arrays().items()}
        return step_quantities(loss, gradients, coefficients, parameters)

    def validation_loss(self, batches: list[Batch]) -> float:
        """The loss over these batches at the present weights, in nats per token."""
        return oracle_loss(self.oracle, batches)

    def _add_noise(self) -> None:
        if self.rng is None:
            return
        for array in self.oracle.arrays().values():
            array *= noise_factors(self.rng, array)


def step_quantities(
    loss: Any,
    gradients: Mapping[str, np.ndarray],
    coefficients: Mapping[str, float],
    parameters: Mapping[str, np.ndarray],
) -> Quantities:
    """Everything that is compared of a training step, under one name each."""
    quantities = {"loss": np.asarray(loss)}
    quantities["clip coefficient"] = np.array([coefficients[name] for name in gradients])
    for name, gradient in gradients.items():
        quantities[f"d {name}"] = gradient
    return quantities | dict(parameters)


def torch_optimizer(optimizer: Optimizer, oracle: LSTMCellModel) -> torch.optim.Optimizer:
    """The torch.optim optimizer with the same settings."""
    parameters = list(oracle.by_name.values())
    decay = optimizer.weight_decay
    if isinstance(optimizer, SGD):
        return torch.optim.SGD(parameters, optimizer.lr, optimizer.momentum, weight_decay=decay)
    kind = torch.optim.AdamW
    if isinstance(optimizer, Adam):
        kind = torch.optim.Adam
    return kind(parameters, optimizer.lr, optimizer.betas, optimizer.eps, weight_decay=decay)


def torch_schedule(
    recipe: Recipe, optimizer: torch.optim.Optimizer, total_steps: int
) -> LRScheduler | None:
    """Torch's schedule of the same course; None where the learning rate is constant."""
    if recipe.schedule == "constant":
        return None
    return CosineAnnealingLR(optimizer, max(1, total_steps - 1), recipe.optimizer.lr / 10)


def torch_clip(recipe: Recipe, oracle: LSTMCellModel) -> dict[str, float]:
    """Clip the oracle's gradients by torch's own function; the factor seen on each tensor.

    The factor is read off each gradient's largest element, before and after.
    """
    if recipe.max_norm is None:
        return dict.fromkeys(oracle.by_name, 1.0)
    groups = [list(oracle.by_name)]
    if recipe.clipping == "per_tensor":
        groups = [[name] for name in oracle.by_name]
    factors = {}
    for group in groups:
        parameters = [oracle.by_name[name] for name in group]
        before = _largest_gradient(parameters)
        clip_grad_norm_(parameters, recipe.max_norm)
        factor = 1.0
        if before > 0:
            factor = _largest_gradient(parameters) / before
        factors |= dict.fromkeys(group, factor)
    return factors


def _largest_gradient(parameters: list[torch.nn.Parameter]) -> float:
    return max(float(p.grad.abs().max()) for p in parameters if p.grad is not None)
