"""Fast neural style (Johnson et al. 2016, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution").

As PyTorch's examples and the ONNX model zoo have it: borders mirrored, InstanceNormalization, enlarging by
repeated pixels.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, AFTER_RELU, Layers, Outputs
from sardonyx.zoo.architectures.writer import dims

BLOCKS = 5
BRANCH = 1 / math.sqrt(BLOCKS)
"""Scale of each residual branch: the sum of all does not grow without bound."""


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """The image in another style."""
    layers.sides_in_steps_of(4)
    x = layers.input
    for channels, kernel, stride in ((32, 9, 1), (64, 3, 2), (128, 3, 2)):
        x = layers.relu(_conv_norm(layers, x, layers.wide(channels), kernel, stride))
    for _ in range(BLOCKS):
        y = layers.relu(_conv_norm(layers, x, dims(x)[0], 3))
        x = layers.add(_conv_norm(layers, y, dims(x)[0], 3, scale=BRANCH), x)
    for channels in (64, 32):
        x = layers.relu(_conv_norm(layers, layers.enlarge(x, 2), layers.wide(channels), 3))
    return {"image": _conv(layers, x, dims(layers.input)[0], 9, gain=AFTER_RELU)}


def _conv_norm(
    layers: Layers, x: ir.Value, channels: int, kernel: int, stride: int = 1, scale: float = 1.0
) -> ir.Value:
    return layers.instance_norm(_conv(layers, x, channels, kernel, stride), scale)


def _conv(
    layers: Layers, x: ir.Value, channels: int, kernel: int, stride: int = 1, gain: float = AFTER_LINEAR
) -> ir.Value:
    return layers.conv(layers.reflect(x, kernel // 2), channels, kernel, stride=stride, pad=0, gain=gain)
