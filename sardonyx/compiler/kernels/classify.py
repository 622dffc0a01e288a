"""From scores to what classifiers of ai.onnx.ml return: transformed scores, and a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

from sardonyx.compiler import vmath
from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import maximum
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.vmath.base import magnitude
from sardonyx.compiler.vmath.base import number as like

NEGATED, COMPLEMENT = "negated", "complement"
_NEAR_ZERO = 1e-7
"""Scores that SOFTMAX_ZERO takes for none."""
_WINITZKI = 0.147
"""Of his formula for the inverse of the error function, which PROBIT is defined by wherever it runs."""


@dataclass(frozen=True)
class Classify(Kernel):
    """y[n] = labels[the best class], z[n] = transform(scores[n]).

    The best class is the first one with the highest score or, with a `threshold`, 1 or 0: whether the last score is
    above it. `pair` makes two classes of one score s: their scores are -s (or 1 - s: `COMPLEMENT`) and s. Without
    `labelled` there is no y. x and z are dense.
    """

    transform: str
    dtype: DType
    target: DType
    labelled: bool
    threshold: float | None = None
    pair: str | None = None

    def parameters(self) -> tuple[Parameter, ...]:
        """Scores, results, labels and how many scores a row of each has."""
        labels = (Parameter("labels", DType.I64), Parameter("y", DType.I64)) if self.labelled else ()
        return (Parameter("x", self.dtype), *labels, Parameter("z", self.target), Parameter("given"), Parameter("made"))

    def emit(self, k: Builder) -> None:
        """See the class."""
        with k.loop(k.end, start=k.begin) as row:
            source, target = k.pointer("x") + row * k.size("given"), k.pointer("z") + row * k.size("made")
            if self.labelled:
                best = self._best(k, source)
                k.store(k.load(k.pointer("labels") + best), k.pointer("y") + row)
            if self.transform in ("SOFTMAX", "SOFTMAX_ZERO"):
                self._softmax(k, source, target)
            else:
                single = {"NONE": lambda v: v, "LOGISTIC": lambda v: vmath.sigmoid(k, v)}
                apply: Callable[[Val], Val] = single.get(self.transform, lambda v: probit(k, v))
                with k.loop(k.size("made")) as at:
                    k.store(k.cast(apply(self._score(k, source, at)), self.target), target + at)

    def _score(self, k: Builder, source: Ptr, at: Int) -> Val:
        if self.pair is None:
            return k.load(source + at)
        score = k.load(source)
        other = k.const(1.0, self.dtype) - score if self.pair == COMPLEMENT else -score
        return k.select(at.equals(0), other, score)

    def _best(self, k: Builder, source: Ptr) -> Int:
        if self.threshold is not None:
            score = k.load(source + (k.size("given") - 1))
            return k.pick(score > k.const(self.threshold, self.dtype), 1, 0)
        best = [k.load(source), k.const(0, DType.I64)]
        with k.loop(k.size("given"), start=1, carry=best) as at:
            score = k.load(source + at)
            better = score > best[0]
            place = Val(k, at.ir, DType.I64, 1)
            best[:] = [k.select(better, score, best[0]), k.select(better, place, best[1])]
        return Int(k, best[1].ir)

    def _softmax(self, k: Builder, source: Ptr, target: Ptr) -> None:
        made = k.size("made")
        top = [k.const(float("-inf"), self.dtype)]
        with k.loop(made, carry=top) as at:
            top[0] = maximum(k, top[0], self._score(k, source, at))
        total = [k.const(0.0, self.dtype)]
        with k.loop(made, carry=total) as at:
            score = self._score(k, source, at)
            power = vmath.exp(k, score - top[0])
            if self.transform == "SOFTMAX_ZERO":
                small = score * vmath.exp(k, -top[0])
                power = k.select(magnitude(k, score) > like(k, score, _NEAR_ZERO), power, small)
            total[0] = total[0] + power
            k.store(k.cast(power, self.target), target + at)
        with k.loop(made) as at:
            share = k.cast(k.load(target + at), self.dtype) / total[0]
            if self.transform == "SOFTMAX_ZERO":
                share = k.select(total[0].compare("==", like(k, share, 0.0)), like(k, share, 0.5), share)
            k.store(k.cast(share, self.target), target + at)


def probit(k: Builder, value: Val) -> Val:
    """The quantile of the normal distribution, by Winitzki's formula: to 0.5 %, and the same as elsewhere."""
    centred = value * like(k, value, 2.0) - like(k, value, 1.0)
    one = like(k, value, 1.0)
    log = vmath.log(k, (one - centred) * (one + centred))
    a = like(k, value, 2.0 / (pi * _WINITZKI)) + like(k, value, 0.5) * log
    root = k.intrinsic("llvm.sqrt", k.intrinsic("llvm.sqrt", a * a - like(k, value, 1.0 / _WINITZKI) * log) - a)
    signed = k.select(centred < like(k, value, 0.0), -root, root)
    return like(k, value, 1.41421356) * signed
