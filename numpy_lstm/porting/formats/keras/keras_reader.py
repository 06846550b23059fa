"""Read Keras' files: .keras, .weights.h5 and the .h5 of versions 1 and 2.

A layer's tensors get the names of the table's layouts after the layer's own name: "lstm/kernel",
"bidirectional/forward/kernel", "lstm_1/W_i". Everything else keeps its path in the file.

Sources: keras/src/saving/saving_lib.py (Keras 3), keras/src/legacy/saving/legacy_h5_format.py
(Keras 2, and 3's .h5), keras 1.2 layers/recurrent.py.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import check_declared, errors_as_damage, read_bytes
from numpy_lstm.porting.formats.keras.connections import pairs_in_a_row, pairs_in_order
from numpy_lstm.porting.formats.keras.description import (
    DescribedLSTM,
    caveats,
    described_lstms,
    facts_of,
)
from numpy_lstm.porting.formats.keras.hdf5_listing import LAYER_NAMES
from numpy_lstm.porting.formats.keras.hdf5_reader import Texts, read_hdf5
from numpy_lstm.porting.formats.keras.names import (
    NamedTensor,
    is_numbered,
    layer_name,
    layouts_of,
    names_by_name,
    names_by_number,
)
from numpy_lstm.porting.formats.npz_file import ZIP_ERRORS
from numpy_lstm.porting.layouts.canonical import RuntimeFacts

MEMBERS = ("model.weights.h5", "config.json", "metadata.json")
"""What a .keras file holds."""
OLDER_DEFAULT = (
    "whose LSTM had hard_sigmoid(0.2, 0.5) on its gates unless sigmoid was asked for, and"
    " TensorFlow 2's of that time sigmoid"
)
KERAS_1_DEFAULT = f"written by Keras 1, {OLDER_DEFAULT.partition(', and')[0]}"
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
    data, config, version = read_bytes(path, "a file that Keras wrote"), None, None
    if data.startswith(b"PK"):
        data, config, version = _unzipped(path, data)
    tensors, texts = read_hdf5(path, data)
    tensors = {name: a for name, a in tensors.items() if not name.startswith(OPTIMISER)}
    numbered = is_numbered(tensors)
    names = names_by_number(tensors, texts) if numbered else names_by_name(tensors)
    renamed = _renamed(path, tensors, names)
    layouts = layouts_of(renamed)
    attributes = {**texts.get("model_weights", {}), **texts.get("", {})}
    if config is None and "model_config" in attributes:
        config = _json(path, "model_config", attributes["model_config"])
    if config is None:
        return _weights_alone(renamed, layouts, names, attributes, texts)
    version = version or attributes.get("keras_version", "1")
    found = _description(path, config, version, names, texts if numbered else None)
    layers = dict.fromkeys(named.layer for named in names.values())
    unsaid = {
        f"{layer}/": "since the model's description does not say that this is an LSTM"
        for layer in layers
        if f"{layer}/" not in found.facts
    }
    return Archive(
        "keras",
        renamed,
        found.facts,
        layouts,
        found.chains,
        found.notes,
        asked_activations=unsaid,
    )


def _weights_alone(
    tensors: Mapping[str, np.ndarray],
    layouts: tuple[str, ...],
    names: Mapping[str, NamedTensor],
    attributes: Mapping[str, str],
    texts: Texts,
) -> Archive:
    """A file of weights without a description: what its version and its list of layers say."""
    prefixes = {named.layer: f"{named.layer}/" for named in names.values()}
    why = _older_default(attributes.get("keras_version", ""), layouts)
    asked = dict.fromkeys(prefixes.values(), why) if why else {}
    chains = None
    if LAYER_NAMES in attributes:
        listed = attributes[LAYER_NAMES].split("\n")
        chains = frozenset(
            pairs_in_order(listed, {p: q for p, q in prefixes.items() if p in listed})
        )
    elif any(_repeats(path) for path in texts):
        chains = frozenset()
    return Archive("keras", tensors, rows=layouts, chains=chains, asked_activations=asked)


def _repeats(path: str) -> bool:
    """Whether a group is that of a layer that stands between an encoder and a decoder."""
    return (
        re.search(r"(^|/)(repeat_vector|time_distributed|attention)(_\d+)?(/|$)", path) is not None
    )


def _older_default(version: str, layouts: tuple[str, ...]) -> str:
    """Why the version of Keras that wrote the weights leaves the activations open; "" if not."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        return KERAS_1_DEFAULT if layouts == ("keras-1",) else ""
    if (int(numbers[1]), int(numbers[2])) >= (2, 3):
        return ""
    if "keras-cudnn" in layouts:
        return ""
    return f"written by Keras {version[:20]}, before 2.3, {OLDER_DEFAULT}"


