"""TensorFlow's checkpoints (version 2), read and written without TensorFlow.

A checkpoint PREFIX is PREFIX.index, a table of names in LevelDB's format whose values are protobuf
messages, and PREFIX.data-00000-of-00001 and so on, the tensors' bytes. Both carry CRC-32C sums, and
all of them are verified.

Sources: table_format.md of LevelDB; tensor_bundle.proto, tensor_shape.proto and types.proto of
TensorFlow; "Encoding" in protobuf's documentation.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from math import isqrt
from pathlib import Path
from typing import BinaryIO

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.porting.archive import Archive, check_declared
from numpy_lstm.porting.file_checks import (
    check_is_file,
    check_name,
    check_tensors,
    left_out_note,
    tensor,
)

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48
"""Bytes at the end of a table: two handles, filled up to 40, and the magic number."""
TRAILER = 5
"""Bytes after a block: how it is compressed, and a sum."""
RESTART_INTERVAL = 16
"""Entries of a block from one whole key to the next."""
DTYPES = {1: "float32", 2: "float64", 14: "bfloat16", 19: "float16"} | {
    **{3: "int32", 4: "uint8", 5: "int16", 6: "int8", 9: "int64"},
    **{17: "uint16", 22: "uint32", 23: "uint64"},
}
"""What is read, by TensorFlow's number of it."""
REMEDY = "copy or download the checkpoint again"


def read_tf_bundle(path: Path) -> Archive:
    """Read a checkpoint; tensors have TensorFlow's names, those that are no numbers are noted.

    Args:
        path: the .index file, a .data file, or what the names of both begin with.

    Raises:
        InputError: a file is missing, truncated or damaged, or has what is not implemented: blocks
            compressed with snappy, variables in slices, big-endian bytes.
    """
    prefix = re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", path.name)
    index = path.parent / f"{prefix}.index"
    with _opened(index) as file, _named(index):
        shards, entries = _parse_index(index, file.read())
    known = sorted((e for e in entries if e.dtype in DTYPES), key=lambda e: e.shard)
    tensors: dict[str, np.ndarray] = {}
    for shard, own in groupby(known, lambda entry: entry.shard):
        data = path.parent / f"{prefix}.data-{shard:05}-of-{shards:05}"
        with _opened(data) as file, _named(data):
            tensors |= _read_shard(data, file, list(own))
    left_out = [entry.name for entry in entries if entry.dtype not in DTYPES]
    return Archive("tf-bundle", dict(sorted(tensors.items())), notes=left_out_note(left_out))


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
        crc = b"\x35" + _masked(crc32c(raw)).to_bytes(4, "little")
        entries.append((key, entry + crc))
        pieces.append(raw)
        offset += len(raw)
    return _table_of(entries), b"".join(pieces)


# --- the sum ----------------------------------------------------------------------------------


def _crc_table() -> np.ndarray:
    """What eight steps do to each value of the lowest byte; Castagnoli's polynomial, reflected."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    return table


CRC_TABLE = _crc_table()


def crc32c(data: bytes | bytearray) -> int:
    """CRC-32C of bytes.

    The sum is linear over GF(2): that of a whole follows from those of its pieces, each begun at a
    state of zero, and from what as many zero bytes as a piece is long do to each bit of a state.
    One pass over all pieces side by side finds both. Zeros before the message leave a state of zero
    alone, so that the first piece can be filled up; to begin at all ones, as one must, is the same
    as to invert the first four bytes.
    """
    message = np.frombuffer(data, np.uint8)
    if len(message) < 64:
        crc = 0xFFFFFFFF
        for byte in message.tolist():
            crc = int(CRC_TABLE[(crc ^ byte) & 0xFF]) ^ crc >> 8
        return crc ^ 0xFFFFFFFF
    size = isqrt(len(message))
    pieces = -(-len(message) // size)
    filled = np.zeros(pieces * size, np.uint8)
    start = len(filled) - len(message)
    filled[start:] = message
    filled[start : start + 4] ^= 0xFF
    columns = np.zeros((size, pieces + 32), np.uint8)
    columns[:, :pieces] = filled.reshape(pieces, size).T
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    state = np.concatenate([np.zeros(pieces, np.uint32), bits])
    for column in columns:
        state = CRC_TABLE[state.astype(np.uint8) ^ column] ^ state >> 8
    sums, moved = state[:pieces].tolist(), state[pieces:].tolist()
    crc = 0
    for piece in sums:
        for bit, image in enumerate(moved):
            if crc >> bit & 1:
                piece ^= image
        crc = piece
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """LevelDB stores sums rotated and moved, since a sum of data that holds its own is constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# --- numbers and messages ---------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        check(at < len(data), f"ends inside a number; {REMEDY}")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            break
    check(value < 1 << 64 and data[at - 1] < 0x80, f"a number exceeds 64 bits; {REMEDY}")
    return value, at


