"""Operators that only rearrange: most are a change of strides, the rest copies."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import array_of, broadcast_dims, hint, is_open, least, most
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import ExprBuilder
from sardonyx.compiler.joins import adjacent
from sardonyx.compiler.layout import dense_like, reshape_view
from sardonyx.compiler.lower import anywhere, dtype_of
from sardonyx.compiler.program import View
from sardonyx.errors import InvalidModelError
from sardonyx.ops.table import ALL, axes_input, axis_of, ints, lowers, opset

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering


def _reshape(ctx: Lowering, node: ir.Node, dims: tuple[int, ...]) -> None:
    x = ctx.view(node.inputs[0])
    if prod(dims) != x.size:
        raise InvalidModelError(
            "the new shape has another number of elements",
            where=node.name or node.op_type,
            expected=f"{x.size} elements {list(x.dims)}",
            got=str(list(dims)),
        )
    view = reshape_view(x, dims)
    if view is None:
        dense = ctx.copied(x)
        view = reshape_view(dense, dims) or ctx.temporary(dims, x.dtype)
    ctx.define(node.outputs[0], view)


def _inference(node: ir.Node) -> str | None:
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    return "training mode" if mode is not None and _may_be_true(mode) else None


def _may_be_true(value: ir.Value) -> bool:
    return value.const_value is None or value.is_graph_input() or bool(value.const_value.numpy().any())


@lowers("Identity", "Dropout", dtypes=ALL, supports=_inference)
def identity(ctx: Lowering, node: ir.Node) -> None:
    """The same memory under another name; Dropout's mask, if asked for, is all ones."""
    x = ctx.view(node.inputs[0])
    ctx.define(node.outputs[0], x)
    if len(node.outputs) > 1:
        ctx.define(node.outputs[1], np.ones(x.dims, np.bool_ if opset(node) >= 10 else x.dtype.numpy))


@lowers("BitCast", dtypes=ALL)
def bit_cast(ctx: Lowering, node: ir.Node) -> None:
    """The same memory as another type of the same size; of booleans it is their bytes."""
    x, label = ctx.view(node.inputs[0]), node.name or "BitCast"
    source, kind = (dtype_of(value) for value in (node.inputs[0], node.outputs[0]) if value is not None)
    if source.size != kind.size:
        raise ValueError(f"{source.value} as {kind.value}")
    stored = x if x.dtype is source else ctx.converted(x, source, label)
    y = View(stored.buffer, DType.U8 if kind is DType.BOOL else kind, x.dims, stored.strides, stored.offset)
    if kind is not DType.BOOL:
        ctx.define(node.outputs[0], y)
        return
    e = ExprBuilder()
    expr = e.build(e.cast(e.leaf(y.dtype), kind))
    ctx.elementwise(expr, [y], ctx.result(node.outputs[0], y.dims, kind), label)


