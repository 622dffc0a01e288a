"""Slices that occur once or more, each once: in order, or in that of their first places."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.select import number, ordered
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class Unique(Kernel):
    """The distinct ones of `length` slices x[:, r, :], and for each where it first stands and how often it occurs.

    order = 0, 1, ... sorted by slices, equal ones by number (merging runs of 1, 2, 4, ...)
    for r in order:  if the slice differs from the one before:  a new group, whose first place is r
        counts[group] += 1;  inverse[r] = group
    unless sorted:  groups take the order of their first places
    y[:, group, :] = x[:, first[group], :]

    x is dense, and y has room for `length` slices. The domain is one item. Scratch memory: see `scratch`.
    """

    sorted: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, results and how many entries each has, sizes; `levels` is how often runs of 1 double to `length`."""
        results = [Parameter(name, DType.I64) for name in ("first", "inverse", "counts")]
        totals = [Parameter(name, DType.I64) for name in ("y_total", "first_total", "inverse_total", "counts_total")]
        sizes = [Parameter(name) for name in ("outer", "length", "inner", "levels")]
        return (Parameter("x", self.dtype), Parameter("y", self.dtype), *results, *totals, *sizes)

    @staticmethod
    def scratch(length: int) -> int:
        """Bytes of scratch memory: two orders, and a group for each of two."""
        return 8 * 3 * length

    def emit(self, k: Builder) -> None:
        """See the class."""
        length, memory = k.size("length"), k.workspace(DType.I64)
        here, there, groups = memory, memory + length, memory + length * 2
        with k.loop(length) as at:
            k.store(number(k, at), here + at)
        width: list[Int | Ptr] = [k.index(1), here, there]
        with k.loop(k.size("levels"), moving=width):
            run, source, target = width
            assert isinstance(run, Int)
            assert isinstance(source, Ptr)
            assert isinstance(target, Ptr)
            self._merge(k, source, target, run)
            width[:] = run * 2, target, source
        final = k.pick_pointer((k.size("levels") % 2).equals(0), here, there)
        total = self._group(k, final)
        if not self.sorted:
            other = k.pick_pointer((k.size("levels") % 2).equals(0), there, here)
            self._by_place(k, total, groups, other)
        self._gather(k, total)
        for name in ("y", "first", "counts"):
            k.store(number(k, total), k.pointer(f"{name}_total"))
        k.store(number(k, length), k.pointer("inverse_total"))

    def _compare(self, k: Builder, a: Val, b: Val) -> Val:
        """-1, 0 or 1: how slices a and b are ordered, by their first elements that differ."""
        found = [k.const(0, DType.I64)]
        inner, length = k.size("inner"), k.size("length")
        with k.loop(k.size("outer"), carry=found) as o, k.loop(inner, carry=found) as i:
            base = k.pointer("x") + (o * length * inner + i)
            left, right = (ordered(k, k.load(base + Int(k, at.ir) * inner)) for at in (a, b))
            sign = k.cast(right < left, DType.I64) - k.cast(left < right, DType.I64)
            found[0] = k.select(found[0].compare("==", k.const(0, DType.I64)), sign, found[0])
        return found[0]

    def _merge(self, k: Builder, source: Ptr, target: Ptr, run: Int) -> None:
        """Sorted runs of a length, two by two, into runs of twice that."""
        length = k.size("length")
        with k.loop(length, step=run * 2) as start:
            middle, stop = k.min(start + run, length), k.min(start + run * 2, length)
            heads = [number(k, start), number(k, middle)]
            with k.loop(stop, start=start, carry=heads) as at:
                left, right = (Int(k, head.ir) for head in heads)
                safe = [k.load(source + k.min(place, length - 1)) for place in (left, right)]
                later = self._compare(k, safe[0], safe[1]) > k.const(0, DType.I64)
                take_right = (left >= middle) | ((right < stop) & later)
                k.store(k.select(take_right, safe[1], safe[0]), target + at)
                moved = k.cast(take_right, DType.I64)
                heads[:] = [heads[0] + (k.const(1, DType.I64) - moved), heads[1] + moved]

    def _group(self, k: Builder, order: Ptr) -> Int:
        """Number the groups of equal slices in sorted order; how many there are."""
        first, inverse, counts = (k.pointer(name) for name in ("first", "inverse", "counts"))
        one, found = k.const(1, DType.I64), [k.const(0, DType.I64)]
        with k.loop(k.size("length"), carry=found) as at:
            own, before = k.load(order + at), k.load(order + k.max(at - 1, 0))
            fresh = at.equals(0) | self._compare(k, own, before).compare("!=", k.const(0, DType.I64))
            found[0] = found[0] + k.cast(fresh, DType.I64)
            group = Int(k, (found[0] - one).ir)
            with k.when(fresh):
                k.store(own, first + group)
                k.store(k.const(0, DType.I64), counts + group)
            k.store(k.load(counts + group) + one, counts + group)
            k.store(number(k, group), inverse + Int(k, own.ir))
        return Int(k, found[0].ir)

    def _by_place(self, k: Builder, total: Int, groups: Ptr, spare: Ptr) -> None:
        """Number the groups by their first places instead: a slice that is its group's first gets the next number."""
        first, inverse, counts = (k.pointer(name) for name in ("first", "inverse", "counts"))
        found = [k.const(0, DType.I64)]
        with k.loop(total) as group:
            k.store(k.load(counts + group), spare + group)
        with k.loop(k.size("length"), carry=found) as at:
            old = k.load_index(inverse + at)
            fresh = k.load_index(first + old).equals(at)
            with k.when(fresh):
                k.store(found[0], groups + old)
            found[0] = found[0] + k.cast(fresh, DType.I64)
        with k.loop(total) as group:
            k.store(k.load(spare + group), counts + k.load_index(groups + group))
        with k.loop(k.size("length")) as at:
            k.store(k.load(groups + k.load_index(inverse + at)), inverse + at)
        with k.loop(total) as group:
            k.store(k.load(first + group), spare + group)
        with k.loop(total) as group:
            k.store(k.load(spare + group), first + k.load_index(groups + group))

    def _gather(self, k: Builder, total: Int) -> None:
        inner, length = k.size("inner"), k.size("length")
        with k.loop(k.size("outer")) as o, k.loop(total) as group, k.loop(inner) as i:
            place = k.load_index(k.pointer("first") + group)
            base = o * length
            k.store(
                k.load(k.pointer("x") + ((base + place) * inner + i)), k.pointer("y") + ((base + group) * inner + i)
            )
