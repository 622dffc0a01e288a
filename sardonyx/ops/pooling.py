"""Pooling over sliding windows."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from sardonyx.compiler.kernels.pool import Pool
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View, channels_last
from sardonyx.ops.places import epilogue_of, matrix_place
from sardonyx.ops.table import FLOATS, ints, lowers
from sardonyx.ops.windows import sweep_tile, windows

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering


def _form(node: ir.Node) -> str | None:
    if len(node.outputs) > 1:
        return "the indices output"
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return None if shape is not None and 3 <= len(shape) <= 5 else "the rank of its input"


@lowers("MaxPool", "AveragePool", dtypes=FLOATS, supports=_form)
def pool(ctx: Lowering, node: ir.Node) -> None:
    """Maximum or mean of each window."""
    mean = node.op_type == "AveragePool"
    x = ctx.channels_last(node.inputs[0])
    taps = ints(node, "kernel_shape") or ()
    shape = windows(node, x.dims[2:], taps, where=node.name or node.op_type)
    spatial = len(shape.out)
    dims = (*x.dims[:2], *shape.out)
    fusion = ctx.fusion(node, dims, x.dtype, matrix_place((0, *range(2, 2 + spatial)), 1))
    y = ctx.result(fusion.output, dims, fusion.expr.dtype, channels_last(dims))
    if y.size == 0:
        return
    epilogue, operands = epilogue_of(fusion)
    counted: dict[str, View | int] = {}
    if mean:
        padded = bool(node.attributes.get_int("count_include_pad", 0))
        for axis in range(spatial):
            low = -shape.before[axis] if padded else 0
            high = shape.size[axis] + (shape.after[axis] if padded else 0)
            counted |= {f"low{axis}": low, f"high{axis}": high}
    pixels, vectors = sweep_tile(ctx.target.lanes(x.dtype), x.dims[1])
    ctx.step(
        Pool(mean, pixels, vectors, spatial, x.dtype, epilogue),
        arguments(x=x, y=y, y_row=x.dims[1]) | counted | shape.sweep(x) | operands,
        domain=x.dims[0] * shape.rows,
        label=fusion.label,
        cost=shape.out[-1] * x.dims[1] * prod(taps) / 2,
    )
