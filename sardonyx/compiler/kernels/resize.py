"""Resampling along the axes of a tensor, by tables of what to read and how to weigh it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.program import Kernel

PITCH = 16
"""Entries to a multiple of which the tables of an axis that vectors run along are filled up."""
_VECTORS = 4
"""Vectors at once where taps are counted in a loop, whose cost they share."""

Read = tuple[Ptr, Val | None]
"""Where a tap reads, and its weight (None: 1)."""


@dataclass(frozen=True)
class Resample(Kernel):
    """y[j, c] = epilogue(sum over taps t of weight[t, j] * x[at[t, j] + c]), separable over the axes that j walks.

    for (j on all axes but the last, block of the last one) in domain, for j in block:
        for c in vectors:  y[j, c] = epilogue(sum over t0, t1, ... of weight0[t0, j0] * ... * x[at0[t0, j0] + ... + c])

    `taps[a]` is how many taps axis a has; 0, for one axis at most, makes it the argument `count`. An axis of one tap
    has no weights. `along`: there is no c; the result's last axis is contiguous, and vectors run along it, their
    elements gathered; with `repeats` above 1 each element of a contiguous row of x comes so many times, one tap each,
    and the first tap's table says that as well.
    """

    taps: tuple[int, ...]
    along: bool
    repeats: int
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x and y, counts, then for each axis its tables ([taps, pitch] of them), its size and its stride in y."""
        slots = [Parameter("x", self.dtype), Parameter("y", self.epilogue.expr.dtype)]
        slots += [Parameter(name) for name in ("blocks", "block", *(() if self.along else ("columns",)))]
        if 0 in self.taps:
            slots.append(Parameter("count"))
        for axis, taps in enumerate(self.taps):
            gathered = self.along and axis == len(self.taps) - 1
            slots.append(Parameter(f"at{axis}", DType.I32 if gathered else DType.I64))
            if taps != 1:
                slots += [Parameter(f"weight{axis}", self.dtype), Parameter(f"pitch{axis}")]
            slots.append(Parameter(f"size{axis}"))
            if not gathered:
                slots.append(Parameter(f"y{axis}"))
        return (*slots, *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        last = len(self.taps) - 1
        operands = self.epilogue.bases(k)
        with k.loop(k.end, start=k.begin) as item:
            row, block = item // k.size("blocks"), item % k.size("blocks")
            rest, position = row, list[Int]()
            for axis in reversed(range(last)):
                position.insert(0, rest % k.size(f"size{axis}"))
                rest = rest // k.size(f"size{axis}")
            reads: list[Read] = [(k.pointer("x"), None)]
            target = k.pointer("y")
            for axis, at in enumerate(position):
                reads = self._taken(k, reads, axis, at)
                target = target + at * k.size(f"y{axis}")
            first = block * k.size("block")
            until = k.min(first + k.size("block"), k.size(f"size{last}"))
            if self.along:
                self._gathered(k, reads, target, operands, row, (first, until))
                return
            with k.loop(until, start=first) as at:
                here = self._taken(k, reads, last, at)
                pixel = row * k.size(f"size{last}") + at
                out = target + at * k.size(f"y{last}")
                self._columns(k, here, [*position, at], out, operands, pixel)

    def _taken(self, k: Builder, reads: Sequence[Read], axis: int, at: Int) -> list[Read]:
        """The reads through each tap of an axis at coordinate `at`; an axis with counted taps waits for its loop."""
        found = []
        for tap in range(self.taps[axis]):
            slot = at if tap == 0 else at + k.size(f"pitch{axis}") * tap
            offset = k.load_index(k.pointer(f"at{axis}") + slot)
            weight = None if self.taps[axis] == 1 else k.load(k.pointer(f"weight{axis}") + slot)
            found += [(base + offset, _product(factor, weight)) for base, factor in reads]
        return found or list(reads)

    def _columns(
        self,
        k: Builder,
        reads: Sequence[Read],
        position: Sequence[Int],
        target: Ptr,
        operands: Sequence[Ptr],
        pixel: Int,
    ) -> None:
        """All columns of a pixel."""
        counted = self.taps.index(0) if 0 in self.taps else None

        def compute(at: Int, vectors: int, lanes: int, mask: Val | None) -> None:
            def sums(reads: Sequence[Read]) -> list[Val]:
                starts = [at + v * lanes for v in range(vectors)]
                return [_sum(k, [(base + start, w) for base, w in reads], fetch, lanes) for start in starts]

            def fetch(address: Ptr) -> Val:
                return k.load(address, lanes, mask)

            if counted is None:
                results = sums(reads)
            else:
                results = self._loop(k, counted, position[counted], reads, sums, lanes, vectors)
            for v, value in enumerate(results):
                column = at + v * lanes
                done = self.epilogue.apply(k, value, operands, pixel, column, mask)
                k.store(done, target + column, mask)

        lanes, columns = k.target.lanes(DType.F32), k.size("columns")
        whole, blocks = columns // lanes * lanes, k.index(0)
        if counted is not None:
            blocks = columns // (_VECTORS * lanes) * (_VECTORS * lanes)
            with k.loop(blocks, step=_VECTORS * lanes) as at:
                compute(at, _VECTORS, lanes, None)
        with k.loop(whole, start=blocks, step=lanes) as at:
            compute(at, 1, lanes, None)
        if self._masks():
            with k.when(whole < columns):
                compute(whole, 1, lanes, k.first_lanes(columns - whole, lanes))
        else:
            with k.loop(columns, start=whole) as at:
                compute(at, 1, 1, None)

    def _loop(
        self,
        k: Builder,
        axis: int,
        at: Int,
        reads: Sequence[Read],
        sums: Callable[[Sequence[Read]], list[Val]],
        lanes: int,
        vectors: int,
    ) -> list[Val]:
        """The sums over the counted taps of an axis."""
        acc = [k.const(0, self.dtype, lanes) for _ in range(vectors)]
        (base, _), *_ = reads
        with k.loop(k.size("count"), carry=acc) as tap:
            slot = at + tap * k.size(f"pitch{axis}")
            place = base + k.load_index(k.pointer(f"at{axis}") + slot)
            weight = k.broadcast(k.load(k.pointer(f"weight{axis}") + slot), lanes)
            values = sums([(place, None)])
            acc[:] = [k.fma(value, weight, total) for value, total in zip(values, acc, strict=True)]
        return acc

    def _gathered(
        self,
        k: Builder,
        reads: Sequence[Read],
        target: Ptr,
        operands: Sequence[Ptr],
        row: Int,
        span: tuple[Int, Int],
    ) -> None:
        """The elements from span[0] to span[1] of the last axis."""
        last = len(self.taps) - 1
        table = k.pointer(f"at{last}")

        def through(slot: Int, lanes: int) -> Val:
            indices = k.load(table + slot, lanes)
            value = _sum(k, reads, lambda base: k.gather_at(base, indices), lanes)
            if self.taps[last] == 1:
                return value
            return value * k.load(k.pointer(f"weight{last}") + slot, lanes)

        def compute(at: Int, lanes: int, mask: Val | None) -> None:
            if self.taps[last] == 0:
                acc = [k.const(0, self.dtype, lanes)]
                with k.loop(k.size("count"), carry=acc) as tap:
                    acc[0] = acc[0] + through(at + tap * k.size(f"pitch{last}"), lanes)
                total = acc[0]
            else:
                total = through(at, lanes)
                for further in range(1, self.taps[last]):
                    total = total + through(at + k.size(f"pitch{last}") * further, lanes)
            done = self.epilogue.apply(k, total, operands, row, at, mask)
            k.store(done, target + at, mask)

        lanes, (first, until) = k.target.lanes(DType.F32), span
        if self.repeats > 1:
            wide = lanes * self.repeats
            many = first + (until - first) // wide * wide
            with k.loop(many, start=first, step=wide) as at:
                value = _sum(k, reads, lambda base: k.load(base + at // self.repeats, lanes), lanes)
                for number in range(self.repeats):
                    places = [(number * lanes + lane) // self.repeats for lane in range(lanes)]
                    column = at + number * lanes
                    done = self.epilogue.apply(k, k.chosen([value], places), operands, row, column)
                    k.store(done, target + column)
            first = many
        whole = first + (until - first) // lanes * lanes
        with k.loop(whole, start=first, step=lanes) as at:
            compute(at, lanes, None)
        if self._masks():
            with k.when(whole < until):
                compute(whole, lanes, k.first_lanes(until - whole, lanes))
        else:
            with k.loop(until, start=whole) as at:
                compute(at, 1, None)

    def _masks(self) -> bool:
        """Whether the processor has masked loads and stores for every type here; else the rest goes one by one."""
        return all(dtype.size in (4, 8) for dtype in (*self.epilogue.expr.leaves, self.epilogue.expr.dtype))


def _product(a: Val | None, b: Val | None) -> Val | None:
    return b if a is None else a if b is None else a * b


def _sum(k: Builder, reads: Sequence[Read], fetch: Callable[[Ptr], Val], lanes: int) -> Val:
    """What all reads fetch, weighed."""
    total: Val | None = None
    for base, weight in reads:
        value = fetch(base)
        factor = None if weight is None else k.broadcast(weight, lanes)
        if total is None:
            total = value if factor is None else value * factor
        else:
            total = total + value if factor is None else k.fma(value, factor, total)
    assert total is not None
    return total
