"""Write an ONNX model of an LSTM: one node a layer, with sequences and batches of any size."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.onnx.attributes import onnx_activation
from numpy_lstm.porting.formats.onnx.constants import ONNX_DTYPES
from numpy_lstm.porting.formats.onnx.lstm_nodes import STATES
from numpy_lstm.porting.formats.onnx.model import ACTIVATIONS_KEY, STATES_KEY
from numpy_lstm.porting.formats.onnx.onnx_reader import archive_of
from numpy_lstm.porting.layouts.arrangement import sizes_of
from numpy_lstm.porting.layouts.canonical import digest
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM


def write_onnx(lstm: PlacedLSTM, path: Path) -> dict[Path, bytes]:
    """The content of the .onnx file of an LSTM."""
    return {path: onnx_model(lstm)}


def onnx_model(lstm: PlacedLSTM) -> bytes:
    """The bytes of an ONNX model of an LSTM, always the same for the same LSTM.

    What was written is read back and compared.

    Raises:
        InputError: a layout, dtype, activation or names that ONNX, or its reader here, do not have.
    """
    model = _model(lstm)
    data = model.SerializeToString(deterministic=True)
    archive = archive_of(Path("onnx"), model, len(data))
    if archive.tensors.keys() != lstm.tensors.keys():
        raise InputError(
            f"onnx: expected prefixes such as lstm/, or lstm/l0/ and lstm/l1/, got {lstm.prefixes}"
        )
    same = all(archive.facts[prefix] == lstm.facts for prefix in lstm.prefixes)
    if not same or digest(dict(archive.tensors)) != digest(dict(lstm.tensors)):
        raise AssertionError("onnx wrote another LSTM than it was given")
    return data


def _model(lstm: PlacedLSTM) -> onnx.ModelProto:
    """The model: inputs X [T, N, I] and, unless they are learned, initial_h and initial_c
    [layers * D, N, H]; outputs Y [T, N, D H], h_n, c_n."""
    if lstm.layout.key != "onnx" or lstm.facts.forget_bias:
        raise InputError(
            f"onnx: expected the layout onnx without a forget bias, got {lstm.layout.key}"
        )
    if lstm.dtype.name not in [dtype.name for dtype in ONNX_DTYPES.values()]:
        raise InputError(f"onnx: expected float16, bfloat16, float32 or float64, got {lstm.dtype}")
    opset, ir_version = 17, 8
    if lstm.dtype.name == "bfloat16":  # which came with version 22
        opset, ir_version = 22, 10
    model = helper.make_model(
        _graph(lstm),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
        producer_name="numpy_lstm",
    )
    # Attributes are float32, so that the exact numbers are given besides.
    metadata = {ACTIVATIONS_KEY: json.dumps(lstm.facts.activations)}
    if _has_learned_states(lstm):
        metadata[STATES_KEY] = "learned"
    helper.set_model_props(model, metadata)
    return model


def _graph(lstm: PlacedLSTM) -> onnx.GraphProto:
    prefixes, D, L = lstm.prefixes, lstm.directions, lstm.num_layers
    sizes = sizes_of(lstm, 0)
    H, kind = sizes["u"], _kind(lstm.dtype)

    def info(name: str, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    inputs, outputs = [info("X", "T", "N", sizes["i"])], [info("Y", "T", "N", D * H)]
    outputs += [info(name, L * D, "N", H) for name in ("h_n", "c_n")]
    nodes = [_constant("features", [0, 0, D * H])]
    if _has_learned_states(lstm):
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
        nodes += _layer(lstm, prefix, below, above)
    for n, y in (("h_n", "Y_h"), ("c_n", "Y_c")):
        nodes.append(helper.make_node("Concat", [p + y for p in prefixes], [n], n, axis=0))
    tensors = [_tensor(name, array) for name, array in lstm.tensors.items()]
    return helper.make_graph(nodes, "lstm", inputs, outputs, tensors)


def _has_learned_states(lstm: PlacedLSTM) -> bool:
    return lstm.prefixes[0] + STATES[0] in lstm.tensors


def _layer(lstm: PlacedLSTM, prefix: str, below: str, above: str) -> list[onnx.NodeProto]:
    """The LSTM node of a layer, with what comes before and after."""
    states, nodes = [prefix + state for state in STATES], []
    if _has_learned_states(lstm):
        # [D, H] to [D, 1, H] to [D, N, H]
        for k, state in enumerate(states):
            states[k] = f"{state}_N"
            nodes += [
                helper.make_node("Unsqueeze", [state, "one"], [f"{state}_1"], f"{state}_1"),
                helper.make_node("Expand", [f"{state}_1", "repeats"], [states[k]], states[k]),
            ]
    W, R, B, P = (prefix + n if prefix + n in lstm.tensors else "" for n in "WRBP")
    inputs = [below, W, R, B, "", *states]
    if P:
        inputs.append(P)
    y, turned, *finals = (prefix + name for name in ("Y", "Y_turned", "Y_h", "Y_c"))
    lstm_node = helper.make_node(
        "LSTM",
        inputs,
        [y, *finals],
        prefix.removesuffix("/"),
        hidden_size=lstm.tensors[R].shape[2],
        direction="bidirectional" if lstm.directions == 2 else "forward",
        **_activation_attributes(lstm),
    )
    # [T, D, N, H] to [T, N, D, H] to [T, N, D H]
    turn = helper.make_node("Transpose", [y], [turned], turned, perm=[0, 2, 1, 3])
    return [
        *nodes,
        lstm_node,
        turn,
        helper.make_node("Reshape", [turned, "features"], [above], above),
    ]


def _activation_attributes(lstm: PlacedLSTM) -> dict[str, Any]:
    """For each direction: names; and alpha and beta of those that have them, in turn."""
    activations = [onnx_activation(name) for name in lstm.facts.activations] * lstm.directions
    numbers = [pair for _, pair in activations if pair]
    result: dict[str, Any] = {"activations": [name for name, _ in activations]}
    if numbers:
        result["activation_alpha"] = [float(alpha) for alpha, _ in numbers]
        result["activation_beta"] = [float(beta) for _, beta in numbers]
    return result


def _tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return onnx.TensorProto(
        name=name, dims=array.shape, data_type=_kind(array.dtype), raw_data=data
    )


def _kind(dtype: np.dtype) -> int:
    """The number that ONNX has for a dtype (TensorProto.DataType)."""
    return helper.np_dtype_to_tensor_dtype(dtype.newbyteorder("="))


def _constant(name: str, numbers: list[int]) -> onnx.NodeProto:
    """A node that gives integers: no weights, and so not among the graph's tensors."""
    return helper.make_node("Constant", [], [name], name, value=_tensor(name, np.array(numbers)))
