"""Sampling images at the places of a grid: GridSample, channels last or plane by plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as combinations

from sardonyx.compiler.builder import I32, Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import maximum, minimum
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.sweep import channel_blocks
from sardonyx.compiler.program import Kernel

_CUBIC_A = -0.75
"""Of the cubic kernel; the standard fixes it."""
_MOST = (1 << 31) - 1
"""An int32."""
PLANE_BLOCK = 512
"""Pixels of an item, in planes."""


@dataclass(frozen=True)
class GridTap:
    """An input coordinate of an axis, int32 and moved inside; its weight; whether it was inside (None: always)."""

    at: Val
    weight: Val
    inside: Val | None


@dataclass(frozen=True)
class GridSample(Kernel):
    """y[n, p, c] = epilogue(sum over the taps around the place grid[n, p] of weight * x[n, tap, c]).

    for pixel (n, p) in domain (for (n, block of p) with `planes`):
        for each axis:  place = grid value from [-1, 1] to pixels;  taps and their weights around it
        for c in vectors:  y[n, p, c] = epilogue(sum over t0, t1, ... of weight0 * weight1 * ... * x[n, t0, t1, ..., c])

    An axis has 1 tap (nearest), 2 (linear) or 4 (cubic). A tap outside the image counts as 0 (`padding` zeros), is
    moved to the edge (border) or mirrored there (reflection). Whatever the grid holds, only the image is read.

    With `planes` x is [n, c, t0, t1, ...] and y [n, c, p]; vectors run along p, their elements gathered. An image must
    then span less than 2 ** 31 elements.
    """

    taps: int
    padding: str
    corners: bool
    spatial: int
    planes: bool
    dtype: DType
    grid: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, grid, y, but for planes as many zeros as channels; counts and strides; each axis' size and stride in x."""
        slots = [Parameter("x", self.dtype), Parameter("grid", self.grid)]
        slots += [] if self.planes else [Parameter("zeros", self.dtype)]
        slots.append(Parameter("y", self.epilogue.expr.dtype))
        own = ("blocks", "x_plane", "y_image") if self.planes else ()
        slots += [Parameter(name) for name in ("channels", "pixels", "x_image", "y_row", *own)]
        slots += [Parameter(f"{name}{axis}") for axis in range(self.spatial) for name in ("size", "x")]
        return (*slots, *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        if self.planes:
            self._emit_planes(k)
            return
        lanes = k.target.lanes(self.dtype)
        operands = self.epilogue.bases(k)
        with k.loop(k.end, start=k.begin) as pixel:
            image = k.pointer("x") + (pixel // k.size("pixels")) * k.size("x_image")
            place = k.pointer("grid") + pixel * self.spatial
            # The grid names the innermost axis first.
            axes = [self._taps(k, axis, k.load(place + (self.spatial - 1 - axis))) for axis in range(self.spatial)]
            reads = [self._read(k, image, taps) for taps in combinations(*axes)]

            def compute(channel: Int, vectors: int, mask: Val | None, reads: Sequence[tuple[Ptr, Val]] = reads) -> None:
                total = k.const(0.0, self.dtype, lanes)
                for base, weight in reads:
                    total = k.fma(k.load(base + channel, lanes, mask), k.broadcast(weight, lanes), total)
                done = self.epilogue.apply(k, total, operands, pixel, channel, mask)
                k.store(done, k.pointer("y") + (pixel * k.size("y_row") + channel), mask)

            channel_blocks(k, 1, lanes, compute)

    def _read(self, k: Builder, image: Ptr, taps: Sequence[GridTap]) -> tuple[Ptr, Val]:
        """Address and weight of one tap on each axis together."""
        address, (_, weight, inside) = image, self._together(k, taps)
        for axis, tap in enumerate(taps):
            address = address + Int(k, k.cast(tap.at, DType.I64).ir) * k.size(f"x{axis}")
        if inside is not None:
            address = k.pick_pointer(inside, address, k.pointer("zeros"))
        return address, weight

    def _emit_planes(self, k: Builder) -> None:
        lanes, pixels = k.target.lanes(self.dtype), k.size("pixels")
        with k.loop(k.end, start=k.begin) as item:
            image, block = item // k.size("blocks"), item % k.size("blocks")
            base = k.pointer("x") + image * k.size("x_image")
            first = block * PLANE_BLOCK
            until = k.min(first + PLANE_BLOCK, pixels)
            whole = first + (until - first) // lanes * lanes
            with k.loop(whole, start=first, step=lanes) as pixel:
                self._pixels(k, base, image, pixel, lanes)
            with k.loop(until, start=whole) as pixel:
                self._pixels(k, base, image, pixel, 1)

    def _pixels(self, k: Builder, base: Ptr, image: Int, pixel: Int, lanes: int) -> None:
        """Neighbouring pixels of all planes of an image."""
        place = k.pointer("grid") + (image * k.size("pixels") + pixel) * self.spatial
        order = reversed(range(self.spatial))
        axes = [self._taps(k, a, k.load_apart(place + at, self.spatial, lanes)) for a, at in enumerate(order)]
        reads = [self._together(k, taps) for taps in combinations(*axes)]
        operands, zero = self.epilogue.bases(k, image), k.const(0.0, self.dtype, lanes)
        target = k.pointer("y") + (image * k.size("y_image") + pixel)
        with k.loop(k.size("channels")) as channel:
            plane, total = base + channel * k.size("x_plane"), zero
            for offset, weight, inside in reads:
                value = k.gather_at(plane, offset)
                total = k.fma(value if inside is None else k.select(inside, value, zero), weight, total)
            done = self.epilogue.apply(k, total, operands, channel, pixel)
            k.store(done, target + channel * k.size("y_row"))

    def _together(self, k: Builder, taps: Sequence[GridTap]) -> tuple[Val, Val, Val | None]:
        """One tap on each axis: their offset in an image (only for planes), weight, and whether they are inside it."""
        weight, inside, offset = taps[0].weight, taps[0].inside, k.const(0, DType.I32, taps[0].at.lanes)
        for tap in taps[1:]:
            weight = weight * tap.weight
            inside = tap.inside if inside is None or tap.inside is None else inside & tap.inside
        for axis, tap in enumerate(taps):
            offset = offset + tap.at * k.broadcast(_narrow(k, k.size(f"x{axis}")), offset.lanes)
        return offset, k.cast(weight, self.dtype), inside

    def _taps(self, k: Builder, axis: int, value: Val) -> list[GridTap]:
        lanes, size = value.lanes, k.broadcast(_narrow(k, k.size(f"size{axis}")), value.lanes)
        length = k.cast(size, self.grid)
        zero, one, half = (k.const(number, self.grid, lanes) for number in (0.0, 1.0, 0.5))
        low, high = (zero, length - one) if self.corners else (-half, length - half)
        place = (value + one) * half * (length - one) if self.corners else ((value + one) * length - one) * half
        if self.taps == 1:
            place = k.intrinsic("llvm.roundeven", place)
        if self.padding == "border" and self.taps < 4:
            # Cubic taps are moved to the edge one by one, as onnxruntime does; onnx.reference moves the place.
            place = minimum(k, maximum(k, place, zero), length - one)
        elif self.padding == "reflection":
            place = _reflected(k, place, low, high)
        base = k.intrinsic("llvm.floor", place)
        nowhere, last = k.const(0, DType.I32, lanes), size - k.const(1, DType.I32, lanes)
        found = []
        for index, weight in enumerate(self._weights(k, place - base)):
            coordinate = base + k.const(index - (self.taps // 2 - 1 if self.taps > 1 else 0), self.grid, lanes)
            if self.padding == "reflection":
                coordinate = _reflected(k, coordinate, low, high)
            at = k.cast(coordinate, DType.I32)
            inside = at.compare(">=", nowhere) & (at < size) if self.padding == "zeros" else None
            found.append(GridTap(maximum(k, minimum(k, at, last), nowhere), weight, inside))
        return found

    def _weights(self, k: Builder, part: Val) -> list[Val]:
        """Of the taps, for a place `part` of the way from one pixel to the next."""
        one = k.const(1.0, self.grid, part.lanes)
        if self.taps == 1:
            return [one]
        if self.taps == 2:
            return [one - part, part]
        return [_cubic(k, distance) for distance in (part + one, part, one - part, one + one - part)]


def _cubic(k: Builder, distance: Val) -> Val:
    """Keys' kernel; which of its two pieces holds follows from the order of the taps, so both are tried by distance."""
    a = k.const(_CUBIC_A, distance.dtype, distance.lanes)
    one, two, three = (k.const(value, distance.dtype, distance.lanes) for value in (1.0, 2.0, 3.0))
    four, five, eight = (k.const(value, distance.dtype, distance.lanes) for value in (4.0, 5.0, 8.0))
    near = ((a + two) * distance - (a + three)) * distance * distance + one
    far = ((a * distance - five * a) * distance + eight * a) * distance - four * a
    return k.select(distance.compare("<=", one), near, far)


def _reflected(k: Builder, value: Val, low: Val, high: Val) -> Val:
    """Mirrored at both borders until it lies between them."""
    span = high - low
    two = k.const(2.0, value.dtype, value.lanes)
    period = span * two
    shifted = value - low
    turned = shifted - k.intrinsic("llvm.floor", shifted / period) * period
    mirrored = k.select(turned > span, period - turned, turned)
    return k.select(_between(value, low, high), value, low + mirrored)


def _between(value: Val, low: Val, high: Val) -> Val:
    return value.compare(">=", low) & value.compare("<=", high)


def _narrow(k: Builder, size: Int) -> Val:
    """As int32, of which the largest stands for all larger numbers."""
    return Val(k, k.ir.trunc(k.min(size, _MOST).ir, I32), DType.I32, 1)
