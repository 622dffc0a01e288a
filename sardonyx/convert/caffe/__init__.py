"""Caffe v1: a network in a .prototxt with its weights in a .caffemodel, without Caffe.

Either file is taken; the other is looked for beside it, or named in `Options.structure`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options, Source

_LAYER = re.compile(rb"(?:^|\s)layers?\s*:?\s*\{")
_INPUT = re.compile(rb"(?:^|\s)input\s*:\s*[\"']")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")


def recognises(source: Source) -> bool:
    """A prototxt with layers, or a caffemodel: a binary NetParameter that starts with its name or layers."""
    head = source.head
    if source.path is None or not head:
        return False
    if not _BINARY.search(head):
        return bool(_LAYER.search(head) or _INPUT.search(head))
    from sardonyx.convert.caffe.files import looks_like_weights

    return looks_like_weights(head)


def read(source: Source, options: Options) -> Converted:
    """The network as ONNX, with inputs and outputs by the names of Caffe's blobs and nodes by its layers.

    The network is that of the test phase, with inputs of the prototxt's sizes and an open batch. Training losses are
    left out: `SoftmaxWithLoss` gives its probabilities. Raises ModelFileError when a file is damaged, ConversionError
    when a file is missing or layers cannot be converted (all are listed).
    """
    from sardonyx.convert.caffe.reader import read as read_caffe

    return read_caffe(source, options)


def operators() -> list[str]:
    """The types of layers that can be converted."""
    from sardonyx.convert.caffe.reader import operators as listed

    return listed()
