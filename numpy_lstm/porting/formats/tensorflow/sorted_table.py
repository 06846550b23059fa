"""Sorted tables of names and values in LevelDB's format, every block with its sum.

Source: table_format.md of LevelDB.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.checks import check_declared
from numpy_lstm.porting.formats.tensorflow.checkpoint_files import INDEX_ENDS_WITH

FOOTER = 48
"""Bytes at the end of a table: two handles, filled up to 40, and the magic number."""
TRAILER = 5
"""Bytes after a block: how it is compressed, and a sum."""
RESTART_INTERVAL = 16
"""Entries of a block from one whole key to the next."""
REMEDY = "copy or download the checkpoint again"


def masked_checksum(data: bytes) -> int:
    """CRC-32C as LevelDB stores it: rotated and moved, since a sum of data that holds its own sum
    is constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise InputError(f"ends inside a number; {REMEDY}")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            break
    if value >= 1 << 64 or data[at - 1] >= 0x80:
        raise InputError(f"a number exceeds 64 bits; {REMEDY}")
    return value, at


def varint_of(value: int) -> bytes:
    """The bytes of a number, seven bits each, the lowest first."""
    low, high = value & 0x7F, value >> 7
    if high:
        return bytes([low | 0x80]) + varint_of(high)
    return bytes([low])


# --- reading ------------------------------------------------------------------------------------


def read_table(path: Path, table: bytes) -> dict[bytes, bytes]:
    """All entries of a table, in order."""
    if len(table) < FOOTER or not table.endswith(INDEX_ENDS_WITH):
        raise InputError(
            "expected the index of a TensorFlow checkpoint (version 2), which ends with its magic"
            f" number; {REMEDY}"
        )
    at, handles = len(table) - FOOTER, []
    for _ in range(4):
        value, at = varint(table, at)
        handles.append(value)
    _block(table, *handles[:2])
    entries: dict[bytes, bytes] = {}
    last, declared = None, 0
    for _, handle in _entries(_block(table, *handles[2:])):
        offset, at = varint(handle, 0)
        size, _ = varint(handle, at)
        for key, value in _entries(_block(table, offset, size)):
            if last is not None and key <= last:
                raise InputError(f"its names are not in order; {REMEDY}")
            declared += len(key)
            check_declared(path, declared, len(table))
            entries[key] = value
            last = key
    return entries


def _block(table: bytes, offset: int, size: int) -> bytes:
    """The content of a block, verified."""
    end = offset + size
    if end > len(table) - FOOTER - TRAILER:
        raise InputError(
            f"a block of {size:,} bytes at {offset:,} reaches beyond the file's end; {REMEDY}"
        )
    stored = int.from_bytes(table[end + 1 : end + TRAILER], "little")
    if masked_checksum(table[offset : end + 1]) != stored:
        raise InputError(
            f"the block at byte {offset:,} does not have the CRC-32C that stands after it; {REMEDY}"
        )
    if table[end] != 0:
        raise InputError(
            f"the block at byte {offset:,} is compressed (kind {table[end]}; 1 is snappy), which is"
            " not implemented; save the checkpoint with TensorFlow again, which does not compress"
        )
    return table[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; a key says how many bytes it shares with the one before."""
    restarts = int.from_bytes(block[-4:], "little")
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    if len(block) < 4 or end < 0:
        raise InputError(f"a block is shorter than its own list; {REMEDY}")
    while at < end:
        shared, at = varint(block, at)
        rest, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or rest + size > end - at:
            raise InputError(
                f"an entry after {key.decode(errors='replace')!r} reaches beyond its block;"
                f" {REMEDY}"
            )
        key = key[:shared] + block[at : at + rest]
        at += rest
        yield key, block[at : at + size]
        at += size


# --- writing ------------------------------------------------------------------------------------


def table_of(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A table of one block of data, as TensorFlow's own writer lays it out."""
    data, no_statistics = block_of(entries), block_of([])
    table = with_trailer(data)
    statistics_handle = varint_of(len(table)) + varint_of(len(no_statistics))
    table += with_trailer(no_statistics)
    data_handle = varint_of(0) + varint_of(len(data))
    index = block_of([(_short_key_above(entries[-1][0]), data_handle)])
    index_handle = varint_of(len(table)) + varint_of(len(index))
    handles = (statistics_handle + index_handle).ljust(FOOTER - len(INDEX_ENDS_WITH), b"\0")
    return table + with_trailer(index) + handles + INDEX_ENDS_WITH


def _short_key_above(key: bytes) -> bytes:
    """A key that is not below this one, as short as can be: the first byte that can be is raised
    by one, and all after it go."""
    for k, byte in enumerate(key):
        if byte != 0xFF:
            return key[:k] + bytes([byte + 1])
    return key


def block_of(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block: entries that share the beginning of the key before, and where they begin anew."""
    block, restarts, last = b"", [0], b""
    for k, (key, value) in enumerate(entries):
        if k and k % RESTART_INTERVAL == 0:
            restarts.append(len(block))
            last = b""
        differs = (n for n, (a, b) in enumerate(zip(last, key, strict=False)) if a != b)
        shared = next(differs, min(len(last), len(key)))
        sizes = (shared, len(key) - shared, len(value))
        block += b"".join(map(varint_of, sizes)) + key[shared:] + value
        last = key
    return block + b"".join(n.to_bytes(4, "little") for n in (*restarts, len(restarts)))


def with_trailer(block: bytes) -> bytes:
    """A block as it lies in the file: not compressed, with its sum."""
    return block + b"\0" + masked_checksum(block + b"\0").to_bytes(4, "little")
