"""Fits the polynomials of `sardonyx/compiler/vmath`: prints their coefficients, highest power first.

    python scripts/fit_polynomials.py

Remez' algorithm in 60 digits, for the least relative error of the function that the polynomial is a part of. Needs
mpmath.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp

Function = Callable[[Any], Any]
mp.mp.dps = 60
GRID = 1200
TINY = mp.mpf(10) ** -14


def remez(f: Function, low: Any, high: Any, degree: int, weight: Function) -> tuple[list[Any], Any]:
    """The polynomial with the least maximum of weight * (polynomial - f), and that maximum."""
    low, high, count = mp.mpf(low), mp.mpf(high), degree + 2
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / GRID) for i in range(GRID + 1)]
    wanted, scale = [f(x) for x in grid], [weight(x) for x in grid]
    chosen = [round(i * GRID / (count - 1)) for i in range(count)]
    for _ in range(30):
        rows = [[grid[i] ** p for p in range(degree + 1)] + [(-1) ** n / scale[i]] for n, i in enumerate(chosen)]
        found = mp.lu_solve(mp.matrix(rows), mp.matrix([wanted[i] for i in chosen]))
        coefficients = [found[p] for p in range(degree, -1, -1)]
        errors = [s * (mp.polyval(coefficients, x) - y) for s, x, y in zip(scale, grid, wanted, strict=True)]
        peaks = _peaks(errors, count)
        if peaks == chosen or len(peaks) < count:
            break
        chosen = peaks
    return coefficients, max(abs(e) for e in errors)


def _peaks(errors: list[Any], count: int) -> list[int]:
    """Where the error is largest in each run of one sign; of too many, the largest `count` in a row."""
    runs: list[int] = []
    for index, error in enumerate(errors):
        if runs and (error > 0) == (errors[runs[-1]] > 0):
            runs[-1] = max(runs[-1], index, key=lambda i: abs(errors[i]))
        else:
            runs.append(index)
    while len(runs) > count:
        runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
    return runs


def show(name: str, coefficients: list[Any], error: Any) -> None:
    """Print a table of Python literals."""
    print(f"{name} = (  # relative error {mp.nstr(error, 2)} = 2**{mp.nstr(mp.log(error, 2), 3)}")
    for coefficient in coefficients:
        print(f"    {float(coefficient)!r},")
    print(")")


def odd(f: Function) -> Function:
    """(f(x) - x) / x**3 as a function of z = x**2."""
    return lambda z: (f(mp.sqrt(z)) - mp.sqrt(z)) / mp.sqrt(z) ** 3


def exp_tail(r: Any) -> Any:
    """(e ** r - 1 - r) / r ** 2."""
    return (mp.expm1(r) - r) / r**2 if abs(r) > TINY else mp.mpf(1) / 2


def cos_tail(z: Any) -> Any:
    """(cos(r) - 1 + r ** 2 / 2) / r ** 4 of z = r ** 2."""
    return (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2


def log_rest(z: Any) -> Any:
    """(2 atanh(s) / s - 2) / s ** 2 of z = s ** 2."""
    return (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z


def log_far(z: Any) -> Any:
    """(2 atanh(s) / s - 2 - 2 s ** 2 / 3) / s ** 4 of z = s ** 2."""
    return (log_rest(z) - mp.mpf(2) / 3) / z


def erf_over(z: Any) -> Any:
    """erf(x) / x of z = x ** 2."""
    return mp.erf(mp.sqrt(z)) / mp.sqrt(z)


def erf_power(a: Any) -> Any:
    """-log(erfc(a)) / a."""
    return -mp.log(mp.erfc(a)) / a


def erfc_scaled(t: Any) -> Any:
    """e ** (x * x) * erfc(x) of t = (x - 2) / (x + 2)."""
    x = 2 * (1 + t) / (1 - t)
    return mp.erfc(x) * mp.exp(x * x)


def main() -> None:
    """Everything."""
    half_ln2 = mp.log(2) / 2 * mp.mpf("1.001")
    show("EXP64", *remez(exp_tail, -half_ln2, half_ln2, 9, lambda r: mp.mpf(1)))
    s_most = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1) * mp.mpf("1.0001")
    show("LOG64", *remez(log_rest, TINY, s_most**2, 6, lambda z: z))
    show("POW_FAR", *remez(log_far, TINY, s_most**2, 6, lambda z: z**2))
    quarter = (mp.pi / 4 * mp.mpf("1.02")) ** 2
    for bits, degree in ((32, 2), (64, 5)):
        show(f"SIN{bits}", *remez(odd(mp.sin), TINY, quarter, degree, lambda z: z))
        show(f"COS{bits}", *remez(cos_tail, TINY, quarter, degree, lambda z: z**2 / mp.cos(mp.sqrt(z))))
    for name, f, most, degrees in (
        ("ASIN", mp.asin, mp.mpf(1) / 4, (4, 12)),
        ("ATAN", mp.atan, (mp.sqrt(2) - 1) ** 2 * mp.mpf("1.0001"), (4, 10)),
        ("SINH", mp.sinh, mp.mpf(1), (3, 6)),
    ):
        for bits, degree in zip((32, 64), degrees, strict=True):
            show(f"{name}{bits}", *remez(odd(f), TINY, most, degree, lambda z: z))
    show("ERF32", *remez(erf_power, TINY, mp.mpf("3.95"), 8, lambda a: a * mp.erfc(a) / mp.erf(a)))
    show("ERF64_NEAR", *remez(erf_over, TINY, 1, 11, lambda z: 1 / erf_over(z)))
    show(
        "ERF64_FAR",
        *remez(erfc_scaled, mp.mpf(-1) / 3, mp.mpf(1) / 2, 12, lambda t: mp.exp(-((2 * (1 + t) / (1 - t)) ** 2))),
    )


if __name__ == "__main__":
    main()
