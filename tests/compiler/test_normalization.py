"""What normalisation promises beyond agreeing with a peer: exact statistics, shared work, forms no peer runs."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

import sardonyx
from sardonyx.compiler.program import Program
from sardonyx.model.shapes import infer_shapes
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.cpu import CPUProvider
from tests.suites.case import Array, Case, floats, node

EPSILON = 2.0**-24
"""Half a unit in the last place of 1.0 in float32."""


def run(case: Case) -> Array:
    (y,) = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"]).run(None, dict(case.feeds))
    return np.asarray(y)


def program(case: Case, threads: int) -> Program:
    model = infer_shapes(ir.from_proto(case.model(infer=False)))
    return CPUProvider().compile(model, CompileOptions(threads=threads)).program()


def normalized(x: Array, axes: tuple[int, ...], epsilon: float = 1e-5) -> Array:
    wide = x.astype(np.float64)
    apart = wide - wide.mean(axis=axes, keepdims=True)
    return apart / np.sqrt((apart**2).mean(axis=axes, keepdims=True) + epsilon)


@pytest.mark.parametrize("mean", [0.0, 10.0, 1e3, 1e5])
@pytest.mark.parametrize("last", [False, True], ids=["dense", "channels-last"])
def test_statistics_are_exact_far_from_zero(mean: float, last: bool) -> None:
    """The error is that of a few roundings of numbers around the deviation, wherever the mean is."""
    x = {"x": floats(1, 40, 61, 83) + np.float32(mean)}
    x["x"][0, :, 0, 0] += 50  # what the sums take as a first guess of the mean
    ones = {"s": np.ones(40, np.float32), "b": np.zeros(40, np.float32)}
    nodes = [node("InstanceNormalization", "x s b")]
    if last:
        nodes = [node("Transpose", "z", "x", perm=[0, 3, 1, 2]), *nodes]
        x = {"z": np.ascontiguousarray(x["x"].transpose(0, 2, 3, 1))}
    image = x["z"].transpose(0, 3, 1, 2) if last else x["x"]
    got, want = run(Case("far", nodes, x, ones)), normalized(image, (2, 3))
    np.testing.assert_allclose(got, want, rtol=16 * EPSILON, atol=4 * EPSILON)


@pytest.mark.parametrize("length", [3, 100, 5000, 200_001])
def test_rows_far_from_zero(length: int) -> None:
    x = {"x": floats(3, length) + np.float32(300)}
    ones = {"s": np.ones(length, np.float32)}
    got = run(Case("rows", [node("LayerNormalization", "x s")], x, ones))
    np.testing.assert_allclose(got, normalized(x["x"], (1,)), rtol=8 * EPSILON, atol=4 * EPSILON)


@pytest.mark.parametrize("op", ["InstanceNormalization", "GroupNormalization", "LayerNormalization"])
def test_constant_inputs_give_the_bias(op: str) -> None:
    x = {"x": np.full((2, 6, 5, 5), 1e6 + 0.1, np.float32)}
    given = {"s": floats(6), "b": floats(6)}
    more = {"num_groups": 2} if op == "GroupNormalization" else {}
    if op == "LayerNormalization":
        given = {"s": floats(5), "b": floats(5)}
    want = given["b"] if op == "LayerNormalization" else given["b"].reshape(6, 1, 1)
    np.testing.assert_array_equal(
        run(Case("constant", [node(op, "x s b", **more)], x, given)), np.broadcast_to(want, (2, 6, 5, 5))
    )


def test_double_is_double() -> None:
    """onnxruntime has no InstanceNormalization of float64."""
    x, given = {"x": floats(2, 5, 9, 8).astype(np.float64)}, {"s": np.ones(5), "b": np.zeros(5)}
    got = run(Case("double", [node("InstanceNormalization", "x s b")], x, given))
    np.testing.assert_allclose(got, normalized(x["x"], (2, 3)), rtol=1e-13, atol=1e-14)


def test_groups_before_opset_21() -> None:
    """Scale and bias a group, not a channel. onnx calls the form deprecated, so a session does not load it."""
    x, given = {"x": floats(2, 6, 4, 5)}, {"s": floats(3), "b": floats(3)}
    case = Case("groups", [node("GroupNormalization", "x s b", num_groups=3)], x, given, opset=18)
    model = infer_shapes(ir.from_proto(case.model(infer=False)))
    (got,) = CPUProvider().compile(model, CompileOptions()).run([x["x"]])
    groups = normalized(x["x"].reshape(2, 3, 2, 4, 5), (2, 3, 4))
    want = groups * given["s"].reshape(3, 1, 1, 1) + given["b"].reshape(3, 1, 1, 1)
    np.testing.assert_allclose(got, want.reshape(2, 6, 4, 5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("source", ["x", "c"], ids=["dense", "channels-last"])
def test_one_image_is_work_for_all_threads(source: str) -> None:
    """Every step of one image's normalisation has a part for each of several threads, but for the statistics."""
    nodes = [node("InstanceNormalization", f"{source} s b", "n"), node("Relu", "n")]
    weights = {"s": floats(6), "b": floats(6)}
    if source == "c":
        nodes, weights = [node("Conv", "x k", "c"), *nodes], {**weights, "k": floats(6, 6, 1, 1)}
    steps = program(Case("one", nodes, {"x": floats(1, 6, 224, 224)}, weights), threads=4).steps
    moments = next(step for step in steps if step.kernel.name == "moments")
    assert -(-moments.domain // moments.chunk) >= 4
    last = next(step for step in steps if "Relu" in step.label)
    assert -(-last.domain // last.chunk) >= 4


def test_what_follows_is_fused() -> None:
    nodes = [
        node("InstanceNormalization", "x s b", "n"),
        node("Relu", "n", "r"),
        node("Add", "r x", "a"),
        node("LayerNormalization", "a t", "l"),
        node("Add", "l a", "m"),
        node("Sigmoid", "m"),
    ]
    steps = program(
        Case("fused", nodes, {"x": floats(1, 8, 20, 30)}, {"s": floats(8), "b": floats(8), "t": floats(30)}), 2
    ).steps
    assert [step.kernel.name for step in steps].count("elementwise") == 0
    assert [step.kernel.name for step in steps] == ["normalizerows", "normalizerows"]


def test_an_untyped_group_normalization_keeps_its_neighbours_native() -> None:
    """onnx infers neither type nor shape of its result."""
    nodes = [node("GroupNormalization", "x s b", "g", num_groups=2), node("Relu", "g")]
    case = Case("types", nodes, {"x": floats(1, 4, 5, 5)}, {"s": floats(4), "b": floats(4)})
    model = case.model(infer=False)
    model.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("y"))
    session = sardonyx.InferenceSession(model.SerializeToString(), providers=["cpu"])
    assert {placement.provider for placement in session.explain()} == {"cpu"}
    assert session.get_outputs()[0].shape == [1, 4, 5, 5]
