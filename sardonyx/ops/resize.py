"""Resize and Upsample, as passes of a kernel that reads through tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.dims import hint, is_open, least, most
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import identity
from sardonyx.compiler.fuse import Fusion, Placement
from sardonyx.compiler.kernels.resize import PITCH, Resample
from sardonyx.compiler.layout import dense_like, uniform_stride
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.errors import InvalidModelError
from sardonyx.ops.interpolation import COORDINATES, NEAREST, Scaling, Scheme, Taps, taps_of
from sardonyx.ops.limits import check_result
from sardonyx.ops.places import epilogue_of
from sardonyx.ops.table import COMPUTED, FLOATS, axis_of, ints, lowers, opset

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

Array = np.ndarray[Any, Any]

_BLOCK = 4096
"""Elements of an item's part of the last axis."""
_FUSED = 3
"""Axes that linear interpolation takes in one pass: each doubles what is read for an element."""
_GATHER = 4
"""Contiguous elements that cost what a gathered one does (measured)."""
_MOST_REPEATS = 8
"""Of an element without a table: each makes a vector of the result."""
_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic"}
_TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
_EXACT = 1 << 24
"""Whole numbers below this are the same in float32."""


# ---- passes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pass:
    """One run of the kernel: the axes with tables, and how the result's axes are walked.

    `order` is all axes as they lie in memory, `columns` how many of the last ones a row of the kernel holds: untouched
    ones that are contiguous in the input, or, `along`, any up to a resized one, whose elements are gathered.
    """

    tables: Mapping[int, Taps]
    order: tuple[int, ...]
    columns: int
    along: bool

    @classmethod
    def of(cls, x: View, dims: tuple[int, ...], tables: Mapping[int, Taps], lanes: int) -> Pass:
        """Vectors run along untouched axes where those fill a register, else along a resized one."""
        dense = dense_like(dims, x.strides)
        order = tuple(sorted(range(len(dims)), key=lambda axis: (-dense[axis], axis)))
        columns, length = 0, 1
        for axis in reversed(order):
            if axis in tables or x.strides[axis] != length or length >= lanes:
                break
            columns, length = columns + 1, length * dims[axis]
        if length >= lanes:
            return cls(tables, order, columns, False)
        return cls(tables, order, len(order) - max(order.index(axis) for axis in tables), True)

    @property
    def rows(self) -> tuple[int, ...]:
        """The axes walked row by row."""
        return self.order[: len(self.order) - self.columns]

    @property
    def inner(self) -> tuple[int, ...]:
        """The axes of a row."""
        return self.order[len(self.order) - self.columns :]

    def place(self) -> Placement:
        """How the kernel addresses an operand of its epilogue."""

        def place(view: View) -> tuple[int, ...] | None:
            column, row = (
                uniform_stride([view.dims[a] for a in axes], [view.strides[a] for a in axes])
                for axes in (self.inner, self.rows)
            )
            return None if column not in (0, 1) or row is None else (column, row, 0)

        return place

    def accepts(self, view: View) -> tuple[int, ...] | None:
        """Whether the kernel can write to memory laid out so: a row must be contiguous."""
        stride = uniform_stride([view.dims[a] for a in self.inner], [view.strides[a] for a in self.inner])
        return () if stride == 1 else None


@dataclass
class _Walk:
    """An axis of the kernel, or neighbouring ones that are walked as one: size, strides, tables if it is resized."""

    size: int
    x: int
    y: int
    taps: Taps | None = None

    @property
    def count(self) -> int:
        """Taps."""
        return 1 if self.taps is None else self.taps.count

    @property
    def weighed(self) -> bool:
        """Whether the taps have weights; else there is one."""
        return self.taps is not None and self.taps.weighed

    @property
    def numbers(self) -> tuple[int, int, int]:
        """What its tables depend on: its size, the input's stride and the input's size."""
        return self.size, self.x, 0 if self.taps is None else self.taps.size

    def tables(self, size: int, x: int, length: int) -> tuple[Array, Array | None]:
        """[taps, size] each: where in the input an element reads, int64, and with what weights, float64."""
        indices, weights = (np.arange(size)[None], None) if self.taps is None else self.taps.tables(length, size)
        return np.ascontiguousarray(indices * x, np.int64), weights


