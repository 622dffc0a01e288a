"""GoogLeNet (Szegedy et al. 2014, "Going Deeper with Convolutions"), as Caffe and the ONNX model zoo have it.

Without the auxiliary classifiers, which only serve training.
"""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, AFTER_RELU, Layers, Outputs

STAGES = (  # 1x1; 1x1 and 3x3; 1x1 and 5x5; 1x1 behind the pooling: table 1, a pooling before each stage
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
AFTER_POOL = 1.2
"""The largest of nine numbers has a larger square."""


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of GoogLeNet."""
    x = _conv(layers, layers.input, 64, 7, stride=2, gain=AFTER_LINEAR)
    x = layers.local_norm(layers.max_pool(x, 3, 2, ceil=True))
    x = _conv(layers, _conv(layers, x, 64, 1, gain=AFTER_POOL), 192, 3)
    x = layers.local_norm(x)
    for stage in STAGES:
        x, gain = layers.max_pool(x, 3, 2, ceil=True), AFTER_POOL
        for channels in stage:
            x, gain = _module(layers, x, channels, gain), AFTER_RELU
    x = layers.dropout(layers.flatten(layers.global_pool(x)))
    return {"logits": layers.dense(x, classes, gain=1.0)}


def _conv(
    layers: Layers, x: ir.Value, channels: int, kernel: int, *, stride: int = 1, gain: float = AFTER_RELU
) -> ir.Value:
    return layers.relu(layers.conv(x, layers.wide(channels), kernel, stride=stride, gain=gain))


def _module(layers: Layers, x: ir.Value, channels: tuple[int, ...], gain: float) -> ir.Value:
    one, before_three, three, before_five, five, pooled = channels
    return layers.concat(
        _conv(layers, x, one, 1, gain=gain),
        _conv(layers, _conv(layers, x, before_three, 1, gain=gain), three, 3),
        _conv(layers, _conv(layers, x, before_five, 1, gain=gain), five, 5),
        _conv(layers, layers.max_pool(x, 3, 1, pad=1), pooled, 1, gain=AFTER_POOL),
    )
