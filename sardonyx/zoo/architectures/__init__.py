"""Well-known networks written in code, with seeded random weights: for tests, benchmarks and trials.

They are what a framework's exporter writes for a network in inference: float32, images NCHW with
BatchNormalization kept, attention in primitive operators with its shapes computed in the graph. Nothing is
downloaded and the weights mean nothing, but activations stay in a normal range, so speed and accuracy measured
on them carry over to trained networks of the same shape.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from sardonyx.errors import SardonyxError

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.zoo.architectures.asked import Asked

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


_SEQUENCES = {
    "bert": ("bert-base", "minilm"),
    "gpt2": ("gpt2", "gpt2-cache"),
    "llama": ("llama-small",),
    "t5": ("t5-small-stack",),
    "vit": ("vit-b16", "vit-s16"),
    "whisper": ("whisper-base-encoder",),
    "tagger": ("bilstm-tagger",),
}
"""Those written node by node, with open dims: each module has `build(asked, weights)`."""


def names() -> tuple[str, ...]:
    """The architectures `build` knows."""
    return tuple(name for family in (_FAMILIES | _SEQUENCES).values() for name in family)


def build(
    name: str,
    *,
    image: int | None = None,
    batch: int | str | None = None,
    sequence: int | str | None = None,
    past: int | str | None = None,
    targets: int | str | None = None,
    seed: int = 0,
    classes: int | None = None,
    vocabulary: int | None = None,
    layers: int | None = None,
    width: float | None = None,
    fold_bn: bool | None = None,
) -> ir.Model:
    """The network `name` with random weights from `seed`, made when they are first read.

    `batch`, `sequence`, `past` and `targets` are numbers or names of symbols. `width` multiplies the channel counts (of
    transformers: the heads), `layers` is how many there are: for tests that need small networks.

    Convolution networks and vit-*: input `input`, float32 [batch, 3, image, image] (one channel for ferplus;
    [batch, 3, 16, image, image] for the video networks c3d and r2plus1d-18), `batch` 1 by default, `image` the
    side in pixels (default: that of the paper). `fold_bn` writes a convolution with a bias where it and its
    BatchNormalization would be. Outputs, float32 unless said otherwise, `classes` by default those of the
    usual data set:

    - `logits` [batch, classes]; [batch, classes, image, image] for unet
    - tinyyolov2: `grid` [batch, 5 * (5 + classes), image / 32, image / 32], rounded up: box, presence and classes
      of each anchor
    - ssd-mobilenet: the 100 best detections (or all candidates, if fewer), `boxes` [batch, 100, 4] as top,
      left, bottom, right in units of the image, `scores` [batch, 100], 0 where there is none, and `labels`
      [batch, 100], int64
    - fast-style: `image` [batch, 3, image, image]

    Networks for sequences: dims are symbols of the names of the options by default, token ids int64 below
    `vocabulary`, masks int64 with 1 for what is there.

    - bert-base, minilm: `last_hidden_state` [batch, sequence, width] and `pooler_output` [batch, width] from
      `input_ids`, `attention_mask` and `token_type_ids` [batch, sequence]
    - gpt2: `logits` [batch, sequence, vocabulary] from `input_ids` and `attention_mask`
    - gpt2-cache, llama-small: the same from `input_ids` and `position_ids` [batch, sequence], `attention_mask`
      [batch, past + sequence], and `past_key_values.<layer>.key` and `.value` [batch, heads, past, head]; it returns
      `present.<layer>.key` and `.value`, longer by `sequence`, too
    - t5-small-stack: `logits` [batch, targets, vocabulary] from `input_ids` and `attention_mask`
      [batch, sequence] and `decoder_input_ids` [batch, targets]
    - whisper-base-encoder: `last_hidden_state` [batch, 1500, width] from `input_features`, float32 [batch, 80, 3000]
    - bilstm-tagger: `logits` [sequence, batch, classes] from `tokens` [sequence, batch]

    Raises SardonyxError for an unknown name, and for options or sizes the network cannot have.
    """
    from sardonyx.zoo.architectures.asked import Asked

    asked = Asked(name, batch, sequence, past, targets, image, classes, vocabulary, layers, width, fold_bn)
    for family, members in (_FAMILIES | _SEQUENCES).items():
        if name in members:
            module = importlib.import_module(f"{__name__}.{family}")
            return _convolutions(module, asked, seed) if family in _FAMILIES else _sequences(module, asked, seed)
    expected = f"one of {', '.join(names())}"
    raise SardonyxError(f"unknown architecture {name!r}", where="zoo.architectures", expected=expected)


def _convolutions(module: ModuleType, asked: Asked, seed: int) -> ir.Model:
    from sardonyx.zoo.architectures.layers import Layers

    sizes = _SIZES.get(asked.name, _Sizes())
    asked.only({"batch", "image", "width", "fold_bn", *(["classes"] if sizes.classes else [])})
    side = sizes.image if asked.image is None else asked.image
    sides = (side, side) if sizes.frames is None else (sizes.frames, side, side)
    batch, width = 1 if asked.batch is None else asked.batch, 1.0 if asked.width is None else asked.width
    layers = Layers(batch, sizes.channels, sides, seed=seed, width=width, fold_bn=bool(asked.fold_bn))
    classes = sizes.classes if asked.classes is None else asked.classes
    return layers.model(asked.name, module.build(layers, asked.name, classes))


def _sequences(module: ModuleType, asked: Asked, seed: int) -> ir.Model:
    from sardonyx.zoo.architectures.writer import Seeded

    model: ir.Model = module.build(asked, Seeded(seed))
    return model
