"""PyTorch's files and live modules for `numpy-lstm port`, which itself does without torch.

Who can read them says so by an entry point of the group `GROUP` under the name "pt": a module with
functions `read_pt`, `pt_bytes` and `module_archive`. It is imported where such a file is given.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

GROUP = "numpy_lstm.torch_files"


def module_archive(spec: str) -> Archive:
    """The weights of the live module ``package.module:name``."""
    return _torch_files().module_archive(spec)


def _read_pt(path: Path) -> Archive:
    return _torch_files().read_pt(path)


def _pt_bytes(lstm: PlacedLSTM) -> bytes:
    return _torch_files().pt_bytes(lstm.tensors)


READERS: Mapping[str, Callable[[Path], Archive]] = {"pt": _read_pt}
WRITERS: Mapping[str, Callable[[PlacedLSTM], bytes]] = {".pt": _pt_bytes}


def _torch_files() -> Any:
    for entry_point in entry_points(group=GROUP, name="pt"):
        return entry_point.load()
    raise InputError(
        "PyTorch's files and modules are read by torch_oracle, which is not installed;"
        " pip install 'numpy-lstm[verify]'"
    )
