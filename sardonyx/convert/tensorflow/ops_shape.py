"""Operators of TensorFlow that move, join, cut and count elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.tensorflow.emitter import Emit, Emitter, Tensor, UnsupportedError, known_of
from sardonyx.convert.tensorflow.graph import Node
from sardonyx.convert.tensorflow.ops_math import checked_axis, place
from sardonyx.convert.tensorflow.tensors import INTEGERS, D, numpy_type

Inputs = Sequence[Tensor]
LAST = 2**63 - 1


def _const(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    array = e.values[node.name] if node.name in e.values else node.array()
    return Tensor(array=array, name=node.name)


def _shape(e: Emitter, node: Node, inputs: Inputs) -> list[Tensor]:
    kind = node.kind("out_type") if "out_type" in node.attributes else D.INT32
    return [e.tensor(e.cast(e.shape_of(x), kind)) for x in inputs]


def _size(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    kind = node.kind("out_type") if "out_type" in node.attributes else D.INT32
    return e.tensor(e.cast(e.node("Size", [e.plain(inputs[0])], tag="size"), kind))


def _rank(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return Tensor(array=np.array(inputs[0].rank, np.int32), name=e.name)


def target(e: Emitter, x: Tensor) -> ir.Value:
    """The dims to reshape to, constant where at most one is open: what is left over is that one's."""
    known = known_of(x)
    if known is not None and 0 not in known.ravel():
        dims = [dim if isinstance(dim, int) else -1 for dim in known.ravel()]
        if dims.count(-1) <= 1:
            return e.constant(dims, np.int64, tag="shape")
    return e.vector(x)


