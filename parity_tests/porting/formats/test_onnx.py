"""ONNX: LSTMs found in graphs, weights computed from constants, models written, and whatever is not
whole refused. onnxruntime is the witness."""

import io
import sys
import wave
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from numpy_lstm.errors import InputError
from numpy_lstm.fast.stepping import LSTMCell
from numpy_lstm.lstm import LSTM, lstm_forward
from numpy_lstm.porting.formats.onnx.onnx_reader import read_onnx
from numpy_lstm.porting.formats.onnx.onnx_writer import onnx_model
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import sizes_of, to_canonical, to_layout
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH, CanonicalLSTM, RuntimeFacts
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.options import OptionError, ReadOptions
from numpy_lstm.porting.proof.run_as_placed import PlacedCell, run_as_placed
from numpy_lstm.porting.recognise.loading import read_lstm
from numpy_lstm.porting.recognise.recognition import recognise
from numpy_lstm.roundoff import K, Noise, distance, distances
from parity_tests.conftest import DATA
from parity_tests.support.problems import random_parameters

T, N, I, H = 4, 2, 3, 7
F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
TWINS = 2
HARD = ("hard_sigmoid(0.2, 0.5)", "tanh", "tanh")
KERAS_3 = (f"hard_sigmoid({1 / 6}, 0.5)", "relu", "scaled_tanh(1.7, 0.6)")


def random_native(
    seed=0, layers=1, directions=1, dtype=F4, learned=False, activations=SIGMOID_TANH, **options
):
    """A random LSTM in the row onnx."""
    config = LSTM(
        I,
        H,
        layers,
        bidirectional=directions == 2,
        bias_pair=options.get("bias", True),
        **options,
    )
    rng = np.random.default_rng(seed)
    parameters = random_parameters(config.parameter_shapes(), rng, dtype)
    states = {}
    if learned:
        shape = (layers * directions, H)
        names = ("initial_h", "initial_c")
        states = {name: rng.standard_normal(shape).astype(dtype) for name in names}
    model = CanonicalLSTM(config, parameters, RuntimeFacts(activations=activations), **states)
    return to_layout(model, TABLE["onnx"])


def saved(tmp_path, model):
    path = tmp_path / "a.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def read(tmp_path, model):
    return read_onnx(saved(tmp_path, model))


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def session(model) -> Any:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])


def judged(native, outputs, x, h0, c0):
    """Distance of y, h_n, c_n from the file's own layout run in float64, in roundoffs."""
    x, h0, c0 = (array.astype(F8) for array in (x, h0, c0))
    exact = run_as_placed(native, x, h0, c0)
    twins = [run_as_placed(native, x, h0, c0, Noise([0, k], F4)) for k in range(TWINS)]
    return max(
        distance(output, exact[k], [twin[k] - exact[k] for twin in twins], F4)
        for k, output in enumerate(outputs)
    )


# --- written and read back ----------------------------------------------------------------------

KINDS = [
    {},
    {"layers": 2},
    {"directions": 2},
    {"layers": 11, "directions": 2, "variant": "peephole"},
    {"bias": False},
    {"variant": "peephole", "bias": False, "layers": 2},
    {"learned": True},
    {"learned": True, "layers": 2, "directions": 2},
    {"activations": HARD},
    {"activations": KERAS_3, "directions": 2, "layers": 2},
    {"activations": ("hard_sigmoid(.2,0.5)", "softsign", "linear"), "learned": True},
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_is_written_reads_back_bit_for_bit(tmp_path, kind, dtype):
    native = random_native(dtype=pytest.importorskip("ml_dtypes").bfloat16 if dtype[0] == "b"
                           else np.dtype(dtype), **kind)  # fmt: skip
    data = onnx_model(native)
    onnx.checker.check_model(data, full_check=True)
    assert data == onnx_model(replace(native, tensors=dict(native.tensors)))
    archive = read(tmp_path, data)
    assert_same(archive.tensors, native.tensors)
    assert archive.facts == dict.fromkeys(native.prefixes, native.facts)
    assert (archive.container, archive.rows, archive.notes) == ("onnx", ("onnx",), ())
    (finding,) = recognise(archive)
    assert to_canonical(finding.best.lstm).digest() == to_canonical(native).digest()


def test_zeros_that_are_repeated_for_the_batch_are_no_learned_states(tmp_path):
    """As PyTorch's exporters write them; this package's own are marked."""
    native = random_native(learned=True)
    zeros = {n: np.zeros_like(a) for n, a in native.tensors.items() if "initial" in n}
    model = onnx.load_from_string(onnx_model(replace(native, tensors={**native.tensors, **zeros})))
    del model.metadata_props[:]
    archive = read(tmp_path, model)
    assert set(archive.tensors) == native.tensors.keys() - zeros.keys()
    assert archive.notes == ()


def test_learned_initial_states_of_zeros_read_back_too(tmp_path):
    native = random_native(learned=True, directions=2)
    zeros = {n: np.zeros_like(a) for n, a in native.tensors.items() if "initial" in n}
    native = replace(native, tensors={**native.tensors, **zeros})
    assert_same(read(tmp_path, onnx_model(native)).tensors, native.tensors)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_onnxruntime_computes_what_was_written(kind):
    native = random_native(1, **kind)
    model, rng = session(onnx_model(native)), np.random.default_rng(2)
    L = native.num_layers * native.directions
    for steps, batch in ((T, N), (1, 5)):  # both are free
        x = rng.standard_normal((steps, batch, I)).astype(F4)
        h0, c0 = rng.standard_normal((2, L, batch, H)).astype(F4)
        feeds = {"X": x, "initial_h": h0, "initial_c": c0}
        canonical = to_canonical(native)
        if canonical.initial_h is not None and canonical.initial_c is not None:
            feeds = {"X": x}
            h0, c0 = (np.repeat(s[:, None], batch, axis=1)
                      for s in (canonical.initial_h, canonical.initial_c))  # fmt: skip
        assert judged(native, model.run(None, feeds), x, h0, c0) <= K


def test_the_judgement_tells_two_gates_swapped():
    native = random_native(1, activations=HARD)
    blocks = {n: a.copy() for n, a in native.tensors.items()}
    W = blocks["lstm/W"].reshape(4, H, I)
    W[[0, 2]] = W[[2, 0]]
    rng = np.random.default_rng(2)
    x, h0, c0 = (rng.standard_normal(s).astype(F4) for s in ((T, N, I), (1, N, H), (1, N, H)))
    outputs = session(onnx_model(replace(native, tensors=blocks))).run(
        None, {"X": x, "initial_h": h0, "initial_c": c0}
    )
    assert judged(native, outputs, x, h0, c0) > 1000 * K


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": TABLE["keras"]}, "^onnx: expected the layout onnx without a forget bias"),
        (
            {"facts": RuntimeFacts(forget_bias=1.0)},
            "^onnx: expected the layout onnx without a forget b",
        ),
        (
            {"facts": RuntimeFacts(activations=("gelu", "tanh", "tanh"))},
            "^activation: expected one of",
        ),
    ],
)
def test_what_onnx_cannot_say_is_not_written(change, message):
    with pytest.raises(InputError, match=message):
        onnx_model(replace(random_native(), **change))


