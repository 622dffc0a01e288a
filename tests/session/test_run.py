"""What run accepts, what it refuses and how it says so."""

from __future__ import annotations

import concurrent.futures

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from small_models import CONV, SCALE, TWO_INPUTS, model

import sardonyx
from sardonyx import InvalidInputError


def session(source, **kwargs) -> sardonyx.InferenceSession:
    kwargs.setdefault("providers", ["reference"])
    return sardonyx.InferenceSession(source, **kwargs)


def peer(source: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def scale() -> sardonyx.InferenceSession:
    return session(SCALE)


def test_agrees_with_onnxruntime():
    image = np.random.default_rng(0).normal(size=(3, 1, 6, 6)).astype(np.float32)
    expected = peer(CONV).run(None, {"image": image})
    got = session(CONV).run(None, {"image": image})
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5, atol=1e-5)


def test_outputs_by_name_in_any_order():
    two = session(TWO_INPUTS)
    feed = {"a": np.full((1, 3), 2, np.float32), "b": np.full((1, 3), 5, np.float32)}
    product, total, again = two.run(["product", "total", "product"], feed)
    assert product.tolist() == [[10, 10, 10]]
    assert total.tolist() == [[7, 7, 7]]
    assert again.tolist() == product.tolist()
    assert len(two.run([], feed)) == 2


@pytest.mark.parametrize("names", [["nothing"], "total", [1], 5, [["total"]]])
def test_unknown_output(names):
    feed = {"a": np.zeros((1, 3), np.float32), "b": np.zeros((1, 3), np.float32)}
    with pytest.raises(InvalidInputError, match="output"):
        session(TWO_INPUTS).run(names, feed)


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({}, ["missing input 'x'", "got nothing"]),
        (
            {"X": np.zeros((1, 3), np.float32)},
            ["missing input 'x'", "unknown input 'X'", "did you mean 'x'?"],
        ),
        ({"x": np.zeros((1, 3), np.float32), "y": 1}, ["unknown input 'y'", "x tensor(float)[N, 3]"]),
        (
            {"x": np.zeros((1, 3))},
            ["input 'x'", "tensor(float) (float32)", "float64", "x.astype(np.float32)"],
        ),
        ({"x": np.zeros((1, 3), ml_dtypes.bfloat16)}, ["tensor(float)", "bfloat16"]),
        ({"x": np.zeros((1, 3), np.int32)}, ["tensor(float)", "int32"]),
        ({"x": np.zeros(3, np.float32)}, ["input 'x'", "expected 2 dimensions ([N, 3])", "1 ([3])"]),
        ({"x": np.zeros((1, 4), np.float32)}, ["3 in dimension 1 ([N, 3])", "got 4 ([1, 4])"]),
        ({"x": None}, ["input 'x'", "None"]),
        ({"x": {}}, ["input 'x'", "dict"]),
        ({"x": [[1, 2], [3]]}, ["input 'x'", "nested lists of different lengths"]),
        ({"x": [["a", "b", "c"]]}, ["input 'x'", "tensor(float)"]),
        ({"x": [[1 + 2j, 0, 0]]}, ["input 'x'", "complex128"]),
        ({"x": [[2**24 + 1, 0, 0]]}, ["input 'x'", "a number the type cannot hold"]),
        ({"x": [[np.float64(1), 2, 3]]}, ["input 'x'", "float64"]),
        ({"x": np.array([["a"]], dtype=object)}, ["input 'x'", "object"]),
        (None, ["input_feed is not a dict", "got None"]),
        ([("x", 1)], ["input_feed is not a dict", "list"]),
    ],
)
def test_bad_feeds(scale, feed, words):
    with pytest.raises(InvalidInputError) as caught:
        scale.run(None, feed)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        [[1.0, 2.0, 3.0]],
        ((1, 2, 3),),
        np.array([[1, 2, 3]], ">f4"),
        np.array([[1, 9, 2, 9, 3, 9]], np.float32)[:, ::2],
        np.asfortranarray(np.array([[1, 2, 3]], np.float32)),
        np.frombuffer(b"\0" + np.array([1, 2, 3], np.float32).tobytes(), np.float32, offset=1).reshape(1, 3),
        np.array([[1, 2, 3]], np.float32).view(np.matrix),
    ],
    ids=["floats", "ints", "foreign", "strided", "fortran", "unaligned", "subclass"],
)
def test_forms_of_input(scale, value):
    (got,) = scale.run(None, {"x": value})
    assert type(got) is np.ndarray
    assert got.dtype == np.float32
    assert got.tolist() == [[2, 4, 6]]


