"""Whatever a user mistypes, the programs answer in one sentence, and the disk stays as it was."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests.support.commands import Result, run_here

pytestmark = pytest.mark.usefixtures("without_type_checks")

SETTINGS = """
--hidden-size 0 | --hidden-size -1 | --hidden-size x | --hidden-size 1.5 | --hidden-size
--hidden-size 1000000000 | --num-layers 0 | --lr -1 | --lr nan | --lr inf | --lr x | --lr
--momentum -1 | --momentum 0.5 | --weight-decay -1 | --weight-decay nan | --schedule no
--max-norm 0 | --max-norm -1 | --max-norm nan | --max-norm x | --clipping no | --divisor no
--epochs 0 | --epochs -3 | --epochs 1e3 | --epochs 1 2 | --dtype int8 | --seed -1 | --seed x
--threads 0 | --threads 100000 | --forget-bias nan | --forget-bias x | --input-init no
--out /dev/null/x | --out text.txt | --nope | --nope 3 | extra | --bias-pair 3 | --bias-pair=3
--overwrite yes | --optimizer rmsprop | --hidden 3 | -h5 | --n-min 0 | --n-max 0
--n-min 5 --n-max 2 | --num-sequences 9 | --num-sequences 100000000000000000000 | --batch-size 0
--n-max 1000000000000 | --batch-size x | --oracle
"""
MISTAKES = {
    "numpy-lstm train counting": SETTINGS,
    "numpy-lstm train text text.txt": """
--streams 0 | --steps 0 | --streams 100000 | --steps -1 | --streams x | --hidden-size 1000000000
--n-min 3 | --batch-size 3 | other.txt | --lr nan | --epochs 0
""",
    "lstm-oracle lockstep counting": """
--parity-every -1 | --free-run-steps -1 | --target-excess x | --parity-every x | --tables 3
--target-excess nan | --target-excess -1 | --hidden-size 0 | --oracle | --threads 0 | --seed -1
""",
    "numpy-lstm": """
judge | trian | --nope | -v | --help-me | train | train nope | train text | train text no.txt
train text . | sample | sample no | sample . | sample text.txt | sample no.npz
sample text.txt --length 0 | sample text.txt --length 10000000000000000000000
sample text.txt --length x | sample text.txt --temperature x | sample text.txt --seed -1
sample text.txt text.txt | sample --prompt | sample text.txt --greedy=3
""",
    "numpy-lstm port": """
nope | inspect | inspect no | inspect . | inspect text.txt | inspect no.npz | inspect text.txt y
inspect text.txt --json=3 | convert | convert text.txt | convert text.txt y.npz
convert text.txt y.npz --to | convert text.txt y.npz --to no | convert text.txt y.bin --to torch
convert no y.npz --to torch | convert text.txt y.npz --to torch --dtype int8
convert text.txt y.npz --to torch --forget-bias x | convert text.txt y.npz --to torch --select
convert text.txt y.npz --to torch --activations a | check | check text.txt | check text.txt no
convert text.txt y.npz --to torch --activations a b c | check text.txt absent:module
check text.txt : | check text.txt os:path | check text.txt no --to-activations 1 2
layouts extra | layouts --all | check a b c
""",
    "lstm-oracle": """
catalogue | verfy | --versio | verify | verify a | verify absent:b | verify os:nope | verify os:path
verify os: | verify :x | verify math:pi | verify ./absent.py:x | verify os:path --full=3
verify os:path --json | verify os:path --json no/x.json | verify os:path --json .
verify os:path --html no/x | verify os:path os:path | verify os:path --nope | diagnose
diagnose absent:b | diagnose os:path --json no/x | diagnose os:path | diagnose os:path --full
training | training absent:b | training math:pi | training a | training os:path --json no/x
faults x | faults --json | lockstep | lockstep nope | lockstep text | lockstep text no
""",
}
INVOCATIONS = [
    (line, shlex.split(f"{line} {mistake}"))
    for line, mistakes in MISTAKES.items()
    for mistake in mistakes.replace("\n", "|").split("|")
    if mistake.strip()
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with a text and a file that is no archive."""
    (tmp_path / "text.txt").write_text("abc " * 200)
    (tmp_path / "no.npz").write_bytes(b"no")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_one_sentence(result: Result) -> None:
    assert (result.returncode, result.stdout) == (2, ""), result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("\n")
    for leak in ("tyro", "Traceback", "\u2502", "  ", "None|", "<class"):
        assert leak not in result.stderr


