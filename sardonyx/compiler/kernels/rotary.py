"""Rotary position embedding: pairs of elements turned by an angle of their position."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.attention_scores import write_rows
from sardonyx.compiler.kernels.indexing import checked_index
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class Rotate(Kernel):
    """y[b, h, s, i], y[b, h, s, j] = c * x[i] - d * x[j], d * x[i] + c * x[j] for the pairs (i, j) of x[b, h, s].

    for (b, s) in domain, for h in heads:
        for vectors of pairs:  c, d = cos[p, pair], sin[p, pair];  turn the pairs
        copy the elements behind the pairs

    There are `half` pairs: (i, half + i) or, if `interleaved`, (2i, 2i + 1). The row p of `cos` and `sin` is b and s
    or, with the type of an `index`, what positions[b, s] says; one out of range is reported.
    """

    interleaved: bool
    index: DType | None
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """Tensors, counts and strides; with positions the number of rows to choose from."""
        slots = [Parameter(name, self.dtype) for name in ("x", "cos", "sin", "y")]
        if self.index is not None:
            slots += [Parameter("positions", self.index), Parameter("status", DType.I64)]
            slots += [Parameter(name) for name in ("size", "positions_batch", "positions_row")]
        names = ["rows", "heads", "half", "rest"]
        names += [f"{tensor}_{over}" for tensor in "xy" for over in ("batch", "head", "row")]
        names += [f"{tensor}_{over}" for tensor in ("cos", "sin") for over in ("batch", "row")]
        return (*slots, *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        one = k.const(1.0, self.dtype, k.target.lanes(self.dtype))
        with k.loop(k.end, start=k.begin) as item:
            batch, row = item // k.size("rows"), item % k.size("rows")
            cos, sin = self._angles(k, batch, row)
            with k.loop(k.size("heads")) as head:
                source, target = (
                    k.pointer(name)
                    + (batch * k.size(f"{name}_batch") + head * k.size(f"{name}_head") + row * k.size(f"{name}_row"))
                    for name in "xy"
                )
                self._turn(k, source, target, cos, sin)
                done = k.size("half") * 2
                write_rows(k, source + done, target + done, k.size("rest"), one)

    def _angles(self, k: Builder, batch: Int, row: Int) -> tuple[Ptr, Ptr]:
        """The rows of cosines and sines for a position."""
        if self.index is not None:
            place = k.pointer("positions") + (batch * k.size("positions_batch") + row * k.size("positions_row"))
            batch, row = k.index(0), checked_index(k, place, k.size("size"))
        cos, sin = (
            k.pointer(name) + (batch * k.size(f"{name}_batch") + row * k.size(f"{name}_row")) for name in ("cos", "sin")
        )
        return cos, sin

    def _turn(self, k: Builder, source: Ptr, target: Ptr, cos: Ptr, sin: Ptr) -> None:
        half, lanes = k.size("half"), k.target.lanes(self.dtype)

        def pairs(at: Int, width: int) -> None:
            c, d = (k.load(angle + at, width) for angle in (cos, sin))
            if self.interleaved:
                both = [k.load(source + (at * 2 + part * width), width) for part in range(2)]
                x, z = (_picked(k, both, [2 * lane + part for lane in range(width)]) for part in range(2))
            else:
                x, z = k.load(source + at, width), k.load(source + (half + at), width)
            turned = [k.fma(c, x, -(d * z)), k.fma(d, x, c * z)]
            for part in range(2):
                if self.interleaved:
                    order = [lane // 2 + lane % 2 * width for lane in range(part * width, (part + 1) * width)]
                    k.store(_picked(k, turned, order), target + (at * 2 + part * width))
                else:
                    k.store(turned[part], target + (half * part + at))

        whole = half // lanes * lanes
        with k.loop(whole, step=lanes) as at:
            pairs(at, lanes)
        with k.loop(half, start=whole) as at:
            pairs(at, 1)


def _picked(k: Builder, both: list[Val], order: list[int]) -> Val:
    """Lanes of two vectors, counted through both."""
    return both[order[0]] if len(order) == 1 else k.shuffle(both[0], both[1], order)
