"""Numbers of fewer than 32 bits: how they are widened when they are loaded, and rounded when they are stored.

Floats are computed with as float32, of which every narrow one is an exact value, and rounded to the nearest, half to
even. That is done in integers, in vectors on every processor, but for float16 where there are instructions for it.
Subnormals, infinities and NaN are those of the type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llvmlite import ir

from sardonyx.compiler.dtypes import DType, Rounding
from sardonyx.compiler.values import SSA, Val, memory_type, register_type

if TYPE_CHECKING:
    from sardonyx.compiler.builder import Builder

_MANTISSA, _BIAS = 23, 127
_INFINITY, _NAN = 0x7F800000, 0x7FC00000
"""Of float32."""


@dataclass(frozen=True)
class Format:
    """A float's bits: a sign (`signed`: of NaN and zero too), an exponent, a mantissa; and special ones without sign.

    `largest` is the largest finite number, `beyond` what larger ones become where they do not saturate, which all do
    where it is None. With `infinite`, all that is larger than `largest` is infinity or NaN.
    """

    exponent: int
    mantissa: int
    bias: int
    largest: int
    nan: int
    beyond: int | None
    infinite: bool = False
    signed: bool = True
    saturates: bool = True

    @property
    def sign(self) -> int:
        """The sign's bit."""
        return 1 << (self.exponent + self.mantissa)

    @property
    def dropped(self) -> int:
        """Bits of float32's mantissa that it lacks."""
        return _MANTISSA - self.mantissa

    @property
    def rebias(self) -> int:
        """What float32's exponent is larger by."""
        return _BIAS - self.bias


FORMATS = {
    DType.F16: Format(5, 10, 15, 0x7BFF, 0x7E00, 0x7C00, infinite=True, saturates=False),
    DType.BF16: Format(8, 7, 127, 0x7F7F, 0x7FC0, 0x7F80, infinite=True, saturates=False),
    DType.F8E4M3FN: Format(4, 3, 7, 0x7E, 0x7F, 0x7F),
    DType.F8E4M3FNUZ: Format(4, 3, 8, 0x7F, 0x80, 0x80, signed=False),
    DType.F8E5M2: Format(5, 2, 15, 0x7B, 0x7E, 0x7C, infinite=True),
    DType.F8E5M2FNUZ: Format(5, 2, 16, 0x7F, 0x80, 0x80, signed=False),
    DType.F6E2M3: Format(2, 3, 1, 0x1F, 0x20, None),
    DType.F6E3M2: Format(3, 2, 3, 0x1F, 0x20, None),
    DType.F4E2M1: Format(2, 1, 1, 0x7, 0x8, None),
}
"""All but F8E8M0, which has neither sign nor mantissa. Those without a NaN have a zero for it."""


def widened(k: Builder, stored: SSA, dtype: DType, lanes: int) -> Val:
    """What lies in memory as elements of a narrow type, as its register type."""
    if not dtype.is_float:
        return _unpacked(k, Val(k, stored, dtype.register, lanes), dtype)
    if dtype is DType.F16 and k.target.has_half:
        half = k.ir.bitcast(stored, _half(lanes))
        return Val(k, k.ir.fpext(half, register_type(DType.F32, lanes)), DType.F32, lanes)
    code = Val(k, k.ir.zext(stored, register_type(DType.I32, lanes)), DType.I32, lanes)
    return k.bits(_power(k, code) if dtype is DType.F8E8M0 else _float(k, code, FORMATS[dtype]), DType.F32)


def narrowed(k: Builder, value: Val, dtype: DType, rounding: Rounding) -> SSA:
    """A value of a narrow type's register type as it lies in memory."""
    kind = memory_type(dtype, value.lanes)
    if not dtype.is_float:
        return _packed(k, value, dtype).ir
    if dtype is DType.F16 and k.target.has_half:
        # LLVM would turn a float64 rounded to float32 and then to float16 into a call, or compute in float16 before.
        fixed = k.intrinsic("llvm.arithmetic.fence", value)
        return k.ir.bitcast(k.ir.fptrunc(fixed.ir, _half(value.lanes)), kind)
    if dtype is DType.F8E8M0:
        return k.ir.trunc(_exponent(k, value, rounding).ir, kind)
    return k.ir.trunc(_code(k, value, FORMATS[dtype], rounding.saturate).ir, kind)


