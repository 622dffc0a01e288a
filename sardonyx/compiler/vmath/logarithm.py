"""The natural logarithm."""

from __future__ import annotations

from sardonyx.compiler.builder import Builder, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.vmath.base import FORMATS, is_nan, normal_parts, number, polynomial

# (log(1 + f) - f + f ** 2 / 2) / f ** 3 for 1 + f between sqrt(1/2) and sqrt(2) (Cephes).
_LOG32 = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
# (2 * atanh(s) / s - 2) / s ** 2 in s ** 2 for s = f / (2 + f).
_LOG64 = (
    0.14796261140163613,
    0.15314021109763368,
    0.18183565408137778,
    0.222221985537563,
    0.2857142874256256,
    0.3999999999941396,
    0.6666666666666734,
)


def log_of_parts(k: Builder, f: Val, power: Val, extra: Val | None = None) -> Val:
    """log((1 + f) * 2 ** power) + extra, which is far smaller; f as `normal_parts` gives it."""
    form = FORMATS[f.dtype]
    low, high = number(k, f, form.ln2_low), number(k, f, form.ln2_high)
    square = f * f
    if f.dtype is DType.F64:
        s = f / (number(k, f, 2.0) + f)
        z = s * s
        half = number(k, f, 0.5) * square
        small = k.fma(s, k.fma(polynomial(k, z, _LOG64), z, half), power * low)
        small = small if extra is None else small + extra
        return k.fma(power, high, f - (half - small))
    small = k.fma(power, low, polynomial(k, f, _LOG32) * f * square)
    small = small if extra is None else small + extra
    return k.fma(power, high, f + k.fma(square, number(k, f, -0.5), small))


def log(k: Builder, x: Val) -> Val:
    """The natural logarithm; log(0) is -inf, of a negative number NaN."""
    result = log_of_parts(k, *normal_parts(k, x))
    infinity, zero = number(k, x, float("inf")), number(k, x, 0.0)
    result = k.select(x.compare("==", infinity), x, result)
    result = k.select(x.compare("==", zero), -infinity, result)
    return k.select(is_nan(x) | (x < zero), number(k, x, float("nan")), result)


def log1p(k: Builder, x: Val) -> Val:
    """log(1 + x), also of small x: with what was lost when 1 was added."""
    one, zero, infinity = number(k, x, 1.0), number(k, x, 0.0), number(k, x, float("inf"))
    total = one + x
    f, power = normal_parts(k, total)
    small = power.compare("==", zero)
    lost = k.select(x > one, one - (total - x), x - (total - one)) / total
    result = log_of_parts(k, k.select(small, x, f), power, k.select(small, zero, lost))
    result = k.select(x.compare("==", infinity) | x.compare("==", zero), x, result)
    result = k.select(x.compare("==", -one), -infinity, result)
    return k.select(is_nan(x) | (x < -one), number(k, x, float("nan")), result)
