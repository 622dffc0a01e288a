"""Pooling over sliding windows."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import hint
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import Expr, ExprBuilder, identity
from sardonyx.compiler.kernels.pool import Combine, MaxPoolIndices, Pool
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View, channels_last, row_major
from sardonyx.errors import InvalidModelError
from sardonyx.ops.places import epilogue_of, matrix_place, planes_place, result_stride
from sardonyx.ops.table import FLOATS, ints, lowers, opset
from sardonyx.ops.windows import Windows, in_planes, plane_windows, sweep_tile, windows

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.fuse import Fusion
    from sardonyx.compiler.lower import Lowering


_COMBINE: dict[str, Combine] = {"MaxPool": "max", "AveragePool": "mean"}

_MOST_TAPS = 1 << 24
"""Of a window in which the place of the maximum is asked for: it takes a table of them."""

Prelude = tuple[tuple[str, View | None], ...]


def _form(node: ir.Node) -> str | None:
    if node.op_type.endswith("LpPool") and opset(node) < 2:
        return "a fractional p, before opset 2"
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return None if shape is not None and 3 <= len(shape) <= 5 else "the rank of its input"


@lowers("AveragePool", "LpPool", "GlobalLpPool", dtypes=FLOATS, supports=_form)
@lowers("MaxPool", dtypes=FLOATS | {DType.I8, DType.U8}, supports=_form)
def pool(ctx: Lowering, node: ir.Node) -> None:
    """Maximum, mean or p-norm of each window; of maxima where they stand, too."""
    x = ctx.view(node.inputs[0])
    taps = x.dims[2:] if node.op_type == "GlobalLpPool" else ints(node, "kernel_shape") or ()
    shape = windows(node, x.dims[2:], taps, where=node.name or node.op_type)
    spatial = len(shape.out)
    dims = (*x.dims[:2], *shape.out)
    indexed = len(node.outputs) > 1 and bool(node.outputs[1].name)
    planes = not indexed and in_planes(ctx, x, shape)
    if not planes:
        x = ctx.channels_last(node.inputs[0])
    place = planes_place if planes else matrix_place((0, *range(2, 2 + spatial)), 1)
    before, after = _norm(ctx, node, x.dtype) if node.op_type.endswith("LpPool") else (identity(x.dtype), ())
    fusion = ctx.fusion(node, dims, x.dtype, place, after)
    strides = row_major(dims) if planes else channels_last(dims)
    y = ctx.result(fusion.output, dims, fusion.expr.dtype, strides, accepts=place)
    if indexed:
        _with_indices(ctx, node, x, shape, fusion, y)
        return
    if y.size == 0:
        return
    counted: dict[str, View | int] = {}
    if node.op_type == "AveragePool":
        padded = bool(node.attributes.get_int("count_include_pad", 0))
        for axis in range(spatial):
            low = -shape.before[axis] if padded else 0
            high = shape.size[axis] + (shape.after[axis] if padded else 0)
            counted |= {f"low{axis}": low, f"high{axis}": high}
    combine = _COMBINE.get(node.op_type, "sum")
    if planes:
        plane_windows(ctx, x, shape, fusion, y, combine, before, counted)
        return
    epilogue, operands = epilogue_of(fusion)
    pixels, vectors = sweep_tile(ctx.target.lanes(x.dtype), x.dims[1])
    ctx.step(
        Pool(combine, before, pixels, vectors, spatial, epilogue),
        arguments(x=x, y=y, y_row=result_stride(y)) | counted | shape.sweep(x) | operands,
        domain=x.dims[0] * shape.rows,
        label=fusion.label,
        cost=hint(shape.out[-1] * x.dims[1] * prod(taps)) / 2,
    )


def _norm(ctx: Lowering, node: ir.Node, dtype: DType) -> tuple[Expr, Prelude]:
    """|x| ** p, to be summed, and what makes a norm of the sum."""
    p = node.attributes.get_int("p", 2)
    if p < 1:
        raise InvalidModelError("p is not a norm", where=node.name, expected="p > 0", got=str(p))
    e = ExprBuilder()
    factor = e.op("abs", e.leaf(dtype))
    power: int | None = None
    for bit in bin(p)[:1:-1]:  # the lowest first
        if bit == "1":
            power = factor if power is None else e.op("mul", power, factor)
        factor = e.op("mul", factor, factor)
    assert power is not None
    if p <= 2:
        return e.build(power), (("sqrt", None),) * (p - 1)
    root = ctx.constant(np.full((), 1.0 / p, dtype.numpy))
    return e.build(power), (("log", None), ("mul", root), ("exp", None))


def _with_indices(ctx: Lowering, node: ir.Node, x: View, shape: Windows, fusion: Fusion, y: View) -> None:
    """The maxima and their places: in row-major order of the spatial dims, or with the first moving fastest."""
    dims, spatial = (*x.dims[:2], *shape.out), len(shape.out)
    indices = ctx.result(node.outputs[1], dims, DType.I64, channels_last(dims))
    if y.size == 0:
        return
    if prod(shape.taps) > _MOST_TAPS:
        raise ValueError(f"a window of {prod(shape.taps):,} taps")
    columns_first = bool(node.attributes.get_int("storage_order", 0))
    walks = tuple(prod(x.dims[2 : 2 + a] if columns_first else x.dims[3 + a :]) for a in range(spatial))
    steps = tuple(d * w for d, w in zip(shape.dilation, walks, strict=True))

    def make(*steps: int) -> tuple[np.ndarray]:
        return (np.tensordot(np.array(steps, np.int64), np.indices(shape.taps, np.int64), 1).reshape(-1),)

    (offsets,) = ctx.computed(make, steps, ((DType.I64, (prod(shape.taps),)),), "offsets of taps")
    epilogue, operands = epilogue_of(fusion)
    plane = prod(x.dims[2:])
    ctx.step(
        MaxPoolIndices(spatial, x.dtype, epilogue),
        arguments(x=x, y=y, y_row=result_stride(y), indices=indices, indices_row=x.dims[1])
        | arguments(offsets=offsets, pixels=shape.pixels, image=x.dims[1] * plane, plane=plane)
        | {f"walk{axis}": walk for axis, walk in enumerate(walks)}
        | shape.sweep(x)
        | operands,
        domain=x.dims[0] * shape.rows,
        label=fusion.label,
        cost=hint(shape.out[-1]) * x.dims[1] * prod(shape.taps),
        writes=("y", "indices"),
    )
