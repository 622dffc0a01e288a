"""DenseNet-121 (Huang et al. 2016, "Densely Connected Convolutional Networks").

Every layer of a block reads all features before it, so each starts with a Concat, as torchvision's export has it.
"""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, Layers, Outputs
from sardonyx.zoo.architectures.writer import dims

BLOCKS, GROWTH, BOTTLENECK = (6, 12, 24, 16), 32, 4


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of DenseNet-121."""
    x = layers.relu(layers.conv_norm(layers.input, layers.wide(64), 7, stride=2, gain=AFTER_LINEAR))
    x = layers.max_pool(x, 3, 2, pad=1)
    for index, count in enumerate(BLOCKS):
        if index:
            x = layers.conv(layers.relu(layers.norm(x)), dims(x)[0] // 2, 1, bias=None)
            x = layers.mean_pool(x, 2, 2)
        features = [x]
        for _ in range(count):
            features.append(_layer(layers, features))
        x = layers.concat(*features)
    x = layers.global_pool(layers.relu(layers.norm(x)))
    return {"logits": layers.dense(layers.flatten(x), classes, gain=1.0)}


def _layer(layers: Layers, features: list[ir.Value]) -> ir.Value:
    """`GROWTH` new features."""
    x = layers.relu(layers.norm(layers.concat(*features)))
    growth = layers.wide(GROWTH)
    x = layers.relu(layers.conv_norm(x, growth * BOTTLENECK, 1))
    return layers.conv(x, growth, 3, bias=None)
