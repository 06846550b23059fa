"""An ONNX model as a graph of values, each given by an operation that reads other values.

Nodes are walked in the order of the file, which the standard says is one in which they can be
computed. Whatever reads what nothing before it gives is refused, so that there are no cycles, and
nothing here recurses but into graphs within graphs, of which protobuf allows a few dozen.
"""

from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.onnx.model import STANDARD_DOMAINS

BROADCASTING = ("Add", "Sub", "Mul", "Div")
COMPUTED = (
    *("Slice", "Split", "Concat", "Gather", "Unsqueeze", "Squeeze", "Transpose", "Reshape"),
    *("Flatten", "Identity", "Cast", "Shape", "Size", "ConstantOfShape", "Expand", *BROADCASTING),
)
"""Operators that are computed here if their inputs are known: what exporters make of weights."""


@dataclass(eq=False, repr=False)
class Operation:
    """What gives values: a node, a tensor of the file, or an input of a graph.

    Args:
        name: the node's, or that of its first output.
        node: the node, if it is one.
        tensor: the tensor, if it is one: as the file has it, or an array.
        inputs: what the node reads; None for an optional input that is not there.
        opset: version of the standard operators.

    Attributes:
        constant: whether its values depend on no input of the model.
        constant_per_sequence: whether they do but for Expand, which repeats values for the batch:
            those of a batch of one.
        origin: the only operation that is not constant on which its values depend; None if there
            are several, or none.
    """

    name: str
    node: onnx.NodeProto | None = None
    tensor: onnx.TensorProto | np.ndarray | None = None
    inputs: tuple["Value | None", ...] = ()
    opset: int = 0
    constant: bool = field(init=False)
    constant_per_sequence: bool = field(init=False)
    origin: "Operation | None" = field(init=False)

    def __post_init__(self) -> None:
        if self.tensor is not None:
            self.constant = self.constant_per_sequence = True
            self.origin = None
            return
        if not self.computed:
            self.constant = self.constant_per_sequence = False
            self.origin = self
            return
        read = [value.operation for value in self.inputs if value is not None]
        self.constant = all(operation.constant for operation in read)
        repeated = read[:1] if self.op_type == "Expand" else read
        self.constant_per_sequence = all(each.constant_per_sequence for each in repeated)
        origins = {operation.origin for operation in read if not operation.constant}
        self.origin = origins.pop() if len(origins) == 1 else None

    @property
    def op_type(self) -> str:
        """The node's operator, if it is one of the standard; else ""."""
        if self.node is None or self.node.domain not in STANDARD_DOMAINS:
            return ""
        return self.node.op_type

    @property
    def computed(self) -> bool:
        """Whether its values are computed from its inputs here."""
        return self.op_type in COMPUTED


@dataclass(frozen=True)
class Value:
    """One of the outputs of an operation."""

    operation: Operation
    index: int = 0


Scope = ChainMap[str, Value]
"""Values by name: those of the graph itself, then those of the graphs around it."""


def operations(path: Path, model: onnx.ModelProto) -> Iterator[Operation]:
    """Every node of the main graph and of those within it, outer nodes after what is in them.

    Raises:
        InputError: a node that reads what nothing before it gives, or a name given twice.
    """
    opset = next((o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS), 1)
    yield from _operations(path, model.graph, opset, ChainMap())


def _operations(
    path: Path, graph: onnx.GraphProto, opset: int, scope: Scope
) -> Iterator[Operation]:
    values = scope.maps[0]
    values.update({i.name: Value(Operation(i.name)) for i in graph.input})
    # Old files list their tensors among the inputs as well.
    values.update({t.name: Value(Operation(t.name, tensor=t)) for t in graph.initializer})
    sparse = [t.values.name for t in graph.sparse_initializer]
    values.update({name: Value(Operation(name)) for name in sparse})
    for node in graph.node:
        name = node.name or next(iter(node.output), "")
        unknown = [i for i in node.input if i and i not in scope]
        if unknown:
            raise InputError(
                f"{path}: node {name!r} ({node.op_type}) reads {unknown[0]!r}, which nothing before"
                " it gives; expected nodes in the order of their computation, without cycles"
            )
        for attribute in node.attribute:
            inner = [*attribute.graphs]
            if attribute.HasField("g"):
                inner.append(attribute.g)
            for within in inner:
                yield from _operations(path, within, opset, scope.new_child())
        inputs = tuple(scope[i] if i else None for i in node.input)
        operation = Operation(name, node, _constant_tensor(node), inputs, opset)
        for k, output in enumerate(node.output):
            if output in values:
                raise InputError(
                    f"{path}: {output!r} is given twice, once by node {name!r} ({node.op_type});"
                    " expected one source of each value"
                )
            if output:
                values[output] = Value(operation, k)
        yield operation


def _constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | np.ndarray | None:
    """The tensor of a node Constant; None of any other node."""
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    (attribute,) = node.attribute
    if attribute.name == "value" and attribute.HasField("t"):
        return attribute.t
    numbers = {
        "value_int": (attribute.i, np.int64),
        "value_ints": (attribute.ints, np.int64),
        "value_float": (attribute.f, np.float32),
        "value_floats": (attribute.floats, np.float32),
    }
    if attribute.name not in numbers:
        return None
    return np.array(*numbers[attribute.name])
