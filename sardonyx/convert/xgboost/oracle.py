"""XGBoost itself, where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.base import Oracle, Source, Values
from sardonyx.convert.xgboost import evaluate
from sardonyx.convert.xgboost.source import Booster


@dataclass(frozen=True, eq=False)
class _Library:
    xgboost: Any
    booster: Any
    model: Booster
    rounds: int
    input_name: str

    @property
    def name(self) -> str:
        return f"xgboost {self.xgboost.__version__}"

    def run(self, inputs: Values) -> Values:
        missing = np.nan if self.model.missing is None else self.model.missing
        rows = self.xgboost.DMatrix(np.asarray(inputs[self.input_name], np.float32), missing=missing)
        chosen: dict[str, Any] = {"validate_features": False}
        if self.rounds:
            chosen["iteration_range"] = (0, self.rounds)
        shape = (-1, self.model.groups)
        margin = self.booster.predict(rows, output_margin=True, **chosen).reshape(shape)
        if self.model.objective == "multi:softmax":  # its predict says the class alone
            prediction = evaluate.predict(self.model.objective, margin.astype(np.float64))
        else:
            prediction = self.booster.predict(rows, **chosen).reshape(shape)
        return {"margin": margin, **evaluate.outcomes(self.model, margin, prediction)}


def library(source: Source, model: Booster, used: int, input_name: str) -> Oracle | None:
    """XGBoost with the source loaded; None where it is not installed."""
    if importlib.util.find_spec("xgboost") is None:
        return None
    xgboost = importlib.import_module("xgboost")
    if source.path is None:
        found = source.object
        booster = found.get_booster() if hasattr(found, "get_booster") else found
    else:
        booster = xgboost.Booster()
        booster.load_model(bytearray(source.path.read_bytes()))
    rounds = model.iterations.index(used) if used < len(model.trees) else 0
    return _Library(xgboost, booster, model, rounds, input_name)
