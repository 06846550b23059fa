"""Keras' files: read as Keras wrote them, written as Keras reads them, and refused when damaged."""

import io
import json
import os
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.convert import convert
from numpy_lstm.porting.formats.keras import hdf5_listing, hdf5_reader
from numpy_lstm.porting.formats.keras.keras_reader import read_keras
from numpy_lstm.porting.formats.keras.keras_writer import keras_2_weights, keras_weights
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import to_canonical, to_layout
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH, CanonicalLSTM, RuntimeFacts, digest
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.options import ReadOptions
from numpy_lstm.porting.proof.run_as_placed import run_as_placed
from numpy_lstm.porting.recognise.facts import missing_facts
from numpy_lstm.porting.recognise.loading import read_lstm
from numpy_lstm.porting.recognise.recognition import recognise
from numpy_lstm.roundoff import K, Noise, distance
from parity_tests.conftest import DATA
from parity_tests.support.problems import random_parameters

T, N, I, H = 5, 3, 2, 4
HARD = "hard_sigmoid(0.16666666666666666, 0.5)"
OLD_HARD = "hard_sigmoid(0.2, 0.5)"
FLOAT32 = np.dtype(np.float32)
pytestmark = [
    pytest.mark.filterwarnings(  # Keras' torch backend
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
    pytest.mark.usefixtures("without_type_checks"),
]


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras")


@dataclass(frozen=True)
class Case:
    """LSTMs that Keras can have one upon another, and what the row calls them."""

    prefixes: tuple[str, ...]
    directions: int = 1
    use_bias: bool = True
    recurrent_activation: str = "sigmoid"
    activation: str = "tanh"
    expected: tuple[str, str, str] = SIGMOID_TANH

    def model(self, keras: Any, seed: int = 0) -> Any:
        """A Sequential model with random weights."""
        keras.utils.clear_session()
        options: dict[str, Any] = {"use_bias": self.use_bias, "activation": self.activation}
        options |= {"recurrent_activation": self.recurrent_activation, "return_sequences": True}
        layers = [keras.Input((None, I))]
        for prefix in self.prefixes:
            name = prefix.removesuffix("/")
            if self.directions == 1:
                layers.append(keras.layers.LSTM(H, name=name, **options))
            else:
                layers.append(
                    keras.layers.Bidirectional(keras.layers.LSTM(H, **options), name=name)
                )
        model, rng = keras.Sequential(layers), np.random.default_rng([seed, 9])
        for layer in model.layers:
            layer.set_weights([rng.standard_normal(w.shape) for w in layer.get_weights()])
        return model

    def native(self, model: Any, **facts: Any) -> PlacedLSTM:
        """What the row says of the model's weights, by Keras' order of them."""
        sides = ("",) if self.directions == 1 else ("forward/", "backward/")
        own = ("kernel", "recurrent_kernel", "bias")[: 3 if self.use_bias else 2]
        tensors = {}
        for prefix, layer in zip(self.prefixes, model.layers, strict=True):
            names = [f"{prefix}{side}{name}" for side in sides for name in own]
            tensors |= dict(zip(names, layer.get_weights(), strict=True))
        return PlacedLSTM(
            TABLE["keras"], tensors, self.prefixes, self.directions, RuntimeFacts(**facts)
        )


CASES = {
    "one layer": Case(("lstm/",)),
    "two layers": Case(("lstm_0/", "lstm_1/")),
    "two layers, both directions": Case(("lstm_0/", "lstm_1/"), 2),
    "no bias, both directions": Case(("lstm/",), 2, use_bias=False),
    "no bias": Case(("lstm/",), use_bias=False),
    "hard sigmoid": Case(
        ("lstm/",), 1, True, "hard_sigmoid", "softsign", (HARD, "softsign", "softsign")
    ),
}


def drawn(native: PlacedLSTM) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs and non-zero initial states, float32 numbers in float64."""
    rng, L = np.random.default_rng(4), native.num_layers * native.directions
    shapes = ((T, N, I), (L, N, H), (L, N, H))
    x, h0, c0 = (rng.standard_normal(shape).astype(np.float32).astype(float) for shape in shapes)
    return x, h0, c0


def run_keras(model: Any, x: np.ndarray, h0: np.ndarray, c0: np.ndarray) -> list[np.ndarray]:
    """y, h_n, c_n by Keras' own layers, in float32."""
    D = len(h0) // len(model.layers)
    y, h_n, c_n = x.transpose(1, 0, 2).astype(np.float32), [], []
    for k, layer in enumerate(model.layers):
        both = D == 2
        for each in (layer, *((layer.forward_layer, layer.backward_layer) if both else ())):
            each.return_state = True
        own = range(k * D, k * D + D)
        states = [s[d].astype(np.float32) for d in own for s in (h0, c0)]
        y, *states = layer(y, initial_state=states)
        h_n += states[::2]
        c_n += states[1::2]

    def array(tensor: Any) -> np.ndarray:
        return tensor.detach().numpy()

    return [array(y).transpose(1, 0, 2), np.stack([*map(array, h_n)]), np.stack([*map(array, c_n)])]


def farthest(model: Any, native: PlacedLSTM) -> float:
    """The largest distance of Keras' outputs, in float32, from ours in float64."""
    given = drawn(native)
    exact = run_as_placed(native, *given)
    twins = []
    for k in range(4):
        noise = Noise([k, 1], FLOAT32)
        x, h0, c0 = (noise.moved(array) for array in given)
        twins.append(
            [a - b for a, b in zip(run_as_placed(native, x, h0, c0, noise), exact, strict=True)]
        )
    found, moves = run_keras(model, *given), zip(*twins, strict=True)
    return max(
        distance(a.astype(np.float64), e, m, FLOAT32)
        for a, e, m in zip(found, exact, moves, strict=True)
    )


def read_one(path: Path) -> tuple[PlacedLSTM, tuple[str, ...]]:
    """The only LSTM of a file, and notes."""
    archive = read_keras(path)
    (finding,) = recognise(archive)
    assert not finding.best.misfit
    assert not finding.ambiguous
    return finding.best.lstm, archive.notes


def same(a: PlacedLSTM, b: PlacedLSTM) -> bool:
    """Whether names, shapes, dtypes, bits, order of layers and directions are the same."""
    return (digest(a.tensors), a.prefixes, a.directions) == (
        digest(b.tensors),
        b.prefixes,
        b.directions,
    )


def seed_native(row: str, **options: Any) -> PlacedLSTM:
    """A random LSTM in one of the rows."""
    config = LSTM(I, H, bias_pair=TABLE[row].bias_pair, **options)
    rng = np.random.default_rng(8)
    parameters = random_parameters(config.parameter_shapes(), rng, np.float32)
    return to_layout(CanonicalLSTM(config, parameters), TABLE[row])


# --- against Keras ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_keras_saves_is_read_bit_for_bit_and_gives_keras_outputs(keras, case, tmp_path):
    model = case.model(keras)
    expected = case.native(model)
    model.save(tmp_path / "a.keras")
    model.save_weights(tmp_path / "a.weights.h5")
    native, notes = read_one(tmp_path / "a.keras")
    assert same(native, expected)
    assert native.facts.activations == case.expected
    assert notes == ()
    bare, notes = read_one(tmp_path / "a.weights.h5")
    assert same(bare, expected)
    assert notes == ()
    assert farthest(model, native) <= K


@pytest.mark.parametrize("case", list(CASES.values())[2:], ids=list(CASES)[2:])
def test_the_older_h5_of_keras_is_read_the_same(keras, case, tmp_path):
    model = case.model(keras)
    model.save(tmp_path / "a.h5")
    native, notes = read_one(tmp_path / "a.h5")
    assert same(native, case.native(model))
    assert (native.facts.activations, notes) == (case.expected, ())


@pytest.mark.parametrize("write", [keras_weights, keras_2_weights])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_keras_loads_what_is_written_and_gives_the_same(keras, case, write, tmp_path):
    native = case.native(case.model(keras, seed=1), activations=case.expected)
    path = tmp_path / ("a.weights.h5" if write is keras_weights else "a.h5")
    path.write_bytes(write(native))
    model = case.model(keras, seed=2)
    assert not same(case.native(model), native)
    model.load_weights(path)
    assert same(case.native(model), native)
    assert farthest(model, native) <= K


@pytest.mark.parametrize("options", [{}, {"num_layers": 3, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("row", ["keras", "keras-cudnn", "keras-1"])
def test_what_is_written_is_read_under_the_same_names(row, options, tmp_path):
    native = seed_native(row, **options)
    for write in (keras_2_weights, keras_weights)[: 2 if row == "keras" else 1]:
        path = tmp_path / "a.h5"
        path.write_bytes(write(native))
        archive = read_keras(path)
        assert archive.rows == (row,)
        (finding,) = recognise(archive)
        assert same(finding.best.lstm, native)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes_are_written_and_read(dtype, tmp_path):
    import ml_dtypes

    native = seed_native("keras")
    own = np.dtype(getattr(ml_dtypes, dtype, dtype))
    tensors = {name: array.astype(own) for name, array in native.tensors.items()}
    native = PlacedLSTM(native.layout, tensors, native.prefixes)
    (tmp_path / "a.h5").write_bytes(keras_weights(native))
    assert digest(read_keras(tmp_path / "a.h5").tensors) == digest(native.tensors)


def test_keras_loads_bfloat16(keras, tmp_path):
    import ml_dtypes

    native = seed_native("keras")
    tensors = {name: a.astype(ml_dtypes.bfloat16) for name, a in native.tensors.items()}
    path = tmp_path / "a.weights.h5"
    path.write_bytes(keras_weights(PlacedLSTM(native.layout, tensors, native.prefixes)))
    model = CASES["one layer"].model(keras)
    model.load_weights(path)
    for found, expected in zip(model.get_weights(), tensors.values(), strict=True):
        np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_the_same_lstm_gives_the_same_bytes():
    native = seed_native("keras", num_layers=2)
    first = [keras_weights(native), keras_2_weights(native)]
    time.sleep(1.1)  # HDF5's times are in seconds
    assert [keras_weights(native), keras_2_weights(native)] == first


# --- models that are more than LSTMs ----------------------------------------------------------


def mixed_model(keras: Any) -> Any:
    """Cells, wrappers, a model within the model, and layers that are no LSTMs."""
    keras.utils.clear_session()
    L = keras.layers
    within = [keras.Input((None, 3)), L.LSTM(3, return_sequences=True, name="a")]
    within.append(L.LSTM(4, return_sequences=True, name="b", recurrent_activation="hard_sigmoid"))
    layers = [
        keras.Input((None, I)),
        L.Dense(3, name="first"),
        keras.Sequential(within, name="sub"),
        L.GRU(4, return_sequences=True, name="gru"),
        L.RNN([L.LSTMCell(4, name="c0"), L.LSTMCell(4, name="c1", activation="relu")], True),
        L.RNN(L.LSTMCell(5, activation="softsign"), return_sequences=True, name="cell"),
        L.Bidirectional(L.LSTM(2, return_sequences=True), "sum", name="bi"),
        L.LSTM(6, return_sequences=True, go_backwards=True, name="back"),
    ]
    model, rng = keras.Sequential(layers), np.random.default_rng(3)
    model.set_weights([rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


MIXED = {
    "sub/a/": SIGMOID_TANH,
    "sub/b/": (HARD, "tanh", "tanh"),
    "cell/": ("sigmoid", "softsign", "softsign"),
    "bi/": SIGMOID_TANH,
    "back/": SIGMOID_TANH,
}


def check_mixed(archive: Any, cells: dict[str, tuple[str, str, str]]) -> None:
    """Every LSTM with its own activations, and warnings of what else they do."""
    assert {prefix: facts.activations for prefix, facts in archive.facts.items()} == MIXED | cells
    assert [note.split(":")[0] for note in archive.notes] == ["bi", "back"]
    assert "merge_mode is 'sum'" in archive.notes[0]
    assert "go_backwards is set" in archive.notes[1]
    whole = [f.best.lstm for f in recognise(archive) if not f.best.misfit]
    found = {prefix for native in whole for prefix in native.prefixes}
    assert found == {*MIXED, *cells}


CELLS = {"c0/": SIGMOID_TANH, "c1/": ("sigmoid", "relu", "relu")}


def test_lstms_within_other_layers_are_found_with_their_own_activations(keras, tmp_path):
    model = mixed_model(keras)
    model.save(tmp_path / "a.keras")
    archive = read_keras(tmp_path / "a.keras")
    check_mixed(archive, {f"rnn/{name}": said for name, said in CELLS.items()})
    weights = {w.path: w.numpy() for w in model.weights}
    np.testing.assert_array_equal(
        archive.tensors["bi/backward/kernel"],
        weights["sequential/bi/backward_lstm/lstm_cell/kernel"],
    )
    np.testing.assert_array_equal(archive.tensors["sub/b/bias"], weights["sub/b/lstm_cell/bias"])


def test_files_without_names_of_layers_are_read_by_group(keras, tmp_path):
    mixed_model(keras).save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:  # as before Keras 3.9
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
    members["model.weights.h5"] = weights.getvalue()
    write_zip(tmp_path / "b.keras", members)
    archive = read_keras(tmp_path / "b.keras")
    named = {"sequential/lstm/": "sub/a/", "sequential/lstm_1/": "sub/b/", "rnn_1/": "cell/"}
    named |= {"bidirectional/": "bi/", "lstm/": "back/"}
    cells = {"rnn/lstm_cell/": CELLS["c0/"], "rnn/lstm_cell_1/": CELLS["c1/"]}
    assert {p: f.activations for p, f in archive.facts.items()} == {
        prefix: MIXED[now] for prefix, now in named.items()
    } | cells


def test_the_older_h5_has_the_same_lstms(keras, tmp_path):
    mixed_model(keras).save(tmp_path / "a.h5")
    check_mixed(
        read_keras(tmp_path / "a.h5"), {f"rnn/{name}": said for name, said in CELLS.items()}
    )


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


# --- older versions ---------------------------------------------------------------------------


def old_model(path: Path, row: str, version: str, layers: Any) -> Path:
    """A whole model of Keras 1 or 2."""
    path.write_bytes(keras_2_weights(seed_native(row)))
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers})
    return path


def layer_config(name: str, class_name: str = "LSTM", **options: str) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, **options}}


@pytest.mark.parametrize("version", ["2.2.4-tf", "3.0.0"])
def test_the_version_says_which_hard_sigmoid_is_meant(version, tmp_path):
    own = layer_config("lstm", recurrent_activation="hard_sigmoid", activation="tanh")
    path = old_model(tmp_path / "a.h5", "keras", version, {"layers": [own]})
    gate = HARD if version.startswith("3") else OLD_HARD
    assert read_keras(path).facts == {"lstm/": RuntimeFacts(activations=(gate, "tanh", "tanh"))}


def test_keras_1_and_cudnn_have_activations_of_their_own(tmp_path):
    own = layer_config("lstm_1", inner_activation="hard_sigmoid", activation="relu")
    path = old_model(tmp_path / "a.h5", "keras-1", "1.2.2", [own])
    assert read_keras(path).facts == {
        "lstm_1/": RuntimeFacts(activations=(OLD_HARD, "relu", "relu"))
    }
    own = layer_config("cu_dnnlstm", "CuDNNLSTM")
    path = old_model(tmp_path / "a.h5", "keras-cudnn", "2.2.4", [own])
    assert read_keras(path).facts == {"cu_dnnlstm/": RuntimeFacts()}


def test_a_layer_that_is_called_forward_is_no_half_of_a_pair(tmp_path):
    native = seed_native("keras")
    renamed = {n.replace("lstm/", "forward_lstm/"): a for n, a in native.tensors.items()}
    native = PlacedLSTM(native.layout, renamed, ("forward_lstm/",))
    (tmp_path / "a.h5").write_bytes(keras_2_weights(native))
    assert set(read_keras(tmp_path / "a.h5").tensors) == set(renamed)


def in_sequence(keras: Any, *layers: Any) -> Any:
    return keras.Sequential([keras.Input((None, 4)), *layers])


def seq2seq(keras: Any) -> Any:
    """Two LSTMs of which the second begins with the states of the first."""
    L, x, z = keras.layers, keras.Input((None, 4)), keras.Input((None, 4))
    _, h, c = L.LSTM(4, return_sequences=True, return_state=True)(x)
    return keras.Model([x, z], L.LSTM(4, return_sequences=True)(z, initial_state=[h, c]))


def decoder_of_two(keras: Any) -> Any:
    """A stack whose upper layer begins with states from elsewhere."""
    L, x, h, c = keras.layers, keras.Input((None, 4)), keras.Input((4,)), keras.Input((4,))
    y = L.LSTM(4, return_sequences=True)(x)
    return keras.Model([x, h, c], L.LSTM(4)(L.Dropout(0.1)(y), initial_state=[h, c]))


def read_by_two(keras: Any) -> Any:
    L, x = keras.layers, keras.Input((None, 4))
    y = L.LSTM(4, return_sequences=True)(x)
    return keras.Model(x, [L.LSTM(4)(y), L.LSTM(4)(y)])


def called_twice(keras: Any) -> Any:
    L, x = keras.layers, keras.Input((None, 4))
    below, above = L.LSTM(4, return_sequences=True), L.LSTM(4, return_sequences=True)
    return keras.Model(x, above(above(below(x))))


def lstms(keras: Any, n: int, **options: Any) -> list[Any]:
    options = {"return_sequences": True} | options
    return [keras.layers.LSTM(4, **options) for _ in range(n)]


def both_ways(keras: Any, mode: str) -> list[Any]:
    return [keras.layers.Bidirectional(layer, mode) for layer in lstms(keras, 2)]


def cell_layer(keras: Any, **options: Any) -> Any:
    return keras.layers.RNN(keras.layers.LSTMCell(4), return_sequences=True, **options)


ONE, TWO = [2], [1, 1]
CONNECTIONS = {
    "next to each other": (lambda k: in_sequence(k, *lstms(k, 2)), ONE),
    "with dropout between": (
        lambda k: in_sequence(k, *lstms(k, 1), k.layers.Dropout(0.5), *lstms(k, 1)),
        ONE,
    ),
    "with a dense layer between": (
        lambda k: in_sequence(k, *lstms(k, 1), k.layers.Dense(4), *lstms(k, 1)),
        TWO,
    ),
    "with dropout twice": (
        lambda k: in_sequence(
            k, *lstms(k, 1), *(k.layers.Dropout(0.5) for _ in "ab"), *lstms(k, 1)
        ),
        ONE,
    ),
    "with masking between": (
        lambda k: in_sequence(k, *lstms(k, 1), k.layers.Masking(), *lstms(k, 1)),
        TWO,
    ),
    "with normalisation between": (
        lambda k: in_sequence(k, *lstms(k, 1), k.layers.LayerNormalization(), *lstms(k, 1)),
        TWO,
    ),
    "the last output alone": (
        lambda k: in_sequence(
            k, *lstms(k, 1, return_sequences=False), k.layers.RepeatVector(3), *lstms(k, 1)
        ),
        TWO,
    ),
    "backward": (lambda k: in_sequence(k, *lstms(k, 1), *lstms(k, 1, go_backwards=True)), TWO),
    "from backward": (lambda k: in_sequence(k, *lstms(k, 1, go_backwards=True), *lstms(k, 1)), TWO),
    "other activations": (
        lambda k: in_sequence(k, *lstms(k, 1), *lstms(k, 1, activation="relu")),
        TWO,
    ),
    "both directions": (lambda k: in_sequence(k, *both_ways(k, "concat")), ONE),
    "both directions, multiplied": (lambda k: in_sequence(k, *both_ways(k, "mul")), TWO),
    "of cells": (lambda k: in_sequence(k, cell_layer(k), cell_layer(k)), ONE),
    "of cells, backward": (
        lambda k: in_sequence(k, cell_layer(k), cell_layer(k, go_backwards=True)),
        TWO,
    ),
    "cells": (lambda k: in_sequence(k, k.layers.RNN([k.layers.LSTMCell(4) for _ in "ab"])), ONE),
    "seq2seq": (seq2seq, TWO),
    "a decoder of two layers": (decoder_of_two, ONE),
    "one read by two": (read_by_two, [1, 1, 1]),
    "called twice": (called_twice, TWO),
}


@pytest.mark.parametrize(
    ("connection", "ending"),
    [(connection, ".keras") for connection in CONNECTIONS]
    + [(connection, ".h5") for connection in ("called twice", "of cells", "seq2seq")],
)
def test_layers_are_one_stack_only_where_the_model_says_so(keras, connection, ending, tmp_path):
    """Sizes and names fit in every case."""
    keras.utils.clear_session()
    make, expected = CONNECTIONS[connection]
    make(keras).save(tmp_path / f"a{ending}")
    archive = read_keras(tmp_path / f"a{ending}")
    found = recognise(archive)
    assert [finding.best.lstm.num_layers for finding in found] == expected
    reasons = " ".join(reason for finding in found for reason in finding.best.reasons)
    assert ("one stack, as the file says" in reasons) == (expected == ONE)
    assert "taken for" not in reasons


def test_a_graph_of_keras_2_says_what_each_layer_reads(tmp_path):
    """[[layer, node, output, {}], ...] by layer: the first is the input, the others states."""
    native = seed_native("keras", num_layers=2)
    layers = []
    for name, below in (("lstm_0", "x"), ("lstm_1", "lstm_0")):
        layer = layer_config(name, recurrent_activation="sigmoid", activation="tanh")
        layer["inbound_nodes"] = [[[below, 0, 0, {}], ["h", 0, 0, {}], ["c", 0, 0, {}]]]
        layers.append(layer)
    path = tmp_path / "a.h5"

    def chains_of(layers: list[Any]) -> Any:
        path.write_bytes(keras_2_weights(native))
        with h5py.File(path, "r+") as file:
            config = {"class_name": "Functional", "config": {"layers": layers}}
            file.attrs["model_config"] = json.dumps(config)
        return read_keras(path).chains

    assert chains_of(layers) == {("lstm_0/", "lstm_1/")}
    layers[1]["inbound_nodes"][0].reverse()
    assert chains_of(layers) == frozenset()
    layers[1]["inbound_nodes"] = [[["lstm_0", 0, 0, {}]], [["x", 0, 0, {}]]]  # called twice
    assert chains_of(layers) == frozenset()


def test_cells_of_somebodys_own_are_no_lstms(keras, tmp_path):
    """A cell with peepholes; and layers within a layer, of which nobody knows how they are used."""
    keras.utils.clear_session()

    @keras.saving.register_keras_serializable("numpy_lstm")
    class Peephole(keras.layers.LSTMCell):
        def build(self, shape: Any) -> None:
            super().build(shape)
            self.peephole = self.add_weight(shape=(self.units,), name="peephole")

    @keras.saving.register_keras_serializable("numpy_lstm")
    class Sum(keras.layers.Layer):
        def __init__(self, layers: list[Any], **options: Any) -> None:
            super().__init__(**options)
            self.layers = [
                keras.layers.deserialize(c) if isinstance(c, dict) else c for c in layers
            ]

        def build(self, shape: Any) -> None:
            for layer in self.layers:
                layer.build(shape)

        def call(self, x: Any) -> Any:
            return sum(layer(x) for layer in self.layers)

        def get_config(self) -> dict[str, Any]:
            layers = [keras.layers.serialize(layer) for layer in self.layers]
            return super().get_config() | {"layers": layers}

    for ending in (".keras", ".h5"):
        path = tmp_path / f"a{ending}"
        in_sequence(keras, keras.layers.RNN(Peephole(4))).save(path)
        with pytest.raises(InputError, match=r"no LSTM found|peephole: unexpected"):
            read_lstm(path)
        in_sequence(keras, Sum(lstms(keras, 2))).save(path)
        found = recognise(read_keras(path))
        assert [len(finding.prefixes) for finding in found] == [1, 1]


def test_one_direction_of_two_is_no_lstm(keras, tmp_path):
    keras.utils.clear_session()
    L = keras.layers
    pair = L.Bidirectional(L.LSTM(4, activation="relu"), backward_layer=L.GRU(4, go_backwards=True))
    in_sequence(keras, pair).save(tmp_path / "a.keras")
    assert not [n for n in read_keras(tmp_path / "a.keras").tensors if n.endswith("/kernel")]


def test_that_cells_are_run_backward_is_said(keras, tmp_path):
    keras.utils.clear_session()
    for layer in (
        cell_layer(keras, go_backwards=True),
        keras.layers.RNN([keras.layers.LSTMCell(4) for _ in "ab"], go_backwards=True),
    ):
        in_sequence(keras, layer).save(tmp_path / "a.keras")
        notes = read_keras(tmp_path / "a.keras").notes
        assert notes
        assert all("go_backwards is set" in note for note in notes)


def test_wrappers_in_wrappers_take_no_time_that_doubles(tmp_path):
    inner = layer_config("lstm", recurrent_activation="sigmoid", activation="tanh")
    for k in range(60):
        inner = {"class_name": "Bidirectional", "config": {"name": f"b{k}", "layer": inner}}
    config = {"class_name": "Sequential", "config": {"layers": [inner]}}
    archive = read_keras(zipped(tmp_path / "a.keras", config=json.dumps(config).encode()))
    assert archive.facts == {}


def test_what_a_file_of_weights_alone_leaves_open_is_said_by_every_conversion(keras, tmp_path):
    keras.utils.clear_session()
    seq2seq(keras).save_weights(tmp_path / "a.weights.h5")
    guess = "lstm/,lstm_1/ were taken for layers of one LSTM, since their names count up"
    record = convert(tmp_path / "a.weights.h5", tmp_path / "a.npz", "torch", allow_lossy=True)
    assert record["notes"][0].startswith(guess)
    assert record["notes"][1].startswith("not in the file: activations, taken to be sigmoid")
    chosen = ReadOptions(select="lstm_1/")
    record = convert(tmp_path / "a.weights.h5", tmp_path / "b.npz", "torch", chosen)
    assert record["sizes"]["num_layers"] == 1
    assert not [note for note in record["notes"] if "were taken" in note]


def test_dtln_has_two_stacks_whose_first_is_that_of_its_onnx_file():
    import onnx
    from onnx import numpy_helper

    paths = [DATA / "DTLN" / name for name in ("model.h5", "model_1.onnx")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"{paths[0]} is not there")
    archive = read_keras(paths[0])
    found = [finding.best.lstm for finding in recognise(archive)]
    assert [native.prefixes for native in found] == [("lstm/", "lstm_1/"), ("lstm_2/", "lstm_3/")]
    configs = [to_canonical(native).config for native in found]
    assert [(c.input_size, c.hidden_size) for c in configs] == [(257, 128), (256, 128)]
    there = to_layout(fit_to_layout(to_canonical(found[0]), TABLE["onnx"])[0], TABLE["onnx"])
    graph = onnx.load(str(paths[1])).graph
    initialisers = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "LSTM"]
    assert len(nodes) == 2
    for layer, node in enumerate(nodes):
        for own, name in zip("WRB", node.input[1:4], strict=True):
            array = there.tensors[f"lstm/l{layer}/{own}"]
            assert array.tobytes() == initialisers[name].tobytes()
            assert array.shape == initialisers[name].shape


# --- refusals ---------------------------------------------------------------------------------


def whole_file(path: Path, fill: Callable[[h5py.Group], None] | None = None) -> Path:
    """A file of weights, changed."""
    path.write_bytes(keras_weights(seed_native("keras")))
    if fill is not None:
        with h5py.File(path, "r+") as file:
            group = file["layers/lstm/cell/vars"]
            assert isinstance(group, h5py.Group)
            fill(group)
    return path


def external_link(group: h5py.Group) -> None:
    group["x"] = h5py.ExternalLink("secret.h5", "/a")


def soft_link(group: h5py.Group) -> None:
    group["x"] = h5py.SoftLink("/layers/lstm/cell/vars/0")


def second_name(group: h5py.Group) -> None:
    group["again"] = group.file["layers"]


def external_data(group: h5py.Group) -> None:
    group.create_dataset("x", (2, 12), "f4", external=[("secret.bin", 0, 96)])


def virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((2, 12), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "a", (2, 12))
    group.create_virtual_dataset("x", layout)


def compressed(group: h5py.Group) -> None:
    group.create_dataset("x", (1 << 11, 1 << 20), "f4", chunks=(1, 1 << 10), compression="gzip")


def never_written(group: h5py.Group) -> None:
    group.create_dataset("x", (1 << 11, 1 << 20), "f4")


def strings(group: h5py.Group) -> None:
    group["x"] = ["a", "b"]


def compound(group: h5py.Group) -> None:
    group["x"] = np.zeros(3, [("a", "f4"), ("b", "i4")])


def opaque(group: h5py.Group) -> None:
    group["x"] = np.zeros(3, "V2")


def named_type(group: h5py.Group) -> None:
    group["x"] = np.dtype("f4")


def bad_name(group: h5py.Group) -> None:
    group.attrs["name"] = np.arange(3)


PIECE = "'layers/lstm/cell/vars/x' is not stored in one piece in this file"
REFUSALS: dict[Callable[[h5py.Group], None], str] = {
    external_link: "'layers/lstm/cell/vars/x' is a ExternalLink",
    soft_link: "'layers/lstm/cell/vars/x' is a SoftLink",
    second_name: "'layers/lstm/cell/vars/again' is a second name of an object",
    external_data: PIECE,
    virtual: PIECE,
    compressed: PIECE,
    never_written: "'layers/lstm/cell/vars/x' has a shape and no data",
    strings: "'layers/lstm/cell/vars/x' does not hold plain numbers (object)",
    compound: "'layers/lstm/cell/vars/x' does not hold plain numbers",
    opaque: "layers/lstm/cell/vars/x: expected numbers, got 2 bytes each of an unknown kind",
    named_type: "'layers/lstm/cell/vars/x' is neither group nor dataset",
    bad_name: "attribute 'name' of 'layers/lstm/cell/vars' is not text",
}


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_keras(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("fill", REFUSALS, ids=lambda fill: fill.__name__)
def test_what_is_not_plain_numbers_in_the_file_is_refused(fill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("secret.h5", "w") as file:
        file["a"] = np.ones((2, 12), np.float32)
    Path("secret.bin").write_bytes(np.ones((2, 12), np.float32).tobytes())
    assert REFUSALS[fill] in refusal(whole_file(tmp_path / "a.weights.h5", fill))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.keras"
    assert "no such file" in refusal(path)
    assert "not a regular file" in refusal(tmp_path)
    path.write_bytes(b"nothing of the kind")
    assert "expected an HDF5 file, got another" in refusal(path)
    write_zip(path, {"config.json": b"{}", "metadata.json": b"{}"})
    assert "got none of the name model.weights.h5" in refusal(path)


def test_an_unpacked_size_that_no_weights_have_is_refused_before_unpacking(tmp_path):
    path = tmp_path / "a.keras"
    members = {"model.weights.h5": bytes(80 << 20), "config.json": b"{}"}
    write_zip(path, members | {"metadata.json": b"{}"}, zipfile.ZIP_DEFLATED)
    assert "declares 83,886,084 bytes of tensors in a file of" in refusal(path)


def zipped(path: Path, **members: bytes) -> Path:
    """A .keras file of one LSTM, with other config or metadata."""
    own = layer_config("lstm", recurrent_activation="sigmoid", activation="tanh")
    config = {"class_name": "Sequential", "config": {"layers": [own]}}
    usual = {"config": json.dumps(config).encode(), "metadata": b'{"keras_version": "3.15.1"}'}
    contents = {f"{name}.json": data for name, data in (usual | members).items()}
    weights = keras_weights(seed_native("keras"))
    write_zip(path, contents | {"model.weights.h5": weights})
    return path


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"metadata": b"[]"}, "metadata.json lacks keras_version"),
        ({"metadata": b'{"keras_version": 3}'}, "metadata.json lacks keras_version"),
        ({"config": b"{"}, "not a whole JSON text in config.json"),
        ({"config": b"[" * 200_000}, "not a whole JSON text in config.json"),
    ],
)
def test_a_broken_description_is_refused(members, sentence, tmp_path):
    assert sentence in refusal(zipped(tmp_path / "a.keras", **members))


