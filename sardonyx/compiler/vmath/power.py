"""Powers of floating-point numbers, with all the special cases of C's pow."""

from __future__ import annotations

from sardonyx.compiler.builder import Builder, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.vmath.base import (
    FORMATS,
    Pair,
    as_bits,
    fast_two_sum,
    is_nan,
    magnitude,
    normal_parts,
    number,
    polynomial,
    two_product,
    two_sum,
)
from sardonyx.compiler.vmath.exponential import exp, exp_sum
from sardonyx.compiler.vmath.logarithm import log_of_parts

# (2 * atanh(s) / s - 2 - 2 * s ** 2 / 3) / s ** 4 in s ** 2.
_FAR = (
    0.13196522928552215,
    0.13256797156093783,
    0.1538675820104812,
    0.181817843485516,
    0.2222222252013164,
    0.2857142857009842,
    0.40000000000002256,
)
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)


def power(k: Builder, x: Val, y: Val) -> Val:
    """x ** y; y has the type of x, or is float64 beside a float32 x.

    float32 goes through float64; float64 through a logarithm of twice the precision.
    """
    whole = _is_integer(k, y)
    half = y * number(k, y, 0.5)
    odd = whole & (_is_integer(k, half) ^ k.const(True, DType.BOOL, y.lanes))
    wide = x if x.dtype is DType.F64 else k.cast(x, DType.F64)
    size, exponent = magnitude(k, wide), k.cast(y, DType.F64)
    if x.dtype is DType.F64:
        result = _exp_product(k, exponent, _log_pair(k, size))
    else:
        result = exp(k, exponent * log_of_parts(k, *normal_parts(k, size)))
    zero, one, infinity = number(k, wide, 0.0), number(k, wide, 1.0), number(k, wide, float("inf"))
    empty, endless = size.compare("==", zero), size.compare("==", infinity)
    grows = endless ^ (exponent < zero)
    result = k.select(empty | endless, k.select(grows, infinity, zero), result)
    result = k.select(size.compare("==", one), one, result)
    below = as_bits(k, wide)
    below_zero = below < number(k, below, 0)
    ordinary = empty | endless | whole
    nan = number(k, wide, float("nan"))
    result = k.select(below_zero & odd, -result, result)
    result = k.select(below_zero & (ordinary ^ k.const(True, DType.BOOL, x.lanes)), nan, result)
    result = k.select(is_nan(wide) | is_nan(exponent), nan, result)
    result = k.select(exponent.compare("==", zero) | wide.compare("==", one), one, result)
    return k.cast(result, x.dtype)


def _is_integer(k: Builder, y: Val) -> Val:
    return k.intrinsic("llvm.trunc", y).compare("==", y)


def _log_pair(k: Builder, x: Val) -> Pair:
    """log(x) to 2 ** -64 of itself, for positive x: 2 s + 2/3 s ** 3 + ... with s = f / (2 + f), the first two terms
    as pairs.
    """
    form = FORMATS[x.dtype]
    f, count = normal_parts(k, x)
    two = number(k, x, 2.0)
    bottom, bottom_low = fast_two_sum(two, f)
    s = f / bottom
    product, product_low = two_product(k, s, bottom)
    s_low = (((f - product) - product_low) - s * bottom_low) / bottom
    z, z_low = two_product(k, s, s)
    z_low = k.fma(s + s, s_low, z_low)
    cube, cube_low = two_product(k, s, z)
    cube_low = cube_low + k.fma(s, z_low, s_low * z)
    third, third_low = (number(k, x, part) for part in _TWO_THIRDS)
    term, term_low = two_product(k, cube, third)
    term_low = term_low + k.fma(cube, third_low, cube_low * third)
    far = polynomial(k, z, _FAR) * (s * z) * z
    high, low = fast_two_sum(s + s, term)
    low = low + ((s_low + s_low) + (term_low + far))
    total, rest = two_sum(count * number(k, x, form.ln2_high), high)
    return fast_two_sum(total, rest + k.fma(count, number(k, x, form.ln2_low), low))


def _exp_product(k: Builder, y: Val, pair: Pair) -> Val:
    """e ** (y * pair)."""
    high, low = two_product(k, y, pair[0])
    low = k.fma(y, pair[1], low)
    sure = magnitude(k, high) < number(k, y, 1000.0)  # else e ** high is 0 or infinite, and low may not be a number
    return exp_sum(k, high, k.select(sure, low, number(k, y, 0.0)))
