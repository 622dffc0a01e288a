"""LightGBM: text files of every booster and objective, and live models, read without LightGBM."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sardonyx.convert.base import Source

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options

_HEAD = re.compile(rb"\s*tree\r?\nversion=v?\d")


def recognises(source: Source) -> bool:
    """Whether `source` is a file that `Booster.save_model` wrote, or a Booster or wrapper in memory."""
    return "lightgbm" in source.frameworks or _HEAD.match(source.head) is not None


def read(source: Source, options: Options) -> Converted:
    """The model as ONNX: see `reader.read`."""
    from sardonyx.convert.lightgbm import reader

    return reader.read(source, options)


def operators() -> list[str]:
    """The objectives that can be converted."""
    from sardonyx.convert.lightgbm.reader import OBJECTIVES

    return sorted(OBJECTIVES)
