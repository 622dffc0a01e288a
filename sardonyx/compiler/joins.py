"""Joined tensors: results that are written straight to their part of a concatenation, which then copies nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.layout import dense_like
from sardonyx.compiler.program import View

if TYPE_CHECKING:
    import onnx_ir as ir

Dims = tuple[int, ...]


@dataclass(frozen=True)
class _Plan:
    """How a node joins its inputs: the axis, and the extent of each input along it."""

    axis: int
    extents: tuple[int, ...]

    def offset(self, index: int) -> int:
        """Where input `index` begins."""
        return sum(self.extents[:index])


@dataclass
class Joins:
    """The joined tensors of one lowering, made when the first of their parts asks for memory.

    `axis` says along which axis a node joins all its inputs (None: it does not), `dims` what is known of a value's
    dims before it is computed, `allocate` gives memory. What is known beforehand may be wrong (a model can declare
    anything): a part that turns out otherwise gets no place, and the node's rule copies what lies elsewhere.
    """

    axis: Callable[[ir.Node], int | None]
    dims: Callable[[ir.Value], Sequence[int | None] | None]
    allocate: Callable[[Dims, DType, Dims], View]
    _plans: dict[ir.Node, _Plan | None] = field(default_factory=dict)
    _wholes: dict[ir.Node, View] = field(default_factory=dict)

    def part(self, value: ir.Value, dims: Dims, dtype: DType, strides: Dims) -> View | None:
        """Memory for a result within the largest joined tensor that it becomes a part of; None when there is none.

        `strides` are those of a dense tensor; the part's dimensions lie in the same order.
        """
        plans = [(node, self._plan(node, len(dims))) for node in dict.fromkeys(user for user, _ in value.uses())]
        found = [(node, plan) for node, plan in plans if plan is not None]
        for node, plan in sorted(found, key=lambda pair: -sum(pair[1].extents)):
            index, axis = list(node.inputs).index(value), plan.axis
            full = (*dims[:axis], sum(plan.extents), *dims[axis + 1 :])
            whole = self._whole(node, full, dtype, strides) if plan.extents[index] == dims[axis] else None
            if whole is not None:
                at = whole.offset + plan.offset(index) * whole.strides[axis]
                return View(whole.buffer, dtype, dims, whole.strides, at)
        return None

    def _plan(self, node: ir.Node, rank: int) -> _Plan | None:
        """Fixed when first asked for, so that the places of a node's parts never overlap."""
        if node not in self._plans:
            axis = self.axis(node)
            if axis is None or not -rank <= axis < rank:
                return None
            known = [self.dims(part) if part is not None else None for part in node.inputs]
            extents = [d[axis % rank] if d is not None and len(d) == rank else None for d in known]
            plan = _Plan(axis % rank, tuple(e for e in extents if e is not None))
            self._plans[node] = None if None in extents else plan
        return self._plans[node]

    def _whole(self, node: ir.Node, dims: Dims, dtype: DType, strides: Dims) -> View | None:
        """The joined tensor, if parts of it can have these dims, type and order."""
        order = dense_like(dims, strides)
        if node not in self._wholes:
            self._wholes[node] = self.part(node.outputs[0], dims, dtype, order) or self.allocate(dims, dtype, order)
        whole = self._wholes[node]
        fits = whole.dims == dims and whole.dtype is dtype and dense_like(dims, whole.strides) == order
        return whole if fits else None

    def whole(self, node: ir.Node, parts: Sequence[View], dims: Dims, axis: int) -> View | None:
        """The memory of `node`'s result of `dims` if it was made: each part lies in its place there, or elsewhere."""
        whole = self._wholes.get(node)
        if whole is None or whole.dims != dims or any(part.dtype is not whole.dtype for part in parts):
            return None
        places = accumulate((part.dims[axis] * whole.strides[axis] for part in parts), initial=whole.offset)
        for part, at in zip(parts, places, strict=False):
            if part.buffer is whole.buffer and (part.offset, part.strides) != (at, whole.strides):
                return None
        return whole


def adjacent(views: Sequence[View], axis: int) -> View | None:
    """The views as one, when each begins along `axis` where the one before ends; None when they do not."""
    first, at = views[0], views[0].offset
    for view in views:
        same = view.buffer is first.buffer and view.dtype is first.dtype and view.strides == first.strides
        if not same or view.offset != at:
            return None
        at += view.dims[axis] * view.strides[axis]
    dims = (*first.dims[:axis], sum(view.dims[axis] for view in views), *first.dims[axis + 1 :])
    return View(first.buffer, first.dtype, dims, first.strides, first.offset)
