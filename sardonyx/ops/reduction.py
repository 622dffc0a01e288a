"""Reductions, global pooling, softmax, and batch normalisation that no convolution took in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import hint
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import Expr, ExprBuilder, identity
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.reduce import COLUMN_VECTORS, Reduce, Softmax
from sardonyx.compiler.kernels.softmax_across import SoftmaxAcross
from sardonyx.compiler.layout import uniform_stride
from sardonyx.compiler.lower import anywhere, arguments
from sardonyx.compiler.program import View, row_major
from sardonyx.ops.places import epilogue_of, matrix_place
from sardonyx.ops.table import BOOL, FLOATS, NUMBERS, axes_input, axis_of, lowers, opset

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
    "ReduceLogSum": "sum",
    "GlobalAveragePool": "sum",
    "GlobalMaxPool": "max",
}
_MEANS = ("ReduceMean", "GlobalAveragePool")
_AFTER = {"ReduceL2": "sqrt", "ReduceLogSum": "log"}


def _before(op_type: str, dtype: DType) -> Expr:
    """What is done to each element before it is combined."""
    e = ExprBuilder()
    x = e.leaf(dtype)
    if op_type in ("ReduceL2", "ReduceSumSquare"):
        return e.build(e.op("mul", x, x))
    return e.build(e.op("abs", x)) if op_type == "ReduceL1" else identity(dtype)


@lowers("ReduceMax", "ReduceMin", dtypes=NUMBERS | BOOL, known=(1,))
@lowers("ReduceSum", "ReduceProd", "ReduceMean", "ReduceL1", "ReduceSumSquare", dtypes=NUMBERS, known=(1,))
@lowers("ReduceL2", "ReduceLogSum", dtypes=FLOATS, known=(1,))
def reduce(ctx: Lowering, node: ir.Node) -> None:
    """Reduce over the axes given as an attribute or, in newer opsets, as an input; over all when none are."""
    x = ctx.view(node.inputs[0])
    axes, noop = _axes(ctx, node, x), bool(node.attributes.get_int("noop_with_empty_axes", 0))
    if noop and not axes:
        dims, walked = x.dims, Reduction("sum", _before(node.op_type, x.dtype))
        one = View(x.buffer, x.dtype, (*x.dims, 1), (*x.strides, 1), x.offset)
        _reduce(ctx, node, one, [len(dims)], walked, _after(node), keep=False)
        return
    walked = Reduction(_COMBINE[node.op_type], _before(node.op_type, x.dtype), node.op_type in _MEANS)
    every = axes or list(range(len(x.dims)))
    _reduce(ctx, node, x, every, walked, _after(node), keep=bool(node.attributes.get_int("keepdims", 1)))


def _axes(ctx: Lowering, node: ir.Node, x: View) -> list[int]:
    given = ctx.known(node.inputs[1]) if len(node.inputs) > 1 else None
    return axes_input(None if given is None else [int(a) for a in given.reshape(-1)], node, len(x.dims)) or []


def _after(node: ir.Node) -> tuple[tuple[str, View | None], ...]:
    after = _AFTER.get(node.op_type)
    return ((after, None),) if after is not None else ()


@lowers("ReduceLogSumExp", dtypes=FLOATS, known=(1,))
def reduce_log_sum_exp(ctx: Lowering, node: ir.Node) -> None:
    """log(sum(e ** x)), as m + log(sum(e ** (x - m))) with the largest m, which never overflows."""
    x = ctx.view(node.inputs[0])
    axes, keep = _axes(ctx, node, x), bool(node.attributes.get_int("keepdims", 1))
    if not axes and bool(node.attributes.get_int("noop_with_empty_axes", 0)):
        ctx.define(node.outputs[0], x)  # log(e ** x)
        return
    axes = axes or list(range(len(x.dims)))
    dtype, label = x.dtype, node.name or node.op_type
    top = ctx.temporary(tuple(1 if a in axes else d for a, d in enumerate(x.dims)), dtype)
    powers = ctx.temporary(x.dims, dtype)
    if top.size == 0:
        dims = tuple(1 if a in axes else d for a, d in enumerate(x.dims) if keep or a not in axes)
        ctx.result(node.outputs[0], dims, dtype)
        return
    _plain(ctx, x, axes, Reduction("max", identity(dtype)), top, label)
    e = ExprBuilder()
    finite = e.leaf(dtype)
    endless = e.op("equal", e.op("abs", finite), e.const(float("inf"), dtype), dtype=DType.BOOL)
    finite = e.op("select", endless, e.const(0.0, dtype), finite)
    ctx.elementwise(e.build(finite), [top], top, label)
    e = ExprBuilder()
    ctx.elementwise(
        e.build(e.op("exp", e.op("sub", e.leaf(dtype), e.leaf(dtype)))), [x, top.broadcast(x.dims)], powers, label
    )
    kept = [a for a in range(len(x.dims)) if keep or a not in axes]
    shift = View(top.buffer, dtype, tuple(top.dims[a] for a in kept), tuple(top.strides[a] for a in kept), top.offset)
    _reduce(ctx, node, powers, axes, Reduction("sum", identity(dtype)), (("log", None), ("add", shift)), keep=keep)


@lowers("GlobalAveragePool", "GlobalMaxPool", dtypes=FLOATS)
def global_pool(ctx: Lowering, node: ir.Node) -> None:
    """Reduce over all spatial dims."""
    x = ctx.view(node.inputs[0])
    walked = Reduction(_COMBINE[node.op_type], identity(x.dtype), node.op_type in _MEANS)
    _reduce(ctx, node, x, list(range(2, len(x.dims))), walked, (), keep=True)


@dataclass(frozen=True)
class Reduction:
    """What is combined: see `kernels.reduce.Reduce`."""

    combine: str
    before: Expr
    mean: bool = False


def _reduce(
    ctx: Lowering,
    node: ir.Node,
    x: View,
    axes: list[int],
    reduction: Reduction,
    prelude: tuple[tuple[str, View | None], ...],
    *,
    keep: bool,
) -> None:
    """One step, with what follows fused: along a contiguous axis, or across one with the last kept axis contiguous;
    else after a copy.
    """
    kept = [a for a in range(len(x.dims)) if a not in axes]
    dims = tuple(1 if a in axes else d for a, d in enumerate(x.dims) if keep or a not in axes)
    places = kept if keep else list(range(len(kept)))
    x, walk = _walked(ctx, x, kept, axes)
    column = None if walk.along else places[-1]
    rows = [i for i in range(len(dims)) if i != column]
    fusion = ctx.fusion(node, dims, x.dtype, matrix_place(rows, column), prelude)
    y = ctx.result(fusion.output, dims, fusion.expr.dtype)
    if y.size:
        epilogue, operands = epilogue_of(fusion)
        columns = 1 if column is None else dims[column]
        _step(ctx, x, y, walk, columns, reduction, epilogue, operands, fusion.label)


def _plain(ctx: Lowering, x: View, axes: list[int], reduction: Reduction, y: View, label: str) -> None:
    """The same to a dense y that is not empty, with nothing after it."""
    kept = [a for a in range(len(x.dims)) if a not in axes]
    columns = x.dims[kept[-1]] if kept else 1
    x, walk = _walked(ctx, x, kept, axes)
    _step(ctx, x, y, walk, 1 if walk.along else columns, reduction, Epilogue.plain(x.dtype), {}, label)


def _walked(ctx: Lowering, x: View, kept: list[int], axes: list[int]) -> tuple[View, Walk]:
    walk = walk_over(x, kept, axes)
    if walk is not None:
        return x, walk
    length = prod(x.dims[a] for a in axes)
    return ctx.copied(x.permute((*kept, *axes))), Walk(True, length, 1)


def _step(
    ctx: Lowering,
    x: View,
    y: View,
    walk: Walk,
    columns: int,
    reduction: Reduction,
    epilogue: Epilogue,
    operands: dict[str, View | int],
    label: str,
) -> None:
    length = x.size // y.size
    if length == 0:
        x = ctx.zeros(1, x.dtype)  # of which nothing is read
    blocks = 1 if walk.along else -(-columns // (COLUMN_VECTORS * ctx.target.lanes(DType.F32)))
    ctx.step(
        Reduce(reduction.combine, reduction.before, walk.along, epilogue, reduction.mean),
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
        domain=y.size // columns * blocks,
        label=label,
        cost=hint(length * columns) / hint(blocks),
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
    if _softmax_across(ctx, node, x, over):
        return
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


def _softmax_across(ctx: Lowering, node: ir.Node, x: View, over: list[int]) -> bool:
    """Where the elements before and after one axis each are a walk and those after are contiguous: no transposition."""
    axis = over[0]
    inner, outer = (
        uniform_stride(x.dims[part], x.strides[part]) for part in (slice(axis + 1, None), slice(None, axis))
    )
    columns = prod(x.dims[axis + 1 :])
    if len(over) > 1 or inner != 1 or outer is None or x.strides[axis] == 1:
        return False
    y = ctx.result(node.outputs[0], x.dims, x.dtype)
    if y.size == 0:
        return True
    length, blocks = x.dims[axis], -(-columns // ctx.target.lanes(x.dtype))
    ctx.step(
        SoftmaxAcross(node.op_type == "LogSoftmax", x.dtype),
        arguments(x=x, y=y, length=length, columns=columns, column_blocks=blocks)
        | arguments(x_outer=outer, x_step=x.strides[axis], y_outer=length * columns, y_step=columns),
        domain=prod(x.dims[:axis]) * blocks,
        label=node.name or node.op_type,
        cost=hint(length * columns * 8) / hint(blocks),
    )
    return True


def _inference(node: ir.Node) -> str | None:
    if len([v for v in node.outputs if v.name]) > 1 or bool(node.attributes.get_int("training_mode", 0)):
        return "training mode"
    return None if node.attributes.get_int("spatial", 1) else "statistics of each activation"


@lowers("BatchNormalization", dtypes=FLOATS, supports=_inference)
def batch_normalization(ctx: Lowering, node: ir.Node) -> None:
    """x * a + b with a, b per channel from the statistics, computed in float64."""
    x = ctx.view(node.inputs[0])
    channels, ones = x.dims[1:2] or (1,), (1,) * (len(x.dims) - 2)
    if any(ctx.dims(value) != channels for value in node.inputs[1:5]):
        raise ValueError(f"statistics of {list(channels)} channels")
    known = all(map(ctx.is_known, node.inputs[1:5]))
    a, b = (replace(v, dims=(*v.dims, *ones), strides=(*v.strides, *ones)) for v in _affine(ctx, node, x, known=known))
    prelude = (("mul", a), ("add", b))
    fusion = ctx.fusion(node, x.dims, x.dtype, anywhere, prelude)
    ctx.elementwise_fusion(fusion, [x, *(view for view, _ in fusion.operands)], x.dims)


def _affine(ctx: Lowering, node: ir.Node, x: View, *, known: bool) -> tuple[View, View]:
    """What a batch normalisation multiplies channels by and adds to them: constants where the statistics are known."""
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    if known:
        scale, bias, mean, variance = (np.asarray(ctx.known(v), np.float64) for v in node.inputs[1:5])
        with np.errstate(all="ignore"):  # a negative variance gives NaN, as the operator says
            factor = scale / np.sqrt(variance + epsilon)
            a, b = (array.astype(x.dtype.numpy) for array in (factor, bias - mean * factor))
        return ctx.constant(a), ctx.constant(b)
    views = [ctx.view(value) for value in node.inputs[1:5]]
    made = []
    for used in ((0, 3), (0, 3, 1, 2)):
        e = ExprBuilder()
        first, second, *rest = (e.cast(e.leaf(views[index].dtype), DType.F64) for index in used)
        result = e.op("div", first, e.op("sqrt", e.op("add", second, e.const(epsilon, DType.F64))))
        if rest:
            result = e.op("sub", rest[0], e.op("mul", rest[1], result))
        made.append(ctx.temporary(views[0].dims, x.dtype))
        ctx.elementwise(e.build(e.cast(result, x.dtype)), [views[i] for i in used], made[-1], node.name or node.op_type)
    return made[0], made[1]
