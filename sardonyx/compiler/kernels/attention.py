"""Attention: scores, masks, softmax and the weighted sum of values as one kernel, with no matrix of scores in memory.

Keys come in blocks. Each query keeps the highest score so far and the sum of e ** (score - highest); what it has summed
up of the values shrinks when a block brings a higher score (Milakov and Gimelshein, arXiv:1805.02867; Dao et al.,
FlashAttention, arXiv:2205.14135). A key that a query may not attend has weight 0, even if its score is not finite, and
a query that may attend none gets zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sardonyx.compiler import vmath
from sardonyx.compiler.builder import I32, Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import TOGETHER
from sardonyx.compiler.kernels.attention_scores import (
    FAR,
    Scoring,
    inverse,
    larger,
    parameters_of,
    shift_of,
    write_rows,
)
from sardonyx.compiler.kernels.gemm import accumulate
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.target import Target

_VECTORS = 2
"""Registers of queries in a panel."""
_TOGETHER = 4
"""Turns of the innermost loops written out."""
_TURNS = TOGETHER // _VECTORS
"""Keys whose powers are computed at once."""


@dataclass(frozen=True)
class _Rows:
    """Rows of keys or values: the first one's address, and elements from one to the next."""

    at: Ptr
    step: Int

    def after(self, count: Int) -> _Rows:
        """Those after the first few."""
        return _Rows(self.at + count * self.step, self.step)


@dataclass(frozen=True)
class _Panel:
    """`width` queries at a time: their number, the first one, and the places of what is kept of them."""

    number: Int
    first: Int
    packed: Ptr
    sums: Ptr
    top: Ptr
    total: Ptr


