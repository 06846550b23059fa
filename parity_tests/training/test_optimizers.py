"""Optimisers, clipping and schedules against torch.optim and torch.nn.utils."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from numpy_lstm.errors import InputError
from numpy_lstm.roundoff import K, distance
from numpy_lstm.training.clipping import clip_each_norm, clip_global_norm
from numpy_lstm.training.optimizers import SGD, Adam, AdamW, learning_rate

CASES: dict[str, tuple[SGD | Adam | AdamW, Callable[[list], torch.optim.Optimizer]]] = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "sgd momentum decay": (
        SGD(0.1, 0.9, 0.01),
        lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01),
    ),
    "adam": (Adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "adam all settings": (
        Adam(0.02, (0.8, 0.95), 1e-3, 0.1),
        lambda p: torch.optim.Adam(p, 0.02, (0.8, 0.95), 1e-3, 0.1),
    ),
    "adamw": (AdamW(0.01), lambda p: torch.optim.AdamW(p, 0.01)),
    "adamw all settings": (
        AdamW(0.02, (0.8, 0.95), 1e-3, 0.1),
        lambda p: torch.optim.AdamW(p, 0.02, (0.8, 0.95), 1e-3, 0.1),
    ),
}
SHAPES = {"weight": (5, 7), "bias": (3,)}


def random_arrays(seed: int, dtype: type) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_match_torch_optim(case, dtype):
    optimizer, make = CASES[case]
    parameters = random_arrays(0, dtype)
    leaves = {name: torch.from_numpy(p.copy()).requires_grad_() for name, p in parameters.items()}
    reference = make(list(leaves.values()))
    state = optimizer.init(parameters)
    for step in range(20):
        gradients = random_arrays(1 + step, dtype)
        for name, leaf in leaves.items():
            leaf.grad = torch.from_numpy(gradients[name])
        reference.step()
        parameters, state = optimizer.update(parameters, gradients, state, optimizer.lr)
        for name, leaf in leaves.items():
            assert parameters[name].dtype == dtype
            far = distance(parameters[name], leaf.detach().numpy())
            assert far <= K, (step, name, far)


@pytest.mark.parametrize("case", CASES)
def test_update_changes_nothing_that_it_is_given(case):
    optimizer, _ = CASES[case]
    parameters, gradients = random_arrays(0, np.float64), random_arrays(1, np.float64)
    _, state = optimizer.update(parameters, gradients, optimizer.init(parameters), 0.1)
    copies = [{k: v.copy() for k, v in a.items()} for a in (parameters, gradients)]
    first, _ = optimizer.update(parameters, gradients, state, 0.1)
    second, _ = optimizer.update(parameters, gradients, state, 0.1)
    for name in SHAPES:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_array_equal(parameters[name], copies[0][name])
        np.testing.assert_array_equal(gradients[name], copies[1][name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.25, 100.0, 1e-8])
def test_clipping_matches_torch_by_global_norm_and_tensor_by_tensor(max_norm, dtype):
    gradients = random_arrays(2, dtype)
    for clip, together in ((clip_global_norm, True), (clip_each_norm, False)):
        leaves = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
        for name, leaf in leaves.items():
            leaves[name] = leaf.to(torch.from_numpy(gradients[name]).dtype).requires_grad_()
            leaves[name].grad = torch.from_numpy(gradients[name].copy())
        groups = [list(leaves.values())] if together else [[leaf] for leaf in leaves.values()]
        for group in groups:
            torch.nn.utils.clip_grad_norm_(group, max_norm)
        clipped, coefficients = clip(gradients, max_norm)
        for name, leaf in leaves.items():
            assert leaf.grad is not None
            assert clipped[name].dtype == dtype
            assert distance(clipped[name], leaf.grad.numpy()) <= K
            np.testing.assert_array_equal(clipped[name], coefficients[name] * gradients[name])
        assert len(set(coefficients.values())) == (1 if together or max_norm > 1 else 2)


def test_cosine_falls_from_the_base_rate_to_a_tenth_of_it():
    rates = [learning_rate("cosine", 0.5, step, 11) for step in range(11)]
    assert rates[0] == 0.5
    assert rates[5] == pytest.approx(0.275, abs=1e-15)
    assert rates[10] == pytest.approx(0.05, abs=1e-15)
    assert sorted(rates, reverse=True) == rates
    assert learning_rate("constant", 0.5, 7, 11) == 0.5
    assert learning_rate("cosine", 0.5, 0, 1) == 0.5
    assert learning_rate("cosine", 0.5, 1, 2) == pytest.approx(0.05, abs=1e-15)


def test_adam_without_memory_or_eps_steps_by_the_sign_of_the_gradient():
    adam, parameters, gradients = Adam(0.5, (0.0, 0.0), 0.0), {"b": np.zeros(3)}, [-4.0, 0.25, 9.0]
    updated, _ = adam.update(parameters, {"b": np.array(gradients)}, adam.init(parameters), 0.5)
    np.testing.assert_array_equal(updated["b"], [0.5, -0.5, -0.5])


def test_sgd_without_momentum_keeps_nothing():
    assert SGD(0.1).init(random_arrays(0, np.float64)) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(-1.0), "lr: expected a finite number of at least 0, got -1.0"),
        (lambda: Adam(float("nan")), "lr: expected a finite number of at least 0, got nan"),
        (lambda: SGD(float("inf")), "lr: expected a finite number of at least 0, got inf"),
        (lambda: SGD(momentum=-0.5), "momentum: expected a finite number of at least 0, got -0.5"),
        (lambda: SGD(weight_decay=-0.5), "weight_decay: expected a finite number"),
        (lambda: Adam(eps=-1.0), "eps: expected a finite number of at least 0, got -1.0"),
        (lambda: Adam(weight_decay=-0.5), "weight_decay: expected a finite number"),
        (lambda: AdamW(lr=-1.0), "lr: expected a finite number of at least 0, got -1.0"),
        (lambda: Adam(betas=(0.9, 1.0)), r"betas: expected two numbers in \[0, 1\)"),
        (lambda: AdamW(weight_decay=-0.1), "weight_decay: expected a finite number"),
    ],
)
def test_settings_outside_their_range_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
