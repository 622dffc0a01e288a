"""Pooling on channels-last data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import maximum
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.sweep import (
    Pixels,
    channel_blocks,
    sweep_parameters,
    sweep_rows,
    taps_between,
    walk_taps,
)
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class Pool(Kernel):
    """y[m, c] = epilogue(max or mean over the taps t inside the input of x[window(m) + t, c]).

    for row in domain, for tile of `pixels` in row, for c in blocks of `vectors`:  acc = -inf, or 0 for the mean
        for t in taps:  acc[r] = max(acc[r], x[window(r) + t, c]), or + for the mean
        y[tile, c] = epilogue(acc)

    The mean divides by the taps inside [`low`, `high`) on each axis: the input alone, or with its padding.
    """

    mean: bool
    pixels: int
    vectors: int
    spatial: int
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, what `sweep_rows` needs, and the range in which each axis' taps are counted."""
        slots = [Parameter("x", self.dtype), Parameter("y", self.epilogue.expr.dtype)]
        if self.mean:
            slots += [Parameter(f"{name}{axis}") for axis in range(self.spatial) for name in ("low", "high")]
        return (*slots, *sweep_parameters(self.spatial), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        operands = self.epilogue.bases(k)

        def compute(pixels: Pixels) -> None:
            factors = [k.broadcast(self._factor(k, pixels, r), lanes) for r in range(len(pixels.origins))]

            def block(channel: Int, vectors: int, mask: Val | None) -> None:
                self._block(k, pixels, factors, operands, channel, vectors, mask)

            channel_blocks(k, self.vectors, lanes, block)

        sweep_rows(k, k.pointer("x"), self.spatial, self.pixels, compute)

    def _factor(self, k: Builder, pixels: Pixels, r: int) -> Val:
        """The number a sum is divided by at pixel r; 1 for the maximum."""
        if not self.mean:
            return k.const(1.0, self.dtype)
        count = k.index(1)
        for axis, corner in enumerate(pixels.corner):
            at = corner + k.size(f"stride{axis}") * r if axis == self.spatial - 1 else corner
            first, last = taps_between(k, axis, at, k.size(f"low{axis}"), k.size(f"high{axis}"))
            count = count * (last - first)
        return k.cast(Val(k, count.ir, DType.I64, 1), self.dtype)

    def _block(
        self,
        k: Builder,
        pixels: Pixels,
        factors: Sequence[Val],
        operands: Sequence[Ptr],
        channel: Int,
        vectors: int,
        mask: Val | None,
    ) -> None:
        lanes, count = k.target.lanes(self.dtype), len(pixels.origins)
        start = k.const(0.0 if self.mean else float("-inf"), self.dtype, lanes)
        acc = [start for _ in range(count * vectors)]

        def tap(addresses: Sequence[Ptr], index: Int) -> None:
            for r, address in enumerate(addresses):
                for v in range(vectors):
                    value = k.load(address + (channel + v * lanes), lanes, mask)
                    old = acc[r * vectors + v]
                    acc[r * vectors + v] = old + value if self.mean else maximum(k, old, value)

        walk_taps(k, pixels, acc, tap)
        for r in range(count):
            row = pixels.index + r
            base = k.pointer("y") + (row * k.size("y_row") + channel)
            for v in range(vectors):
                value = acc[r * vectors + v] / factors[r] if self.mean else acc[r * vectors + v]
                k.store(
                    self.epilogue.apply(k, value, operands, row, channel + v * lanes, mask),
                    base + v * lanes,
                    mask,
                )
