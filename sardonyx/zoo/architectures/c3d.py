"""C3D (Tran et al. 2014, "Learning Spatiotemporal Features with 3D Convolutional Networks")."""

from __future__ import annotations

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, AFTER_RELU, Layers, Outputs

STAGES = ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2))  # (channels, convolutions) before each pooling
HIDDEN = 4096


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of C3D."""
    x, gain, last = layers.input, AFTER_LINEAR, len(STAGES) - 1
    for index, (channels, count) in enumerate(STAGES):
        for _ in range(count):
            x, gain = layers.relu(layers.conv(x, layers.wide(channels), 3, gain=gain)), AFTER_RELU
        windows = 2 if index else (1, 2, 2)
        x = layers.max_pool(x, windows, windows, pad=(0, 1, 1) if index == last else 0)
        gain = 0.8 if index else 1.2  # the largest of eight or four has a larger square
    x = layers.flatten(x)
    for _ in range(2):
        x, gain = layers.dropout(layers.relu(layers.dense(x, layers.wide(HIDDEN), gain=gain))), AFTER_RELU
    return {"logits": layers.dense(x, classes, gain=1.0)}