def test_there_are_many_mistakes():
    assert len(INVOCATIONS) >= 150


@pytest.mark.parametrize("words", [w for _, w in INVOCATIONS], ids=" ".join)
def test_a_mistake_is_one_sentence_and_changes_nothing(words, folder):
    before = contents(folder)
    check_one_sentence(run_here(*words))
    assert contents(folder) == before


WORDED = {
    "train counting --hidden-size x": "--hidden-size: expected an integer, got 'x'",
    "train counting --dtype int8": "--dtype: expected one of float32, float64, got 'int8'",
    "train counting --max-norm x": "--max-norm: expected a number or None, got 'x'",
    "train counting --momentum 1": "--momentum: expected 0 with adam, got 1.0; only sgd has one",
    "train counting --hidden 3": (
        "numpy-lstm train: does not know --hidden, 3; did you mean --hidden-size?"
    ),
    "train text": "numpy-lstm train: lacks FILE; see numpy-lstm train text --help",
    "train cuonting": (
        "numpy-lstm train: does not know cuonting; expected one of counting, counting-seed, text"
    ),
    "port convert a": (
        "numpy-lstm port: lacks DESTINATION and --to STR; see numpy-lstm port convert --help"
    ),
    "sample --length": (
        "numpy-lstm sample: --length: expected a value, got none or too few;"
        " see numpy-lstm sample --help"
    ),
    "trian": (
        "numpy-lstm: expected a command, one of train, sample, port, got 'trian';"
        " did you mean train?"
    ),
}


@pytest.mark.parametrize("columns", ["40", "80", "160"])
@pytest.mark.parametrize("line", WORDED)
def test_the_sentence_says_what_was_expected_at_every_width(line, columns, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert run_here("numpy-lstm", *line.split()).stderr == f"error: {WORDED[line]}\n"


@pytest.mark.parametrize(
    "redirection", ["<&-", "2>&1 >&- </dev/null", "2>&1 | cat", "2>&1 >/dev/full"]
)
def test_streams_that_are_closed_or_poor_change_no_word(redirection, folder):
    environment = os.environ | {"LANG": "C", "NO_COLOR": "1", "PYTHONIOENCODING": "ascii"}
    line = f"{sys.executable} -m numpy_lstm train counting --dtype \u00e9 {redirection}"
    command = f"{line}; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 2
    assert result.stdout + result.stderr == (
        "error: --dtype: expected one of float32, float64, got '\\xe9'\n"
    )


INTERRUPT = """
import signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
from {package}.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("package", "command", "module"),
    [
        ("numpy_lstm", "train counting", "dataclasses"),
        ("numpy_lstm", "train counting", "numpy"),
        ("numpy_lstm", "train counting", "tyro"),
        ("numpy_lstm", "port layouts", "numpy_lstm.porting.convert"),
        ("torch_oracle", "verify a:b", "torch"),
    ],
)
def test_ctrl_c_in_the_middle_of_an_import_leaves_no_traceback(package, command, module, folder):
    code = INTERRUPT.format(package=package, module=module)
    result = subprocess.run(
        [sys.executable, "-c", code, *command.split()], capture_output=True, text=True
    )
    # -2: Python ends itself by the signal where the interruption met code that was evaluated.
    assert result.returncode in (130, -2)
    assert (result.stdout, result.stderr) in [("", "interrupted\n"), ("", "")]
    assert not (folder / "runs").exists()
