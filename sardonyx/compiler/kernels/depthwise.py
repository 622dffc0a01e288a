"""Depthwise convolution on channels-last data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.window import Tile, axis_parameters, tile_at
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class Depthwise(Kernel):
    """y[m, c] = epilogue(sum over taps t of x[window(m) + t, c] * w[t, c]).

    for m-tile in domain:  table[t, r] = address of pixel window(m + r) + t, or of zeros when that is outside
        for c in vectors of channels:  acc = 0
            for t in taps:  acc[r] += table[t, r][c] * w[t, c]
            y[m-tile, c] = epilogue(acc)

    The scratch memory of a step holds the table: taps * rows addresses.
    """

    rows: int
    vectors: int
    spatial: int
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, w, y, zeros (`channels` of them), counts and strides, then each spatial axis."""
        slots = [Parameter(name, self.dtype) for name in ("x", "w", "zeros")]
        slots.append(Parameter("y", self.epilogue.expr.dtype))
        slots += [Parameter(name) for name in ("m", "channels", "taps", "x_row", "y_row")]
        return (*slots, *axis_parameters(self.spatial), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        operands = self.epilogue.bases(k)
        with k.loop(k.end, start=k.begin) as item:
            tile = tile_at(k, k.pointer("x"), item * self.rows, self.rows, self.spatial)
            self._fill(k, tile, 0, list(tile.origins), [], k.int(0))
            width = self.vectors * lanes
            whole = k.size("channels") // width * width
            with k.loop(whole, step=width) as channel:
                self._channels(k, tile, operands, channel, self.vectors, masked=False)
            with k.loop(k.size("channels"), start=whole, step=lanes) as channel:
                self._channels(k, tile, operands, channel, 1, masked=True)

    def _fill(
        self, k: Builder, tile: Tile, axis: int, rows: Sequence[Ptr], inside: Sequence[Val], tap: Int
    ) -> None:
        """Write the table of addresses."""
        if axis == self.spatial:
            table = k.workspace(DType.U8)
            for r, row in enumerate(rows):
                address = k.pick_pointer(inside[r], row, k.pointer("zeros")) if inside else row
                k.store_pointer(address, table, tap * self.rows + r)
            return
        with k.loop(k.size(f"taps{axis}")) as step:
            reach = step * k.size(f"dilation{axis}")
            here = [(corner[axis] + reach).within(k.size(f"size{axis}")) for corner in tile.corners]
            both = [a & b for a, b in zip(inside, here, strict=True)] if inside else here
            moved = [row + reach * k.size(f"x{axis}") for row in rows]
            self._fill(k, tile, axis + 1, moved, both, tap * k.size(f"taps{axis}") + step)

    def _channels(
        self, k: Builder, tile: Tile, operands: Sequence[Ptr], channel: Int, vectors: int, *, masked: bool
    ) -> None:
        lanes = k.target.lanes(self.dtype)
        mask = k.first_lanes(k.size("channels") - channel, lanes) if masked else None
        acc = [k.const(0.0, self.dtype, lanes) for _ in range(self.rows * vectors)]
        table, weights = k.workspace(DType.U8), k.pointer("w") + channel
        with k.loop(k.size("taps"), carry=acc) as tap:
            at = weights + tap * k.size("channels")
            factors = [k.load(at + v * lanes, lanes, mask) for v in range(vectors)]
            for r in range(self.rows):
                row = k.load_pointer(table, tap * self.rows + r, self.dtype) + channel
                for v, factor in enumerate(factors):
                    value = k.load(row + v * lanes, lanes, mask)
                    acc[r * vectors + v] = k.fma(value, factor, acc[r * vectors + v])
        results = [
            self.epilogue.apply(k, acc[r * vectors + v], operands, row, channel + v * lanes, mask)
            for r, row in enumerate(tile.rows)
            for v in range(vectors)
        ]
        for r, row in enumerate(tile.rows):
            base = k.pointer("y") + (row * k.size("y_row") + channel)
            for v in range(vectors):
                k.store(results[r * vectors + v], base + v * lanes, mask)
