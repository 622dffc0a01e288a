"""Normalisation: statistics of groups of elements, and rows brought to them.

Sums are taken of differences: to the first element for a first mean, to that mean for the variance and for what the
mean still lacks. So the statistics of numbers far from zero are as exact as those of numbers around it, even if the
first element is not one of many. What is left to do for a group (a few operations) is done in float64, and the mean
goes on as a number of the data's type and a rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sardonyx.compiler import vmath
from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.sweep import channel_blocks
from sardonyx.compiler.program import Kernel

Spread = Literal["variance", "squares", "magnitudes"]
"""What a group's elements are divided by: the root of their squared distances from the mean or from zero, or the sum
of their magnitudes."""

_ACCUMULATORS = 8
"""Enough to cover the latency of an addition; they leave registers on every processor."""
_ROW_VECTORS = 4


def _added(k: Builder, spread: Spread, total: Val, part: Val) -> Val:
    """The total with one more element, or its distance from the mean."""
    if spread == "magnitudes":
        return total + k.intrinsic("llvm.fabs", part)
    return k.fma(part, part, total)


def _inverse(k: Builder, spread: Spread, total: Val, numbers: Ptr) -> Val:
    """1 / (root(total * share + inner) + outer) of float64 numbers; 0 where that would divide by 0.

    `numbers` are share, inner and outer. There is no root of magnitudes.
    """
    share, inner, outer = (k.load(numbers + index) for index in range(3))
    inside = k.fma(total, share, inner)
    below = (inside if spread == "magnitudes" else k.intrinsic("llvm.sqrt", inside)) + outer
    zero, one = k.const(0.0, DType.F64), k.const(1.0, DType.F64)
    return k.select(below.compare("==", zero), zero, one / below)


def _count(k: Builder, count: Int) -> Val:
    return k.cast(Val(k, count.ir, DType.I64, 1), DType.F64)


@dataclass(frozen=True)
class Moments(Kernel):
    """Mean and total spread of parts of groups: of block b of x[o, :, c] (`length` elements, `block` in a block).

    for (o, b) in domain, for vectors of c:
        mean[o, b, c] = x[first] + sum(x - x[first]) / count
        total[o, b, c] = sum((x - mean) ** 2), or of x ** 2 or |x| without a mean

    `along` True: a group is contiguous and there is one c; lanes are combined at the end. Else c is contiguous and
    the elements are `x_step` apart. Means and totals are float64.
    """

    spread: Spread
    along: bool
    vectors: int
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, the results, counts and strides; `mean` only where there is one."""
        results = [Parameter("total", DType.F64)]
        if self.spread == "variance":
            results.append(Parameter("mean", DType.F64))
        names = ("length", "block", "blocks", "channels", "x_outer", "x_step")
        return (Parameter("x", self.dtype), *results, *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        with k.loop(k.end, start=k.begin) as item:
            outer, first = item // k.size("blocks"), (item % k.size("blocks")) * k.size("block")
            count = k.min(k.size("block"), k.size("length") - first)
            source = k.pointer("x") + (outer * k.size("x_outer") + first * k.size("x_step"))

            def columns(channel: Int, vectors: int, mask: Val | None) -> None:
                self._across(k, source + channel, count, item * k.size("channels") + channel, vectors, mask)

            if self.along:
                self._along(k, source, count, item)
            else:
                channel_blocks(k, self.vectors, k.target.lanes(self.dtype), columns)

    def _along(self, k: Builder, source: Ptr, count: Int, at: Int) -> None:
        row = row_moments(k, self.spread, source, count)
        k.store(row.total, k.pointer("total") + at)
        if self.spread == "variance":
            k.store(k.cast(row.near, DType.F64) + row.rest, k.pointer("mean") + at)

    def _across(self, k: Builder, source: Ptr, count: Int, at: Int, vectors: int, mask: Val | None) -> None:
        lanes = k.target.lanes(self.dtype)

        def walk(sums: int, body: Callable[[Val, int, list[Val]], list[Val]]) -> list[list[Val]]:
            """`body(element, vector, its sums so far)` folded over the elements: for each vector its sums."""
            unroll = _ACCUMULATORS // (vectors * sums)
            acc = [k.const(0.0, self.dtype, lanes)] * (unroll * vectors * sums)

            def element(index: Int, u: int) -> None:
                for v in range(vectors):
                    value = k.load(source + (index * k.size("x_step") + v * lanes), lanes, mask)
                    own = slice((u * vectors + v) * sums, (u * vectors + v + 1) * sums)
                    acc[own] = body(value, v, acc[own])

            whole = count // unroll * unroll
            with k.loop(whole, step=unroll, carry=acc) as index:
                for u in range(unroll):
                    element(index + u, u)
            with k.loop(count, start=whole, carry=acc) as index:
                element(index, 0)
            return [[_sum(acc[v * sums + s :: vectors * sums]) for s in range(sums)] for v in range(vectors)]

        if self.spread != "variance":
            totals = walk(1, lambda value, v, acc: [_added(k, self.spread, acc[0], value)])
            for v, (total,) in enumerate(totals):
                k.store(k.cast(total, DType.F64), k.pointer("total") + (at + v * lanes), mask)
            return
        number = k.broadcast(_count(k, count), lanes)
        shift = [k.load(source + v * lanes, lanes, mask) for v in range(vectors)]
        first = walk(1, lambda value, v, acc: [acc[0] + (value - shift[v])])
        near = [shift[v] + first[v][0] / k.cast(number, self.dtype) for v in range(vectors)]
        second = walk(2, lambda value, v, acc: _apart(k, value - near[v], acc))
        for v, (total, missing) in enumerate(second):
            rest = k.cast(missing, DType.F64) / number
            k.store(k.cast(near[v], DType.F64) + rest, k.pointer("mean") + (at + v * lanes), mask)
            around = k.cast(total, DType.F64) - number * rest * rest
            k.store(around, k.pointer("total") + (at + v * lanes), mask)


def _apart(k: Builder, part: Val, acc: list[Val]) -> list[Val]:
    """Sums of squares and of distances with one more distance."""
    return [k.fma(part, part, acc[0]), acc[1] + part]


def _sum(values: list[Val]) -> Val:
    while len(values) > 1:
        values = [a + b for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _sweep_row(
    k: Builder, length: Int, lanes: int, acc: list[Val], body: Callable[[Int, int, Val | None], None]
) -> None:
    """Call `body(first element, turn, mask)` on the vectors of a row, `_ROW_VECTORS` turns at a time while it can."""
    step = lanes * _ROW_VECTORS
    whole = length // step * step
    with k.loop(whole, step=step, carry=acc) as at:
        for u in range(_ROW_VECTORS):
            body(at + u * lanes, u, None)
    with k.loop(length, start=whole, step=lanes, carry=acc) as at:
        body(at, 0, k.first_lanes(length - at, lanes))


@dataclass(frozen=True)
class RowMoments:
    """Of a row: its mean `near` + `rest` (or zero), and its total spread around that. All but `near` are float64."""

    near: Val
    rest: Val
    total: Val


def row_moments(k: Builder, spread: Spread, source: Ptr, length: Int) -> RowMoments:
    """The moments of `length` > 0 contiguous elements."""
    dtype, lanes = source.dtype, k.target.lanes(source.dtype)
    zero = k.const(0.0, dtype, lanes)

    def walk(sums: int, body: Callable[[Val, list[Val]], list[Val]]) -> list[Val]:
        """`body(elements, sums so far)` folded over the row: its sums."""
        acc = [zero] * (_ROW_VECTORS * sums)

        def turn(at: Int, u: int, mask: Val | None) -> None:
            own = slice(u * sums, (u + 1) * sums)
            after = body(k.load(source + at, lanes, mask), acc[own])
            if mask is not None:
                after = [k.select(mask, new, old) for new, old in zip(after, acc[own], strict=True)]
            acc[own] = after

        _sweep_row(k, length, lanes, acc, turn)
        return [k.reduce(_sum(acc[s::sums]), lambda a, b: a + b) for s in range(sums)]

    if spread != "variance":
        (total,) = walk(1, lambda value, acc: [_added(k, spread, acc[0], value)])
        return RowMoments(k.const(0.0, dtype), k.const(0.0, DType.F64), k.cast(total, DType.F64))
    number, first = _count(k, length), k.load(source)
    shift = k.broadcast(first, lanes)
    (distance,) = walk(1, lambda value, acc: [acc[0] + (value - shift)])
    near = first + distance / k.cast(number, dtype)
    middle = k.broadcast(near, lanes)
    total, missing = walk(2, lambda value, acc: _apart(k, value - middle, acc))
    rest = k.cast(missing, DType.F64) / number
    return RowMoments(near, rest, k.cast(total, DType.F64) - number * rest * rest)


@dataclass(frozen=True)
class Statistics(Kernel):
    """Factors of groups from the moments of their parts: y = (x - mean[g]) * factor[g, c] + rest[g, c].

    for g in domain:  mean = sum(count * mean[part]) / sum(count)
        inverse = 1 / (root(share * sum(total[part] + count * (mean[part] - mean) ** 2) + inner) + outer)
        for c of the group:  factor = inverse * scale[c],  rest = bias[c] - (mean - its rounded value) * factor

    A group's parts are `blocks` blocks of `columns` columns each; it has `channels` channels of its own. There are
    `groups` groups in each of the outermost dimension, which is where `scale` and `bias` start anew.
    """

    spread: Spread
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """Moments (see `Moments`), share, inner and outer, scale and bias, the results, counts and strides."""
        centred = self.spread == "variance"
        moments = [Parameter("total", DType.F64), *([Parameter("mean", DType.F64)] if centred else [])]
        given = [Parameter("numbers", DType.F64), Parameter("scale", self.dtype), Parameter("bias", self.dtype)]
        results = [Parameter(name, self.dtype) for name in ("factor", "rest", "centre")]
        counts = [Parameter(name) for name in ("length", "block", "blocks", "columns", "groups", "channels")]
        steps = [Parameter(f"part_{over}") for over in ("outer", "group", "block")]
        steps += [Parameter(f"{name}_{over}") for name in ("scale", "bias") for over in ("group", "step")]
        return (*moments, *given, *results, *counts, *steps)

    def emit(self, k: Builder) -> None:
        """See the class."""
        columns, channels, none = k.size("columns"), k.size("channels"), k.const(0.0, DType.F64)
        with k.loop(k.end, start=k.begin) as item:
            outer, group = item // k.size("groups"), item % k.size("groups")
            first = outer * k.size("part_outer") + group * k.size("part_group")

            def parts(body: Callable[[Val, Int, Val], Val]) -> Val:
                """`body(total so far, place of the part, its count)` folded over the group's parts."""
                acc = [none]
                with k.loop(k.size("blocks"), carry=acc) as block:
                    count = _count(k, k.min(k.size("block"), k.size("length") - block * k.size("block")))
                    with k.loop(columns, carry=acc) as column:
                        acc[0] = body(acc[0], first + block * k.size("part_block") + column, count)
                return acc[0]

            mean, near = none, k.const(0.0, self.dtype)
            if self.spread == "variance":
                size = _count(k, k.size("length") * columns)
                mean = parts(lambda acc, at, count: k.fma(k.load(k.pointer("mean") + at), count, acc)) / size
                near = k.cast(mean, self.dtype)

            def add(acc: Val, at: Int, count: Val) -> Val:
                acc = acc + k.load(k.pointer("total") + at)
                if self.spread != "variance":
                    return acc
                apart = k.load(k.pointer("mean") + at) - mean
                return k.fma(apart * apart, count, acc)

            inverse = _inverse(k, self.spread, parts(add), k.pointer("numbers"))
            missing = mean - k.cast(near, DType.F64)
            with k.loop(channels) as channel:
                scale, bias = (
                    k.cast(
                        k.load(k.pointer(name) + (group * k.size(f"{name}_group") + channel * k.size(f"{name}_step"))),
                        DType.F64,
                    )
                    for name in ("scale", "bias")
                )
                at, factor = item * channels + channel, inverse * scale
                k.store(k.cast(factor, self.dtype), k.pointer("factor") + at)
                k.store(k.cast(bias - missing * factor, self.dtype), k.pointer("rest") + at)
                k.store(near, k.pointer("centre") + at)


@dataclass(frozen=True)
class NormalizeRows(Kernel):
    """y[o, :] = epilogue((x[o, :] - mean) * inverse) over contiguous rows, with `inverse` as in `Statistics`.

    for o in domain:  mean and inverse of x[o, :];  y[o, i] = epilogue((x[o, i] - mean) * inverse)

    With `stats` the mean and the inverse of each row are results too, of that type.
    """

    spread: Spread
    stats: DType | None
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, share, inner and outer, the row's length and the strides of rows, and the statistics asked for."""
        tensors = [
            Parameter("x", self.dtype),
            Parameter("y", self.epilogue.expr.dtype),
            Parameter("numbers", DType.F64),
        ]
        if self.stats is not None:
            tensors += [Parameter("mean", self.stats), Parameter("inverse", self.stats)]
        names = ("length", "x_row", "y_row")
        return (*tensors, *(Parameter(name) for name in names), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, length = k.target.lanes(self.dtype), k.size("length")
        operands = self.epilogue.bases(k)
        with k.loop(k.end, start=k.begin) as row:
            source = k.pointer("x") + row * k.size("x_row")
            target = k.pointer("y") + row * k.size("y_row")
            of = row_moments(k, self.spread, source, length)
            inverse = _inverse(k, self.spread, of.total, k.pointer("numbers"))
            if self.stats is not None:
                mean = k.cast(of.near, DType.F64) + of.rest
                k.store(k.cast(mean, self.stats), k.pointer("mean") + row)
                k.store(k.cast(inverse, self.stats), k.pointer("inverse") + row)
            factor = k.broadcast(k.cast(inverse, self.dtype), lanes)
            middle = k.broadcast(of.near, lanes)
            missing = k.broadcast(k.cast(-of.rest * inverse, self.dtype), lanes)

            def write(at: Int, u: int, mask: Val | None) -> None:
                value = k.load(source + at, lanes, mask)
                if self.spread == "variance":
                    value = k.fma(value - middle, factor, missing)
                else:
                    value = value * factor
                k.store(self.epilogue.apply(k, value, operands, row, at, mask), target + at, mask)

            _sweep_row(k, length, lanes, [], write)


@dataclass(frozen=True)
class ResponseNorm(Kernel):
    """y[m, c] = epilogue(x[m, c] / (bias + share * sum of x[m, c - below .. c + above] ** 2) ** beta).

    for pixel m in domain:  squares of its channels go to scratch memory, between zeros
        for vectors of c:  total = sum of `below` + 1 + `above` loads from there
            y = x * (bias + share * total) ** -beta

    `share` and `bias` are the two elements of `numbers`.
    """

    beta: float
    vectors: int
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, numbers, channels, the reach of a window and the strides of pixels."""
        tensors = (
            Parameter("x", self.dtype),
            Parameter("y", self.epilogue.expr.dtype),
            Parameter("numbers", self.dtype),
        )
        names = ("channels", "below", "above", "x_row", "y_row")
        return (*tensors, *(Parameter(name) for name in names), *self.epilogue.parameters())

    def scratch(self, channels: int, below: int, above: int, lanes: int) -> int:
        """Bytes of scratch memory a thread needs."""
        return (below + channels + above + lanes) * self.dtype.size

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, channels, below, above = (
            k.target.lanes(self.dtype),
            *(k.size(name) for name in ("channels", "below", "above")),
        )
        squares, zero = k.workspace(self.dtype), k.const(0.0, self.dtype)
        operands = self.epilogue.bases(k)
        share, bias = (k.broadcast(k.load(k.pointer("numbers") + index), lanes) for index in range(2))
        for start, count in ((k.index(0), below), (below + channels, above)):
            with k.loop(count) as at:
                k.store(zero, squares + (start + at))
        with k.loop(k.end, start=k.begin) as row:
            source, target = (k.pointer(name) + row * k.size(f"{name}_row") for name in ("x", "y"))

            def square(channel: Int, vectors: int, mask: Val | None) -> None:
                for v in range(vectors):
                    value = k.load(source + (channel + v * lanes), lanes, mask)
                    k.store(value * value, squares + (below + channel + v * lanes), mask)

            def scale(channel: Int, vectors: int, mask: Val | None) -> None:
                acc = [k.const(0.0, self.dtype, lanes)] * vectors
                with k.loop(below + above + 1, carry=acc) as tap:
                    for v in range(vectors):
                        acc[v] = acc[v] + k.load(squares + (channel + tap + v * lanes), lanes, mask)
                for v in range(vectors):
                    at = channel + v * lanes
                    value = k.load(source + at, lanes, mask) / self._power(k, k.fma(acc[v], share, bias))
                    k.store(self.epilogue.apply(k, value, operands, row, at, mask), target + at, mask)

            channel_blocks(k, self.vectors, lanes, square)
            channel_blocks(k, self.vectors, lanes, scale)

    def _power(self, k: Builder, base: Val) -> Val:
        """base ** beta; the usual 3/4 by roots."""
        if self.beta == 0.75:
            root = k.intrinsic("llvm.sqrt", base)
            return root * k.intrinsic("llvm.sqrt", root)
        return vmath.exp(k, vmath.log(k, base) * k.const(self.beta, self.dtype, base.lanes))
