"""Operators on quantised numbers: by the standard's, between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.activations import embedded
from sardonyx.model.foreign.body import Body, Results, defines
from sardonyx.model.foreign.linear import channels_first, channels_last


def _read(b: Body, x: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int | None = None) -> ir.Value:
    return b("DequantizeLinear", x, scale, zero, axis=axis)


def _write(b: Body, y: ir.Value, scale: ir.Value, zero: ir.Value | None, kind: ir.DataType) -> ir.Value:
    """Quantised, as the zero point's type or, without one, `kind`."""
    return b("QuantizeLinear", y, scale, zero if zero is not None else b.constant(np.array(0, kind.numpy())))


def _between(b: Body, act: Callable[[ir.Value], ir.Value], first: int = 0) -> ir.Value:
    """`act` on the quantised input that is followed by its scale, its zero point, and those of the result."""
    x, scale, zero = b.input(first), b.input(first + 1), b.optional(first + 2)
    return _write(b, act(_read(b, x, scale, zero)), b.input(first + 3), b.optional(first + 4), b.dtype(x))


@defines("QLinearAdd", "QLinearMul")
def arithmetic(b: Body) -> Results:
    """The sum or product of two quantised tensors."""
    left, right = (_read(b, b.input(at), b.input(at + 1), b.optional(at + 2)) for at in (0, 3))
    y = b(b.node.op_type.removeprefix("QLinear"), left, right)
    return _write(b, y, b.input(6), b.optional(7), b.dtype(b.input(0)))


@defines("QLinearConcat")
def concat(b: Body) -> Results:
    """Quantised tensors side by side, each with a scale of its own."""
    count = (len(b.node.inputs) - 2) // 3
    parts = [_read(b, b.input(at), b.input(at + 1), b.optional(at + 2)) for at in range(2, 2 + 3 * count, 3)]
    return _write(b, b("Concat", *parts, axis=b.int("axis")), b.input(0), b.optional(1), b.dtype(b.input(2)))


@defines("QLinearSigmoid")
def sigmoid(b: Body) -> Results:
    """Sigmoid of quantised numbers."""
    return _between(b, lambda x: b("Sigmoid", x))


@defines("QLinearLeakyRelu")
def leaky_relu(b: Body) -> Results:
    """LeakyRelu of quantised numbers."""
    return _between(b, lambda x: b("LeakyRelu", x, alpha=b.float("alpha", 0.01)))


def _on_planes(b: Body, act: Callable[[ir.Value], ir.Value]) -> Callable[[ir.Value], ir.Value]:
    """`act`, which wants channels before the planes, on what has them as the node says."""
    if not b.int("channels_last", 0):
        return act
    return lambda x: channels_last(b, act(channels_first(b, x)))


@defines("QLinearGlobalAveragePool")
def global_average_pool(b: Body) -> Results:
    """GlobalAveragePool of quantised numbers."""
    return _between(b, _on_planes(b, lambda x: b("GlobalAveragePool", x)))


