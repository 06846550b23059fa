"""What an installation of the wheel can do, from any folder, without the checkout."""

import compileall
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

import numpy_lstm
from parity_tests.support.installation import ROOT, Environment, build, environment

MINE = '''\
import numpy as np
from torch_oracle.adapters import adapter


@adapter()
def mine(weights, x, h0, c0):
    """An LSTM that lacks the tanh of the cell state."""
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    h, c, y = h0, c0, []
    for x_t in x:
        i, f, g, o = np.split(x_t @ W.T + h @ U.T + b, 4, axis=-1)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = c / (1 + np.exp(-o))
        y.append(h)
    return {"y": np.stack(y)}
'''
SMALL = ["--hidden-size", "4", "--epochs", "1", "--num-sequences", "20", "--n-max", "3"]
TRAIN = [
    ["numpy-lstm", "train", "counting", *SMALL, "--out", "run"],
    ["numpy-lstm", "sample", "run/best.safetensors", "--length", "9"],
]
PORT = [
    ["numpy-lstm", "port", "layouts"],
    ["numpy-lstm", "port", "convert", "lstm.npz", "model.onnx", "--to", "onnx"],
    ["numpy-lstm", "port", "check", "lstm.npz", "model.onnx"],
    ["numpy-lstm", "port", "convert", "lstm.npz", "keras.weights.h5", "--to", "keras"],
    ["numpy-lstm", "port", "inspect", "keras.weights.h5"],
]
VERIFY = [
    ["lstm-oracle", "verify", "mine:mine", "--html", "report.html", "--json", "found.json"],
    ["lstm-oracle", "lockstep", "counting", *SMALL, "--target-excess", "9", "--out", "demo"],
    ["lstm-oracle", "faults"],
]
LONGER = [
    ["lstm-oracle", "diagnose", "mine:mine", "--html", "diagnosis.html"],
    ["lstm-oracle", "training", "torch_oracle.training.adapter:numpy_training"],
]
COMMANDS = {"train": TRAIN, "port": PORT, "verify": VERIFY, "": []}
FAIL = {"verify mine:mine", "diagnose mine:mine"}
"""These commands give a verdict, and it is that the LSTM is wrong."""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The wheel and the source distribution."""
    return build(tmp_path_factory.mktemp("build"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of a user's: weights as Keras has them, and an LSTM in Python."""
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_l0": (20,)}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "lstm.npz", **weights)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def check(installed: Environment, folder: Path, extra: str, commands: list[list[str]]) -> None:
    """Every command of the extra works; every other asks for the extra that it needs."""
    for program in ("numpy-lstm", "lstm-oracle"):
        version = installed.run(folder, program, "--version")
        assert version.stdout == f"{program} {numpy_lstm.__version__}\n", version.stderr
    results = installed.run_all(folder, commands)
    for command, result in zip(commands, results, strict=True):
        expected = 1 if " ".join(command[1:3]) in FAIL else 0
        assert result.status == expected, (command, result)
        assert result.out
        assert result.err == ""


@pytest.mark.parametrize("extra", COMMANDS)
def test_each_extra_alone_runs_its_commands_and_names_what_others_lack(
    extra, built, folder, tmp_path_factory
):
    wheel, _ = built
    installed = Environment.with_links(tmp_path_factory.mktemp("env") / "env", wheel, extra)
    check(installed, folder, extra, COMMANDS[extra])
    before = sorted(folder.iterdir())
    others = [each[0] for name, each in COMMANDS.items() if each and name != extra]
    if extra == "train":
        others = [["lstm-oracle", "lockstep", "counting"], VERIFY[0], PORT[1]]
    if extra == "verify":
        others = [PORT[1]]
    for command, result in zip(others, installed.run_all(folder, others), strict=True):
        assert (result.status, result.out) == (2, ""), command
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1
        assert "is not installed; pip install 'numpy-lstm[" in result.err
    assert sorted(folder.iterdir()) == before


@pytest.mark.proof
@pytest.mark.parametrize("extra", [*COMMANDS, "all"])
def test_pip_installs_each_extra_and_its_commands_run(extra, built, folder, tmp_path_factory):
    wheel, _ = built
    installed = Environment.by_pip(tmp_path_factory.mktemp("env") / "env", wheel, extra)
    commands = COMMANDS.get(extra, [*TRAIN, *PORT, *VERIFY])
    if extra in ("verify", "all"):
        commands = [*commands, *LONGER]
    check(installed, folder, extra, commands)


def test_the_wheel_is_complete_and_the_source_distribution_can_be_tested(built):
    wheel, sdist = built
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "numpy_lstm/py.typed",
        "torch_oracle/py.typed",
        "torch_oracle/html_report/report.html",
        "torch_oracle/diagnosis/faults/backward.toml",
    ):
        assert name in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "numpy_lstm",
        "torch_oracle",
    }
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("Makefile", "constraints.txt", "docs/porting.md", "examples/seed_lstm.py"):
        assert name in inside
    assert {"parity_tests/conftest.py", "parity_tests/vectors/keras.safetensors"} <= inside


USE = """\
import numpy as np
from numpy_lstm import LSTM, init_lstm, lstm_backward, lstm_forward

lstm = LSTM(input_size=3, hidden_size=5)
weights = init_lstm(lstm, rng=np.random.default_rng(0))
(y, h_n, c_n), cache = lstm_forward(lstm, weights, np.zeros((7, 2, 3)))
total: float = lstm_backward(np.ones_like(y), cache).dx.sum()
wrong: int = LSTM(3, 5)
"""


def test_a_users_program_is_type_checked_against_the_wheel(built, folder, tmp_path_factory):
    wheel, _ = built
    installed = Environment.with_links(tmp_path_factory.mktemp("env") / "env", wheel, "")
    (folder / "use.py").write_text(USE)
    command = [Path(sys.executable).with_name("basedpyright"), "--level", "error", "--pythonpath"]
    command += [installed.bin / "python", "use.py"]
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=folder, env=environment()
    )
    assert '"LSTM" is not assignable to "int"' in result.stdout
    assert result.stdout.rstrip().endswith("1 error, 0 warnings, 0 notes")


ZIPPED = """
import sys
sys.path.insert(0, {path!r})
from torch_oracle.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


def run_from(path: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `lstm-oracle` with its packages in a zip file or folder that is no installation."""
    command = [sys.executable, "-c", ZIPPED.format(path=str(path)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment())


def test_the_wheel_works_from_within_its_zip_file(built, folder):
    wheel, _ = built
    result = run_from(wheel, folder, "diagnose", "mine:mine", "--html", "page.html")
    assert result.returncode == 1, result.stderr
    assert "Everything that is wrong is explained" in result.stdout
    assert (folder / "page.html").exists()


def test_without_source_text_there_is_no_diagnosis_and_a_sentence_says_so(built, folder):
    wheel, _ = built
    packages = folder / "compiled"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    compileall.compile_dir(packages, quiet=2, legacy=True, optimize=0)
    for source in packages.rglob("*.py"):
        source.unlink()
    result = run_from(packages, folder, "diagnose", "mine:mine")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: the diagnosis plants faults into the source text of ")
    assert run_from(packages, folder, "faults").returncode == 0


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert f"\nversion: {numpy_lstm.__version__}\n" in (ROOT / "CITATION.cff").read_text()
