"""Normalisation: rows in one step; images, and rows too long for one thread, by the statistics of their parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import hint, least, most
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import ExprBuilder
from sardonyx.compiler.kernels.normalize import Moments, NormalizeRows, ResponseNorm, Spread, Statistics
from sardonyx.compiler.layout import dense_in_order, uniform_stride
from sardonyx.compiler.lower import anywhere, arguments, dtype_of
from sardonyx.compiler.program import View, channels_last, row_major
from sardonyx.errors import InvalidModelError
from sardonyx.ops.places import consumed, epilogue_of, matrix_place, pixel_stride, result_stride
from sardonyx.ops.reduction import Walk, walk_over
from sardonyx.ops.table import FLOATS, axis_of, ints, lowers, opset

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.fuse import Placement
    from sardonyx.compiler.lower import Lowering

_LONG_ROW = 1 << 15
"""Elements of a row from which on it is worth sharing among threads."""
_FEWEST_PIXELS, _FEWEST_ELEMENTS = 64, 4096
"""In a part: fewer make more work of the parts than of the elements."""

Prelude = tuple[tuple[str, View | None], ...]


@dataclass(frozen=True)
class _Recipe:
    """What a group is divided by: root(total * share + inner) + outer, where share is one over the number of elements
    or, if not `averaged`, 1.
    """

    spread: Spread
    inner: float = 0.0
    outer: float = 0.0
    averaged: bool = True

    def numbers(self, ctx: Lowering, count: int) -> View:
        """What the kernels ask for under that name, for groups of `count` elements."""

        def make(count: int) -> tuple[np.ndarray]:
            return (np.array([1.0 / count if self.averaged else 1.0, self.inner, self.outer]),)

        (found,) = ctx.computed(make, (count,), ((DType.F64, (3,)),), "shares")
        return found


def _one_type(node: ir.Node) -> str | None:
    types = {value.dtype for value in node.inputs if value is not None}
    return None if len(types) == 1 else "inputs of several types"


@lowers("LayerNormalization", "RMSNormalization", dtypes=FLOATS, supports=_one_type)
def layer_normalization(ctx: Lowering, node: ir.Node) -> None:
    """Over all dims from `axis` on, then scale and bias of any shape that broadcasts; with its statistics on demand."""
    x = ctx.view(node.inputs[0])
    rank = len(x.dims)
    axis = axis_of(node.attributes.get_int("axis", -1), rank)
    spread: Spread = "variance" if node.op_type == "LayerNormalization" else "squares"
    recipe = _Recipe(spread, inner=node.attributes.get_float("epsilon", 1e-5))
    names = zip(("mul", "add"), node.inputs[1:3], strict=False)
    params = tuple((op, ctx.view(value)) for op, value in names if value is not None)
    _normalize(ctx, node, x, list(range(axis, rank)), recipe, params)


@lowers("MeanVarianceNormalization", dtypes=FLOATS)
def mean_variance_normalization(ctx: Lowering, node: ir.Node) -> None:
    """(x - mean) / (deviation + 1e-9) over the axes."""
    x = ctx.view(node.inputs[0])
    axes = sorted({axis_of(a, len(x.dims)) for a in ints(node, "axes") or (0, 2, 3)})
    _normalize(ctx, node, x, axes, _Recipe("variance", outer=1e-9), ())


@lowers("LpNormalization", dtypes=FLOATS)
def lp_normalization(ctx: Lowering, node: ir.Node) -> None:
    """x / norm along one axis; zeros stay zeros."""
    x, p = ctx.view(node.inputs[0]), node.attributes.get_int("p", 2)
    if p not in (1, 2):
        raise InvalidModelError("p is not a norm that ONNX has", where=node.name, expected="1 or 2", got=str(p))
    axis = axis_of(node.attributes.get_int("axis", -1), len(x.dims))
    _normalize(ctx, node, x, [axis], _Recipe("magnitudes" if p == 1 else "squares", averaged=False), ())


def _normalize(ctx: Lowering, node: ir.Node, x: View, over: list[int], recipe: _Recipe, params: Prelude) -> None:
    """Each group of elements along the axes `over`, then `params`."""
    kept = [a for a in range(len(x.dims)) if a not in over]
    length = prod(x.dims[a] for a in over)
    if x.size == 0:
        _empty(ctx, node, x, kept)
        return
    walk = walk_over(x, kept, over)
    if walk is None:
        x = ctx.copied(x, dense_in_order(x.dims, (*kept, *over)))
        walk = Walk(True, length, 1)
    if walk.along and _many(ctx, x.size // length, length):
        _by_rows(ctx, node, x, over, walk.outer, recipe, params)
        return
    columns = 1 if walk.along else x.dims[kept[-1]]
    parts = _Parts(x.size // length // columns, walk.outer, length, walk.step, columns, columns)
    one, zero = (ctx.constant(np.full(1, value, x.dtype.numpy)) for value in (1.0, 0.0))
    results = _statistics(ctx, node, x, parts, recipe, _PerGroup(one, 0, 0), _PerGroup(zero, 0, 0))
    shape = tuple(1 if a in over else d for a, d in enumerate(x.dims))
    factor, rest, centre = (View(v.buffer, v.dtype, shape, row_major(shape)) for v in results)
    _apply(ctx, node, x, recipe, (factor, rest, centre), params)
    for value, source in zip(node.outputs[1:], (centre, factor), strict=False):
        if value.name:
            e = ExprBuilder()
            expr = e.build(e.cast(e.leaf(source.dtype), dtype_of(value)))
            ctx.elementwise(expr, [source], ctx.result(value, shape, expr.dtype), node.name or node.op_type)


def _many(ctx: Lowering, rows: int, length: int) -> bool:
    """Whether the threads can share the rows out without cutting them."""
    return hint(rows) >= 2 * ctx.threads or hint(length) < _LONG_ROW


def _empty(ctx: Lowering, node: ir.Node, x: View, kept: Sequence[int]) -> None:
    """No elements, so no statistics either."""
    shape = tuple(d if a in kept else 1 for a, d in enumerate(x.dims))
    ctx.result(node.outputs[0], x.dims, x.dtype)
    for value in node.outputs[1:]:
        if value.name:
            ctx.define(value, np.full(shape, np.nan, dtype_of(value).numpy))


# ---- rows ------------------------------------------------------------------------------------------------------


def _by_rows(
    ctx: Lowering, node: ir.Node, x: View, over: list[int], x_row: int, recipe: _Recipe, params: Prelude
) -> None:
    """In one step: the axes `over` are contiguous in x, the others `x_row` apart."""
    kept = [a for a in range(len(x.dims)) if a not in over]
    length, label = prod(x.dims[a] for a in over), node.name or node.op_type
    place = _row_place(kept, over)
    prelude = tuple((op, None if view is None else _placed(ctx, view, x.dims, over, place)) for op, view in params)
    fusion = ctx.fusion(node, x.dims, x.dtype, place, prelude)
    y = ctx.result(fusion.output, x.dims, fusion.expr.dtype, dense_in_order(x.dims, (*kept, *over)), accepts=place)
    _, y_row, _ = place(y) or (0, 0, 0)
    epilogue, operands = epilogue_of(fusion)
    shape = tuple(1 if a in over else d for a, d in enumerate(x.dims))
    stats, wanted = _wanted_stats(ctx, node, shape)
    ctx.step(
        NormalizeRows(recipe.spread, stats, x.dtype, epilogue),
        arguments(x=x, y=y, numbers=recipe.numbers(ctx, length), length=length, x_row=x_row, y_row=y_row)
        | operands
        | wanted,
        domain=x.size // length,
        label=fusion.label or label,
        cost=length * 4,
        writes=("y", *wanted),
        consumes=("x", *consumed(epilogue)),
    )


def _wanted_stats(ctx: Lowering, node: ir.Node, shape: tuple[int, ...]) -> tuple[DType | None, dict[str, View | int]]:
    """The type and memory of LayerNormalization's optional outputs; both are computed if one is asked for."""
    named = [value for value in node.outputs[1:3] if value.name]
    if not named:
        return None, {}
    dtype = dtype_of(named[0])
    found: dict[str, View | int] = {name: ctx.temporary(shape, dtype) for name in ("mean", "inverse")}
    for name, value in zip(("mean", "inverse"), node.outputs[1:3], strict=False):
        if value.name:
            found[name] = ctx.result(value, shape, dtype)
    return dtype, found