def test_prefixes_that_would_not_read_back_are_not_written():
    native = random_native()
    renamed = {"lstm/l0/" + n.removeprefix("lstm/"): a for n, a in native.tensors.items()}
    with pytest.raises(InputError, match=r"^onnx: expected prefixes such as lstm/, .* \('lstm/l0/"):
        onnx_model(PlacedLSTM(native.layout, renamed, ("lstm/l0/",)))


# --- PyTorch's exporter -------------------------------------------------------------------------


class WithLearnedStates(torch.nn.Module):
    """An LSTM with initial states for every batch."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(I, H, 2, bidirectional=True)
        self.h0 = torch.nn.Parameter(torch.randn(4, 1, H))
        self.c0 = torch.nn.Parameter(torch.randn(4, 1, H))

    def forward(self, x):
        n = x.shape[1]
        return self.lstm(x, (self.h0.expand(-1, n, -1), self.c0.expand(-1, n, -1)))[0]


def exported(module, *inputs, **options):
    file: Any = io.BytesIO()
    torch.onnx.export(module, inputs, file, dynamo=False, opset_version=17, **options)
    return file.getvalue()


exporting = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning"
)


@exporting
@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_an_export_of_nn_lstm_reads_back_as_its_state_dict(tmp_path, folded, states, batch_first):
    torch.manual_seed(0)
    bias = folded or states
    module = torch.nn.LSTM(I, H, 2, bias, batch_first, bidirectional=True)
    x, state = torch.randn(T, N, I), torch.randn(4, T if batch_first else N, H)
    inputs = (x, (state, state)) if states else (x,)
    archive = read(tmp_path, exported(module, *inputs, do_constant_folding=folded))
    (finding,) = recognise(archive)
    assert finding.prefixes == ("LSTM/l0/", "LSTM/l1/")
    state_dict = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    parameters = to_canonical(finding.best.lstm).parameters
    assert_same({n: parameters[n] for n in state_dict}, state_dict)
    rest = [a for n, a in parameters.items() if n not in state_dict]
    assert not any(a.any() for a in rest)  # the exporter may write biases of zeros


@exporting
@pytest.mark.parametrize("folded", [True, False])
def test_states_that_torch_learned_are_found(tmp_path, folded):
    module = WithLearnedStates()
    data = exported(
        module,
        torch.randn(T, N, I),
        do_constant_folding=folded,
        input_names=["x"],
        dynamic_axes={"x": {0: "T", 1: "N"}},
    )
    (finding,) = recognise(read(tmp_path, data))
    model = to_canonical(finding.best.lstm)
    assert model.initial_h is not None
    assert model.initial_c is not None
    assert model.initial_h.tobytes() == module.h0.detach().numpy().tobytes()
    assert model.initial_c.tobytes() == module.c0.detach().numpy().tobytes()


# --- graphs -------------------------------------------------------------------------------------


def weights(seed=0, **options):
    """W, R, B and perhaps P of one direction."""
    native = random_native(seed, **options)
    return {name.removeprefix("lstm/"): array for name, array in native.tensors.items()}


def graph_of(body, **arrays):
    """A model by onnx's own text format, with tensors."""
    header = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[T,N,3] x, bool cond) => (float[] out)'
    )
    model = onnx.parser.parse_model(f"{header} {{ {body} }}")
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(a, order="C"), n) for n, a in arrays.items()
    )
    return model


LSTM_NODE = "out = LSTM <hidden_size=7> (x, W, R, B)"


def only(tmp_path, model, expected, prefix="out/"):
    archive = read(tmp_path, model)
    assert_same(archive.tensors, {prefix + name: array for name, array in expected.items()})
    return archive


def test_peepholes_are_found_where_the_standard_has_them(tmp_path):
    p = weights(variant="peephole")
    only(tmp_path, graph_of("out = LSTM <hidden_size=7> (x, W, R, B,,,, P)", **p), p)


def test_weights_are_computed_from_constants(tmp_path):
    p = weights()
    body = """
        order = Constant <value_ints = [0, 3, 1, 2]> ()
        shape = Constant <value = int64[4] {1, 4, 7, 3}> ()
        flat = Constant <value = int64[3] {1, 28, -1}> ()
        blocks = Reshape (torch_W, shape)
        gates = Gather <axis = 1> (blocks, order)
        W = Reshape (gates, flat)
        sizes = Constant <value_ints = [3, 4]> ()
        first, second = Split <axis = 0> (halves, sizes)
        joined = Concat <axis = 0> (first, second)
        turned = Transpose <perm = [1, 0]> (joined)
        axis = Constant <value_ints = [0]> ()
        R = Unsqueeze (turned, axis)
        zeros_shape = Shape (b)
        zeros = ConstantOfShape <value = float[1] {0}> (zeros_shape)
        sum = Add (b, zeros)
        begin = Constant <value_ints = [1]> ()
        end = Constant <value_ints = [2]> ()
        slice = Slice (sum, begin, end, axis)
        narrow = Cast <to = 1> (slice)
        B = Identity (narrow)
    """
    torch_W = p["W"].reshape(1, 4, 7, 3)[:, [0, 2, 3, 1]].reshape(28, 3)
    b = np.stack([-p["B"][0], p["B"][0]])
    only(tmp_path, graph_of(body + LSTM_NODE, torch_W=torch_W, halves=p["R"][0].T, b=b), p)


