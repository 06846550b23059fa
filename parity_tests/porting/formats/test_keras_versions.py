"""What a version of Keras, a subclass and a list of layers say of weights is read."""

import os

import h5py
import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.keras.keras_reader import read_keras
from numpy_lstm.porting.formats.read import read_archive
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH
from numpy_lstm.porting.options import OptionError, ReadOptions
from numpy_lstm.porting.recognise.loading import lstm_in_archive, read_lstm

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
    pytest.mark.usefixtures("without_type_checks"),
]
HARD = ("hard_sigmoid(0.2, 0.5)", "tanh", "tanh")


def saved(path, version: str, layers: dict[str, int]):
    """Weights of Keras 2: by layer's name the features that it reads; 0 for one without weights."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        if version:
            file.attrs["keras_version"] = version.encode()
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, features in layers.items():
            group = file.create_group(name)
            if features:
                shapes = {"kernel": (features, 20), "recurrent_kernel": (5, 20), "bias": (20,)}
                for leaf, shape in shapes.items():
                    group[f"{name}/{leaf}:0"] = rng.standard_normal(shape).astype("f4")
    return path


@pytest.mark.parametrize("version", ["2.2.4", "2.0.8", "2.1.6-tf", "2.2.4-tf", "1.2.2"])
def test_before_2_3_the_activations_are_asked_for_and_the_version_is_named(tmp_path, version):
    path = saved(tmp_path / "a.h5", version, {"lstm_1": 3})
    with pytest.raises(OptionError) as caught:
        read_lstm(path)
    sentence = str(caught.value)
    assert f"written by Keras {version}, before 2.3" in sentence
    assert "hard_sigmoid(0.2, 0.5)" in sentence
    assert caught.value.option == "activations"
    for activations in (HARD, SIGMOID_TANH):
        loaded = read_lstm(path, ReadOptions(activations=activations))
        assert loaded.lstm.facts.activations == activations


@pytest.mark.parametrize("version", ["2.3.0", "2.4.0", "2.11.0", "3.1.0", ""])
def test_from_2_3_on_they_are_sigmoid_and_tanh_and_a_note_says_so(tmp_path, version):
    loaded = read_lstm(saved(tmp_path / "a.h5", version, {"lstm_1": 3}))
    assert loaded.lstm.facts.activations == SIGMOID_TANH
    assert any("taken to be sigmoid and tanh" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("between", "stacked"),
    [
        ([], True),
        (["dropout"], True),
        (["dropout_1", "spatial_dropout1d"], True),
        (["gaussian_noise", "masking"], True),
        (["repeat_vector"], False),
        (["dropout", "repeat_vector_3"], False),
        (["time_distributed"], False),
        (["flatten"], False),
        (["concatenate_1"], False),
        (["layer_of_my_own"], False),
    ],
)
def test_only_what_changes_nothing_may_stand_between_two_layers(tmp_path, between, stacked):
    layers = {"input_1": 0, "lstm": 3, **dict.fromkeys(between, 0), "lstm_1": 5, "dense": 0}
    path = saved(tmp_path / "a.h5", "2.4.0", layers)
    if stacked:
        assert read_lstm(path).lstm.prefixes == ("lstm/", "lstm_1/")
        return
    with pytest.raises(
        InputError, match=r"2 LSTMs: choose one with select from 'lstm/', 'lstm_1/'"
    ):
        read_lstm(path)
    assert read_lstm(path, ReadOptions(select="lstm_1")).lstm.num_layers == 1


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras")


def test_an_autoencoder_saved_by_keras_3_is_two_lstms(tmp_path, keras):
    model = keras.Sequential(
        [
            keras.Input((4, 5)),
            keras.layers.LSTM(5),
            keras.layers.RepeatVector(4),
            keras.layers.LSTM(5, return_sequences=True),
        ]
    )
    for name in ("a.weights.h5", "a.keras", "a.h5"):
        path = tmp_path / name
        save = model.save_weights if "weights" in name else model.save
        save(path)
        with pytest.raises(InputError, match="2 LSTMs: choose one"):
            read_lstm(path)


def test_a_subclass_has_the_activations_of_its_options(tmp_path, keras):
    class MyLSTM(keras.layers.LSTM):
        pass

    layers = [keras.Input((None, 3)), MyLSTM(5, recurrent_activation="hard_sigmoid", name="mine")]
    keras.Sequential(layers).save(tmp_path / "a.keras")
    archive = read_keras(tmp_path / "a.keras")
    gate = archive.facts["mine/"].activations[0]
    assert gate == "hard_sigmoid(0.16666666666666666, 0.5)"
    assert archive.notes == (
        "mine: is of the class 'MyLSTM', taken for an LSTM by its options: what the code of that"
        " class changes is not in the file",
    )


def test_a_class_whose_options_say_no_activation_asks_for_them(tmp_path, keras):
    class Silent(keras.layers.LSTM):
        def get_config(self):
            return {"name": self.name}

    layers = [keras.Input((None, 3)), Silent(5, name="mine")]
    keras.Sequential(layers).save(tmp_path / "a.keras")
    archive = read_archive(tmp_path / "a.keras")
    with pytest.raises(OptionError, match="activations, since the model's description does not"):
        lstm_in_archive(tmp_path / "a.keras", archive)
