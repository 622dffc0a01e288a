"""What a kernel does to its results before it stores them: an expression over the result and further operands.

An operand of an epilogue is addressed by the row and the column of the element: `row stride` is an argument, but
that it is 0 shapes the code (a bias is read once for all rows of a tile), and so does the column stride: 1 (a vector
along the columns) or 0 (one value for all columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import TOGETHER, Expr, identity
from sardonyx.compiler.kernels.window import Tile
from sardonyx.compiler.program import View


@dataclass(frozen=True)
class Place:
    """Where a vector of results stands: the operands' addresses, its row and first column, the lanes there are."""

    bases: Sequence[Ptr]
    row: Int
    column: Int
    mask: Val | None = None


@dataclass(frozen=True)
class Epilogue:
    """`expr`'s leaf 0 is the kernel's own result; leaf i + 1 is operand i, whose column stride is `columns[i]`, and
    which differs from row to row if `moves[i]`.
    """

    expr: Expr
    columns: tuple[int, ...] = ()
    moves: tuple[bool, ...] = ()

    @classmethod
    def plain(cls, dtype: DType) -> Epilogue:
        """Store the result as it is."""
        return cls(identity(dtype))

    def parameters(self) -> tuple[Parameter, ...]:
        """Three slots for each operand: its address, its row stride and its group stride."""
        slots: list[Parameter] = []
        for index, dtype in enumerate(self.expr.leaves[1:]):
            slots += [Parameter(f"e{index}", dtype), Parameter(f"e{index}_row"), Parameter(f"e{index}_group")]
        return tuple(slots)

    def arguments(self, operands: Sequence[tuple[View, int, int]]) -> dict[str, View | int]:
        """The argument values for operands given as (view, row stride, group stride)."""
        values: dict[str, View | int] = {}
        for index, (view, row, group) in enumerate(operands):
            values |= {f"e{index}": view, f"e{index}_row": row, f"e{index}_group": group}
        return values

    def bases(self, k: Builder, group: Int | int = 0) -> list[Ptr]:
        """The operands' addresses for a group."""
        return [k.pointer(f"e{i}") + k.index(group) * k.size(f"e{i}_group") for i in range(len(self.columns))]

    def placed(self, k: Builder, bases: Sequence[Ptr], tile: Tile) -> list[list[Ptr]]:
        """The operands' addresses for each row of a tile, for `apply` at row 0."""
        moved = [
            tile.rows(base, k.size(f"e{i}_row")) if moves else (base,) * tile.count
            for i, (base, moves) in enumerate(zip(bases, self.moves, strict=True))
        ]
        return [[operand[r] for operand in moved] for r in range(tile.count)]

    def apply(
        self, k: Builder, result: Val, bases: Sequence[Ptr], row: Int, column: Int, mask: Val | None = None
    ) -> Val:
        """The value to store for `result`, whose first lane stands at (row, column)."""
        return self.expr.evaluate(k, self._leaves(k, result, Place(bases, row, column, mask)))

    def apply_each(self, k: Builder, results: Sequence[Val], places: Sequence[Place]) -> list[Val]:
        """`apply` to several vectors; of a long computation to some at once, which then wait for one another less."""
        leaves = [self._leaves(k, result, place) for result, place in zip(results, places, strict=True)]
        if not self.expr.is_long:
            return [self.expr.evaluate(k, each) for each in leaves]
        done: list[Val] = []
        while len(done) < len(leaves):
            left = leaves[len(done) :]
            some = next(count for count in (TOGETHER, 2, 1) if count <= len(left))
            value = self.expr.evaluate(k, [k.joined(each) for each in zip(*left[:some], strict=True)])
            done += k.parts(value, results[0].lanes)
        return done

    def _leaves(self, k: Builder, result: Val, place: Place) -> list[Val]:
        """The result and what the operands have in its place."""
        leaves = [result]
        for index, (base, column_stride) in enumerate(zip(place.bases, self.columns, strict=True)):
            address = base + place.row * k.size(f"e{index}_row") if self.moves[index] else base
            if column_stride:
                leaves.append(k.load(address + place.column, result.lanes, place.mask))
            else:
                leaves.append(k.broadcast(k.load(address), result.lanes))
        return leaves