NO_LSTM = "lstm: the model's description does not say that this is an LSTM"


@pytest.mark.parametrize("config", [b"[]", b"3", b'{"config": {"layers": [3, {"config": []}]}}'])
def test_a_description_of_something_else_leaves_the_activations_open(config, tmp_path):
    archive = read_keras(zipped(tmp_path / "a.keras", config=config))
    assert archive.facts == {}
    assert archive.notes == (NO_LSTM,)
    (finding,) = recognise(archive)
    assert "activations" in missing_facts(finding.best.lstm, archive)


def test_layers_that_feed_each_other_in_a_circle_are_read(tmp_path):
    """No model, but a file may say so."""
    circle = {"lstm": "a", "a": "b", "b": "a", "c": "c"}
    layers = [layer_config("lstm", recurrent_activation="sigmoid", activation="tanh")]
    layers += [{"class_name": "Dropout", "config": {"name": name}} for name in "abc"]
    for layer in layers:
        layer["inbound_nodes"] = [[[circle[layer["config"]["name"]], 0, 0]]]
    config = {"class_name": "Functional", "config": {"layers": layers}}
    archive = read_keras(zipped(tmp_path / "a.keras", config=json.dumps(config).encode()))
    assert archive.chains == frozenset()
    assert len(archive.facts) == 1


