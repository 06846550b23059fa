"""Against torch.nn.LSTM: PyTorch's own database of modules, and options drawn at random."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numpy_lstm.language_model import LanguageModel
from numpy_lstm.lstm import LSTM, lstm_backward, lstm_forward
from numpy_lstm.roundoff import K, distance
from parity_tests.support.problems import public_totals, random_problem
from torch_oracle.proof.compare import check_parity, noise_moves
from torch_oracle.proof.nn_lstm import module_totals
from torch_oracle.proof.torch_cells import TORCH_CELLS
from torch_oracle.proof.trace import Problem, contribution

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.usefixtures("without_type_checks"),
]

INPUTS = [
    (kind, k, dtype)
    for kind, count in ((torch.nn.LSTM, 32), (torch.nn.LSTMCell, 2))
    for dtype in (torch.float32, torch.float64)
    for k in range(count)
]

SEQUENCES = ("y", "h_n", "c_n", "dx", "dh0", "dc0")


def database_inputs(kind: type, dtype: torch.dtype) -> list:
    """What PyTorch tries its own module with; loading the database takes seconds."""
    from torch.testing._internal.common_modules import module_db

    (info,) = (info for info in module_db if info.module_cls is kind)
    arguments = {"device": "cpu", "dtype": dtype, "requires_grad": True, "training": True}
    torch.manual_seed(0)
    return info.module_inputs_func(info, **arguments)


@pytest.mark.parametrize(("kind", "count"), [(torch.nn.LSTM, 32), (torch.nn.LSTMCell, 2)])
def test_the_database_holds_no_more_inputs_than_are_tested(kind, count):
    assert len(database_inputs(kind, torch.float64)) == count


def configuration(module: torch.nn.LSTM | torch.nn.LSTMCell) -> LSTM:
    names = ("input_size", "hidden_size", "bias")
    more = ("num_layers", "batch_first", "bidirectional", "proj_size")
    found = {name: getattr(module, name) for name in names}
    found |= {name: getattr(module, name) for name in more if hasattr(module, name)}
    return LSTM(**found, bias_pair=module.bias)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def unbatched_noise(config: LSTM, arrays: dict, parameters: dict) -> list[dict]:
    """How far noise moves the totals of the same problem, in the shapes of an unbatched run."""
    batched = {name: array[:, None] for name, array in arrays.items()}
    problem = Problem(config, parameters, lengths=np.array([len(arrays["x"])]), **batched)
    return [
        {n: a[:, 0] if n in SEQUENCES else a for n, a in moves.totals.items()}
        for moves in noise_moves(problem)
    ]


@pytest.mark.parametrize(("kind", "k", "dtype"), INPUTS)
def test_pytorchs_own_module_inputs(kind, k, dtype):
    """Outputs, states and all gradients of a random contraction; every input is unbatched."""
    case = database_inputs(kind, dtype)[k]
    assert not case.forward_input.kwargs
    module = kind(*case.constructor_input.args, **case.constructor_input.kwargs, dtype=dtype)
    config, suffix = configuration(module), "" if kind is torch.nn.LSTM else "_l0"
    parameters = {name + suffix: to_numpy(p) for name, p in module.named_parameters()}
    x, *states = case.forward_input.args
    given_states = tuple(states[0]) if states else ()
    leaves = [t.detach().clone().requires_grad_() for t in (x, *given_states)]
    result = module(leaves[0], *([tuple(leaves[1:])] if states else []))
    (y, (h_n, c_n)) = result if kind is torch.nn.LSTM else (None, result)
    outputs = {"y": y, "h_n": h_n, "c_n": c_n} if y is not None else {"h_n": h_n, "c_n": c_n}
    torch.manual_seed(1)
    cotangents = {name: torch.randn_like(output) for name, output in outputs.items()}
    torch.autograd.backward(list(outputs.values()), list(cotangents.values()))
    expected = {name: to_numpy(output) for name, output in outputs.items()}
    names = ("dx", "dh0", "dc0")[: len(leaves)]
    expected |= {name: to_numpy(leaf.grad) for name, leaf in zip(names, leaves, strict=True)}
    for name, parameter in module.named_parameters():
        expected[contribution(name + suffix)] = to_numpy(parameter.grad)

    def row(array: np.ndarray) -> np.ndarray:  # of LSTMCell a sequence of one step, one layer
        return array[None] if kind is torch.nn.LSTMCell else array

    arrays = {"x": row(to_numpy(x))}
    arrays |= {n: row(to_numpy(s)) for n, s in zip(("h0", "c0"), given_states, strict=False)}
    actual_outputs, cache = lstm_forward(config, parameters, **arrays)
    d = {f"d{name}": row(to_numpy(g)) for name, g in cotangents.items()}
    d.setdefault("dy", np.zeros_like(actual_outputs[0]))
    gradients = lstm_backward(d["dy"], cache, d["dh_n"], d["dc_n"])
    actual = dict(zip(("y", "h_n", "c_n"), actual_outputs, strict=True))
    actual |= {"dx": gradients.dx, "dh0": gradients.dh0, "dc0": gradients.dc0}
    actual |= {contribution(name): g for name, g in gradients.parameters.items()}
    for name, shape in (("h0", h_n.shape), ("c0", c_n.shape)):
        arrays.setdefault(name, np.zeros(shape, arrays["x"].dtype))
    noise = unbatched_noise(config, arrays | d, parameters)
    for name, value in expected.items():
        reference = row(value) if name in SEQUENCES else value
        far = distance(actual[name], reference, [moves[name] for moves in noise])
        assert far <= K, (name, far)


def test_parameters_of_the_language_model_are_those_of_torchs_two_modules():
    parts = {"lstm": torch.nn.LSTM(5, 8, 2), "projection": torch.nn.Linear(8, 5)}
    expected = {k: tuple(v.shape) for k, v in torch.nn.ModuleDict(parts).state_dict().items()}
    shapes = LanguageModel(5, 8, 2, bias_pair=True).parameter_shapes()
    assert {name: tuple(size for _, size in axes) for name, axes in shapes.items()} == expected


def problem_of(draw: dict) -> Problem:
    """Any combination of options, with a sequence of length 1 among several."""
    problem = random_problem(**draw)
    if len(problem.lengths) > 1:
        problem.lengths[np.argmin(problem.lengths)] = 1
    return problem


@st.composite
def draws(draw) -> dict:
    """Arguments of `random_problem`, drawn by hypothesis."""
    sizes = tuple(draw(st.integers(1, high)) for high in (6, 4, 4, 5))
    H, layers, bias = sizes[3], draw(st.integers(1, 3)), draw(st.booleans())
    variant = draw(st.sampled_from([None, *TORCH_CELLS]))
    has_bias = bias and variant != "layer_norm"
    return {
        "seed": draw(st.integers(0, 2**32 - 1)),
        "dtype": draw(st.sampled_from([np.float32, np.float64])),
        "sizes": sizes,
        "num_layers": layers,
        "bias": bias,
        "bias_pair": has_bias and draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "proj_size": draw(st.sampled_from([0, *range(1, H)])),
        "dropout": draw(st.sampled_from([0.0, 0.5])) if layers > 1 else 0.0,
        "variant": variant,
    }


@given(draws())
def test_all_options_at_once_match_autograd_through_lstmcell_at_every_step(draw):
    """Variants, which LSTMCell lacks, through single torch operations."""
    problem = problem_of(draw)
    comparison = check_parity(problem)
    assert comparison.first is None, str(comparison.first)


@given(draws(), st.booleans(), st.booleans())
def test_all_options_of_torch_at_once_match_nn_lstm(draw, batch_first, full):
    draw |= {"variant": None, "dropout": 0.0, "batch_first": batch_first}
    problem = problem_of(draw)
    if full:
        problem.lengths[...] = len(problem.x)
    ours, reference = public_totals(problem), module_totals(problem)
    noise = [moves.totals for moves in noise_moves(problem)]
    assert ours.keys() == reference.keys()
    for name, value in reference.items():
        assert distance(ours[name], value, [moves[name] for moves in noise]) <= K, name


@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_matches_single_layers_of_nn_lstm_given_the_same_masks(bidirectional):
    problem = random_problem(0, num_layers=2, dropout=0.5, bidirectional=bidirectional)
    config, D = problem.config, 1 + bidirectional
    y = problem.x
    for k in range(2):
        names = {n: n.replace(f"_l{k}", "_l0") for n in problem.parameters if f"_l{k}" in n}
        states = {n: getattr(problem, n)[k * D : (k + 1) * D] for n in ("h0", "c0", "dh_n", "dc_n")}
        single = replace(
            problem,
            config=replace(config, num_layers=1, dropout=0.0, input_size=y.shape[2]),
            parameters={new: problem.parameters[old] for old, new in names.items()},
            x=y,
            masks=(),
            **states,
        )
        y = module_totals(single)["y"] * (problem.masks[0] if k == 0 else 1)
    noise = [moves.totals["y"] for moves in noise_moves(problem)]
    assert distance(public_totals(problem)["y"], y, noise) <= K
