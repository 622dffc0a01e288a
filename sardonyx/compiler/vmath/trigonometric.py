"""Sine, cosine and tangent of any float: x less the nearest multiple of pi / 2, then a polynomial.

Up to 2 ** 17 (float32, reduced in float64) or 2 ** 20 (float64) the multiple is subtracted in parts of which the
products are exact (Cody and Waite). Larger ones are reduced one by one with the bits of 2 / pi that matter (Payne and
Hanek, Radian reduction for trigonometric functions), in 128-bit integers: rare, and as accurate.
"""

from __future__ import annotations

from itertools import pairwise

from llvmlite import ir

from sardonyx.compiler.builder import I32, Builder, Int, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.vmath.base import (
    fast_two_sum,
    magnitude,
    nearest,
    number,
    polynomial,
    shifted_left,
    shifted_right,
    two_product,
    two_sum,
)

# (sin(r) - r) / r ** 3 and (cos(r) - 1 + r ** 2 / 2) / r ** 4 in r ** 2 for |r| <= pi / 4.
_SIN = {
    DType.F32: (-0.0001950431730654551, 0.008332083459523723, -0.16666653471265136),
    DType.F64: (
        1.589030748041505e-10,
        -2.505064777620625e-08,
        2.7557312999560286e-06,
        -0.00019841269827855254,
        0.00833333333332004,
        -0.16666666666666624,
    ),
}
_COS = {
    DType.F32: (2.4418128062596208e-05, -0.0013887184698800775, 0.04166664298363084),
    DType.F64: (
        -1.1353971027584767e-11,
        2.0875612927773424e-09,
        -2.7557313535269617e-07,
        2.480158728663508e-05,
        -0.0013888888888869534,
        0.041666666666666574,
    ),
}
_TWO_OVER_PI = 0.6366197723675814
_HALF_PI = (1.5707963267948966, 6.123233995736766e-17)
_HALF_PI_SHORT = (1.5707963267341256, 6.077100506506192e-11)
"""Of 33 bits, and what is left."""
_HALF_PI_PARTS = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32)
"""Three of 33 bits, and what is left."""
_LARGE = {DType.F32: 2.0**17, DType.F64: 2.0**20}
_BITS = (
    *(0x0000000000000000, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561),
    *(0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484, 0xE99C7026B45F7E41),
    *(0x3991D639835339F4, 0x9C845F8BBDF9283B, 0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7),
    *(0x4F463F669E5FEA2D, 0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB),
    0xF0CFBC209AF4361D,
)
"""Of 2 / pi, after 64 zeros."""


def sin(k: Builder, x: Val) -> Val:
    """The sine; of infinities NaN."""
    quadrant, sine, cosine = _waves(k, x)
    return _signed(k, quadrant, k.select(_is_odd(k, quadrant), cosine, sine))


def cos(k: Builder, x: Val) -> Val:
    """The cosine; of infinities NaN."""
    quadrant, sine, cosine = _waves(k, x)
    ahead = quadrant + number(k, quadrant, 1)
    return _signed(k, ahead, k.select(_is_odd(k, ahead), cosine, sine))


def tan(k: Builder, x: Val) -> Val:
    """The tangent; of infinities NaN."""
    quadrant, sine, cosine = _waves(k, x)
    odd = _is_odd(k, quadrant)
    return k.select(odd, cosine, sine) / k.select(odd, -sine, cosine)


def _is_odd(k: Builder, quadrant: Val) -> Val:
    return (quadrant & number(k, quadrant, 1)).compare("!=", number(k, quadrant, 0))


def _signed(k: Builder, quadrant: Val, value: Val) -> Val:
    flip = (quadrant & number(k, quadrant, 2)).compare("!=", number(k, quadrant, 0))
    return k.select(flip, -value, value)


def _waves(k: Builder, x: Val) -> tuple[Val, Val, Val]:
    """The number of quarter turns taken from x, and sine and cosine of what is left."""
    large = magnitude(k, x) > number(k, x, _LARGE[x.dtype])
    quadrant, rest, low = _near(k, x) if x.dtype is DType.F64 else _near_single(k, x)
    quadrant, rest, low = _far(k, x, large, (quadrant, rest, low))
    finite = magnitude(k, x) < number(k, x, float("inf"))
    rest = k.select(finite, rest, number(k, x, float("nan")))
    z = rest * rest
    one, half = number(k, x, 1.0), number(k, x, 0.5)
    sine_tail, cosine_tail = polynomial(k, z, _SIN[x.dtype]), polynomial(k, z, _COS[x.dtype])
    if x.dtype is DType.F32:
        sine = k.fma(sine_tail * z, rest, rest)
        return quadrant, sine, k.fma(k.fma(cosine_tail, z, -half), z, one)
    drop = half * z
    level = one - drop
    cosine = level + (((one - level) - drop) + k.fma(cosine_tail * z, z, -(rest * low)))
    return quadrant, rest + k.fma(sine_tail * z, rest, low * level), cosine


def _near_single(k: Builder, x: Val) -> tuple[Val, Val, Val]:
    count, quadrant = nearest(k, x, _TWO_OVER_PI)
    turns, rest = k.cast(count, DType.F64), k.cast(x, DType.F64)
    for part in _HALF_PI_SHORT:
        rest = k.fma(turns, number(k, turns, -part), rest)
    single = k.cast(rest, DType.F32)
    tiny = count.compare("==", number(k, count, 0.0))  # where the sign of zero is kept
    return quadrant, k.select(tiny, x, single), number(k, x, 0.0)