def test_activations_of_a_layer_with_another_name_are_not_believed(tmp_path):
    own = layer_config("other", recurrent_activation="sigmoid", activation="relu")
    config = {"class_name": "Sequential", "config": {"layers": [own]}}
    path = tmp_path / "a.keras"
    archive = read_keras(zipped(path, config=json.dumps(config).encode()))
    assert archive.facts == {}
    assert archive.notes == (NO_LSTM,)
    (finding,) = recognise(archive)
    assert "activations" in missing_facts(finding.best.lstm, archive)


@pytest.mark.parametrize("value", ["gelu", None, "hard_sigmoid(0.2, 0.5)", {"class_name": "ReLU"}])
def test_an_unknown_activation_is_refused_by_name(value, tmp_path):
    own = layer_config("lstm", recurrent_activation="sigmoid")
    own["config"]["activation"] = value
    path = old_model(tmp_path / "a.h5", "keras", "2.2.4", {"layers": [own]})
    assert f"lstm: activation is {str(value)!r}; expected one of sigmoid" in refusal(path)


def test_directions_with_different_activations_are_refused(tmp_path):
    options = {"recurrent_activation": "sigmoid"}
    sides = [layer_config("s", activation=a, **options) for a in ("tanh", "relu")]
    own = {"name": "lstm", "layer": sides[0], "backward_layer": sides[1]}
    config = {"layers": [{"class_name": "Bidirectional", "config": own}]}
    path = tmp_path / "a.h5"
    path.write_bytes(keras_2_weights(seed_native("keras", bidirectional=True)))
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config})
    assert "lstm: its two directions have other activations" in refusal(path)


