"""Floats to integers: truncated, the nearest there is beyond the type's range, 0 for NaN.

In vectors on every processor, by comparisons and sums: LLVM's own saturating conversions go lane by lane where there is
no instruction for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.values import Val, register_type

if TYPE_CHECKING:
    from sardonyx.compiler.builder import Builder

_ANCHOR = 2.0**52
"""Plus an integer below it, the float64 whose lowest bits are that integer."""
_WORD = 2.0**32


def saturated(k: Builder, value: Val, dtype: DType) -> Val:
    """The float `value` as an integer type."""
    if dtype is DType.I32 or dtype.size < 4:
        return _small(k, value, dtype)
    (lowest, highest), lanes = dtype.limits, value.lanes
    wide = k.cast(value, DType.F64)
    above, least = float(highest) + (dtype is DType.U32), float(lowest)
    over = wide.compare(">=", k.const(above, DType.F64, lanes))
    under = wide < k.const(least, DType.F64, lanes)
    inside = (over | under | wide.compare("!=", wide)) ^ k.const(True, DType.BOOL, lanes)
    whole = k.intrinsic("llvm.trunc", k.select(inside, wide, k.const(0.0, DType.F64, lanes)))
    result = _unsigned(k, whole) if dtype is DType.U32 else _two_words(k, whole)
    result = Val(k, k.ir.trunc(result.ir, register_type(dtype, lanes)), dtype, lanes) if dtype.size == 4 else result
    result = Val(k, result.ir, dtype, lanes)
    result = k.select(over, k.const(highest, dtype, lanes), result)
    return k.select(under, k.const(lowest, dtype, lanes), result)


def _unsigned(k: Builder, whole: Val) -> Val:
    """A float64 that is an integer from 0 to 2 ** 32, as int64."""
    anchor = k.const(_ANCHOR, DType.F64, whole.lanes)
    return k.bits(whole + anchor, DType.I64) ^ k.bits(anchor, DType.I64)


def _two_words(k: Builder, whole: Val) -> Val:
    """A float64 that is an integer, as int64 or, of 2 ** 63 and more, as uint64 of the same bits."""
    word, anchor = (k.const(number, DType.F64, whole.lanes) for number in (_WORD, 1.5 * _ANCHOR))
    high = k.intrinsic("llvm.floor", whole * k.const(1.0 / _WORD, DType.F64, whole.lanes))
    low = _unsigned(k, whole - high * word)
    count = k.bits(high + anchor, DType.I64) - k.bits(anchor, DType.I64)
    moved = k.ir.shl(count.ir, k.const(32, DType.I64, whole.lanes).ir)
    return Val(k, moved, DType.I64, whole.lanes) + low


def _small(k: Builder, value: Val, dtype: DType) -> Val:
    (lowest, highest), source, lanes = dtype.limits, value.dtype, value.lanes
    low, above = k.const(float(lowest), source, lanes), k.const(float(highest) + 1.0, source, lanes)
    over, under = value.compare(">=", above), value < low
    inside = k.select(value.compare(">=", low) & (value < above), value, k.const(0.0, source, lanes))
    whole = Val(k, k.ir.fptosi(inside.ir, register_type(DType.I32, lanes)), DType.I32, lanes)
    whole = k.select(over, k.const(highest, DType.I32, lanes), whole)
    return k.cast(k.select(under, k.const(lowest, DType.I32, lanes), whole), dtype)
