"""Matrix products and convolutions as one kernel: an implicit matrix product over packed weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue, Place
from sardonyx.compiler.kernels.window import SCATTERED, TABLES, Tile, axis_parameters, tile_at
from sardonyx.compiler.layout import aligned_zeros
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.target import Target

_SIZES: tuple[str, ...] = (
    "m",
    "n",
    "channels",
    "x_channel",
    "x_group",
    "w_panel",
    "w_group",
    "y_row",
    "y_group",
)
_SIZES += ("panels", "blocks", "block_tiles")


@dataclass(frozen=True)
class _Panel:
    """A panel's weights from some element of the window on: `width` for each of its elements.

    `later` is where those of the next panel lie that are fetched meanwhile, `share` of them with each element.
    """

    at: Ptr
    width: int
    later: Ptr | None = None
    share: Int | None = None

    @property
    def ahead(self) -> tuple[Ptr, Int] | None:
        """What `accumulate` is to prefetch."""
        return None if self.later is None or self.share is None else (self.later, self.share)

    def after(self, elements: Int) -> _Panel:
        """The same after some elements of the window."""
        later = None if self.later is None or self.share is None else self.later + elements * self.share
        return _Panel(self.at + elements * self.width, self.width, later, self.share)


@dataclass(frozen=True)
class ImplicitGemm(Kernel):
    """y[g, m, n] = epilogue(sum over taps t and channels c of x[g, window(m) + t, c] * w[g, n, t, c]).

    A row m is an output pixel (a matrix row when `spatial` is 0, which makes this a batched matrix product with
    the batch in g); a window element outside the input counts as 0. Weights are in panels of `vectors` registers:
    w[g][panel][tap][channel][column], the last panel padded with zeros (`pack_panels`).

        for (g, block of m-tiles, panel) in domain, for m-tile in block:  acc = 0
            for t in taps:  row r starts at x + window(m + r) + t, or at zeros when that is outside
                for c in channels:  acc[r, :] += x[r][c * channel_stride] * w[c, :]
            y[m-tile, panel] = epilogue(acc)

    The channel stride of the input is an argument, so channels-first inputs are read where they are. Rows past
    the last one repeat it, which is harmless since a tile loads all its operands before it stores.
    Short runs of contiguous elements (`run` of them, when not 0) are unrolled: in first layers, with few channels, a
    loop over them would cost more than its body; so are the taps of the axis before the last (`turns`) when the
    channels are one. With `dot`, for a few columns only, vectors run along the channels (a whole number of them)
    instead of the columns: `vectors` is then n, weights are in the layout of `pack_dot`, and each sum is reduced at the
    end. `border`: some windows may leave the input. `scattered`: the pixels that the rows compute stand in a table.
    `ahead`: while a panel is used the next one is fetched from memory, a share with each tile; otherwise the first tile
    would wait for it. `contiguous`: the channel stride is 1.
    After XNNPACK's indirect convolution (Dukhan, arXiv:1907.02129), with the indirection computed in registers.
    """

    rows: int
    vectors: int
    spatial: int
    dtype: DType
    epilogue: Epilogue
    run: int = 0
    turns: int = 0
    border: bool = True
    dot: bool = False
    ahead: bool = False
    contiguous: bool = False
    scattered: bool = False

    def parameters(self) -> tuple[Parameter, ...]:
        """x, w, y and zeros (`channels * channel_stride` of them), strides and counts, then each spatial axis.

        `run` elements of a window are contiguous in the input and the weights: the channels, or `taps` of the last
        axis and the channels together; `run_taps` is how many such runs the last axis has.
        """
        slots = [Parameter(name, self.dtype) for name in ("x", "w", "zeros")]
        slots.append(Parameter("y", self.epilogue.expr.dtype))
        slots += [Parameter(name) for name in _SIZES]
        if self.spatial:
            slots += [*TABLES, *(Parameter(name) for name in ("corner_axis", "run", "run_taps"))]
        else:
            slots.append(Parameter("x_row"))
        if self.scattered:
            slots.append(SCATTERED)
        return (*slots, *axis_parameters(self.spatial), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        width = self.vectors * lanes
        with k.loop(k.end, start=k.begin) as item:
            panel = item % k.size("panels")
            block = item // k.size("panels") % k.size("blocks")
            group = item // k.size("panels") // k.size("blocks")
            column = panel * width
            weights = k.pointer("w") + (group * k.size("w_group") + panel * k.size("w_panel"))
            inputs = k.pointer("x") + group * k.size("x_group")
            outputs = k.pointer("y") + (group * k.size("y_group") + column)
            operands = self.epilogue.bases(k, group)
            first = block * k.size("block_tiles")
            tiles = (k.size("m") + (self.rows - 1)) // self.rows
            with k.loop(k.min(first + k.size("block_tiles"), tiles), start=first) as number:
                first_row, windows = number * self.rows, self.spatial > 0
                tile = tile_at(k, inputs, first_row, self.rows, windows=windows, scattered=self.scattered)
                acc = [k.const(0.0, self.dtype, lanes) for _ in range(self.rows * self.vectors)]
                self._sum(k, tile, number, self._panel(k, weights, number - first, block), acc)
                self._store(k, tile, acc, outputs, operands, column)

    def _panel(self, k: Builder, weights: Ptr, turn: Int, block: Int) -> _Panel:
        """The panel for the `turn`th tile of a block."""
        width = self.vectors if self.dot else self.vectors * k.target.lanes(self.dtype)
        if not self.ahead:
            return _Panel(weights, width)
        left = (k.size("m") + (self.rows - 1)) // self.rows - block * k.size("block_tiles")
        turns = k.min(k.size("block_tiles"), left)
        share = (turns + (width - 1)) // turns
        depth = k.size("channels")
        for axis in range(self.spatial):
            depth = depth * k.size(f"taps{axis}")
        return _Panel(weights, width, weights + k.size("w_panel") + turn * depth * share, share)

    def _sum(self, k: Builder, tile: Tile, number: Int, weights: _Panel, acc: list[Val]) -> None:
        """Add up all taps. Tiles whose windows lie inside the input need no test of each tap: one of the two loop
        nests below runs, the other's outermost loop has no turns.
        """
        if self.spatial == 0:
            self._accumulate(k, tile.origins, k.index(0), weights, k.size("channels"), acc)
            return
        first = k.size("taps0") if self.spatial > 1 else k.size("run_taps")
        if not self.border:
            self._inside(k, tile, weights, acc, 0, k.index(0), first)
            return
        flag = k.load(k.pointer("inside") + number)
        inside = flag.compare("!=", k.const(0, DType.U8))
        self._inside(k, tile, weights, acc, 0, k.index(0), k.pick(inside, first, 0))
        self._border(k, tile, weights, acc, 0, tile.origins, [], k.pick(inside, 0, k.size("taps0")))

    def _accumulate(
        self, k: Builder, rows: Sequence[Ptr], offset: Int, weights: _Panel, depth: Int, acc: list[Val]
    ) -> None:
        step = k.index(1) if self.contiguous else k.size("x_channel")
        at, ahead = weights.at, weights.ahead
        accumulate(k, rows, offset, step, at, depth, acc, self.vectors, dot=self.dot, ahead=ahead)

    def _depth(self, k: Builder, axis: int) -> Int:
        """Elements of a window that one tap of an axis covers."""
        depth = k.size("channels")
        for later in range(axis + 1, self.spatial):
            depth = depth * k.size(f"taps{later}")
        return depth

    def _inside(
        self, k: Builder, tile: Tile, weights: _Panel, acc: list[Val], axis: int, offset: Int, turns: Int
    ) -> None:
        """Taps from `axis` on, for windows inside the input: one offset for all rows. Where the last axis' taps and
        the channels are contiguous they are one run.
        """
        if axis == self.spatial:
            if self.run:
                accumulate_unrolled(k, tile.origins, offset, weights.at, self.run, acc, self.vectors)
            else:
                self._accumulate(k, tile.origins, offset, weights, k.size("run"), acc)
            return
        if self.turns and axis == self.spatial - 2:
            for turn in range(self.turns):
                row = weights.after(k.index(turn * self.run))
                moved = offset + k.size(f"dilation{axis}") * k.size(f"x{axis}") * turn
                accumulate_unrolled(k, tile.origins, moved, row.at, self.run, acc, self.vectors)
            return
        with k.loop(turns, carry=acc) as tap:
            moved = offset + tap * k.size(f"dilation{axis}") * k.size(f"x{axis}")
            following = axis + 1
            last = self.spatial - 1
            turns = k.size("run_taps") if following == last else k.size(f"taps{min(following, last)}")
            self._inside(k, tile, weights.after(tap * self._depth(k, axis)), acc, following, moved, turns)

    def _border(
        self,
        k: Builder,
        tile: Tile,
        weights: _Panel,
        acc: list[Val],
        axis: int,
        rows: Sequence[Ptr],
        inside: Sequence[Val],
        turns: Int,
    ) -> None:
        """Taps from `axis` on, each row's tested; `rows` are the addresses so far, `inside` whether they hold."""
        if axis == self.spatial:
            zeros = k.pointer("zeros")
            rows = [k.pick_pointer(ok, row, zeros) for ok, row in zip(inside, rows, strict=True)]
            self._accumulate(k, rows, k.index(0), weights, k.size("channels"), acc)
            return
        table = k.pointer("corners") + (k.size("corner_axis") * axis + tile.start)
        with k.loop(turns, carry=acc) as tap:
            corners = [k.load_index(table + r) for r in range(self.rows)]
            reach = tap * k.size(f"dilation{axis}")
            here = [(corner + reach).within(k.size(f"size{axis}")) for corner in corners]
            both = [a & b for a, b in zip(inside, here, strict=True)] if inside else here
            moved = [row + reach * k.size(f"x{axis}") for row in rows]
            turns = k.size(f"taps{min(axis + 1, self.spatial - 1)}")
            self._border(k, tile, weights.after(tap * self._depth(k, axis)), acc, axis + 1, moved, both, turns)

    def _store(
        self, k: Builder, tile: Tile, acc: list[Val], outputs: Ptr, operands: Sequence[Ptr], column: Int
    ) -> None:
        lanes, zero = 1 if self.dot else k.target.lanes(self.dtype), k.index(0)
        left, rows = k.size("n") - column, tile.rows(outputs, k.size("y_row"))
        placed = self.epilogue.placed(k, operands, tile)

        def write(masked: bool) -> None:
            masks = [k.first_lanes(left - v * lanes, lanes) if masked else None for v in range(self.vectors)]
            values, places = [], []
            for r, here in enumerate(placed):
                for v, mask in enumerate(masks):
                    value = acc[r * self.vectors + v]
                    values.append(k.reduce(value, lambda a, b: a + b) if self.dot else value)
                    places.append(Place(here, zero, column + v * lanes, mask))
            results = self.epilogue.apply_each(k, values, places)
            for r, row in enumerate(rows):
                for v, mask in enumerate(masks):
                    k.store(results[r * self.vectors + v], row + v * lanes, mask)

        if self.dot:
            write(False)
        else:
            k.either(left >= self.vectors * lanes, lambda: write(False), lambda: write(True))


