"""Bytes of a file for an LSTM in some layout, by the file's ending."""

from collections.abc import Callable, Mapping
from pathlib import Path

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

ENDINGS = (".npz", ".safetensors", ".pt", ".weights.h5", ".onnx", ".index")
"""What is written; `.pt` by a writer that the caller gives, for it needs torch."""
ROWS_OF = {".weights.h5": ("keras",), ".onnx": ("onnx",), ".index": ("tf-",)}
"""The rows (or what their keys begin with) that the container is made for; others hold any."""


def check_writable(path: Path, layout: Layout) -> str:
    """The ending that says the container.

    Raises:
        InputError: an ending that is not known, or a container that is not made for the layout.
    """
    ending = next((e for e in ENDINGS if path.name.endswith(e)), None)
    if ending is None or path.name == ending:
        raise InputError(f"{path}: expected a file name that ends in one of {', '.join(ENDINGS)}")
    rows = ROWS_OF.get(ending)
    check(
        rows is None or any(layout.key.startswith(row) for row in rows),
        f"{path}: {ending} is not made for the layout {layout.key}; expected"
        f" {', '.join(e for e in ENDINGS if e not in ROWS_OF)}",
    )
    return ending


def encode(
    native: PlacedLSTM,
    path: Path,
    writers: Mapping[str, Callable[[PlacedLSTM], bytes]] | None = None,
) -> dict[Path, bytes]:
    """The content of every file that ``path`` stands for, in the order in which to write them.

    Raises:
        InputError: as `check_writable`; a dtype or names that the container does not have.
    """
    ending = check_writable(path, native.layout)
    if ending == ".index":
        from numpy_lstm.porting.formats.tensorflow.bundle import data_of, tf_bundle

        index, data = tf_bundle(native.tensors)
        return {data_of(path): data, path: index}
    return {path: _encoder(ending, writers or {})(native)}


def _encoder(
    ending: str, writers: Mapping[str, Callable[[PlacedLSTM], bytes]]
) -> Callable[[PlacedLSTM], bytes]:
    if ending in writers:
        return writers[ending]
    if ending == ".npz":
        from numpy_lstm.porting.formats.npz_file import npz_bytes

        return lambda native: npz_bytes(native.tensors)
    if ending == ".safetensors":
        from numpy_lstm.porting.formats.safetensors_file import safetensors_bytes

        return lambda native: safetensors_bytes(native.tensors, None)
    if ending == ".weights.h5":
        from numpy_lstm.porting.formats.keras.files import keras_weights

        return keras_weights
    if ending == ".onnx":
        from numpy_lstm.porting.formats.onnx.files import onnx_model

        return onnx_model
    raise InputError(f"{ending}: needs torch; use scripts/port.py")
