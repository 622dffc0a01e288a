"""Strides: how tensors lie in memory, and when several dimensions can be walked as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from math import prod
from typing import Any

import numpy as np

from sardonyx.compiler.dims import is_one, same, surely
from sardonyx.compiler.program import View, row_major

CACHE_LINE = 64
"""Bytes."""


def aligned_zeros(dims: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A dense array of zeros that starts on a cache line."""
    size = prod(dims) * dtype.itemsize
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    start = -int(raw.ctypes.data) % CACHE_LINE
    return raw[start : start + size].view(dtype).reshape(tuple(dims))


@dataclass(frozen=True)
class Nest:
    """A loop nest over several tensors at once: its sizes, and for each tensor a stride for each loop."""

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


def collapse(dims: Sequence[int], strides: Sequence[Sequence[int]]) -> Nest:
    """The shortest equivalent loop nest, outermost first, in the order in which the first tensor lies in memory."""
    axes = _outermost_first([a for a in range(len(dims)) if not is_one(dims[a])], strides[0])
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis in axes:
        joins = bool(sizes) and all(
            same(step[-1], own[axis] * dims[axis]) for step, own in zip(steps, strides, strict=True)
        )
        if joins:
            sizes[-1] *= dims[axis]
            for step, own in zip(steps, strides, strict=True):
                step[-1] = own[axis]
        else:
            sizes.append(dims[axis])
            for step, own in zip(steps, strides, strict=True):
                step.append(own[axis])
    return Nest(tuple(sizes), tuple(tuple(step) for step in steps))


def _outermost_first(axes: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Axes by how far they move in memory; those that move as far as each other in their own order."""

    def order(a: int, b: int) -> int:
        far, other = abs(strides[a]), abs(strides[b])
        if same(far, other):
            return a - b
        return -1 if surely(far, ">=", other) or (not surely(far, "<=", other) and far > other) else 1

    return sorted(axes, key=cmp_to_key(order))


def uniform_stride(dims: Sequence[int], strides: Sequence[int]) -> int | None:
    """The one stride with which a walk over `dims` in row-major order moves, or None; 0 when it never moves."""
    found: int | None = None
    inner = 1
    for size, stride in zip(reversed(dims), reversed(strides), strict=True):
        if is_one(size):
            continue
        if found is None:
            found = stride
        elif not same(stride, found * inner):
            return None
        inner *= size
    return found or 0


def dense_like(dims: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Strides without gaps that keep the order of the dimensions in memory."""
    fixed = [axis for axis, size in enumerate(dims) if is_one(size)]
    moving = [axis for axis in range(len(dims)) if axis not in fixed]
    return dense_in_order(dims, [*fixed, *_outermost_first(moving, strides)])


def dense_in_order(dims: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """Strides without gaps of a tensor whose dimensions lie in this order, outermost first."""
    result, step = [0] * len(dims), 1
    for axis in reversed(order):
        result[axis] = step
        step *= dims[axis]
    return tuple(result)


def reshape_view(view: View, dims: tuple[int, ...]) -> View | None:
    """The view with other dims over the same elements in the same row-major order; None if that needs a copy."""
    if view.size == 0:
        return None
    if view.is_row_major:
        dense = tuple(0 if is_one(d) else s for d, s in zip(dims, row_major(dims), strict=True))
        return View(view.buffer, view.dtype, dims, dense, view.offset)
    source = [(d, s) for d, s in zip(view.dims, view.strides, strict=True) if not is_one(d)]
    strides: list[int] = []
    wanted = [d for d in dims if not is_one(d)]
    i = j = 0
    while i < len(source) and j < len(wanted):
        have, want = source[i][0], wanted[j]
        i_end, j_end = i + 1, j + 1
        while not same(have, want):
            if surely(have, "<=", want) or (not surely(have, ">=", want) and have < want):
                have *= source[i_end][0]
                i_end += 1
            else:
                want *= wanted[j_end]
                j_end += 1
        stride = uniform_stride([d for d, _ in source[i:i_end]], [s for _, s in source[i:i_end]])
        if stride is None:
            return None
        part: list[int] = []
        for size in reversed(wanted[j:j_end]):
            part.insert(0, stride)
            stride *= size
        strides += part
        i, j = i_end, j_end
    steps = iter(strides)
    full = tuple(0 if is_one(d) else next(steps) for d in dims)
    return View(view.buffer, view.dtype, dims, full, view.offset)
