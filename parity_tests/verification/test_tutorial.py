"""The tutorial, as a reader would follow it: its files, and its commands with what they print."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from torch_oracle.commands.main import main
from torch_oracle.verification import cases

pytestmark = pytest.mark.usefixtures("without_type_checks")
TEXT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(r"^```(python)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EDIT = re.compile(r"# (\S+): (.*) -> (.*)\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("my_lstm", "test_my_lstm"):
        sys.modules.pop(name, None)


def write(folder, block):
    """Add a block to the file that its first line names, or make the change that it describes."""
    edit = EDIT.fullmatch(block)
    if edit is not None:
        path = folder / edit[1]
        source = path.read_text()
        assert source.count(edit[2]) == 1
        path.write_text(source.replace(edit[2], edit[3]))
        return
    name, body = re.fullmatch(r"# (\S+)\n(.*)", block, re.DOTALL).groups()
    with (folder / name).open("a") as file:
        file.write(body)


def test_every_block_of_the_tutorial_does_what_it_says(folder, capsys, monkeypatch):
    commands = 0
    for language, block in BLOCK.findall(TEXT):
        if language == "python":
            write(folder, block)
            continue
        command, *lines = block.splitlines()
        sys.modules.pop("my_lstm", None)
        importlib.invalidate_caches()
        status = main(command.removeprefix("$ lstm-oracle ").split())
        shown = capsys.readouterr().out
        for line in lines:
            assert line in shown
        assert status == (0 if "passed" in lines[-1] else 1)
        commands += 1
    assert commands == 3
    sys.modules.pop("my_lstm", None)
    monkeypatch.setattr(cases, "QUICK", cases.QUICK[:1])  # the command has tried them all
    importlib.import_module("test_my_lstm").test_my_lstm_agrees_with_pytorch()
