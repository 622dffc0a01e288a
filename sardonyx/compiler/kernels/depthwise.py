"""Depthwise convolution on channels-last data: a kernel for short rows of taps, and one for any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue, Place
from sardonyx.compiler.kernels.sweep import (
    Pixels,
    Range,
    channel_blocks,
    row_at,
    sweep_parameters,
    sweep_rows,
    walk_taps,
)
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


@dataclass(frozen=True)
class DepthwiseRows(Kernel):
    """The same with the taps of the last axis unrolled, so that neighbouring pixels share what they read.

    for row in domain, for tile of `pixels` in row, for c in blocks of `vectors`:  acc = 0
        for taps of the outer axes inside the input:
            for column that a pixel of the tile sees:  v = x[column, c], or zeros outside the input
                for (r, t) with window(r) + t = column:  acc[r] += v * w[t, c]
        y[tile, c] = epilogue(acc)

    The last tile of a row is moved back to end with it; `pixels` is at most the length of a row. Rows of `taps` taps
    `dilation` apart, pixels `stride` apart.
    """

    pixels: int
    vectors: int
    spatial: int
    taps: int
    stride: int
    dilation: int
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, w, y, `channels` zeros, then what `row_at` needs."""
        slots = [Parameter(name, self.dtype) for name in ("x", "w", "zeros")]
        slots.append(Parameter("y", self.epilogue.expr.dtype))
        return (*slots, *sweep_parameters(self.spatial), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        last = self.spatial - 1
        operands, out = self.epilogue.bases(k), k.size(f"out{last}")
        low, high = k.size("inner_low"), k.size("inner_high")
        with k.loop(k.end, start=k.begin) as row:
            base, _, outer = row_at(k, k.pointer("x"), self.spatial, row)
            with k.loop(out, step=self.pixels) as at:
                first = k.min(at, out - self.pixels)
                corner = first * self.stride - k.size(f"pad{last}")
                origin, index = base + corner * k.size(f"x{last}"), row * out + first

                inside = partial(self._tile, k, origin, outer, None, operands, index)
                at_edge = partial(self._tile, k, origin, outer, corner, operands, index)
                k.either((first >= low) & (first + self.pixels <= high), inside, at_edge)

    def _tile(
        self,
        k: Builder,
        origin: Ptr,
        outer: Sequence[Range],
        edge: Int | None,
        operands: Sequence[Ptr],
        index: Int,
    ) -> None:
        """All channels of a tile of pixels; at an edge, `edge` is the first column's coordinate."""

        def block(channel: Int, vectors: int, mask: Val | None) -> None:
            self._block(k, origin, outer, edge, operands, (index, channel), vectors, mask)

        channel_blocks(k, self.vectors, k.target.lanes(self.dtype), block)

    def _block(
        self,
        k: Builder,
        origin: Ptr,
        outer: Sequence[Range],
        edge: Int | None,
        operands: Sequence[Ptr],
        place: tuple[Int, Int],
        vectors: int,
        mask: Val | None,
    ) -> None:
        """One tile of pixels and block of channels; at an edge, `edge` is the first column's coordinate."""
        lanes, (index, channel) = k.target.lanes(self.dtype), place
        acc = [k.const(0.0, self.dtype, lanes) for _ in range(self.pixels * vectors)]
        weights = k.pointer("w") + channel

        def axis_loop(axis: int, here: Ptr, tap: Int) -> None:
            if axis < self.spatial - 1:
                first, until = outer[axis]
                reach = k.size(f"dilation{axis}") * k.size(f"x{axis}")
                with k.loop(until, start=first, carry=acc) as t:
                    axis_loop(axis + 1, here + t * reach, tap * k.size(f"taps{axis}") + t)
                return
            self._row(k, here, channel, edge, weights + tap * self.taps * k.size("channels"), acc, vectors, mask)

        axis_loop(0, origin, k.index(0))
        tile = [(r, channel + v * lanes) for r in range(self.pixels) for v in range(vectors)]
        done = self.epilogue.apply_each(k, acc, [Place(operands, index + r, at, mask) for r, at in tile])
        for (r, at), result in zip(tile, done, strict=True):
            k.store(result, k.pointer("y") + ((index + r) * k.size("y_row") + at), mask)

    def _row(
        self,
        k: Builder,
        here: Ptr,
        channel: Int,
        edge: Int | None,
        weights: Ptr,
        acc: list[Val],
        vectors: int,
        mask: Val | None,
    ) -> None:
        """Add one row of taps."""
        lanes, last = k.target.lanes(self.dtype), self.spatial - 1
        factors = [
            [k.load(weights + (k.size("channels") * t + v * lanes), lanes, mask) for v in range(vectors)]
            for t in range(self.taps)
        ]
        uses: dict[int, list[tuple[int, int]]] = {}
        for r in range(self.pixels):
            for t in range(self.taps):
                uses.setdefault(r * self.stride + t * self.dilation, []).append((r, t))
        for column, pairs in sorted(uses.items()):
            address = here + k.size(f"x{last}") * column
            if edge is not None:
                address = k.pick_pointer((edge + column).within(k.size(f"size{last}")), address, k.pointer("zeros"))
            for v in range(vectors):
                value = k.load(address + (channel + v * lanes), lanes, mask)
                for r, t in pairs:
                    acc[r * vectors + v] = k.fma(value, factors[t][v], acc[r * vectors + v])
