"""What is wrong with tensors is listed all at once, with what was expected and why."""

from pathlib import Path

import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.npz_file import npz_bytes
from numpy_lstm.porting.inspection import inspect
from numpy_lstm.porting.layouts.all_frameworks import ROWS, TABLE
from numpy_lstm.porting.layouts.arrangement import to_layout
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM, RuntimeFacts
from numpy_lstm.porting.options import ReadOptions
from numpy_lstm.porting.recognise.defects import find_defects
from numpy_lstm.porting.recognise.expected import expected_tensors
from numpy_lstm.porting.recognise.loading import read_lstm
from numpy_lstm.porting.recognise.recognition import recognise
from parity_tests.campaigns.porting_samples import refused_broken_files
from parity_tests.support.problems import random_parameters
from parity_tests.support.random_lstms import random_file, random_model


def torch_tensors(**options) -> dict[str, np.ndarray]:
    config = LSTM(3, 5, 2, bias_pair=True, **options)
    parameters = random_parameters(config.parameter_shapes(), np.random.default_rng(0), np.float32)
    return dict(to_layout(CanonicalLSTM(config, parameters), TABLE["torch"]).tensors)


def _saved(tmp_path, tensors) -> Path:
    path = tmp_path / "model.npz"
    path.write_bytes(npz_bytes(tensors))
    return path


def refusal(tmp_path, tensors, **options) -> list[str]:
    path = _saved(tmp_path, tensors)
    with pytest.raises(InputError) as caught:
        read_lstm(path, ReadOptions(**options))
    head, *lines = str(caught.value).split("\n")
    assert head.startswith(f"{path}: ")
    return [line.strip() for line in lines] or [head.removeprefix(f"{path}: ")]


def test_missing_unexpected_misshapen_not_finite_and_narrowed_are_listed_at_once(tmp_path):
    tensors = {f"rnn.{name}": array for name, array in torch_tensors().items()}
    tensors["rnn.bias_hh_l2"] = tensors.pop("rnn.bias_hh_l1")
    tensors["rnn.weight_hh_l0"] = np.ascontiguousarray(tensors["rnn.weight_hh_l0"].T)
    tensors["rnn.weight_ih_l1"][3, 1] = np.nan
    tensors["rnn.bias_ih_l0"] = tensors["rnn.bias_ih_l0"].astype(np.float16)
    tensors["rnn.bias_ih_l1"] = np.tile(tensors["rnn.bias_ih_l1"], 2)
    assert refusal(tmp_path, tensors) == [
        "rnn.bias_hh_l1: missing: expected [20] float32, found nothing; is it 'rnn.bias_hh_l2'?",
        "rnn.bias_hh_l2: unexpected: expected no such tensor, found [20] float32; beside"
        " 'rnn.bias_hh_l1': a further layer, or another kind of LSTM?",
        "rnn.weight_hh_l0: misshapen: expected [20, 5] float32, found [5, 20] float32; transposed?",
        "rnn.bias_ih_l0: narrowed: expected [20] float32, found [20] float16; digits are lost"
        " already",
        "rnn.weight_ih_l1: not finite: expected finite numbers, found nan at [3, 1] (1 of 100"
        " values); training that diverged?",
        "rnn.bias_ih_l1: misshapen: expected [20] float32, found [40] float32; two biases in one,"
        " as cuDNN has them?",
    ]


def test_one_problem_is_said_as_one(tmp_path):
    tensors = torch_tensors()
    tensors["bias_hh_l0"] = np.full(20, np.inf, np.float32)
    assert refusal(tmp_path, tensors) == [
        "bias_hh_l0: not finite: expected finite numbers, found inf at [0] (20 of 20 values);"
        " training that diverged?"
    ]


