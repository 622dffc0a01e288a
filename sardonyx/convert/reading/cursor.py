"""A place in a binary file that never reads past its end."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from sardonyx.errors import ModelFileError

Array = np.ndarray[Any, Any]


class Cursor:
    """Reads little-endian values one after the other; `where` names the file in errors, all of them ModelFileError."""

    def __init__(self, data: bytes | memoryview, where: str, position: int = 0) -> None:
        self.data = memoryview(data)
        self.where = where
        self.position = position

    @property
    def left(self) -> int:
        """Bytes after the place."""
        return len(self.data) - self.position

    def take(self, count: int) -> memoryview:
        """The next `count` bytes, as they lie."""
        if not 0 <= count <= self.left:
            raise ModelFileError(
                f"the file ends in the middle of a value at byte {self.position:,}",
                where=self.where,
                expected=f"{count:,} bytes more",
                got=f"{self.left:,}",
                fix="fetch the file again",
            )
        start = self.position
        self.position += count
        return self.data[start : self.position]

    def unpack(self, kind: str) -> tuple[Any, ...]:
        """Values by `struct`'s letters, little-endian."""
        layout = struct.Struct(f"<{kind}")
        return layout.unpack(self.take(layout.size))

    def one(self, kind: str) -> Any:
        """A single value by `struct`'s letter."""
        return self.unpack(kind)[0]

    def array(self, dtype: Any, shape: Sequence[int]) -> Array:
        """The next elements, viewed in place, read-only."""
        if any(dim < 0 for dim in shape):
            raise ModelFileError(f"negative dims at byte {self.position:,}", where=self.where, got=str(list(shape)))
        kind = np.dtype(dtype).newbyteorder("<")
        data = self.take(math.prod(shape) * kind.itemsize)
        return np.frombuffer(data, kind).reshape(shape)

    def text(self, count: int) -> str:
        """The next `count` bytes as UTF-8."""
        data = bytes(self.take(count))
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ModelFileError(
                f"text at byte {self.position - count:,} is not UTF-8", where=self.where, got=repr(data[:40])
            ) from error