@dataclass(frozen=True)
class AttentionBlocks(Kernel):
    """y[b, h, i] = sum over j of softmax over j (q[b, h, i] . k[b, h, j] * scale + mask) * v[b, h, j].

    The `group` query heads that share keys are `group * rows` queries. Lanes are queries, so that softmax goes down
    columns, neither keys nor values are packed, and only the queries are transposed.

        for (b, head of keys, block of queries) in domain:
            q, scaled, into panels [depth][2 registers]
            for block of keys, for panel:
                for tile of keys:  s[keys, :] = k[keys] . q;  mask;  top = max(top, s)
                p = e ** (s - top),  total = total * e ** (old top - top) + sum(p)
                for tile of queries, columns of v:  sums = sums * e ** (old top - top) + p . v
            y = sums / total

    `panels` of queries are a block, `block` keys (a multiple of `tile`). `shared`: all queries have the same mask.
    Rows of q, k, v (`width` elements) and y are contiguous. Rows of k and v with others between them are copied, a
    block at a time, if several panels follow to use them. Causal and windowed attention stays within each panel's band
    of keys.
    """

    panels: int
    tile: int
    tile_rows: int
    tile_vectors: int
    block: int
    width: int
    shared: bool
    scoring: Scoring
    dtype: DType

    @classmethod
    def fitting(
        cls, target: Target, scoring: Scoring, dtype: DType, depth: int, width: int, *, shared: bool, share: int
    ) -> AttentionBlocks:
        """The kernel for these head sizes: what a block needs stays in half of the second-level cache.

        Larger blocks bring keys and values from further away less often. They are for threads that have enough to do
        anyway: `share` is how many heads of keys each has.
        """
        registers, queries = target.vector_registers, _VECTORS * target.lanes(dtype)
        tile, rows, vectors = (6, 6, 2) if registers < 32 else (8, 8, 3)
        rows -= 0 if target.has_fma else 2
        room = target.l2_bytes // 4 // (queries * max(1, depth + width) * dtype.size)
        panels = max(1, min(room, 4 * max(1, min(4, share // 2))))
        return cls(panels, tile, rows, vectors, 16 * tile, width, shared, scoring, dtype)

    def parameters(self) -> tuple[Parameter, ...]:
        """As `parameters_of` says, then how many blocks of queries there are."""
        return (*parameters_of(self.scoring, self.dtype), Parameter("blocks"))

    def queries(self, target: Target) -> int:
        """Queries in a panel."""
        return _VECTORS * target.lanes(self.dtype)

    def rows_at_once(self, target: Target) -> int:
        """Queries in a block."""
        return self.panels * self.queries(target)

    def scratch(self, target: Target, depth: int) -> int:
        """Bytes of scratch memory a thread needs."""
        queries, wide = self.queries(target), self._row(target)
        rows = self.panels * queries
        values = 2 * rows + queries + 2 * self.block * queries + rows * (wide + depth) + self.block * (depth + wide)
        return 8 * self._words(target) + 8 * rows + values * self.dtype.size

    def _words(self, target: Target) -> int:
        """8-byte words at the start of the scratch memory: the rows of the mask, and the panels' bands."""
        return -(-(self.panels * self.queries(target) + 2 * self.panels) // 8) * 8

    def emit(self, k: Builder) -> None:
        """See the class."""
        queries = self.queries(k.target)
        with k.loop(k.end, start=k.begin) as item:
            pair, all_rows = item // k.size("blocks"), k.size("rows") * k.size("group")
            batch, head = pair // k.size("heads"), pair % k.size("heads")
            limit, past = self.scoring.limits(k, batch)
            first = item % k.size("blocks") * (self.panels * queries)
            rows = k.min(all_rows - first, self.panels * queries)
            panels = (rows + (queries - 1)) // queries
            with k.loop(panels) as number:
                self._start(k, self._panel(k, number, first), batch, head, past)
            mask = k.pointer("mask") + self._mask_offset(k, batch, head) if self.scoring.mask is not None else None
            seen = limit if self.scoring.wanted is None else k.size("keys")
            first_key, past_keys = self._reach(k, panels, seen)
            with k.loop(past_keys, start=first_key, step=self.block) as start:
                stop = k.min(start + self.block, past_keys)
                keys, values = (self._block(k, name, batch, head, start, stop, panels) for name in "kv")
                with k.loop(panels) as number:
                    panel = self._panel(k, number, first)
                    begin, end = self._band(k, panel, start, stop)
                    with k.when(begin < end):
                        at = _Keys(begin, end, keys.after(begin - start), mask, limit, pair * all_rows)
                        tops = self._scores(k, panel, at)
                        shrink = self._powers(k, panel, tops, end - begin)
                        left = k.min(rows - number * queries, queries)
                        self._values(k, panel, shrink, values.after(begin - start), end - begin, left)
            with k.loop(rows) as row:
                self._finish(k, batch, head, first, row, pair * all_rows)

    # ---- scratch memory ----------------------------------------------------------------------------------------

    def _regions(self, k: Builder) -> dict[str, Ptr]:
        """Where in the scratch memory everything is."""
        queries = self.queries(k.target)
        rows = self.panels * queries
        words = self._words(k.target)
        bands = k.workspace(DType.I32) + 2 * words
        start = (words + rows) * 8 // self.dtype.size
        found = {"low": bands, "high": bands + rows}
        sizes = {"top": rows, "total": rows, "shrink": queries}
        sizes |= {"powers": self.block * queries, "bias": self.block * queries}
        for name, size in sizes.items():
            found[name] = k.workspace(self.dtype) + start
            start += size
        row = self._row(k.target)
        for name, size in (("sums", rows * row), ("v", self.block * row)):
            found[name] = k.workspace(self.dtype) + start
            start += size
        found["packed"] = k.workspace(self.dtype) + start
        found["k"] = found["packed"] + k.size("depth") * rows
        return found

    def _row(self, target: Target) -> int:
        """Elements of a row of sums: whole vectors."""
        lanes = target.lanes(self.dtype)
        return -(-self.width // lanes) * lanes

    def _panel(self, k: Builder, number: Int, first: Int) -> _Panel:
        queries, at = self.queries(k.target), self._regions(k)
        row = number * queries
        packed, sums = at["packed"] + row * k.size("depth"), at["sums"] + row * self._row(k.target)
        return _Panel(number, first + row, packed, sums, at["top"] + row, at["total"] + row)

    def _mask_offset(self, k: Builder, batch: Int, head: Int) -> Int:
        return batch * k.size("mask_batch") + head * k.size("group") * k.size("mask_head")

    # ---- queries -----------------------------------------------------------------------------------------------

    def _start(self, k: Builder, panel: _Panel, batch: Int, head: Int, past: Int) -> None:
        """Transpose a panel's queries, and note which keys they may attend. Those past the last one repeat it."""
        lanes, queries, rows = k.target.lanes(self.dtype), self.queries(k.target), k.size("rows")
        base = k.pointer("q") + (batch * k.size("q_batch") + head * k.size("group") * k.size("q_head"))
        scale = k.broadcast(k.load(k.pointer("numbers")), lanes)
        low, high = k.index(FAR), k.index(-FAR)
        for v in range(_VECTORS):
            sources = []
            for lane in range(lanes):
                row, place = v * lanes + lane, k.min(panel.first + (v * lanes + lane), rows * k.size("group") - 1)
                within, query = place // rows, place % rows
                sources.append(base + (within * k.size("q_head") + query * k.size("q_row")))
                if self.scoring.mask is not None and not self.shared:
                    mask = k.pointer("mask") + self._mask_offset(k, batch, head)
                    mask = mask + (within * k.size("mask_head") + query * k.size("mask_row"))
                    k.store_pointer(mask, panel.number * queries + row)
                if self.scoring.banded:
                    ends = self.scoring.band(k, past + query)
                    low, high = k.min(low, ends[0]), k.max(high, ends[1])
                    for name, end in zip(("low", "high"), ends, strict=True):
                        narrow = Val(k, k.ir.trunc(end.ir, I32), DType.I32, 1)
                        k.store(narrow, self._regions(k)[name] + (panel.number * queries + row))
            self._pack(k, sources, panel.packed + v * lanes, scale)
            k.store(k.const(float("-inf"), self.dtype, lanes), panel.top + v * lanes)
            k.store(k.const(0.0, self.dtype, lanes), panel.total + v * lanes)
        if self.scoring.banded:
            words = k.workspace(DType.I64) + (panel.number * 2 + self.panels * queries)
            for index, end in enumerate((low, high)):
                k.store(Val(k, end.ir, DType.I64, 1), words + index)
        with k.loop(self._row(k.target) * queries, step=lanes) as at:
            k.store(k.const(0.0, self.dtype, lanes), panel.sums + at)

    def _pack(self, k: Builder, sources: Sequence[Ptr], target: Ptr, scale: Val) -> None:
        lanes, queries, depth = k.target.lanes(self.dtype), self.queries(k.target), k.size("depth")
        whole = depth // lanes * lanes
        with k.loop(whole, step=lanes) as at:
            for index, column in enumerate(k.transpose([k.load(source + at, lanes) for source in sources])):
                k.store(column * scale, target + (at + index) * queries)
        with k.loop(depth, start=whole) as at:
            k.store(k.vector([k.load(source + at) for source in sources]) * scale, target + at * queries)

    def _reach(self, k: Builder, panels: Int, seen: Int) -> tuple[Int, Int]:
        """The first key that one of the panels may attend, and one past the last."""
        if not self.scoring.banded or self.scoring.wanted is not None:
            return k.index(0), seen
        ends = [k.const(number, DType.I64) for number in (FAR, 0)]
        with k.loop(panels, carry=ends) as number:
            words = k.workspace(DType.I64) + (number * 2 + self.panels * self.queries(k.target))
            low, high = (k.load(words + index) for index in range(2))
            ends[:] = [k.select(low < ends[0], low, ends[0]), k.select(high > ends[1], high, ends[1])]
        return k.max(Int(k, ends[0].ir), 0), k.min(Int(k, ends[1].ir), seen)

    def _block(self, k: Builder, name: str, batch: Int, head: Int, start: Int, stop: Int, panels: Int) -> _Rows:
        """Keys or values from `start` to `stop`: where they are, or copied without gaps."""
        lanes, step = k.target.lanes(self.dtype), k.size(f"{name}_row")
        size = k.index(self.width) if name == "v" else k.size("depth")
        source = k.pointer(name) + (batch * k.size(f"{name}_batch") + head * k.size(f"{name}_head") + start * step)
        target, one = self._regions(k)[name], k.const(1.0, self.dtype, lanes)
        apart = (step > size) & (panels > 1)
        with k.when(apart), k.loop(stop - start) as row:
            write_rows(k, source + row * step, target + row * size, size, one)
        return _Rows(k.pick_pointer(apart, target, source), k.pick(apart, size, step))

    def _band(self, k: Builder, panel: _Panel, start: Int, stop: Int) -> tuple[Int, Int]:
        """The keys from `start` to `stop` that a query of the panel may attend; all that an output of scores has."""
        if not self.scoring.banded or self.scoring.wanted is not None:
            return start, stop
        words = k.workspace(DType.I64) + (panel.number * 2 + self.panels * self.queries(k.target))
        return k.max(start, k.load_index(words)), k.min(stop, k.load_index(words + 1))

    # ---- scores ------------------------------------------------------------------------------------------------

    def _scores(self, k: Builder, panel: _Panel, at: _Keys) -> list[Val]:
        """A panel's scores for a block of keys, into the scratch memory; the highest of each query."""
        lanes, queries, powers = k.target.lanes(self.dtype), self.queries(k.target), self._regions(k)["powers"]
        if self.scoring.mask is not None and not self.shared:
            self._turn_mask(k, panel, at)
        tops = [k.const(float("-inf"), self.dtype, lanes)] * _VECTORS
        with k.loop(at.end, start=at.begin, step=self.tile, carry=tops) as key:
            keys = [k.min(key + t, at.end - 1) for t in range(self.tile)]  # the last one again, which harms nothing
            acc = [k.const(0.0, self.dtype, lanes)] * (self.tile * _VECTORS)
            sources = [at.rows.at + (one - at.begin) * at.rows.step for one in keys]
            accumulate(k, sources, k.index(0), k.index(1), panel.packed, k.size("depth"), acc, _VECTORS)
            for t, one in enumerate(keys):
                for v in range(_VECTORS):
                    score = self._score(k, acc[t * _VECTORS + v], panel, v, at, one)
                    tops[v] = larger(k, tops[v], score)
                    k.store(score, powers + ((key - at.begin + t) * queries + v * lanes))
        return tops

    def _score(self, k: Builder, score: Val, panel: _Panel, v: int, at: _Keys, key: Int) -> Val:
        """One key's scores as softmax takes them."""
        lanes, wanted, regions = score.lanes, self.scoring.wanted, self._regions(k)
        if wanted == 0:
            self._keep(k, score, panel, v, at, key)
        score = self.scoring.capped(k, score)
        if wanted == 1:
            self._keep(k, score, panel, v, at, key)
        if self.scoring.mask is not None and self.shared:
            assert at.mask is not None
            element = k.load(at.mask + k.min(key, k.size("mask_keys") - 1))
            score = self.scoring.masked(k, score, k.broadcast(self.scoring.bias(k, element, self.dtype), lanes))
        elif self.scoring.mask is not None:
            row = (key - at.begin) * self.queries(k.target) + v * lanes
            score = self.scoring.masked(k, score, k.load(regions["bias"] + row, lanes))
        none = k.const(float("-inf"), self.dtype, lanes)
        if self.scoring.banded:
            place = k.broadcast(Val(k, k.ir.trunc(key.ir, I32), DType.I32, 1), lanes)
            row = panel.number * self.queries(k.target) + v * lanes
            low, high = (k.load(regions[name] + row, lanes) for name in ("low", "high"))
            score = k.select(place.compare(">=", low) & (place < high), score, none)
        if wanted is not None:
            score = k.select(k.broadcast(key < at.limit, lanes), score, none)
        if wanted is not None and wanted > 1:
            self._keep(k, score, panel, v, at, key)
        return score

    def _keep(self, k: Builder, score: Val, panel: _Panel, v: int, at: _Keys, key: Int) -> None:
        """Write scores to the output of them."""
        row, all_rows = panel.first + v * score.lanes, k.size("rows") * k.size("group")
        target = k.pointer("scores") + ((at.row + row) * k.size("keys") + key)
        k.scatter(score, target, k.size("keys"), all_rows - row)

    def _turn_mask(self, k: Builder, panel: _Panel, at: _Keys) -> None:
        """What the mask adds to the scores of a panel and a block of keys, transposed, into the scratch memory."""
        lanes, queries, kind = k.target.lanes(self.dtype), self.queries(k.target), self.scoring.mask
        assert kind is not None
        bias = self._regions(k)["bias"]
        for v in range(_VECTORS):
            rows = [k.load_pointer(panel.number * queries + (v * lanes + lane), kind) for lane in range(lanes)]
            end = k.min(at.end, k.size("mask_keys"))
            whole = at.begin + k.max(end - at.begin, 0) // lanes * lanes
            with k.loop(whole, start=at.begin, step=lanes) as key:
                columns = [self.scoring.bias(k, k.load(row + key, lanes), self.dtype) for row in rows]
                for index, column in enumerate(k.transpose(columns)):
                    k.store(column, bias + ((key - at.begin + index) * queries + v * lanes))
            with k.loop(at.end, start=whole) as key:
                one = k.min(key, k.size("mask_keys") - 1)
                column = k.vector([self.scoring.bias(k, k.load(row + one), self.dtype) for row in rows])
                k.store(column, bias + ((key - at.begin) * queries + v * lanes))

    # ---- softmax and values ------------------------------------------------------------------------------------

    def _powers(self, k: Builder, panel: _Panel, tops: Sequence[Val], count: Int) -> Ptr:
        """Scores to powers, and the new sums of them; where what the old sums shrink by stands."""
        lanes, queries, regions = k.target.lanes(self.dtype), self.queries(k.target), self._regions(k)
        shifts, shrinks = [], []
        for v, top in enumerate(tops):
            before = k.load(panel.top + v * lanes, lanes)
            highest = larger(k, before, top)
            shifts.append(shift_of(k, highest))
            shrinks.append(vmath.exp_below(k, before - shifts[v]))
            k.store(highest, panel.top + v * lanes)
            k.store(shrinks[v], regions["shrink"] + v * lanes)
        sums = [k.const(0.0, self.dtype, lanes)] * _VECTORS
        whole = count // _TURNS * _TURNS
        for start, stop, turns in ((k.index(0), whole, _TURNS), (whole, count, 1)):  # waiting less for one another
            shift, partial = k.joined(shifts * turns), [k.const(0.0, self.dtype, turns * queries)]
            with k.loop(stop, start=start, step=turns, carry=partial) as key:
                at = regions["powers"] + key * queries
                power = vmath.exp_below(k, k.load(at, turns * queries) - shift)
                partial[0] = partial[0] + power
                k.store(power, at)
            for number, part in enumerate(k.parts(partial[0], lanes)):
                sums[number % _VECTORS] = sums[number % _VECTORS] + part
        for v, shrink in enumerate(shrinks):
            total = k.fma(k.load(panel.total + v * lanes, lanes), shrink, sums[v])
            k.store(total, panel.total + v * lanes)
        return regions["shrink"]

    def _values(self, k: Builder, panel: _Panel, shrink: Ptr, values: _Rows, count: Int, rows: Int) -> None:
        """Add a block's values to the sums of a panel's first `rows` queries."""
        lanes, queries = k.target.lanes(self.dtype), self.queries(k.target)
        row_size, powers = self._row(k.target), self._regions(k)["powers"]

        def tile(row: Int, height: int, column: Int, masks: Sequence[Val | None]) -> None:
            vectors = len(masks)
            sums = [panel.sums + ((row + r) * row_size + column) for r in range(height)]
            acc = []
            for r, at in enumerate(sums):
                factor = k.broadcast(k.load(shrink + (row + r)), lanes)
                acc += [k.load(at + v * lanes, lanes) * factor for v in range(vectors)]
            self._add(k, powers + row, _Rows(values.at + column, values.step), count, masks, acc)
            for r, at in enumerate(sums):
                for v in range(vectors):
                    k.store(acc[r * vectors + v], at + v * lanes)

        def columns(column: Int, masks: Sequence[Val | None]) -> None:
            for start, height, tiles in _evenly(queries, self.tile_rows):
                with k.loop(k.min(rows, start + tiles * height), start=start, step=height) as row:
                    tile(row, height, column, masks)

        for start, vectors, tiles in _evenly(self.width // lanes, self.tile_vectors):
            with k.loop((start + tiles * vectors) * lanes, start=start * lanes, step=vectors * lanes) as column:
                columns(column, [None] * vectors)
        if self.width % lanes:
            column = k.index(self.width // lanes * lanes)
            columns(column, [k.first_lanes(k.index(self.width) - column, lanes)])

    def _add(
        self, k: Builder, powers: Ptr, values: _Rows, count: Int, masks: Sequence[Val | None], acc: list[Val]
    ) -> None:
        """acc[r, v] += sum over keys of powers[key, r] * values[key, v]."""
        lanes, queries, vectors = k.target.lanes(self.dtype), self.queries(k.target), len(masks)
        height = len(acc) // vectors

        def turn(power: Ptr, value: Ptr) -> None:
            columns = [k.load(value + v * lanes, lanes, mask) for v, mask in enumerate(masks)]
            for r in range(height):
                factor = k.broadcast(k.load(power + r), lanes)
                for v, column in enumerate(columns):
                    acc[r * vectors + v] = k.fma(factor, column, acc[r * vectors + v])

        whole = count // _TOGETHER * _TOGETHER
        for start, stop, together in ((k.index(0), whole, _TOGETHER), (whole, count, 1)):
            moving: list[Int | Ptr] = [powers + start * queries, values.after(start).at]
            with k.loop(stop, start=start, step=together, carry=acc, moving=moving):
                power, value = moving
                assert isinstance(power, Ptr)
                assert isinstance(value, Ptr)
                for u in range(together):
                    turn(power + u * queries, value + values.step * u)
                moving[:] = [power + together * queries, value + values.step * together]

    def _finish(self, k: Builder, batch: Int, head: Int, first: Int, row: Int, scores_row: Int) -> None:
        """Divide a query's sums by its total and write them; its powers too, if they are an output."""
        lanes, rows, regions = k.target.lanes(self.dtype), k.size("rows"), self._regions(k)
        within, query = (first + row) // rows, (first + row) % rows
        target = k.pointer("y") + (batch * k.size("y_batch") + query * k.size("y_row"))
        target = target + (head * k.size("group") + within) * k.size("y_head")
        source, width = regions["sums"] + row * self._row(k.target), k.index(self.width)
        factor = k.broadcast(inverse(k, k.load(regions["total"] + row)), lanes)
        write_rows(k, source, target, width, factor)
        if self.scoring.wanted != 3:
            return
        shift = k.broadcast(shift_of(k, k.load(regions["top"] + row)), lanes)
        scores, keys = k.pointer("scores") + (scores_row + first + row) * k.size("keys"), k.size("keys")
        with k.loop(keys, step=lanes) as key:
            mask = k.first_lanes(keys - key, lanes)
            power = vmath.exp_below(k, k.load(scores + key, lanes, mask) - shift)
            k.store(power * factor, scores + key, mask)


def _evenly(count: int, most: int) -> list[tuple[int, int, int]]:
    """(start, size, how many) of tiles of at most `most` that share `count` evenly, the larger ones first."""
    if count == 0:
        return []
    tiles = -(-count // most)
    small, large = count // tiles, count % tiles
    found = [(0, small + 1, large), (large * (small + 1), small, tiles - large)]
    return [tile for tile in found if tile[2]]


@dataclass(frozen=True)
class _Keys:
    """A block of keys: from `begin` to below `end`, of which those below `limit` take part; `rows` are theirs.

    `mask` is the one all queries share; `row` the first of the head's rows in an output of scores.
    """

    begin: Int
    end: Int
    rows: _Rows
    mask: Ptr | None
    limit: Int
    row: Int