def test_a_broken_lstm_is_not_taken_for_a_whole_one_without_what_is_broken(tmp_path):
    """Its weights alone would be a whole LSTM without biases, of this package's layout."""
    mixed = torch_tensors()
    mixed["bias_hh_l0"] = mixed["bias_hh_l0"].astype(np.float64)
    assert refusal(tmp_path, mixed) == ["tensors are of different dtypes: float32, float64"]
    half = torch_tensors()
    for name in ("bias_hh_l0", "bias_hh_l1"):
        del half[name]
    assert refusal(tmp_path, half) == [
        f"bias_hh_l{k}: missing: expected [20] float32, found nothing" for k in (0, 1)
    ]
    assert refusal(tmp_path, torch_tensors(), layout="numpy-lstm")[0].startswith(
        "bias_ih_l0: unexpected"
    )


def test_a_live_models_tensors_are_compared_name_by_name():
    tensors = torch_tensors()
    spec = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    saved = {f"module.{name}": array for name, array in tensors.items()}
    wrong = find_defects(saved, spec)
    assert {problem.kind for problem in wrong} == {"missing", "unexpected"}
    assert wrong[0].cause == (
        "'module.weight_ih_l0' is there: remove the prefix 'module.' (saved from DataParallel?)"
    )
    both = torch_tensors(bidirectional=True)
    only = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    extra = [p for p in find_defects(both, only) if p.kind == "unexpected"]
    assert {p.cause for p in extra} == {"the second direction of a bidirectional LSTM?"}
    wider = {name: (array.shape, np.dtype(np.float64)) for name, array in tensors.items()}
    assert {p.kind for p in find_defects(tensors, wider)} == {"narrowed"}
    assert find_defects({n: a.astype(float) for n, a in tensors.items()}, spec) == []
    quantised = {n: a.astype(np.int8) for n, a in tensors.items()}
    assert {p.cause for p in find_defects(quantised, spec)} == {"quantised?"}


@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        (15, "a GRU's three gates?"),
        (5, "one gate alone?"),
        (40, "two biases in one, as cuDNN has them?"),
        (21, "of a layer with other sizes?"),
    ],
)
def test_a_wrong_shape_comes_with_its_likely_cause(factor, cause):
    spec = {"b": ((20,), np.dtype(np.float32))}
    (problem,) = find_defects({"b": np.ones(factor, np.float32)}, spec)
    assert problem.cause == cause
    (problem,) = find_defects({"b": np.ones((4, 5), np.float32)}, spec)
    assert problem.cause == "reshaped?"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_nothing_is_wrong_with_a_whole_lstm_of_any_layout(row):
    for seed in range(2):
        archive, _ = random_file(row, np.random.default_rng(seed))
        (finding,) = recognise(archive)
        lstm = finding.best.lstm
        assert find_defects(lstm.tensors, expected_tensors(lstm)) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_a_transposed_or_missing_tensor_is_blamed_and_no_other(row):
    """Whichever tensor it is: the sizes come from the others."""
    rng = np.random.default_rng(4)
    lstm = to_layout(random_model(row, rng), row) if not row.bias_required else None
    if lstm is None or lstm.num_layers < 2:
        lstm = to_layout(_two_layers(row), row)
    expected = expected_tensors(lstm)
    for name, array in lstm.tensors.items():
        if array.ndim == 2 and array.shape[0] != array.shape[1]:
            broken = dict(lstm.tensors) | {name: np.ascontiguousarray(array.T)}
            wrong = find_defects(broken, expected_tensors(_with(lstm, broken)))
            assert [(p.name, p.cause) for p in wrong] == [(name, "transposed?")]
    first = next(iter(lstm.tensors))
    without = {n: a for n, a in lstm.tensors.items() if n != first}
    assert [(p.name, p.kind) for p in find_defects(without, expected)] == [(first, "missing")]


def _two_layers(row) -> CanonicalLSTM:
    """Two layers if the row has more than one, three inputs and five units."""
    several = row.stacked or row.layers_in_names
    config = LSTM(3, 5, 2 if several else 1, bias_pair=row.bias_pair)
    parameters = random_parameters(config.parameter_shapes(), np.random.default_rng(0), np.float32)
    return CanonicalLSTM(config, parameters)


