"""A vector times the rows of a matrix."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Parameter
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.target import Target

_CHAINS = 8
"""Sums under way at once, so that none waits for the one before."""


@dataclass(frozen=True)
class Dots(Kernel):
    """y[g, n] = epilogue(sum over i < depth of x[g, i] * w[g, n, i]), x and the rows of w contiguous.

        for (g, some rows) in domain:
            for i in vectors:  acc[r] += x[i] * w[r, i]
            y[g, rows] = epilogue(the sums of each acc's lanes)

    Reading a matrix once costs less than bringing it into panels. g walks two axes of the batch; rows past the last
    one repeat it, unstored.
    """

    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, w and y, counts and strides: `inner` groups follow one another `x_group` and `w_group` apart."""
        slots = [Parameter("x", self.dtype), Parameter("w", self.dtype), Parameter("y", self.epilogue.expr.dtype)]
        names = ("n", "depth", "inner", "parts", "x_outer", "x_group", "w_outer", "w_group", "w_row")
        return (*slots, *(Parameter(name) for name in names), *self.epilogue.parameters())

    @staticmethod
    def rows(target: Target, dtype: DType) -> int:
        """Rows of w in an item."""
        lanes = target.lanes(dtype)
        return lanes * max(1, _CHAINS // lanes)

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, count = k.target.lanes(self.dtype), self.rows(k.target, self.dtype)
        depth, parts = k.size("depth"), k.size("parts")
        with k.loop(k.end, start=k.begin) as item:
            first, group = item % parts * count, item // parts
            outer, inner = group // k.size("inner"), group % k.size("inner")
            x = k.pointer("x") + (outer * k.size("x_outer") + inner * k.size("x_group"))
            w = k.pointer("w") + (outer * k.size("w_outer") + inner * k.size("w_group") + first * k.size("w_row"))
            left = k.size("n") - first
            rows = [w + k.min(left - 1, r) * k.size("w_row") for r in range(count)]
            acc = [k.const(0, self.dtype, lanes) for _ in rows]
            whole = depth // lanes * lanes
            with k.loop(whole, step=lanes, carry=acc) as i:
                vector = k.load(x + i, lanes)
                acc[:] = [k.fma(vector, k.load(row + i, lanes), total) for row, total in zip(rows, acc, strict=True)]
            with k.loop(depth, start=whole, step=lanes, carry=acc) as i:
                mask = k.first_lanes(depth - i, lanes)
                vector = k.load(x + i, lanes, mask)
                rest = [k.load(row + i, lanes, mask) for row in rows]
                acc[:] = [k.fma(vector, value, total) for value, total in zip(rest, acc, strict=True)]
            y = k.pointer("y") + (group * k.size("n") + first)
            operands = self.epilogue.bases(k, group)
            for start in range(0, count, lanes):
                total, *others = k.transpose(acc[start : start + lanes])
                for other in others:
                    total = total + other
                mask = k.first_lanes(left - start, lanes)
                value = self.epilogue.apply(k, total, operands, k.index(0), first + start, mask)
                k.store(value, y + start, mask)