def test_empty_list_and_empty_batch(scale):
    empty = session(model("g (float[N] x) => (float[N] y) { y = Neg(x) }"))
    assert empty.run(None, {"x": []})[0].shape == (0,)
    assert scale.run(None, {"x": np.zeros((0, 3), np.float32)})[0].shape == (0, 3)


def test_read_only_input(scale):
    x = np.array([[1, 2, 3]], np.float32)
    x.flags.writeable = False
    assert scale.run(None, {"x": x})[0].tolist() == [[2, 4, 6]]


class OnlyDLPack:
    """What another framework's tensor looks like to us."""

    def __init__(self, array, error=None):
        self.array, self.error = array, error

    def __dlpack__(self, **kwargs):
        if self.error:
            raise self.error
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack(scale):
    x = np.array([[1, 2, 3]], np.float32)
    assert scale.run(None, {"x": OnlyDLPack(x)})[0].tolist() == [[2, 4, 6]]
    with pytest.raises(InvalidInputError, match="float64"):
        scale.run(None, {"x": OnlyDLPack(x.astype(np.float64))})
    with pytest.raises(InvalidInputError, match=r"OnlyDLPack cannot be read in place: on another device.*cpu"):
        scale.run(None, {"x": OnlyDLPack(x, BufferError("on another device"))})


def test_scalars_and_strings():
    scalar = session(model("g (int64 n) => (int64 m) { m = Add(n, n) }"))
    assert scalar.run(None, {"n": 21})[0].item() == 42
    assert scalar.run(None, {"n": np.int64(4)})[0].item() == 8
    with pytest.raises(InvalidInputError, match="tensor\\(int64\\)"):
        scalar.run(None, {"n": 1.5})
    with pytest.raises(InvalidInputError, match="tensor\\(int64\\)"):
        scalar.run(None, {"n": True})
    small = session(model("g (uint8[2] n) => (uint8[2] m) { m = Identity(n) }"))
    with pytest.raises(InvalidInputError, match="cannot hold"):
        small.run(None, {"n": [1, 256]})
    text = session(model("g (string[N] a) => (string[N] b) { b = Identity(a) }"))
    for value in (["hé", "b"], np.array(["hé", "b"]), np.array(["hé", "b"], object)):
        assert text.run(None, {"a": value})[0].tolist() == ["hé", "b"]
    with pytest.raises(InvalidInputError, match="str elements"):
        text.run(None, {"a": np.array([1, 2], object)})


def test_symbols_must_agree():
    two = session(TWO_INPUTS)
    with pytest.raises(InvalidInputError) as caught:
        two.run(None, {"a": np.zeros((2, 3), np.float32), "b": np.zeros((1, 3), np.float32)})
    for word in ("'N'", "2 in dimension 0 of 'a'", "1 in dimension 0 of 'b'"):
        assert word in str(caught.value)


def test_sequences_and_optionals():
    sequence = session(model("g (seq(float[N]) items) => (float[M] all) { all = ConcatFromSequence<axis=0>(items) }"))
    one = np.ones(2, np.float32)
    assert sequence.run(None, {"items": [one, one * 2]})[0].tolist() == [1, 1, 2, 2]
    with pytest.raises(InvalidInputError, match="not a sequence"):
        sequence.run(None, {"items": one})
    with pytest.raises(InvalidInputError, match="float64"):
        sequence.run(None, {"items": [one, one.astype(np.float64)]})
    optional = session(model("g (optional(float[N]) x) => (bool y) { y = OptionalHasElement(x) }"))
    assert optional.run(None, {"x": None})[0].item() is False
    assert optional.run(None, {"x": one})[0].item() is True


