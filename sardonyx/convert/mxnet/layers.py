"""What MXNet's operators are in ONNX: a function for each, which reads its parameters and emits its nodes.

Semantics are those of apache/mxnet's src/operator of 1.9, for inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from sardonyx.convert.mxnet.files import Attributes
from sardonyx.convert.shaped import Array, Emitter, Tensor, Unsupported, broadcast, text

FLOAT, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.BOOL
TYPES = {
    "float32": FLOAT, "float64": ir.DataType.DOUBLE, "float16": ir.DataType.FLOAT16, "uint8": ir.DataType.UINT8,
    "int8": ir.DataType.INT8, "int32": ir.DataType.INT32, "int64": INT64, "bool": BOOL,
}  # fmt: skip
_BY_NUMBER = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")


@dataclass(frozen=True)
class Weight:
    """A variable with its array, or what operators on such made; it becomes a constant where a node needs it."""

    name: str
    array: Array
    zeros: bool = False
    """Zeros whose batch is open: the first state of a recurrent layer."""


Operand = Tensor | Weight


@dataclass
class Call(Emitter):
    """One operator that is emitted."""

    op: str = ""
    p: Attributes = field(default_factory=lambda: Attributes({}))
    inputs: Sequence[Operand] = ()

    def t(self, index: int = 0) -> Tensor:
        """An input as a value of the graph."""
        if index >= len(self.inputs):
            raise Unsupported(f"it has {len(self.inputs)} inputs, expected more")
        found = self.inputs[index]
        if isinstance(found, Tensor):
            return found
        if found.zeros:
            raise Unsupported("it takes zeros whose size is not known")
        value = self.graph.initializer(found.name, found.array)
        return Tensor(value, found.array.shape, ir.DataType.from_numpy(found.array.dtype))

    def a(self, index: int, shape: Sequence[int] | None = None) -> Array:
        """An input that must be an array of the parameters, of this shape."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(found, Weight):
            raise Unsupported(f"its input {index} is no array of the parameters")
        if shape is not None and found.array.shape != tuple(shape):
            raise Unsupported(f"{found.name!r} has the shape {text(found.array.shape)}, expected {text(tuple(shape))}")
        return found.array

    def weight(self, index: int, shape: Sequence[int]) -> ir.Value:
        """An input that must have this shape, as a value: a parameter, or computed."""
        if index < len(self.inputs) and isinstance(self.inputs[index], Weight):
            self.a(index, shape)
        found = self.t(index)
        if found.rank != len(shape) or any(d not in (None, s) for d, s in zip(found.shape, shape, strict=True)):
            raise Unsupported(f"its input {index} has the shape {text(found.shape)}, expected {text(tuple(shape))}")
        return found.value

    def all(self) -> list[Tensor]:
        """All inputs as values."""
        return [self.t(i) for i in range(len(self.inputs))]

    def unary(self, op_type: str, tag: str = "", **attributes: object) -> list[Tensor]:
        """A node of each element of the only input."""
        return [self.like(self.t(), self.node(op_type, [self.t().value], tag, **attributes))]

    def scalar(self, tag: str, number: float, dtype: ir.DataType = FLOAT) -> ir.Value:
        """A constant number."""
        return self.constant(tag, number, dtype.numpy())


Rule = Callable[[Call], list[Tensor]]


def _unary(op_type: str) -> Rule:
    return lambda c: c.unary(op_type)


def _binary(op_type: str, *, result: ir.DataType | None = None, swapped: bool = False) -> Rule:
    """Elementwise of two inputs, with NumPy's broadcasting; comparisons give floats in MXNet."""

    def emit(c: Call) -> list[Tensor]:
        a, b = c.t(0), c.t(1)
        if a.dtype != b.dtype:
            raise Unsupported(f"its inputs hold {a.dtype.name} and {b.dtype.name}")
        values = [b.value, a.value] if swapped else [a.value, b.value]
        shape = broadcast(a.shape, b.shape)
        if result is None:
            return [c.tensor(c.node(op_type, values), shape, a.dtype)]
        return [_number(c, c.node(op_type, values, "truth"), Tensor(a.value, shape, a.dtype))]

    return emit


def _number(c: Call, truth: ir.Value, like: Tensor) -> Tensor:
    return c.like(like, c.node("Cast", [truth], to=int(like.dtype)))


