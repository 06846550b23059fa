"""LSTM nodes of an ONNX graph with their weights, and which of them are layers of one LSTM."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from numpy_lstm.porting.formats.onnx.constants import Evaluator, Step, Unreadable, Value
from numpy_lstm.porting.formats.onnx.nodes import Attributes, attributes_of
from numpy_lstm.porting.formats.onnx.writing import STATES

INPUTS = ("X", "W", "R", "B", "sequence_lens", *STATES, "P")
States = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Node:
    """An LSTM node whose weights are known.

    Args:
        step: where in the graph it is.
        said: by its attributes.
        tensors: W [D, 4H, I], R [D, 4H, H], and B [D, 8H], P [D, 3H] if it has them.
        states: its initial states [D, H], if they are constant and the same for every sequence.
        learned: whether any says more than that it is zero.
    """

    step: Step
    said: Attributes
    tensors: Mapping[str, np.ndarray]
    states: States | None
    learned: bool

    @property
    def kind(self) -> tuple:
        """What all layers of a stack have in common."""
        H, dtype = self.tensors["R"].shape[2], self.tensors["R"].dtype
        return self.said.directions, self.said.activations, H, dtype, frozenset(self.tensors)


def inputs_of(step: Step, *names: str) -> list[Value | None]:
    """Inputs of an LSTM node by name; None where there is none."""
    padded = [*step.inputs, *[None] * len(INPUTS)]
    return [padded[INPUTS.index(name)] for name in names]


# --- one node -----------------------------------------------------------------------------------


def node_of(step: Step, evaluate: Evaluator, zeros_learned: bool) -> Node:
    """A node with its weights.

    Args:
        step: where in the graph it is.
        evaluate: for its inputs.
        zeros_learned: whether the model says that initial states of zeros are learned ones.

    Raises:
        Unreadable: shapes or attributes that have no place here.
    """
    said = attributes_of(step.node)
    names = ("W", "R", "B", "P")
    values = dict(zip(names, inputs_of(step, *names), strict=True))
    tensors = {name: evaluate(v, {}) for name, v in values.items() if v is not None}
    _check_shapes(tensors, said)
    zeros = np.zeros((said.directions, tensors["R"].shape[2]), tensors["R"].dtype)
    (h, tells), (c, too) = (
        _state(v, zeros, said.batch_first, evaluate, zeros_learned)
        for v in inputs_of(step, *STATES)
    )
    return Node(step, said, tensors, None if h is None or c is None else (h, c), tells or too)


def _check_shapes(tensors: Mapping[str, np.ndarray], said: Attributes) -> None:
    """Raise unless the weights are those of the directions and of the hidden size said."""
    if "W" not in tensors or "R" not in tensors:
        raise Unreadable("has no W or no R; expected both")
    W, R, D = tensors["W"], tensors["R"], said.directions
    H = said.hidden_size if said.hidden_size is not None else R.shape[-1] if R.ndim else 0
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


def _state(
    value: Value | None,
    zeros: np.ndarray,
    batch_first: bool,
    evaluate: Evaluator,
    zeros_learned: bool,
) -> tuple[np.ndarray | None, bool]:
    """An initial state [D, H] if it is constant, and the same for every sequence; whether it says
    more than that it is zero. (PyTorch's exporters repeat zeros for the batch.)"""
    if value is None:
        return zeros, False
    if not value.step.stretched:
        return None, False
    state = evaluate(value, {})
    if not state.any() and (value.step.constant or not zeros_learned):
        return zeros, False
    if state.ndim == 3 and batch_first:
        state = state.transpose(1, 0, 2)
    D, H = zeros.shape
    if state.ndim != 3 or state[:, :1].shape != (D, 1, H) or state.dtype != zeros.dtype:
        return None, True
    first, *others = (np.ascontiguousarray(one) for one in state.swapaxes(0, 1))
    return first if all(one.tobytes() == first.tobytes() for one in others) else None, True


# --- stacks -------------------------------------------------------------------------------------


def stacks_of(nodes: list[Node], evaluate: Evaluator) -> list[list[Node]]:
    """The nodes, those that are layers of one LSTM together."""
    by_step = {node.step: node for node in nodes}
    below: dict[Step, Node] = {}
    for node in nodes:
        (x,) = inputs_of(node.step, "X")
        feeding = by_step.get(x.step.origin) if x is not None and x.step.origin else None
        if feeding is not None and _feeds(feeding, node, evaluate):
            below[node.step] = feeding
    fed = Counter(node.step for node in below.values())
    below = {step: node for step, node in below.items() if fed[node.step] == 1}
    above = {node.step: by_step[step] for step, node in below.items()}
    stacks = []
    for node in nodes:
        if node.step not in below:
            stack = [node]
            while stack[-1].step in above:
                stack.append(above[stack[-1].step])
            stacks.append(stack)
    return stacks


def _feeds(below: Node, above: Node, evaluate: Evaluator) -> bool:
    """Whether a node's input is the outputs of another: both directions', one after the other.

    Whatever lies between (Transpose, Squeeze, Reshape, ...) is computed for outputs that are all
    different, and must hand them on unchanged.
    """
    T, N, D, H = 5, 3, below.said.directions, below.tensors["R"].shape[2]
    if below.kind != above.kind or above.tensors["W"].shape[2] != D * H:
        return False
    y = np.arange(T * N * D * H).reshape(T, N, D, H)
    order = (1, 0, 2, 3) if below.said.batch_first else (0, 2, 1, 3)
    expected = y.reshape(T, N, D * H)
    if above.said.batch_first:
        expected = expected.swapaxes(0, 1)
    (x,) = inputs_of(above.step, "X")
    assert x is not None
    try:
        return np.array_equal(evaluate(x, {below.step: (y.transpose(order),)}), expected)
    except Unreadable:
        return False
