"""The commands from a zip, and from compiled files alone."""

import compileall
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from unittest import mock

import torch_oracle
from numpy_lstm.commands.reporting import one_line_errors
from torch_oracle.commands.main import main
from torch_oracle.verification import cases

print(torch_oracle.__file__)
cases.QUICK = cases.QUICK[:1]
for line in ("faults", "diagnose mine.py:mine", "verify mine.py:mine --html page.html"):
    arguments = line.split()
    try:
        with one_line_errors():
            status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    print("status", arguments[0], status, flush=True)
"""
SOURCE = """
import numpy as np

def mine(weights, x):
    h = c = np.zeros((x.shape[1], weights["weight_hh_l0"].shape[1]), x.dtype)
    y = []
    for x_t in x:
        a = x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
        a += weights["bias_ih_l0"] + weights["bias_hh_l0"]
        f, i, g, o = np.split(a, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        y.append(h)
    return {"y": np.stack(y)}
"""


@pytest.fixture
def installed(tmp_path):
    """A folder with an LSTM, and both packages in a zip beside it."""
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "program.py").write_text(PROGRAM)
    with zipfile.ZipFile(tmp_path / "packages.zip", "w") as archive:
        for package in ("numpy_lstm", "torch_oracle"):
            for path in (ROOT / package).rglob("*"):
                if path.is_file() and path.suffix != ".pyc":
                    archive.write(path, path.relative_to(ROOT))
    return tmp_path


def run(folder, packages):
    """Run the program with the packages from there, and not from the checkout."""
    lines = f"import sys; sys.path.insert(0, {str(packages)!r}); sys.argv = ['lstm-oracle']\n"
    command = [sys.executable, "-P", "-c", lines + (folder / "program.py").read_text()]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert str(packages) in result.stdout, result.stderr
    return result


def test_everything_works_from_a_zip(installed):
    result = run(installed, installed / "packages.zip")
    for line in ("status faults 0", "status diagnose 1", "status verify 1"):
        assert f"{line}\n" in result.stdout, result.stderr
    assert "gates-read-as-figo" in result.stdout
    assert "<html" in (installed / "page.html").read_text()


def test_without_sources_a_diagnosis_is_refused_in_a_sentence_and_a_verdict_is_not(installed):
    packages = installed / "compiled"
    with zipfile.ZipFile(installed / "packages.zip") as archive:
        archive.extractall(packages)
    compileall.compile_dir(packages, quiet=2, legacy=True)
    for path in packages.rglob("*.py"):
        path.unlink()
    result = run(installed, packages)
    for line in ("status faults 0", "status diagnose 2", "status verify 1"):
        assert f"{line}\n" in result.stdout, result.stderr
    sentence = (
        "the diagnosis plants faults into the source text of numpy_lstm.cell, which is not"
        " installed; install numpy-lstm with its .py files\n"
    )
    assert result.stderr == f"error: {sentence}"
    assert sentence in result.stdout
    assert "<html" in (installed / "page.html").read_text()