def _varint_of(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint_of(high) if high else bytes([low])


def _field(number: int, value: int | bytes) -> bytes:
    """A field of a message; one with the number 0 is left out, as protobuf does."""
    if isinstance(value, int):
        return _varint_of(number << 3) + _varint_of(value) if value else b""
    return _varint_of(number << 3 | 2) + _varint_of(len(value)) + value


@dataclass(frozen=True)
class _Message:
    """Fields of a protobuf message, by number."""

    integers: dict[int, int]
    parts: dict[int, list[bytes]]

    @classmethod
    def of(cls, data: bytes) -> "_Message":
        message, at = cls({}, {}), 0
        while at < len(data):
            tag, at = _varint(data, at)
            number, wire = tag >> 3, tag & 7
            if wire == 0:
                message.integers[number], at = _varint(data, at)
                continue
            check(wire in (1, 2, 5), f"a field has an unknown wire type {wire}; {REMEDY}")
            size, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
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


# --- the table --------------------------------------------------------------------------------


def _block(table: bytes, offset: int, size: int) -> bytes:
    """The contents of a block, verified."""
    end = offset + size
    check(
        end <= len(table) - FOOTER - TRAILER,
        f"a block of {size:,} bytes at {offset:,} reaches beyond the file's end; {REMEDY}",
    )
    stored = int.from_bytes(table[end + 1 : end + TRAILER], "little")
    check(
        _masked(crc32c(table[offset : end + 1])) == stored,
        f"the block at byte {offset:,} does not have the CRC-32C that stands after it; {REMEDY}",
    )
    check(
        table[end] == 0,
        f"the block at byte {offset:,} is compressed (kind {table[end]}; 1 is snappy), which is not"
        " implemented; save the checkpoint with TensorFlow again, which does not compress",
    )
    return table[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; a key says how many bytes it shares with the one before."""
    restarts = int.from_bytes(block[-4:], "little")
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    check(len(block) >= 4 and end >= 0, f"a block is shorter than its own list; {REMEDY}")
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        size, at = _varint(block, at)
        check(
            shared <= len(key) and own + size <= end - at,
            f"an entry after {key.decode(errors='replace')!r} reaches beyond its block; {REMEDY}",
        )
        key, at = key[:shared] + block[at : at + own], at + own
        yield key, block[at : at + size]
        at += size


def _table(path: Path, table: bytes) -> dict[bytes, bytes]:
    """All entries of a table, in order."""
    check(
        len(table) >= FOOTER and table.endswith(MAGIC),
        "expected the index of a TensorFlow checkpoint (version 2), which ends with its magic"
        f" number; {REMEDY}",
    )
    at, handles = len(table) - FOOTER, []
    for _ in range(4):
        value, at = _varint(table, at)
        handles.append(value)
    _block(table, *handles[:2])
    entries: dict[bytes, bytes] = {}
    last, declared = None, 0
    for _, handle in _entries(_block(table, *handles[2:])):
        offset, at = _varint(handle, 0)
        for key, value in _entries(_block(table, offset, _varint(handle, at)[0])):
            check(last is None or key > last, f"its names are not in order; {REMEDY}")
            declared += len(key)
            check_declared(path, declared, len(table))
            entries[key], last = value, key
    return entries


def _table_of(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A table of one block of data, as TensorFlow's own writer lays it out."""
    table, handles = b"", []
    # A key that is not below the last one of the block, as short as can be: some byte one up.
    last = entries[-1][0]
    k = next((k for k, byte in enumerate(last) if byte != 0xFF), None)
    above = last if k is None else last[:k] + bytes([last[k] + 1])
    for block in (_block_of(entries), _block_of([])):
        handles.append(_varint_of(len(table)) + _varint_of(len(block)))
        table += _with_trailer(block)
    block = _block_of([(above, handles[0])])
    handles.append(_varint_of(len(table)) + _varint_of(len(block)))
    footer = (handles[1] + handles[2]).ljust(FOOTER - len(MAGIC), b"\0") + MAGIC
    return table + _with_trailer(block) + footer


def _block_of(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    block, restarts, last = b"", [0], b""
    for k, (key, value) in enumerate(entries):
        if k and k % RESTART_INTERVAL == 0:
            restarts.append(len(block))
            last = b""
        differs = (n for n, (a, b) in enumerate(zip(last, key, strict=False)) if a != b)
        shared = next(differs, min(len(last), len(key)))
        sizes = (shared, len(key) - shared, len(value))
        block += b"".join(map(_varint_of, sizes)) + key[shared:] + value
        last = key
    return block + b"".join(n.to_bytes(4, "little") for n in (*restarts, len(restarts)))


def _with_trailer(block: bytes) -> bytes:
    return block + b"\0" + _masked(crc32c(block + b"\0")).to_bytes(4, "little")


# --- tensors ----------------------------------------------------------------------------------


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
    messages = {key: _Message.of(value) for key, value in _table(path, table).items()}
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
            _masked(crc32c(raw)) == entry.crc,
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
