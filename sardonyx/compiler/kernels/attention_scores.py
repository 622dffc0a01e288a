"""What the kernels of attention have in common: how scores come about, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler import vmath
from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType

UNBOUNDED = 1 << 40
"""A reach of a window beyond every sequence."""
FAR = 1 << 30
"""Positions are compared in 32 bits; this is beyond every one of them."""
_SIZES = ("rows", "group", "heads", "keys", "limit", "depth")
_STRIDES = tuple(f"{tensor}_{over}" for tensor in "qkvy" for over in ("batch", "head", "row"))


@dataclass(frozen=True)
class Scoring:
    """What happens to the scores, as far as it shapes the code.

    `mask`: the type of a mask that is added, or that says who takes part. `softcap`: they are capped. `banded`: keys
    lie between `left` before and `right` after the query's own place. `counted`: how many keys there are is known to
    the run, for each batch. `wanted`: the mode of Attention's `qk_matmul_output`, if that is an output.
    """

    mask: DType | None = None
    softcap: bool = False
    banded: bool = False
    counted: bool = False
    wanted: int | None = None

    def parameters(self, dtype: DType) -> list[Parameter]:
        """`numbers` are the scale, the cap and its inverse; a mask has `mask_keys` keys."""
        slots = [Parameter("numbers", dtype)]
        if self.mask is not None:
            slots.append(Parameter("mask", self.mask))
            slots += [Parameter(f"mask_{of}") for of in ("keys", "batch", "head", "row")]
        if self.banded:
            slots += [Parameter(name) for name in ("past", "left", "right")]
        if self.counted:
            slots.append(Parameter("lengths", DType.I64))
        if self.wanted is not None:
            slots.append(Parameter("scores", dtype))
        return slots

    def capped(self, k: Builder, score: Val) -> Val:
        """cap * tanh(score / cap)."""
        if not self.softcap:
            return score
        cap, inverse = (k.broadcast(k.load(k.pointer("numbers") + index), score.lanes) for index in (1, 2))
        return cap * vmath.tanh(k, score * inverse)

    def bias(self, k: Builder, element: Val, dtype: DType) -> Val:
        """What an element of the mask means to a score: a number to add or, of a boolean one, what it is at most."""
        if self.mask is not DType.BOOL:
            return k.cast(element, dtype)
        every, none = (k.const(bound, dtype, element.lanes) for bound in (float("inf"), float("-inf")))
        return k.select(element, every, none)

    def masked(self, k: Builder, score: Val, bias: Val) -> Val:
        """The score with the mask; -inf where that excludes it, even if the score is NaN."""
        if self.mask is DType.BOOL:
            return k.select(score < bias, score, bias)
        none = k.const(float("-inf"), score.dtype, score.lanes)
        return k.select(bias.compare("==", none), none, score + bias)

    def limits(self, k: Builder, batch: Int) -> tuple[Int, Int]:
        """How many keys the batch has, and the place of its first query among them."""
        limit, past = k.size("limit"), k.size("past") if self.banded else k.index(0)
        if self.counted:
            rows = k.size("rows")
            given = k.max(k.min(k.load_index(k.pointer("lengths") + batch), k.size("keys") + rows), 0)
            limit, past = k.min(limit, given), given - rows
        return limit, past

    def band(self, k: Builder, place: Int) -> tuple[Int, Int]:
        """The first key that a query at `place` may attend, and one past the last."""
        ends = place - k.size("left"), place + k.size("right") + 1
        low, high = (k.max(k.min(end, FAR), -FAR) for end in ends)
        return low, high


def parameters_of(scoring: Scoring, dtype: DType) -> list[Parameter]:
    """Tensors, counts, strides, and what scores need.

    There are `heads` heads of keys and values, each for `group` heads of `rows` queries, and `limit` of the keys take
    part.
    """
    slots = [Parameter(name, dtype) for name in "qkvy"]
    return [*slots, *(Parameter(name) for name in (*_SIZES, *_STRIDES)), *scoring.parameters(dtype)]


def larger(k: Builder, a: Val, b: Val) -> Val:
    """The larger; of a NaN and a number either one. A NaN that gets lost comes back in the sum of powers."""
    return k.select(a > b, a, b)


def shift_of(k: Builder, top: Val) -> Val:
    """What to subtract from scores of which `top` is the highest; not -inf, where there is none."""
    none = k.const(float("-inf"), top.dtype, top.lanes)
    return k.select(top.compare("==", none), k.const(0.0, top.dtype, top.lanes), top)


def inverse(k: Builder, total: Val) -> Val:
    """1 / total, or 0 where that is 0: nobody took part."""
    zero, one = k.const(0.0, total.dtype, total.lanes), k.const(1.0, total.dtype, total.lanes)
    return k.select(total.compare("==", zero), zero, one / total)


def write_rows(k: Builder, source: Ptr, target: Ptr, width: Int, factor: Val) -> None:
    """target[:width] = source[:width] * factor."""
    lanes = factor.lanes
    whole = width // lanes * lanes
    with k.loop(whole, step=lanes) as at:
        k.store(k.load(source + at, lanes) * factor, target + at)
    with k.when(whole < width):
        mask = k.first_lanes(width - whole, lanes)
        k.store(k.load(source + whole, lanes, mask) * factor, target + whole, mask)