def _json(path: Path, what: str, text: str | bytes) -> Any:
    with errors_as_damage(path, f"JSON text in {what}", (ValueError, RecursionError)):
        return json.loads(text)


def _unzipped(path: Path, data: bytes) -> tuple[bytes, Any, str]:
    """The weights in a .keras file, its config, and the version of Keras that wrote it."""
    with (
        errors_as_damage(path, ".keras file", ZIP_ERRORS),
        zipfile.ZipFile(io.BytesIO(data)) as archive,
    ):
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        missing = [name for name in MEMBERS if name not in sizes]
        if missing:
            raise InputError(
                f"{path}: expected {', '.join(MEMBERS)} in a .keras file, got none of the name"
                f" {', '.join(missing)}"
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
    path: Path, tensors: Mapping[str, np.ndarray], names: Mapping[str, NamedTensor]
) -> dict[str, np.ndarray]:
    """The tensors under their new names, the LSTMs' first."""
    result: dict[str, np.ndarray] = {}
    for old in (*names, *(name for name in tensors if name not in names)):
        new = names[old].name if old in names else old
        if new in result:
            raise InputError(f"{path}: two tensors would be called {new}; rename a layer")
        result[new] = tensors[old]
    return result


# --- what the description says ----------------------------------------------------------------


@dataclass(frozen=True)
class _Description:
    """What a model's description says of the LSTMs of the file: see `Archive`."""

    facts: Mapping[str, RuntimeFacts]
    chains: frozenset[tuple[str, str]] | None
    notes: tuple[str, ...]


def _description(
    path: Path, config: Any, version: str, names: Mapping[str, NamedTensor], texts: Texts | None
) -> _Description:
    """What the description says of the LSTMs that the file holds.

    Args:
        path: for messages.
        config: the description.
        version: of the Keras that wrote it.
        names: of the LSTMs' tensors.
        texts: attributes of a file whose tensors are numbered; None if they have names.
    """
    with errors_as_damage(path, "model's description", (RecursionError,)):
        lstms, pairs = list(described_lstms(config)), list(pairs_in_a_row(config))
    found = list(_by_name(lstms, names) if texts is None else _by_group(lstms, names, texts))
    facts, notes = _facts(path, found, version)
    for layer in dict.fromkeys(named.layer for named in names.values()):
        if f"{layer}/" not in facts:
            notes.append(f"{layer}: the model's description does not say that this is an LSTM")
    chains = None
    if facts:
        prefixes = {lstm.names: f"{layer}/" for layer, lstm in found}
        held = [pair for pair in pairs if all(each in prefixes for each in pair)]
        chains = frozenset((prefixes[below], prefixes[above]) for below, above in held)
    return _Description(facts, chains, tuple(dict.fromkeys(notes)))


def _by_group(
    lstms: list[DescribedLSTM], names: Mapping[str, NamedTensor], texts: Texts
) -> Iterator[tuple[str, DescribedLSTM]]:
    """Layers of the file of weights with their descriptions: by Keras 3's groups.

    Where the file has the layer's name, it must be the same, or nothing is known.
    """
    layers = {named.group: named.layer for named in names.values()}
    for lstm in lstms:
        group = lstm.group.removesuffix("/cell")
        for stored in (group, group.replace("layers/", "_layer_checkpoint_dependencies/")):
            name = texts.get(f"{stored}/vars", {}).get("name") or lstm.own_name
            same = name == lstm.own_name or not lstm.own_name or lstm.class_name == "LSTMCell"
            if stored in layers and same:
                yield layers[stored], lstm


def _by_name(
    lstms: list[DescribedLSTM], names: Mapping[str, NamedTensor]
) -> Iterator[tuple[str, DescribedLSTM]]:
    """The same by the names of layers, for Keras 1 and 2."""
    within: dict[str, set[str]] = {}
    for lstm in lstms:
        within.setdefault(lstm.names[0], set()).add(lstm.names[-1])
    layers = {named.layer for named in names.values()}
    for lstm in lstms:
        layer = layer_name(lstm.names[0], lstm.names[-1], within[lstm.names[0]])
        if layer in layers:
            yield layer, lstm


def _facts(
    path: Path, found: Iterable[tuple[str, DescribedLSTM]], version: str
) -> tuple[dict[str, RuntimeFacts], list[str]]:
    """RuntimeFacts of the LSTMs by prefix; and what else a person should know."""
    facts, notes = {}, []
    for layer, lstm in found:
        now = facts_of(path, layer, lstm, version)
        before = facts.setdefault(f"{layer}/", now)
        if now != before:
            raise InputError(
                f"{path}: {layer}: its two directions have other activations,"
                f" {before.activations} and {now.activations}; expected the same"
            )
        notes += caveats(layer, lstm)
    return facts, notes
