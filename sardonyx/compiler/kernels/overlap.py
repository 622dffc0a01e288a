"""Sums of what overlapping windows leave at each pixel: the second half of a transposed convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.sweep import channel_blocks
from sardonyx.compiler.program import Kernel

_VECTORS = 2
"""Vectors of channels at once: enough loads under way, and few registers."""


@dataclass(frozen=True)
class Overlap(Kernel):
    """y[q, c] = epilogue(sum over the taps t that reach pixel q of x[source(q, t), c] * w[t, c]).

    for (row of y, block of its pixels) in domain, for q in block, for c in vectors:  acc = 0
        for t in taps of the first axis that reach q, of the second, ...:  acc += x[source] (* w[t])
        y[q, c] = epilogue(acc)

    Which taps reach a coordinate stands in a table for each axis: `count` of them, the first one's source at `first`
    (elements of x) and its weights at `tap` (elements of w), the others `step` and `w_step` further on each time.
    Without `weighted` the sources are products already and w is not there.
    """

    spatial: int
    weighted: bool
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y and w, counts and strides, then each axis' tables."""
        slots = [Parameter("x", self.dtype), Parameter("y", self.epilogue.expr.dtype)]
        slots += [Parameter(name) for name in ("channels", "x_image", "y_row", "blocks", "block")]
        if self.weighted:
            slots.append(Parameter("w", self.dtype))
        for axis in range(self.spatial):
            slots += [Parameter(f"{name}{axis}", DType.I64) for name in self._tables]
            slots += [Parameter(f"{name}{axis}") for name in ("out", *self._steps)]
        return (*slots, *self.epilogue.parameters())

    @property
    def _tables(self) -> tuple[str, ...]:
        return ("count", "first", "tap") if self.weighted else ("count", "first")

    @property
    def _steps(self) -> tuple[str, ...]:
        return ("step", "w_step") if self.weighted else ("step",)

    def emit(self, k: Builder) -> None:
        """See the class."""
        last = self.spatial - 1
        operands = self.epilogue.bases(k)
        with k.loop(k.end, start=k.begin) as item:
            row, block = item // k.size("blocks"), item % k.size("blocks")
            rest, position = row, list[Int]()
            for axis in reversed(range(last)):
                position.insert(0, rest % k.size(f"out{axis}"))
                rest = rest // k.size(f"out{axis}")
            image = k.pointer("x") + rest * k.size("x_image")
            first = block * k.size("block")
            with k.loop(k.min(first + k.size("block"), k.size(f"out{last}")), start=first) as along:
                pixel = row * k.size(f"out{last}") + along
                self._pixel(k, image, [*position, along], pixel, operands)

    def _pixel(self, k: Builder, image: Ptr, position: Sequence[Int], pixel: Int, operands: Sequence[Ptr]) -> None:
        def at(table: str, axis: int) -> Int:
            return k.load_index(k.pointer(f"{table}{axis}") + position[axis])

        counts = [at("count", axis) for axis in range(self.spatial)]
        walks = [image]
        if self.weighted:
            walks.append(k.pointer("w"))
        for axis in range(self.spatial):
            walks = [walk + at(table, axis) for walk, table in zip(walks, self._tables[1:], strict=True)]
        lanes = k.target.lanes(self.dtype)

        def compute(channel: Int, vectors: int, mask: Val | None) -> None:
            acc = [k.const(0.0, self.dtype, lanes) for _ in range(vectors)]
            self._sum(k, 0, [walk + channel for walk in walks], counts, acc, mask)
            target = k.pointer("y") + (pixel * k.size("y_row") + channel)
            for v, value in enumerate(acc):
                done = self.epilogue.apply(k, value, operands, pixel, channel + v * lanes, mask)
                k.store(done, target + v * lanes, mask)

        channel_blocks(k, _VECTORS, lanes, compute)

    def _sum(
        self, k: Builder, axis: int, walks: Sequence[Ptr], counts: Sequence[Int], acc: list[Val], mask: Val | None
    ) -> None:
        """Add up the taps from `axis` on."""
        lanes = k.target.lanes(self.dtype)
        if axis == self.spatial:
            for v in range(len(acc)):
                values = [k.load(walk + v * lanes, lanes, mask) for walk in walks]
                acc[v] = k.fma(values[0], values[1], acc[v]) if self.weighted else acc[v] + values[0]
            return
        moving: list[Int | Ptr] = list(walks)
        with k.loop(counts[axis], carry=acc, moving=moving):
            here = [walk for walk in moving if isinstance(walk, Ptr)]
            self._sum(k, axis + 1, here, counts, acc, mask)
            moving[:] = [walk + k.size(f"{step}{axis}") for walk, step in zip(here, self._steps, strict=True)]
