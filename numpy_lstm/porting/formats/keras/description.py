"""What a Keras model's description (config.json, or the attribute model_config) says of its LSTMs.

Sources: keras.layers.LSTM and Bidirectional, get_config; keras/src/saving/saving_lib.py, where the
groups' names in a file of weights come from; keras/src/activations.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from numpy_lstm.errors import InputError
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH, RuntimeFacts
from numpy_lstm.porting.layouts.named_activations import activation

Names = tuple[str, ...]
LSTMS = ("LSTM", "LSTMCell", "CuDNNLSTM")
WITHIN = {
    "Bidirectional": {"layer": "forward_layer", "backward_layer": "backward_layer"},
    "TimeDistributed": {"layer": "layer"},
    "RNN": {"cell": "cell"},
}
"""What a layer has within it, by the config's key: the name of its group of weights."""
HARMLESS = ("Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise")
"""Layers that hand their input on unchanged, but for training."""
HOPS = 4
"""So many of them may stand between two LSTMs."""
HARD_SIGMOID = {True: "hard_sigmoid(0.16666666666666666, 0.5)", False: "hard_sigmoid(0.2, 0.5)"}
"""Of Keras 3, and before."""


@dataclass(frozen=True)
class Described:
    """An LSTM of a model's description.

    Args:
        group: where Keras 3 stores its weights.
        names: of the layers from the outermost to its own; a wrapper and what it wraps are one.
        own_name: of the LSTM layer itself, which differs from the last of names in a wrapper.
        class_name: one of LSTMS.
        config: the layer's options.
        wrapper: those of the Bidirectional that it is in, if any.
        backward: whether it is that one's second LSTM.
    """

    group: str
    names: Names
    own_name: str
    class_name: str
    config: Mapping[str, Any]
    wrapper: Mapping[str, Any]
    backward: bool = False


def described_lstms(
    node: Any, group: str = "", names: Names = (), *, within: bool = False
) -> Iterator[Described]:
    """Every LSTM of a description, in order; what is not understood is passed over.

    Args:
        node: {"class_name": ..., "config": ...}.
        group: where Keras 3 stores what belongs to it.
        names: of the layers that it is in.
        within: whether in a Bidirectional; one in another would double everything in it.
    """
    class_name, config = _class(node), _config(node)
    own = str(config.get("name", ""))
    if class_name in LSTMS:
        yield Described(group, names, own, class_name, config, {})
    elif class_name in WITHIN and not (class_name == "Bidirectional" and within):
        two = class_name == "Bidirectional" and "backward_layer" not in config
        config = config | {"backward_layer": config.get("layer")} if two else config
        for key, part in WITHIN[class_name].items():
            inner, wraps = config.get(key), within or class_name == "Bidirectional"
            for lstm in described_lstms(inner, f"{group}/{part}", names, within=wraps):
                if class_name == "RNN":  # whose cells do not know in which order they are run
                    order = {"go_backwards": config.get("go_backwards", False)}
                    lstm = replace(lstm, config={**lstm.config, **order})
                if class_name == "Bidirectional":
                    backward = key == "backward_layer"
                    # Of an inferred twin the file does not say the name.
                    name = "" if two and backward else lstm.own_name
                    lstm = replace(lstm, wrapper=config, backward=backward, own_name=name)
                yield lstm
    else:
        key = "cells" if class_name == "StackedRNNCells" else "layers"
        for name, (numbered, child) in _children(node, key).items():
            below = f"{group}/{key}/{numbered}" if group else f"{key}/{numbered}"
            yield from described_lstms(child, below, (*names, name), within=within)


def chains(node: Any, names: Names = ()) -> Iterator[tuple[Names, Names]]:
    """Pairs of LSTMs, by `Described.names`, of which the second reads what the first puts out.

    Layers of a Sequential follow each other, those of a graph as it says, and cells of one
    StackedRNNCells; only where both read forward in time, and no other LSTM reads the first.
    (Shapes say the rest: the last step's output or a state alone has no axis of time, and of two
    directions all but "concat" give H features, not 2 H.)
    """
    cells = _config(node).get("cell")
    if _class(cells) == "StackedRNNCells":
        yield from pairwise((*names, name) for name in _children(cells, "cells"))
        return
    children = {name: child for name, (_, child) in _children(node, "layers").items()}
    ordered = children if _class(node) == "Sequential" else {}
    before = {name: below for below, name in pairwise(ordered)}
    pairs = []
    for name, child in children.items():
        yield from chains(child, (*names, name))
        below = _read_by(name, children, before)
        for _ in range(HOPS):
            if _class(children.get(below)) in HARMLESS:
                below = _read_by(below, children, before)
        if _is_lstm(children.get(below)) and _is_lstm(child):
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
        # Keras 3: {"args": [tensor, ...]}; before: [[layer, node, output, ...], ...].
        first = node["args"][0]["config"]["keras_history"] if isinstance(node, dict) else node[0]
        layer = first[0]
    except (LookupError, TypeError, ValueError):
        return ""
    return layer if isinstance(layer, str) else ""


