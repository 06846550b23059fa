"""`numpy-lstm port` as a user runs it: conversions, proofs, refusals that lose nothing."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.formats.npz_file import npz_bytes, read_npz
from numpy_lstm.porting.formats.read import read_archive
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import to_layout
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM, digest
from parity_tests.support.commands import Result, run_here
from parity_tests.support.problems import random_parameters

pytestmark = pytest.mark.usefixtures("without_type_checks")
ROOT = Path(__file__).parents[2]
NO_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def port(folder: Path, *arguments: object) -> Result:
    """Run the command in this process, in a folder."""
    with contextlib.chdir(folder), mock.patch.dict(os.environ, COLUMNS="160"):
        return run_here("numpy-lstm", "port", *arguments)


def port_in_a_process(folder: Path, *arguments: object, prelude: str = "") -> Result:
    """Run the command as a user does, after other lines of Python."""
    code = f"{prelude}\nfrom numpy_lstm.commands.main import main\nraise SystemExit(main())"
    command = [sys.executable, "-c", code, "port", *arguments]
    environment = os.environ | {"COLUMNS": "160", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=120,
    )


def same_tensors(a: Path, b: Path) -> bool:
    return digest(read_npz(a).tensors) == digest(read_npz(b).tensors)


def refused(folder: Path, *arguments: object) -> str:
    """The one sentence of a refusal, after which the folder is as it was."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = port(folder, *arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    return result.stderr.removeprefix("error: ").rstrip("\n")


def made(key: str, dtype=np.float32, **options) -> dict[str, np.ndarray]:
    config = LSTM(3, 5, **options)
    parameters = random_parameters(config.parameter_shapes(), np.random.default_rng(0), dtype)
    return dict(to_layout(CanonicalLSTM(config, parameters), TABLE[key]).tensors)


@pytest.fixture
def folder(tmp_path) -> Path:
    """With weights of three frameworks in it."""
    (tmp_path / "keras.npz").write_bytes(npz_bytes(made("keras", num_layers=2, bidirectional=True)))
    (tmp_path / "tf.npz").write_bytes(npz_bytes(made("tf-basic", num_layers=2)))
    (tmp_path / "torch.npz").write_bytes(npz_bytes(made("torch", np.float64, bias_pair=True)))
    return tmp_path


def test_a_file_goes_through_four_containers_and_comes_back_bit_for_bit(folder):
    steps = ["keras.npz", "a.pt", "b.onnx", "c.safetensors", "d.weights.h5", "e.npz"]
    layouts = ["torch", "onnx", "mxnet", "keras", "keras"]
    for source, destination, to in zip(steps, steps[1:], layouts, strict=False):
        result = port(folder, "convert", source, destination, "--to", to)
        assert result.returncode == 0, result.stderr
        assert "converted back, it is the source bit for bit" in result.stdout
        assert f"{destination} written; its proof is {destination}.proof.json" in result.stdout
    assert same_tensors(folder / "e.npz", folder / "keras.npz")
    module = torch.nn.LSTM(3, 5, 2, bidirectional=True)
    module.load_state_dict(torch.load(folder / "a.pt", weights_only=True))
    assert not any(".e.npz" in path.name for path in folder.iterdir())


def test_a_tensorflow_checkpoint_keeps_its_forget_bias_in_the_proof(folder):
    arguments = ("convert", "tf.npz", "model.index", "--to", "tf-basic")
    assert refused(folder, *arguments) == (
        "tf.npz: does not say forget_bias, which is added at run time (TensorFlow's default is"
        " 1.0); give it with --forget-bias"
    )
    assert port(folder, *arguments, "--forget-bias", 1.0).returncode == 0
    assert (folder / "model.data-00000-of-00001").is_file()
    result = port(folder, "convert", "model.index", "there.npz", "--to", "torch")
    assert result.returncode == 0, result.stderr  # the proof beside it says the forget bias
    both = read_npz(folder / "torch.npz").tensors | {"embedding": np.ones((4, 3))}
    (folder / "both.npz").write_bytes(npz_bytes(both))
    noted = port(folder, "convert", "both.npz", "noted.npz", "--to", "torch")
    assert "note: not of this LSTM, left alone: embedding" in noted.stdout
    there = read_npz(folder / "there.npz").tensors
    assert set(there["bias_hh_l0"][5:10]) == {1.0}
    result = port(folder, "convert", "there.npz", "back.npz", "--to", "tf-basic")
    assert same_tensors(folder / "back.npz", folder / "tf.npz")
    proof = json.loads((folder / "back.npz.proof.json").read_text())
    assert proof["destination"]["facts"]["forget_bias"] == 1.0
    assert "but in the proof beside it: forget_bias = 1, to be added at run time" in result.stdout


