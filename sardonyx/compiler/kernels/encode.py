"""Encoding of features: what stands for a key, and rows made of one length."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class Lookup(Kernel):
    """y[i] = values[place of x[i] among the `count` ascending keys], or values[count] where it is none of them.

    for block in domain, for i in block:  a binary search;  of NaN, which is not among the keys, values[count + 1]

    With `strict`, an element without a place goes to `status`, as an int64, 0 as -1.
    """

    key: DType
    value: DType
    strict: bool = False

    def parameters(self) -> tuple[Parameter, ...]:
        """Tensors, then elements, those of a block, keys and the steps of a search."""
        tensors = (Parameter("x", self.key), Parameter("keys", self.key), Parameter("values", self.value))
        names = ("size", "block", "count", "steps")
        status = (Parameter("status", DType.I64),) if self.strict else ()
        return (*tensors, Parameter("y", self.value), *status, *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        count, keys = k.size("count"), k.pointer("keys")
        with k.loop(k.end, start=k.begin) as item:
            first = item * k.size("block")
            with k.loop(k.min(first + k.size("block"), k.size("size")), start=first) as at:
                x = k.load(k.pointer("x") + at)
                place = self._search(k, x)
                inside = k.max(k.min(place, count - 1), 0)
                found = k.load(keys + inside).compare("==", x) & (place < count)
                place = k.pick(found, inside, count)
                if self.key.is_float:
                    place = k.pick(x.compare("!=", x), count + 1, place)
                k.store(k.load(k.pointer("values") + place), k.pointer("y") + at)
                if self.strict:
                    with k.when(found ^ k.const(True, DType.BOOL)):
                        number, zero = k.cast(x, DType.I64), k.const(0, DType.I64)
                        k.store(
                            k.select(number.compare("==", zero), zero - k.const(1, DType.I64), number),
                            k.pointer("status"),
                        )

    def _report(self, k: Builder, x: Val, found: Val) -> None:
        number, zero, least = k.cast(x, DType.I64), k.const(0, DType.I64), k.const(-1, DType.I64)
        with k.when(found ^ k.const(True, DType.BOOL)):
            k.store(k.select(number.compare("==", zero), least, number), k.pointer("status"))

    def _search(self, k: Builder, x: Val) -> Int:
        """How many keys are less than x."""
        keys, bounds = k.pointer("keys"), [Val(k, k.index(n).ir, DType.I64, 1) for n in (0, k.size("count"))]
        with k.loop(k.size("steps"), carry=bounds):
            low, high = (Int(k, bound.ir) for bound in bounds)
            middle = k.min((low + high) // 2, k.size("count") - 1)
            open_still = low < high
            less = open_still & (k.load(keys + middle) < x)
            stays = open_still & (less ^ k.const(True, DType.BOOL))
            pair = k.pick(less, middle + 1, low), k.pick(stays, middle, high)
            bounds[:] = [Val(k, bound.ir, DType.I64, 1) for bound in pair]
        return Int(k, bounds[0].ir)


@dataclass(frozen=True)
class UnitRows(Kernel):
    """y[r, :] = x[r, :] / its largest element (`max`), its sum of absolute values (`l1`) or its length (`l2`).

    for row in domain:  total over x in float64;  y = x / total, or x where that is 0

    x is read with a stride and as any type; y is dense.
    """

    norm: str
    source: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, the length of a row and the strides of x."""
        names = ("n", "x_row", "x_step")
        return (Parameter("x", self.source), Parameter("y", DType.F32), *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        n, kind = k.size("n"), DType.F64
        zero = k.const(0.0, kind)
        with k.loop(k.end, start=k.begin) as row:
            source, target = k.pointer("x") + row * k.size("x_row"), k.pointer("y") + row * n

            def element(at: Int) -> Val:
                return k.cast(k.load(source + at * k.size("x_step")), kind)

            total = [k.const(float("-inf"), kind) if self.norm == "max" else zero]
            with k.loop(n, carry=total) as at:
                value = element(at)
                if self.norm == "max":
                    total[0] = k.select(value > total[0], value, total[0])
                elif self.norm == "l1":
                    total[0] = total[0] + k.intrinsic("llvm.fabs", value)
                else:
                    total[0] = k.fma(value, value, total[0])
            size = k.intrinsic("llvm.sqrt", total[0]) if self.norm == "l2" else total[0]
            divisor = k.select(size.compare("==", zero), k.const(1.0, kind), size)
            with k.loop(n) as at:
                k.store(k.cast(element(at) / divisor, DType.F32), target + at)
