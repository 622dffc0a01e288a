"""Sizes, axes and bounds that are inputs of the graph or that a run computes: native, and as onnxruntime has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

import sardonyx
from sardonyx.providers.cpu import CPUExecutable
from tests.suites.operators import node

Feeds = Mapping[str, np.ndarray]
Declared = Mapping[str, tuple[int, Sequence[int | str]]]

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def floats(*dims: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(dims).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def model(nodes: list[Any], inputs: Declared, outputs: Mapping[str, int], **constants: np.ndarray) -> bytes:
    """A model of opset 18 whose outputs have any shape."""
    graph = helper.make_graph(
        nodes,
        "values",
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


def lowerings(session: sardonyx.InferenceSession) -> list[int]:
    found = [executable for _, executable in session._executables if isinstance(executable, CPUExecutable)]
    assert len(found) == len(session._executables)
    return [executable._native.lowerings for executable in found]


def compare(data: bytes, feeds: Sequence[Feeds]) -> sardonyx.InferenceSession:
    """What onnxruntime refuses is refused with a typed error; all else is equal, and every node native."""
    ours, theirs = sardonyx.InferenceSession(data), onnxruntime.InferenceSession(data)
    assert {place.provider for place in ours.explain()} == {"cpu"}
    for given in feeds:
        try:
            wanted = theirs.run(None, dict(given))
        except (Fail, InvalidArgument, RuntimeException):
            with pytest.raises(sardonyx.SardonyxError):
                ours.run(None, dict(given))
            continue
        for got, want in zip(ours.run(None, dict(given)), wanted, strict=True):
            assert (got.shape, got.dtype) == (want.shape, want.dtype), given
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return ours


X: Declared = {"x": (FLOAT, ["p", "q"])}
HUGE = 1 << 45
CASES: dict[str, tuple[list[Any], Declared, Mapping[str, int], list[Feeds], int]] = {
    "Reshape": (
        [node("Reshape", "x s")],
        {**X, "s": (INT, ["rank"])},
        {"y": FLOAT},
        [
            {"x": floats(4, 6), "s": ints(*s)}
            for s in ((3, 8), (2, 12), (6, 4), (24, 1), (-1, 3), (-1, 6), (7, -1), (5, 5), (-1, -1), (HUGE, HUGE))
        ],
        2,
    ),
    "Slice": (
        [node("Slice", "x a b")],
        {**X, "a": (INT, [2]), "b": (INT, [2])},
        {"y": FLOAT},
        [
            {"x": floats(9, 16), "a": ints(a, 2), "b": ints(b, c)}
            for a, b, c in (
                (2, 5, 9),
                (3, 8, 20),
                (2, 4, 3),
                (5, 3, 9),
                (HUGE, 9, 9),
                (-3, 9, 9),
                (-3, (1 << 63) - 1, 5),
            )
        ],
        6,
    ),
    "Tile": (
        [node("Tile", "x r")],
        {**X, "r": (INT, [2])},
        {"y": FLOAT},
        [{"x": floats(3, 4), "r": ints(*r)} for r in ((2, 3), (5, 2), (1, 4), (4, 1), (0, 2), (HUGE, HUGE), (-1, 2))],
        2,
    ),
    "Expand": (
        [node("Expand", "x s")],
        {"x": (FLOAT, ["p", 1]), "s": (INT, [2])},
        {"y": FLOAT},
        [{"x": floats(3, 1), "s": ints(*s)} for s in ((3, 5), (3, 7), (3, 2), (1, 4), (4, 2))],
        2,
    ),
    "Range": (
        [node("Range", "a b c")],
        {name: (INT, []) for name in "abc"},
        {"y": INT},
        [
            {"a": np.array(a), "b": np.array(b), "c": np.array(c)}
            for a, b, c in ((2, 9, 3), (3, 20, 2), (9, 4, 2), (9, 2, -2), (1, 2, 0), (0, HUGE, 1))
        ],
        3,
    ),
    "TopK": (
        [helper.make_node("TopK", ["x", "k"], ["y", "z"])],
        {**X, "k": (INT, [1])},
        {"y": FLOAT, "z": INT},
        [{"x": floats(3, 40), "k": ints(k)} for k in (2, 5, 17, 1, 40, 0, 41, -1)],
        3,
    ),
    "Pad": (
        [node("Pad", "x p v")],
        {**X, "p": (INT, [4]), "v": (FLOAT, [])},
        {"y": FLOAT},
        [
            {"x": floats(3, 4), "p": ints(*p), "v": np.array(2.5, np.float32)}
            for p in (
                (2, 3, 4, 5),
                (9, 2, 3, 2),
                (0, 0, 0, 3),
                (0, 0, 0, 9),
                (-1, 0, 0, 2),
                (HUGE, 0, 0, 2),
                (-9, 0, 0, 0),
            )
        ],
        4,
    ),
    "CumSum": (
        [node("CumSum", "x a")],
        {"x": (FLOAT, ["p", "q", "r"]), "a": (INT, [])},
        {"y": FLOAT},
        [{"x": floats(3, 4, 5), "a": np.array(a)} for a in (0, 1, 2, -1, 3)],
        4,
    ),
    "ConstantOfShape": (
        [node("ConstantOfShape", "s")],
        {"s": (INT, [2])},
        {"y": FLOAT},
        [{"s": ints(*s)} for s in ((2, 3), (9, 5), (0, 3), (0, 7), (-1, 3), (HUGE, 2), (1 << 61, 1 << 61))],
        2,
    ),
    "OneHot": (
        [node("OneHot", "i d v")],
        {"i": (INT, ["n"]), "d": (INT, []), "v": (FLOAT, [2])},
        {"y": FLOAT},
        [{"i": ints(1, 2, 0, -1, 7), "d": np.array(d), "v": floats(2)} for d in (3, 9, 1, HUGE, -2)],
        1,
    ),
    "Split": (
        [helper.make_node("Split", ["x", "s"], ["y", "z"])],
        {**X, "s": (INT, [2])},
        {"y": FLOAT, "z": FLOAT},
        [{"x": floats(9, 2), "s": ints(*s)} for s in ((4, 5), (3, 6), (1, 8), (8, 1), (0, 9), (4, 4), (-1, 10))],
        2,
    ),
    "axes": (
        [node("ReduceSum", "x a", "r", keepdims=1), node("Unsqueeze", "r b")],
        {"x": (FLOAT, ["p", 4, 5]), "a": (INT, ["n"]), "b": (INT, [1])},
        {"y": FLOAT},
        [{"x": floats(9, 4, 5), "a": ints(*a), "b": ints(b)} for a, b in (((1,), 0), ((0, 2), 3), ((), 1), ((9,), 0))],
        3,
    ),
    "scales": (
        [node("Resize", "x _ s", mode="linear")],
        {"x": (FLOAT, [1, 2, "h", "w"]), "s": (FLOAT, [4])},
        {"y": FLOAT},
        [
            {"x": floats(1, 2, 5, 6), "s": np.array([1, 1, *s], np.float32)}
            for s in ((2, 2), (1.5, 0.5), (2, 2), (0, 1), (np.nan, 1), (np.inf, 1), (1e12, 1))
        ],
        2,
    ),
    "sizes": (
        [node("Resize", "x _ _ s", mode="linear")],
        {"x": (FLOAT, [1, 2, "h", "w"]), "s": (INT, [4])},
        {"y": FLOAT},
        [{"x": floats(1, 2, 5, 6), "s": ints(1, 2, *s)} for s in ((10, 12), (7, 9), (3, 40), (HUGE, 3), (-2, 2))],
        1,
    ),
    "arithmetic": (
        [node("Mul", "k two", "k2"), node("Concat", "k2 rest", "s", axis=0), node("Reshape", "x s")],
        {**X, "k": (INT, [1])},
        {"y": FLOAT},
        [{"x": floats(8, 6), "k": ints(k)} for k in (2, 4, 12, 24, 5)],
        1,
    ),
}
"""Nodes, inputs, outputs, feeds, and how many programs there are when all have run: one for each choice of what is 0,
1 or negative, or what cannot be left open."""

CONSTANTS = {"arithmetic": {"two": ints(2), "rest": ints(-1)}}


@pytest.mark.parametrize("name", CASES)
def test_values_fed_at_run_time(name: str) -> None:
    nodes, inputs, outputs, feeds, programs = CASES[name]
    session = compare(model(nodes, inputs, outputs, **CONSTANTS.get(name, {})), feeds)
    (made,) = lowerings(session)
    assert made <= programs


def test_a_size_that_a_run_computes_comes_from_an_earlier_segment() -> None:
    """One program for each side, whatever the size."""
    nodes = [node("ReduceMax", "x", "last", keepdims=0), node("Range", "zero last one")]
    data = model(nodes, {"x": (INT, ["n"])}, {"y": INT}, zero=np.array(0), one=np.array(1))
    session = compare(data, [{"x": ints(*x)} for x in ((3, 5), (7, 2, 4), (2, 9, 9, 30), (8, 3))])
    assert lowerings(session) == [1, 1]


def test_sizes_computed_in_floats_from_dims() -> None:
    """As exporters write the target of a Resize."""
    nodes = [
        node("Shape", "x", "s"),
        node("Cast", "s", "f", to=FLOAT),
        node("Mul", "f by", "g"),
        node("Floor", "g", "h"),
        node("Cast", "h", "t", to=INT),
        node("Resize", "x _ _ t", mode="nearest"),
    ]
    data = model(nodes, {"x": (FLOAT, ["a", "b", "h", "w"])}, {"y": FLOAT}, by=np.array([1, 1, 2, 2], np.float32))
    session = compare(data, [{"x": floats(2, 3, *sides)} for sides in ((4, 6), (8, 10), (9, 10), (31, 2))])
    assert lowerings(session) == [1, 1]


def test_branches_chosen_by_an_input() -> None:
    """Both are compiled in the node's place, each when it is taken first."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["x", "x"], [name])], name, [], [helper.make_tensor_value_info(name, FLOAT, None)]
        )
        for name, op in (("then", "Add"), ("else", "Mul"))
    }
    nodes = [node("Equal", "rate wanted", "is"), node("If", "is", **branches), node("Neg", "y", "z")]
    data = model(nodes, {**X, "rate": (INT, [])}, {"z": FLOAT}, wanted=np.array(16000))
    rates = (16000, 8000, 4000, 16000)
    session = compare(data, [{"x": floats(3, 5), "rate": np.array(rate)} for rate in rates])
    assert lowerings(session) == [2]


