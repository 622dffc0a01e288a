"""Products with a matrix of few bits an element, read as it is kept."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.target import Target

_VECTORS = 4
"""Of a panel's columns: so many sums are under way at once."""


@dataclass(frozen=True)
class FewBits(Kernel):
    """y[m, n] = epilogue(sum over blocks of scale[b, n] * sum over k in b of x[m, k] * (code[k, n] - zero[b, n])).

        for (panel, row) in domain:
            for block:
                for byte, field in it:  part += x[k] / 2^(bits * field) * (byte & mask of the field)
                acc += scale * (part - zero * the sum of x)

    A panel holds the columns of some vectors; a byte of each stands beside those of the others and holds the codes of
    8 / bits rows, the first in its lowest bits. A field is not shifted down but x divided, which rounds nothing. A
    panel's codes stay near while all rows pass it.
    """

    bits: int
    zeros: bool
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, codes, scales, zeros if there are any, y; `depth` and `block` are in bytes of a column."""
        slots = [Parameter("x", DType.F32), Parameter("w", DType.U8), Parameter("scales", DType.F32)]
        slots += [Parameter("zeros", DType.U8)] if self.zeros else []
        slots += [Parameter("y", self.epilogue.expr.dtype)]
        names = ("m", "n", "depth", "block", "blocks", "x_row")
        return (*slots, *(Parameter(name) for name in names), *self.epilogue.parameters())

    @staticmethod
    def width(target: Target) -> int:
        """Columns of a panel."""
        return _VECTORS * target.lanes(DType.F32)

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, width = k.target.lanes(DType.F32), self.width(k.target)
        m, depth, blocks = k.size("m"), k.size("depth"), k.size("blocks")
        spots = range(0, width, lanes)
        with k.loop(k.end, start=k.begin) as item:
            panel, row = item // m, item % m
            x, codes = k.pointer("x") + row * k.size("x_row"), k.pointer("w") + panel * depth * width
            acc = [k.const(0, DType.F32, lanes) for _ in spots]
            with k.loop(blocks, carry=acc) as block:
                start = block * k.size("block")
                state = [*(k.const(0, DType.F32, lanes) for _ in acc), k.const(0, DType.F32)]
                with k.loop(k.min(start + k.size("block"), depth), start=start, carry=state) as byte:
                    self._turn(k, x + byte * (8 // self.bits), codes + byte * width, state)
                *parts, total = state
                at = (panel * blocks + block) * width
                for index, spot in enumerate(spots):
                    scale = k.load(k.pointer("scales") + (at + spot), lanes)
                    zero = k.const(1 << (self.bits - 1), DType.F32, lanes)
                    if self.zeros:
                        zero = k.cast(k.load(k.pointer("zeros") + (at + spot), lanes), DType.F32)
                    acc[index] = k.fma(scale, parts[index] - zero * k.broadcast(total, lanes), acc[index])
            operands = self.epilogue.bases(k)
            for sums, spot in zip(acc, spots, strict=True):
                column = panel * width + spot
                mask = k.first_lanes(k.size("n") - column, lanes)
                value = self.epilogue.apply(k, sums, operands, row, column, mask)
                k.store(value, k.pointer("y") + (row * k.size("n") + column), mask)

    def _turn(self, k: Builder, x: Ptr, codes: Ptr, state: list[Val]) -> None:
        """One byte of each column: the sums of their products, and last that of x."""
        lanes = k.target.lanes(DType.F32)
        packed = [k.cast(k.load(codes + index * lanes, lanes), DType.I32) for index in range(_VECTORS)]
        values = [k.load(x + field) for field in range(8 // self.bits)]
        total = values[0]
        for value in values[1:]:
            total = total + value
        for field, value in enumerate(values):
            mask = k.const(((1 << self.bits) - 1) << (self.bits * field), DType.I32, lanes)
            scaled = k.broadcast(value * k.const(2.0 ** -(self.bits * field), DType.F32), lanes)
            for index, one in enumerate(packed):
                state[index] = k.fma(scaled, k.cast(one & mask, DType.F32), state[index])
        state[-1] = state[-1] + total
