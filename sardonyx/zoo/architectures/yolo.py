"""Tiny YOLOv2 (Redmon and Farhadi 2016, "YOLO9000: Better, Faster, Stronger"), as the ONNX model zoo has it."""

from __future__ import annotations

from sardonyx.zoo.architectures.layers import AFTER_LEAKY, AFTER_LINEAR, Layers, Outputs

CHANNELS, ANCHORS = (16, 32, 64, 128, 256, 512, 1024, 1024), 5
POOLS = (2, 2, 2, 2, 2, 1)  # strides of the poolings behind the first convolutions; all take 2x2 pixels


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Boxes, presences and classes, by anchor and cell of the grid."""
    x, gain = layers.input, AFTER_LINEAR
    for index, channels in enumerate(CHANNELS):
        x = layers.leaky_relu(layers.conv_norm(x, layers.wide(channels), 3, pad="same", gain=gain))
        gain = AFTER_LEAKY
        if index < len(POOLS):
            x, gain = layers.max_pool(x, 2, POOLS[index], pad="same"), 1.2  # the largest of four
    return {"grid": layers.conv(x, ANCHORS * (5 + classes), 1, gain=AFTER_LEAKY)}
