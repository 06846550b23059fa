"""Values of an ONNX graph that depend on no input, computed by ONNX's reference implementation.

Nodes are run one at a time: how many numbers each gives is bounded before it is run, which the
library, given the whole graph, would not do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from numpy_lstm.porting.formats.checks import check_declared, check_size
from numpy_lstm.porting.formats.onnx.graph import BROADCASTING, Operation, Value

ONNX_DTYPES: dict[int, np.dtype] = {
    kind: helper.tensor_dtype_to_np_dtype(kind)
    for kind in (
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.BOOL,
        onnx.TensorProto.INT8,
        onnx.TensorProto.INT16,
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
        onnx.TensorProto.UINT8,
        onnx.TensorProto.UINT16,
        onnx.TensorProto.UINT32,
        onnx.TensorProto.UINT64,
    )
}
"""By TensorProto.DataType; the others are no numbers of a byte or more."""

Outputs = tuple[np.ndarray, ...]


class Unreadable(Exception):
    """A value that cannot be had; the message says why."""


@dataclass
class Evaluator:
    """Computes values that are constant, or become so with what is given.

    Args:
        path: for messages.
        file_bytes: size of the file, which bounds what may be computed.
    """

    path: Path
    file_bytes: int
    declared: int = 0

    def __call__(self, value: Value, given: Mapping[Operation, Outputs]) -> np.ndarray:
        """The value.

        Args:
            value: of the graph.
            given: outputs of operations that are not computed.

        Raises:
            Unreadable: it is not constant, or what computes it is faulty.
            InputError: it is larger than such a file may honestly mean.
        """
        outputs = dict(given)
        waiting = [value.operation]
        while waiting:  # no recursion: a chain may be longer than Python's stack
            operation = waiting[-1]
            read = [v.operation for v in _inputs(operation) if v is not None]
            missing = [each for each in read if each not in outputs]
            if operation not in outputs and missing:
                waiting += missing
                continue
            if operation not in outputs:
                outputs[operation] = self._computed(operation, outputs)
            waiting.pop()
        return _output(outputs, value)

    def _declare(self, num_bytes: int) -> None:
        self.declared += num_bytes
        check_declared(self.path, self.declared, self.file_bytes)

    def _computed(self, operation: Operation, outputs: Mapping[Operation, Outputs]) -> Outputs:
        if isinstance(operation.tensor, np.ndarray):
            return (operation.tensor,)
        if operation.tensor is not None:
            self._declare(operation.tensor.ByteSize())
            return (array_of(self.path, operation.name, operation.tensor),)
        if operation.node is None or not operation.computed:
            raise Unreadable(f"depends on {operation.name!r}, which is not constant")
        arrays = [None if v is None else _output(outputs, v) for v in _inputs(operation)]
        if _repeats_for_the_batch(operation):
            return tuple(a for a in arrays if a is not None)
        try:
            elements = _most_elements(operation.node, arrays)
        except Exception as error:  # whatever a faulty node makes of arithmetic on its shapes
            raise _faulty(operation, error) from error
        self._declare(8 * max(0, elements))  # a faulty size may be negative
        try:
            return _run(operation.node, operation.opset, arrays)
        except Exception as error:  # whatever the reference implementation makes of a faulty node
            raise _faulty(operation, error) from error


def _faulty(operation: Operation, error: Exception) -> Unreadable:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return Unreadable(
        f"node {operation.name!r} ({operation.op_type}) cannot be computed ({reason})"
    )


def _output(outputs: Mapping[Operation, Outputs], value: Value) -> np.ndarray:
    of_operation = outputs[value.operation]
    if value.index >= len(of_operation):
        raise Unreadable(f"node {value.operation.name!r} gives no output {value.index}")
    return of_operation[value.index]


def _inputs(operation: Operation) -> Sequence[Value | None]:
    """What must be known to compute an operation."""
    if operation.tensor is not None or not operation.computed:
        return ()
    if _repeats_for_the_batch(operation):
        return operation.inputs[:1]
    return operation.inputs


def _repeats_for_the_batch(operation: Operation) -> bool:
    """Whether this is an Expand of what is constant to a size that is not."""
    repeats = operation.op_type == "Expand" and operation.constant_per_sequence
    return repeats and not operation.constant


def array_of(path: Path, name: str, tensor: onnx.TensorProto) -> np.ndarray:
    """The numbers of a tensor of the file.

    Raises:
        Unreadable: they are of a kind that is not read here.
        InputError: there are not as many as its shape says.
    """
    dtype = ONNX_DTYPES.get(tensor.data_type)
    if dtype is None or tensor.HasField("segment"):
        raise Unreadable(f"{name!r} is a tensor of kind {tensor.data_type}, or in segments")
    if tensor.HasField("raw_data"):
        held_bytes = len(tensor.raw_data)
    else:
        numbers = getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))
        held_bytes = len(numbers) * dtype.itemsize
    check_size(path, name, held_bytes, dtype, tuple(tensor.dims))
    return numpy_helper.to_array(tensor).copy()


def _most_elements(node: onnx.NodeProto, arrays: Sequence[np.ndarray | None]) -> int:
    """How many numbers a node gives at most: known before there is memory for them."""
    read = [a for a in arrays if a is not None]
    if node.op_type == "ConstantOfShape":
        return prod(int(size) for size in read[0].ravel())
    if node.op_type == "Expand":
        return prod(np.broadcast_shapes(read[0].shape, tuple(int(size) for size in read[1])))
    if node.op_type in BROADCASTING:
        return prod(np.broadcast_shapes(*(a.shape for a in read)))
    if node.op_type == "Gather":
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        return read[1].size * (read[0].size // max(1, read[0].shape[axis]))
    return sum(a.size for a in read)


def _run(node: onnx.NodeProto, opset: int, arrays: Sequence[np.ndarray | None]) -> Outputs:
    """The outputs of one node by ONNX's reference implementation."""
    renamed = onnx.NodeProto()
    renamed.CopyFrom(node)
    # The file's own names may be empty, or twice the same.
    renamed.input[:] = ["" if a is None else f"i{k}" for k, a in enumerate(arrays)]
    renamed.output[:] = [f"o{k}" for k in range(len(node.output))]
    feeds = {f"i{k}": a for k, a in enumerate(arrays) if a is not None}
    graph = onnx.GraphProto(
        node=[renamed],
        input=[onnx.ValueInfoProto(name=name) for name in feeds],
        output=[onnx.ValueInfoProto(name=name) for name in renamed.output],
    )
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(graph, opsets={"": opset}).run(None, feeds)
    if not isinstance(results, list):
        raise TypeError("gives no arrays")
    return tuple(np.asarray(result) for result in results)
