"""An ONNX model as a graph of values, and those of its values that do not depend on any input.

Nodes are walked in the order of the file, which the standard says is one in which they can be
computed. Whatever reads what nothing before it gives is refused, so that there are no cycles, and
nothing here recurses but into graphs within graphs, of which protobuf allows a few dozen.
"""

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.formats.archive import check_declared
from numpy_lstm.porting.formats.checks import file_bytes, tensor, whole

DTYPES = {
    **{1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64"},
    **{9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"},
}
"""By TensorProto.DataType; the others are no numbers of a byte or more."""
FIELDS = {
    **dict.fromkeys((1,), ("float_data", "float32")),
    **dict.fromkeys((2, 3, 4, 5, 6, 9), ("int32_data", "int32")),
    **dict.fromkeys((10, 16), ("int32_data", "uint16")),  # the bits
    **dict.fromkeys((7,), ("int64_data", "int64")),
    **dict.fromkeys((11,), ("double_data", "float64")),
    **dict.fromkeys((12, 13), ("uint64_data", "uint64")),
}
"""Where a tensor's numbers are that are not raw bytes, and what they are there."""
BROADCAST = ("Add", "Sub", "Mul", "Div")
PURE = (
    *("Slice", "Split", "Concat", "Gather", "Unsqueeze", "Squeeze", "Transpose", "Reshape"),
    *("Flatten", "Identity", "Cast", "Shape", "Size", "ConstantOfShape", "Expand", *BROADCAST),
)
"""Operators that are computed here, if their inputs are known."""


class Unreadable(Exception):
    """A value that cannot be had; the message says why."""


@dataclass(eq=False, repr=False)
class Step:
    """What gives values: a node, a tensor of the file, or an input of a graph.

    Args:
        name: the node's, or that of its first output.
        node: NodeProto, or None.
        tensor: TensorProto or array, if it is one.
        inputs: what the node reads; None for an optional input that is not there.
        opset: version of the standard operators.
        constant: whether its values depend on no input.
        stretched: whether they do but for Expand, which repeats them: those of a batch of one.
        origin: the only step that is not constant on which its values depend; None if there are
            several, or none.
    """

    name: str
    node: Any = None
    tensor: Any = None
    inputs: tuple["Value | None", ...] = ()
    opset: int = 0
    constant: bool = field(init=False)
    stretched: bool = field(init=False)
    origin: "Step | None" = field(init=False)

    def __post_init__(self) -> None:
        own = [value.step for value in self.inputs if value is not None]
        if self.tensor is not None or not self.pure:
            self.constant = self.stretched = self.tensor is not None
            self.origin = None if self.constant else self
            return
        self.constant = all(step.constant for step in own)
        repeats = self.node.op_type == "Expand" and bool(own)
        self.stretched = all(step.stretched for step in (own[:1] if repeats else own))
        origins = {step.origin for step in own if not step.constant}
        self.origin = origins.pop() if len(origins) == 1 else None

    @property
    def pure(self) -> bool:
        """Whether its values are computed from its inputs here."""
        return (
            self.node is not None
            and self.node.domain in ("", "ai.onnx")
            and self.node.op_type in PURE
        )


@dataclass(frozen=True)
class Value:
    """One of the outputs of a step."""

    step: Step
    index: int = 0


Known = dict[Step, tuple[np.ndarray, ...]]
Scope = ChainMap[str, Value]
"""Values by name: those of the graph itself, then those of the graphs around it."""


def load(path: Path) -> tuple[Any, int]:
    """The model (ModelProto) in a file, and how large the file is; no other file is opened.

    Raises:
        InputError: no whole model, or one with tensors in other files.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise InputError(f"{path}: needs pip install 'numpy-lstm[porting]'") from error
    data = file_bytes(path, "an .onnx file")
    with whole(path, "ONNX model", (DecodeError, UnicodeDecodeError, RecursionError)):
        model = onnx.ModelProto.FromString(data)
        check(
            model.ir_version > 0 and len(model.opset_import) > 0 and model.HasField("graph"),
            f"{path}: not a whole ONNX model (no version, operator set or graph);"
            " was it damaged or cut short?",
        )
        for message in _messages(model):
            check(
                not any(isinstance(text, bytes) for text in _texts(message)),
                f"{path}: not a whole ONNX model (a name that is no text);"
                " was it damaged or cut short?",
            )
            if isinstance(message, onnx.TensorProto) and (
                message.data_location == onnx.TensorProto.EXTERNAL or message.external_data
            ):
                raise InputError(
                    f"{path}: {message.name}: its numbers are in another file, which is never"
                    " opened; save the model with all tensors inside, with onnx.save_model"
                )
    return model, len(data)


def _messages(message: Any) -> Iterator[Any]:
    """A message and all that are within it."""
    yield message
    for description, value in message.ListFields():
        if description.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(part)


def _texts(message: Any) -> Iterator[Any]:
    """The texts of a message; protobuf gives bytes for what is none."""
    for description, value in message.ListFields():
        if description.type == description.TYPE_STRING:
            yield from [value] if isinstance(value, str | bytes) else value


def steps(path: Path, model: Any) -> Iterator[Step]:
    """Every node of the main graph and of those within it, outer nodes after what is in them.

    Raises:
        InputError: a node that reads what nothing before it gives, or a name given twice.
    """
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    yield from _steps(path, model.graph, opset, ChainMap())


def _steps(path: Path, graph: Any, opset: int, scope: Scope) -> Iterator[Step]:
    own = scope.maps[0]
    own.update({i.name: Value(Step(i.name)) for i in graph.input})
    # Old files list their tensors among the inputs as well.
    own.update({t.name: Value(Step(t.name, tensor=t)) for t in graph.initializer})
    own.update({t.values.name: Value(Step(t.values.name)) for t in graph.sparse_initializer})
    for node in graph.node:
        name = node.name or next(iter(node.output), "")
        unknown = [i for i in node.input if i and i not in scope]
        if unknown:
            raise InputError(
                f"{path}: node {name!r} ({node.op_type}) reads {unknown[0]!r}, which nothing before"
                " it gives; expected nodes in the order of their computation, without cycles"
            )
        for attribute in node.attribute:
            for within in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _steps(path, within, opset, scope.new_child())
        inputs = tuple(scope[i] if i else None for i in node.input)
        step = Step(name, node, _given(node), inputs, opset)
        for k, output in enumerate(node.output):
            check(
                output not in own,
                f"{path}: {output!r} is given twice, once by node {name!r} ({node.op_type});"
                " expected one source of each value",
            )
            if output:
                own[output] = Value(step, k)
        yield step


def _given(node: Any) -> Any:
    """The tensor of a node Constant; None of any other."""
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    (a,) = node.attribute
    if a.name == "value" and a.HasField("t"):
        return a.t
    kinds = {"value_int": (a.i, "i8"), "value_ints": (a.ints, "i8")}
    kinds |= {"value_float": (a.f, "f4"), "value_floats": (a.floats, "f4")}
    return np.array(*kinds[a.name]) if a.name in kinds else None


@dataclass
class Evaluator:
    """Computes values that are constant, or become so with what is given.

    Args:
        path: for messages.
        file_bytes: size of the file, which bounds what may be computed.
    """

    path: Path
    file_bytes: int
    spent: int = 0

    def __call__(self, value: Value, given: Mapping[Step, tuple[np.ndarray, ...]]) -> np.ndarray:
        """The value.

        Raises:
            Unreadable: it is not constant, or what computes it is faulty.
            InputError: it is larger than such a file may honestly mean.
        """
        known: Known = dict(given)
        todo = [value.step]
        while todo:
            step = todo[-1]
            if step in known:
                todo.pop()
                continue
            needed = [v.step for v in _needed(step) if v is not None]
            missing = [s for s in needed if s not in known]
            if missing:
                todo += missing
                continue
            known[step] = self._computed(step, known)
            todo.pop()
        return _output(known, value)

    def _spend(self, declared: int) -> None:
        self.spent += declared
        check_declared(self.path, self.spent, self.file_bytes)

    def _computed(self, step: Step, known: Known) -> tuple[np.ndarray, ...]:
        if step.tensor is not None:
            return (self._array(step),)
        if not step.pure:
            raise Unreadable(f"depends on {step.name!r}, which is not constant")
        arrays = [None if v is None else _output(known, v) for v in _needed(step)]
        if len(arrays) < len(step.inputs):  # an Expand that repeats over a batch
            return tuple(a for a in arrays if a is not None)
        try:
            self._spend(8 * _elements(step.node, arrays))
            return _run(step, arrays)
        except InputError:
            raise
        except Exception as error:  # whatever the reference evaluator makes of a faulty node
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise Unreadable(
                f"node {step.name!r} ({step.node.op_type}) cannot be computed ({reason})"
            ) from error

    def _array(self, step: Step) -> np.ndarray:
        if isinstance(step.tensor, np.ndarray):
            return step.tensor
        self._spend(step.tensor.ByteSize())
        return array_of(self.path, step.name, step.tensor)


def _output(known: Known, value: Value) -> np.ndarray:
    outputs = known[value.step]
    if value.index >= len(outputs):
        raise Unreadable(f"node {value.step.name!r} gives no output {value.index}")
    return outputs[value.index]


def _needed(step: Step) -> Sequence[Value | None]:
    """What must be known to compute a step."""
    if step.tensor is not None or not step.pure:
        return ()
    stretches = step.node.op_type == "Expand" and step.stretched and not step.constant
    return step.inputs[:1] if stretches else step.inputs


def array_of(path: Path, name: str, proto: Any) -> np.ndarray:
    """The numbers of a TensorProto.

    Raises:
        Unreadable: they are of a kind that is not read here.
        InputError: there are not as many as its shape says.
    """
    dtype = DTYPES.get(proto.data_type)
    if dtype is None or proto.HasField("segment"):
        raise Unreadable(f"{name!r} is a tensor of kind {proto.data_type}, or in segments")
    if dtype == "bfloat16":
        try:
            from ml_dtypes import bfloat16 as dtype
        except ImportError as error:
            raise InputError("bfloat16: needs pip install 'numpy-lstm[porting]'") from error
    dtype = np.dtype(dtype)
    if proto.HasField("raw_data"):
        data = proto.raw_data
    else:
        source, kind = FIELDS[proto.data_type]
        numbers = np.array(getattr(proto, source)).astype(kind)
        data = (numbers if kind == "uint16" else numbers.astype(dtype)).tobytes()
    return tensor(path, name, data, dtype.newbyteorder("<"), tuple(proto.dims))


def _elements(node: Any, arrays: Sequence[np.ndarray | None]) -> int:
    """How many numbers a node gives at most: known before there is memory for them."""
    own = [a for a in arrays if a is not None]
    if node.op_type == "ConstantOfShape":
        return prod(int(size) for size in own[0].ravel())
    if node.op_type == "Expand":
        return prod(np.broadcast_shapes(own[0].shape, tuple(int(size) for size in own[1])))
    if node.op_type in BROADCAST:
        return prod(np.broadcast_shapes(*(a.shape for a in own)))
    if node.op_type == "Gather":
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        return own[1].size * (own[0].size // max(1, own[0].shape[axis]))
    return sum(a.size for a in own)


def _run(step: Step, arrays: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
    """One node by ONNX's reference implementation."""
    from onnx import GraphProto, NodeProto, ValueInfoProto
    from onnx.reference import ReferenceEvaluator

    node = NodeProto()
    node.CopyFrom(step.node)
    # The file's own names may be empty, or twice the same.
    node.input[:] = ["" if a is None else f"i{k}" for k, a in enumerate(arrays)]
    node.output[:] = [f"o{k}" for k in range(len(node.output))]
    feeds = {f"i{k}": a for k, a in enumerate(arrays) if a is not None}
    graph = GraphProto(
        node=[node],
        input=[ValueInfoProto(name=name) for name in feeds],
        output=[ValueInfoProto(name=name) for name in node.output],
    )
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(graph, opsets={"": step.opset}).run(None, feeds)
    if not isinstance(results, list):
        raise Unreadable(f"node {step.name!r} gives no arrays")
    return tuple(np.asarray(result) for result in results)