def test_what_is_kept_for_values_is_bounded() -> None:
    """Though each axis, each negative bound needs numbers of its own."""
    data = model([node("Slice", "x a b")], {**X, "a": (INT, [2]), "b": (INT, [2])}, {"y": FLOAT})
    session, x = sardonyx.InferenceSession(data), floats(100, 100)
    for low in range(-99, 0):
        (got,) = session.run(None, {"x": x, "a": ints(low, 3), "b": ints(100, 7)})
        np.testing.assert_array_equal(got, x[low:, 3:7])
    ((_, found),) = session._executables
    assert isinstance(found, CPUExecutable)
    assert len(found._native._versions) <= 16
    assert len(found._native._bindings) <= 64


def test_statistics_fed_at_run_time() -> None:
    """Of a batch normalisation: data, for which there is one program."""
    names = ("scale", "bias", "mean", "variance")
    data = model(
        [node("BatchNormalization", "x scale bias mean variance", "n"), node("Relu", "n")],
        {"x": (FLOAT, ["b", 70, "h"]), **{name: (FLOAT, [70]) for name in names}},
        {"y": FLOAT},
    )
    feeds = [
        {"x": floats(b, 70, h), **{name: floats(70 + i)[i:] ** 2 for i, name in enumerate(names)}}
        for b, h in ((2, 5), (3, 9))
    ]
    assert lowerings(compare(data, feeds)) == [1]


def test_many_elements_are_not_read() -> None:
    """An input that is declared to be long stays data."""
    data = model([node("Reshape", "x s")], {**X, "s": (INT, [65])}, {"y": FLOAT})
    (place,) = sardonyx.InferenceSession(data).explain()
    assert place.provider != "cpu"
    assert "more than 64 elements" in place.reason


def test_the_value_is_also_data() -> None:
    """An input that shapes the program and is computed with, in types other than dims have."""
    nodes = [
        node("Cast", "k", "wide", to=INT),
        node("Unsqueeze", "wide axis", "s"),
        node("Expand", "x s", "e"),
        node("Cast", "k", "f", to=FLOAT),
        node("Mul", "e f"),
        node("Add", "k k", "twice"),
    ]
    inputs: Declared = {"x": (FLOAT, [1]), "k": (TensorProto.INT32, [])}
    data = model(nodes, inputs, {"y": FLOAT, "twice": TensorProto.INT32}, axis=ints(0))
    session = compare(data, [{"x": floats(1), "k": np.array(k, np.int32)} for k in (3, 8, 1, 2)])
    assert sum(lowerings(session)) <= 4
