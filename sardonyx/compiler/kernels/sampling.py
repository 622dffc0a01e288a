"""Sampling regions of images that are known at run time: RoiAlign, channels last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as combinations

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import maximum, minimum
from sardonyx.compiler.kernels.sweep import channel_blocks
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class Tap:
    """An input coordinate of an axis: its offset in elements, its weight, whether it is inside (None: always)."""

    offset: Int
    weight: Val
    inside: Val | None


@dataclass(frozen=True)
class RoiAlign(Kernel):
    """y[r, ph, pw, c] = mean or maximum over a grid of places in a bin of region r, each interpolated linearly.

    for (r, ph, pw) in domain:  the region's corner, its bin's size, how many places a bin has on each axis
        for c in vectors:  acc = 0
            for iy, ix:  acc += w00 * x[y0, x0, c] + w01 * x[y0, x1, c] + w10 * x[y1, x0, c] + w11 * x[y1, x1, c]
            y = acc / number of places

    The maximum is over the four weighted pixels of all places, as onnxruntime and onnx.reference have it. Places off
    the image count as 0. A region of an image that is not there gives NaN.
    """

    largest: bool
    half_pixel: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, rois [r, 4], images [r], scale (one number), y; places a bin has (0: by its size), counts and strides."""
        slots = [Parameter(name, self.dtype) for name in ("x", "rois", "scale", "zeros", "y")]
        slots.append(Parameter("images", DType.I64))
        names = ("channels", "batch", "places", "x_image", "y_row", "size0", "size1", "x0", "x1", "out0", "out1")
        return (*slots, *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        with k.loop(k.end, start=k.begin) as item:
            position = [item // k.size("out1") % k.size("out0"), item % k.size("out1")]
            region = item // k.size("out1") // k.size("out0")
            number = k.load_index(k.pointer("images") + region)
            there = number.within(k.size("batch"))
            image = k.pointer("x") + k.pick(there, number, 0) * k.size("x_image")
            # Regions are x0, y0, x1, y1.
            axes = [_Bin.of(k, self, region, axis, position[axis]) for axis in range(2)]
            total = axes[0].count * axes[1].count
            whole = (axes[0].high - axes[0].low) * (axes[1].high - axes[1].low)
            missed = k.cast(Val(k, whole.ir, DType.I64, 1), self.dtype).compare("!=", total)
            start = k.const(float("-inf") if self.largest else 0.0, self.dtype)
            if self.largest:  # places that were skipped are 0, and so is the maximum of none
                zero = k.const(0.0, self.dtype)
                start = k.select(missed | total.compare("==", zero), zero, start)
            nothing = k.const(float("nan"), self.dtype)
            start = k.select(there, start, nothing)
            divisor = maximum(k, total, k.const(1.0, self.dtype))

            def compute(
                channel: Int,
                vectors: int,
                mask: Val | None,
                item: Int = item,
                image: Ptr = image,
                axes: Sequence[_Bin] = axes,
                start: Val = start,
                divisor: Val = divisor,
            ) -> None:
                acc = [k.broadcast(start, lanes) for _ in range(vectors)]
                self._places(k, image, axes, channel, acc, mask)
                base = k.pointer("y") + (item * k.size("y_row") + channel)
                for v, value in enumerate(acc):
                    done = value if self.largest else value / k.broadcast(divisor, lanes)
                    k.store(done, base + v * lanes, mask)

            channel_blocks(k, 4, lanes, compute)

    def _places(
        self, k: Builder, image: Ptr, axes: Sequence[_Bin], channel: Int, acc: list[Val], mask: Val | None
    ) -> None:
        lanes = acc[0].lanes
        with k.loop(axes[0].high, start=axes[0].low, carry=acc) as iy:
            down = axes[0].taps(k, iy)
            with k.loop(axes[1].high, start=axes[1].low, carry=acc) as ix:
                reads = []
                for a, b in combinations(down, axes[1].taps(k, ix)):
                    assert a.inside is not None
                    assert b.inside is not None
                    address = k.pick_pointer(a.inside & b.inside, image + a.offset + b.offset, k.pointer("zeros"))
                    reads.append((address + channel, k.broadcast(a.weight * b.weight, lanes)))
                for v in range(len(acc)):
                    for address, weight in reads:
                        value = k.load(address + v * lanes, lanes, mask)
                        acc[v] = maximum(k, acc[v], value * weight) if self.largest else k.fma(value, weight, acc[v])


@dataclass(frozen=True)
class _Bin:
    """One axis of a region's bin: place i, for i in [low, high) of `count`, lies at start + (i + 0.5) * step."""

    axis: int
    start: Val
    step: Val
    count: Val
    low: Int
    high: Int

    @classmethod
    def of(cls, k: Builder, kernel: RoiAlign, region: Int, axis: int, position: Int) -> _Bin:
        """Of the region's bin at `position`. Places off the image are left out of [low, high), but for a few."""
        dtype = kernel.dtype

        def number(value: Int) -> Val:
            return k.cast(Val(k, value.ir, DType.I64, 1), dtype)

        zero, one, half = (k.const(value, dtype) for value in (0.0, 1.0, 0.5))
        corner = k.pointer("rois") + (region * 4 + (1 - axis))
        scale, shift = k.load(k.pointer("scale")), half if kernel.half_pixel else zero
        first, last = k.load(corner) * scale - shift, k.load(corner + 2) * scale - shift
        length = last - first if kernel.half_pixel else maximum(k, last - first, one)
        span = length / number(k.size(f"out{axis}"))
        asked = k.size("places")
        adaptive = k.intrinsic("llvm.ceil", span)
        count = maximum(k, k.select(asked > 0, number(asked), adaptive), zero)
        step = span / count
        start = first + number(position) * span
        bound, two = k.cast(count, DType.I64), one + one
        below = k.intrinsic("llvm.floor", (-one - start) / step - two)
        above = k.intrinsic("llvm.ceil", (number(k.size(f"size{axis}")) - start) / step + two)
        forward = step > zero  # else the bounds are of no use, and the places as few as the node asks for
        limit = Int(k, bound.ir)
        low = k.pick(forward, k.min(k.max(Int(k, k.cast(below, DType.I64).ir), 0), limit), 0)
        high = k.pick(forward, k.max(k.min(Int(k, k.cast(above, DType.I64).ir), limit), low), asked)
        return cls(axis, start, step, count, low, high)

    def taps(self, k: Builder, index: Int) -> tuple[Tap, Tap]:
        """The two pixels around place `index`, for linear interpolation; the last pixel alone at the end."""
        dtype, size = self.start.dtype, k.size(f"size{self.axis}")
        zero, one, half = (k.const(value, dtype) for value in (0.0, 1.0, 0.5))
        length = k.cast(Val(k, size.ir, DType.I64, 1), dtype)
        place = self.start + (k.cast(Val(k, index.ir, DType.I64, 1), dtype) + half) * self.step
        inside = place.compare(">=", -one) & place.compare("<=", length)
        place = minimum(k, maximum(k, place, zero), length - one)
        base = k.intrinsic("llvm.floor", place)
        part = place - base
        near = k.max(k.min(Int(k, k.cast(base, DType.I64).ir), size - 1), 0)
        far = k.min(near + 1, size - 1)
        stride = k.size(f"x{self.axis}")
        return Tap(near * stride, one - part, inside), Tap(far * stride, part, inside)