def _with(lstm, tensors):
    from dataclasses import replace

    return replace(lstm, tensors=tensors)


def test_a_file_without_an_lstm_says_so(tmp_path):
    assert refusal(tmp_path, {"dense/kernel": np.ones((3, 7))}) == [
        "no LSTM found; inspect the file for what it holds"
    ]


def test_inspect_lists_the_same_problems(tmp_path):
    tensors = {f"rnn.{name}": array for name, array in torch_tensors().items()}
    tensors["rnn.bias_hh_10"] = tensors.pop("rnn.bias_hh_l0")
    lines = refusal(tmp_path, tensors)
    assert len(lines) == 2
    (lstm,) = inspect(Archive("npz", tensors))["lstms"]
    assert lstm["problems"] == lines
    assert lstm["activations"] is None
    stored = {"": RuntimeFacts(activations=("sigmoid", "relu", "relu"))}
    (lstm,) = inspect(Archive("onnx", _keras_layer(3, 5), stored))["lstms"]
    assert lstm["activations"] == ["sigmoid", "relu", "relu"]


def test_several_lstms_are_listed_and_one_is_chosen_by_its_prefix(tmp_path):
    tensors = {f"encoder.{n}": a for n, a in torch_tensors().items()}
    tensors |= {f"decoder.{n}": a for n, a in torch_tensors().items()}
    assert refusal(tmp_path, tensors) == [
        "2 LSTMs: choose one with select from 'decoder.', 'encoder.'"
    ]
    assert refusal(tmp_path, tensors, select="rnn.") == [
        "no LSTM under 'rnn.'; expected one of 'decoder.', 'encoder.', or layers of one of them"
        " that are neighbours"
    ]
    broken = dict(tensors)
    broken["decoder.weight_hh_l0"] = broken["decoder.weight_hh_l0"][:15]
    assert refusal(tmp_path, broken) == [
        "2 LSTMs: choose one with select from 'decoder.', 'encoder.' (not whole: 'decoder.')"
    ]
    causes = {line.rpartition("; ")[2] for line in refusal(tmp_path, broken, select="decoder.")}
    assert "a GRU's three gates?" in causes
    path = tmp_path / "model.npz"
    path.write_bytes(npz_bytes(tensors))
    source = read_lstm(path, ReadOptions(select="encoder."))
    assert set(source.lstm.tensors) == {n for n in tensors if n.startswith("encoder.")}
    assert source.notes == (
        "not of this LSTM, left alone: "
        + ", ".join(sorted(n for n in tensors if n.startswith("decoder."))),
    )


def test_layers_of_other_sizes_or_other_activations_are_no_stack():
    tensors = {f"lstm_{k}/{n}": a for k in (0, 1) for n, a in _keras_layer(5, 5).items()}
    assert [f.label for f in recognise(Archive("keras", tensors))] == ["lstm_0/,lstm_1/"]
    narrow = tensors | {f"lstm_1/{n}": a for n, a in _keras_layer(5, 4).items()}
    assert [f.label for f in recognise(Archive("keras", narrow))] == ["lstm_0/", "lstm_1/"]
    usual, other = RuntimeFacts(), RuntimeFacts(activations=("sigmoid", "relu", "relu"))
    facts = {"lstm_0/": usual, "lstm_1/": other}
    found = recognise(Archive("keras", tensors, facts))
    assert [f.label for f in found] == ["lstm_0/", "lstm_1/"]
    assert [f.best.lstm.facts for f in found] == [usual, other]


