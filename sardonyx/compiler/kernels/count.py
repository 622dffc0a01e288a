"""Results whose number only a run tells: boxes that do not overlap, places of what is not zero."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import maximum, minimum
from sardonyx.compiler.kernels.select import Heap, number, ordered
from sardonyx.compiler.program import Kernel

_SIDES = ("low0", "low1", "high0", "high1", "area")


@dataclass(frozen=True)
class Suppress(Kernel):
    """For each image and class, the boxes of highest score that overlap none of higher score.

    for (image, class) in domain:  heap of the boxes with score > least, the best on top
        while there is one and fewer than `wanted` are chosen:
            chosen if its intersection over union with each of those chosen is at most `overlap`

    Boxes are four numbers: two opposite corners or, with `centred`, centre, width and height. The box of highest score
    comes first, of equal scores the first; a score of NaN is never chosen. Scratch memory: see `scratch`.
    """

    centred: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """Boxes [image, n, 4], scores [image, class, n], thresholds and how many are wanted of a class; the indices of
        boxes [item, most] and counts [item]. No more than `most` are chosen.
        """
        given = [Parameter(name, self.dtype) for name in ("boxes", "scores", "overlap", "least")]
        given.append(Parameter("wanted", DType.I64))
        results = [Parameter("y", DType.I64), Parameter("counts", DType.I64)]
        return (*given, *results, *(Parameter(name) for name in ("n", "classes", "most", "levels")))

    def scratch(self, n: int, most: int) -> int:
        """Bytes of scratch memory: pairs of key and tag, and the sides of the chosen boxes."""
        return 16 * (n + 1) + len(_SIDES) * self.dtype.size * most

    def emit(self, k: Builder) -> None:
        """See the class."""
        n, most = k.size("n"), k.size("most")
        heap = Heap(k, k.workspace(DType.I64), k.size("levels"))
        sides = Ptr(k, (heap.memory + (n + 1) * 2).ir, self.dtype)
        least, overlap = k.load(k.pointer("least")), k.load(k.pointer("overlap"))
        wanted = k.min(k.load_index(k.pointer("wanted")), most)
        with k.loop(k.end, start=k.begin) as item:
            boxes = k.pointer("boxes") + item // k.size("classes") * n * 4
            scores, chosen = k.pointer("scores") + item * n, k.pointer("counts") + item
            size = self._candidates(k, heap, scores, least)
            heap.build(size)
            k.store(k.const(0, DType.I64), chosen)
            with k.loop(size) as done:
                count = k.load_index(chosen)
                with k.when(count < wanted):
                    index = Int(k, (k.const(-1, DType.I64) - heap.tag(0)).ir)
                    heap.pop(size - done)
                    box = self._sides(k, boxes + index * 4)
                    overlaps = self._overlaps(k, box, sides, count, overlap)
                    with k.when(overlaps ^ k.const(True, DType.BOOL)):
                        for side, value in enumerate(box):
                            k.store(value, sides + (most * side + count))
                        k.store(number(k, index), k.pointer("y") + (item * most + count))
                        k.store(number(k, count + 1), chosen)

    def _candidates(self, k: Builder, heap: Heap, scores: Ptr, least: Val) -> Int:
        """Put the boxes with a score above `least` into the heap's memory; how many there are.

        Few are, as a rule: vectors without one are passed over.
        """
        lanes, n = k.target.lanes(self.dtype), k.size("n")
        limit, whole = k.broadcast(least, lanes), n // lanes * lanes
        found = [k.const(0, DType.I64)]

        def put(start: Int, stop: Int) -> None:
            with k.loop(stop, start=start, carry=found) as at:
                score, here = k.load(scores + at), Int(k, found[0].ir)
                key = k.cast(ordered(k, score, descending=True), DType.I64)
                heap.put(here, key, k.const(-1, DType.I64) - number(k, at))
                found[0] = found[0] + k.cast(score > least, DType.I64)

        with k.loop(whole, step=lanes, carry=found) as first:
            good = k.any(k.load(scores + first, lanes) > limit)
            put(first, k.pick(good, first + lanes, first))
        put(whole, n)
        return Int(k, found[0].ir)

    def _sides(self, k: Builder, box: Ptr) -> list[Val]:
        """The smaller and the larger coordinate on each axis, and the area, as onnxruntime rounds it."""
        a, b, c, d = (k.load(box + index) for index in range(4))
        if self.centred:
            half = k.const(0.5, self.dtype)
            low, high = (a - c * half, b - d * half), (a + c * half, b + d * half)
        else:
            low = (minimum(k, a, c), minimum(k, b, d))
            high = (maximum(k, a, c), maximum(k, b, d))
        return [*low, *high, (high[0] - low[0]) * (high[1] - low[1])]

    def _overlaps(self, k: Builder, box: list[Val], sides: Ptr, count: Int, overlap: Val) -> Val:
        """One bit: whether the box overlaps one of the `count` chosen; boxes without area overlap none."""
        lanes = k.target.lanes(self.dtype)
        low0, low1, high0, high1, area = (k.broadcast(value, lanes) for value in box)
        zero, limit = k.const(0.0, self.dtype, lanes), k.broadcast(overlap, lanes)
        hit = [k.const(False, DType.BOOL, lanes)]
        with k.loop(count, step=lanes, carry=hit) as at:
            mask = k.first_lanes(count - at, lanes)
            other = [k.load(sides + (k.size("most") * side + at), lanes, mask) for side in range(len(_SIDES))]
            width = minimum(k, high0, other[2]) - maximum(k, low0, other[0])
            height = minimum(k, high1, other[3]) - maximum(k, low1, other[1])
            shared = width * height
            union = area + other[4] - shared
            both = (width > zero) & (height > zero) & (area > zero) & (other[4] > zero) & (union > zero)
            hit[0] = hit[0] | (both & mask & (shared / union > limit))
        return k.any(hit[0])


@dataclass(frozen=True)
class ListChosen(Kernel):
    """y[r] = (image, class, box) for the `counts[item]` boxes of each item in turn; total = how many rows that makes.

    An item is an image and a class; `chosen` holds its boxes, `most` elements an item. The domain is one item.
    """

    def parameters(self) -> tuple[Parameter, ...]:
        """What `Suppress` makes, the results and counts."""
        tensors = [Parameter(name, DType.I64) for name in ("chosen", "counts", "y", "total")]
        return (*tensors, *(Parameter(name) for name in ("items", "classes", "most")))

    def emit(self, k: Builder) -> None:
        """See the class."""
        rows = [k.const(0, DType.I64)]
        with k.loop(k.size("items"), carry=rows) as item:
            count, base = k.load_index(k.pointer("counts") + item), Int(k, rows[0].ir)
            with k.loop(count) as at:
                row = k.pointer("y") + (base + at) * 3
                box = k.load(k.pointer("chosen") + (item * k.size("most") + at))
                image, kind = item // k.size("classes"), item % k.size("classes")
                for column, value in enumerate((number(k, image), number(k, kind), box)):
                    k.store(value, row + column)
            rows[0] = rows[0] + number(k, count)
        k.store(rows[0], k.pointer("total"))


@dataclass(frozen=True)
class CountNonZero(Kernel):
    """counts[b] = how many elements of block b of x are not zero; x is dense, a block is `block` elements."""

    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, counts and sizes."""
        tensors = (Parameter("x", self.dtype), Parameter("counts", DType.I64))
        return (*tensors, Parameter("length"), Parameter("block"))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(DType.F32)
        with k.loop(k.end, start=k.begin) as item:
            first = item * k.size("block")
            source, length = k.pointer("x") + first, k.min(k.size("block"), k.size("length") - first)
            whole = length // lanes * lanes
            acc = [k.const(0, DType.I64, lanes)]
            with k.loop(whole, step=lanes, carry=acc) as at:
                acc[0] = acc[0] + k.cast(_not_zero(k, k.load(source + at, lanes)), DType.I64)
            total = [k.reduce(acc[0], lambda a, b: a + b)]
            with k.loop(length, start=whole, carry=total) as at:
                total[0] = total[0] + k.cast(_not_zero(k, k.load(source + at)), DType.I64)
            k.store(total[0], k.pointer("counts") + item)


