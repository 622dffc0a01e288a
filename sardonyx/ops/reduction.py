"""Reductions, global pooling, softmax, and batch normalisation that no convolution took in."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import Expr, ExprBuilder, identity
from sardonyx.compiler.kernels.reduce import Reduce, Softmax
from sardonyx.compiler.layout import uniform_stride
from sardonyx.compiler.lower import anywhere, arguments
from sardonyx.compiler.program import View, row_major
from sardonyx.ops.places import epilogue_of, matrix_place
from sardonyx.ops.table import FLOATS, NUMBERS, axes_input, axis_of, lowers, opset

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_COMBINE = {
    "ReduceSum": "sum",
    "ReduceMean": "sum",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceL1": "sum",
    "ReduceL2": "sum",
    "ReduceSumSquare": "sum",
    "GlobalAveragePool": "sum",
    "GlobalMaxPool": "max",
}
_MEANS = ("ReduceMean", "GlobalAveragePool")


def _before(op_type: str, dtype: DType) -> Expr:
    """What is done to each element before it is combined."""
    e = ExprBuilder()
    x = e.leaf(dtype)
    if op_type in ("ReduceL2", "ReduceSumSquare"):
        return e.build(e.op("mul", x, x))
    return e.build(e.op("abs", x)) if op_type == "ReduceL1" else identity(dtype)


@lowers("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", dtypes=NUMBERS, known=(1,))
@lowers("ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", dtypes=FLOATS, known=(1,))
def reduce(ctx: Lowering, node: ir.Node) -> None:
    """Reduce over the axes given as an attribute or, in newer opsets, as an input; over all when none are."""
    x = ctx.view(node.inputs[0])
    given = ctx.known(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = axes_input(None if given is None else [int(a) for a in given.reshape(-1)], node, len(x.dims))
    if not axes:
        if node.attributes.get_int("noop_with_empty_axes", 0):
            ctx.define(node.outputs[0], x)
            return
        axes = list(range(len(x.dims)))
    _reduce(ctx, node, x, axes, keep=bool(node.attributes.get_int("keepdims", 1)))


@lowers("GlobalAveragePool", "GlobalMaxPool", dtypes=FLOATS)
def global_pool(ctx: Lowering, node: ir.Node) -> None:
    """Reduce over all spatial dims."""
    x = ctx.view(node.inputs[0])
    _reduce(ctx, node, x, list(range(2, len(x.dims))), keep=True)


def _reduce(ctx: Lowering, node: ir.Node, x: View, axes: list[int], *, keep: bool) -> None:
    """One step: along a contiguous axis, or across one with the last kept axis contiguous; else after a copy."""
    kept = [a for a in range(len(x.dims)) if a not in axes]
    dims = tuple(1 if a in axes else d for a, d in enumerate(x.dims) if keep or a not in axes)
    places = kept if keep else list(range(len(kept)))
    walk = walk_over(x, kept, axes)
    if walk is None:
        x = ctx.copied(x.permute((*kept, *axes)))
        kept, axes = list(range(len(kept))), list(range(len(kept), len(x.dims)))
        walk = Walk(True, prod(x.dims[a] for a in axes), 1)
    column = None if walk.along else places[-1]
    rows = [i for i in range(len(dims)) if i != column]
    length = prod(x.dims[a] for a in axes)
    prelude: list[tuple[str, View | None]] = []
    if node.op_type in _MEANS:
        prelude.append(("mul", ctx.constant(np.full((), 1.0 / max(1, length), x.dtype.numpy))))
    if node.op_type == "ReduceL2":
        prelude.append(("sqrt", None))
    fusion = ctx.fusion(node, dims, x.dtype, matrix_place(rows, column), tuple(prelude))
    y = ctx.result(fusion.output, dims, fusion.expr.dtype)
    if y.size == 0:
        return
    epilogue, operands = epilogue_of(fusion)
    columns = 1 if column is None else dims[column]
    blocks = 1 if column is None else -(-columns // ctx.target.lanes(DType.F32))
    ctx.step(
        Reduce(_COMBINE[node.op_type], _before(node.op_type, x.dtype), walk.along, epilogue),
        arguments(
            x=x,
            y=y,
            length=length,
            columns=columns,
            column_blocks=blocks,
            x_outer=walk.outer,
            x_step=walk.step,
            y_outer=columns,
        )
        | operands,
        domain=prod(dims) // columns * blocks,
        label=fusion.label,
        cost=length * columns / blocks,
    )


@dataclass(frozen=True)
class Walk:
    """How a reduction reads its input: along contiguous elements or across them, and its two strides."""

    along: bool
    outer: int
    step: int


def walk_over(x: View, kept: list[int], axes: list[int]) -> Walk | None:
    """How to read x along `axes` for each place on the axes `kept`; None when it takes a copy."""

    def stride(over: list[int]) -> int | None:
        return uniform_stride([x.dims[a] for a in over], [x.strides[a] for a in over])

    step = stride(axes)
    if step is None:
        return None
    outer = stride(kept)
    if step == 1 and outer is not None:
        return Walk(True, outer, 1)
    if not kept or (x.strides[kept[-1]] != 1 and x.dims[kept[-1]] != 1):
        return None
    rest = stride(kept[:-1])
    return None if rest is None else Walk(False, rest, step)


@lowers("Softmax", "LogSoftmax", dtypes=FLOATS)
def softmax(ctx: Lowering, node: ir.Node) -> None:
    """Over one axis; before opset 13, over all dims from `axis` on."""
    x = ctx.view(node.inputs[0])
    rank, modern = len(x.dims), opset(node) >= 13
    given = node.attributes.get_int("axis", -1) if modern else node.attributes.get_int("axis", 1)
    axis = axis_of(given, rank)
    over = [axis] if modern else list(range(axis, rank))
    kept = [a for a in range(rank) if a not in over]
    order = (*kept, *over)
    length = prod(x.dims[a] for a in over)
    walk = walk_over(x, kept, over)
    if walk is None or not walk.along:
        x = ctx.copied(x.permute(order))
        outer = length
    else:
        x, outer = x.permute(order), walk.outer
    dense = row_major(x.dims)
    strides = tuple(dense[order.index(a)] for a in range(rank))
    dims = tuple(x.dims[order.index(a)] for a in range(rank))
    y = ctx.result(node.outputs[0], dims, x.dtype, strides)
    if y.size == 0:
        return
    ctx.step(
        Softmax(node.op_type == "LogSoftmax", x.dtype),
        arguments(x=x, y=y, length=length, x_outer=outer, y_outer=length),
        domain=prod(dims) // length,
        label=node.name or node.op_type,
        cost=length * 8,
    )


def _inference(node: ir.Node) -> str | None:
    if len([v for v in node.outputs if v.name]) > 1 or bool(node.attributes.get_int("training_mode", 0)):
        return "training mode"
    return None


@lowers("BatchNormalization", dtypes=FLOATS, known=(1, 2, 3, 4), supports=_inference)
def batch_normalization(ctx: Lowering, node: ir.Node) -> None:
    """x * a + b with a, b per channel from the statistics, computed in float64."""
    x = ctx.view(node.inputs[0])
    scale, bias, mean, variance = (np.asarray(ctx.known(v), np.float64) for v in node.inputs[1:5])
    with np.errstate(all="ignore"):  # a negative variance gives NaN, as the operator says
        factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    shape = (-1, *(1,) * (len(x.dims) - 2))
    a, b = ((v.astype(x.dtype.numpy)).reshape(shape) for v in (factor, bias - mean * factor))
    prelude = (("mul", ctx.constant(a)), ("add", ctx.constant(b)))
    fusion = ctx.fusion(node, x.dims, x.dtype, anywhere, prelude)
    ctx.elementwise_fusion(fusion, [x, *(view for view, _ in fusion.operands)], x.dims)
