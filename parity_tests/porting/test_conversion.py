"""What a conversion refuses, what it remembers of a file, and what a check holds a proof to."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numpy_lstm import files as file_module
from numpy_lstm.errors import InputError
from numpy_lstm.files import write_atomically
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting import convert as conversion
from numpy_lstm.porting.check import check_files
from numpy_lstm.porting.convert import convert
from numpy_lstm.porting.formats.npz_file import npz_bytes, read_npz
from numpy_lstm.porting.formats.read import read_archive
from numpy_lstm.porting.formats.safetensors_file import safetensors_bytes
from numpy_lstm.porting.formats.tensorflow.checkpoint_files import data_of
from numpy_lstm.porting.formats.tensorflow.checkpoint_writer import tf_bundle
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import to_layout
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM, RuntimeFacts
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.options import OptionError, ReadOptions
from numpy_lstm.porting.proof.proof import RandomInputs, prove
from numpy_lstm.porting.proof.record import proof_path, sha256
from numpy_lstm.porting.recognise.loading import read_lstm
from parity_tests.support.problems import random_parameters

PASSED = "the recorded proof passed"
RELU = ("sigmoid", "relu", "relu")


def model(seed: int = 0, dtype=np.float32, **options) -> CanonicalLSTM:
    config = LSTM(3, 5, **options)
    parameters = random_parameters(config.parameter_shapes(), np.random.default_rng(seed), dtype)
    return CanonicalLSTM(config, parameters)


def placed(key: str, **options) -> PlacedLSTM:
    return to_layout(fit_to_layout(model(**options), TABLE[key])[0], TABLE[key])


def save(path: Path, tensors) -> Path:
    path.write_bytes(npz_bytes(dict(tensors)))
    return path


def save_checkpoint(index: Path, tensors) -> Path:
    data = tf_bundle(tensors)
    index.write_bytes(data[0])
    data_of(index).write_bytes(data[1])
    return index


def contents(folder: Path) -> dict[str, bytes | None]:
    return {p.name: p.read_bytes() if p.is_file() else None for p in folder.iterdir()}


def refused(folder: Path, function, *arguments, **options) -> str:
    """The sentence of a refusal, after which the folder is as it was."""
    before = contents(folder)
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    assert contents(folder) == before
    return str(caught.value).replace(f"{folder}/", "")


@pytest.fixture
def torch_file(tmp_path) -> Path:
    return save(tmp_path / "torch.npz", placed("torch", bias_pair=True).tensors)


ONE = ReadOptions(forget_bias=1.0)


# --- what a conversion must not get past ------------------------------------------------------


@pytest.mark.parametrize("wrong", ["gates swapped", "no recurrence", "layers swapped"])
def test_a_wrong_conversion_is_not_written(torch_file, tmp_path, monkeypatch, wrong):
    right = conversion.to_layout

    def planted(given, row):
        there = right(given, row)
        tensors = dict(there.tensors)
        if wrong == "gates swapped":
            for name in tensors:
                i, f, g, o = np.split(tensors[name], 4)
                tensors[name] = np.concatenate([f, i, g, o])
        elif wrong == "no recurrence":
            tensors["weight_hh_l0"] = np.zeros_like(tensors["weight_hh_l0"])
        else:
            one, two = ("weight_hh_l0", "weight_hh_l1")
            tensors[one], tensors[two] = tensors[two], tensors[one]
        return replace(there, tensors=tensors)

    source = save(tmp_path / "two.npz", placed("torch", bias_pair=True, num_layers=2).tensors)
    old = save(tmp_path / "out.npz", {"precious": np.ones(3)})
    monkeypatch.setattr(conversion, "to_layout", planted)
    sentence = refused(tmp_path, convert, source, old, "torch", overwrite=True)
    assert sentence.startswith("out.npz: not written, since the proof fails: largest distance ")
    monkeypatch.undo()
    assert convert(source, old, "torch", overwrite=True)["proof"]["passed"] is True


def test_what_does_not_read_back_bit_for_bit_is_not_written(torch_file, tmp_path):
    def flipping(given: PlacedLSTM) -> bytes:
        tensors = {name: array.copy() for name, array in given.tensors.items()}
        bits = tensors["bias_hh_l0"].view(np.uint32)
        bits[7] ^= 1
        return npz_bytes(tensors)

    sentence = refused(
        tmp_path, convert, torch_file, tmp_path / "out.npz", "torch", writers={".npz": flipping}
    )
    assert sentence.startswith("out.npz: not written, since it does not read back")


def test_numbers_that_overflow_in_the_narrower_dtype_are_refused(tmp_path):
    tensors = dict(placed("torch", bias_pair=True, dtype=np.float64).tensors)
    tensors["bias_ih_l0"][3] = 1e39
    source = save(tmp_path / "wide.npz", tensors)
    sentence = refused(
        tmp_path,
        convert,
        source,
        tmp_path / "out.npz",
        "torch",
        dtype="float32",
        allow_lossy=True,
    )
    assert sentence == "bias_ih_l0: too large for float32; keep float64"


def test_a_second_bias_of_minus_zeros_is_no_forget_bias(tmp_path):
    """-0.0 on the forget gate, or elsewhere, would not come back."""
    for place in (7, 2):
        tensors = dict(placed("torch", bias_pair=True).tensors)
        tensors["bias_hh_l0"] = np.zeros(20, np.float32)
        source = save(tmp_path / f"zeros{place}.npz", tensors)
        assert convert(source, tmp_path / f"out{place}.npz", "keras")["lost"] == []
        tensors["bias_hh_l0"][[5, 6, 7, 8, 9] if place == 7 else [2]] = -0.0
        source = save(tmp_path / f"minus{place}.npz", tensors)
        sentence = refused(tmp_path, convert, source, tmp_path / "new.npz", "keras")
        assert "bias_hh: the two biases would be summed" in sentence


def test_a_proof_is_run_from_states_that_are_not_zero():
    given = RandomInputs().draw(model(num_layers=2, bidirectional=True))
    assert [array.shape for array in given] == [(5, 3, 3), (4, 3, 5), (4, 3, 5)]
    assert all(np.count_nonzero(array) == array.size for array in given)
    assert all(array.std() > 0.5 for array in given)
    other = RandomInputs(seed=1).draw(model(num_layers=2, bidirectional=True))
    assert not any((a == b).any() for a, b in zip(given, other, strict=True))


# --- what is replaced, and in which order -----------------------------------------------------


def test_files_get_their_names_in_the_order_given_and_the_proof_last(tmp_path, monkeypatch):
    """What refers to others comes after them: a reader never finds an index without its data."""
    order = []
    replaced = os.replace
    monkeypatch.setattr(
        file_module.os, "replace", lambda a, b: (order.append(Path(b).name), replaced(a, b))
    )
    source = save(tmp_path / "tf.npz", placed("tf-basic").tensors)
    convert(source, tmp_path / "ck.index", "tf-basic", ONE)
    assert order == ["ck.data-00000-of-00001", "ck.index", "ck.index.proof.json"]
    order.clear()
    write_atomically(
        {tmp_path / "b": b"1", tmp_path / "a": b"2"}, lambda folder: {tmp_path / "0": b"3"}
    )
    assert order == ["b", "a", "0"]


@pytest.mark.parametrize("name", ["out.npz", "out.npz.proof.json"])
@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_what_is_no_file_is_not_replaced(torch_file, tmp_path, name, kind):
    if kind == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    (tmp_path / "out.npz.proof.json" if name == "out.npz" else tmp_path / "out.npz").write_text("x")
    destination = tmp_path / "out.npz"
    sentence = refused(tmp_path, convert, torch_file, destination, "torch", overwrite=True)
    assert sentence == f"{name}: is no file to be replaced; choose another name"
    sentence = refused(tmp_path, convert, torch_file, destination, "torch")
    assert sentence.startswith("out.npz: exists already")


def test_names_that_are_too_long_are_refused(torch_file, tmp_path):
    for length in (246, 255, 300):
        path = tmp_path / ("n" * (length - 4) + ".npz")
        sentence = refused(tmp_path, convert, torch_file, path, "torch")
        assert sentence.endswith("cannot be written (File name too long)")
        assert "File name too long" in refused(tmp_path, read_lstm, path) or length < 256


# --- checkpoints of several files -------------------------------------------------------------


def test_a_checkpoints_files_are_its_own_whatever_else_is_called_alike(tmp_path):
    tensors = placed("tf-basic").tensors
    # A name that would be a pattern: g[1].index matches g1.index.
    for stem in ("g[1]", "g1", "ck", "ck.v2"):
        save_checkpoint(tmp_path / f"{stem}.index", tensors)
    odd = tmp_path / "g[1].index"
    sentence = refused(tmp_path, convert, odd, odd, "tf-basic", ONE, overwrite=True)
    assert sentence == "g[1].data-00000-of-00001: is the source itself; choose another name"
    record = convert(tmp_path / "ck.index", tmp_path / "out.npz", "torch", ONE)
    assert list(record["source"]["files"]) == ["ck.index", "ck.data-00000-of-00001"]
    save_checkpoint(tmp_path / "ck.v2.index", placed("tf-basic", seed=1).tensors)
    assert check_files(tmp_path / "ck.index", tmp_path / "out.npz").passed
    data_of(tmp_path / "ck.index").write_bytes(b"other")
    with pytest.raises(InputError, match=r"ck\.data-00000-of-00001"):
        check_files(tmp_path / "ck.index", tmp_path / "out.npz", ONE)


@pytest.mark.parametrize("name", ["ck", "ck.index", "ck.data-00000-of-00001"])
def test_a_checkpoint_is_the_same_by_any_of_its_names(tmp_path, name):
    source = save(tmp_path / "tf.npz", placed("tf-basic").tensors)
    convert(source, tmp_path / "ck.index", "tf-basic", ONE)
    read = read_lstm(tmp_path / name)  # the proof beside it says the forget bias
    assert read.lstm.facts.forget_bias == 1.0
    assert [file.name for file in read.hashes] == ["ck.index", "ck.data-00000-of-00001"]
    convert(tmp_path / name, tmp_path / "out.npz", "torch")
    assert check_files(tmp_path / name, tmp_path / "out.npz").passed
    assert check_files(tmp_path / "out.npz", tmp_path / name).passed
    with pytest.raises(InputError, match=r"nothing\.index: no such file"):
        read_archive(tmp_path / "nothing.data-00000-of-00001")


def test_safetensors_whose_header_begins_like_a_pickle_is_read(tmp_path):
    """The header's length, 640 = 0x280, is stored first: bytes 80 02."""
    lstm = to_layout(model(), TABLE["torch"])
    for padding in range(2000):
        data = safetensors_bytes(
            {"x" * padding + "." + n: a for n, a in lstm.tensors.items()}, None
        )
        if data.startswith((b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")):
            break
    else:
        pytest.fail("no header of such a length")
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    archive = read_archive(path)
    assert archive.container == "safetensors"
    assert len(archive.tensors) == len(lstm.tensors)


# --- what a proof remembers -------------------------------------------------------------------


def test_a_proof_is_believed_only_of_the_file_as_it_was(tmp_path):
    source = save(tmp_path / "tf.npz", placed("tf-basic").tensors)
    convert(source, tmp_path / "out.npz", "tf-basic", ONE)
    assert read_lstm(tmp_path / "out.npz").lstm.facts.forget_bias == 1.0
    tensors = dict(read_npz(tmp_path / "out.npz").tensors)
    name = "rnn/basic_lstm_cell/bias"
    save(tmp_path / "out.npz", tensors | {name: tensors[name] + 1})
    with pytest.raises(InputError, match="does not say forget_bias"):
        read_lstm(tmp_path / "out.npz")


def test_activations_told_once_are_remembered(tmp_path):
    source = save(tmp_path / "keras.npz", placed("keras").tensors)
    options = ReadOptions(activations=RELU)
    convert(source, tmp_path / "a.npz", "keras", options)
    assert read_lstm(tmp_path / "a.npz").lstm.facts.activations == RELU
    record = convert(tmp_path / "a.npz", tmp_path / "b.onnx", "onnx")
    assert record["destination"]["facts"]["activations"] == RELU
    assert "numpy_lstm" not in record["proof"]["distances"]
    again = ReadOptions(activations=("sigmoid", "tanh", "tanh"))
    assert (
        read_lstm(tmp_path / "a.npz", again).lstm.facts == RuntimeFacts()
    )  # the caller comes first


def test_a_check_knows_what_the_source_was_told(tmp_path):
    source = save(tmp_path / "tf.npz", placed("tf-basic").tensors)
    convert(source, tmp_path / "out.npz", "torch", ONE)
    checked = check_files(source, tmp_path / "out.npz")  # the record says the forget bias
    assert checked.passed
    assert len(checked.claims) == 5
    source.rename(tmp_path / "moved.npz")
    moved = check_files(tmp_path / "moved.npz", tmp_path / "out.npz")  # known by its content
    assert (moved.passed, len(moved.claims), moved.other_source) == (True, 5, False)
    other = save(tmp_path / "other.npz", placed("torch").tensors)
    checked = check_files(other, tmp_path / "out.npz")  # of which the record says nothing
    assert [claim.split(":")[0] for claim, _ in checked.claims] == [*["destination"] * 2, PASSED]
    wrong = check_files(tmp_path / "moved.npz", tmp_path / "out.npz", ReadOptions(forget_bias=0.0))
    assert not wrong.proof.passed


def test_what_a_record_says_of_one_lstm_is_not_believed_of_another(tmp_path):
    both = {f"{p}/{n}": a for p in "ab" for n, a in placed("tf-basic").tensors.items()}
    source = save(tmp_path / "both.npz", both)
    options = ReadOptions(select="a/rnn/", forget_bias=1.0)
    convert(source, tmp_path / "out.npz", "torch", options)
    assert check_files(source, tmp_path / "out.npz").passed
    assert check_files(source, tmp_path / "out.npz", ReadOptions(select="a/rnn/")).passed
    with pytest.raises(InputError, match=r"both\.npz: does not say forget_bias"):
        check_files(source, tmp_path / "out.npz", ReadOptions(select="b/rnn/"))


def test_a_check_is_told_the_facts_of_both_files(tmp_path):
    a = save(tmp_path / "a.npz", placed("tf-basic").tensors)
    b = save(tmp_path / "b.npz", placed("tf-basic").tensors)
    with pytest.raises(OptionError, match=r"b.npz: does not say forget_bias, ") as caught:
        check_files(a, b, ONE)
    assert caught.value.of_destination
    assert caught.value.worded("--to-forget-bias").endswith("; give it with --to-forget-bias")
    assert check_files(a, b, ONE, destination_options=ONE).passed
    assert not check_files(a, b, ONE, destination_options=ReadOptions(forget_bias=0.0)).passed
    two = {f"{p}.{n}": x for p in "ab" for n, x in placed("torch", bias_pair=True).tensors.items()}
    many = save(tmp_path / "many.npz", two)
    with pytest.raises(OptionError) as caught:
        check_files(many, many, ReadOptions(select="a."))
    assert caught.value.worded("--to-select").endswith(
        "choose one with --to-select from 'a.', 'b.'"
    )
    assert check_files(
        many, many, ReadOptions(select="a."), destination_options=ReadOptions(select="b.")
    ).passed


# --- facts ------------------------------------------------------------------------------------


def test_activations_that_the_file_itself_says_are_not_overridden(tmp_path):
    source = save(tmp_path / "keras.npz", placed("keras").tensors)
    convert(source, tmp_path / "a.onnx", "onnx", ReadOptions(activations=RELU))
    proof_path(tmp_path / "a.onnx").unlink()
    assert (
        read_lstm(tmp_path / "a.onnx", ReadOptions(activations=RELU)).lstm.facts.activations == RELU
    )
    hard = ("hard_sigmoid(0.2, 0.5)", "tanh", "tanh")
    convert(source, tmp_path / "b.onnx", "onnx", ReadOptions(activations=hard))
    proof_path(tmp_path / "b.onnx").unlink()
    spelt = ReadOptions(activations=("hard_sigmoid(.2,.5)", "tanh", "tanh"))
    assert read_lstm(tmp_path / "b.onnx", spelt).lstm.facts.activations == hard
    usual = ReadOptions(activations=("sigmoid", "tanh", "tanh"))
    sentence = refused(tmp_path, read_lstm, tmp_path / "a.onnx", usual)
    assert sentence == (
        "activations: a.onnx says sigmoid, relu, relu itself, got sigmoid, tanh, tanh; leave them"
        " out"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_a_forget_bias_that_the_weights_dtype_cannot_hold_is_refused(tmp_path, value):
    source = save(tmp_path / "tf.npz", placed("tf-basic").tensors)
    sentence = refused(
        tmp_path, convert, source, tmp_path / "out.npz", "torch", ReadOptions(forget_bias=value)
    )
    assert sentence == f"forget_bias: expected a number that float32 can hold, got {value:g}"


def test_a_forget_bias_is_the_number_that_is_added(tmp_path):
    """0.1 in float32: from TensorFlow to torch and back, the same."""
    source = save(tmp_path / "tf.npz", placed("tf-basic").tensors)
    record = convert(source, tmp_path / "a.npz", "torch", ReadOptions(forget_bias=0.1))
    assert record["source"]["facts"]["forget_bias"] == float(np.float32(0.1))
    assert record["proof"]["reversible"] is True
    convert(tmp_path / "a.npz", tmp_path / "b.npz", "tf-basic")
    assert (tmp_path / "b.npz").read_bytes() == source.read_bytes()


def test_learned_initial_states_are_compared(tmp_path):
    rng = np.random.default_rng(3)
    h, c = rng.standard_normal((2, 1, 5)).astype(np.float32)
    with_states = replace(model(), initial_h=h, initial_c=c)
    row = TABLE["numpy-lstm"]
    a = to_layout(with_states, row)
    assert prove(a, a).initial_states == "same"
    assert prove(a, to_layout(with_states, TABLE["lasagne"])).initial_states == "same"
    double = {n: x.astype(np.float64) for n, x in a.tensors.items()}
    assert prove(a, replace(a, tensors=double)).initial_states == "same"
    wide = {n: x + 1e-12 for n, x in double.items()}  # which float32 cannot tell
    assert prove(a, replace(a, tensors=wide)).initial_states == "same"
    nudged = replace(with_states, initial_c=np.nextafter(c, np.float32(9)))
    proof = prove(a, to_layout(nudged, row))
    assert (proof.initial_states, proof.passed) == ("different", False)
    none = to_layout(model(), row)
    assert prove(none, none).initial_states == "none"
    assert prove(a, none).initial_states == "only in the source"
    assert prove(none, a).initial_states == "only in the destination"
    assert prove(none, a).passed
    source = save(tmp_path / "a.npz", a.tensors)
    record = convert(source, tmp_path / "b.npz", "keras", allow_lossy=True)
    assert record["proof"]["initial_states"] == "only in the source"


def test_activations_are_written_in_one_way(tmp_path):
    source = save(tmp_path / "keras.npz", placed("keras").tensors)
    options = ReadOptions(activations=("hard_sigmoid(.2,5e-1)", "relu", "relu"))
    facts = read_lstm(source, options).lstm.facts
    assert facts.activations == ("hard_sigmoid(0.2, 0.5)", "relu", "relu")
    for wrong in ("hard_sigmoid(inf, 0)", "hard_sigmoid", "Sigmoid", "tanh(1)", "relu("):
        options = ReadOptions(activations=(wrong, "tanh", "tanh"))
        sentence = refused(tmp_path, read_lstm, source, options)
        assert sentence.startswith("activation: expected one of sigmoid, tanh, ")
        assert sentence.endswith(f"of Keras 3; got {wrong!r}")


def test_half_precision_is_summed_in_the_dtype_that_is_asked_for(tmp_path):
    source = save(tmp_path / "half.npz", placed("torch", bias_pair=True, dtype=np.float16).tensors)
    destination = tmp_path / "out.npz"
    sentence = refused(tmp_path, convert, source, destination, "keras", allow_lossy=True)
    assert "the proof fails" in sentence
    assert sentence.endswith("half precision? try dtype float32")
    record = convert(source, destination, "keras", dtype="float32", allow_lossy=True)
    assert record["proof"]["worst"] < 2


def test_what_another_layout_would_say_is_not_remembered(tmp_path):
    """The caller says another layout than the proof: nothing of the proof is taken."""
    source = save(tmp_path / "tf.npz", placed("tf-basic").tensors)
    convert(source, tmp_path / "out.npz", "tf-basic", ONE)
    layer = {n.replace("basic_lstm_cell", "lstm_cell"): a
             for n, a in read_npz(tmp_path / "out.npz").tensors.items()}  # fmt: skip
    record = json.loads(proof_path(tmp_path / "out.npz").read_text())
    other = save(tmp_path / "other.npz", layer)
    record["destination"]["files"] = {"other.npz": sha256(other)}
    proof_path(other).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"does not say forget_bias"):
        read_lstm(other, ReadOptions(layout="tf-lstm"))
    with pytest.raises(InputError, match=r"no LSTM found in the layout .* so; is it right\?"):
        read_lstm(other)


def test_a_part_of_what_is_remembered_is_known_too(tmp_path):
    source = save(tmp_path / "tf.npz", placed("tf-basic", num_layers=2).tensors)
    convert(source, tmp_path / "out.npz", "tf-basic", ONE)
    layer = read_lstm(tmp_path / "out.npz", ReadOptions(select="rnn/multi_rnn_cell/cell_1/")).lstm
    assert (layer.num_layers, layer.facts.forget_bias) == (1, 1.0)


# --- which LSTM is meant ----------------------------------------------------------------------


def test_layers_are_chosen_only_as_they_follow_each_other(tmp_path):
    layers = placed("torch-cell", bias_pair=True, num_layers=3).tensors
    path = save(tmp_path / "a.npz", layers)

    def chosen(select: str | tuple[str, ...]) -> tuple[str, ...]:
        return read_lstm(path, ReadOptions(select=select)).lstm.prefixes

    assert chosen("0.,1.,2.") == ("0.", "1.", "2.")
    assert chosen("0., 1.") == ("0.", "1.")
    assert chosen(("1.", "2.")) == ("1.", "2.")
    assert chosen("1.") == ("1.",)
    assert chosen("1") == ("1.",)  # without its separator
    assert chosen("0,1,2") == ("0.", "1.", "2.")
    assert "no LSTM under ''" in refused(tmp_path, chosen, ())
    for wrong in ("0.,2.", "1.,0.", "1.,1.", "0.,1.,2.,2.", "", "3."):
        sentence = refused(tmp_path, chosen, wrong)
        assert sentence == (
            f"a.npz: no LSTM under {wrong!r}; expected one of '0.,1.,2.', or layers of one of"
            " them that are neighbours"
        )


def test_tensors_whose_names_say_nothing_are_read_if_layout_and_names_are_given(tmp_path):
    tensors = placed("equinox").tensors
    path = save(tmp_path / "a.npz", dict(zip(("x", "y", "z"), tensors.values(), strict=True)))
    sentence = refused(tmp_path, convert, path, tmp_path / "b.npz", "equinox")
    assert "shapes alone prove nothing: x, y, z may be an LSTM; say the layout" in sentence
    options = ReadOptions(layout="equinox")
    sentence = refused(tmp_path, convert, path, tmp_path / "b.npz", "equinox", options)
    assert sentence.endswith(
        "x, y, z may be an LSTM; say which tensor is which with names W_ih=x,W_hh=y,b=z (one of the"
        " ways that fit)"
    )
    options = replace(options, names={"W_ih": "x", "weight_hh": "y", "b": "z"})
    record = convert(path, tmp_path / "b.npz", "equinox", options)
    assert record["notes"] == []
    assert record["source"]["names"] == options.names
    assert (tmp_path / "b.npz").read_bytes() == npz_bytes(dict(tensors))
    assert check_files(path, tmp_path / "b.npz").passed


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"W_ih": "x", "W_hh": "y"}, "bias [1, 20] may be a part of this LSTM, such as a bias"),
        ({"W_ih": "x", "W_hh": "y", "b": "biases"}, "has no tensor 'biases'; mend names; did you"),
        ({"W_ih": "x", "R": "y"}, "equinox has no part 'R'; expected some of W_ih, W_hh, b in"),
        ({"W_ih": "y", "W_hh": "x", "b": "bias"}, "weight_hh: misshapen"),
    ],
)
def test_names_must_be_whole_and_those_of_file_and_layout(tmp_path, names, message):
    arrays = dict(zip("xyz", placed("equinox").tensors.values(), strict=True))
    tensors = {"x": arrays["x"], "y": arrays["y"], "bias": arrays["z"][None]}
    path = save(tmp_path / "a.npz", tensors | {"V": np.ones((7, 5)), "v": np.ones(7)})
    options = ReadOptions(layout="equinox", names=names)
    assert message in refused(tmp_path, read_lstm, path, options)
    assert "with layout" in refused(tmp_path, read_lstm, path, ReadOptions(names=names))
    good = replace(options, names={"W_ih": "x", "W_hh": "y", "b": "bias"})
    assert read_lstm(path, good).notes == ("not of this LSTM, left alone: V, v",)