def _walks(x: View, y: View, axes: Sequence[int], tables: Mapping[int, Taps]) -> list[_Walk]:
    """The axes in this order, those of them joined that one stride walks in both tensors."""
    found = [_Walk(1, 0, 0)]
    for axis in axes:
        walk, before = _Walk(y.dims[axis], x.strides[axis], y.strides[axis], tables.get(axis)), found[-1]
        if walk.taps is None and walk.size == 1:
            continue
        together = walk.taps is before.taps is None
        if together and (before.size == 1 or (before.x, before.y) == (walk.size * walk.x, walk.size * walk.y)):
            found[-1] = _Walk(before.size * walk.size, walk.x, walk.y)
        else:
            found.append(walk)
    return found[1:] if len(found) > 1 and found[0].size == 1 else found


def _gathered(tables: Sequence[tuple[Array, Array | None]]) -> tuple[Array, Array]:
    """Offsets and weights of several axes as one, row by row, filled up so that whole vectors of them can be read."""
    offsets, weights = np.zeros((1, 1), np.int64), np.ones((1, 1))
    for at, factors in tables:
        own = np.ones((1, at.shape[1])) if factors is None else factors
        weights = (weights[:, :, None] * own[:, None, :]).reshape(max(len(weights), len(own)), -1)
        offsets = (offsets[:, :, None] + at[:, None, :]).reshape(len(weights), -1)
    if np.abs(offsets).max(initial=0) >= 1 << 31:
        raise ValueError(f"a row of the input spans {int(np.abs(offsets).max()):,} elements")
    more = ((0, 0), (0, -offsets.shape[1] % PITCH))
    return np.pad(offsets, more, mode="edge").astype(np.int32), np.pad(weights, more)