_TOGETHER = 4
"""Turns of the inner loop written out: fewer instructions that only count, and a cache line to prefetch for each."""


def accumulate(
    k: Builder,
    rows: Sequence[Ptr],
    offset: Int,
    stride: Int,
    panel: Ptr,
    depth: Int,
    acc: list[Val],
    vectors: int,
    *,
    dot: bool = False,
    ahead: tuple[Ptr, Int] | None = None,
) -> None:
    """acc[r, v] += sum over i < depth of rows[r][offset + i * stride] * panel[i, v]: the tile's inner loop.

    With `dot` the lanes of acc[r, v] are sums of their own: i moves by vectors of contiguous elements. `ahead` is where
    weights for later lie, and how many elements of them to prefetch for each i.
    """
    lanes = acc[0].lanes
    step = lanes if dot else 1
    together = _TOGETHER if stride.value == 1 and not dot else 1

    def turn(at: Int, weights: Ptr) -> None:
        columns = [k.load(weights + v * lanes, lanes) for v in range(vectors)]
        for r, row in enumerate(rows):
            element = k.load(row + at, lanes) if dot else k.broadcast(k.load(row + at), lanes)
            for v, column in enumerate(columns):
                acc[r * vectors + v] = k.fma(element, column, acc[r * vectors + v])

    whole = depth // together * together
    moving: list[Int | Ptr] = [offset, panel]
    with k.loop(whole, step=step * together, carry=acc, moving=moving) as i:
        at, weights = moving
        assert isinstance(at, Int)
        assert isinstance(weights, Ptr)
        if ahead is not None:
            k.prefetch(ahead[0] + i * ahead[1])
        for u in range(together):
            turn(at + u, weights + u * vectors * lanes)
        moving[:] = [at + (lanes if dot else stride * together), weights + together * vectors * lanes]
    if together > 1:
        with k.loop(depth, start=whole, carry=acc) as i:
            turn(offset + i, panel + i * (vectors * lanes))


