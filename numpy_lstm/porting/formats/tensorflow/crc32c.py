"""CRC-32C, the sum that TensorFlow's checkpoints carry (RFC 3720, appendix B.4)."""

from math import isqrt

import numpy as np


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


def masked(crc: int) -> int:
    """LevelDB stores sums rotated and moved, since a sum of data that holds its own is constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
