"""Element types the compiler knows, shared by programs, kernels and the builder."""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np


class DType(Enum):
    """An element type; the value is NumPy's name of it."""

    F32 = "float32"
    F64 = "float64"
    I8 = "int8"
    I16 = "int16"
    I32 = "int32"
    I64 = "int64"
    U8 = "uint8"
    U16 = "uint16"
    U32 = "uint32"
    U64 = "uint64"
    BOOL = "bool"

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The same type in NumPy."""
        return np.dtype(self.value)

    @cached_property
    def size(self) -> int:
        """Bytes of one element in memory."""
        return int(self.numpy.itemsize)

    @property
    def is_float(self) -> bool:
        """Whether arithmetic is IEEE 754."""
        return self in (DType.F32, DType.F64)

    @property
    def is_signed(self) -> bool:
        """Whether comparisons and divisions are signed."""
        return self.is_float or self.value.startswith("int")

    @classmethod
    def of(cls, dtype: np.dtype[Any] | None) -> DType | None:
        """The compiler's type for a NumPy type, or None when it has none."""
        return _BY_NUMPY.get(dtype) if dtype is not None else None


_BY_NUMPY: dict[Any, DType] = {kind.numpy: kind for kind in DType}
