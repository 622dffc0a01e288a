"""What a machine with a decision for each pair of classes says: votes, and probabilities by coupling pairs'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sardonyx.compiler import vmath
from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.program import Kernel

_KIND = DType.F64
_CLOSE_TO_CERTAIN = 1e-7
"""No pair's probability comes closer to 0 or 1."""
_ROUNDS = 100
_CLOSE = 0.005
"""Over the number of classes: the error of the coupled probabilities."""


@dataclass(frozen=True)
class Pairs(Kernel):
    """The label with the most votes of pairs' decisions x[r, (i, j)], i < j, above 0 for i; and, with `coupled`, the
    probabilities of classes that go with the pairs' 1 / (1 + e ** (slope * decision + offset)): the second method of
    Wu, Lin and Weng (2004), with libsvm's rule to stop.

    for row in domain:  for i < j:  votes[decision > 0 ? i : j] += 1;  label = labels[first of the most votes]
        minimise p' Q p by going round its coordinates, until Q p is nearly the same everywhere

    Scratch memory: see `scratch`.
    """

    coupled: bool

    def parameters(self) -> tuple[Parameter, ...]:
        """Decisions, slopes and offsets of pairs, labels; label and probabilities; classes, pairs."""
        floats = [Parameter(name, _KIND) for name in ("x", "slope", "offset")]
        whole = [Parameter(name, DType.I64) for name in ("labels", "label")]
        return (*floats, *whole, Parameter("y", _KIND), Parameter("classes"), Parameter("pairs"))

    @staticmethod
    def scratch(classes: int) -> int:
        """Bytes of scratch memory: votes, Qp and a flag, then pairs' probabilities and Q."""
        return 8 * (2 * classes + 1 + 2 * classes * classes)

    def emit(self, k: Builder) -> None:
        """See the class."""
        classes = k.size("classes")
        votes = k.workspace(_KIND)
        with k.loop(k.end, start=k.begin) as row:
            x = k.pointer("x") + row * k.size("pairs")
            self._vote(k, x, votes, k.pointer("label") + row)
            if self.coupled:
                p = k.pointer("y") + row * classes
                r = votes + (classes * 2 + 1)
                self._pairs(k, x, r)
                _couple(k, r, p, votes + classes, r + classes * classes)

    def _vote(self, k: Builder, x: Ptr, votes: Ptr, label: Ptr) -> None:
        classes, one, zero = k.size("classes"), k.const(1.0, _KIND), k.const(0.0, _KIND)
        with k.loop(classes) as i:
            k.store(zero, votes + i)

        def vote(pair: Int, i: Int, j: Int) -> None:
            winner = votes + k.pick(k.load(x + pair) > zero, i, j)
            k.store(k.load(winner) + one, winner)

        _each_pair(k, vote)
        most = [k.load(votes), k.const(0, DType.I64)]
        with k.loop(classes, start=1, carry=most) as i:
            count = k.load(votes + i)
            more, here = count > most[0], Val(k, i.ir, DType.I64, 1)
            most[:] = k.select(more, count, most[0]), k.select(more, here, most[1])
        k.store(k.load(k.pointer("labels") + Int(k, most[1].ir)), label)

    def _pairs(self, k: Builder, x: Ptr, r: Ptr) -> None:
        classes, one = k.size("classes"), k.const(1.0, _KIND)

        def probability(pair: Int, i: Int, j: Int) -> None:
            slope, offset = (k.load(k.pointer(name) + pair) for name in ("slope", "offset"))
            value = one / (one + vmath.exp(k, k.fma(k.load(x + pair), slope, offset)))
            low, high = (k.const(edge, _KIND) for edge in (_CLOSE_TO_CERTAIN, 1 - _CLOSE_TO_CERTAIN))
            value = k.select(value < low, low, k.select(value > high, high, value))
            k.store(value, r + (i * classes + j))
            k.store(one - value, r + (j * classes + i))

        _each_pair(k, probability)


def _each_pair(k: Builder, body: Callable[[Int, Int, Int], None]) -> None:
    """`body(pair, i, j)` for all i < j, pairs counted in this order."""
    classes = k.size("classes")
    with k.loop(classes) as i, k.loop(classes, start=i + 1) as j:
        body(i * classes - i * (i + 1) // 2 + j - i - 1, i, j)


def _couple(k: Builder, r: Ptr, p: Ptr, qp: Ptr, q: Ptr) -> None:
    """Write the probabilities to p; qp and q are scratch memory."""
    classes, zero, one = k.size("classes"), k.const(0.0, _KIND), k.const(1.0, _KIND)
    count = Val(k, k.ir.sitofp(classes.ir, one.ir.type), _KIND, 1)
    flag = qp + classes
    with k.loop(classes) as i:
        k.store(one / count, p + i)
        diagonal = [zero]
        with k.loop(classes, carry=diagonal) as j:
            apart = k.cast(i.equals(j) ^ k.const(True, DType.BOOL), _KIND)
            other = k.select(apart > zero, k.load(r + (j * classes + i)), zero)
            mirror = k.select(apart > zero, k.load(r + (i * classes + j)), zero)
            diagonal[0] = k.fma(other, other, diagonal[0])
            k.store(-(other * mirror), q + (i * classes + j))
        k.store(diagonal[0], q + (i * classes + i))
    k.store(one, flag)
    with k.loop(_ROUNDS), k.when(k.load(flag) > zero):
        total = _products(k, classes, q, p, qp)
        error = [zero]
        with k.loop(classes, carry=error) as i:
            off = k.intrinsic("llvm.fabs", k.load(qp + i) - total)
            error[0] = k.select(off < error[0], error[0], off)
        going = error[0].compare(">=", k.const(_CLOSE, _KIND) / count)
        k.store(k.cast(going, _KIND), flag)
        with k.when(going):
            _round(k, classes, q, p, qp, total)


def _products(k: Builder, classes: Int, q: Ptr, p: Ptr, qp: Ptr) -> Val:
    """Write Q p to qp; returns p' Q p."""
    total = [k.const(0.0, _KIND)]
    with k.loop(classes, carry=total) as i:
        row = [k.const(0.0, _KIND)]
        with k.loop(classes, carry=row) as j:
            row[0] = k.fma(k.load(q + (i * classes + j)), k.load(p + j), row[0])
        k.store(row[0], qp + i)
        total[0] = k.fma(k.load(p + i), row[0], total[0])
    return total[0]


def _round(k: Builder, classes: Int, q: Ptr, p: Ptr, qp: Ptr, total: Val) -> None:
    """Each coordinate in turn takes its best value, and p, Q p and p' Q p are brought up to date."""
    one, two = k.const(1.0, _KIND), k.const(2.0, _KIND)
    rest = [total]
    with k.loop(classes, carry=rest) as i:
        own, here = k.load(q + (i * classes + i)), k.load(qp + i)
        step = (rest[0] - here) / own
        scale = one + step
        k.store(k.load(p + i) + step, p + i)
        rest[0] = (rest[0] + step * (step * own + two * here)) / scale / scale
        with k.loop(classes) as j:
            k.store((k.load(qp + j) + step * k.load(q + (i * classes + j))) / scale, qp + j)
            k.store(k.load(p + j) / scale, p + j)
