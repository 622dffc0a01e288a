"""Control flow on native code, against onnxruntime and NumPy; onnx's own cases that no sequence takes part in."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from suites.onnx_backend import assert_same, cases

import sardonyx
from tests.suites.case import Array, floats


def number(value: float) -> Array:
    return np.array(value, np.float32)


HEADER = '<ir_version: 9, opset_import: ["": 19]>\n'

X = {"x": floats(2, 3)}
MODELS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "If-values-around": (
        """g (bool c, float[2, 3] x) => (float[2, 3] y) <float k = {2.0}> {
            a = Relu(x)
            b = If(c) <then_branch = t () => (u) { u = Mul(a, k) }, else_branch = e () => (v) { v = Sub(x, a) }>
            y = Add(b, x)
        }""",
        [{"c": np.array(True), **X}, {"c": np.array(False), **X}],
    ),
    "If-copies-what-is-around": (
        """g (bool c, float[2, 3] x) => (float[2, 3] y, float z) <float k = {2.0}> {
            a = Relu(x)
            y, z = If(c) <
                then_branch = t () => (p, q) { p = Identity(a) q = Identity(k) },
                else_branch = e () => (r, s) { r = Identity(x) s = Identity(k) }
            >
        }""",
        [{"c": np.array(True), **X}, {"c": np.array(False), **X}],
    ),
    "If-other-shapes": (
        """g (bool c, float[N, 3] x) => (float[M] y) {
            y = If(c) <
                then_branch = t () => (u) { s = Constant <value_ints = [-1]> () u = Reshape(x, s) },
                else_branch = e () => (v) { a = Constant <value_ints = [1]> () v = ReduceSum <keepdims = 0> (x, a) }
            >
        }""",
        [{"c": np.array(True), **X}, {"c": np.array(False), "x": floats(5, 3)}, {"c": np.array(False), **X}],
    ),
    "If-in-If": (
        """g (bool c, bool d, float[2, 3] x) => (float[2, 3] y) {
            y = If(c) <
                then_branch = t () => (u) {
                    p = Exp(x)
                    u = If(d) <then_branch = tt () => (w) { w = Neg(p) }, else_branch = te () => (q) { q = Add(p, x) }>
                },
                else_branch = e () => (v) { v = Abs(x) }
            >
        }""",
        [{"c": np.array(c), "d": np.array(d), **X} for c in (True, False) for d in (True, False)],
    ),
    "Loop-counts": (
        """g (int64 m, bool c, float[2] s) => (float[2] r, float[N, 2] all) <float[2] k = {1.0, 2.0}> {
            r, all = Loop(m, c, s) <body = b (int64 i, bool going, float[2] t) => (bool more, float[2] u, float[2] v) {
                more = Identity(going)
                f = Cast <to = 1> (i)
                w = Mul(k, f)
                u = Add(t, w)
                v = Neg(u)
            }>
        }""",
        [
            {"m": np.array(m), "c": np.array(c), "s": floats(2)}
            for m, c in ((5, True), (0, True), (3, False), (1, True))
        ],
    ),
    "Loop-while": (
        """g (float s, float limit) => (float r, float[N] all) {
            none = Constant <value_int = 9223372036854775807> ()
            c = Constant <value = bool {1}> ()
            r, all = Loop(none, c, s) <body = b (int64 i, bool going, float t) => (bool more, float u, float t2) {
                u = Add(t, t)
                t2 = Identity(t)
                more = Less(u, limit)
            }>
        }""",
        [{"s": number(1.5), "limit": number(limit)} for limit in (100, 1)],
    ),
    "Loop-no-count": (
        """g (bool c, float s) => (float r) {
            r = Loop(, c, s) <body = b (int64 i, bool going, float t) => (bool more, float u) {
                ten = Constant <value_float = 10.0> ()
                u = Add(t, t)
                more = Less(u, ten)
            }>
        }""",
        [{"c": np.array(True), "s": number(1)}],
    ),
    "Loop-grows": (
        """g (int64 m, float[N] s) => (float[M] r) {
            r = Loop(m, , s) <body = b (int64 i, bool going, float[K] t) => (bool going_on, float[L] u) {
                going_on = Identity(going)
                u = Concat <axis = 0> (t, s)
            }>
        }""",
        [{"m": np.array(m), "s": floats(n)} for m, n in ((4, 2), (6, 3), (0, 1))],
    ),
    "Loop-with-If": (
        """g (int64 m, float[3] s, float limit) => (float[3] r) {
            r = Loop(m, , s) <body = b (int64 i, bool going, float[3] t) => (bool going_on, float[3] u) {
                going_on = Identity(going)
                low = ReduceMin <keepdims = 0> (t)
                c = Less(low, limit)
                u = If(c) <then_branch = p () => (v) { v = Add(t, s) }, else_branch = q () => (w) { w = Sub(t, s) }>
            }>
        }""",
        [{"m": np.array(5), "s": np.array([1, 2, 3], np.float32), "limit": number(2.5)}],
    ),
    "Scan-state": (
        """g (float[1, 4] h, float[T, 1, 4] xs) => (float[1, 4] r, float[T, 1, 4] ys) {
            e = Constant <value_float = 0.5> ()
            r, ys = Scan <num_scan_inputs = 1, body = b (float[1, 4] s, float[1, 4] x) => (float[1, 4] n, float[1, 4] o)
            {
                p = Mul(s, e)
                q = Add(p, x)
                n = Tanh(q)
                o = Identity(n)
            }> (h, xs)
        }""",
        [{"h": floats(1, 4), "xs": floats(t, 1, 4)} for t in (7, 3, 1)],
    ),
    "Scan-axes": (
        """g (float[2] h, float[2, T] a, float[T, 2, 3] b) => (float[2] r, float[2, T] y, float[T, 2, 3] z) {
            r, y, z = Scan <
                num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [1, 0],
                scan_output_axes = [1, -3], scan_output_directions = [0, 1],
                body = b (float[2] s, float[2] p, float[2, 3] q) => (float[2] n, float[2] o, float[2, 3] m) {
                    n = Add(s, p)
                    o = Mul(n, p)
                    m = Neg(q)
                }
            > (h, a, b)
        }""",
        [{"h": floats(2), "a": floats(2, t), "b": floats(t, 2, 3)} for t in (5, 1)],
    ),
    "Scan-in-Scan": (
        """g (float h, float[3, 4] xs) => (float r, float[3, 4] ys) {
            r, ys = Scan <num_scan_inputs = 1, body = b (float s, float[4] x) => (float n, float[4] y) {
                n, y = Scan <num_scan_inputs = 1, body = d (float t, float u) => (float m, float v) {
                    m = Add(t, u)
                    v = Sub(m, s)
                }> (s, x)
            }> (h, xs)
        }""",
        [{"h": number(1), "xs": floats(3, 4)}],
    ),
}


def parsed(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(HEADER + text)
    return onnx.shape_inference.infer_shapes(model)


def kinds(session: sardonyx.InferenceSession) -> set[tuple[str, str]]:
    control = ("If", "Loop", "Scan")
    return {(placed.provider, placed.reason) for placed in session.explain() if placed.op in control}


def same(got: list[Array], want: list[Array]) -> None:
    for one, other in zip(got, want, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_bodies_are_native(name: str) -> None:
    text, feeds = MODELS[name]
    blob = parsed(text).SerializeToString()
    session, peer = sardonyx.InferenceSession(blob), onnxruntime.InferenceSession(blob)
    assert {placed.provider for placed in session.explain()} == {"cpu"}
    inlined = name.startswith("If") and kinds(session) == {("cpu", "native code")}  # the condition is an input
    assert inlined or kinds(session) == {("cpu", "native bodies")}
    for feed in feeds:
        same(session.run(None, feed), peer.run(None, feed))


def test_known_branches_take_the_nodes_place() -> None:
    """As exporters write Squeeze: a condition on a dim. It is part of the program around it, for every size."""
    text = """g (float[2, N] x) => (float[M] y) {
        s = Shape(x)
        i = Constant <value_int = 1> ()
        one = Constant <value_int = 1> ()
        d = Gather(s, i)
        c = Equal(d, one)
        r = Relu(x)
        z = If(c) <
            then_branch = t () => (u) { a = Constant <value_ints = [1]> () p = Squeeze(r, a) u = Neg(p) },
            else_branch = e () => (v) { b = Constant <value_ints = [1]> () v = ReduceSum <keepdims = 0> (x, b) }
        >
        y = Abs(z)
    }"""
    blob = parsed(text).SerializeToString()
    session, peer = sardonyx.InferenceSession(blob), onnxruntime.InferenceSession(blob)
    assert kinds(session) == {("cpu", "native code")}
    for size in (1, 4, 1, 7):
        feed = {"x": floats(2, size)}
        same(session.run(None, feed), peer.run(None, feed))


def test_known_results_of_branches_are_known() -> None:
    """A shape chosen by a branch serves a Reshape, which wants it before the run."""
    text = """g (float[N, 6] x) => (float[A, B] y) {
        rank = Size(x)
        six = Constant <value_int = 6> ()
        c = Equal(rank, six)
        s = If(c) <
            then_branch = t () => (u) { u = Constant <value_ints = [3, 2]> () },
            else_branch = e () => (v) { v = Constant <value_ints = [-1, 4]> () }
        >
        y = Reshape(x, s)
    }"""
    session = sardonyx.InferenceSession(parsed(text).SerializeToString())
    assert {placed.provider for placed in session.explain()} == {"cpu"}
    for rows, dims in ((1, (3, 2)), (2, (3, 4)), (4, (6, 4))):
        x = floats(rows, 6)
        (y,) = session.run(None, {"x": x})
        np.testing.assert_array_equal(y, x.reshape(dims))


def test_what_is_not_native_in_a_body_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the body stays native: here everything but the slice, when its end must not be fed."""
    monkeypatch.setattr("sardonyx.providers.known._MOST_ELEMENTS", 0)
    text = """g (int64 m, float[9] x) => (float[N] r) {
        zero = Constant <value_floats = [0.0]> ()
        r = Loop(m, , zero) <body = b (int64 i, bool going, float[K] t) => (bool going_on, float[L] u) {
            going_on = Identity(going)
            a = Constant <value_ints = [0]> ()
            one = Constant <value_ints = [1]> ()
            end = Add(i, one)
            p = Slice(x, a, end)
            q = Exp(p)
            u = Concat <axis = 0> (t, q)
        }>
    }"""
    blob = parsed(text).SerializeToString()
    session, peer = sardonyx.InferenceSession(blob), onnxruntime.InferenceSession(blob)
    ((provider, reason),) = kinds(session)
    assert provider == "cpu"
    assert reason.startswith("native bodies, but for ")
    assert "Slice" in reason
    feed = {"m": np.array(4), "x": floats(9)}
    same(session.run(None, feed), peer.run(None, feed))


