"""Reading and writing at indices known at run time: slices (Gather, GatherND, ScatterND) and single elements.

Whatever the indices are, only the tensor is touched: one out of range is written to `status`, which ends the run in an
error (`program.Check`), and taken as 0. Negative ones count from the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import SCALAR_OPS
from sardonyx.compiler.kernels.elementwise import BROADCAST, CONTIGUOUS
from sardonyx.compiler.program import Kernel

REPLACE = "none"
"""The way of combining that leaves nothing of the old element; the others are scalar operations."""


def checked_index(k: Builder, at: Ptr, size: Int) -> Int:
    """The index at an address, from 0 to below `size`, which is not 0; one out of range is reported."""
    given = k.cast(k.load(at), DType.I64)
    number = Int(k, given.ir)
    index = k.pick(number < 0, number + size, number)
    inside = index.within(size)
    with k.when(inside ^ k.const(True, DType.BOOL)):
        k.store(given, k.pointer("status"))  # any thread's will do; it is never 0, which is in range
    return k.pick(inside, index, 0)


def _checked_indices(k: Builder, given: Val, size: Int) -> list[Int]:
    """The same for a vector of indices, with one test for all of them."""
    given = k.cast(given, DType.I64)
    length, zero = k.broadcast(Val(k, size.ir, DType.I64, 1), given.lanes), k.const(0, DType.I64, given.lanes)
    index = k.select(given < zero, given + length, given)
    outside = (index < zero) | index.compare(">=", length)
    with k.when(k.any(outside)):
        wrong = k.reduce(k.select(outside, given, zero), lambda a, b: k.select(a.compare("!=", _zero(k, a)), a, b))
        k.store(wrong, k.pointer("status"))
    index = k.select(outside, zero, index)
    return [Int(k, k.lane(index, lane).ir) for lane in range(given.lanes)]


def _zero(k: Builder, like: Val) -> Val:
    return k.const(0, like.dtype, like.lanes)


def _offset(k: Builder, at: Ptr, depth: int) -> Int:
    """How many elements into the tensor the `depth` indices at an address lead."""
    total = k.index(0)
    for axis in range(depth):
        total = total + checked_index(k, at + axis, k.size(f"size{axis}")) * k.size(f"x{axis}")
    return total


def _write(k: Builder, combine: str, new: Val, at: Ptr) -> None:
    done = new if combine == REPLACE else SCALAR_OPS[combine](k, k.load(at, new.lanes), new)
    k.store(done, at)


def _columns(k: Builder, lanes: int, number: Int, body: Callable[[Int, int], None]) -> None:
    """`body(column, lanes)` for the columns of block `number`: vectors first, then one by one."""
    first = number * k.size("block")
    last = k.min(first + k.size("block"), k.size("n"))
    whole = first + (last - first) // lanes * lanes if lanes > 1 else first
    if lanes > 1:
        with k.loop(whole, start=first, step=lanes) as at:
            body(at, lanes)
    with k.loop(last, start=whole) as at:
        body(at, 1)


@dataclass(frozen=True)
class GatherSlices(Kernel):
    """y[b, r, :] = x[b, indices[b, r, 0], ..., indices[b, r, depth - 1], :], a slice of n elements.

    for (b, r, block of columns) in domain:  offset = sum of index * stride;  for c in vectors:  y[c] = x[offset + c]

    y is dense, and the elements of a slice of x lie side by side.
    """

    depth: int
    index: DType
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """Tensors, status; rows in a batch, columns and their blocks, strides of batches, then of the indexed axes."""
        tensors = (Parameter("x", self.dtype), Parameter("indices", self.index), Parameter("y", self.dtype))
        names = ["rows", "n", "blocks", "block", "x_batch", "indices_batch"]
        names += [f"{name}{axis}" for axis in range(self.depth) for name in ("size", "x")]
        return (*tensors, Parameter("status", DType.I64), *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        with k.loop(k.end, start=k.begin) as item:
            row = item // k.size("blocks")
            batch = row // k.size("rows")
            at = batch * k.size("indices_batch") + row % k.size("rows") * self.depth
            offset = _offset(k, k.pointer("indices") + at, self.depth)
            source = k.pointer("x") + batch * k.size("x_batch") + offset
            target = k.pointer("y") + row * k.size("n")

            _columns(k, k.target.lanes(self.dtype), item % k.size("blocks"), partial(_copy, k, source, target))


@dataclass(frozen=True)
class ScatterSlices(Kernel):
    """y[indices[r, 0], ..., indices[r, depth - 1], :] = itself combined with updates[r, :], row after row.

    for block of columns in domain:  for r in rows:  offset = ...;  for c in vectors:  combine y[offset + c]

    Every item goes through all rows, so that where slices meet the order is that of the updates.
    """

    depth: int
    combine: str
    index: DType
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """Tensors, status; rows, columns and their block's size, then the indexed axes' sizes and strides in y."""
        tensors = (Parameter("updates", self.dtype), Parameter("indices", self.index), Parameter("y", self.dtype))
        names = ["rows", "n", "block", *(f"{name}{axis}" for axis in range(self.depth) for name in ("size", "x"))]
        return (*tensors, Parameter("status", DType.I64), *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        with k.loop(k.end, start=k.begin) as item, k.loop(k.size("rows")) as row:
            target = k.pointer("y") + _offset(k, k.pointer("indices") + row * self.depth, self.depth)
            source = k.pointer("updates") + row * k.size("n")

            def write(column: Int, lanes: int, source: Ptr = source, target: Ptr = target) -> None:
                _write(k, self.combine, k.load(source + column, lanes), target + column)

            _columns(k, lanes, item, write)


@dataclass(frozen=True)
class IndexElements(Kernel):
    """other[p] = x[p with indices[p] on the axis], or, with `combine`, that element of x combined with other[p].

    for (outer indices of p, block) in domain:  for i in block:  one element

    p runs over the dims of `indices`, which `outer` loops and an innermost one of n walk. The stride of x along the
    axis is 0 in those, and `x_axis` beside. When x is written, the innermost loop is the axis: elements that meet are
    written by one item, in the order of the updates. `inner` says how indices move along the innermost loop: when
    BROADCAST, x and `other` are contiguous along it, and slices are copied.
    """

    outer: int
    combine: str | None
    inner: int
    index: DType
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """Tensors, status, counts, the axis' size and stride in x, then each tensor's strides."""
        tensors = (Parameter("x", self.dtype), Parameter("indices", self.index), Parameter("other", self.dtype))
        names = ["n", "blocks", "block", "size", "x_axis", *(f"size{axis}" for axis in range(self.outer))]
        for tensor in tensors:
            names += [f"{tensor.name}_step", *(f"{tensor.name}_outer{axis}" for axis in range(self.outer))]
        return (*tensors, Parameter("status", DType.I64), *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        names, lanes = ("x", "indices", "other"), k.target.lanes(DType.F32)
        with k.loop(k.end, start=k.begin) as item:
            block, rest = item % k.size("blocks"), item // k.size("blocks")
            bases = [k.pointer(name) for name in names]
            for axis in reversed(range(self.outer)):
                at, rest = rest % k.size(f"size{axis}"), rest // k.size(f"size{axis}")
                bases = [base + at * k.size(f"{n}_outer{axis}") for base, n in zip(bases, names, strict=True)]
            x, indices, other = bases
            if self.inner == BROADCAST:
                x = x + checked_index(k, indices, k.size("size")) * k.size("x_axis")
                _columns(k, lanes, block, partial(_copy, k, x, other))
            else:
                together = lanes if self.inner == CONTIGUOUS else 1
                _columns(k, together, block, partial(self._elements, k, x, indices, other))

    def _elements(self, k: Builder, x: Ptr, indices: Ptr, other: Ptr, first: Int, lanes: int) -> None:
        """As many elements as there are lanes."""
        here, size = indices + first * k.size("indices_step"), k.size("size")
        found = [checked_index(k, here, size)] if lanes == 1 else _checked_indices(k, k.load(here, lanes), size)
        x, other = x + first * k.size("x_step"), other + first * k.size("other_step")
        for lane, index in enumerate(found):
            at = x + (k.size("x_step") * lane + index * k.size("x_axis"))
            place = other + k.size("other_step") * lane
            if self.combine is None:
                k.store(k.load(at), place)
            else:
                _write(k, self.combine, k.load(place), at)


def _copy(k: Builder, source: Ptr, target: Ptr, column: Int, lanes: int) -> None:
    k.store(k.load(source + column, lanes), target + column)
