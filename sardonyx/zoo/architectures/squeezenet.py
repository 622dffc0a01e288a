"""SqueezeNet 1.1 (Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters")."""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, Layers, Outputs

STAGES = (  # (squeeze, expand) of each fire module, a pooling before each stage
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of SqueezeNet 1.1."""
    x = layers.relu(layers.conv(layers.input, layers.wide(64), 3, stride=2, pad=0, gain=AFTER_LINEAR))
    for stage in STAGES:
        x = layers.max_pool(x, 3, 2, ceil=True)
        for squeeze, expand in stage:
            x = _fire(layers, x, layers.wide(squeeze), layers.wide(expand))
    x = layers.relu(layers.conv(x, classes, 1))
    return {"logits": layers.flatten(layers.global_pool(x))}


def _fire(layers: Layers, x: ir.Value, squeeze: int, expand: int) -> ir.Value:
    x = layers.relu(layers.conv(x, squeeze, 1))
    return layers.concat(layers.relu(layers.conv(x, expand, 1)), layers.relu(layers.conv(x, expand, 3)))
