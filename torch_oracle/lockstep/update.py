"""Clipping and optimiser alone: one step of torch's from our own gradients and our own state."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from numpy_lstm.roundoff import K, Noise, distance, distances
from numpy_lstm.training.loop import Recipe, TrainingStep
from torch_oracle.lockstep.torch_run import torch_clip, torch_optimizer
from torch_oracle.proof.lstmcell_model import LSTMCellModel

MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq", "momentum": "momentum_buffer"}
"""Torch's names of what our optimisers keep from step to step."""
TWINS = 16
"""Updates with noise, where roundoff alone does not explain a difference."""
Update = dict[tuple[str, str], np.ndarray]
"""What an update makes: ("parameter", name), ("m", name), and so on."""


def check_update(recipe: Recipe, step: TrainingStep) -> dict[str, float]:
    """Distances of clipping coefficients, moments and updated parameters from torch's.

    Torch is given the parameters, the optimiser's state and the gradients of this very step, and
    its optimiser the gradients as we clipped them. So the rule K decides each part by itself,
    however far two free runs have parted.
    """
    result = {"clip coefficient": _coefficient_distance(recipe, step)}
    ours, theirs = _our_update(step), _torch_update(recipe, step, np.copy)
    found = {key: distance(ours[key], array) for key, array in theirs.items()}
    if max(found.values()) > K:
        moves = _noise_moves(recipe, step)
        for key, array in theirs.items():
            found[key] = distance(ours[key], array, [twin[key] for twin in moves])
    for (kind, name), largest in found.items():
        part = name if kind == "parameter" else kind
        result[part] = max(result.get(part, 0.0), largest)
    return result


def _our_update(step: TrainingStep) -> Update:
    update = {("parameter", name): array for name, array in step.after.parameters.items()}
    for moment in MOMENTS:
        for name, array in step.after.optimizer.get(moment, {}).items():
            update[moment, name] = array
    return update


def _torch_update(
    recipe: Recipe, step: TrainingStep, given: Callable[[np.ndarray], np.ndarray]
) -> Update:
    """What torch's optimiser makes of the arrays of a step, each as `given` hands it over."""
    parameters = {name: given(array) for name, array in step.before.parameters.items()}
    oracle = LSTMCellModel(parameters, tied=False)
    optimizer = torch_optimizer(recipe.optimizer, oracle)
    for group in optimizer.param_groups:
        group["lr"] = step.lr
    state = step.before.optimizer
    for name, parameter in oracle.by_name.items():
        parameter.grad = torch.from_numpy(given(step.coefficients[name] * step.gradients[name]))
        for moment, theirs in MOMENTS.items():
            if moment in state:
                optimizer.state[parameter][theirs] = torch.from_numpy(given(state[moment][name]))
        if "t" in state:
            optimizer.state[parameter]["step"] = torch.tensor(float(state["t"]))
    optimizer.step()
    update = {("parameter", name): array for name, array in oracle.arrays().items()}
    for moment, theirs in MOMENTS.items():
        if moment in step.after.optimizer:
            for name, parameter in oracle.by_name.items():
                update[moment, name] = optimizer.state[parameter][theirs].numpy()
    return update


def _noise_moves(recipe: Recipe, step: TrainingStep) -> list[Update]:
    """How far noise in what an update reads moves what it makes, as in `compare.noise_moves`.

    It is needed where terms cancel: a moment that nearly vanishes has the rounding error of the
    terms that it is the sum of, and so has a parameter that the step brings near zero.
    """
    exact = _torch_update(recipe, step, _in_float64)
    result = []
    for k in range(TWINS):
        noise = Noise([step.index, k], step.before.parameters["projection.weight"].dtype)
        twin = _torch_update(recipe, step, partial(_in_float64, noise=noise))
        result.append({key: (twin[key] - exact[key]) / noise.amplitude for key in exact})
    return result


def _in_float64(array: np.ndarray, noise: Noise | None = None) -> np.ndarray:
    wide = array.astype(np.float64)
    return wide if noise is None else noise.moved(wide)


def _coefficient_distance(recipe: Recipe, step: TrainingStep) -> float:
    """Distance of the clipping coefficients from torch's; the unit is the roundoff of a norm."""
    oracle = LSTMCellModel(step.before.parameters, tied=False)
    for name, parameter in oracle.by_name.items():
        parameter.grad = torch.from_numpy(step.gradients[name].copy())
    coefficients = torch_clip(recipe, oracle)
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
