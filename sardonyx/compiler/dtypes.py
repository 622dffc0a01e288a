"""Element types the compiler knows, shared by programs, kernels and the builder."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np


class DType(Enum):
    """An element type; the value is the name NumPy or ml_dtypes has for it.

    Most are computed with as they are. The narrow ones are only ways to store numbers: what is loaded is widened to the
    type `register`, and what is stored is rounded. Complex numbers are moved, never computed with.
    """

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
    F16 = "float16"
    BF16 = "bfloat16"
    F8E4M3FN = "float8_e4m3fn"
    F8E4M3FNUZ = "float8_e4m3fnuz"
    F8E5M2 = "float8_e5m2"
    F8E5M2FNUZ = "float8_e5m2fnuz"
    F8E8M0 = "float8_e8m0fnu"
    F6E2M3 = "float6_e2m3fn"
    F6E3M2 = "float6_e3m2fn"
    F4E2M1 = "float4_e2m1fn"
    I4 = "int4"
    U4 = "uint4"
    I2 = "int2"
    U2 = "uint2"
    C64 = "complex64"
    C128 = "complex128"

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The same type in NumPy."""
        return np.dtype(getattr(ml_dtypes, self.value, self.value))

    @cached_property
    def size(self) -> int:
        """Bytes of one element in memory: one where it has less than eight bits."""
        return int(self.numpy.itemsize)

    @cached_property
    def alignment(self) -> int:
        """What addresses of elements are multiples of."""
        return int(self.numpy.alignment)

    @cached_property
    def register(self) -> DType:
        """The type it is computed with: itself, unless it is narrow."""
        if self.value in ("int4", "int2"):
            return DType.I8
        if self.value in ("uint4", "uint2"):
            return DType.U8
        narrow = self.value.startswith(("float", "bfloat")) and self not in (DType.F32, DType.F64)
        return DType.F32 if narrow else self

    @property
    def is_narrow(self) -> bool:
        """Whether another type is computed with."""
        return self.register is not self

    @property
    def is_complex(self) -> bool:
        """Whether elements have two parts."""
        return self in (DType.C64, DType.C128)

    @property
    def is_float(self) -> bool:
        """Whether arithmetic is IEEE 754."""
        return self.register in (DType.F32, DType.F64)

    @property
    def is_signed(self) -> bool:
        """Whether comparisons and divisions are signed."""
        return self.is_float or self.value.startswith("int")

    @cached_property
    def limits(self) -> tuple[int, int]:
        """The least and the largest number of an integer type."""
        bits = int(self.value.removeprefix("u").removeprefix("int"))
        return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if self.is_signed else (0, (1 << bits) - 1)

    @classmethod
    def of(cls, dtype: np.dtype[Any] | None) -> DType | None:
        """The compiler's type for a NumPy type, or None when it has none."""
        return _BY_NUMPY.get(dtype) if dtype is not None else None


_BY_NUMPY: dict[Any, DType] = {kind.numpy: kind for kind in DType}


@dataclass(frozen=True)
class Rounding:
    """How a Cast rounds to the types of eight bits. `saturate`: numbers beyond the range become the largest ones, not
    NaN or infinity. `mode` is for powers of two alone: "up", "down" or "nearest".
    """

    saturate: bool = True
    mode: str = "up"


NEAREST = Rounding(saturate=False, mode="nearest")
"""Of results other than Cast's, and of numbers that the type has: those stay what they are, infinity too."""
