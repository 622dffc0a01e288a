"""Well-known vision networks written in code, with seeded random weights: for tests, benchmarks and trials.

They are what a framework's exporter writes for a network in inference: float32, NCHW, BatchNormalization
kept, logits as the output. Nothing is downloaded and the weights mean nothing, but activations stay in a
normal range, so speed and accuracy measured on them carry over to trained networks of the same shape.
"""

from __future__ import annotations

import importlib
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
}
"""Architectures by the module that builds them: each has `build(layers, name, classes)`."""


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

    Input `input`: float32 [batch, 3, image, image] (one channel for ferplus), `batch` a number or the name of
    a symbol, `image` the side in pixels (default 224; 64 for ferplus). Output `logits`: float32
    [batch, classes] (default 1000; 8 for ferplus). `width` multiplies the channel counts, for tests that need
    small networks. `fold_bn` writes a convolution with a bias where it and its BatchNormalization would be.

    Raises SardonyxError for an unknown name or sizes the network cannot have.
    """
    family = next((family for family, members in _FAMILIES.items() if name in members), None)
    if family is None:
        expected = f"one of {', '.join(names())}"
        raise SardonyxError(f"unknown architecture {name!r}", where="zoo.architectures", expected=expected)
    from sardonyx.zoo.architectures.layers import Layers

    grey = name == "ferplus"
    channels, default_image, default_classes = (1, 64, 8) if grey else (3, 224, 1000)
    side = default_image if image is None else image
    layers = Layers(batch, channels, side, seed=seed, width=width, fold_bn=fold_bn)
    module = importlib.import_module(f"{__name__}.{family}")
    return layers.model(name, module.build(layers, name, default_classes if classes is None else classes))
