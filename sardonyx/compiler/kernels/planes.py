"""Sliding windows over images that lie plane by plane: vectors run along the last axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import prod
from typing import Literal

from sardonyx.compiler.builder import Builder, Inside, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import Expr, maximum
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.reduce import neutral
from sardonyx.compiler.kernels.sweep import Range, row_at, sweep_parameters, taps_between
from sardonyx.compiler.program import Kernel

Combine = Literal["max", "mean", "sum", "weighed"]


@dataclass(frozen=True)
class _Line:
    """A row of taps: where column 0 is, or zeros, how far from one column to the next, and the weights."""

    start: Ptr
    step: Int
    factors: tuple[Val, ...]


@dataclass(frozen=True)
class _Tile:
    """Neighbouring pixels of a row of a plane.

    The first one's window begins at `origin`, in column `column`; with weights it has `lines`. `outer` are the other
    axes' taps inside the input, of which `counted` count for a mean. At an edge `inside` says which columns, from that
    on, are in the input, and `counts` which count for a mean; then only the first `count` pixels exist.
    """

    origin: Ptr
    column: Int
    outer: Sequence[Range]
    counted: Int
    lines: Sequence[_Line]
    count: Int
    inside: Inside | None
    counts: Inside | None


@dataclass(frozen=True)
class PlaneWindows(Kernel):
    """y[p, m] = epilogue(max, mean or sum over the taps t inside the input of before(x[p, window(m) + t])).

    for row of a plane in domain, for vector of pixels in row:  acc = the least number, or 0
        for t in taps:  acc = max(acc, before(x[p, window + t])), or + for mean and sum, or + x * w[channel, t]
        y[p, tile] = epilogue(acc)

    Rows of `taps` taps `dilation` apart, those of other axes apart if `dilated`, pixels `stride` apart. With weights
    the other axes have `rows` taps, all unrolled. The mean divides as `Pool` does. Of a tile with windows that leave
    the input nothing outside is read; the last tile of a row is moved back to end with it, or is the only one.
    """

    combine: Combine
    before: Expr
    taps: int
    stride: int
    dilation: int
    dilated: bool
    rows: tuple[int, ...]
    spatial: int
    epilogue: Epilogue

    @property
    def dtype(self) -> DType:
        """Of the input."""
        return self.before.leaves[0]

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y and its image's stride, rows of a plane, what `row_at` needs; weights and zeros, as many as columns that
        a tile sees, or the range in which each axis' taps are counted.
        """
        slots = [Parameter("x", self.dtype), Parameter("y", self.epilogue.expr.dtype)]
        slots += [Parameter("y_image"), Parameter("rows")]
        if self.combine == "weighed":
            slots += [Parameter("w", self.dtype), Parameter("zeros", self.dtype)]
        if self.combine == "mean":
            slots += [Parameter(f"{name}{axis}") for axis in range(self.spatial) for name in ("low", "high")]
        return (*slots, *sweep_parameters(self.spatial), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        last, wide = self.spatial - 1, k.target.lanes(self.dtype)
        out, low, high = k.size(f"out{last}"), k.size("inner_low"), k.size("inner_high")
        with k.loop(k.end, start=k.begin) as row:
            plane, line = row // k.size("rows"), row % k.size("rows")
            image, channel = plane // k.size("channels"), plane % k.size("channels")
            base, corners, outer = row_at(k, k.pointer("x"), self.spatial, row, dilated=self.dilated)
            counted = self._counted(k, corners)
            lines = self._lines(k, base, corners, channel) if self.combine == "weighed" else []
            target = k.pointer("y") + (image * k.size("y_image") + channel * k.size("y_row"))
            operands = self.epilogue.bases(k, image)
            with k.loop(out, step=wide) as at:
                first = k.max(k.min(at, out - wide), 0)
                column = first * self.stride - k.size(f"pad{last}")
                tile = _Tile(base + column, column, outer, counted, lines, out - first, None, None)
                place = (target, operands, channel, line * out + first)
                inside = partial(self._tile, k, tile, place)
                k.either((first >= low) & (first + wide <= high), inside, partial(self._edge, k, tile, place))

    def _edge(self, k: Builder, tile: _Tile, place: tuple[Ptr, Sequence[Ptr], Int, Int]) -> None:
        """A tile of which some columns may lie outside."""
        column, lanes, last = tile.column, k.target.lanes(self.dtype), self.spatial - 1
        reach = self._reach(k)
        inside = k.inside(k.index(0) - column, k.size(f"size{last}") - column, reach, lanes)
        counts = None
        if self.combine == "mean":
            counts = k.inside(k.size(f"low{last}") - column, k.size(f"high{last}") - column, reach, lanes)
        self._tile(k, replace(tile, inside=inside, counts=counts), place)

    def _counted(self, k: Builder, corners: Sequence[Int]) -> Int:
        """How many taps of a row's windows count for a mean, but for the last axis."""
        count = k.index(1)
        if self.combine == "mean":
            for axis, corner in enumerate(corners):
                first, end = taps_between(
                    k, axis, corner, k.size(f"low{axis}"), k.size(f"high{axis}"), dilated=self.dilated
                )
                count = count * (end - first)
        return count

    def _tile(self, k: Builder, tile: _Tile, place: tuple[Ptr, Sequence[Ptr], Int, Int]) -> None:
        result = self._weighed(k, tile) if self.combine == "weighed" else self._pooled(k, tile)
        target, operands, channel, pixel = place

        def store(mask: Val | None = None) -> None:
            k.store(self.epilogue.apply(k, result, operands, channel, pixel, mask), target + pixel, mask)

        if tile.inside is None:
            store()
        else:  # masked stores are slow on some processors
            k.either(tile.count >= result.lanes, store, lambda: store(k.first_lanes(tile.count, result.lanes)))

    def _rows(self, k: Builder, tile: _Tile, acc: list[Val], body: Callable[[Ptr], None]) -> None:
        """Call `body` with the address of each row of taps that is inside the input."""

        def axis_loop(axis: int, here: Ptr) -> None:
            if axis == self.spatial - 1:
                body(here)
                return
            first, until = tile.outer[axis]
            with k.loop(until, start=first, carry=acc) as t:
                axis_loop(axis + 1, here + t * k.size(f"dilation{axis}") * k.size(f"x{axis}"))

        axis_loop(0, tile.origin)

    def _lines(self, k: Builder, base: Ptr, corners: Sequence[Int], channel: Int) -> list[_Line]:
        """What the windows of a row see of each row of the input, zeros of those outside."""
        found, weights = [], k.pointer("w") + channel * (prod(self.rows) * self.taps)
        for number, taps in enumerate(product(*map(range, self.rows))):
            here, inside = base, k.const(True, DType.BOOL)
            for axis, (corner, tap) in enumerate(zip(corners, taps, strict=True)):
                reach = k.size(f"dilation{axis}") * tap
                here = here + reach * k.size(f"x{axis}")
                inside = inside & (corner + reach).within(k.size(f"size{axis}"))
            own = [k.load(weights + (number * self.taps + t)) for t in range(self.taps)]
            factors = tuple(k.broadcast(weight, k.target.lanes(self.dtype)) for weight in own)
            found.append(_Line(k.pick_pointer(inside, here, k.pointer("zeros")), k.pick(inside, 1, 0), factors))
        return found

    def _weighed(self, k: Builder, tile: _Tile) -> Val:
        lanes, sums = k.target.lanes(self.dtype), []
        for line in tile.lines:
            total = k.const(0.0, self.dtype, lanes)
            for t, factor in enumerate(line.factors):
                first = t * self.dilation
                inside = tile.inside.after(first) if tile.inside is not None else None
                here = line.start + tile.column * line.step + first
                total = k.fma(k.load_apart(here, self.stride, lanes, inside), factor, total)
            sums.append(total)
        return self._joined(k, sums)

    def _pooled(self, k: Builder, tile: _Tile) -> Val:
        """Columns first, then the taps of a row."""
        lanes, reach = k.target.lanes(self.dtype), self._reach(k)
        starts = [min(at, reach - lanes) for at in range(0, reach, lanes)]
        places = [range(at, at + lanes) for at in starts]
        masks = [None if tile.inside is None else k.between(each, tile.inside) for each in places]
        nothing = k.const(neutral("max" if self.combine == "max" else "sum", self.dtype), self.dtype, lanes)
        columns = [nothing] * len(starts)

        def row(here: Ptr) -> None:
            for number, (at, mask) in enumerate(zip(starts, masks, strict=True)):
                value = self.before.evaluate(k, [k.load(here + at, lanes, mask)])
                columns[number] = self._join(k, columns[number], value)

        self._rows(k, tile, columns, row)
        pairs = zip(columns, masks, strict=True)
        columns = [column if mask is None else k.select(mask, column, nothing) for column, mask in pairs]
        found = []
        for t in range(self.taps):
            wanted = [lane * self.stride + t * self.dilation for lane in range(lanes)]
            found.append(k.chosen(columns, [at - starts[at // lanes] + at // lanes * lanes for at in wanted]))
        total = self._joined(k, found)
        return total / self._divisors(k, tile) if self.combine == "mean" else total

    def _joined(self, k: Builder, values: list[Val]) -> Val:
        """All of them, with few steps that wait for one another."""
        while len(values) > 1:
            pairs = [self._join(k, a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
            values = pairs + values[2 * len(pairs) :]
        return values[0]

    def _join(self, k: Builder, a: Val, b: Val) -> Val:
        return maximum(k, a, b) if self.combine == "max" else a + b

    def _reach(self, k: Builder) -> int:
        """Columns from the first that a tile sees to the last."""
        return (k.target.lanes(self.dtype) - 1) * self.stride + (self.taps - 1) * self.dilation + 1

    def _divisors(self, k: Builder, tile: _Tile) -> Val:
        """The number of taps that count, for each pixel."""
        lanes = k.target.lanes(self.dtype)
        count = k.const(float(self.taps if tile.counts is None else 0), self.dtype, lanes)
        if tile.counts is not None:
            one, zero = (k.const(value, self.dtype, lanes) for value in (1.0, 0.0))
            for t in range(self.taps):
                counts = k.between([lane * self.stride + t * self.dilation for lane in range(lanes)], tile.counts)
                count = count + k.select(counts, one, zero)
        return count * k.broadcast(self._number(k, tile.counted), lanes)

    def _number(self, k: Builder, index: Int) -> Val:
        return k.cast(Val(k, index.ir, DType.I64, 1), self.dtype)