def _axis_arguments(
    ctx: Lowering, axis: int, walks: Sequence[_Walk], dtype: DType, *, gathered: bool
) -> tuple[int, dict[str, View | int]]:
    """What the kernel calls the taps of an axis, and its arguments but for y's stride: an axis walked row by row, or
    all those that are `gathered`.
    """
    size, count = prod(walk.size for walk in walks), max(walk.count for walk in walks)
    weighed, pitch = any(walk.weighed for walk in walks), -(-size // PITCH) * PITCH if gathered else size

    def make(*numbers: int) -> tuple[Array, ...]:
        tables = [walk.tables(*numbers[3 * i : 3 * i + 3]) for i, walk in enumerate(walks)]
        offsets, weights = _gathered(tables) if gathered else tables[0]
        return (offsets, np.ascontiguousarray(weights, dtype.numpy)) if weighed else (offsets,)

    results = ((DType.I32 if gathered else DType.I64, (count, pitch)), (dtype, (count, pitch)))
    numbers = [number for walk in walks for number in walk.numbers]
    offsets, *weights = ctx.computed(make, numbers, results if weighed else results[:1], "taps")
    values: dict[str, View | int] = {f"at{axis}": offsets, f"size{axis}": size}
    if not weights:
        return 1, values
    values |= {f"weight{axis}": weights[0], f"pitch{axis}": pitch}
    return (count, values) if count in (2, 4) else (0, values | {"count": count})


def resample(ctx: Lowering, x: View, y: View, run: Pass, fusion: Fusion) -> None:
    """y = fusion(x through the tables of `run`), which must accept y."""
    if y.size == 0:
        return
    walks = _walks(x, y, run.rows, run.tables)
    values: dict[str, View | int] = {}
    taps = []
    for axis, walk in enumerate(walks):
        count, made = _axis_arguments(ctx, axis, [walk], x.dtype, gathered=False)
        taps.append(count)
        values |= made | {f"y{axis}": walk.y}
    columns = prod(y.dims[axis] for axis in run.inner)
    if run.along:
        inner = [_Walk(y.dims[a], x.strides[a], 0, run.tables.get(a)) for a in run.inner]
        count, made = _axis_arguments(ctx, len(walks), inner, x.dtype, gathered=True)
        taps.append(count)
        values |= made
    else:
        values |= {"columns": columns}
    last = columns if run.along else walks[-1].size
    repeats = _repeats(x, run)
    block = least(last, _BLOCK // repeats * repeats if run.along else most(1, _BLOCK // columns))
    blocks = -(-last // block)
    outer = walks if run.along else walks[:-1]
    epilogue, operands = epilogue_of(fusion)
    ctx.step(
        Resample(tuple(taps), run.along, repeats, x.dtype, epilogue),
        arguments(x=x, y=y, blocks=blocks, block=block) | values | operands,
        domain=prod(walk.size for walk in outer) * blocks,
        label=fusion.label,
        cost=block * (1 if run.along else columns) * prod(t.count for t in run.tables.values()),
    )


def _repeats(x: View, run: Pass) -> int:
    """How often each element of a row of x comes in a row of the result, if no table is needed to say which; else 1."""
    own = run.tables.get(run.inner[0]) if run.along and len(run.inner) == 1 else None
    times = own.repeats if own is not None and x.strides[run.inner[0]] == 1 else 1
    return times if 1 < times <= _MOST_REPEATS else 1


# ---- Resize ----------------------------------------------------------------------------------------------------------


def _form(node: ir.Node) -> str | None:
    mode = node.attributes.get_string("mode", "nearest")
    coordinates = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    nearest = node.attributes.get_string("nearest_mode", "round_prefer_floor")
    antialias = bool(node.attributes.get_int("antialias", 0))
    if mode not in _MODES or coordinates not in COORDINATES or nearest not in NEAREST:
        return f"mode {mode}, {coordinates}, {nearest}"
    if mode == "nearest":
        return "antialiasing of nearest pixels" if antialias else None
    value = node.inputs[0]
    kind = DType.of(value.dtype.numpy()) if value is not None and value.dtype is not None else None
    return None if kind and kind.register in FLOATS else f"mode {mode} of {kind.value if kind else 'an unknown type'}"


@lowers("Resize", dtypes=COMPUTED, known=(1, 2, 3), supports=_form)
@lowers("Upsample", dtypes=COMPUTED, known=(1,), supports=_form)
def resize(ctx: Lowering, node: ir.Node) -> None:
    """Along any axes, by factors or to sizes known when the program is made."""
    x = ctx.view(node.inputs[0])
    axes = _scalings(ctx, node, x.dims)
    dims = tuple(axes[a].out if a in axes else size for a, size in enumerate(x.dims))
    check_result(node, dims, x.dtype)
    if prod(dims) == 0:
        ctx.result(node.outputs[0], dims, x.dtype)
        return
    if x.size == 0:
        raise ValueError("nothing to resize")
    scheme = _scheme(node)
    tables = {a: taps for a, axis in axes.items() if (taps := taps_of(scheme, axis)) is not None}
    if not tables:
        ctx.define(node.outputs[0], x)
        return
    lanes, dense = ctx.target.lanes(DType.F32), dense_like(dims, x.strides)
    if any(dense[a] == 1 != x.strides[a] and size > 1 and a not in tables for a, size in enumerate(dims)):
        x = ctx.copied(x, dense_like(x.dims, x.strides))  # rather than gather whole rows through a table
    *first, last = _passes(x, tables, lanes)
    for chosen in first:
        part = _partly(x.dims, chosen)
        target = ctx.temporary(part, x.dtype, dense_like(part, x.strides))
        plain = Fusion((node,), identity(x.dtype), (), node.outputs[0])
        resample(ctx, x, target, Pass.of(x, part, chosen, lanes), plain)
        x = target
    if any(taps.out != dims[a] for a, taps in tables.items()):
        _extrapolated(ctx, node, x, dims, tables, last)
        return
    run = Pass.of(x, dims, last, lanes)
    fusion = ctx.fusion(node, dims, x.dtype, run.place())
    y = ctx.result(fusion.output, dims, fusion.expr.dtype, dense_like(dims, x.strides), accepts=run.accepts)
    resample(ctx, x, y, run, fusion)


def _extrapolated(
    ctx: Lowering, node: ir.Node, x: View, dims: tuple[int, ...], tables: Mapping[int, Taps], last: Mapping[int, Taps]
) -> None:
    """The last pass into the part of the result that lies inside the input; the rest has one value."""
    y = ctx.result(node.outputs[0], dims, x.dtype, dense_like(dims, x.strides))
    value = node.attributes.get_float("extrapolation_value", 0.0)
    ctx.copy(ctx.constant(np.full((), value).astype(x.dtype.numpy)), y, f"{node.name} outside")
    inside = _partly(dims, tables)
    offset = y.offset + sum(taps.low * y.strides[a] for a, taps in tables.items())
    part = View(y.buffer, y.dtype, inside, y.strides, offset)
    run = Pass.of(x, inside, last, ctx.target.lanes(DType.F32))
    plain = Fusion((node,), identity(x.dtype), (), node.outputs[0])
    if run.accepts(part) is not None:
        resample(ctx, x, part, run, plain)
        return
    dense = ctx.temporary(inside, x.dtype, dense_like(inside, x.strides))
    resample(ctx, x, dense, run, plain)
    ctx.copy(dense, part, node.name or "Resize")


def _passes(x: View, tables: dict[int, Taps], lanes: int) -> list[dict[int, Taps]]:
    """The axes of each pass: all in one where little is read for an element, else each on its own, in the order that
    reads the least.
    """
    dims = _partly(x.dims, tables)
    counts = [taps.count for taps in tables.values() if taps.weighed]
    if not counts:
        return [tables]
    if max(counts) <= _TAPS["linear"] and len(counts) <= _FUSED and not Pass.of(x, dims, tables, lanes).along:
        return [tables]
    order = min(permutations(tables), key=lambda order: _cost(x, order, tables, lanes))
    return [{axis: tables[axis]} for axis in order]


def _partly(dims: tuple[int, ...], tables: Mapping[int, Taps]) -> tuple[int, ...]:
    """The dims after these axes have been resized."""
    return tuple(tables[a].out if a in tables else size for a, size in enumerate(dims))


def _cost(x: View, order: Sequence[int], tables: Mapping[int, Taps], lanes: int) -> int:
    """Elements read and written when the axes are resized one after another; gathering one is dearer."""
    total = 0
    for axis in order:
        chosen = {axis: tables[axis]}
        dims = _partly(x.dims, chosen)
        each = _GATHER if Pass.of(x, dims, chosen, lanes).along else 1
        total += hint(prod(dims)) * (1 + each * tables[axis].count)
        x = View(x.buffer, x.dtype, dims, dense_like(dims, x.strides))
    return total


def _scheme(node: ir.Node) -> Scheme:
    old = node.op_type == "Upsample" or opset(node) < 11
    return Scheme(
        mode=_MODES[node.attributes.get_string("mode", "nearest")],
        coordinates="asymmetric" if old else node.attributes.get_string("coordinate_transformation_mode", "half_pixel"),
        nearest="floor" if old else node.attributes.get_string("nearest_mode", "round_prefer_floor"),
        cubic_a=node.attributes.get_float("cubic_coeff_a", -0.75),
        antialias=bool(node.attributes.get_int("antialias", 0)),
        exclude_outside=bool(node.attributes.get_int("exclude_outside", 0)),
    )


def _scalings(ctx: Lowering, node: ir.Node, dims: tuple[int, ...]) -> dict[int, Scaling]:
    """What happens to each axis that the node names."""
    given = [ctx.known(value) for value in node.inputs[1:]]
    given += [None] * (3 - len(given))
    if node.op_type == "Upsample" or opset(node) < 11:
        given = [None, given[0], None]
    roi, scales, sizes = ([] if each is None else each.reshape(-1).tolist() for each in given)
    if not scales and not sizes:
        attribute = node.attributes.get("scales")
        scales = list(attribute.as_floats()) if attribute is not None else []
    named = ints(node, "axes")
    axes = [axis_of(axis, len(dims)) for axis in named] if named is not None else list(range(len(dims)))
    if len(scales or sizes) != len(axes) or len(set(axes)) != len(axes):
        raise InvalidModelError(
            "scales or sizes do not fit the axes",
            where=node.name or node.op_type,
            expected=f"{len(axes)} of either",
            got=f"scales {scales}, sizes {sizes}, axes {axes}",
        )
    lengths, exact = [dims[axis] for axis in axes], bool(sizes)
    if sizes:
        factors, sizes = _stretched(node, lengths, sizes)
    elif all(isfinite(scale) and scale > 0 for scale in scales):
        factors, sizes = scales, [_scaled(n, scale) for n, scale in zip(lengths, scales, strict=True)]
    else:
        raise ValueError(f"scales {scales}")
    if any(size < 0 for size in sizes):
        raise ValueError(f"sizes {sizes}")
    if node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        if len(roi) != 2 * len(axes) or not all(map(isfinite, roi)):
            raise ValueError(f"roi {roi}")
        regions = list(zip(roi[: len(axes)], roi[len(axes) :], strict=True))
    else:
        regions = [(0.0, 1.0)] * len(axes)
    rows = zip(axes, lengths, sizes, factors, regions, strict=True)
    return {axis: Scaling(n, out, scale, exact, *region) for axis, n, out, scale, region in rows}


def _scaled(length: int, scale: float) -> int:
    """As shape inference does, in float32: 10 times 1.4 is 14."""
    times, over = float(np.float32(scale)).as_integer_ratio()
    if is_open((length,)) and (times == over or length * times < _EXACT):
        return length * times // over
    return int(np.floor(np.float32(int(length)) * np.float32(scale)))


def _stretched(node: ir.Node, lengths: list[int], sizes: list[int]) -> tuple[Sequence[float | None], list[int]]:
    """(factors, lengths) for the lengths asked for, by `keep_aspect_ratio_policy`."""
    if 0 in lengths:
        if any(sizes):
            raise ValueError(f"from sizes {lengths} to {sizes}")
        return [1.0] * len(sizes), sizes
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [None] * len(sizes), sizes
    scales = [size / n for size, n in zip(sizes, lengths, strict=True)]
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [scale] * len(scales), [int(scale * n + 0.5) for n in lengths]
