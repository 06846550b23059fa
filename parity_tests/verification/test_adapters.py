"""Adapters: what is loaded and refused, what is called with what, and each complaint's sentence."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from numpy_lstm.errors import InputError
from parity_tests.support import handwritten
from parity_tests.support.problems import random_problem
from torch_oracle.adapters import adapter, adapter_of, load
from torch_oracle.proof.numpy_trace import numpy_trace
from torch_oracle.verification.hand_layouts import ColumnVectors, GatePairs, Stacked
from torch_oracle.verification.outputs import AdapterError
from torch_oracle.verification.verify import verify

pytestmark = pytest.mark.usefixtures("without_type_checks")

RIGHT = [
    "our_layer",
    "our_model",
    "torch_layers",
    "torch_cell",
    "BatchFirst",
    "columns",
    "pairs",
    "stacked",
]


@pytest.mark.parametrize("name", RIGHT)
def test_a_correct_lstm_in_any_shape_passes(name):
    verification = verify(load(f"parity_tests.support.handwritten:{name}"))
    assert verification.passed, (verification.divergences[:1], verification.complaints)
    assert max(far for far, _ in verification.worst.values()) < 8


def stored_in_float64(outputs):
    """The same numbers in arrays as np.zeros makes them."""
    return {name: np.asarray(array).astype(np.float64) for name, array in outputs.items()}


def given_type_stored_in_float64(weights, x, dy):
    """Computes in the dtype that it is given."""
    return stored_in_float64(handwritten.pairs(weights, x, dy))


def float32_stored_in_float64(weights, x, dy):
    """Computes in float32, whatever it is given."""
    narrow = {name: array.astype(np.float32) for name, array in weights.items()}
    x, dy = x.astype(np.float32), dy.astype(np.float32)
    return stored_in_float64(handwritten.pairs(narrow, x, dy))


@pytest.mark.parametrize("lstm", [given_type_stored_in_float64, float32_stored_in_float64])
@pytest.mark.usefixtures("few_cases")
def test_float32_stored_in_float64_is_right_and_said(lstm):
    verification = verify(adapter_of(lstm))
    assert verification.passed, (verification.divergences[:1], verification.complaints)
    (note,) = (note for note in verification.notes if "stored in float64" in note)
    assert note.startswith("computed in float32, stored in float64: y")


@pytest.mark.usefixtures("few_cases")
def test_what_is_stored_in_float64_must_be_right_too():
    """Wrong formulas, and float64 that is merely as coarse as float32."""

    def wrong(weights, x, dy):
        return given_type_stored_in_float64(weights, x * x.dtype.type(1.001), dy)

    def coarse(weights, x, dy):
        outputs = handwritten.pairs(weights, x, dy)
        return outputs | {"y": outputs["y"] * (1 + 1e-8)}

    assert not verify(adapter_of(wrong)).passed
    failed = [case for case, _ in verify(adapter_of(coarse)).divergences]
    assert {case.dtype for case in failed} == {"float64"}


@pytest.mark.parametrize("swap", [("f", "g"), ("i", "f"), ("g", "o"), ("i", "o")])
@pytest.mark.parametrize("name", ["columns", "pairs"])
def test_gates_that_are_mistaken_for_one_another_are_found_in_the_smallest_case(
    name, swap, few_cases
):
    layout, function = {
        "columns": (handwritten.COLUMNS, handwritten.columns),
        "pairs": (handwritten.PAIRS, handwritten.pairs),
    }[name]
    right, (one, two) = type(layout).to_theirs, swap

    def wrong(self, weights):
        theirs = right(self, weights)
        return {n: theirs[_swapped(n, one, two)] for n in theirs}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(layout), "to_theirs", wrong)
        verification = verify(adapter_of(function, name))
    failing = {case for case, _ in verification.divergences}
    assert failing >= {r.case for r in verification.results if not r.case.loud}  # shut gates agree
    assert verification.divergences[0][1].tensor == "h"


def _swapped(name: str, one: str, two: str) -> str:
    return name[:-1] + {one: two, two: one}.get(name[-1], name[-1])


def test_a_wrong_gate_order_of_a_stacked_kernel_is_found(few_cases):
    verification = verify(load("parity_tests.support.handwritten:stacked_in_a_wrong_order"))
    assert not verification.passed
    assert verification.divergences[0][1].tensor == "h"


@pytest.mark.parametrize("form", ["layer", "model"])
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize(
    "layout",
    [
        ColumnVectors(),
        ColumnVectors(hidden_first=False),
        *(GatePairs(orientation=each) for each in ("columns", "rows", "linear")),
        GatePairs(input="U", recurrent="W"),
        *(Stacked(orientation=each) for each in ("columns", "rows", "linear")),
        Stacked("figo"),
    ],
)
def test_a_layout_leads_back_to_torchs(layout, pair, form):
    problem = random_problem(0, model=form == "model", bias_pair=pair, sizes=(2, 3, 5, 4))
    weights = dict(problem.parameters)
    layout = replace(layout, bias_pair=pair)
    theirs = layout.to_theirs(weights)
    back = layout.to_torch_gradients(theirs)
    summed = [name for name in weights if "bias_ih" in name or "bias_hh" in name]
    for name in weights.keys() - set(summed):
        np.testing.assert_array_equal(back[name], weights[name])
    prefix = "lstm." if form == "model" else ""
    for name in summed:
        both = weights[f"{prefix}bias_ih_l0"] + weights[f"{prefix}bias_hh_l0"]
        np.testing.assert_array_equal(back[name], both)
    assert back.keys() == weights.keys()
    assert not any(np.shares_memory(a, b) for a in theirs.values() for b in weights.values())


def test_layouts_have_the_shapes_they_promise():
    weights = random_problem(0, model=True, sizes=(2, 3, 5, 4)).parameters

    def shapes(layout):
        return {name: array.shape for name, array in layout.to_theirs(weights).items()}

    columns = shapes(ColumnVectors())
    assert (columns["W_f"], columns["b_f"]) == ((4, 9), (4, 1))
    assert (columns["W_v"], columns["b_v"]) == ((5, 4), (5, 1))
    rows = shapes(GatePairs(orientation="rows"))
    assert (rows["W_o"], rows["U_o"], rows["b_o"]) == ((5, 4), (4, 4), (4,))
    assert rows["W_v"] == (4, 5)
    assert shapes(Stacked())["W_x"] == (5, 16)
    assert shapes(Stacked(orientation="columns"))["b"] == (16, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stacked("ifgg"), "order: expected the letters i, f, g and o in some order, got"),
        (
            lambda: ColumnVectors().to_torch_gradients({"W_i": np.ones((2, 3))}),
            "gradients: missing W_f, W_g, W_o; expected W_i, W_f, W_g, W_o",
        ),
    ],
)
def test_unusable_options_are_refused_in_a_sentence(make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make()


PROGRAM = """
from torch_oracle import adapters, layouts
for call in {calls!r}:
    try:
        eval(call)
    except ValueError as error:
        print(type(error).__name__, error, sep=": ")
