"""Elementary functions on vectors, written in the kernel language.

Polynomials are minimax fits after the usual reductions (Cody and Waite, Software Manual for the Elementary
Functions); float64 goes through LLVM's own intrinsics, lane by lane. NaN stays NaN and infinities behave as in
C's libm. The error bounds below are held by tests, over the whole range of float32.
"""

from __future__ import annotations

from collections.abc import Sequence

from sardonyx.compiler.builder import Builder, Val
from sardonyx.compiler.dtypes import DType

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4


def _polynomial(k: Builder, x: Val, coefficients: Sequence[float]) -> Val:
    """Horner's rule, highest power first."""
    result = k.const(coefficients[0], x.dtype, x.lanes)
    for coefficient in coefficients[1:]:
        result = k.fma(result, x, k.const(coefficient, x.dtype, x.lanes))
    return result


def _clamp(k: Builder, x: Val, low: float, high: float) -> Val:
    """Between two bounds; NaN passes."""
    least, most = k.const(low, x.dtype, x.lanes), k.const(high, x.dtype, x.lanes)
    x = k.select(x < least, least, x)
    return k.select(x > most, most, x)


_ROUNDER = 12582912.0
"""1.5 * 2**23: a float32 plus this has its nearest integer in the lowest bits, if that is far below 2**22."""


def _exp_parts(k: Builder, x: Val) -> tuple[Val, Val]:
    """e ** x as a float32 between 0.7 and 1.5 and an int32 n of powers of two to multiply it with; x is bounded."""

    def number(value: float) -> Val:
        return k.const(value, DType.F32, x.lanes)

    shifted = k.fma(x, number(_LOG2_E), number(_ROUNDER))
    count = shifted - number(_ROUNDER)
    rest = k.fma(count, number(-_LN2_HIGH), x)
    rest = k.fma(count, number(-_LN2_LOW), rest)
    tail = _polynomial(
        k, rest, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
    )
    value = k.fma(tail, rest * rest, rest) + number(1.0)
    return value, k.bits(shifted, DType.I32) - k.bits(number(_ROUNDER), DType.I32)


def _scaled(k: Builder, value: Val, power: Val) -> Val:
    """value * 2 ** power, where both it and the result are normal: an addition to the exponent."""
    shift = k.const(23, DType.I32, value.lanes)
    moved = Val(k, k.ir.shl(power.ir, shift.ir), DType.I32, value.lanes)
    return k.bits(k.bits(value, DType.I32) + moved, DType.F32)


def exp(k: Builder, x: Val) -> Val:
    """e ** x, within 1 ulp in float32; subnormal results included."""
    if x.dtype is DType.F64:
        return k.intrinsic("llvm.exp", x)
    value, power = _exp_parts(k, _clamp(k, x, -104.0, 89.0))
    # In two steps, so that neither leaves the range of normal numbers when the result is subnormal or infinite.
    half = Val(k, k.ir.ashr(power.ir, k.const(1, DType.I32, x.lanes).ir), DType.I32, x.lanes)
    result = _scaled(k, value, half) * _scaled(k, k.const(1.0, DType.F32, x.lanes), power - half)
    return k.select(x.compare("!=", x), x, result)


def _exp_normal(k: Builder, x: Val) -> Val:
    """e ** x of x in [-87, 88], of the nearest of these where it lies outside; NaN gives NaN."""
    if x.dtype is DType.F64:
        return k.intrinsic("llvm.exp", x)
    return k.select(x.compare("!=", x), x, _scaled(k, *_exp_parts(k, _clamp(k, x, -87.0, 88.0))))


