"""Operators that the standard defines by others, where a provider runs the others only."""

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import sardonyx
from sardonyx.model.shapes import infer_shapes
from sardonyx.providers.cpu import CPUProvider
from sardonyx.providers.functions import expand_functions

RANDOM = np.random.default_rng(3)


def model_of(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 22]>\n' + text)


def native(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = sardonyx.InferenceSession(model.SerializeToString())
    assert [p.reason for p in session.explain() if p.provider != "cpu"] == []
    return session.run(None, feeds)


LOSSES = """
g (float[6, 5, 3] x, int64[6, 3] t, float[5] w) => (float{dims} y)
{{ y = {op} <reduction = "{reduction}"{more}> (x, t, w) }}
"""


@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("more", ["", ", ignore_index = 2"])
def test_losses_are_native(op: str, reduction: str, more: str) -> None:
    dims = "[6, 3]" if reduction == "none" else ""
    model = model_of(LOSSES.format(op=op, reduction=reduction, more=more, dims=dims))
    feeds = {
        "x": RANDOM.standard_normal((6, 5, 3)).astype(np.float32),
        "t": RANDOM.integers(0, 5, (6, 3)),
        "w": RANDOM.uniform(0.1, 1, 5).astype(np.float32),
    }
    (want,) = ReferenceEvaluator(model).run(None, feeds)
    (got,) = native(model, feeds)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_defaults_of_attributes_hold() -> None:
    model = model_of("g (float[6, 5] x, int64[6] t) => (float y) { y = SoftmaxCrossEntropyLoss(x, t) }")
    feeds = {"x": RANDOM.standard_normal((6, 5)).astype(np.float32), "t": RANDOM.integers(0, 5, 6)}
    (want,) = ReferenceEvaluator(model).run(None, feeds)
    np.testing.assert_allclose(native(model, feeds)[0], want, rtol=1e-5)


def test_two_calls_do_not_mix() -> None:
    model = model_of(
        "g (int32[7] x, float[1] a, double[1] b) => (float[7] y, double[7] z){ y = CastLike(x, a) z = CastLike(x, b) }"
    )
    x = np.arange(7, dtype=np.int32)
    y, z = native(model, {"x": x, "a": np.zeros(1, np.float32), "b": np.zeros(1)})
    assert (y.dtype, z.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(z, x)


def test_sums_of_integers_in_double() -> None:
    model = model_of("g (int64[3, 4] x) => (int64[3, 1] y) { a = Constant <value_ints = [1]> () y = ReduceL2(x, a) }")
    x = np.arange(12).reshape(3, 4)
    (got,) = native(model, {"x": x})
    np.testing.assert_array_equal(got, np.sqrt((x * x).sum(1, keepdims=True)).astype(np.int64))


def test_what_does_not_help_stays_whole() -> None:
    import onnx_ir as ir

    strings = [helper.make_tensor_value_info(name, onnx.TensorProto.STRING, [2]) for name in "xy"]
    floats = helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [2])
    graph = helper.make_graph([helper.make_node("CastLike", ["a", "x"], ["y"])], "g", [strings[0], floats], strings[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    model = infer_shapes(ir.from_proto(made))
    assert expand_functions(model, CPUProvider()) is model
