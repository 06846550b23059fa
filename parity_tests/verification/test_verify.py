"""The verdict: what it rests on, the faults it finds, and the command as others' CI runs it."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from numpy_lstm.errors import InputError
from numpy_lstm.roundoff import K
from parity_tests.support import handwritten
from torch_oracle.adapters import adapter, adapter_of, load
from torch_oracle.commands.main import main
from torch_oracle.verification.cases import SCALES, Case, verification_cases
from torch_oracle.verification.verify import verify, verify_case

pytestmark = pytest.mark.usefixtures("without_type_checks")

ROOT = Path(__file__).parents[2]
OURS = adapter_of(handwritten.our_layer, "ours")
CASE = Case((4, 3, 2, 5), "float64", 1.0, 0)


def broken(**changed):
    """Our own LSTM, some of whose results are changed."""

    def mine(weights, x, h0, c0, dy, dh_n, dc_n, lengths):
        result = handwritten.our_layer(weights, x, h0, c0, dy, dh_n, dc_n, lengths)
        return result | {name: change(result[name].copy()) for name, change in changed.items()}

    return adapter_of(mine, "mine")


def set_at(index, value):
    def change(array):
        array[index] = value
        return array

    return change


def test_the_cases_differ_in_everything_and_start_with_the_smallest():
    quick = verification_cases(OURS)
    assert {case.dtype for case in quick} == {"float32", "float64"}
    assert {case.scale for case in quick} == set(SCALES)
    assert {case.ragged for case in quick} == {False, True}
    assert all(len(set(case.sizes)) == 4 for case in quick)
    volumes = [np.prod(case.sizes) for case in quick]
    assert volumes[0] == min(volumes)
    assert volumes[-1] == max(volumes)
    full = verification_cases(OURS, "full")
    assert full[: len(quick)] == quick
    assert max(case.sizes[0] for case in full) == max(case.sizes[3] for case in full) == 64
    assert len({case.name for case in full}) == len(full) > 90
    for mode in ("quick", "full"):
        assert {1} < {case.sizes[0] for case in verification_cases(OURS, mode)}
        assert {1} < {case.sizes[1] for case in verification_cases(OURS, mode)}


def test_nothing_in_a_case_is_zero():
    for case in verification_cases(OURS):
        problem = case.problem(OURS)
        arrays = [problem.x, problem.h0, problem.c0, problem.dy, problem.dh_n, problem.dc_n]
        assert all(array.all() for array in (*arrays, *problem.parameters.values()))


def test_cases_without_a_batch_or_with_a_modules_sizes_differ_still():
    single = verification_cases(load("parity_tests.support.handwritten:columns"), "full")
    assert {case.sizes[1] for case in single} == {1}
    fixed = verification_cases(load("parity_tests.support.handwritten:torch_layers"), "full")
    assert {case.sizes[2:] for case in fixed} == {(3, 5)}
    for drawn in (single, fixed):
        assert len({case.name for case in drawn}) == len(drawn) > 90


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_told_with_its_place(value, few_cases):
    verification = verify(broken(dx=set_at((0, 1, 1), value)))
    case, first = verification.divergences[0]
    assert case == verification.results[0].case
    assert str(first).startswith(f"dx at step 0 (of 0 to 0), index [1, 1]: got {value}, the refere")
    assert verification.to_json()["worst"]["dx"]["distance"] == "inf"


@pytest.mark.parametrize("name", ["y", "h_n", "dx", "dh0", "dc0", "weight_ih_l0", "bias_hh_l0"])
def test_one_part_in_a_thousand_of_one_tensor_is_found_and_named(name, few_cases):
    verification = verify(broken(**{name: lambda array: array * 1.001}))
    assert not verification.passed
    failing = {t for t, (far, _) in verification.worst.items() if far > K}
    assert {verification.names[tensor] for tensor in failing} == {name}


def test_the_step_of_a_divergence_is_known_from_y_and_dx():
    def wrong(array):
        array[1] *= 1.01
        return array

    assert verify_case(broken(dx=wrong), CASE).first.step == 1
    first = verify_case(broken(y=wrong), CASE).first
    assert (first.tensor, first.step) == ("h", 1)


def test_intermediates_lead_nearer_to_the_fault():
    def wrong_f(w, *given):
        loss, d, dh0, dc0, states = original(w, *given)
        return loss, d, dh0, dc0, [s | {"f": s["f"] * (1 + (t == 2))} for t, s in enumerate(states)]

    original = handwritten.column_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handwritten, "column_model", wrong_f)
        columns = adapter_of(handwritten.columns, "columns")
        first = verify_case(columns, Case((4, 1, 3, 5), "float64", 1.0, 0)).first
    assert (first.tensor, first.step, first.distance > 1e10) == ("da_f", 2, True)


def test_what_is_not_returned_or_not_taken_is_named():
    verification = verify(adapter_of(handwritten.pairs, "pairs"))
    assert verification.passed
    assert verification.not_returned == ("h_n", "c_n", "dh0", "dc0")
    assert verification.not_taken == (
        "h0 (zero)",
        "c0 (zero)",
        "dh_n (not applied)",
        "dc_n (not applied)",
        "lengths (all T)",
    )
    assert "da_f" in verification.intermediates


def test_what_stands_beyond_a_length_is_ignored(few_cases):
    def mine(weights, x, h0, c0, dy, dh_n, dc_n, lengths):
        result = handwritten.our_layer(weights, x, h0, c0, dy, dh_n, dc_n, lengths)
        beyond = np.arange(len(x))[:, None] >= lengths
        result["y"][beyond] = np.nan
        return result

    assert verify(adapter_of(mine, "mine")).passed


def test_lengths_that_are_taken_but_ignored_are_found(few_cases):
    def mine(weights, x, h0, c0, dy, dh_n, dc_n, lengths):
        return handwritten.our_layer(weights, x, h0, c0, dy, dh_n, dc_n, None)

    verification = verify(adapter_of(mine, "mine"))
    assert {case.ragged for case, _ in verification.divergences} == {True}


def test_a_state_kept_between_calls_is_told():
    kept = []

    def mine(weights, x, h0, c0, dy, dh_n, dc_n):
        h0 = kept[-1] if kept and kept[-1].shape == h0.shape else h0
        result = handwritten.our_layer(weights, x, h0, c0, dy, dh_n, dc_n, None)
        kept.append(result["h_n"])
        return result

    result = verify_case(adapter_of(mine, "mine"), CASE)
    assert result.first is None
    assert result.complaint.startswith(
        "two calls with the same inputs differ, first in y at index [0, 0, 0]: "
    )
    assert result.complaint.endswith("; expected that nothing is kept from call to call")


def test_two_calls_that_differ_within_rounding_are_a_note():
    calls = []

    def mine(weights, x, dy):
        result = handwritten.pairs(weights, x, dy)
        calls.append(1)
        return result | {"y": result["y"] * (1 + (len(calls) % 2) * 2**-52)}

    result = verify_case(adapter_of(mine, "mine"), CASE)
    assert result.passed
    assert result.notes[0].endswith(", within rounding")


def test_a_second_call_that_raises_is_told():
    calls = []

    def mine(weights, x, dy):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("already used")
        return handwritten.pairs(weights, x, dy)

    complaint = verify_case(adapter_of(mine, "mine"), CASE).complaint
    assert complaint.startswith("in a second call with the same inputs: raises RuntimeError: alrea")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arithmetic_in_one_dtype_whatever_is_given_is_a_note(dtype, few_cases):
    @adapter(bias_pair=False)
    def mine(weights, x, h0, c0, dy, dh_n, dc_n):
        weights = {name: array.astype(dtype) for name, array in weights.items()}
        given = (array.astype(dtype) for array in (x, h0, c0, dy, dh_n, dc_n))
        return handwritten.stacked(weights, *given)

    verification = verify(adapter_of(mine, "mine"))
    assert verification.passed, verification.divergences[:1]
    other = {np.float32: "float64", np.float64: "float32"}[dtype]
    (note,) = verification.notes
    assert note.startswith(f"{other} in, {np.dtype(dtype)} out: y, h_n, c_n, ")


def test_the_verdict_as_json(few_cases):
    verification = verify(adapter_of(handwritten.forgetful, "forgetful"))
    result = json.loads(json.dumps(verification.to_json(), allow_nan=False))
    assert (result["adapter"], result["passed"], result["allowed"]) == ("forgetful", False, K)
    assert result["first_divergence"]["tensor"] == "dW_hh"
    assert result["first_divergence"]["sentence"].startswith("dW_hh at total, index [")
    assert result["first_divergence"]["case"] == result["cases"][0]["name"]
    assert result["worst"]["dW_hh"]["returned_as"] == "weight_hh_l0"
    assert result["worst"]["dx"]["distance"] < K < result["worst"]["dW_hh"]["distance"]
    assert all(case["distances"].keys() == result["worst"].keys() for case in result["cases"])


# The command


@pytest.fixture
def command(monkeypatch, capsys):
    """The command in this process: from arguments to exit status, standard output and error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setenv("COLUMNS", "120")
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def run_in_a_process(*arguments):
    command = [sys.executable, "-m", "torch_oracle", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


def test_a_right_lstm_exits_0_within_seconds(tmp_path):
    start = time.perf_counter()
    result = run_in_a_process(
        "verify", "parity_tests.support.handwritten:pairs", "--json", tmp_path / "verdict.json"
    )
    assert time.perf_counter() - start < 30  # 2 s on an idle machine
    assert result.returncode == 0, result.stderr
    assert "parity_tests.support.handwritten:pairs: passed (13 cases, 7 tensors, layer form)" in (
        result.stdout
    )
    assert "not judged, since not returned: h_n, c_n, dh0, dc0" in result.stdout
    assert "not tried, since not among the parameters: h0 (zero), c0 (zero), dh_n" in result.stdout
    assert json.loads((tmp_path / "verdict.json").read_text())["passed"] is True


def test_a_wrong_lstm_exits_1_with_the_divergence_in_a_sentence():
    result = run_in_a_process("verify", "parity_tests.support.handwritten:forgetful")
    assert result.returncode == 1
    assert "first divergence, in T1-N2-I3-H4-float64-x1-seed0:" in result.stdout
    assert "dW_hh at total, index [" in result.stdout
    assert "(returned as weight_hh_l0)" in result.stdout
    assert "divergent: 12 of 13 cases" in result.stdout
    assert "return these too to narrow it down: a_i, a_f, " in result.stdout
    assert "parity_tests.support.handwritten:forgetful: FAILED" in result.stdout


def test_a_complaint_exits_1_and_is_printed_once(command, tmp_path, monkeypatch):
    source = "def mine(weights, x):\n    return {'y': x[:, 0, :] * float('nan')}\n"
    (tmp_path / "module_with_a_complaint.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    status, output, _ = command("verify", "module_with_a_complaint:mine")
    assert status == 1
    sentence = (
        "complaint: module_with_a_complaint:mine returns y of the wrong shape: expected"
        " [T, N, H] = [1, 2, 4],"
    )
    assert output.count(sentence) == 1
    assert "module_with_a_complaint:mine: FAILED (13 cases, 0 tensors, layer form)" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent:f"], "error: absent:f: there is no module 'absent' here or in "),
        (["nothing"], "error: nothing: expected package.module:name or file.py:name, such as my_"),
        (
            ["parity_tests.support.handwritten:pairs", "--json", "absent/folder/x.json"],
            "error: absent/folder/x.json: cannot be written (there is no folder absent/folder)",
        ),
    ],
)
def test_unusable_input_exits_2_with_one_line(arguments, message, command):
    status, output, error = command("verify", *arguments)
    assert (status, output) == (2, "")
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_an_unknown_subcommand_exits_2(command):
    status, *_ = command("judge")
    assert status == 2