def test_a_whole_layer_beside_a_broken_one_can_be_chosen(tmp_path):
    tensors = dict(placed("keras", num_layers=2).tensors)
    del tensors["lstm_1/bias"]
    path = save(tmp_path / "a.npz", tensors)
    missing = "lstm_1/bias: missing: expected [20] float32, found nothing"
    assert missing in refused(tmp_path, read_lstm, path)
    assert read_lstm(path, ReadOptions(select="lstm_0/")).lstm.num_layers == 1
    # What the layer below has is not given up by choosing this one.
    sentence = refused(tmp_path, read_lstm, path, ReadOptions(select="lstm_1/"))
    assert sentence == "a.npz: missing lstm_1/bias"


def test_a_prefix_may_have_commas(tmp_path):
    tensors = placed("torch", bias_pair=True).tensors
    two = {f"{p}.{n}": a for p in ("a,b", "c") for n, a in tensors.items()}
    path = save(tmp_path / "a.npz", two)
    record = convert(path, tmp_path / "b.npz", "torch", ReadOptions(select="a,b."))
    assert record["source"]["prefixes"] == ["a,b."]
    assert check_files(path, tmp_path / "b.npz").passed


def test_a_layer_whose_name_begins_like_anothers_is_not_taken_with_it(tmp_path):
    layer = {
        n.removeprefix("0."): a
        for n, a in placed("torch-cell", bias_pair=True, num_layers=2).tensors.items()
        if n.startswith("0.")
    }
    tensors = {f"{p}{n}": a for p in ("", "cells.") for n, a in layer.items()}
    read = read_lstm(save(tmp_path / "a.npz", tensors), ReadOptions(select=""))
    assert set(read.lstm.tensors) == set(layer)


