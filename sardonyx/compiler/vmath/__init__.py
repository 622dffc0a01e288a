"""Elementary functions on vectors, written in the kernel language.

Each takes and returns vectors of float32 or float64, with the same code on every processor: argument reductions of
Cody and Waite (Software Manual for the Elementary Functions) or Payne and Hanek, and polynomials fitted by
`scripts/fit_polynomials.py`. NaN stays NaN and infinities behave as in C's libm. `docs/accuracy.md` has a table of the
errors, which tests hold.
"""

from __future__ import annotations

from collections.abc import Callable

from sardonyx.compiler.builder import Builder, Val
from sardonyx.compiler.vmath.base import shifted_right
from sardonyx.compiler.vmath.error import erf, gelu, gelu_tanh
from sardonyx.compiler.vmath.exponential import cosh, exp, exp_below, expm1, mish, sigmoid, sinh, softplus, tanh
from sardonyx.compiler.vmath.inverse import acos, acosh, asin, asinh, atan, atanh
from sardonyx.compiler.vmath.logarithm import log, log1p
from sardonyx.compiler.vmath.power import power
from sardonyx.compiler.vmath.remainder import fmod
from sardonyx.compiler.vmath.trigonometric import cos, sin, tan

FUNCTIONS: dict[str, Callable[[Builder, Val], Val]] = {
    function.__name__: function
    for function in (
        *(acos, acosh, asin, asinh, atan, atanh, cos, cosh, erf, exp, expm1, gelu, gelu_tanh, log, log1p, mish),
        *(sigmoid, sin, sinh, softplus, tan, tanh),
    )
}
"""Those of one number, by name."""

__all__ = [
    "FUNCTIONS",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cos",
    "cosh",
    "erf",
    "exp",
    "exp_below",
    "expm1",
    "fmod",
    "gelu",
    "gelu_tanh",
    "log",
    "log1p",
    "mish",
    "power",
    "shifted_right",
    "sigmoid",
    "sin",
    "sinh",
    "softplus",
    "tan",
    "tanh",
]
