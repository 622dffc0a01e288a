import math

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


def float64_of(text, **inputs):
    """The outputs of a model in onnx's text form."""
    return evaluate(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}'), inputs)


def test_constants_in_every_form_are_widened():
    x = np.ones(1, np.float32)
    for constant in ("value_float = 1e-9", "value_floats = [1e-9]", "value = float[1] {1e-9}"):
        (y,) = float64_of(f"g (float[1] x) => (float[1] y) {{ c = Constant<{constant}>()  y = Add(x, c) }}", x=x)
        assert y.dtype == np.float64
        assert y.item() == 1 + float(np.float32(1e-9))


def test_constants_in_bodies_are_widened():
    body = "then_branch = t () => (float[1] a) { c = Constant<value_float = 1e-9>()  a = Add(x, c) }"
    other = "else_branch = e () => (float[1] b) { b = Neg(x) }"
    (y,) = float64_of(
        f"g (float[1] x, bool k) => (float[1] y) {{ y = If(k)<{body}, {other}> }}",
        x=np.ones(1, np.float32), k=np.array(True),
    )  # fmt: skip
    assert y.item() == 1 + float(np.float32(1e-9))


def test_the_pieces_of_transformers_are_as_exact_as_float64():
    """Against NumPy and the C library: onnx.reference by itself rounds erf to float32."""
    x = normal(3, 64)
    wide = x.astype(np.float64)
    (y,) = float64_of("g (float[3,64] x) => (float[3,64] y) { y = Erf(x) }", x=x)
    np.testing.assert_allclose(y, np.vectorize(math.erf)(wide), rtol=1e-15)
    (y,) = float64_of("g (float[3,64] x) => (float[3,64] y) { y = Gelu(x) }", x=x)
    np.testing.assert_allclose(y, wide / 2 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2))), rtol=1e-12)
    (y,) = float64_of('g (float[3,64] x) => (float[3,64] y) { y = Gelu<approximate = "tanh">(x) }', x=x)
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    np.testing.assert_allclose(y, wide / 2 * (1 + np.tanh(inner)), rtol=1e-12)
    (y,) = float64_of("g (float[3,64] x) => (float[3,64] y) { y = Softmax(x) }", x=x)
    np.testing.assert_allclose(y, np.exp(wide) / np.exp(wide).sum(-1, keepdims=True), rtol=1e-13)
    scale, bias = normal(64), normal(64)
    node = "y = LayerNormalization<epsilon = 0.5>(x, s, b)"
    (y,) = float64_of(
        f"g (float[3,64] x, float[64] s, float[64] b) => (float[3,64] y) {{ {node} }}", x=x, s=scale, b=bias
    )
    centred = wide - wide.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.5) * scale + bias
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)


def test_a_recurrent_layer_is_float64():
    steps, size = 5, 3
    x, w, r, b = normal(steps, 1, 2), normal(1, 4 * size, 2), normal(1, 4 * size, size), normal(1, 8 * size)
    narrow = {"x": x, "w": w, "r": r, "b": b}
    x, w, r, b = (array.astype(np.float64) for array in narrow.values())
    inputs = "float[5,1,2] x, float[1,12,2] w, float[1,12,3] r, float[1,24] b"
    (y,) = float64_of(f"g ({inputs}) => (float[5,1,1,3] y) {{ y = LSTM<hidden_size = 3>(x, w, r, b) }}", **narrow)
    h, c = np.zeros(size), np.zeros(size)
    for step in range(steps):
        gates = (w[0] @ x[step, 0] + r[0] @ h + b[0, : 4 * size] + b[0, 4 * size :]).reshape(4, size)
        i, o, f = 1 / (1 + np.exp(-gates[:3]))
        c = f * c + i * np.tanh(gates[3])
        h = o * np.tanh(c)
        np.testing.assert_allclose(y[step, 0, 0], h, rtol=1e-12)


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


def test_indices_from_logarithms_are_those_of_float32():
    """Constants rounded to float32 and then widened make a 2 a little less, as in T5's buckets of distances."""
    step, x = np.float32(np.log(2) / 2), np.array([2, 4, 16], np.float32)
    assert (np.log(x.astype(np.float64)) / np.float64(step) < [2, 4, 8]).all()
    nodes = [
        helper.make_node("Log", ["x"], ["l"]),
        helper.make_node("Div", ["l", "step"], ["q"]),
        helper.make_node("Cast", ["q"], ["y"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.asarray(step), "step")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    (got,) = evaluate(model, {"x": x})
    np.testing.assert_array_equal(got, [2, 4, 8])
