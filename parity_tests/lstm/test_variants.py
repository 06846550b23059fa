"""Cells that torch lacks: every file of the folder is judged by torch's single operations."""

from pkgutil import iter_modules

import numpy as np
import pytest

from numpy_lstm import LSTM, InputError, init_lstm, lstm_backward, lstm_forward
from numpy_lstm import variants as folder
from numpy_lstm.config import variant_module
from numpy_lstm.variants import coupled, coupled_peephole, layer_norm, peephole
from parity_tests.support.planting import planted
from parity_tests.support.problems import random_problem
from torch_oracle.proof.compare import check_parity
from torch_oracle.proof.torch_cells import TORCH_CELLS, lstm_cell
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import in_dtype
from torch_oracle.proof.witnesses import complex_step_gradient, gradient_name

pytestmark = pytest.mark.usefixtures("without_type_checks")

NAMES = sorted(module.name for module in iter_modules(folder.__path__))
SIZES = (5, 3, 4, 6)


def test_every_file_of_the_folder_has_a_version_of_torch():
    assert set(TORCH_CELLS) == set(NAMES)
    assert len(NAMES) == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [0, 1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_at_every_step_matches_torchs_single_operations(name, seed, dtype):
    options = {"num_layers": 1 + seed % 2, "bidirectional": seed % 3 == 0, "bias": seed != 3}
    problem = random_problem(seed, dtype=dtype, variant=name, proj_size=seed % 2, **options)
    comparison = check_parity(problem, seed=seed)
    assert comparison.first is None, str(comparison.first)
    values = {*problem.lstm.step_values, "h", *problem.lstm.step_gradients, "dh", "dx"}
    assert values <= set(comparison.steps)


@pytest.mark.parametrize("name", NAMES)
def test_the_complex_step_gives_the_gradient_of_every_parameter(name):
    """A witness that owes nothing to torch: the derivative of the forward pass itself."""
    problem = random_problem(2, sizes=(3, 2, 3, 4), variant=name)
    totals = torch_trace(problem).totals
    wide = in_dtype(problem, np.complex128)
    for parameter in problem.parameters:
        exact = complex_step_gradient(wide, parameter)
        expected = totals[gradient_name(parameter)]
        np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


PLANTED = [
    (peephole.cell_forward, "a_o = z_o + p_o * c", "a_o = z_o + p_o * c_prev", "a_o"),
    (peephole.cell_backward, "(da_o * c).sum", "(da_o * c_prev).sum", "dW_ch"),
    (coupled.cell_forward, "f = 1 - i", "f = i", "f"),
    (coupled.cell_backward, "dc_prev = dc * f", "dc_prev = dc * i", "dc"),
    (coupled_peephole.cell_forward, "a_i = z_i + p_i * c_prev", "a_i = z_i", "a_i"),
    (coupled_peephole.cell_backward, "dc_prev = dc * f + da_i * p_i", "dc_prev = dc * f", "dc"),
    (layer_norm.standardised, "/ deviation(v)", "/ deviation(v) ** 2", "a_i"),
    (layer_norm.standardised_backward, "- n * mean_dn_n", "", "ds"),
    (layer_norm.cell_forward, "(h, c), cache", "(h, s), cache", "s"),
    (layer_norm.cell_backward, "dc_prev = ds * f", "dc_prev = dc * f", "dc"),
]


@pytest.mark.parametrize(("function", "right", "wrong", "tensor"), PLANTED)
def test_a_bug_planted_into_a_variant_is_found(function, right, wrong, tensor):
    name = function.__module__.rpartition(".")[2]
    with planted(function, right, wrong):
        comparison = check_parity(random_problem(1, sizes=SIZES, variant=name))
    assert comparison.first is not None, "not found"
    assert comparison.first.tensor == tensor


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_runs_through_the_public_functions_with_every_option(name):
    config = LSTM(4, 6, 2, True, True, 0.5, True, 2, variant=name)
    rng = np.random.default_rng(0)
    parameters = init_lstm(config, rng=rng)
    x, lengths = rng.standard_normal((3, 5, 4)), np.array([5, 2, 4])
    (y, h_n, c_n), cache = lstm_forward(config, parameters, x, lengths=lengths, rng=rng)
    gradients = lstm_backward(np.ones_like(y), cache)
    assert (y.shape, h_n.shape, c_n.shape) == ((3, 5, 4), (4, 3, 2), (4, 3, 6))
    assert gradients.dx.shape == x.shape
    assert gradients.parameters.keys() == parameters.keys()
    assert not y[1, 2:].any()
    tokens = rng.integers(0, 4, (3, 5))
    one_hot, _ = lstm_forward(config, parameters, np.eye(4)[tokens], lengths=lengths)
    of_tokens, _ = lstm_forward(config, parameters, tokens, lengths=lengths)
    np.testing.assert_array_equal(of_tokens[0], one_hot[0])


def test_a_module_of_ones_own_is_judged_with_torchs_version_of_it():
    problem = random_problem(1, sizes=SIZES, variant=peephole)
    named = random_problem(1, sizes=SIZES, variant="peephole")
    reference = torch_trace(named)
    again = torch_trace(problem, cell=TORCH_CELLS["peephole"])
    for name, array in reference.steps.items():
        np.testing.assert_array_equal(again.steps[name], array)
    with pytest.raises(ValueError, match="torch has no version of it"):
        torch_trace(problem)
    with pytest.raises(KeyError):
        torch_trace(problem, cell=lambda *a: {k: lstm_cell(*a)[k] for k in ("c", "m")})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LSTM(3, 4, variant="gru"),
            "variant: expected one of ['coupled', 'coupled_peephole', 'layer_norm', 'peephole']"
            " or a module, got 'gru'",
        ),
        (
            lambda: LSTM(3, 4, variant="layer_norm", bias_pair=True),
            "bias_pair: expected False for a variant without bias",
        ),
        (
            lambda: variant_module(folder),
            f"variant: {folder!r} lacks ['WEIGHTS', 'Cache', 'Gradients', 'cell_forward',"
            " 'cell_backward']; see numpy_lstm/variants",
        ),
    ],
    ids=["name", "no bias", "module"],
)
def test_what_is_no_variant_or_does_not_fit_it_is_refused(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message


def test_a_variant_cannot_be_recomputed():
    p = random_problem(0, sizes=SIZES, variant="coupled")
    with pytest.raises(InputError, match="recompute: expected False for a variant"):
        lstm_forward(p.lstm, p.parameters, p.x, recompute=True)


def test_layer_norm_starts_with_gain_one_and_an_open_forget_gate():
    weights = init_lstm(LSTM(3, 4, variant="layer_norm"), rng=np.random.default_rng(0))
    assert (weights["gain_l0"] == 1).all()
    assert weights["shift_l0"][1].tolist() == [1.0] * 4
    assert not weights["shift_l0"][[0, 2, 3, 4]].any()