def _near(k: Builder, x: Val) -> tuple[Val, Val, Val]:
    count, quadrant = nearest(k, x, _TWO_OVER_PI)
    first, second, third, last = (number(k, x, part) for part in _HALF_PI_PARTS)
    rest, low = two_sum(x - count * first, -(count * second))
    rest, more = two_sum(rest, -(count * third))
    low = (low + more) - count * last
    rest, low = fast_two_sum(rest, low)
    tiny = count.compare("==", number(k, count, 0.0))
    return quadrant, k.select(tiny, x, rest), k.select(tiny, number(k, x, 0.0), low)


def _far(k: Builder, x: Val, large: Val, near: tuple[Val, Val, Val]) -> tuple[Val, Val, Val]:
    """The same, with the lanes that are large reduced by Payne and Hanek's way."""
    carried = list(near)
    table = k.table(DType.U64, _BITS)
    with k.loop(k.pick(k.any(large), x.lanes, 0), carry=carried) as lane:
        place = k.ir.trunc(lane.ir, I32)

        def element(vector: Val) -> Val:
            taken = k.ir.extract_element(vector.ir, place) if x.lanes > 1 else vector.ir
            return Val(k, taken, vector.dtype, 1)

        quadrant, rest, low = _payne_hanek(k, k.cast(element(x), DType.F64), table)
        found = (k.cast(quadrant, near[0].dtype), k.cast(rest, x.dtype), k.cast(low, x.dtype))
        for index, (old, new) in enumerate(zip(carried, found, strict=True)):
            chosen = k.select(element(large), new, element(old)).ir
            put = k.ir.insert_element(old.ir, chosen, place) if x.lanes > 1 else chosen
            carried[index] = Val(k, put, old.dtype, old.lanes)
    return carried[0], carried[1], carried[2]


def _payne_hanek(k: Builder, x: Val, table: Ptr) -> tuple[Val, Val, Val]:
    """Quarter turns modulo 4 in one float64 beyond 2 ** 17, and the rest as a pair.

    x = M * 2 ** q with an integer M of 53 bits. Of 2 / pi the bits before place q - 1 make multiples of four turns;
    the 192 from there on make the product modulo 4, to 126 bits after the point.
    """
    u128 = ir.IntType(128)
    bits = k.bits(x, DType.U64)

    def constant(value: int) -> Val:
        return k.const(value, DType.U64)

    whole = (bits & constant((1 << 52) - 1)) | constant(1 << 52)
    exponent = shifted_right(k, bits, 52) & constant(0x7FF)
    at = exponent - constant(1023 + 52 - 62)  # of the first bit that matters, in the table
    word, shift = k.min(Int(k, shifted_right(k, at, 6).ir), len(_BITS) - 4), at & constant(63)
    word = k.max(word, 0)
    words = [k.load(table + (word + index)) for index in range(4)]
    rest = constant(63) - shift
    parts = [
        Val(k, k.ir.or_(k.ir.shl(a.ir, shift.ir), k.ir.lshr(shifted_right(k, b, 1).ir, rest.ir)), DType.U64, 1)
        for a, b in pairwise(words)
    ]
    factor = k.ir.zext(whole.ir, u128)
    first, second, third = (k.ir.mul(factor, k.ir.zext(part.ir, u128)) for part in parts)
    by64 = ir.Constant(u128, 64)
    product = k.ir.add(k.ir.add(k.ir.shl(first, by64), second), k.ir.lshr(third, by64))
    top = Val(k, k.ir.trunc(k.ir.lshr(product, by64), ir.IntType(64)), DType.U64, 1)
    bottom = Val(k, k.ir.trunc(product, ir.IntType(64)), DType.U64, 1)
    turns = shifted_right(k, top, 62) + (shifted_right(k, top, 61) & constant(1))
    high = Val(k, (shifted_left(k, top, 2) | shifted_right(k, bottom, 62)).ir, DType.I64, 1)
    rest_bits = shifted_left(k, bottom, 2)
    pieces = (
        k.cast(shifted_right(k, high, 32, arithmetic=True), DType.F64) * k.const(2.0**-32, DType.F64),
        k.cast(high & k.const(0xFFFFFFFF, DType.I64), DType.F64) * k.const(2.0**-64, DType.F64),
        k.cast(shifted_right(k, rest_bits, 11), DType.F64) * k.const(2.0**-117, DType.F64),
    )
    total, low = two_sum(pieces[0], pieces[1])
    total, more = fast_two_sum(total, low + pieces[2])
    rest_high, rest_low = two_product(k, total, k.const(_HALF_PI[0], DType.F64))
    rest_low = rest_low + k.fma(total, k.const(_HALF_PI[1], DType.F64), more * k.const(_HALF_PI[0], DType.F64))
    rest_high, rest_low = fast_two_sum(rest_high, rest_low)
    below = x < k.const(0.0, DType.F64)
    count = Val(k, turns.ir, DType.I64, 1)
    return (
        k.select(below, -count, count),
        k.select(below, -rest_high, rest_high),
        k.select(below, -rest_low, rest_low),
    )
