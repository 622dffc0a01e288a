"""CRC-32C, as TensorFlow stores it. Many stretches of the bytes at a time, by NumPy, then joined."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

POLYNOMIAL = 0x82F63B78
STRETCH = 1024
"""Bytes that are gone through one after the other."""


def _make_table() -> Array:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ POLYNOMIAL, table >> 1).astype(np.uint32)
    return table


_TABLE = _make_table()


def crc32c(data: bytes) -> int:
    """The checksum of `data`."""
    if len(data) < 4:
        short = 0xFFFFFFFF
        for byte in data:
            short = int(_TABLE[(short ^ byte) & 255]) ^ short >> 8
        return short ^ 0xFFFFFFFF
    # With a state of zero at the start, zeros before the data change nothing; the real start is in its first bytes.
    stretches = 1 << max(0, (len(data) - 1) // STRETCH).bit_length()
    length = -(-len(data) // stretches)
    padded = np.zeros(stretches * length, np.uint8)
    padded[-len(data) :] = np.frombuffer(data, np.uint8)
    padded[-len(data) : padded.size - len(data) + 4] ^= 255
    columns = np.ascontiguousarray(padded.reshape(stretches, length).T)
    state = np.zeros(stretches, np.uint32)
    for column in columns:
        state = _TABLE[(state ^ column) & 255] ^ state >> 8
    shift = _zeros(length)
    while state.size > 1:
        state = _apply(shift, state[::2]) ^ state[1::2]
        shift = _apply(shift, shift)
    return int(state[0]) ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """The checksum as it is stored: turned, and with a constant added."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def _zeros(count: int) -> Array:
    """What `count` bytes of zero make of each bit of a state."""
    state = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(count):
        state = _TABLE[state & 255] ^ state >> 8
    return state


def _apply(matrix: Array, state: Array) -> Array:
    """The states that `matrix`, a state for each bit, makes of these."""
    result = np.zeros_like(state)
    for bit in range(32):
        result ^= np.where(state >> np.uint32(bit) & 1, matrix[bit], np.uint32(0))
    return result
