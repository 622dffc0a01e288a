"""EfficientNet-B0 (Tan and Le 2019, "EfficientNet: Rethinking Model Scaling") and its Lite0.

Lite0 has ReLU6 for swish and no squeeze-and-excitation, for accelerators that have neither.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, AFTER_RELU, AFTER_SILU, Layers, Outputs
from sardonyx.zoo.architectures.writer import dims

STAGES = (  # expansion, kernel, stride, channels, blocks: table 1 of the paper
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
BRANCH = 1 / math.sqrt(sum(blocks - 1 for *_, blocks in STAGES))
"""Scale of each residual branch: the sum of all does not grow without bound."""


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of `name`."""
    lite = name == "efficientnet-lite0"
    x = layers.conv_norm(layers.input, layers.wide(32), 3, stride=2, gain=AFTER_LINEAR)
    x = _activate(layers, x, lite)
    for expansion, kernel, first_stride, channels, blocks in STAGES:
        for index in range(blocks):
            sizes = {"kernel": kernel, "stride": 1 if index else first_stride, "expansion": expansion}
            x = _block(layers, x, layers.wide(channels), **sizes, lite=lite)
    x = _activate(layers, layers.conv_norm(x, layers.wide(1280), 1, gain=AFTER_LINEAR), lite)
    return {"logits": layers.dense(layers.flatten(layers.global_pool(x)), classes, gain=1.0)}


def _activate(layers: Layers, x: ir.Value, lite: bool) -> ir.Value:
    return layers.relu6(x) if lite else layers.silu(x)


def _block(
    layers: Layers, x: ir.Value, channels: int, *, expansion: int, kernel: int, stride: int, lite: bool
) -> ir.Value:
    """MBConv: expand, depthwise, squeeze and excite, project."""
    residual, gain = stride == 1 and dims(x)[0] == channels, AFTER_RELU if lite else AFTER_SILU
    y, squeezed = x, max(1, dims(x)[0] // 4)
    if expansion > 1:
        y = _activate(layers, layers.conv_norm(y, dims(x)[0] * expansion, 1, gain=AFTER_LINEAR), lite)
    y = layers.conv_norm(y, dims(y)[0], kernel, stride=stride, group=dims(y)[0], gain=gain)
    y = _activate(layers, y, lite)
    if not lite:
        y, gain = _squeeze_excite(layers, y, squeezed), 3 * gain  # gates are about one half
    y = layers.conv_norm(y, channels, 1, gain=gain, scale=BRANCH if residual else 1.0)
    return layers.add(x, y) if residual else y


def _squeeze_excite(layers: Layers, x: ir.Value, squeezed: int) -> ir.Value:
    gate = layers.silu(layers.conv(layers.global_pool(x), squeezed, 1, gain=AFTER_SILU))
    return layers.mul(x, layers.sigmoid(layers.conv(gate, dims(x)[0], 1, gain=AFTER_SILU)))