CHOSEN = ("test_if", "test_loop11", "test_scan9_sum", "test_scan9_multi_state", "test_scan9_scalar")
"""onnx's cases of control flow; tests/providers/test_host.py has those with sequences and optionals."""


@pytest.mark.parametrize("name", CHOSEN)
def test_onnx_case(name: str) -> None:
    case = cases()[name]
    session = sardonyx.InferenceSession(case.model)
    ((provider, _),) = kinds(session)
    assert provider == "cpu"
    for feed, expected in case.feeds:
        assert_same(case, session.run(None, feed), expected)


def test_scan_of_nothing() -> None:
    """The state as it was, and no slices; onnxruntime wants one at least."""
    session = sardonyx.InferenceSession(parsed(MODELS["Scan-axes"][0]).SerializeToString())
    h = floats(2)
    r, y, z = session.run(None, {"h": h, "a": floats(2, 0), "b": floats(0, 2, 3)})
    np.testing.assert_array_equal(r, h)
    assert (y.shape, z.shape) == ((2, 0), (0, 2, 3))


def test_results_are_nobody_elses() -> None:
    """A loop without a turn returns what it was given, but not the same memory."""
    text, _ = MODELS["Loop-counts"]
    session = sardonyx.InferenceSession(parsed(text).SerializeToString())
    s = floats(2)
    r, _ = session.run(None, {"m": np.array(0), "c": np.array(True), "s": s})
    np.testing.assert_array_equal(r, s)
    assert not np.shares_memory(r, s)


