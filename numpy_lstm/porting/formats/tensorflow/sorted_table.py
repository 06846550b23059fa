"""Sorted tables of names and values in LevelDB's format, every block with its sum.

Source: table_format.md of LevelDB.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from numpy_lstm.errors import check
from numpy_lstm.porting.formats.archive import check_declared
from numpy_lstm.porting.formats.tensorflow.crc32c import crc32c, masked

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48
"""Bytes at the end of a table: two handles, filled up to 40, and the magic number."""
TRAILER = 5
"""Bytes after a block: how it is compressed, and a sum."""
RESTART_INTERVAL = 16
"""Entries of a block from one whole key to the next."""
REMEDY = "copy or download the checkpoint again"


def varint(data: bytes, at: int) -> tuple[int, int]:
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


def varint_of(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint_of(high) if high else bytes([low])


def _block(table: bytes, offset: int, size: int) -> bytes:
    """The contents of a block, verified."""
    end = offset + size
    check(
        end <= len(table) - FOOTER - TRAILER,
        f"a block of {size:,} bytes at {offset:,} reaches beyond the file's end; {REMEDY}",
    )
    stored = int.from_bytes(table[end + 1 : end + TRAILER], "little")
    check(
        masked(crc32c(table[offset : end + 1])) == stored,
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
        shared, at = varint(block, at)
        own, at = varint(block, at)
        size, at = varint(block, at)
        check(
            shared <= len(key) and own + size <= end - at,
            f"an entry after {key.decode(errors='replace')!r} reaches beyond its block; {REMEDY}",
        )
        key, at = key[:shared] + block[at : at + own], at + own
        yield key, block[at : at + size]
        at += size


def read_table(path: Path, table: bytes) -> dict[bytes, bytes]:
    """All entries of a table, in order."""
    check(
        len(table) >= FOOTER and table.endswith(MAGIC),
        "expected the index of a TensorFlow checkpoint (version 2), which ends with its magic"
        f" number; {REMEDY}",
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
        for key, value in _entries(_block(table, offset, varint(handle, at)[0])):
            check(last is None or key > last, f"its names are not in order; {REMEDY}")
            declared += len(key)
            check_declared(path, declared, len(table))
            entries[key], last = value, key
    return entries


def table_of(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A table of one block of data, as TensorFlow's own writer lays it out."""
    table, handles = b"", []
    # A key that is not below the last one of the block, as short as can be: some byte one up.
    last = entries[-1][0]
    k = next((k for k, byte in enumerate(last) if byte != 0xFF), None)
    above = last if k is None else last[:k] + bytes([last[k] + 1])
    for block in (block_of(entries), block_of([])):
        handles.append(varint_of(len(table)) + varint_of(len(block)))
        table += with_trailer(block)
    block = block_of([(above, handles[0])])
    handles.append(varint_of(len(table)) + varint_of(len(block)))
    footer = (handles[1] + handles[2]).ljust(FOOTER - len(MAGIC), b"\0") + MAGIC
    return table + with_trailer(block) + footer


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
    return block + b"\0" + masked(crc32c(block + b"\0")).to_bytes(4, "little")
