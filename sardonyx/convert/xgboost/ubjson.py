"""Universal Binary JSON (draft 12, ubjson.org), as much of it as XGBoost writes and a little more."""

from __future__ import annotations

from typing import Any

import numpy as np

from sardonyx.convert.reading.cursor import Cursor
from sardonyx.errors import ModelFileError

_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_WORDS = {b"Z": None, b"T": True, b"F": False}
_DEEPEST = 64


def parse(data: bytes, where: str) -> Any:
    """The value in `data`: dicts, lists, numbers, strings; arrays of one type of numbers are NumPy arrays.

    Raises ModelFileError when the data is damaged.
    """
    return _Reader(Cursor(data, where)).value(0)


class _Reader:
    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def value(self, depth: int) -> Any:
        return self._typed(self._kind(), depth)

    def _kind(self) -> bytes:
        kind = bytes(self._cursor.take(1))
        while kind == b"N":  # stands for nothing
            kind = bytes(self._cursor.take(1))
        return kind

    def _typed(self, kind: bytes, depth: int) -> Any:
        if kind in _NUMBERS:
            return self._numbers(kind, 1)[0].item()
        if kind in _WORDS:
            return _WORDS[kind]
        if kind in (b"S", b"H"):
            return self._text()
        if kind == b"C":
            return self._cursor.text(1)
        if kind in (b"[", b"{"):
            if depth >= _DEEPEST:
                raise self._error("values lie too deep in one another", f"at most {_DEEPEST} levels")
            return (self._array if kind == b"[" else self._object)(depth + 1)
        raise self._error("there is no such type of value", got=repr(kind))

    def _numbers(self, kind: bytes, count: int) -> Any:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self._cursor.take(count * dtype.itemsize), dtype).astype(dtype.newbyteorder("="))

    def _length(self) -> int:
        kind = self._kind()
        if kind not in (b"i", b"U", b"I", b"l", b"L"):
            raise self._error("a length is no whole number", got=repr(kind))
        return int(self._numbers(kind, 1)[0])

    def _text(self) -> str:
        return self._cursor.text(self._length())

    def _announced(self) -> tuple[bytes | None, int | None]:
        """The type and count that a container may begin with."""
        kind: bytes | None = None
        if self._peek() == b"$":
            self._cursor.take(1)
            kind = bytes(self._cursor.take(1))
            if self._peek() != b"#":
                raise self._error("a container says its type and not its length")
        if self._peek() != b"#":
            return None, None
        self._cursor.take(1)
        count = self._length()
        if not 0 <= count <= self._cursor.left:
            raise self._error("a container is longer than the file", f"at most {self._cursor.left:,}", f"{count:,}")
        return kind, count

    def _peek(self) -> bytes:
        at = self._cursor.position
        return bytes(self._cursor.data[at : at + 1])

    def _array(self, depth: int) -> Any:
        kind, count = self._announced()
        if kind in _NUMBERS and count is not None:
            return self._numbers(kind, count)
        found: list[Any] = []
        while len(found) < count if count is not None else self._peek() != b"]":
            found.append(self._typed(kind or self._kind(), depth))
        if count is None:
            self._cursor.take(1)
        return found

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._announced()
        found: dict[str, Any] = {}
        read = 0
        while read < count if count is not None else self._peek() != b"}":
            name = self._cursor.text(self._length())
            found[name] = self._typed(kind or self._kind(), depth)
            read += 1
        if count is None:
            self._cursor.take(1)
        return found

    def _error(self, what: str, expected: str | None = None, got: str | None = None) -> ModelFileError:
        where, at = self._cursor.where, self._cursor.position
        return ModelFileError(f"{what} (byte {at:,})", where=where, expected=expected, got=got, fix="save it again")
