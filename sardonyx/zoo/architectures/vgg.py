"""VGG (Simonyan and Zisserman 2014, "Very Deep Convolutional Networks") without BatchNormalization.

`ferplus` is the VGG13 for facial expressions of Barsoum et al. 2016, "Training Deep Networks for Facial
Expression Recognition with Crowd-Sourced Label Distribution", with its dropouts left in.
"""

from __future__ import annotations

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, Layers, Outputs

STAGES = {  # (channels, convolutions) before each pooling
    "vgg16": ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
    "vgg19": ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)),
    "ferplus": ((64, 2), (128, 2), (256, 3), (256, 3)),
}
HIDDEN = {"vgg16": 4096, "vgg19": 4096, "ferplus": 1024}


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """Logits of `name`."""
    x, gain, keeps_dropout = layers.input, AFTER_LINEAR, name == "ferplus"
    for channels, count in STAGES[name]:
        for _ in range(count):
            x, gain = layers.relu(layers.conv(x, layers.wide(channels), 3, gain=gain)), 2.0
        x = layers.max_pool(x, 2, 2)
        gain = 1.2  # the largest of four has a larger square
        x = layers.dropout(x) if keeps_dropout else x
    x = layers.flatten(x)
    for _ in range(2):
        x, gain = layers.relu(layers.dense(x, layers.wide(HIDDEN[name]), gain=gain)), 2.0
        x = layers.dropout(x) if keeps_dropout else x
    return {"logits": layers.dense(x, classes, gain=1.0)}