@dataclass(frozen=True)
class NonZero(Kernel):
    """y[:, j] = the index of the j-th element of x that is not zero, in row-major order; total = how many there are.

    for block b in domain:  j = sum of counts[:b];  for elements that are not zero:  y[:, j] = index,  j = j + 1

    x and `counts` are as for `CountNonZero`; y has `length` columns.
    """

    rank: int
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, counts, the results, sizes, and those of the dims."""
        tensors = (Parameter("x", self.dtype), *(Parameter(name, DType.I64) for name in ("counts", "y", "total")))
        names = ("length", "block", "blocks", *(f"size{axis}" for axis in range(self.rank)))
        return (*tensors, *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        with k.loop(k.end, start=k.begin) as item:
            first = item * k.size("block")
            found = [k.const(0, DType.I64)]
            with k.loop(item, carry=found) as before:
                found[0] = found[0] + k.load(k.pointer("counts") + before)
            with k.loop(k.min(first + k.size("block"), k.size("length")), start=first, carry=found) as at:
                column, present = Int(k, found[0].ir), _not_zero(k, k.load(k.pointer("x") + at))
                with k.when(present):
                    rest = at
                    for axis in reversed(range(self.rank)):
                        index, rest = rest % k.size(f"size{axis}"), rest // k.size(f"size{axis}")
                        k.store(number(k, index), k.pointer("y") + (k.size("length") * axis + column))
                found[0] = found[0] + k.cast(present, DType.I64)
            with k.when((item + 1).equals(k.size("blocks"))):
                k.store(found[0], k.pointer("total"))


def _not_zero(k: Builder, value: Val) -> Val:
    return value.compare("!=", k.const(0, value.dtype, value.lanes))