def test_layers_follow_each_other_as_the_container_says_whatever_their_names():
    tensors = {f"{p}/{n}": a for p in "abc" for n, a in _keras_layer(5, 5).items()}

    def stacks(*chains: tuple[str, str]) -> list[tuple[str, ...]]:
        archive = Archive("keras", tensors, rows=("keras",), chains=frozenset(chains))
        return [finding.prefixes for finding in recognise(archive)]

    assert stacks() == [("a/",), ("b/",), ("c/",)]
    assert stacks(("c/", "a/")) == [("b/",), ("c/", "a/")]
    assert stacks(("c/", "b/"), ("b/", "a/")) == [("c/", "b/", "a/")]
    assert stacks(("a/", "none/")) == [("a/",), ("b/",), ("c/",)]
    assert stacks(("a/", "b/"), ("b/", "a/")) == [("c/",)]  # no model: a circle
    assert stacks(("a/", "b/"), ("b/", "c/"), ("c/", "b/")) == [("a/", "b/", "c/")]


def test_tensors_without_numbers_are_called_empty(tmp_path):
    shapes = {"weight_ih_l0": (0, 3), "weight_hh_l0": (0, 0), "bias_ih_l0": 0, "bias_hh_l0": 0}
    assert refusal(tmp_path, {n: np.zeros(shape, np.float32) for n, shape in shapes.items()}) == [
        f"{name}: empty: expected numbers, found {list(np.zeros(shape).shape)} float32; saved"
        " before it had its sizes?"
        for name, shape in shapes.items()
    ]
    assert refusal(tmp_path, torch_tensors() | {"weight_ih_l0": np.zeros((20, 0), np.float32)}) == [
        "weight_ih_l0: empty: expected numbers, found [20, 0] float32; saved before it had its"
        " sizes?"
    ]


def test_no_more_than_a_hundred_problems_are_listed(tmp_path):
    tensors = {f"weight_hh_l{k}": np.ones((20, 5), np.float32) for k in range(0, 400, 2)}
    with pytest.raises(InputError, match=r": at least 100 problems with the tensors of the LSTM:"):
        read_lstm(_saved(tmp_path, tensors))
    assert len(refusal(tmp_path, tensors)) == 100
    (lstm,) = inspect(Archive("npz", tensors))["lstms"]
    assert len(lstm["problems"]) == 100
    many = {f"{k}.{n}": a for k in "abcdefghijk" for n, a in torch_tensors().items()}
    assert refusal(tmp_path, many) == [
        "11 LSTMs: choose one with select from"
        f" {', '.join(repr(f'{k}.') for k in 'abcdefgh')} and 3 more"
    ]


def _keras_layer(I: int, H: int) -> dict[str, np.ndarray]:
    config = LSTM(I, H)
    parameters = random_parameters(config.parameter_shapes(), np.random.default_rng(I), np.float32)
    lstm = to_layout(CanonicalLSTM(config, parameters), TABLE["keras"])
    return {name.removeprefix("lstm/"): array for name, array in lstm.tensors.items()}


