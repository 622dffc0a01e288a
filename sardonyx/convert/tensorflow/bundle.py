"""TensorFlow's tensor bundles: an index, which is a table of LevelDB, and data files. All checksums are checked.

The formats: tensorflow/core/util/tensor_bundle, tensorflow/core/lib/io/table_format.txt, snappy's
format_description.txt, and `ordered_code` for the names of slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.reading.cursor import Cursor
from sardonyx.convert.tensorflow.checksum import masked
from sardonyx.convert.tensorflow.schema import schema
from sardonyx.convert.tensorflow.tensors import D, data_type, numpy_type
from sardonyx.errors import ConversionError, ModelFileError

Array = np.ndarray[Any, Any]

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
RATIO = 64
"""Snappy makes at most 64 bytes of 3, so a block that claims more is damaged."""


class Bundle:
    """The tensors of a checkpoint by name, read when they are asked for."""

    def __init__(self, prefix: Path, name: str) -> None:
        """The files are `name.index` and `name.data-*` in the folder `prefix`; `name` may be empty.

        Raises ModelFileError when the index is missing or damaged.
        """
        self._folder, self._name = prefix, name
        index = prefix / f"{name}.index"
        self.where = str(index)
        try:
            data = index.read_bytes()
        except OSError as error:
            raise ModelFileError("the checkpoint has no index", where=self.where, got=error.strerror) from error
        self._entries = dict(_table(data, self.where))
        header = schema().parse(self._entries.pop(b"", b""), "BundleHeaderProto", self.where)
        if header.endianness:
            raise ConversionError("the checkpoint's numbers are big-endian", where=self.where)
        self._shards = header.num_shards

    def names(self) -> list[str]:
        """The names of the tensors, without slices."""
        return [key.decode(errors="replace") for key in self._entries if not key.startswith(b"\0")]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.encode() in self._entries

    def read(self, name: str, only: str = "") -> Array:
        """A tensor, or the part of it that `only` tells as in "8 4 0,4:-". Raises ModelFileError."""
        where = f"{self.where}: {name}"
        entry = self._entry(name.encode(), where)
        whole = self._whole(name, entry, where) if len(entry.slices) else self._elements(entry, where)
        return whole[_part(only, whole.shape, where)] if only else whole

    def _entry(self, key: bytes, where: str) -> Any:
        if key not in self._entries:
            raise ModelFileError("the checkpoint lacks a tensor", where=where)
        return schema().parse(self._entries[key], "BundleEntryProto", where)

    def _whole(self, name: str, entry: Any, where: str) -> Array:
        """A variable that was saved in parts."""
        shape, kind = _shape(entry, where), data_type(entry.dtype)
        if math.prod(shape) * max(kind.itemsize, 1) > self._size():
            raise ModelFileError("a tensor is larger than the checkpoint", where=where, got=str(shape))
        result = np.zeros(shape, numpy_type(kind))
        filled = 0
        for item in entry.slices:
            extents = [(extent.start, extent.length if extent.HasField("length") else -1) for extent in item.extent]
            part = self._elements(self._entry(_slice_key(name.encode(), extents), where), where)
            place = tuple(slice(s, None if n == -1 else s + n) for s, n in extents)
            if len(place) > len(shape) or any(s < 0 for s, _ in extents) or result[place].shape != part.shape:
                raise ModelFileError("a part of a tensor does not fit it", where=where, got=str(extents))
            result[place] = part
            filled += part.size
        if filled != result.size:
            raise ModelFileError("the parts of a tensor are not all of it", where=where)
        return result

    def _size(self) -> int:
        return sum(self._size_of(self._shard(i)) for i in range(self._shards))

    @staticmethod
    def _size_of(path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError as error:
            raise ModelFileError("the checkpoint lacks a data file", where=str(path), got=error.strerror) from error

    def _shard(self, number: int) -> Path:
        return self._folder / f"{self._name}.data-{number:05d}-of-{self._shards:05d}"

    def _elements(self, entry: Any, where: str) -> Array:
        shape, kind = _shape(entry, where), data_type(entry.dtype)
        if not 0 <= entry.shard_id < self._shards or entry.offset < 0 or entry.size < 0:
            raise ModelFileError("a tensor is in no file of the checkpoint", where=where)
        path = self._shard(entry.shard_id)
        try:
            with path.open("rb") as file:
                if entry.offset + entry.size > path.stat().st_size:
                    raise ModelFileError(
                        "the checkpoint's data file is too short", where=f"{path}", fix="fetch it again"
                    )
                file.seek(entry.offset)
                data = file.read(entry.size)
        except OSError as error:
            raise ModelFileError("the checkpoint lacks a data file", where=str(path), got=error.strerror) from error
        if kind == D.STRING:
            return _texts(data, math.prod(shape), where).reshape(shape)
        if kind == D.UNDEFINED:
            raise ConversionError("a tensor has a type that ONNX has none for", where=where, got=f"type {entry.dtype}")
        if masked(data) != entry.crc32c:
            raise ModelFileError("the checksum of a tensor is wrong", where=where, fix="fetch the checkpoint again")
        dtype = numpy_type(kind)
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ModelFileError("a tensor's bytes do not fit its shape", where=where, got=f"{len(data):,} for {shape}")
        return np.frombuffer(data, dtype).reshape(shape)


def _shape(entry: Any, where: str) -> list[int]:
    shape = [dim.size for dim in entry.shape.dim]
    if any(dim < 0 for dim in shape):
        raise ModelFileError("a tensor has open dims", where=where, got=str(shape))
    return shape


def _texts(data: bytes, count: int, where: str) -> Array:
    """Lengths as varints, their checksum, then the bytes."""
    cursor = Cursor(data, where)
    if count > len(data):
        raise ModelFileError("a tensor's texts do not fit its shape", where=where)
    lengths = [_varint(cursor) for _ in range(count)]
    cursor.take(4)
    items = np.empty(count, object)
    for i, length in enumerate(lengths):
        items[i] = bytes(cursor.take(length))
    return items


def _part(only: str, shape: Sequence[int], where: str) -> tuple[slice, ...]:
    """ "8 4 0,4:-": the whole shape, then the part over each axis."""
    try:
        pieces = only.rsplit(" ", maxsplit=1)[-1].split(":")
        bounds = [None if piece == "-" else tuple(map(int, piece.split(","))) for piece in pieces]
        if len(bounds) != len(shape):
            raise ValueError(only)
        return tuple(slice(None) if b is None else slice(b[0], b[0] + b[1]) for b in bounds)
    except (ValueError, IndexError) as error:
        raise ModelFileError("the graph asks for a part of a tensor that it has not", where=where, got=only) from error


# The index ------------------------------------------------------------------------------------------------------------


def _table(data: bytes, where: str) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table."""
    if len(data) < FOOTER:
        raise ModelFileError("the checkpoint's index is too short", where=where, fix="fetch it again")
    footer = Cursor(data[-FOOTER:], where)
    _handle(footer)
    index = _handle(footer)
    if int.from_bytes(data[-8:], "little") != MAGIC:
        raise ModelFileError(
            "the checkpoint's index is none", where=where, expected="a table's magic number at its end"
        )
    for _, handle in _block(data, index, where):
        yield from _block(data, _handle(Cursor(handle, where)), where)


