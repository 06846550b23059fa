"""Ways to damage a file, at random."""

import io
import zipfile
from collections.abc import Callable

import numpy as np

from parity_tests.campaigns.corruption.samples import Sample, zip_of


def _chunk(rng: np.random.Generator, data: bytes) -> tuple[int, int]:
    """Begin and end of a random part, short or long."""
    size = int(np.exp(rng.uniform(0, np.log(max(2, len(data))))))
    begin = int(rng.integers(0, max(1, len(data) - size)))
    return begin, begin + size


def flip_bits(rng: np.random.Generator, data: bytes) -> bytes:
    """One bit, or a few."""
    array = np.frombuffer(data, np.uint8).copy()
    for _ in range(int(rng.choice([1, 1, 2, 8]))):
        array[rng.integers(len(array))] ^= 1 << int(rng.integers(8))
    return array.tobytes()


def truncate(rng: np.random.Generator, data: bytes) -> bytes:
    """At the end, or, more seldom, at the beginning."""
    at = int(rng.integers(len(data)))
    return data[:at] if rng.random() < 0.8 else data[at:]


def duplicate(rng: np.random.Generator, data: bytes) -> bytes:
    """The data with a random part twice."""
    begin, end = _chunk(rng, data)
    return data[:end] + data[begin:]


def remove(rng: np.random.Generator, data: bytes) -> bytes:
    """The data without a random part."""
    begin, end = _chunk(rng, data)
    return data[:begin] + data[end:]


def move(rng: np.random.Generator, data: bytes) -> bytes:
    """The data with a random part moved elsewhere."""
    begin, end = _chunk(rng, data)
    rest = data[:begin] + data[end:]
    at = int(rng.integers(len(rest) + 1))
    return rest[:at] + data[begin:end] + rest[at:]


def overwrite(rng: np.random.Generator, data: bytes) -> bytes:
    """A part by zeros, ones or noise, as a lost block of a disk."""
    begin, end = _chunk(rng, data)
    filling = [bytes(end - begin), b"\xff" * (end - begin), rng.bytes(end - begin)]
    return data[:begin] + filling[int(rng.integers(3))] + data[end:]


def edit_number(rng: np.random.Generator, data: bytes) -> bytes:
    """A binary number by an extreme one, at a small offset as often as at a large one."""
    values = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, 1 << 62)
    value, size = int(rng.choice(values)), int(rng.choice([1, 2, 4, 8]))
    at = int(np.exp(rng.uniform(0, np.log(max(2, len(data)))))) - 1
    number = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    return data[:at] + number + data[at + size :]


def edit_text(rng: np.random.Generator, data: bytes) -> bytes:
    """A digit or letter of a header by another, or by several."""
    text = [k for k, byte in enumerate(data[:4096]) if chr(byte).isalnum() and byte < 128]
    if not text:
        return flip_bits(rng, data)
    at = int(rng.choice(text))
    if chr(data[at]).isdigit():
        other = str(rng.choice(["0", "1", "9", "-1", "99999", "4294967296", "1e9", "9" * 30]))
    else:
        other = str(rng.choice([*"abFOUVz.", "\\", "/", '"', "[", "{", "\0"]))
    return data[:at] + other.encode() + data[at + 1 :]


DAMAGES = (flip_bits, truncate, duplicate, remove, move, overwrite, edit_number, edit_text)


def damaged(rng: np.random.Generator, sample: Sample) -> tuple[str, dict[str, bytes], bool]:
    """One of a sample's files damaged.

    Returns:
        What was done; all files; whether a checksum should tell.
    """
    name = str(rng.choice(list(sample.files)))
    data, damage = sample.files[name], DAMAGES[int(rng.integers(len(DAMAGES)))]
    if sample.checked and rng.random() < 0.4:
        new = resealed(rng, name, data, damage)
        return f"{damage.__name__} within {name}, resealed", {**sample.files, name: new}, False
    return f"{damage.__name__} {name}", {**sample.files, name: damage(rng, data)}, sample.checked


def resealed(
    rng: np.random.Generator,
    name: str,
    data: bytes,
    damage: Callable[[np.random.Generator, bytes], bytes],
) -> bytes:
    """Damage what a checksum covers, and put the checksum right, as who means harm would."""
    if name.endswith(".index"):
        from pathlib import Path

        from numpy_lstm.porting.formats.tensorflow import sorted_table

        table = sorted_table.read_table(Path(name), data)
        key = list(table)[int(rng.integers(len(table)))]
        if rng.random() < 0.7:
            table[key] = damage(rng, table[key]) if table[key] else b"\1"
        else:
            table[damage(rng, key) if key else b"k"] = table.pop(key)
        return sorted_table.table_of(sorted(table.items()))
    if ".data-" in name:
        return damage(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        compression = archive.infolist()[0].compress_type
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    member = str(rng.choice([n for n, content in members.items() if content]))
    return zip_of(members | {member: damage(rng, members[member])}, compression)
