"""Read TensorFlow's checkpoints (version 2) without TensorFlow.

A checkpoint PREFIX is PREFIX.index, a table of names in LevelDB's format whose values are protobuf
messages, and PREFIX.data-00000-of-00001 and so on, the tensors' bytes. Both carry CRC-32C sums, and
all of them are verified.

Sources: table_format.md of LevelDB; tensor_bundle.proto of TensorFlow.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import DecodeError

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import (
    check_is_file,
    check_name,
    left_out_note,
    tensor_of_bytes,
)
from numpy_lstm.porting.formats.dtypes import little_endian
from numpy_lstm.porting.formats.tensorflow.checkpoint_files import data_of, index_of
from numpy_lstm.porting.formats.tensorflow.messages import (
    TENSORFLOW_DTYPES,
    BundleEntryProto,
    BundleHeaderProto,
)
from numpy_lstm.porting.formats.tensorflow.sorted_table import REMEDY, masked_checksum, read_table


def read_tf_bundle(path: Path) -> Archive:
    """Read a checkpoint; tensors have TensorFlow's names, those that are no numbers are noted.

    Args:
        path: the .index file, a .data file, or what the names of both begin with.

    Raises:
        InputError: a file is missing, truncated or damaged, or has what is not implemented: blocks
            compressed with snappy, variables in slices, big-endian bytes.
    """
    index = index_of(path)
    with _opened(index) as file, _errors_of(index):
        shards, entries = _parse_index(index, file.read())
    readable = [entry for entry in entries if entry.dtype in TENSORFLOW_DTYPES]
    readable.sort(key=lambda entry: entry.shard)
    tensors: dict[str, np.ndarray] = {}
    files = [index]
    for shard, of_shard in groupby(readable, lambda entry: entry.shard):
        data = data_of(index, shard, shards)
        files.append(data)
        with _opened(data) as file, _errors_of(data):
            tensors |= _read_shard(data, file, list(of_shard))
    left_out = [entry.name for entry in entries if entry.dtype not in TENSORFLOW_DTYPES]
    notes = left_out_note(left_out)
    return Archive("tf-bundle", dict(sorted(tensors.items())), notes=notes, files=tuple(files))


@dataclass(frozen=True)
class _Entry:
    """Where a tensor is, and what it is."""

    name: str
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def _parse_index(path: Path, table: bytes) -> tuple[int, list[_Entry]]:
    """The number of shards, and all tensors."""
    values = read_table(path, table)
    if b"" not in values:
        raise InputError(f"lacks the entry that says how many shards there are; {REMEDY}")
    header = _message(BundleHeaderProto, b"", values.pop(b""))
    if header.endianness != 0:
        raise InputError("is big-endian, which is not implemented; save it elsewhere")
    if not 0 < header.num_shards < 100_000:
        raise InputError(f"expected 1 to 99,999 shards, got {header.num_shards}; {REMEDY}")
    messages = {key: _message(BundleEntryProto, key, value) for key, value in values.items()}
    for key, message in messages.items():
        if message.slices:
            raise InputError(
                f"{key.decode(errors='replace')!r}: saved in slices (a partitioned variable),"
                " which is not implemented; save it without a partitioner"
            )
    entries = [_entry(path, key, message, header) for key, message in messages.items()]
    return header.num_shards, entries


def _message(kind: Any, key: bytes, data: bytes) -> Any:
    """A protobuf message of the index."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        name = key.decode(errors="replace")
        raise InputError(f"the entry {name!r} is no whole {kind.__name__}; {REMEDY}") from error


def _entry(path: Path, key: bytes, message: Any, header: Any) -> _Entry:
    """An entry of the index, if it says of its tensor what can be."""
    name = key.decode(errors="replace")
    if name.encode() != key:
        raise InputError(f"the name {name!r} is not UTF-8; {REMEDY}")
    check_name(path, name)
    shard, offset, size = message.shard_id, message.offset, message.size
    if not 0 <= shard < header.num_shards or min(offset, size) < 0:
        raise InputError(
            f"{name}: expected one of {header.num_shards} shards, an offset and a size, got"
            f" {shard}, {offset}, {size}; {REMEDY}"
        )
    shape = tuple(dim.size for dim in message.shape.dim)
    return _Entry(name, message.dtype, shape, shard, offset, size, message.crc32c)


def _read_shard(path: Path, file: BinaryIO, entries: list[_Entry]) -> dict[str, np.ndarray]:
    """The tensors of one shard, each verified."""
    file_bytes = file.seek(0, os.SEEK_END)
    for entry in entries:
        if entry.offset + entry.size > file_bytes:
            raise InputError(
                f"{entry.name}: expected {entry.size:,} bytes at {entry.offset:,}, got a file of"
                f" {file_bytes:,}; is it truncated?"
            )
    total = sum(entry.size for entry in entries)
    if total > file_bytes:
        raise InputError(
            f"tensors of {total:,} bytes overlap in a file of {file_bytes:,}; {REMEDY}"
        )
    tensors = {}
    for entry in entries:
        file.seek(entry.offset)
        raw = file.read(entry.size)
        if masked_checksum(raw) != entry.crc:
            raise InputError(
                f"{entry.name}: its bytes do not have the CRC-32C that the index says; {REMEDY}"
            )
        dtype = little_endian(TENSORFLOW_DTYPES[entry.dtype])
        tensors[entry.name] = tensor_of_bytes(path, entry.name, raw, dtype, entry.shape)
    return tensors


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Let every refusal begin with the name of this file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def _opened(path: Path) -> BinaryIO:
    check_is_file(
        path,
        "a TensorFlow checkpoint of version 2, NAME.index with NAME.data-00000-of-00001, given by"
        " either or as NAME",
    )
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