@pytest.mark.parametrize("number", [5, 99_999_999, 10**30])
def test_a_number_that_is_no_layers_costs_no_time(tmp_path, number):
    tensors = dict(placed("torch", bias_pair=True).tensors)
    tensors[f"weight_hh_l{number}"] = np.ones((20, 5), np.float32)
    path = save(tmp_path / "a.npz", tensors)
    sentence = refused(tmp_path, read_lstm, path)
    assert f"weight_hh_l{number}: unexpected: expected no such tensor" in sentence


# --- records that `convert` did not write -----------------------------------------------------


def edits(record):
    """Name and record of each."""

    def at(*keys, value):
        changed = json.loads(json.dumps(record))
        inner = changed
        for key in keys[:-1]:
            inner = inner[key]
        if value is None:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        return json.dumps(changed)

    yield "not JSON", "{"
    yield "nested", "[" * 100_000
    yield "a list", "[]"
    yield "another format", at("format", value="numpy_lstm.proof/2")
    for side in ("source", "destination"):
        yield f"{side} files", at(side, "files", value=["a"])
        yield f"{side} hash", at(side, "files", value={"a": 3})
        yield f"{side} layout", at(side, "layout", value="pytorch")
        yield f"{side} layout list", at(side, "layout", value=["torch"])
        yield f"{side} prefixes", at(side, "prefixes", value="lstm/")
        yield f"{side} no prefixes", at(side, "prefixes", value=[])
        yield f"{side} prefix", at(side, "prefixes", value=[3])
        yield f"{side} bias", at(side, "facts", "forget_bias", value="1")
        yield f"{side} infinite", at(side, "facts", "forget_bias", value=float("inf"))
        yield f"{side} activations", at(side, "facts", "activations", value=5)
        yield f"{side} two activations", at(side, "facts", "activations", value=["tanh", "tanh"])
        yield f"{side} sha", at(side, "weights_sha256", value=None)
    yield "T", at("proof", "inputs", "T", value="5")
    yield "T of 0", at("proof", "inputs", "T", value=0)
    yield "T of 10^9", at("proof", "inputs", "T", value=10**9)
    yield "N", at("proof", "inputs", "N", value=2.5)
    yield "seed", at("proof", "inputs", "seed", value=-1)
    yield "more inputs", at("proof", "inputs", "H", value=1)
    yield "passed", at("proof", "passed", value=None)
    yield "passed text", at("proof", "passed", value="yes")


