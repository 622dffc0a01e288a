"""MXNet's operators that move elements, in ONNX: reshaping, slicing, joining, padding, broadcasting.

Semantics are those of apache/mxnet's src/operator of 1.9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sardonyx.convert.mxnet.call import Call, Rule
from sardonyx.convert.shaped import Tensor, Unsupported, broadcast, text


def _product(dims: Sequence[int | None]) -> int | None:
    return None if None in dims else math.prod(dim for dim in dims if dim is not None)


def _flatten(c: Call) -> list[Tensor]:
    x = c.t()
    return [c.reshape(x, (x.shape[0], _product(x.shape[1:])))]


def _reshape(c: Call) -> list[Tensor]:
    """With MXNet's codes: 0 keeps a dim, -1 is inferred, -2 keeps the rest, -3 joins two, -4 splits one."""
    x, codes = c.t(), list(c.p.ints("shape"))
    if c.p.bool("reverse", False) or not codes or c.p.bool("keep_highest", False):
        raise Unsupported("its shape is counted from the end, or missing")
    c.p.refuse(target_shape="(0, 0)")
    dims: list[int | None] = []
    at = 0

    def take(count: int = 1) -> list[int | None]:
        nonlocal at
        at += count
        if at > x.rank:
            raise Unsupported(f"its shape {codes[:20]} does not fit an input of shape {text(x.shape)}")
        return list(x.shape[at - count : at])

    while codes:
        code = codes.pop(0)
        if code == 0:
            dims += take()
        elif code == -2:
            dims += take(x.rank - at)
        elif code == -3:
            dims.append(_product(take(2)))
        elif code == -4 and len(codes) >= 2:
            dims += _halves(take()[0], codes.pop(0), codes.pop(0))
        elif code == -1 or code > 0:
            dims.append(code)
            at += at < x.rank
        else:
            raise Unsupported(f"its shape has the code {code}")
    return [c.reshape(x, _inferred(x, dims))]


