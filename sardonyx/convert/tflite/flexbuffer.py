"""The options of custom operators: a flexbuffer that is a map of numbers (https://flatbuffers.dev/flexbuffers)."""

from __future__ import annotations

import struct

from sardonyx.errors import ModelFileError

_LETTERS = {1: "bhiq", 2: "BHIQ", 3: " efd"}  # by type, then by log2 of the width
_BOOL = 26
_MAP = 9


def numbers(data: bytes) -> dict[str, float]:
    """The numbers and booleans in a map, by key; values of other types are left out.

    Raises ModelFileError when the bytes are no map or lead out of themselves.
    """
    try:
        return _map(data)
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise ModelFileError(f"the options of a custom operator are damaged: {error}") from error


def _unsigned(data: bytes, at: int, width: int) -> int:
    if at < 0 or width not in (1, 2, 4, 8):
        raise ValueError("an offset leads out")
    return int(struct.unpack_from("<" + _LETTERS[2][width.bit_length() - 1], data, at)[0])


def _map(data: bytes) -> dict[str, float]:
    """Root: value, its packed type, its width. A map is a vector of values after that of its sorted keys."""
    root_width = data[-1]
    kind, width = data[-2] >> 2, 1 << (data[-2] & 3)
    if kind != _MAP:
        raise ValueError("no map")
    place = len(data) - 2 - root_width
    start = place - _unsigned(data, place, root_width)
    count = _unsigned(data, start - width, width)
    keys_at = start - 3 * width
    keys = keys_at - _unsigned(data, keys_at, width)
    keys_width = _unsigned(data, start - 2 * width, width)
    if count > len(data):
        raise ValueError("more entries than bytes")
    found: dict[str, float] = {}
    for i in range(count):
        at = keys + i * keys_width
        key_at = at - _unsigned(data, at, keys_width)
        end = data.index(0, max(key_at, 0))
        packed = data[start + count * width + i]
        kind, place = packed >> 2, start + i * width
        if kind in _LETTERS:
            letter = _LETTERS[kind][width.bit_length() - 1]
            found[data[key_at:end].decode()] = struct.unpack_from(f"<{letter}", data, place)[0]
        elif kind == _BOOL:
            found[data[key_at:end].decode()] = _unsigned(data, place, width)
        elif kind in (6, 7, 8):  # a number elsewhere, of its own width
            own = 1 << (packed & 3)
            target = place - _unsigned(data, place, width)
            letter = _LETTERS[kind - 5][own.bit_length() - 1]
            found[data[key_at:end].decode()] = struct.unpack_from(f"<{letter}", data, target)[0]
    return found
