"""What each operator of CNTK is in ONNX. One rule an operator, in `RULES`; `windows` and `sequences` have the rest.

Values are [*dynamic axes, *shape]. CNTK's arithmetic guards its ends, and so do the rules: the logarithm of what is
below 1e-37 is -85.1, the reciprocal of 0 is 0, and negative numbers have the root 0 (TensorOps.h, CommonMatrix.h).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.cntk.file import ALL_STATIC, DYNAMIC, END, Axis, Function, Network, Shape, dims
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.shaped import MAX_ELEMENTS, Unsupported, text

SMALLEST, LOG_OF_SMALLEST = 1e-37, -85.1


@dataclass(frozen=True, eq=False)
class Sample:
    """A value [*dynamic, *shape] of float32. `dynamic` names its dynamic axes (batch, sequence), open ones.

    `weight` is its array where it is a parameter or a constant.
    """

    value: ir.Value
    dynamic: tuple[str, ...]
    shape: Shape
    weight: np.ndarray[Any, Any] | None = None

    @property
    def rank(self) -> int:
        """The number of static axes."""
        return len(self.shape)

    def known(self) -> tuple[int, ...]:
        """The static shape. Raises Unsupported where a dim is open."""
        result = tuple(dim for dim in self.shape if dim is not None)
        if len(result) != len(self.shape):
            raise Unsupported(f"its input of shape {text(self.shape)} has a size that is not known")
        return result


@dataclass
class Call:
    """One operator on its operands."""

    graph: GraphBuilder
    function: Function
    operands: list[Sample]
    network: Network
    asked: set[str] = field(default_factory=set)

    # Attributes

    def option(self, name: str, kind: type[Any] | tuple[type[Any], ...], default: Any = None) -> Any:
        """An attribute, checked for its type. Raises Unsupported where it is missing and there is no default."""
        self.asked.add(name)
        value = self.function.attributes.get(name, default)
        if value is None and default is None:
            raise Unsupported(f"its attribute {name} is missing")
        if not isinstance(value, kind):
            raise Unsupported(f"its attribute {name} is of another kind: {value!r:.40}")
        return value

    def options(self, name: str, kind: type[Any]) -> list[Any]:
        """An attribute that is a list."""
        values = self.option(name, list)
        if not all(isinstance(value, kind) for value in values):
            raise Unsupported(f"its attribute {name} is of another kind")
        return list(values)

    def has(self, name: str) -> bool:
        """Whether there is such an attribute."""
        return name in self.function.attributes

    def ignore(self, *names: str) -> None:
        """These attributes do not matter to inference."""
        self.asked.update(names)

    def axes(self, one: str = "axis", several: str = "axisVec") -> list[Axis]:
        """Axes, given singly or as a list."""
        if self.has(several):
            return self.options(several, Axis)
        return [self.option(one, Axis)]

    def place(self, axis: Axis, rank: int, end: bool = False) -> int:
        """An axis among the `rank` static ones as NumPy counts. With `end` it may lie after them (-1)."""
        if axis.number == END and end:
            return -1
        if axis.number >= DYNAMIC - 10:
            raise Unsupported(f"the axis {axis.name!r} is not supported")
        number = axis.number + rank if axis.number < 0 else axis.number
        if not 0 <= number < rank + end:
            raise Unsupported(f"the axis {axis.number} is out of range for {rank} axes")
        return rank - 1 - number

    # Operands

    def operand(self, index: int = 0) -> Sample:
        """An operand. Raises Unsupported when there is none."""
        if index >= len(self.operands):
            raise Unsupported(f"it has {len(self.operands)} inputs")
        return self.operands[index]

    def weight(self, index: int) -> np.ndarray[Any, Any]:
        """An operand that is a parameter or a constant, float64."""
        array = self.operand(index).weight
        if array is None:
            raise Unsupported(f"its input {index} is no parameter")
        return array.astype(np.float64)

    # Nodes

    def node(self, op_type: str, inputs: Sequence[ir.Value | None], tag: str = "", **attributes: Any) -> ir.Value:
        """Append a node with one output."""
        return self.graph.node(op_type, inputs, name=self.tagged(tag), **attributes)

    def constant(self, tag: str, array: Any, dtype: Any = np.float32) -> ir.Value:
        """A constant."""
        return self.graph.initializer(self.tagged(tag), np.asarray(array, dtype))

    def tagged(self, tag: str) -> str:
        """A name for a part of this operator."""
        return f"{self.function.shown}/{tag}" if tag else self.function.shown

    def made(self, value: ir.Value, dynamic: tuple[str, ...], shape: Sequence[int | None]) -> Sample:
        """Declare what `value` holds. Raises Unsupported when that has no sensible size."""
        known = [dim for dim in shape if dim is not None]
        if any(dim < 1 for dim in known) or math.prod(known) > MAX_ELEMENTS:
            raise Unsupported(f"its output would have the shape {text(tuple(shape))}")
        return Sample(value, dynamic, tuple(shape))

    def like(self, x: Sample, value: ir.Value) -> Sample:
        """Declare that `value` has the shape of `x`."""
        return Sample(value, x.dynamic, x.shape)

    def reshape(self, x: Sample, shape: Sequence[int | None], tag: str = "") -> Sample:
        """`x` in another static shape."""
        if tuple(shape) == x.shape:
            return x
        if None not in x.shape and None not in shape and math.prod(x.known()) != math.prod(d or 0 for d in shape):
            raise Unsupported(f"its input of shape {text(x.shape)} cannot be reshaped to {text(tuple(shape))}")
        sizes = [0] * len(x.dynamic) + [-1 if dim is None else dim for dim in shape]
        if sizes.count(-1) > 1:
            raise Unsupported(f"a shape with several open sizes: {text(tuple(shape))}")
        value = self.node("Reshape", [x.value, self.constant(f"{tag}_to", sizes, np.int64)], tag or "reshaped")
        return self.made(value, x.dynamic, shape)

    def ranked(self, x: Sample, rank: int, tag: str) -> Sample:
        """`x` with static axes of size 1 in front, so that there are `rank`."""
        missing = rank - x.rank
        if missing <= 0 or not x.dynamic:
            return x
        axes = self.constant(f"{tag}_axes", range(len(x.dynamic), len(x.dynamic) + missing), np.int64)
        return self.made(self.node("Unsqueeze", [x.value, axes], tag), x.dynamic, (1,) * missing + x.shape)

    def joint(self, operands: Sequence[Sample]) -> tuple[str, ...]:
        """The dynamic axes that operands have in common; some may have none."""
        found = {x.dynamic for x in operands if x.dynamic}
        if len(found) > 1:
            raise Unsupported(f"inputs with different dynamic axes: {', '.join(map(str, sorted(found)))}")
        return next(iter(found), ())


Rule = Callable[[Call], list[Sample]]


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The static shape of an elementwise result. Raises Unsupported when they do not fit."""
    rank = max(map(len, shapes))
    result: list[int | None] = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        others = {size for size in sizes if size != 1}
        if len(others) > 1:
            raise Unsupported(f"inputs of shapes {', '.join(map(text, shapes))} do not fit")
        result.append(next(iter(others), 1))
    return tuple(result)


