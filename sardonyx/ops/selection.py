"""Selection by order: the largest elements and where they stand, boxes that do not overlap, what is not zero."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import hint
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.count import CountNonZero, ListChosen, NonZero, Suppress
from sardonyx.compiler.kernels.select import ArgReduce, SortRows, TopK
from sardonyx.compiler.layout import dense_in_order
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.errors import InvalidModelError
from sardonyx.ops.reduction import Walk, walk_over
from sardonyx.ops.table import COMPUTED, NUMBERS, axis_of, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_ELEMENTS = 4096
"""In a block that one item counts."""


@lowers("TopK", dtypes=NUMBERS, known=(1,))
def top_k(ctx: Lowering, node: ir.Node) -> None:
    """The k largest or smallest along an axis, always sorted; k is an attribute before opset 10."""
    x = ctx.view(node.inputs[0])
    axis = axis_of(node.attributes.get_int("axis", -1), len(x.dims))
    given = ctx.known_ints(node.inputs[1]) if len(node.inputs) > 1 else None
    (count,) = given if given is not None else (node.attributes.get_int("k"),)
    if not 0 <= count <= x.dims[axis]:
        raise InvalidModelError(
            "k is not a number of elements of the axis",
            where=node.name or "TopK",
            expected=f"0 to {x.dims[axis]}",
            got=str(count),
        )
    x, x_row = _rows(ctx, x, axis)
    order = (*(a for a in range(len(x.dims)) if a != axis), axis)
    dims = tuple(count if a == axis else d for a, d in enumerate(x.dims))
    strides = dense_in_order(dims, order)
    y = ctx.result(node.outputs[0], dims, x.dtype, strides)
    indices = ctx.result(node.outputs[1], dims, DType.I64, strides)
    if y.size == 0:
        return
    length, largest = x.dims[axis], bool(node.attributes.get_int("largest", 1))
    given_to_both = arguments(x=x, y=y, indices=indices, length=length, count=count, x_row=x_row, y_row=count)
    by_heap, by_sorting = _nanoseconds(hint(length), hint(count), x.dtype)
    heap = by_heap <= by_sorting
    ctx.step(
        TopK(largest, x.dtype) if heap else SortRows(largest, x.dtype),
        given_to_both | (arguments(levels=count.bit_length()) if heap else {}),
        domain=y.size // count,
        label=node.name or "TopK",
        cost=min(by_heap, by_sorting),
        writes=("y", "indices"),
        scratch=16 * count if heap else SortRows.scratch(length),
    )


def _nanoseconds(length: int, count: int, dtype: DType) -> tuple[float, float]:
    """About how long a row takes with a heap and with sorting (measured). In random order `count` * log(length / count)
    elements enter the heap after the first ones, and all that did have to leave it in order.
    """
    moves = count * (1 + log(length / count))
    return 0.3 * length + 13.0 * moves * count.bit_length(), 6.0 * (length + dtype.size * count) + 4000.0


def _rows(ctx: Lowering, x: View, axis: int) -> tuple[View, int]:
    """The tensor with an axis contiguous, and how far rows along it are apart in the order of the other axes."""
    kept = [a for a in range(len(x.dims)) if a != axis]
    walk = walk_over(x, kept, [axis])
    if walk is not None and walk.along:
        return x, walk.outer
    return ctx.copied(x, dense_in_order(x.dims, (*kept, axis))), x.dims[axis]


@lowers("ArgMax", "ArgMin", dtypes=NUMBERS)
def arg_reduce(ctx: Lowering, node: ir.Node) -> None:
    """Where the extreme of an axis stands: the first such place, or the last."""
    x = ctx.view(node.inputs[0])
    axis = axis_of(node.attributes.get_int("axis", 0), len(x.dims))
    kept, length = [a for a in range(len(x.dims)) if a != axis], x.dims[axis]
    if length == 0:
        raise ValueError(f"axis {axis} is empty")
    shape = tuple(1 if a == axis else d for a, d in enumerate(x.dims))
    dims = shape if node.attributes.get_int("keepdims", 1) else tuple(shape[a] for a in kept)
    y = ctx.result(node.outputs[0], dims, DType.I64)
    if y.size == 0:
        return
    last = bool(node.attributes.get_int("select_last_index", 0))
    place_extremes(ctx, x, y, axis, node.name or node.op_type, largest=node.op_type == "ArgMax", last=last)


def place_extremes(ctx: Lowering, x: View, y: View, axis: int, label: str, *, largest: bool, last: bool) -> None:
    """Write to y, which is row-major, the place of the extreme of each row of x along an axis."""
    kept, length = [a for a in range(len(x.dims)) if a != axis], x.dims[axis]
    walk = walk_over(x, kept, [axis])
    if walk is None:
        x = ctx.copied(x, dense_in_order(x.dims, (*kept, axis)))
        walk = Walk(True, length, 1)
    columns = 1 if walk.along else x.dims[kept[-1]]
    blocks = -(-columns // ctx.target.lanes(DType.F32))
    ctx.step(
        ArgReduce(largest, last, walk.along, x.dtype),
        arguments(x=x, y=y, length=length, columns=columns, column_blocks=blocks)
        | arguments(x_outer=walk.outer, x_step=walk.step, y_outer=columns),
        domain=y.size // columns * blocks,
        label=label,
        cost=hint(length * columns) / hint(blocks),
    )


def _two_types(node: ir.Node) -> str | None:
    types = {value.dtype for index, value in enumerate(node.inputs) if value is not None and index != 2}
    return None if len(types) == 1 else "inputs of several types"


@lowers("NonMaxSuppression", dtypes=frozenset({DType.F32}), supports=_two_types, counts=True)
def non_max_suppression(ctx: Lowering, node: ir.Node) -> None:
    """Rows (image, class, box) of boxes that do not overlap better ones. Thresholds and how many boxes are wanted, if
    not known, may change from run to run.

    A box whose score is NaN or minus infinity is never among them.
    """
    boxes, scores = (ctx.row_major(value) for value in node.inputs[:2])
    given = (*node.inputs, None, None, None)[2:5]
    overlap, least = (
        ctx.constant(np.full(1, default, np.float32)) if value is None else _single(ctx, value)
        for value, default in ((given[1], 0.0), (given[2], -np.inf))
    )
    images, classes, n = scores.dims if len(scores.dims) == 3 else (0, 0, 0)
    if len(scores.dims) != 3 or boxes.dims != (images, n, 4):
        raise InvalidModelError(
            "boxes and scores do not fit",
            where=node.name or node.op_type,
            expected="[images, n, 4] and [images, classes, n]",
            got=f"{list(boxes.dims)} and {list(scores.dims)}",
        )
    wanted = ctx.constant(np.zeros(1, np.int64)) if given[0] is None else _single(ctx, given[0])
    known = ctx.known(given[0]) if given[0] is not None else np.zeros(1)
    limit = n if known is None else max(0, min(n, int(known.reshape(-1)[0])))
    items, label = images * classes, node.name or node.op_type
    result = ctx.counted(node.outputs[0], (items * limit, 3), DType.I64, 0)
    if result.view.size == 0:
        return
    kernel = Suppress(bool(node.attributes.get_int("center_point_box", 0)), DType.F32)
    chosen, counts = ctx.temporary((items, limit), DType.I64), ctx.temporary((items,), DType.I64)
    ctx.step(
        kernel,
        arguments(boxes=boxes, scores=scores, overlap=overlap, least=least, wanted=wanted, y=chosen, counts=counts)
        | arguments(n=n, classes=classes, most=limit, levels=n.bit_length()),
        domain=items,
        label=label,
        cost=n * 16,
        writes=("y", "counts"),
        scratch=kernel.scratch(n, limit),
    )
    ctx.step(
        ListChosen(),
        arguments(chosen=chosen, counts=counts, y=result.view, total=result.count)
        | arguments(items=items, classes=classes, most=limit),
        domain=1,
        label=label,
        writes=("y", "total"),
    )


def _single(ctx: Lowering, value: ir.Value) -> View:
    view = ctx.view(value)
    if view.size != 1:
        raise ValueError(f"{list(view.dims)} where one number belongs")
    return view


def _ranked(node: ir.Node) -> str | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return None if shape is not None and len(shape) > 0 else "the rank of its input"


@lowers("NonZero", dtypes=COMPUTED, supports=_ranked, counts=True)
def non_zero(ctx: Lowering, node: ir.Node) -> None:
    """The indices of elements that are not zero, a column each, in row-major order."""
    x = ctx.row_major(node.inputs[0])
    result = ctx.counted(node.outputs[0], (len(x.dims), x.size), DType.I64, 1)
    if x.size == 0:
        return
    block = max(_ELEMENTS, -(-x.size // (4 * ctx.threads)))
    sizes, label = arguments(length=x.size, block=block), node.name or node.op_type
    blocks = -(-x.size // block)
    counts = ctx.temporary((blocks,), DType.I64)
    ctx.step(
        CountNonZero(x.dtype),
        arguments(x=x, counts=counts) | sizes,
        domain=blocks,
        label=label,
        cost=block,
        writes=("counts",),
    )
    ctx.step(
        NonZero(len(x.dims), x.dtype),
        arguments(x=x, counts=counts, y=result.view, total=result.count, blocks=blocks)
        | sizes
        | {f"size{axis}": size for axis, size in enumerate(x.dims)},
        domain=blocks,
        label=label,
        cost=block * 4,
        writes=("y", "total"),
    )
