"""Clipping and optimiser alone: one step of torch's from our own gradients and our own state."""

from collections.abc import Mapping

import numpy as np
import torch

from numpy_lstm.roundoff import distance, distances
from numpy_lstm.training.loop import Recipe, TrainingStep
from torch_oracle.lockstep.torch_run import torch_clip, torch_optimizer
from torch_oracle.proof.lstmcell_model import LSTMCellModel

MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq", "momentum": "momentum_buffer"}
"""Torch's names of what our optimisers keep from step to step."""


def check_update(recipe: Recipe, step: TrainingStep) -> dict[str, float]:
    """Distances of clipping coefficients, moments and updated parameters from torch's.

    Torch is given the parameters, the optimiser's state and the gradients of this very step, and
    its optimiser the gradients as we clipped them. So the rule K decides each part by itself,
    however far two free runs have parted.
    """
    oracle = LSTMCellModel(step.before.parameters, tied=False)
    optimizer = torch_optimizer(recipe.optimizer, oracle)
    for group in optimizer.param_groups:
        group["lr"] = step.lr
    for name, parameter in oracle.by_name.items():
        parameter.grad = torch.from_numpy(step.gradients[name].copy())
        _give_state(optimizer, parameter, step, name)
    coefficients = torch_clip(recipe, oracle)
    result = {"clip coefficient": _coefficient_distance(step, coefficients)}
    for name, parameter in oracle.by_name.items():
        parameter.grad = torch.from_numpy(step.coefficients[name] * step.gradients[name])
    optimizer.step()
    for moment, theirs in MOMENTS.items():
        if moment in step.after.optimizer:
            result[moment] = max(
                distance(array, optimizer.state[oracle.by_name[name]][theirs].numpy())
                for name, array in step.after.optimizer[moment].items()
            )
    for name, array in oracle.arrays().items():
        result[name] = distance(step.after.parameters[name], array)
    return result


def _give_state(
    optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, step: TrainingStep, name: str
) -> None:
    """Put our optimiser's state of one parameter in the place of torch's."""
    ours = step.before.optimizer
    for moment, theirs in MOMENTS.items():
        if moment in ours:
            optimizer.state[parameter][theirs] = torch.from_numpy(ours[moment][name].copy())
    if "t" in ours:
        optimizer.state[parameter]["step"] = torch.tensor(float(ours["t"]))


def _coefficient_distance(step: TrainingStep, coefficients: Mapping[str, float]) -> float:
    """Distance of the clipping coefficients, whose unit is the roundoff of a norm."""
    dtype = step.before.parameters["projection.weight"].dtype
    ours = np.array([step.coefficients[name] for name in coefficients], dtype)
    theirs = np.array(list(coefficients.values()), dtype)
    magnitudes = theirs[None] * norm_roundoffs(step.gradients)
    return float(distances(ours[None], theirs[None], magnitudes=magnitudes)[0])


def norm_roundoffs(gradients: Mapping[str, np.ndarray]) -> float:
    """Rounding error to be expected of a gradient norm, in roundoffs.

    It is the root of a sum of n squares, n up to the size of the largest tensor, and a sum's error
    is of the order of root n roundoffs (see `roundoff.distances`); the root halves it. In float32
    torch's norm of 65,536 elements was seen 19 roundoffs from the exact one, NumPy's 3.
    """
    return max(1.0, max(gradient.size for gradient in gradients.values()) ** 0.5 / 2)