def aligned(c: Call, operands: Sequence[Sample]) -> tuple[list[ir.Value], tuple[str, ...], Shape]:
    """Values that ONNX broadcasts as CNTK does, with the dynamic axes and the static shape of the result."""
    dynamic, shape = c.joint(operands), broadcast([x.shape for x in operands])
    return [c.ranked(x, len(shape), f"input_{i}").value for i, x in enumerate(operands)], dynamic, shape


# ---- elementwise -----------------------------------------------------------------------------------------------------


def _unary(op_type: str) -> Rule:
    return lambda c: [c.like(c.operand(), c.node(op_type, [c.operand().value]))]


def _elementwise(op_type: str, count: int = 2) -> Rule:
    def rule(c: Call) -> list[Sample]:
        if len(c.operands) != count:
            raise Unsupported(f"it has {len(c.operands)} inputs")
        values, dynamic, shape = aligned(c, c.operands)
        return [c.made(c.node(op_type, values), dynamic, shape)]

    return rule


def _comparison(op_type: str, negated: bool = False) -> Rule:
    def rule(c: Call) -> list[Sample]:
        values, dynamic, shape = aligned(c, c.operands[:2])
        found = c.node(op_type, values, "compared")
        if negated:
            found = c.node("Not", [found], "negated")
        return [c.made(c.node("Cast", [found], to=ir.DataType.FLOAT.value), dynamic, shape)]

    return rule