def test_one_layer_of_a_stack_can_be_chosen(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(npz_bytes(to_layout(_two_layers(TABLE["keras"]), TABLE["keras"]).tensors))
    assert read_lstm(path).lstm.num_layers == 2
    assert read_lstm(path, ReadOptions(select="lstm_0/,lstm_1/")).lstm.num_layers == 2
    upper = read_lstm(path, ReadOptions(select="lstm_1/")).lstm
    assert (upper.num_layers, list(upper.tensors)) == (
        1,
        ["lstm_1/bias", "lstm_1/kernel", "lstm_1/recurrent_kernel"],
    )


def test_a_layer_of_an_ambiguous_stack_is_ambiguous_too(tmp_path):
    layer = _keras_layer(5, 5)
    tensors = {f"a:{k}:{name}": array for k in (0, 1) for name, array in layer.items()}
    assert "as keras or haste" in refusal(tmp_path, tensors)[0]
    assert "as keras or haste" in refusal(tmp_path, tensors, select="a:1:")[0]


def test_bare_names_that_two_frameworks_share_are_called_ambiguous(tmp_path):
    rng = np.random.default_rng(0)
    own = {"weight_ih": (20, 3), "weight_hh": (20, 5), "bias": (20,)}
    tensors = {name: rng.standard_normal(shape) for name, shape in own.items()}
    assert refusal(tmp_path, tensors) == [
        "its tensors can be read in several ways, as coreml or equinox; say which with layout"
    ]
    path = tmp_path / "model.npz"
    assert read_lstm(path, ReadOptions(layout="equinox")).lstm.layout.key == "equinox"
    nameless = {f"arr_{k}": array for k, array in enumerate(tensors.values())}
    sentence = refusal(tmp_path, nameless)[0]
    assert "shapes alone prove nothing: arr_0, arr_1, arr_2 may be an LSTM" in sentence


def test_a_gru_without_biases_is_not_taken_for_coupled_gates(tmp_path):
    """Three blocks under PyTorch's names: numpy_lstm's layout may hold that, and says so."""
    rng = np.random.default_rng(0)
    gru = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5)}
    tensors = {name: rng.standard_normal(shape) for name, shape in gru.items()}
    assert refusal(tmp_path, tensors) == [
        "no LSTM found: the file is a GRU (three blocks of weights, not four), and no LSTM; if its"
        " gates are coupled, say the layout numpy-lstm"
    ]
    options = ReadOptions(layout="numpy-lstm")
    assert read_lstm(_saved(tmp_path, tensors), options).lstm.coupled
    own = tensors | {"bias_l0": rng.standard_normal(15)}  # which no GRU has
    assert read_lstm(_saved(tmp_path, own)).lstm.coupled


def test_what_changes_the_equations_is_not_left_alone_where_no_prefix_says_whose_it_is(tmp_path):
    tensors = torch_tensors()
    for name in ("layernorm_i_weight", "weight_peephole", "gamma_h"):
        assert refusal(tmp_path, tensors | {name: np.ones(20, np.float32)})[0].startswith(
            f"{name}: unexpected: expected no such tensor"
        )
    assert read_lstm(_saved(tmp_path, tensors | {"embedding": np.ones((7, 3), np.float32)}))


def test_shapes_alone_decide_only_where_one_layout_is_left():
    rng = np.random.default_rng(0)
    archive = Archive("npz", {"a": rng.standard_normal((20, 3)), "b": rng.standard_normal((20, 5))})
    (finding,) = recognise(archive, layout="torch")
    assert not finding.ambiguous
    (finding,) = recognise(archive)
    assert finding.ambiguous
    square = {"a": rng.standard_normal((20, 5)), "b": rng.standard_normal((20, 5))}
    (finding,) = recognise(Archive("npz", square), layout="torch")
    assert finding.ambiguous  # which is the recurrent one?


def test_facts_that_nobody_says_are_asked_for_and_those_that_cannot_be_are_refused(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(npz_bytes(to_layout(_two_layers(TABLE["keras"]), TABLE["tf-basic"]).tensors))
    with pytest.raises(InputError) as caught:
        read_lstm(path)
    assert str(caught.value) == (
        f"{path}: does not say forget_bias, which is added at run time (TensorFlow's default is"
        " 1.0); give it with forget_bias"
    )
    assert read_lstm(path, ReadOptions(forget_bias=1.0)).lstm.facts.forget_bias == 1.0
    path.write_bytes(npz_bytes(torch_tensors()))
    with pytest.raises(InputError, match="forget_bias: torch always has 0 at run time"):
        read_lstm(path, ReadOptions(forget_bias=1.0))
    with pytest.raises(InputError, match="activations: torch always has sigmoid, tanh, tanh"):
        read_lstm(path, ReadOptions(activations=("tanh", "tanh", "tanh")))
    with pytest.raises(InputError, match=r"layout: expected one of torch, .* got 'pytorch'"):
        read_lstm(path, ReadOptions(layout="pytorch"))


def test_whatever_is_wrong_is_refused_in_words_and_inspected():
    assert refused_broken_files(60) > 40
