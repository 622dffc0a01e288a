"""Copies that turn a matrix: where rows of the source become columns of the result."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr
from sardonyx.compiler.dims import surely
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.layout import collapse
from sardonyx.compiler.program import Kernel, View

TILE = 64
"""Rows and columns of an item: what it reads and writes of both stays in the nearest cache until each line is used up,
whatever lies between rows."""
_LEAST_BYTES = 4
"""Of an element: smaller ones are too many in a vector to be turned as a square."""


@dataclass(frozen=True)
class Turn(Kernel):
    """y[outer..., i, j] = x[outer..., i, j], where x lies along i and y along j.

    for (outer indices, tile of i and j) in domain:
        for blocks of lanes x lanes in the tile:  read rows of i, turn them in registers, write rows of j

    What is left at the edges is copied one by one.
    """

    outer: int
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y; the sizes of i and j and how many tiles those are, strides, and the outer loops' sizes and strides."""
        names = ["rows", "columns", "row_tiles", "column_tiles", "x_column", "y_row"]
        names += [f"size{axis}" for axis in range(self.outer)]
        names += [f"{name}_outer{axis}" for name in "xy" for axis in range(self.outer)]
        tensors = (Parameter("x", self.dtype), Parameter("y", self.dtype))
        return (*tensors, *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        with k.loop(k.end, start=k.begin) as item:
            column, rest = item % k.size("column_tiles") * TILE, item // k.size("column_tiles")
            row, rest = rest % k.size("row_tiles") * TILE, rest // k.size("row_tiles")
            x, y = k.pointer("x"), k.pointer("y")
            for axis in reversed(range(self.outer)):
                at, rest = rest % k.size(f"size{axis}"), rest // k.size(f"size{axis}")
                x, y = x + at * k.size(f"x_outer{axis}"), y + at * k.size(f"y_outer{axis}")
            rows = k.min(k.size("rows") - row, TILE)
            columns = k.min(k.size("columns") - column, TILE)
            x = x + (column * k.size("x_column") + row)
            y = y + (row * k.size("y_row") + column)
            whole_rows, whole_columns = rows // lanes * lanes, columns // lanes * lanes

            def one(i: Int, j: Int, x: Ptr = x, y: Ptr = y) -> None:
                k.store(k.load(x + (j * k.size("x_column") + i)), y + (i * k.size("y_row") + j))

            with k.loop(whole_rows, step=lanes) as i, k.loop(whole_columns, step=lanes) as j:
                source = [x + ((j + lane) * k.size("x_column") + i) for lane in range(lanes)]
                turned = k.transpose([k.load(at, lanes) for at in source])
                for lane, value in enumerate(turned):
                    k.store(value, y + ((i + lane) * k.size("y_row") + j))
            with k.loop(whole_rows) as i, k.loop(columns, start=whole_columns) as j:
                one(i, j)
            with k.loop(rows, start=whole_rows) as i, k.loop(columns) as j:
                one(i, j)


@dataclass(frozen=True)
class Turning:
    """A kernel that turns a tensor, its arguments and the size of its domain."""

    kernel: Turn
    arguments: dict[str, View | int]
    domain: int


def turning(x: View, y: View, lanes: int) -> Turning | None:
    """How to copy `x` to `y`, of the same dims, if they lie along different dims of at least a vector each."""
    if y.size == 0 or x.dtype.size < _LEAST_BYTES:
        return None
    nest = collapse(y.dims, [y.strides, x.strides])
    sizes, (to, of) = nest.sizes, nest.strides
    if len(sizes) < 2 or to[-1] != 1 or of[-1] in (0, 1):
        return None
    along = next((axis for axis, step in enumerate(of[:-1]) if step == 1), None)
    if along is None or any(surely(size, "<", lanes) for size in (sizes[along], sizes[-1])):
        return None
    outer = [axis for axis in range(len(sizes) - 1) if axis != along]
    row_tiles, column_tiles = -(-sizes[along] // TILE), -(-sizes[-1] // TILE)
    arguments: dict[str, View | int] = {"x": x, "y": y, "rows": sizes[along], "columns": sizes[-1]}
    arguments |= {"row_tiles": row_tiles, "column_tiles": column_tiles, "x_column": of[-1], "y_row": to[along]}
    for place, axis in enumerate(outer):
        arguments |= {f"size{place}": sizes[axis], f"x_outer{place}": of[axis], f"y_outer{place}": to[axis]}
    return Turning(Turn(len(outer), x.dtype), arguments, prod(sizes[axis] for axis in outer) * row_tiles * column_tiles)
