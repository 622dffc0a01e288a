"""Kernels that compute nothing of use: what a processor reaches at most, for rooflines."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Parameter
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class MultiplyAdd(Kernel):
    """y[item] = the result of `turns` rounds of multiply-adds on `chains` vectors that never leave the registers.

    for item in domain:  acc[c] = c
        for turn in turns:  acc[c] = acc[c] * x + x, for c in chains
        y[item] = the sum of acc

    One item is 2 * turns * chains * lanes floating-point operations; x is a vector, best of 0.5, since acc then stays
    near 1. The chains begin differently so that no compiler takes them for one.
    """

    chains: int
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x [lanes], y [domain], turns."""
        return (Parameter("x", self.dtype), Parameter("y", self.dtype), Parameter("turns"))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        x = k.load(k.pointer("x"), lanes)
        with k.loop(k.end, start=k.begin) as item:
            acc = [k.const(c, self.dtype, lanes) for c in range(self.chains)]
            with k.loop(k.size("turns"), carry=acc):
                acc[:] = [k.fma(value, x, x) for value in acc]
            total = acc[0]
            for value in acc[1:]:
                total = total + value
            k.store(k.lane(total, 0), k.pointer("y") + item)


@dataclass(frozen=True)
class ReadStream(Kernel):
    """y[item] = one lane of the sum of all vectors of x[item * count : (item + 1) * count], read `passes` times.

    `count` is a multiple of `vectors` vectors.
    """

    vectors: int
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x [domain * count], y [domain], count, passes."""
        return (Parameter("x", self.dtype), Parameter("y", self.dtype), Parameter("count"), Parameter("passes"))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes = k.target.lanes(self.dtype)
        with k.loop(k.end, start=k.begin) as item:
            base = k.pointer("x") + item * k.size("count")
            acc = [k.const(0.0, self.dtype, lanes) for _ in range(self.vectors)]
            with (
                k.loop(k.size("passes"), carry=acc),
                k.loop(k.size("count"), step=self.vectors * lanes, carry=acc) as i,
            ):
                acc[:] = [value + k.load(base + (i + v * lanes), lanes) for v, value in enumerate(acc)]
            total = acc[0]
            for value in acc[1:]:
                total = total + value
            k.store(k.lane(total, 0), k.pointer("y") + item)
