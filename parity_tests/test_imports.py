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


FOR_PEOPLE = ("numpy_lstm.porting.terminal", "numpy_lstm.commands", "numpy_lstm.__main__")
"""The modules that may load rich and tyro: those of the command line."""


def modules_of_numpy_lstm():
    found = pkgutil.walk_packages(numpy_lstm.__path__, "numpy_lstm.")
    return ["numpy_lstm", *(module.name for module in found)]


def test_no_module_of_numpy_lstm_loads_torch_or_what_only_commands_need():
    modules = [name for name in modules_of_numpy_lstm() if not name.startswith(FOR_PEOPLE)]
    assert len(modules) > 15
    assert loaded_by(modules) == "[]"


def test_the_commands_load_no_torch_either():
    modules = [name for name in modules_of_numpy_lstm() if name.startswith(FOR_PEOPLE)]
    assert len(modules) > 5
    assert loaded_by(modules) == "['rich', 'tyro']"


def test_the_programs_load_nothing_but_the_subcommand_that_is_called():
    modules = ["numpy_lstm.commands.main", "torch_oracle.commands.main"]
    assert loaded_by(modules) == "[]"


RUN = """
import sys
from numpy_lstm.commands.main import main
main({arguments!r})
print("torch" in sys.modules)
"""


def test_training_sampling_and_porting_run_without_torch(tmp_path):
    small = ["--hidden-size", "4", "--epochs", "1", "--num-sequences", "20", "--n-max", "3"]
    out = str(tmp_path / "run")
    for arguments in (
        ["train", "counting", *small, "--out", out],
        ["sample", f"{out}/best.safetensors"],
        ["port", "inspect", f"{out}/best.safetensors"],
    ):
        command = [sys.executable, "-c", RUN.format(arguments=arguments)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert printed.endswith("False\n")


def test_the_probe_would_notice():
    assert loaded_by(["torch_oracle.proof.lstmcell_model"]) == "['torch']"


ORDER = [
    "errors files shapes roundoff activations",
    "cell",
    "variants",
    "config",
    "unrolled fast",
    "lstm",
    "loss language_model",
    "initialization",
    "porting",
    "training",
    "api",
    "commands",
    "__main__",
]
"""The rooms and modules of numpy_lstm: each imports from its own line and from those above."""
RANK = {name: rank for rank, line in enumerate(ORDER) for name in line.split()}


def imports_of(path: Path) -> list[tuple[str, str]]:
    """Module and name of everything that a file imports, wherever it does so."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found += [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return found


def room_of(module: str) -> str:
    """The first part of a module's name within its package."""
    return module.split(".")[1]


def test_every_room_of_numpy_lstm_is_in_the_order():
    root = Path(numpy_lstm.__path__[0])
    modules = {path.stem for path in root.glob("*.py")} - {"__init__"}
    rooms = {path.parent.name for path in root.glob("*/__init__.py")}
    assert modules | rooms == set(RANK)


def test_imports_within_numpy_lstm_go_one_way():
    root = Path(numpy_lstm.__path__[0])
    wrong = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if parts == ("__init__",):
            continue
        for module, name in imports_of(path):
            if module == "numpy_lstm" and name != "__version__":
                module = f"numpy_lstm.{name}"
            if not module.startswith("numpy_lstm."):
                continue
            target = room_of(module)
            if RANK[target] > RANK[parts[0]]:
                wrong.append((str(path.relative_to(root)), module))
    assert wrong == []


def printed_by(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_import_numpy_lstm_loads_neither_porting_nor_the_curves_nor_scipy():
    loaded = printed_by("import sys; from numpy_lstm import LSTM; print(list(sys.modules))")
    assert "numpy_lstm.lstm" in loaded
    for absent in ("porting", "curves", "scipy", "jaxtyping", "matplotlib"):
        assert absent not in loaded


def test_import_numpy_lstm_alone_loads_not_even_numpy():
    assert printed_by("import sys, numpy_lstm; print('numpy' in sys.modules)") == "False\n"
    assert "LSTM" in printed_by("import numpy_lstm; print(dir(numpy_lstm))")
    assert "lstm_forward" in printed_by("from numpy_lstm import *; print(dir())")


REFERENCE = ("arithmetic", "torch_cells", "torch_trace", "lstmcell_model", "nn_lstm", "trace")
"""The modules of torch_oracle/proof that hold torch's side of a comparison, and the schema."""
CONTAINERS = {"LSTM", "LanguageModel", "Batch", "Noise", "Int", "Shaped"}
"""What they may import: configurations and batches; noise, which blurs torch's side alone; and the
annotations of shapes."""


def test_torchs_side_imports_nothing_of_numpy_lstm_that_computes():
    for name in REFERENCE:
        path = Path(torch_oracle.__path__[0], "proof", f"{name}.py")
        borrowed = {what for module, what in imports_of(path) if module.startswith("numpy_lstm")}
        assert borrowed <= CONTAINERS, name


def test_the_rule_would_notice():
    path = Path(torch_oracle.__path__[0], "proof", "numpy_trace.py")
    borrowed = {what for module, what in imports_of(path) if module.startswith("numpy_lstm")}
    assert not borrowed <= CONTAINERS


ARITHMETIC = ("activations", "cell", "unrolled", "loss", "lstm", "language_model", "fast")


def test_the_torch_trace_calls_no_arithmetic_of_numpy_lstm(monkeypatch):
    """With every hand-written function broken, the reference gives the same numbers."""
    import numpy as np

    from parity_tests.support.problems import random_problem
    from torch_oracle.proof.torch_trace import torch_trace

    problem = random_problem(0, model=True)
    expected = torch_trace(problem)

    def broken(*_, **__):
        raise AssertionError("the oracle called hand-written arithmetic")

    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if name.startswith("numpy_lstm.") and room_of(name) in ARITHMETIC:
            for attribute, value in vars(module).copy().items():
                home = getattr(value, "__module__", None) or ""
                if callable(value) and not isinstance(value, type) and home == name:
                    monkeypatch.setattr(module, attribute, broken)
    actual = torch_trace(problem)
    for name, array in expected.steps.items():
        np.testing.assert_array_equal(actual.steps[name], array)
