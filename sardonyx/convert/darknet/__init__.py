"""Darknet: a network in a .cfg with its .weights, without Darknet (pjreddie/darknet; layers of AlexeyAB/darknet).

Either file is taken; the other is looked for beside it, or named in `Options.structure`.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options, Source

_CFG = re.compile(rb"\A(?:\s*[#;][^\n]*\n|\s)*\[net(?:work)?\]")


def recognises(source: Source) -> bool:
    """A text that starts with [net]; or a weights file's header, in a folder that has such a text."""
    head = source.head
    if source.path is None or not head:
        return False
    if _CFG.match(head):
        return True
    if len(head) < 20:
        return False
    major, minor, revision = struct.unpack("<3i", head[:12])
    if not (0 <= major <= 2 and 0 <= minor <= 10 and 0 <= revision <= 10 and source.path.stat().st_size % 4 == 0):
        return False
    from sardonyx.convert.darknet.files import beside

    return bool(beside(source.path, weights=False))


def read(source: Source, options: Options) -> Converted:
    """The network as ONNX, with an open batch. The input is `data`, [batch, channels, height, width], RGB in 0..1.

    Layers are named by type and place: `convolutional_0`. Outputs are the last layer and each [yolo] and [region],
    whose boxes are decoded: [batch, height * width * anchors, 5 + classes], by row, column and anchor, of each the
    centre, width and height as parts of the picture, the objectness, and the classes' probabilities times that; no
    threshold is applied and no box suppressed. Raises ModelFileError when a file is damaged, ConversionError when a
    file is missing, both do not fit, or layers cannot be converted (all are listed).
    """
    from sardonyx.convert.darknet.reader import read as read_darknet

    return read_darknet(source, options)


def operators() -> list[str]:
    """The layers that can be converted, by the names of their sections."""
    from sardonyx.convert.darknet.layers import LAYERS

    return sorted(LAYERS)
