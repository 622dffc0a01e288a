"""Pooling on channels-last data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import Expr, maximum
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.reduce import neutral
from sardonyx.compiler.kernels.sweep import (
    Pixels,
    channel_blocks,
    sweep_parameters,
    sweep_rows,
    taps_between,
    walk_taps,
)
from sardonyx.compiler.program import Kernel

Combine = Literal["max", "mean", "sum"]


@dataclass(frozen=True)
class Pool(Kernel):
    """y[m, c] = epilogue(max, mean or sum over the taps t inside the input of before(x[window(m) + t, c])).

    for row in domain, for tile of `pixels` in row, for c in blocks of `vectors`:  acc = the least number, or 0
        for t in taps:  acc[r] = max(acc[r], before(x[window(r) + t, c])), or + for mean and sum
        y[tile, c] = epilogue(acc)

    The mean divides by the taps inside [`low`, `high`) on each axis: the input alone, or with its padding.
    """

    combine: Combine
    before: Expr
    pixels: int
    vectors: int
    spatial: int
    epilogue: Epilogue

    @property
    def dtype(self) -> DType:
        """Of the input."""
        return self.before.leaves[0]

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, what `sweep_rows` needs, and the range in which each axis' taps are counted."""
        slots = [Parameter("x", self.dtype), Parameter("y", self.epilogue.expr.dtype)]
        if self.combine == "mean":
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
        """The number a sum is divided by at pixel r; 1 where none is."""
        if self.combine != "mean":
            return k.const(1, self.dtype)
        count = k.index(1)
        for axis, corner in enumerate(pixels.corner):
            at = corner + k.size(f"stride{axis}") * r if axis == self.spatial - 1 else corner
            first, last = taps_between(k, axis, at, k.size(f"low{axis}"), k.size(f"high{axis}"))
            count = count * (last - first)
        return k.cast(_number(k, count), self.dtype)

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
        start = k.const(neutral("max" if self.combine == "max" else "sum", self.dtype), self.dtype, lanes)
        acc = [start for _ in range(count * vectors)]

        def tap(addresses: Sequence[Ptr], index: Int) -> None:
            for r, address in enumerate(addresses):
                for v in range(vectors):
                    value = self.before.evaluate(k, [k.load(address + (channel + v * lanes), lanes, mask)])
                    old = acc[r * vectors + v]
                    acc[r * vectors + v] = maximum(k, old, value) if self.combine == "max" else old + value

        walk_taps(k, pixels, acc, tap)
        for r in range(count):
            row = pixels.index + r
            base = k.pointer("y") + (row * k.size("y_row") + channel)
            for v in range(vectors):
                value = acc[r * vectors + v] / factors[r] if self.combine == "mean" else acc[r * vectors + v]
                k.store(
                    self.epilogue.apply(k, value, operands, row, channel + v * lanes, mask),
                    base + v * lanes,
                    mask,
                )


@dataclass(frozen=True)
class MaxPoolIndices(Kernel):
    """`Pool`'s maximum, and the index in the input [N, C, spatial...] of the first element that has it.

    for row in domain, for pixel in row, for vectors of c:  best = the least number, at the first tap inside
        for t in taps:  where x[window + t, c] > best, or is the first NaN:  best, at = x[window + t, c], t
        y[pixel, c] = epilogue(best);  indices[pixel, c] = index of the window's start + offsets[at]

    An element's index is image * `image` + c * `plane` + sum of position * `walk` over the axes; `offsets` holds what
    a tap adds to the sum.
    """

    spatial: int
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, indices, offsets of taps, output pixels of an image, and what makes up an index."""
        tensors = (Parameter("x", self.dtype), Parameter("y", self.epilogue.expr.dtype))
        indices = (Parameter("indices", DType.I64), Parameter("offsets", DType.I64))
        names = ("pixels", "image", "plane", "indices_row", *(f"walk{axis}" for axis in range(self.spatial)))
        counts = tuple(Parameter(name) for name in names)
        return (*tensors, *indices, *counts, *sweep_parameters(self.spatial), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, operands = k.target.lanes(self.dtype), self.epilogue.bases(k)

        def compute(pixels: Pixels) -> None:
            start = (pixels.index // k.size("pixels")) * k.size("image")
            first = k.index(0)
            for axis, (corner, taps) in enumerate(zip(pixels.corner, pixels.taps, strict=True)):
                start = start + corner * k.size(f"walk{axis}")
                first = first * k.size(f"taps{axis}") + k.min(taps[0], k.size(f"taps{axis}") - 1)

            def block(channel: Int, vectors: int, mask: Val | None) -> None:
                self._block(k, pixels, (start, first), operands, channel, mask)

            channel_blocks(k, 1, lanes, block)

        sweep_rows(k, k.pointer("x"), self.spatial, 1, compute)

    def _block(
        self, k: Builder, pixels: Pixels, at: tuple[Int, Int], operands: Sequence[Ptr], channel: Int, mask: Val | None
    ) -> None:
        lanes, (start, first), row = k.target.lanes(self.dtype), at, pixels.index

        def offset(tap: Int) -> Val:
            return k.broadcast(k.load(k.pointer("offsets") + tap), lanes)

        acc = [k.const(neutral("max", self.dtype), self.dtype, lanes), offset(first)]

        def tap(addresses: Sequence[Ptr], index: Int) -> None:
            value, (best, where) = k.load(addresses[0] + channel, lanes, mask), acc
            better = value > best
            if self.dtype.is_float:
                better = better | (value.compare("!=", value) & best.compare("==", best))
            acc[:] = k.select(better, value, best), k.select(better, offset(index), where)

        walk_taps(k, pixels, acc, tap)
        planes = k.vector([k.const(lane, DType.I64) for lane in range(lanes)])
        planes = planes + k.broadcast(_number(k, channel), lanes)
        base = k.broadcast(_number(k, start), lanes) + planes * k.broadcast(_number(k, k.size("plane")), lanes)
        k.store(acc[1] + base, k.pointer("indices") + (row * k.size("indices_row") + channel), mask)
        value = self.epilogue.apply(k, acc[0], operands, row, channel, mask)
        k.store(value, k.pointer("y") + (row * k.size("y_row") + channel), mask)


def _number(k: Builder, index: Int) -> Val:
    return Val(k, index.ir, DType.I64, 1)
