"""What `numpy-lstm port` asks of torch, by an entry point: its files, and live modules by name."""

from numpy_lstm.porting.formats.archive import Archive
from torch_oracle.verification.loading import import_object
from torch_oracle.weights import pt_files
from torch_oracle.weights.pt_files import pt_bytes, read_pt

__all__ = ["module_archive", "pt_bytes", "read_pt"]


def module_archive(spec: str) -> Archive:
    """The weights of the live module ``package.module:name``.

    Raises:
        InputError: there is none of that name.
    """
    return pt_files.module_archive(import_object(spec))
