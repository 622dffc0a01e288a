"""Random generators: what they may give, how it is distributed, and when it is the same again."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import sardonyx
from sardonyx.compiler.kernels.randoms import mixed

COUNT = 200_000


def session(body: str, opset: int = 22) -> sardonyx.InferenceSession:
    header = f'<ir_version: 10, opset_import: ["" : {opset}]>'
    made = sardonyx.InferenceSession(onnx.parser.parse_model(f"{header}\n{body}").SerializeToString())
    assert {placement.provider for placement in made.explain()} == {"cpu"}
    return made


def drawn(node: str, kind: str = "float", **feeds) -> np.ndarray:
    inputs = ", ".join(f"{'float' if value.dtype == np.float32 else 'int64'}[N] {n}" for n, value in feeds.items())
    (y,) = session(f"g ({inputs}) => ({kind}[M] y) {{ y = {node} }}").run(None, feeds)
    return y


def largest_gap(sample: np.ndarray, distribution) -> float:
    """Kolmogorov's distance, times the root of the count: above 2 once in a thousand."""
    ordered = np.sort(sample.astype(np.float64))
    places = np.arange(1, ordered.size + 1) / ordered.size
    return float(np.abs(distribution(ordered) - places).max() * np.sqrt(ordered.size))


@pytest.mark.parametrize(("kind", "dtype"), [("float", 1), ("double", 11)])
def test_uniform_numbers(kind, dtype):
    y = drawn(f"RandomUniform<shape=[{COUNT}], low=-2.0, high=3.0, dtype={dtype}, seed=5.0>()", kind)
    assert y.dtype == np.dtype("float32" if kind == "float" else "float64")
    assert y.min() >= -2
    assert y.max() < 3
    assert largest_gap(y, lambda x: (x + 2) / 5) < 2


@pytest.mark.parametrize(("kind", "dtype"), [("float", 1), ("double", 11)])
def test_normal_numbers(kind, dtype):
    from scipy.special import ndtr

    y = drawn(f"RandomNormal<shape=[{COUNT}], mean=2.0, scale=3.0, dtype={dtype}, seed=5.0>()", kind)
    assert largest_gap(y, lambda x: ndtr((x - 2) / 3)) < 2
    assert abs(np.corrcoef(y[:-1], y[1:])[0, 1]) < 0.01


@pytest.mark.parametrize(("kind", "dtype"), [("float16", 10), ("bfloat16", 16)])
def test_narrow_uniform_numbers_stay_below_the_end(kind, dtype):
    y = drawn(f"RandomUniformLike<dtype={dtype}, seed=1.0>(x)", kind, x=np.zeros(COUNT, np.int64)).astype(np.float32)
    assert y.shape == (COUNT,)
    assert 0 <= y.min() < 0.01
    assert 0.99 < y.max() < 1


def test_like_takes_shape_and_type():
    y = drawn("RandomNormalLike(x)", x=np.zeros(7, np.float32))
    assert (y.shape, y.dtype) == ((7,), np.float32)


def test_seeds_tell_numbers_apart():
    one, other = (session(f"g () => (float[64] y) {{ y = RandomNormal<shape=[64], seed={s}.0>() }}") for s in (1, 2))
    first = one.run(None, {})[0]
    np.testing.assert_array_equal(first, one.run(None, {})[0])
    assert not np.any(first == other.run(None, {})[0])
    np.testing.assert_array_equal(first, drawn("RandomNormal<shape=[64], seed=1.0>()"))


def test_without_a_seed_each_run_has_its_own():
    one = session("g () => (float[64] y, float[64] z) "
                  "{ y = RandomUniform<shape=[64]>()  z = RandomUniform<shape=[64]>() }")  # fmt: skip
    found = np.array([*one.run(None, {}), *one.run(None, {})])
    assert len(np.unique(found)) > 250