def accumulate_unrolled(
    k: Builder, rows: Sequence[Ptr], offset: Int, panel: Ptr, depth: int, acc: list[Val], vectors: int
) -> None:
    """The same for a small known depth of contiguous elements, without a loop."""
    lanes = acc[0].lanes
    starts = [row + offset for row in rows]
    for i in range(depth):
        columns = [k.load(panel + (i * vectors + v) * lanes, lanes) for v in range(vectors)]
        for r, start in enumerate(starts):
            element = k.broadcast(k.load(start + i), lanes)
            for v, column in enumerate(columns):
                acc[r * vectors + v] = k.fma(element, column, acc[r * vectors + v])


def pack_panels(weights: np.ndarray, width: int) -> np.ndarray:
    """Weights [groups, n, taps, channels] as [groups, panels, taps, channels, width], padded with zeros."""
    groups, n, taps, channels = weights.shape
    panels = -(-n // width)
    packed = aligned_zeros((groups, panels, taps, channels, width), weights.dtype)
    for panel in range(panels):
        part = weights[:, panel * width : (panel + 1) * width]
        packed[:, panel, :, :, : part.shape[1]] = part.transpose(0, 2, 3, 1)
    return packed


def pack_dot(weights: np.ndarray, lanes: int) -> np.ndarray:
    """Weights [n, taps, channels] as [taps, channels / lanes, n, lanes]."""
    n, taps, channels = weights.shape
    packed = aligned_zeros((taps, channels // lanes, n, lanes), weights.dtype)
    packed[:] = weights.reshape(n, taps, channels // lanes, lanes).transpose(1, 2, 0, 3)
    return packed


def dot_tile(target: Target, n: int) -> tuple[int, int]:
    """(rows, vectors) for `dot` with n columns."""
    rows = (target.vector_registers - n - 1) // n
    return max(1, min(rows, target.general_registers - _OTHER_ADDRESSES)), n


@dataclass(frozen=True)
class PackPanels(Kernel):
    """The same packing at run time, for a matrix that is not a constant: y[g][panel][k][column] = b[g, k, n]."""

    vectors: int
    contiguous: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """b with its strides, y, and the counts."""
        sizes = ("depth", "n", "b_group", "b_row", "b_column", "panels")
        return (Parameter("b", self.dtype), Parameter("y", self.dtype), *(Parameter(s) for s in sizes))

    def emit(self, k: Builder) -> None:
        """One panel an item."""
        lanes = k.target.lanes(self.dtype)
        width = self.vectors * lanes
        with k.loop(k.end, start=k.begin) as item:
            panel, group = item % k.size("panels"), item // k.size("panels")
            column = panel * width
            source = k.pointer("b") + (group * k.size("b_group") + column * k.size("b_column"))
            target = k.pointer("y") + item * (k.size("depth") * width)
            left = k.size("n") - column
            masks = [k.first_lanes(left - v * lanes, lanes) for v in range(self.vectors)]
            with k.loop(k.size("depth")) as i:
                for v, mask in enumerate(masks):
                    at = source + (i * k.size("b_row") + k.size("b_column") * (v * lanes))
                    if self.contiguous:
                        value = k.load(at, lanes, mask)
                    else:
                        value = self._gather(k, source, i, v, left)
                    k.store(value, target + (i * width + v * lanes))

    def _gather(self, k: Builder, source: Ptr, i: Int, vector: int, left: Int) -> Val:
        """Lanes `b_column` apart; past the matrix' end they repeat its last column (never stored results)."""
        lanes = k.target.lanes(self.dtype)
        base = source + i * k.size("b_row")
        parts = []
        for lane in range(lanes):
            column = k.min(vector * lanes + lane, left - 1)
            parts.append(k.load(base + column * k.size("b_column")))
        return k.vector(parts)


_OTHER_ADDRESSES = 8
"""General registers the loops need beside one a row: weights, index, counter, bounds, stack (measured)."""


def tile_for(target: Target, dtype: DType, m: int, n: int) -> tuple[int, int]:
    """(rows, vectors) of the cheapest register tile for m rows and n columns."""
    costs = tile_costs(target, dtype, m, n)
    return min(costs, key=costs.__getitem__)


def tile_costs(target: Target, dtype: DType, m: int, n: int) -> dict[tuple[int, int], float]:
    """Cycles, for one element of a row, by (rows, vectors) of the register tile, for m rows and n columns.

    A tile needs rows * vectors accumulators, a register a vector of weights, one for the broadcast element and, where
    a multiply-add is two instructions, one for the product; rows whose address finds no general register are loads
    more. A turn of the inner loop costs the larger of its multiply-adds (two a cycle) and its loads (two a cycle),
    never less than the latency of a dependent addition (four cycles); what the tiles stick out costs too.
    """
    lanes = target.lanes(dtype)
    others = 1 if target.has_fma else 2
    costs: dict[tuple[int, int], float] = {}
    for vectors in range(1, 9):
        for rows in range(1, 15):
            if rows * vectors + vectors + others > target.vector_registers:
                continue
            turns = -(-m // rows) * -(-n // (vectors * lanes))
            reloads = max(0, rows + _OTHER_ADDRESSES - target.general_registers)
            cycles = max(rows * vectors / 2, (rows + vectors + reloads) / 2, 4.0)
            costs[rows, vectors] = turns * (cycles + 0.05 * vectors)
    return costs
