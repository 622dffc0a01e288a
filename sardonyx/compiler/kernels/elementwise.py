"""Elementwise expressions over strided and broadcast tensors; copies and casts are the simplest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dims import Dim, least, most, surely
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import TOGETHER, Expr
from sardonyx.compiler.layout import collapse
from sardonyx.compiler.program import Kernel, View

BROADCAST, CONTIGUOUS, STRIDED, BACKWARD = range(4)
"""How a tensor moves along the innermost loop."""
_FLAT_ROW = 1024
"""Elements of a row into which a flat tensor is cut."""


@dataclass(frozen=True)
class Elementwise(Kernel):
    """y[outer..., row, i] = expr(x0[outer..., row, i], x1[...], ...).

    for (outer indices, block of rows) in domain, for row in block:
        for i in vectors of the row:  y[i] = expr(x0[i], x1[i], ...)

    `inner[j]` says how operand j moves along i, `result` how y does. A row is `n` elements; the last row of a flat
    tensor ends at `limit`. Strides are arguments, so one kernel serves every shape.
    """

    expr: Expr
    inner: tuple[int, ...]
    result: int
    outer: int

    def parameters(self) -> tuple[Parameter, ...]:
        """Tensors, counts, then each tensor's strides (y is the last)."""
        tensors = [Parameter(f"x{j}", dtype) for j, dtype in enumerate(self.expr.leaves)]
        tensors.append(Parameter("y", self.expr.dtype))
        counts = [Parameter(name) for name in ("n", "limit", "rows", "row_blocks", "block_rows")]
        counts += [Parameter(f"size{axis}") for axis in range(self.outer)]
        strides = []
        for tensor in tensors:
            strides += [Parameter(f"{tensor.name}_{place}") for place in ("row", "step")]
            strides += [Parameter(f"{tensor.name}_outer{axis}") for axis in range(self.outer)]
        return (*tensors, *counts, *strides)

    def emit(self, k: Builder) -> None:
        """See the class."""
        names = [f"x{j}" for j in range(len(self.inner))] + ["y"]
        kinds = (*self.inner, self.result)
        with k.loop(k.end, start=k.begin) as item:
            block, rest = item % k.size("row_blocks"), item // k.size("row_blocks")
            bases = [k.pointer(name) for name in names]
            for axis in reversed(range(self.outer)):
                at, rest = rest % k.size(f"size{axis}"), rest // k.size(f"size{axis}")
                bases = [base + at * k.size(f"{n}_outer{axis}") for base, n in zip(bases, names, strict=True)]
            first = block * k.size("block_rows")
            with k.loop(k.min(first + k.size("block_rows"), k.size("rows")), start=first) as row:
                here = [base + row * k.size(f"{n}_row") for base, n in zip(bases, names, strict=True)]
                length = k.min(k.size("n"), k.size("limit") - row * k.size("n"))
                self._row(k, here, kinds, [k.size(f"{n}_step") for n in names], length)

    def _row(self, k: Builder, here: Sequence[Ptr], kinds: Sequence[int], steps: Sequence[Int], length: Int) -> None:
        lanes = k.target.lanes(DType.F32)
        wide = lanes * self._together()
        most, whole = length // wide * wide, length // lanes * lanes
        constants = {j: k.load(here[j]) for j, kind in enumerate(kinds[:-1]) if kind == BROADCAST}  # read once a row

        def compute(at: Int, width: int, count: Int | None) -> None:
            mask = k.first_lanes(count, width) if count is not None else None
            leaves = []
            for j, kind in enumerate(kinds[:-1]):
                if kind == BROADCAST:
                    leaves.append(k.broadcast(constants[j], width))
                elif kind == CONTIGUOUS:
                    leaves.append(k.load(here[j] + at, width, mask))
                elif kind == BACKWARD and width > 1 and mask is None:
                    found = k.load(here[j] + (k.index(1 - width) - at), width)
                    leaves.append(k.shuffle(found, found, range(width)[::-1]))
                else:
                    leaves.append(k.gather(here[j] + at * steps[j], steps[j], width, count))
            self._write(k, self.expr.evaluate(k, leaves), here[-1], kinds[-1], steps[-1], at, count, mask)

        with k.loop(most, step=wide) as at:
            compute(at, wide, None)
        if self._masks():
            with k.loop(length, start=most, step=lanes) as at:
                compute(at, lanes, length - at)
        else:
            with k.loop(whole, start=most, step=lanes) as at:
                compute(at, lanes, None)
            with k.loop(length, start=whole) as at:
                compute(at, 1, None)

    def _write(
        self,
        k: Builder,
        value: Val,
        base: Ptr,
        kind: int,
        step: Int,
        at: Int,
        count: Int | None,
        mask: Val | None,
    ) -> None:
        if kind == CONTIGUOUS:
            k.store(value, base + at, mask)
        else:
            k.scatter(value, base + at * step, step, count)

    def _together(self) -> int:
        """Vectors of 4-byte elements computed at once: of long computations several, which then wait for one another
        less and share the constants they read; of short elements so many that they fill registers.
        """
        long = self.expr.is_long
        if self._masks():
            return TOGETHER if long else 1
        sizes = [dtype.size for dtype in (*self.expr.leaves, self.expr.dtype, *(s.dtype for s in self.expr.body))]
        return 1 if long else max(1, 4 // max(sizes))

    def _masks(self) -> bool:
        """Whether the processor has masked loads and stores for every type here; else the tail goes one by one."""
        return all(dtype.size in (4, 8) for dtype in (*self.expr.leaves, self.expr.dtype))


@dataclass(frozen=True)
class Walking:
    """A kernel that computes a tensor, its arguments, the size of its domain and the elements of one item."""

    kernel: Elementwise
    arguments: dict[str, View | int]
    domain: int
    cost: int


def walking(expr: Expr, operands: Sequence[View], target: View, lanes: int, elements: int) -> Walking:
    """How to compute target = expr(operands), not empty, whose dims all have; an item is about that many elements."""
    nest = collapse(target.dims, [target.strides, *(o.strides for o in operands)])
    sizes, strides = nest.sizes or (1,), nest.strides if nest.sizes else ((1,),) * (len(operands) + 1)
    if len(sizes) > 1 and surely(sizes[-1], "<", lanes) and not surely(sizes[-2], "<", lanes):
        # A row shorter than a vector: walk the next dimension instead, even if it is strided in the result.
        sizes = (*sizes[:-2], sizes[-1], sizes[-2])
        strides = tuple((*s[:-2], s[-1], s[-2]) for s in strides)
    inner = tuple(_inner(s[-1]) for s in strides)
    n, limit = sizes[-1], sizes[-1]
    if len(sizes) == 1:
        n = _FLAT_ROW if isinstance(sizes[0], Dim) else min(sizes[0], _FLAT_ROW)
        rows, limit = -(-sizes[0] // n), sizes[0]
        row_strides = [s[-1] * n for s in strides]
        outer: tuple[int, ...] = ()
    else:
        rows, outer = sizes[-2], sizes[:-2]
        row_strides = [s[-2] for s in strides]
        limit = rows * n
    block = most(1, least(rows, elements // n))
    names = [f"x{j}" for j in range(len(operands))] + ["y"]
    order = [*range(1, len(strides)), 0]
    arguments: dict[str, View | int] = dict(zip(names, [*operands, target], strict=True))
    arguments |= {"n": n, "limit": limit, "rows": rows, "row_blocks": -(-rows // block), "block_rows": block}
    arguments |= {f"size{axis}": size for axis, size in enumerate(outer)}
    for name, index in zip(names, order, strict=True):
        arguments |= {f"{name}_row": row_strides[index], f"{name}_step": strides[index][-1]}
        arguments |= {f"{name}_outer{a}": strides[index][a] for a in range(len(outer))}
    kernel = Elementwise(expr, inner[1:], inner[0], len(outer))
    return Walking(kernel, arguments, prod(outer) * -(-rows // block), block * n)


def _inner(stride: int) -> int:
    return {0: BROADCAST, 1: CONTIGUOUS, -1: BACKWARD}.get(stride, STRIDED)
