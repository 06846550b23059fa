"""Which tensors of a Keras file are an LSTM's, and what the table's rows call them.

Keras 3 numbers the variables of a layer (layers/lstm/cell/vars/0), under groups named after
classes, and gives the layer's own name as an attribute. Keras 1 and 2 name them
(lstm/lstm/kernel:0), under groups named after layers.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from numpy_lstm.porting.formats.keras.hdf5_files import Texts

BY_NUMBER = ("kernel", "recurrent_kernel", "bias")
DIRECTIONS = {"forward_layer": "forward/", "backward_layer": "backward/"}
CONTAINERS = ("layers", "_layer_checkpoint_dependencies", "cell", "cells")
"""Groups of Keras 3 that are no layers; the second is TensorFlow 2.12's."""
CELL = re.compile(r"lstm_cell(_\d+)?")
KERAS_1 = re.compile(r"(?P<layer>.+)_(?P<own>[WUb](_[icfo])?)")
TWELVE = {f"{letter}_{gate}" for letter in "WUb" for gate in "icfo"}


@dataclass(frozen=True)
class Named:
    """A tensor of an LSTM.

    Args:
        layer: whose.
        direction: "", "forward/" or "backward/".
        own: what the row calls it.
        group: the layer's in a file of Keras 3.
    """

    layer: str
    direction: str
    own: str
    group: str = ""

    @property
    def name(self) -> str:
        """As the rows have it."""
        return f"{self.layer}/{self.direction}{self.own}"


def is_numbered(paths: Iterable[str]) -> bool:
    """Whether the file is of Keras 3's own kind."""
    return any(re.search(r"(^|/)vars/\d+$", path) for path in paths)


def names_by_number(tensors: Mapping[str, np.ndarray], texts: Texts) -> dict[str, Named]:
    """The LSTMs' tensors of a file of Keras 3, by path."""
    cells: dict[str, dict[str, str]] = {}
    for path in tensors:
        match = re.fullmatch(r"(.*)/vars/(\d+)", path)
        if match and (match[1].endswith("/cell") or CELL.fullmatch(match[1].rpartition("/")[2])):
            own = dict(zip("012", BY_NUMBER, strict=True)).get(match[2], match[2])
            cells.setdefault(match[1], {})[own] = path
    result = {}
    for cell, paths in cells.items():
        if is_lstm({own: tensors[path] for own, path in paths.items()}):
            layer, direction = _layer_of(cell, texts)
            group = cell.removesuffix("/cell")
            result |= {p: Named(layer, direction, own, group) for own, p in paths.items()}
    pairs: dict[str, set[str]] = {}
    for named in result.values():
        pairs.setdefault(named.layer, set()).add(named.direction)
    # One direction of two, whose twin is no LSTM or lacks a tensor, is no LSTM either.
    halves = {layer for layer, directions in pairs.items() if directions < set(DIRECTIONS.values())}
    result = {path: named for path, named in result.items() if named.layer not in halves}
    # Names that are not unique are no names.
    uses = Counter(named.name for named in result.values())
    unclear = {named.layer for named in result.values() if uses[named.name] > 1}
    return {
        path: replace(n, layer=n.group, direction="") if n.layer in unclear else n
        for path, n in result.items()
    }


def _layer_of(cell: str, texts: Texts) -> tuple[str, str]:
    """Layer and direction of a group: layers by the names that they have as attributes."""
    parts, names, direction = cell.split("/"), [], ""
    for k, part in enumerate(parts):
        if part in DIRECTIONS:
            direction = DIRECTIONS[part]
        elif part not in CONTAINERS:
            attributes = texts.get("/".join([*parts[: k + 1], "vars"]), {})
            names.append(attributes.get("name") or part)
    return "/".join(names) or cell, direction