def to_odd(k: Builder, value: Val) -> Val:
    """A float64 as float32, of the two next to it the one with an odd mantissa: rounding once more, to fewer bits, then
    gives what rounding at once would.
    """
    near = Val(k, k.ir.fptrunc(value.ir, register_type(DType.F32, value.lanes)), DType.F32, value.lanes)
    back = Val(k, k.ir.fpext(near.ir, value.ir.type), DType.F64, value.lanes)
    bits, one, none = k.bits(near, DType.I32), _number(k, 1, value), _number(k, 0, value)
    inexact = (back < value) | (back > value)
    even = (bits & one).compare("==", none)
    away = k.intrinsic("llvm.fabs", back) > k.intrinsic("llvm.fabs", value)
    other = k.select(away, bits - one, bits + one)
    return k.bits(k.select(inexact & even, other, bits), DType.F32)


def with_sticky_bit(k: Builder, value: Val) -> Val:
    """An integer of 64 bits as one that float64 has, and that rounds to 13 bits or fewer as it would: of large ones the
    lowest bits become one, which tells whether any was set.
    """
    mask, bit, near = (k.const(number, value.dtype, value.lanes) for number in (0xFFF, 0x800, 1 << 25))
    none = k.const(0, value.dtype, value.lanes)
    low = value & mask
    large = (value ^ low) | k.select(low.compare("==", none), none, bit)
    moved = Val(k, (value + near).ir, DType.U64, value.lanes)
    return k.select(moved < k.const(1 << 26, DType.U64, value.lanes), value, large)


def _number(k: Builder, number: int, like: Val) -> Val:
    return k.const(number, DType.I32, like.lanes)


def _right(k: Builder, value: Val, count: int) -> Val:
    return Val(k, k.ir.lshr(value.ir, _number(k, count, value).ir), value.dtype, value.lanes)


def _left(k: Builder, value: Val, count: int) -> Val:
    return Val(k, k.ir.shl(value.ir, _number(k, count, value).ir), value.dtype, value.lanes)


def _half(lanes: int) -> ir.Type:
    return ir.VectorType(ir.HalfType(), lanes) if lanes > 1 else ir.HalfType()


def _float(k: Builder, code: Val, form: Format) -> Val:
    """The bits of float32 of a number's bits, as int32."""
    if form.rebias == 0:
        return _left(k, code, form.dropped)
    magnitude = code & _number(k, form.sign - 1, code)
    moved = _left(k, magnitude, form.dropped)
    result = moved + _number(k, form.rebias << _MANTISSA, code)
    step = k.const(2.0 ** (1 - form.bias - form.mantissa), DType.F32, code.lanes)
    subnormal = k.bits(k.cast(magnitude, DType.F32) * step, DType.I32)
    result = k.select(magnitude < _number(k, 1 << form.mantissa, code), subnormal, result)
    if form.infinite:
        special = moved | _number(k, _INFINITY, code)
        result = k.select(magnitude > _number(k, form.largest, code), special, result)
    elif form.signed and form.beyond is not None:
        result = k.select(magnitude.compare("==", _number(k, form.nan, code)), _number(k, _NAN, code), result)
    sign = _left(k, code & _number(k, form.sign, code), 31 - (form.exponent + form.mantissa))
    result = result | sign
    if not form.signed:
        result = k.select(code.compare("==", _number(k, form.nan, code)), _number(k, _NAN, code), result)
    return result


