"""Foreign operators, by their definitions, against onnxruntime's own kernels."""

import numpy as np
import onnxruntime
import pytest

import sardonyx
from sardonyx.model.check import check
from sardonyx.model.file import load
from tests.suites.case import floats, node
from tests.suites.contrib import CASES, Contrib, ms


def _wanted(case: Contrib) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(case.model().SerializeToString(), options)
    return session.run(list(case.outputs), dict(case.feeds))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Contrib) -> None:
    session = sardonyx.InferenceSession(case.model().SerializeToString())
    found = session.run(list(case.outputs), dict(case.feeds))
    for got, want in zip(found, _wanted(case), strict=True):
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        if got.dtype.itemsize == 1 and got.dtype.kind in "iu":  # halves may be rounded either way
            assert np.abs(got.astype(int) - want.astype(int)).max() <= case.steps
        elif got.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=case.tolerance, atol=case.tolerance * np.abs(want).max())
        else:
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_models_are_valid(case: Contrib) -> None:
    findings = check(load(case.model().SerializeToString()))
    assert [entry for entry in findings if entry.code in ("foreign-operator", "unknown-operator")] == []


def _ran(case: Contrib) -> list[np.ndarray]:
    return sardonyx.InferenceSession(case.model().SerializeToString()).run(list(case.outputs), dict(case.feeds))


def test_packed_heads_are_those_apart() -> None:
    """Of queries, keys and values in one tensor, which onnxruntime has only for other devices."""
    q, k, v = (floats(2, 5, 4, 8) for _ in range(3))
    apart = {name: part.reshape(2, 5, 32) for name, part in (("q", q), ("k", k), ("v", v))}
    (want,) = _wanted(Contrib("apart", [ms("MultiHeadAttention", "q k v", num_heads=4)], apart))
    feeds = {"q": np.stack([q, k, v], axis=3)}
    (three,) = _ran(Contrib("three", [ms("MultiHeadAttention", "q", num_heads=4)], feeds))
    feeds = {"q": apart["q"], "kv": np.stack([k, v], axis=3)}
    (two,) = _ran(Contrib("two", [ms("MultiHeadAttention", "q kv", num_heads=4)], feeds))
    np.testing.assert_allclose(three, want, atol=1e-5)
    np.testing.assert_allclose(two, want, atol=1e-5)


def test_softmax_with_bias() -> None:
    """Which onnxruntime has only for other devices."""
    feeds = {"x": floats(2, 3, 4, 5), "b": floats(2, 1, 1, 5)}
    (got,) = _ran(Contrib("bias", [ms("BiasSoftmax", "x b", axis=3, is_inner_broadcast=1)], feeds))
    powers = np.exp((feeds["x"] + feeds["b"]).astype(np.float64))
    np.testing.assert_allclose(got, powers / powers.sum(-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(("form", "dims"), [({"shape": [2, 3]}, ()), ({"extra_shape": [3], "input_as_shape": 1}, (2,))])
def test_given_tensor_fill(form: dict[str, object], dims: tuple[int, ...]) -> None:
    """Of the first exporters; no runtime has it."""
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    weights = {"s": np.array(dims, np.int64)} if dims else {}
    fill = node("GivenTensorFill", "s" if dims else "", "f", values=values, **form)
    (got,) = _ran(Contrib("fill", [fill, node("Add", "f x")], {"x": np.zeros((2, 3), np.float32)}, weights, opset=9))
    np.testing.assert_array_equal(got, np.reshape(values, (2, 3)))


def test_what_a_form_lacks_is_told() -> None:
    case = Contrib("aten", [node("ATen", "x", operator="frobnicate")], {"x": floats(2)}, opset=9)
    with pytest.raises(sardonyx.UnsupportedOperatorError, match="frobnicate"):
        sardonyx.InferenceSession(case.model().SerializeToString())
    case = Contrib(
        "mask",
        [ms("Attention", "x w b m", num_heads=4)],
        {"x": floats(1, 2, 8), "m": floats(1, 1, 2, 2)},
        {"w": floats(8, 24), "b": floats(24)},
    )
    with pytest.raises(sardonyx.UnsupportedOperatorError, match="mask of 4 dims"):
        sardonyx.InferenceSession(case.model().SerializeToString())


TEXTS = np.array([["a bb  ccc", "dd-e"], ["", "Straße und mehr"]], object)


@pytest.mark.parametrize(
    "form",
    [
        {"separators": [" ", "-"], "mincharnum": 1},
        {"separators": [" "], "mincharnum": 2},
        {"separators": [""], "mincharnum": 1},
        {"tokenexp": "[a-z]+", "mincharnum": 2},
    ],
)
@pytest.mark.parametrize("mark", [0, 1])
def test_tokenizer(form: dict[str, object], mark: int) -> None:
    case = Contrib("tokens", [ms("Tokenizer", "x", pad_value="#", mark=mark, **form)], {"x": TEXTS})
    (got,), (want,) = _ran(case), _wanted(case)
    assert got.tolist() == want.tolist()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_n_gram_repeat_block(size: int) -> None:
    words = np.array([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4]])
    case = Contrib("block", [ms("NGramRepeatBlock", "w x", ngram_size=size)], {"w": words, "x": floats(2, 6)})
    np.testing.assert_array_equal(_ran(case), _wanted(case))


def test_inverse() -> None:
    case = Contrib("inverse", [ms("Inverse", "x")], {"x": floats(2, 3, 5, 5) + 3 * np.eye(5, dtype=np.float32)})
    np.testing.assert_allclose(_ran(case), _wanted(case), rtol=1e-4, atol=1e-5)
    case = Contrib("singular", [ms("Inverse", "x")], {"x": np.zeros((2, 2), np.float32)})
    with pytest.raises(sardonyx.ExecutionError, match="Singular"):
        _ran(case)


def test_few_bits_stay_few() -> None:
    """MatMulNBits has a kernel of its own, which takes in what follows."""
    case = next(case for case in CASES if case.name.startswith("MatMulNBits"))
    more = Contrib("more", [*case.nodes, node("Relu", "y", "z")], case.feeds, case.weights, ("z",))
    session = sardonyx.InferenceSession(more.model().SerializeToString())
    assert {one.op for one in session.explain()} == {"com.microsoft::MatMulNBits", "Relu"}
    assert {one.provider for one in session.explain()} == {"cpu"}
    np.testing.assert_allclose(session.run(None, dict(case.feeds)), _wanted(more), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"N": 25}, {"K": 96}, {"block_size": 64}, {"bits": 8}, {"K": 2**62}, {"N": 2**62}])
def test_few_bits_that_do_not_fit(wrong: dict[str, int]) -> None:
    case = next(case for case in CASES if case.name.startswith("MatMulNBits"))
    attributes = {"N": 24, "K": 64, "bits": 4, "block_size": 32} | wrong
    broken = Contrib("broken", [ms("MatMulNBits", "x w s", **attributes)], case.feeds, case.weights)
    with pytest.raises(sardonyx.SardonyxError):
        _ran(broken)