def test_a_record_that_is_not_ours_is_refused_in_a_sentence(torch_file, tmp_path):
    destination = tmp_path / "out.npz"
    record = convert(torch_file, destination, "torch")
    file = proof_path(destination)
    count = 0
    for name, text in edits(record):
        file.write_text(text)
        for function, *arguments in (
            (read_lstm, destination),
            (check_files, torch_file, destination),
        ):
            sentence = refused(tmp_path, function, *arguments)
            assert sentence.startswith("out.npz.proof.json: expected "), (name, sentence)
            assert sentence.count("\n") == 0
        count += 1
    assert count == 36
    file.write_text(json.dumps(record))
    assert check_files(torch_file, destination).passed
    file.write_bytes(b"\xff\xfe")
    assert "UnicodeDecodeError" in refused(tmp_path, read_lstm, destination)


def test_a_record_whose_proof_failed_is_not_passed(torch_file, tmp_path):
    destination = tmp_path / "out.npz"
    record = convert(torch_file, destination, "torch")
    record["proof"]["passed"] = False
    proof_path(destination).write_text(json.dumps(record))
    checked = check_files(torch_file, destination)
    assert (PASSED, False) in checked.claims
    assert not checked.passed
    assert record["destination"]["files"] == {"out.npz": sha256(destination)}
