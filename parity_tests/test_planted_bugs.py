"""The test of the tests: known bugs, planted into the real backward pass, are found and named."""

import re

import numpy as np
import pytest

from numpy_lstm import cell, loss, lstm
from parity_tests.planting import planted
from parity_tests.problems import random_problem
from parity_tests.test_cell import cell_trace
from torch_oracle.arithmetic import Noise
from torch_oracle.compare import Comparison, check_parity, compare
from torch_oracle.trace import torch_trace

T = 7
SIZES = (T, 5, 6, 9)

SEED_BUGS = {
    # name: function, right, wrong, the tensor and the step that show it first
    "indices shifted: c_t for c_prev": (
        lstm._local_derivatives,
        "c_prev = cache.packing.previous(cache.c)",
        "c_prev = cache.c[cache.packing.N :]",
        ("da_f", T - 1),
    ),
    "indices shifted: h_t for h_prev": (
        lstm.parameter_gradients,
        "cache.packing.previous(cache.h) if t is None else cache.h[cache.packing.reads(t)]",
        "cache.y[rows]",
        ("dW_hh", T - 1),
    ),
    "tanh twice in the cell path": (
        lstm._local_derivatives,
        "c_from_dh = o * (1 - cache.tanh_c * cache.tanh_c)",
        "c_from_dh = o * (1 - np.tanh(cache.tanh_c) ** 2)",
        ("dc", T - 1),
    ),
    "derivative missing in f": (
        lstm._local_derivatives,
        "c_prev * f * (1 - f)",
        "c_prev",
        ("da_f", T - 1),
    ),
    "sigmoid(f) for its derivative": (
        lstm._local_derivatives,
        "c_prev * f * (1 - f)",
        "c_prev / (1 + np.exp(-f))",
        ("da_f", T - 1),
    ),
    "derivative of an activated value": (
        lstm._local_derivatives,
        "g * i * (1 - i)",
        "g / (1 + np.exp(-i)) * (1 - 1 / (1 + np.exp(-i)))",
        ("da_i", T - 1),
    ),
    "carry dh_next never propagated": (
        lstm.packed_backward,
        "dh_t += dh_next[:n]",
        "dh_t += dh_next[:n] if t == len(packing.batch_sizes) - 1 else 0",
        ("dh", T - 2),
    ),
    "carry dc_next never propagated": (
        lstm.packed_backward,
        "dc_t += dc_next[:n]",
        "dc_t += dc_next[:n] if t == len(packing.batch_sizes) - 1 else 0",
        ("dc", T - 2),
    ),
    "loss scaled by V": (
        loss.cross_entropy_backward,
        "dlogits *= dlosses[:, None]",
        "dlogits *= dlosses[:, None] / dlogits.shape[1]",
        ("dlogits", T - 1),
    ),
    "gates i and f swapped in the forward pass": (
        lstm.packed_forward,
        "i, f, g, o = (gate",
        "f, i, g, o = (gate",
        ("c", 0),
    ),
    "one per cent off in one gate's gradient": (
        lstm._local_derivatives,
        "o_from_dh = cache.tanh_c * o * (1 - o)",
        "o_from_dh = cache.tanh_c * o * (1 - o) * 1.01",
        ("da_o", T - 1),
    ),
}


def comparison_with(bug: str, dtype: str) -> Comparison:
    function, right, wrong, _ = SEED_BUGS[bug]
    problem = random_problem(1, model=True, sizes=SIZES, dtype=np.dtype(dtype).type)
    with planted(function, right, wrong):
        return check_parity(problem)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bug", SEED_BUGS)
def test_a_planted_bug_is_found_at_the_right_step_and_tensor(bug, dtype):
    comparison = comparison_with(bug, dtype)
    tensor, step = SEED_BUGS[bug][-1]
    assert comparison.first is not None, "not found"
    assert (comparison.first.tensor, comparison.first.step) == (tensor, step)
    assert comparison.first.distance > 100


def test_the_message_names_step_tensor_index_both_values_and_the_distance():
    message = str(comparison_with("derivative missing in f", "float64").first)
    number = r"-?\d+\.\d+"
    assert re.fullmatch(
        rf"da_f at step 6 \(of 0 to 6\), index \[\d, \d\]: got {number},"
        rf" the reference has {number}; distance \S+, allowed 16",
        message,
    )


def test_the_code_is_whole_again_after_planting():
    comparison_with("derivative missing in f", "float64")
    assert check_parity(random_problem(1, model=True, sizes=SIZES)).first is None


CELL_BUGS = [
    ("da_i = dc * k.g", "da_i = dc * k.i", "da_i"),
    ("dc = dc_next + dh * k.o", "dc = dh * k.o", "dc"),
    ("dc = dc_next + dh * k.o", "dc = dc_next + dh * k.i", "dc"),
    ("dc * k.c_prev", "dc * k.c", "da_f"),
    ("dh_prev=da @ k.W_hh", "dh_prev=da_i @ k.W_hh[: k.c.shape[1]]", "dh"),
    ("dc_prev=dc * k.f", "dc_prev=dc", "dc"),
    ("dW_hh=da.T @ k.h_prev", "dW_hh=2 * da.T @ k.h_prev", "dW_hh"),
    ("db=da.sum(axis=0)", "db=da.mean(axis=0)", "db"),
]


@pytest.mark.parametrize(("right", "wrong", "tensor"), CELL_BUGS)
def test_a_bug_in_the_specification_is_found_too(right, wrong, tensor):
    problem = random_problem(1, sizes=SIZES)
    twins = [torch_trace(problem, Noise(1, opposite)) for opposite in (False, True)]
    with planted(cell.cell_backward, right, wrong):
        comparison = compare(cell_trace(problem), torch_trace(problem), twins)
    assert comparison.first is not None
    assert comparison.first.tensor == tensor


def test_planting_refuses_a_line_that_is_not_there():
    with pytest.raises(AssertionError, match="stands 0 times"):
        with planted(lstm.packed_backward, "no such line", ""):
            pass