def _scalar(op_type: str, *, swapped: bool = False, truth: bool = False) -> Rule:
    """Elementwise with a number."""

    def emit(c: Call) -> list[Tensor]:
        x, number = c.t(), c.p.float("scalar", 1.0)
        c.p.text("is_int")
        if x.dtype != FLOAT and number != int(number):
            raise Unsupported(f"it combines {x.dtype.name} with {number}")
        other = c.scalar("scalar", number, x.dtype)
        values = [other, x.value] if swapped else [x.value, other]
        if not truth:
            return [c.like(x, c.node(op_type, values))]
        return [_number(c, c.node(op_type, values, "truth"), x)]

    return emit


def _not_equal(c: Call) -> list[Tensor]:
    other = c.scalar("scalar", c.p.float("scalar", 1.0), c.t().dtype) if len(c.inputs) == 1 else c.t(1).value
    shape = c.t().shape if len(c.inputs) == 1 else broadcast(c.t().shape, c.t(1).shape)
    c.p.text("is_int")
    equal = c.node("Equal", [c.t().value, other], "equal")
    return [_number(c, c.node("Not", [equal], "truth"), Tensor(equal, shape, c.t().dtype))]


def _modulo(c: Call) -> list[Tensor]:
    """With the sign of the divisor, as Python's: x - floor(x / y) * y."""
    x = c.t()
    other = c.scalar("scalar", c.p.float("scalar", 1.0), x.dtype) if len(c.inputs) == 1 else c.t(1).value
    shape = x.shape if len(c.inputs) == 1 else broadcast(x.shape, c.t(1).shape)
    c.p.text("is_int")
    if x.dtype != FLOAT:
        raise Unsupported(f"it divides {x.dtype.name}")
    whole = c.node("Floor", [c.node("Div", [x.value, other], "ratio")], "whole")
    return [c.tensor(c.node("Sub", [x.value, c.node("Mul", [whole, other], "multiple")]), shape)]


def _power_of_two(name: str) -> Rule:
    """Functions that are two nodes of ONNX."""

    def emit(c: Call) -> list[Tensor]:
        x = c.t().value
        made: dict[str, Callable[[], ir.Value]] = {
            "square": lambda: c.node("Mul", [x, x]),
            "rsqrt": lambda: c.node("Reciprocal", [c.node("Sqrt", [x], "root")]),
            "rcbrt": lambda: c.node("Reciprocal", [_cube_root(c, x, "root")]),
            "cbrt": lambda: _cube_root(c, x, ""),
            "expm1": lambda: c.node("Sub", [c.node("Exp", [x], "exp"), c.scalar("one", 1)]),
            "log1p": lambda: c.node("Log", [c.node("Add", [x, c.scalar("one", 1)], "more")]),
            "log2": lambda: c.node("Mul", [c.node("Log", [x], "log"), c.scalar("factor", 1 / math.log(2))]),
            "log10": lambda: c.node("Mul", [c.node("Log", [x], "log"), c.scalar("factor", 1 / math.log(10))]),
            "degrees": lambda: c.node("Mul", [x, c.scalar("factor", 180 / math.pi)]),
            "radians": lambda: c.node("Mul", [x, c.scalar("factor", math.pi / 180)]),
        }
        return [c.like(c.t(), made[name]())]

    return emit


def _cube_root(c: Call, x: ir.Value, tag: str) -> ir.Value:
    power = c.node("Pow", [c.node("Abs", [x], "size"), c.scalar("third", 1 / 3)], "power")
    return c.node("Mul", [power, c.node("Sign", [x], "sign")], tag)


def _identity(c: Call) -> list[Tensor]:
    return [c.like(c.t(), c.node("Identity", [c.t().value]))]


def _sum_all(c: Call) -> list[Tensor]:
    c.p.text("num_args")
    values = c.all()
    shape = values[0].shape
    for x in values[1:]:
        shape = broadcast(shape, x.shape)
    return [c.tensor(c.node("Sum", [x.value for x in values]), shape)]


def _clip(c: Call) -> list[Tensor]:
    bounds = [c.scalar(name, c.p.float(f"a_{name}", 0.0), c.t().dtype) for name in ("min", "max")]
    return [c.like(c.t(), c.node("Clip", [c.t().value, *bounds]))]


def _hard_sigmoid(c: Call) -> list[Tensor]:
    return c.unary("HardSigmoid", alpha=c.p.float("alpha", 0.2), beta=c.p.float("beta", 0.5))


def _cast(c: Call) -> list[Tensor]:
    dtype = _dtype(c)
    return [c.tensor(c.node("Cast", [c.t().value], to=int(dtype)), c.t().shape, dtype)]