def _handle(cursor: Cursor) -> tuple[int, int]:
    return _varint(cursor), _varint(cursor)


def _varint(cursor: Cursor) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = cursor.take(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ModelFileError("a number is too long", where=cursor.where)


def _block(data: bytes, handle: tuple[int, int], where: str) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    if offset + size + 5 > len(data):
        raise ModelFileError("a block lies outside the checkpoint's index", where=where, fix="fetch it again")
    stored, kind = data[offset : offset + size], data[offset + size]
    if masked(data[offset : offset + size + 1]) != int.from_bytes(
        data[offset + size + 1 : offset + size + 5], "little"
    ):
        raise ModelFileError("the checksum of the checkpoint's index is wrong", where=where, fix="fetch it again")
    if kind not in (0, 1):
        raise ModelFileError("a block of the checkpoint's index is compressed unknown", where=where, got=str(kind))
    content = unsnap(stored, where) if kind else stored
    if len(content) < 4:
        raise ModelFileError("a block of the checkpoint's index is empty", where=where)
    end = len(content) - 4 - 4 * int.from_bytes(content[-4:], "little")
    if end < 0:
        raise ModelFileError("a block of the checkpoint's index is damaged", where=where)
    cursor, key = Cursor(content[:end], where), b""
    while cursor.left:
        shared, fresh, length = _varint(cursor), _varint(cursor), _varint(cursor)
        if shared > len(key):
            raise ModelFileError("a key of the checkpoint's index is damaged", where=where)
        key = key[:shared] + bytes(cursor.take(fresh))
        yield key, bytes(cursor.take(length))


def unsnap(data: bytes, where: str) -> bytes:
    """What snappy made `data` of. Raises ModelFileError when it is damaged, before it grows beyond what it claims."""
    cursor = Cursor(data, where)
    size = _varint(cursor)
    if size > RATIO * len(data):
        raise ModelFileError("a compressed block claims too much", where=where, got=f"{size:,} bytes of {len(data):,}")
    out = bytearray()
    while cursor.left:
        tag = cursor.take(1)[0]
        if tag & 3 == 0:
            length = (tag >> 2) + 1
            if length > 60:
                length = int.from_bytes(cursor.take(length - 60), "little") + 1
            out += cursor.take(length)
        else:
            length, back = _copy(tag, cursor)
            if not 0 < back <= len(out):
                raise ModelFileError("a compressed block refers to before its start", where=where)
            start = len(out) - back
            # It may read what it writes.
            pattern = bytes(out[start : start + length])
            out += (pattern * (-(-length // len(pattern))))[:length]
        if len(out) > size:
            break
    if len(out) != size:
        raise ModelFileError(
            "a compressed block is damaged", where=where, expected=f"{size:,} bytes", got=f"{len(out):,}"
        )
    return bytes(out)


def _copy(tag: int, cursor: Cursor) -> tuple[int, int]:
    """Length and distance of a copy."""
    if tag & 3 == 1:
        return (tag >> 2 & 7) + 4, (tag >> 5) << 8 | cursor.take(1)[0]
    return (tag >> 2) + 1, int.from_bytes(cursor.take(2 if tag & 3 == 2 else 4), "little")


# Keys of slices -------------------------------------------------------------------------------------------------------


_ESCAPED = {0: b"\0\xff", 255: b"\xff\0"}
_LENGTHS = (b"", b"\x80", b"\xc0", b"\xe0", b"\xf0", b"\xf8", b"\xfc", b"\xfe", b"\xff\0", b"\xff\x80", b"\xff\xc0")


def _slice_key(name: bytes, extents: Sequence[tuple[int, int]]) -> bytes:
    """The key of a part of a tensor, as `checkpoint::EncodeTensorNameSlice` makes it."""
    text = b"".join(_ESCAPED.get(byte, bytes([byte])) for byte in name)
    key = _ordered(0) + text + b"\0\x01" + _ordered(len(extents))
    return key + b"".join(_signed(start) + _signed(length) for start, length in extents)


def _ordered(value: int) -> bytes:
    content = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(content)]) + content


def _signed(value: int) -> bytes:
    magnitude = ~value if value < 0 else value
    length = next(n for n in range(1, 11) if magnitude < 1 << (7 * n - 1))
    content = bytearray(value.to_bytes(10, "big", signed=True)[10 - length :])
    bits = _LENGTHS[length]
    for i, bit in enumerate(bits):
        content[i] ^= bit
    return bytes(content)
