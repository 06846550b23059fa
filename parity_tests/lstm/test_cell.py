"""cell.py, the specification, against torch.nn.LSTMCell; lstm.py against cell.py."""

import numpy as np
import pytest
import torch

from numpy_lstm.cell import cell_backward, cell_forward
from numpy_lstm.lstm import LSTM, lstm_backward, lstm_forward
from numpy_lstm.roundoff import K, distance
from parity_tests.support.problems import OPTIONS, public_totals, random_problem
from torch_oracle.proof.compare import compare, noise_moves
from torch_oracle.proof.numpy_trace import numpy_trace, plain_trace
from torch_oracle.proof.torch_trace import torch_trace


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_cell_matches_torch_lstmcell_in_values_and_all_gradients(seed, dtype):
    problem = random_problem(seed, dtype=dtype, sizes=(1, 7, 5, 11))
    W_ih, W_hh, b = (problem.parameters[k] for k in ("weight_ih_l0", "weight_hh_l0", "bias_l0"))
    x, dy = problem.x[0], problem.dh_n[0]
    h0, c0 = problem.h0[0], problem.c0[0]
    (h, c), cache = cell_forward((W_ih, W_hh, b), x, h0, c0)
    gradients = cell_backward(dy, problem.dc_n[0], cache)
    dW_ih, dW_hh, db = gradients.weights

    reference = torch.nn.LSTMCell(5, 11, dtype=torch.from_numpy(x).dtype)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for name, value in zip(names, (W_ih, W_hh, b, np.zeros_like(b)), strict=True):
        getattr(reference, name).data = torch.from_numpy(value)
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, h0, c0)]
    h_t, c_t = reference(leaves[0], (leaves[1], leaves[2]))
    (
        (h_t * torch.from_numpy(dy)).sum() + (c_t * torch.from_numpy(problem.dc_n[0])).sum()
    ).backward()

    pairs = {
        "h": (h, h_t.detach()),
        "c": (c, c_t.detach()),
        "dW_ih": (dW_ih, reference.weight_ih.grad),
        "dW_hh": (dW_hh, reference.weight_hh.grad),
        "db": (db, reference.bias_ih.grad),
        "dx": (gradients.dx, leaves[0].grad),
        "dh_prev": (gradients.dh_prev, leaves[1].grad),
        "dc_prev": (gradients.dc_prev, leaves[2].grad),
    }
    distances = {name: distance(a, b.numpy()) for name, (a, b) in pairs.items()}
    assert max(distances.values()) <= K, distances


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("seed", range(2))
def test_lstm_equals_the_cell_applied_step_by_step_for_every_option(seed, options):
    sizes = tuple(int(n) for n in np.random.default_rng(seed).permutation([3, 4, 5, 6]))
    problem = random_problem(seed, sizes=sizes, **options)
    noise = noise_moves(problem, seed=seed)
    cell, lstm = plain_trace(problem), numpy_trace(problem)
    for actual, reference in ((cell, torch_trace(problem)), (lstm, cell)):
        comparison = compare(actual, reference, noise)
        assert comparison.first is None, comparison.first


def test_the_options_are_all_that_the_configuration_has():
    covered = {name for options in OPTIONS.values() for name in options}
    assert covered | {"input_size", "hidden_size", "batch_first"} == set(vars(LSTM(1, 2)))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_public_outputs_and_gradients_are_those_of_the_trace(options, batch_first):
    problem = random_problem(3, batch_first=batch_first, **options)
    expected, actual = numpy_trace(problem).totals, public_totals(problem)
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_one_sequence_without_a_batch_is_a_batch_of_one():
    p = random_problem(6, sizes=(5, 1, 3, 4), num_layers=2)
    (y, h_n, c_n), cache = lstm_forward(p.config, p.parameters, p.x, p.h0, p.c0)
    g = lstm_backward(p.dy, cache, p.dh_n, p.dc_n)
    alone, cache = lstm_forward(p.config, p.parameters, p.x[:, 0], p.h0[:, 0], p.c0[:, 0])
    other = lstm_backward(p.dy[:, 0], cache, p.dh_n[:, 0], p.dc_n[:, 0])
    for batched, value in zip(
        (y, h_n, c_n, g.dx, g.dh0, g.dc0), (*alone, other.dx, other.dh0, other.dc0), strict=True
    ):
        np.testing.assert_array_equal(value, batched[:, 0])
    for name, gradient in g.parameters.items():
        np.testing.assert_array_equal(other.parameters[name], gradient)
