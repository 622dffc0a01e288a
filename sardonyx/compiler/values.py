"""What kernels calculate with: LLVM's types for elements, indices, data in registers and addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from llvmlite import ir

from sardonyx.compiler.dtypes import DType

if TYPE_CHECKING:
    from sardonyx.compiler.builder import Builder

I1, I32, I64 = (ir.IntType(bits) for bits in (1, 32, 64))
POINTER = ir.PointerType()
SSA: TypeAlias = Any
"""A value of llvmlite, which has no type annotations."""


def scalar_type(dtype: DType) -> ir.Type:
    """The LLVM type of a value in a register; booleans are one bit there and one byte in memory."""
    kind = dtype.register
    if kind is DType.BOOL:
        return I1
    if kind.is_float:
        return ir.FloatType() if kind is DType.F32 else ir.DoubleType()
    return ir.IntType(8 * kind.size)


def memory_type(dtype: DType, lanes: int) -> ir.Type:
    """The LLVM type of `lanes` values in memory, narrow ones as integers."""
    plain = dtype is not DType.BOOL and not dtype.is_narrow
    scalar = scalar_type(dtype) if plain else ir.IntType(8 * dtype.size)
    return ir.VectorType(scalar, lanes) if lanes > 1 else scalar


def register_type(dtype: DType, lanes: int) -> ir.Type:
    """The LLVM type of `lanes` values in a register."""
    return ir.VectorType(scalar_type(dtype), lanes) if lanes > 1 else scalar_type(dtype)


@dataclass(frozen=True, eq=False)
class Int:
    """A 64-bit integer for counting and addressing: a Python int when known, else an SSA value."""

    k: Builder
    value: int | SSA

    @property
    def ir(self) -> ir.Value:
        """The SSA value."""
        return ir.Constant(I64, self.value) if isinstance(self.value, int) else self.value

    def at(self, value: SSA) -> Int:
        """Another index, of this SSA value."""
        return Int(self.k, value)

    def _apply(self, op: str, fold: Callable[[int, int], int], other: Int | int) -> Int:
        right = self.k.index(other)
        if isinstance(self.value, int) and isinstance(right.value, int):
            return Int(self.k, fold(self.value, right.value))
        return Int(self.k, getattr(self.k.ir, op)(self.ir, right.ir))

    def __add__(self, other: Int | int) -> Int:
        if other == 0 or (isinstance(other, Int) and other.value == 0):
            return self
        return self.k.index(other) if self.value == 0 else self._apply("add", lambda a, b: a + b, other)

    def __sub__(self, other: Int | int) -> Int:
        return self._apply("sub", lambda a, b: a - b, other)

    def __mul__(self, other: Int | int) -> Int:
        right = self.k.index(other)
        if self.value == 1 or right.value == 0:
            return right
        if right.value == 1 or self.value == 0:
            return self
        return self._apply("mul", lambda a, b: a * b, right)

    def __floordiv__(self, other: Int | int) -> Int:
        """Quotient of non-negative numbers."""
        right = self.k.index(other)
        return self if right.value == 1 else self._apply("udiv", lambda a, b: a // b, right)

    def __mod__(self, other: Int | int) -> Int:
        """Remainder of non-negative numbers."""
        right = self.k.index(other)
        return self.k.index(0) if right.value == 1 else self._apply("urem", lambda a, b: a % b, right)

    __radd__ = __add__
    __rmul__ = __mul__

    def _compare(self, op: str, other: Int | int) -> Val:
        bit = self.k.ir.icmp_signed(op, self.ir, self.k.index(other).ir)
        return Val(self.k, bit, DType.BOOL, 1)

    def __lt__(self, other: Int | int) -> Val:
        return self._compare("<", other)

    def __le__(self, other: Int | int) -> Val:
        return self._compare("<=", other)

    def __ge__(self, other: Int | int) -> Val:
        return self._compare(">=", other)

    def __gt__(self, other: Int | int) -> Val:
        return self._compare(">", other)

    def equals(self, other: Int | int) -> Val:
        """One bit: equal."""
        return self._compare("==", other)

    def within(self, size: Int | int) -> Val:
        """One bit: 0 <= self < size, as a single unsigned comparison."""
        bit = self.k.ir.icmp_unsigned("<", self.ir, self.k.index(size).ir)
        return Val(self.k, bit, DType.BOOL, 1)


@dataclass(frozen=True, eq=False)
class Val:
    """Data in a register: one element (`lanes` 1) or a vector of them; never of a narrow type.

    `stored` is what it is in memory as a narrow type, where that is known.
    """

    k: Builder
    ir: SSA
    dtype: DType
    lanes: int
    stored: tuple[DType, SSA] | None = None

    def _arith(self, names: tuple[str, str], other: Val) -> Val:
        name = names[0] if self.dtype.is_float else names[1]
        return Val(self.k, getattr(self.k.ir, name)(self.ir, other.ir), self.dtype, self.lanes)

    def __add__(self, other: Val) -> Val:
        return self._arith(("fadd", "add"), other)

    def __sub__(self, other: Val) -> Val:
        return self._arith(("fsub", "sub"), other)

    def __mul__(self, other: Val) -> Val:
        return self._arith(("fmul", "mul"), other)

    def __truediv__(self, other: Val) -> Val:
        return self._arith(("fdiv", "sdiv" if self.dtype.is_signed else "udiv"), other)

    def __mod__(self, other: Val) -> Val:
        """Remainder, of the sign of the first."""
        return self._arith(("frem", "srem" if self.dtype.is_signed else "urem"), other)

    def __and__(self, other: Val) -> Val:
        return self._arith(("and_", "and_"), other)

    def __or__(self, other: Val) -> Val:
        return self._arith(("or_", "or_"), other)

    def __xor__(self, other: Val) -> Val:
        return self._arith(("xor", "xor"), other)

    def __neg__(self) -> Val:
        name = "fneg" if self.dtype.is_float else "neg"
        return Val(self.k, getattr(self.k.ir, name)(self.ir), self.dtype, self.lanes)

    def compare(self, op: str, other: Val) -> Val:
        """Bits: `self op other` with op one of < <= > >= == !=; false on NaN but for !=, which is true."""
        if self.dtype.is_float:
            method = self.k.ir.fcmp_unordered if op == "!=" else self.k.ir.fcmp_ordered
        else:
            method = self.k.ir.icmp_signed if self.dtype.is_signed else self.k.ir.icmp_unsigned
        return Val(self.k, method(op, self.ir, other.ir), DType.BOOL, self.lanes)

    def __lt__(self, other: Val) -> Val:
        return self.compare("<", other)

    def __gt__(self, other: Val) -> Val:
        return self.compare(">", other)


@dataclass(frozen=True, eq=False)
class Ptr:
    """The address of an element of `dtype`; adding an index moves by elements."""

    k: Builder
    ir: SSA
    dtype: DType

    def at(self, value: SSA) -> Ptr:
        """Another address of the same type, of this SSA value."""
        return Ptr(self.k, value, self.dtype)

    def __add__(self, offset: Int | int) -> Ptr:
        step = self.k.index(offset)
        if step.value == 0:
            return self
        element = memory_type(self.dtype, 1)
        return Ptr(self.k, self.k.ir.gep(self.ir, [step.ir], source_etype=element), self.dtype)