@pytest.mark.parametrize(("dtype", "numpy"), [("int32", np.int32), ("int64", np.int64)])
def test_multinomial(dtype, numpy):
    shares = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]], np.float32)
    code = {"int32": 6, "int64": 7}[dtype]
    model = session(f"g (float[R, C] x) => ({dtype}[R, S] y) "
                    f"{{ y = Multinomial<sample_size={COUNT}, dtype={code}, seed=3.0>(x) }}")  # fmt: skip
    with np.errstate(divide="ignore"):
        (y,) = model.run(None, {"x": np.log(shares) + 5})
    assert (y.dtype, y.shape) == (numpy, (2, COUNT))
    counts = np.stack([np.bincount(row, minlength=3) for row in y])
    deviation = np.sqrt(COUNT * shares * (1 - shares))
    assert np.all(np.abs(counts - COUNT * shares) <= 4 * deviation)
    assert counts[1, 2] == 0


def test_multinomial_of_nothing():
    model = session("g (float[R, C] x) => (int32[R, S] y) { y = Multinomial<sample_size=2>(x) }")
    assert model.run(None, {"x": np.zeros((0, 0), np.float32)})[0].shape == (0, 2)
    with pytest.raises(sardonyx.ExecutionError, match="no classes"):
        model.run(None, {"x": np.zeros((2, 0), np.float32)})
    assert set(model.run(None, {"x": np.full((1, 3), np.nan, np.float32)})[0].ravel()) <= {0, 1, 2}


def test_bernoulli_gives_ones_with_the_given_probability():
    y = drawn("Bernoulli<seed=1.0>(x)", x=np.full(COUNT, 0.3, np.float32))
    assert set(np.unique(y)) == {0, 1}
    assert abs(y.mean() - 0.3) < 0.005


def test_dropout_in_training():
    model = session("g (float[N] x, float r, bool t) => (float[N] y, bool[N] m) { y, m = Dropout<seed=1>(x, r, t) }")
    x, ratio = np.ones(COUNT, np.float32), np.array(0.3, np.float32)
    y, kept = model.run(None, {"x": x, "r": ratio, "t": np.array(True)})
    assert abs(kept.mean() - 0.7) < 0.005
    np.testing.assert_allclose(y, kept / np.float32(0.7), rtol=1e-6)
    y, kept = model.run(None, {"x": x, "r": ratio, "t": np.array(False)})
    assert kept.all()
    np.testing.assert_array_equal(y, x)


def test_the_hash_is_splitmix64():
    # The first numbers of its authors' generator from state 0.
    assert [mixed(0), mixed(0x9E3779B97F4A7C15)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@pytest.mark.parametrize(("body", "opset", "bounds"), [
    (f"g () => (float[M] y) {{ y = RandomUniform<shape=[{COUNT}], low=-2.0, high=3.0, seed=5.0>() }}", 1, (-2, 3)),
    (f"g () => (float[M] y) {{ y = RandomNormal<shape=[{COUNT}], mean=2.0, scale=0.1, seed=5.0>() }}", 1, (1, 3)),
    ("g (float[N] x) => (float[N] y) { y = RandomUniformLike<low=-2.0, high=3.0, seed=5.0>(x) }", 1, (-2, 3)),
    ("g (float[N] x) => (float[N] y) { y = RandomNormalLike<mean=2.0, scale=0.1, seed=5.0>(x) }", 1, (1, 3)),
    ("g (float[N] x) => (float[N] y) { y = Bernoulli<seed=5.0>(x) }", 15, (0, 1)),
])  # fmt: skip
def test_old_versions(body, opset, bounds):
    feeds = {"x": np.full(COUNT, 0.5, np.float32)} if "x)" in body else {}
    (y,) = session(body, opset).run(None, feeds)
    low, high = bounds
    assert y.shape == (COUNT,)
    assert low <= y.min() < y.max() <= high
    assert abs(y.mean() - (low + high) / 2) < 0.01


def test_old_multinomial():
    model = session(f"g (float[R, C] x) => (int32[R, S] y) {{ y = Multinomial<sample_size={COUNT}, seed=3.0>(x) }}", 7)
    (y,) = model.run(None, {"x": np.log(np.array([[0.25, 0.75]], np.float32))})
    assert abs(y.mean() - 0.75) < 0.01