def logarithm(c: Call, value: ir.Value, tag: str = "") -> ir.Value:
    """CNTK's logarithm, which ends at -85.1."""
    small = c.node("Less", [value, c.constant("smallest", SMALLEST)], "small")
    return c.node("Where", [small, c.constant("log_of_smallest", LOG_OF_SMALLEST), c.node("Log", [value], "log")], tag)


def _log(c: Call) -> list[Sample]:
    return [c.like(c.operand(), logarithm(c, c.operand().value))]


def _sqrt(c: Call) -> list[Sample]:
    x = c.operand()
    return [c.like(x, c.node("Sqrt", [c.node("Relu", [x.value], "positive")]))]


def _reciprocal(c: Call) -> list[Sample]:
    x, zero = c.operand(), c.constant("zero", 0.0)
    none = c.node("Equal", [x.value, zero], "is_zero")
    return [c.like(x, c.node("Where", [none, zero, c.node("Reciprocal", [x.value], "inverse")]))]


def _log_plus(c: Call) -> list[Sample]:
    """log(exp(a) + exp(b)), from the larger of both on."""
    values, dynamic, shape = aligned(c, c.operands[:2])
    more, less = c.node("Max", values, "more"), c.node("Min", values, "less")
    apart = c.node("Exp", [c.node("Sub", [less, more], "apart")], "exp")
    rest = c.node("Log", [c.node("Add", [apart, c.constant("one", 1.0)], "sum")], "rest")
    return [c.made(c.node("Add", [more, rest]), dynamic, shape)]


def _elu(c: Call) -> list[Sample]:
    alpha = float(c.option("alpha", float, 1.0))
    return [c.like(c.operand(), c.node("Elu", [c.operand().value], alpha=alpha))]


def _select(c: Call) -> list[Sample]:
    values, dynamic, shape = aligned(c, [c.operand(0), c.operand(1), c.operand(2)])
    where = c.node("Cast", [values[0]], "chosen", to=ir.DataType.BOOL.value)
    return [c.made(c.node("Where", [where, *values[1:]]), dynamic, shape)]


def _clip(c: Call) -> list[Sample]:
    values, dynamic, shape = aligned(c, [c.operand(0), c.operand(1), c.operand(2)])
    low = c.node("Max", values[:2], "low")
    return [c.made(c.node("Min", [low, values[2]]), dynamic, shape)]


def _cast(c: Call) -> list[Sample]:
    if c.option("newDataType", int) not in (1, 2):  # float and double
        raise Unsupported("only floats of 32 and 64 bits are supported")
    return _same(c)


def _same(c: Call) -> list[Sample]:
    c.ignore("dropoutRate", "rngSeed", "rngOffset")
    return [c.like(c.operand(), c.node("Identity", [c.operand().value]))]


# ---- over the whole sample, or some axes -----------------------------------------------------------------------------


def _flat(c: Call) -> Sample:
    x = c.operand()
    if not x.dynamic:
        raise Unsupported("its input is a constant")
    return c.reshape(x, (math.prod(x.known()),), "flat")


def _over_all(op_type: str) -> Rule:
    """Of all elements of a sample, as CNTK's nodes see it."""

    def rule(c: Call) -> list[Sample]:
        flat = _flat(c)
        value = c.node(op_type, [flat.value], axis=-1)
        return [c.reshape(c.like(flat, value), c.operand().shape)]

    return rule