def test_a_proof_holds_what_it_takes_to_verify_it_and_is_verified_without_torch(folder):
    assert port(folder, "convert", "keras.npz", "out.npz", "--to", "torch").returncode == 0
    proof = json.loads((folder / "out.npz.proof.json").read_text())
    assert proof["format"] == "numpy_lstm.proof/1"
    assert proof["source"]["layout"] == "keras"
    assert list(proof["source"]["files"]) == ["keras.npz"]
    assert proof["sizes"]["hidden_size"] == 5
    assert proof["lost"] == []
    assert proof["proof"]["passed"] is True
    assert proof["proof"]["inputs"]["T"] >= 3
    assert set(proof["proof"]["distances"]) == {"source", "destination", "numpy_lstm"}
    refusal = port_in_a_process(folder, "check", "keras.npz", "none:module", prelude=NO_TORCH)
    assert "needs the package torch" in refusal.stderr  # the block works
    result = port_in_a_process(folder, "check", "keras.npz", "out.npz", prelude=NO_TORCH)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("holds") == 5
    assert result.stdout.rstrip().endswith("the same LSTM")


@pytest.mark.parametrize("what", ["weights", "file", "proof"])
def test_a_check_notices_whatever_was_changed_since(folder, what):
    assert port(folder, "convert", "keras.npz", "out.npz", "--to", "torch").returncode == 0
    file, proof = folder / "out.npz", folder / "out.npz.proof.json"
    tensors = {name: array.copy() for name, array in read_npz(file).tensors.items()}
    if what == "weights":
        name = "bias_ih_l1_reverse"
        tensors[name][2] = np.nextafter(tensors[name][2], np.float32(9))
        file.write_bytes(npz_bytes(tensors))
    elif what == "file":
        with file.open("ab") as end:
            end.write(b" ")
    else:
        record = json.loads(proof.read_text())
        record["destination"]["weights_sha256"] = "0" * 64
        proof.write_text(json.dumps(record))
    result = port(folder, "check", "keras.npz", "out.npz")
    if what == "file":
        assert result.returncode in (1, 2)
        return
    assert result.returncode == 1, result.stdout + result.stderr
    assert "FAILS" in result.stdout
    assert "\nthe same LSTM\nbut the proof beside the second does NOT hold" in result.stdout


def test_two_files_that_hold_other_lstms_are_told_apart(folder):
    tensors = made("torch", np.float64, bias_pair=True)
    (folder / "same.npz").write_bytes(npz_bytes({f"rnn.{n}": a for n, a in tensors.items()}))
    result = port(folder, "check", "torch.npz", "same.npz")
    assert result.returncode == 0, result.stderr
    blocks = {name: np.split(array, 4) for name, array in tensors.items()}
    swapped = {name: np.concatenate([i, g, f, o]) for name, (i, f, g, o) in blocks.items()}
    (folder / "swapped.npz").write_bytes(npz_bytes(swapped))
    result = port(folder, "check", "torch.npz", "swapped.npz")
    assert result.returncode == 1
    assert "NOT the same LSTM" in result.stdout


def test_a_live_module_is_checked_against_a_file(folder, monkeypatch):
    (folder / "mine.py").write_text(
        "import torch\nfrom numpy import load\n"
        "module = torch.nn.LSTM(3, 5, dtype=torch.float64)\n"
        "state = {n: torch.from_numpy(a) for n, a in load('torch.npz').items()}\n"
        "module.load_state_dict(state)\n"
        "other = torch.nn.LSTM(3, 5, dtype=torch.float64)\n"
    )
    result = port_in_a_process(folder, "check", "torch.npz", "mine:module")
    assert result.returncode == 0, result.stderr
    assert "the second is the first bit for bit" in result.stdout
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    assert port(folder, "check", "torch.npz", "mine:other").returncode == 1
    for name in ("torch.nn:LSTM", "mine:state"):
        assert "expected a torch.nn.Module" in port(folder, "check", "torch.npz", name).stderr


def test_what_would_be_lost_is_refused_and_said_when_it_is_allowed(folder):
    arguments = ("convert", "torch.npz", "out.npz", "--to", "keras")
    assert refused(folder, *arguments) == (
        "keras cannot hold everything: bias_hh: the two biases would be summed, which cannot be"
        " undone; allow it with --allow-lossy"
    )
    result = port(folder, *arguments, "--allow-lossy")
    assert result.returncode == 0, result.stderr
    assert "lost: bias_hh: the two biases were summed, which cannot be undone" in result.stdout
    assert "converted back, it is not the source bit for bit (biases that were" in result.stdout
    narrow = ("convert", "torch.npz", "narrow.npz", "--to", "torch", "--dtype", "float32")
    assert refused(folder, *narrow) == (
        "dtype: float64 would be rounded to float32; allow it with --allow-lossy"
    )
    result = port(folder, *narrow, "--allow-lossy")
    assert "lost: dtype: float64 was rounded to float32" in result.stdout
    wide = port(folder, "convert", "narrow.npz", "wide.npz", "--to", "torch", "--dtype", "float64")
    assert wide.returncode == 0
    assert "converted back, it is the source bit for bit" in wide.stdout


