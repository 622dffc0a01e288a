"""Indices that meet, indices out of range, and division by zero: what onnxruntime leaves open or cannot be asked."""

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import sardonyx
from tests.suites.case import Array, Case, floats, node

OPERATORS = ("Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements")


def session_of(case: Case) -> sardonyx.InferenceSession:
    session = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"])
    assert {placement.provider for placement in session.explain()} <= {"cpu"}
    return session


def run(case: Case) -> Array:
    (y,) = session_of(case).run(None, dict(case.feeds))
    return np.asarray(y)


@pytest.mark.parametrize("columns", [1, 5000])
@pytest.mark.parametrize("op", ["ScatterND", "ScatterElements"])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
def test_updates_that_meet_come_in_order(op: str, reduction: str, columns: int) -> None:
    """To the last bit as one after the other gives: adding and multiplying round differently in another order."""
    places = np.random.default_rng(3).integers(-4, 4, (200, 1))
    indices = places if op == "ScatterND" else np.repeat(places, columns, axis=1)
    feeds = {"x": floats(4, columns), "i": indices, "u": floats(200, columns)}
    case = Case("meet", [node(op, "x i u", reduction=reduction)], feeds)
    (want,) = ReferenceEvaluator(case.model()).run(None, feeds)
    np.testing.assert_array_equal(run(case), want)


BAD = [
    *((op, np.int64, number) for op in OPERATORS for number in (5, -6, 1 << 40, -(1 << 63))),
    *((op, np.int32, number) for op in OPERATORS if not op.endswith("ND") for number in (5, -(1 << 31))),
]


@pytest.mark.parametrize(("op", "kind", "number"), BAD)
def test_out_of_range(op: str, kind: type, number: int) -> None:
    """The error names the node, what is allowed and what was given; the next run is a new one."""
    good = np.array([[0, 4], [-5, 1]], kind)
    bad = good.copy()
    bad[1, 0] = number
    feeds = {"x": floats(5, 5)}
    if op.startswith("Scatter"):
        feeds["u"] = floats(2) if op.endswith("ND") else floats(2, 2)
    nodes = [node(op, f"x i {'u' if 'u' in feeds else ''}", "g"), node("Neg", "g")]
    session = session_of(Case(op, nodes, {**feeds, "i": good}))
    before = session.run(None, {**feeds, "i": good})
    with pytest.raises(sardonyx.ExecutionError, match="out of range") as caught:
        session.run(None, {**feeds, "i": bad})
    error = caught.value
    assert (error.where, error.got) == (f"node '{op}_g' ({op})", str(number))
    assert error.expected is not None
    assert "-5 to 4" in error.expected
    np.testing.assert_array_equal(session.run(None, {**feeds, "i": good}), before)


@pytest.mark.parametrize("kind", [np.int64, np.int32])
@pytest.mark.parametrize("number", [5, -6])
@pytest.mark.parametrize("at", [0, 7, 8, 36])
def test_one_bad_index_of_a_vector(kind: type, number: int, at: int) -> None:
    """The error tells the one that is out of range, wherever it stands among those looked at together."""
    indices = np.random.default_rng(5).integers(-5, 5, (2, 37)).astype(kind)
    feeds = {"x": floats(5, 37)}
    session = session_of(Case("vector", [node("GatherElements", "x i")], {**feeds, "i": indices}))
    bad = indices.copy()
    bad[1, at] = number
    with pytest.raises(sardonyx.ExecutionError, match=f"got {number}"):
        session.run(None, {**feeds, "i": bad})
    (got,) = session.run(None, {**feeds, "i": indices})
    np.testing.assert_array_equal(got, np.take_along_axis(feeds["x"], indices.astype(np.int64), 0))


def test_one_bad_index_of_many_threads() -> None:
    feeds = {"x": floats(70, 900), "i": np.arange(3000) % 70}
    session = session_of(Case("many", [node("Gather", "x i")], feeds))
    for at in (0, 1500, 2999):
        indices = feeds["i"].copy()
        indices[at] = 70
        with pytest.raises(sardonyx.ExecutionError, match="got 70"):
            session.run(None, {**feeds, "i": indices})
    np.testing.assert_array_equal(session.run(None, feeds)[0], feeds["x"][feeds["i"]])


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.int8, np.uint8, np.uint64])
@pytest.mark.parametrize("known", [False, True])
def test_division_never_traps(dtype: type, known: bool) -> None:
    """Dividing by 0 gives 0, and the least number divided by -1 itself."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    a = np.array([0, 1, 7, most, least, least + 1] * 3, dtype)
    for divisor in (0, -1) if least else (0,):
        b = np.array(divisor, dtype)
        for op, fmod in (("Div", None), ("Mod", 0), ("Mod", 1)):
            attributes = {} if fmod is None else {"fmod": fmod}
            given = ({"a": a}, {"b": b}) if known else ({"a": a, "b": b}, {})
            y = run(Case("zero", [node(op, "a b", **attributes)], *given))
            assert y.dtype == a.dtype
            np.testing.assert_array_equal(y, -a if op == "Div" and divisor else np.zeros_like(a))
