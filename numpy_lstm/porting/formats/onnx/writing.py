"""An ONNX model of an LSTM: one node a layer, with sequences and batches of any size."""

import json
from itertools import pairwise
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.formats.onnx.constants import DTYPES
from numpy_lstm.porting.formats.onnx.nodes import ACTIVATIONS_KEY, parsed
from numpy_lstm.porting.layouts.arrangement import sizes_of
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

STATES = ("initial_h", "initial_c")
STATES_KEY = "numpy_lstm.initial_states"
"""Of the model's metadata, if initial states are learned, even where they are zeros."""


def model_of(native: PlacedLSTM) -> Any:
    """The model (ModelProto): inputs X [T, N, I] and, unless they are learned, initial_h, initial_c
    [layers * D, N, H]; outputs Y [T, N, D H], h_n, c_n.

    Raises:
        InputError: a layout, dtype or activation that ONNX does not have.
    """
    try:
        from onnx import helper
    except ImportError as error:
        raise InputError("onnx: needs pip install 'numpy-lstm[porting]'") from error
    check(
        native.layout.key == "onnx" and not native.facts.forget_bias,
        f"onnx: expected the layout onnx without a forget bias, got {native.layout.key}",
    )
    check(
        native.dtype.name in DTYPES.values(),
        f"onnx: expected float16, bfloat16, float32 or float64, got {native.dtype}",
    )
    graph = _graph(native)
    # bfloat16 came with version 22.
    opset, ir = (22, 10) if native.dtype.name == "bfloat16" else (17, 8)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir,
        producer_name="numpy_lstm",
    )
    # Attributes are float32, so that the exact numbers are beside them.
    said = {ACTIVATIONS_KEY: json.dumps(native.facts.activations)}
    if _learned(native):
        said[STATES_KEY] = "learned"
    helper.set_model_props(model, said)
    return model


def _graph(native: PlacedLSTM) -> Any:
    from onnx import helper

    prefixes, D, L, sizes = (
        native.prefixes,
        native.directions,
        native.num_layers,
        sizes_of(native, 0),
    )
    H, kind = sizes["u"], _kind(native.dtype)

    def info(name: str, *shape: str | int) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    inputs, outputs = [info("X", "T", "N", sizes["i"])], [info("Y", "T", "N", D * H)]
    outputs += [info(name, L * D, "N", H) for name in ("h_n", "c_n")]
    nodes = [_constant("features", [0, 0, D * H])]
    if _learned(native):
        nodes += [
            _constant("one", [1]),
            helper.make_node("Shape", ["X"], ["N"], "N", start=1, end=2),
            helper.make_node("Concat", ["one", "N", "one"], ["repeats"], "repeats", axis=0),
        ]
    else:
        inputs += [info(name, L * D, "N", H) for name in STATES]
        nodes.append(_constant("directions", [D] * L))
        for state in STATES:
            parts = [prefix + state for prefix in prefixes]
            nodes.append(helper.make_node("Split", [state, "directions"], parts, state, axis=0))
    between = ["X", *(prefix + "X" for prefix in prefixes[1:]), "Y"]
    for prefix, (below, above) in zip(prefixes, pairwise(between), strict=True):
        nodes += _layer(native, prefix, below, above)
    for n, y in (("h_n", "Y_h"), ("c_n", "Y_c")):
        nodes.append(helper.make_node("Concat", [p + y for p in prefixes], [n], n, axis=0))
    tensors = [_tensor(name, array) for name, array in native.tensors.items()]
    return helper.make_graph(nodes, "lstm", inputs, outputs, tensors)


def _learned(native: PlacedLSTM) -> bool:
    return native.prefixes[0] + STATES[0] in native.tensors


def _layer(native: PlacedLSTM, prefix: str, below: str, above: str) -> list[Any]:
    """The LSTM node of a layer, with what comes before and after."""
    from onnx import helper

    states, nodes = [prefix + state for state in STATES], []
    if _learned(native):
        # [D, H] to [D, 1, H] to [D, N, H]
        for k, state in enumerate(states):
            states[k] = f"{state}_N"
            nodes += [
                helper.make_node("Unsqueeze", [state, "one"], [f"{state}_1"], f"{state}_1"),
                helper.make_node("Expand", [f"{state}_1", "repeats"], [states[k]], states[k]),
            ]
    W, R, B, P = (prefix + n if prefix + n in native.tensors else "" for n in "WRBP")
    y, turned, *finals = (prefix + name for name in ("Y", "Y_turned", "Y_h", "Y_c"))
    lstm = helper.make_node(
        "LSTM",
        [below, W, R, B, "", *states, *([P] if P else [])],
        [y, *finals],
        prefix.removesuffix("/"),
        hidden_size=native.tensors[R].shape[2],
        direction="bidirectional" if native.directions == 2 else "forward",
        **_activation_attributes(native),
    )
    # [T, D, N, H] to [T, N, D, H] to [T, N, D H]
    turn = helper.make_node("Transpose", [y], [turned], turned, perm=[0, 2, 1, 3])
    return [*nodes, lstm, turn, helper.make_node("Reshape", [turned, "features"], [above], above)]


def _activation_attributes(native: PlacedLSTM) -> dict[str, Any]:
    """For each direction: names; and alpha and beta of those that have them, in turn."""
    own = [parsed(name) for name in native.facts.activations] * native.directions
    numbers = [n for _, n in own if n]
    result: dict[str, Any] = {"activations": [name for name, _ in own]}
    if numbers:
        result["activation_alpha"] = [float(alpha) for alpha, _ in numbers]
        result["activation_beta"] = [float(beta) for _, beta in numbers]
    return result


def _kind(dtype: np.dtype) -> int:
    """TensorProto.DataType."""
    return next(kind for kind, name in DTYPES.items() if name == dtype.name)


def _tensor(name: str, array: np.ndarray) -> Any:
    from onnx import TensorProto

    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    kind = _kind(array.dtype)
    return TensorProto(name=name, dims=array.shape, data_type=kind, raw_data=data)


def _constant(name: str, numbers: list[int]) -> Any:
    """A node that gives integers: no weights, and so not among the graph's tensors."""
    from onnx import helper

    return helper.make_node("Constant", [], [name], name, value=_tensor(name, np.array(numbers)))
