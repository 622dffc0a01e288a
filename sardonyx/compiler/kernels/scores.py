"""Scores of rows of features: products with, or distances from, a few vectors."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import Expr
from sardonyx.compiler.program import Kernel

_TURNS = 4
"""Sums of a single row that go on beside one another, for none to wait for the last."""


@dataclass(frozen=True)
class Scores(Kernel):
    """y[r, c] = after(start[c] + sum over k of x[r, k] * w[k, c], numbers...); with `distance`, of their differences'
    squares instead.

    for (tile of rows, panel of columns) in domain:  for k:  acc[r, c] += x[r, k] * panel[k, c]

    w is cut into panels of `vectors` vectors, the last padded. x is read as `source` and computed with as the type of
    `after`'s first leaf; its other leaves are the elements of `numbers`.
    """

    distance: bool
    rows: int
    vectors: int
    source: DType
    after: Expr

    def parameters(self) -> tuple[Parameter, ...]:
        """Tensors, counts, and the strides of x and y."""
        kind = self.after.leaves[0]
        tensors = (("x", self.source), ("w", kind), ("start", kind), ("numbers", kind), ("y", self.after.dtype))
        names = ("m", "n", "depth", "panels", "x_row", "x_step", "y_row")
        return (*(Parameter(*tensor) for tensor in tensors), *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        width = k.target.lanes(self.after.leaves[0]) * self.vectors
        with k.loop(k.end, start=k.begin) as item:
            first, panel = item // k.size("panels") * self.rows, item % k.size("panels")
            # Rows past the last are the last again, and write what it writes.
            places = [k.min(first + row, k.size("m") - 1) for row in range(self.rows)]
            sources = [k.pointer("x") + place * k.size("x_row") for place in places]
            sums = self._sums(k, sources, panel)
            for row, place in enumerate(places):
                target = k.pointer("y") + (place * k.size("y_row") + panel * width)
                self._store(k, sums[row], target, k.size("n") - panel * width)

    def _sums(self, k: Builder, sources: list[Ptr], panel: Int) -> list[list[Val]]:
        """For each row the vectors of a panel."""
        kind, depth = self.after.leaves[0], k.size("depth")
        lanes = k.target.lanes(kind)
        width, turns = lanes * self.vectors, _TURNS if self.rows == 1 else 1
        weights = k.pointer("w") + panel * depth * width
        begin = [k.load(k.pointer("start") + (panel * width + v * lanes), lanes) for v in range(self.vectors)]
        zero = k.const(0, kind, lanes)
        acc = [start if turn == 0 else zero for turn in range(turns) for _ in sources for start in begin]

        def term(at: Int, turn: int) -> None:
            given = [k.load(source + at * k.size("x_step")) for source in sources]
            x = [k.broadcast(k.cast(value, kind), lanes) for value in given]
            for v in range(self.vectors):
                w = k.load(weights + (at * width + v * lanes), lanes)
                for row, value in enumerate(x):
                    place = (turn * len(sources) + row) * self.vectors + v
                    left, right = (value - w, value - w) if self.distance else (value, w)
                    acc[place] = k.fma(left, right, acc[place])

        whole = depth // turns * turns
        with k.loop(whole, step=turns, carry=acc) as at:
            for turn in range(turns):
                term(at + turn, turn)
        with k.loop(depth, start=whole, carry=acc) as at:
            term(at, 0)
        size = len(sources) * self.vectors
        total = acc[:size]
        for turn in range(1, turns):
            total = [a + b for a, b in zip(total, acc[turn * size : (turn + 1) * size], strict=True)]
        return [total[row * self.vectors : (row + 1) * self.vectors] for row in range(len(sources))]

    def _store(self, k: Builder, values: list[Val], target: Ptr, count: Int) -> None:
        lanes = values[0].lanes
        numbers = [k.load(k.pointer("numbers") + place) for place in range(len(self.after.leaves) - 1)]
        for v, value in enumerate(values):
            result = self.after.evaluate(k, [value, *(k.broadcast(number, lanes) for number in numbers)])
            k.store(result, target + v * lanes, k.first_lanes(count - v * lanes, lanes))
