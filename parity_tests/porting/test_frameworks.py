"""Rows of the table, each verified by the framework's own LSTM.

Each case is a way in which people build an LSTM in a framework. It must take our weights under its
own names and do what `lstm.run` and `lstm_forward` do; and the weights that it initialises itself
must be there under the names that the row gives them, and mean the same.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import to_canonical, to_layout
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.proof.run_as_placed import Outputs
from numpy_lstm.roundoff import K
from parity_tests.support.framework_runners import (
    Runner,
    Tensors,
    equations,
    equinox_lstm,
    haiku_lstm,
    linen,
    load,
    mlx_lstm,
    nn_lstm,
    nn_lstmcell,
    nnx,
    numpy_lstm_forward,
    openvino_lstm,
)
from parity_tests.support.frameworks import (
    H,
    I,
    Inputs,
    N,
    P,
    T,
    random_inputs,
    random_model,
    renamed,
    worst_distance,
)

pytestmark = pytest.mark.usefixtures("without_type_checks")


@dataclass(frozen=True)
class Case:
    """One way to build an LSTM in a framework.

    Args:
        row: key of the table.
        needs: the package.
        runner: see there.
        prefixes: what precedes the names, layer by layer; None: what the row says.
        options: of `LSTM`.
        dtype: the widest that the framework runs.
        forget_bias: what the framework adds at run time.
    """

    row: str
    needs: str
    runner: Runner
    prefixes: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: type = np.float64
    forget_bias: float = 0.0

    @property
    def config(self) -> LSTM:
        return LSTM(I, H, **self.options)

    @property
    def placed(self) -> tuple[str, ...]:
        """What precedes the names, layer by layer."""
        return self.prefixes or TABLE[self.row].prefixes(self.config.num_layers)

    def __str__(self) -> str:
        options = (k if value is True else f"{k}={value}" for k, value in self.options.items())
        return " ".join([self.row, self.runner.__name__, *options, *(self.prefixes or ())])


_BOTH = {"num_layers": 2, "bidirectional": True}
_TWO = {"num_layers": 2}
_PAIR = {"bias_pair": True}
CASES = (
    Case("numpy-lstm", "numpy", numpy_lstm_forward, options={**_BOTH, "proj_size": P}),
    Case("numpy-lstm", "numpy", numpy_lstm_forward, options={**_BOTH, "variant": "peephole"}),
    Case("numpy-lstm", "numpy", numpy_lstm_forward, options={"variant": "coupled_peephole"}),
    Case("seed", "numpy", equations),
    Case("torch", "torch", nn_lstm, options={**_BOTH, **_PAIR, "proj_size": P}),
    Case("torch", "torch", nn_lstm, options={"bias": False}),
    Case("torch-cell", "torch", nn_lstmcell, options=_PAIR),
    Case("torch-cell", "torch", nn_lstmcell, options={**_TWO, **_PAIR}),
    Case("flax", "flax", linen("LSTMCell", False)),
    Case("flax", "flax", linen("LSTMCell", True), options=_BOTH),
    Case(
        "flax",
        "flax",
        linen("OptimizedLSTMCell", True),
        prefixes=("params/layers_0/cell/", "params/layers_1/cell/"),
        options=_TWO,
    ),
    Case("flax-nnx", "flax", nnx("LSTMCell", False)),
    Case("flax-nnx", "flax", nnx("LSTMCell", True), options=_BOTH),
    Case("flax-nnx", "flax", nnx("LSTMCell", True), ("cell.",)),
    Case("flax-nnx-optimized", "flax", nnx("OptimizedLSTMCell", False)),
    Case("flax-nnx-optimized", "flax", nnx("OptimizedLSTMCell", True), options=_BOTH),
    Case("equinox", "equinox", equinox_lstm),
    Case("equinox", "equinox", equinox_lstm, options={**_TWO, "bias": False}),
    Case("mlx", "mlx", mlx_lstm, options=_TWO, dtype=np.float32),
    Case("mlx", "mlx", mlx_lstm, options={"bias": False}, dtype=np.float32),
    Case("haiku", "haiku", haiku_lstm(("lstm_0", "lstm_1")), options=_TWO, forget_bias=1.0),
    Case("haiku", "haiku", haiku_lstm((None, None)), ("lstm/", "lstm_1/"), _TWO, forget_bias=1.0),
    Case("openvino", "openvino", openvino_lstm, dtype=np.float32),
    Case("openvino", "openvino", openvino_lstm, options=_BOTH, dtype=np.float32),
)


def _run(case: Case, tensors: Tensors | None, inputs: Inputs) -> tuple[Tensors, Outputs]:
    if case.needs == "openvino":
        # Without this it reports its use over the network, in a process of its own.
        sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType]
    pytest.importorskip(case.needs)
    if case.needs not in ("flax", "equinox", "haiku"):
        return case.runner(case.config, tensors, inputs)
    import jax

    with jax.enable_x64(True):
        return case.runner(case.config, tensors, inputs)


def _ours(case: Case) -> PlacedLSTM:
    """Random weights as the row has them, under the names of the case; nothing is lost."""
    model = random_model(case.config, case.dtype, case.forget_bias)
    lstm = renamed(to_layout(model, TABLE[case.row]), case.placed)
    assert to_canonical(lstm).digest() == model.digest()
    return lstm


@pytest.mark.parametrize("case", CASES, ids=str)
def test_framework_runs_our_weights_as_we_do(case: Case) -> None:
    lstm, inputs = _ours(case), random_inputs(case.config, case.dtype)
    held, outputs = _run(case, lstm.tensors, inputs)
    assert set(held) == set(lstm.tensors)
    for name, array in held.items():
        np.testing.assert_array_equal(array, lstm.tensors[name], err_msg=name)
    assert worst_distance(lstm, inputs, outputs) <= K


@pytest.mark.parametrize("case", [c for c in CASES if c.needs != "openvino"], ids=str)
def test_weights_that_a_framework_initialises_are_what_the_row_says(case: Case) -> None:
    lstm, inputs = _ours(case), random_inputs(case.config, case.dtype)
    tensors, outputs = _run(case, None, inputs)
    shapes = {name: array.shape for name, array in lstm.tensors.items()}
    assert {name: array.shape for name, array in tensors.items()} == shapes
    own = replace(lstm, tensors=tensors)
    assert worst_distance(own, inputs, outputs) <= K


def test_openvino_reads_an_onnx_lstm_as_the_rows_say() -> None:
    # OpenVINO initialises no weights, but its own reader lays them out from ONNX.
    onnx = pytest.importorskip("onnx")
    sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType]
    openvino = pytest.importorskip("openvino")
    passes = pytest.importorskip("openvino.passes")
    config = LSTM(I, H, bidirectional=True, bias_pair=True)
    model = random_model(config, np.float32)
    node = onnx.helper.make_node(
        "LSTM",
        ["x", "lstm/W", "lstm/R", "lstm/B"],
        ["y"],
        hidden_size=H,
        direction="bidirectional",
    )
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", (T, N, I)), ("y", None))
    )
    tensors = to_layout(model, TABLE["onnx"]).tensors
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = onnx.helper.make_graph([node], "lstm", [x], [y], weights)
    opsets = [onnx.helper.make_opsetid("", 18)]
    file = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    read = openvino.Core().read_model(file)
    folding = passes.Manager()
    folding.register_pass(passes.ConstantFolding())
    folding.run_passes(read)
    (lstm,) = (op for op in read.get_ops() if op.get_type_name() == "LSTMSequence")
    one_bias, _ = fit_to_layout(model, TABLE["openvino"], allow_lossy=True)
    expected = to_layout(one_bias, TABLE["openvino"]).tensors
    for port, name in ((4, "W"), (5, "R"), (6, "B")):
        constant = lstm.input_value(port).get_node().data
        np.testing.assert_array_equal(constant, expected[f"lstm_sequence/{name}"], err_msg=name)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Output, .* has been renamed:UserWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_coreml_holds_the_weights_of_nn_lstm_as_the_row_says(bidirectional: bool) -> None:
    # Core ML runs on Apple's systems only; its converter from PyTorch runs anywhere.
    coremltools = pytest.importorskip("coremltools")
    row = TABLE["coreml"]
    config = LSTM(I, H, 2, bidirectional=bidirectional, bias_pair=True)
    model, inputs = random_model(config, np.float32), random_inputs(config, np.float32)
    module = torch.nn.LSTM(I, H, 2, bidirectional=bidirectional).eval()
    load(module, to_layout(model, TABLE["torch"]).tensors)
    x, h0, c0 = map(torch.from_numpy, inputs)
    with torch.no_grad():
        y, (h_n, c_n) = module(x, (h0, c0))
        traced = torch.jit.trace(_Flat(module), (x, h0, c0))
    program = coremltools.convert(
        traced,
        inputs=[coremltools.TensorType(shape=array.shape) for array in inputs],
        convert_to="milinternal",
        compute_precision=coremltools.precision.FLOAT32,
    )
    (function,) = program.functions.values()
    tensors = {}
    lstms = [op for op in function.operations if op.op_type == "lstm"]
    for prefix, op in zip(row.prefixes(2), lstms, strict=True):
        for name, value in op.inputs.items():
            if name.startswith(("weight", "bias", "peephole")) and value is not None:
                tensors[prefix + name] = value.val
    one_bias, _ = fit_to_layout(model, row, allow_lossy=True)
    lstm = to_layout(one_bias, row)
    assert set(tensors) == set(lstm.tensors)
    for name, array in lstm.tensors.items():
        np.testing.assert_array_equal(tensors[name], array, err_msg=name)
    outputs = (y.numpy(), h_n.numpy(), c_n.numpy())
    assert worst_distance(replace(lstm, tensors=tensors), inputs, outputs) <= K


class _Flat(torch.nn.Module):
    """nn.LSTM with flat arguments and results, as tracing wants them."""

    def __init__(self, lstm: torch.nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(
        self, x: torch.Tensor, h0: torch.Tensor, c0: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y, (h_n, c_n) = self.lstm(x, (h0, c0))
        return y, h_n, c_n
