"""CatBoost: .cbm files and live models, through CatBoost's own ONNX writer and with its wrong answers repaired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.convert.base import Source

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options


def recognises(source: Source) -> bool:
    """Whether `source` is a file that `save_model` wrote (.cbm), or a CatBoost model in memory."""
    return "catboost" in source.frameworks or source.head.startswith(b"CBM1")


def read(source: Source, options: Options) -> Converted:
    """The model as ONNX: see `reader.read`."""
    from sardonyx.convert.catboost import reader

    return reader.read(source, options)


def operators() -> list[str]:
    """The loss functions that can be converted."""
    from sardonyx.convert.catboost.reader import LOSSES

    return sorted(LOSSES)
