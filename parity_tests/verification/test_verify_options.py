"""Options of `lstm-oracle verify` for an LSTM that raises, hangs, or fails in one case."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from numpy_lstm.commands.reporting import one_line_errors
from torch_oracle.commands.main import main
from torch_oracle.verification import watch

pytestmark = pytest.mark.usefixtures("without_type_checks", "one_case")

SOURCE = """
import time

from parity_tests.support.handwritten import pairs

def raises(weights, x):
    return helper(x)

def helper(x):
    raise ValueError("not today")

def hangs(weights, x):
    while True:
        try:
            time.sleep(10)
        except Exception:
            pass

def slow(weights, x):
    time.sleep(0.3)
    return {"y": pairs(weights, x, x[..., :1] * weights["weight_hh_l0"][0])["y"]}

def wrong(weights, x, dy):
    result = pairs(weights, x, dy)
    return {"y": result["y"], "dx": result["dx"] * 1.01}
"""
CASE = "T1-N2-I3-H4-float64-x1-seed0"


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """The command in this process and in a user's folder: status, standard output and error."""
    (tmp_path / "lstms_of_a_user.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        with pytest.raises(SystemExit) as stop, one_line_errors():
            raise SystemExit(main(["verify", *arguments]))
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    yield run
    sys.modules.pop("lstms_of_a_user", None)


def test_what_an_lstm_raises_is_a_line_with_its_place_and_a_traceback_if_asked_for(command):
    status, out, err = command("lstms_of_a_user.py:raises")
    place = f"lstms_of_a_user.py:{1 + SOURCE[: SOURCE.index('raise ValueError')].count(chr(10))}"
    assert (status, err) == (1, "")
    assert "complaint: lstms_of_a_user.py:raises raises ValueError: not today (" in out
    assert place in out
    assert out.endswith("now run the same with --traceback to see where that was raised\n")
    status, _, err = command("lstms_of_a_user.py:raises", "--traceback")
    assert status == 1
    assert err.startswith("Traceback (most recent call last)")
    assert "return helper(x)" in err


def test_a_module_that_raises_has_its_traceback_too(command, tmp_path):
    (tmp_path / "broken_lstms.py").write_text("import no_such_package\n")
    status, _, err = command("broken_lstms.py:f", "--traceback", "--json", "verdict.json")
    assert status == 2
    assert "import no_such_package" in err
    error = err.splitlines()[-1]
    assert error.startswith("error: broken_lstms.py:f: importing broken_lstms raises ModuleNotFo")
    written = json.loads((tmp_path / "verdict.json").read_text())
    expected = {"adapter": "broken_lstms.py:f", "status": "unusable"}
    assert written == expected | {"error": error.removeprefix("error: ")}


def test_an_lstm_that_hangs_is_stopped_and_named(command, tmp_path):
    start = time.perf_counter()
    arguments = ("--timeout", "0.2", "--json", "verdict.json", "--html", "page.html")
    status, out, _ = command("lstms_of_a_user.py:hangs", *arguments)
    assert time.perf_counter() - start < 9
    assert status == 1
    sentence = "lstms_of_a_user.py:hangs did not return within 0.2 s; no other case was run"
    assert f"complaint: {sentence} [{CASE}]" in out
    assert (tmp_path / "page.html").is_file()
    written = json.loads((tmp_path / "verdict.json").read_text())
    assert (written["status"], len(written["cases"])) == ("failed", 1)


def test_it_is_said_which_case_takes_long(command, monkeypatch):
    monkeypatch.setattr(watch, "PATIENCE", 0.05)
    _, _, err = command("lstms_of_a_user.py:slow", "--case", CASE)
    running = f"lstms_of_a_user.py:slow in case {CASE}"
    assert err == f"still running after 0.05 s: {running} (--timeout SECONDS stops it)\n"


def test_one_case_runs_alone(command):
    name = "T64-N5-I33-H48-float32-x4-seed101"
    status, out, err = command("lstms_of_a_user.py:wrong", "--case", name.replace("seed101", "s"))
    assert (status, out) == (2, "")
    assert err.startswith("error: --case: there is no case 'T64-N5-I33-H48-float32-x4-s' for lstms")
    assert "; did you mean T64-N5-I33-H48-float32-x4-seed" in err
    status, out, _ = command("lstms_of_a_user.py:wrong", "--case", CASE)
    assert status == 1
    assert "lstms_of_a_user.py:wrong: FAILED (1 cases, 3 tensors, layer form)" in out
    assert out.endswith(
        "now run `lstm-oracle diagnose lstms_of_a_user.py:wrong` to see which fault it is\n"
    )


def test_a_failing_case_is_saved_with_a_script_that_runs_it(command, tmp_path, monkeypatch):
    status, out, _ = command("lstms_of_a_user.py:wrong", "--save", "failing")
    assert status == 1
    script = f"failing/{CASE}.py"
    assert f"the first failing case is in failing; run `python {script}`\n" in out
    with np.load(tmp_path / "failing" / f"{CASE}.npz") as archive:
        arrays = dict(archive)
    assert arrays["arguments/x"].shape == (1, 2, 3)
    assert arrays["weights/weight_hh_l0"].shape == (16, 4)
    assert arrays["torch/dx"].shape == (1, 2, 3)
    command_line = [sys.executable, str(tmp_path / script)]
    # The user's LSTM of this test is built of one in parity_tests, which no installation holds.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    shown = subprocess.run(command_line, capture_output=True, text=True, check=True).stdout
    y, dx = shown.splitlines()
    assert float(y.removeprefix("y: largest difference from PyTorch ")) < 1e-14
    assert 1e-4 < float(dx.removeprefix("dx: largest difference from PyTorch ")) < 1e-1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--timeout", "0"), "error: --timeout: expected more than 0 s, got 0\n"),
        (("--save", "absent/folder"), "absent/folder: cannot be made (there is no folder absent)"),
        (("--save", "lstms_of_a_user.py"), "expected the name of a folder, got that of a file"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(arguments, message, command):
    status, out, err = command("lstms_of_a_user.py:wrong", *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_no_name_is_folded_at_80_columns(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = command("torch.nn:LSTM")
    (row,) = [line for line in out.splitlines() if line.strip().startswith("dW_hh ")]
    name, returned_as, distance, case = row.split()
    assert (name, returned_as) == ("dW_hh", "weight_hh_l0")
    assert float(distance) < 16
    assert case.startswith("T1-N2-I3-H5-float64-x1-")
    assert case.endswith("seed0")
