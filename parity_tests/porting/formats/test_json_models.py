"""JSON files of models for audio plugins: a state_dict among others, and RTNeural's layers."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from numpy_lstm.errors import InputError
from numpy_lstm.porting.recognise.loading import read_lstm

I, H = 2, 5


def saved(tmp_path, content):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(content))
    return path


def layer(kind: str, *shapes, **options):
    rng = np.random.default_rng(len(kind))
    weights = [rng.standard_normal(shape).astype("f4").tolist() for shape in shapes]
    return {"type": kind, "shape": [None, None, H], "weights": weights, **options}


def lstm(features=I, **options):
    return layer("lstm", (features, 4 * H), (H, 4 * H), (4 * H,), activation="tanh", **options)


def test_a_state_dict_beside_a_description_is_read(tmp_path):
    torch.manual_seed(0)
    module = nn.LSTM(1, H)
    state = {f"rec.{name}": tensor.tolist() for name, tensor in module.state_dict().items()}
    data = {"model": "SimpleRNN", "hidden_size": H, "skip": 1, "bias_fl": True}
    loaded = read_lstm(saved(tmp_path, {"model_data": data, "state_dict": state}))
    for name, tensor in module.state_dict().items():
        found = loaded.lstm.tensors[f"state_dict.rec.{name}"]
        assert np.array_equal(found, tensor.numpy())
        assert found.dtype == np.float32
    assert any("adds its input to its output" in note for note in loaded.notes)
    assert any("left out" in note and "model_data" in note for note in loaded.notes)


def test_layers_are_read_in_keras_layout(tmp_path):
    dense = layer("dense", (H, 1), (1,))
    content = {"in_shape": [None, None, I], "layers": [lstm(), dense]}
    loaded = read_lstm(saved(tmp_path, content))
    assert loaded.lstm.layout.key == "keras"
    W, U, b = (np.array(weight, "f4") for weight in content["layers"][0]["weights"])
    for name, expected in {"kernel": W, "recurrent_kernel": U, "bias": b}.items():
        assert np.array_equal(loaded.lstm.tensors[f"layers/0/lstm/{name}"], expected)
    assert not any("activations" in note for note in loaded.notes)


def test_lstms_that_follow_each_other_are_one_and_others_are_not(tmp_path):
    stack = {"layers": [lstm(), lstm(H)]}
    assert read_lstm(saved(tmp_path, stack)).lstm.num_layers == 2
    apart = {"layers": [lstm(), layer("dense", (H, H), (H,)), lstm(H)]}
    with pytest.raises(InputError, match="2 LSTMs: choose one"):
        read_lstm(saved(tmp_path, apart))


def test_a_gru_is_called_so(tmp_path):
    gru = {"layers": [layer("gru", (I, 3 * H), (H, 3 * H), (2, 3 * H))]}
    with pytest.raises(InputError, match=r"layers/0/gru/ is a GRU \(three blocks"):
        read_lstm(saved(tmp_path, gru))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([3], r"layers\[0\]: expected an object with a type and a list"),
        ([{"type": "lstm", "weights": 3}], r"layers\[0\]: expected an object"),
        ([lstm() | {"activation": "relu"}], r"activation is 'relu'; expected tanh"),
        ([{"type": "lstm", "weights": [[[1], 2]]}], "a list beside numbers"),
        ([], "no LSTM found"),
    ],
)
def test_layers_of_any_other_form_are_refused(tmp_path, layers, message):
    with pytest.raises(InputError, match=message):
        read_lstm(saved(tmp_path, {"layers": layers}))
