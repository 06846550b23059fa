"""Which LSTMs of a Keras model read what another puts out, by the model's description."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from numpy_lstm.porting.formats.keras.description import LSTM_CLASSES, Names, is_subclass
from numpy_lstm.porting.formats.keras.description_tree import children_of, class_of, config_of

UNCHANGING = ("Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise")
"""Layers that hand their input on unchanged, but for training."""
HARMLESS_NAMES = re.compile(
    r"(\w+_)?(dropout|spatial_dropout1d|gaussian_dropout|gaussian_noise|masking)(_\d+)?|drop\w*"
)
"""What Keras calls such layers unless somebody gives them names."""
MOST_BETWEEN = 4
"""How many of them may stand between two LSTMs."""


def pairs_in_a_row(node: Any, names: Names = ()) -> Iterator[tuple[Names, Names]]:
    """Pairs of LSTMs, by `DescribedLSTM.names`, of which the second reads what the first puts out.

    Layers of a Sequential follow each other, those of a graph as it says, and cells of one
    StackedRNNCells; only where both read forward in time, and no other LSTM reads the first.
    (Shapes say the rest: the last step's output or a state alone has no axis of time, and of two
    directions all but "concat" give H features, not 2 H.)
    """
    cells = config_of(node).get("cell")
    if class_of(cells) == "StackedRNNCells":
        yield from pairwise((*names, name) for name in children_of(cells, "cells"))
        return
    children = {name: child for name, (_, child) in children_of(node, "layers").items()}
    before = {}
    if class_of(node) == "Sequential":
        before = {name: below for below, name in pairwise(children)}
    pairs = []
    for name, child in children.items():
        yield from pairs_in_a_row(child, (*names, name))
        below = _read_by(name, children, before)
        for _ in range(MOST_BETWEEN):
            if class_of(children.get(below)) in UNCHANGING:
                below = _read_by(below, children, before)
        if _is_forward_lstm(children.get(below)) and _is_forward_lstm(child):
            pairs.append((below, name))
    readers = Counter(below for below, _ in pairs)
    for below, above in pairs:
        if readers[below] == 1:
            yield (*names, below), (*names, above)


def _read_by(name: str, children: Mapping[str, Any], before: Mapping[str, str]) -> str:
    """The layer that another reads: by its inbound node if the model is a graph, else the one
    before it; "" if there is none, or not only one."""
    nodes = children[name].get("inbound_nodes")
    if nodes is None:
        return before.get(name, "")
    try:
        (node,) = nodes
        if isinstance(node, dict):  # Keras 3: {"args": [tensor, ...]}
            first = node["args"][0]["config"]["keras_history"]
        else:  # before: [[layer, node, output, ...], ...]
            first = node[0]
        layer = first[0]
    except (LookupError, TypeError, ValueError):
        return ""
    if isinstance(layer, str):
        return layer
    return ""


def _is_forward_lstm(node: Any) -> bool:
    """Whether a layer is one LSTM, of one direction or two, that reads forward in time."""
    wrapped = {"Bidirectional": "layer", "RNN": "cell"}.get(class_of(node))
    lstm = node
    if wrapped:
        lstm = config_of(node).get(wrapped)
    backward = any(config_of(each).get("go_backwards", False) for each in (node, lstm))
    return (class_of(lstm) in LSTM_CLASSES or is_subclass(lstm)) and not backward


def pairs_in_order(
    layer_names: Sequence[str], prefixes: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Pairs of LSTMs' prefixes that may follow each other, by the list of a file's layers alone.

    What has no weights and is called as Keras calls a layer that changes nothing may stand between
    two LSTMs; whatever else does, such as a repeat_vector, makes two LSTMs of them.

    Args:
        layer_names: all layers in their order.
        prefixes: of the LSTMs, by the name of their layer.
    """
    below = None
    for name in layer_names:
        if name in prefixes:
            if below is not None:
                yield prefixes[below], prefixes[name]
            below = name
        elif not HARMLESS_NAMES.fullmatch(name):
            below = None