def _dtype(c: Call, name: str = "dtype", default: str = "float32") -> ir.DataType:
    wanted = c.p.text(name, default)
    wanted = _BY_NUMBER[int(wanted)] if wanted.isdigit() and int(wanted) < len(_BY_NUMBER) else wanted
    if wanted not in TYPES:
        raise Unsupported(f"{name} is {wanted[:40]!r}")
    return TYPES[wanted]


def _where(c: Call) -> list[Tensor]:
    chosen, a, b = c.all()
    if chosen.rank != a.rank:
        raise Unsupported(f"it chooses by {text(chosen.shape)} among {text(a.shape)}")
    truth = c.node("Cast", [chosen.value], "truth", to=int(BOOL))
    return [c.tensor(c.node("Where", [truth, a.value, b.value]), broadcast(a.shape, b.shape), a.dtype)]


# Shapes


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
    c.p.text("num_args")
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
    c.p.text("num_args")
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
    steps = [*step, *[1] * (len(begin) - len(step))]
    return _slices(c, c.t(), {i: (b, e, s or 1) for i, (b, e, s) in enumerate(zip(begin, end, steps, strict=True))})


def _slice_axis(c: Call) -> list[Tensor]:
    axis, begin = c.t().axis(c.p.int("axis", 0)), c.p.int("begin", 0)
    end = c.p.int("end", 0) if c.p.has("end") else None
    return _slices(c, c.t(), {axis: (begin, end, 1)})


def _slice_like(c: Call) -> list[Tensor]:
    x, like = c.t(0), c.t(1)
    axes = [x.axis(axis) for axis in c.p.ints("axes")] or list(range(min(x.rank, like.rank)))
    sizes = like.known(*axes)
    return _slices(c, x, {axis: (0, size, 1) for axis, size in zip(axes, sizes, strict=True)})


def _crop(c: Call) -> list[Tensor]:
    """The old Crop of pictures: to h_w or the second input's size, from an offset or the middle."""
    c.p.text("num_args")
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
    rank = max(x.rank, len(counts))
    counts = [1] * (rank - len(counts)) + counts
    if x.rank < rank:
        x = c.reshape(x, (*[1] * (rank - x.rank), *x.shape), "deeper")
    shape = [None if d is None else d * n for d, n in zip(x.shape, counts, strict=True)]
    return [c.tensor(c.node("Tile", [x.value, c.constant("reps", counts, np.int64)]), shape, x.dtype)]


def _broadcast_axis(c: Call) -> list[Tensor]:
    x, shape = c.t(), list(c.t().shape)
    sizes = [1] * x.rank
    for axis, size in zip(c.p.ints("axis"), c.p.ints("size"), strict=False):
        shape[x.axis(axis)] = sizes[x.axis(axis)] = size
    return [c.tensor(c.node("Expand", [x.value, c.constant("shape", sizes, np.int64)]), shape, x.dtype)]


def _broadcast_to(c: Call) -> list[Tensor]:
    x, target = c.t(), c.p.ints("shape")
    if len(target) != x.rank:
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


# Sums, products, choices


def _reduced_axes(c: Call) -> tuple[list[int], bool]:
    x, keep = c.t(), c.p.bool("keepdims", False)
    axes = [x.axis(axis) for axis in c.p.ints("axis")] if c.p.has("axis") else []
    if c.p.bool("exclude", False):
        axes = [axis for axis in range(x.rank) if axis not in axes]
    elif not axes:
        axes = list(range(x.rank))
    return axes, keep


def _reduce(op_type: str) -> Rule:
    def emit(c: Call) -> list[Tensor]:
        return [_reduced(c, op_type, *_reduced_axes(c))]

    return emit


def _reduced(c: Call, op_type: str, axes: list[int], keep: bool) -> Tensor:
    x = c.t()
    c.p.refuse(dtype="None", out_dtype="None")
    value = c.node(op_type, [x.value, c.constant("axes", axes, np.int64)], keepdims=int(keep or len(axes) == x.rank))
    shape = [1 if i in axes else dim for i, dim in enumerate(x.shape) if keep or i not in axes]
    if not keep and len(axes) == x.rank:  # MXNet has no scalars: what is left is [1].
        value = c.node("Reshape", [value, c.constant("one", [1], np.int64)], "flat")
        shape = [1]
    return c.tensor(value, shape, x.dtype)


def _norm(c: Call) -> list[Tensor]:
    order = c.p.int("ord", 2)
    if order not in (1, 2):
        raise Unsupported(f"the norm {order}")
    return [_reduced(c, f"ReduceL{order}", *_reduced_axes(c))]