def _reshape(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x = inputs[0]
    if x.array is not None and inputs[1].array is not None:
        return Tensor(array=_reshaped(x.array, inputs[1].integers("shape")), name=x.name)
    # A 0 among TensorFlow's dims means no elements.
    result = e.shaped(e.node("Reshape", [e.plain(x), target(e, inputs[1])], allowzero=_zero(inputs[1])), inputs[1])
    _keep_open_dim(x, result)
    return result


def _keep_open_dim(x: Tensor, result: Tensor) -> None:
    """Where each shape has one open dim and the others make the same number, the open ones are the same."""
    if x.shape is None or result.value is None or result.value.shape is None:
        return
    after = [dim if isinstance(dim, int) else dim.value for dim in result.value.shape]
    before_open, after_open = (
        [i for i, dim in enumerate(dims) if not isinstance(dim, int)] for dims in (x.shape, after)
    )
    if len(before_open) == len(after_open) == 1:
        counts = [math.prod(dim for dim in dims if isinstance(dim, int)) for dims in (x.shape, after)]
        if counts[0] == counts[1] != 0:
            result.value.shape = ir.Shape(
                [x.shape[before_open[0]] if i == after_open[0] else dim for i, dim in enumerate(after)]
            )


def _reshaped(array: Any, shape: list[int]) -> Any:
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise UnsupportedError(f"a constant of {array.shape} cannot have the shape {shape}") from error


def _zero(x: Tensor) -> int | None:
    known = known_of(x)
    return None if known is not None and 0 not in known.ravel() else 1


def _expand_dims(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x = inputs[0]
    axis = inputs[1].integer("axis")
    if x.array is not None:
        return Tensor(array=np.expand_dims(x.array, axis), name=x.name)
    return e.tensor(e.node("Unsqueeze", [e.plain(x), e.constant([axis], np.int64, tag="axes")]))


def _squeeze(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x, axes = inputs[0], node.integers("squeeze_dims")
    if axes and x.moved:
        places = sorted(place(axis, x.rank) for axis in axes)
        if set(places) >= set(range(2, x.rank)):
            return e.tensor(e.node("Squeeze", [e.first(x), e.constant(places, np.int64, tag="axes")]))
    if not axes and x.shape is not None:
        if not all(isinstance(dim, int) for dim in x.shape):
            raise UnsupportedError("which axes it removes depends on a dim that is open")
        axes = [i for i, dim in enumerate(x.shape) if dim == 1]
        if not axes:
            return x
    return e.tensor(e.node("Squeeze", [e.plain(x), *([e.constant(axes, np.int64, tag="axes")] if axes else [])]))


def _transpose(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x, order = inputs[0], inputs[1].integers("permutation")
    if sorted(order) != list(range(len(order))):
        raise UnsupportedError(f"its permutation {order} is none")
    if x.array is not None:
        return Tensor(array=np.transpose(x.array, order), name=f"{e.name}/constant")
    if x.moved and order == [0, x.rank - 1, *range(1, x.rank - 1)]:
        return e.tensor(e.first(x))
    return e.tensor(e.transpose(e.plain(x), order))


def _concat(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    parts, axis = (inputs[:-1], inputs[-1]) if node.op == "ConcatV2" else (inputs[1:], inputs[0])
    at = axis.integer("axis")
    if len(parts) == 1:
        return parts[0]
    if all(x.moved and x.rank == parts[0].rank for x in parts):
        return e.tensor(e.node("Concat", [e.first(x) for x in parts], axis=place(at, parts[0].rank)), moved=True)
    return e.tensor(e.node("Concat", [e.plain(x) for x in parts], axis=at))


def _pack(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    axis = node.integer("axis")
    parts = [e.unsqueeze(e.plain(x), [axis]) for x in inputs]
    return e.tensor(e.node("Concat", parts, axis=axis) if len(parts) > 1 else parts[0])


def _unpack(e: Emitter, node: Node, inputs: Inputs) -> list[Tensor]:
    axis, count = node.integer("axis"), node.integer("num")
    if count == 0:
        return []
    parts = _pieces(e, e.plain(inputs[0]), axis, [1] * count)
    return [e.tensor(e.squeeze(part, [axis])) for part in parts]


def _pieces(e: Emitter, value: ir.Value, axis: int, sizes: Sequence[int]) -> list[ir.Value]:
    if len(sizes) == 1:
        return [value]
    return e.nodes("Split", [value, e.constant(sizes, np.int64, tag="sizes")], len(sizes), tag="split", axis=axis)


def _split(e: Emitter, node: Node, inputs: Inputs) -> list[Tensor]:
    """Split into equal parts, SplitV into given ones of which one may be -1."""
    count = node.integer("num_split", 1)
    if node.op == "Split":
        x, axis = inputs[1], inputs[0].integer("axis")
        at, moved = _axis(x, axis)
        value = e.first(x) if moved else e.plain(x)
        if count == 1:
            return [x]
        size = x.shape[checked_axis(axis, x.rank)] if x.shape is not None else None
        if not isinstance(size, int) or size % count:
            raise UnsupportedError("the size of the axis it splits is not known, or no multiple")
        sizes = [size // count] * count
    else:
        x, axis = inputs[0], inputs[2].integer("axis")
        at, moved = _axis(x, axis)
        value = e.first(x) if moved else e.plain(x)
        sizes = inputs[1].integers("sizes")
        if -1 in sizes:
            size = x.shape[checked_axis(axis, x.rank)] if x.shape is not None else None
            if not isinstance(size, int):
                raise UnsupportedError("the size of the axis it splits is not known")
            sizes[sizes.index(-1)] = size - sum(part for part in sizes if part >= 0)
    return [e.tensor(part, moved=moved) for part in _pieces(e, value, at, sizes)]


def _axis(x: Tensor, axis: int) -> tuple[int, bool]:
    return (place(axis, x.rank), True) if x.moved else (axis, False)


def _slice(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """`size` elements from `begin`; -1 is all that are left."""
    x, begin, size = inputs
    starts = e.vector(begin)
    if size.array is not None:
        sizes = size.integers("size")
        if begin.array is not None:
            first = begin.integers("begin")
            ends = e.constant(
                [LAST if n == -1 else b + n for b, n in zip(first, sizes, strict=True)], np.int64, tag="ends"
            )
        else:
            counted = e.node("Add", [starts, e.constant([max(n, 0) for n in sizes], np.int64, tag="sizes")], tag="add")
            all_ = e.constant([n == -1 for n in sizes], np.bool_, tag="all")
            last = e.constant([LAST], np.int64, tag="last")
            ends = e.node("Where", [all_, last, counted], tag="ends") if -1 in sizes else counted
    else:
        sizes_value = e.vector(size)
        all_ = e.node("Equal", [sizes_value, e.constant([-1], np.int64, tag="minus")], tag="all")
        counted = e.node("Add", [starts, sizes_value], tag="add")
        ends = e.node("Where", [all_, e.constant([LAST], np.int64, tag="last"), counted], tag="ends")
    rank = x.rank if x.shape is not None else len(size.integers("size"))
    axes = e.constant(range(rank), np.int64, tag="axes")
    return e.tensor(e.node("Slice", [e.plain(x), starts, ends, axes]))


def strided_slice(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """NumPy's basic indexing with its masks: what is cut, then what is squeezed, then what is inserted."""
    x, begins, ends, steps = inputs
    count = _length(begins, ends, steps)
    masks = {name: node.integer(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    rules = []
    for i in range(count):
        kinds = [name for name in ("ellipsis", "new_axis", "shrink_axis") if masks[name] >> i & 1]
        rules.append(kinds[0] if kinds else "slice")
    if rules.count("ellipsis") > 1:
        raise UnsupportedError("it has more than one ellipsis")
    used = sum(rule in ("slice", "shrink_axis") for rule in rules)
    axis, result = 0, 0
    cuts: list[tuple[int, int, str]] = []
    shrinks: list[int] = []
    inserts: list[int] = []
    for i, rule in enumerate(rules):
        if rule == "ellipsis":
            axis, result = axis + x.rank - used, result + x.rank - used
        elif rule == "new_axis":
            inserts.append(result)
            result += 1
        else:
            cuts.append((axis, i, rule))
            if rule == "shrink_axis":
                shrinks.append(axis)
            else:
                result += 1
            axis += 1
    if x.shape is not None and axis > x.rank:
        raise UnsupportedError("it slices more axes than there are")
    value = _cut(e, x, cuts, masks, (begins, ends, steps))
    value = e.unsqueeze(e.squeeze(value, shrinks), inserts)
    return e.tensor(value)


def _length(*parts: Tensor) -> int:
    for x in parts:
        if x.shape is not None and len(x.shape) == 1 and isinstance(x.shape[0], int):
            return x.shape[0]
    raise UnsupportedError("the number of axes that it slices is not known")


def _cut(
    e: Emitter, x: Tensor, cuts: Sequence[tuple[int, int, str]], masks: dict[str, int], bounds: tuple[Tensor, ...]
) -> ir.Value:
    """One Slice for all axes that are not taken whole."""
    starts: list[Any] = []
    stops: list[Any] = []
    strides: list[int] = []
    axes: list[int] = []
    steps = bounds[2].integers("strides")
    for axis, i, rule in cuts:
        step = steps[i]
        start, stop = _element(e, bounds[0], i), _element(e, bounds[1], i)
        if rule == "shrink_axis":
            # A slice from -1 would end at 0, so to the end.
            step, stop = 1, _next(e, start)
        else:
            start = (0 if step > 0 else LAST) if masks["begin"] >> i & 1 else start
            stop = (LAST if step > 0 else -LAST) if masks["end"] >> i & 1 else stop
        if step == 0:
            raise UnsupportedError("it has a stride of 0")
        if (start, stop, step) == (0, LAST, 1):
            continue
        axes.append(axis)
        starts.append(start)
        stops.append(stop)
        strides.append(step)
    value = e.plain(x)
    if not axes:
        return value
    parts = [_vector(e, starts, "starts"), _vector(e, stops, "ends")]
    parts += [e.constant(axes, np.int64, tag="axes"), e.constant(strides, np.int64, tag="steps")]
    return e.node("Slice", [value, *parts])


def _element(e: Emitter, x: Tensor, i: int) -> Any:
    """An element as an integer where it is known, else a value of one axis."""
    known = known_of(x)
    if known is not None and isinstance(known[i], int):
        return int(known[i])
    ints = e.vector(x)
    return e.node("Gather", [ints, e.constant([i], np.int64, tag="at")], tag="element")


def _next(e: Emitter, start: Any) -> Any:
    if isinstance(start, int):
        return LAST if start == -1 else start + 1
    after = e.node("Add", [start, e.constant([1], np.int64, tag="one")], tag="next")
    end = e.node("Equal", [after, e.constant([0], np.int64, tag="zero")], tag="wraps")
    return e.node("Where", [end, e.constant([LAST], np.int64, tag="last"), after], tag="end")


def _vector(e: Emitter, items: Sequence[Any], tag: str) -> ir.Value:
    if all(isinstance(item, int) for item in items):
        return e.constant(items, np.int64, tag=tag)
    parts = [e.constant([item], np.int64, tag="part") if isinstance(item, int) else item for item in items]
    return e.node("Concat", parts, tag=tag, axis=0) if len(parts) > 1 else parts[0]


def _pad(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x, pads = inputs[0], inputs[1]
    fill = inputs[2] if len(inputs) > 2 else None
    mode = {"": "constant", "REFLECT": "reflect", "SYMMETRIC": "symmetric"}.get(node.text("mode"))
    if mode is None:
        raise UnsupportedError(f"the mode {node.text('mode')}")
    if mode == "symmetric":
        return _symmetric(e, x, pads.elements("paddings"))
    value = None
    if mode == "constant":
        value = e.plain(fill) if fill is not None else e.like(x, 0) if x.kind != D.BOOL else e.constant(False, np.bool_)
    if pads.array is None:
        order = e.reshape(e.transpose(e.int64(pads), [1, 0]), [-1])
        return e.tensor(e.node("Pad", [e.plain(x), order, value], mode=mode))
    rows = pads.array.tolist()
    if x.moved:
        rows = [rows[0], rows[-1], *rows[1:-1]]
    amounts = e.constant([row[0] for row in rows] + [row[1] for row in rows], np.int64, tag="pads")
    data = e.first(x) if x.moved else e.plain(x)
    return e.tensor(e.node("Pad", [data, amounts, value], mode=mode), moved=x.moved)


def _symmetric(e: Emitter, x: Tensor, pads: Any) -> Tensor:
    """The border again, turned over: ONNX has no such mode, so slices from the borders, backwards."""
    value = e.plain(x)
    for axis, (before, after) in enumerate(pads.tolist()):
        parts = [value]
        if before:
            ends = e.constant([-LAST], np.int64, tag="ends")
            bounds = [e.constant([before - 1], np.int64, tag="starts"), ends]
            parts.insert(0, _backwards(e, value, bounds, axis))
        if after:
            bounds = [e.constant([-1], np.int64, tag="starts"), e.constant([-after - 1], np.int64, tag="ends")]
            parts.append(_backwards(e, value, bounds, axis))
        if len(parts) > 1:
            value = e.node("Concat", parts, axis=axis)
    return e.tensor(value)


def _backwards(e: Emitter, value: ir.Value, bounds: Sequence[ir.Value], axis: int) -> ir.Value:
    extra = [e.constant([axis], np.int64, tag="axes"), e.constant([-1], np.int64, tag="steps")]
    return e.node("Slice", [value, *bounds, *extra], tag="border")


def _tile(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return e.tensor(e.node("Tile", [e.plain(inputs[0]), e.vector(inputs[1])]))


def _range(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return e.tensor(e.node("Range", [e.plain(x) for x in inputs]))


def _fill(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return e.shaped(e.node("Expand", [e.plain(inputs[1]), e.vector(inputs[0])]), inputs[0])


def _full_like(number: int) -> Emit:
    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        x = inputs[0]
        dtype = numpy_type(x.kind)
        if x.kind == D.STRING:
            raise UnsupportedError("an empty text like another")
        if x.shape is not None and all(isinstance(dim, int) for dim in x.shape):
            return Tensor(array=np.full(e.static(x), number, dtype), name=e.name)
        return e.tensor(e.node("Expand", [e.constant(number, dtype), e.shape_of(x)]))

    return emit


def _one_hot(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    indices, depth, on, off = inputs
    values = e.node("Concat", [e.unsqueeze(e.plain(off), [0]), e.unsqueeze(e.plain(on), [0])], tag="values", axis=0)
    axis = node.integer("axis", -1)
    ints, count = e.int64(indices), e.vector(depth)
    # ONNX counts negative indices from the end; TensorFlow has no element for them.
    outside = e.node("Less", [ints, e.constant(0, np.int64, tag="zero")], tag="outside")
    held = e.node("Where", [outside, e.squeeze(count, [0]), ints], tag="held")
    return e.tensor(e.node("OneHot", [held, count, values], axis=axis))


def _broadcast_to(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return e.tensor(e.node("Expand", [e.plain(inputs[0]), e.vector(inputs[1])]))


def _reverse(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x, axes = inputs[0], inputs[1].integers("axes")
    if not axes:
        return x
    bounds = [e.constant([v] * len(axes), np.int64, tag=t) for v, t in ((-1, "starts"), (-LAST, "ends"))]
    more = [e.constant(axes, np.int64, tag="axes"), e.constant([-1] * len(axes), np.int64, tag="steps")]
    return e.tensor(e.node("Slice", [e.plain(x), *bounds, *more]))


def _reverse_sequence(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """ONNX reverses over the first two axes, TensorFlow over any: they are moved there and back."""
    x = inputs[0]
    time, batch = checked_axis(node.integer("seq_dim"), x.rank), checked_axis(node.integer("batch_dim"), x.rank)
    order = [batch, time, *(axis for axis in range(x.rank) if axis not in (batch, time))]
    moved = e.transpose(e.plain(x), order)
    value = e.node("ReverseSequence", [moved, e.int64(inputs[1])], batch_axis=0, time_axis=1)
    return e.tensor(e.transpose(value, sorted(range(x.rank), key=order.__getitem__)))


def _lin_space(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    start, stop = (x.elements("bounds") for x in inputs[:2])
    dtype = numpy_type(inputs[0].kind)
    values = np.linspace(start.astype(np.float64), stop.astype(np.float64), inputs[2].integer("number"))
    return Tensor(array=values.astype(dtype), name=e.name)


def _invert_permutation(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    raise UnsupportedError("its permutation is computed when the model runs")


def _band_part(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """A matrix without what is more than `lower` below or `upper` above its diagonal; -1 keeps all."""
    value = e.plain(inputs[0])
    lower, upper = inputs[1].integer("lower"), inputs[2].integer("upper")
    if upper >= 0:
        value = e.node("Trilu", [value, e.constant(upper, np.int64, tag="upper")], upper=0)
    if lower >= 0:
        value = e.node("Trilu", [value, e.constant(-lower, np.int64, tag="lower")], upper=1)
    return e.tensor(value) if lower >= 0 or upper >= 0 else inputs[0]


def _roll(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x = inputs[0]
    value = e.plain(x)
    for shift, axis in zip(inputs[1].integers("shift"), inputs[2].integers("axis"), strict=True):
        size = x.shape[checked_axis(axis, x.rank)] if x.shape is not None else None
        if not isinstance(size, int):
            raise UnsupportedError("the size of the axis it rolls is not known")
        turn = shift % max(size, 1)
        if turn:
            value = e.node("Concat", list(reversed(_pieces(e, value, axis, [size - turn, turn]))), axis=axis)
    return e.tensor(value)


def _where(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x = inputs[0]
    value = e.node(
        "NonZero", [e.plain(x) if x.kind == D.BOOL or x.kind in INTEGERS else e.cast(e.plain(x), D.BOOL)], tag="at"
    )
    return e.tensor(e.transpose(value, [1, 0]))


def _unique(e: Emitter, node: Node, inputs: Inputs) -> list[Tensor]:
    x = inputs[0]
    # Runtimes have it for few types; of integers those of 64 bits.
    value = e.int64(x) if x.kind in INTEGERS else e.plain(x)
    values, _, places, counts = e.nodes("Unique", [value], 4, sorted=0)
    kind = node.kind("out_idx") if "out_idx" in node.attributes else D.INT32
    return [e.tensor(e.cast(values, x.kind)), e.tensor(e.cast(places, kind)), e.tensor(e.cast(counts, kind))]


OPERATORS: dict[str, Emit] = {
    "Const": _const,
    "Shape": _shape,
    "ShapeN": _shape,
    "Size": _size,
    "Rank": _rank,
    "Reshape": _reshape,
    "ExpandDims": _expand_dims,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "ConcatV2": _concat,
    "Pack": _pack,
    "Unpack": _unpack,
    "Split": _split,
    "SplitV": _split,
    "Slice": _slice,
    "StridedSlice": strided_slice,
    "Pad": _pad,
    "PadV2": _pad,
    "MirrorPad": _pad,
    "Tile": _tile,
    "Range": _range,
    "Fill": _fill,
    "ZerosLike": _full_like(0),
    "OnesLike": _full_like(1),
    "OneHot": _one_hot,
    "BroadcastTo": _broadcast_to,
    "ReverseV2": _reverse,
    "ReverseSequence": _reverse_sequence,
    "LinSpace": _lin_space,
    "InvertPermutation": _invert_permutation,
    "MatrixBandPart": _band_part,
    "Roll": _roll,
    "Where": _where,
    "Unique": _unique,
    "UniqueWithCounts": _unique,
}
