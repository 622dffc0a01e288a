"""XGBoost: JSON and UBJSON files of every booster and objective, and live models, read without XGBoost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sardonyx.convert.base import Source

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options

_HEADS = (
    rb'\s*\{\s*"learner"\s*:\s*\{',  # JSON
    rb"\{(?:[iU]\x07|I\x00\x07|l\x00{3}\x07|L\x00{7}\x07)learner[\{N]",  # UBJSON
    rb"binf|bs64|CONFIG-offset:",  # the binary format of 1.x and before, which is refused with what to do
    rb".{136}[\x00-\x20]\x00{7}(?:reg|binary|multi|count|rank|survival):",
)
_HEAD = re.compile(b"|".join(_HEADS), re.DOTALL)


def recognises(source: Source) -> bool:
    """Whether `source` is a file that `Booster.save_model` or `save_raw` wrote, or a Booster or wrapper in memory."""
    return "xgboost" in source.frameworks or _HEAD.match(source.head) is not None


def read(source: Source, options: Options) -> Converted:
    """The model as ONNX: see `reader.read`."""
    from sardonyx.convert.xgboost import reader

    return reader.read(source, options)


def operators() -> list[str]:
    """The objectives that can be converted, and the boosters."""
    from sardonyx.convert.xgboost.reader import OBJECTIVES

    return [*sorted(OBJECTIVES), "gbtree", "dart", "gblinear"]
