"""Operators that move elements, and those on shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from sardonyx.convert.tflite.emit import FIRST, TYPES, Op, UnsupportedError, Value, together

Rule = Callable[[Op], None]


def _moving(make: Callable[[Op, ir.Value], ir.Value]) -> Rule:
    """An operator that moves elements of its first input, whatever they stand for."""

    def rule(op: Op) -> None:
        x = op.need(0)
        op.give(make(op, op.plain(x)), quantization=x.quantization)

    return rule


def _many(op: Op, values: Sequence[Value], index: int = 0) -> list[Value]:
    """Inputs as they are stored where all are stored as the result is, else as real numbers."""
    want = op.want(index)
    same = all(value.quantization == want for value in values)
    return list(values) if same else [op.real(value) for value in values]


def longs(op: Op, index: int) -> ir.Value:
    """An input as int64."""
    value = op.need(index)
    if value.array is not None:
        return op.const(value.array.astype(np.int64))
    return op.plain(value) if value.kind == "INT64" else op.cast(op.plain(value), ir.DataType.INT64)


def _reshape(op: Op, x: ir.Value) -> ir.Value:
    if op.has(1):
        shape = longs(op, 1)
    else:
        new = op.get("new_shape")
        if new is None:
            raise UnsupportedError("it has no shape")
        shape = op.const([] if new.tolist() == [0] else new)
    return op.node("Reshape", [x, shape], allowzero=1)


def _squeeze(op: Op, x: ir.Value) -> ir.Value:
    axes = op.get("squeeze_dims")
    if axes is not None and len(axes):
        return op.node("Squeeze", [x, op.const(axes)])
    dims = op.need(0).dims or ()
    if None in dims:
        raise UnsupportedError("which dims are 1 is not known")
    return op.node("Squeeze", [x, op.const([axis for axis, dim in enumerate(dims) if dim == 1])])


def _expand_dims(op: Op, x: ir.Value) -> ir.Value:
    return op.node("Unsqueeze", [x, op.const(op.constant(1, "axis").ravel())])


def _transpose(op: Op) -> None:
    x = op.need(0)
    order = [int(axis) for axis in op.constant(1, "order").ravel()]
    if sorted(order) != list(range(op.rank(x))):
        raise UnsupportedError(f"{order} is no order of its axes")
    op.give(op.node("Transpose", [op.plain(x)], perm=order), quantization=x.quantization)


def _concatenation(op: Op) -> None:
    inputs = [op.need(index) for index in range(len(op.i))]
    kept = [value for value in inputs if value.dims is None or 0 not in value.dims] or inputs[:1]
    values = _many(op, kept)
    rank = op.rank(values[0])
    axis = op.axis(op.get("axis"), rank)
    parts, first = together(op, values)
    result = op.node("Concat", parts, axis=FIRST.index(axis) if first else axis)
    fused = op.get("fused_activation_function", 0)
    op.give(op.activate(result) if fused else result, first=first, quantization=values[0].quantization)


def _pack(op: Op) -> None:
    values = _many(op, [op.need(index) for index in range(len(op.i))])
    axis = op.axis(op.get("axis", 0), op.rank(values[0]) + 1)
    parts = [op.node("Unsqueeze", [op.plain(value), op.const([axis])]) for value in values]
    op.give(op.node("Concat", parts, axis=axis), quantization=values[0].quantization)


def _unpack(op: Op) -> None:
    x = op.need(0)
    axis = op.axis(op.get("axis"), op.rank(x))
    parts = op.nodes("Split", [op.plain(x)], len(op.out), axis=axis, num_outputs=len(op.out))
    for index, part in enumerate(parts):
        op.give(op.node("Squeeze", [part, op.const([axis])]), index, quantization=x.quantization)


def _split(data: int, axis_at: int) -> Rule:
    def rule(op: Op) -> None:
        x = op.need(data)
        axis = op.axis(int(op.constant(axis_at, "axis").ravel()[0]), op.rank(x))
        count, sizes = len(op.out), None
        if data == 0:
            found = [int(size) for size in op.constant(1, "sizes").ravel()]
            if found.count(-1) == 1:
                found[found.index(-1)] = op.known(x, axis)[0] - sum(found) - 1
            sizes = op.const(found)
        elif op.known(x, axis)[0] % count:
            raise UnsupportedError("it cannot be split evenly")
        first = x.moved
        parts = op.nodes(
            "Split", [op.first(x) if first else op.plain(x), sizes], count,
            axis=FIRST.index(axis) if first else axis, num_outputs=None if sizes is not None else count,
        )  # fmt: skip
        for index, part in enumerate(parts):
            op.give(part, index, first=first, quantization=x.quantization)

    return rule


def _slice(op: Op, x: ir.Value) -> ir.Value:
    """Sizes of -1 go to the end."""
    start = longs(op, 1)
    rank = op.rank(op.need(0))
    if op.need(1).array is not None and op.need(2).array is not None:
        begins, sizes = op.constant(1).ravel().tolist(), op.constant(2).ravel().tolist()
        ends = [2**62 if size == -1 else begin + size for begin, size in zip(begins, sizes, strict=True)]
        return op.node("Slice", [x, start, op.const(ends), op.const(range(rank))])
    size = longs(op, 2)
    whole = op.node("Equal", [size, op.const(-1)])
    ends_at = op.node("Where", [whole, op.const(2**62), op.node("Add", [start, size])])
    return op.node("Slice", [x, start, ends_at, op.const(range(rank))])


def _strided_slice(op: Op) -> None:
    """Masks are bits by axis: begin and end left open, axes added, axes of one element removed."""
    if op.get("offset", False):
        raise UnsupportedError("an end counted from the begin is not supported")
    x = op.need(0)
    rank = op.rank(x)
    strides = [int(step) for step in op.constant(3, "strides").ravel()]
    plan = _plan(op, rank, len(strides))
    begins, ends = (op.need(index) for index in (1, 2))
    fixed = begins.array is not None and ends.array is not None
    first = x.moved and fixed and all(kind in ("range", "all") for _, _, kind in plan)
    value = op.first(x) if first else op.plain(x)
    if fixed:
        sides = [value.array.ravel().tolist() for value in (begins, ends) if value.array is not None]
        starts, stops, axes, steps = [], [], [], []
        for axis, at, kind in plan:
            if kind in ("new", "all"):
                continue
            step = strides[at]
            start, stop = _bounds(op, sides[0][at], sides[1][at], step, at, kind)
            starts.append(start)
            stops.append(stop)
            axes.append(FIRST.index(axis) if first else axis)
            steps.append(1 if kind == "one" else step)
        if axes:
            value = op.node("Slice", [value, op.const(starts), op.const(stops), op.const(axes), op.const(steps)])
    else:
        value = _computed_slice(op, value, plan, strides)
    if gone := [axis for axis, _, kind in plan if kind == "one"]:
        value = op.node("Squeeze", [value, op.const(gone)])
    if added := _added(plan):
        value = op.node("Unsqueeze", [value, op.const(added)])
    if value in (x.plain, x.first):  # Nothing was cut.
        value = op.node("Identity", [value])
    op.give(value, first=first, quantization=x.quantization)


def _plan(op: Op, rank: int, count: int) -> list[tuple[int, int, str]]:
    """For each entry of the slice: the axis, the entry, and whether it is a range, one element, all or a new axis."""
    masks = {key: int(op.get(f"{key}_mask", 0)) for key in ("ellipsis", "new_axis", "shrink_axis")}
    news = sum(masks["new_axis"] >> at & 1 for at in range(count) if not masks["ellipsis"] >> at & 1)
    dots = [at for at in range(count) if masks["ellipsis"] >> at & 1]
    if len(dots) > 1:
        raise UnsupportedError("it has more than one ellipsis")
    plan: list[tuple[int, int, str]] = []
    axis = 0
    for at in range(count):
        if at in dots:
            for _ in range(rank - (count - len(dots) - news)):
                plan.append((axis, at, "all"))
                axis += 1
        elif masks["new_axis"] >> at & 1:
            plan.append((axis, at, "new"))
        else:
            plan.append((axis, at, "one" if masks["shrink_axis"] >> at & 1 else "range"))
            axis += 1
    if axis > rank:
        raise UnsupportedError(f"it slices {axis} axes of {rank}")
    return plan + [(rest, -1, "all") for rest in range(axis, rank)]


def _bounds(op: Op, begin: int, end: int, step: int, at: int, kind: str) -> tuple[int, int]:
    if kind == "one":
        return begin, begin + 1 if begin != -1 else 2**62
    if step == 0:
        raise UnsupportedError("it has a stride of 0")
    start = (0 if step > 0 else 2**62) if op.get("begin_mask", 0) >> at & 1 else begin
    stop = (2**62 if step > 0 else -(2**62)) if op.get("end_mask", 0) >> at & 1 else end
    return start, stop


def _computed_slice(op: Op, value: ir.Value, plan: list[tuple[int, int, str]], strides: list[int]) -> ir.Value:
    """Bounds that are computed: entries with a mask come from constants, the others from the inputs."""
    entries = [(axis, at, kind) for axis, at, kind in plan if kind in ("range", "one")]
    if not entries:
        return value
    sides = []
    for index in (1, 2):
        parts = []
        for _, at, kind in entries:
            open_side = kind == "range" and op.get("begin_mask" if index == 1 else "end_mask", 0) >> at & 1
            if open_side:
                parts.append(op.const([_bounds(op, 0, 0, strides[at], at, kind)[index - 1]]))
                continue
            own = op.node(
                "Slice", [longs(op, 1 if kind == "one" else index), op.const([at]), op.const([at + 1]), op.const([0])]
            )
            if kind == "one" and index == 2:
                after = op.node("Add", [own, op.const([1])])
                own = op.node("Where", [op.node("Equal", [own, op.const([-1])]), op.const([2**62]), after])
            parts.append(own)
        sides.append(op.node("Concat", parts, axis=0))
    steps = op.const([1 if kind == "one" else strides[at] for _, at, kind in entries])
    return op.node("Slice", [value, *sides, op.const([axis for axis, _, _ in entries]), steps])


def _added(plan: list[tuple[int, int, str]]) -> list[int]:
    """Where new axes lie in the result."""
    places, at = [], 0
    for _, _, kind in plan:
        if kind == "new":
            places.append(at)
        at += kind != "one"
    return places


# Padding, repeating


def _pad(op: Op) -> None:
    """With zeros, or the number that stands for zero; PADV2 says with what."""
    x = op.need(0)
    fill: ir.Value | None = None
    if op.has(2):
        x, fill = op.real(x), op.plain(op.real(op.need(2)))
        fill = op.node("Reshape", [fill, op.const([])]) if op.need(2).dims != () else fill
    elif x.quantization is not None:
        fill = op.const(x.quantization.zero_point[0], TYPES[x.kind].numpy())
    first = x.moved and op.need(1).array is not None
    value = op.first(x) if first else op.plain(x)
    op.give(
        op.node("Pad", [value, _amounts(op, first), fill], mode="constant"), first=first, quantization=x.quantization
    )


def _amounts(op: Op, first: bool = False) -> ir.Value:
    """[[before, after], ...] as ONNX has it: all before, then all after."""
    pads = op.need(1)
    if pads.array is not None:
        pairs = pads.array.reshape(-1, 2).astype(np.int64)
        pairs = pairs[list(FIRST)] if first else pairs
        return op.const(pairs.T.ravel())
    return op.node("Reshape", [op.node("Transpose", [longs(op, 1)], perm=[1, 0]), op.const([-1])])


def _mirror_pad(op: Op) -> None:
    """REFLECT leaves the border out. SYMMETRIC repeats it, which ONNX has no mode for: parts are turned and joined."""
    x = op.need(0)
    if op.get("mode") == 0:
        op.give(op.node("Pad", [op.plain(x), _amounts(op)], mode="reflect"), quantization=x.quantization)
        return
    value = op.plain(x)
    for axis, (before, after) in enumerate(op.constant(1, "paddings").reshape(-1, 2).tolist()):
        parts = [value]
        if before:
            parts.insert(0, op.node("Slice", [value, *map(op.const, ([before - 1], [-(2**62)], [axis], [-1]))]))
        if after:
            parts.append(op.node("Slice", [value, *map(op.const, ([-1], [-1 - after], [axis], [-1]))]))
        value = op.node("Concat", parts, axis=axis) if len(parts) > 1 else value
    op.give(op.node("Identity", [value]) if value is op.plain(x) else value, quantization=x.quantization)


def _fill(op: Op) -> None:
    x = op.need(1)
    op.give(op.node("Expand", [op.plain(x), longs(op, 0)]), quantization=x.quantization)


def _zeros_like(op: Op) -> None:
    x = op.real(op.need(0))
    op.give(op.node("Expand", [op.const(0, TYPES[x.kind].numpy()), op.shape(x)]))


# Shapes


def _shape(op: Op) -> None:
    op.give(op.cast(op.shape(op.need(0)), TYPES[op.out[0].kind]))


def _rank(op: Op) -> None:
    op.give(op.node("Identity", [op.const(op.rank(op.need(0)), np.int32)]))


def _range(op: Op) -> None:
    ends = [op.plain(op.need(index)) for index in range(3)]
    op.give(op.node("Range", [op.node("Reshape", [end, op.const([])]) for end in ends]))


def _broadcast_args(op: Op) -> None:
    """The shape that two shapes broadcast to, by broadcasting empty rows of them."""
    parts = [op.node("Expand", [op.const(False, np.bool_), longs(op, index)]) for index in (0, 1)]
    op.give(op.cast(op.node("Shape", [op.node("Or", parts)]), TYPES[op.out[0].kind]))


# Picking


def _gather(op: Op) -> None:
    x, indices = op.need(0), op.need(1)
    rank = op.rank(x)
    axis, batch = op.axis(op.get("axis", 0), rank), op.get("batch_dims", 0)
    batch += op.rank(indices) if batch < 0 else 0
    if batch == 0:
        result = op.node("Gather", [op.plain(x), op.plain(indices)], axis=axis)
    elif batch == axis and op.rank(indices) == batch + 1:
        # A row of indices for each of the leading dims: elements one by one, the rest of the dims broadcast.
        value, at = op.plain(x), longs(op, 1)
        if rest := rank - batch - 1:
            at = op.node("Unsqueeze", [at, op.const(range(batch + 1, batch + 1 + rest))])
            shape = op.node("Shape", [value])
            tail = op.node("Slice", [shape, op.const([batch + 1]), op.const([rank]), op.const([0])])
            ones = op.const([1] * (batch + 1))
            at = op.node("Expand", [at, op.node("Concat", [ones, tail], axis=0)])
        result = op.node("GatherElements", [value, at], axis=axis)
    elif batch == axis and op.rank(indices) == batch:
        at = op.node("Unsqueeze", [longs(op, 1), op.const([-1])])
        result = op.node("GatherND", [op.plain(x), at], batch_dims=batch)
    else:
        raise UnsupportedError(f"axis {axis} with {batch} batch dims is not supported")
    op.give(result, quantization=x.quantization)


def _gather_nd(op: Op) -> None:
    x = op.need(0)
    op.give(op.node("GatherND", [op.plain(x), longs(op, 1)]), quantization=x.quantization)


def _embedding_lookup(op: Op) -> None:
    x = op.real(op.need(1))
    op.give(op.node("Gather", [op.plain(x), op.plain(op.need(0))], axis=0))


def _scatter_nd(op: Op) -> None:
    """Updates are added to zeros."""
    updates = op.real(op.need(1))
    zeros = op.node("Expand", [op.const(0, TYPES[updates.kind].numpy()), longs(op, 2)])
    op.give(op.node("ScatterND", [zeros, longs(op, 0), op.plain(updates)], reduction="add"))


def _sparse_to_dense(op: Op) -> None:
    """Inputs: indices, the shape, values, what is elsewhere."""
    indices, values = longs(op, 0), op.need(2)
    rank = op.rank(op.need(0))
    dims = op.need(1).dims
    if dims is None or dims[0] is None:
        raise UnsupportedError("the rank of its result is open")
    if rank < 2:
        indices = op.node("Reshape", [indices, op.const([-1, dims[0]])])
    dense = op.node("Expand", [op.plain(op.need(3)), longs(op, 1)])
    count = op.node("Slice", [op.node("Shape", [indices]), op.const([0]), op.const([1]), op.const([0])])
    op.give(op.node("ScatterND", [dense, indices, op.node("Expand", [op.plain(values), count])]))


def _dynamic_update_slice(op: Op) -> None:
    """The update lies at the start given, moved so that it lies inside."""
    x, update = op.need(0), op.need(1)
    if x.quantization != update.quantization:
        x, update = op.real(x), op.real(update)
    rank = op.rank(x)
    value, part = op.plain(x), op.plain(update)
    shape, size = op.shape(x), op.shape(update)
    start = op.node("Min", [longs(op, 2), op.node("Sub", [shape, size])])
    start = op.node("Max", [start, op.const([0] * rank)])
    # Rows of indices: a grid over the update, moved by the start.
    grids = []
    for axis in range(rank):
        length = op.node("Gather", [size, op.const(axis)], axis=0)
        line = op.node("Range", [op.const(0), length, op.const(1)])
        line = op.node("Add", [line, op.node("Gather", [start, op.const(axis)], axis=0)])
        line = op.node("Reshape", [line, op.const([-1 if a == axis else 1 for a in range(rank)])])
        grids.append(op.node("Unsqueeze", [op.node("Expand", [line, size]), op.const([-1])]))
    op.give(op.node("ScatterND", [value, op.node("Concat", grids, axis=-1), part]), quantization=x.quantization)


def _one_hot(op: Op) -> None:
    """Inputs: indices, depth, the value on and the value off. Indices below 0 are nowhere, unlike in ONNX."""
    indices, rank = op.plain(op.need(0)), op.rank(op.need(0))
    axis = op.axis(op.get("axis"), rank + 1)
    depth = op.node("Reshape", [longs(op, 1), op.const([])])
    line = op.node("Range", [op.const(0), depth, op.const(1)])
    line = op.node("Reshape", [line, op.const([-1 if a == axis else 1 for a in range(rank + 1)])])
    lifted = op.node("Unsqueeze", [op.cast(indices, ir.DataType.INT64), op.const([axis])])
    on, off = op.need(2), op.need(3)
    result = op.node("Where", [op.node("Equal", [lifted, line]), op.plain(on), op.plain(off)])
    op.give(result, quantization=on.quantization)


def _top_k(op: Op) -> None:
    x = op.need(0)
    count = op.node("Reshape", [longs(op, 1), op.const([1])])
    values, indices = op.nodes("TopK", [op.plain(x), count], 2, axis=-1, largest=1, sorted=1)
    op.give(values, 0, quantization=x.quantization)
    if len(op.out) > 1:
        op.give(op.cast(indices, TYPES[op.out[1].kind]), 1)


def _select(op: Op) -> None:
    """SELECT chooses rows by a vector of conditions, SELECT_V2 broadcasts."""
    condition, (a, b) = op.need(0), _many(op, [op.need(1), op.need(2)])
    which = op.plain(condition)
    rank = op.rank(a)
    if op.source.name == "SELECT" and op.rank(condition) == 1 and rank > 1:
        which = op.node("Reshape", [which, op.const([-1, *[1] * (rank - 1)])])
    op.give(op.node("Where", [which, op.plain(a), op.plain(b)]), quantization=a.quantization)


def _where(op: Op) -> None:
    """Indices of what is not zero, a row each."""
    found = op.node("NonZero", [op.plain(op.real(op.need(0)))])
    op.give(op.cast(op.node("Transpose", [found], perm=[1, 0]), TYPES[op.out[0].kind]))


def _reverse(op: Op) -> None:
    x, axes = op.need(0), op.constant(1, "axes").ravel().tolist()
    count = len(axes)
    ends = [[-1] * count, [-(2**62)] * count, axes, [-1] * count]
    op.give(op.node("Slice", [op.plain(x), *map(op.const, ends)]), quantization=x.quantization)


def _reverse_sequence(op: Op) -> None:
    x = op.need(0)
    time, batch = op.get("seq_dim"), op.get("batch_dim")
    if {time, batch} != {0, 1}:
        raise UnsupportedError(f"time in axis {time} with batches in axis {batch} is not supported")
    result = op.node("ReverseSequence", [op.plain(x), longs(op, 1)], time_axis=time, batch_axis=batch)
    op.give(result, quantization=x.quantization)


def _unique(op: Op) -> None:
    """In the order they first come."""
    values, _, places, _ = op.nodes("Unique", [op.plain(op.need(0))], 4, sorted=0)
    op.give(values, 0)
    op.give(op.cast(places, TYPES[op.out[1].kind]), 1)


def _segment_sum(op: Op) -> None:
    x, at = op.real(op.need(0)), longs(op, 1)
    last = op.node("ReduceMax", [at, op.const([0])], keepdims=1)
    tail = op.node("Slice", [op.shape(x), op.const([1]), op.const([2**62]), op.const([0])])
    shape = op.node("Concat", [op.node("Add", [last, op.const([1])]), tail], axis=0)
    zeros = op.node("Expand", [op.const(0, TYPES[x.kind].numpy()), shape])
    rows = op.node("Unsqueeze", [at, op.const([-1])])
    op.give(op.node("ScatterND", [zeros, rows, op.plain(x)], reduction="add"))


def _matrix_diag(op: Op) -> None:
    x = op.real(op.need(0))
    size = op.known(x, -1)[0]
    lifted = op.node("Unsqueeze", [op.plain(x), op.const([-1])])
    zero = op.const(0, TYPES[x.kind].numpy())
    op.give(op.node("Where", [op.const(np.eye(size), np.bool_), lifted, zero]))


def _matrix_set_diag(op: Op) -> None:
    x, diagonal = op.real(op.need(0)), op.real(op.need(1))
    rows, columns = op.known(x, -2, -1)
    lifted = op.plain(diagonal)
    if rows <= columns:
        lifted = op.node("Unsqueeze", [lifted, op.const([-1])])
    else:
        lifted = op.node("Unsqueeze", [lifted, op.const([-2])])
    op.give(op.node("Where", [op.const(np.eye(rows, columns), np.bool_), lifted, op.plain(x)]))


# Blocks


def _space_to_batch(op: Op) -> None:
    """[N, spatial..., rest] with blocks of the spatial dims moved into N, after padding."""
    x = op.need(0)
    blocks = [int(size) for size in op.constant(1, "block shape").ravel()]
    pads = op.constant(2, "paddings").reshape(-1, 2)
    rank, count = op.rank(x), len(blocks)
    edges = np.zeros((rank, 2), np.int64)
    edges[1 : 1 + count] = pads
    fill = op.const(x.quantization.zero_point[0], TYPES[x.kind].numpy()) if x.quantization else None
    value = op.node("Pad", [op.plain(x), op.const(edges.T.ravel()), fill]) if edges.any() else op.plain(x)
    sizes = [None if d is None else d + int(e.sum()) for d, e in zip(x.dims or (), edges, strict=True)]
    inner: list[int] = []
    for size, block in zip(sizes[1 : 1 + count], blocks, strict=True):
        if size is None or size % block:
            raise UnsupportedError("its padded size is open or no multiple of the blocks")
        inner += [size // block, block]
    rest = op.known(x, *range(1 + count, rank))
    value = op.node("Reshape", [value, op.const([-1, *inner, *rest])])
    order = [*range(2, 2 + 2 * count, 2), 0, *range(1, 1 + 2 * count, 2), *range(1 + 2 * count, rank + count)]
    value = op.node("Transpose", [value], perm=order)
    op.give(op.node("Reshape", [value, op.const([-1, *inner[::2], *rest])]), quantization=x.quantization)


def _batch_to_space(op: Op) -> None:
    """The other way round, then cropped."""
    x = op.need(0)
    blocks = [int(size) for size in op.constant(1, "block shape").ravel()]
    crops = op.constant(2, "crops").reshape(-1, 2).astype(np.int64)
    rank, count = op.rank(x), len(blocks)
    sizes = op.known(x, *range(1, rank))
    value = op.node("Reshape", [op.plain(x), op.const([*blocks, -1, *sizes])])
    order = [count]
    for axis in range(count):
        order += [count + 1 + axis, axis]
    order += range(2 * count + 1, rank + count)
    value = op.node("Transpose", [value], perm=order)
    whole = [size * block for size, block in zip(sizes[:count], blocks, strict=True)]
    value = op.node("Reshape", [value, op.const([-1, *whole, *sizes[count:]])])
    if crops.any():
        ends = [size - int(crop) for size, crop in zip(whole, crops[:, 1], strict=True)]
        value = op.node("Slice", [value, op.const(crops[:, 0]), op.const(ends), op.const(range(1, 1 + count))])
    op.give(value, quantization=x.quantization)


SHAPES: Mapping[str, Rule] = {
    "RESHAPE": _moving(_reshape), "SQUEEZE": _moving(_squeeze), "EXPAND_DIMS": _moving(_expand_dims),
    "TRANSPOSE": _transpose, "CONCATENATION": _concatenation, "PACK": _pack, "UNPACK": _unpack,
    "SPLIT": _split(1, 0), "SPLIT_V": _split(0, 2), "SLICE": _moving(_slice), "STRIDED_SLICE": _strided_slice,
    "PAD": _pad, "PADV2": _pad, "MIRROR_PAD": _mirror_pad,
    "TILE": _moving(lambda op, x: op.node("Tile", [x, longs(op, 1)])),
    "BROADCAST_TO": _moving(lambda op, x: op.node("Expand", [x, longs(op, 1)])),
    "BROADCAST_ARGS": _broadcast_args, "FILL": _fill, "ZEROS_LIKE": _zeros_like,
    "SHAPE": _shape, "RANK": _rank, "RANGE": _range,
    "GATHER": _gather, "GATHER_ND": _gather_nd, "EMBEDDING_LOOKUP": _embedding_lookup, "SCATTER_ND": _scatter_nd,
    "SPARSE_TO_DENSE": _sparse_to_dense, "DYNAMIC_UPDATE_SLICE": _dynamic_update_slice,
    "ONE_HOT": _one_hot, "TOPK_V2": _top_k, "SELECT": _select, "SELECT_V2": _select, "WHERE": _where,
    "REVERSE_V2": _reverse, "REVERSE_SEQUENCE": _reverse_sequence, "UNIQUE": _unique, "SEGMENT_SUM": _segment_sum,
    "MATRIX_DIAG": _matrix_diag, "MATRIX_SET_DIAG": _matrix_set_diag,
    "SPACE_TO_BATCH_ND": _space_to_batch, "BATCH_TO_SPACE_ND": _batch_to_space,
    "DENSIFY": lambda op: op.alias(op.need(0)),
}  # fmt: skip
"""Rules by operator."""