def _argmax(op_type: str) -> Rule:
    def emit(c: Call) -> list[Tensor]:
        x, keep = c.t(), c.p.bool("keepdims", False)
        if not c.p.has("axis"):
            raise Unsupported("it has no axis")
        axis = x.axis(c.p.int("axis", 0))
        index = c.node(op_type, [x.value], "index", axis=axis, keepdims=int(keep))
        shape = (*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :])
        return [c.tensor(c.node("Cast", [index], to=int(FLOAT)), shape or (1,))]

    return emit


def _argmax_channel(c: Call) -> list[Tensor]:
    index = c.node("ArgMax", [c.t().value], "index", axis=1, keepdims=0)
    return [c.tensor(c.node("Cast", [index], to=int(FLOAT)), (*c.t().shape[:1], *c.t().shape[2:]))]


def _embedding(c: Call) -> list[Tensor]:
    rows, size = c.p.int("input_dim", 0), c.p.int("output_dim", 0)
    c.p.text("sparse_grad")
    c.p.refuse(dtype="float32")
    index = _index(c, c.t(0), rows)
    return [c.tensor(c.node("Gather", [c.weight(1, (rows, size)), index], axis=0), (*c.t(0).shape, size))]


def _index(c: Call, x: Tensor, rows: int) -> ir.Value:
    """Indices as whole numbers within the rows: MXNet clips them."""
    index = c.node("Cast", [x.value], "index", to=int(INT64))
    return c.node("Clip", [index, c.scalar("first", 0, INT64), c.scalar("last", rows - 1, INT64)], "inside")


def _take(c: Call) -> list[Tensor]:
    x, index = c.t(0), c.t(1)
    axis = x.axis(c.p.int("axis", 0))
    c.p.refuse(mode="clip")
    value = c.node("Gather", [x.value, _index(c, index, x.known(axis)[0])], axis=axis)
    return [c.tensor(value, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), x.dtype)]


def _one_hot(c: Call) -> list[Tensor]:
    depth = c.p.int("depth", 1)
    c.p.refuse(dtype="float32")
    index = c.node("Cast", [c.t().value], "index", to=int(INT64))
    levels = c.constant("levels", [c.p.float("off_value", 0.0), c.p.float("on_value", 1.0)])
    # ONNX counts negative indices from the end; MXNet has nothing there.
    inside = c.node("Where", [c.node("Less", [index, c.scalar("zero", 0, INT64)], "below"),
                              c.scalar("outside", depth, INT64), index], "at")  # fmt: skip
    value = c.node("OneHot", [inside, c.scalar("depth", depth, INT64), levels], axis=-1)
    return [c.tensor(value, (*c.t().shape, depth))]


def _dot(c: Call) -> list[Tensor]:
    a, b = c.t(0), c.t(1)
    c.p.refuse(forward_stype="None")
    if a.rank != 2 or b.rank != 2:
        raise Unsupported(f"it multiplies inputs of shapes {text(a.shape)} and {text(b.shape)}")
    return [_product_of(c, a, b)]


