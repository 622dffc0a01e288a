"""Along an axis: numbers in equal steps, running sums and products, slices chosen by a condition."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import SCALAR_OPS
from sardonyx.compiler.kernels.select import number
from sardonyx.compiler.program import Kernel


@dataclass(frozen=True)
class Steps(Kernel):
    """y[i] = start + i * delta, a block of y an item."""

    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """The two numbers, y, its length and that of a block."""
        tensors = [Parameter(name, self.dtype) for name in ("start", "delta", "y")]
        return (*tensors, Parameter("n"), Parameter("block"))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, dtype = k.target.lanes(DType.F32), self.dtype
        iota = k.vector([k.const(lane, dtype) for lane in range(lanes)])
        start, delta = k.load(k.pointer("start")), k.load(k.pointer("delta"))

        def write(at: Int, width: int) -> None:
            count = k.broadcast(k.cast(number(k, at), dtype), width)
            count = count + iota if width > 1 else count
            value = k.fma(count, k.broadcast(delta, width), k.broadcast(start, width))
            k.store(value, k.pointer("y") + at)

        with k.loop(k.end, start=k.begin) as item:
            first = item * k.size("block")
            last = k.min(first + k.size("block"), k.size("n"))
            whole = first + (last - first) // lanes * lanes
            with k.loop(whole, start=first, step=lanes) as at:
                write(at, lanes)
            with k.loop(last, start=whole) as at:
                write(at, 1)


@dataclass(frozen=True)
class Cumulate(Kernel):
    """y[o, r, i] = x[o, 0, i] op ... op x[o, r, i], or op ... op x[o, length - 1, i] with `reverse`.

    for (o, vector of i) in domain:  for r in order:  total = total op x[o, r, i];  y[o, r, i] = total

    `exclusive` leaves x[o, r, i] itself out. x and y are dense.
    """

    op: str
    exclusive: bool
    reverse: bool
    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y and sizes."""
        names = ("length", "inner", "blocks")
        return (Parameter("x", self.dtype), Parameter("y", self.dtype), *(Parameter(name) for name in names))

    def emit(self, k: Builder) -> None:
        """See the class."""
        lanes, length, inner = k.target.lanes(DType.F32), k.size("length"), k.size("inner")
        with k.loop(k.end, start=k.begin) as item:
            outer, column = item // k.size("blocks"), item % k.size("blocks") * lanes
            base = outer * length * inner + column

            def run(at: Int, width: int, base: Int = base) -> None:
                total = [k.const(0 if self.op == "add" else 1, self.dtype, width)]
                with k.loop(length, carry=total) as turn:
                    place = base + at + (length - 1 - turn if self.reverse else turn) * inner
                    following = SCALAR_OPS[self.op](k, total[0], k.load(k.pointer("x") + place, width))
                    k.store(total[0] if self.exclusive else following, k.pointer("y") + place)
                    total[0] = following

            def tail(column: Int = column) -> None:
                with k.loop(inner - column) as at:
                    run(at, 1)

            k.either(column + lanes <= inner, lambda: run(k.index(0), lanes), tail)