def own(weights, x, h0, c0):
    """A correct layer, outputs alone."""
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b, h, c, y = weights["bias_ih_l0"] + weights["bias_hh_l0"], h0, c0, []
    for x_t in x:
        i, f, g, o = np.split(x_t @ W.T + h @ U.T + b, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-a)) for a in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        y.append(h)
    return {"y": np.stack(y), "h_n": h, "c_n": c}


def narrow_beside_wrong(weights, x, h0, c0):
    """One array in float32 must not excuse an error of 3e-7 in a float64 one."""
    result = own(weights, x, h0, c0)
    return result | {"y": result["y"] * (1 + 3e-7), "h_n": result["h_n"].astype(np.float32)}


def half(weights, x, h0, c0):
    return {"h_n": own(weights, x, h0, c0)["h_n"].astype(np.float16)}


def overflowing(weights, x, h0, c0):
    """exp(a) / (1 + exp(a)) is NaN where exp overflows."""
    result = own(weights, x, h0, c0)
    with np.errstate(all="ignore"):
        nan = sum(np.exp(w).sum() * 0 for n, w in weights.items() if n.startswith("bias"))
    return {name: array + nan for name, array in result.items()}


def test_each_array_is_judged_in_its_own_dtype(few_cases):
    assert verify(adapter_of(own, "own")).passed
    wrong = verify(adapter_of(narrow_beside_wrong, "wrong"))
    assert not wrong.passed
    assert {divergence.tensor for _, divergence in wrong.divergences} == {"h"}