def test_bad_input_gets_one_sentence_and_nothing_is_lost(folder):
    (folder / "out.npz").write_bytes(b"precious")
    (folder / "text.npz").write_text("not an archive")
    (folder / "broken.npz").write_bytes((folder / "torch.npz").read_bytes()[:-40])
    convert = ("convert", "torch.npz")
    assert refused(folder, *convert, "out.npz", "--to", "torch") == (
        "out.npz: exists already; choose another name, or allow it with --overwrite"
    )
    assert refused(folder, *convert, "torch.npz", "--to", "torch", "--overwrite") == (
        "torch.npz: is the source itself; choose another name"
    )
    (folder / "m.data-00000-of-00001").write_bytes(b"precious too")
    assert refused(
        folder, "convert", "tf.npz", "m.index", "--to", "tf-basic", "--forget-bias", 0
    ).startswith("m.data-00000-of-00001: exists already")
    assert refused(folder, *convert, "new.npz", "--to", "pytorch").startswith(
        "--to: expected one of torch, torch-cell, "
    )
    assert refused(folder, *convert, "new.bin", "--to", "torch") == (
        "new.bin: expected a file name that ends in one of .npz, .safetensors, .pt, .weights.h5,"
        " .onnx, .index"
    )
    assert refused(folder, *convert, "new.onnx", "--to", "torch") == (
        "new.onnx: .onnx is not made for the layout torch; expected .npz, .safetensors, .pt"
    )
    assert refused(folder, "convert", "none.npz", "new.npz", "--to", "torch").startswith(
        "none.npz: no such file"
    )
    for name in ("text.npz", "broken.npz"):
        assert refused(folder, "inspect", name).startswith(f"{name}: ")
        assert refused(folder, "convert", name, "new.npz", "--to", "torch").startswith(f"{name}: ")
        assert refused(folder, "check", name, "torch.npz").startswith(f"{name}: ")
    other = port(folder, "check", "torch.npz", "keras.npz")
    assert other.returncode == 1
    assert other.stdout == (
        "sizes (I, H, layers, directions, proj_size): the source has (3, 5, 1, 1, 0), the"
        " destination (3, 5, 2, 2, 0)\nNOT the same LSTM\n"
    )
    assert refused(folder, "check", "torch.npz", ".").startswith(".: not a regular file")
    assert refused(folder, *convert, "none/new.npz/x.npz", "--to", "torch", "--dtype", "int8") == (
        "--dtype: expected float32 or float64, got 'int8'"
    )


def test_a_destination_that_cannot_be_written_is_said_and_left(folder):
    (folder / "file").write_text("not a folder")
    assert refused(folder, "convert", "torch.npz", "file/new.npz", "--to", "torch").startswith(
        "file/new.npz: cannot be written"
    )


def test_overwriting_replaces_the_file_and_its_proof_and_keeps_the_usual_mode(folder):
    (folder / "out.npz").write_bytes(b"old")
    result = port(folder, "convert", "torch.npz", "out.npz", "--to", "torch", "--overwrite")
    assert result.returncode == 0, result.stderr
    assert set(read_archive(folder / "out.npz").tensors) == set(made("torch", bias_pair=True))
    usual = folder / "usual"
    usual.write_bytes(b"")
    assert (folder / "out.npz").stat().st_mode == usual.stat().st_mode
    assert (folder / "out.npz.proof.json").stat().st_mode == usual.stat().st_mode
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_inspect_shows_tensors_layouts_with_reasons_and_what_the_file_does_not_say(folder):
    result = port(folder, "inspect", "tf.npz")
    assert result.returncode == 0, result.stderr
    for text in (
        "npz: 4 tensors",
        "rnn/multi_rnn_cell/cell_1/basic_lstm_cell/kernel",
        "1. tf-basic: TensorFlow BasicLSTMCell",
        "shapes fit: I = 3, H = 5, 2 layers",
        "not in the file: forget_bias",
    ):
        assert text in result.stdout
    report = json.loads(port(folder, "inspect", "torch.npz", "--json").stdout)
    (lstm,) = report["lstms"]
    assert lstm["hypotheses"][0]["layout"] == "torch"
    assert not lstm["ambiguous"]
    assert report["tensors"][0].keys() >= {"name", "shape", "dtype"}


def test_the_page_of_layouts_is_that_of_the_table(folder):
    page = (ROOT / "docs" / "porting.md").read_text()
    printed = port(folder, "layouts").stdout
    assert printed.count("\n") == len(TABLE) + 2
    assert printed in page