def test_lstms_within_if_and_loop_are_found_and_read_outer_tensors(tmp_path):
    p, q = weights(0), weights(1)
    renamed = {f"{name}2": array for name, array in q.items()}
    branch = "<hidden_size=7> (x, W, R, B)"
    body = f"""
        out = If (cond) <
            then_branch = a () => (float[] ya) {{ ya = LSTM {branch} }},
            else_branch = b () => (float[] yb) {{ yb = LSTM {branch} }}>
        count = Constant <value = int64 {{2}}> ()
        last = Loop (count, cond, x) <
            body = c (int64 k, bool go, float[] z) => (bool go2, float[] z2)
            {{
                go2 = Identity (go)
                y2 = LSTM <hidden_size=7> (x, W2, R2, B2)
                z2 = Identity (z)
            }}>
    """
    archive = read(tmp_path, graph_of(body, **p, **renamed))
    both = {f"ya/{n}": a for n, a in p.items()} | {f"y2/{n}": a for n, a in q.items()}
    assert_same(archive.tensors, both)
    assert archive.notes == ("node yb: the same LSTM as ya, listed once",)
    assert [finding.prefixes for finding in recognise(archive)] == [("y2/",), ("ya/",)]


def test_an_inner_tensor_hides_an_outer_one(tmp_path):
    p = weights()
    model = graph_of(
        "out = If (cond) <then_branch = a () => (float[] ya)"
        " { ya = LSTM <hidden_size=7> (x, W, R, B) }, else_branch = b () => (float[] x) {}>",
        **{n: np.zeros_like(a) for n, a in p.items()},
    )
    inner = model.graph.node[0].attribute[0].g
    inner.initializer.extend(numpy_helper.from_array(a, n) for n, a in p.items())
    tensors = read(tmp_path, model).tensors
    assert_same({n: tensors["ya/" + n] for n in p}, p)


def test_what_a_branch_gives_is_not_seen_outside(tmp_path):
    p = weights()
    body = """
        y = If (cond) <
            then_branch = a () => (float[] ya) { W = Identity (V) ya = Identity (x) },
            else_branch = b () => (float[] yb) { yb = Identity (x) }>
    """
    model = graph_of(body + LSTM_NODE, **{("V" if n == "W" else n): a for n, a in p.items()})
    with pytest.raises(InputError, match="reads 'W', which nothing before it gives"):
        read(tmp_path, model)


def two_lstms(between, after="z", seeds=(0, 1)):
    """Two LSTMs of the same sizes, the second of which reads `after`."""
    first, second = weights(seeds[0]), weights(seeds[1])
    second = {"W2": np.random.default_rng(9).standard_normal((1, 28, 7)).astype(F4),
              "R2": second["R"], "B2": second["B"]}  # fmt: skip
    body = f"""
        y_1, h_1 = LSTM <hidden_size=7> (x, W, R, B)
        axis = Constant <value_ints = [1]> ()
        {between}
        y_2 = LSTM <hidden_size=7> ({after}, W2, R2, B2)
    """
    return graph_of(body, **first, **second)


@pytest.mark.parametrize(
    "between",
    [
        "z = Squeeze (y_1, axis)",
        "a = Transpose <perm = [2, 1, 0, 3]> (y_1) b = Squeeze (a, axis)"
        " z = Transpose <perm = [1, 0, 2]> (b)",
        "a = Transpose <perm = [0, 2, 1, 3]> (y_1) s = Constant <value_ints = [0, 0, -1]> ()"
        " z = Reshape (a, s)",
        "s = Shape (y_1) k = Constant <value_ints = [0, 2, 3]> () t = Gather (s, k)"
        " z = Reshape (y_1, t)",
    ],
)
def test_lstms_that_feed_each_other_are_one_stack(tmp_path, between):
    archive = read(tmp_path, two_lstms(between))
    assert [f.prefixes for f in recognise(archive)] == [("y_1/l0/", "y_1/l1/")]


@pytest.mark.parametrize(
    ("below", "above", "between"),
    [
        (1, 1, "a = Constant <value_ints = [2]> () z = Squeeze (y_1, a)"),
        (1, 0, "a = Constant <value_ints = [2]> () b = Squeeze (y_1, a)"
         " z = Transpose <perm = [1, 0, 2]> (b)"),
        (0, 1, "b = Squeeze (y_1, axis) z = Transpose <perm = [1, 0, 2]> (b)"),
    ],
)  # fmt: skip
def test_lstms_that_are_batch_first_feed_each_other_too(tmp_path, below, above, between):
    model = two_lstms(between)
    first, *_, second = model.graph.node
    for node, layout in ((first, below), (second, above)):
        node.attribute.append(helper.make_attribute("layout", layout))
    assert [f.prefixes for f in recognise(read(tmp_path, model))] == [("y_1/l0/", "y_1/l1/")]
    second.attribute[-1].i = 1 - above
    archive = read(tmp_path, model)
    assert [f.prefixes for f in recognise(archive)] == [("y_1/",), ("y_2/",)]


