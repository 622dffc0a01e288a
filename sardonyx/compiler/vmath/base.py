"""What the functions are made of: constants, polynomials, the parts of a floating-point number, pairs of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Val
from sardonyx.compiler.dtypes import DType


@dataclass(frozen=True)
class Format:
    """A floating-point type: `whole` has its bits as an integer, `mantissa` of them after the point.

    Adding `rounder` (1.5 * 2 ** mantissa) rounds to an integer, which is then in the lowest bits. ln 2 is `ln2_high`,
    short enough for products with powers of two to be exact, and `ln2_low`.
    """

    whole: DType
    mantissa: int
    bias: int
    rounder: float
    least_normal: float
    ln2_high: float
    ln2_low: float


FORMATS = {
    DType.F32: Format(DType.I32, 23, 127, 12582912.0, 2.0**-126, 0.693359375, -2.12194440e-4),
    DType.F64: Format(DType.I64, 52, 1023, 6755399441055744.0, 2.0**-1022, 0.6931471803691238, 1.9082149292705877e-10),
}
LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453


def number(k: Builder, like: Val, value: float) -> Val:
    """A constant of the type and lanes of another value."""
    return k.const(value, like.dtype, like.lanes)


def polynomial(k: Builder, x: Val, coefficients: Sequence[float]) -> Val:
    """Horner's rule, highest power first."""
    result = number(k, x, coefficients[0])
    for coefficient in coefficients[1:]:
        result = k.fma(result, x, number(k, x, coefficient))
    return result


def clamp(k: Builder, x: Val, low: float, high: float) -> Val:
    """Between two bounds; NaN passes."""
    least, most = number(k, x, low), number(k, x, high)
    x = k.select(x < least, least, x)
    return k.select(x > most, most, x)


def is_nan(x: Val) -> Val:
    """Bits."""
    return x.compare("!=", x)


def magnitude(k: Builder, x: Val) -> Val:
    """|x|."""
    return k.intrinsic("llvm.fabs", x)


def signed(k: Builder, value: Val, sign: Val) -> Val:
    """The value with the sign of another, that of zero included."""
    return k.intrinsic("llvm.copysign", value, sign)


def as_bits(k: Builder, x: Val) -> Val:
    """A float's bits as an integer."""
    return k.bits(x, FORMATS[x.dtype].whole)


def shifted_left(k: Builder, x: Val, count: int) -> Val:
    """An integer's bits moved up."""
    return Val(k, k.ir.shl(x.ir, number(k, x, count).ir), x.dtype, x.lanes)


def shifted_right(k: Builder, x: Val, count: int, *, arithmetic: bool = False) -> Val:
    """An integer's bits moved down; the sign too if arithmetic."""
    move = k.ir.ashr if arithmetic else k.ir.lshr
    return Val(k, move(x.ir, number(k, x, count).ir), x.dtype, x.lanes)


def nearest(k: Builder, x: Val, factor: float) -> tuple[Val, Val]:
    """x * factor rounded to an integer, as a float and as an integer; it must be far below 2 ** mantissa."""
    rounder = number(k, x, FORMATS[x.dtype].rounder)
    moved = k.fma(x, number(k, x, factor), rounder)
    return moved - rounder, as_bits(k, moved) - as_bits(k, rounder)


def scaled(k: Builder, value: Val, power: Val) -> Val:
    """value * 2 ** power, where both it and the result are normal: an addition to the exponent."""
    moved = shifted_left(k, power, FORMATS[value.dtype].mantissa)
    return k.bits(as_bits(k, value) + moved, value.dtype)


def scaled_far(k: Builder, value: Val, power: Val) -> Val:
    """value * 2 ** power, in two steps: neither leaves the range of normal numbers when the result does. NaN stays."""
    half = shifted_right(k, power, 1, arithmetic=True) if power.dtype is DType.I32 else _half(k, power)
    one = number(k, value, 1.0)
    return value * scaled(k, one, half) * scaled(k, one, power - half)


def _half(k: Builder, power: Val) -> Val:
    """Half of an int64 above -4096: without the arithmetic shift, which AVX2 lacks."""
    return shifted_right(k, power + number(k, power, 4096), 1) - number(k, power, 2048)


def normal_parts(k: Builder, x: Val) -> tuple[Val, Val]:
    """f and n with x = (1 + f) * 2 ** n and 1 + f in [sqrt(1/2), sqrt(2)); both floats; x is positive and finite."""
    form = FORMATS[x.dtype]
    small = x < number(k, x, form.least_normal)
    lift = form.mantissa + 2
    raw = as_bits(k, k.select(small, x * number(k, x, 2.0**lift), x))
    root = 0x3F3504F3 if x.dtype is DType.F32 else 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
    offset = number(k, raw, root)
    moved = raw - offset
    mask = number(k, raw, (1 << form.mantissa) - 1)
    fraction = k.bits((moved & mask) + offset, x.dtype) - number(k, x, 1.0)
    # The biased exponent put below the point of 2 ** mantissa is that number plus the exponent.
    biased = shifted_right(k, moved + number(k, raw, form.bias << form.mantissa), form.mantissa)
    anchor = number(k, x, 2.0**form.mantissa)
    exponent = k.bits(biased | as_bits(k, anchor), x.dtype) - (anchor + number(k, x, float(form.bias)))
    return fraction, exponent - k.select(small, number(k, x, float(lift)), number(k, x, 0.0))


Pair = tuple[Val, Val]
"""The sum of a number and one below its last bit."""


def two_sum(a: Val, b: Val) -> Pair:
    """a + b and its rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def fast_two_sum(a: Val, b: Val) -> Pair:
    """The same where |a| >= |b| (Dekker)."""
    total = a + b
    return total, b - (total - a)


def two_product(k: Builder, a: Val, b: Val) -> Pair:
    """a * b and its rounding error: by a fused multiplication or, without one, by Dekker's halves."""
    product = a * b
    if k.target.has_fma:
        return product, k.intrinsic("llvm.fma", a, b, -product)
    (a_high, a_low), (b_high, b_low) = _halves(k, a), _halves(k, b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(k: Builder, x: Val) -> Pair:
    spread = x * number(k, x, 134217729.0 if x.dtype is DType.F64 else 4097.0)
    high = spread - (spread - x)
    return high, x - high
