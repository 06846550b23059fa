"""The README is short, and what it shows is what happens."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from parity_tests.support.commands import run_here

README = Path(__file__).parents[2] / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A block of the README: its language and its lines."""


def blocks() -> list[tuple[str, str]]:
    return FENCE.findall(README.read_text(encoding="utf-8"))


def without_numbers(text: str) -> str:
    """The words of a text: figures of measurement differ between machines, line breaks too."""
    return " ".join(re.sub(r"\d+(\.\d+)?(e[+-]\d+)?", "#", text).split())


def test_the_readme_is_short():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(len(line) for line in lines) <= 120


def test_the_program_of_the_readme_prints_what_it_says(capsys):
    found = blocks()
    (k,) = [k for k, (language, text) in enumerate(found) if "print(" in text]
    assert found[k][0] == "python"
    exec(compile(found[k][1], str(README), "exec"), {})
    assert capsys.readouterr().out == found[k + 1][1]


@pytest.fixture
def folder_of_a_reader(tmp_path, monkeypatch):
    """A folder with the files that the README shows, and those that its reader is said to have."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    for language, text in blocks():
        named = re.match(r"# (\w+\.py)\n", text)
        if language == "python" and named:
            Path(named[1]).write_text(text)
    keras.utils.set_random_seed(0)
    layers = [keras.layers.LSTM(5, return_sequences=True), keras.layers.LSTM(5)]
    model = keras.Sequential([keras.Input((None, 3)), *layers, keras.layers.Dense(1)])
    model.save("model.keras")
    letters = np.random.default_rng(0).choice(list("abcd \n"), 4000)
    Path("mytext.txt").write_text("KING " + "".join(letters))
    yield tmp_path
    sys.modules.pop("my_lstm", None)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's
def test_the_commands_of_the_readme_print_what_it_says(folder_of_a_reader):
    shown = [text for language, text in blocks() if language == "console"]
    assert len(shown) >= 3
    for text in shown:
        for session in text.split("$ ")[1:]:
            command, _, expected = session.partition("\n")
            ran = run_here(*shlex.split(command))
            assert ran.returncode in (0, 1), ran.stderr
            printed = without_numbers(ran.stdout)
            for part in expected.split("\n...\n"):
                assert without_numbers(part) in printed, command
