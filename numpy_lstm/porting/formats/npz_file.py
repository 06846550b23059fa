"""npz: a zip archive of .npy files, read without NumPy's `load`, which would unpickle objects.

Source: numpy/lib/format.py, "Format Version 1.0" and after.
"""

import io
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import (
    check_can_be_written,
    check_declared,
    check_is_file,
    check_name,
    errors_as_damage,
    left_out_note,
    tensor_of_bytes,
)
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
"""What zipfile raises of a file that is damaged, encrypted, or newer than it."""
HEADER_ERRORS = (
    ValueError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    MemoryError,
    RecursionError,
    OverflowError,
)
"""What NumPy raises of an npy header, which it has parsed as Python literals."""
END_OF_ZIP = b"PK\5\6"


def read_npz(path: Path) -> Archive:
    """Read an npz file, pickles apart.

    Texts and dates are left out, with a note.

    Raises:
        InputError: no whole npz file; or one with Python objects, records, paths out of it, two
            tensors of one name, or more once decompressed than it can honestly hold.
    """
    check_is_file(path, "an .npz file")
    tensors, left_out = {}, []
    with errors_as_damage(path, "npz file", ZIP_ERRORS), zipfile.ZipFile(path) as archive:
        _check_members(path, archive)
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            check_name(path, name)
            if name in tensors:
                raise InputError(f"{path}: {name}: expected one tensor of that name, got two")
            with archive.open(info) as member:
                # A member that is longer than it declares fails its checksum.
                data = member.read(info.file_size)
            if len(data) != info.file_size:
                raise InputError(
                    f"{path}: {name}: expected {info.file_size:,} bytes, got {len(data):,};"
                    " was it cut short?"
                )
            array = _array(path, name, data)
            if array is None:
                left_out.append(name)
            else:
                tensors[name] = array
    return Archive("npz", tensors, notes=left_out_note(left_out))


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise unless the archive's members can be decompressed without surprise."""
    members = archive.infolist()
    # zipfile believes the size of its directory alone, which without its first entries looks whole.
    with path.open("rb") as file:
        file.seek(-22 - len(archive.comment), io.SEEK_END)
        end = file.read(12)
    count = int.from_bytes(end[10:], "little")
    if not end.startswith(END_OF_ZIP) or count not in (len(members), 0xFFFF):
        raise InputError(
            f"{path}: expected {count} members, and nothing after them, got {len(members)};"
            " was it damaged?"
        )
    for info in members:
        # The name as it is in the file: zipfile cuts its own at a NUL.
        check_name(path, info.orig_filename)
        if info.flag_bits & 1:
            raise InputError(f"{path}: {info.filename} is encrypted; decrypt it first")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{path}: {info.filename}: expected a member stored or deflated, as NumPy writes"
                f" it, got compression {info.compress_type}"
            )
    check_declared(path, sum(info.file_size for info in members))


def _array(path: Path, name: str, data: bytes) -> np.ndarray | None:
    """The array of an .npy file's bytes; None if it is of texts or dates."""
    shape, fortran_order, dtype, header_bytes = _header(path, name, data)
    if dtype.hasobject:
        raise InputError(
            f"{path}: {name} holds Python objects, which are pickled and never read;"
            " save it as an array of numbers"
        )
    if dtype.kind in "USMm":
        return None
    if dtype.kind not in "biufc":
        raise InputError(
            f"{path}: {name}: expected numbers, got dtype {dtype}; save records field by field,"
            " and bfloat16, which npz does not know, as float32 or in safetensors"
        )
    rest = data[header_bytes:]
    if fortran_order:
        turned = tensor_of_bytes(path, name, rest, dtype, shape[::-1])
        return np.asarray(turned.T, order="C")
    return tensor_of_bytes(path, name, rest, dtype, shape)


def _header(path: Path, name: str, data: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether in Fortran's order, dtype, and size of the header of an .npy file."""
    if not data.startswith(npy.MAGIC_PREFIX):
        raise InputError(f"{path}: {name} is no array; expected members of .npy format alone")
    file = io.BytesIO(data)
    # Version 3 is for records with names that are not ASCII.
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        version = npy.read_magic(file)
        if version not in readers:
            raise InputError(
                f"{path}: {name}: expected .npy version 1.0 or 2.0, got {data[6]}.{data[7]}"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # written by Python 2
            shape, fortran_order, dtype = readers[version](file)
    except InputError:  # is a ValueError too
        raise
    except HEADER_ERRORS as error:
        raise InputError(f"{path}: {name}: its header cannot be read; was it damaged?") from error
    return shape, fortran_order, dtype, file.tell()


def write_npz(lstm: PlacedLSTM, path: Path) -> dict[Path, bytes]:
    """The content of the .npz file of an LSTM."""
    return {path: npz_bytes(lstm.tensors)}


def npz_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """An npz file: not compressed, and always the same bytes for the same tensors.

    Raises:
        InputError: a name or dtype that npz cannot hold; it has no bfloat16.
    """
    check_can_be_written(tensors, "biufc", "")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in tensors.items():
            member = io.BytesIO()
            npy.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy")  # of 1980-01-01
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue())
    return file.getvalue()
