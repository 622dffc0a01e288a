"""ShuffleNetV2 x1.0 (Ma et al. 2018, "Practical Guidelines for Efficient CNN Architecture Design").

The channel shuffle is Reshape, Transpose, Reshape, as torchvision's export has it.
"""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, Layers, Outputs
from sardonyx.zoo.architectures.writer import dims

STAGES = ((116, 4), (232, 8), (464, 4))  # channels and units: table 5 of the paper


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of ShuffleNetV2."""
    x = layers.relu(layers.conv_norm(layers.input, layers.wide(24), 3, stride=2, gain=AFTER_LINEAR))
    x = layers.max_pool(x, 3, 2, pad=1)
    for channels, count in STAGES:
        half = layers.wide(channels) // 2
        x = _shuffle(layers, _shrink(layers, x, half), _branch(layers, x, half, stride=2))
        for _ in range(count - 1):
            kept, changed = layers.halves(x)
            x = _shuffle(layers, kept, _branch(layers, changed, half, stride=1))
    x = layers.relu(layers.conv_norm(x, layers.wide(1024), 1))
    x = layers.op("ReduceMean", [x], dims(x)[:1], {"axes": [2, 3], "keepdims": 0})
    return {"logits": layers.dense(x, classes, gain=1.0)}


def _branch(layers: Layers, x: ir.Value, channels: int, stride: int) -> ir.Value:
    return _shrink(layers, layers.relu(layers.conv_norm(x, channels, 1)), channels, stride)


def _shrink(layers: Layers, x: ir.Value, channels: int, stride: int = 2) -> ir.Value:
    """Depthwise, then pointwise."""
    x = layers.conv_norm(x, dims(x)[0], 3, stride=stride, group=dims(x)[0])
    return layers.relu(layers.conv_norm(x, channels, 1, gain=AFTER_LINEAR))


def _shuffle(layers: Layers, x: ir.Value, y: ir.Value) -> ir.Value:
    """Channels of x and y in turn."""
    x = layers.concat(x, y)
    channels, height, width = dims(x)
    x = layers.transpose(layers.reshape(x, 2, channels // 2, height, width), 0, 2, 1, 3, 4)
    return layers.reshape(x, channels, height, width)
