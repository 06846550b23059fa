"""`pytest --verify-lstm`, in processes of its own and in folders that are not this project's."""

import importlib.util
import os
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
def folder(tmp_path):
    """A user's folder, with adapters and a test of the user's own."""
    (tmp_path / "adapters_of_a_user.py").write_text(SOURCE)
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    return tmp_path


def run(folder, *arguments):
    """Loaded by its module's name, so that it is the same with and without the entry point."""
    plugin = ("-p", "no:verify_lstm", "-p", "torch_oracle.pytest_plugin")
    command = [sys.executable, "-m", "pytest", *plugin, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "250"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_a_right_lstm_passes_beside_the_users_own_tests(folder):
    result = run(folder, "-v", "--verify-lstm", "adapters_of_a_user:pairs")
    assert result.returncode == 0, result.stdout
    assert "test_own.py::test_own PASSED" in result.stdout
    assert "adapters_of_a_user:pairs::T1-N2-I3-H4-float64-x1-seed0::call PASSED" in result.stdout
    assert "adapters_of_a_user:pairs::T12-N4-I3-H7-float64-x1-seed11::dW_hh PASSED" in result.stdout
    assert "105 passed" in result.stdout  # 13 cases of 7 tensors and a call


def test_a_wrong_one_fails_with_the_sentence_and_no_traceback(folder):
    result = run(folder, "--verify-lstm", "adapters_of_a_user:forgetful", "--junitxml=junit.xml")
    assert result.returncode == 1
    assert "12 failed" in result.stdout
    assert "Traceback" not in result.stdout
    assert ".py:" not in result.stdout
    suite = ElementTree.parse(folder / "junit.xml").getroot()
    failures = {case: case.find("failure") for case in suite.iter("testcase")}
    failures = {case: f.text for case, f in failures.items() if f is not None}
    assert {case.get("name") for case in failures} == {"dW_hh"}
    for text in failures.values():
        assert text.startswith("dW_hh at total, index [")
        assert text.endswith(", allowed 16 (returned as weight_hh_l0)")
        assert text.count("\n") == 0


def test_k_selects_by_the_tensor_and_by_the_adapters_own_name(folder):
    for name in ("dW_hh", "weight_hh_l0"):
        option = ("--verify-lstm", "adapters_of_a_user:our_layer", "-k", f"{name} and float32")
        result = run(folder, *option)
        assert "5 passed" in result.stdout, result.stdout


def test_several_processes_collect_the_same_and_x_stops(folder):
    both = [f"--verify-lstm=adapters_of_a_user:{name}" for name in ("pairs", "our_layer")]
    result = run(folder, "-n", "2", *both)
    assert result.returncode == 0, result.stdout
    assert "261 passed" in result.stdout
    result = run(folder, "-x", "--verify-lstm", "adapters_of_a_user:forgetful")
    assert "1 failed" in result.stdout


def test_the_full_mode_has_more_cases(folder):
    option = ("--verify-lstm", "adapters_of_a_user:pairs", "--verify-lstm-full")
    result = run(folder, "--collect-only", "-q", *option)
    assert "T64-N3-I10-H16-float32-x4-seed" in result.stdout
    assert "777 tests collected" in result.stdout


def test_a_complaint_fails_every_call_with_its_sentence(folder):
    result = run(folder, "--verify-lstm", "adapters_of_a_user:raises")
    assert "13 failed, 1 passed" in result.stdout
    assert "adapters_of_a_user:raises raises RuntimeError: not today (" in result.stdout


def test_a_call_that_leaves_something_behind_fails_beside_right_tensors(folder):
    result = run(folder, "--verify-lstm", "adapters_of_a_user:forgets")
    assert "1 failed, 104 passed" in result.stdout
    sentence = "adapters_of_a_user:forgets two calls with the same inputs differ, first in y at"
    assert sentence in result.stdout


def test_what_cannot_be_loaded_is_one_failure_with_its_sentence(folder):
    result = run(folder, "--verify-lstm", "adapters_of_a_user:pears")
    assert "1 failed, 1 passed" in result.stdout
    assert "adapters_of_a_user has no 'pears'; did you mean pairs?" in result.stdout


def test_without_the_option_nothing_is_imported(folder):
    result = run(folder)
    assert "1 passed" in result.stdout, result.stdout
    assert not (folder / "imported").exists()
    program = "import sys, torch_oracle.pytest_plugin; print({'torch', 'numpy'} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "set()\n"


def test_the_entry_point_is_declared_and_left_out_of_this_projects_own_run(request):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (target,) = settings["project"]["entry-points"]["pytest11"].values()
    assert importlib.util.find_spec(target) is not None
    assert not request.config.pluginmanager.hasplugin("verify_lstm")
