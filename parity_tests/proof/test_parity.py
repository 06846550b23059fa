"""Per-step parity of the hand-written code with torch, and two more witnesses of the gradients."""

from itertools import product

import numpy as np
import pytest
import torch

from numpy_lstm.roundoff import K, distance
from numpy_lstm.training.batching import Batch
from parity_tests.support.problems import random_problem
from torch_oracle.proof.compare import check_parity, compare, noise_moves
from torch_oracle.proof.lstmcell_model import LSTMCellModel
from torch_oracle.proof.numpy_trace import numpy_trace
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import CONTRIBUTIONS, Trace, in_dtype
from torch_oracle.proof.witnesses import (
    complex_step,
    complex_step_gradient,
    differentiable,
    gradient_name,
)

pytestmark = pytest.mark.usefixtures("without_type_checks")

KINDS = list(product((False, True), ("float32", "float64"), (False, True)))
CASES = [(seed, *KINDS[seed % len(KINDS)]) for seed in range(64)]


def test_the_cases_are_many_different_shapes():
    shapes = {random_problem(seed, model=True).x.shape for seed, *_ in CASES}
    assert len(shapes) > 40


@pytest.mark.parametrize(("seed", "model", "dtype", "pair"), CASES)
def test_every_tensor_at_every_step_matches_torch(seed, model, dtype, pair):
    problem = random_problem(seed, model=model, dtype=np.dtype(dtype).type, bias_pair=pair)
    comparison = check_parity(problem, seed=seed)
    assert comparison.first is None, str(comparison.first)
    assert comparison.undetermined is None


@pytest.mark.parametrize("scale", [0.05, 8.0, 30.0, 1e4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(2))
def test_saturated_and_tiny_weights_raise_no_false_alarm(seed, dtype, scale):
    problem = random_problem(seed, model=seed % 2 == 0, dtype=np.dtype(dtype).type, scale=scale)
    comparison = check_parity(problem, seed=seed)
    assert comparison.first is None, str(comparison.first)


def test_the_trace_holds_every_quantity_of_the_schema():
    problem = random_problem(0, model=True)
    ours, reference = numpy_trace(problem), torch_trace(problem)
    contributions = {"dW_ih", "dW_hh", "db", "dW_v", "db_v"}
    assert contributions < set(CONTRIBUTIONS.values())
    values = {*problem.lstm.step_values, "h", "dh", *problem.lstm.step_gradients, "dx"}
    assert set(ours.steps) == {*values, *contributions, "logits", "loss", "dlogits"}
    assert set(ours.totals) == {"h_n", "c_n", "loss", "dh0", "dc0", *contributions}
    for name, array in reference.steps.items():
        assert ours.steps[name].shape == array.shape, name
        assert ours.steps[name].dtype == array.dtype, name
        assert np.abs(array).max() > 0, name
    assert ours.totals.keys() == reference.totals.keys()


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_the_trace_agrees_with_a_plain_weight_tied_lstmcell(seed, layers, pair):
    """What torch_trace reads through the pre-activations is what the unaltered cell does."""
    problem = random_problem(seed, model=True, num_layers=layers, bias_pair=pair)
    trace = torch_trace(problem)
    oracle = LSTMCellModel(problem.parameters)
    state = tuple(torch.from_numpy(s).requires_grad_() for s in (problem.h0, problem.c0))
    loss_sum, (h, c) = oracle(Batch(problem.x, problem.targets, problem.lengths), state)
    cotangents = (h * torch.from_numpy(problem.dh_n)).sum()
    cotangents = cotangents + (c * torch.from_numpy(problem.dc_n)).sum()
    (problem.dloss * loss_sum + cotangents).backward()
    expected = {gradient_name(name): g for name, g in oracle.gradients().items()}
    expected |= {"h_n": h.detach().numpy(), "c_n": c.detach().numpy()}
    expected |= {"dh0": state[0].grad.numpy(), "dc0": state[1].grad.numpy()}
    expected["loss"] = np.asarray(problem.dloss * loss_sum.item())
    assert trace.totals.keys() == expected.keys()
    for name, value in expected.items():
        assert distance(trace.totals[name], value) <= K, name
    assert abs(trace.steps["loss"].sum() - loss_sum.item()) <= K * np.spacing(loss_sum.item())


def test_tied_weights_share_memory_and_the_missing_bias_is_zero_and_frozen():
    problem = random_problem(0, model=True)
    oracle = LSTMCellModel(problem.parameters)
    problem.parameters["lstm.bias_l0"][0] = 123.0
    (cell,) = oracle.cells
    assert cell.bias_ih[0].item() == 123.0
    assert not cell.bias_hh.requires_grad
    assert not cell.bias_hh.any()
    assert LSTMCellModel(problem.parameters, tied=False).cells[0].bias_ih.requires_grad


@pytest.mark.parametrize("model", [False, True])
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_three_witnesses_agree_on_the_derivative_in_random_directions(seed, pair, model):
    """Autograd, complex step and long double; the allowance is K roundoffs of the terms' sum."""
    problem = random_problem(seed, model=model, bias_pair=pair)
    ours, torchs = numpy_trace(problem), torch_trace(problem)
    wide = in_dtype(problem, np.longdouble)
    exact = numpy_trace(wide)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        direction = {k: rng.standard_normal(v.shape) for k, v in differentiable(problem).items()}
        step = float(complex_step(wide, direction))

        def along(trace, direction=direction):
            all_gradients = trace.steps | trace.totals
            terms = [all_gradients[gradient_name(k)] * v for k, v in direction.items()]
            size = float(sum(np.abs(term).sum() for term in terms))
            return float(sum(term.sum() for term in terms)), size

        _, size = along(exact)
        allowed = K * np.finfo(float).eps / 2 * size
        for name, trace in {"numpy": ours, "torch": torchs, "long double": exact}.items():
            derivative, _ = along(trace)
            assert abs(derivative - step) <= allowed, (name, derivative, step, allowed)


PEEPHOLE = {"bidirectional": True, "proj_size": 2, "variant": "peephole"}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        pytest.param(True, {"num_layers": 2}, id="model"),
        pytest.param(False, PEEPHOLE, id="layer"),
        pytest.param(False, {"num_layers": 2, **PEEPHOLE}, id="layers", marks=pytest.mark.proof),
    ],
)
def test_complex_step_gives_every_element_of_every_gradient(model, options):
    problem = random_problem(5, model=model, bias_pair=True, sizes=(3, 2, 4, 5), **options)
    reference = numpy_trace(in_dtype(problem, np.longdouble))
    gradients = reference.steps | reference.totals
    for name in differentiable(problem):
        gradient = complex_step_gradient(problem, name)
        expected = gradients[gradient_name(name)].astype(np.float64)
        assert distance(gradient, expected) <= K, name


@pytest.mark.parametrize("seed", range(4))
def test_both_float64_results_are_within_the_rule_of_extended_precision(seed):
    problem = random_problem(seed, model=seed % 2 == 0)
    exact = numpy_trace(in_dtype(problem, np.longdouble))
    assert exact.steps["h"].dtype == np.longdouble
    assert np.finfo(np.longdouble).eps < 1e-18, "this machine has no extended precision"
    rounded = Trace(
        {name: array.astype(np.float64) for name, array in exact.steps.items()},
        {name: array.astype(np.float64) for name, array in exact.totals.items()},
    )
    noise, reference = noise_moves(problem, seed=seed), torch_trace(problem)
    for actual, by in ((rounded, reference), (reference, rounded), (numpy_trace(problem), rounded)):
        comparison = compare(actual, by, noise)
        assert comparison.first is None, str(comparison.first)
