"""LightGBM itself, where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.base import Oracle, Source, Values
from sardonyx.convert.lightgbm import evaluate
from sardonyx.convert.lightgbm.source import Booster


@dataclass(frozen=True, eq=False)
class _Library:
    lightgbm: Any
    booster: Any
    model: Booster
    input_name: str

    @property
    def name(self) -> str:
        return f"lightgbm {self.lightgbm.__version__}"

    def run(self, inputs: Values) -> Values:
        rows = np.asarray(inputs[self.input_name], np.float32)
        shape = (-1, self.model.outputs)
        score = self.booster.predict(rows, raw_score=True).reshape(shape)
        if self.model.average:  # which raw scores are not yet
            score = score / (len(self.model.trees) / self.model.outputs)
        return {"score": score, **evaluate.outcomes(self.model, self.booster.predict(rows).reshape(shape))}


def library(source: Source, model: Booster, input_name: str) -> Oracle | None:
    """LightGBM with the source loaded; None where it is not installed."""
    if importlib.util.find_spec("lightgbm") is None:
        return None
    lightgbm = importlib.import_module("lightgbm")
    if source.path is None:
        booster = getattr(source.object, "booster_", source.object)
    else:
        booster = lightgbm.Booster(model_str=source.path.read_text())
    return _Library(lightgbm, booster, model, input_name)
