"""The test of the tests: known bugs, planted into the real backward pass, are found and named."""

import re

import numpy as np
import pytest

from numpy_lstm import cell, loss
from numpy_lstm.fast import layer, recurrence, segment, stack
from numpy_lstm.variants import coupled, peephole
from parity_tests.support.planting import planted
from parity_tests.support.problems import random_problem
from torch_oracle.diagnosis.injection import CannotEdit
from torch_oracle.proof.compare import Comparison, check_parity, compare, noise_moves
from torch_oracle.proof.numpy_trace import plain_trace
from torch_oracle.proof.torch_trace import torch_trace

pytestmark = pytest.mark.usefixtures("without_type_checks")

T = 7
SIZES = (T, 5, 6, 9)

SEED_BUGS = {
    # name: function, right, wrong, the tensor and the step that show it first
    "indices shifted: c_t for c_prev": (
        recurrence.backward_factors,
        "block.c[:-1]",
        "block.c[1:]",
        ("da_f", T - 1),
    ),
    "indices shifted: h_t for h_prev": (
        layer.weight_gradients,
        "states_read(cache.packing, segment).T",
        "segment.h[:, -da.shape[1] :].T",
        ("dW_hh", T - 1),
    ),
    "tanh twice in the cell path": (
        recurrence.backward_factors,
        "squares = block.gates[:, 3:] * block.gates[:, 3:]",
        "squares = np.stack([g, np.tanh(tanh_c)], axis=1) ** 2",
        ("dc", T - 1),
    ),
    "derivative missing in f": (
        recurrence.backward_factors,
        "np.multiply(f_slope, block.c[:-1], out=factors[:, 2])",
        "factors[:, 2] = block.c[:-1]",
        ("da_f", T - 1),
    ),
    "sigmoid(f) for its derivative": (
        recurrence.backward_factors,
        "np.multiply(f_slope, block.c[:-1], out=factors[:, 2])",
        "factors[:, 2] = block.c[:-1] / (1 + np.exp(-f))",
        ("da_f", T - 1),
    ),
    "derivative of an activated value": (
        recurrence.backward_factors,
        "np.multiply(i_slope, g, out=factors[:, 1])",
        "factors[:, 1] = (lambda s: s * (1 - s))(1 / (1 + np.exp(-i))) * g",
        ("da_i", T - 1),
    ),
    "carry dh_next never propagated": (
        recurrence.block_backward,
        "np.matmul(weights.W_hh_T, da_t, out=dh_next)",
        "dh_next[...] = 0",
        ("dh", T - 2),
    ),
    "carry dc_next never propagated": (
        recurrence.block_backward,
        "np.copyto(da[k], da_t)",
        "np.copyto(da[k], da_t); dc_prev[...] = 0",
        ("dc", T - 2),
    ),
    "loss scaled by V": (
        loss.cross_entropy_backward,
        "dlogits *= dlosses[:, None]",
        "dlogits *= dlosses[:, None] / dlogits.shape[1]",
        ("dlogits", T - 1),
    ),
    "gates i and f swapped in the forward pass": (
        recurrence.advance,
        "f, i, o, g, tanh_c = gates",
        "i, f, o, g, tanh_c = gates",
        ("c", 0),
    ),
    "one per cent off in one gate's gradient": (
        recurrence.backward_factors,
        "np.multiply(o_slope, tanh_c, out=factors[:, 4])",
        "np.multiply(o_slope * 1.01, tanh_c, out=factors[:, 4])",
        ("da_o", T - 1),
    ),
}


def comparison_with(bug: str, dtype: str) -> Comparison:
    function, right, wrong, _ = SEED_BUGS[bug]
    problem = random_problem(1, model=True, sizes=SIZES, dtype=np.dtype(dtype).type)
    with planted(function, right, wrong):
        return check_parity(problem)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.proof)])
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


OPTION_BUGS = {
    # name: function, right, wrong, options, the tensor that shows it first
    "gradients of the reverse direction not mirrored": (
        stack.packed_backward,
        "_in_reading_order(dy[:, d * P : (d + 1) * P], packing, reverse)",
        "dy[:, d * P : (d + 1) * P]",
        {"bidirectional": True},
        "dh_l0_reverse",
    ),
    "dropout forgotten in the backward pass": (
        stack.packed_backward,
        "dy = dy * packing.pack(cache.masks[layer])",
        "pass",
        {"num_layers": 2, "dropout": 0.5},
        "dh",
    ),
    "directions' input gradients not summed": (
        stack.packed_backward,
        "part if dx is None else dx + part",
        "part",
        {"bidirectional": True},
        "dx",
    ),
    "peepholes of i and f swapped": (
        peephole.cell_backward,
        "da_i * p_i + da_f * p_f",
        "da_i * p_f + da_f * p_i",
        {"variant": "peephole"},
        "dc",
    ),
    "output peephole left out of dc": (
        peephole.cell_backward,
        " + da_o * p_o",
        "",
        {"variant": "peephole"},
        "dc",
    ),
    "coupled gate without its second path": (
        coupled.cell_backward,
        "(g - c_prev)",
        "g",
        {"variant": "coupled"},
        "da_i",
    ),
    "projection's own gradient with h for m": (
        layer.weight_gradients,
        "side_by_side(o * tanh_c)",
        "side_by_side(o * block.c[1:])",
        {"proj_size": 4},
        "dW_hr",
    ),
    "final cell gradient dropped where a sequence ends early": (
        segment.with_ending,
        "final[carry.shape[1] : n].T",
        "final[carry.shape[1] : n].T * (carry.shape[1] == 0)",
        {},
        "dh",
    ),
}


@pytest.mark.parametrize("bug", OPTION_BUGS)
def test_a_bug_planted_into_an_option_is_found(bug):
    function, right, wrong, options, tensor = OPTION_BUGS[bug]
    problem = random_problem(1, sizes=SIZES, **options)
    assert check_parity(problem).first is None
    with planted(function, right, wrong):
        comparison = check_parity(random_problem(1, sizes=SIZES, **options))
    assert comparison.first is not None, "not found"
    assert comparison.first.tensor == tensor


CELL_BUGS = [
    ("da_i = dc * g", "da_i = dc * i", "da_i"),
    ("dc = dc_next + dh * o", "dc = dh * o", "dc"),
    ("dc = dc_next + dh * o", "dc = dc_next + dh * i", "dc"),
    ("dc * c_prev", "dc * c", "da_f"),
    ("dh_prev = da @ W_hh", "dh_prev = da_i @ W_hh[: c.shape[1]]", "dh"),
    ("dc_prev = dc * f", "dc_prev = dc", "dc"),
    ("dW_hh = da.T @ h_prev", "dW_hh = 2 * da.T @ h_prev", "dW_hh"),
    ("db = da.sum(axis=0)", "db = da.mean(axis=0)", "db"),
]


@pytest.mark.parametrize(("right", "wrong", "tensor"), CELL_BUGS)
def test_a_bug_in_the_specification_is_found_too(right, wrong, tensor):
    problem = random_problem(1, sizes=SIZES)
    noise = noise_moves(problem)
    with planted(cell.cell_backward, right, wrong):
        comparison = compare(plain_trace(problem), torch_trace(problem), noise)
    assert comparison.first is not None
    assert comparison.first.tensor == tensor


def test_planting_refuses_a_line_that_is_not_there():
    with pytest.raises(CannotEdit, match="stands 0 times"):
        with planted(stack.packed_backward, "no such line", ""):
            pass
