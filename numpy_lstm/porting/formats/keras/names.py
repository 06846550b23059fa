"""Which tensors of a Keras file are an LSTM's, and what the table's layouts call them.

Keras 3 numbers the variables of a layer (layers/lstm/cell/vars/0), under groups named after
classes, and gives the layer's own name as an attribute. Keras 1 and 2 name them
(lstm/lstm/kernel:0), under groups named after layers.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from numpy_lstm.porting.formats.keras.hdf5_reader import Texts

BY_NUMBER = ("kernel", "recurrent_kernel", "bias")
DIRECTIONS = {"forward_layer": "forward/", "backward_layer": "backward/"}
CONTAINERS = ("layers", "_layer_checkpoint_dependencies", "cell", "cells")
"""Groups of Keras 3 that are no layers; the second is TensorFlow 2.12's."""
CELL = re.compile(r"lstm_cell(_\d+)?")
KERAS_1 = re.compile(r"(?P<layer>.+)_(?P<leaf>[WUb](_[icfo])?)")
TWELVE = {f"{letter}_{gate}" for letter in "WUb" for gate in "icfo"}


@dataclass(frozen=True)
class NamedTensor:
    """A tensor of an LSTM.

    Args:
        layer: the name of the layer that has it.
        direction: "", "forward/" or "backward/".
        leaf: what the layout calls it: "kernel".
        group: where a file of Keras 3 has the layer.
    """

    layer: str
    direction: str
    leaf: str
    group: str = ""

    @property
    def name(self) -> str:
        """The tensor's name in the layout, with its prefix."""
        return f"{self.layer}/{self.direction}{self.leaf}"


def is_numbered(paths: Iterable[str]) -> bool:
    """Whether the file is of Keras 3's own kind."""
    return any(re.search(r"(^|/)vars/\d+$", path) for path in paths)


def names_by_number(tensors: Mapping[str, np.ndarray], texts: Texts) -> dict[str, NamedTensor]:
    """The LSTMs' tensors of a file of Keras 3, by path."""
    cells: dict[str, dict[str, str]] = {}
    for path in tensors:
        match = re.fullmatch(r"(.*)/vars/(\d+)", path)
        if match and (match[1].endswith("/cell") or CELL.fullmatch(match[1].rpartition("/")[2])):
            leaf = dict(zip("012", BY_NUMBER, strict=True)).get(match[2], match[2])
            cells.setdefault(match[1], {})[leaf] = path
    result = {}
    for cell, paths in cells.items():
        if is_lstm({leaf: tensors[path] for leaf, path in paths.items()}):
            layer, direction = _layer_of(cell, texts)
            group = cell.removesuffix("/cell")
            for leaf, path in paths.items():
                result[path] = NamedTensor(layer, direction, leaf, group)
    result = _without_halves(result)
    # Names that are not unique are no names.
    uses = Counter(named.name for named in result.values())
    unclear = {named.layer for named in result.values() if uses[named.name] > 1}
    for path, named in result.items():
        if named.layer in unclear:
            result[path] = replace(named, layer=named.group, direction="")
    return result


def _without_halves(names: Mapping[str, NamedTensor]) -> dict[str, NamedTensor]:
    """The tensors without those of one direction whose twin is no LSTM or lacks a tensor."""
    directions: dict[str, set[str]] = {}
    for named in names.values():
        directions.setdefault(named.layer, set()).add(named.direction)
    halves = {layer for layer, found in directions.items() if found < set(DIRECTIONS.values())}
    return {path: named for path, named in names.items() if named.layer not in halves}


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


def names_by_name(tensors: Mapping[str, np.ndarray]) -> dict[str, NamedTensor]:
    """The LSTMs' tensors of a file of Keras 1 or 2, by path."""
    root = ""
    if any(path.startswith("model_weights/") for path in tensors):
        root = "model_weights/"
    owners: dict[tuple[str, ...], dict[str, str]] = {}
    for path in tensors:
        owner, leaf = _owner_and_leaf(path.removeprefix(root))
        if path.startswith(root) and len(owner) > 1:
            owners.setdefault(owner, {})[leaf] = path
    lstms = {
        owner: paths
        for owner, paths in owners.items()
        if is_lstm({leaf: tensors[path] for leaf, path in paths.items()})
    }
    result = {}
    for owner, (layer, direction) in _layers(list(lstms)).items():
        for leaf, path in lstms[owner].items():
            if leaf in BY_NUMBER or leaf in TWELVE:
                result[path] = NamedTensor(layer, direction, leaf)
    return result


def _owner_and_leaf(path: str) -> tuple[tuple[str, ...], str]:
    """The parts of a tensor's path that say whose it is, and what the layouts call it."""
    *owner, leaf = path.split("/")
    leaf = re.sub(r":\d+$", "", leaf)
    match = KERAS_1.fullmatch(leaf)
    if match:
        owner.append(match["layer"])
        whole_blocks = {"W": "kernel", "U": "recurrent_kernel", "b": "bias"}
        leaf = whole_blocks.get(match["leaf"], match["leaf"])
    return tuple(owner), leaf


def _layers(owners: list[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, str]]:
    """Layer and direction of each owner of tensors.

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
        for side, opposite in (("forward", "backward"), ("backward", "forward")):
            rest = last.removeprefix(f"{side}_")
            # A layer may be called forward_something; one of a pair has its twin in the file.
            if rest != last and (top, f"{opposite}_{rest}") in ends:
                direction, last = f"{side}/", parts[-2] if len(parts) > 2 else top
        result[owner] = (top, last, direction)
    lasts: dict[str, set[str]] = {}
    for top, last, _ in result.values():
        lasts.setdefault(top, set()).add(last)
    return {o: (layer_name(top, last, lasts[top]), d) for o, (top, last, d) in result.items()}


def layer_name(top: str, inner: str, all_inner: set[str]) -> str:
    """What an LSTM is called.

    Args:
        top: the layer of the model that it is, or is in.
        inner: its name within that layer.
        all_inner: names of all LSTMs within that layer.
    """
    if len(all_inner) == 1 or inner == top:
        return top
    return f"{top}/{inner}"


def _without_cell(owner: tuple[str, ...]) -> tuple[str, ...]:
    if len(owner) > 1 and CELL.fullmatch(owner[-1]):
        return owner[:-1]
    return owner


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
    bias_fits = b is None or b.shape in ((4 * H,), (8 * H,))
    return U.shape[1] == W.shape[1] == 4 * H and bias_fits


def layouts_of(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Keys of the layouts that these LSTMs have, by the names of their tensors."""
    layouts = set()
    for name, array in tensors.items():
        leaf = name.rpartition("/")[2]
        if leaf in TWELVE:
            layouts.add("keras-1")
        elif leaf == "recurrent_kernel":
            bias = tensors.get(name.removesuffix(leaf) + "bias")
            is_pair = bias is not None and bias.shape == (8 * array.shape[0],)
            layouts.add("keras-cudnn" if is_pair else "keras")
    return tuple(sorted(layouts)) or ("keras",)
