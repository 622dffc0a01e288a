"""Flatbuffers by a table of fields, without generated code; every offset is checked. Unknown fields are skipped.

A schema is text, one table a line (or more, indented), its fields in the order of their numbers:

    Tensor: shape [i32], type i8, name str, quantization Quantization, parts [Part],
      rate f32 = 1, data union

Layout: https://flatbuffers.dev/internals. Vectors of numbers are views of the file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.errors import ModelFileError

Array = np.ndarray[Any, Any]

_SCALARS = {
    "bool": "?", "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q",
    "f32": "f", "f64": "d",
}  # fmt: skip
_FIELD = re.compile(r"(\w+) (\[?\w+\]?)(?: = (-?[\d.]+))?")


@dataclass(frozen=True)
class Field:
    """A field: its number, its type as the schema has it, and what it is where the file leaves it out."""

    slot: int
    kind: str
    default: float = 0


Schema = Mapping[str, Mapping[str, Field]]


def schema(text: str) -> Schema:
    """Tables by name, their fields by name."""
    tables: dict[str, dict[str, Field]] = {}
    for line in filter(None, re.sub(r"\n\s+", " ", text).splitlines()):
        name, _, fields = line.partition(":")
        tables[name] = {
            key: Field(slot, kind, float(default) if "." in default else int(default or 0))
            for slot, (key, kind, default) in enumerate(_FIELD.findall(fields))
        }
    return tables


class FlatBuffer:
    """A file of tables. `where` names it in errors, all of them ModelFileError.

    Tables may be pointed at more than once, so a small file could stand for endless ones: no more are read than the
    file could hold apart.
    """

    def __init__(self, data: bytes | memoryview, tables: Schema, where: str) -> None:
        self.data = memoryview(data).cast("B")
        self.tables = tables
        self.where = where
        self._left = len(self.data) // 4 + 1

    def root(self, name: str) -> Table:
        """The outermost table."""
        return self.table(name, self.number("I", 0))

    def table(self, name: str, position: int) -> Table:
        """The table of that type at `position`."""
        self._left -= 1
        if self._left < 0:
            raise ModelFileError("more tables are pointed at than the file can hold", where=self.where)
        return Table(self, name, position)

    def number(self, letter: str, position: int) -> Any:
        """A number by `struct`'s letter."""
        kind = struct.Struct(f"<{letter}")
        self.check(position, kind.size)
        return kind.unpack_from(self.data, position)[0]

    def follow(self, position: int) -> int:
        """The place that the offset at `position` leads to."""
        return position + int(self.number("I", position))

    def vector(self, position: int, size: int) -> tuple[int, int]:
        """Where the elements of the vector at `position` start, and how many there are of `size` bytes."""
        count = int(self.number("I", position))
        self.check(position + 4, count * size)
        return position + 4, count

    def check(self, position: int, size: int) -> None:
        """Raises unless `size` bytes at `position` lie in the file."""
        if not 0 <= position <= len(self.data) - size:
            raise ModelFileError(
                f"an offset leads out of the file: {size:,} bytes at {position:,}",
                where=self.where, expected=f"a file of {len(self.data):,} bytes", fix="fetch the file again",
            )  # fmt: skip


class Table:
    """A table; `table["name"]` is a field: a number, a bool, text, an array, a table or None, or a list of tables."""

    def __init__(self, file: FlatBuffer, name: str, position: int) -> None:
        self.name = name
        self._file, self._at = file, position
        self._fields = file.tables[name]
        self._vtable = position - int(file.number("i", position))
        self._size = int(file.number("H", self._vtable))
        if self._size < 4 or self._size % 2:
            raise ModelFileError(f"the table {name} at {position:,} is damaged", where=file.where)
        file.check(self._vtable, self._size)

    def __getitem__(self, key: str) -> Any:
        field = self._fields[key]
        place = self._place(field.slot)
        if field.kind in _SCALARS:
            letter = _SCALARS[field.kind]
            return (
                self._file.number(letter, place) if place else (bool(field.default) if letter == "?" else field.default)
            )
        if field.kind.startswith("["):
            return self._list(field.kind[1:-1], place)
        if field.kind == "str":
            return self._text(self._file.follow(place)) if place else ""
        return self._file.table(field.kind, self._file.follow(place)) if place else None

    def has(self, key: str) -> bool:
        """Whether the file has the field."""
        return self._place(self._fields[key].slot) != 0

    def union(self, key: str, name: str) -> Table | None:
        """The union's value, which is a table of type `name`."""
        place = self._place(self._fields[key].slot)
        return self._file.table(name, self._file.follow(place)) if place else None

    def unknown(self) -> int:
        """How many fields are set that the schema does not have."""
        slots = (self._size - 4) // 2
        return sum(self._place(slot) != 0 for slot in range(len(self._fields), slots))

    def _place(self, slot: int) -> int:
        """Where the field lies; 0 where it is left out."""
        entry = 4 + 2 * slot
        if entry + 2 > self._size:
            return 0
        offset = int(self._file.number("H", self._vtable + entry))
        return self._at + offset if offset else 0

    def _list(self, kind: str, place: int) -> Any:
        file = self._file
        if kind in _SCALARS:
            dtype = np.dtype(_SCALARS[kind]).newbyteorder("<")
            if not place:
                return np.empty(0, dtype)
            start, count = file.vector(file.follow(place), dtype.itemsize)
            return np.frombuffer(file.data[start : start + count * dtype.itemsize], dtype)
        start, count = file.vector(file.follow(place), 4) if place else (0, 0)
        places: Sequence[int] = [file.follow(start + 4 * i) for i in range(count)]
        if kind == "str":
            return [self._text(at) for at in places]
        return [file.table(kind, at) for at in places]

    def _text(self, position: int) -> str:
        start, count = self._file.vector(position, 1)
        return bytes(self._file.data[start : start + count]).decode(errors="replace")
