"""CoreML's files: the protobuf of a model, the folder that a package is, the blobs of weights beside a program.

Blob files start with a header of 64 bytes; each blob has 64 bytes of metadata, whose place a program names, and its
data elsewhere (coremltools, mlmodel/src/MILBlob/Blob/StorageFormat.hpp).
"""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from sardonyx.convert.base import Array, Source
from sardonyx.convert.reading.cursor import Cursor
from sardonyx.errors import ConversionError, ModelFileError

_TYPES = range(1, 4000)  # numbers of fields of `Model` that name its kind
_SENTINEL = 0xDEADBEEF
_MANIFEST = "Manifest.json"
_FIX = "fetch or save the model again"

BLOB_TYPES: dict[int, Any] = {
    1: np.float16, 2: np.float32, 3: np.uint8, 4: np.int8, 5: ml_dtypes.bfloat16, 6: np.int16, 7: np.uint16,
    14: np.int32, 15: np.uint32,
}  # fmt: skip
BLOB_BITS = {8: (4, True), 9: (1, False), 10: (2, False), 11: (4, False), 12: (3, False), 13: (6, False)}
"""Types narrower than a byte: their bits, and whether they have a sign. Elements follow one another from the lowest
bit of each byte."""


def recognises(source: Source) -> bool:
    """Whether this is a package's folder or a model's file: field 1 (the version), then 2 (the description)."""
    if source.path is None:
        return False
    if source.path.is_dir():
        return (source.path / _MANIFEST).is_file() and (source.path / "Data").is_dir()
    head = source.head
    if len(head) < 6 or head[0] != 0x08 or not 1 <= head[1] <= 30:
        return False
    if head[2] != 0x12:
        return False
    # The description's first field is a feature (10 or 1), a function or the metadata (100), and its length fits.
    length, at = _varint(head, 3)
    tags = (b"\x0a", b"\x52", b"\x5a", b"\x62", b"\xa2\x06", b"\xa2\x01", b"\xaa\x01")
    inside = head[at : at + 2]
    return 0 < length <= source.path.stat().st_size - at and inside.startswith(tags) and _is_model(source, at + length)


def _is_model(source: Source, after: int) -> bool:
    """Whether behind the description comes the field of a kind of model (ONNX has field 7, 8 or 14 there)."""
    with source.file().open("rb") as file:
        file.seek(after)
        tag, _ = _varint(file.read(8), 0)
    number = tag >> 3
    return tag & 7 in (0, 2) and (number == 10 or 200 <= number <= 4000)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            return -1, at
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    return -1, at


@dataclass
class Files:
    """A model's protobuf and the folder in which what it names must lie."""

    where: str
    model: Path
    folder: Path
    _blobs: dict[str, memoryview] = field(default_factory=dict)

    def read(self) -> bytes:
        """The model's protobuf."""
        try:
            return self.model.read_bytes()
        except OSError as error:
            raise ModelFileError("the model cannot be read", where=str(self.model), got=error.strerror) from error

    def blob(self, name: str, offset: int, count: int) -> Array:
        """`count` elements of the blob whose metadata lies at `offset` of the file that a program calls `name`."""
        data = self._file(name)
        where = f"{self.where}: {name}"
        cursor = Cursor(data, where, min(offset, len(data)))
        sentinel, kind, size, start, _ = cursor.unpack("IIQQQ")
        if sentinel != _SENTINEL:
            raise ModelFileError(f"there is no blob at byte {offset:,}", where=where, fix=_FIX)
        place = Cursor(data, where, min(start, len(data)))
        packed = place.take(size)
        if kind in BLOB_TYPES:
            found: Array = np.frombuffer(packed, np.uint8)
            width = np.dtype(BLOB_TYPES[kind]).itemsize
            if size == count * width:
                return np.asarray(found.view(BLOB_TYPES[kind]))
        elif kind in BLOB_BITS and size == -(-count * BLOB_BITS[kind][0] // 8):
            return unpacked(np.frombuffer(packed, np.uint8), count, *BLOB_BITS[kind])
        raise ModelFileError(
            f"the blob at byte {offset:,} has another size than its program says, or a type that is not known",
            where=where, expected=f"{count:,} elements", got=f"{size:,} bytes of type {kind}", fix=_FIX,
        )  # fmt: skip

    def _file(self, name: str) -> memoryview:
        if name not in self._blobs:
            relative = name.removeprefix("@model_path/")
            path = (self.folder / relative).resolve()
            if not path.is_relative_to(self.folder.resolve()):
                raise ModelFileError("the model names a file outside its folder", where=self.where, got=repr(name))
            try:
                with path.open("rb") as file:
                    self._blobs[name] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except (OSError, ValueError) as error:
                raise ModelFileError("the file of weights cannot be read", where=str(path), got=str(error)) from error
        return self._blobs[name]


def unpacked(packed: Array, count: int, bits: int, signed: bool) -> Array:
    """Elements of so many bits, one after the other from the lowest bit of each byte, as (u)int8."""
    single = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    values: Array = (single << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    if not signed:
        return values
    half = 1 << (bits - 1)
    return np.asarray((values.astype(np.int16) ^ half) - half, np.int8)


def open_files(source: Source) -> Files:
    """The files of a model. Raises ModelFileError when a package lacks them, ConversionError for compiled models."""
    path = source.file()
    if not path.is_dir():
        return Files(source.where, path, path.parent)
    manifest = path / _MANIFEST
    try:
        entries = json.loads(manifest.read_bytes())
        root = entries["rootModelIdentifier"]
        name = entries["itemInfoEntries"][root]["path"]
        if not isinstance(name, str):
            raise TypeError(f"a path is {type(name).__name__}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError("the package's manifest cannot be read", where=str(manifest), got=str(error)) from error
    folder = (path / "Data").resolve()
    model = (folder / name).resolve()
    if not model.is_relative_to(folder):
        raise ModelFileError("the package names a file outside its folder", where=source.where, got=repr(name))
    if not model.is_file():
        raise ConversionError("the package's model is not a file", where=source.where, got=name)
    return Files(source.where, model, model.parent)
