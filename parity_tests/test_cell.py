"""cell.py, the specification, against torch.nn.LSTMCell; lstm.py against cell.py."""

from collections import defaultdict

import numpy as np
import pytest
import torch

from numpy_lstm.cell import cell_backward, cell_forward
from numpy_lstm.lstm import lstm_backward, lstm_forward
from parity_tests.problems import random_problem
from torch_oracle.arithmetic import Noise
from torch_oracle.compare import K, compare, distance
from torch_oracle.trace import Problem, Trace, contribution, numpy_trace, torch_trace


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(10))
def test_cell_matches_torch_lstmcell_in_values_and_all_gradients(seed, dtype):
    problem = random_problem(seed, dtype=dtype, sizes=(1, 7, 5, 11))
    W_ih, W_hh, b = (problem.parameters[k] for k in ("weight_ih_l0", "weight_hh_l0", "bias_l0"))
    x, dy = problem.x[0], problem.dh_n
    (h, c), cache = cell_forward(W_ih, W_hh, b, x, problem.h0, problem.c0)
    gradients = cell_backward(dy, problem.dc_n, cache)

    reference = torch.nn.LSTMCell(5, 11, dtype=torch.from_numpy(x).dtype)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for name, value in zip(names, (W_ih, W_hh, b, np.zeros_like(b)), strict=True):
        getattr(reference, name).data = torch.from_numpy(value)
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, problem.h0, problem.c0)]
    h_t, c_t = reference(leaves[0], (leaves[1], leaves[2]))
    ((h_t * torch.from_numpy(dy)).sum() + (c_t * torch.from_numpy(problem.dc_n)).sum()).backward()

    pairs = {
        "h": (h, h_t.detach()),
        "c": (c, c_t.detach()),
        "dW_ih": (gradients.dW_ih, reference.weight_ih.grad),
        "dW_hh": (gradients.dW_hh, reference.weight_hh.grad),
        "db": (gradients.db, reference.bias_ih.grad),
        "dx": (gradients.dx, leaves[0].grad),
        "dh_prev": (gradients.dh_prev, leaves[1].grad),
        "dc_prev": (gradients.dc_prev, leaves[2].grad),
    }
    distances = {name: distance(a, b.numpy()) for name, (a, b) in pairs.items()}
    assert max(distances.values()) <= K, distances


def cell_trace(problem: Problem) -> Trace:
    """The trace of a layer's problem by a plain loop over cells, masked where sequences ended."""
    p, config = problem, problem.config
    W_ih, W_hh = p.parameters["weight_ih_l0"], p.parameters["weight_hh_l0"]
    b = sum((p.parameters[name] for name in config.bias_names), np.zeros_like(W_hh[:, 0]))
    steps: dict[str, list[np.ndarray]] = defaultdict(list)
    alive = [(p.lengths > t)[:, None] for t in range(len(p.x))]
    h, c, caches = p.h0, p.c0, []
    for t, mask in enumerate(alive):
        (h_t, c_t), cache = cell_forward(W_ih, W_hh, b, p.x[t], h, c)
        caches.append(cache)
        values = {"i": cache.i, "f": cache.f, "g": cache.g, "o": cache.o, "c": c_t, "h": h_t}
        values |= dict(zip(("a_i", "a_f", "a_g", "a_o"), np.split(cache.a, 4, axis=1), strict=True))
        for name, value in values.items():
            steps[name].append(np.where(mask, value, 0))
        h, c = np.where(mask, h_t, h), np.where(mask, c_t, c)
    dh_next, dc_next = p.dh_n, p.dc_n
    for t, mask in reversed(list(enumerate(alive))):
        dh = np.where(mask, p.dy[t] + dh_next, 0)
        g = cell_backward(dh, np.where(mask, dc_next, 0), caches[t])
        values = {"dh": dh, "dc": g.dc, "dx": g.dx, "dW_ih": g.dW_ih, "dW_hh": g.dW_hh}
        values |= dict(
            zip(("da_i", "da_f", "da_g", "da_o"), np.split(g.da, 4, axis=1), strict=True)
        )
        values |= {contribution(name): g.db for name in config.bias_names}
        for name, value in values.items():
            steps[name].insert(0, value)
        dh_next, dc_next = np.where(mask, g.dh_prev, dh_next), np.where(mask, g.dc_prev, dc_next)
    arrays = {name: np.stack(values) for name, values in steps.items()}
    sums = {contribution(k): arrays[contribution(k)].sum(axis=0) for k in p.parameters}
    return Trace(arrays, {"h_n": h, "c_n": c, "dh0": dh_next, "dc0": dc_next} | sums)


@pytest.mark.parametrize("bias_pair", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_lstm_equals_the_cell_applied_step_by_step(seed, bias_pair):
    problem = random_problem(seed, bias_pair=bias_pair)
    twins = [torch_trace(problem, Noise(seed, opposite)) for opposite in (False, True)]
    comparison = compare(numpy_trace(problem), cell_trace(problem), twins)
    assert comparison.first is None, comparison.first


def test_public_outputs_and_gradients_are_those_of_the_trace():
    problem = random_problem(3)
    trace = numpy_trace(problem)
    (y, h_n, c_n), cache = lstm_forward(
        problem.config, problem.parameters, problem.x, problem.h0, problem.c0, problem.lengths
    )
    gradients = lstm_backward(problem.dy, cache, problem.dh_n, problem.dc_n)
    expected = {"y": trace.steps["h"], "dx": trace.steps["dx"]} | trace.totals
    actual = {"y": y, "h_n": h_n, "c_n": c_n, "dx": gradients.dx}
    actual |= {"dh0": gradients.dh0, "dc0": gradients.dc0}
    actual |= {contribution(name): g for name, g in gradients.parameters.items()}
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