def log(k: Builder, x: Val) -> Val:
    """The natural logarithm, within 1 ulp in float32; log(0) is -inf, of a negative number NaN."""
    if x.dtype is DType.F64:
        return k.intrinsic("llvm.log", x)
    lanes = x.lanes

    def number(value: float) -> Val:
        return k.const(value, DType.F32, lanes)

    small = x < number(1.1754943508222875e-38)
    scaled = k.select(small, x * number(2.0**25), x)
    raw = k.bits(scaled, DType.I32)
    # Take the mantissa in [sqrt(1/2), sqrt(2)).
    offset = k.const(0x3F3504F3, DType.I32, lanes)
    shifted = raw - offset
    exponent = Val(k, k.ir.ashr(shifted.ir, k.const(23, DType.I32, lanes).ir), DType.I32, lanes)
    mantissa = k.bits((shifted & k.const(0x007FFFFF, DType.I32, lanes)) + offset, DType.F32)
    power = k.cast(exponent, DType.F32) - k.select(small, number(25.0), number(0.0))
    f = mantissa - number(1.0)
    tail = _polynomial(
        k,
        f,
        (
            7.0376836292e-2,
            -1.1514610310e-1,
            1.1676998740e-1,
            -1.2420140846e-1,
            1.4249322787e-1,
            -1.6668057665e-1,
            2.0000714765e-1,
            -2.4999993993e-1,
            3.3333331174e-1,
        ),
    )
    square = f * f
    result = tail * f * square
    result = k.fma(power, number(_LN2_LOW), result)
    result = k.fma(square, number(-0.5), result)
    result = k.fma(power, number(_LN2_HIGH), f + result)
    infinity = number(float("inf"))
    result = k.select(x.compare("==", infinity), x, result)
    result = k.select(x.compare("==", number(0.0)), -infinity, result)
    invalid = x.compare("!=", x) | (x < number(0.0))
    return k.select(invalid, number(float("nan")), result)


def sigmoid(k: Builder, x: Val) -> Val:
    """1 / (1 + e ** -x), within 4 ulp in float32 down to its smallest normal results."""
    one = k.const(1.0, x.dtype, x.lanes)
    return one / (one + _exp_normal(k, -x))


def tanh(k: Builder, x: Val) -> Val:
    """The hyperbolic tangent, within 3 ulp in float32: an odd polynomial near 0, else 1 - 2 / (e ** 2x + 1)."""

    def number(value: float) -> Val:
        return k.const(value, x.dtype, x.lanes)

    if x.dtype is DType.F64:
        magnitude = k.intrinsic("llvm.fabs", x)
        large = number(1.0) - number(2.0) / (k.intrinsic("llvm.exp", magnitude + magnitude) + number(1.0))
        return k.intrinsic("llvm.copysign", large, x)
    magnitude = k.intrinsic("llvm.fabs", x)
    large = number(1.0) - number(2.0) / (_exp_normal(k, magnitude + magnitude) + number(1.0))
    square = x * x
    tail = _polynomial(
        k,
        square,
        (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1),
    )
    near = k.fma(tail * square, x, x)
    far = k.intrinsic("llvm.copysign", large, x)
    return k.select(magnitude < number(0.625), near, far)


def erf(k: Builder, x: Val) -> Val:
    """The error function, within 2e-7 absolute in float32 (Abramowitz and Stegun 7.1.28 has 3e-7 at 6 terms).

    |x| < 1: x times an even polynomial; beyond: 1 - e ** (-x^2) times a polynomial in 1 / (1 + x / 2), from
    Numerical Recipes' erfc (fractional error below 1.2e-7).
    """

    def number(value: float) -> Val:
        return k.const(value, x.dtype, x.lanes)

    magnitude = k.intrinsic("llvm.fabs", x)
    square = x * x
    near = x * _polynomial(
        k,
        square,
        (
            7.853861353153693e-5,
            -8.010193625184903e-4,
            5.188327685732524e-3,
            -2.685381193529856e-2,
            1.128358514861418e-1,
            -3.761262582423300e-1,
            1.128379165726710,
        ),
    )
    t = number(1.0) / k.fma(magnitude, number(0.5), number(1.0))
    exponent = _polynomial(
        k,
        t,
        (
            0.17087277,
            -0.82215223,
            1.48851587,
            -1.13520398,
            0.27886807,
            -0.18628806,
            0.09678418,
            0.37409196,
            1.00002368,
            -1.26551223,
        ),
    )
    complement = t * exp(k, k.fma(-magnitude, magnitude, exponent))
    far = k.intrinsic("llvm.copysign", number(1.0) - complement, x)
    return k.select(magnitude < number(1.0), near, far)
