"""ResNet (He et al. 2015, "Deep Residual Learning for Image Recognition").

The stride is in the 3x3 convolution of a bottleneck, as every framework does it by now.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, Layers, Outputs
from sardonyx.zoo.architectures.writer import dims

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
BASIC = {"resnet18", "resnet34"}


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of `name`."""
    blocks = BLOCKS[name]
    block, expansion = (_basic, 1) if name in BASIC else (_bottleneck, 4)
    scale = 1 / math.sqrt(sum(blocks))  # n branches of variance 1/n keep the sum from growing without bound
    x = layers.relu(layers.conv_norm(layers.input, layers.wide(64), 7, stride=2, gain=AFTER_LINEAR))
    x = layers.max_pool(x, 3, 2, pad=1)
    for stage, count in enumerate(blocks):
        channels = layers.wide(64 << stage)
        for index in range(count):
            stride = 2 if stage and not index else 1
            shortcut = x
            if stride > 1 or dims(x)[0] != channels * expansion:
                shortcut = layers.conv_norm(x, channels * expansion, 1, stride=stride)
            x = layers.relu(layers.add(block(layers, x, channels, stride, scale), shortcut))
    return {"logits": layers.dense(layers.flatten(layers.global_pool(x)), classes, gain=1.0)}


def _basic(layers: Layers, x: ir.Value, channels: int, stride: int, scale: float) -> ir.Value:
    x = layers.relu(layers.conv_norm(x, channels, 3, stride=stride))
    return layers.conv_norm(x, channels, 3, scale=scale)


def _bottleneck(layers: Layers, x: ir.Value, channels: int, stride: int, scale: float) -> ir.Value:
    x = layers.relu(layers.conv_norm(x, channels, 1))
    x = layers.relu(layers.conv_norm(x, channels, 3, stride=stride))
    return layers.conv_norm(x, channels * 4, 1, scale=scale)
