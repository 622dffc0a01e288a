"""Writes layers into an ONNX graph, each with its weights and the shape of what it returns."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.errors import SardonyxError

OPSET, IR_VERSION = 17, 8
"""Recent, and read by every runtime in use."""

Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

AFTER_RELU, AFTER_SILU, AFTER_LINEAR = 2.0, 2.8, 1.0
"""1 / E[f(z)^2] for a standard normal z: the factor on the variance of weights that undoes what the
activation f before them took away (He et al. 2015, "Delving Deep into Rectifiers")."""


class Layers:
    """A graph under construction: each method appends a layer to a value and returns the output.

    Activations are float32 [batch, channels, height, width], later [batch, features].
    """

    def __init__(self, batch: int | str, channels: int, image: int, *, seed: int, width: float, fold_bn: bool) -> None:
        shape = ir.Shape([batch, channels, image, image])
        self.input = ir.Value(name="input", type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
        self._seed, self._width, self._fold_bn = seed, width, fold_bn
        self._nodes: list[ir.Node] = []
        self._weights: list[ir.Value] = []

    def model(self, name: str, output: ir.Value) -> ir.Model:
        """The finished model; `output` becomes `logits`."""
        output.name = "logits"
        graph = ir.Graph(
            [self.input],
            [output],
            nodes=self._nodes,
            initializers=self._weights,
            opset_imports={"": OPSET},
            name=name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="sardonyx")

    def wide(self, channels: int) -> int:
        """`channels` times the width multiplier, a multiple of 8 (Howard et al. 2017, "MobileNets")."""
        return channels if self._width == 1 else max(8, int(channels * self._width + 4) // 8 * 8)

    # Layers with weights

    def conv(
        self, x: ir.Value, channels: int, kernel: int, *, stride: int = 1, pad: int | None = None,
        group: int = 1, gain: float = AFTER_RELU, bias: bool = True,
    ) -> ir.Value:  # fmt: skip
        """Convolution with square kernels, padded by (kernel - 1) / 2 unless `pad` is given."""
        pad = (kernel - 1) // 2 if pad is None else pad
        shape = (channels, dims(x)[0] // group, kernel, kernel)
        attributes = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [pad] * 4,
            "group": group,
        }
        weights = {"weight": self._normal(shape, gain)}
        if bias:
            weights["bias"] = ((channels,), _around(0.0, 0.05))
        size = [_window(side, kernel, stride, pad) for side in dims(x)[1:]]
        return self._layer("Conv", [x], [channels, *size], attributes, weights)

    def norm(self, x: ir.Value, scale: float = 1.0) -> ir.Value:
        """BatchNormalization whose statistics fit its input, roughly; `scale` is the mean of the factor."""
        one = (dims(x)[0],)
        weights: dict[str, tuple[tuple[int, ...], Draw]] = {
            "weight": (one, _between(0.8 * scale, 1.2 * scale)),
            "bias": (one, _around(0.0, 0.1 * scale)),
            "running_mean": (one, _around(0.0, 0.1)),
            "running_var": (one, _between(0.8, 1.25)),
        }
        return self._layer("BatchNormalization", [x], list(dims(x)), {"epsilon": 1e-5}, weights)

    def conv_norm(
        self, x: ir.Value, channels: int, kernel: int, *, stride: int = 1, group: int = 1,
        gain: float = AFTER_RELU, scale: float = 1.0,
    ) -> ir.Value:  # fmt: skip
        """Convolution without bias, then BatchNormalization; one convolution with bias when folded."""
        if self._fold_bn:
            return self.conv(x, channels, kernel, stride=stride, group=group, gain=gain * scale**2)
        y = self.conv(x, channels, kernel, stride=stride, group=group, gain=gain, bias=False)
        return self.norm(y, scale)

    def dense(self, x: ir.Value, features: int, gain: float = AFTER_RELU) -> ir.Value:
        """Fully connected, as Gemm with weights [features, inputs]."""
        weights: dict[str, tuple[tuple[int, ...], Draw]] = {
            "weight": self._normal((features, dims(x)[0]), gain),
            "bias": ((features,), _around(0.0, 0.05)),
        }
        return self._layer("Gemm", [x], [features], {"transB": 1}, weights)

    # Layers without

    def relu(self, x: ir.Value) -> ir.Value:
        """max(x, 0)."""
        return self._layer("Relu", [x], dims(x))

    def relu6(self, x: ir.Value) -> ir.Value:
        """min(max(x, 0), 6), as Clip with bounds as inputs."""
        bounds: dict[str, tuple[tuple[int, ...], Draw]] = {
            "min": ((), _exactly(0.0)),
            "max": ((), _exactly(6.0)),
        }
        return self._layer("Clip", [x], dims(x), {}, bounds)

    def silu(self, x: ir.Value) -> ir.Value:
        """x * sigmoid(x), as exporters write it."""
        return self.mul(x, self.sigmoid(x))

    def sigmoid(self, x: ir.Value) -> ir.Value:
        """1 / (1 + exp(-x))."""
        return self._layer("Sigmoid", [x], dims(x))

    def add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x + y, of one shape."""
        return self._layer("Add", [x, y], dims(x))

    def mul(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x * y, where y broadcasts to x."""
        return self._layer("Mul", [x, y], dims(x))

    def concat(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """Channels of x, then channels of y."""
        return self._layer("Concat", [x, y], [dims(x)[0] + dims(y)[0], *dims(x)[1:]], {"axis": 1})

    def max_pool(self, x: ir.Value, kernel: int, stride: int, *, pad: int = 0, ceil: bool = False) -> ir.Value:
        """Maximum over square windows; `ceil` lets the last window hang over."""
        attributes = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [pad] * 4,
            "ceil_mode": int(ceil),
        }
        size = [_window(side, kernel, stride, pad, ceil) for side in dims(x)[1:]]
        return self._layer("MaxPool", [x], [dims(x)[0], *size], attributes)

    def global_pool(self, x: ir.Value) -> ir.Value:
        """Mean over height and width, [batch, channels, 1, 1]."""
        return self._layer("GlobalAveragePool", [x], [dims(x)[0], 1, 1])

    def flatten(self, x: ir.Value) -> ir.Value:
        """[batch, features]."""
        return self._layer("Flatten", [x], [math.prod(dims(x))], {"axis": 1})

    def dropout(self, x: ir.Value) -> ir.Value:
        """Does nothing in inference; some exporters leave it in."""
        return self._layer("Dropout", [x], dims(x))

    # Writing

    def _layer(
        self,
        op_type: str,
        inputs: list[ir.Value],
        shape: list[int],
        attributes: dict[str, Any] | None = None,
        weights: dict[str, tuple[tuple[int, ...], Draw]] | None = None,
    ) -> ir.Value:
        name = f"{op_type.lower()}_{len(self._nodes)}"
        parameters = [self._weight(f"{name}.{key}", *weight) for key, weight in (weights or {}).items()]
        node = ir.node(op_type, [*inputs, *parameters], attributes or {}, name=name)
        (output,) = node.outputs
        assert self.input.shape is not None
        output.name = f"{name}_output"
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([self.input.shape[0], *shape])
        self._nodes.append(node)
        return output

    def _weight(self, name: str, shape: tuple[int, ...], draw: Draw) -> ir.Value:
        """An initializer with a stream of random numbers of its own, drawn when first read."""
        seed = [self._seed, zlib.crc32(name.encode())]

        def make() -> ir.Tensor[Array]:
            return ir.Tensor(np.asarray(draw(np.random.default_rng(seed), shape), np.float32), name=name)

        dims = ir.Shape(shape)
        tensor = ir.LazyTensor(make, ir.DataType.FLOAT, dims, cache=True, name=name)
        value = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=dims, const_value=tensor)
        self._weights.append(value)
        return value

    def _normal(self, shape: tuple[int, ...], gain: float) -> tuple[tuple[int, ...], Draw]:
        """Weights of variance gain / fan-in: one number per output is a sum over all but the first axis."""
        deviation = math.sqrt(gain / math.prod(shape[1:]))

        def draw(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
            array = random.standard_normal(shape, np.float32)
            array *= np.float32(deviation)
            return array

        return shape, draw


def dims(x: ir.Value) -> list[int]:
    """The dimensions of an activation without the batch: channels, height, width, or features."""
    assert x.shape is not None
    return [size for size in x.shape[1:] if isinstance(size, int)]


def _around(mean: float, deviation: float) -> Draw:
    return lambda random, shape: random.normal(mean, deviation, shape)


def _between(low: float, high: float) -> Draw:
    return lambda random, shape: random.uniform(low, high, shape)


def _exactly(number: float) -> Draw:
    return lambda random, shape: np.full(shape, number)


def _window(size: int, kernel: int, stride: int, pad: int, ceil: bool = False) -> int:
    """How many windows fit (ONNX Conv, MaxPool)."""
    room = size + 2 * pad - kernel
    if room < 0:
        what = f"the image is too small: {size} pixels are left where a kernel of {kernel} is to fit"
        raise SardonyxError(what, where="zoo.architectures", fix="choose a larger image")
    return (room + (stride - 1 if ceil else 0)) // stride + 1
