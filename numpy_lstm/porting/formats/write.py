"""The content of the files that hold an LSTM in some layout, by the ending of the file's name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.containers import CONTAINERS, Container, load
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM


def check_writable(path: Path, layout: Layout) -> str:
    """The key of the container that a file's ending says.

    Raises:
        InputError: an ending that is not known, or a container that is not made for the layout.
    """
    written = {key: row for key, row in CONTAINERS.items() if row.ending}
    for key, row in written.items():
        if path.name.endswith(row.ending) and path.name != row.ending:
            _check_layout(path, layout, row)
            return key
    endings = ", ".join(row.ending for row in written.values())
    raise InputError(f"{path}: expected a file name that ends in one of {endings}")


def _check_layout(path: Path, layout: Layout, row: Container) -> None:
    """Raise unless the container is made for the layout."""
    if row.layouts and not layout.key.startswith(row.layouts):
        others = [each.ending for each in CONTAINERS.values() if each.ending and not each.layouts]
        raise InputError(
            f"{path}: {row.ending} is not made for the layout {layout.key}; expected"
            f" {', '.join(others)}"
        )


def encode(
    lstm: PlacedLSTM,
    path: Path,
    writers: Mapping[str, Callable[[PlacedLSTM], bytes]] | None = None,
) -> dict[Path, bytes]:
    """The content of every file that ``path`` stands for, in the order in which to write them.

    Args:
        lstm: as it is placed in its layout.
        path: the file's name.
        writers: by ending, those that this package does not have: {".pt": pt_bytes}.

    Raises:
        InputError: as `check_writable`; a dtype or names that the container does not have.
    """
    key = check_writable(path, lstm.layout)
    row = CONTAINERS[key]
    if writers and row.ending in writers:
        return {path: writers[row.ending](lstm)}
    return load(str(path), key, row.writer)(lstm, path)
