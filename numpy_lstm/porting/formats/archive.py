"""A file of named tensors, whatever container it came in; readers and writers by container.

A reader trusts nothing: it unpickles nothing, follows no link and no path out of the file, believes
no declared size before the bytes are there, and raises `InputError` for whatever is not whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from numpy_lstm.errors import check
from numpy_lstm.porting.layouts.canonical import RuntimeFacts


@dataclass(frozen=True)
class Archive:
    """What a file holds.

    Args:
        container: "npz", "safetensors", "onnx", ...
        tensors: by name; those of LSTMs as the table's rows have them, after a prefix. Whatever
            else the file holds may be among them, under any name.
        facts: what the container itself says of an LSTM, by the prefix of its tensors.
        rows: keys of the rows that this container is made for; any when empty.
        chains: prefixes of two layers of which the second reads what the first puts out, and all
            of it; None if the container does not say what lies between layers.
        notes: what a person should know of how it was read, a sentence each.
        files: all that were read: a TensorFlow checkpoint has several.
    """

    container: str
    tensors: Mapping[str, np.ndarray]
    facts: Mapping[str, RuntimeFacts] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    chains: frozenset[tuple[str, str]] | None = None
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def check_declared(path: Path, declared: int, file_bytes: int | None = None) -> None:
    """Raise unless a file may hold this much once unpacked: 64 MiB, or 100 times its own size.

    Trained weights hardly shrink when compressed, so that nothing honest comes near.
    """
    size = path.stat().st_size if file_bytes is None else file_bytes
    allowed = (64 << 20) + 100 * size
    check(
        declared <= allowed,
        f"{path}: declares {declared:,} bytes of tensors in a file of {size:,};"
        f" expected at most {allowed:,}; is it damaged?",
    )
