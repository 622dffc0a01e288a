"""What a division leaves, exactly."""

from __future__ import annotations

from sardonyx.compiler.builder import Builder, Int, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.vmath.base import as_bits, is_nan, magnitude, number, shifted_right, signed

_KEPT = 26
"""Bits of a quotient that are taken away at once: times half a float64 they are exact."""
_FAR = 700
"""A quotient may be beyond the range of numbers: multiples of the divisor by powers of this come first."""


def fmod(k: Builder, x: Val, y: Val) -> Val:
    """x - trunc(x / y) * y, with the sign of x and without an error, as C's fmod; NaN for y of 0 and infinite x.

    Quotients are taken away 26 bits at a time, so it takes longer the larger x / y is.
    """
    if x.dtype is DType.F32:
        return k.cast(_fmod(k, k.cast(x, DType.F64), k.cast(y, DType.F64), far=False), DType.F32)
    return _fmod(k, x, y, far=True)


def _fmod(k: Builder, x: Val, y: Val, *, far: bool) -> Val:
    """Of float64; `far` if the quotient can be beyond its range."""
    rest, divisor = magnitude(k, x), magnitude(k, y)
    zero, infinity, one = (number(k, x, value) for value in (0.0, float("inf"), 1.0))
    endless = divisor.compare("==", infinity)
    undefined = is_nan(x) | is_nan(y) | rest.compare("==", infinity) | divisor.compare("==", zero)
    simple = undefined | endless
    rest, divisor = k.select(simple, zero, rest), k.select(simple, one, divisor)
    for powers in (2, 1) if far else ():
        multiple = divisor
        for _ in range(powers):
            multiple = multiple * number(k, x, 2.0**_FAR)
        near = rest < multiple  # also where the multiple is infinite
        rest = k.select(near, rest, _reduced(k, rest, k.select(near, rest + one, multiple)))
    rest = _reduced(k, rest, divisor)
    result = signed(k, k.select(endless, magnitude(k, x), rest), x)
    return k.select(undefined, number(k, x, float("nan")), result)


def _reduced(k: Builder, rest: Val, divisor: Val) -> Val:
    """rest modulo divisor, both positive, in as many turns as the lane with the largest quotient takes."""
    exponents = [Val(k, shifted_right(k, as_bits(k, value), 52).ir, DType.I64, rest.lanes) for value in (rest, divisor)]
    apart = exponents[0] - exponents[1]
    most = k.reduce(apart, lambda a, b: k.select(a > b, a, b))
    turns = k.max(Int(k, most.ir) + (_KEPT + 1), 0) // (_KEPT - 2)
    carried = [rest]
    mask = number(k, as_bits(k, divisor), -(1 << (53 - _KEPT)))
    high = k.bits(as_bits(k, divisor) & mask, DType.F64)
    low = divisor - high
    with k.loop(turns, carry=carried):
        quotient = k.intrinsic("llvm.trunc", carried[0] / divisor)
        quotient = k.bits(as_bits(k, quotient) & mask, DType.F64)
        left = (carried[0] - quotient * high) - quotient * low
        carried[0] = k.select(left < number(k, left, 0.0), left + divisor, left)
    return carried[0]
