"""Operators that are replaced by others: old forms, quantised products, training, signals."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from onnx import TensorProto, helper

import sardonyx
from sardonyx.model.standard import STANDARD

RANDOM = np.random.default_rng(5)


def floats(*dims: int) -> np.ndarray:
    return RANDOM.normal(size=dims).astype(np.float32)


def run(op, inputs, outputs=1, opset=21, domain="", attributes=None):
    """The results of one node, all of which is native."""
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    fed = {name: x for name, x in zip(names, inputs, strict=True) if name}
    made = [f"y{i}" for i in range(outputs)]
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in fed.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(op, names, made, domain=domain, name="node", **(attributes or {}))],
        "g",
        infos,
        [helper.make_empty_tensor_value_info(name) for name in made],
    )
    opsets = [helper.make_opsetid("", opset)] if not domain else [helper.make_opsetid(domain, 1)]
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    session = sardonyx.InferenceSession(model)
    assert {placement.provider for placement in session.explain()} == {"cpu"}
    return session.run(None, fed)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize(("dims", "axis", "shape"), [
    ((3, 4), 1, (3, 4, 1)), ((4, 5), None, (4, 5)), ((2,), 0, (2, 1, 1, 1)), ((3,), -3, (3, 1, 1)),
])  # fmt: skip
def test_broadcasting_along_an_axis(op, opset, dims, axis, shape):
    x, y = floats(2, 3, 4, 5), floats(*dims)
    attributes = {"broadcast": 1} | ({} if axis is None else {"axis": axis})
    (got,) = run(op, [x, y], opset=opset, attributes=attributes)
    numpy = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[op]
    np.testing.assert_allclose(got, numpy(x, y.reshape(shape)), rtol=1e-6)


def test_slopes_by_channel():
    x, slope = floats(2, 3, 4, 5), floats(3)
    (got,) = run("PRelu", [x, slope], opset=6)
    np.testing.assert_allclose(got, np.where(x < 0, x * slope[:, None, None], x), rtol=1e-6)


def test_slice_by_attributes():
    x = floats(5, 6, 7)
    (got,) = run("Slice", [x], opset=9, attributes={"starts": [1, -3], "ends": [4, 100], "axes": [0, 2]})
    np.testing.assert_array_equal(got, x[1:4, :, -3:])


def test_upsample_by_height_and_width():
    x = floats(1, 2, 3, 4)
    (got,) = run("Upsample", [x], opset=6, attributes={"height_scale": 2.0, "width_scale": 3.0, "mode": "nearest"})
    np.testing.assert_array_equal(got, x.repeat(2, 2).repeat(3, 3))


def test_statistics_of_each_activation():
    x, params = floats(4, 3, 5), [floats(3, 5) for _ in range(3)]
    variance = np.abs(floats(3, 5)) + 1
    (got,) = run("BatchNormalization", [x, *params, variance], opset=7, attributes={"spatial": 0})
    scale, bias, mean = (p.astype(np.float64) for p in params)
    np.testing.assert_allclose(got, (x - mean) / np.sqrt(variance + 1e-5) * scale + bias, rtol=1e-4, atol=1e-6)


def test_quantised_convolutions():
    x = RANDOM.integers(0, 256, (1, 4, 9, 9)).astype(np.uint8)
    w = RANDOM.integers(-128, 128, (6, 4, 3, 3)).astype(np.int8)
    scale, zero, scales, zeros = np.float32(0.03), np.uint8(120), np.abs(floats(6)) / 50, np.zeros(6, np.int8)
    bias = RANDOM.integers(-999, 999, 6).astype(np.int32)
    inputs = [x, np.array(scale), np.array(zero), w, scales, zeros, np.array(0.7, np.float32), np.array(3, np.uint8)]
    (got,) = run("QLinearConv", [*inputs, bias], attributes={"pads": [1, 1, 1, 1]}, opset=13)
    wide = np.pad(x.astype(np.int64) - zero, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(2, 3))
    total = np.einsum("nchwij,fcij->nfhw", windows, w.astype(np.int64)) + bias[:, None, None]
    want = np.clip(np.rint(total * (scale * scales / 0.7)[:, None, None]) + 3, 0, 255)
    assert np.abs(got - want).max() <= 1  # where float32 has a half and float64 has not
    assert np.mean(got != want) < 0.01


@pytest.mark.parametrize("zero", ["scalar", "vector"])
def test_integer_products_are_exact(zero):
    a, b = RANDOM.integers(0, 256, (2, 5, 70)).astype(np.uint8), RANDOM.integers(-128, 128, (70, 9)).astype(np.int8)
    u, v = (np.array(7, np.uint8), np.array(-3, np.int8))
    if zero == "vector":
        v = RANDOM.integers(-128, 128, 9).astype(np.int8)
    (got,) = run("MatMulInteger", [a, b, u, v])
    np.testing.assert_array_equal(got, (a.astype(np.int32) - u) @ (b.astype(np.int32) - v))
    assert got.dtype == np.int32


def test_convolutions_of_integers_are_exact():
    x, w = (
        RANDOM.integers(0, 256, (2, 3, 8, 8)).astype(np.uint8),
        RANDOM.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8),
    )
    inputs = [x, w, np.array(9, np.uint8), np.array(100, np.uint8)]
    (got,) = run("ConvInteger", inputs, attributes={"pads": [1, 1, 1, 1]}, opset=10)
    wide = np.pad(x.astype(np.int64) - 9, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(2, 3))
    np.testing.assert_array_equal(got, np.einsum("nchwij,fcij->nfhw", windows, w.astype(np.int64) - 100))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_quantised_along_an_axis_and_back(axis):
    x = floats(4, 5, 6) * 10
    scale = (np.abs(floats(x.shape[axis])) + 0.1) / 10
    zero = RANDOM.integers(0, 256, x.shape[axis]).astype(np.uint8)
    (q,) = run("QuantizeLinear", [x, scale, zero], attributes={"axis": axis})
    shape = [1, 1, 1]
    shape[axis] = -1
    s, z = scale.reshape(shape), zero.reshape(shape)
    want = np.clip(np.rint(x / s) + z, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(q, want)
    (back,) = run("DequantizeLinear", [q, scale, zero], attributes={"axis": axis})
    np.testing.assert_allclose(back, (q.astype(np.float32) - z) * s, rtol=1e-6)


def test_blocks_that_do_not_divide_the_axis():
    x, scale = floats(3, 10), np.abs(floats(3, 4)) + 0.1
    attributes = {"axis": 1, "block_size": 3, "output_dtype": TensorProto.INT8}
    (q,) = run("QuantizeLinear", [x, scale], attributes=attributes)
    np.testing.assert_array_equal(q, np.clip(np.rint(x / scale.repeat(3, 1)[:, :10]), -128, 127).astype(np.int8))


@pytest.mark.parametrize("n", [1, 2, 7, 12, 64, 97, 360, 1024])
@pytest.mark.parametrize("rows", [1, 9])
def test_transforms_are_exact_to_float32(n, rows):
    x = floats(rows, n, 2)
    signal = x[..., 0].astype(np.float64) + 1j * x[..., 1]
    for inverse, numpy in ((0, np.fft.fft), (1, np.fft.ifft)):
        (y,) = run("DFT", [x], opset=20, attributes={"inverse": inverse})
        want = numpy(signal)
        assert np.abs(y[..., 0] + 1j * y[..., 1] - want).max() <= 1e-7 * np.abs(want).max()


def test_a_half_transform_and_back():
    x = floats(2, 11, 3, 1)
    (half,) = run("DFT", [x, np.array(16, np.int64), np.array(1, np.int64)], opset=20, attributes={"onesided": 1})
    want = np.fft.rfft(x[..., 0].astype(np.float64), 16, axis=1)
    np.testing.assert_allclose(half[..., 0] + 1j * half[..., 1], want, atol=1e-6)
    (back,) = run("DFT", [half, None, np.array(1, np.int64)], opset=20, attributes={"onesided": 1, "inverse": 1})
    np.testing.assert_allclose(back[:, :11], x, atol=1e-6)
    np.testing.assert_allclose(back[:, 11:], 0, atol=1e-6)


def test_frames_of_a_signal():
    x, window = floats(2, 400, 1), np.hanning(50).astype(np.float32)
    (y,) = run("STFT", [x, np.array(20, np.int64), window], opset=17)
    frames = np.lib.stride_tricks.sliding_window_view(x[..., 0], 50, axis=1)[:, ::20] * window
    np.testing.assert_allclose(y[..., 0] + 1j * y[..., 1], np.fft.rfft(frames.astype(np.float64)), atol=2e-5)


@pytest.mark.parametrize(("feeds", "match"), [
    ([floats(1, 4, 1), np.array(0, np.int64)], "length 0"), ([floats(1, 4, 3)], "real or complex"),
])  # fmt: skip
def test_no_transforms_of_nothing(feeds, match):
    with pytest.raises(sardonyx.SardonyxError, match=match):
        run("DFT", feeds, opset=20)


def test_regions_pooled_as_by_onnxruntime():
    x = floats(3, 19, 17, 23)
    corners = RANDOM.uniform(-5, 60, (40, 4)).astype(np.float32)
    rois = np.concatenate([RANDOM.integers(0, 3, (40, 1)).astype(np.float32), corners], axis=1)
    attributes = {"pooled_shape": [3, 2], "spatial_scale": 0.5}
    (got,) = run("MaxRoiPool", [x, rois], opset=12, attributes=attributes)
    body = "g (float[A,B,C,D] x, float[R,5] r) => (float[R,B,3,2] y) "
    body += "{ y = MaxRoiPool<pooled_shape=[3,2], spatial_scale=0.5>(x, r) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 12]>\n{body}').SerializeToString()
    np.testing.assert_array_equal(got, onnxruntime.InferenceSession(model).run(None, {"x": x, "r": rois})[0])
    rois[:, 0] = 7  # an image that is not there
    assert not run("MaxRoiPool", [x, rois], opset=12, attributes=attributes)[0].any()


@pytest.mark.parametrize("p", [1, 2, 3])
def test_norms_of_whole_images(p):
    x = floats(2, 3, 4, 5)
    (got,) = run("GlobalLpPool", [x], attributes={"p": p})
    want = (np.abs(x.astype(np.float64)) ** p).sum((2, 3), keepdims=True) ** (1 / p)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_many_tensors_are_optimised_by_one_node():
    rate, count = np.array(0.1, np.float32), np.array(3, np.int64)
    x, g, v, h = ([floats(2), floats(3, 2)] for _ in range(4))
    h = [np.abs(one) for one in h]
    attributes = {"norm_coefficient": 0.01, "alpha": 0.95, "beta": 0.85, "epsilon": 1e-2}
    got = run("Adam", [rate, count, *x, *g, *v, *h], 6, domain="ai.onnx.preview.training", attributes=attributes)
    for i in range(2):
        gradient = 0.01 * x[i] + g[i]
        mean = 0.95 * v[i] + 0.05 * gradient
        squares = 0.85 * h[i] + 0.15 * gradient**2
        step = 0.1 * np.sqrt(1 - 0.85**3) / (1 - 0.95**3)
        want = (x[i] - step * mean / (np.sqrt(squares) + 1e-2), mean, squares)
        for part, expected in enumerate(want):
            np.testing.assert_allclose(got[2 * part + i], expected, rtol=1e-5, atol=1e-6)


def test_definitions_have_operators():
    for domain, name in STANDARD:
        assert any(s.name == name and s.domain == domain for s in onnx.defs.get_all_schemas_with_history()), name


GRADIENTS = {
    "Add": ("Add(a, b)", lambda a, b: a + b),
    "Sub": ("Sub(a, b)", lambda a, b: a - b),
    "Mul": ("Mul(a, b)", lambda a, b: a * b),
    "Div": ("Div(a, b)", lambda a, b: a / b),
    "MatMul": ("MatMul(a, b)", lambda a, b: a @ b),
    "Tanh": ("Tanh(a)", lambda a, b: np.tanh(a) + 0 * b.sum()),
    "Sigmoid": ("Sigmoid(a)", lambda a, b: 1 / (1 + np.exp(-a)) + 0 * b.sum()),
    "Exp": ("Exp(a)", lambda a, b: np.exp(a) + 0 * b.sum()),
    "Relu": ("Relu(a)", lambda a, b: np.maximum(a, 0) + 0 * b.sum()),
    "Sin": ("Sin(a)", lambda a, b: np.sin(a) + 0 * b.sum()),
    "Transpose": ("Transpose<perm=[1, 0]>(a)", lambda a, b: a.T),
    "ReduceMean": ("ReduceMean<keepdims=0>(a)", lambda a, b: a.mean()),
}


def gradients(op: str, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """Of the sum of (op * w) by a and b, w being as large as what the operator gives."""
    shapes = (", ".join(map(str, one.shape)) for one in (a, b))
    text = """<ir_version: 8, opset_import: ["" : 18, "ai.onnx.preview.training" : 1]>
        g (float[%s] a, float[%s] b) => (float[I, J] c, float[K, L] d) {
            h = OP
            k = Mul(h, h)
            y = ReduceSum<keepdims=0>(k)
            c, d = ai.onnx.preview.training.Gradient<xs=["a", "b"], y="y">(a, b)
        }"""
    model = onnx.parser.parse_model((text % tuple(shapes)).replace("OP", op))
    session = sardonyx.InferenceSession(model)
    assert {placement.provider for placement in session.explain()} == {"cpu"}
    return session.run(None, {"a": a, "b": b})


@pytest.mark.parametrize("op", GRADIENTS)
@pytest.mark.parametrize("dims", [((3, 3), (3, 3)), ((3, 4), (1, 4))])
def test_gradients_are_differences(op, dims):
    if op == "MatMul":
        dims = (dims[0], dims[0][::-1])
    a, b = floats(*dims[0]), np.abs(floats(*dims[1])) + 1
    text, numpy = GRADIENTS[op]
    for which, got in enumerate(gradients(text, a, b)):
        wide = [a.astype(np.float64), b.astype(np.float64)]
        want = np.zeros(wide[which].shape)
        for place in np.ndindex(want.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [one.copy() for one in wide]
                moved[which][place] += step
                ends.append((numpy(*moved) ** 2).sum())
            want[place] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


def test_gradients_that_are_not_known_are_refused():
    with pytest.raises(sardonyx.UnsupportedOperatorError, match="Det"):
        gradients("Det(a)", floats(3, 3), floats(3, 3))
