import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bench.float64 import evaluate, reference

RANDOM = np.random.default_rng(0)


def model_of(op, x, *weights, **attributes):
    """One node on an input `x` and constants."""
    names = [f"w{i}" for i in range(len(weights))]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *names], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, names, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def normal(*dims):
    return RANDOM.standard_normal(dims, np.float32)


def strides(*values, **others):
    return {"strides": list(values), **others}


CASES = {
    "conv": ("Conv", normal(2, 3, 7, 6), [normal(4, 3, 3, 3), normal(4)], {"pads": [1, 0, 2, 1]}),
    "conv strided dilated": ("Conv", normal(1, 2, 9, 9), [normal(3, 2, 3, 2)], strides(2, 1, dilations=[1, 2])),
    "conv grouped": ("Conv", normal(1, 6, 5, 5), [normal(4, 3, 3, 3)], {"group": 2}),
    "conv depthwise": ("Conv", normal(2, 4, 6, 6), [normal(4, 1, 3, 3)], strides(2, 2, group=4, pads=[1, 1, 1, 1])),
    "conv same upper": ("Conv", normal(1, 2, 6, 7), [normal(3, 2, 3, 3)], strides(2, 2, auto_pad="SAME_UPPER")),
    "conv same lower": ("Conv", normal(1, 2, 6, 7), [normal(3, 2, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    "conv 1d": ("Conv", normal(1, 2, 9), [normal(3, 2, 4)], strides(3)),
    "conv 3d": ("Conv", normal(1, 2, 4, 5, 6), [normal(3, 2, 3, 3, 3)], {"pads": [1, 1, 1, 1, 1, 1]}),
    "transposed": ("ConvTranspose", normal(1, 3, 4, 5), [normal(3, 2, 3, 3), normal(2)], strides(2, 2)),
    "transposed cut": (
        "ConvTranspose",
        normal(1, 4, 4, 4),
        [normal(4, 3, 3, 3)],
        strides(2, 2, pads=[1, 1, 1, 1], output_padding=[1, 1]),
    ),
    "max": ("MaxPool", normal(1, 3, 7, 8), [], strides(2, 2, kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    "max ceil": ("MaxPool", normal(1, 3, 8, 8), [], strides(2, 2, kernel_shape=[3, 3], ceil_mode=1)),
    "max 3d": ("MaxPool", normal(1, 3, 4, 6, 6), [], strides(1, 2, 2, kernel_shape=[1, 2, 2])),
    "mean": ("AveragePool", normal(1, 3, 7, 8), [], strides(2, 2, kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    "mean padded": (
        "AveragePool",
        normal(1, 3, 7, 8),
        [],
        strides(2, 2, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    ),
    "mean ceil": ("AveragePool", normal(1, 2, 8, 8), [], strides(2, 2, kernel_shape=[3, 3], ceil_mode=1)),
}


@pytest.mark.parametrize("name", CASES)
def test_windows_are_onnx_references(name):
    op, x, weights, attributes = CASES[name]
    model = model_of(op, x, *weights, **attributes)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    (found,) = evaluate(model, {"x": x})
    assert found.dtype == np.float64
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_normalisation_over_channels_is_onnxruntimes():
    x = normal(2, 7, 3, 3)
    model = model_of("LRN", x, size=5, alpha=0.1, beta=0.6, bias=1.5)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(evaluate(model, {"x": x})[0], expected, rtol=1e-5)


def test_all_of_it_is_float64():
    """A sum that float32 cannot hold, through constants in an initializer, a node and a cast."""
    constant = numpy_helper.from_array(np.float32([2**-30]), "tiny")
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value=constant),
            helper.make_node("Add", ["x", "c"], ["s"]),
            helper.make_node("Cast", ["s"], ["t"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["t", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.float32([2**-29]), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    assert evaluate(model, {"x": np.ones(1, np.float32)})[0].tolist() == [1 + 3 * 2**-30]


def test_references_are_kept_by_model_and_inputs(tmp_path, monkeypatch):
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    op, x, weights, attributes = CASES["conv"]
    path = tmp_path / "m.onnx"
    onnx.save(model_of(op, x, *weights, **attributes), path)
    first, known = reference(path, {"x": x})
    assert not known
    again, known = reference(path, {"x": x})
    assert known
    np.testing.assert_array_equal(first[0], again[0])
    assert not reference(path, {"x": x + 1})[1]
    onnx.save(model_of(op, x, *weights, **attributes | {"pads": [1, 1, 1, 1]}), path)
    assert not reference(path, {"x": x})[1]