def _row_place(kept: Sequence[int], over: Sequence[int]) -> Placement:
    """The placement of a kernel whose rows walk the axes `kept` and whose vectors walk the axes `over`."""

    def place(view: View) -> tuple[int, ...] | None:
        along, row = (uniform_stride([view.dims[a] for a in s], [view.strides[a] for a in s]) for s in (over, kept))
        return None if along not in (0, 1) or row is None else (along, row, 0)

    return place


def _placed(ctx: Lowering, view: View, dims: tuple[int, ...], over: Sequence[int], place: Placement) -> View:
    """The view, or a copy stretched over as many dims as it takes for rows to address it."""
    stretched = view.broadcast(dims)
    if place(stretched) is not None:
        return view
    flat = all(stretched.strides[a] == 0 for a in over)
    shape = tuple(1 if flat and a in over else d for a, d in enumerate(dims))
    strides = tuple(0 if flat and a in over else s for a, s in enumerate(stretched.strides))
    return ctx.copied(View(view.buffer, view.dtype, shape, strides, view.offset))


# ---- parts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """Groups of elements in each of `outer` places, `groups` of them there.

    Either a place has `columns` contiguous columns of `length` elements `step` apart, in groups of neighbours, and
    places are `x_outer` apart. Or, with one column and a step of 1, each group is a row, and rows are `x_outer` apart.
    """

    outer: int
    x_outer: int
    length: int
    step: int
    columns: int
    groups: int

    @property
    def along(self) -> bool:
        """Whether the groups are rows."""
        return self.columns == self.step == 1


@dataclass(frozen=True)
class _PerGroup:
    """Parameters of groups: elements from one group to the next, and within a group from one channel to the next."""

    view: View
    group: int
    step: int


def _statistics(
    ctx: Lowering,
    node: ir.Node,
    x: View,
    parts: _Parts,
    recipe: _Recipe,
    scale: _PerGroup,
    bias: _PerGroup,
    channels: int = 1,
) -> tuple[View, View, View]:
    """Factor, rest and centre (see `Statistics`) of each group's `channels` channels, dense in the order of groups."""
    along, lanes = parts.along, ctx.target.lanes(x.dtype)
    rows = parts.outer * (parts.groups if along else 1)
    fewest = _FEWEST_ELEMENTS if along else _FEWEST_PIXELS
    fair = -(-rows * parts.length // (8 * ctx.threads))
    # A part is read twice: from the first-level cache the second time.
    block = most(fewest, least(ctx.target.l1_bytes // (parts.columns * x.dtype.size), fair))
    blocks = -(-parts.length // block)
    label, centred = f"{node.name or node.op_type} statistics", recipe.spread == "variance"
    names = ("total", "mean") if centred else ("total",)
    moments: dict[str, View | int] = {name: ctx.temporary((rows, blocks, parts.columns), DType.F64) for name in names}
    sizes = arguments(length=parts.length, block=block, blocks=blocks)
    ctx.step(
        Moments(recipe.spread, along, _vectors(parts.columns, lanes), x.dtype),
        arguments(x=x, channels=parts.columns, x_outer=parts.x_outer, x_step=parts.step) | sizes | moments,
        domain=rows * blocks,
        label=label,
        cost=least(block, parts.length) * parts.columns,
        writes=names,
    )
    count = parts.outer * parts.groups
    results = {name: ctx.temporary((count * channels,), x.dtype) for name in ("factor", "rest", "centre")}
    columns = 1 if along else parts.columns // parts.groups
    line = blocks * parts.columns
    ctx.step(
        Statistics(recipe.spread, x.dtype),
        arguments(numbers=recipe.numbers(ctx, parts.length * columns), scale=scale.view, bias=bias.view)
        | arguments(columns=columns, groups=parts.groups, channels=channels)
        | arguments(part_outer=line * parts.groups if along else line, part_group=line if along else columns)
        | arguments(part_block=parts.columns)
        | arguments(scale_group=scale.group, scale_step=scale.step, bias_group=bias.group, bias_step=bias.step)
        | sizes
        | moments
        | results,
        domain=count,
        label=label,
        cost=blocks * columns * 8 + channels * 4,
        writes=tuple(results),
    )
    return results["factor"], results["rest"], results["centre"]


def _vectors(columns: int, lanes: int) -> int:
    """Vectors of columns to walk at once: the more, the longer the runs of memory that are read."""
    return next(vectors for vectors in (4, 2, 1) if vectors == 1 or hint(columns) >= vectors * lanes)


def _apply(
    ctx: Lowering, node: ir.Node, x: View, recipe: _Recipe, results: tuple[View, View, View], params: Prelude = ()
) -> None:
    """y = (x - centre) * factor + rest, then `params`: elementwise, so it takes in what follows."""
    factor, rest, centre = results
    own: Prelude = (("mul", factor),)
    if recipe.spread == "variance":
        own = (("sub", centre), ("mul", factor), ("add", rest))
    fusion = ctx.fusion(node, x.dims, x.dtype, anywhere, (*own, *params))
    ctx.elementwise_fusion(fusion, [x, *(view for view, _ in fusion.operands)], x.dims)


# ---- images ----------------------------------------------------------------------------------------------------


@lowers("InstanceNormalization", dtypes=FLOATS, supports=_one_type)
def instance_normalization(ctx: Lowering, node: ir.Node) -> None:
    """Each channel of each image by itself; scale and bias are [C]."""
    _image(ctx, node, most(1, ctx.dims(node.inputs[0])[1]))


@lowers("GroupNormalization", dtypes=FLOATS, supports=_one_type)
def group_normalization(ctx: Lowering, node: ir.Node) -> None:
    """Groups of neighbouring channels of each image; scale and bias are [groups] before opset 21, else [C]."""
    _image(ctx, node, node.attributes.get_int("num_groups"))


def _image(ctx: Lowering, node: ir.Node, groups: int) -> None:
    x, scale, bias = (ctx.view(value) for value in node.inputs[:3])
    channels = x.dims[1]
    by_group = node.op_type == "GroupNormalization" and opset(node) < 21
    want = groups if by_group else channels
    if groups < 1 or channels % groups or scale.dims != (want,) or bias.dims != (want,):
        raise InvalidModelError(
            "scale, bias or num_groups do not fit the input",
            where=node.name or node.op_type,
            expected=f"[{want}] each, and a divisor of {channels}",
            got=f"{list(scale.dims)}, {list(bias.dims)} and {groups}",
        )
    if x.size == 0:
        ctx.result(node.outputs[0], x.dims, x.dtype)
        return
    recipe = _Recipe("variance", inner=node.attributes.get_float("epsilon", 1e-5))
    x, parts = _image_parts(ctx, x, groups)
    per, spatial = channels // groups, len(x.dims) - 2
    if parts.along and per == 1 and _many(ctx, x.dims[0] * channels, parts.length):
        params = tuple((op, _along_channels(v, spatial)) for op, v in (("mul", scale), ("add", bias)))
        _by_rows(ctx, node, x, list(range(2, 2 + spatial)), parts.length, recipe, params)
        return
    by = (1, 0) if by_group else (per, 1)
    factors, shifts = (_PerGroup(v, v.strides[0] * by[0], v.strides[0] * by[1]) for v in (scale, bias))
    results = _statistics(ctx, node, x, parts, recipe, factors, shifts, per)
    shape = (*x.dims[:2], *(1,) * spatial)
    factor, rest, centre = (View(v.buffer, v.dtype, shape, row_major(shape)) for v in results)
    _apply(ctx, node, x, recipe, (factor, rest, centre))


def _along_channels(vector: View, spatial: int) -> View:
    """A vector [C] as [C, 1, ...], to be stretched over an image."""
    dims, strides = (*vector.dims, *(1,) * spatial), (*vector.strides, *(0,) * spatial)
    return View(vector.buffer, vector.dtype, dims, strides, vector.offset)


def _image_parts(ctx: Lowering, x: View, groups: int) -> tuple[View, _Parts]:
    """The image's groups as they lie, channels last or dense; or a dense copy's."""
    images, channels, *spatial = x.dims
    length = channels // groups * prod(spatial)
    if x.is_row_major:
        return x, _Parts(images, length, length, 1, 1, groups)
    step = uniform_stride(spatial, x.strides[2:])
    if x.strides[1] == 1 and step is not None:
        return x, _Parts(images, x.strides[0], prod(spatial), step, channels, groups)
    return ctx.copied(x), _Parts(images, length, length, 1, 1, groups)


@lowers("LRN", dtypes=FLOATS)
def local_response_normalization(ctx: Lowering, node: ir.Node) -> None:
    """x / (bias + alpha / size * sum of squares of `size` neighbouring channels) ** beta."""
    x, size = ctx.channels_last(node.inputs[0]), node.attributes.get_int("size")
    if size < 1:
        raise InvalidModelError("a window without channels", where=node.name, expected="size > 0", got=str(size))
    if pixel_stride(x) is None:
        x = ctx.copied(x, channels_last(x.dims))
    channels, spatial = x.dims[1], len(x.dims) - 2
    place = matrix_place((0, *range(2, 2 + spatial)), 1)
    fusion = ctx.fusion(node, x.dims, x.dtype, place)
    y = ctx.result(fusion.output, x.dims, fusion.expr.dtype, channels_last(x.dims), accepts=place)
    if y.size == 0:
        return
    below, above = (min(reach, channels - 1) for reach in ((size - 1) // 2, size // 2))
    alpha, bias = node.attributes.get_float("alpha", 1e-4), node.attributes.get_float("bias", 1.0)
    lanes = ctx.target.lanes(x.dtype)
    epilogue, operands = epilogue_of(fusion)
    kernel = ResponseNorm(node.attributes.get_float("beta", 0.75), 2 if channels >= 2 * lanes else 1, x.dtype, epilogue)
    ctx.step(
        kernel,
        arguments(x=x, y=y, numbers=ctx.constant(np.array([alpha / size, bias], x.dtype.numpy)), channels=channels)
        | arguments(below=below, above=above, x_row=pixel_stride(x) or 0, y_row=result_stride(y))
        | operands,
        domain=x.size // channels,
        label=fusion.label,
        cost=channels * (below + above + 1),
        scratch=kernel.scratch(channels, below, above, lanes),
        consumes=("x", *consumed(epilogue)),
    )
