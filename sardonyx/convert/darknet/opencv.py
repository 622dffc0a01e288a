"""OpenCV as the oracle of a Darknet network, where it computes what Darknet does."""

from __future__ import annotations

from sardonyx.convert.base import Oracle
from sardonyx.convert.darknet.files import Files
from sardonyx.convert.darknet.layers import DETECTIONS
from sardonyx.convert.opencv_oracle import opencv

AGREES = frozenset(
    [
        "avgpool",
        "convolutional",
        "cost",
        "dropout",
        "maxpool",
        "reorg",
        "route",
        "shortcut",
        "softmax",
        "upsample",
        "yolo",
    ]
)
"""Layers that OpenCV computes as Darknet does, by comparison (tests/convert/test_darknet.py). It suppresses boxes of
[region], which nothing can turn off."""

ONLY = {"softmax": {"groups": "1", "temperature": "1"}, "upsample": {"scale": "1"}}
"""Options of theirs that it does not know, and the value that changes nothing."""

ACTIVATIONS = frozenset(("linear", "leaky", "logistic", "mish", "relu", "swish", "tanh"))


def agrees(files: Files) -> bool:
    """Whether OpenCV computes this network as Darknet does."""
    return all(
        layer.kind in AGREES
        and not {"stride_x", "stride_y"} & set(layer.values)
        and all(layer.values.get(key, value) == value for key, value in ONLY.get(layer.kind, {}).items())
        and layer.values.get("activation", "linear") in ACTIVATIONS
        for layer in files.layers
    )


def text(files: Files) -> str:
    """The cfg with every box kept: OpenCV sets probabilities below a threshold to zero and suppresses boxes."""
    lines = []
    for section in (files.net, *files.layers):
        values = dict(section.values)
        if section.kind in DETECTIONS:
            values |= {"thresh": "0", "nms_threshold": "0"}
        lines += [f"[{section.kind}]", *(f"{key}={value}" for key, value in values.items()), ""]
    return "\n".join(lines)


def oracle(files: Files, outputs: tuple[str, ...], timeout: float) -> Oracle | None:
    """OpenCV on the network; None where it is not installed or has other ideas of a layer."""
    if not agrees(files):
        return None
    return opencv("darknet", text(files), files.binary, dict.fromkeys(outputs, ""), timeout)