@dataclass(frozen=True)
class Compress(Kernel):
    """y[o, j, :] = x[o, r, :] for the j-th r at which `condition` holds; total = how many there are.

    for o in domain:  for r in range(rows):  if condition[r]:  copy n elements

    x and y are dense, with `length` slices of n elements in each o.
    """

    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, the condition, the results, sizes."""
        tensors = (Parameter("x", self.dtype), Parameter("condition", DType.BOOL), Parameter("y", self.dtype))
        return (*tensors, Parameter("total", DType.I64), *(Parameter(name) for name in ("rows", "length", "n")))

    def emit(self, k: Builder) -> None:
        """See the class."""
        n = k.size("n")
        with k.loop(k.end, start=k.begin) as item:
            base = item * k.size("length")
            found = [k.const(0, DType.I64)]
            with k.loop(k.size("rows"), carry=found) as row:
                chosen = k.load(k.pointer("condition") + row)
                with k.when(chosen):
                    source = k.pointer("x") + (base + row) * n
                    _copy(k, source, k.pointer("y") + (base + Int(k, found[0].ir)) * n, n)
                found[0] = found[0] + k.cast(chosen, DType.I64)
            with k.when(item.equals(0)):
                k.store(found[0], k.pointer("total"))


def _copy(k: Builder, source: Ptr, target: Ptr, n: Int) -> None:
    lanes = k.target.lanes(source.dtype)
    whole = n // lanes * lanes
    with k.loop(whole, step=lanes) as at:
        k.store(k.load(source + at, lanes), target + at)
    with k.loop(n, start=whole) as at:
        k.store(k.load(source + at), target + at)


@dataclass(frozen=True)
class Determinant(Kernel):
    """y[b] = the determinant of x[b], n rows of n elements: elimination with partial pivoting, a matrix an item.

    for c in range(n):  swap row c with that of the largest |x[r, c]|, r >= c;  y = y * x[c, c]
        for r in range(c + 1, n):  x[r, :] = x[r, :] - x[r, c] / x[c, c] * x[c, :]

    Scratch memory holds a copy of the matrix, its rows `pitch` apart, a multiple of a vector. Columns before c of a row
    are of no use any more, and take part where vectors begin before it.
    """

    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        """x, y, the number of rows and how far apart the copy's are."""
        return (Parameter("x", self.dtype), Parameter("y", self.dtype), Parameter("n"), Parameter("pitch"))

    def emit(self, k: Builder) -> None:
        """See the class."""
        n, pitch, lanes, rows = k.size("n"), k.size("pitch"), k.target.lanes(self.dtype), k.workspace(self.dtype)
        with k.loop(k.end, start=k.begin) as item:
            with k.loop(n) as row:
                _padded(k, k.pointer("x") + (item * n + row) * n, rows + row * pitch, lanes)
            result = [k.const(1.0, self.dtype)]
            with k.loop(n, carry=result) as c:
                pivot, first = self._largest(k, rows, c), c // lanes * lanes
                own, other = rows + c * pitch, rows + pivot * pitch
                with k.loop(pitch, start=first, step=lanes) as at:
                    a, b = k.load(own + at, lanes), k.load(other + at, lanes)
                    k.store(b, own + at)
                    k.store(a, other + at)
                corner = k.load(own + c)
                result[0] = k.select(pivot.equals(c), result[0], -result[0]) * corner
                with k.loop(n, start=c + 1) as row:
                    self._eliminate(k, own, rows + row * pitch, c)
            k.store(result[0], k.pointer("y") + item)

    def _largest(self, k: Builder, rows: Ptr, c: Int) -> Int:
        """The row from c on whose element in column c is largest."""
        n, pitch = k.size("n"), k.size("pitch")
        best = [k.const(-1.0, self.dtype), number(k, c)]
        with k.loop(n, start=c, carry=best) as row:
            size = k.intrinsic("llvm.fabs", k.load(rows + (row * pitch + c)))
            more = size > best[0]
            best[:] = [k.select(more, size, best[0]), k.select(more, number(k, row), best[1])]
        return Int(k, best[1].ir)

    def _eliminate(self, k: Builder, own: Ptr, row: Ptr, c: Int) -> None:
        """Take what makes column c zero from a row; of a column of zeros nothing, as the result is 0 already."""
        corner = k.load(own + c)
        nothing = corner.compare("==", k.const(0.0, self.dtype))
        factor = k.load(row + c) / corner
        lanes = k.target.lanes(self.dtype)
        factor = k.broadcast(k.select(nothing, k.const(0.0, self.dtype), -factor), lanes)
        with k.loop(k.size("pitch"), start=c // lanes * lanes, step=lanes) as at:
            k.store(k.fma(factor, k.load(own + at, lanes), k.load(row + at, lanes)), row + at)


def _padded(k: Builder, source: Ptr, target: Ptr, lanes: int) -> None:
    """Copy a row, with zeros up to a multiple of a vector."""
    n = k.size("n")
    with k.loop(n, step=lanes) as at:
        k.store(k.load(source + at, lanes, k.first_lanes(n - at, lanes)), target + at)
