"""Reductions over one axis, and softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sardonyx.compiler import vmath
from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import SCALAR_OPS, Expr, maximum, minimum
from sardonyx.compiler.kernels.attention_scores import larger
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.program import Kernel

_COMBINE: dict[str, tuple[float, Callable[[Builder, Val, Val], Val]]] = {
    "sum": (0.0, lambda k, a, b: a + b),
    "prod": (1.0, lambda k, a, b: a * b),
    "max": (float("-inf"), maximum),
    "min": (float("inf"), minimum),
}

_ROW_VECTORS = 4
"""Of a row, taken at a time: as many sums of their own cover the latency of an addition."""
COLUMN_VECTORS = 8
"""Next to one another of which a reduction across rows is one item: a few lines of the cache from each row."""


def neutral(combine: str, dtype: DType) -> float:
    """The value that changes nothing: for integers the ends of their range stand for the infinities."""
    value = _COMBINE[combine][0]
    if dtype.is_float or value in (0.0, 1.0):
        return value
    if dtype is DType.BOOL:
        return combine == "min"
    low, high = (-(1 << (8 * dtype.size - 1)), (1 << (8 * dtype.size - 1)) - 1)
    if not dtype.is_signed:
        low, high = 0, (1 << (8 * dtype.size)) - 1
    return low if combine == "max" else high


@dataclass(frozen=True)
class Reduce(Kernel):
    """y[o, i] = epilogue(combine over r of before(x[o, r, i])).

    `along` True: the reduced axis is contiguous and i has one value; lanes are combined at the end. Else i is
    contiguous, `COLUMN_VECTORS` of it an item. `mean` divides by the number of elements.
    """

    combine: str
    before: Expr
    along: bool
    epilogue: Epilogue
    mean: bool = False

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, counts and strides."""
        tensors = (Parameter("x", self.before.leaves[0]), Parameter("y", self.epilogue.expr.dtype))
        names = ("length", "columns", "column_blocks", "x_outer", "x_step", "y_outer")
        return (*tensors, *(Parameter(n) for n in names), *self.epilogue.parameters())

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(DType.F32)
        operands = self.epilogue.bases(k)
        with k.loop(k.end, start=k.begin) as item:
            width = 1 if self.along else COLUMN_VECTORS * lanes
            outer, column = item // k.size("column_blocks"), (item % k.size("column_blocks")) * width
            source = k.pointer("x") + (outer * k.size("x_outer") + column)
            target = k.pointer("y") + (outer * k.size("y_outer") + column)
            if self.along:
                self._along(k, source, target, operands, outer)
            else:
                self._across(k, source, target, operands, outer, column)

    def _along(self, k: Builder, source: Ptr, target: Ptr, operands: Sequence[Ptr], outer: Int) -> None:
        dtype, join = self.before.dtype, _COMBINE[self.combine][1]
        lanes = k.target.lanes(DType.F32)
        start = k.const(neutral(self.combine, dtype), dtype, lanes)
        whole, step = k.size("length") // lanes * lanes, lanes * _ROW_VECTORS
        many, acc = whole // step * step, [start] * _ROW_VECTORS

        def add(at: Int, turn: int) -> None:
            acc[turn] = join(k, acc[turn], self.before.evaluate(k, [k.load(source + at, lanes)]))

        with k.loop(many, step=step, carry=acc) as at:
            for turn in range(_ROW_VECTORS):
                add(at + turn * lanes, turn)
        with k.loop(whole, start=many, step=lanes, carry=acc) as at:
            add(at, 0)
        total = [_over_lanes(k, acc, lambda a, b: join(k, a, b))]
        with k.loop(k.size("length"), start=whole, carry=total) as at:
            total[0] = join(k, total[0], self.before.evaluate(k, [k.load(source + at)]))
        k.store(self.epilogue.apply(k, self._result(k, total[0]), operands, outer, k.index(0)), target)

    def _result(self, k: Builder, total: Val) -> Val:
        if not self.mean:
            return total
        length = k.cast(Val(k, k.size("length").ir, DType.I64, 1), total.dtype)
        return SCALAR_OPS["div"](k, total, k.broadcast(length, total.lanes))

    def _across(self, k: Builder, source: Ptr, target: Ptr, operands: Sequence[Ptr], outer: Int, column: Int) -> None:
        dtype, join = self.before.dtype, _COMBINE[self.combine][1]
        lanes, left = k.target.lanes(DType.F32), k.size("columns") - column

        def compute(at: Int, width: int, vectors: int) -> None:
            acc = [k.const(neutral(self.combine, dtype), dtype, width)] * vectors
            with k.loop(k.size("length"), carry=acc) as step:
                row = source + (at + step * k.size("x_step"))
                for v in range(vectors):
                    value = self.before.evaluate(k, [k.load(row + v * width, width)])
                    acc[v] = join(k, acc[v], value)
            for v, total in enumerate(acc):
                place = at + v * width
                k.store(self.epilogue.apply(k, self._result(k, total), operands, outer, column + place), target + place)

        def tail() -> None:
            whole = left // lanes * lanes
            with k.loop(whole, step=lanes) as at:
                compute(at, lanes, 1)
            with k.loop(left, start=whole) as at:
                compute(at, 1, 1)

        k.either(left >= COLUMN_VECTORS * lanes, lambda: compute(k.index(0), lanes, COLUMN_VECTORS), tail)


