"""Winograd convolution F(4x4, 3x3) on channels-last data (Lavin and Gray, arXiv:1509.09308)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.gemm import accumulate, pack_panels
from sardonyx.compiler.program import Kernel

OUTPUT, PATCH = 4, 6
"""Side of a tile of outputs, and of the patch of inputs it sees."""
POSITIONS = PATCH * PATCH
TABLE_WORDS = 40
"""Words of 8 bytes at the start of the scratch memory: the addresses of a patch's pixels."""

# For the points 0, 1, -1, 2, -2 and infinity: y = A' [(G g G') * (B' d B)] A.
_B = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0),
      (0, 4, 0, -5, 0, 1))  # fmt: skip
_A = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
_G = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6),
      (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip

_SIZES: tuple[str, ...] = ("tiles", "down", "across", "block", "channels", "n", "panels", "size0", "size1", "out0")
_SIZES += ("out1", "pad0", "pad1", "x_batch", "x0", "x1", "y_row", "z_at", "spare_at")

Matrix = Sequence[Sequence[int]]


def transform_weights(weights: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    """Filters [n, channels, 3, 3] as [36, panels, channels, width], computed in float64."""
    n, channels = weights.shape[:2]
    both = np.kron(_G, _G)  # G g G' of a flattened filter, as one matrix product for all filters
    moved = both @ weights.reshape(n * channels, 9).T.astype(np.float64)
    return pack_panels(moved.astype(weights.dtype).reshape(POSITIONS, n, 1, channels), width)[:, :, 0]


@dataclass(frozen=True)
class Winograd(Kernel):
    """y = epilogue(x convolved with 3x3 filters), four by four outputs at a time.

    for block of tiles in domain:
        for tile, for c in vectors of channels:  v[p, tile, c] = (B' patch(tile, c) B)[p], zeros outside the input
        for each of the 36 positions p:  z[p] = v[p] * u[p], a matrix product over channels
        for tile, for c in vectors of filters:  y[tile, c] = epilogue(A' z[:, tile, c] A), what lies inside

    v and z lie in the thread's scratch memory (`z_at` and `spare_at` are elements from its start), so a block stays in
    the second-level cache. It does 36 multiplications where direct convolution does 144.
    """

    rows: int
    vectors: int
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, u, y, `channels` zeros, then sizes, strides and places in the scratch memory."""
        slots = [Parameter(name, self.dtype) for name in ("x", "u", "zeros")]
        slots.append(Parameter("y", self.epilogue.expr.dtype))
        return (*slots, *(Parameter(name) for name in _SIZES), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        scratch = k.workspace(self.dtype)
        inputs = scratch + 8 // self.dtype.size * TABLE_WORDS
        products = scratch + k.size("z_at")
        operands = self.epilogue.bases(k)
        with k.loop(k.end, start=k.begin) as item:
            first = item * k.size("block")
            count = k.min(k.size("block"), k.size("tiles") - first)
            with k.loop(count) as t:
                self._gather_patch(k, first + t)
                self._enter_all(k, inputs, t)
            with k.loop(POSITIONS) as position, k.loop(k.size("panels")) as panel:
                self._multiply(k, inputs, products, position, panel, count)
            with k.loop(count) as t:
                self._leave(k, products, operands, first + t, t)

    def _vectors(self, k: Builder, count: Int, body: Callable[[Int, Val | None], None]) -> None:
        """Run `body` over whole vectors and a masked rest."""
        lanes = k.target.lanes(self.dtype)
        whole = count // lanes * lanes
        with k.loop(whole, step=lanes) as at:
            body(at, None)
        with k.when(whole < count):
            body(whole, k.first_lanes(count - whole, lanes))

    def _place(self, k: Builder, tile: Int) -> tuple[Int, Int, Int]:
        """The tile's image, and its first output's row and column."""
        across, down = k.size("across"), k.size("down")
        return tile // across // down, tile // across % down * OUTPUT, tile % across * OUTPUT

    def _gather_patch(self, k: Builder, tile: Int) -> None:
        """Write the addresses of the patch's pixels, or of zeros, to the start of the scratch memory."""
        image, row, column = self._place(k, tile)
        top, left = row - k.size("pad0"), column - k.size("pad1")
        corner = k.pointer("x") + (image * k.size("x_batch") + top * k.size("x0") + left * k.size("x1"))
        columns = [(left + j).within(k.size("size1")) for j in range(PATCH)]
        for i in range(PATCH):
            inside, line = (top + i).within(k.size("size0")), corner + k.size("x0") * i
            for j in range(PATCH):
                pixel = k.pick_pointer(inside & columns[j], line + k.size("x1") * j, k.pointer("zeros"))
                k.store_pointer(pixel, i * PATCH + j)

    def _enter_all(self, k: Builder, inputs: Ptr, t: Int) -> None:
        self._vectors(k, k.size("channels"), lambda channel, mask: self._enter(k, inputs, t, channel, mask))

    def _enter(self, k: Builder, inputs: Ptr, t: Int, channel: Int, mask: Val | None) -> None:
        """Transform a vector of channels of a patch."""
        lanes = k.target.lanes(self.dtype)
        patch = [k.load(k.load_pointer(p, self.dtype) + channel, lanes, mask) for p in range(POSITIONS)]
        for p, value in enumerate(sandwich(k, _B, patch)):
            at = inputs + ((k.size("block") * p + t) * k.size("channels") + channel)
            k.store(value, at, mask)

    def _multiply(self, k: Builder, inputs: Ptr, products: Ptr, position: Int, panel: Int, count: Int) -> None:
        """z[position, :, panel] = v[position] * u[position, panel]; rows past the last tile repeat it."""
        lanes, channels = k.target.lanes(self.dtype), k.size("channels")
        width = self.vectors * lanes
        weights = k.pointer("u") + (position * k.size("panels") + panel) * (channels * width)
        line = position * k.size("block")
        with k.loop(count, step=self.rows) as t:
            tiles = [line + k.min(t + r, count - 1) for r in range(self.rows)]
            acc = [k.const(0.0, self.dtype, lanes) for _ in range(self.rows * self.vectors)]
            rows = [inputs + tile * channels for tile in tiles]
            accumulate(k, rows, k.index(0), k.index(1), weights, channels, acc, self.vectors)
            for r, tile in enumerate(tiles):
                target = products + (tile * k.size("panels") + panel) * width
                for v in range(self.vectors):
                    k.store(acc[r * self.vectors + v], target + v * lanes)

    def _leave(self, k: Builder, products: Ptr, operands: Sequence[Ptr], tile: Int, t: Int) -> None:
        """Transform back and store; outputs outside the image go to spare memory."""
        lanes = k.target.lanes(self.dtype)
        image, row, column = self._place(k, tile)
        padded = k.size("panels") * (self.vectors * lanes)
        spare = Ptr(k, (k.workspace(self.epilogue.expr.dtype) + k.size("spare_at")).ir, self.epilogue.expr.dtype)
        below = [(row + i) < k.size("out0") for i in range(OUTPUT)]
        beside = [(column + j) < k.size("out1") for j in range(OUTPUT)]
        down = [image * k.size("out0") + k.min(row + i, k.size("out0") - 1) for i in range(OUTPUT)]
        along = [k.min(column + j, k.size("out1") - 1) for j in range(OUTPUT)]

        def body(channel: Int, mask: Val | None) -> None:
            z = [k.load(products + ((k.size("block") * p + t) * padded + channel), lanes) for p in range(POSITIONS)]
            for index, value in enumerate(sandwich(k, _A, z)):
                i, j = divmod(index, OUTPUT)
                pixel = down[i] * k.size("out1") + along[j]
                result = self.epilogue.apply(k, value, operands, pixel, channel, mask)
                target = k.pointer("y") + (pixel * k.size("y_row") + channel)
                k.store(result, k.pick_pointer(below[i] & beside[j], target, spare), mask)

        self._vectors(k, k.size("n"), body)


def sandwich(k: Builder, matrix: Matrix, values: Sequence[Val]) -> list[Val]:
    """M d M' for a square d given row by row; zeros and ones of M cost nothing."""
    side = PATCH
    columns = [[combine(k, line, [values[i * side + j] for i in range(side)]) for j in range(side)] for line in matrix]
    return [combine(k, line, row) for row in columns for line in matrix]


def combine(k: Builder, weights: Sequence[int], values: Sequence[Val]) -> Val:
    """The sum of values times small constants."""
    total: Val | None = None
    for weight, value in zip(weights, values, strict=True):
        if weight == 0:
            continue
        factor = k.const(abs(weight), value.dtype, value.lanes)
        if total is None:
            scaled = value if abs(weight) == 1 else value * factor
            total = scaled if weight > 0 else -scaled
        elif abs(weight) == 1:
            total = total + value if weight > 0 else total - value
        else:
            total = k.fma(k.const(weight, value.dtype, value.lanes), value, total)
    assert total is not None
    return total
