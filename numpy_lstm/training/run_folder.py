"""The folder of a training run: its log, its best weights and its picture.

A folder belongs to one run, and a run that cannot begin leaves it as it was. A disk that is full
later stops nothing: the run goes on, what could not be written is tried again, and `finish` says
what is missing in the end.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from numpy_lstm.errors import InputError
from numpy_lstm.files import check_folder, write_atomically
from numpy_lstm.training.checkpoint import Checkpoint, checkpoint_bytes
from numpy_lstm.training.curves import curves_png

LOG = "log.jsonl"
WEIGHTS = "best.safetensors"
PICTURE = "curves.png"


class RunFolder:
    """The folder that one training run fills; nothing is written before the first record.

    Args:
        path: the folder, which is made if need be.
        overwrite: replace the run that the folder may hold already.

    Raises:
        InputError: the path cannot be a folder, cannot be written to, or holds a run.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self.log: list[dict[str, Any]] = []
        """All records so far."""
        self.failures: dict[str, str] = {}
        """By file name, why it lacks something that should be in it."""
        self._file: IO[bytes] | None = None
        self._pending = b""
        self._unsaved: Checkpoint | None = None
        check_folder(path)
        held = [name for name in (LOG, WEIGHTS, PICTURE) if (path / name).exists()]
        if held and not overwrite:
            raise InputError(
                f"{path}: holds a run already ({', '.join(held)}); choose another folder, or"
                " replace that run with --overwrite"
            )

    @property
    def begun(self) -> bool:
        """Whether the folder holds this run's log and weights."""
        return self._file is not None

    def begin(self, record: Mapping[str, Any], checkpoint: Checkpoint) -> None:
        """Write the first record and the weights that belong to it, both or neither.

        Raises:
            InputError: they cannot be written; the folder is then as it was.
        """
        self.log.append(dict(record))
        is_new = not self.path.exists()
        files = {self.path / WEIGHTS: checkpoint_bytes(checkpoint), self.path / LOG: _line(record)}
        try:
            write_atomically(files)
            (self.path / PICTURE).unlink(missing_ok=True)  # that of a run which is replaced
            self._file = open(self.path / LOG, "ab", buffering=0)
        except OSError as error:
            if is_new and self.path.is_dir():
                self.path.rmdir()
            raise InputError(f"{self.path}: cannot be written to ({error.strerror})") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Log one record, on disk at once."""
        self.log.append(dict(record))
        self._pending += _line(record)
        self._write_pending()

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the best weights in the folder by these."""
        self._unsaved = checkpoint
        self._save_unsaved()

    def retry(self) -> None:
        """Try once more what could not be written."""
        self._write_pending()
        self._save_unsaved()

    def finish(self, *, floor: float | None, title: str) -> None:
        """Draw the picture, try once more what could not be written, and close the log.

        Args:
            floor: lowest expected validation loss, where it is known.
            title: heading of the picture.
        """
        if self._file is None:
            return
        self._try(
            PICTURE,
            lambda: write_atomically(
                {self.path / PICTURE: curves_png(self.log, floor=floor, title=title)}
            ),
        )
        self.retry()
        self._file.close()

    def _write_pending(self) -> None:
        if self._pending and self._try(LOG, self._append):
            self._pending = b""

    def _save_unsaved(self) -> None:
        checkpoint = self._unsaved
        if checkpoint is None:
            return
        data = checkpoint_bytes(checkpoint)
        if self._try(WEIGHTS, lambda: write_atomically({self.path / WEIGHTS: data})):
            self._unsaved = None

    def _append(self) -> None:
        """Add the pending lines to the log, all of them or none."""
        assert self._file is not None
        end = os.fstat(self._file.fileno()).st_size
        try:
            rest = memoryview(self._pending)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(end)
            raise

    def _try(self, name: str, action: Any) -> bool:
        """Whether the action succeeded; if the disk refused, that is kept in `failures`."""
        try:
            action()
        except OSError as error:
            self.failures[name] = error.strerror or str(error)
            return False
        self.failures.pop(name, None)
        return True


def next_free_folder(stem: Path) -> Path:
    """The first of ``stem-1``, ``stem-2``, ... that does not exist."""
    number = 1
    while Path(f"{stem}-{number}").exists():
        number += 1
    return Path(f"{stem}-{number}")


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record) + "\n").encode()
