"""Operators that make something of where an element stands: ranges, triangles, one-hot rows, reversed sequences."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import Dim, array_of, most
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import Expr, ExprBuilder, identity
from sardonyx.compiler.kernels.sequence import Steps
from sardonyx.compiler.lower import arguments, dtype_of
from sardonyx.compiler.program import View, row_major
from sardonyx.errors import InvalidModelError
from sardonyx.ops.indexing import index_elements
from sardonyx.ops.limits import check_result
from sardonyx.ops.selection import place_extremes
from sardonyx.ops.table import ALL, FLOATS, NUMBERS, axis_of, ints, lowers, opset

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_BLOCK = 4096
"""Elements of a range that one item writes."""


def _label(node: ir.Node) -> str:
    return node.name or node.op_type


def _steps(ctx: Lowering, y: View, start: float, delta: float, label: str) -> None:
    """Fill y, which is dense, with start + i * delta."""
    first, each = (_scalar(ctx, value, y.dtype) for value in (start, delta))
    n = y.size
    ctx.step(
        Steps(y.dtype),
        arguments(start=first, delta=each, y=y, n=n, block=_BLOCK),
        domain=-(-n // _BLOCK),
        label=label,
        cost=_BLOCK,
    )


def _scalar(ctx: Lowering, value: float, dtype: DType) -> View:
    """A number as a constant; an open dim, which int64 can hold, as one of each binding."""
    if isinstance(value, Dim) and dtype is DType.I64:
        return ctx.constant(array_of([value]).reshape(()))
    return ctx.constant(np.array(value, dtype.numpy))


def _counting(ctx: Lowering, n: int, label: str) -> View:
    """0, 1, ... n - 1 as int64, made by the program."""
    y = ctx.temporary((n,), DType.I64)
    _steps(ctx, y, 0, 1, label)
    return y


def _along(view: View, axis: int, rank: int) -> View:
    """A vector as a tensor of `rank` dims along one of them."""
    dims, strides = [1] * rank, [0] * rank
    dims[axis], strides[axis] = view.dims[0], view.strides[0]
    return View(view.buffer, view.dtype, tuple(dims), tuple(strides), view.offset)


def _compute(ctx: Lowering, expr: Expr, operands: list[View], target: View, label: str) -> None:
    ctx.elementwise(expr, [operand.broadcast(target.dims) for operand in operands], target, label)


@lowers("Range", dtypes=NUMBERS, known=(0, 1, 2))
def range_(ctx: Lowering, node: ir.Node) -> None:
    """start + i * delta, up to the limit."""
    dtype = dtype_of(node.outputs[0])
    if dtype.is_float:
        start, limit, delta = (ctx.known(value).reshape(-1)[0] for value in node.inputs)  # type: ignore[union-attr]
    else:
        start, limit, delta = (ctx.known_ints(value)[0] for value in node.inputs)  # type: ignore[index]
    if delta == 0:
        raise ValueError("a step of 0")
    count = int(np.ceil((limit - start) / delta)) if dtype.is_float else _turns(start, limit, delta)
    y = ctx.result(node.outputs[0], (most(0, count),), dtype)
    if y.size:
        _steps(ctx, y, start, delta, _label(node))


def _turns(start: int, limit: int, delta: int) -> int:
    """How many steps of `delta` there are before the limit; not positive when there are none."""
    return -((start - limit) // delta) if delta > 0 else -((limit - start) // -delta)


@lowers("Trilu", dtypes=ALL)
def trilu(ctx: Lowering, node: ir.Node) -> None:
    """The elements on one side of a diagonal, 0 on the other. Which diagonal may change from run to run."""
    x = ctx.view(node.inputs[0])
    rank = len(x.dims)
    if rank < 2:
        raise ValueError(f"{rank} dims where a matrix belongs")
    y = ctx.result(node.outputs[0], x.dims, x.dtype)
    if y.size == 0:
        return
    given = node.inputs[1] if len(node.inputs) > 1 else None
    diagonal = ctx.view(given) if given is not None else ctx.constant(np.array(0))
    if diagonal.size != 1:
        raise ValueError(f"{list(diagonal.dims)} where one number belongs")
    e = ExprBuilder()
    value, row, column, k = e.leaf(x.dtype), *(e.leaf(DType.I64) for _ in range(3))
    order = "greater_equal" if node.attributes.get_int("upper", 1) else "less_equal"
    inside = e.op(order, e.op("sub", column, row), k, dtype=DType.BOOL)
    expr = e.build(e.op("select", inside, value, e.const(0, x.dtype)))
    places = [_along(_counting(ctx, x.dims[a], _label(node)), a, rank) for a in (rank - 2, rank - 1)]
    _compute(ctx, expr, [x, *places, View(diagonal.buffer, DType.I64, (), (), diagonal.offset)], y, _label(node))


@lowers("EyeLike", dtypes=ALL)
def eye_like(ctx: Lowering, node: ir.Node) -> None:
    """Ones on a diagonal of a matrix."""
    dims, dtype, shift = ctx.dims(node.inputs[0]), dtype_of(node.outputs[0]), node.attributes.get_int("k", 0)
    if len(dims) != 2:
        raise ValueError(f"{len(dims)} dims where a matrix belongs")
    y = ctx.result(node.outputs[0], dims, dtype)
    if y.size == 0:
        return
    e = ExprBuilder()
    row, column = e.leaf(DType.I64), e.leaf(DType.I64)
    there = e.op("equal", e.op("sub", column, row), e.const(shift, DType.I64), dtype=DType.BOOL)
    places = [_along(_counting(ctx, dims[a], _label(node)), a, 2) for a in (0, 1)]
    _compute(ctx, e.build(e.cast(there, dtype)), places, y, _label(node))


@lowers("OneHot", dtypes=NUMBERS, known=(1,))
def one_hot(ctx: Lowering, node: ir.Node) -> None:
    """`on` where an index stands for its place on a new axis, `off` elsewhere; none for an index out of range."""
    indices, values = ctx.view(node.inputs[0]), ctx.row_major(node.inputs[2])
    given, rank = ctx.known_ints(node.inputs[1]), len(indices.dims) + 1
    assert given is not None
    (depth,) = given
    if depth < 0 or values.size != 2:
        raise ValueError(f"depth {depth} with {values.size} values")
    axis = axis_of(node.attributes.get_int("axis", -1), rank)
    dims = (*indices.dims[:axis], depth, *indices.dims[axis:])
    check_result(node, dims, values.dtype)
    y = ctx.result(node.outputs[0], dims, values.dtype)
    if y.size == 0:
        return
    e = ExprBuilder()
    index, place, off, on = e.leaf(indices.dtype), e.leaf(DType.I64), e.leaf(y.dtype), e.leaf(y.dtype)
    number, behind = e.cast(index, DType.I64), e.leaf(DType.I64)
    negative = e.op("less", number, e.const(0, DType.I64), dtype=DType.BOOL)
    number = e.op("select", negative, e.op("add", number, behind), number)
    expr = e.build(e.op("select", e.op("equal", number, place, dtype=DType.BOOL), on, off))
    strides = (*indices.strides[:axis], 0, *indices.strides[axis:])
    wide = View(indices.buffer, indices.dtype, dims, strides, indices.offset)
    others = [View(values.buffer, values.dtype, (), (), values.offset + at) for at in (0, 1)]
    others.append(ctx.constant(array_of([depth]).reshape(())))
    _compute(ctx, expr, [wide, _along(_counting(ctx, depth, _label(node)), axis, rank), *others], y, _label(node))


def _modern(node: ir.Node) -> str | None:
    return "the flattening of opset 12 and older" if opset(node) < 13 else None


@lowers("Hardmax", dtypes=FLOATS, supports=_modern)
def hardmax(ctx: Lowering, node: ir.Node) -> None:
    """1 at the first largest element of an axis, 0 elsewhere."""
    x = ctx.view(node.inputs[0])
    rank = len(x.dims)
    axis = axis_of(node.attributes.get_int("axis", -1), rank)
    y = ctx.result(node.outputs[0], x.dims, x.dtype)
    if y.size == 0:
        return
    found = ctx.temporary(tuple(1 if a == axis else d for a, d in enumerate(x.dims)), DType.I64)
    place_extremes(ctx, x, found, axis, _label(node), largest=True, last=False)
    e = ExprBuilder()
    here, best = e.leaf(DType.I64), e.leaf(DType.I64)
    expr = e.build(e.cast(e.op("equal", here, best, dtype=DType.BOOL), x.dtype))
    _compute(ctx, expr, [_along(_counting(ctx, x.dims[axis], _label(node)), axis, rank), found], y, _label(node))


@lowers("ReverseSequence", dtypes=ALL)
def reverse_sequence(ctx: Lowering, node: ir.Node) -> None:
    """The first elements of each sequence, as many as it is long, the other way round."""
    x, lengths = ctx.view(node.inputs[0]), ctx.view(node.inputs[1])
    rank = len(x.dims)
    time, batch = node.attributes.get_int("time_axis", 0), node.attributes.get_int("batch_axis", 1)
    if sorted((time, batch)) != [0, 1] or rank < 2 or lengths.dims != (x.dims[batch],):
        raise ValueError(f"axes {time} and {batch} of {list(x.dims)} with {list(lengths.dims)} lengths")
    y = ctx.result(node.outputs[0], x.dims, x.dtype)
    if y.size == 0:
        return
    e = ExprBuilder()
    turn, length = e.leaf(DType.I64), e.leaf(lengths.dtype)
    backwards = e.op("sub", e.op("sub", length, e.const(1, DType.I64)), turn)
    expr = e.build(e.op("select", e.op("less", turn, length, dtype=DType.BOOL), backwards, turn))
    indices = ctx.temporary(x.dims[:2], DType.I64)
    places = _along(_counting(ctx, x.dims[time], _label(node)), time, 2)
    _compute(ctx, expr, [places, _along(lengths, batch, 2)], indices, _label(node))
    strides = (*indices.strides, *(0 for _ in x.dims[2:]))
    index_elements(ctx, node, x, View(indices.buffer, DType.I64, x.dims, strides), y, None, time)


@lowers("ConstantOfShape", dtypes=ALL, known=(0,))
def constant_of_shape(ctx: Lowering, node: ir.Node) -> None:
    """One number, stretched."""
    dims = ctx.known_ints(node.inputs[0])
    assert dims is not None
    if any(size < 0 for size in dims):
        raise ValueError(f"a shape of {dims}")
    value = node.attributes.get("value")
    number = np.zeros((), np.float32) if value is None else value.as_tensor().numpy().reshape(())
    ctx.define(node.outputs[0], ctx.constant(number).broadcast(tuple(dims)))


def _tiles_all(node: ir.Node) -> str | None:
    return "it repeats one axis, as in opset 1" if len(node.inputs) > 2 else None


@lowers("Tile", dtypes=ALL, known=(1,), supports=_tiles_all)
def tile(ctx: Lowering, node: ir.Node) -> None:
    """Copies side by side."""
    x, repeats = ctx.view(node.inputs[0]), ctx.known_ints(node.inputs[1])
    assert repeats is not None
    if len(repeats) != len(x.dims) or any(r < 0 for r in repeats):
        raise ValueError(f"repeats {repeats}")
    dims = tuple(d * r for d, r in zip(x.dims, repeats, strict=True))
    check_result(node, dims, x.dtype)
    y = ctx.result(node.outputs[0], dims, x.dtype)
    both = tuple(n for pair in zip(repeats, x.dims, strict=True) for n in pair)
    strides = tuple(n for s in x.strides for n in (0, s))
    ctx.copy(
        View(x.buffer, x.dtype, both, strides, x.offset),
        View(y.buffer, y.dtype, both, row_major(both), y.offset),
        _label(node),
    )


@lowers("MaxUnpool", dtypes=FLOATS, known=(2,))
def max_unpool(ctx: Lowering, node: ir.Node) -> None:
    """Elements put where their maxima stood, zeros elsewhere."""
    x, given = ctx.view(node.inputs[0]), ctx.known(node.inputs[2]) if len(node.inputs) > 2 else None
    spatial = len(x.dims) - 2
    kernel = ints(node, "kernel_shape") or ()
    steps, pads = ints(node, "strides") or (1,) * spatial, ints(node, "pads") or (0,) * (2 * spatial)
    if len(kernel) != spatial or len(steps) != spatial or len(pads) != 2 * spatial:
        raise ValueError(f"a window {list(kernel)} with steps {list(steps)} and pads {list(pads)}")
    sizes = [(x.dims[2 + a] - 1) * steps[a] + kernel[a] - pads[a] - pads[a + spatial] for a in range(spatial)]
    inner = (*x.dims[:2], *sizes)
    dims = inner if given is None else tuple(int(d) for d in given.reshape(-1))
    if min(inner) < 0 or len(dims) != len(inner) or any(d < i for d, i in zip(dims, inner, strict=True)):
        raise ValueError(f"{list(inner)} in {list(dims)}")
    check_result(node, dims, x.dtype)
    y = ctx.result(node.outputs[0], dims, x.dtype)
    zero = ctx.constant(np.zeros((), x.dtype.numpy))
    ctx.elementwise(identity(x.dtype), [zero.broadcast(dims)], y, _label(node))
    values, indices = (ctx.row_major(value) for value in node.inputs[:2])
    if values.dims != indices.dims:
        raise ValueError("as many indices as elements")
    placed = y
    if dims != inner:
        placed = ctx.temporary(inner, x.dtype)
        ctx.elementwise(identity(x.dtype), [zero.broadcast(inner)], placed, _label(node))
    flat = [View(view.buffer, view.dtype, (view.size,), (1,), view.offset) for view in (placed, indices, values)]
    index_elements(ctx, node, flat[0], flat[1], flat[2], "none", 0)
    if dims != inner:
        ctx.copy(placed, View(y.buffer, y.dtype, inner, y.strides, y.offset), _label(node))


@lowers("Col2Im", dtypes=FLOATS, known=(1, 2))
def col2im(ctx: Lowering, node: ir.Node) -> None:
    """Blocks summed where they overlap: for each of their elements, a sum over the strided places it has."""
    x, size, block = ctx.view(node.inputs[0]), *(ctx.known(value) for value in node.inputs[1:3])
    assert size is not None
    assert block is not None
    image, window = [int(d) for d in size.reshape(-1)], [int(d) for d in block.reshape(-1)]
    rank = len(image)
    steps, dilations, pads = (
        ints(node, name) or (default,) * count
        for name, default, count in (("strides", 1, rank), ("dilations", 1, rank), ("pads", 0, 2 * rank))
    )
    padded = [image[a] + pads[a] + pads[a + rank] for a in range(rank)]
    counts = [(padded[a] - dilations[a] * (window[a] - 1) - 1) // steps[a] + 1 for a in range(rank)]
    taps = prod(window)
    if len(x.dims) != 3 or taps < 1 or min(counts) < 1 or x.dims[1] % taps or x.dims[2] != prod(counts):
        raise InvalidModelError(
            "the columns do not fit the image",
            where=_label(node),
            expected=f"[n, channels * {taps}, {prod(counts)}]",
            got=str(list(x.dims)),
        )
    dims = (x.dims[0], x.dims[1] // taps, *padded)
    check_result(node, dims, x.dtype)
    total, columns = ctx.temporary(dims, x.dtype), ctx.row_major(node.inputs[0])
    zero = ctx.constant(np.zeros((), x.dtype.numpy))
    ctx.elementwise(identity(x.dtype), [zero.broadcast(dims)], total, _label(node))
    e = ExprBuilder()
    add = e.build(e.op("add", e.leaf(x.dtype), e.leaf(x.dtype)))
    part = (*dims[:2], *counts)
    apart = (columns.strides[0], columns.strides[1] * taps, *row_major(tuple(counts)))
    moves = tuple(s * t for s, t in zip(total.strides[2:], steps, strict=True))
    for at, tap in enumerate(np.ndindex(*window)):
        offset = sum(i * d * s for i, d, s in zip(tap, dilations, total.strides[2:], strict=True))
        place = View(total.buffer, x.dtype, part, (*total.strides[:2], *moves), offset)
        source = View(columns.buffer, x.dtype, part, apart, columns.offset + at * columns.strides[1])
        ctx.elementwise(add, [place, source], place, _label(node))
    start = sum(pads[a] * s for a, s in enumerate(total.strides[2:]))
    ctx.define(node.outputs[0], View(total.buffer, x.dtype, (*dims[:2], *image), total.strides, start))
