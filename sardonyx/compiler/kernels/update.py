"""A tensor with a run of its rows replaced, as caches of keys and values are updated."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class UpdateRows(Kernel):
    """y[o, s, :] = updates[o, s - start[b], :] where that is one of the `count` new rows, else x[o, s, :].

    for (o, block of s) in domain:  for s in block:  copy a row of n elements

    The outer index o is batch b's and `inner` others. `circular`: rows go on at the beginning after the last of the
    `length` there are. Otherwise a start that leaves no room for the new rows is reported to `status`, and no row is
    replaced. All tensors are dense.
    """

    circular: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """Tensors, status, and counts; there are `blocks` of `block` rows, `start_step` is 0 or 1."""
        tensors = [Parameter(name, self.dtype) for name in ("x", "updates", "y")]
        names = ("length", "count", "n", "inner", "blocks", "block", "start_step")
        slots = [*tensors, Parameter("start", DType.I64)]
        if not self.circular:
            slots.append(Parameter("status", DType.I64))
        return (*slots, *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, n, length, count = k.target.lanes(self.dtype), *(k.size(name) for name in ("n", "length", "count"))
        whole = n // lanes * lanes
        with k.loop(k.end, start=k.begin) as item:
            outer, first = item // k.size("blocks"), item % k.size("blocks") * k.size("block")
            start = self._start(k, outer // k.size("inner"))
            with k.loop(k.min(first + k.size("block"), length), start=first) as row:
                apart = row - start
                if self.circular:
                    apart = k.pick(apart < 0, apart + length, apart)
                new, old = (
                    k.pointer(name) + (outer * rows + at) * n
                    for name, rows, at in (("updates", count, apart), ("x", length, row))
                )
                source = k.pick_pointer(apart.within(count), new, old)
                target = k.pointer("y") + (outer * length + row) * n
                with k.loop(whole, step=lanes) as at:
                    k.store(k.load(source + at, lanes), target + at)
                with k.loop(n, start=whole) as at:
                    k.store(k.load(source + at), target + at)

    def _start(self, k: Builder, batch: Int) -> Int:
        """The first row that is replaced; past all rows when there would not be room."""
        given, length = k.load(k.pointer("start") + batch * k.size("start_step")), k.size("length")
        if self.circular:
            rest = Int(k, (given % Val(k, length.ir, DType.I64, 1)).ir)
            return k.pick(rest < 0, rest + length, rest)
        start, room = Int(k, given.ir), length - k.size("count")
        fits = start.within(room + 1)
        with k.when(fits ^ k.const(True, DType.BOOL)):
            k.store(given, k.pointer("status"))  # never 0, where there is always room
        return k.pick(fits, start, length)
