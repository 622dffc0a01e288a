"""Conversions between element types, as ONNX's Cast has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.compiler.dtypes import DType, Rounding
from sardonyx.compiler.narrow import narrowed, to_odd, widened, with_sticky_bit
from sardonyx.compiler.saturate import saturated
from sardonyx.compiler.values import Val, register_type

if TYPE_CHECKING:
    from sardonyx.compiler.builder import Builder

_EXACT = 2
"""Bytes of the largest integers of which float32 has all."""


def cast(k: Builder, value: Val, dtype: DType, rounding: Rounding) -> Val:
    """The number as another type: floats to integers truncate, anything to bool is `!= 0`, integers lose their upper
    bits.

    Floats beyond an integer type's range saturate, but to those of less than a byte they lose upper bits, too (the
    standard leaves that undefined, but its test suite has it so); NaN gives 0. What is cast to a
    narrow type is rounded to a number of that type, once, and stays in its register type.
    """
    if dtype.is_narrow:
        stored = narrowed(k, _near(k, value, dtype), dtype, rounding)
        made = widened(k, stored, dtype, value.lanes)
        return Val(k, made.ir, made.dtype, made.lanes, (dtype, stored))
    return _plain(k, value, dtype)


def _near(k: Builder, value: Val, dtype: DType) -> Val:
    """As a narrow type's register type, so that rounding that again is as good as rounding at once."""
    if not dtype.is_float:
        return _plain(k, _plain(k, value, DType.I32) if value.dtype.is_float else value, dtype.register)
    wide = value.dtype is not DType.F32 and value.dtype.size > _EXACT
    if value.dtype in (DType.I64, DType.U64):
        value = with_sticky_bit(k, value)
    return to_odd(k, _plain(k, value, DType.F64)) if wide else _plain(k, value, DType.F32)


def _plain(k: Builder, value: Val, dtype: DType) -> Val:
    """To a type that is not narrow."""
    source, lanes = value.dtype, value.lanes
    if source is dtype:
        return value
    kind = register_type(dtype, lanes)
    if dtype is DType.BOOL:
        return value.compare("!=", k.const(0, source, lanes))
    if source is DType.BOOL:
        method = k.ir.uitofp if dtype.is_float else k.ir.zext
    elif source.is_float and dtype.is_float:
        method = k.ir.fpext if dtype.size > source.size else k.ir.fptrunc
    elif source.is_float:
        return saturated(k, value, dtype)
    elif dtype.is_float:
        method = k.ir.sitofp if source.is_signed else k.ir.uitofp
    elif dtype.size < source.size:
        method = k.ir.trunc
    elif dtype.size == source.size:
        return Val(k, value.ir, dtype, lanes)
    else:
        method = k.ir.sext if source.is_signed else k.ir.zext
    return Val(k, method(value.ir, kind), dtype, lanes)
