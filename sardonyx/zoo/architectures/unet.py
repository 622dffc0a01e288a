"""U-Net (Ronneberger et al. 2015), padded so that sizes keep, with BatchNormalization, as its PyTorch versions are."""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, AFTER_RELU, Layers, Outputs
from sardonyx.zoo.architectures.writer import dims

CHANNELS = (64, 128, 256, 512, 1024)


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of each pixel."""
    layers.sides_in_steps_of(1 << (len(CHANNELS) - 1))
    x = _double(layers, layers.input, layers.wide(CHANNELS[0]), AFTER_LINEAR)
    left = []
    for channels in CHANNELS[1:]:
        left.append(x)
        x = _double(layers, layers.max_pool(x, 2, 2), layers.wide(channels), 1.2)  # the largest of four
    for skipped in reversed(left):
        x = layers.concat(skipped, layers.up_conv(x, dims(skipped)[0], 2))
        x = _double(layers, x, dims(skipped)[0], AFTER_RELU)
    return {"logits": layers.conv(x, classes, 1)}


def _double(layers: Layers, x: ir.Value, channels: int, gain: float) -> ir.Value:
    x = layers.relu(layers.conv_norm(x, channels, 3, gain=gain))
    return layers.relu(layers.conv_norm(x, channels, 3))