@pytest.mark.parametrize(
    ("between", "after"),
    [
        ("a = Squeeze (y_1, axis) z = Relu (a)", "z"),
        ("a = Squeeze (y_1, axis) z = Transpose <perm = [1, 0, 2]> (a)", "z"),  # T and N swapped
        ("z = Identity (h_1)", "z"),  # the last state alone
        ("a = Squeeze (y_1, axis) z = Add (a, a)", "z"),
        ("a = Squeeze (y_1, axis) z = Add (a, x7)", "z"),
        ("z = Squeeze (y_1, axis) y_3 = LSTM <hidden_size=7> (z, W2, R2, B)", "z"),  # feeds two
        ("", "x7"),
    ],
)
def test_lstms_that_do_not_feed_each_other_unchanged_are_no_stack(tmp_path, between, after):
    model = two_lstms(between, after)
    model.graph.input.append(helper.make_tensor_value_info("x7", 1, ["T", "N", 7]))
    archive = read(tmp_path, model)
    prefixes = [f.prefixes for f in recognise(archive)]
    assert ("y_1/",) in prefixes
    assert ("y_2/",) in prefixes
    assert all(len(p) == 1 for p in prefixes)


def test_layers_of_other_activations_are_no_stack(tmp_path):
    model = two_lstms("z = Squeeze (y_1, axis)")
    model.graph.node[-1].attribute.append(
        helper.make_attribute("activations", ["HardSigmoid", "Tanh", "Tanh"])
    )
    archive = read(tmp_path, model)
    assert archive.facts == {"y_1/": RuntimeFacts(), "y_2/": RuntimeFacts(activations=HARD)}


def test_nodes_of_one_name_get_names_of_their_own(tmp_path):
    model = two_lstms("", "x7")
    model.graph.input.append(helper.make_tensor_value_info("x7", 1, ["T", "N", 7]))
    for node in model.graph.node:
        node.name = "/rnn/LSTM"
    assert set(read(tmp_path, model).facts) == {"rnn/LSTM/", "rnn/LSTM_2/"}


def test_other_weights_are_listed_and_those_of_other_nodes_are_not_taken_for_an_lstms(tmp_path):
    p = weights()
    gru = {"gru_W": np.ones((1, 12, I), F4), "gru_R": np.ones((1, 12, 4), F4)}
    other = {"dense/kernel": np.ones((7, 2), F4), "axes": np.ones(1, np.int64)}
    body = LSTM_NODE + " g = GRU <hidden_size=4> (x, gru_W, gru_R)"
    archive = only(tmp_path, graph_of(body, **p, **gru), p)
    model = graph_of(body, **p, **gru, **other, **{"/up": np.ones(2, F4)})
    archive = read(tmp_path, model)
    assert set(archive.tensors) == {f"out/{n}" for n in p} | {"dense/kernel"}
    assert archive.notes == ("weights left out, for their names: '/up'",)


def test_operators_of_other_makers_are_not_taken_for_the_standards(tmp_path):
    p = weights()
    node = "LSTM <hidden_size=7, clip = 2.0>"
    body = f"V = Identity (W) y = {node} (x, W, R, B) z = {node} (x, V, R, B) {LSTM_NODE}"
    model = graph_of(body, **p)
    for node in model.graph.node[:2]:
        node.domain = "other"
    note = "node z: left out, since its weights are not constant"
    assert only(tmp_path, model, p).notes == (note,)


def test_a_model_without_an_lstm_has_none(tmp_path):
    archive = read(tmp_path, graph_of("out = Relu (x)", W=np.ones((1, 28, 3), F4)))
    assert list(archive.tensors) == ["W"]
    assert recognise(archive) == []


def spelt_out(names):
    """A cell of PyTorch in operators, as exporters write it."""
    shapes = [(28, I), (28, 7), (28,), (28,)]
    p = {name: np.ones(shape, F4) for name, shape in zip(names, shapes, strict=True)}
    body = "out = Relu (x)"
    return graph_of(body, **p)


def test_the_weights_of_a_cell_in_operators_are_listed_and_read_if_the_layout_is_said(tmp_path):
    names = [f"cell.{kind}_{side}" for kind in ("weight", "bias") for side in ("ih", "hh")]
    path = saved(tmp_path, spelt_out(names))
    with pytest.raises(OptionError, match=r"spelt out in operators.* with layout torch-cell"):
        read_lstm(path)
    loaded = read_lstm(path, ReadOptions(layout="torch-cell"))
    assert set(loaded.lstm.tensors) == set(names)
    path = saved(tmp_path, spelt_out(["onnx::Gemm_1", "onnx::Gemm_2", "b1", "b2"]))
    with pytest.raises(OptionError, match="shapes alone prove nothing"):
        read_lstm(path)


def test_a_reverse_direction_is_read_with_a_note_and_is_no_layer_of_a_stack(tmp_path):
    p = weights()
    model = graph_of(LSTM_NODE.replace("=7", '=7, direction = "reverse"'), **p)
    archive = only(tmp_path, model, p)
    assert archive.notes[0].startswith("node out: direction is reverse: it reads sequences from")


def test_a_quantised_lstm_is_called_so(tmp_path):
    integers = {name: np.ones((1, 3, 28), np.int8) for name in ("W", "R")}
    model = graph_of(LSTM_NODE, **{**weights(), **integers})
    for node in model.graph.node:
        if node.op_type == "LSTM":
            node.op_type, node.domain = "DynamicQuantizeLSTM", "com.microsoft"
    with pytest.raises(InputError, match="node out is a quantised LSTM: int8, the float weights"):
        read_lstm(saved(tmp_path, model))


