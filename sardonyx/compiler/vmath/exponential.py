"""The exponential function and what is made of it."""

from __future__ import annotations

from sardonyx.compiler.builder import Builder, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.vmath.base import (
    FORMATS,
    LN2,
    LOG2_E,
    as_bits,
    clamp,
    magnitude,
    number,
    polynomial,
    scaled,
    scaled_far,
    shifted_left,
    signed,
)
from sardonyx.compiler.vmath.logarithm import log1p

# (e ** r - 1 - r) / r ** 2 for |r| <= ln(2) / 2.
_TAIL = {
    DType.F32: (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5),
    DType.F64: (
        2.5110155032132057e-08,
        2.7620202448176575e-07,
        2.755724205722996e-06,
        2.480152105583718e-05,
        0.0001984126988683857,
        0.0013888888917368584,
        0.008333333333322127,
        0.04166666666662382,
        0.16666666666666674,
        0.5000000000000001,
    ),
}
# (sinh(x) - x) / x ** 3 in x ** 2 for |x| <= 1.
_SINH = {
    DType.F32: (2.817439505615365e-06, 0.00019836066275886517, 0.008333350597881886, 0.1666666648872156),
    DType.F64: (
        7.759312070583552e-13,
        1.6057240346191396e-10,
        2.505212339848425e-08,
        2.7557319155337366e-06,
        0.00019841269841437678,
        0.008333333333333139,
        0.16666666666666669,
    ),
}
_BELOW = (1.38145987e-3, 8.36871704e-3, 4.16683881e-2, 1.66665206e-1, 4.99999934e-1, 1.0, 1.0)
"""e ** r for |r| <= ln(2) / 2, minimax but for the last two: for float32 where it is one step of many."""
_RANGE = {DType.F32: (-104.0, 89.0), DType.F64: (-746.0, 710.0)}
"""Beyond it e ** x is 0 or infinity."""
_NORMAL = {DType.F32: (-87.0, 88.0), DType.F64: (-708.0, 709.0)}
"""Where e ** x is a normal number."""


def _reduced(k: Builder, x: Val, *, rough: bool = False) -> tuple[Val, Val]:
    """r and a power of two with e ** x = e ** r * 2 ** n and r small; x is bounded. The power comes as a float that has
    the biased exponent in its lowest bits. `rough`: r only to the last bit of x, if the processor fuses.
    """
    form = FORMATS[x.dtype]
    rounder = number(k, x, form.rounder + form.bias)
    moved = k.fma(x, number(k, x, LOG2_E), rounder)
    count = moved - rounder
    if rough and k.target.has_fma:
        return k.fma(count, number(k, x, -LN2), x), moved
    rest = k.fma(count, number(k, x, -form.ln2_high), x)
    return k.fma(count, number(k, x, -form.ln2_low), rest), moved


def _power_of_two(k: Builder, moved: Val) -> Val:
    """2 ** n, a normal number."""
    return k.bits(shifted_left(k, as_bits(k, moved), FORMATS[moved.dtype].mantissa), moved.dtype)


def _less_one(k: Builder, rest: Val) -> Val:
    """e ** r - 1 for |r| <= ln(2) / 2."""
    return k.fma(polynomial(k, rest, _TAIL[rest.dtype]), rest * rest, rest)


def _exp_parts(k: Builder, x: Val, low: Val | None = None) -> tuple[Val, Val]:
    """e ** (x + low) as a number between 0.7 and 1.5, NaN if x is, and an integer of powers of two to multiply it with;
    x is bounded, and `low` far below it.
    """
    rest, moved = _reduced(k, x)
    form = FORMATS[x.dtype]
    power = as_bits(k, moved) - as_bits(k, number(k, x, form.rounder + form.bias))
    return _less_one(k, rest if low is None else rest + low) + number(k, x, 1.0), power


def exp(k: Builder, x: Val) -> Val:
    """e ** x; subnormal results included."""
    return scaled_far(k, *_exp_parts(k, clamp(k, x, *_RANGE[x.dtype])))


def exp_sum(k: Builder, x: Val, low: Val) -> Val:
    """e ** (x + low), where `low` is far below x."""
    return scaled_far(k, *_exp_parts(k, clamp(k, x, *_RANGE[x.dtype]), low))