@dataclass(frozen=True)
class Softmax(Kernel):
    """y[o, :] = e ** (x[o, :] - max) / sum, over a contiguous row; with `log`, its logarithm.

    for o in domain:  top = max(x);  y = e ** (x - top), total = sum(y);  y = y / total
    """

    log: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, the row's length and the strides of rows."""
        names = ("length", "x_outer", "y_outer")
        return (Parameter("x", self.dtype), Parameter("y", self.dtype), *(Parameter(n) for n in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, length = k.target.lanes(self.dtype), k.size("length")
        low = k.const(float("-inf"), self.dtype, lanes)
        zero = k.const(0.0, self.dtype, lanes)

        def sweep(carry: list[Val], body: Callable[[Int, int, Val | None], None]) -> None:
            """Run `body` on each vector of the row, several at a time while it can; the last may be masked."""
            vectors, step = length // lanes * lanes, lanes * _ROW_VECTORS
            whole = length // step * step
            with k.loop(whole, step=step, carry=carry) as at:
                for turn in range(_ROW_VECTORS):
                    body(at + turn * lanes, turn, None)
            with k.loop(vectors, start=whole, step=lanes, carry=carry) as at:
                body(at, 0, None)
            with k.loop(length, start=vectors, step=lanes, carry=carry) as at:
                body(at, 0, k.first_lanes(length - at, lanes))

        with k.loop(k.end, start=k.begin) as row:
            source = k.pointer("x") + row * k.size("x_outer")
            target = k.pointer("y") + row * k.size("y_outer")
            top = [low] * _ROW_VECTORS

            def highest(at: Int, turn: int, mask: Val | None) -> None:
                value = k.load(source + at, lanes, mask)
                top[turn] = larger(k, top[turn], value if mask is None else k.select(mask, value, low))

            sweep(top, highest)
            peak = k.broadcast(_over_lanes(k, top, lambda a, b: larger(k, a, b)), lanes)
            total = [zero] * _ROW_VECTORS

            def exponentials(at: Int, turn: int, mask: Val | None) -> None:
                if turn % 2 == 0:  # memory waits for the arithmetic here
                    k.prefetch(source + k.size("x_outer") + at)
                shifted = k.load(source + at, lanes, mask) - peak
                power = vmath.exp_below(k, shifted)
                total[turn] = total[turn] + (power if mask is None else k.select(mask, power, zero))
                if not self.log:
                    k.store(power, target + at, mask)

            sweep(total, exponentials)
            denominator = _over_lanes(k, total, lambda a, b: a + b)
            last = vmath.log(k, denominator) if self.log else k.const(1.0, self.dtype) / denominator
            shift = k.broadcast(last, lanes)

            def finish(at: Int, turn: int, mask: Val | None) -> None:
                if self.log:
                    k.store((k.load(source + at, lanes, mask) - peak) - shift, target + at, mask)
                else:
                    k.store(k.load(target + at, lanes, mask) * shift, target + at, mask)

            sweep([], finish)


def _over_lanes(k: Builder, values: list[Val], combine: Callable[[Val, Val], Val]) -> Val:
    """All lanes of several vectors, a power of two of them, as one number."""
    while len(values) > 1:
        values = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return k.reduce(values[0], combine)