def test_a_gru_is_called_so(tmp_path):
    gru = {"W": np.ones((1, 12, I), F4), "R": np.ones((1, 12, 4), F4)}
    model = graph_of("out = GRU <hidden_size=4> (x, W, R)", **gru)
    with pytest.raises(InputError, match="no LSTM found: node out is a GRU"):
        read_lstm(saved(tmp_path, model))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_numbers_that_are_not_raw_bytes_read_the_same(tmp_path, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    p = {name: array.astype(kind) for name, array in weights().items()}
    model = graph_of(LSTM_NODE)
    for name, array in p.items():
        number = {"float16": 10, "float32": 1, "float64": 11, "bfloat16": 16}[dtype]
        proto = onnx.TensorProto(name=name, dims=array.shape, data_type=number)
        flat = array.ravel()
        if dtype in ("float16", "bfloat16"):
            proto.int32_data.extend(flat.view(np.uint16).tolist())
        else:
            getattr(proto, "float_data" if number == 1 else "double_data").extend(flat.tolist())
        model.graph.initializer.append(proto)
    only(tmp_path, model, p)
    model.graph.initializer[0].ClearField("dims")
    with pytest.raises(InputError, match=r"W: expected . bytes for .* \[\], got"):
        read(tmp_path, model)


def test_narrow_integers_that_are_not_raw_bytes_are_read(tmp_path):
    p, numbers = weights(), np.random.default_rng(0).integers(-128, 128, (1, 56))
    narrow = onnx.TensorProto(name="b", dims=(1, 56), data_type=onnx.TensorProto.INT8)
    narrow.int32_data.extend(numbers.ravel().tolist())
    model = graph_of("B = Cast <to = 1> (b)" + LSTM_NODE, W=p["W"], R=p["R"])
    model.graph.initializer.append(narrow)
    only(tmp_path, model, p | {"B": numbers.astype(F4)})


# --- initial states -----------------------------------------------------------------------------

STATEFUL = "out = LSTM <hidden_size=7> (x, W, R, B,, h0, c0)"
h0, c0 = np.random.default_rng(3).standard_normal((2, 1, 1, H)).astype(F4)
NOT_ONE = (
    "node out: constant initial states are left out, since not all are constant and the same for"
    " every sequence"
)


@pytest.mark.parametrize("batch", [1, N])
@pytest.mark.parametrize("layout", [0, 1])
def test_constant_states_that_are_the_same_for_every_sequence_are_learned(tmp_path, batch, layout):
    p, (h, c) = weights(), (np.repeat(s, batch, axis=1) for s in (h0, c0))
    if layout:
        h, c = h.swapaxes(0, 1), c.swapaxes(0, 1)
    body = STATEFUL.replace("=7", f"=7, layout={layout}")
    model = graph_of(body, **p, h0=h, c0=c)
    only(tmp_path, model, p | {"initial_h": h0[:, 0], "initial_c": c0[:, 0]})


def test_a_state_that_is_not_given_is_zero_beside_one_that_is_learned(tmp_path):
    p, zeros = weights(), np.zeros_like(h0[0])
    model = graph_of(STATEFUL.replace(", c0", ""), **p, h0=h0)
    only(tmp_path, model, p | {"initial_h": h0[:, 0], "initial_c": zeros})
    model = graph_of(STATEFUL, **p, h0=np.zeros((1, N, H), F4), c0=c0)
    only(tmp_path, model, p | {"initial_h": zeros, "initial_c": c0[:, 0]})


def test_states_of_zeros_are_those_that_every_lstm_begins_with(tmp_path):
    p, zeros = weights(), np.zeros((1, N, H), F4)
    assert only(tmp_path, graph_of(STATEFUL, **p, h0=zeros, c0=zeros), p).notes == ()


def test_states_that_come_from_inputs_are_absent(tmp_path):
    p = weights()
    model = graph_of("h0 = Relu (x) c0 = Relu (x)" + STATEFUL, **p)
    assert only(tmp_path, model, p).notes == ()


@pytest.mark.parametrize(
    ("body", "h", "c"),
    [
        ("", np.concatenate([h0, 2 * h0], axis=1), np.concatenate([c0, c0], axis=1)),
        ("", h0[0], c0),
        ("", h0.astype(F8), c0),
        ("c0 = Relu (x) ", h0, None),
    ],
)
def test_constant_states_that_are_not_one_for_all_are_left_out_with_a_note(tmp_path, body, h, c):
    states = {"h0": h} | ({} if c is None else {"c0": c})
    p = weights()
    assert only(tmp_path, graph_of(body + STATEFUL, **p, **states), p).notes == (NOT_ONE,)


# --- activations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('activations = ["Sigmoid", "Tanh", "Tanh"]', SIGMOID_TANH),
        ('activations = ["hardsigmoid", "TANH", "tanh"]', HARD),
        ('activations = ["HardSigmoid", "Tanh", "Tanh"], activation_alpha = [0.25]',
         ("hard_sigmoid(0.25, 0.5)", "tanh", "tanh")),
        ('activations = ["HardSigmoid", "Softsign", "ScaledTanh"], activation_alpha = [0.25, 1.7],'
         " activation_beta = [0.4, 0.6]",
         ("hard_sigmoid(0.25, 0.4)", "softsign", "scaled_tanh(1.7, 0.6)")),
        ('activations = ["Sigmoid", "Relu", "Affine"]', ("sigmoid", "relu", "linear")),
        ("", SIGMOID_TANH),
    ],
)  # fmt: skip
def test_activations_are_facts(tmp_path, attributes, expected):
    body = LSTM_NODE.replace("=7", "=7" + (", " if attributes else "") + attributes)
    archive = only(tmp_path, graph_of(body, **weights()), weights())
    assert archive.facts == {"out/": RuntimeFacts(activations=expected)}


def test_activations_must_agree_between_the_directions(tmp_path):
    p = {n: np.concatenate([a, a]) for n, a in weights().items()}
    given = 'direction = "bidirectional", activations = ["HardSigmoid", "Tanh", "Tanh", %s]'
    body = LSTM_NODE.replace("=7", "=7, " + given + ", activation_alpha = [0.25, 0.25]")
    model = graph_of(body % '"HardSigmoid", "Tanh", "Tanh"', **p)
    assert only(tmp_path, model, p).facts["out/"].activations[0] == "hard_sigmoid(0.25, 0.5)"
    body = body.replace("[0.25, 0.25]", "[0.25, 0.3]")
    for model in (
        graph_of(body % '"HardSigmoid", "Tanh", "Tanh"', **p),
        graph_of(body % '"HardSigmoid", "Tanh", "Relu"', **p),
    ):
        with pytest.raises(InputError, match=r"node out: activations: .* differ between the"):
            read(tmp_path, model)