@lowers("Reshape", dtypes=ALL, known=(1,))
def reshape(ctx: Lowering, node: ir.Node) -> None:
    """To dims given as an input (an attribute before opset 5): 0 keeps a dim, -1 takes what is left."""
    x = ctx.view(node.inputs[0])
    given = ctx.known_ints(node.inputs[1]) if len(node.inputs) > 1 else None
    wanted = given if given is not None else list(ints(node, "shape") or ())
    if not node.attributes.get_int("allowzero", 0):
        if any(d == 0 and i >= len(x.dims) for i, d in enumerate(wanted)):
            raise InvalidModelError("a 0 copies a dim that is not there", where=node.name, got=str(wanted))
        wanted = [x.dims[i] if d == 0 else d for i, d in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = prod(d for d in wanted if d != -1)
        wanted[wanted.index(-1)] = x.size // rest if rest else 0
    _reshape(ctx, node, tuple(wanted))


@lowers("Flatten", dtypes=ALL)
def flatten(ctx: Lowering, node: ir.Node) -> None:
    """To a matrix, cut before `axis`."""
    dims = ctx.dims(node.inputs[0])
    given = node.attributes.get_int("axis", 1)
    axis = given if given == len(dims) else axis_of(given, len(dims))
    _reshape(ctx, node, (prod(dims[:axis]), prod(dims[axis:])))


@lowers("Squeeze", "Unsqueeze", dtypes=ALL, known=(1,))
def squeeze(ctx: Lowering, node: ir.Node) -> None:
    """Drop or insert dims of 1."""
    dims = list(ctx.dims(node.inputs[0]))
    listed = ctx.known_ints(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.op_type == "Squeeze":
        axes = axes_input(listed, node, len(dims))
        drop = [i for i, d in enumerate(dims) if d == 1] if axes is None else axes
        _reshape(ctx, node, tuple(d for i, d in enumerate(dims) if i not in drop))
        return
    count = len(listed if listed is not None else (ints(node, "axes") or ()))
    for axis in axes_input(listed, node, len(dims) + count) or []:
        dims.insert(axis, 1)
    _reshape(ctx, node, tuple(dims))


@lowers("Transpose", dtypes=ALL)
def transpose(ctx: Lowering, node: ir.Node) -> None:
    """Dims in another order; reversed when none is given."""
    x = ctx.view(node.inputs[0])
    order = ints(node, "perm")
    ctx.define(node.outputs[0], x.permute(order if order is not None else tuple(reversed(range(len(x.dims))))))


@lowers("Shape", dtypes=ALL)
def shape(ctx: Lowering, node: ir.Node) -> None:
    """Known when the program is lowered."""
    dims = ctx.dims(node.inputs[0])
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", None)
    ctx.define(node.outputs[0], array_of(dims[start:end]))


@lowers("Size", dtypes=ALL)
def size(ctx: Lowering, node: ir.Node) -> None:
    """Known when the program is lowered."""
    ctx.define(node.outputs[0], array_of([prod(ctx.dims(node.inputs[0]))]).reshape(()))


@lowers("Expand", dtypes=ALL, known=(1,))
def expand(ctx: Lowering, node: ir.Node) -> None:
    """Stretched by strides of 0."""
    x, wanted = ctx.view(node.inputs[0]), ctx.known_ints(node.inputs[1])
    assert wanted is not None
    ctx.define(node.outputs[0], x.broadcast(broadcast_dims(x.dims, wanted)))


@lowers("Concat", dtypes=ALL, joins=lambda node: node.attributes.get_int("axis", 1))
def concat(ctx: Lowering, node: ir.Node) -> None:
    """Parts that were written side by side are one view already; others are copied to their place."""
    views = [ctx.view(value) for value in node.inputs]
    axis = axis_of(node.attributes.get_int("axis", 1), len(views[0].dims))
    dims = _joined_dims(node, views, axis)
    side_by_side = adjacent(views, axis)
    if side_by_side is not None:
        ctx.define(node.outputs[0], side_by_side)
        return
    largest = max(views, key=lambda view: hint(view.size))
    y = ctx.joins.whole(node, views, dims, axis)
    if y is None:
        order = dense_like(dims, largest.strides)
        y = ctx.result(node.outputs[0], dims, largest.dtype, order, accepts=anywhere)
    ctx.define(node.outputs[0], y)
    at = y.offset
    for view in views:
        if view.buffer is not y.buffer or view.offset != at:
            ctx.copy(view, View(y.buffer, y.dtype, view.dims, y.strides, at), node.name or "Concat")
        at += view.dims[axis] * y.strides[axis]


def _joined_dims(node: ir.Node, views: list[View], axis: int) -> tuple[int, ...]:
    dims = list(views[0].dims)
    for view in views[1:]:
        if len(view.dims) != len(dims) or any(
            a != b for i, (a, b) in enumerate(zip(view.dims, dims, strict=False)) if i != axis
        ):
            raise InvalidModelError(
                "the inputs differ in more than the axis they are joined on",
                where=node.name,
                expected=str(dims),
                got=str(list(view.dims)),
            )
    dims[axis] = sum(view.dims[axis] for view in views)
    return tuple(dims)


@lowers("Split", dtypes=ALL, known=(1,))
def split(ctx: Lowering, node: ir.Node) -> None:
    """Views of the parts."""
    x = ctx.view(node.inputs[0])
    axis = axis_of(node.attributes.get_int("axis", 0), len(x.dims))
    given = ctx.known_ints(node.inputs[1]) if len(node.inputs) > 1 else None
    sizes = given if given is not None else list(ints(node, "split") or ())
    if not sizes:
        each = -(-x.dims[axis] // len(node.outputs))
        sizes = [least(each, x.dims[axis] - i * each) for i in range(len(node.outputs))]
    if sum(sizes) != x.dims[axis] or any(size < 0 for size in sizes) or len(sizes) != len(node.outputs):
        raise InvalidModelError(
            "the parts do not make up the axis", where=node.name, expected=str(x.dims[axis]), got=str(sizes)
        )
    at = 0
    for value, count in zip(node.outputs, sizes, strict=True):
        dims = (*x.dims[:axis], count, *x.dims[axis + 1 :])
        ctx.define(value, View(x.buffer, x.dtype, dims, x.strides, x.offset + at * x.strides[axis]))
        at += count


def _slice_inputs(node: ir.Node) -> str | None:
    return "bounds given as attributes, before opset 10" if len(node.inputs) < 3 else None


@lowers("Slice", dtypes=ALL, known=(1, 2, 3, 4), supports=_slice_inputs)
def slice_(ctx: Lowering, node: ir.Node) -> None:
    """A view: an offset, and strides times the steps."""
    x = ctx.view(node.inputs[0])
    bounds = [ctx.known_ints(v) if v is not None else None for v in node.inputs[1:]]
    bounds += [None] * (4 - len(bounds))
    starts, ends, axes, steps = bounds
    assert starts is not None
    assert ends is not None
    dims, strides, offset = list(x.dims), list(x.strides), x.offset
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axis_of(axes[index] if axes is not None else index, len(dims))
        step = steps[index] if steps else 1
        first, count = _part(start, end, step, dims[axis])
        offset += first * strides[axis]
        dims[axis], strides[axis] = count, strides[axis] * step
    ctx.define(node.outputs[0], View(x.buffer, x.dtype, tuple(dims), tuple(strides), offset))


def _part(start: int, end: int, step: int, size: int) -> tuple[int, int]:
    """First index and number of those from `start` to `end`, which count from the back where they are negative."""
    if step > 0 and is_open((start, end, size)):
        low, high = (least(most(at + size if at < 0 else at, 0), size) for at in (start, end))
        count = most(-(-(high - low) // step), 0)
        return (low, count) if count != 0 else (0, 0)
    part = range(*slice(start, end if end > -(1 << 62) else None, step).indices(size))
    return (part.start if part else 0), len(part)