@defines("QLinearAveragePool")
def average_pool(b: Body) -> Results:
    """AveragePool of quantised numbers."""
    kept = b.kept("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
    return _between(b, _on_planes(b, lambda x: b("AveragePool", x, **kept)))


@defines("QLinearReduceMean")
def reduce_mean(b: Body) -> Results:
    """ReduceMean of quantised numbers."""
    axes, keep = b.ints("axes") or None, b.int("keepdims", 1)
    return _between(b, lambda x: b("ReduceMean", x, axes, keepdims=keep))


@defines("QLinearSoftmax")
def softmax(b: Body) -> Results:
    """Softmax of quantised numbers; before opset 13 over all dims from `axis` on."""

    def act(x: ir.Value) -> ir.Value:
        axis, rank = b.int("axis", -1), b.rank(x)
        if b.int("opset") >= 13 or axis in (-1, rank - 1):
            return b("Softmax", x, axis=axis)
        flat = b("Reshape", x, b.joined(b("ReduceProd", b("Shape", x, end=axis), keepdims=1), -1))
        return b("Reshape", b("Softmax", flat, axis=-1), b("Shape", x))

    return _between(b, act)


@defines("QLinearWhere")
def where(b: Body) -> Results:
    """Where of quantised tensors."""
    left, right = (_read(b, b.input(at), b.input(at + 1), b.input(at + 2)) for at in (1, 4))
    return _write(b, b("Where", b.input(0), left, right), b.input(7), b.input(8), b.dtype(b.input(1)))


@defines("QLinearConv")
def conv(b: Body) -> Results:
    """QLinearConv with channels last, if the node says so."""
    kept = b.kept("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    rest = [b.optional(at) for at in range(1, 9)]
    return _on_planes(b, lambda x: b("QLinearConv", x, *rest, **kept))(b.input(0))


@defines("QGemm")
def gemm(b: Body) -> Results:
    """alpha * A * B + C in int32, then in float or quantised."""
    left, right = b.input(0), b.input(3)
    if b.int("transA", 0):
        left = b("Transpose", left, perm=[1, 0])
    if b.int("transB", 0):
        right = b("Transpose", right, perm=[1, 0])
    total = b("MatMulInteger", left, right, b.input(2), b.input(5))
    addend = b.optional(6)
    total = total if addend is None else b("Add", total, addend)
    y = b.cast(total, b.dtype(b.input(1)))
    scale = b("Mul", b.input(1), b.input(4))
    y = b("Mul", y, b("Mul", scale, b.scalar(b.float("alpha", 1.0), scale)))
    out = b.optional(7)
    return y if out is None else _write(b, y, out, b.optional(8), b.dtype(b.input(0)))


@defines("NhwcMaxPool")
def max_pool(b: Body) -> Results:
    """MaxPool with channels last."""
    kept = b.kept("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")
    return channels_last(b, b("MaxPool", channels_first(b, b.input(0)), **kept))


@defines("QuantizeLinear")
def quantize(b: Body) -> Results:
    """As in the standard."""
    kind = ir.DataType.UINT8
    return b(
        "QuantizeLinear",
        b.input(0),
        b.input(1),
        b.optional(2) or b.constant(np.array(0, kind.numpy())),
        **b.kept("axis"),
    )


@defines("DequantizeLinear")
def dequantize(b: Body) -> Results:
    """As in the standard."""
    return b("DequantizeLinear", b.input(0), b.input(1), b.optional(2), **b.kept("axis"))


@defines("QEmbedLayerNormalization")
def embed_layer_normalization(b: Body) -> Results:
    """EmbedLayerNormalization with quantised tables."""
    words, positions, segments, gamma, beta = (
        None if b.optional(at) is None else _read(b, b.input(at), b.input(at + by), b.optional(at + by + 5))
        for at, by in ((2, 6), (3, 6), (4, 6), (5, 6), (6, 6))
    )
    if words is None or positions is None or gamma is None or beta is None:
        b.refuse("a table is missing")
    return embedded(b, (words, positions, segments), gamma, beta, b.optional(7), None)


@defines("DynamicQuantizeLSTM")
def lstm(b: Body) -> Results:
    """LSTM with quantised weights, [directions, inputs, 4 * hidden]; inputs are quantised for each call.

    States are not, which is what the operator's rounding is there to save.
    """
    x, scale, zero = b.many("DynamicQuantizeLinear", 3, b.input(0))
    weights = [_transposed_weights(b, b.input(at), b.input(by), b.optional(by + 1)) for at, by in ((1, 8), (2, 10))]
    kept = b.kept(
        "activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget"
    )
    given = [b.optional(at) for at in range(3, 8)]
    return b.many("LSTM", 3, _read(b, x, scale, zero), *weights, *given, **kept)


def _transposed_weights(b: Body, w: ir.Value, scale: ir.Value, zero: ir.Value | None) -> ir.Value:
    """[directions, 4 * hidden, inputs] in float, of scales a direction or a row."""
    values = b.cast(w, ir.DataType.FLOAT)
    dims = [0, 1, -1] if b.rank(scale) == 2 else [-1, 1, 1]
    if zero is not None:
        values = b("Sub", values, b("Reshape", b.cast(zero, ir.DataType.FLOAT), dims))
    return b("Transpose", b("Mul", values, b("Reshape", scale, dims)), perm=[0, 2, 1])