def test_exact_numbers_of_activations_are_believed_only_if_the_node_has_them(tmp_path):
    native = random_native(activations=KERAS_3)
    model = onnx.ModelProto.FromString(onnx_model(native))
    lstm = next(node for node in model.graph.node if node.op_type == "LSTM")
    alpha = next(a for a in lstm.attribute if a.name == "activation_alpha")
    alpha.floats[0] = 0.25
    said = read(tmp_path, model).facts["lstm/"].activations
    assert said == ("hard_sigmoid(0.25, 0.5)", "relu", "scaled_tanh(1.7, 0.6)")
    for lie in ("[", '{"a": 1}', '["tanh"]', "3", '["", "", ""]', "[[], 1, 2]"):
        model.metadata_props[0].value = lie
        assert read(tmp_path, model).facts["lstm/"].activations == said


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ('direction = "up"', "direction = 'up' is unknown; expected 'forward', 'reverse' or"),
        ("clip = 3.0", "clip = 3 of pre-activations has no place here"),
        ("input_forget = 1", r"input_forget = 1 \(f = 1 - i\) has no place"),
        ("layout = 2", "layout = 2; expected 0 or 1"),
        ("mystery = 1", "attribute 'mystery' is unknown or there twice"),
        ('activations = ["Sigmoid", "Elu", "Tanh"]', "activation 'Elu' has no place here; exp"),
        ('activations = ["Sigmoid", "Tanh"]', "activations: expected 3 for each direction, 3, got"),
        ('activations = ["Sigmoid", "Tanh", "ScaledTanh"]', "activation 'ScaledTanh': expected"),
        ('activations = ["Affine", "Tanh", "Tanh"], activation_alpha = [2.0]',
         "activation Affine with alpha = 2.0, beta = 0.0; expected 1 and 0"),
        ("activation_alpha = [0.5]", r"activation_alpha = \[0.5\], .* more than the activations"),
    ],
)  # fmt: skip
def test_what_the_equations_lack_is_refused_by_name(tmp_path, attributes, message):
    body = LSTM_NODE.replace("=7", f"=7, {attributes}")
    with pytest.raises(InputError, match=rf"^\S*a.onnx: node out: {message}") as caught:
        read(tmp_path, graph_of(body, **weights()))
    assert "\n" not in str(caught.value)


def test_what_is_refused_beside_another_lstm_is_a_note(tmp_path):
    p = weights()
    model = graph_of(LSTM_NODE + " y = LSTM <hidden_size=7, clip = 2.0> (x, W, R, B)", **p)
    note = "node y: clip = 2 of pre-activations has no place here: left out"
    assert only(tmp_path, model, p).notes == (note,)


def test_an_lstm_whose_weights_are_not_constant_is_left_out_with_a_note(tmp_path):
    model = graph_of(
        "W = Relu (x) " + LSTM_NODE, **{n: a for n, a in weights().items() if n != "W"}
    )
    archive = read(tmp_path, model)
    assert archive.tensors == {}
    assert archive.notes == ("node out: left out, since its weights are not constant",)


def test_an_lstm_in_a_function_is_noted(tmp_path):
    model = graph_of(LSTM_NODE, **weights())
    node = helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=7)
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("d", "f", ["x", "W", "R"], ["y"], [node], opsets))
    note = "the LSTM in the function f is not read; inline functions first"
    assert only(tmp_path, model, weights()).notes == (note,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": np.ones((1, 28), F4)}, r"W: expected \[D, 4H, I\] = \[1, 28, 28\], got \[1, 28\]"),
        ({"W": np.float32(1)}, r"W: expected \[D, 4H, I\] = \[1, 28, 0\], got \[\]"),
        ({"R": np.ones((1, 24, 6), F4)}, r"R: expected \[D, 4H, H\] = \[1, 28, 7\], got"),
        ({"B": np.ones((2, 56), F4)}, r"B: expected \[D, 8H\] = \[1, 56\], got \[2, 56\]"),
        ({"B": np.ones((1, 56), F8)}, "B: expected dtype float32 as of R, got float64"),
        ({"W": np.ones((1, 28, 0), F4)}, r"W: expected \[D, 4H, I\] = \[1, 28, 0\], got"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=rf"^\S*a.onnx: node out: {message}"):
        read(tmp_path, graph_of(LSTM_NODE, **weights() | change))


# --- hostile files ------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "a.onnx", "b.bin"])
@pytest.mark.parametrize("where", ["initializer", "Constant", "branch"])
def test_no_other_file_is_ever_opened(tmp_path, location, where):
    (tmp_path / "b.bin").write_bytes(bytes(28 * 3 * 4))
    model = graph_of(
        "c = Constant <value = float[1] {0}> () out = If (cond) <then_branch = a () => (float[] ya)"
        " { ya = Identity (x) }, else_branch = b () => (float[] yb) { yb = Identity (x) }>"
        + LSTM_NODE.replace("out", "y"),
        **weights(),
    )
    inner = model.graph.node[1].attribute[0].g.initializer
    inner.append(numpy_helper.from_array(np.ones(2, F4), "inner"))
    proto = {
        "initializer": model.graph.initializer[0],
        "Constant": model.graph.node[0].attribute[0].t,
        "branch": inner[0],
    }[where]
    proto.ClearField("raw_data")
    proto.data_location = onnx.TensorProto.EXTERNAL
    proto.external_data.add(key="location", value=location)
    with pytest.raises(InputError, match=r"its numbers are in another file, which is never opened"):
        read(tmp_path, model)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("W = Identity (V) V = Identity (W)", "reads 'V', which nothing before it gives; expected"),
        ("W = Identity (W)", r"node 'W' \(Identity\) reads 'W', which nothing before it gives"),
        ("W = Identity (x) W = Identity (x)", "'W' is given twice, once by node 'W'"),
        ("n = Constant <value_ints = [1099511627776, 7, 1]> () W = ConstantOfShape (n)",
         "declares [0-9,]* bytes of tensors in a file of"),
        ("n = Constant <value_ints = [1048576, 28, 7]> () W = Expand (R, n)", "declares"),
        ("n = Constant <value_ints = [-1, 4, 1]> () W = ConstantOfShape (n)", "cannot be computed"),
        ("n = Constant <value_ints = [99]> () W = Gather <axis = 9> (R, n)", "cannot be computed"),
        ("W = Transpose <perm = [5, 6]> (R)", r"node 'W' \(Transpose\) cannot be computed"),
        ("W = Concat <axis = 0> ()", "W: expected|cannot be computed"),
    ],
)  # fmt: skip
def test_faulty_and_hostile_graphs_are_refused_in_one_sentence(tmp_path, body, message):
    p = {name: array for name, array in weights().items() if name != "W"}
    with pytest.raises(InputError, match=rf"^\S*a.onnx: .*{message}") as caught:
        read(tmp_path, graph_of(body + " " + LSTM_NODE, **p))
    assert "\n" not in str(caught.value)


