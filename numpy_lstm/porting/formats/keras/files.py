"""Keras' files: .keras, .weights.h5 and the .h5 of versions 1 and 2, read and written.

A layer's tensors get the names of the table's rows after the layer's own name: "lstm/kernel",
"bidirectional/forward/kernel", "lstm_1/W_i". Everything else keeps its path in the file.

Sources: keras/src/saving/saving_lib.py (Keras 3), keras/src/legacy/saving/legacy_h5_format.py
(Keras 2, and 3's .h5), keras 1.2 layers/recurrent.py.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.formats.archive import Archive, check_declared
from numpy_lstm.porting.formats.checks import file_bytes, whole
from numpy_lstm.porting.formats.keras.description import (
    Described,
    caveats,
    chains,
    described_lstms,
    facts_of,
)
from numpy_lstm.porting.formats.keras.hdf5_files import Texts, need_h5py, read_hdf5
from numpy_lstm.porting.formats.keras.names import (
    Named,
    is_numbered,
    layer_name,
    names_by_name,
    names_by_number,
    rows_of,
)
from numpy_lstm.porting.formats.npz_file import ZIP_ERRORS
from numpy_lstm.porting.layouts.canonical import RuntimeFacts
from numpy_lstm.porting.layouts.placed_lstm import Place, PlacedLSTM

MEMBERS = ("model.weights.h5", "config.json", "metadata.json")
"""Of a .keras file."""
OPTIMISER = ("optimizer/", "optimizer_weights/")
"""Paths of what is no weight of the network."""


def read_keras(path: Path) -> Archive:
    """Read a file of Keras, of any version.

    Args:
        path: .keras, .weights.h5, or .h5 with a whole model or its weights.

    Raises:
        InputError: no such file; not of this kind, damaged, or larger when unpacked than its size
            allows; links, or data outside the file; an activation of an LSTM that is not known.
    """
    data, config, version = file_bytes(path, "a file that Keras wrote"), None, None
    if data.startswith(b"PK"):
        data, config, version = _unzipped(path, data)
    tensors, texts = read_hdf5(path, data)
    tensors = {name: a for name, a in tensors.items() if not name.startswith(OPTIMISER)}
    numbered = is_numbered(tensors)
    names = names_by_number(tensors, texts) if numbered else names_by_name(tensors)
    renamed = _renamed(path, tensors, names)
    root = {**texts.get("model_weights", {}), **texts.get("", {})}
    if config is None and "model_config" in root:
        config = _json(path, "model_config", root["model_config"])
    facts, notes, linked = {}, [], None
    if config is not None:
        with whole(path, "model's description", (RecursionError,)):
            lstms, pairs = list(described_lstms(config)), list(chains(config))
        found = list(_by_group(lstms, names, texts) if numbered else _by_name(lstms, names))
        facts, notes = _facts(path, found, version or root.get("keras_version", "1"))
        layers = dict.fromkeys(named.layer for named in names.values())
        notes += [
            f"{layer}: the model's description does not say that this is an LSTM"
            for layer in layers
            if f"{layer}/" not in facts
        ]
        prefixes = {lstm.names: f"{layer}/" for layer, lstm in found}
        known = [pair for pair in pairs if all(each in prefixes for each in pair)]
        linked = frozenset((prefixes[a], prefixes[b]) for a, b in known) if facts else None
    notes = tuple(dict.fromkeys(notes))
    return Archive("keras", renamed, facts, rows_of(renamed), linked, notes)


def _json(path: Path, what: str, text: str | bytes) -> Any:
    with whole(path, f"JSON text in {what}", (ValueError, RecursionError)):
        return json.loads(text)


def _unzipped(path: Path, data: bytes) -> tuple[bytes, Any, str]:
    """Of a .keras file: its weights, config, and the version that wrote it."""
    with whole(path, ".keras file", ZIP_ERRORS), zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        missing = [name for name in MEMBERS if name not in sizes]
        check(
            not missing,
            f"{path}: expected {', '.join(MEMBERS)} in a .keras file, got none of the name"
            f" {', '.join(missing)}",
        )
        check_declared(path, sum(sizes[name] for name in MEMBERS), len(data))
        parts = []
        for name in MEMBERS:
            with archive.open(name) as member:
                # What is longer than it declares fails its checksum.
                parts.append(member.read(sizes[name]))
    config, metadata = (_json(path, n, p) for n, p in zip(MEMBERS[1:], parts[1:], strict=True))
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    if not isinstance(version, str):
        raise InputError(f"{path}: metadata.json lacks keras_version; was it damaged?")
    return parts[0], config, version


def _renamed(
    path: Path, tensors: Mapping[str, np.ndarray], names: Mapping[str, Named]
) -> dict[str, np.ndarray]:
    """The tensors under their new names, the LSTMs' first."""
    result: dict[str, np.ndarray] = {}
    for old in (*names, *(name for name in tensors if name not in names)):
        new = names[old].name if old in names else old
        check(new not in result, f"{path}: two tensors would be called {new}; rename a layer")
        result[new] = tensors[old]
    return result


# --- what the description says ----------------------------------------------------------------


def _by_group(
    lstms: list[Described], names: Mapping[str, Named], texts: Texts
) -> Iterator[tuple[str, Described]]:
    """Layers of the file of weights, and what is said of them: by Keras 3's groups.

    Where the file has the layer's name, it must be the same, or nothing is known.
    """
    layers = {named.group: named.layer for named in names.values()}
    for lstm in lstms:
        group = lstm.group.removesuffix("/cell")
        for own in (group, group.replace("layers/", "_layer_checkpoint_dependencies/")):
            name = texts.get(f"{own}/vars", {}).get("name") or lstm.own_name
            is_cell = lstm.class_name == "LSTMCell"
            if own in layers and (name == lstm.own_name or not lstm.own_name or is_cell):
                yield layers[own], lstm


