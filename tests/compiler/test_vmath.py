"""Elementary functions over the whole range, in units in the last place; `docs/accuracy.md` has the measured errors."""

import math

import numpy as np
import pytest

import sardonyx
from tests.suites.operators import Case, node

_BITS = np.arange(0, 1 << 32, 40_009, dtype=np.uint64).astype(np.uint32)
EVERYWHERE = _BITS.view(np.float32)
"""107,000 numbers spread over all bit patterns: subnormals, infinities and NaNs among them."""
_RANDOM = np.random.default_rng(0)
WIDE = np.concatenate(
    [
        _RANDOM.integers(0, 1 << 64, 40_000, dtype=np.uint64).view(np.float64),
        *(_RANDOM.uniform(-size, size, 20_000) for size in (1.2, 30.0, 745.0, 1e5)),
        np.exp(_RANDOM.uniform(-40, 12, 20_000)),
        np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 5e-324]),
    ]
)
"""Numbers of float64: all bit patterns, and more where functions change."""
Wide = np.longdouble


def run(op: str, *inputs: np.ndarray) -> np.ndarray:
    feeds = dict(zip("xz", inputs, strict=False))
    case = Case(op, [node(op, " ".join(feeds))], feeds, opset=22)
    session = sardonyx.InferenceSession(case.model().SerializeToString())
    assert all(placement.provider == "cpu" for placement in session.explain())
    (y,) = session.run(None, feeds)
    return y


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Distance from a wider value, in spacings of the type there; 0 where both are equal or NaN."""
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        spacing = np.spacing(np.abs(rounded)).astype(want.dtype)
        return np.where(same, 0.0, np.abs(got.astype(want.dtype) - want) / spacing).astype(np.float64)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


FUNCTIONS = {
    "Acos": (np.arccos, 1.2, 1.2),
    "Acosh": (np.arccosh, 1.6, 2.2),
    "Asin": (np.arcsin, 2.2, 2.3),
    "Asinh": (np.arcsinh, 1.8, 1.9),
    "Atan": (np.arctan, 1.9, 1.9),
    "Atanh": (np.arctanh, 2.0, 1.9),
    "Cos": (np.cos, 1.6, 0.9),
    "Cosh": (np.cosh, 1.4, 1.6),
    "Exp": (np.exp, 1.0, 1.1),
    "Log": (np.log, 1.0, 1.0),
    "Sigmoid": (sigmoid, 2.2, 2.4),
    "Sin": (np.sin, 1.6, 0.9),
    "Sinh": (np.sinh, 1.5, 1.6),
    "Softplus": (softplus, 1.5, 1.8),
    "Tan": (np.tan, 3.0, 2.3),
    "Tanh": (np.tanh, 2.3, 2.7),
}
"""The reference, and the most units in the last place by which float32 and float64 may be off."""
BELOW = {"Sigmoid": (-87.0, -708.0)}
"""From where on a result is not normal, and only small."""


@pytest.mark.parametrize("op", FUNCTIONS)
def test_float32(op: str) -> None:
    check(op, EVERYWHERE, np.float64, FUNCTIONS[op][1])


@pytest.mark.skipif(np.finfo(Wide).nmant <= 52, reason="no type wider than float64 to compare with")
@pytest.mark.parametrize("op", FUNCTIONS)
def test_float64(op: str) -> None:
    check(op, WIDE, Wide, FUNCTIONS[op][2])


@pytest.mark.slow
@pytest.mark.parametrize("op", FUNCTIONS)
def test_float32_densely(op: str) -> None:
    for start in range(0, 1 << 32, 1 << 27):
        bits = np.arange(start, start + (1 << 27), 97, dtype=np.uint64).astype(np.uint32)
        check(op, bits.view(np.float32), np.float64, FUNCTIONS[op][1])


def check(op: str, x: np.ndarray, wide: type, bound: float) -> None:
    if op in BELOW:
        x = x[~(x < BELOW[op][x.dtype == np.float64])]
    with np.errstate(all="ignore"):
        want = FUNCTIONS[op][0](x.astype(wide))
    error = ulps(run(op, x), want)
    assert error.max() <= bound, (x[error.argmax()], error.max())


def test_sigmoid_vanishes() -> None:
    tiny = run("Sigmoid", np.array([-88, -100, -104, -1e30, -np.inf], np.float32))
    assert (tiny >= 0).all()
    assert (tiny < 1e-38).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf(dtype: type) -> None:
    x = np.concatenate([EVERYWHERE[np.isfinite(EVERYWHERE)][::4], np.linspace(-6.5, 6.5, 20_001)]).astype(dtype)
    want = np.array([math.erf(float(v)) for v in x])
    error = ulps(run("Erf", x), want)
    assert error.max() <= (2.6 if dtype is np.float32 else 2.5), x[error.argmax()]  # math.erf itself is off by 1
    assert np.isnan(run("Erf", np.array([np.nan], dtype)))[0]
    np.testing.assert_array_equal(run("Erf", np.array([np.inf, -np.inf, 9, 0], dtype)), [1, -1, 1, 0])


SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1.5, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30)
SPECIAL += (2.0**24 + 2, 2.0**53, 1.0 + 2.0**-23, 1.0 - 2.0**-24, 1e-45)


def c_pow(x: float, y: float) -> float:
    """C's pow, where Python's raises."""
    try:
        return math.pow(x, y)
    except OverflowError:
        return -math.inf if x < 0 and math.fmod(y, 2) else math.inf
    except ValueError:
        if x:
            return math.nan
        return math.copysign(math.inf, x) if math.fmod(y, 2) in (1, -1) else math.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pow_of_special_numbers(dtype: type) -> None:
    x, y = (side.ravel() for side in np.meshgrid(np.array(SPECIAL, dtype), np.array(SPECIAL, dtype)))
    with np.errstate(over="ignore", under="ignore"):
        want = np.array([c_pow(float(a), float(b)) for a, b in zip(x, y, strict=True)])
        rounded = want.astype(dtype)
    got = run("Pow", x, y)
    assert ulps(got, want).max() <= 2.0  # Python's own is off too
    defined = ~np.isnan(rounded)
    np.testing.assert_array_equal(np.signbit(got[defined]), np.signbit(rounded[defined]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pow_error_in_ulp(dtype: type) -> None:
    if dtype is np.float64 and np.finfo(Wide).nmant <= 52:
        pytest.skip("no type wider than float64 to compare with")
    x = np.exp(_RANDOM.uniform(-80, 80, 20_000)).astype(dtype)
    size = 80 if dtype is np.float32 else 700
    y = (_RANDOM.uniform(-size, size, x.size) / np.maximum(np.abs(np.log(x)), 1e-3)).astype(dtype)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(Wide), y.astype(Wide))
    # 64 bits of a logarithm leave 2 ** -64 * 700 of the power, which is where longdouble itself ends.
    assert ulps(run("Pow", x, y), want).max() <= (0.6 if dtype is np.float32 else 1.5)


def test_pow_of_integers() -> None:
    x, y = np.array([2, 3, -2, -1, 1, 7, -3, -1], np.int64), np.array([10, 39, 3, 5, -3, 2, -1, -2], np.int64)
    np.testing.assert_array_equal(run("Pow", x, y), [1024, 3**39, -8, -1, 1, 49, 0, 1])
    exponents = np.array([0.5, 2.0, 1.5], np.float32)
    np.testing.assert_array_equal(run("Pow", np.array([16, -3, 4], np.int32), exponents), [4, 9, 8])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fmod_is_exact(dtype: type) -> None:
    bits = np.uint32 if dtype is np.float32 else np.uint64
    x, y = (_RANDOM.integers(0, np.iinfo(bits).max, 4000, bits).view(dtype) for _ in range(2))
    near = (_RANDOM.standard_normal(2000) * 9).astype(dtype)
    special = np.array([0.0, -0.0, 1.0, -3.0, np.inf, -np.inf, np.nan, np.finfo(dtype).max, 5e-324, 1e-45], dtype)
    a, b = (side.ravel() for side in np.meshgrid(special, special))
    x, y = np.concatenate([x, near, np.round(near), a]), np.concatenate([y, near[::-1], np.round(near[::-1]), b])
    case = Case("Mod", [node("Mod", "x z", fmod=1)], {"x": x, "z": y})
    (got,) = sardonyx.InferenceSession(case.model().SerializeToString()).run(None, {"x": x, "z": y})
    with np.errstate(all="ignore"):
        want = np.fmod(x, y)
    np.testing.assert_array_equal(got, want)
    defined = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[defined]), np.signbit(want[defined]))
