"""MXNet: a symbol (.json) with its parameters (.params), from Module checkpoints and Gluon exports, without MXNet.

Either file is taken; the other is looked for beside it, or named in `Options.structure`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options, Source

MAGIC = bytes([0x12, 0x01]) + bytes(14)
"""How files of arrays begin: 0x112, then a number that is 0."""

_SYMBOL = re.compile(rb'\A\s*\{\s*"nodes"\s*:\s*\[\s*\{[^{}]*"op"\s*:\s*"')


def recognises(source: Source) -> bool:
    """A symbol's JSON, or a file of arrays."""
    head = source.head
    return source.path is not None and (head.startswith(MAGIC) or bool(_SYMBOL.match(head)))


def read(source: Source, options: Options) -> Converted:
    """The network as ONNX, as it is used for inference; inputs, outputs (`softmax_output`) and nodes by MXNet's names.

    Shapes of inputs are `Options.shapes`, else those in the symbol, else what the first layer's weights tell, with
    all other dims open. Raises ModelFileError when a file is damaged, ConversionError when a file or a shape is
    missing or operators cannot be converted (all are listed).
    """
    from sardonyx.convert.mxnet.reader import read as read_mxnet

    return read_mxnet(source, options)


def operators() -> list[str]:
    """The operators that can be converted."""
    from sardonyx.convert.mxnet.reader import RULES

    return sorted(RULES)