def _halves(size: int | None, first: int, second: int) -> list[int | None]:
    if size is not None and first == -1 and second > 0:
        return [size // second, second]
    if size is not None and second == -1 and first > 0:
        return [first, size // first]
    return [None if first == -1 else first, None if second == -1 else second]


def _inferred(x: Tensor, dims: list[int | None]) -> list[int | None]:
    """The dims with the one that is -1 as what is left over, where that is known."""
    if dims.count(-1) > 1:
        raise Unsupported("its shape has two dims to be inferred")
    if -1 in dims:
        have, rest = list(x.shape), [dim for dim in dims if dim != -1]
        for _ in range(rest.count(None)):
            if None in have:
                have.remove(None)
        rest = [dim for dim in rest if dim is not None]
        total = _product(have)
        known = math.prod(dim for dim in rest if dim is not None)
        if total is not None and (known < 1 or total % known):
            raise Unsupported(f"its input of shape {text(x.shape)} cannot be reshaped to {dims}")
        dims[dims.index(-1)] = None if total is None else total // known
    return dims


def _transpose(c: Call) -> list[Tensor]:
    order = list(c.p.ints("axes")) or list(range(c.t().rank))[::-1]
    return [c.transpose(c.t(), [axis % max(c.t().rank, 1) for axis in order])]


def _swap(c: Call) -> list[Tensor]:
    order = list(range(c.t().rank))
    a, b = c.t().axis(c.p.int("dim1", 0)), c.t().axis(c.p.int("dim2", 0))
    order[a], order[b] = order[b], order[a]
    return [c.transpose(c.t(), order)]


def _expand_dims(c: Call) -> list[Tensor]:
    axis = c.p.int("axis", 0)
    axis = axis + c.t().rank + 1 if axis < 0 else axis
    if not 0 <= axis <= c.t().rank:
        raise Unsupported(f"the axis {axis} is out of range")
    value = c.node("Unsqueeze", [c.t().value, c.constant("axes", [axis], np.int64)])
    return [c.tensor(value, (*c.t().shape[:axis], 1, *c.t().shape[axis:]), c.t().dtype)]


def _squeeze(c: Call) -> list[Tensor]:
    x = c.t()
    axes = [x.axis(axis) for axis in c.p.ints("axis")] or [i for i, dim in enumerate(x.shape) if dim == 1]
    if any(x.shape[axis] not in (1, None) for axis in axes) or (not c.p.has("axis") and None in x.shape[1:]):
        raise Unsupported(f"it squeezes the axes {axes} of {text(x.shape)}")
    value = c.node("Squeeze", [x.value, c.constant("axes", axes, np.int64)])
    return [c.tensor(value, [dim for i, dim in enumerate(x.shape) if i not in axes], x.dtype)]


def _concat(c: Call) -> list[Tensor]:
    c.p.ignore("num_args")
    inputs = c.all()
    axis = inputs[0].axis(c.p.int("dim", 1))
    total: int | None = 0
    shape = inputs[0].shape
    for x in inputs:
        if x.rank != len(shape):
            raise Unsupported(f"it joins inputs of shapes {text(shape)} and {text(x.shape)}")
        rest = broadcast((*shape[:axis], 1, *shape[axis + 1 :]), (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        size = x.shape[axis]
        total = None if total is None or size is None else total + size
        shape = (*rest[:axis], total, *rest[axis + 1 :])
    value = c.node("Concat", [x.value for x in inputs], axis=axis)
    return [c.tensor(value, (*shape[:axis], total, *shape[axis + 1 :]), inputs[0].dtype)]


def _stack(c: Call) -> list[Tensor]:
    c.p.ignore("num_args")
    inputs = c.all()
    axis = c.p.int("axis", 0)
    axis = axis + inputs[0].rank + 1 if axis < 0 else axis
    at = c.constant("axes", [axis], np.int64)
    parts = [c.node("Unsqueeze", [x.value, at], f"part_{i}") for i, x in enumerate(inputs)]
    shape = (*inputs[0].shape[:axis], len(parts), *inputs[0].shape[axis:])
    return [c.tensor(c.node("Concat", parts, axis=axis), shape, inputs[0].dtype)]


def _split(c: Call) -> list[Tensor]:
    x, count = c.t(), c.p.int("num_outputs", 1)
    axis, squeeze = x.axis(c.p.int("axis", 1)), c.p.bool("squeeze_axis", False)
    size = x.known(axis)[0]
    if not 0 < count <= 1000 or size % count or (squeeze and size != count):
        raise Unsupported(f"{size} cannot be cut into {count} parts")
    sizes = c.constant("sizes", [size // count] * count, np.int64)
    values = c.nodes("Split", [x.value, sizes], count, "parts" if squeeze else "", axis=axis)
    shape = (*x.shape[:axis], size // count, *x.shape[axis + 1 :])
    if squeeze:
        axes = c.constant("axes", [axis], np.int64)
        values = [c.node("Squeeze", [value, axes], f"{i}" if i else "") for i, value in enumerate(values)]
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    return [c.tensor(value, shape, x.dtype) for value in values]


def _bounds(size: int | None, begin: int | None, end: int | None, step: int) -> tuple[int, int, int | None]:
    """Where a slice starts and ends for ONNX, and how much that is."""
    far = 2**31 - 1
    first = begin if begin is not None else (0 if step > 0 else far)
    last = end if end is not None else (far if step > 0 else -far)
    count = None if size is None else len(range(size)[slice(begin, end, step)])
    return first, last, count


def _slices(c: Call, x: Tensor, parts: dict[int, tuple[int | None, int | None, int]]) -> list[Tensor]:
    shape, rows = list(x.shape), []
    for axis, (begin, end, step) in parts.items():
        if step == 0:
            raise Unsupported("it steps by 0")
        first, last, count = _bounds(x.shape[axis], begin, end, step)
        rows.append((first, last, axis, step))
        shape[axis] = count
    names = ("starts", "ends", "axes", "steps")
    arrays = [c.constant(name, values, np.int64) for name, values in zip(names, zip(*rows, strict=True), strict=True)]
    return [c.tensor(c.node("Slice", [x.value, *arrays]), shape, x.dtype)]


def _slice(c: Call) -> list[Tensor]:
    begin, end, step = (
        (v if isinstance(v := c.p.value(name, ()), tuple) else (v,)) for name in ("begin", "end", "step")
    )
    if len(begin) != len(end) or len(begin) > c.t().rank or len(step) > len(begin) or not begin:
        raise Unsupported("its bounds do not fit its input")
    if any(isinstance(n, bool) or not isinstance(n, int | None) for n in (*begin, *end, *step)):
        raise Unsupported("its bounds are no whole numbers")
    steps = [*step, *[1] * (len(begin) - len(step))]
    return _slices(c, c.t(), {i: (b, e, s or 1) for i, (b, e, s) in enumerate(zip(begin, end, steps, strict=True))})


def _slice_axis(c: Call) -> list[Tensor]:
    axis, begin = c.t().axis(c.p.int("axis", 0)), c.p.int("begin", 0)
    end = c.p.int("end", 0) if c.p.has("end") else None
    return _slices(c, c.t(), {axis: (begin, end, 1)})


def _slice_like(c: Call) -> list[Tensor]:
    x, like = c.t(0), c.t(1)
    axes = [x.axis(axis) for axis in c.p.ints("axes")] or list(range(x.rank))
    if x.rank != like.rank:
        raise Unsupported(f"it cuts {text(x.shape)} to the sizes of {text(like.shape)}")
    if None not in [like.shape[axis] for axis in axes]:
        return _slices(c, x, {axis: (0, size, 1) for axis, size in zip(axes, like.known(*axes), strict=True)})
    at = c.constant("axes", axes, np.int64)
    sizes = c.node("Gather", [c.node("Shape", [like.value], "shape"), at], "sizes", axis=0)
    value = c.node("Slice", [x.value, c.constant("starts", [0] * len(axes), np.int64), sizes, at])
    return [c.tensor(value, [like.shape[i] if i in axes else dim for i, dim in enumerate(x.shape)], x.dtype)]


def _crop(c: Call) -> list[Tensor]:
    """The old Crop of pictures: to h_w or the second input's size, from an offset or the middle."""
    c.p.ignore("num_args")
    x = c.t()
    height, width = x.known(2, 3)
    size = c.t(1).known(2, 3) if len(c.inputs) == 2 else list(c.p.ints("h_w", (0, 0)))
    offset = list(c.p.ints("offset", (0, 0)))
    if c.p.bool("center_crop", False):
        offset = [(height - size[0]) // 2, (width - size[1]) // 2]
    if min(offset) < 0 or offset[0] + size[0] > height or offset[1] + size[1] > width:
        raise Unsupported(f"it cuts {size} at {offset} out of {text(x.shape)}")
    return _slices(c, x, {axis: (o, o + s, 1) for axis, o, s in zip((2, 3), offset, size, strict=True)})


def _pad(c: Call) -> list[Tensor]:
    x, widths = c.t(), c.p.ints("pad_width")
    mode = {"constant": "constant", "edge": "edge", "reflect": "reflect"}.get(c.p.text("mode"))
    if mode is None or len(widths) != 2 * x.rank or min(widths) < 0:
        raise Unsupported(f"its widths {list(widths)[:20]} or its mode do not fit")
    before, after = widths[::2], widths[1::2]
    shape = [None if d is None else d + b + a for d, b, a in zip(x.shape, before, after, strict=True)]
    number = c.scalar("value", c.p.float("constant_value", 0.0), x.dtype)
    value = c.node("Pad", [x.value, c.constant("pads", before + after, np.int64), number], mode=mode)
    return [c.tensor(value, shape, x.dtype)]


def _tile(c: Call) -> list[Tensor]:
    x, counts = c.t(), list(c.p.ints("reps"))
    if min(counts, default=1) < 1:
        raise Unsupported(f"it repeats {counts[:20]} times")
    rank = max(x.rank, len(counts))
    counts = [1] * (rank - len(counts)) + counts
    if x.rank < rank:
        x = c.reshape(x, (*[1] * (rank - x.rank), *x.shape), "deeper")
    shape = [None if d is None else d * n for d, n in zip(x.shape, counts, strict=True)]
    return [c.tensor(c.node("Tile", [x.value, c.constant("reps", counts, np.int64)]), shape, x.dtype)]


def _broadcast_axis(c: Call) -> list[Tensor]:
    x, shape = c.t(), list(c.t().shape)
    sizes = [1] * x.rank
    axes, wanted = c.p.ints("axis"), c.p.ints("size")
    if len(axes) != len(wanted) or any(x.shape[x.axis(axis)] != 1 for axis in axes):
        raise Unsupported(f"the axes {list(axes)} of {text(x.shape)} cannot be broadcast to {list(wanted)}")
    for axis, size in zip(axes, wanted, strict=True):
        shape[x.axis(axis)] = sizes[x.axis(axis)] = size
    return [c.tensor(c.node("Expand", [x.value, c.constant("shape", sizes, np.int64)]), shape, x.dtype)]


def _broadcast_to(c: Call) -> list[Tensor]:
    x, target = c.t(), c.p.ints("shape")
    if len(target) != x.rank or any(
        d not in (1, None) and n not in (0, d) for d, n in zip(x.shape, target, strict=True)
    ):
        raise Unsupported(f"{text(x.shape)} cannot be broadcast to {list(target)}")
    shape = [d if n == 0 else n for d, n in zip(x.shape, target, strict=True)]
    sizes = [max(n, 1) for n in target]
    return [c.tensor(c.node("Expand", [x.value, c.constant("shape", sizes, np.int64)]), shape, x.dtype)]


def _broadcast_like(c: Call) -> list[Tensor]:
    c.p.refuse(lhs_axes="None", rhs_axes="None")
    x, like = c.t(0), c.t(1)
    value = c.node("Expand", [x.value, c.node("Shape", [like.value], "shape")])
    return [c.tensor(value, broadcast(x.shape, like.shape), x.dtype)]


def _blocks(op_type: str) -> Rule:
    def emit(c: Call) -> list[Tensor]:
        x, size = c.t(), c.p.int("block_size", 1)
        if x.rank != 4 or not 1 <= size <= 1000:
            raise Unsupported(f"its block of {size} does not fit {text(x.shape)}")
        channels, height, width = x.known(1, 2, 3)
        if op_type == "DepthToSpace":
            shape = (x.shape[0], channels // size**2, height * size, width * size)
        else:
            shape = (x.shape[0], channels * size**2, height // size, width // size)
        return [c.tensor(c.node(op_type, [x.value], blocksize=size), shape, x.dtype)]

    return emit


def _zeros_like(number: float) -> Rule:
    def emit(c: Call) -> list[Tensor]:
        x = c.t()
        return [c.like(x, c.node("Expand", [c.scalar("number", number, x.dtype), c.node("Shape", [x.value], "shape")]))]

    return emit


def _reverse(c: Call) -> list[Tensor]:
    axes = [c.t().axis(axis) for axis in c.p.ints("axis")]
    return _slices(c, c.t(), dict.fromkeys(axes, (None, None, -1)))


def _repeat(c: Call) -> list[Tensor]:
    """Each element so many times, along an axis or of all in a row."""
    x, count = c.t(), c.p.int("repeats", 1)
    if not 1 <= count <= 2**20 or not c.p.has("axis"):
        raise Unsupported(f"it repeats {count} times, or has no axis")
    axis = x.axis(c.p.int("axis", 0))
    at = c.constant("axes", [axis + 1], np.int64)
    apart = c.node("Unsqueeze", [x.value, at], "apart")
    counts = c.constant("reps", [1] * (axis + 1) + [count] + [1] * (x.rank - axis - 1), np.int64)
    tiled = c.node("Tile", [apart, counts], "tiled")
    size = x.shape[axis]
    shape = (*x.shape[:axis], None if size is None else size * count, *x.shape[axis + 1 :])
    dims = [0] * axis + [-1] + [dim or 0 for dim in x.shape[axis + 1 :]]
    if None in x.shape[axis + 1 :]:
        raise Unsupported(f"it repeats along an axis before open ones: {text(x.shape)}")
    return [c.tensor(c.node("Reshape", [tiled, c.constant("shape", dims, np.int64)]), shape, x.dtype)]


def _reshape_like(c: Call) -> list[Tensor]:
    c.p.refuse(lhs_begin="None", lhs_end="None", rhs_begin="None", rhs_end="None")
    value = c.node("Reshape", [c.t().value, c.node("Shape", [c.t(1).value], "shape")])
    return [c.tensor(value, c.t(1).shape, c.t().dtype)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Concat", "concat"), _concat),
    **dict.fromkeys(("Flatten", "flatten"), _flatten),
    **dict.fromkeys(("Pad", "pad"), _pad),
    **dict.fromkeys(("Reshape", "reshape"), _reshape),
    **dict.fromkeys(("SliceChannel", "split"), _split),
    **dict.fromkeys(("SwapAxis", "swapaxes"), _swap),
    **dict.fromkeys(("broadcast_axes", "broadcast_axis"), _broadcast_axis),
    **dict.fromkeys(("crop", "slice"), _slice),
    **dict.fromkeys(("flip", "reverse"), _reverse),
    "Crop": _crop, "broadcast_like": _broadcast_like, "broadcast_to": _broadcast_to,
    "depth_to_space": _blocks("DepthToSpace"), "expand_dims": _expand_dims, "ones_like": _zeros_like(1),
    "repeat": _repeat, "reshape_like": _reshape_like, "slice_axis": _slice_axis, "slice_like": _slice_like,
    "space_to_depth": _blocks("SpaceToDepth"), "squeeze": _squeeze, "stack": _stack, "tile": _tile,
    "transpose": _transpose, "zeros_like": _zeros_like(0),
}  # fmt: skip
"""By the operator's name."""