def _by_name(lstms: list[Described], names: Mapping[str, Named]) -> Iterator[tuple[str, Described]]:
    """The same by the names of layers, for Keras 1 and 2."""
    within: dict[str, set[str]] = {}
    for lstm in lstms:
        within.setdefault(lstm.names[0], set()).add(lstm.names[-1])
    known = {named.layer for named in names.values()}
    for lstm in lstms:
        layer = layer_name(lstm.names[0], lstm.names[-1], within[lstm.names[0]])
        if layer in known:
            yield layer, lstm


def _facts(
    path: Path, found: Iterable[tuple[str, Described]], version: str
) -> tuple[dict[str, RuntimeFacts], list[str]]:
    """By prefix; and what else a person should know."""
    facts, notes = {}, []
    for layer, lstm in found:
        said = facts_of(path, layer, lstm, version)
        before = facts.setdefault(f"{layer}/", said)
        check(
            said == before,
            f"{path}: {layer}: its two directions have other activations, {before.activations} and"
            f" {said.activations}; expected the same",
        )
        notes += caveats(layer, lstm)
    return facts, notes


# --- writing ----------------------------------------------------------------------------------


def keras_weights(native: PlacedLSTM) -> bytes:
    """A .weights.h5 of Keras 3, for `load_weights` of a model of these LSTMs alone.

    `keras.Sequential([Input, LSTM(...), ...])`, each with return_sequences, or Bidirectional with
    one in it. The groups are named by class, as Keras wants it; the layers' names are attributes,
    as Keras writes them, from which `read_keras` has the prefixes.

    Raises:
        InputError: not the row keras; prefixes that are no names of layers.
    """
    check(
        native.layout.key == "keras",
        f".weights.h5: expected the layout keras, got {native.layout.key}",
    )
    kind = "bidirectional" if native.directions == 2 else "lstm"
    sides = ("",) if native.directions == 1 else ("forward_layer/", "backward_layer/")
    groups = [f"layers/{kind}_{k}" if k else f"layers/{kind}" for k in range(native.num_layers)]
    datasets, attributes = {}, {"vars": {"name": "sequential"}}
    for group, name in zip(groups, _layer_names(native), strict=True):
        attributes[f"{group}/vars"] = {"name": name}
    numbers = {"W_ih": 0, "W_hh": 1, "b": 2}
    for place, array in _own(native):
        side = sides[place.direction or 0]
        cell = f"{groups[place.layer]}/{side}cell/vars"
        attributes[cell] = {"name": "lstm_cell"}
        datasets[f"{cell}/{numbers[place.tensor.holds]}"] = array
    return _hdf5_bytes(datasets, attributes)


def keras_2_weights(native: PlacedLSTM) -> bytes:
    """A .h5 of weights as Keras 1 and 2 wrote them, of any of the three rows.

    Raises:
        InputError: another row; prefixes that are no names of layers.
    """
    rows, key = ("keras", "keras-cudnn", "keras-1"), native.layout.key
    check(key in rows, f".h5: expected one of {', '.join(rows)}, got the layout {key}")
    layers = _layer_names(native)
    # In Keras' order, which counts more than names: by direction, and in Keras 1 by gate.
    gates = native.layout.gates
    own = sorted(
        _own(native), key=lambda p: (p[0].direction or 0, gates.find(p[0].gate or gates[0]))
    )
    datasets, weights = {}, {layer: [] for layer in layers}
    for place, array in own:
        layer = layers[place.layer]
        side, _, leaf = place.name.removeprefix(f"{layer}/").rpartition("/")
        inner = f"{side}_lstm" if side else layer
        name = f"{inner}_{leaf}" if key == "keras-1" else f"{inner}/{leaf}:0"
        name = name if key == "keras-1" or not side else f"{layer}/{name}"
        weights[layer].append(name.encode())
        datasets[f"{layer}/{name}"] = array
    root: dict[str, Any] = {"layer_names": [layer.encode() for layer in layers]}
    if key != "keras-1":  # which is known by having no version
        root |= {"keras_version": b"2.2.4", "backend": b"tensorflow"}
    attributes = {"": root} | {layer: {"weight_names": names} for layer, names in weights.items()}
    return _hdf5_bytes(datasets, attributes)


def _layer_names(native: PlacedLSTM) -> list[str]:
    """The prefixes without their slash."""
    names = [prefix.removesuffix("/") for prefix in native.prefixes]
    for prefix, name in zip(native.prefixes, names, strict=True):
        check(
            prefix == f"{name}/" and name != "" and "/" not in name,
            f"prefix: expected a layer's name and a slash, such as lstm/, got {prefix!r}",
        )
    return names


def _own(native: PlacedLSTM) -> Iterator[tuple[Place, np.ndarray]]:
    """The tensors that are there, with their places."""
    for place in native.places:
        if place.name in native.tensors:
            yield place, native.tensors[place.name]


def _hdf5_bytes(
    datasets: Mapping[str, np.ndarray], attributes: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """An HDF5 file; the same bytes for the same content."""
    need_h5py()
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for group, own in attributes.items():
            for name, value in own.items():
                file.require_group(group or "/").attrs[name] = value
        for name, array in datasets.items():
            bfloat16 = array.dtype.name == "bfloat16"
            data = array.view("V2") if bfloat16 else array
            dataset = file.create_dataset(name, data=data, track_times=False)
            if bfloat16:  # as Keras marks it
                dataset.attrs["dtype"] = "bfloat16"
    return buffer.getvalue()
