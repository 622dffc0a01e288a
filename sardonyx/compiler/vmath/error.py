"""The error function, and Gelu, which is made of it."""

from __future__ import annotations

from sardonyx.compiler.builder import Builder, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.vmath.base import clamp, is_nan, magnitude, number, polynomial, signed
from sardonyx.compiler.vmath.exponential import exp_normal, expm1_near, tanh

_MOST = 3.95
"""Beyond it erf(x) is 1 in float32."""
# -log(erfc(x)) / x for x from 0 to _MOST.
_SINGLE = (
    -9.256235830540998e-06,
    0.00011764102374050134,
    -0.0006328360276533638,
    0.0016670260752456156,
    -0.00016039485683508466,
    -0.0191530644153307,
    0.10277783058823699,
    0.6366193819672856,
    1.1283791716111393,
)
# erf(x) / x in x ** 2 for |x| <= 1.
_NEAR = (
    -7.779469781253671e-10,
    1.3710981246788547e-08,
    -1.6206313997772753e-07,
    1.644713160924535e-06,
    -1.4924712305740118e-05,
    0.00012055293577135585,
    -0.0008548325929323979,
    0.005223977606118712,
    -0.026866170643111503,
    0.11283791670944185,
    -0.3761263890318352,
    1.1283791670955126,
)
# e ** (x * x) * erfc(x) in (x - 2) / (x + 2) for x from 1 to 6.
_FAR = (
    -1.264410146579627e-05,
    -2.6611487884363524e-05,
    2.7623183261519437e-05,
    0.00017428847018921505,
    4.35361601852932e-05,
    -0.0009819764793266158,
    -0.0008471425904807541,
    0.006997461785662026,
    0.0037328923985388406,
    -0.07897858101641567,
    0.2416581942424688,
    -0.4271858474139568,
    0.25539567631050575,
)


def erf(k: Builder, x: Val) -> Val:
    """The error function. In float32 1 - e ** -p(|x|) with a polynomial p everywhere; in float64 a polynomial up to 1,
    and 1 - e ** (-x ** 2) times another beyond.
    """
    size, one, two = magnitude(k, x), number(k, x, 1.0), number(k, x, 2.0)
    if x.dtype is DType.F32:
        most = number(k, x, _MOST)
        size = k.select(size > most, most, size)
        return signed(k, expm1_near(k, -(size * polynomial(k, size, _SINGLE))), x)
    near = x * polynomial(k, x * x, _NEAR)
    bounded = clamp(k, size, 0.0, 6.0)
    ratio = polynomial(k, (bounded - two) / (bounded + two), _FAR)
    far = signed(k, one - exp_normal(k, -(bounded * bounded)) * ratio, x)
    return k.select(is_nan(x), x, k.select(size < one, near, far))


def gelu(k: Builder, x: Val) -> Val:
    """x * Phi(x) with the normal distribution's Phi (arXiv:1606.08415)."""
    half = number(k, x, 0.5) * x
    return k.fma(half, erf(k, x * number(k, x, 0.7071067811865476)), half)


def gelu_tanh(k: Builder, x: Val) -> Val:
    """Its approximation x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))."""
    half = number(k, x, 0.5) * x
    inner = x * k.fma(x * x, number(k, x, 0.7978845608028654 * 0.044715), number(k, x, 0.7978845608028654))
    return k.fma(half, tanh(k, inner), half)
