"""A file of named tensors, whatever container it came in.

A reader trusts nothing: it unpickles nothing, follows no link and no path out of the file, believes
no declared size before the bytes are there, and raises `InputError` for whatever is not whole.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from numpy_lstm.porting.layouts.canonical import RuntimeFacts

QUANTISED = "{}, the float weights are not in the file; use the model before its quantisation"
"""Why a quantised LSTM is not read, and what to do; after the dtype of its integers."""


def module_of(name: str) -> str:
    """What stands before a tensor's own name: encoder.lstm. of encoder.lstm.W_x."""
    match = re.match(r".*[./:]", name)
    return match[0] if match else ""


@dataclass(frozen=True)
class Archive:
    """What a file holds.

    Args:
        container: "npz", "safetensors", "onnx", ...
        tensors: by name; those of LSTMs as the table of layouts has them, after a prefix. Whatever
            else the file holds may be among them, under any name.
        facts: what the container itself says of an LSTM, by the prefix of its tensors.
        asked_activations: why the activations of an LSTM must be said by the caller, a phrase, by
            the prefix of its tensors.
        asks_layout: whether the file spells its equations out, in operators that are not read, so
            that the caller must say whether a layout is its LSTM's.
        rows: keys of the layouts that this container is made for; any when empty.
        chains: prefixes of two layers of which the second reads what the first puts out, and all
            of it; None if the container does not say what lies between layers.
        notes: what a person should know of how it was read, a sentence each.
        others: recurrent networks that are no LSTMs, and LSTMs that cannot be had and why, a
            sentence each.
        files: all that were read: a TensorFlow checkpoint has several.
    """

    container: str
    tensors: Mapping[str, np.ndarray]
    facts: Mapping[str, RuntimeFacts] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    chains: frozenset[tuple[str, str]] | None = None
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    asks_layout: bool = False
    asked_activations: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
