"""numpy_lstm never loads torch, and the oracle borrows none of its arithmetic."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy_lstm
import torch_oracle

PROBE = """
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
print(sorted(set(sys.modules) & {{"torch", "matplotlib", "rich", "tyro"}}))
"""


def loaded_by(modules):
    command = [sys.executable, "-c", PROBE.format(modules=modules)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_no_module_of_numpy_lstm_loads_torch_or_what_only_commands_need():
    found = pkgutil.walk_packages(numpy_lstm.__path__, "numpy_lstm.")
    modules = ["numpy_lstm", *(module.name for module in found)]
    assert len(modules) > 15
    assert loaded_by(modules) == "[]"


def test_the_probe_would_notice():
    assert loaded_by(["torch_oracle.proof.lstmcell_model"]) == "['torch']"


ARITHMETIC = {
    "numpy_lstm.activations",
    "numpy_lstm.cell",
    "numpy_lstm.loss",
    "numpy_lstm.lstm",
    "numpy_lstm.language_model",
    "numpy_lstm.training.optimizers",
}
CONTAINERS = {"LSTM", "LSTMCache", "StepGradients", "LanguageModel", "SGD", "Adam", "Optimizer"}


def test_the_oracle_and_its_arithmetic_import_no_arithmetic_of_numpy_lstm():
    """trace, lockstep and witnesses run the NumPy side too; the reference side must not."""
    for name in ("lstmcell_model", "arithmetic"):
        source = Path(torch_oracle.__path__[0], "proof", f"{name}.py").read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module in ARITHMETIC:
                assert {alias.name for alias in node.names} <= CONTAINERS, (name, node.module)


def test_the_torch_trace_calls_no_arithmetic_of_numpy_lstm(monkeypatch):
    """With every hand-written function broken, the reference gives the same numbers."""
    import numpy as np

    from numpy_lstm import activations, language_model, loss, lstm
    from parity_tests.support.problems import random_problem
    from torch_oracle.proof.torch_trace import torch_trace

    problem = random_problem(0, model=True)
    expected = torch_trace(problem)

    def broken(*_, **__):
        raise AssertionError("the oracle called hand-written arithmetic")

    import torch_oracle.proof.trace as trace

    for module in (activations, language_model, loss, lstm, trace):
        for name, value in vars(module).copy().items():
            home = getattr(value, "__module__", None)
            if callable(value) and not isinstance(value, type) and home in ARITHMETIC:
                monkeypatch.setattr(module, name, broken)
    actual = torch_trace(problem)
    for name, array in expected.steps.items():
        np.testing.assert_array_equal(actual.steps[name], array)
