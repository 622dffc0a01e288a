"""R(2+1)D-18 (Tran et al. 2017, "A Closer Look at Spatiotemporal Convolutions for Action Recognition").

A residual network for video whose 3-D convolutions are one over space, then one over time.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, Layers, Outputs
from sardonyx.zoo.architectures.writer import dims

CHANNELS, BLOCKS = (64, 128, 256, 512), 2
BRANCH = 1 / math.sqrt(len(CHANNELS) * BLOCKS)
"""Scale of each residual branch: the sum of all does not grow without bound."""


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of R(2+1)D-18."""
    x = layers.conv_norm(layers.input, layers.wide(45), (1, 7, 7), stride=(1, 2, 2), gain=AFTER_LINEAR)
    x = layers.relu(layers.conv_norm(layers.relu(x), layers.wide(64), (3, 1, 1)))
    for stage, wanted in enumerate(CHANNELS):
        channels = layers.wide(wanted)
        for index in range(BLOCKS):
            stride = 2 if stage and not index else 1
            shortcut = layers.conv_norm(x, channels, 1, stride=stride) if stride > 1 else x
            x = layers.relu(layers.add(_block(layers, x, channels, stride), shortcut))
    return {"logits": layers.dense(layers.flatten(layers.global_pool(x)), classes, gain=1.0)}


def _block(layers: Layers, x: ir.Value, channels: int, stride: int) -> ir.Value:
    before = dims(x)[0]
    # As many weights as one 3-D convolution has; torchvision takes this number for the second one too.
    between = before * channels * 27 // (before * 9 + 3 * channels)
    x = layers.relu(_apart(layers, x, between, channels, stride))
    return _apart(layers, x, between, channels, scale=BRANCH)


def _apart(layers: Layers, x: ir.Value, between: int, channels: int, stride: int = 1, scale: float = 1.0) -> ir.Value:
    x = layers.relu(layers.conv_norm(x, between, (1, 3, 3), stride=(1, stride, stride)))
    return layers.conv_norm(x, channels, (3, 1, 1), stride=(stride, 1, 1), scale=scale)
