"""The places of a picture's pixels under an affine map: AffineGrid."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class AffinePlaces(Kernel):
    """y[b, p, i] = theta[b, i, -1] + sum over axes a of theta[b, i, spatial - 1 - a] * own_a[p_a].

    for (b, p on all axes but the last) in domain:  start[i] = theta[b, i, -1] + the sum over those axes
        for p in vectors of the last axis:  y[b, p, i] = start[i] + theta[b, i, 0] * own[p], for all i side by side

    y is dense; `own_a` holds the places of axis a, whose innermost is named first by theta.
    """

    spatial: int
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """theta and its strides, y, then each axis' places and how many there are."""
        slots = [Parameter("theta", self.dtype), Parameter("y", self.dtype)]
        slots += [Parameter(name) for name in ("theta_batch", "theta_row", "theta_column")]
        for axis in range(self.spatial):
            slots += [Parameter(f"own{axis}", self.dtype), Parameter(f"size{axis}")]
        return tuple(slots)

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, last = k.target.lanes(self.dtype), self.spatial - 1
        own, count = k.pointer(f"own{last}"), k.size(f"size{last}")
        with k.loop(k.end, start=k.begin) as row:
            rest, places = row, []
            for axis in reversed(range(last)):
                places.append(k.load(k.pointer(f"own{axis}") + rest % k.size(f"size{axis}")))
                rest = rest // k.size(f"size{axis}")
            steps, starts = [], []
            for i in range(self.spatial):
                line = k.pointer("theta") + (rest * k.size("theta_batch") + k.size("theta_row") * i)
                factors = [k.load(line + k.size("theta_column") * j) for j in range(self.spatial + 1)]
                start = factors[-1]
                for factor, place in zip(factors[1:-1], places, strict=True):
                    start = k.fma(factor, place, start)
                steps.append(factors[0])
                starts.append(start)
            target = k.pointer("y") + row * count * self.spatial

            def write(at: Int, width: int) -> None:
                place = k.load(own + at, width)
                pairs = zip(steps, starts, strict=True)
                found = [k.fma(place, k.broadcast(step, width), k.broadcast(start, width)) for step, start in pairs]
                for number, value in enumerate(k.interleaved(found)):
                    k.store(value, target + (at * self.spatial + number * width))

            whole = count // lanes * lanes
            with k.loop(whole, step=lanes) as at:
                write(at, lanes)
            with k.loop(count, start=whole) as at:
                write(at, 1)
