"""Ensembles of decision trees, as data: no code depends on a tree.

Every decision is `x <= threshold` (`ops/ensemble.py`). Rows are first brought into scratch memory, in the type of the
thresholds, with the features that the trees ask for and no others; a feature whose NaN goes to the true branch is
there as minus infinity instead of NaN, which no number is confused with: a comparison with it holds wherever the
threshold is a number. So NaN costs nothing later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.select import number
from sardonyx.compiler.program import Kernel

CHAINS = 16
"""Descents at a time: each waits for memory and comparisons most of the time. 16 beat 8 by a tenth or more, and 8 beat
4 by half, on one core with AVX2."""
_IDENTITY = {"SUM": 0.0, "AVERAGE": 0.0, "MIN": float("inf"), "MAX": float("-inf")}


def words(dtype: DType) -> int:
    """Of 32 bits in a node: its threshold, the column, the places of its children; four or, with a double, eight."""
    return dtype.size


def identity(aggregate: str) -> float:
    """What changes no score."""
    return _IDENTITY[aggregate]


@dataclass(frozen=True)
class Votes:
    """How leaves are added to scores: `aggregate` of `weight` elements, in rows of the table or in lists.

    A row of the table has the weights of targets from the tree's first on; lists name their targets.
    """

    aggregate: str
    weight: DType
    lists: bool

    def parameters(self) -> tuple[Parameter, ...]:
        """The leaves' weights; the first target of each tree and how many, or lists."""
        weights = Parameter("weights", self.weight)
        if self.lists:
            return weights, Parameter("starts", DType.I64), Parameter("ids", DType.I64)
        return weights, Parameter("firsts", DType.I64), Parameter("width")

    def combine(self, k: Builder, total: Val, vote: Val) -> Val:
        """A score with one more vote."""
        if self.aggregate in ("SUM", "AVERAGE"):
            return total + vote
        return k.select(vote < total if self.aggregate == "MIN" else vote > total, vote, total)

    def _fold(self, k: Builder, votes: Sequence[Val]) -> Val:
        """Several votes for a target, in pairs."""
        found = list(votes)
        while len(found) > 1:
            found = [self.combine(k, a, b) for a, b in zip(found[::2], found[1::2], strict=True)]
        return found[0]

    def of_rows(self, k: Builder, leaves: Sequence[Int], tree: Int, scores: Ptr, pitch: Int) -> None:
        """Add the leaves that consecutive rows reach in a tree; a row's scores are `pitch` elements apart."""
        if self.lists:
            for row, leaf in enumerate(leaves):
                self._listed(k, leaf, scores + row, pitch)
            return
        first, width = k.load_index(k.pointer("firsts") + tree), k.size("width")
        weights = [k.pointer("weights") + leaf * width for leaf in leaves]
        with k.loop(width) as column:
            votes = k.cast(k.vector([k.load(weight + column) for weight in weights]), DType.F64)
            target = scores + (first + column) * pitch
            k.store(self.combine(k, k.load(target, len(leaves)), votes), target)

    def of_trees(self, k: Builder, leaves: Sequence[Int], tree: Int, scores: Ptr) -> None:
        """Add the leaves that one row reaches in consecutive trees, all with the same first target."""
        if self.lists:
            for leaf in leaves:
                self._listed(k, leaf, scores, k.index(1))
            return
        first, width = k.load_index(k.pointer("firsts") + tree), k.size("width")
        weights = [k.pointer("weights") + leaf * width for leaf in leaves]
        with k.loop(width) as column:
            votes = self._fold(k, [k.cast(k.load(weight + column), DType.F64) for weight in weights])
            target = scores + (first + column)
            k.store(self.combine(k, k.load(target), votes), target)

    def _listed(self, k: Builder, leaf: Int, scores: Ptr, pitch: Int) -> None:
        starts = k.pointer("starts") + leaf
        with k.loop(k.load_index(starts + 1), start=k.load_index(starts)) as at:
            target = scores + k.load_index(k.pointer("ids") + at) * pitch
            vote = k.cast(k.load(k.pointer("weights") + at), DType.F64)
            k.store(self.combine(k, k.load(target), vote), target)