def _is_lstm(node: Any) -> bool:
    """Whether a layer is one LSTM, of one direction or two, that reads forward."""
    wrapped = {"Bidirectional": "layer", "RNN": "cell"}.get(_class(node))
    own = _config(node).get(wrapped) if wrapped else node
    return _class(own) in LSTMS and not any(
        _config(each).get("go_backwards", False) for each in (node, own)
    )


def _class(node: Any) -> str:
    found = node.get("class_name") if isinstance(node, dict) else None
    return found if isinstance(found, str) else ""


def _config(node: Any) -> dict[str, Any]:
    found = node.get("config") if isinstance(node, dict) else None
    return found if isinstance(found, dict) else {}


def _children(node: Any, key: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Layers of a model by name, with their groups' names, which count up by class; the config of
    Keras 1's Sequential is the list itself."""
    found = node.get("config") if isinstance(node, dict) else None
    found = found.get(key) if isinstance(found, dict) else found
    used: Counter[str] = Counter()
    result = {}
    for child in found if isinstance(found, list) else []:
        snake = _snake(_class(child))
        numbered = f"{snake}_{used[snake]}" if used[snake] else snake
        used[snake] += 1
        if isinstance(child, dict):
            result[str(_config(child).get("name", numbered))] = numbered, child
    return result


def _snake(class_name: str) -> str:
    """As Keras names a group: StackedRNNCells gives stacked_rnn_cells."""
    own = re.sub(r"\W", "", class_name)
    own = re.sub(r"(?<=.)(?=[A-Z][a-z0-9]+)", "_", own)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", own).lower()


def facts_of(path: Path, layer: str, lstm: Described, version: str) -> RuntimeFacts:
    """Its activations.

    Args:
        path: for messages.
        layer: what its tensors are named after, for messages.
        lstm: as found.
        version: of the Keras that wrote the file: "2.2.4-tf".

    Raises:
        InputError: an activation that is not known.
    """
    if lstm.class_name == "CuDNNLSTM":
        return RuntimeFacts(activations=SIGMOID_TANH)
    old = "inner_activation"  # Keras 1
    gate = lstm.config.get("recurrent_activation", lstm.config.get(old))
    of_gates = _activation(path, layer, old if old in lstm.config else "recurrent_activation", gate)
    rest = _activation(path, layer, "activation", lstm.config.get("activation"))
    if of_gates == "hard_sigmoid" or rest == "hard_sigmoid":
        major = re.match(r"\d+", version)
        if major is None:
            raise InputError(
                f"{path}: {layer}: hard_sigmoid differs between versions of Keras, and the"
                f" version is {version!r}; expected a number such as 3.15.1"
            )
        hard = HARD_SIGMOID[int(major[0]) >= 3]
        of_gates, rest = (hard if a == "hard_sigmoid" else a for a in (of_gates, rest))
    return RuntimeFacts(activations=(of_gates, rest, rest))


def _activation(path: Path, layer: str, option: str, value: Any) -> str:
    name = value if isinstance(value, str) else None
    try:
        if name is None or not name.isidentifier():
            raise InputError(option)
        if name != "hard_sigmoid":  # whose numbers the version says
            activation(name)
    except InputError:
        raise InputError(
            f"{path}: {layer}: {option} is {str(value)[:80]!r}; expected one of"
            " sigmoid, hard_sigmoid, tanh, relu, linear, softsign"
        ) from None
    return name


def caveats(layer: str, lstm: Described) -> list[str]:
    """What it does besides, that weights and activations do not say."""
    result = []
    if bool(lstm.config.get("go_backwards")) and not lstm.backward:
        result.append(
            f"{layer}: go_backwards is set: it reads sequences from their end, and its outputs are"
            " in that order; elsewhere, reverse x and y in time"
        )
    mode = lstm.wrapper.get("merge_mode", "concat")
    if mode not in ("concat", None) and not lstm.backward:
        result.append(
            f"{layer}: merge_mode is {str(mode)[:20]!r}: the outputs of its two directions are"
            " combined to H features there, and joined to 2 H elsewhere"
        )
    return result
