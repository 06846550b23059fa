"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from numpy_lstm.errors import InputError


def check_folder(path: Path) -> None:
    """Raise unless this is a folder that can be written to, or could be made; nothing is made."""
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{path}: cannot be written to ({existing} is no folder)")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written to (no permission for {existing})")


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Raise unless a file of this name can be written, and none is there that must be kept."""
    check_folder(path.parent)
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file, got that of a folder")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another, or replace it with --overwrite")


def write_atomically(
    files: Mapping[Path, bytes],
    verify: Callable[[Path], Mapping[Path, bytes]] = lambda folder: {},
) -> None:
    """Write files of one folder: first elsewhere, flushed to disk, then renamed into place.

    Args:
        files: content by path, all in the same folder, which is made if need be. They are renamed
            in this order: what refers to others comes last.
        verify: called with a folder that holds the new files under their names, before anything of
            those names is replaced; what it raises leaves everything as it was. It may return
            further files, which are written with the others.

    Raises:
        OSError: the folder cannot be written to.
    """
    first = next(iter(files))
    parent = first.parent
    parent.mkdir(parents=True, exist_ok=True)
    umask = os.umask(0)
    os.umask(umask)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{first.name}.") as name:
        folder = Path(name)
        _write(folder, files, umask)
        more = verify(folder)
        _write(folder, more, umask)
        for path in (*files, *more):
            os.replace(folder / path.name, path)
    descriptor = os.open(parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the new names themselves
    finally:
        os.close(descriptor)


def _write(folder: Path, files: Mapping[Path, bytes], umask: int) -> None:
    for path, data in files.items():
        with open(folder / path.name, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(folder / path.name, 0o666 & ~umask)
