"""Sizes, values and dtypes at the edges."""

import numpy as np
import pytest

from numpy_lstm.language_model import (
    language_model_backward,
    language_model_forward,
)
from numpy_lstm.roundoff import K, Noise, distance, distances
from numpy_lstm.training.batching import pad
from parity_tests.support.problems import (
    public_totals,
    random_language_model,
    random_problem,
)
from torch_oracle.proof.compare import check_parity
from torch_oracle.proof.nn_lstm import module_totals
from torch_oracle.proof.numpy_trace import numpy_trace
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import CONTRIBUTIONS, in_dtype, moved


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "sizes", [(1, 3, 4, 5), (6, 1, 4, 5), (6, 3, 4, 1), (6, 3, 1, 5), (1, 1, 1, 1)]
)
def test_every_size_may_be_one(sizes, dtype):
    comparison = check_parity(random_problem(0, dtype=dtype, sizes=sizes, bidirectional=True))
    assert comparison.first is None, str(comparison.first)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("H", [1, 2])
def test_layer_norm_of_one_or_two_units_cancels_nearly_all_of_the_gradient(H, dtype):
    problem = random_problem(0, dtype=dtype, sizes=(1, 1, 1, H), bias=False, variant="layer_norm")
    comparison = check_parity(problem)
    assert comparison.first is None, str(comparison.first)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("T", [500, pytest.param(10_000, marks=pytest.mark.proof)])
def test_long_sequences_match_nn_lstm(T, dtype):
    """With noise of the inputs alone, which is less than `check_parity` would allow.

    The weights' gradients are sums of the steps' contributions; see `distances`.
    """
    problem = random_problem(0, dtype=dtype, sizes=(T, 2, 3, 4))
    wide, noise = in_dtype(problem, np.float64), Noise(0, problem.h0.dtype)
    exact, twin = module_totals(wide), module_totals(moved(problem, noise))
    ours, steps = public_totals(problem), numpy_trace(wide).steps
    for name, reference in module_totals(problem).items():
        moves, magnitudes = (twin[name] - exact[name]) / noise.amplitude, None
        if name in CONTRIBUTIONS.values():
            magnitudes = np.abs(steps[name]).sum(axis=0)[None] * T**0.5
        assert distances(ours[name][None], reference[None], [moves[None]], magnitudes) <= K, name


@pytest.mark.parametrize("value", [1e4, -1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturated_gates_are_finite_and_raise_no_warning(dtype, value):
    problem = random_problem(0, dtype=dtype)
    problem.parameters["bias_l0"][...] = value
    for name, array in public_totals(problem).items():
        assert np.isfinite(array).all(), name


@pytest.mark.parametrize("bias", [-8.0, -16.0, -30.0, 8.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearly_closed_gates_keep_their_digits(dtype, bias):
    """Gates of 1e-13 are as accurate as others, relative to themselves."""
    problem = random_problem(0, dtype=dtype, sizes=(6, 3, 4, 5))
    problem.h0[...] = problem.c0[...] = 0  # nothing but what passes the gates
    for gate in (0, 1):
        problem.parameters["bias_l0"][gate * 5 : (gate + 1) * 5] += bias
    comparison = check_parity(problem)
    assert comparison.first is None, str(comparison.first)
    assert distance(numpy_trace(problem).steps["i"], torch_trace(problem).steps["i"]) <= K


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_the_dtype_of_the_parameters_decides_all_arithmetic(dtype):
    model, parameters, sequences = random_language_model(dtype)
    batch = pad(sequences)
    outputs, cache = language_model_forward(
        model, parameters, batch.inputs, batch.targets, batch.lengths
    )
    gradients = language_model_backward(1.0, cache)
    arrays = [outputs.losses, outputs.h_n, outputs.logits, gradients.dh0, gradients.dlogits]
    assert {array.dtype for array in (*arrays, *gradients.parameters.values())} == {np.dtype(dtype)}


def test_the_factor_of_the_loss_is_rounded_to_the_dtype_of_the_weights():
    model, parameters, sequences = random_language_model(np.float32)
    batch = pad(sequences)
    _, cache = language_model_forward(model, parameters, batch.inputs, batch.targets, batch.lengths)
    exact, rounded = (language_model_backward(d, cache) for d in (1 / 3, float(np.float32(1 / 3))))
    np.testing.assert_array_equal(exact.dlogits, rounded.dlogits)
