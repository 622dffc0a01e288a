"""Maxima over the bins of regions of interest, channels last."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import maximum
from sardonyx.compiler.kernels.sweep import channel_blocks
from sardonyx.compiler.program import Kernel

_FAR = 1 << 40
"""Pixels that no region is away."""


@dataclass(frozen=True)
class RoiPool(Kernel):
    """y[r, ph, pw, c] = max of x[image of r, h, w, c] over the pixels h, w of a bin of region r; 0 where it has none.

    for (r, ph, pw) in domain:  the pixels of the bin on each axis;  for c in vectors:  for h, w:  acc = max(acc, x)

    A region is its image's number and the corners x0, y0, x1, y1, which times `scale` and rounded are pixels. One of an
    image that is not there has no pixels.
    """

    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, rois [r, 5], scale (one number), y; counts and strides."""
        tensors = [Parameter(name, self.dtype) for name in ("x", "rois", "y")]
        names = ("channels", "batch", "x_image", "y_row", "size0", "size1", "x0", "x1", "out0", "out1")
        return (*tensors, Parameter("scale", self.dtype.register), *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        with k.loop(k.end, start=k.begin) as item:
            position = [item // k.size("out1") % k.size("out0"), item % k.size("out1")]
            roi = k.pointer("rois") + item // k.size("out1") // k.size("out0") * 5
            number = self._whole(k, k.load(roi))
            there = number.within(k.size("batch"))
            image = k.pointer("x") + k.pick(there, number, 0) * k.size("x_image")
            down, right = (self._bin(k, roi, axis, position[axis]) for axis in range(2))
            rows = k.pick(there, down[1], down[0])
            some = (rows > down[0]) & (right[1] > right[0])
            least = k.const(float("-inf"), self.dtype.register)
            start = k.select(some, least, k.const(0.0, self.dtype.register))

            def compute(
                channel: Int,
                vectors: int,
                mask: Val | None,
                item: Int = item,
                image: Ptr = image,
                bins: tuple[Int, Int, Int, Int] = (down[0], rows, *right),
                start: Val = start,
            ) -> None:
                acc = [k.broadcast(start, lanes) for _ in range(vectors)]
                with k.loop(bins[1], start=bins[0], carry=acc) as h, k.loop(bins[3], start=bins[2], carry=acc) as w:
                    at = image + (h * k.size("x0") + w * k.size("x1") + channel)
                    acc[:] = [maximum(k, old, k.load(at + v * lanes, lanes, mask)) for v, old in enumerate(acc)]
                base = k.pointer("y") + (item * k.size("y_row") + channel)
                for v, value in enumerate(acc):
                    k.store(value, base + v * lanes, mask)

            channel_blocks(k, 4, lanes, compute)

    def _whole(self, k: Builder, value: Val) -> Int:
        """Rounded, halves away from 0, to an index that is not too far to count with."""
        bound = k.const(float(_FAR), value.dtype)
        near = k.select(value > bound, bound, k.select(value < -bound, -bound, value))
        half = k.const(0.5, value.dtype)
        away = k.select(near < k.const(0.0, value.dtype), -half, half)
        return Int(k, k.cast(k.intrinsic("llvm.trunc", near + away), DType.I64).ir)

    def _bin(self, k: Builder, roi: Ptr, axis: int, position: Int) -> tuple[Int, Int]:
        """The pixels of a bin on an axis, within the image: bins of equal lengths, rounded outwards."""
        kind = self.dtype.register
        scale, size = k.load(k.pointer("scale")), k.size(f"size{axis}")
        first, last = (self._whole(k, k.load(roi + (1 + 2 * end + 1 - axis)) * scale) for end in range(2))
        length = k.max(last - first + 1, 1)

        def number(value: Int) -> Val:
            return k.cast(Val(k, value.ir, DType.I64, 1), kind)

        span = number(length) / number(k.size(f"out{axis}"))
        low = Int(k, k.cast(k.intrinsic("llvm.floor", number(position) * span), DType.I64).ir)
        high = Int(k, k.cast(k.intrinsic("llvm.ceil", number(position + 1) * span), DType.I64).ir)
        return k.min(k.max(low + first, 0), size), k.min(k.max(high + first, 0), size)