def test_writers_refuse_other_layouts_and_prefixes():
    torch = seed_native("torch")
    with pytest.raises(InputError, match="expected the layout keras, got torch"):
        keras_weights(torch)
    with pytest.raises(InputError, match="expected one of keras, keras-cudnn, keras-1, got"):
        keras_2_weights(torch)
    native = seed_native("keras")
    for prefix in ("lstm", "", "/", "a/b/"):
        with pytest.raises(InputError, match="expected a layer's name and a slash"):
            keras_weights(PlacedLSTM(native.layout, native.tensors, (prefix,)))


# --- damage -----------------------------------------------------------------------------------


def test_a_file_on_which_the_hdf5_library_never_ends_is_refused(tmp_path, monkeypatch):
    data = bytearray(whole_file(tmp_path / "a.weights.h5").read_bytes())
    # An object of the heap of strings that is empty and 0 bytes long is followed by itself.
    first = data.index(b"GCOL") + 16
    data[first : first + 16] = bytes(16)
    (tmp_path / "a.weights.h5").write_bytes(data)
    monkeypatch.setattr(hdf5_reader, "PROCESSOR_SECONDS", 1)
    assert "the HDF5 library crashes or never ends on it" in refusal(tmp_path / "a.weights.h5")


def test_a_file_that_kills_its_reader_is_refused(tmp_path, monkeypatch):
    program = tmp_path / "child.py"
    program.write_text("import os; os.abort()")
    monkeypatch.setattr(hdf5_listing, "__file__", str(program))
    path = whole_file(tmp_path / "a.weights.h5")
    assert "the HDF5 library crashes or never ends on it" in refusal(path)


