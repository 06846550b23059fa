"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path


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
