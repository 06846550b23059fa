"""`pytest --verify-lstm`, in folders that are not this project's."""

import importlib.util
import os
import re
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
from parity_tests.support.handwritten import our_layer, pairs

with pathlib.Path(__file__).with_name("imported").open("a") as file:
    file.write("x")

def raises(weights, x):
    raise RuntimeError("not today")

def offset(weights, x, dy):
    result = pairs(weights, x, dy)
    return result | {"dx": result["dx"] * 1.001}

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
    assert "adapters_of_a_user.py::pairs[call-T1-N2-I3-H4-float64-x1-seed0] PASSED" in text
    assert "adapters_of_a_user.py::pairs[dW_hh-T12-N4-I3-H7-float64-x1-seed11] PASSED" in text
    assert "105 passed" in text  # 13 cases of 7 tensors and a call


def test_a_wrong_one_fails_with_the_sentence_and_no_traceback(folder, few_cases):
    junit = ("--junitxml=junit.xml", "-o", "junit_family=xunit1")
    result = run(folder, "--verify-lstm", "adapters_of_a_user:offset", *junit)
    assert result.ret == 1
    text = result.stdout.str()
    assert "4 failed" in text
    assert "Traceback" not in text
    suite = ElementTree.parse(folder.path / "junit.xml").getroot()
    source = (folder.path / "adapters_of_a_user.py").read_text()
    line = source[: source.index("def offset")].count("\n")
    for case in suite.iter("testcase"):
        failure = case.find("failure")
        if failure is None:
            continue
        assert case.get("name").startswith("offset[dx-T")
        assert (case.get("file"), case.get("line")) == ("adapters_of_a_user.py", str(line))
        sentence, place, advice = failure.text.split("\n")
        assert re.match(r"dx at step \d+ \(of 0 to \d+\), index \[", sentence)
        assert place == f"the adapter is in {folder.path / 'adapters_of_a_user.py'}:{line + 1}"
        assert advice == (
            "run `lstm-oracle diagnose adapters_of_a_user:offset` to see which fault it is"
        )


def test_a_line_of_the_summary_says_what_is_wrong_before_it_is_cut(folder, one_case, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("CI", raising=False)
    text = run(folder, "--verify-lstm", "adapters_of_a_user:offset").stdout.str()
    id = "adapters_of_a_user.py::offset[dx-T1-N2-I3-H4-float64-x1-seed0]"
    (line,) = [line for line in text.splitlines() if line.startswith(f"FAILED {id}")]
    assert re.fullmatch(r".* - wrong by \d\S*( roundoffs|\.\.\.| rou.*)", line), line


def test_last_failed_failed_first_and_node_ids_choose(folder, one_case):
    offset = ("--verify-lstm", "adapters_of_a_user:offset")
    run(folder, *offset).assert_outcomes(failed=2, passed=15)
    run(folder, *offset, "--lf").assert_outcomes(failed=2)
    shown = run(folder, *offset, "--ff", "-v").stdout.str()
    assert shown.count("FAILED") == 2 + 2  # of each a line of progress and one of the summary
    assert "PASSED" not in shown[: shown.index("-loud-seed0] FAILED")]
    id = "adapters_of_a_user.py::offset[dx-T1-N2-I3-H4-float64-x1-seed0]"
    run(folder, *offset, id).assert_outcomes(failed=1)
    run(folder, *offset, f"./{id}", "test_own.py::test_own").assert_outcomes(failed=1, passed=1)
    run(folder, *offset, "adapters_of_a_user.py::offset").assert_outcomes(failed=2, passed=14)


def test_a_node_id_of_no_test_is_a_usage_error(folder, one_case):
    id = "adapters_of_a_user.py::offset[dy-T1]"
    result = run(folder, "--verify-lstm", "adapters_of_a_user:offset", id)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: not found: {id}" in result.stderr.str()


def test_an_adapter_is_named_by_its_file_too_and_torchs_own_class_needs_none(folder, one_case):
    result = run(folder, "--verify-lstm", "./adapters_of_a_user.py:offset")
    result.assert_outcomes(failed=2, passed=15)
    result = run(folder, "-v", "-k", "T1-N2", "--verify-lstm", "torch.nn:LSTMCell")
    assert "torch.nn:LSTMCell::LSTMCell[call-T1-N2-I3-H5-float64-x1-seed0] PASSED" in (
        result.stdout.str()
    )


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
    result = run(folder, "-x", "--verify-lstm", "adapters_of_a_user:offset")
    assert "1 failed" in result.stdout.str()


def test_the_full_mode_has_more_cases(folder):
    option = ("--verify-lstm", "adapters_of_a_user:pairs", "--verify-lstm-full")
    text = run(folder, "--collect-only", "-q", *option).stdout.str()
    assert "T64-N3-I10-H16-float32-x4-seed" in text
    assert "777 tests collected" in text


def test_a_complaint_fails_every_call_with_its_sentence(folder, one_case):
    raises = ("--verify-lstm", "adapters_of_a_user:raises")
    result = run(folder, *raises)
    result.assert_outcomes(failed=2, passed=1)
    sentence = "adapters_of_a_user:raises raises RuntimeError: not today ("
    assert sentence in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
    shown = run(folder, *raises, "--tb=long").stdout.str()
    assert shown.count("Traceback (most recent call last)") == 2
    assert 'raise RuntimeError("not today")' in shown


def test_a_call_that_leaves_something_behind_fails_beside_right_tensors(folder, few_cases):
    result = run(folder, "--verify-lstm", "adapters_of_a_user:forgets")
    result.assert_outcomes(failed=1, passed=32)  # 4 cases of 7 tensors and a call
    sentence = "adapters_of_a_user:forgets two calls with the same inputs differ, first in y at"
    assert sentence in result.stdout.str()


def test_what_cannot_be_loaded_is_an_error_and_no_verdict(folder):
    result = run(folder, "--verify-lstm", "adapters_of_a_user:pears")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
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


PROBE = """
def pytest_sessionfinish():
    import sys
    rooms = [name for name in sys.modules if name.startswith(("numpy_lstm", "torch_oracle."))]
    print("loaded:", sorted({"torch", "numpy", "scipy", "rich"} & set(sys.modules)), rooms)
"""


def test_without_the_option_nothing_is_imported(folder):
    (folder.path / "conftest.py").write_text(PROBE)
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:jaxtyping"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder.path)
    assert "1 passed" in result.stdout, result.stdout
    assert not (folder.path / "imported").exists()
    assert "loaded: [] ['torch_oracle.pytest_plugin']\n" in result.stdout


def test_the_entry_point_is_declared_and_its_option_known_in_this_project_too(request):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (target,) = settings["project"]["entry-points"]["pytest11"].values()
    assert importlib.util.find_spec(target) is not None
    assert request.config.pluginmanager.hasplugin("verify_lstm")
    assert request.config.option.verify_lstm == []


def test_annotations_are_checked_in_every_room_of_the_oracle():
    """The plugin is imported before the checks begin, so that they name the rooms one by one."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (option,) = [
        each
        for each in settings["tool"]["pytest"]["ini_options"]["addopts"]
        if each.startswith("--jaxtyping-packages=")
    ]
    rooms = {path.parent.name for path in (ROOT / "torch_oracle").glob("*/__init__.py")}
    assert {f"torch_oracle.{room}" for room in rooms} <= set(re.split("[=,]", option))
