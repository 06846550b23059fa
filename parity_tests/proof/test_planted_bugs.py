"""The test of the tests: known bugs, planted into the real backward pass, are found and named."""

import re

import numpy as np
import pytest

from numpy_lstm import cell, loss, lstm
from numpy_lstm.fast import layer
from parity_tests.support.planting import planted
from parity_tests.support.problems import random_problem
from torch_oracle.diagnose.injection import CannotEdit
from torch_oracle.diagnose.replay import unrolled_trace
from torch_oracle.proof.compare import Comparison, check_parity, compare, deviations
from torch_oracle.proof.trace import torch_trace

T = 7
SIZES = (T, 5, 6, 9)

SEED_BUGS = {
    # name: function, right, wrong, the tensor and the step that show it first
    "indices shifted: c_t for c_prev": (
        layer._factors,
        "c_prev = run.gates, run.c[:-1]",
        "c_prev = run.gates, run.c[1:]",
        ("da_f", T - 1),
    ),
    "indices shifted: h_t for h_prev": (
        layer.weight_gradients,
        "h_prev = _previous(packing, segment)",
        "h_prev = segment.h[:, -da.shape[1] :]",
        ("dW_hh", T - 1),
    ),
    "tanh twice in the cell path": (
        layer._factors,
        "squares = gates[:, 3:] * gates[:, 3:]",
        "squares = np.stack([gates[:, 3], np.tanh(gates[:, 4])], axis=1) ** 2",
        ("dc", T - 1),
    ),
    "derivative missing in f": (
        layer._factors,
        "np.multiply(slopes[:, 0], c_prev, out=factors[:, 2])",
        "factors[:, 2] = c_prev",
        ("da_f", T - 1),
    ),
    "sigmoid(f) for its derivative": (
        layer._factors,
        "np.multiply(slopes[:, 0], c_prev, out=factors[:, 2])",
        "factors[:, 2] = c_prev / (1 + np.exp(-gates[:, 0]))",
        ("da_f", T - 1),
    ),
    "derivative of an activated value": (
        layer._factors,
        "factors[:, 0] = gates[:, 0]",
        "slopes[:, 1] = (lambda s: s * (1 - s))(1 / (1 + np.exp(-gates[:, 1])));"
        " factors[:, 0] = gates[:, 0]",
        ("da_i", T - 1),
    ),
    "carry dh_next never propagated": (
        layer._run_backward,
        "np.matmul(W_hh_T, da_t, out=dh_next)",
        "dh_next[...] = 0",
        ("dh", T - 2),
    ),
    "carry dc_next never propagated": (
        layer._run_backward,
        "np.copyto(da_out, da_t)",
        "np.copyto(da_out, da_t); d[0] = 0",
        ("dc", T - 2),
    ),
    "loss scaled by V": (
        loss.cross_entropy_backward,
        "dlogits *= dlosses[:, None]",
        "dlogits *= dlosses[:, None] / dlogits.shape[1]",
        ("dlogits", T - 1),
    ),
    "gates i and f swapped in the forward pass": (
        layer._advance,
        "sigmoids, f, i, o, g, tanh_c = gates",
        "sigmoids, i, f, o, g, tanh_c = gates",
        ("c", 0),
    ),
    "one per cent off in one gate's gradient": (
        layer._factors,
        "np.multiply(slopes[:, 2], gates[:, 4], out=factors[:, K])",
        "np.multiply(slopes[:, 2] * 1.01, gates[:, 4], out=factors[:, K])",
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


OPTION_BUGS = {
    # name: function, right, wrong, options, the tensor that shows it first
    "gradients of the reverse direction not mirrored": (
        lstm.packed_backward,
        "own[packing.reversal] if reverse else own",
        "own",
        {"bidirectional": True},
        "dh_l0_reverse",
    ),
    "dropout forgotten in the backward pass": (
        lstm.packed_backward,
        "dy = dy * packing.pack(cache.masks[layer])",
        "pass",
        {"num_layers": 2, "dropout": 0.5},
        "dh",
    ),
    "directions' input gradients not summed": (
        lstm.packed_backward,
        "part_dx if dx is None else dx + part_dx",
        "part_dx",
        {"bidirectional": True},
        "dx",
    ),
    "peepholes of i and f swapped": (
        layer._run_backward,
        "w.W_ch[:-1, :, None]",
        "w.W_ch[-2::-1, :, None]",
        {"peephole": True},
        "dc",
    ),
    "output peephole left out of dc": (
        layer._run_backward,
        "dc_t += d[K] * w.W_ch[-1][:, None]",
        "pass",
        {"peephole": True},
        "dc",
    ),
    "coupled gate without its second path": (
        layer._factors,
        "gates[:, 3] - c_prev",
        "gates[:, 3]",
        {"coupled": True},
        "da_i",
    ),
    "projection's own gradient with h for m": (
        layer.weight_gradients,
        "run.gates[:, 2] * run.gates[:, 4]",
        "run.gates[:, 2] * run.c[1:]",
        {"proj_size": 4},
        "dW_hr",
    ),
    "final cell gradient dropped where a sequence ends early": (
        layer._widen,
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
    ("dc * k.g\n", "dc * k.i\n", "da_i"),
    ("dc = dc_next + dm * k.o", "dc = dm * k.o", "dc"),
    ("dc = dc_next + dm * k.o", "dc = dc_next + dm * k.i", "dc"),
    ("dc * k.c_prev", "dc * k.c", "da_f"),
    ("dh_prev=da @ w.W_hh", "dh_prev=da_i @ w.W_hh[: k.c.shape[1]]", "dh"),
    ("dc_prev = dc * k.f", "dc_prev = dc", "dc"),
    ("dW_hh=da.T @ k.h_prev", "dW_hh=2 * da.T @ k.h_prev", "dW_hh"),
    ("db=da.sum(axis=0)", "db=da.mean(axis=0)", "db"),
]


@pytest.mark.parametrize(("right", "wrong", "tensor"), CELL_BUGS)
def test_a_bug_in_the_specification_is_found_too(right, wrong, tensor):
    problem = random_problem(1, sizes=SIZES)
    noise = deviations(problem)
    with planted(cell.cell_backward, right, wrong):
        comparison = compare(unrolled_trace(problem), torch_trace(problem), noise)
    assert comparison.first is not None
    assert comparison.first.tensor == tensor


def test_planting_refuses_a_line_that_is_not_there():
    with pytest.raises(CannotEdit, match="stands 0 times"):
        with planted(lstm.packed_backward, "no such line", ""):
            pass