def test_sizes_that_double_are_refused_before_there_is_memory_for_them(tmp_path):
    p = {name: array for name, array in weights().items() if name != "W"}
    body = " ".join(f"w{k + 1} = Concat <axis = 0> (w{k}, w{k})" for k in range(60))
    model = graph_of(f"{body} W = Identity (w60) {LSTM_NODE}", w0=np.ones((2, 3), F4), **p)
    with pytest.raises(InputError, match=r"declares [0-9,]* bytes of tensors in a file of"):
        read(tmp_path, model)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_sizes_that_multiply_are_refused_before_there_is_memory_for_them(tmp_path, op):
    p = {name: array for name, array in weights().items() if name != "W"}
    columns = np.ones((20000, 1), F4)
    model = graph_of(f"W = {op} (row, column) {LSTM_NODE}", row=columns.T, column=columns, **p)
    with pytest.raises(InputError, match=r"declares 3,200,[0-9,]* bytes of tensors in a file of"):
        read(tmp_path, model)


def test_declared_sizes_are_not_believed(tmp_path):
    model = graph_of(LSTM_NODE, **weights())
    model.graph.initializer[0].dims[:] = [1, 1 << 31, 1 << 31]
    with pytest.raises(InputError, match=r"a\.onnx: W: expected"):
        read(tmp_path, model)


def test_a_chain_longer_than_the_stack_is_computed(tmp_path):
    p = weights()
    longer = sys.getrecursionlimit() + 100
    chain = " ".join(f"w{k + 1} = Identity (w{k})" for k in range(longer))
    model = graph_of(f"w0 = Identity (V) {chain} W = Identity (w{longer}) " + LSTM_NODE,
                     **{("V" if n == "W" else n): a for n, a in p.items()})  # fmt: skip
    only(tmp_path, model, p)


@pytest.mark.parametrize("data", [b"", b"\0", b"hello, world", b"\x08\x08", bytes(99)])
def test_what_is_no_model_is_refused(tmp_path, data):
    with pytest.raises(InputError, match=r"^\S*a.onnx: not a whole ONNX model \("):
        read(tmp_path, data)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no such file; expected an \.onnx file"):
        read_onnx(tmp_path / "none.onnx")


def damaged(rng, data):
    """A copy with a bit flipped, a byte replaced, or a part removed or repeated."""
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 9))
    return [
        lambda: data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :],
        lambda: data[:at] + rng.bytes(1) + data[at + 1 :],
        lambda: data[:at] + data[at + size :],
        lambda: data[: at + size] + data[at:],
    ][int(rng.integers(4))]()


def outcome(path, data):
    """The archive, or None if it was refused in one sentence."""
    path.write_bytes(data)
    try:
        return read_onnx(path)
    except InputError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return None


def test_a_file_cut_short_is_refused_or_reads_the_same(tmp_path):
    data = onnx_model(random_native(layers=2, activations=HARD))
    expected = read(tmp_path, data)
    for size in range(0, len(data), 23):
        archive = outcome(tmp_path / "a.onnx", data[:size])
        if archive is not None:
            assert_same(archive.tensors, expected.tensors)
            assert archive.facts == expected.facts


def test_a_damaged_file_is_refused_or_holds_what_was_read(tmp_path):
    """There is no checksum: a damaged weight is another weight, a damaged name another name. But
    every tensor read is in the file, byte by byte, and nothing but InputError is raised."""
    rng, refused = np.random.default_rng(0), 0
    originals = [
        onnx_model(random_native(bias=False)),
        graph_of("a = Identity (V) W = Transpose <perm = [0, 1, 2]> (a) " + LSTM_NODE,
                 **{("V" if n == "W" else n): a for n, a in weights().items()}).SerializeToString(),
    ]  # fmt: skip
    # Damage where it matters: between the weights, which are most of the file.
    for data in originals:
        spans = [data.find(a.tobytes()) for a in read(tmp_path, data).tensors.values()]
        assert min(spans) > 0
    for k in range(160):
        data = damaged(rng, originals[k % 2])
        archive = outcome(tmp_path / "a.onnx", data)
        refused += archive is None
        for array in archive.tensors.values() if archive else ():
            assert array.tobytes() in data
    assert 16 < refused < 144


def test_damage_to_the_structure_is_refused_or_holds_what_was_read(tmp_path):
    """As above, with weights of a few bytes, so that most of the file is structure."""
    rng, config = np.random.default_rng(1), LSTM(1, 1, 2, bidirectional=True, bias=False)
    parameters = random_parameters(config.parameter_shapes(), rng, F4)
    facts = RuntimeFacts(activations=HARD)
    original = onnx_model(to_layout(CanonicalLSTM(config, parameters, facts), TABLE["onnx"]))
    refused = 0
    for _ in range(160):
        data = damaged(rng, original)
        archive = outcome(tmp_path / "a.onnx", data)
        refused += archive is None
        for array in archive.tensors.values() if archive else ():
            assert array.tobytes() in data
    assert 40 < refused < 156


