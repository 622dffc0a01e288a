"""Sliding windows: which input pixels the rows of an implicit matrix see.

What does not depend on the data is computed once, when the dims are known: for every output pixel where its window
starts, and for every tile of them whether all its windows lie inside the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
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
class WindowAxis:
    """One axis of windows: input size, output size, window size, stride, dilation, padding before, input stride."""

    size: int
    out: int
    taps: int
    stride: int
    dilation: int
    pad: int
    x: int


def window_tables(rows: int, batch: int, image: int, axes: Sequence[WindowAxis]) -> tuple[Array, Array, Array]:
    """What `TABLES` are for tiles of `rows` of the output pixels of `batch` images that are `image` elements apart.

    Pixels are in row-major order, the last one repeated to fill the last tile. `origins` [pixels] is where each window
    starts, in elements of the input (outside of it where there is padding); `corners` [axes, pixels] its coordinates;
    `inside` [tiles] one byte a tile: all its windows lie inside the input.
    """
    grid = (batch, *(axis.out for axis in axes))
    count = prod(grid)
    padded = -(-count // rows) * rows
    corners, origins = np.empty((len(axes), padded), np.int64), np.empty(padded, np.int64)
    inside = np.empty(padded, bool)
    starts: Array = image * np.arange(batch, dtype=np.int64)
    within: Array = np.ones(batch, bool)
    for number, axis in enumerate(axes):
        corner = np.arange(axis.out, dtype=np.int64) * axis.stride - axis.pad
        later = (1,) * (len(axes) - 1 - number)
        corners[number, :count].reshape(grid)[...] = corner.reshape(-1, *later)
        starts = starts[..., None] + corner * axis.x
        within = within[..., None] & (corner >= 0) & (corner + (axis.taps - 1) * axis.dilation < axis.size)
    for table, found in ((origins, starts), (inside, within)):
        table[:count] = found.reshape(-1)
    for table in (*corners, origins, inside):
        table[count:] = table[count - 1]
    whole = np.logical_and.reduce([inside[row::rows] for row in range(rows)])
    return origins, corners, whole.astype(np.uint8)


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
