"""Matrix products of any number of rows, over packed or plain matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import TOGETHER
from sardonyx.compiler.kernels.epilogue import Epilogue, Place
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.target import Target

PANELS, COLUMNS, ROWS = "panels", "columns", "rows"
"""How the second matrix lies: in panels (`pack_panels`), its columns contiguous, or its rows (that is, transposed)."""

_SIZES = ("m", "n", "depth", "inner", "panels", "together", "blocks", "chunk")
_STRIDES = ("x_outer", "x_group", "x_row", "x_column", "w_outer", "w_group", "y_group", "y_row")
_LATENCY = 8
"""Additions under way at once that keep two multiply-add units busy for four cycles."""
TURNS = 4
"""Turns of the inner loop written out."""
_LINE = 64
"""Bytes of a line of the cache, wherever we have been."""
_WORTH_PACKING = 4
"""Tiles from which a panel of a plain matrix is better copied first, so that its rows lie next to one another."""


@dataclass(frozen=True)
class _Rows:
    """A tile or a block: some rows of the result from `start` on, and where their sums stand in scratch memory."""

    start: Int
    count: Int
    sums: Ptr


@dataclass(frozen=True)
class _Panels:
    """Panels `apart` from one another, the rows of each `step`.

    `later` is where those lie that are used next, `share` how many elements of them to fetch with each row.
    """

    first: Ptr
    apart: Int
    step: Int
    later: Ptr | None = None
    share: Int | None = None


@dataclass(frozen=True)
class MatMul(Kernel):
    """y[g, m, n] = epilogue(sum over i < depth of x[g, m, i] * w[g, i, n]), g walking two axes of the batch.

    w is cut into panels of `vectors` registers of columns, x into tiles of at most `rows` rows: as few as possible,
    all of the same height or one less, so that no row is computed twice. There is code for each height, so one kernel
    and one layout of the weights serve any number of rows.

        for (g, block of tiles, some panels) in domain:
            for chunk of the depth:
                bring the panels' chunk into order, if it is not
                for panel in panels, for tile in block:
                    sums[panel, r, :] += sum over i in chunk of x[r, i] * w[i, :], for r in tile
            y[block, panels] = epilogue(sums)

    A block of a chunk of x stays in the second-level cache while the panels pass. The sums lie in the thread's scratch
    memory, so that the epilogue stands here once and not for each height. Low tiles add up their terms in several
    sums, since one addition waits for the one before.

    `source` says how w lies. A matrix in panels is read as it is. Of a plain one a panel is copied to the scratch
    memory, transposed if need be, unless all its columns are there and too few rows follow to pay for that.
    `contiguous`: the stride of x along the depth is 1. `packed`: x lies as `PackRows` leaves it. `ahead`, of a matrix
    in panels: while one is used the next is fetched from memory, a share with each tile. (Eight rows went 1.45 times as
    fast, 16 rows 1.4, 128 rows 1.03.)
    """

    rows: int
    vectors: int
    source: str
    dtype: DType
    epilogue: Epilogue
    contiguous: bool = True
    packed: bool = False
    ahead: bool = False

    def parameters(self) -> tuple[Parameter, ...]:
        """x, w and y, counts, strides.

        `inner` is how many groups follow one another `x_group` and `w_group` apart, `together` how many panels an item
        has. `w_step` is the size of a panel, or the stride of w along the axis that is not contiguous.
        """
        slots = [Parameter("x", self.dtype), Parameter("w", self.dtype), Parameter("y", self.epilogue.expr.dtype)]
        slots += [Parameter(name) for name in (*_SIZES, *_STRIDES, "w_step")]
        return (*slots, *self.epilogue.parameters())

    def scratch(self, target: Target, together: int, tiles: int, chunk: int) -> int:
        """Bytes of scratch memory a thread needs, for blocks of at most so many tiles."""
        width = self.vectors * target.lanes(self.dtype)
        return width * self.dtype.size * together * (tiles * self.rows + (0 if self.source == PANELS else chunk))

    def emit(self, k: Builder) -> None:
        """See the class."""
        width = self.vectors * k.target.lanes(self.dtype)
        panels, together = k.size("panels"), k.size("together")
        parts = (panels + together - 1) // together
        sums = k.workspace(self.dtype)
        if self.source != PANELS:
            sums = sums + together * k.size("chunk") * width
        with k.loop(k.end, start=k.begin) as item:
            part, rest = item % parts, item // parts
            block, group = rest % k.size("blocks"), rest // k.size("blocks")
            outer, inner = group // k.size("inner"), group % k.size("inner")
            x = k.pointer("x") + (outer * k.size("x_outer") + inner * k.size("x_group"))
            w = k.pointer("w") + (outer * k.size("w_outer") + inner * k.size("w_group"))
            tiles = (k.size("m") + (self.rows - 1)) // self.rows
            height, higher = k.size("m") // tiles, k.size("m") % tiles
            first, last = block * tiles // k.size("blocks"), (block + 1) * tiles // k.size("blocks")
            start = first * height + k.min(first, higher)
            rows = _Rows(start, last * height + k.min(last, higher) - start, sums)
            panel, end = part * together, k.min((part + 1) * together, panels)
            chunk = k.size("chunk")
            if self.source == PANELS:  # which few rows read best from end to end
                chunk = k.pick(last - first < 2, k.max(k.size("depth"), 1), chunk)
            with k.loop(k.max(k.size("depth"), 1), step=chunk) as at:
                depth = k.min(k.size("depth") - at, chunk)
                weights = self._panels(k, w, (panel, end), (at, depth), last - first)
                with (
                    k.loop(end, start=panel) as number,
                    k.loop(last, start=first) as tile,
                ):
                    begin = tile * height + k.min(tile, higher)
                    place = sums + ((number - panel) * rows.count + begin - start) * width
                    count = height + k.pick(tile < higher, 1, 0)
                    if self.packed:
                        source = x + (begin * k.size("depth") + at * count)
                    else:
                        source = x + (begin * k.size("x_row") + at * k.size("x_column"))
                    here = _Panels(weights.first + (number - panel) * weights.apart, weights.apart, weights.step)
                    if self.ahead:
                        following = weights.first + chunk * width, w + end * k.size("w_step")
                        after = k.pick_pointer(at + chunk < k.size("depth"), *following)
                        after = k.pick_pointer(number + 1 < end, here.first + here.apart, after)
                        share = (last - first + (width - 1)) // (last - first)
                        here = replace(here, later=after + (tile - first) * depth * share, share=share)
                    for some in range(self.rows, 0, -1):
                        with k.when(count.equals(some)):
                            self._sum(k, source, some, here, depth, place, at)
            with k.loop(end, start=panel) as number:
                target = _Rows(start, rows.count, sums + (number - panel) * rows.count * width)
                self._finish(k, group, number * width, target)

    # ---- the panels --------------------------------------------------------------------------------------------

    def _panels(self, k: Builder, w: Ptr, panels: tuple[Int, Int], chunk: tuple[Int, Int], tiles: Int) -> _Panels:
        """Where the chunk of depth (its start and length) of the panels from the first to before the second lies."""
        width = self.vectors * k.target.lanes(self.dtype)
        (first, end), (at, depth), step = panels, chunk, k.size("w_step")
        if self.source == PANELS:
            return _Panels(w + (first * step + at * width), step, k.index(width))
        copied, left = k.workspace(self.dtype), k.size("n") - first * width
        apart = k.size("chunk") * width
        if self.source == ROWS:
            with k.loop(end - first) as p:
                self._transpose(k, w + ((first + p) * width * step + at), left - p * width, depth, copied + p * apart)
            return _Panels(copied, apart, k.index(width))
        source = w + (first * width + at * step)
        plain = (left >= (end - first) * width) & (tiles < _WORTH_PACKING)
        with k.loop(k.pick(plain, 0, depth)) as i, k.loop(end - first) as p:
            self._copy(k, source + (i * step + p * width), left - p * width, copied + (p * apart + i * width))
        return _Panels(k.pick_pointer(plain, source, copied), k.pick(plain, width, apart), k.pick(plain, step, width))

    def _copy(self, k: Builder, source: Ptr, left: Int, target: Ptr) -> None:
        """A row of a panel, of which `left` elements are there."""
        lanes = k.target.lanes(self.dtype)

        def move(whole: bool) -> None:
            for at in range(0, self.vectors * lanes, lanes):
                k.store(k.load(source + at, lanes, None if whole else k.first_lanes(left - at, lanes)), target + at)

        k.either(left >= self.vectors * lanes, lambda: move(True), lambda: move(False))

    def _transpose(self, k: Builder, w: Ptr, left: Int, depth: Int, copied: Ptr) -> None:
        """A panel out of rows of the transposed matrix; where those end, the last is repeated."""
        lanes = k.target.lanes(self.dtype)
        width = self.vectors * lanes
        whole = depth // lanes * lanes
        for v in range(self.vectors):
            rows = [w + k.min(left - 1, v * lanes + lane) * k.size("w_step") for lane in range(lanes)]
            with k.loop(whole, step=lanes) as i:
                for turn, value in enumerate(k.transpose([k.load(row + i, lanes) for row in rows])):
                    k.store(value, copied + ((i + turn) * width + v * lanes))
            with k.loop(depth, start=whole) as i:
                k.store(k.vector([k.load(row + i) for row in rows]), copied + (i * width + v * lanes))

    # ---- a tile ------------------------------------------------------------------------------------------------

    def _sum(self, k: Builder, x: Ptr, height: int, panel: _Panels, depth: Int, place: Ptr, start: Int) -> None:
        """Add the products of the chunk from `start` on to a tile's sums; the first one sets them."""
        lanes = k.target.lanes(self.dtype)
        sums = self._sums(k.target, height)
        acc = [k.const(0, self.dtype, lanes) for _ in range(sums * height * self.vectors)]
        rows = [x + (r if self.packed else k.size("x_row") * r) for r in range(height)]
        step = k.index(height) if self.packed else k.index(1) if self.contiguous else k.size("x_column")
        together = TURNS if self.contiguous or sums > 1 else 1

        def turn(at: Int, weights: Ptr, part: int) -> None:
            columns = [k.load(weights + v * lanes, lanes) for v in range(self.vectors)]
            for r, row in enumerate(rows):
                element = k.broadcast(k.load(row + at), lanes)
                for v, column in enumerate(columns):
                    index = (part * height + r) * self.vectors + v
                    acc[index] = k.fma(element, column, acc[index])

        whole = depth // together * together
        moving: list[Int | Ptr] = [k.index(0), panel.first]
        with k.loop(whole, step=together, carry=acc, moving=moving) as i:
            at, weights = moving
            assert isinstance(at, Int)
            assert isinstance(weights, Ptr)
            self._fetch(k, panel, i)
            for u in range(together):
                turn(at + step * u, weights + panel.step * u, u % sums)
            moving[:] = [at + step * together, weights + panel.step * together]
        with k.loop(depth, start=whole, carry=acc) as i:
            turn(i * step, panel.first + i * panel.step, 0)
        each = height * self.vectors
        totals = acc[:each]
        for index in range(each, len(acc)):
            totals[index % each] = totals[index % each] + acc[index]
        with k.loop(k.min(start, 1), carry=totals):  # once, but for the first chunk
            totals[:] = [total + k.load(place + i * lanes, lanes) for i, total in enumerate(totals)]
        for index, total in enumerate(totals):
            k.store(total, place + index * lanes)

    def _fetch(self, k: Builder, panel: _Panels, i: Int) -> None:
        """Ask for what `TURNS` rows of the panel bring of the next: for one cache line or, with few tiles, for two."""
        if panel.later is None or panel.share is None:
            return
        k.prefetch(panel.later + i * panel.share)
        with k.when(panel.share > _LINE // self.dtype.size // TURNS + 2):  # else the processor brings what is left out
            k.prefetch(panel.later + (i + TURNS // 2) * panel.share)

    def _sums(self, target: Target, height: int) -> int:
        """How many sums each element is added up in: enough to hide the latency of an addition."""
        each = height * self.vectors
        fits = [s for s in (4, 2, 1) if s * each + self.vectors + 1 <= target.vector_registers]
        return min((s for s in fits if s * each >= _LATENCY), default=fits[0] if fits else 1)

    def _finish(self, k: Builder, group: Int, column: Int, rows: _Rows) -> None:
        """Store rows of a panel, which starts at `column`, through the epilogue."""
        lanes = k.target.lanes(self.dtype)
        left, operands = k.size("n") - column, self.epilogue.bases(k, group)
        y = k.pointer("y") + (group * k.size("y_group") + column)
        together = max(1, TOGETHER // self.vectors) if self.epilogue.expr.is_long else 1

        def write(masked: bool) -> None:
            masks = [k.first_lanes(left - v * lanes, lanes) if masked else None for v in range(self.vectors)]

            def some(first: Int, count: int) -> None:
                values, places, targets = [], [], []
                for r in range(count):
                    row, source = rows.start + first + r, rows.sums + (first + r) * (self.vectors * lanes)
                    for v, mask in enumerate(masks):
                        values.append(k.load(source + v * lanes, lanes))
                        places.append(Place(operands, row, column + v * lanes, mask))
                        targets.append(y + row * k.size("y_row") + v * lanes)
                values = self.epilogue.apply_each(k, values, places)
                for value, place, target in zip(values, places, targets, strict=True):
                    k.store(value, target, place.mask)

            whole = rows.count // together * together
            with k.loop(whole, step=together) as r:
                some(r, together)
            if together > 1:
                with k.loop(rows.count, start=whole) as r:
                    some(r, 1)

        k.either(left >= self.vectors * lanes, lambda: write(False), lambda: write(True))


@dataclass(frozen=True)
class PackRows(Kernel):
    """The rows of a matrix in the tiles of a `MatMul` of at most `rows` rows, those of a tile side by side:
    y[tile][i][r] = x[tile + r, i], one tile after another.

    A product reads a tile once for each panel of its other matrix: from one place then, not from as many as it has
    rows, which are often a power of two apart and so share few lines of the cache.
    """

    rows: int
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x with contiguous rows `x_row` apart, y, and the counts."""
        return (
            Parameter("x", self.dtype),
            Parameter("y", self.dtype),
            *(Parameter(s) for s in ("m", "depth", "x_row")),
        )

    def emit(self, k: Builder) -> None:
        """One tile an item."""
        tiles = (k.size("m") + (self.rows - 1)) // self.rows
        height, higher = k.size("m") // tiles, k.size("m") % tiles
        with k.loop(k.end, start=k.begin) as tile:
            begin = tile * height + k.min(tile, higher)
            source, target = k.pointer("x") + begin * k.size("x_row"), k.pointer("y") + begin * k.size("depth")
            count = height + k.pick(tile < higher, 1, 0)
            for some in range(self.rows, 0, -1):
                with k.when(count.equals(some)):
                    self._tile(k, source, target, some)

    def _tile(self, k: Builder, source: Ptr, target: Ptr, height: int) -> None:
        lanes, depth = k.target.lanes(self.dtype), k.size("depth")
        rows = [source + k.size("x_row") * r for r in range(height)]
        # Vectors reach into what follows, which is written later: so the end of a tile is left to single elements.
        whole = k.max(depth - lanes, 0) // lanes * lanes
        with k.loop(whole, step=lanes) as i:
            blocks = []
            for first in range(0, height, lanes):
                block = [k.load(row + i, lanes) for row in rows[first : first + lanes]]
                blocks.append(k.transpose([*block, *block[-1:] * (lanes - len(block))]))
            for turn in range(lanes):
                for index, block in enumerate(blocks):
                    k.store(block[turn], target + ((i + turn) * height + index * lanes))
        with k.loop(depth, start=whole) as i:
            for r, row in enumerate(rows):
                k.store(k.load(row + i), target + (i * height + r))
