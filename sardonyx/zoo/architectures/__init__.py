"""Well-known vision networks written in code, with seeded random weights: for tests, benchmarks and trials.

They are what a framework's exporter writes for a network in inference: float32, NCHW, BatchNormalization
kept, logits as the output. Nothing is downloaded and the weights mean nothing, but activations stay in a
normal range, so speed and accuracy measured on them carry over to trained networks of the same shape.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sardonyx.errors import SardonyxError

if TYPE_CHECKING:
    import onnx_ir as ir

_FAMILIES = {
    "resnet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "mobilenet": ("mobilenetv2",),
    "vgg": ("vgg16", "vgg19", "ferplus"),
    "efficientnet": ("efficientnet-b0", "efficientnet-lite0"),
    "squeezenet": ("squeezenet1.1",),
    "densenet": ("densenet121",),
    "inception": ("inceptionv1",),
    "shufflenet": ("shufflenetv2",),
    "yolo": ("tinyyolov2",),
    "ssd": ("ssd-mobilenet",),
    "style": ("fast-style",),
    "unet": ("unet",),
    "c3d": ("c3d",),
    "r2plus1d": ("r2plus1d-18",),
}
"""Architectures by the module that builds them: each has `build(layers, name, classes)`."""


@dataclass(frozen=True)
class _Sizes:
    """Channels and side of the input, frames of a video and number of classes (0: it tells none apart)."""

    channels: int = 3
    image: int = 224
    frames: int | None = None
    classes: int = 1000


_SIZES = {
    "ferplus": _Sizes(channels=1, image=64, classes=8),
    "tinyyolov2": _Sizes(image=416, classes=20),
    "ssd-mobilenet": _Sizes(image=300, classes=90),
    "fast-style": _Sizes(classes=0),
    "unet": _Sizes(image=256, classes=2),
    "c3d": _Sizes(image=112, frames=16, classes=101),
    "r2plus1d-18": _Sizes(image=112, frames=16, classes=400),
}
"""Where they are not those of ImageNet."""


def names() -> tuple[str, ...]:
    """The architectures `build` knows."""
    return tuple(name for family in _FAMILIES.values() for name in family)


def build(
    name: str,
    *,
    image: int | None = None,
    batch: int | str = 1,
    seed: int = 0,
    classes: int | None = None,
    width: float = 1.0,
    fold_bn: bool = False,
) -> ir.Model:
    """The network `name` with random weights from `seed`, made when they are first read.

    Input `input`: float32 [batch, 3, image, image] (one channel for ferplus; [batch, 3, 16, image, image] for
    the video networks c3d and r2plus1d-18), `batch` a number or the name of a symbol, `image` the side in
    pixels (default: that of the paper). `width` multiplies the channel counts, for tests that need small
    networks. `fold_bn` writes a convolution with a bias where it and its BatchNormalization would be.

    Outputs, float32 unless said otherwise, `classes` by default those of the usual data set:

    - `logits` [batch, classes]; [batch, classes, image, image] for unet
    - tinyyolov2: `grid` [batch, 5 * (5 + classes), image / 32, image / 32], rounded up: box, presence and classes
      of each anchor
    - ssd-mobilenet: the 100 best detections (or all candidates, if fewer), `boxes` [batch, 100, 4] as top,
      left, bottom, right in units of the image, `scores` [batch, 100], 0 where there is none, and `labels`
      [batch, 100], int64
    - fast-style: `image` [batch, 3, image, image]

    Raises SardonyxError for an unknown name or sizes the network cannot have.
    """
    family = next((family for family, members in _FAMILIES.items() if name in members), None)
    if family is None:
        expected = f"one of {', '.join(names())}"
        raise SardonyxError(f"unknown architecture {name!r}", where="zoo.architectures", expected=expected)
    from sardonyx.zoo.architectures.layers import Layers

    sizes = _SIZES.get(name, _Sizes())
    if classes is not None and not sizes.classes:
        raise SardonyxError(f"{name} has no classes", where="zoo.architectures", fix="leave `classes` out")
    side = sizes.image if image is None else image
    sides = (side, side) if sizes.frames is None else (sizes.frames, side, side)
    layers = Layers(batch, sizes.channels, sides, seed=seed, width=width, fold_bn=fold_bn)
    module = importlib.import_module(f"{__name__}.{family}")
    return layers.model(name, module.build(layers, name, sizes.classes if classes is None else classes))