_REDUCTIONS = {"Sum": "ReduceSum", "Mean": "ReduceMean", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd"}
_ARGUMENTS = {"Argmax": "ArgMax", "Argmin": "ArgMin"}


def _reduce(c: Call) -> list[Sample]:
    x, axes, kind = c.operand(), c.axes(), c.option("reductionOpName", str)
    keep = c.option("reductionKeepDimensions", bool, True)
    everything = any(axis.number == ALL_STATIC for axis in axes)
    places = list(range(x.rank)) if everything else sorted({c.place(axis, x.rank) for axis in axes})
    shape = [1 if i in places else dim for i, dim in enumerate(x.shape) if keep or i not in places]
    whole = [place + len(x.dynamic) for place in places]
    if kind in _ARGUMENTS:
        if len(places) != 1:
            raise Unsupported(f"{kind} over {len(places)} axes")
        value = c.node(_ARGUMENTS[kind], [x.value], "index", axis=whole[0], keepdims=int(keep))
        return [c.made(c.node("Cast", [value], to=ir.DataType.FLOAT.value), x.dynamic, shape)]
    if kind not in (*_REDUCTIONS, "LogSum"):
        raise Unsupported(f"the reduction {kind} is not supported")
    if not places:
        return _same(c)
    if kind == "LogSum":
        return [c.made(_log_sum(c, x, whole, keep), x.dynamic, shape)]
    value = c.node(_REDUCTIONS[kind], [x.value, c.constant("axes", whole, np.int64)], keepdims=int(keep))
    return [c.made(value, x.dynamic, shape)]


def _log_sum(c: Call, x: Sample, whole: list[int], keep: bool) -> ir.Value:
    """From the largest on: onnxruntime's ReduceLogSumExp gives infinity where that is some hundreds."""
    axes = c.constant("axes", whole, np.int64)
    most = c.node("ReduceMax", [x.value, axes], "most", keepdims=1)
    powers = c.node("Exp", [c.node("Sub", [x.value, most], "apart")], "powers")
    rest = c.node("Log", [c.node("ReduceSum", [powers, axes], "sum", keepdims=1)], "rest")
    if keep:
        return c.node("Add", [most, rest])
    return c.node("Squeeze", [c.node("Add", [most, rest], "whole"), axes])


def _cosine(c: Call) -> list[Sample]:
    a, b = c.operand(0), c.operand(1)
    if a.rank != 1 or a.shape != b.shape or not a.dynamic or a.dynamic != b.dynamic:
        raise Unsupported("only vectors of one size are supported")

    def total(x: Sample, y: Sample, tag: str) -> ir.Value:
        product = c.node("Mul", [x.value, y.value], f"{tag}_product")
        return c.node("ReduceSum", [product, c.constant("axes", [-1], np.int64)], f"{tag}_sum", keepdims=0)

    squares = c.node("Mul", [total(a, a, "first"), total(b, b, "second")], "squares")
    return [c.made(c.node("Div", [total(a, b, "both"), c.node("Sqrt", [squares], "norms")]), a.dynamic, ())]


# ---- shapes ----------------------------------------------------------------------------------------------------------


def _reshape(c: Call) -> list[Sample]:
    x = c.operand()
    begin = c.place(c.option("beginAxis", Axis, Axis(0, "")), x.rank, end=True) + 1
    end = c.place(c.option("endAxis", Axis, Axis(END, "")), x.rank, end=True) + 1
    if end > begin:
        raise Unsupported("its axes begin after they end")
    new = list(dims(c.option("newShape", list)))
    new = [None if dim == 0 else dim for dim in new]
    part = x.shape[end:begin]
    if None in new and None not in part:
        rest = math.prod(dim for dim in new if dim is not None)
        if new.count(None) > 1 or not rest or math.prod(d or 0 for d in part) % rest:
            raise Unsupported(f"{text(part)} cannot become {text(tuple(new))}")
        new[new.index(None)] = math.prod(d or 0 for d in part) // rest
    c.asked.add("newShape")
    return [c.reshape(x, [*x.shape[:end], *new, *x.shape[begin:]])]


def _transpose(c: Call) -> list[Sample]:
    x = c.operand()
    if c.has("axisVec"):
        places = [c.place(axis, x.rank) for axis in c.options("axisVec", Axis)][::-1]
    else:
        places = list(range(x.rank))
        a, b = (c.place(c.option(name, Axis), x.rank) for name in ("axis1", "axis2"))
        places[a], places[b] = places[b], places[a]
    if sorted(places) != list(range(x.rank)):
        raise Unsupported("its axes are no order of the input's")
    ahead = len(x.dynamic)
    value = c.node("Transpose", [x.value], perm=[*range(ahead), *(place + ahead for place in places)])
    return [c.made(value, x.dynamic, [x.shape[place] for place in places])]


def _slice(c: Call) -> list[Sample]:
    x, axes = c.operand(), c.axes()
    bounds = [
        c.options(f"{name}Vec", int) if c.has("axisVec") else [c.option(name, int, default)]
        for name, default in (("beginIndex", None), ("endIndex", None), ("sliceStrides", 1))
    ]
    shape, places = list(x.shape), []
    for axis, start, stop, step in zip(axes, *bounds, strict=True):
        place = c.place(axis, x.rank)
        size = shape[place]
        if size is None:
            raise Unsupported("it slices an axis whose size is not known")
        first, last = start + size * (start < 0), stop + size * (stop <= 0)
        if not 0 <= first < last <= size or step < 1:
            raise Unsupported(f"the slice {start}:{stop}:{step} does not fit an axis of {size}")
        shape[place] = -(-(last - first) // step)
        places.append((first, last, place + len(x.dynamic), step))
    parts = [c.constant(f"slice_{i}", numbers, np.int64) for i, numbers in enumerate(zip(*places, strict=True))]
    return [c.made(c.node("Slice", [x.value, *parts]), x.dynamic, shape)]


def _splice(c: Call) -> list[Sample]:
    dynamic = c.joint(c.operands)
    axis = c.option("axis", Axis)
    if axis.number >= DYNAMIC - 10:
        raise Unsupported(f"the axis {axis.name!r} is not supported")
    most = max(x.rank for x in c.operands)
    number = axis.number + most if axis.number < 0 else axis.number
    rank = max(most, number + 1)
    place = rank - 1 - number
    like = next((x for x in c.operands if x.dynamic), None)
    shapes = [(1,) * (rank - x.rank) + x.shape for x in c.operands]
    if not 0 <= place < rank or rank > 12 or any(shape[place] is None for shape in shapes):
        raise Unsupported("its axis is out of range")
    # Other axes of size 1 are repeated, as elementwise operators do.
    rest = broadcast([(*shape[:place], 1, *shape[place + 1 :]) for shape in shapes])
    parts = []
    for i, (x, shape) in enumerate(zip(c.operands, shapes, strict=True)):
        whole = (*rest[:place], shape[place], *rest[place + 1 :])
        wide = c.ranked(x, rank, f"input_{i}")
        parts.append(
            wide.value if shape == whole and x.dynamic == dynamic else expand(c, wide, whole, like, f"wide_{i}")
        )
    sizes = [shape[place] or 0 for shape in shapes]
    value = c.node("Concat", parts, axis=place + len(dynamic))
    return [c.made(value, dynamic, (*rest[:place], sum(sizes), *rest[place + 1 :]))]


def expand(c: Call, x: Sample, shape: Shape, like: Sample | None, tag: str) -> ir.Value:
    """`x` repeated to that static shape and to the dynamic axes of `like`."""
    own = (1,) * (len(shape) - x.rank) + x.shape
    if any(want is None and have != want for have, want in zip(own, shape, strict=True)):
        raise Unsupported(f"it repeats its input to {text(shape)}")
    static = [1 if have == want else want for have, want in zip(own, shape, strict=True)]
    ahead: list[ir.Value] = []
    if like is not None:
        ahead = [c.node("Shape", [like.value], f"{tag}_dynamic", start=0, end=len(like.dynamic))]
    sizes = c.node("Concat", [*ahead, c.constant(f"{tag}_static", static, np.int64)], f"{tag}_sizes", axis=0)
    return c.node("Expand", [x.value, sizes], tag)


def _squeeze(c: Call) -> list[Sample]:
    x = c.operand()
    given = c.has("axis") or c.has("axisVec")
    places = [c.place(axis, x.rank) for axis in c.axes()] if given else [i for i, n in enumerate(x.shape) if n == 1]
    if any(x.shape[place] != 1 for place in places):
        raise Unsupported(f"it squeezes axes that are not 1 in {text(x.shape)}")
    return [c.reshape(x, [n for i, n in enumerate(x.shape) if i not in places])]


_CONSTANT, _REFLECT, _SYMMETRIC = range(3)


def _pad(c: Call) -> list[Sample]:
    x, mode = c.operand(), c.option("paddingMode", int)
    head, foot = (c.options(name, int)[::-1] for name in ("paddingHead", "paddingFoot"))
    fill = float(c.option("paddingConstantValue", float, 0.0))
    shape = x.known()
    if len(head) != x.rank or len(foot) != x.rank or max([*head, *foot], default=0) > MAX_ELEMENTS:
        raise Unsupported("its padding does not fit its input")
    result = [a + n + b for a, n, b in zip(head, shape, foot, strict=True)]
    ahead = [0] * len(x.dynamic)
    if mode == _CONSTANT:
        pads = c.constant("pads", [*ahead, *head, *ahead, *foot], np.int64)
        return [c.made(c.node("Pad", [x.value, pads, c.constant("fill", fill)]), x.dynamic, result)]
    if mode not in (_REFLECT, _SYMMETRIC):
        raise Unsupported(f"the padding mode {mode} is not supported")
    c.made(x.value, x.dynamic, result)
    value, inner = x.value, 1 if mode == _REFLECT else 0
    for i, (a, n, b) in enumerate(zip(head, shape, foot, strict=True)):
        if max(a, b) > n - inner:
            raise Unsupported("it pads by more than there is")
        if a or b:
            places = np.pad(np.arange(n), (a, b), "reflect" if mode == _REFLECT else "symmetric")
            value = c.node(
                "Gather", [value, c.constant(f"places_{i}", places, np.int64)], f"padded_{i}", axis=i + len(ahead)
            )
    return [c.made(value, x.dynamic, result)]


def _crop(c: Call) -> list[Sample]:
    x, like = c.operand(0), c.operand(1)
    offsets = c.options("offset", int)
    if len(offsets) != 2 or x.rank < 2 or like.rank < 2:
        raise Unsupported("its offsets are not given")
    shape, starts = [*x.shape[:-2], *like.known()[-2:]], offsets[::-1]
    ends = [a + n for a, n in zip(starts, like.known()[-2:], strict=True)]
    if any(end > size for end, size in zip(ends, x.known()[-2:], strict=True)):
        raise Unsupported("it crops beyond its input")
    parts = [c.constant(f"crop_{i}", part, np.int64) for i, part in enumerate((starts, ends, [-2, -1]))]
    return [c.made(c.node("Slice", [x.value, *parts]), x.dynamic, shape)]


def _filled(c: Call) -> list[Sample]:
    x = c.operand()
    sizes = c.node("Shape", [x.value], "sizes")
    return [c.like(x, c.node("Expand", [c.constant("fill", c.option("fillValue", float)), sizes]))]


# ---- products --------------------------------------------------------------------------------------------------------


def _times(c: Call) -> list[Sample]:
    """The right side's last axes by the left side's first (CNTK's left matrix comes first)."""
    left, right = c.operand(0), c.operand(1)
    outer = int(c.option("outputRank", int, 1))
    if c.option("inferInputRankToMap", int, -1) < -1:
        raise Unsupported("sums over the sequence axis are not supported")
    inner = left.rank - outer
    if not 0 < inner <= right.rank:
        raise Unsupported(f"a product of {text(left.shape)} with output rank {outer} and {text(right.shape)}")
    return [_product(c, left, right, left.known()[:inner], left.known()[inner:], transposed=False)]


def _transpose_times(c: Call) -> list[Sample]:
    left, right = c.operand(0), c.operand(1)
    if c.option("outputRank", int, 1) != 1 or left.rank not in (1, 2) or not right.rank:
        raise Unsupported(f"a transposed product of {text(left.shape)} and {text(right.shape)}")
    shape = left.known() if left.rank == 2 else (1, *left.known())
    return [_product(c, left, right, shape[1:], shape[:1], transposed=True)]


def _product(
    c: Call, left: Sample, right: Sample, summed: tuple[int, ...], kept: tuple[int, ...], *, transposed: bool
) -> Sample:
    split = right.rank - len(summed)
    rest = right.known()[:split]
    if right.known()[split:] != summed:
        raise Unsupported(f"inputs of shapes {text(left.shape)} and {text(right.shape)} do not fit")
    many, columns = math.prod(summed), math.prod(kept)
    matrix = c.reshape(left, (columns, many) if transposed else (many, columns), "left")
    value = matrix.value
    if transposed:
        order = [*range(len(left.dynamic)), len(left.dynamic) + 1, len(left.dynamic)]
        value = c.node("Transpose", [value], "turned", perm=order)
    dynamic = c.joint([left, right])
    # A vector by a matrix needs no rows; with a matrix of its own for each sample it does.
    rows = (math.prod(rest),) if rest or left.dynamic else ()
    given = c.reshape(right, (*rows, many), "right")
    product = c.made(c.node("MatMul", [given.value, value]), dynamic, (*rows, columns))
    return c.reshape(product, (*rest, *kept), "shaped")


# ---- choices ---------------------------------------------------------------------------------------------------------


def _whole(c: Call, x: Sample, tag: str) -> ir.Value:
    return c.node("Cast", [x.value], tag, to=ir.DataType.INT64.value)


def _gather(c: Call) -> list[Sample]:
    indices, table = c.operand(0), c.operand(1)
    if table.dynamic or not table.rank:
        raise Unsupported("it gathers from what is no parameter")
    value = c.node("Gather", [table.value, _whole(c, indices, "indices")], axis=0)
    return [c.made(value, indices.dynamic, (*indices.shape, *table.shape[1:]))]


def _one_hot(c: Call) -> list[Sample]:
    x, count = c.operand(), c.option("numClass", int)
    c.ignore("oneHotOutputSparse")
    place = c.place(c.option("onehotAxis", Axis), x.rank + 1)
    shape = [*x.shape[:place], count, *x.shape[place:]]
    c.made(x.value, x.dynamic, shape)
    values = [_whole(c, x, "indices"), c.constant("depth", count, np.int64), c.constant("values", [0.0, 1.0])]
    return [c.made(c.node("OneHot", values, axis=place + len(x.dynamic)), x.dynamic, shape)]


def _top(c: Call) -> list[Sample]:
    x, count = c.operand(), c.option("numItems", int)
    place = c.place(c.option("axis", Axis), x.rank)
    shape = [*x.shape[:place], count, *x.shape[place + 1 :]]
    if not 0 < count <= (x.shape[place] or 0):
        raise Unsupported(f"it takes {count} of {text(x.shape)}")
    found = c.graph.nodes("TopK", [x.value, c.constant("count", [count], np.int64)], 2, name=c.tagged(""),
                          axis=place + len(x.dynamic))  # fmt: skip
    indices = c.node("Cast", [found[1]], "indices", to=ir.DataType.FLOAT.value)
    return [c.made(found[0], x.dynamic, shape), c.made(indices, x.dynamic, shape)]


RULES: dict[str, Rule] = {
    **{name: _unary(op) for name, op in (
        ("Negate", "Neg"), ("Sigmoid", "Sigmoid"), ("StableSigmoid", "Sigmoid"), ("Tanh", "Tanh"), ("ReLU", "Relu"),
        ("Exp", "Exp"), ("Floor", "Floor"), ("Abs", "Abs"), ("Sin", "Sin"), ("Cos", "Cos"), ("Tan", "Tan"),
        ("Sinh", "Sinh"), ("Cosh", "Cosh"), ("Asin", "Asin"), ("Acos", "Acos"), ("Atan", "Atan"), ("Asinh", "Asinh"),
        ("Atanh", "Atanh"),
    )},
    **{name: _elementwise(op) for name, op in (
        ("Plus", "Add"), ("Minus", "Sub"), ("ElementTimes", "Mul"), ("Pow", "Pow"),
    )},
    **{name: _comparison(op, negated) for name, op, negated in (
        ("Equal", "Equal", False), ("NotEqual", "Equal", True), ("Less", "Less", False),
        ("LessEqual", "LessOrEqual", False), ("Greater", "Greater", False), ("GreaterEqual", "GreaterOrEqual", False),
    )},
    **dict.fromkeys(("Pass", "NoOp", "StopGradient", "Dropout"), _same),
    "Log": _log, "Sqrt": _sqrt, "Reciprocal": _reciprocal, "LogPlus": _log_plus, "ELU": _elu, "Select": _select,
    "Clip": _clip, "Softmax": _over_all("Softmax"), "LogSoftmax": _over_all("LogSoftmax"),
    "Hardmax": _over_all("Hardmax"), "ReduceElements": _reduce, "CosDistance": _cosine, "Reshape": _reshape,
    "TransposeAxes": _transpose, "Slice": _slice, "Splice": _splice, "Squeeze": _squeeze, "Pad": _pad, "Crop": _crop,
    "Times": _times, "TransposeTimes": _transpose_times, "Gather": _gather, "OneHotOp": _one_hot,
    "TopK": _top, "Cast": _cast, "ConstantOp": _filled,
}  # fmt: skip
