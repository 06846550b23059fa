"""What the commands print to be done next does what it says."""

import os
import shlex

import pytest
import torch
from torch import nn

from numpy_lstm.commands.main import main


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "bias": False}])
def test_a_file_alone_is_inspected_and_the_lines_that_are_printed_convert_and_load_it(
    tmp_path, monkeypatch, capsys, options
):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = nn.LSTM(3, 5, **options)
    torch.save({"net": {f"rnn.{n}": t for n, t in module.state_dict().items()}}, "a b.pt")
    assert main(["port", "a b.pt"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "next: numpy-lstm port convert 'a b.pt' OUT.pt --to torch"
    assert main(shlex.split(line)[2:]) == 0
    code = capsys.readouterr().out.partition("to load it:")[2]
    names: dict = {}
    exec("\n".join(part.strip() for part in code.splitlines()), names)
    loaded = names["lstm"].state_dict()
    assert all(torch.equal(loaded[name], t) for name, t in module.state_dict().items())
    assert os.path.exists("OUT.pt.proof.json")
