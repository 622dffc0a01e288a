"""Random numbers. Each is a hash of a key and its place, so that neither threads nor processors make a difference."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import SCALAR_OPS
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.vmath.base import shifted_right

_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""The constants of SplitMix64 (doi:10.1145/2714064.2660195), whose state is a counter: any number is at hand."""
_MASK = (1 << 64) - 1


def mixed(number: int) -> int:
    """SplitMix64's hash, for keys."""
    number = (number + _STEP) & _MASK
    number = ((number ^ (number >> 30)) * _FIRST) & _MASK
    number = ((number ^ (number >> 27)) * _SECOND) & _MASK
    return number ^ (number >> 31)


def _hash(k: Builder, key: Val, place: Val) -> Val:
    """64 bits for each place of a counter."""
    lanes = place.lanes

    def number(value: int) -> Val:
        return k.const(value, DType.U64, lanes)

    z = k.broadcast(key, lanes) + place * number(_STEP)
    z = (z ^ shifted_right(k, z, 30)) * number(_FIRST)
    z = (z ^ shifted_right(k, z, 27)) * number(_SECOND)
    return z ^ shifted_right(k, z, 31)


def _uniform(k: Builder, key: Val, place: Val, dtype: DType) -> Val:
    """Numbers from 0 up to, but without, 1: all multiples of 2 ** -24 or, in float64, 2 ** -53 are as likely."""
    bits = 24 if dtype is DType.F32 else 53
    whole = shifted_right(k, _hash(k, key, place), 64 - bits)
    narrow = k.cast(whole, DType.I32 if dtype is DType.F32 else DType.I64)
    return k.cast(narrow, dtype) * k.const(2.0**-bits, dtype, place.lanes)


def _normal(k: Builder, key: Val, place: Val, dtype: DType) -> Val:
    """By Box and Muller: a length and an angle."""
    lanes = place.lanes
    two, one = k.const(2, DType.U64, lanes), k.const(1, DType.U64, lanes)
    first, second = (_uniform(k, key, at, dtype) for at in (place * two, place * two + one))
    half = k.const(2.0**-25 if dtype is DType.F32 else 2.0**-54, dtype, lanes)  # so that it is never 0
    length = SCALAR_OPS["sqrt"](k, k.const(-2.0, dtype, lanes) * SCALAR_OPS["log"](k, first + half))
    return length * SCALAR_OPS["cos"](k, k.const(2 * math.pi, dtype, lanes) * second)


def _key(k: Builder, fresh: bool) -> Val:
    """The key given or, if numbers are to be `fresh`, one that no other call of this code has."""
    key = Val(k, k.size("key").ir, DType.U64, 1)
    if not fresh:
        return key
    ticket = Val(k, k.ticket().ir, DType.U64, 1)
    return _hash(k, key, ticket)


@dataclass(frozen=True)
class Random(Kernel):
    """y[i] = a + b * z[i], z uniform in [0, 1) or `normal` (of mean 0 and deviation 1), and y no more than the last of
    `numbers`, which are a, b and that.

    `fresh` numbers are others in each run; else they follow from the key.
    """

    normal: bool
    fresh: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """y, the numbers, sizes, the key."""
        numbers = Parameter("numbers", self.dtype.register)
        return (Parameter("y", self.dtype), numbers, Parameter("n"), Parameter("block"), Parameter("key"))

    def emit(self, k: Builder) -> None:
        """See the class."""
        kind = self.dtype.register
        lanes = k.target.lanes(DType.F64)
        iota = k.vector([k.const(lane, DType.U64) for lane in range(lanes)])
        shift, factor, most = (k.load(k.pointer("numbers") + index) for index in range(3))
        key = _key(k, self.fresh)

        def write(at: Int, width: int) -> None:
            place = k.broadcast(Val(k, at.ir, DType.U64, 1), width)
            place = place + iota if width > 1 else place
            z = (_normal if self.normal else _uniform)(k, key, place, kind)
            value = k.fma(z, k.broadcast(factor, width), k.broadcast(shift, width))
            value = SCALAR_OPS["min"](k, value, k.broadcast(most, width))
            k.store(value, k.pointer("y") + at)

        with k.loop(k.end, start=k.begin) as item:
            first = item * k.size("block")
            last = k.min(first + k.size("block"), k.size("n"))
            whole = first + (last - first) // lanes * lanes
            with k.loop(whole, start=first, step=lanes) as at:
                write(at, lanes)
            with k.loop(last, start=whole) as at:
                write(at, 1)


@dataclass(frozen=True)
class Draw(Kernel):
    """y[r, s] = class c with the probability exp(x[r, c]) / sum over c of exp(x[r, c]).

    for r in domain:  sums[c] = sum over d <= c of exp(x[r, d] - max(x[r]))
        for s in range(samples):  y[r, s] = the first c with sums[c] > u * sums[classes - 1], u in [0, 1)

    Scratch memory holds the sums, in float64. `fresh` is as for `Random`.
    """

    fresh: bool
    dtype: DType
    result: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, sizes, the key."""
        tensors = (Parameter("x", self.dtype), Parameter("y", self.result))
        return (*tensors, *(Parameter(name) for name in ("classes", "samples", "key")))

    def emit(self, k: Builder) -> None:
        """See the class."""
        classes, samples, key = k.size("classes"), k.size("samples"), _key(k, self.fresh)
        sums = k.workspace(DType.F64)
        with k.loop(k.end, start=k.begin) as item:
            row = k.pointer("x") + item * classes
            most = [k.cast(k.load(row), DType.F64)]
            with k.loop(classes, start=1, carry=most) as c:
                most[0] = SCALAR_OPS["max"](k, most[0], k.cast(k.load(row + c), DType.F64))
            total = [k.const(0.0, DType.F64)]
            with k.loop(classes, carry=total) as c:
                share = SCALAR_OPS["exp"](k, k.cast(k.load(row + c), DType.F64) - most[0])
                total[0] = total[0] + share
                k.store(total[0], sums + c)
            with k.loop(samples) as s:
                place = item * samples + s
                wanted = _uniform(k, key, Val(k, place.ir, DType.U64, 1), DType.F64) * total[0]
                found = self._search(k, wanted)
                k.store(k.cast(Val(k, found.ir, DType.I64, 1), self.result), k.pointer("y") + place)

    def _search(self, k: Builder, wanted: Val) -> Int:
        """The first place whose sum is larger; the last one when there is none, as where the sums are no numbers."""
        bounds = [k.const(0, DType.I64), Val(k, (k.size("classes") - 1).ir, DType.I64, 1)]
        with k.loop(64, carry=bounds):
            low, high = bounds
            middle = k.const(1, DType.I64)
            middle = Val(k, k.ir.lshr((low + high).ir, middle.ir), DType.I64, 1)
            above = k.load(k.workspace(DType.F64) + Int(k, middle.ir)) > wanted
            open_ = low < high
            following = k.select(above, low, middle + k.const(1, DType.I64))
            bounds[:] = [k.select(open_, following, low), k.select(open_ & above, middle, high)]
        return Int(k, bounds[0].ir)
