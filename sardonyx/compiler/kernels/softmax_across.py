"""Softmax along an axis that is not contiguous, without a transposition."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler import vmath
from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.attention_scores import larger
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class SoftmaxAcross(Kernel):
    """y[o, :, i] = e ** (x[o, :, i] - max) / sum, where i is contiguous; with `log`, its logarithm.

    for (o, vector of i) in domain:  top = max(x);  y = e ** (x - top), total = sum(y);  y = y / total
    """

    log: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, sizes, and the strides of rows and between a row's elements."""
        names = ("length", "columns", "column_blocks", "x_outer", "x_step", "y_outer", "y_step")
        return (Parameter("x", self.dtype), Parameter("y", self.dtype), *(Parameter(n) for n in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, columns = k.target.lanes(self.dtype), k.size("columns")
        with k.loop(k.end, start=k.begin) as item:
            outer, column = item // k.size("column_blocks"), item % k.size("column_blocks") * lanes
            source = k.pointer("x") + (outer * k.size("x_outer") + column)
            target = k.pointer("y") + (outer * k.size("y_outer") + column)

            def tail(source: Ptr = source, target: Ptr = target, column: Int = column) -> None:
                with k.loop(columns - column) as at:
                    self._columns(k, source + at, target + at, 1)

            def whole(source: Ptr = source, target: Ptr = target) -> None:
                self._columns(k, source, target, lanes)

            k.either(column + lanes <= columns, whole, tail)

    def _columns(self, k: Builder, source: Ptr, target: Ptr, lanes: int) -> None:
        length, x_step, y_step = k.size("length"), k.size("x_step"), k.size("y_step")
        top, total = [k.const(float("-inf"), self.dtype, lanes)], [k.const(0.0, self.dtype, lanes)]
        with k.loop(length, carry=top) as at:
            top[0] = larger(k, top[0], k.load(source + at * x_step, lanes))
        with k.loop(length, carry=total) as at:
            shifted = k.load(source + at * x_step, lanes) - top[0]
            power = vmath.exp_below(k, shifted)
            total[0] = total[0] + power
            k.store(shifted if self.log else power, target + at * y_step)
        shift = vmath.log(k, total[0]) if self.log else total[0]
        with k.loop(length) as at:
            value = k.load(target + at * y_step, lanes)
            k.store(value - shift if self.log else value / shift, target + at * y_step)
