"""LSTM nodes of an ONNX graph with their weights, and which of them are layers of one LSTM."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from numpy_lstm.porting.formats.onnx.attributes import Attributes, attributes_of
from numpy_lstm.porting.formats.onnx.constants import Evaluator, Unreadable
from numpy_lstm.porting.formats.onnx.graph import Operation, Value

STATES = ("initial_h", "initial_c")
INPUTS = ("X", "W", "R", "B", "sequence_lens", *STATES, "P")
"""What the operator LSTM reads, in its order."""
States = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class LSTMNode:
    """An LSTM node whose weights are known.

    Args:
        operation: where in the graph it is.
        attributes: of the node.
        tensors: W [D, 4H, I], R [D, 4H, H], and B [D, 8H], P [D, 3H] if it has them.
        states: its initial states [D, H], if they are constant and the same for every sequence.
        learned: whether any of its initial states is more than zeros that every LSTM begins with.
    """

    operation: Operation
    attributes: Attributes
    tensors: Mapping[str, np.ndarray]
    states: States | None
    learned: bool

    @property
    def kind(self) -> tuple:
        """What all layers of a stack have in common."""
        R, attributes = self.tensors["R"], self.attributes
        names = frozenset(self.tensors)
        return attributes.directions, attributes.activations, R.shape[2], R.dtype, names


def inputs_of(operation: Operation, *names: str) -> list[Value | None]:
    """Inputs of an LSTM node by name; None where there is none."""
    padded = [*operation.inputs, *[None] * len(INPUTS)]
    return [padded[INPUTS.index(name)] for name in names]


# --- one node -----------------------------------------------------------------------------------


def node_of(operation: Operation, evaluate: Evaluator, zeros_learned: bool) -> LSTMNode:
    """A node with its weights.

    Args:
        operation: where in the graph it is.
        evaluate: for its inputs.
        zeros_learned: whether the model says that initial states of zeros are learned ones.

    Raises:
        Unreadable: shapes or attributes that have no place here.
    """
    assert operation.node is not None
    attributes = attributes_of(operation.node)
    names = ("W", "R", "B", "P")
    values = dict(zip(names, inputs_of(operation, *names), strict=True))
    tensors = {name: evaluate(v, {}) for name, v in values.items() if v is not None}
    _check_shapes(tensors, attributes)
    zeros = np.zeros((attributes.directions, tensors["R"].shape[2]), tensors["R"].dtype)
    h, c = (
        _initial_state(value, zeros, attributes.batch_first, evaluate, zeros_learned)
        for value in inputs_of(operation, *STATES)
    )
    states = None
    if h.array is not None and c.array is not None:
        states = h.array, c.array
    return LSTMNode(operation, attributes, tensors, states, h.learned or c.learned)


def _check_shapes(tensors: Mapping[str, np.ndarray], attributes: Attributes) -> None:
    """Raise unless the weights are those of the node's directions and hidden size."""
    if "W" not in tensors or "R" not in tensors:
        raise Unreadable("has no W or no R; expected both")
    W, R, D, H = tensors["W"], tensors["R"], attributes.directions, attributes.hidden_size
    if H is None:
        H = R.shape[-1] if R.ndim else 0
    I = W.shape[-1] if W.ndim else 0
    expected = {
        "W": ("[D, 4H, I]", (D, 4 * H, I)),
        "R": ("[D, 4H, H]", (D, 4 * H, H)),
        "B": ("[D, 8H]", (D, 8 * H)),
        "P": ("[D, 3H]", (D, 3 * H)),
    }
    for name, array in tensors.items():
        symbols, shape = expected[name]
        if array.shape != shape or min(I, H) < 1:
            raise Unreadable(f"{name}: expected {symbols} = {list(shape)}, got {[*array.shape]}")
        if array.dtype != R.dtype:
            raise Unreadable(f"{name}: expected dtype {R.dtype} as of R, got {array.dtype}")


@dataclass(frozen=True)
class _InitialState:
    """An initial state of a node.

    Args:
        array: [D, H], if it is constant and the same for every sequence.
        learned: whether it is more than zeros that every LSTM begins with.
    """

    array: np.ndarray | None
    learned: bool


def _initial_state(
    value: Value | None,
    zeros: np.ndarray,
    batch_first: bool,
    evaluate: Evaluator,
    zeros_learned: bool,
) -> _InitialState:
    """What a node's input of an initial state is. (PyTorch's exporters repeat zeros for the
    batch.)"""
    if value is None:
        return _InitialState(zeros, learned=False)
    if not value.operation.constant_per_sequence:
        return _InitialState(None, learned=False)
    state = evaluate(value, {})
    if not state.any() and (value.operation.constant or not zeros_learned):
        return _InitialState(zeros, learned=False)
    if state.ndim == 3 and batch_first:
        state = state.transpose(1, 0, 2)
    D, H = zeros.shape
    if state.ndim != 3 or state[:, :1].shape != (D, 1, H) or state.dtype != zeros.dtype:
        return _InitialState(None, learned=True)
    first, *others = (np.ascontiguousarray(one) for one in state.swapaxes(0, 1))
    if any(one.tobytes() != first.tobytes() for one in others):
        return _InitialState(None, learned=True)
    return _InitialState(first, learned=True)


# --- stacks -------------------------------------------------------------------------------------


def stacks_of(nodes: list[LSTMNode], evaluate: Evaluator) -> list[list[LSTMNode]]:
    """The nodes, those that are layers of one LSTM together."""
    by_operation = {node.operation: node for node in nodes}
    below: dict[Operation, LSTMNode] = {}
    for node in nodes:
        (x,) = inputs_of(node.operation, "X")
        if x is None or x.operation.origin is None:
            continue
        feeding = by_operation.get(x.operation.origin)
        if feeding is not None and _feeds(feeding, node, x, evaluate):
            below[node.operation] = feeding
    fed = Counter(node.operation for node in below.values())
    below = {above: node for above, node in below.items() if fed[node.operation] == 1}
    above = {node.operation: by_operation[operation] for operation, node in below.items()}
    stacks = []
    for node in nodes:
        if node.operation in below:
            continue
        stack = [node]
        while stack[-1].operation in above:
            stack.append(above[stack[-1].operation])
        stacks.append(stack)
    return stacks


def _feeds(below: LSTMNode, above: LSTMNode, x: Value, evaluate: Evaluator) -> bool:
    """Whether a node's input x is the outputs of another: both directions', one after the other.

    Whatever lies between (Transpose, Squeeze, Reshape, ...) is computed for outputs that are all
    different, and must hand them on unchanged.
    """
    T, N, D, H = 5, 3, below.attributes.directions, below.tensors["R"].shape[2]
    if below.attributes.reverse or above.attributes.reverse:
        return False
    if below.kind != above.kind or above.tensors["W"].shape[2] != D * H:
        return False
    y = np.arange(T * N * D * H).reshape(T, N, D, H)
    expected = y.reshape(T, N, D * H)
    if above.attributes.batch_first:
        expected = expected.swapaxes(0, 1)
    order = (0, 2, 1, 3)
    if below.attributes.batch_first:
        order = (1, 0, 2, 3)
    try:
        found = evaluate(x, {below.operation: (y.transpose(order),)})
    except Unreadable:
        return False
    return np.array_equal(found, expected)
