"""Discrete Fourier transforms of any length."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class Fourier(Kernel):
    """y[r, k] = factor * sum over j < n of x[r, j] * roots[j * k mod n] for k < bins, `width` rows an item, in float64.

    stride = 1
    for radix in radices, whose product is n:  (after Stockham: results come in order)
        for p in range(n / (radix * stride)), k in range(radix), q in range(stride):
            b[q + stride * (radix * p + k)] = sum over j < radix of
                a[q + stride * (p + n / (radix * stride) * j)] * roots[k * (j * n / radix + p * stride)]
        stride = stride * radix;  a, b = b, a

    A row of x has `length` elements, real or (`pairs`) complex; it is cut at n, or zeros follow. With `mirrored` it is
    the first half of a row of which the other is the conjugate of that. Results are complex unless `real`.
    Scratch memory holds a and b, real parts before imaginary ones, of all rows side by side.
    """

    pairs: bool
    mirrored: bool
    real: bool
    width: int
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, the roots (all real parts first), the radices, sizes, the factor."""
        tensors = (Parameter("x", self.dtype), Parameter("y", self.dtype), Parameter("roots", DType.F64))
        more = (Parameter("radices", DType.I64), Parameter("factor", DType.F64))
        return (*tensors, *more, *(Parameter(name) for name in ("rows", "length", "n", "bins")))

    @staticmethod
    def scratch(n: int, width: int) -> int:
        """Bytes of scratch memory."""
        return 4 * n * width * DType.F64.size

    def emit(self, k: Builder) -> None:
        """See the class."""
        n, count = k.size("n"), k.load_index(k.pointer("radices"))
        plane = n * self.width
        a = k.workspace(DType.F64)
        b = a + plane * 2
        with k.loop(k.end, start=k.begin) as item:
            self._read(k, item, a)
            walk: list[Int | Ptr] = [a, b, k.index(1)]
            with k.loop(count, moving=walk) as turn:
                source, target, stride = walk
                assert isinstance(source, Ptr)
                assert isinstance(target, Ptr)
                assert isinstance(stride, Int)
                radix = k.load_index(k.pointer("radices") + (turn + 1))
                self._pass(k, source, target, stride, radix)
                walk[:] = [target, source, stride * radix]
            result = k.pick_pointer((count % 2).equals(0), a, b)
            self._write(k, item, result)

    def _read(self, k: Builder, item: Int, a: Ptr) -> None:
        n, length = k.size("n"), k.size("length")
        plane, parts = n * self.width, 2 if self.pairs else 1
        zero = k.const(0.0, DType.F64)
        half = n // 2
        with k.loop(self.width) as lane:
            row = k.min(item * self.width + lane, k.size("rows") - 1)
            base = k.pointer("x") + row * length * parts
            with k.loop(n) as place:
                at = place * self.width + lane
                beyond = place > half
                index = k.pick(beyond, n - place, place) if self.mirrored else place
                k.store(zero, a + at)
                k.store(zero, a + (at + plane))
                with k.when(index < length):
                    k.store(k.cast(k.load(base + index * parts), DType.F64), a + at)
                    if self.pairs:
                        other = k.cast(k.load(base + (index * 2 + 1)), DType.F64)
                        if self.mirrored:
                            other = k.select(beyond, -other, other)
                        k.store(other, a + (at + plane))

    def _pass(self, k: Builder, source: Ptr, target: Ptr, stride: Int, radix: Int) -> None:
        """One radix."""
        n, lanes = k.size("n"), k.target.lanes(DType.F64)
        step, groups, extent = n // radix, n // (radix * stride), stride * self.width
        whole = extent // lanes * lanes
        with k.loop(groups) as p, k.loop(radix) as turn:
            first, by = p * turn * stride, turn * step
            into, out = p * extent, (radix * p + turn) * extent

            def some(q: Int, width: int, first: Int = first, by: Int = by, into: Int = into, out: Int = out) -> None:
                self._sum(k, (source + (into + q), target + (out + q)), (first, by), (radix, groups * extent), width)

            with k.loop(whole, step=lanes) as q:
                some(q, lanes)
            with k.loop(extent, start=whole) as q:
                some(q, 1)

    def _sum(
        self, k: Builder, places: tuple[Ptr, Ptr], turns: tuple[Int, Int], sizes: tuple[Int, Int], width: int
    ) -> None:
        """A result: `radix` terms, `apart` from each other, times roots, the first one and every `by`-th."""
        (source, target), (first, by), (radix, apart) = places, turns, sizes
        n, plane = k.size("n"), k.size("n") * self.width
        total = [k.const(0.0, DType.F64, width), k.const(0.0, DType.F64, width)]
        walk: list[Int | Ptr] = [source, first]
        with k.loop(radix, carry=total, moving=walk):
            at, root = walk
            assert isinstance(at, Ptr)
            assert isinstance(root, Int)
            re, im = k.load(at, width), k.load(at + plane, width)
            cos, sin = (k.broadcast(k.load(k.pointer("roots") + place), width) for place in (root, root + n))
            total[:] = [_minus(k, im, sin, k.fma(re, cos, total[0])), k.fma(re, sin, k.fma(im, cos, total[1]))]
            following = root + by
            walk[:] = [at + apart, k.pick(following < n, following, following - n)]
        k.store(total[0], target)
        k.store(total[1], target + plane)

    def _write(self, k: Builder, item: Int, a: Ptr) -> None:
        bins, plane = k.size("bins"), k.size("n") * self.width
        parts = 1 if self.real else 2
        factor = k.load(k.pointer("factor"))
        with k.loop(self.width) as lane:
            row = item * self.width + lane
            with k.when(row < k.size("rows")):
                base = k.pointer("y") + row * bins * parts
                with k.loop(bins) as place:
                    for part in range(parts):
                        value = k.load(a + (place * self.width + lane + plane * part)) * factor
                        k.store(k.cast(value, self.dtype.register), base + (place * parts + part))


def _minus(k: Builder, x: Val, y: Val, z: Val) -> Val:
    """z - x * y."""
    return k.fma(-x, y, z)