@dataclass(frozen=True)
class Ensemble(Kernel):
    """y[n, t] = base[t] + aggregate over trees of the votes for t of the leaf that row n reaches.

    for block of rows in domain:  scratch = the rows' columns;  scores = nothing yet
        for tree, for `CHAINS` rows at a time (or for the only row, for `CHAINS` trees at a time):
            place = root
            `depth` times:  place = true[place] if row[column[place]] <= threshold[place] else false[place]
            scores = scores combined with the votes of leaf `place`

    A leaf is a node that leads to itself. Trees come in groups of `CHAINS` of the same first target. A row has `pitch`
    elements of scratch memory. Scores are added up in float64 and rounded once.
    """

    source: DType
    dtype: DType
    target: DType
    votes: Votes
    single: bool
    pitch: int

    def parameters(self) -> tuple[Parameter, ...]:
        """Rows, the columns wanted of them, trees, votes, the result; sizes and strides."""
        tensors = (
            Parameter("x", self.source),
            Parameter("features", DType.I64),
            Parameter("tracks", DType.BOOL),
            Parameter("nodes", DType.I32),
            Parameter("roots", DType.I64),
            Parameter("depths", DType.I64),
            Parameter("base", DType.F64),
            Parameter("y", self.target),
        )
        sizes = ("rows", "x_row", "x_column", "columns", "block", "trees", "counted", "targets", "inner")
        return (*tensors, *self.votes.parameters(), *(Parameter(name) for name in sizes))

    @staticmethod
    def scratch(block: int, pitch: int, targets: int, dtype: DType) -> int:
        """Bytes of scratch memory: scores and rows, of as many rows as chains divide."""
        return block * (targets * DType.F64.size + pitch * dtype.size)

    def emit(self, k: Builder) -> None:
        """See the class."""
        block, targets = k.size("block"), k.size("targets")
        scores = k.workspace(DType.F64)
        table = Ptr(k, (scores + block * targets).ir, self.dtype)
        with k.loop(k.end, start=k.begin) as item:
            first = item * block
            count = k.min(block, k.size("rows") - first)
            bring_rows(k, self.dtype, first, count, lambda row, column: table + (row * self.pitch + column))
            with k.loop(block * targets) as at:
                k.store(k.const(identity(self.votes.aggregate), DType.F64), scores + at)
            if self.single:
                self._trees(k, table, scores)
            else:
                with k.loop(k.size("trees")) as tree, k.loop(count, step=CHAINS) as row:
                    self._rows(k, tree, table + row * self.pitch, scores + row)
            write_scores(k, self.votes.aggregate, first, count, lambda row, target: scores + (target * block + row))

    def _rows(self, k: Builder, tree: Int, row: Ptr, scores: Ptr) -> None:
        root, depth = k.load(k.pointer("roots") + tree), k.load_index(k.pointer("depths") + tree)
        rows = [row + chain * self.pitch for chain in range(CHAINS)]
        leaves = self._descend(k, [root] * CHAINS, rows, depth)
        self.votes.of_rows(k, leaves, tree, scores, k.size("block"))

    def _trees(self, k: Builder, row: Ptr, scores: Ptr) -> None:
        with k.loop(k.size("trees"), step=CHAINS) as tree:
            roots = [k.load(k.pointer("roots") + (tree + chain)) for chain in range(CHAINS)]
            depth = k.load_index(k.pointer("depths") + (tree + CHAINS - 1))  # the deepest of a group comes last
            leaves = self._descend(k, roots, [row] * CHAINS, depth)
            self.votes.of_trees(k, leaves, tree, scores)

    def _descend(self, k: Builder, places: list[Val], rows: Sequence[Ptr], depth: Int) -> list[Int]:
        """The leaves reached from these nodes, places of which are counted in words of the table."""
        step, head = words(self.dtype), self.dtype.size // 4
        with k.loop(depth, carry=places):
            for chain, row in enumerate(rows):
                node = k.pointer("nodes") + Int(k, places[chain].ir)
                threshold = k.load(Ptr(k, node.ir, self.dtype))
                column, true, false = (k.cast(k.load(node + (head + part)), DType.I64) for part in range(3))
                met = k.load(row + Int(k, column.ir)).compare("<=", threshold)
                places[chain] = k.select(met, true, false)
        inner = k.size("inner")
        return [Int(k, place.ir) // step - inner for place in places]


def bring_rows(k: Builder, dtype: DType, first: Int, count: Int, place: Callable[[Int, Int], Ptr]) -> None:
    """Copy the columns wanted of rows of `x` to where `place` says, as `dtype`."""
    lowest = k.const(float("-inf"), dtype)
    with k.loop(k.size("columns")) as column:
        feature = k.load_index(k.pointer("features") + column)
        tracks = k.load(k.pointer("tracks") + column)
        source = k.pointer("x") + (first * k.size("x_row") + feature * k.size("x_column"))
        with k.loop(count) as row:
            value = k.cast(k.load(source + row * k.size("x_row")), dtype)
            if dtype.is_float:
                value = k.select(tracks & value.compare("!=", value), lowest, value)
            k.store(value, place(row, column))


def write_scores(k: Builder, aggregate: str, first: Int, count: Int, score: Callable[[Int, Int], Ptr]) -> None:
    """y = base + scores, those of `first` on; MIN and MAX of no vote at all count as 0."""
    targets, y = k.size("targets"), k.pointer("y")
    nothing, zero = k.const(identity(aggregate), DType.F64), k.const(0.0, DType.F64)
    with k.loop(count) as row, k.loop(targets) as target:
        total = k.load(score(row, target))
        if aggregate == "AVERAGE":
            total = total / k.cast(number(k, k.size("counted")), DType.F64)
        elif aggregate != "SUM":
            total = k.select(total.compare("==", nothing), zero, total)
        total = total + k.load(k.pointer("base") + target)
        k.store(k.cast(total, y.dtype), y + ((first + row) * targets + target))