def test_half_precision_is_refused(few_cases):
    (complaint,) = verify(adapter_of(half, "half")).complaints
    assert complaint.startswith("returns h_n of dtype float16; expected float32 or float64")


def test_arguments_beyond_the_range_of_exp_are_tried(few_cases):
    verification = verify(adapter_of(overflowing, "overflowing"))
    assert not verification.passed
    assert {case.loud for case, _ in verification.divergences} == {True}


def lists_of_tensors(weights, x, h0, c0):
    return {"y": [torch.zeros(2, requires_grad=True)] * len(x)}


def weights_to_lists(weights, x, h0, c0):
    result = own(weights, x, h0, c0)
    weights["weight_hh_l0"] = weights["weight_hh_l0"].tolist()
    return result


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lists_of_tensors, "returns y as a list; expected an array of floating numbers"),
        (weights_to_lists, "changes its input weights['weight_hh_l0'], first at index []"),
    ],
)
def test_what_is_no_array_is_told(function, said, few_cases):
    (complaint,) = verify(adapter_of(function, "mine")).complaints
    assert complaint.startswith(said)


def leaving():
    raise SystemExit(0)


def test_a_factory_that_leaves_python_does_not_pass():
    with pytest.raises(InputError, match="leaving: calling it raises SystemExit"):
        adapter_of(leaving, "leaving")


def test_a_case_that_cannot_be_judged_does_not_pass(few_cases):
    result = verify(adapter_of(own, "own")).results[0]
    lost = replace(result, comparison=replace(result.comparison, undetermined=("a_i", 0)))
    assert result.passed
    assert not lost.passed