# --- real models --------------------------------------------------------------------------------


def real(*parts):
    path = DATA.joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def speech():
    """16 kHz, from -1 to 1."""
    with wave.open(str(real("silero-vad", "test.wav"))) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return samples.astype(F4) / 32768


def test_dtlns_lstms_do_what_its_graph_does_over_300_steps():
    """Its two LSTMs, free-running on magnitudes of speech, against every step of the model."""
    path, frames = real("DTLN", "model_1.onnx"), speech()[16000:]
    model = onnx.load(path)
    for name in ("lstm_4_Y", "lstm_4_Y_c", "lstm_5_Y", "lstm_5_Y_c"):
        model.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    x = np.stack([np.abs(np.fft.rfft(frames[128 * t : 128 * t + 512])) for t in range(300)])
    x, runner = x.astype(F4)[:, None], session(model)
    state, steps = np.zeros((1, 2, 128, 2), F4), []
    for t in range(300):
        _, state, *own = runner.run(None, {"input_2": x[None, t], "input_3": state})
        steps.append([array.reshape(1, 128) for array in own])
    below, below_c, above, above_c = (np.stack(s) for s in zip(*steps, strict=True))
    (finding,) = recognise(read_onnx(path))
    native, model = finding.best.lstm, to_canonical(finding.best.lstm)
    assert (model.config.input_size, model.config.hidden_size, native.num_layers) == (257, 128, 2)
    zeros, wide = np.zeros((2, 1, 128), F4), np.zeros((2, 1, 128))
    (y, h_n, c_n), _ = lstm_forward(model.config, dict(model.parameters), x, zeros, zeros)
    exact = run_as_placed(native, x.astype(F8), wide, wide)
    twins = [
        run_as_placed(native, x.astype(F8), wide, wide, Noise([0, k], F4)) for k in range(TWINS)
    ]
    moves = [[twin[k] - exact[k] for twin in twins] for k in range(3)]
    theirs = above, np.stack([below[-1], above[-1]]), np.stack([below_c[-1], above_c[-1]])
    for outputs in ((y, h_n, c_n), theirs):
        assert distances(outputs[0], exact[0], moves[0], dtype=F4).max() <= K
        for k in (1, 2):
            assert distances(outputs[k], exact[k], moves[k], dtype=F4).max() <= K


def silero_states(path, samples, overlap):
    """Its LSTM's inputs [T, 1, 128] and its states h, c [T, 2, 128], chunk by chunk of 512 samples,
    each after the last 64 of the chunk before if they overlap."""
    model, encoded = onnx.load(path), "/model/decoder/If_output_0"
    model.graph.output.append(helper.make_tensor_value_info(encoded, 1, None))
    runner = session(model)
    state, context, inputs, states = np.zeros((2, 1, 128), F4), np.zeros(64 * overlap, F4), [], []
    for chunk in samples[: len(samples) // 512 * 512].reshape(-1, 512):
        feeds = {"input": np.concatenate([context, chunk])[None], "state": state}
        _, state, x = runner.run(None, feeds | {"sr": np.array(16000)})
        context = chunk[len(chunk) - len(context) :]
        inputs.append(x)
        states.append(state[:, 0])
    return np.stack(inputs), np.stack(states)


def free_running(model, x, dtype):
    """Our cell's states h, c [T, 2, 128] from zeros."""
    parameters = {n: p.astype(dtype) for n, p in model.parameters.items()}
    cell, states = LSTMCell(model.config, parameters), []
    h, c = cell.zero_state(1)
    for each in x.astype(dtype):
        _, (h, c) = cell.step(each, (h, c))
        states.append(np.concatenate([h, c])[:, 0])
    return np.stack(states)


def noisy_twin(native, x, seed):
    """The same of the file's own layout, run in float64 with the noise of float32."""
    step = PlacedCell.of(native, 0, 0, sizes_of(native, 0), F8, Noise([0, seed], F4))
    h = c = np.zeros((1, 128))
    states = []
    for each in x.astype(F8):
        h, c = step(each, h, c)
        states.append(np.concatenate([h, c]))
    return np.stack(states)


@pytest.mark.parametrize(("seconds", "overlap", "largest"), [(60, True, 29), (10, False, 300)])
def test_sileros_lstm_within_an_if_does_what_its_graph_does_at_every_chunk_of_speech(
    seconds, overlap, largest
):
    """Free-running from the same start, ours and onnxruntime's alike. Chunks without overlap are
    not what the model was trained on: a cell counts them, and grows with each."""
    path = real("silero-vad", "silero_vad_16k_op15.onnx")
    x, theirs = silero_states(path, speech()[: 16000 * seconds], overlap)
    archive = read_onnx(path)
    assert archive.notes == (
        "node /model/decoder/rnn_1/LSTM: the same LSTM as model/decoder/rnn/LSTM, listed once",
    )
    (finding,) = recognise(archive)
    assert finding.prefixes == ("model/decoder/rnn/LSTM/",)
    native = finding.best.lstm
    model = to_canonical(native)
    held = {t.name: t for t in onnx.load(path).graph.initializer}  # in torch's own order
    for name, parameter in model.parameters.items():
        own = numpy_helper.to_array(held[f"model.decoder.rnn.{name.removesuffix('_l0')}"])
        assert own.tobytes() == parameter.tobytes()
    exact, ours = free_running(model, x, F8), free_running(model, x, F4)
    assert np.abs(exact).max() > largest
    moves = noisy_twin(native, x, 0) - exact
    for k in range(2):
        for actual in (ours, theirs):
            far = distances(actual[:, k], exact[:, k], [moves[:, k]], dtype=F4)
            assert far.max() <= K