def _code(k: Builder, value: Val, form: Format, saturate: bool) -> Val:
    """The bits of the number nearest to a float32, as int32."""
    bits = k.bits(value, DType.I32)
    magnitude = bits & _number(k, 0x7FFFFFFF, bits)
    odd = _right(k, magnitude, form.dropped) & _number(k, 1, bits)
    half = (1 << (form.dropped - 1)) - 1 - (form.rebias << _MANTISSA)
    code = _right(k, magnitude + odd + _number(k, half, bits), form.dropped)
    if form.rebias:
        # Beside this number the last bit of a float32 is the step of subnormals: adding it rounds.
        anchor = k.bits(_number(k, (form.rebias + form.dropped + 1) << _MANTISSA, bits), DType.F32)
        subnormal = k.bits(k.bits(magnitude, DType.F32) + anchor, DType.I32) - k.bits(anchor, DType.I32)
        least = _number(k, (form.rebias + 1) << _MANTISSA, bits)
        code = k.select(magnitude < least, subnormal, code)
    largest = _number(k, form.largest, bits)
    clamped = form.beyond is None or (saturate and form.saturates)
    beyond = largest if clamped or form.beyond is None else _number(k, form.beyond, bits)
    code = k.select(code > largest, beyond, code)
    nan, is_nan = _number(k, form.nan, bits), value.compare("!=", value)
    if form.signed:
        code = k.select(is_nan, nan, code)
    sign = _right(k, bits, 31 - (form.exponent + form.mantissa)) & _number(k, form.sign, bits)
    if form.signed:
        return code ^ sign
    zero = _number(k, 0, bits)
    return k.select(is_nan, nan, k.select(code.compare("==", zero), zero, code | sign))


def _power(k: Builder, code: Val) -> Val:
    """The bits of float32 of 2 ** (code - 127)."""
    least, nan = _number(k, 1 << (_MANTISSA - 1), code), _number(k, _NAN, code)
    result = k.select(code.compare("==", _number(k, 0, code)), least, _left(k, code, _MANTISSA))
    return k.select(code.compare("==", _number(k, 0xFF, code)), nan, result)


def _exponent(k: Builder, value: Val, rounding: Rounding) -> Val:
    """The exponent of a power of two near a positive float32, biased."""
    bits = k.bits(value, DType.I32)
    magnitude = bits & _number(k, 0x7FFFFFFF, bits)
    least = _number(k, 1 << (_MANTISSA - 1), bits)  # 2 ** -127, which is subnormal
    up = {"up": (1 << _MANTISSA) - 1, "nearest": 1 << (_MANTISSA - 1), "down": 0}[rounding.mode]
    code = _right(k, magnitude + _number(k, up, bits), _MANTISSA)
    # Below 2 ** -126 there is only 2 ** -127, at the middle of what looks like one step.
    middle = {"up": least, "nearest": _number(k, 3 << (_MANTISSA - 2), bits) - _number(k, 1, bits)}.get(rounding.mode)
    one, none, nan = (_number(k, number, bits) for number in (1, 0, 0xFF))
    small = k.select(magnitude > middle, one, none) if middle is not None else none
    code = k.select(magnitude < _number(k, 1 << _MANTISSA, bits), small, code)
    if rounding.saturate:
        code = k.select(code > _number(k, 0xFE, bits), _number(k, 0xFE, bits), code)
    else:
        code = k.select(magnitude < least, nan, code)
    return k.select(value.compare("!=", value), nan, code)


def _unpacked(k: Builder, value: Val, dtype: DType) -> Val:
    """The number in the low bits of a byte; the others may be anything."""
    bits = (dtype.limits[1] - dtype.limits[0]).bit_length()
    if not dtype.is_signed:
        return value & k.const(dtype.limits[1], value.dtype, value.lanes)
    free = k.const(8 - bits, value.dtype, value.lanes)
    return Val(k, k.ir.ashr(k.ir.shl(value.ir, free.ir), free.ir), value.dtype, value.lanes)


def _packed(k: Builder, value: Val, dtype: DType) -> Val:
    """A number's low bits, as ml_dtypes keeps them."""
    return value & k.const(dtype.limits[1] - dtype.limits[0], value.dtype, value.lanes)
