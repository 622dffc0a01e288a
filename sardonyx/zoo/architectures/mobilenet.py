"""MobileNetV2 (Sandler et al. 2018, "Inverted Residuals and Linear Bottlenecks")."""

from __future__ import annotations

import math

import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, Layers, Outputs
from sardonyx.zoo.architectures.writer import dims

STAGES = (  # expansion, channels, blocks, stride: table 2 of the paper
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
BRANCH = 1 / math.sqrt(sum(blocks - 1 for _, _, blocks, _ in STAGES))
"""Scale of each residual branch: the sum of all does not grow without bound."""


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of MobileNetV2."""
    x = layers.relu6(layers.conv_norm(layers.input, layers.wide(32), 3, stride=2, gain=AFTER_LINEAR))
    for expansion, channels, blocks, stride in STAGES:
        for index in range(blocks):
            x = _inverted_residual(layers, x, expansion, layers.wide(channels), 1 if index else stride)
    x = layers.relu6(layers.conv_norm(x, layers.wide(1280), 1, gain=AFTER_LINEAR))
    return {"logits": layers.dense(layers.flatten(layers.global_pool(x)), classes, gain=1.0)}


def _inverted_residual(layers: Layers, x: ir.Value, expansion: int, channels: int, stride: int) -> ir.Value:
    residual = stride == 1 and dims(x)[0] == channels
    y = x
    if expansion > 1:
        y = layers.relu6(layers.conv_norm(y, dims(x)[0] * expansion, 1, gain=AFTER_LINEAR))
    y = layers.relu6(layers.conv_norm(y, dims(y)[0], 3, stride=stride, group=dims(y)[0]))
    y = layers.conv_norm(y, channels, 1, scale=BRANCH if residual else 1.0)
    return layers.add(x, y) if residual else y
