"""Selection by order: the largest elements of rows, where the extremes of an axis stand."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import maximum, minimum
from sardonyx.compiler.kernels.reduce import neutral
from sardonyx.compiler.program import Kernel

_BYTES = 256
"""Values of a byte."""
_BUCKETS = 1 << 11
"""For the first sorting into coarse buckets, by the highest bits."""
_SIGNED = {1: DType.I8, 2: DType.I16, 4: DType.I32, 8: DType.I64}


def ordered(k: Builder, value: Val, *, descending: bool = False) -> Val:
    """Signed integers of the same size in the order of the values (or the other way round), equal where they are.

    NaN counts as larger than infinity.
    """
    kind, lanes = _SIGNED[value.dtype.size], value.lanes
    bits = 8 * value.dtype.size
    if value.dtype.is_float:
        number = value + k.const(0.0, value.dtype, lanes)  # makes a zero of minus zero
        raw = k.bits(number, kind)
        sign = Val(k, k.ir.ashr(raw.ir, k.const(bits - 1, kind, lanes).ir), kind, lanes)
        raw = raw ^ (sign & k.const((1 << (bits - 1)) - 1, kind, lanes))
        largest = k.const((1 << (bits - 1)) - 1, kind, lanes)
        raw = k.select(value.compare("!=", value), largest, raw)
    elif value.dtype.is_signed:
        raw = value
    else:
        raw = k.cast(value, kind) ^ k.const(-(1 << (bits - 1)), kind, lanes)
    return raw ^ k.const(-1, kind, lanes) if descending else raw


@dataclass(frozen=True)
class Heap:
    """A binary heap in scratch memory: pairs of a key and a tag, both int64, the first pair on top.

    A pair comes before another if its key is smaller or, of equal keys, its tag larger. `levels` is the height of the
    largest heap there can be.
    """

    k: Builder
    memory: Ptr
    levels: Int

    def key(self, at: Int | int) -> Val:
        """The key at a place."""
        return self.k.load(self.memory + self.k.index(at) * 2)

    def tag(self, at: Int | int) -> Val:
        """The tag at a place."""
        return self.k.load(self.memory + (self.k.index(at) * 2 + 1))

    def put(self, at: Int | int, key: Val, tag: Val) -> None:
        """Write a pair, wherever it belongs."""
        self.k.store(key, self.memory + self.k.index(at) * 2)
        self.k.store(tag, self.memory + (self.k.index(at) * 2 + 1))

    def build(self, size: Int) -> None:
        """Make a heap of `size` pairs in any order (Floyd)."""
        half = size // 2
        with self.k.loop(half) as done:
            at = half - 1 - done
            self.sift(at, size, self.key(at), self.tag(at))

    def pop(self, size: Int) -> None:
        """Take the first of `size` > 0 pairs away."""
        last = size - 1
        key, tag = self.key(last), self.tag(last)
        with self.k.when(last > 0):
            self.sift(self.k.index(0), last, key, tag)

    def sift(self, start: Int, size: Int, key: Val, tag: Val) -> None:
        """Put a pair in place of the one at `start`, and move it down to where it belongs, in a heap of `size` > 0."""
        k = self.k
        hole = [Val(k, start.ir, DType.I64, 1)]
        with k.loop(self.levels, carry=hole):
            at = Int(k, hole[0].ir)
            left = at * 2 + 1
            one, two = k.min(left, size - 1), k.min(left + 1, size - 1)
            second = self._before(self.key(two), self.tag(two), self.key(one), self.tag(one))
            child = k.pick(second, two, one)
            child_key, child_tag = self.key(child), self.tag(child)
            rises = (left < size) & self._before(child_key, child_tag, key, tag)
            with k.when(rises):
                self.put(at, child_key, child_tag)
            hole[0] = Val(k, k.pick(rises, child, at).ir, DType.I64, 1)
        self.put(Int(k, hole[0].ir), key, tag)

    def _before(self, key: Val, tag: Val, other_key: Val, other_tag: Val) -> Val:
        return (key < other_key) | (key.compare("==", other_key) & (tag > other_tag))


@dataclass(frozen=True)
class TopK(Kernel):
    """The `count` largest (or smallest) elements of contiguous rows, the first of equal ones first, and their indices.

    for row in domain:  heap of the first `count` elements, the least on top
        for vectors of the rest with an element larger than that:  those elements take its place
        values[row], indices[row] = the heap's elements, from the back

    Scratch memory: 16 bytes for each of `count`.
    """

    largest: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, values, indices, counts and the strides of rows."""
        tensors = (Parameter("x", self.dtype), Parameter("y", self.dtype), Parameter("indices", DType.I64))
        names = ("length", "count", "levels", "x_row", "y_row")
        return (*tensors, *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, count, length = k.target.lanes(self.dtype), k.size("count"), k.size("length")
        heap = Heap(k, k.workspace(DType.I64), k.size("levels"))
        whole = count + (length - count) // lanes * lanes
        with k.loop(k.end, start=k.begin) as row:
            source = k.pointer("x") + row * k.size("x_row")
            target = row * k.size("y_row")

            def key(at: Int, width: int = 1) -> Val:
                return ordered(k, k.load(source + at, width), descending=not self.largest)

            def offer(at: Int) -> None:
                candidate = k.cast(key(at), DType.I64)
                with k.when(candidate > heap.key(0)):
                    heap.sift(k.index(0), count, candidate, number(k, at))

            with k.loop(count) as at:
                heap.put(at, k.cast(key(at), DType.I64), number(k, at))
            heap.build(count)
            with k.loop(whole, start=count, step=lanes) as at:
                keys = key(at, lanes)
                least = k.cast(heap.key(0), keys.dtype)
                with k.when(k.any(keys > k.broadcast(least, lanes))), k.loop(lanes) as lane:
                    offer(at + lane)
            with k.loop(length, start=whole) as at:
                offer(at)
            with k.loop(count) as done:
                last, index = count - 1 - done, heap.tag(0)
                k.store(k.load(source + Int(k, index.ir)), k.pointer("y") + (target + last))
                k.store(index, k.pointer("indices") + (target + last))
                heap.pop(last + 1)


@dataclass(frozen=True)
class SortRows(Kernel):
    """What `TopK` computes, for when much of a row is wanted.

    for row in domain:  buckets[highest bits of a key] = how many keys have them
        pairs of key and index, of the buckets that hold the first `count` keys, to scratch memory
        for each byte, the lowest first:  places[b] = how many keys have a lower byte;  each pair to places[b]++
        values[row], indices[row] = the first `count` pairs

    That is a radix sort, which keeps the order of equal ones. Scratch memory: see `scratch`.
    """

    largest: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, values, indices, counts and the strides of rows."""
        tensors = (Parameter("x", self.dtype), Parameter("y", self.dtype), Parameter("indices", DType.I64))
        return (*tensors, *(Parameter(name) for name in ("length", "count", "x_row", "y_row")))

    @staticmethod
    def scratch(length: int) -> int:
        """Bytes of scratch memory: buckets or places, and two lists of pairs."""
        return 8 * (_BUCKETS + 4 * (length + 1))

    def emit(self, k: Builder) -> None:
        """See the class."""
        places, length = k.workspace(DType.I64), k.size("length")
        with k.loop(k.end, start=k.begin) as row:
            source, target = k.pointer("x") + row * k.size("x_row"), row * k.size("y_row")
            here, there = places + _BUCKETS, places + ((length + 1) * 2 + _BUCKETS)
            pairs = self._candidates(k, source, places, here)
            for byte in range(self.dtype.size):
                _order(k, places, here, there, pairs, byte)
                here, there = there, here
            with k.loop(k.size("count")) as at:
                index = k.load(here + (at * 2 + 1))
                k.store(k.load(source + Int(k, index.ir)), k.pointer("y") + (target + at))
                k.store(index, k.pointer("indices") + (target + at))

    def _candidates(self, k: Builder, source: Ptr, buckets: Ptr, here: Ptr) -> Int:
        """Write the pairs that can be among the first `count`; how many there are."""
        bits, length = 8 * self.dtype.size, k.size("length")
        signed = _SIGNED[self.dtype.size]
        shift = max(0, bits - _BUCKETS.bit_length() + 1)
        one, none = k.const(1, DType.I64), k.const(0, DType.I64)

        def key(at: Int) -> Val:
            least_first = ordered(k, k.load(source + at), descending=self.largest)
            from_zero = least_first ^ k.const(-(1 << (bits - 1)), signed)
            return k.cast(k.cast(from_zero, DType(f"u{signed.value}")), DType.I64)

        with k.loop(_BUCKETS) as bucket:
            k.store(none, buckets + bucket)
        with k.loop(length) as at:
            counter = buckets + Int(k, _shifted(k, key(at), shift).ir)
            k.store(k.load(counter) + one, counter)
        below = [none, none]
        with k.loop(_BUCKETS, carry=below) as bucket:
            total = below[0] + k.load(buckets + bucket)
            below[:] = total, below[1] + k.cast(total < number(k, k.size("count")), DType.I64)
        last, found = below[1], [none]
        with k.loop(length, carry=found) as at:
            value, slot = key(at), here + Int(k, found[0].ir) * 2
            k.store(value, slot)
            k.store(number(k, at), slot + 1)
            found[0] = found[0] + k.cast(_shifted(k, value, shift).compare("<=", last), DType.I64)
        return Int(k, found[0].ir)


def _shifted(k: Builder, value: Val, bits: int) -> Val:
    return Val(k, k.ir.lshr(value.ir, k.const(bits, DType.I64).ir), DType.I64, 1)


def _order(k: Builder, places: Ptr, here: Ptr, there: Ptr, pairs: Int, byte: int) -> None:
    """Move pairs from `here` to `there`, in the order of one byte of their keys and else as they were."""
    one, none = k.const(1, DType.I64), k.const(0, DType.I64)

    def place(at: Int) -> Ptr:
        value = _shifted(k, k.load(here + at * 2), 8 * byte) & k.const(_BYTES - 1, DType.I64)
        return places + Int(k, value.ir)

    with k.loop(_BYTES) as value:
        k.store(none, places + value)
    with k.loop(pairs) as at:
        counter = place(at)
        k.store(k.load(counter) + one, counter)
    before = [none]
    with k.loop(_BYTES, carry=before) as value:
        count = k.load(places + value)
        k.store(before[0], places + value)
        before[0] = before[0] + count
    with k.loop(pairs) as at:
        counter = place(at)
        to = k.load_index(counter)
        k.store(number(k, to + 1), counter)
        for part in range(2):
            k.store(k.load(here + (at * 2 + part)), there + (to * 2 + part))


def number(k: Builder, index: Int) -> Val:
    """An index as data."""
    return Val(k, index.ir, DType.I64, 1)


@dataclass(frozen=True)
class ArgReduce(Kernel):
    """y[o, i] = the first (or last) r at which x[o, r, i] is largest (or smallest); NaN counts as the extreme.

    `along` True: r is contiguous and i has one value; lanes are combined at the end. Else i is contiguous, a vector of
    it an item.
    """

    largest: bool
    last: bool
    along: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, counts and strides."""
        names = ("length", "columns", "column_blocks", "x_outer", "x_step", "y_outer")
        return (Parameter("x", self.dtype), Parameter("y", DType.I64), *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, length = k.target.lanes(DType.F32), k.size("length")
        with k.loop(k.end, start=k.begin) as item:
            outer, column = item // k.size("column_blocks"), (item % k.size("column_blocks")) * lanes
            source = k.pointer("x") + (outer * k.size("x_outer") + column)
            target = k.pointer("y") + (outer * k.size("y_outer") + column)

            def across(at: Int, width: int) -> None:
                acc = self._start(k, width)
                with k.loop(length, carry=acc) as r:
                    value = k.load(source + (at + r * k.size("x_step")), width)
                    acc[:] = self._take(k, acc, value, k.broadcast(number(k, r), width))
                k.store(acc[1], target + at)

            def tail() -> None:
                with k.loop(k.size("columns") - column) as at:
                    across(at, 1)

            if self.along:
                self._along(k, source, target)
            else:
                k.either(column + lanes <= k.size("columns"), lambda: across(k.index(0), lanes), tail)

    def _along(self, k: Builder, source: Ptr, target: Ptr) -> None:
        lanes, length = k.target.lanes(DType.F32), k.size("length")
        whole = length // lanes * lanes
        acc = self._start(k, lanes)
        iota = k.vector([k.const(lane, DType.I64) for lane in range(lanes)])
        with k.loop(whole, step=lanes, carry=acc) as at:
            places = k.broadcast(number(k, at), lanes) + iota
            acc[:] = self._take(k, acc, k.load(source + at, lanes), places)
        best, where = acc
        join = maximum if self.largest else minimum
        extreme = k.broadcast(k.reduce(best, lambda a, b: join(k, a, b)), lanes)
        same = best.compare("==", extreme)
        if self.dtype.is_float:
            same = same | (best.compare("!=", best) & extreme.compare("!=", extreme))
        beyond = k.const(0 if self.last else (1 << 62), DType.I64, lanes)
        found = k.select(same, where, beyond)
        pick = maximum if self.last else minimum
        rest = [k.lane(extreme, 0), k.reduce(found, lambda a, b: pick(k, a, b))]
        with k.loop(length, start=whole, carry=rest) as at:
            rest[:] = self._take(k, rest, k.load(source + at), number(k, at))
        k.store(rest[1], target)

    def _start(self, k: Builder, lanes: int) -> list[Val]:
        """Nothing is seen yet. Where all elements are as extreme as this, index 0 is right, or the last one taken."""
        start = neutral("max" if self.largest else "min", self.dtype)
        return [k.const(start, self.dtype, lanes), k.const(0, DType.I64, lanes)]

    def _take(self, k: Builder, acc: list[Val], value: Val, where: Val) -> list[Val]:
        """The better of what is held and a later element."""
        best = acc[0]
        better = value.compare({True: ">", False: "<"}[self.largest] + ("=" if self.last else ""), best)
        if self.dtype.is_float:
            undefined = value.compare("!=", value)
            better = better | (undefined if self.last else undefined & best.compare("==", best))
        return [k.select(better, value, best), k.select(better, where, acc[1])]
