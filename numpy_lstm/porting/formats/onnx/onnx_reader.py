"""Read the LSTMs of an ONNX model, wherever in its graphs they are, with weights that are computed
there from constants."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, count, pairwise
from pathlib import Path

import numpy as np
import onnx

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import QUANTISED, Archive
from numpy_lstm.porting.formats.checks import check_name, errors_as_damage, name_fault
from numpy_lstm.porting.formats.onnx.attributes import exact_activations
from numpy_lstm.porting.formats.onnx.constants import (
    ONNX_DTYPES,
    Evaluator,
    Unreadable,
    array_of,
)
from numpy_lstm.porting.formats.onnx.graph import Operation, operations
from numpy_lstm.porting.formats.onnx.lstm_nodes import (
    STATES,
    LSTMNode,
    inputs_of,
    node_of,
    stacks_of,
)
from numpy_lstm.porting.formats.onnx.model import STATES_KEY, load_model
from numpy_lstm.porting.layouts.canonical import RuntimeFacts, digest

RECURRENT = ("LSTM", "GRU", "RNN")


def read_onnx(path: Path) -> Archive:
    """Read every LSTM of an ONNX model: of its graph, and of the branches and loops within.

    Each is named for its node, NAME/. LSTMs of which one reads what another gives are layers of
    one, NAME/l0/, NAME/l1/, and so on. A node whose weights are not constant is left out, with a
    note; so is one that has no place here (clip, ...), if there is another. Other weights of the
    main graph are listed as well; where it has no LSTM node, they may be those of a cell that is
    spelt out in operators, whose layout the caller must say.

    Raises:
        InputError: no whole model, tensors in other files, or no LSTM that can be had here.
    """
    model, size = load_model(path)
    with errors_as_damage(path, "ONNX model", (UnicodeDecodeError, RecursionError)):
        return archive_of(path, model, size)


def archive_of(path: Path, model: onnx.ModelProto, file_bytes: int) -> Archive:
    """What a model holds.

    Args:
        path: for messages.
        model: as loaded.
        file_bytes: size of the file, which bounds what may be computed.

    Raises:
        InputError: as `read_onnx`.
    """
    evaluate = Evaluator(path, file_bytes)
    nodes, taken, notes = _lstm_nodes(path, model, evaluate)
    notes += [
        f"the LSTM in the function {function.name} is not read; inline functions first"
        for function in model.functions
        if any(node.op_type == "LSTM" for node in function.node)
    ]
    archive = _named(path, stacks_of(nodes, evaluate), model)
    notes += archive.notes
    others, left_out = _other_weights(path, model, taken, archive.tensors)
    if left_out:
        notes.append(f"weights left out, for their names: {', '.join(left_out)}")
    networks = _other_networks(model)
    archive = replace(archive, tensors={**archive.tensors, **others}, others=tuple(networks))
    if not nodes:
        archive = replace(archive, rows=(), asks_layout=True)
    return replace(archive, notes=tuple(notes))


def _other_networks(model: onnx.ModelProto) -> list[str]:
    """Recurrent nodes of the main graph that are no LSTMs, and LSTMs that are quantised."""
    result = []
    integers = {
        output
        for node in model.graph.node
        if node.op_type in ("DequantizeLinear", "DynamicQuantizeLinear")
        for output in node.output
    }
    for node in model.graph.node:
        name = node.name or next(iter(node.output), "")
        if node.op_type == "DynamicQuantizeLSTM" or (
            node.op_type == "LSTM" and integers & set(node.input[1:3])
        ):
            result.append(f"node {name} is a quantised LSTM: {QUANTISED.format('int8')}")
        elif node.op_type == "GRU":
            result.append(f"node {name} is a GRU, and no LSTM")
        elif node.op_type == "RNN":
            result.append(f"node {name} is a plain RNN, and no LSTM")
    return result


def _lstm_nodes(
    path: Path, model: onnx.ModelProto, evaluate: Evaluator
) -> tuple[list[LSTMNode], set[str], list[str]]:
    """LSTM nodes with their weights; names of the tensors that recurrent nodes read; and notes of
    the nodes that are left out."""
    nodes, taken, notes, refused = [], set(), [], []
    zeros_learned = any(p.key == STATES_KEY for p in model.metadata_props)
    for operation in operations(path, model):
        if operation.op_type not in RECURRENT:
            continue
        taken |= _tensors_read(operation)
        if operation.op_type != "LSTM":
            continue
        weights = inputs_of(operation, "W", "R", "B", "P")
        if not all(value is None or value.operation.constant for value in weights):
            notes.append(f"node {operation.name}: left out, since its weights are not constant")
            continue
        try:
            node = node_of(operation, evaluate, zeros_learned)
            nodes.append(node)
            if node.attributes.reverse:
                notes.append(
                    f"node {operation.name}: direction is reverse: it reads sequences from their"
                    " end, and its outputs are in the order of x; elsewhere, reverse x and y in"
                    " time"
                )
        except Unreadable as error:
            refused.append(f"node {operation.name}: {error}")
    if refused and not nodes:
        raise InputError(f"{path}: {'; '.join(refused)}")
    notes += [f"{reason}: left out" for reason in refused]
    return nodes, taken, notes


def _tensors_read(recurrent: Operation) -> set[str]:
    """Names of the tensors of the file from which a recurrent node's constant inputs come."""
    found, seen = set(), set()
    todo = [value.operation for value in recurrent.inputs[1:] if value is not None]
    while todo:
        operation = todo.pop()
        if operation in seen or not operation.constant_per_sequence:
            continue
        seen.add(operation)
        found.add(operation.name)
        todo += [value.operation for value in operation.inputs if value is not None]
    return found


