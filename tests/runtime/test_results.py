"""Memory of large results: used again when nobody holds it, and only then."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

import sardonyx
from sardonyx.runtime.results import LARGE, Results


def large(results: Results, extra: int = 0) -> np.ndarray:
    results.begin()
    return results.array((LARGE // 4 + extra,), np.float32)


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_memory_is_used_again_once_its_array_is_gone() -> None:
    results = Results()
    first = large(results)
    place = address(first)
    second = large(results)
    assert address(second) != place
    del first
    assert address(large(results)) == place
    assert address(large(results, extra=100)) == place, "a little more fits as well"


def test_views_hold_memory() -> None:
    results = Results()
    view = large(results)[5:].reshape(-1, 1)
    place = address(view) - 20
    assert address(large(results)) != place
    exported = memoryview(large(results))
    with np.errstate(all="ignore"):
        view[:] = 7
    other = large(results)
    other[:] = 0
    assert (view == 7).all()
    assert len(exported) == LARGE // 4


def test_what_is_not_used_goes() -> None:
    results = Results()
    large(results)
    for _ in range(8):
        results.begin()
    assert not results._blocks


def test_results_of_a_session_stay_what_they_were() -> None:
    """Kept ones are not overwritten; dropped ones make room."""
    count = LARGE // 2
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    session = sardonyx.InferenceSession(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    )
    kept = [session.run(None, {"x": np.full(count + i, i, np.float32)})[0] for i in range(6)]
    for i, array in enumerate(kept):
        np.testing.assert_array_equal(array, np.full(count + i, -i, np.float32))
    places = {address(array) for array in kept}
    assert len(places) == 6
    x = np.ones(count, np.float32)
    again = {address(session.run(None, {"x": x})[0]) for _ in range(5)}
    assert len(again) == 1, "each run takes the memory that the one before has left"
