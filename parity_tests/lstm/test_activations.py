"""Activations: values, stability, derivatives from outputs, and the complex step through them."""

import numpy as np
import pytest
import torch

from numpy_lstm.activations import log_softmax, sigmoid, tanh


def sigmoid_slope(s: np.ndarray) -> np.ndarray:
    """The derivative of the sigmoid from its output, as the equations have it."""
    return s * (1 - s)


def tanh_slope(y: np.ndarray) -> np.ndarray:
    """The derivative of tanh from its output, as the equations have it."""
    return 1 - y**2


PAIRS = [
    pytest.param(sigmoid, sigmoid_slope, torch.sigmoid, id="sigmoid"),
    pytest.param(tanh, tanh_slope, torch.tanh, id="tanh"),
]


@pytest.mark.parametrize(("function", "derivative", "reference"), PAIRS)
def test_value_and_derivative_match_torch(function, derivative, reference):
    a = np.random.default_rng(0).standard_normal(1000) * 5
    leaf = torch.from_numpy(a).requires_grad_()
    reference(leaf).sum().backward()
    eps = np.finfo(float).eps
    assert np.abs(function(a) - reference(leaf).detach().numpy()).max() <= eps
    assert leaf.grad is not None
    assert np.abs(derivative(function(a)) - leaf.grad.numpy()).max() <= 2 * eps


@pytest.mark.parametrize(("function", "derivative", "reference"), PAIRS)
def test_complex_step_differentiates_the_function(function, derivative, reference):
    a = np.random.default_rng(1).standard_normal(1000) * 5
    step = function(a + 1e-200j).imag / 1e-200
    # The step is exact to rounding: a few roundoffs of the function's scale, 1.
    assert np.abs(step - derivative(function(a))).max() <= 4 * np.finfo(float).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_no_overflow_and_no_upcast_at_extreme_arguments(dtype):
    a = np.array([-1e5, -90, 0, 90, 1e5], dtype)
    s = sigmoid(a)
    assert s.dtype == dtype
    assert s.tolist()[::2] == [0.0, 0.5, 1.0]
    logits = np.array([[1e4, -1e4, 0.0]], dtype)
    log_probabilities = log_softmax(logits)
    assert log_probabilities.dtype == dtype
    assert log_probabilities.tolist() == [[0.0, -2e4, -1e4]]


def test_log_softmax_is_normalised_and_invariant_to_a_shift():
    logits = np.random.default_rng(2).standard_normal((5, 7))
    log_probabilities = log_softmax(logits)
    eps = np.finfo(float).eps
    assert np.abs(np.exp(log_probabilities).sum(axis=-1) - 1).max() <= 7 * eps
    # Adding 64 rounds each logit by up to 32 eps.
    assert np.abs(log_softmax(logits + 64) - log_probabilities).max() <= 70 * eps