def names_by_name(tensors: Mapping[str, np.ndarray]) -> dict[str, Named]:
    """The LSTMs' tensors of a file of Keras 1 or 2, by path."""
    root = "model_weights/" if any(path.startswith("model_weights/") for path in tensors) else ""
    owners: dict[tuple[str, ...], dict[str, str]] = {}
    for path in tensors:
        parts = path.removeprefix(root).split("/")
        leaf = re.sub(r":\d+$", "", parts.pop())
        if match := KERAS_1.fullmatch(leaf):
            parts.append(match["layer"])
            leaf = {"W": "kernel", "U": "recurrent_kernel", "b": "bias"}.get(
                match["own"], match["own"]
            )
        if path.startswith(root) and len(parts) > 1:
            owners.setdefault(tuple(parts), {})[leaf] = path
    lstms = {
        owner: paths
        for owner, paths in owners.items()
        if is_lstm({own: tensors[path] for own, path in paths.items()})
    }
    result = {}
    for owner, (layer, direction) in _layers(list(lstms)).items():
        for own, path in lstms[owner].items():
            if own in BY_NUMBER or own in TWELVE:
                result[path] = Named(layer, direction, own)
    return result


def _layers(owners: list[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, str]]:
    """Layer and direction of each.

    The first part is the layer's name, the others are Keras' names of variables, which say what is
    within it. (They may bear a former name of the layer: it counts only where there are several.)
    """
    short = {owner: _without_cell(owner) for owner in owners}
    uses = Counter(short.values())
    short = {owner: owner if uses[parts] > 1 else parts for owner, parts in short.items()}
    ends = {(owner[0], parts[-1]) for owner, parts in short.items()}
    result = {}
    for owner, parts in short.items():
        top, last = owner[0], parts[-1]
        direction = ""
        for token, opposite in (("forward", "backward"), ("backward", "forward")):
            own = last.removeprefix(f"{token}_")
            # A layer may be called forward_something; one of a pair has its twin beside it.
            if own != last and (top, f"{opposite}_{own}") in ends:
                direction, last = f"{token}/", parts[-2] if len(parts) > 2 else top
        result[owner] = (top, last, direction)
    lasts: dict[str, set[str]] = {}
    for top, last, _ in result.values():
        lasts.setdefault(top, set()).add(last)
    return {o: (layer_name(top, last, lasts[top]), d) for o, (top, last, d) in result.items()}


def layer_name(top: str, own: str, all_within: set[str]) -> str:
    """What an LSTM is called: as the layer of the model that it is or is in, alone or among others;
    `all_within` has the names of those."""
    return top if len(all_within) == 1 or own == top else f"{top}/{own}"


def _without_cell(owner: tuple[str, ...]) -> tuple[str, ...]:
    return owner[:-1] if len(owner) > 1 and CELL.fullmatch(owner[-1]) else owner


def is_lstm(group: Mapping[str, np.ndarray]) -> bool:
    """Whether these are an LSTM's, by name and shape.

    A GRU has three blocks, not four, and what has more weights is a cell of somebody's own.
    """
    W, U, b = (group.get(name) for name in BY_NUMBER)
    if W is None or U is None:
        return set(group) >= TWELVE
    if not set(group) <= set(BY_NUMBER) or W.ndim != 2 or U.ndim != 2:
        return False
    H = U.shape[0]
    biases = (None, (4 * H,), (8 * H,))
    return U.shape[1] == W.shape[1] == 4 * H and (None if b is None else b.shape) in biases


def rows_of(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The rows of the table that these LSTMs have; by their final names."""
    rows = set()
    for name, array in tensors.items():
        own = name.rpartition("/")[2]
        if own in TWELVE:
            rows.add("keras-1")
        elif own == "recurrent_kernel":
            bias = tensors.get(name.removesuffix(own) + "bias")
            twice = bias is not None and bias.shape == (8 * array.shape[0],)
            rows.add("keras-cudnn" if twice else "keras")
    return tuple(sorted(rows)) or ("keras",)
