"""Read a file of whatever container: what it holds decides, not what it is called."""

import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import check_is_file
from numpy_lstm.porting.formats.containers import (
    CONTAINERS,
    Content,
    Reader,
    all_suffixes,
    key_by_content,
    key_by_suffix,
    load,
)
from numpy_lstm.porting.formats.derived_weights import with_derived_weights
from numpy_lstm.porting.formats.handwritten_names import with_usual_names
from numpy_lstm.porting.formats.npz_file import ZIP_ERRORS
from numpy_lstm.porting.formats.tensorflow.checkpoint_files import index_of


def main_file(path: Path) -> Path:
    """The file that a path means: of a TensorFlow checkpoint, however it is given, its .index."""
    without_ending = not os.path.exists(path) and os.path.isfile(f"{path}.index")
    is_shard = re.fullmatch(r"\.data-\d{5}-of-\d{5}", path.suffix) is not None
    if without_ending or is_shard:
        return index_of(path)
    return path


def read_archive(path: Path, readers: Mapping[str, Reader] | None = None) -> Archive:
    """Read the named tensors of a file.

    Args:
        path: a file; of a TensorFlow checkpoint any of its files, or what their names begin with.
        readers: by key of `CONTAINERS`, those that this package does not have: {"pt": read_pt}.

    Raises:
        InputError: no such file, of no known container, or not whole.
    """
    path = main_file(path)
    by_suffix, by_content = key_by_suffix(path), None
    if by_suffix != "tf-bundle" or os.path.isfile(path):
        check_is_file(path, f"a file of weights ({all_suffixes()})")
        by_content = key_by_content(_content(path))
    key = by_content or by_suffix
    if key is None:
        raise InputError(
            f"{path}: neither its content nor its suffix is that of a container known here;"
            f" expected one of {all_suffixes()}"
        )
    if readers and key in readers:
        read = readers[key]
    else:
        read = load(str(path), key, CONTAINERS[key].reader)
    if by_suffix in (None, key):
        return _with_files(read(path), path)
    title = CONTAINERS[key].title
    disagreement = f"its suffix says {CONTAINERS[by_suffix].title}, its content {title}"
    try:
        archive = read(path)
    except InputError as error:
        raise InputError(f"{error} ({disagreement})") from error
    archive = replace(archive, notes=(f"{disagreement}: read as {title}", *archive.notes))
    return _with_files(archive, path)


def _with_files(archive: Archive, path: Path) -> Archive:
    archive = with_derived_weights(archive)
    if not archive.rows and archive.container in ("npz", "safetensors", "json", "pt"):
        archive = with_usual_names(archive)
    return replace(archive, files=archive.files or (path,))


def _content(path: Path) -> Content:
    """What of a file tells its container.

    Raises:
        InputError: it cannot be read, is empty, or is an .npy file, which is never read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
            file.seek(max(0, size - 8))
            tail = file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if size == 0:
        raise InputError(f"{path}: is empty; was it saved?")
    if head.startswith(b"\x93NUMPY"):
        raise InputError(
            f"{path}: an .npy file holds one array without a name; put the arrays into an .npz"
            " file, numpy.savez(path, name=array, ...)"
        )
    members = ()
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        members = _zip_members(path)
    return Content(size, head, tail, members)


def _zip_members(path: Path) -> tuple[str, ...]:
    """Names of the files in a zip archive; none if it is not whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(archive.namelist())
    except ZIP_ERRORS:
        return ()