def exp_normal(k: Builder, x: Val) -> Val:
    """e ** x of x where that is normal, of the nearest such x where it is not; NaN gives NaN."""
    rest, moved = _reduced(k, clamp(k, x, *_NORMAL[x.dtype]))
    return (_less_one(k, rest) + number(k, x, 1.0)) * _power_of_two(k, moved)


def exp_below(k: Builder, x: Val) -> Val:
    """e ** x of x <= 0, within 3 ulp in float32; results below its normal numbers are 0, and NaN gives NaN."""
    if x.dtype is DType.F64:
        return exp(k, x)
    x = k.select(x < number(k, x, -88.0), number(k, x, -88.0), x)  # whose exponent comes out as that of 0
    rest, moved = _reduced(k, x, rough=True)
    return polynomial(k, rest, _BELOW) * _power_of_two(k, moved)


def expm1(k: Builder, x: Val) -> Val:
    """e ** x - 1, also of small x: (e ** r - 1 + 1 - 2 ** -n) * 2 ** n."""
    low, high = (-18.0, 89.0) if x.dtype is DType.F32 else (-40.0, 710.0)
    rest, moved = _reduced(k, clamp(k, x, low, high))
    form, one = FORMATS[x.dtype], number(k, x, 1.0)
    power = as_bits(k, moved) - as_bits(k, number(k, x, form.rounder + form.bias))
    inverse, least = -power, number(k, power, -100)  # of powers beyond 100 nothing is left beside 1
    inverse = k.select(inverse < least, least, inverse)
    value = _less_one(k, rest) + (one - scaled(k, one, inverse))
    return signed(k, scaled_far(k, value, power), x)


def expm1_near(k: Builder, x: Val) -> Val:
    """The same for x between -20 and 40, with less to do; NaN gives NaN."""
    rest, moved = _reduced(k, x, rough=True)
    scale = _power_of_two(k, moved)
    return k.fma(scale, _less_one(k, rest), scale - number(k, x, 1.0))


def tanh(k: Builder, x: Val) -> Val:
    """The hyperbolic tangent, as t / (t + 2) with t = e ** 2|x| - 1."""
    size, most = magnitude(k, x), number(k, x, 10.0 if x.dtype is DType.F32 else 20.0)
    size = k.select(size > most, most, size)
    less_one = expm1_near(k, size + size)
    return signed(k, less_one / (less_one + number(k, x, 2.0)), x)


def sigmoid(k: Builder, x: Val) -> Val:
    """1 / (1 + e ** -x), down to its smallest normal results."""
    one = number(k, x, 1.0)
    return one / (one + exp_normal(k, -x))


def softplus(k: Builder, x: Val) -> Val:
    """log(1 + e ** x), as max(x, 0) + log1p(e ** -|x|), which never overflows."""
    zero = number(k, x, 0.0)
    return k.select(zero > x, zero, x) + log1p(k, exp(k, -magnitude(k, x)))


def mish(k: Builder, x: Val) -> Val:
    """x * tanh(softplus(x)), as x * n / (n + 2) with n = e ** x * (e ** x + 2)."""
    two, most = number(k, x, 2.0), number(k, x, 20.0)
    power = exp(k, k.select(x > most, most, x))
    top = power * (power + two)
    return x * (top / (top + two))


def _half_exp(k: Builder, size: Val) -> Val:
    """e ** x / 2 of x >= 0, infinite only where it must be."""
    value, power = _exp_parts(k, clamp(k, size, 0.0, 90.0 if size.dtype is DType.F32 else 711.0))
    return scaled_far(k, value, power - number(k, power, 1))


def sinh(k: Builder, x: Val) -> Val:
    """The hyperbolic sine: an odd polynomial up to 1, e ** x / 2 less its inverse's quarter beyond."""
    size = magnitude(k, x)
    half = _half_exp(k, size)
    far = signed(k, half - number(k, x, 0.25) / half, x)
    square = x * x
    near = k.fma(polynomial(k, square, _SINH[x.dtype]) * square, x, x)
    return k.select(size < number(k, x, 1.0), near, far)


def cosh(k: Builder, x: Val) -> Val:
    """The hyperbolic cosine."""
    half = _half_exp(k, magnitude(k, x))
    return half + number(k, x, 0.25) / half
