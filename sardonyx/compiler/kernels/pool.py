"""Pooling on channels-last data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import maximum
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.window import axis_parameters, tile_at
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class Pool(Kernel):
    """y[m, c] = epilogue(max or mean over the taps t inside the input of x[window(m) + t, c]).

    for m in domain:  clip the window to the input
        for c in vectors of channels:  acc = x[first tap, c];  for t in window:  acc = max(acc, x[t, c]) or +

    The mean divides by the taps inside [`low`, `high`) on each axis: the input alone, or with its padding.
    """

    mean: bool
    dilated: bool
    spatial: int
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, counts and strides, each spatial axis and the range its taps are counted in."""
        slots = [Parameter("x", self.dtype), Parameter("y", self.epilogue.expr.dtype)]
        slots += [Parameter(name) for name in ("m", "channels", "x_row", "y_row")]
        if self.mean:
            slots += [Parameter(f"{name}{axis}") for axis in range(self.spatial) for name in ("low", "high")]
        return (*slots, *axis_parameters(self.spatial), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        operands = self.epilogue.bases(k)
        with k.loop(k.end, start=k.begin) as pixel:
            tile = tile_at(k, k.pointer("x"), pixel, 1, self.spatial)
            corner = tile.corners[0]
            ranges = [self._taps(k, a, corner[a], k.int(0), k.size(f"size{a}")) for a in range(self.spatial)]
            factor = self._factor(k, corner) if self.mean else None
            whole = k.size("channels") // lanes * lanes
            output = k.pointer("y") + pixel * k.size("y_row")

            def compute(channel: Int, mask: Val | None) -> None:
                value = self._reduce(k, tile.origins[0] + channel, ranges, mask)
                if factor is not None:
                    value = value / k.broadcast(factor, lanes)
                result = self.epilogue.apply(k, value, operands, pixel, channel, mask)
                k.store(result, output + channel, mask)

            with k.loop(whole, step=lanes) as channel:
                compute(channel, None)
            with k.when(whole < k.size("channels")):
                compute(whole, k.first_lanes(k.size("channels") - whole, lanes))

    def _taps(self, k: Builder, axis: int, corner: Int, low: Int, high: Int) -> tuple[Int, Int]:
        """The taps whose coordinate lies in [low, high)."""
        before, until = k.max(low - corner, 0), k.max(high - corner, 0)
        if self.dilated:
            step = k.size(f"dilation{axis}")
            before, until = (before + step - 1) // step, (until + step - 1) // step
        return before, k.min(until, k.size(f"taps{axis}"))

    def _factor(self, k: Builder, corner: Sequence[Int]) -> Val:
        count = k.int(1)
        for axis, at in enumerate(corner):
            first, last = self._taps(k, axis, at, k.size(f"low{axis}"), k.size(f"high{axis}"))
            count = count * (last - first)
        whole = Val(k, count.ir, DType.I64, 1)
        return k.cast(whole, self.dtype)

    def _reduce(self, k: Builder, origin: Ptr, ranges: Sequence[tuple[Int, Int]], mask: Val | None) -> Val:
        lanes = k.target.lanes(self.dtype)
        acc = [k.const(0.0 if self.mean else float("-inf"), self.dtype, lanes)]

        def walk(axis: int, base: Ptr) -> None:
            if axis == self.spatial:
                value = k.load(base, lanes, mask)
                acc[0] = acc[0] + value if self.mean else maximum(k, acc[0], value)
                return
            first, last = ranges[axis]
            reach = k.size(f"x{axis}") * k.size(f"dilation{axis}")
            with k.loop(last, start=first, carry=acc) as tap:
                walk(axis + 1, base + tap * reach)

        walk(0, origin)
        return acc[0]