def _product_of(c: Call, a: Tensor, b: Tensor) -> Tensor:
    """A matrix product, of transposed matrices where that is asked."""
    order = [*range(a.rank - 2), a.rank - 1, a.rank - 2]
    a = c.transpose(a, order, "left") if c.p.bool("transpose_a", False) else a
    b = c.transpose(b, order, "right") if c.p.bool("transpose_b", False) else b
    inner = (a.shape[-1], b.shape[-2])
    if None not in inner and inner[0] != inner[1]:
        raise Unsupported(f"it multiplies inputs of shapes {text(a.shape)} and {text(b.shape)}")
    return c.tensor(
        c.node("MatMul", [a.value, b.value]), (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    )


def _batch_dot(c: Call) -> list[Tensor]:
    a, b = c.t(0), c.t(1)
    c.p.refuse(forward_stype="None", alpha="1.0", axis="-2")
    if a.rank < 3 or a.rank != b.rank:
        raise Unsupported(f"it multiplies inputs of shapes {text(a.shape)} and {text(b.shape)}")
    return [_product_of(c, a, b)]


def _binaries() -> dict[str, Rule]:
    """Elementwise operators under their many names."""
    rules: dict[str, Rule] = {}
    for name, op_type, aliases in (
        ("add", "Add", "_plus _Plus"), ("sub", "Sub", "_minus _Minus"), ("mul", "Mul", "_mul _Mul"),
        ("div", "Div", "_div _Div"), ("power", "Pow", "_power _Power"), ("maximum", "Max", "_maximum _Maximum"),
        ("minimum", "Min", "_minimum _Minimum"),
    ):  # fmt: skip
        names = [f"broadcast_{name}", f"elemwise_{name}", *aliases.split()]
        rules |= dict.fromkeys(names, _binary(op_type))
    rules |= {"broadcast_plus": _binary("Add"), "broadcast_minus": _binary("Sub")}
    for name, op_type in (("greater", "Greater"), ("greater_equal", "GreaterOrEqual"), ("lesser", "Less"),
                          ("lesser_equal", "LessOrEqual"), ("equal", "Equal")):  # fmt: skip
        rules |= dict.fromkeys((f"broadcast_{name}", f"_{name}"), _binary(op_type, result=BOOL))
        rules[f"_{name}_scalar"] = _scalar(op_type, truth=True)
    rules |= dict.fromkeys(("broadcast_not_equal", "_not_equal", "_not_equal_scalar"), _not_equal)
    rules |= dict.fromkeys(("broadcast_mod", "_mod", "_mod_scalar"), _modulo)
    for name, op_type in (("plus", "Add"), ("minus", "Sub"), ("mul", "Mul"), ("div", "Div"), ("power", "Pow"),
                          ("maximum", "Max"), ("minimum", "Min")):  # fmt: skip
        old = f"_{name.capitalize()}Scalar"
        rules |= dict.fromkeys((f"_{name}_scalar", old), _scalar(op_type))
        if name in ("minus", "div", "power"):
            rules |= dict.fromkeys((f"_r{name}_scalar", f"_R{name}Scalar"), _scalar(op_type, swapped=True))
    return rules


RULES: dict[str, Rule] = {
    **_binaries(),
    **{name: _unary(name.capitalize()) for name in (
        "abs", "sqrt", "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid",
        "relu", "softsign", "erf", "floor", "ceil", "sign", "reciprocal",
    )},
    "arcsin": _unary("Asin"), "arccos": _unary("Acos"), "arctan": _unary("Atan"), "arcsinh": _unary("Asinh"),
    "arccosh": _unary("Acosh"), "arctanh": _unary("Atanh"), "negative": _unary("Neg"), "rint": _unary("Round"),
    **{name: _power_of_two(name) for name in (
        "square", "rsqrt", "cbrt", "rcbrt", "expm1", "log1p", "log2", "log10", "degrees", "radians",
    )},
    **dict.fromkeys(("BlockGrad", "Dropout", "MakeLoss", "_copy", "identity", "make_loss", "stop_gradient",
                     "LinearRegressionOutput", "MAERegressionOutput", "IdentityAttachKLSparseReg"), _identity),
    **dict.fromkeys(("ElementWiseSum", "add_n"), _sum_all),
    **dict.fromkeys(("Cast", "cast"), _cast),
    **dict.fromkeys(("Concat", "concat"), _concat),
    **dict.fromkeys(("Flatten", "flatten"), _flatten),
    **dict.fromkeys(("Pad", "pad"), _pad),
    **dict.fromkeys(("Reshape", "reshape"), _reshape),
    **dict.fromkeys(("SliceChannel", "split"), _split),
    **dict.fromkeys(("SwapAxis", "swapaxes"), _swap),
    **dict.fromkeys(("broadcast_axes", "broadcast_axis"), _broadcast_axis),
    **dict.fromkeys(("max", "max_axis"), _reduce("ReduceMax")),
    **dict.fromkeys(("min", "min_axis"), _reduce("ReduceMin")),
    **dict.fromkeys(("sum", "sum_axis"), _reduce("ReduceSum")),
    "Crop": _crop, "Embedding": _embedding, "argmax": _argmax("ArgMax"), "argmax_channel": _argmax_channel,
    "argmin": _argmax("ArgMin"), "batch_dot": _batch_dot, "broadcast_like": _broadcast_like,
    "broadcast_to": _broadcast_to, "clip": _clip, "depth_to_space": _blocks("DepthToSpace"), "dot": _dot,
    "expand_dims": _expand_dims, "hard_sigmoid": _hard_sigmoid, "mean": _reduce("ReduceMean"), "norm": _norm,
    "one_hot": _one_hot, "ones_like": _zeros_like(1), "prod": _reduce("ReduceProd"), "slice": _slice,
    "slice_axis": _slice_axis, "slice_like": _slice_like, "space_to_depth": _blocks("SpaceToDepth"),
    "squeeze": _squeeze, "stack": _stack, "take": _take, "tile": _tile, "transpose": _transpose, "where": _where,
    "zeros_like": _zeros_like(0),
}  # fmt: skip
"""By the operator's name."""
