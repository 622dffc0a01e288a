"""Strides: how tensors lie in memory, and when several dimensions can be walked as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from sardonyx.compiler.program import View

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
    axes = [a for a in range(len(dims)) if dims[a] != 1]
    axes.sort(key=lambda a: (-abs(strides[0][a]), a))
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis in axes:
        joins = bool(sizes) and all(
            step[-1] == own[axis] * dims[axis] for step, own in zip(steps, strides, strict=True)
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


def uniform_stride(dims: Sequence[int], strides: Sequence[int]) -> int | None:
    """The one stride with which a walk over `dims` in row-major order moves, or None; 0 when it never moves."""
    found: int | None = None
    inner = 1
    for size, stride in zip(reversed(dims), reversed(strides), strict=True):
        if size == 1:
            continue
        if found is None:
            found = stride
        elif stride != found * inner:
            return None
        inner *= size
    return found or 0


def dense_like(dims: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Strides without gaps that keep the order of the dimensions in memory."""
    moves = [size > 1 for size in dims]
    order = sorted(range(len(dims)), key=lambda a: (moves[a], -abs(strides[a]) if moves[a] else 0, a))
    return dense_in_order(dims, order)


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
    source = [(d, s) for d, s in zip(view.dims, view.strides, strict=True) if d != 1]
    strides: list[int] = []
    wanted = [d for d in dims if d != 1]
    i = j = 0
    while i < len(source) and j < len(wanted):
        have, want = source[i][0], wanted[j]
        i_end, j_end = i + 1, j + 1
        while have != want:
            if have < want:
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
    full = tuple(next(steps) if d != 1 else 0 for d in dims)
    return View(view.buffer, view.dtype, dims, full, view.offset)
