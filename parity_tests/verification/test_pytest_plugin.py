"""`pytest --verify-lstm`, in folders that are not this project's."""

import importlib.util
import os
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import torch_oracle.verification.verify  # loaded once, for all runs in this process
from parity_tests.support import handwritten

pytest_plugins = ["pytester"]

assert torch_oracle.verification.verify
assert handwritten
pytestmark = pytest.mark.usefixtures("without_type_checks")
ROOT = Path(__file__).parents[2]
PLUGIN = ("-p", "no:verify_lstm", "-p", "torch_oracle.pytest_plugin")
"""Loaded by its module's name, so that it is the same with and without the entry point."""
SOURCE = """
import pathlib
from parity_tests.support.handwritten import forgetful, our_layer, pairs

with pathlib.Path(__file__).with_name("imported").open("a") as file:
    file.write("x")

def raises(weights, x):
    raise RuntimeError("not today")

calls = []
def forgets(weights, x, dy):
    calls.append(1)
    result = pairs(weights, x, dy)
    return result | {"y": result["y"] + (len(calls) == 3)}
"""


@pytest.fixture
def folder(pytester, monkeypatch):
    """A user's folder, with adapters and a test of the user's own; runs are in this process."""
    pytester.makepyfile(adapters_of_a_user=SOURCE, test_own="def test_own():\n    pass\n")
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return pytester


def run(folder, *arguments):
    quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # we are imported already
    return folder.runpytest_inprocess(*PLUGIN, *quiet, *arguments)


def run_in_a_process(folder, *arguments):
    command = [sys.executable, "-m", "pytest", *PLUGIN, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.path, env=environment)


def test_a_right_lstm_passes_beside_the_users_own_tests(folder):
    result = run(folder, "-v", "--verify-lstm", "adapters_of_a_user:pairs")
    assert result.ret == 0
    text = result.stdout.str()
    assert "test_own.py::test_own PASSED" in text
    assert "adapters_of_a_user:pairs::T1-N2-I3-H4-float64-x1-seed0::call PASSED" in text
    assert "adapters_of_a_user:pairs::T12-N4-I3-H7-float64-x1-seed11::dW_hh PASSED" in text
    assert "105 passed" in text  # 13 cases of 7 tensors and a call


def test_a_wrong_one_fails_with_the_sentence_and_no_traceback(folder, few_cases):
    result = run(folder, "--verify-lstm", "adapters_of_a_user:forgetful", "--junitxml=junit.xml")
    assert result.ret == 1
    text = result.stdout.str()
    assert "3 failed" in text  # not the loud case
    assert "Traceback" not in text
    assert ".py:" not in text
    suite = ElementTree.parse(folder.path / "junit.xml").getroot()
    failures = {case: case.find("failure") for case in suite.iter("testcase")}
    failures = {case: f.text for case, f in failures.items() if f is not None}
    assert {case.get("name") for case in failures} == {"dW_hh"}
    for text in failures.values():
        assert text.startswith("dW_hh at total, index [")
        assert text.endswith(", allowed 16 (returned as weight_hh_l0)")
        assert text.count("\n") == 0


def test_k_selects_by_the_tensor_and_by_the_adapters_own_name(folder, few_cases):
    for name in ("dW_hh", "weight_hh_l0"):
        option = ("--verify-lstm", "adapters_of_a_user:our_layer", "-k", f"{name} and float32")
        assert "1 passed" in run(folder, *option).stdout.str()


def test_several_processes_collect_the_same(folder):
    both = [f"--verify-lstm=adapters_of_a_user:{name}" for name in ("pairs", "our_layer")]
    result = run_in_a_process(folder, "-n", "2", "-k", "T1-N2", *both)
    assert result.returncode == 0, result.stdout
    assert "40 passed" in result.stdout  # 2 cases of 7 and 11 tensors and their calls


def test_x_stops_at_the_first_failure(folder, few_cases):
    result = run(folder, "-x", "--verify-lstm", "adapters_of_a_user:forgetful")
    assert "1 failed" in result.stdout.str()


def test_the_full_mode_has_more_cases(folder):
    option = ("--verify-lstm", "adapters_of_a_user:pairs", "--verify-lstm-full")
    text = run(folder, "--collect-only", "-q", *option).stdout.str()
    assert "T64-N3-I10-H16-float32-x4-seed" in text
    assert "777 tests collected" in text


def test_a_complaint_fails_every_call_with_its_sentence(folder):
    result = run(folder, "--verify-lstm", "adapters_of_a_user:raises")
    result.assert_outcomes(failed=13, passed=1)
    sentence = "adapters_of_a_user:raises raises RuntimeError: not today ("
    assert sentence in result.stdout.str()


def test_a_call_that_leaves_something_behind_fails_beside_right_tensors(folder, few_cases):
    result = run(folder, "--verify-lstm", "adapters_of_a_user:forgets")
    result.assert_outcomes(failed=1, passed=32)  # 4 cases of 7 tensors and a call
    sentence = "adapters_of_a_user:forgets two calls with the same inputs differ, first in y at"
    assert sentence in result.stdout.str()


def test_what_cannot_be_loaded_is_one_failure_with_its_sentence(folder):
    result = run(folder, "--verify-lstm", "adapters_of_a_user:pears")
    result.assert_outcomes(failed=1, passed=1)
    sentence = "adapters_of_a_user has no 'pears'; did you mean pairs?"
    assert sentence in result.stdout.str()


def test_without_torch_the_option_is_a_usage_error_and_no_verdict(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    result = run(folder, "--verify-lstm", "adapters_of_a_user:pairs")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: --verify-lstm: this needs the package torch, which is not installed;"
        " pip install 'numpy-lstm[verify]'"
    ) in result.stderr.str()
    run(folder).assert_outcomes(passed=1)


def test_without_the_option_nothing_is_imported(folder):
    result = run_in_a_process(folder)
    assert "1 passed" in result.stdout, result.stdout
    assert not (folder.path / "imported").exists()
    program = "import sys, torch_oracle.pytest_plugin; print({'torch', 'numpy'} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "set()\n"


def test_the_entry_point_is_declared_and_left_out_of_this_projects_own_run(request):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (target,) = settings["project"]["entry-points"]["pytest11"].values()
    assert importlib.util.find_spec(target) is not None
    assert not request.config.pluginmanager.hasplugin("verify_lstm")
