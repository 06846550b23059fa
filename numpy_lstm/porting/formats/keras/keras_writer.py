"""Write weights for Keras: the .weights.h5 of Keras 3, and the .h5 of versions 1 and 2."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.layouts.placed_lstm import Place, PlacedLSTM


def write_keras(lstm: PlacedLSTM, path: Path) -> dict[Path, bytes]:
    """The content of the .weights.h5 file of an LSTM."""
    return {path: keras_weights(lstm)}


def keras_weights(lstm: PlacedLSTM) -> bytes:
    """A .weights.h5 of Keras 3, for `load_weights` of a model of these LSTMs alone.

    `keras.Sequential([Input, LSTM(...), ...])`, each with return_sequences, or Bidirectional with
    one in it. The groups are named by class, as Keras wants it; the layers' names are attributes,
    as Keras writes them, from which `read_keras` has the prefixes.

    Raises:
        InputError: not the layout keras; prefixes that are no names of layers.
    """
    if lstm.layout.key != "keras":
        raise InputError(f".weights.h5: expected the layout keras, got {lstm.layout.key}")
    kind, sides = "lstm", ("",)
    if lstm.directions == 2:
        kind, sides = "bidirectional", ("forward_layer/", "backward_layer/")
    groups = [f"layers/{kind}", *(f"layers/{kind}_{k}" for k in range(1, lstm.num_layers))]
    datasets, attributes = {}, {"vars": {"name": "sequential"}}
    for group, name in zip(groups, _layer_names(lstm), strict=True):
        attributes[f"{group}/vars"] = {"name": name}
    numbers = {"W_ih": 0, "W_hh": 1, "b": 2}
    for place, array in _placed_tensors(lstm):
        side = sides[place.direction or 0]
        cell = f"{groups[place.layer]}/{side}cell/vars"
        attributes[cell] = {"name": "lstm_cell"}
        datasets[f"{cell}/{numbers[place.tensor.holds]}"] = array
    return _hdf5_bytes(datasets, attributes)


def keras_2_weights(lstm: PlacedLSTM) -> bytes:
    """A .h5 of weights as Keras 1 and 2 wrote them, of any of the three layouts.

    Raises:
        InputError: another layout; prefixes that are no names of layers.
    """
    layouts, key = ("keras", "keras-cudnn", "keras-1"), lstm.layout.key
    if key not in layouts:
        raise InputError(f".h5: expected one of {', '.join(layouts)}, got the layout {key}")
    layers, gates = _layer_names(lstm), lstm.layout.gates

    def rank(placed: tuple[Place, np.ndarray]) -> tuple[int, int]:
        place, _ = placed
        return place.direction or 0, gates.find(place.gate or gates[0])

    # In Keras' order, which counts more than names: by direction, and in Keras 1 by gate.
    in_order = sorted(_placed_tensors(lstm), key=rank)
    datasets, weights = {}, {layer: [] for layer in layers}
    for place, array in in_order:
        layer = layers[place.layer]
        name = _keras_2_name(place, layer, key)
        weights[layer].append(name.encode())
        datasets[f"{layer}/{name}"] = array
    root: dict[str, Any] = {"layer_names": [layer.encode() for layer in layers]}
    if key != "keras-1":  # which is known by having no version
        root |= {"keras_version": b"2.2.4", "backend": b"tensorflow"}
    attributes = {"": root} | {layer: {"weight_names": names} for layer, names in weights.items()}
    return _hdf5_bytes(datasets, attributes)


def _keras_2_name(place: Place, layer: str, layout: str) -> str:
    """What Keras 1 or 2 calls a tensor within its layer's group."""
    side, _, leaf = place.name.removeprefix(f"{layer}/").rpartition("/")
    inner = f"{side}_lstm" if side else layer
    if layout == "keras-1":
        return f"{inner}_{leaf}"
    name = f"{inner}/{leaf}:0"
    if side:
        return f"{layer}/{name}"
    return name


def _layer_names(lstm: PlacedLSTM) -> list[str]:
    """The prefixes without their slash."""
    names = [prefix.removesuffix("/") for prefix in lstm.prefixes]
    for prefix, name in zip(lstm.prefixes, names, strict=True):
        if prefix != f"{name}/" or name == "" or "/" in name:
            raise InputError(
                f"prefix: expected a layer's name and a slash, such as lstm/, got {prefix!r}"
            )
    return names


def _placed_tensors(lstm: PlacedLSTM) -> Iterator[tuple[Place, np.ndarray]]:
    """The tensors that the LSTM has, with their places."""
    for place in lstm.places:
        if place.name in lstm.tensors:
            yield place, lstm.tensors[place.name]


def _hdf5_bytes(
    datasets: Mapping[str, np.ndarray], attributes: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """An HDF5 file; the same bytes for the same content."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for group, of_group in attributes.items():
            for name, value in of_group.items():
                file.require_group(group or "/").attrs[name] = value
        for name, array in datasets.items():
            if array.dtype.name == "bfloat16":
                dataset = file.create_dataset(name, data=array.view("V2"), track_times=False)
                dataset.attrs["dtype"] = "bfloat16"  # as Keras marks it
            else:
                file.create_dataset(name, data=array, track_times=False)
    return buffer.getvalue()
