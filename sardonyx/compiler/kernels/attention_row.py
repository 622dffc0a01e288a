"""Attention of one query a head, which is how texts are continued: as fast as keys and values come from memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sardonyx.compiler import vmath
from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.attention_scores import (
    Scoring,
    inverse,
    larger,
    parameters_of,
    shift_of,
    write_rows,
)
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.target import Target

_KEYS = 8
"""Of a tile, for one query head."""


@dataclass(frozen=True)
class AttentionRow(Kernel):
    """`AttentionBlocks` for `rows` = 1: lanes run along the elements of keys and of values, which are read once.

        for (b, head of keys, part of the keys) in domain:
            for block of keys, for tile of the query heads that share them:
                for tile of keys:  s = sums over the lanes of q * k[keys];  mask;  top = max(top, s)
                p = e ** (s - top),  total = total * e ** (old top - top) + sum(p)
                for columns of v:  sums = sums * e ** (old top - top) + p . v
            y = sums / total

    `heads` is how many query heads a tile has at most, `block` how many keys a block has, and a part `part`. If there
    are several parts, sums, totals and tops are kept apart for `AttentionParts`.
    """

    heads: int
    block: int
    width: int
    split: bool
    scoring: Scoring
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """As for `AttentionBlocks`, then how many parts, and keys in one; tops and totals of the parts."""
        extra = [Parameter("parts"), Parameter("part")]
        if self.split:
            extra += [Parameter("tops", self.dtype), Parameter("totals", self.dtype)]
        return (*parameters_of(self.scoring, self.dtype), *extra)

    def scratch(self, target: Target, group: int) -> int:
        """Bytes of scratch memory a thread needs for so many query heads that share keys."""
        return (group * (self._row(target) + 2) + self.heads * self._powers(target)) * self.dtype.size

    def _row(self, target: Target) -> int:
        lanes = target.lanes(self.dtype)
        return -(-self.width // lanes) * lanes

    def _powers(self, target: Target) -> int:
        """Scores of a row, with room for what the last tile and the last vector stick out."""
        return self.block + max(_KEYS, target.lanes(self.dtype))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, group = k.target.lanes(self.dtype), k.size("group")
        zero, none = k.const(0.0, self.dtype), k.const(float("-inf"), self.dtype)
        powers = k.workspace(self.dtype)
        tops = powers + self.heads * self._powers(k.target)
        totals, sums = tops + group, tops + group * 2
        with k.loop(k.end, start=k.begin) as item:
            pair = item // k.size("parts")
            batch, head = pair // k.size("heads"), pair % k.size("heads")
            limit, past = self.scoring.limits(k, batch)
            begin = item % k.size("parts") * k.size("part")
            end = k.min(begin + k.size("part"), limit)
            if self.scoring.banded:
                low, high = self.scoring.band(k, past)
                begin, end = k.max(begin, low), k.min(end, high)
            with k.loop(group) as row:
                k.store(none, tops + row)
                k.store(zero, totals + row)
            with k.loop(group * self._row(k.target), step=lanes) as at:
                k.store(k.const(0.0, self.dtype, lanes), sums + at)
            with k.loop(end, start=begin, step=self.block) as start:
                stop = k.min(start + self.block, end)
                for heads, first, last in self._tiles(group):
                    with k.loop(last, start=first, step=heads) as row:
                        tile = _Tile(batch, head, row, start, stop - start, powers, tops + row, totals + row)
                        shrinks = self._softmax(k, tile, self._scores(k, tile, heads))
                        self._values(k, tile, sums + row * self._row(k.target), shrinks)
            with k.loop(group) as row:
                self._finish(k, item, batch, head, row, (tops + row, totals + row, sums + row * self._row(k.target)))

    def _tiles(self, group: Int) -> list[tuple[int, Int | int, Int]]:
        """(query heads at once, the first, the end): as many at once as can be, then one by one."""
        whole = group // self.heads * self.heads
        return [(self.heads, 0, whole), (1, whole, group)] if self.heads > 1 else [(1, 0, group)]

    def _scores(self, k: Builder, at: _Tile, heads: int) -> list[Val]:
        """The scores of a block of keys for some query heads, into the scratch memory; the highest of each."""
        lanes, depth, tile = k.target.lanes(self.dtype), k.size("depth"), max(2, _KEYS // heads)
        queries = [at.of(k, "q", "q_head", r) for r in range(heads)]
        base = at.rows(k, "k")
        tops = [k.const(float("-inf"), self.dtype, tile)] * heads
        with k.loop(at.count, step=tile, carry=tops) as key:
            keys = [base + k.min(key + t, at.count - 1) * k.size("k_row") for t in range(tile)]
            acc = [k.const(0.0, self.dtype, lanes)] * (heads * tile)

            def turn(column: Int, mask: Val | None, keys: Sequence[Ptr] = keys, acc: list[Val] = acc) -> None:
                parts = [k.load(one + column, lanes, mask) for one in keys]
                for r, query in enumerate(queries):
                    element = k.load(query + column, lanes, mask)
                    for t, part in enumerate(parts):
                        acc[r * tile + t] = k.fma(element, part, acc[r * tile + t])

            whole = depth // lanes * lanes
            with k.loop(whole, step=lanes, carry=acc) as column:
                turn(column, None)
            with k.loop(depth, start=whole, step=lanes, carry=acc) as column:
                turn(column, k.first_lanes(depth - column, lanes))
            for r in range(heads):
                sums = [k.reduce(total, lambda a, b: a + b) for total in acc[r * tile : (r + 1) * tile]]
                score = self._score(k, at, r, k.vector(sums), key)
                tops[r] = larger(k, tops[r], score)
                k.store(score, at.powers + (key + r * self._powers(k.target)))
        return [k.reduce(top, lambda a, b: larger(k, a, b)) for top in tops]

    def _score(self, k: Builder, at: _Tile, r: int, score: Val, key: Int) -> Val:
        """Scores of some keys as softmax takes them; -inf past the last one."""
        tile, none = score.lanes, k.const(float("-inf"), self.dtype, score.lanes)
        score = self.scoring.capped(k, score * k.broadcast(k.load(k.pointer("numbers")), tile))
        inside = k.first_lanes(at.count - key, tile)
        if self.scoring.mask is not None:
            row = at.of(k, "mask", "mask_head", r) + (at.start + key)
            left = at.count - key
            elements = k.vector([k.load(row + k.min(t, left - 1)) for t in range(tile)])
            score = self.scoring.masked(k, score, self.scoring.bias(k, elements, self.dtype))
        return k.select(inside, score, none)

    def _softmax(self, k: Builder, at: _Tile, tops: Sequence[Val]) -> list[Val]:
        """Scores to powers, and the new sums of them; what the old sums shrink by."""
        lanes, shrinks = k.target.lanes(self.dtype), []
        for r, top in enumerate(tops):
            before = k.load(at.top + r)
            highest = larger(k, before, top)
            shift = shift_of(k, highest)
            wide = k.broadcast(shift, lanes)
            powers, acc = at.powers + r * self._powers(k.target), [k.const(0.0, self.dtype, lanes)]
            with k.loop(at.count, step=lanes, carry=acc) as key:
                power = vmath.exp_below(k, k.load(powers + key, lanes) - wide)
                inside = k.first_lanes(at.count - key, lanes)
                acc[0] = acc[0] + k.select(inside, power, k.const(0.0, self.dtype, lanes))
                k.store(power, powers + key)
            shrinks.append(vmath.exp_below(k, before - shift))
            total = k.fma(k.load(at.total + r), shrinks[r], k.reduce(acc[0], lambda a, b: a + b))
            k.store(highest, at.top + r)
            k.store(total, at.total + r)
        return shrinks

    def _values(self, k: Builder, at: _Tile, sums: Ptr, shrinks: Sequence[Val]) -> None:
        """Add a block's values to the sums of some query heads."""
        lanes, base, heads = k.target.lanes(self.dtype), at.rows(k, "v"), len(shrinks)

        def columns(column: Int, masks: Sequence[Val | None]) -> None:
            places = [
                sums + (r * self._row(k.target) + column + v * lanes) for r in range(heads) for v in range(len(masks))
            ]
            acc = [
                k.load(place, lanes) * k.broadcast(shrinks[index // len(masks)], lanes)
                for index, place in enumerate(places)
            ]
            with k.loop(at.count, carry=acc) as key:
                row = base + (key * k.size("v_row") + column)
                parts = [k.load(row + v * lanes, lanes, mask) for v, mask in enumerate(masks)]
                for r in range(heads):
                    power = k.broadcast(k.load(at.powers + (key + r * self._powers(k.target))), lanes)
                    for v, part in enumerate(parts):
                        index = r * len(masks) + v
                        acc[index] = k.fma(power, part, acc[index])
            for place, value in zip(places, acc, strict=True):
                k.store(value, place)

        vectors, most = self.width // lanes, max(2, _KEYS // heads)
        wide = vectors // most * most
        with k.loop(wide * lanes, step=most * lanes) as column:
            columns(column, [None] * most)
        if vectors > wide:
            columns(k.index(wide * lanes), [None] * (vectors - wide))
        if self.width % lanes:
            columns(k.index(vectors * lanes), [k.first_lanes(k.index(self.width % lanes), lanes)])

    def _finish(self, k: Builder, item: Int, batch: Int, head: Int, row: Int, kept: tuple[Ptr, Ptr, Ptr]) -> None:
        """Write a query head's sums: divided by the total or, of a part, as they are, beside it and the top."""
        (top, total), sums, lanes = (k.load(at) for at in kept[:2]), kept[2], k.target.lanes(self.dtype)
        if self.split:
            place = item * k.size("group") + row
            k.store(top, k.pointer("tops") + place)
            k.store(total, k.pointer("totals") + place)
            target, factor = k.pointer("y") + place * self.width, k.const(1.0, self.dtype)
        else:
            target = k.pointer("y") + (batch * k.size("y_batch") + (head * k.size("group") + row) * k.size("y_head"))
            factor = inverse(k, total)
        write_rows(k, sums, target, k.index(self.width), k.broadcast(factor, lanes))


@dataclass(frozen=True)
class _Tile:
    """Query heads from `row` on of those that share keys, and `count` keys from `start` on."""

    batch: Int
    head: Int
    row: Int
    start: Int
    count: Int
    powers: Ptr
    top: Ptr
    total: Ptr

    def rows(self, k: Builder, name: str) -> Ptr:
        """The first of the keys or values."""
        return k.pointer(name) + (
            self.batch * k.size(f"{name}_batch")
            + self.head * k.size(f"{name}_head")
            + self.start * k.size(f"{name}_row")
        )

    def of(self, k: Builder, name: str, stride: str, r: int) -> Ptr:
        """Where a query head's part of q or of the mask begins."""
        place = (self.head * k.size("group") + self.row + r) * k.size(stride)
        return k.pointer(name) + (self.batch * k.size(f"{name}_batch") + place)


@dataclass(frozen=True)
class AttentionParts(Kernel):
    """y[h] = sum over parts p of sums[p, h] * e ** (top[p, h] - top) / sum over parts of total[p, h] * the same.

    for h in domain:  top = max over p of top[p, h];  total;  for columns:  y

    The query heads are those of pairs of a batch and a head of keys, `group` in each, which are `parts` items of
    `AttentionRow`; y has rows of `width` elements `y_head` apart.
    """

    width: int
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """What the parts left, the result, and counts."""
        tensors = (Parameter(name, self.dtype) for name in ("sums", "tops", "totals", "y"))
        return (*tensors, *(Parameter(name) for name in ("parts", "group", "y_head")))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, group = k.target.lanes(self.dtype), k.size("group")
        with k.loop(k.end, start=k.begin) as head:
            first = head // group * k.size("parts") * group + head % group
            peak = [k.const(float("-inf"), self.dtype)]
            with k.loop(k.size("parts"), carry=peak) as part:
                peak[0] = larger(k, peak[0], k.load(k.pointer("tops") + (first + part * group)))
            shift, total = shift_of(k, peak[0]), [k.const(0.0, self.dtype)]

            def weight(part: Int, shift: Val = shift, first: Int = first) -> Val:
                return vmath.exp_below(k, k.load(k.pointer("tops") + (first + part * group)) - shift)

            with k.loop(k.size("parts"), carry=total) as part:
                total[0] = k.fma(k.load(k.pointer("totals") + (first + part * group)), weight(part), total[0])
            factor = k.broadcast(inverse(k, total[0]), lanes)
            with k.loop(k.index(self.width), step=lanes) as column:
                mask, acc = k.first_lanes(k.index(self.width) - column, lanes), [k.const(0.0, self.dtype, lanes)]
                with k.loop(k.size("parts"), carry=acc) as part:
                    row = k.pointer("sums") + ((first + part * group) * self.width + column)
                    acc[0] = k.fma(k.load(row, lanes, mask), k.broadcast(weight(part), lanes), acc[0])
                k.store(acc[0] * factor, k.pointer("y") + (head * k.size("y_head") + column), mask)
