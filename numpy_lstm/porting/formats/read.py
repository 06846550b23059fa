"""Read a file of whatever container: what it holds decides, not what it is called."""

import os
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import check_is_file
from numpy_lstm.porting.formats.npz_file import ZIP_ERRORS
from numpy_lstm.porting.formats.tensorflow.bundle import index_of
from numpy_lstm.porting.formats.tensorflow.sorted_table import MAGIC

Reader = Callable[[Path], Archive]
PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
"""What PyTorch's files began with until 1.6, and any other pickle."""


@dataclass(frozen=True)
class Format:
    """A container that can be read.

    Args:
        title: for a person.
        suffixes: what its files are called.
        module: where its reader is; "" if the caller must give one, because it needs torch.
        function: the reader.
    """

    title: str
    suffixes: tuple[str, ...]
    module: str = ""
    function: str = ""


FORMATS: Mapping[str, Format] = {
    "npz": Format("NumPy archive", (".npz",), "numpy_lstm.porting.formats.npz_file", "read_npz"),
    "safetensors": Format(
        "safetensors",
        (".safetensors",),
        "numpy_lstm.porting.formats.safetensors_file",
        "read_safetensors",
    ),
    "json": Format(
        "JSON as RTNeural has it",
        (".json",),
        "numpy_lstm.porting.formats.safetensors_file",
        "read_json",
    ),
    "keras": Format(
        "Keras (HDF5 or .keras)",
        (".keras", ".h5", ".hdf5"),
        "numpy_lstm.porting.formats.keras.files",
        "read_keras",
    ),
    "onnx": Format("ONNX", (".onnx",), "numpy_lstm.porting.formats.onnx.files", "read_onnx"),
    "tf-bundle": Format(
        "TensorFlow checkpoint",
        (".index",),
        "numpy_lstm.porting.formats.tensorflow.bundle",
        "read_tf_bundle",
    ),
    "pt": Format("PyTorch", (".pt", ".pth")),
}
"""By key; the keys of readers that a caller gives are among them."""


def main_file(path: Path) -> Path:
    """The file that a path means: of a TensorFlow checkpoint, however it is given, its .index."""
    without_ending = not os.path.exists(path) and os.path.isfile(f"{path}.index")
    is_shard = re.fullmatch(r"\.data-\d{5}-of-\d{5}", path.suffix) is not None
    return index_of(path) if without_ending or is_shard else path


def read_archive(path: Path, readers: Mapping[str, Reader] | None = None) -> Archive:
    """Read the named tensors of a file.

    Where content and suffix disagree, the content is believed and a note, or the error, says so.

    Args:
        path: a file; of a TensorFlow checkpoint any of its files, or what their names begin with.
        readers: by key of `FORMATS`, those that this package does not have: {"pt": read_pt}.

    Raises:
        InputError: no such file, of no known container, or not whole.
    """
    path = main_file(path)
    by_suffix, by_content = _named(path), None
    if by_suffix != "tf-bundle" or os.path.isfile(path):
        check_is_file(path, f"a file of weights ({', '.join(_suffixes())})")
        by_content = _detected(path)
    key = by_content or by_suffix
    if key is None:
        raise InputError(
            f"{path}: neither its content nor its suffix is that of a container known here;"
            f" expected one of {', '.join(_suffixes())}"
        )
    read = _reader(path, key, readers)
    if by_suffix in (None, key):
        return _with_files(read(path), path)
    title = FORMATS[key].title
    disagreement = f"its suffix says {FORMATS[by_suffix].title}, its content {title}"
    try:
        archive = read(path)
    except InputError as error:
        raise InputError(f"{error} ({disagreement})") from error
    archive = replace(archive, notes=(f"{disagreement}: read as {title}", *archive.notes))
    return _with_files(archive, path)


def _with_files(archive: Archive, path: Path) -> Archive:
    return replace(archive, files=archive.files or (path,))


def _suffixes() -> list[str]:
    return [suffix for known in FORMATS.values() for suffix in known.suffixes]


def _named(path: Path) -> str | None:
    """Which container the file is called as."""
    return next((key for key, f in FORMATS.items() if path.suffix.lower() in f.suffixes), None)


def _reader(path: Path, key: str, readers: Mapping[str, Reader] | None) -> Reader:
    if readers and key in readers:
        return readers[key]
    known = FORMATS[key]
    if not known.module:
        raise InputError(
            f"{path}: {known.title} files need torch, which this package does without;"
            " use the command scripts/port.py"
        )
    return getattr(import_module(known.module), known.function)


def _detected(path: Path) -> str | None:
    """Which container the content is that of; None if it does not say.

    Raises:
        InputError: the content is that of a file that is never read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
            file.seek(max(0, size - len(MAGIC)))
            tail = file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    check(size > 0, f"{path}: is empty; was it saved?")
    if head.startswith(b"\x93NUMPY"):
        raise InputError(
            f"{path}: an .npy file holds one array without a name; put the arrays into an .npz"
            " file, numpy.savez(path, name=array, ...)"
        )
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return _zip_kind(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    # A text's first eight bytes are those of a number that no header is as long as.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    if head.startswith(PICKLES):
        return "pt"
    if tail == MAGIC:
        return "tf-bundle"
    return "json" if head.lstrip().startswith(b"{") else None


def _zip_kind(path: Path) -> str | None:
    """Which container a zip archive is, by its members; None if they do not say, or cannot."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except ZIP_ERRORS:
        return None
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "pt"
    if "model.weights.h5" in names:
        return "keras"
    return "npz" if any(name.endswith(".npy") for name in names) else None
