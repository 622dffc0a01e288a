"""Distinct slices, chosen slices, running sums and determinants against NumPy, corners included."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import sardonyx
from tests.suites.case import Case, node

RANDOM = np.random.default_rng(5)


def session_of(
    op: str, outputs: list[str], feeds: dict[str, np.ndarray], **attributes: Any
) -> sardonyx.InferenceSession:
    graph = helper.make_graph(
        [helper.make_node(op, list(feeds), outputs, **attributes)],
        "g",
        [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feeds.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = sardonyx.InferenceSession(onnx.shape_inference.infer_shapes(model).SerializeToString())
    assert [p.provider for p in session.explain()] == ["cpu"]
    return session


def arrays() -> Iterator[tuple[np.ndarray, int | None]]:
    for dtype in (np.float32, np.int64, np.uint8, np.float64):
        yield (
            (RANDOM.standard_normal(300) * 9).astype(np.int32).astype(dtype) + dtype(1 if dtype is np.uint8 else 0),
            None,
        )
    yield RANDOM.integers(0, 3, (4, 5, 3)), None
    for axis in (0, 1, -1):
        yield RANDOM.integers(0, 2, (6, 7, 2)).astype(np.float32), axis
    yield np.array([np.nan, 1, np.nan, -0.0, 0.0, -np.inf], np.float32), None
    yield np.array([3.0], np.float32), None


@pytest.mark.parametrize("is_sorted", [0, 1])
@pytest.mark.parametrize(("x", "axis"), list(arrays()), ids=str)
def test_unique(x: np.ndarray, axis: int | None, is_sorted: int) -> None:
    attributes = {} if axis is None else {"axis": axis}
    session = session_of("Unique", ["y", "i", "v", "c"], {"x": x}, sorted=is_sorted, **attributes)
    y, indices, inverse, counts = session.run(None, {"x": x})
    want, first, places, often = np.unique(x, True, True, True, axis=axis)
    order = np.arange(first.size) if is_sorted else np.argsort(first)
    np.testing.assert_array_equal(y, np.take(want, order, 0 if axis is None else axis))
    np.testing.assert_array_equal(indices, first[order])
    np.testing.assert_array_equal(counts, often[order])
    np.testing.assert_array_equal(inverse, np.argsort(order)[places.ravel()])


def test_unique_of_some_outputs() -> None:
    x = np.array([4, 4, 2], np.int32)
    got = session_of("Unique", ["y", "", "", "c"], {"x": x}).run(None, {"x": x})
    np.testing.assert_array_equal(got[0], [2, 4])
    np.testing.assert_array_equal(got[1], [1, 2])


@pytest.mark.parametrize("dims", [(0,), (0, 3), (3, 0)])
def test_nothing_to_choose_from(dims: tuple[int, ...]) -> None:
    x = np.zeros(dims, np.float32)
    (y,) = session_of("Compress", ["y"], {"x": x, "c": np.zeros(0, np.bool_)}).run(
        None, {"x": x, "c": np.zeros(0, np.bool_)}
    )
    assert y.shape == (0,)


def test_too_many_conditions() -> None:
    feeds = {"x": np.zeros((2, 3), np.float32), "c": np.ones(3, np.bool_)}
    with pytest.raises(sardonyx.SardonyxError, match="3 conditions"):
        session_of("Compress", ["y"], feeds, axis=0).run(None, feeds)


def test_determinants() -> None:
    for n in (0, 1, 2, 7, 40):
        x = RANDOM.standard_normal((3, n, n))
        (got,) = session_of("Det", ["y"], {"x": x}).run(None, {"x": x})
        np.testing.assert_allclose(got, np.linalg.det(x), rtol=1e-9)


def test_products_backwards() -> None:
    x = RANDOM.uniform(0.5, 1.5, (3, 6, 5))
    case = Case("p", [node("CumProd", "x a", reverse=1, exclusive=1)], {"x": x}, {"a": np.array(1)}, opset=26)
    (got,) = sardonyx.InferenceSession(case.model().SerializeToString()).run(None, {"x": x})
    ahead = np.concatenate([x[:, 1:], np.ones((3, 1, 5))], 1)
    np.testing.assert_allclose(got, np.cumprod(ahead[:, ::-1], 1)[:, ::-1], rtol=1e-14)


@pytest.mark.parametrize(
    ("op", "attributes", "weights"),
    [
        ("Tile", {}, {"r": np.array([1 << 40, 1])}),
        ("OneHot", {}, {"r": np.array(1 << 50), "v": np.zeros(2, np.float32)}),
        ("CumSum", {}, {"r": np.array(7)}),
        ("Trilu", {}, {"r": np.array([1, 2])}),
        ("MaxUnpool", {"kernel_shape": [1 << 40, 1 << 40]}, {"r": np.zeros((2, 2), np.int64)}),
        ("Col2Im", {"strides": [0, 1]}, {"r": np.array([3, 3]), "v": np.array([2, 2])}),
        ("Col2Im", {}, {"r": np.array([1 << 40, 1 << 40]), "v": np.array([1, 1])}),
    ],
)
def test_hostile_numbers_are_typed_errors(op: str, attributes: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
    x = np.zeros((2, 2), np.int64 if op == "OneHot" else np.float32)
    case = Case(op, [node(op, " ".join(["x", *weights]), **attributes)], {"x": x}, weights)
    with pytest.raises(sardonyx.SardonyxError):
        sardonyx.InferenceSession(case.model(infer=False).SerializeToString()).run(None, {"x": x})
