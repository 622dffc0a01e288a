"""Inverses of the trigonometric and hyperbolic functions."""

from __future__ import annotations

from math import pi

from sardonyx.compiler.builder import Builder, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.vmath.base import LN2, clamp, magnitude, number, polynomial, signed
from sardonyx.compiler.vmath.logarithm import log1p

# (asin(x) - x) / x ** 3 in x ** 2 for |x| <= 1/2.
_ASIN = {
    DType.F32: (
        0.042218579060053094,
        0.024147594606966367,
        0.04547709986858304,
        0.07495241766439635,
        0.1666675392780345,
    ),
    DType.F64: (
        0.03267693853146931,
        -0.021077371151630758,
        0.021763555973352226,
        0.003683017937798645,
        0.010786535705495152,
        0.01139777472235838,
        0.013980961620125099,
        0.017351600076132033,
        0.022372215661296675,
        0.030381942683576756,
        0.04464285717512176,
        0.07499999999970261,
        0.16666666666666763,
    ),
}
# (atan(x) - x) / x ** 3 in x ** 2 for |x| <= tan(pi / 8).
_ATAN = {
    DType.F32: (
        -0.06083223759789804,
        0.10595915488988399,
        -0.14243837762875158,
        0.19998488894160452,
        -0.33333315497112526,
    ),
    DType.F64: (
        -0.017920791001081224,
        0.0380769901294441,
        -0.050397943118446295,
        0.05847997833644728,
        -0.06663118902257834,
        0.0769206151073182,
        -0.09090897829588034,
        0.1111111078590868,
        -0.1428571428024414,
        0.1999999999995404,
        -0.333333333333332,
    ),
}
_LOW = {
    DType.F32: (-8.742277657347586e-08 / 2, -8.742277657347586e-08 / 4),
    DType.F64: (6.123233995736766e-17, 3.061616997868383e-17),
}
"""What the constants pi / 2 and pi / 4 leave out."""
_HUGE = {DType.F32: 2.0**25, DType.F64: 2.0**54}
"""From where on a number's square plus 1 is its square."""


def _arc(k: Builder, x: Val) -> tuple[Val, Val]:
    """Whether |x| > 1/2, and asin(|x|) where not, asin(sqrt((1 - |x|) / 2)) where so."""
    size, half = magnitude(k, x), number(k, x, 0.5)
    large = size > half
    square = k.select(large, (number(k, x, 1.0) - size) * half, size * size)
    root = k.select(large, k.intrinsic("llvm.sqrt", square), size)
    return large, k.fma(polynomial(k, square, _ASIN[x.dtype]) * square, root, root)


def asin(k: Builder, x: Val) -> Val:
    """The inverse of the sine, NaN beyond [-1, 1]: of |x| > 1/2 as pi/2 - 2 asin(sqrt((1 - |x|) / 2))."""
    large, arc = _arc(k, x)
    low, high = number(k, x, _LOW[x.dtype][0]), number(k, x, pi / 2)
    return signed(k, k.select(large, high - ((arc + arc) - low), arc), x)


def acos(k: Builder, x: Val) -> Val:
    """The inverse of the cosine, NaN beyond [-1, 1]."""
    large, arc = _arc(k, x)
    low, high = number(k, x, _LOW[x.dtype][0]), number(k, x, pi / 2)
    below = x < number(k, x, 0.0)
    near = high - (signed(k, arc, x) - low)
    twice = arc + arc
    far = k.select(below, (high + high) - (twice - (low + low)), twice)
    return k.select(large, far, near)


def atan(k: Builder, x: Val) -> Val:
    """The inverse of the tangent: with 1 / x beyond tan(3 pi / 8), (x - 1) / (x + 1) beyond tan(pi / 8)."""
    size, one, zero = magnitude(k, x), number(k, x, 1.0), number(k, x, 0.0)
    far, middle = size > number(k, x, 2.414213562373095), size > number(k, x, 0.4142135623730950)
    top = k.select(far, -one, k.select(middle, size - one, size))
    t = top / k.select(far, size, k.select(middle, size + one, one))
    low_half, low_quarter = (number(k, x, part) for part in _LOW[x.dtype])
    base = k.select(far, number(k, x, pi / 2), k.select(middle, number(k, x, pi / 4), zero))
    low = k.select(far, low_half, k.select(middle, low_quarter, zero))
    square = t * t
    return signed(k, base + (t + k.fma(polynomial(k, square, _ATAN[x.dtype]) * square, t, low)), x)


def asinh(k: Builder, x: Val) -> Val:
    """The inverse of the hyperbolic sine: log1p(|x| + x ** 2 / (1 + sqrt(x ** 2 + 1)))."""
    size, one = magnitude(k, x), number(k, x, 1.0)
    huge = size > number(k, x, _HUGE[x.dtype])
    bounded = clamp(k, size, 0.0, _HUGE[x.dtype])
    square = bounded * bounded
    small = bounded + square / (one + k.intrinsic("llvm.sqrt", square + one))
    return signed(k, _log1p_or_twice(k, small, size, huge), x)


def acosh(k: Builder, x: Val) -> Val:
    """The inverse of the hyperbolic cosine, NaN below 1: log1p(t + sqrt(2 t + t ** 2)) with t = x - 1."""
    one = number(k, x, 1.0)
    huge = x > number(k, x, _HUGE[x.dtype])
    t = clamp(k, x, 0.0, _HUGE[x.dtype]) - one
    small = t + k.intrinsic("llvm.sqrt", k.fma(t, t, t + t))
    result = _log1p_or_twice(k, small, x, huge)
    return k.select(x < one, number(k, x, float("nan")), result)


def _log1p_or_twice(k: Builder, small: Val, x: Val, huge: Val) -> Val:
    """log1p(small), or log(2 x) where x is huge."""
    extra = k.select(huge, number(k, x, LN2), number(k, x, 0.0))
    return log1p(k, k.select(huge, x, small)) + extra


def atanh(k: Builder, x: Val) -> Val:
    """The inverse of the hyperbolic tangent, NaN beyond [-1, 1]: log1p(2 |x| / (1 - |x|)) / 2."""
    size = magnitude(k, x)
    return signed(k, number(k, x, 0.5) * log1p(k, (size + size) / (number(k, x, 1.0) - size)), x)
