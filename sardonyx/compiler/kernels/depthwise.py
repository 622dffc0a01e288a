"""Depthwise convolution on channels-last data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.sweep import Pixels, channel_blocks, sweep_parameters, sweep_rows, walk_taps
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class Depthwise(Kernel):
    """y[m, c] = epilogue(sum over taps t inside the input of x[window(m) + t, c] * w[t, c]).

    for row in domain, for tile of `pixels` in row, for c in blocks of `vectors`:  acc = 0
        for t in taps:  acc[r] += x[window(r) + t, c] * w[t, c]
        y[tile, c] = epilogue(acc)
    """

    pixels: int
    vectors: int
    spatial: int
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, w, y, then what `sweep_rows` needs."""
        slots = [Parameter("x", self.dtype), Parameter("w", self.dtype)]
        slots.append(Parameter("y", self.epilogue.expr.dtype))
        return (*slots, *sweep_parameters(self.spatial), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        operands = self.epilogue.bases(k)

        def compute(pixels: Pixels) -> None:
            def block(channel: Int, vectors: int, mask: Val | None) -> None:
                self._block(k, pixels, operands, channel, vectors, mask)

            channel_blocks(k, self.vectors, lanes, block)

        sweep_rows(k, k.pointer("x"), self.spatial, self.pixels, compute)

    def _block(
        self,
        k: Builder,
        pixels: Pixels,
        operands: Sequence[Ptr],
        channel: Int,
        vectors: int,
        mask: Val | None,
    ) -> None:
        lanes, count = k.target.lanes(self.dtype), len(pixels.origins)
        acc = [k.const(0.0, self.dtype, lanes) for _ in range(count * vectors)]
        weights = k.pointer("w") + channel

        def tap(addresses: Sequence[Ptr], index: Int) -> None:
            at = weights + index * k.size("channels")
            for v in range(vectors):
                factor = k.load(at + v * lanes, lanes, mask)
                for r, address in enumerate(addresses):
                    value = k.load(address + (channel + v * lanes), lanes, mask)
                    acc[r * vectors + v] = k.fma(value, factor, acc[r * vectors + v])

        walk_taps(k, pixels, acc, tap)
        for r in range(count):
            row = pixels.index + r
            base = k.pointer("y") + (row * k.size("y_row") + channel)
            for v in range(vectors):
                value = acc[r * vectors + v]
                k.store(
                    self.epilogue.apply(k, value, operands, row, channel + v * lanes, mask),
                    base + v * lanes,
                    mask,
                )