@pytest.mark.parametrize(
    ("name", "feed", "message"),
    [
        ("Scan-axes", {"h": floats(2), "a": floats(2, 4), "b": floats(5, 2, 3)}, "different lengths"),
        ("If-other-shapes", {"c": np.array([True, False]), **X}, "the condition is not one value"),
    ],
)
def test_typed_errors(name: str, feed: dict[str, Array], message: str) -> None:
    model = parsed(MODELS[name][0])
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"{value.name}{axis}"
        if value.name == "c":
            value.type.tensor_type.shape.Clear()
            value.type.tensor_type.shape.dim.add().dim_param = "any"
    session = sardonyx.InferenceSession(model.SerializeToString())
    with pytest.raises(sardonyx.ExecutionError, match=message):
        session.run(None, feed)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("scan_input_axes = [1, 0]", "scan_input_axes = [0]"),
        ("scan_input_axes = [1, 0]", "scan_input_axes = [1, 7]"),
        ("scan_output_axes = [1, -3]", "scan_output_axes = [9, 0]"),
        ("num_scan_inputs = 2", "num_scan_inputs = 9"),
    ],
)
def test_wrong_attributes(right: str, wrong: str) -> None:
    text, feeds = MODELS["Scan-axes"]
    assert right in text
    model = onnx.parser.parse_model(HEADER + text.replace(right, wrong))
    with pytest.raises(sardonyx.SardonyxError) as caught:
        sardonyx.InferenceSession(model.SerializeToString()).run(None, feeds[0])
    assert not isinstance(caught.value, sardonyx.CompileError)


def test_profile_names_the_node() -> None:
    options = sardonyx.SessionOptions()
    options.enable_profiling = True
    text, feeds = MODELS["Loop-counts"]
    session = sardonyx.InferenceSession(parsed(text).SerializeToString(), options)
    session.run(None, feeds[0])
    assert ("r", "Loop") in {(step.name, step.kernel) for step in session.step_times()}