def _other_weights(
    path: Path, model: onnx.ModelProto, taken: set[str], tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The other weights of the main graph, and those left out for their names."""
    others, left_out = {}, []
    for tensor in model.graph.initializer:
        dtype = ONNX_DTYPES.get(tensor.data_type)
        if tensor.name in taken or dtype is None:
            continue
        if tensors and "float" not in dtype.name:
            continue  # beside an LSTM that is found, axes and shapes are of no interest
        if name_fault(tensor.name) or tensor.name in tensors:
            left_out.append(repr(tensor.name))
            continue
        others[tensor.name] = array_of(path, tensor.name, tensor)
    return others, left_out


# --- names --------------------------------------------------------------------------------------


def _named(path: Path, stacks: Iterable[list[LSTMNode]], model: onnx.ModelProto) -> Archive:
    """The LSTMs' tensors by name, with their facts, and which layers feed each other."""
    tensors: dict[str, np.ndarray] = {}
    facts: dict[str, RuntimeFacts] = {}
    chains: list[tuple[str, str]] = []
    notes: list[str] = []
    names: dict[str, str] = {}
    for stack in stacks:
        first = stack[0]
        layers, state_notes = _stack_tensors(stack)
        notes += state_notes
        stack_facts = RuntimeFacts(
            activations=exact_activations(first.attributes.activations, model)
        )
        arrays = {f"{k} {n}": a for k, layer in enumerate(layers) for n, a in layer.items()}
        key = digest(arrays, repr(stack_facts))
        if key in names:  # as in both branches of an If
            notes.append(f"node {first.operation.name}: the same LSTM as {names[key]}, listed once")
            continue
        name = names[key] = _unused(first.operation.name, set(names.values()))
        prefixes = [f"{name}/"]
        if len(stack) > 1:
            prefixes = [f"{name}/l{k}/" for k in range(len(stack))]
        chains += pairwise(prefixes)
        for prefix, layer in zip(prefixes, layers, strict=True):
            check_name(path, prefix + "W")
            facts[prefix] = stack_facts
            tensors |= {prefix + n: np.array(a, order="C") for n, a in layer.items()}
    return Archive("onnx", tensors, facts, ("onnx",), frozenset(chains), tuple(notes))


def _stack_tensors(stack: list[LSTMNode]) -> tuple[list[dict[str, np.ndarray]], list[str]]:
    """By layer, with initial states if any is learned and all can be had; and notes."""
    layers = [dict(node.tensors) for node in stack]
    if not any(node.learned for node in stack):
        return layers, []
    states = [node.states for node in stack if node.states is not None]
    if len(states) < len(stack):
        return layers, [
            f"node {stack[0].operation.name}: constant initial states are left out, since not all"
            " are constant and the same for every sequence"
        ]
    for layer, of_layer in zip(layers, states, strict=True):
        layer |= dict(zip(STATES, of_layer, strict=True))
    return layers, []


def _unused(name: str, used: set[str]) -> str:
    """A name like this that is not used: without the slash that torch begins names with, and
    without what `onnx_model` ends a first layer's with."""
    name = name.strip("/").removesuffix("/l0") or "lstm"
    candidates = chain([name], (f"{name}_{k}" for k in count(2)))
    return next(candidate for candidate in candidates if candidate not in used)