def test_overridable_initializer():
    source = model("g (float[2] x, float[2] bias = {1, 1}) => (float[2] y) { y = Add(x, bias) }")
    ours, theirs = session(source), peer(source)
    x, bias = np.zeros(2, np.float32), np.array([5, 6], np.float32)
    for feed in ({"x": x}, {"x": x, "bias": bias}):
        assert ours.run(None, feed)[0].tolist() == theirs.run(None, feed)[0].tolist()
    assert [arg.name for arg in ours.get_inputs()] == [arg.name for arg in theirs.get_inputs()] == ["x"]
    names = [arg.name for arg in theirs.get_overridable_initializers()]
    assert [arg.name for arg in ours.get_overridable_initializers()] == names == ["bias"]
    with pytest.raises(InvalidInputError, match="unknown input 'bia'"):
        ours.run(None, {"x": x, "bia": bias})


def test_initializers_before_ir_4_are_constants():
    source = model("g (float[2] x, float[2] bias = {1, 1}) => (float[2] y) { y = Add(x, bias) }", ir_version=3, opset=8)
    for level in sardonyx.GraphOptimizationLevel:
        options = sardonyx.SessionOptions(graph_optimization_level=level)
        ours = session(source, sess_options=options)
        assert ours.run(None, {"x": np.zeros(2, np.float32)})[0].tolist() == [1, 1]
        assert ours.get_overridable_initializers() == []


def test_outputs_belong_to_the_caller():
    source = model(
        "g (float[2] x) => (float[2] y, float[2] w, float[2] z, float[2] again) <float[2] w = {3, 4}>"
        "{ y = Identity(x) z = Reshape(x, shape) again = Neg(x) }".replace(
            "<float[2] w = {3, 4}>", "<float[2] w = {3, 4}, int64[1] shape = {2}>"
        )
    )
    ours = session(source)
    x = np.array([1, 2], np.float32)
    for value in ours.run(None, {"x": x}):
        value.fill(100)
    assert x.tolist() == [1, 2]
    assert [value.tolist() for value in ours.run(None, {"x": x})] == [[1, 2], [3, 4], [1, 2], [-1, -2]]


def test_many_threads():
    conv = session(CONV)
    images = [np.random.default_rng(i).normal(size=(2, 1, 6, 6)).astype(np.float32) for i in range(16)]
    expected = [conv.run(None, {"image": image})[0] for image in images]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda image: conv.run(None, {"image": image})[0], images))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bad_run_options(scale):
    with pytest.raises(InvalidInputError, match="run_options"):
        scale.run(None, {"x": [[1, 2, 3]]}, run_options={"logid": "a"})
    scale.run(None, {"x": [[1, 2, 3]]}, sardonyx.RunOptions(logid="a"))


def test_outputs_into_the_callers_arrays() -> None:
    """In a session of one native program, and in one that a host step cuts."""
    for op in ("Relu", "Bernoulli"):
        nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
        if op == "Bernoulli":  # which no provider compiles
            nodes.append(helper.make_node(op, ["h"], ["b"]))
        given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])]
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("y", "h")]
        graph = helper.make_graph(nodes, "g", given, made)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        session = sardonyx.InferenceSession(model)
        x, y = np.arange(6, dtype=np.float32).reshape(2, 3) - 2, np.full((2, 3), 9, np.float32)
        (first, second) = session.run(None, {"x": x}, out={"y": y})
        assert first is y
        np.testing.assert_array_equal(y, -np.maximum(x, 0))
        np.testing.assert_array_equal(second, np.maximum(x, 0))
        (only,) = session.run(["y"], {"x": x + 1}, out={"y": y})
        assert only is y
        np.testing.assert_array_equal(y, -np.maximum(x + 1, 0))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ({"z": np.zeros((2, 3), np.float32)}, "no output 'z'"),
        ({"y": [0.0]}, "not an array"),
        ({"y": np.zeros((3, 2), np.float32)}, "does not fit"),
        ({"y": np.zeros((2, 3), np.float64)}, "does not fit"),
        ({"y": np.zeros((3, 2), np.float32).T}, "does not fit"),
        ({"y": np.broadcast_to(np.float32(0), (2, 3))}, "does not fit"),
        (["y"], "not a dict"),
    ],
)
def test_arrays_for_outputs_that_cannot_be(out: object, message: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = sardonyx.InferenceSession(model)
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(sardonyx.InvalidInputError, match=message):
        session.run(None, {"x": x}, out=out)  # type: ignore[arg-type]
    with pytest.raises(sardonyx.InvalidInputError, match="memory that an input"):
        session.run(None, {"x": x}, out={"y": x})
