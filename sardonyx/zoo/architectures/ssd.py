"""SSD-MobileNet (Howard et al. 2017, "MobileNets", with the head of Liu et al. 2015, "SSD").

Sizes, anchors and the order of things are those of TensorFlow's `ssd_mobilenet_v1_coco`.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from sardonyx.zoo.architectures.layers import AFTER_LINEAR, AFTER_RELU, Layers, Outputs
from sardonyx.zoo.architectures.writer import Array, dims

BODY = (  # (channels, stride) of the depthwise separable convolutions: table 1 of "MobileNets"
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1),
)  # fmt: skip
EXTRA = ((256, 512), (128, 256), (128, 256), (64, 128))  # 1x1, then 3x3 of stride 2
FEATURES = 11
"""The first feature map is what that many separable convolutions give, the second what all of them give."""

SMALLEST, LARGEST = 0.2, 0.95
"""Sides of the anchors of the first and of the last feature map, in units of the image."""
DETECTIONS, OVERLAP, THRESHOLD = 100, 0.6, 0.3
"""At most how many, of a class and in all; the overlap from which on the lesser goes; the score to have."""
HEAD, BACKGROUND = 12.0, -5.0
"""Logits are spread widely about a low value: few boxes pass the threshold, as after training."""


def build(layers: Layers, name: str, classes: int) -> Outputs:
    """The best detections: boxes, scores and labels."""
    boxes, logits, centres = [], [], []
    maps = _features(layers)
    for level, x in enumerate(maps):
        anchors = _anchors(level, len(maps), *dims(x)[1:])
        count = len(anchors) // math.prod(dims(x)[1:])
        centres.append(anchors)
        boxes.append(_rows(layers, layers.conv(x, count * 4, 1, gain=HEAD), 4))
        scores = layers.conv(x, count * (classes + 1), 1, gain=HEAD, bias=BACKGROUND)
        logits.append(_rows(layers, scores, classes + 1))
    decoded = _decode(layers, layers.concat(*boxes), np.concatenate(centres))
    return _detect(layers, decoded, _scores(layers, layers.concat(*logits)))


def _features(layers: Layers) -> list[ir.Value]:
    """Feature maps from fine to coarse."""
    x, maps = _conv(layers, layers.input, 32, 3, stride=2, gain=AFTER_LINEAR), []
    for index, (channels, stride) in enumerate(BODY, 1):
        x = _conv(layers, x, 0, 3, stride=stride, group=dims(x)[0])
        x = _conv(layers, x, channels, 1)
        if index in {FEATURES, len(BODY)}:
            maps.append(x)
    for before, channels in EXTRA:
        x = _conv(layers, _conv(layers, x, before, 1), channels, 3, stride=2)
        maps.append(x)
    return maps


def _conv(
    layers: Layers, x: ir.Value, channels: int, kernel: int, *, stride: int = 1, group: int = 1,
    gain: float = AFTER_RELU,
) -> ir.Value:  # fmt: skip
    wide = layers.wide(channels) if group == 1 else group
    return layers.relu6(layers.conv_norm(x, wide, kernel, stride=stride, pad="same", group=group, gain=gain))


def _anchors(level: int, levels: int, height: int, width: int) -> Array:
    """Centre y, centre x, height and width of the anchors of a feature map, float32 [cells * anchors, 4]."""
    scales = [*np.linspace(SMALLEST, LARGEST, levels), 1.0]
    here, between = scales[level], math.sqrt(scales[level] * scales[level + 1])
    if level:
        shapes = [(here, 1), (here, 2), (here, 1 / 2), (here, 3), (here, 1 / 3), (between, 1)]
    else:  # fewer for the many cells of the finest map
        shapes = [(here / 2, 1), (here, 2), (here, 1 / 2)]
    sizes = [(scale / math.sqrt(ratio), scale * math.sqrt(ratio)) for scale, ratio in shapes]
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    cells = np.stack([y, x], axis=-1).reshape(-1, 1, 2)
    return np.concatenate(np.broadcast_arrays(cells, sizes), axis=-1).reshape(-1, 4).astype(np.float32)


def _rows(layers: Layers, x: ir.Value, columns: int) -> ir.Value:
    """[batch, anchors, columns] from [batch, anchors * columns, height, width]."""
    count = math.prod(dims(x)) // columns
    return layers.reshape(layers.transpose(x, 0, 2, 3, 1), count, columns)


def _decode(layers: Layers, x: ir.Value, anchors: Array) -> ir.Value:
    """Top, left, bottom and right of boxes given as offsets from their anchors."""
    centres, sizes = anchors[:, :2], anchors[:, 2:]
    shift, growth = layers.halves(x, axis=2)
    middle = layers.add(layers.mul(shift, layers.constant(sizes / 10)), layers.constant(centres))
    growth = layers.op("Exp", [layers.mul(growth, layers.scalar(1 / 5))], dims(growth))
    half = layers.mul(growth, layers.constant(sizes / 2))
    return layers.concat(layers.op("Sub", [middle, half], dims(middle)), layers.add(middle, half), axis=2)


def _scores(layers: Layers, logits: ir.Value) -> ir.Value:
    """[batch, classes, anchors] without the background."""
    count, classes = dims(logits)
    one, end, last_axis = (layers.constant([number]) for number in (1, classes, 2))
    scores = layers.op("Slice", [layers.sigmoid(logits), one, end, last_axis], [count, classes - 1])
    return layers.transpose(scores, 0, 2, 1)


def _detect(layers: Layers, boxes: ir.Value, scores: ir.Value) -> Outputs:
    """What non-maximum suppression leaves of each class, the best of all classes first."""
    classes, anchors = dims(scores)
    limits = (layers.constant(np.array([limit], np.float32)) for limit in (OVERLAP, THRESHOLD))
    inputs = [boxes, scores, layers.constant([DETECTIONS]), *limits]
    chosen = layers.op("NonMaxSuppression", inputs, None, dtype=ir.DataType.INT64)
    nothing = layers.mul(scores, layers.scalar(0))
    kept = layers.op("ScatterND", [nothing, chosen, layers.op("GatherND", [scores, chosen], None)], dims(scores))
    count = min(DETECTIONS, classes * anchors)
    best, index = layers.ops(
        "TopK",
        [layers.reshape(kept, classes * anchors), layers.constant([count])],
        [[count], [count]],
        dtypes=[ir.DataType.FLOAT, ir.DataType.INT64],
    )
    row = layers.constant([anchors])
    label, anchor = (layers.op(name, [index, row], [count], dtype=ir.DataType.INT64) for name in ("Div", "Mod"))
    rows = layers.op("Unsqueeze", [anchor, layers.constant([2])], [count, 1], dtype=ir.DataType.INT64)
    found = layers.op("GatherND", [boxes, rows], [count, 4], {"batch_dims": 1})
    return {"boxes": found, "scores": best, "labels": label}
