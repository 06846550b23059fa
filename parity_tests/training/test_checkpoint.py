"""Checkpoints: bit-exact round trip, atomic replacement, and refusal of whatever is not whole."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from numpy_lstm.errors import InputError
from numpy_lstm.files import write_atomically
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.training.checkpoint import (
    FORMAT,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from numpy_lstm.training.vocabulary import Vocabulary
from parity_tests.support.problems import random_parameters


def make(dtype=np.float64):
    model = LanguageModel(4, 5)
    parameters = random_parameters(model.parameter_shapes(), np.random.default_rng(0), dtype)
    return Checkpoint(model, Vocabulary(("a", "b", "\u00e9", "UNK")), parameters, {"loss": 0.25})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip_is_bit_exact_even_for_transposed_views(tmp_path, dtype):
    checkpoint = make(dtype)
    name = "lstm.weight_hh_l0"
    strided = np.asfortranarray(checkpoint.parameters[name])
    assert not strided.flags.c_contiguous
    checkpoint = replace(checkpoint, parameters=checkpoint.parameters | {name: strided})
    path = tmp_path / "deep" / "model.safetensors"
    save_checkpoint(path, checkpoint)
    loaded = load_checkpoint(path)
    assert (loaded.model, loaded.vocabulary) == (checkpoint.model, checkpoint.vocabulary)
    assert loaded.notes == {"loss": 0.25}
    assert list(loaded.parameters) == list(checkpoint.model.parameter_shapes())
    for key, value in checkpoint.parameters.items():
        assert loaded.parameters[key].dtype == dtype
        np.testing.assert_array_equal(loaded.parameters[key], value)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, make())
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="cannot be written \\(No space left on device\\)"):
        save_checkpoint(path, make(np.float32))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_files_get_the_usual_mode(tmp_path):
    path = tmp_path / "file"
    write_atomically({path: b"content"})
    usual = tmp_path / "usual"
    usual.write_bytes(b"content")
    assert path.stat().st_mode == usual.stat().st_mode
    assert path.read_bytes() == b"content"


def test_files_that_fail_their_check_replace_nothing_and_leave_nothing(tmp_path):
    data, index = tmp_path / "model.data", tmp_path / "model.index"
    data.write_bytes(b"old")

    def refuse(folder):
        assert (folder / "model.data").read_bytes() == b"new"
        assert (folder / "model.index").read_bytes() == b"names"
        assert data.read_bytes() == b"old"
        raise InputError("not proven")

    with pytest.raises(InputError, match="not proven"):
        write_atomically({data: b"new", index: b"names"}, refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["model.data"]
    assert data.read_bytes() == b"old"
    proof = tmp_path / "model.proof"
    write_atomically({data: b"new", index: b"names"}, lambda folder: {proof: b"proven"})
    assert proof.read_bytes() == b"proven"
    assert (data.read_bytes(), index.read_bytes()) == (b"new", b"names")


def saved_with(path, metadata=None, **changes):
    checkpoint = make()
    header = {"model": {"vocab_size": 4, "hidden_size": 5}, "vocabulary": "ab?", "notes": {}}
    header |= {"vocabulary": list(checkpoint.vocabulary.tokens)} | changes.pop("header", {})
    metadata = metadata or {"format": FORMAT, "header": json.dumps(header)}
    save_file(checkpoint.parameters | changes, path, metadata)
    return path


def test_what_is_not_a_whole_checkpoint_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "model.safetensors"

    def refusal():
        with pytest.raises(InputError) as caught:
            load_checkpoint(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        return message.removeprefix(f"{path}: ")

    assert refusal() == "no such file; expected a checkpoint (.safetensors)"
    save_checkpoint(path, make())
    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refusal().endswith("was it truncated?")
    path.write_bytes(b"not a checkpoint at all, just some words")
    assert "not a whole safetensors file" in refusal()
    saved_with(path, metadata={"format": "pt"})
    assert refusal() == f"expected a checkpoint of this package ({FORMAT}), got format 'pt'"
    broken = make().parameters["lstm.weight_hh_l0"].copy()
    broken[3, 1] = np.nan
    saved_with(path, **{"lstm.weight_hh_l0": broken})
    assert "lstm.weight_hh_l0: nan at index [3, 1]" in refusal()
    saved_with(path, **{"projection.weight": np.zeros((5, 4))})
    assert refusal() == "projection.weight: expected [V, H] = [4, 5], got [5, 4]; transposed?"
    saved_with(path, extra=np.zeros(1))
    assert "unexpected ['extra']" in refusal()
    saved_with(path, header={"vocabulary": ["a", "UNK"]})
    assert refusal() == "vocabulary: expected vocab_size = 4 tokens, got 2"
    header = {"model": {"vocab_size": 4, "hidden_size": 5}, "vocabulary": ["a", "b", "c", "UNK"]}
    saved_with(path, metadata={"format": FORMAT, "header": json.dumps(header)})
    assert refusal() == "its header lacks 'notes'"
    tensor = {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}
    head = json.dumps({"__metadata__": {"format": FORMAT, "header": "{}"}, "x": tensor}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"\0\0")
    assert "expected float32 or float64 tensors" in refusal()
    saved_with(path, header={"model": {"vocab_size": 4, "hidden_size": 0}})
    assert refusal() == "hidden_size: expected an integer of at least 1, got 0"