def damaged(data: bytes, seed: int) -> bytes:
    """Cut short, or with other bytes here and there."""
    rng = np.random.default_rng([seed, 5])
    if seed % 3 == 0:
        return data[: rng.integers(len(data))]
    array = np.frombuffer(data, np.uint8).copy()
    begin, size = rng.integers(len(array)), rng.choice([1, 1, 4, 64])
    array[begin : begin + size] = rng.choice([0, 1, 128, 255])
    return array.tobytes()


def outcome(path: Path, data: bytes) -> str | None:
    """What a damaged file holds; None if it was refused."""
    path.write_bytes(data)
    try:
        return digest(read_keras(path).tensors)
    except InputError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        return None


def test_a_damaged_keras_file_is_refused_or_read_as_it_was(tmp_path):
    path = zipped(tmp_path / "a.keras")
    data, whole = path.read_bytes(), digest(read_keras(path).tensors)
    found = [outcome(path, damaged(data, seed)) for seed in range(60)]
    assert set(found) <= {None, whole}
    assert found.count(None) > 45


def test_a_damaged_h5_file_is_refused_or_read(tmp_path):
    data = keras_weights(seed_native("keras"))
    with ThreadPoolExecutor(2) as pool:
        paths = [tmp_path / f"{k}.weights.h5" for k in range(12)]
        found = pool.map(outcome, paths, [damaged(data, seed) for seed in range(12)])
    assert list(found).count(None) >= 4  # a third is cut short


def test_a_tensor_that_ends_outside_the_file_is_refused(tmp_path, monkeypatch):
    path = whole_file(tmp_path / "a.weights.h5")
    found: dict[str, Any] = {"texts": {}, "tensors": {"x": ["<f4", [3], path.stat().st_size - 8]}}
    monkeypatch.setattr(hdf5_reader, "_listing", lambda *_: found)
    assert "x: expected 12 bytes for float32 [3], got 8" in refusal(path)
    found["tensors"] = {"x": ["<f4", [1 << 31], 0]}
    assert "declares 8,589,934,592 bytes of tensors" in refusal(path)
