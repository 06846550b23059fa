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

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.formats.archive import Archive, check_declared
from numpy_lstm.porting.formats.checks import (
    check_is_file,
    check_name,
    check_tensors,
    left_out_note,
    tensor,
    whole,
)

ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError),
    *(ValueError, NotImplementedError, RuntimeError),
)
"""What zipfile raises of a file that is damaged, encrypted, or newer than it."""
HEADER_ERRORS = (
    *(ValueError, TypeError, SyntaxError, tokenize.TokenError),
    *(MemoryError, RecursionError, OverflowError),
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
    with whole(path, "npz file", ZIP_ERRORS), zipfile.ZipFile(path) as archive:
        _check_members(path, archive)
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            check_name(path, name)
            check(name not in tensors, f"{path}: {name}: expected one tensor of that name, got two")
            with archive.open(info) as member:
                # A member that is longer than it declares fails its checksum.
                data = member.read(info.file_size)
            check(
                len(data) == info.file_size,
                f"{path}: {name}: expected {info.file_size:,} bytes, got {len(data):,};"
                " was it cut short?",
            )
            array = _npy(path, name, data)
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
    check(
        end.startswith(END_OF_ZIP) and count in (len(members), 0xFFFF),
        f"{path}: expected {count} members, and nothing after them, got {len(members)};"
        " was it damaged?",
    )
    for info in members:
        # The name as it is in the file: zipfile cuts its own at a NUL.
        check_name(path, info.orig_filename)
        check(not info.flag_bits & 1, f"{path}: {info.filename} is encrypted; decrypt it first")
        check(
            info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
            f"{path}: {info.filename}: expected a member stored or deflated, as NumPy writes it,"
            f" got compression {info.compress_type}",
        )
    check_declared(path, sum(info.file_size for info in members))


def _npy(path: Path, name: str, data: bytes) -> np.ndarray | None:
    """The array of an .npy file's bytes; None if it is of texts or dates."""
    file = io.BytesIO(data)
    if not data.startswith(npy.MAGIC_PREFIX):
        raise InputError(f"{path}: {name} is no array; expected members of .npy format alone")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # written by Python 2
            version = npy.read_magic(file)
            # Version 3 is for records with names that are not ASCII.
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran_order, dtype = read(file)
    except KeyError:
        raise InputError(
            f"{path}: {name}: expected .npy version 1.0 or 2.0, got {data[6]}.{data[7]}"
        ) from None
    except HEADER_ERRORS as error:
        raise InputError(f"{path}: {name}: its header cannot be read; was it damaged?") from error
    if dtype.hasobject:
        raise InputError(
            f"{path}: {name} holds Python objects, which are pickled and never read;"
            " save it as an array of numbers"
        )
    if dtype.kind in "USMm":
        return None
    check(
        dtype.kind in "biufc",
        f"{path}: {name}: expected numbers, got dtype {dtype}; save records field by field,"
        " and bfloat16, which npz does not know, as float32 or in safetensors",
    )
    rest = data[file.tell() :]
    if fortran_order:
        return np.asarray(tensor(path, name, rest, dtype, shape[::-1]).T, order="C")
    return tensor(path, name, rest, dtype, shape)


def npz_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """An npz file: not compressed, and always the same bytes for the same tensors.

    Raises:
        InputError: a name or dtype that npz cannot hold; it has no bfloat16.
    """
    check_tensors(tensors, "biufc", "")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in tensors.items():
            member = io.BytesIO()
            npy.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy")  # of 1980-01-01
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, member.getvalue())
    return file.getvalue()
