"""Quantised numbers, and products of them. Sums are exact: in int32, or in float64, which holds all of int32."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.body import Body, Results
from sardonyx.model.standard.table import defines

_FLOAT, _DOUBLE, _INT32 = ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT32
_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _spread(b: Body, value: ir.Value, x: ir.Value) -> ir.Value:
    """A scale or zero point so that it broadcasts against x: of the tensor, of each place of `axis`, or of blocks."""
    size, rank = b.int("block_size", 0), b.rank(x)
    if b.rank(value) == 0:
        return value
    if not size and b.rank(value) == 1 and b.dim(value, 0) == 1:
        return b("Reshape", value, np.array([], np.int64))
    axis = b.int("axis", 1)
    axis += rank if axis < 0 else 0
    if not 0 <= axis < max(rank, 1):
        b.refuse(f"there is no axis {axis}")
    if size:
        repeated = b("Expand", b("Unsqueeze", value, [axis + 1]), [*[1] * (axis + 1), size, *[1] * (rank - axis - 1)])
        joined = b("Reshape", repeated, [*[0] * axis, -1, *_after(b, value, axis)])
        return b("Slice", joined, [0], b("Shape", x, start=axis, end=axis + 1), [axis])
    trailing = rank - axis - b.rank(value)
    return b("Unsqueeze", value, list(range(1, trailing + 1))) if trailing > 0 else value


def _after(b: Body, value: ir.Value, axis: int) -> list[int]:
    """The dims behind `axis`, which must be numbers for a reshape that leaves another one open."""
    return [b.known_dim(value, index) for index in range(axis + 1, b.rank(value))]


@defines("DequantizeLinear")
def dequantize(b: Body) -> Results:
    """(x - zero point) * scale."""
    x, scale, zero = b.input(0), b.input(1), b.optional(2)
    whole = b.dtype(x).is_integer()
    inner = _INT32 if whole else _FLOAT
    wide = b.cast(x, inner)
    if zero is not None:
        wide = b("Sub", wide, b.cast(_spread(b, zero, x), inner))
    y = b("Mul", b.cast(wide, _FLOAT), b.cast(_spread(b, scale, x), _FLOAT))
    return b.cast(y, ir.DataType(b.int("output_dtype", 0) or int(b.dtype(scale))))


@defines("QuantizeLinear")
def quantize(b: Body) -> Results:
    """x / scale rounded to the nearest, of two the even, plus the zero point, as the nearest number of the type."""
    x, scale, zero = b.input(0), b.input(1), b.optional(2)
    to = ir.DataType(b.int("output_dtype", 0) or int(ir.DataType.UINT8 if zero is None else b.dtype(zero)))
    precision = ir.DataType(b.int("precision", 0) or int(b.dtype(scale) if b.dtype(x).is_integer() else b.dtype(x)))
    steps = b("Div", b.cast(x, precision), b.cast(_spread(b, scale, x), precision))
    offset = None if zero is None else _spread(b, zero, x)
    return _rounded(b, b.cast(steps, _FLOAT), offset, to)


def _rounded(b: Body, steps: ir.Value, offset: ir.Value | None, to: ir.DataType) -> ir.Value:
    """float32 numbers as those of a narrow type."""
    if not to.is_integer():
        shifted = steps if offset is None else b("Add", steps, b.cast(offset, _FLOAT))
        saturate = b.int("saturate", 1) if "FLOAT8" in to.name else None
        return b("Cast", shifted, to=int(to), saturate=saturate)
    whole = b("Round", steps)
    shifted = whole if offset is None else b("Add", whole, b.cast(offset, _FLOAT))
    limits = ml_dtypes.iinfo(to.numpy())  # type: ignore[no-untyped-call]
    low, high = (np.array(int(limit), np.float32) for limit in (limits.min, limits.max))
    return b.cast(b("Clip", shifted, low, high), to)


def _centred(b: Body, value: ir.Value, zero: ir.Value | None, to: ir.DataType, *, rows: bool = False) -> ir.Value:
    """value - zero point, where that is one number, one for each column or, with `rows`, for each row."""
    wide = b.cast(value, to)
    if zero is None:
        return wide
    if rows and b.rank(zero) == 1 and b.dim(zero, 0) != 1:
        zero = b("Unsqueeze", zero, [1])
    return b("Sub", wide, b.cast(zero, to))


@defines("MatMulInteger")
def matmul_integer(b: Body) -> Results:
    """(A - zero points by rows) * (B - zero points by columns), in int32."""
    left = _centred(b, b.input(0), b.optional(2), _INT32, rows=True)
    return b("MatMul", left, _centred(b, b.input(1), b.optional(3), _INT32))


@defines("QLinearMatMul")
def qlinear_matmul(b: Body) -> Results:
    """The product of quantised matrices, quantised."""
    a, a_scale, a_zero, w, w_scale, w_zero, y_scale, y_zero = (b.input(index) for index in range(8))
    inner = _INT32 if b.dtype(a).is_integer() else _FLOAT
    left = _centred(b, a, a_zero, inner, rows=True)
    total = b("MatMul", left, _centred(b, w, w_zero, inner))
    if b.rank(a_scale) == 1 and b.dim(a_scale, 0) != 1:
        a_scale = b("Unsqueeze", a_scale, [1])
    return _requantized(b, total, (a_scale, w_scale, y_scale), y_zero)


def _requantized(b: Body, total: ir.Value, scales: tuple[ir.Value, ir.Value, ir.Value], zero: ir.Value) -> ir.Value:
    """A sum of products as a quantised number: times both operands' scales, over the result's."""
    left, right, result = (b.cast(scale, _FLOAT) for scale in scales)
    factor = b("Div", b("Mul", left, right), result)
    return _rounded(b, b("Mul", b.cast(total, _FLOAT), factor), zero, b.dtype(zero))


def _convolved(b: Body, x: tuple[ir.Value, ir.Value | None], w: tuple[ir.Value, ir.Value | None]) -> ir.Value:
    """The convolution of whole numbers, exactly, in float64; x and w each with its zero points."""
    data = _centred(b, x[0], x[1], _DOUBLE)
    zeros = w[1]
    if zeros is not None and b.rank(zeros) == 1 and b.dim(zeros, 0) != 1:
        zeros = b("Unsqueeze", zeros, list(range(1, b.rank(w[0]))))
    return b("Conv", data, _centred(b, w[0], zeros, _DOUBLE), **b.kept(*_CONV))


@defines("ConvInteger")
def conv_integer(b: Body) -> Results:
    """The convolution of 8-bit numbers, in int32."""
    found = _convolved(b, (b.input(0), b.optional(2)), (b.input(1), b.optional(3)))
    return b.cast(found, _INT32)


@defines("QLinearConv")
def qlinear_conv(b: Body) -> Results:
    """The convolution of quantised numbers, quantised; filters may have a scale each."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (b.input(index) for index in range(8))
    total, bias = _convolved(b, (x, x_zero), (w, w_zero)), b.optional(8)
    behind = list(range(1, b.rank(x) - 1))
    if bias is not None:
        total = b("Add", total, b.cast(b("Unsqueeze", bias, behind), _DOUBLE))
    if b.rank(w_scale) == 1 and b.dim(w_scale, 0) != 1:
        w_scale = b("Unsqueeze", w_scale, behind)
    return _requantized(b, total, (x_scale, w_scale, y_scale), y_zero)
