"""Elementary functions over the whole range of float32, in units in the last place of a float64 computation."""

import math

import numpy as np
import pytest

import sardonyx
from tests.suites.operators import Case, node

_BITS = np.arange(0, 1 << 32, 40_009, dtype=np.uint64).astype(np.uint32)
EVERYWHERE = _BITS.view(np.float32)
"""107,000 numbers spread over all bit patterns: subnormals, infinities and NaNs among them."""


def run(op: str, x: np.ndarray) -> np.ndarray:
    case = Case(op, [node(op, "x")], {"x": x})
    (y,) = sardonyx.InferenceSession(case.model().SerializeToString()).run(None, {"x": x})
    return y


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Distance from the float64 value, in spacings of float32 there; 0 where both are equal or NaN."""
    with np.errstate(over="ignore"):
        rounded = want.astype(np.float32)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    spacing = np.spacing(np.abs(rounded)).astype(np.float64)
    with np.errstate(all="ignore"):
        return np.where(same, 0.0, np.abs(got.astype(np.float64) - want) / spacing)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


@pytest.mark.parametrize(
    ("op", "reference", "bound", "domain"),
    [
        ("Exp", np.exp, 1.0, EVERYWHERE),
        ("Log", np.log, 1.0, EVERYWHERE),
        ("Tanh", np.tanh, 3.0, EVERYWHERE),
        ("Sigmoid", sigmoid, 4.0, EVERYWHERE[~(EVERYWHERE < -87.0)]),
    ],
)
def test_error_in_ulp(op, reference, bound, domain) -> None:
    with np.errstate(all="ignore"):
        want = reference(domain.astype(np.float64))
    error = ulps(run(op, domain), want)
    assert error.max() <= bound, (domain[error.argmax()], error.max())


def test_sigmoid_vanishes() -> None:
    tiny = run("Sigmoid", np.array([-88, -100, -104, -1e30, -np.inf], np.float32))
    assert (tiny >= 0).all()
    assert (tiny < 1e-38).all()


def test_erf_absolute_error() -> None:
    x = EVERYWHERE[np.isfinite(EVERYWHERE)]
    want = np.array([math.erf(float(v)) for v in x])
    assert np.abs(run("Erf", x) - want).max() < 2e-7
    assert np.isnan(run("Erf", np.array([np.nan], np.float32)))[0]


@pytest.mark.parametrize("op", ["Exp", "Log", "Tanh", "Sigmoid"])
def test_float64(op: str) -> None:
    x = np.random.default_rng(0).uniform(0.01, 30, 500)
    reference = {"Exp": np.exp, "Log": np.log, "Tanh": np.tanh, "Sigmoid": sigmoid}[op]
    np.testing.assert_allclose(run(op, x), reference(x), rtol=1e-14)
