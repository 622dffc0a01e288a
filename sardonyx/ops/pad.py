"""Padding: the input is copied into the result, then each axis is extended at its two ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import least, most
from sardonyx.compiler.layout import dense_like
from sardonyx.compiler.lower import anywhere
from sardonyx.compiler.program import View
from sardonyx.errors import InvalidModelError
from sardonyx.ops.table import ALL, axis_of, ints, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_MODES = ("constant", "reflect", "edge", "wrap")


@lowers("Pad", dtypes=ALL, known=(1, 3))
def pad(ctx: Lowering, node: ir.Node) -> None:
    """By a constant or by what is there already, on any axes; negative pads cut first.

    The result lies in memory as the input does. An axis is extended over what the axes behind it have become, so a
    corner is made like an edge.
    """
    x, mode = ctx.view(node.inputs[0]), node.attributes.get_string("mode", "constant")
    if mode not in _MODES:
        raise InvalidModelError("no such mode", where=node.name, expected=", ".join(_MODES), got=repr(mode))
    before, after = _pads(ctx, node, len(x.dims))
    dims = tuple(b + d + a for b, d, a in zip(before, x.dims, after, strict=True))
    inner = tuple(most(0, d + least(b, 0) + least(a, 0)) for b, d, a in zip(before, x.dims, after, strict=True))
    if any(size < 0 for size in dims):
        raise ValueError(f"pads {before} and {after} leave {list(dims)}")
    if mode != "constant" and any(size == 0 < total for size, total in zip(inner, dims, strict=True)):
        raise ValueError(f"nothing to {mode} in {list(inner)}")
    y = ctx.result(node.outputs[0], dims, x.dtype, dense_like(dims, x.strides), accepts=anywhere)
    if y.size == 0:
        return
    label, fill = node.name or "Pad", _fill(ctx, node, x)
    at = tuple(most(0, b) for b in before)
    if 0 in inner:
        ctx.copy(fill, y, label)
        return
    cut = sum(most(0, -b) * s for b, s in zip(before, x.strides, strict=True))
    ctx.copy(replace(x, dims=inner, offset=x.offset + cut), _part(y, at, inner), label)
    if mode == "constant":
        _frame(ctx, fill, y, at, inner, label)
        return
    for axis in reversed(range(len(dims))):  # so that mirrored rows, which go element by element, are as few as can be
        done = len(dims) - axis - 1
        whole = _part(y, (*at[: axis + 1], *(0,) * done), (*inner[: axis + 1], *dims[axis + 1 :]))
        _extend(ctx, whole, axis, at[axis], dims[axis], mode, label)


def bordered(ctx: Lowering, x: View, before: tuple[int, ...], after: tuple[int, ...], label: str) -> View:
    """A copy of `x`, lying in memory as it does, with that many zeros before and after each axis (none negative)."""
    dims = tuple(b + d + a for b, d, a in zip(before, x.dims, after, strict=True))
    y = ctx.temporary(dims, x.dtype, dense_like(dims, x.strides))
    ctx.copy(x, _part(y, before, x.dims), label)
    _frame(ctx, ctx.constant(np.zeros((), x.dtype.numpy)), y, before, x.dims, label)
    return y


def _frame(ctx: Lowering, fill: View, y: View, at: tuple[int, ...], inner: tuple[int, ...], label: str) -> None:
    """Fill `y` around its part of dims `inner` at the index `at`; axis by axis, so a corner is filled once."""
    for axis in range(len(y.dims)):
        whole = _part(y, (*(0,) * axis, *at[axis:]), (*y.dims[:axis], *inner[axis:]))
        for low, high in ((0, at[axis]), (at[axis] + inner[axis], y.dims[axis])):
            if low < high:
                ctx.copy(fill, _along(whole, axis, low - at[axis], high - low), label)


def _pads(ctx: Lowering, node: ir.Node, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The pads before and after each axis."""
    inputs = [ctx.known_ints(value) for value in node.inputs[1:4:2]]
    given = inputs[0] if inputs and inputs[0] is not None else ints(node, "pads") or ()
    axes: list[int] = list(range(rank))
    if len(inputs) > 1 and inputs[1] is not None:
        axes = [axis_of(a, rank) for a in inputs[1]]
    if len(given) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise InvalidModelError(
            "the pads do not fit the input", where=node.name, expected=f"{2 * len(axes)} of them", got=str(list(given))
        )
    before, after = [0] * rank, [0] * rank
    for index, axis in enumerate(axes):
        before[axis], after[axis] = given[index], given[len(axes) + index]
    return tuple(before), tuple(after)


def _fill(ctx: Lowering, node: ir.Node, x: View) -> View:
    """The constant to pad with."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        value = ctx.view(node.inputs[2])
        return replace(value, dims=(), strides=()) if value.size == 1 else value
    return ctx.constant(np.full((), node.attributes.get_float("value", 0.0), x.dtype.numpy))


def _part(view: View, at: tuple[int, ...], dims: tuple[int, ...]) -> View:
    """The part of `dims` that begins at the index `at`."""
    offset = view.offset + sum(i * s for i, s in zip(at, view.strides, strict=True))
    return replace(view, dims=dims, offset=offset)


def _along(view: View, axis: int, start: int, count: int, stride: int = 1) -> View:
    """`count` elements of one axis from `start` on; `start` may lie before the view, where its tensor goes on."""
    dims = (*view.dims[:axis], count, *view.dims[axis + 1 :])
    strides = (*view.strides[:axis], view.strides[axis] * stride, *view.strides[axis + 1 :])
    return replace(view, dims=dims, strides=strides, offset=view.offset + start * view.strides[axis])


def _extend(ctx: Lowering, view: View, axis: int, before: int, total: int, mode: str, label: str) -> None:
    """Continue an axis of which the view's elements are there: `before` more before them, `total` in all.

    Mirrored or wrapped elements repeat; with a period there, the rest is copied from what was copied before, twice as
    much each time.
    """
    size = view.dims[axis]
    low, high, last = 0, size, total - before
    if mode == "edge" or size == 1:
        for start, end, nearest in ((-before, 0, 0), (size, last, size - 1)):
            if start < end:
                ctx.copy(_along(view, axis, nearest, 1), _along(view, axis, start, end - start), label)
        return
    period = size if mode == "wrap" else 2 * (size - 1)
    while high < last:
        if high - low < period:  # the mirror image of what is there, but for the last element
            count = _smaller(last - high, period - size)
            source = _along(view, axis, high - 2, count, -1)
        else:
            reach = (high - low) // period * period
            count = _smaller(last - high, reach)
            source = _along(view, axis, high - reach, count)
        ctx.copy(source, _along(view, axis, high, count), label)
        high += count
    while low > -before:
        if high - low < period:
            count = _smaller(low + before, period - size)
            source = _along(view, axis, low + count, count, -1)
        else:
            reach = (high - low) // period * period
            count = _smaller(low + before, reach)
            source = _along(view, axis, low + reach - count, count)
        ctx.copy(source, _along(view, axis, low - count, count), label)
        low -= count


def _smaller(a: int, b: int) -> int:
    """The smaller of two, one of which it is from here on if dims are open: what follows depends on which."""
    return a if a <= b else b