"""


def test_a_word_that_is_no_choice_is_refused_in_a_sentence():
    """In a process of its own, where types are not checked at run time."""
    expected = {
        "layouts.Stacked(orientation='row')": "orientation: expected one of ['columns', 'rows',",
        "layouts.GatePairs(orientation='row')": "orientation: expected one of ['columns',",
        "adapters.adapter(loss='median')": "loss: expected one of ['mean', 'sum'], got 'median'",
    }
    program = PROGRAM.format(calls=list(expected))
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    messages = result.stdout.splitlines()
    assert len(messages) == len(expected), result.stderr
    for got, message in zip(messages, expected.values(), strict=True):
        assert got.startswith(f"InputError: {message}")


# Loading

MODULE = """
import torch

def good(weights, x): ...
def wrong_name(weights, x, dhn): ...
def no_weights(x, dy): ...
def neither(weights): ...
def no_targets(weights, tokens): ...
def anything(weights, x, **others): ...
def returns_nothing(): ...
def broken(): raise OSError("no file")
class Needs:
    def __init__(self, size): ...
class Other(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gates = torch.nn.Linear(3, 4)
number = 3
"""
REFUSALS = [
    ("mine", "mine: expected package.module:name or file.py:name, such as my_lstm.py:adapter"),
    ("absent_module:f", "absent_module:f: there is no module 'absent_module' here or in"),
    ("{}:goood", "{}:goood: {} has no 'goood'; did you mean good?"),
    ("{}:number", "{}:number: expected a function or a torch.nn.Module, or a class or function"),
    ("{}:Needs", "{}:Needs: expected a function or a torch.nn.Module, or a class or function"),
    (
        "torch.nn:Bilinear",
        "torch.nn:Bilinear: calling it raises TypeError: Bilinear.__init__() missing 1 required"
        " positional argument: 'out_features'; write a function without arguments that makes one,"
        " and name that",
    ),
    ("{}:returns_nothing", "without arguments that makes one; got None"),
    ("{}:broken", "{}:broken: calling it raises OSError: no file ("),
    (
        "{}:wrong_name",
        "{}:wrong_name: has the parameter 'dhn', which a layer does not know; did you mean dh_n?"
        " Known are weights, x, h0, c0, dy, dh_n, dc_n, lengths",
    ),
    ("{}:no_weights", "{}:no_weights: lacks the parameter weights, which a layer needs"),
    ("{}:no_targets", "lacks the parameter targets, which a language model needs"),
    (
        "{}:neither",
        "{}:neither: has the parameters (weights); expected weights and x for a layer, or weights,"
        " tokens and targets for a language model",
    ),
    ("{}:anything", "{}:anything: **others: expected parameters that can be given by name"),
    (
        "{}:Other",
        "{}:Other: Other has the parameters ['gates.weight', 'gates.bias']; expected those of"
        " nn.LSTM (weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ...) or nn.LSTMCell"
        " (weight_ih, weight_hh, bias_ih, bias_hh); write an adapter, a function of weights and x",
    ),
]


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """The name of a module in the current directory."""
    name = "module_of_a_user"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize(("spec", "message"), REFUSALS)
def test_what_is_no_adapter_is_refused_in_a_sentence(spec, message, user_module):
    spec, message = spec.replace("{}", user_module), message.replace("{}", user_module)
    with pytest.raises(InputError, match=re.escape(message)):
        load(spec)


def test_a_module_in_the_current_directory_is_found(user_module):
    loaded = load(f"{user_module}:good")
    assert (loaded.form, loaded.takes) == ("layer", {"weights", "x"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import absent_too", "importing broken_module raises ModuleNotFoundError: No module"),
        ("x = 1\nx / 0", "importing broken_module raises ZeroDivisionError: division by zero ("),
        ("raise SystemExit(3)", "importing broken_module raises SystemExit: 3 ("),
        ("def (", "importing broken_module raises SyntaxError: "),
    ],
)
def test_an_error_within_the_module_is_told_with_its_place(source, message, tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load("broken_module:f")
    if "x / 0" in source:
        assert str(caught.value).endswith("broken_module.py:2)")


# Calling


def test_only_what_is_asked_for_is_given_and_the_rest_is_zero():
    given = {}

    def mine(weights, x, dy):
        given.update(weights=weights, x=x, dy=dy)
        return {"y": np.zeros((4, 3, 5), x.dtype)}

    mine = adapter_of(mine, "mine")
    problem = mine.problem(0, (4, 3, 2, 5), np.float32, 0.3)
    mine.run(problem)
    assert list(given["weights"]) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert (given["x"].shape, given["dy"].shape) == ((4, 3, 2), (4, 3, 5))
    assert given["x"].dtype == np.float32
    assert not np.shares_memory(given["x"], problem.x)
    for name in ("h0", "c0", "dh_n", "dc_n"):
        assert not getattr(problem, name).any()
    assert problem.dy is not None
    assert problem.dy.all()
    assert (problem.lengths == 4).all()


def test_lengths_that_are_asked_for_differ():
    problem = adapter_of(handwritten.our_layer, "ours").problem(0, (6, 5, 2, 3))
    assert len(set(problem.lengths)) > 1
    assert adapter_of(handwritten.our_layer, "ours").problem(0, ragged=False).lengths.min() > 1


def test_without_a_batch_axis_there_is_none():
    given = {}

    @adapter(single=True)
    def mine(weights, x, h0, dh_n, dy):
        given.update(x=x, h0=h0, dh_n=dh_n, dy=dy)
        return {"y": dy, "dh0": h0, "h": dy}

    trace = adapter_of(mine, "mine").run(adapter_of(mine, "mine").problem(0, (4, 3, 2, 5)))
    assert {name: array.shape for name, array in given.items()} == {
        "x": (4, 2),
        "h0": (5,),
        "dh_n": (5,),
        "dy": (4, 5),
    }
    assert trace.totals["y"].shape == trace.steps["h"].shape == (4, 1, 5)
    assert trace.totals["dh0"].shape == (1, 1, 5)


@pytest.mark.parametrize(("loss", "expected"), [("mean", 1 / 12), ("sum", 1.0)])
def test_the_loss_is_of_the_mean_or_of_the_sum(loss, expected):
    @adapter(loss=loss, bias_pair=False)
    def mine(weights, tokens, targets): ...

    problem = adapter_of(mine, "mine").problem(0, (4, 3, 2, 5))
    assert problem.dloss == expected
    assert "lstm.bias_l0" in problem.parameters
    assert not problem.dh_n.any()


def test_the_trace_of_our_own_code_is_that_of_the_adapter():
    ours = load("parity_tests.support.handwritten:our_model")
    problem = ours.problem(3)
    whole, partial = numpy_trace(problem), ours.run(problem)
    assert partial.totals.keys() == whole.totals.keys()
    assert partial.steps.keys() == {"logits", "dlogits", "loss"}
    for kind in ("steps", "totals"):
        for name, array in getattr(partial, kind).items():
            np.testing.assert_allclose(array, getattr(whole, kind)[name], rtol=1e-12)


def test_torch_modules_decide_their_sizes_and_options():
    layers = load("parity_tests.support.handwritten:torch_layers")
    problem = layers.problem(0, (4, 2, 7, 9))
    assert (problem.lstm.input_size, problem.lstm.hidden_size) == (3, 5)
    assert (problem.lstm.num_layers, problem.lstm.bidirectional) == (2, True)
    assert "lengths" in layers.takes
    assert "lengths" not in load("parity_tests.support.handwritten:torch_cell").takes
    before = handwritten.torch_layers.weight_ih_l0.detach().clone()
    layers.run(problem)
    torch.testing.assert_close(handwritten.torch_layers.weight_ih_l0.detach(), before)


def test_factories_and_callable_objects_are_adapters_too():
    class Scaled:
        def __init__(self, scale):
            self.scale = scale

        def __call__(self, weights, x, dy):
            return {"y": self.scale * dy}

    made = adapter_of(lambda: torch.nn.LSTMCell(3, 4, bias=False), "made")
    assert made.fixed == (3, 4)
    assert "bias_ih_l0" not in made.problem(0).parameters
    scaled = adapter_of(Scaled(2), "scaled")
    problem = scaled.problem(0)
    assert (scaled.run(problem).totals["y"] == 2 * problem.dy).all()


def test_a_problem_that_the_adapter_cannot_take_is_refused():
    pairs = adapter_of(handwritten.pairs, "pairs")
    with pytest.raises(
        InputError, match="problem: expected h0 of zeros, which pairs does not take"
    ):
        pairs.run(random_problem(0, bias_pair=True))
    columns = adapter_of(handwritten.columns, "columns")
    with pytest.raises(InputError, match="problem: expected N = 1 for columns, got 3"):
        columns.run(random_problem(0, model=True, bias_pair=True, sizes=(4, 3, 5, 2)))


# AdapterErrors

SHAPE = (4, 3, 5)  # T, N, H


def complaint_of(result, dy: bool = True) -> str:
    def with_dy(weights, x, dy):
        return result(weights, x) if callable(result) else result

    def without_dy(weights, x):
        return result(weights, x) if callable(result) else result

    mine = adapter_of(with_dy if dy else without_dy, "mine")
    with pytest.raises(AdapterError) as caught:
        mine.run(mine.problem(0, (4, 3, 2, 5)))
    return str(caught.value)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "returns None; expected a dict of arrays by name"),
        ((1, 2), "returns a tuple; expected a dict of arrays by name"),
        (
            {"weight_ih_10": np.ones(1)},
            "returns 'weight_ih_10', which is not known; did you mean weight_ih_l0? Known are y,",
        ),
        ({"zzz": np.ones(1)}, "returns 'zzz', which is not known. Known are y, h_n, c_n, weight_"),
        ({}, "returns no output and no gradient; expected at least one of y, h_n, c_n, weight_ih_"),
        ({"da_i": np.ones(SHAPE)}, "returns no output and no gradient; expected at least one of"),
        (
            {"y": None},
            "returns y as None; expected an array of floating numbers (leave out what is not"
            " computed)",
        ),
        ({"y": [[1.0], [1.0, 2.0]]}, "returns y as a list; expected an array of floating numbers"),
        (
            {"y": np.ones(SHAPE, int)},
            "returns y of dtype int64; expected a floating dtype, such as that of the weights",
        ),
        ({"y": np.ones(SHAPE, complex)}, "returns y of dtype complex128; expected a floating"),
        (
            {"weight_hh_l0": np.ones((5, 20))},
            "returns weight_hh_l0 of the wrong shape: expected [4H, H] = [20, 5], got [5, 20];"
            " transposed?",
        ),
        (
            {"y": np.ones((3, 4, 5))},
            "returns y of the wrong shape: expected [T, N, H] = [4, 3, 5], got [3, 4, 5];"
            " batch first?",
        ),
        (
            {"y": np.ones(SHAPE), "c": np.ones((5, 3, 5))},
            "returns c of the wrong shape: expected [T, N, H] = [4, 3, 5], got [5, 3, 5];"
            " leave the initial state out",
        ),
        (
            {"bias_ih_l0": np.ones((20, 1))},
            "returns bias_ih_l0 of the wrong shape: expected [4H] = [20], got [20, 1]; reshape it",
        ),
        (
            {"h_n": np.ones((2, 5))},
            "returns h_n of the wrong shape: expected [N, H] = [3, 5], got [2, 5]",
        ),
    ],
)
def test_a_faulty_result_is_told_in_a_sentence(result, message):
    assert complaint_of(result).startswith(message)


def test_a_loss_that_is_no_single_number_is_told():
    def mine(weights, tokens, targets):
        return {"loss": np.ones((1, 1))}

    mine = adapter_of(mine, "mine")
    expected = "returns loss of the wrong shape: expected a single number, of shape [], got [1, 1]"
    with pytest.raises(AdapterError, match=re.escape(expected)):
        mine.run(mine.problem(0))


def test_an_exception_is_told_with_the_users_own_place():
    def raises(weights, x):
        np.linalg.inv(np.ones((2, 3)))

    line = raises.__code__.co_firstlineno + 1
    message = complaint_of(raises)
    assert message.startswith("raises LinAlgError: ")
    assert message.endswith(f"test_adapters.py:{line})")


def changes(name, index):
    def change(weights, x):
        arrays = {"x": x} | weights
        arrays[name][index] += 1
        return {"y": np.ones(SHAPE)}

    return change


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            changes("x", (1, 2, 0)),
            "changes its input x, first at index [1, 2, 0]; copy what is changed in place",
        ),
        (
            changes("bias_ih_l0", 7),
            "changes its input weights['bias_ih_l0'], first at index [7]; copy what is",
        ),
        (
            lambda weights, x: {"y": weights.pop("bias_ih_l0")[0] * np.ones(SHAPE)},
            "adds or removes weights['bias_ih_l0']; expected the dict of weights to stay as it is",
        ),
    ],
)
def test_a_changed_input_is_told_with_its_place(result, message):
    assert complaint_of(result).startswith(message)


def test_a_gradient_without_a_gradient_of_the_outputs_is_told():
    message = complaint_of({"dx": np.ones((4, 3, 2))}, dy=False)
    assert message == (
        "returns the gradient dx but takes no gradient of the outputs;"
        " expected dy, dh_n or dc_n among its parameters"
    )


def test_views_of_inputs_lists_and_torch_tensors_may_be_returned():
    def mine(weights, x, dy):
        return {"y": dy, "weight_ih_l0": weights["weight_ih_l0"], "h": torch.from_numpy(dy)}

    mine = adapter_of(mine, "mine")
    problem = mine.problem(0, (4, 3, 2, 5))
    trace = mine.run(problem)
    np.testing.assert_array_equal(trace.totals["y"], problem.dy)
    assert not np.shares_memory(trace.totals["y"], problem.dy)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (lambda h, c: h, "returns Tensor for a step; expected (h, c)"),
        (lambda h, c: 1 / 0, "raises ZeroDivisionError: division by zero ("),
    ],
)
def test_a_torch_cell_that_does_not_behave_is_told(cell, message):
    class Mine(torch.nn.LSTMCell):
        def __init__(self):
            super().__init__(3, 4)

        def forward(self, *given):
            return cell(*super().forward(*given))

    mine = adapter_of(Mine, "Mine")
    with pytest.raises(AdapterError, match=re.escape(message)):
        mine.run(mine.problem(0))
