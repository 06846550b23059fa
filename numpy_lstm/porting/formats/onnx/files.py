"""Read the LSTMs of an ONNX model, wherever in its graphs they are, with weights that are computed
there from constants; and write one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import check_name, unsafe, whole
from numpy_lstm.porting.formats.onnx.constants import (
    DTYPES,
    Evaluator,
    Step,
    Unreadable,
    array_of,
    load,
    steps,
)
from numpy_lstm.porting.formats.onnx.lstms import Node, inputs_of, node_of, stacks_of
from numpy_lstm.porting.formats.onnx.nodes import Activations, exact
from numpy_lstm.porting.formats.onnx.writing import STATES, STATES_KEY, model_of
from numpy_lstm.porting.layouts.canonical import RuntimeFacts, digest
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

__all__ = ["onnx_model", "read_onnx"]

RECURRENT = ("LSTM", "GRU", "RNN")


def read_onnx(path: Path) -> Archive:
    """Read every LSTM of an ONNX model: of its graph, and of the branches and loops within.

    Each is named for its node, NAME/. LSTMs of which one reads what another gives are layers of
    one, NAME/l0/, NAME/l1/, and so on. A node whose weights are
    not constant is left out, with a note; so is one that has no place here (reverse direction
    alone, clip, ...), if there is another. Other weights of the main graph are listed as well.

    Raises:
        InputError: no whole model, tensors in other files, or no LSTM that can be had here.
    """
    model, size = load(path)
    with whole(path, "ONNX model", (UnicodeDecodeError, RecursionError)):
        return _archive(path, model, Evaluator(path, size))


def _archive(path: Path, model: Any, evaluate: Evaluator) -> Archive:
    nodes, notes, refused = [], [], []
    zeros_learned = any(p.key == STATES_KEY for p in model.metadata_props)
    taken: set[str] = set()
    for step in steps(path, model):
        if step.node.op_type not in RECURRENT or step.node.domain not in ("", "ai.onnx"):
            continue
        taken |= _sources(step)
        if step.node.op_type != "LSTM":
            continue
        fixed = all(v is None or v.step.constant for v in inputs_of(step, "W", "R", "B", "P"))
        if not fixed:
            notes.append(f"node {step.name}: left out, since its weights are not constant")
            continue
        try:
            nodes.append(node_of(step, evaluate, zeros_learned))
        except Unreadable as error:
            refused.append(f"node {step.name}: {error}")
    if refused and not nodes:
        raise InputError(f"{path}: {'; '.join(refused)}")
    notes += [f"{reason}: left out" for reason in refused]
    notes += [
        f"the LSTM in the function {function.name} is not read; inline functions first"
        for function in model.functions
        if any(node.op_type == "LSTM" for node in function.node)
    ]
    stacks = stacks_of(nodes, evaluate)
    archive = _named(path, stacks, lambda said: exact(said, model))
    notes += archive.notes
    others: dict[str, np.ndarray] = {}
    if nodes:
        others, left = _others(path, model, taken, archive.tensors)
        if left:
            notes.append(f"weights left out, for their names: {', '.join(left)}")
    return replace(archive, tensors={**archive.tensors, **others}, notes=tuple(notes))


def onnx_model(native: PlacedLSTM) -> bytes:
    """The bytes of an ONNX model of an LSTM, always the same for the same LSTM; see `model_of`.

    What was written is read back and compared.

    Raises:
        InputError: a layout, dtype, activation or names that ONNX, or its reader here, do not have.
    """
    model = model_of(native)
    data = model.SerializeToString(deterministic=True)
    archive = _archive(Path("onnx"), model, Evaluator(Path("onnx"), len(data)))
    check(
        archive.tensors.keys() == native.tensors.keys(),
        f"onnx: expected prefixes such as lstm/, or lstm/l0/ and lstm/l1/, got {native.prefixes}",
    )
    same = all(archive.facts[prefix] == native.facts for prefix in native.prefixes)
    if not same or digest(dict(archive.tensors)) != digest(dict(native.tensors)):
        raise AssertionError("onnx wrote another LSTM than it was given")
    return data


def _others(
    path: Path, model: Any, taken: set[str], tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The other weights of the main graph, and those left out for their names."""
    others, left = {}, []
    for proto in model.graph.initializer:
        if proto.name in taken or "float" not in DTYPES.get(proto.data_type, ""):
            continue
        if unsafe(proto.name) or proto.name in tensors:
            left.append(repr(proto.name))
            continue
        others[proto.name] = array_of(path, proto.name, proto)
    return others, left


def _sources(step: Step) -> set[str]:
    """Names of the tensors of the file from which a recurrent node's constant inputs come."""
    found, seen = set(), set()
    todo = [v.step for v in step.inputs[1:] if v is not None]
    while todo:
        one = todo.pop()
        if one in seen or not one.stretched:
            continue
        seen.add(one)
        found.add(one.name)
        todo += [v.step for v in one.inputs if v is not None]
    return found


# --- names --------------------------------------------------------------------------------------


def _named(
    path: Path, stacks: Iterable[list[Node]], exactly: Callable[[Activations], Activations]
) -> Archive:
    """The LSTMs' tensors by name, with their facts, and which layers feed each other."""
    tensors: dict[str, np.ndarray] = {}
    facts: dict[str, RuntimeFacts] = {}
    chains: list[tuple[str, str]] = []
    notes: list[str] = []
    names: dict[str, str] = {}
    for stack in stacks:
        layers, own = _stack_tensors(stack)
        notes += own
        said = RuntimeFacts(activations=exactly(stack[0].said.activations))
        arrays = {f"{k} {n}": a for k, layer in enumerate(layers) for n, a in layer.items()}
        key = digest(arrays, repr(said))
        if key in names:  # as in both branches of an If
            notes.append(f"node {stack[0].step.name}: the same LSTM as {names[key]}, listed once")
            continue
        name = names[key] = _unused(stack[0].step.name, set(names.values()))
        several = len(stack) > 1
        prefixes = [f"{name}/l{k}/" if several else f"{name}/" for k in range(len(stack))]
        chains += pairwise(prefixes)
        for prefix, layer in zip(prefixes, layers, strict=True):
            check_name(path, prefix + "W")
            facts[prefix] = said
            tensors |= {prefix + n: np.array(a, order="C") for n, a in layer.items()}
    return Archive("onnx", tensors, facts, ("onnx",), frozenset(chains), tuple(notes))


def _stack_tensors(stack: list[Node]) -> tuple[list[dict[str, np.ndarray]], list[str]]:
    """By layer, with initial states if any is learned and all can be had; and notes."""
    layers = [dict(node.tensors) for node in stack]
    if not any(node.learned for node in stack):
        return layers, []
    states = [node.states for node in stack if node.states is not None]
    if len(states) < len(stack):
        return layers, [
            f"node {stack[0].step.name}: constant initial states are left out, since not all are"
            " constant and the same for every sequence"
        ]
    for layer, own in zip(layers, states, strict=True):
        layer |= dict(zip(STATES, own, strict=True))
    return layers, []


def _unused(name: str, used: set[str]) -> str:
    """A name like this that is not used: without the slash that torch begins names with, and
    without what `onnx_model` ends a first layer's with."""
    name = name.strip("/").removesuffix("/l0") or "lstm"
    candidates = chain([name], (f"{name}_{k}" for k in count(2)))
    return next(candidate for candidate in candidates if candidate not in used)
