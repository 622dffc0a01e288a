"""The layers that networks are made of, each one node or a few in an ONNX graph."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx_ir as ir

from sardonyx.errors import SardonyxError
from sardonyx.zoo.architectures.writer import Seeded, Weight, Writer, around, between, dims, graph_input, normal

AFTER_RELU, AFTER_SILU, AFTER_LINEAR, AFTER_LEAKY = 2.0, 2.8, 1.0, 1.98
"""1 / E[f(z)^2] for a standard normal z: the factor on the variance of weights that undoes what the
activation f before them took away (He et al. 2015, "Delving Deep into Rectifiers")."""

Sizes: TypeAlias = int | tuple[int, ...]
"""One number for each of depth, height and width, or one for all."""
Padding: TypeAlias = Sizes | Literal["same"]
"""As much at either end, or as TensorFlow does it: as many windows as strides, more room at the end if odd."""
Outputs: TypeAlias = dict[str, ir.Value]
"""The outputs of a network by their names."""


class Layers(Writer):
    """Each method appends a layer to a value and returns the output.

    Activations are float32 [batch, channels, height, width] or [batch, channels, depth, height, width], later
    perhaps [batch, features]. `width` multiplies the channels `wide` gives; with `fold_bn` there are no
    BatchNormalizations behind convolutions.
    """

    def __init__(
        self, batch: int | str, channels: int, sides: tuple[int, ...], *, seed: int, width: float, fold_bn: bool
    ) -> None:
        self.input = graph_input("input", ir.DataType.FLOAT, [batch, channels, *sides])
        super().__init__([self.input], Seeded(seed), batch=batch)
        self._width, self._fold_bn = width, fold_bn

    def wide(self, channels: int) -> int:
        """`channels` times the width multiplier, a multiple of 8 (Howard et al. 2017, "MobileNets")."""
        return channels if self._width == 1 else max(8, int(channels * self._width + 4) // 8 * 8)

    def sides_in_steps_of(self, step: int) -> None:
        """Raise SardonyxError unless the sides of the input image are positive multiples of `step`."""
        side = dims(self.input)[-1]
        if side < step or side % step:
            message = f"an image of {side} pixels does not halve evenly"
            raise SardonyxError(message, where="zoo.architectures", expected=f"a multiple of {step}")

    # Layers with weights

    def conv(
        self, x: ir.Value, channels: int, kernel: Sizes, *, stride: Sizes = 1, pad: Padding | None = None,
        group: int = 1, gain: float = AFTER_RELU, bias: float | None = 0.0, spread: float = 0.05,
    ) -> ir.Value:  # fmt: skip
        """Convolution, padded by (kernel - 1) / 2 unless `pad` is given; what is added is `bias`, give or take."""
        attributes, size = _windows(x, kernel, stride, pad)
        shape = (channels, dims(x)[0] // group, *attributes["kernel_shape"])
        weights = {"weight": normal(shape, gain)}
        if bias is not None:
            weights["bias"] = ((channels,), around(bias, spread))
        return self.op("Conv", [x], [channels, *size], attributes | {"group": group}, weights)

    def up_conv(self, x: ir.Value, channels: int, factor: int, gain: float = AFTER_RELU) -> ir.Value:
        """ConvTranspose to `factor` times the size: the windows it writes lie side by side."""
        rank = len(dims(x)) - 1
        weights: dict[str, Weight] = {
            "weight": normal((dims(x)[0], channels, *[factor] * rank), gain, fan_in=dims(x)[0]),
            "bias": ((channels,), around(0.0, 0.05)),
        }
        size = [side * factor for side in dims(x)[1:]]
        attributes = {"kernel_shape": [factor] * rank, "strides": [factor] * rank}
        return self.op("ConvTranspose", [x], [channels, *size], attributes, weights)

    def norm(self, x: ir.Value, scale: float = 1.0) -> ir.Value:
        """BatchNormalization whose statistics fit its input, roughly; `scale` is the mean of the factor."""
        one = (dims(x)[0],)
        weights: dict[str, Weight] = {
            "weight": (one, between(0.8 * scale, 1.2 * scale)),
            "bias": (one, around(0.0, 0.1 * scale)),
            "running_mean": (one, around(0.0, 0.1)),
            "running_var": (one, between(0.8, 1.25)),
        }
        return self.op("BatchNormalization", [x], dims(x), {"epsilon": 1e-5}, weights)

    def conv_norm(
        self, x: ir.Value, channels: int, kernel: Sizes, *, stride: Sizes = 1, pad: Padding | None = None,
        group: int = 1, gain: float = AFTER_RELU, scale: float = 1.0,
    ) -> ir.Value:  # fmt: skip
        """Convolution without bias, then BatchNormalization; one convolution with bias when folded."""
        if self._fold_bn:
            gain, spread = gain * scale**2, math.hypot(0.1, 0.1) * scale  # as mean and bias of the norm have it
            return self.conv(x, channels, kernel, stride=stride, pad=pad, group=group, gain=gain, spread=spread)
        y = self.conv(x, channels, kernel, stride=stride, pad=pad, group=group, gain=gain, bias=None)
        return self.norm(y, scale)

    def instance_norm(self, x: ir.Value, scale: float = 1.0) -> ir.Value:
        """Each channel of each image to mean 0 and variance 1, then a factor of about `scale` and an offset."""
        one = (dims(x)[0],)
        weights: dict[str, Weight] = {
            "weight": (one, between(0.8 * scale, 1.2 * scale)),
            "bias": (one, around(0.0, 0.1 * scale)),
        }
        return self.op("InstanceNormalization", [x], dims(x), {"epsilon": 1e-5}, weights)

    def dense(self, x: ir.Value, features: int, gain: float = AFTER_RELU) -> ir.Value:
        """Fully connected, as Gemm with weights [features, inputs]."""
        weights: dict[str, Weight] = {
            "weight": normal((features, dims(x)[0]), gain),
            "bias": ((features,), around(0.0, 0.05)),
        }
        return self.op("Gemm", [x], [features], {"transB": 1}, weights)

    # Elementwise

    def relu(self, x: ir.Value) -> ir.Value:
        """max(x, 0)."""
        return self.op("Relu", [x], dims(x))

    def relu6(self, x: ir.Value) -> ir.Value:
        """min(max(x, 0), 6), as Clip with bounds as inputs."""
        return self.op("Clip", [x, self.scalar(0), self.scalar(6)], dims(x))

    def leaky_relu(self, x: ir.Value) -> ir.Value:
        """max(x, 0.1 x)."""
        return self.op("LeakyRelu", [x], dims(x), {"alpha": 0.1})

    def silu(self, x: ir.Value) -> ir.Value:
        """x * sigmoid(x), as exporters write it."""
        return self.mul(x, self.sigmoid(x))

    def sigmoid(self, x: ir.Value) -> ir.Value:
        """1 / (1 + exp(-x))."""
        return self.op("Sigmoid", [x], dims(x))

    def add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x + y, where y broadcasts to x."""
        return self.op("Add", [x, y], dims(x))

    def mul(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x * y, where y broadcasts to x."""
        return self.op("Mul", [x, y], dims(x))

    def dropout(self, x: ir.Value) -> ir.Value:
        """Does nothing in inference; some exporters leave it in."""
        return self.op("Dropout", [x], dims(x))

    # Neighbourhoods

    def max_pool(self, x: ir.Value, kernel: Sizes, stride: Sizes, *, pad: Padding = 0, ceil: bool = False) -> ir.Value:
        """Maximum over windows; `ceil` lets the last window hang over."""
        attributes, size = _windows(x, kernel, stride, pad, ceil)
        return self.op("MaxPool", [x], [dims(x)[0], *size], attributes | {"ceil_mode": int(ceil)})

    def mean_pool(self, x: ir.Value, kernel: Sizes, stride: Sizes) -> ir.Value:
        """Mean over windows."""
        attributes, size = _windows(x, kernel, stride, 0)
        return self.op("AveragePool", [x], [dims(x)[0], *size], attributes)

    def global_pool(self, x: ir.Value) -> ir.Value:
        """Mean over all but the channels, whose axes stay as 1."""
        return self.op("GlobalAveragePool", [x], [dims(x)[0]] + [1] * (len(dims(x)) - 1))

    def local_norm(self, x: ir.Value) -> ir.Value:
        """Each number by the root mean square of five channels around it, as AlexNet did it."""
        return self.op("LRN", [x], dims(x), {"size": 5, "alpha": 1e-4, "beta": 0.75, "bias": 1.0})

    # Shapes

    def flatten(self, x: ir.Value) -> ir.Value:
        """[batch, features]."""
        return self.op("Flatten", [x], [math.prod(dims(x))], {"axis": 1})

    def reshape(self, x: ir.Value, *shape: int) -> ir.Value:
        """[batch, *shape], whatever the batch."""
        return self.op("Reshape", [x, self.constant([0, *shape])], shape)

    def transpose(self, x: ir.Value, *axes: int) -> ir.Value:
        """The axes in another order; `axes` are counted with the batch and start with it."""
        return self.op("Transpose", [x], [dims(x)[axis - 1] for axis in axes[1:]], {"perm": axes})

    def concat(self, *values: ir.Value, axis: int = 1) -> ir.Value:
        """One after the other along `axis`, by default the channels."""
        shape = dims(values[0])
        shape[axis - 1] = sum(dims(value)[axis - 1] for value in values)
        return self.op("Concat", values, shape, {"axis": axis})

    def halves(self, x: ir.Value, axis: int = 1) -> tuple[ir.Value, ir.Value]:
        """The first and the last half along `axis`, by default the channels."""
        shape = dims(x)
        shape[axis - 1] //= 2
        first, last = self.ops("Split", [x, self.constant([shape[axis - 1]] * 2)], [shape] * 2, {"axis": axis})
        return first, last

    def reflect(self, x: ir.Value, pad: int) -> ir.Value:
        """`pad` more pixels on each side, mirrored at the border."""
        channels, *sides = dims(x)
        if min(sides) <= pad:
            raise _too_small(min(sides), f"{pad} more are to be mirrored")
        pads = self.constant([0, 0, *[pad] * len(sides)] * 2)
        return self.op("Pad", [x, pads], [channels, *(side + 2 * pad for side in sides)], {"mode": "reflect"})

    def enlarge(self, x: ir.Value, factor: int) -> ir.Value:
        """Each pixel `factor` times along each side."""
        channels, *sides = dims(x)
        scales = self.constant(np.array([1, 1, *[factor] * len(sides)], np.float32))
        attributes = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        return self.op("Resize", [x, None, scales], [channels, *(side * factor for side in sides)], attributes)


def _each(sizes: Sizes, rank: int) -> list[int]:
    return [sizes] * rank if isinstance(sizes, int) else list(sizes)


def _windows(
    x: ir.Value, kernel: Sizes, stride: Sizes, pad: Padding | None, ceil: bool = False
) -> tuple[dict[str, Any], list[int]]:
    """Attributes of windows that slide over `x`, and how many fit along each side (ONNX Conv, MaxPool)."""
    sides = dims(x)[1:]
    kernels, strides = _each(kernel, len(sides)), _each(stride, len(sides))
    attributes: dict[str, Any] = {"kernel_shape": kernels, "strides": strides}
    if pad == "same":
        rooms = [side - 1 for side in sides]
        attributes["auto_pad"] = "SAME_UPPER"
    else:
        pads = [(extent - 1) // 2 for extent in kernels] if pad is None else _each(pad, len(sides))
        rooms = [side + 2 * more - extent for side, more, extent in zip(sides, pads, kernels, strict=True)]
        attributes["pads"] = pads * 2
    for side, extent, room in zip(sides, kernels, rooms, strict=True):
        if room < 0:
            raise _too_small(side, f"a kernel of {extent} is to fit")
    return attributes, [
        (room + (step - 1 if ceil else 0)) // step + 1 for room, step in zip(rooms, strides, strict=True)
    ]


def _too_small(side: int, purpose: str) -> SardonyxError:
    what = f"the image is too small: {side} pixels are left where {purpose}"
    return SardonyxError(what, where="zoo.architectures", fix="choose a larger image")
