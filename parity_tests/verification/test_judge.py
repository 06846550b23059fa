"""The door for Python: `from torch_oracle import verify, diagnose, assert_correct`."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import torch_oracle
from numpy_lstm.errors import InputError
from parity_tests.support import handwritten
from torch_oracle import assert_correct, diagnose, verify
from torch_oracle.adapters import adapter_of
from torch_oracle.verification.outputs import AdapterError

pytestmark = pytest.mark.usefixtures("without_type_checks", "one_case")


class MyLSTM(torch.nn.LSTM):
    """A class whose modules ask for their sizes."""

    def __init__(self, hidden_size, input_size):
        super().__init__(input_size, hidden_size)


def fails(weights, x):
    raise RuntimeError("not today")


RIGHT = {
    "a function": handwritten.pairs,
    "a function that is an adapter": handwritten.columns,
    "a class of torch's": torch.nn.LSTM,
    "a module": torch.nn.LSTMCell(3, 5),
    "a class of modules": handwritten.BatchFirst,
    "a class that asks for its sizes": MyLSTM,
    "a specification": "parity_tests.support.handwritten:pairs",
    "an adapter": adapter_of(handwritten.pairs, "mine"),
}


@pytest.mark.parametrize("lstm", RIGHT.values(), ids=RIGHT)
def test_a_right_lstm_passes_in_every_form_in_which_people_have_one(lstm):
    assert_correct(lstm)


def test_the_verdict_is_an_object_for_those_who_want_one():
    right = verify(handwritten.pairs)
    wrong = verify("parity_tests.support.handwritten:forgetful")
    assert (right.passed, wrong.passed) == (True, False)


def test_a_wrong_lstm_raises_the_verdict_and_the_first_divergence():
    with pytest.raises(AssertionError) as caught:
        assert_correct(handwritten.forgetful)
    verdict, first, sentence, count, hint = str(caught.value).split("\n")
    name = "parity_tests.support.handwritten:forgetful"
    assert verdict == f"{name}: FAILED (2 cases, 11 tensors, layer form)"
    assert first == "first divergence, in T1-N2-I3-H4-float64-x1-seed0:"
    assert sentence.startswith("  dW_hh at total, index [")
    assert count == "  divergent: 1 of 2 cases"
    assert hint == "assert_correct(..., diagnose=True) says which fault it is"


def test_the_diagnosis_is_in_the_message_if_asked_for():
    def with_swapped_gates(weights, x, h0, c0, dy):
        swapped = {}
        for name, array in weights.items():
            i, f, g, o = np.split(array, 4)
            swapped[name] = np.concatenate([f, i, g, o])
        nothing = np.zeros_like(h0)
        lengths = np.full(len(h0), len(x))
        return {"y": handwritten.our_layer(swapped, x, h0, c0, dy, nothing, nothing, lengths)["y"]}

    with pytest.raises(AssertionError) as caught:
        assert_correct(with_swapped_gates, diagnose=True)
    text = str(caught.value)
    assert text.startswith("with_swapped_gates: FAILED")
    assert "with_swapped_gates: Everything that is wrong is explained" in text
    assert "\n1. " in text
    assert "gates-read-as-figo" in text
    found = diagnose(with_swapped_gates)
    assert (found.status, len(found.findings)) == ("explained", 1)


def test_what_an_lstm_raises_is_the_cause_of_the_assertion():
    with pytest.raises(AssertionError, match="fails raises RuntimeError") as caught:
        assert_correct(fails, diagnose=True)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "no diagnosis: " in str(caught.value)
    with pytest.raises(AdapterError, match="raises RuntimeError: not today"):
        diagnose(fails)


@pytest.mark.parametrize("lstm", [None, 3, "absent.py:f", lambda anything: 0])
def test_what_is_no_lstm_is_no_verdict(lstm):
    with pytest.raises(InputError):
        assert_correct(lstm)


def test_importing_the_package_loads_nothing_and_rooms_do_not_take_the_functions_place():
    program = """
import sys, torch_oracle
print({"torch", "numpy"} & set(sys.modules))
import torch_oracle.verification.verify, torch_oracle.diagnosis.diagnose
from torch_oracle import assert_correct, diagnose, verify
print(verify.__module__, diagnose.__module__, assert_correct.__module__)
"""
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output == f"set()\n{' '.join(3 * ['torch_oracle.judge'])}\n"


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="no attribute 'verdict'"):
        torch_oracle.verdict  # noqa: B018
