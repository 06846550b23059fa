"""The table of containers: what their files are called, what tells them, who reads and writes them.

A new container is a row here, and a module or folder beside this one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy_lstm.errors import InputError, require
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.tensorflow.checkpoint_files import INDEX_ENDS_WITH
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

Reader = Callable[[Path], Archive]
Writer = Callable[[PlacedLSTM, Path], dict[Path, bytes]]
PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
"""What PyTorch's files began with until 1.6, and any other pickle."""


@dataclass(frozen=True)
class Content:
    """What of a file tells its container.

    Args:
        size: of the file, in bytes.
        head: its first bytes.
        tail: its last bytes.
        members: names of the files within, if it is a zip archive.
    """

    size: int
    head: bytes
    tail: bytes
    members: tuple[str, ...] = ()


def _is_pytorch(content: Content) -> bool:
    has_pickle = any(name.rpartition("/")[2] == "data.pkl" for name in content.members)
    return has_pickle or content.head.startswith(PICKLES)


def _is_keras(content: Content) -> bool:
    return content.head.startswith(b"\x89HDF\r\n\x1a\n") or "model.weights.h5" in content.members


def _is_npz(content: Content) -> bool:
    if _is_pytorch(content) or _is_keras(content):
        return False
    return any(name.endswith(".npy") for name in content.members)


def _is_safetensors(content: Content) -> bool:
    # A text's first eight bytes are those of a number that no header is as long as.
    header_bytes = int.from_bytes(content.head[:8], "little")
    return content.head[8:9] == b"{" and header_bytes <= content.size - 8


def _is_tensorflow(content: Content) -> bool:
    return content.tail == INDEX_ENDS_WITH and not content.head.startswith(b"PK")


def _is_json(content: Content) -> bool:
    return content.head.lstrip().startswith(b"{")


def _nothing_tells(content: Content) -> bool:
    return False


@dataclass(frozen=True)
class Container:
    """A row of the table.

    Args:
        title: what a person calls it.
        suffixes: of the files that are read.
        tells: whether a file's content is that of this container.
        reader: "module:function" within this folder; "" if the caller must give one, because it
            needs torch.
        ending: of the names of files that are written; "" if none are.
        writer: "module:function" within this folder, or "" as for the reader.
        layouts: what the keys of the layouts begin with that it is written for; any if empty.
        packages: that reader and writer import, beyond those that are always installed.
    """

    title: str
    suffixes: tuple[str, ...]
    tells: Callable[[Content], bool]
    reader: str = ""
    ending: str = ""
    writer: str = ""
    layouts: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


CONTAINERS: Mapping[str, Container] = {
    "npz": Container(
        "NumPy archive",
        (".npz",),
        _is_npz,
        reader="npz_file:read_npz",
        ending=".npz",
        writer="npz_file:write_npz",
    ),
    "safetensors": Container(
        "safetensors",
        (".safetensors",),
        _is_safetensors,
        reader="safetensors_file:read_safetensors",
        ending=".safetensors",
        writer="safetensors_file:write_safetensors",
    ),
    "pt": Container("PyTorch", (".pt", ".pth"), _is_pytorch, ending=".pt"),
    "keras": Container(
        "Keras (HDF5 or .keras)",
        (".keras", ".h5", ".hdf5"),
        _is_keras,
        reader="keras.keras_reader:read_keras",
        ending=".weights.h5",
        writer="keras.keras_writer:write_keras",
        layouts=("keras",),
        packages=("h5py",),
    ),
    "onnx": Container(
        "ONNX",
        (".onnx",),
        _nothing_tells,
        reader="onnx.onnx_reader:read_onnx",
        ending=".onnx",
        writer="onnx.onnx_writer:write_onnx",
        layouts=("onnx",),
        packages=("onnx", "google.protobuf"),
    ),
    "tf-bundle": Container(
        "TensorFlow checkpoint",
        (".index",),
        _is_tensorflow,
        reader="tensorflow.checkpoint_reader:read_tf_bundle",
        ending=".index",
        writer="tensorflow.checkpoint_writer:write_tf_bundle",
        layouts=("tf-",),
        packages=("google_crc32c", "google.protobuf"),
    ),
    "json": Container(
        "JSON as RTNeural has it", (".json",), _is_json, reader="json_file:read_json"
    ),
}
"""By key. The first whose content tells it is taken."""


def all_suffixes() -> str:
    """Every suffix of a file that is read, for a sentence."""
    return ", ".join(suffix for row in CONTAINERS.values() for suffix in row.suffixes)


def key_by_suffix(path: Path) -> str | None:
    """The container that a file is called as; None if it is called as none."""
    for key, row in CONTAINERS.items():
        if path.suffix.lower() in row.suffixes:
            return key
    return None


def key_by_content(content: Content) -> str | None:
    """The container that a file's content tells; None if it tells none."""
    for key, row in CONTAINERS.items():
        if row.tells(content):
            return key
    return None


def load(subject: str, key: str, function: str) -> Any:
    """A reader or writer of the table.

    Args:
        subject: what a sentence begins with: the file's name.
        key: of the container.
        function: "module:function", from the container's row.

    Raises:
        InputError: it is not in this package.
        MissingPackage: a package that it imports is not installed.
    """
    row = CONTAINERS[key]
    if not function:
        raise InputError(
            f"{subject}: {row.title} files need torch, which this package does without;"
            " use the command numpy-lstm port"
        )
    for package in row.packages:
        require(package, f"{subject}: {row.title}")
    module, _, name = function.partition(":")
    return getattr(import_module(f"numpy_lstm.porting.formats.{module}"), name)
