"""Sliding windows: which input pixels the rows of an implicit matrix see.

What does not depend on the data is computed once, when the program is made: for every output pixel where its window
starts, and for every tile of them whether all its windows lie inside the input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr
from sardonyx.compiler.dtypes import DType

AXIS = ("size", "out", "taps", "stride", "dilation", "pad", "x")
"""Arguments of each spatial axis: input size, output size, window size, ..., padding before, input stride."""

Array = np.ndarray[Any, Any]


def axis_parameters(spatial: int) -> tuple[Parameter, ...]:
    """The slots of `spatial` axes."""
    return tuple(Parameter(f"{name}{axis}") for axis in range(spatial) for name in AXIS)


@dataclass(frozen=True)
class WindowTables:
    """For `m` output pixels in row-major order, the last one repeated to fill the last tile.

    `origins` is where each window starts, in elements of the input (outside of it where there is padding);
    `corners[axis]` its coordinate on an axis; `inside` one byte a tile: all its windows lie inside the input.
    """

    origins: Array
    corners: Array
    inside: Array

    @classmethod
    def of(cls, batch: int, strides: tuple[int, ...], axes: tuple[dict[str, int], ...], rows: int) -> WindowTables:
        """Tables for tiles of `rows` pixels; `strides` are the input's for images and axes, `axes` as in `AXIS`."""
        grid = np.indices((batch, *(axis["out"] for axis in axes))).reshape(1 + len(axes), -1)
        padding = -grid.shape[1] % rows
        grid = np.concatenate([grid, np.repeat(grid[:, -1:], padding, axis=1)], axis=1)
        corners = np.stack([at * axis["stride"] - axis["pad"] for at, axis in zip(grid[1:], axes, strict=True)])
        origins = grid[0] * strides[0] + np.tensordot(np.array(strides[1:]), corners, 1)
        inside = np.ones(grid.shape[1], bool)
        for corner, axis in zip(corners, axes, strict=True):
            reach = (axis["taps"] - 1) * axis["dilation"]
            inside &= (corner >= 0) & (corner + reach < axis["size"])
        whole = np.asarray(inside.reshape(-1, rows).all(axis=1), np.uint8)
        return cls(origins.astype(np.int64), np.ascontiguousarray(corners, np.int64), whole)


TABLES = (Parameter("origins", DType.I64), Parameter("corners", DType.I64), Parameter("inside", DType.U8))
"""The tables as a kernel's arguments; `corners` are `corner_axis` elements apart."""


SCATTERED = Parameter("pixels", DType.I64)
"""Of an implicit matrix whose rows are not the result's pixels in order: the pixel of each row."""


@dataclass(frozen=True)
class Tile:
    """`count` consecutive rows from `start` on, `left` of which follow the first; those past the last repeat it.

    `origins` is where each row's window starts; `pixels` are the result's pixels that the rows compute, when those are
    not the rows themselves.
    """

    k: Builder
    start: Int
    left: Int
    count: int
    origins: tuple[Ptr, ...] = ()
    pixels: tuple[Int, ...] = ()

    def rows(self, base: Ptr, stride: Int) -> tuple[Ptr, ...]:
        """Addresses of the rows' pixels in a tensor whose pixels are `stride` elements apart."""
        if self.pixels:
            return tuple(base + pixel * stride for pixel in self.pixels)
        first, end = base + self.start * stride, self.left * stride
        return tuple(first + self.k.pick(self.left >= r, stride * r, end) for r in range(self.count))


def tile_at(k: Builder, inputs: Ptr, start: Int, count: int, *, windows: bool, scattered: bool = False) -> Tile:
    """The tile at row `start`, from the tables or, without windows, with rows `x_row` apart."""
    last = k.size("m") - 1
    tile = Tile(k, start, last - start, count)
    if windows:
        table = k.pointer("origins") + start
        origins = tuple(inputs + k.load_index(table + r) for r in range(count))
    else:
        origins = tile.rows(inputs, k.size("x_row"))
    if not scattered:
        return replace(tile, origins=origins)
    pixels = tuple(k.load_index(k.pointer("pixels") + k.min(start + r, last)) for r in range(count))
    return replace(tile, origins=origins, pixels=pixels)
