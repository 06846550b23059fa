"""TensorFlow's checkpoints (version 2), read and written without TensorFlow.

A checkpoint PREFIX is PREFIX.index, a table of names in LevelDB's format whose values are protobuf
messages, and PREFIX.data-00000-of-00001 and so on, the tensors' bytes. Both carry CRC-32C sums, and
all of them are verified.

Sources: table_format.md of LevelDB; tensor_bundle.proto, tensor_shape.proto and types.proto of
TensorFlow; "Encoding" in protobuf's documentation.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import (
    check_is_file,
    check_name,
    check_tensors,
    left_out_note,
    tensor,
)
from numpy_lstm.porting.formats.tensorflow.crc32c import crc32c, masked
from numpy_lstm.porting.formats.tensorflow.sorted_table import (
    REMEDY,
    read_table,
    table_of,
    varint,
    varint_of,
)

DTYPES = {1: "float32", 2: "float64", 14: "bfloat16", 19: "float16"} | {
    **{3: "int32", 4: "uint8", 5: "int16", 6: "int8", 9: "int64"},
    **{17: "uint16", 22: "uint32", 23: "uint64"},
}
"""What is read, by TensorFlow's number of it."""


def index_of(path: Path) -> Path:
    """A checkpoint's .index file, from any of its files or what their names begin with."""
    return path.with_name(re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", path.name) + ".index")


def data_of(index: Path, shard: int = 0, shards: int = 1) -> Path:
    """One of a checkpoint's files of tensors."""
    return index.with_name(f"{index.name.removesuffix('.index')}.data-{shard:05}-of-{shards:05}")


def read_tf_bundle(path: Path) -> Archive:
    """Read a checkpoint; tensors have TensorFlow's names, those that are no numbers are noted.

    Args:
        path: the .index file, a .data file, or what the names of both begin with.

    Raises:
        InputError: a file is missing, truncated or damaged, or has what is not implemented: blocks
            compressed with snappy, variables in slices, big-endian bytes.
    """
    index = index_of(path)
    with _opened(index) as file, _named(index):
        shards, entries = _parse_index(index, file.read())
    known = sorted((e for e in entries if e.dtype in DTYPES), key=lambda e: e.shard)
    tensors: dict[str, np.ndarray] = {}
    files = [index]
    for shard, own in groupby(known, lambda entry: entry.shard):
        data = data_of(index, shard, shards)
        files.append(data)
        with _opened(data) as file, _named(data):
            tensors |= _read_shard(data, file, list(own))
    left_out = [entry.name for entry in entries if entry.dtype not in DTYPES]
    notes = left_out_note(left_out)
    return Archive("tf-bundle", dict(sorted(tensors.items())), notes=notes, files=tuple(files))


def tf_bundle(tensors: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
    """A checkpoint of one shard: the contents of PREFIX.index and PREFIX.data-00000-of-00001.

    The bytes are those that TensorFlow writes for variables in order of their names, as long as the
    index is shorter than 256 KiB, where it would begin another block.

    Raises:
        InputError: no tensors, or one with a name or dtype that a checkpoint cannot have.
    """
    check(bool(tensors), "tensors: expected at least one, got none")
    check_tensors(tensors, "iuf", "bfloat16")
    numbers = {dtype: number for number, dtype in DTYPES.items()}
    header = _field(1, 1) + _field(3, _field(1, 1))
    entries, pieces, offset = [(b"", header)], [], 0
    for key, array in sorted((name.encode(), array) for name, array in tensors.items()):
        number = numbers.get(array.dtype.name)
        if number is None:
            expected = ", ".join(numbers)
            raise InputError(f"{key.decode()}: expected one of {expected}, got {array.dtype}")
        raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        shape = b"".join(_field(2, _field(1, size)) for size in array.shape)
        entry = _field(1, number) + _field(2, shape) + _field(4, offset) + _field(5, len(raw))
        crc = b"\x35" + masked(crc32c(raw)).to_bytes(4, "little")
        entries.append((key, entry + crc))
        pieces.append(raw)
        offset += len(raw)
    return table_of(entries), b"".join(pieces)


def _field(number: int, value: int | bytes) -> bytes:
    """A field of a message; one with the number 0 is left out, as protobuf does."""
    if isinstance(value, int):
        return varint_of(number << 3) + varint_of(value) if value else b""
    return varint_of(number << 3 | 2) + varint_of(len(value)) + value


@dataclass(frozen=True)
class _Message:
    """Fields of a protobuf message, by number."""

    integers: dict[int, int]
    parts: dict[int, list[bytes]]

    @classmethod
    def of(cls, data: bytes) -> "_Message":
        message, at = cls({}, {}), 0
        while at < len(data):
            tag, at = varint(data, at)
            number, wire = tag >> 3, tag & 7
            if wire == 0:
                message.integers[number], at = varint(data, at)
                continue
            check(wire in (1, 2, 5), f"a field has an unknown wire type {wire}; {REMEDY}")
            size, at = varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            check(size <= len(data) - at, f"a field reaches beyond its message; {REMEDY}")
            part, at = data[at : at + size], at + size
            if wire == 2:
                message.parts.setdefault(number, []).append(part)
            else:
                message.integers[number] = int.from_bytes(part, "little")
        return message

    def integer(self, number: int) -> int:
        """The value of a field, signed; 0 if it is not there."""
        value = self.integers.get(number, 0)
        return value - (1 << 64) if value >> 63 else value


@dataclass(frozen=True)
class _Entry:
    """Where a tensor is, and what."""

    name: str
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def _parse_index(path: Path, table: bytes) -> tuple[int, list[_Entry]]:
    """The number of shards, and all tensors."""
    messages = {key: _Message.of(value) for key, value in read_table(path, table).items()}
    check(b"" in messages, f"lacks the entry that says how many shards there are; {REMEDY}")
    header = messages.pop(b"")
    shards = header.integer(1)
    check(header.integer(2) == 0, "is big-endian, which is not implemented; save it elsewhere")
    check(0 < shards < 100_000, f"expected 1 to 99,999 shards, got {shards}; {REMEDY}")
    sliced = next((key for key, message in messages.items() if 7 in message.parts), b"")
    check(
        not sliced,
        f"{sliced.decode(errors='replace')!r}: saved in slices (a partitioned variable), which is"
        " not implemented; save it without a partitioner",
    )
    entries = []
    for key, message in messages.items():
        name = key.decode(errors="replace")
        check(name.encode() == key, f"the name {name!r} is not UTF-8; {REMEDY}")
        check_name(path, name)
        shape = _Message.of(b"".join(message.parts.get(2, [])))
        sizes = tuple(_Message.of(part).integer(1) for part in shape.parts.get(2, []))
        dtype, shard, offset, size, crc = (message.integer(n) for n in (1, 3, 4, 5, 6))
        check(
            0 <= shard < shards and min(offset, size) >= 0,
            f"{name}: expected one of {shards} shards, an offset and a size, got"
            f" {shard}, {offset}, {size}; {REMEDY}",
        )
        entries.append(_Entry(name, dtype, sizes, shard, offset, size, crc))
    return shards, entries


def _read_shard(path: Path, file: BinaryIO, entries: list[_Entry]) -> dict[str, np.ndarray]:
    """The tensors of one shard, each verified."""
    there = file.seek(0, os.SEEK_END)
    for entry in entries:
        check(
            entry.offset + entry.size <= there,
            f"{entry.name}: expected {entry.size:,} bytes at {entry.offset:,}, got a file of"
            f" {there:,}; is it truncated?",
        )
    total = sum(entry.size for entry in entries)
    check(total <= there, f"tensors of {total:,} bytes overlap in a file of {there:,}; {REMEDY}")
    tensors = {}
    for entry in entries:
        file.seek(entry.offset)
        raw = file.read(entry.size)
        check(
            masked(crc32c(raw)) == entry.crc,
            f"{entry.name}: its bytes do not have the CRC-32C that the index says; {REMEDY}",
        )
        dtype = _dtype(DTYPES[entry.dtype])
        tensors[entry.name] = tensor(path, entry.name, raw, dtype, entry.shape)
    return tensors


def _dtype(name: str) -> np.dtype:
    if name != "bfloat16":
        return np.dtype(name).newbyteorder("<")
    try:
        import ml_dtypes
    except ImportError as error:
        raise InputError(
            "bfloat16 needs the package ml_dtypes; pip install 'numpy-lstm[porting]'"
        ) from error
    return np.dtype(ml_dtypes.bfloat16)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong is wrong with this file."""
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
