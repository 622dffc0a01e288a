"""An XGBoost model evaluated in float64, row by row of its own tables: what conversions are compared with where
XGBoost is not installed. It follows XGBoost's predictor, and shares nothing with how the ONNX is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sardonyx.convert.base import Array, Values
from sardonyx.convert.xgboost.source import Booster, Tree


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The first `used` trees of the model (all of a linear one), for the input called `input_name`."""

    model: Booster
    used: int
    input_name: str

    @property
    def name(self) -> str:
        """What this is."""
        return "float64 evaluation of the source's trees"

    def run(self, inputs: Values) -> Values:
        """The outputs that the model has, and the layer "margin"."""
        x = np.asarray(inputs[self.input_name])
        if self.model.missing is not None:
            x = np.where(x == np.float32(self.model.missing), np.nan, x)
        margin = self._margin(x)
        return {"margin": margin, **outcomes(self.model, margin, predict(self.model.objective, margin))}

    def _margin(self, x: Array) -> Array:
        model = self.model
        result = np.tile(_base(model), (len(x), 1))
        if model.linear is not None:
            known = np.where(np.isnan(x), 0.0, x.astype(np.float64))
            return np.asarray(
                result + np.einsum("nf,fg->ng", known, model.linear[:-1].astype(np.float64)) + model.linear[-1]
            )
        for tree in model.trees[: self.used]:
            reached = tree.values[_leaves(tree, x)].astype(np.float64) * tree.weight
            if reached.shape[1] > 1:
                result += reached
            else:
                result[:, tree.group] += reached[:, 0]
        return result


def _base(model: Booster) -> Array:
    kind = model.objective.partition(":")[2]
    base = model.base[:1] if model.linear is not None else model.base
    base = np.broadcast_to(base, (model.groups,))
    if kind == "logistic":
        inside = np.minimum(np.maximum(base, 1e-6), 1 - 1e-6)
        return np.asarray(np.log(inside) - np.log1p(-inside))
    if kind in ("gamma", "tweedie", "poisson", "cox", "aft"):
        return np.asarray(np.log(base))
    return base


def _leaves(tree: Tree, x: Array) -> Array:
    """The leaf that each row comes to, each step of all rows at once."""
    at = np.zeros(len(x), np.int64)
    while (moving := tree.left[at] != -1).any():
        rows = np.flatnonzero(moving)
        node = at[rows]
        value = x[rows, tree.feature[node]]
        left = value < tree.condition[node]
        for special in set(node.tolist()) & tree.categories.keys() if tree.categories else ():
            here = node == special
            with np.errstate(invalid="ignore"):
                code = np.where(np.isfinite(value), value, -1)
            chosen = np.isin(np.trunc(code), tree.categories[special]) & (code >= 0)
            left[here] = ~chosen[here]
        left = np.where(np.isnan(value), tree.default_left[node], left)
        at[rows] = np.where(left, tree.left[node], tree.right[node])
    return at


def predict(objective: str, margin: Array) -> Array:
    """What XGBoost's `predict` makes of margins; class probabilities for multi:softmax."""
    if objective.startswith("multi:"):
        powers = np.exp(margin - margin.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    if objective in ("binary:logistic", "reg:logistic"):
        return np.asarray(1 / (1 + np.exp(-margin)))
    if objective == "binary:hinge":
        return (margin > 0).astype(np.float64)
    if objective in ("reg:gamma", "reg:tweedie", "count:poisson", "survival:cox", "survival:aft"):
        return np.asarray(np.exp(margin))
    return margin


def outcomes(model: Booster, margin: Array, prediction: Array) -> dict[str, Array]:
    """The model's outputs by name, as the scikit-learn wrappers say; predictions are [batch, outputs]."""
    family = model.objective.partition(":")[0]
    if model.estimator in ("regressor", "ranker") or family not in ("binary", "multi"):
        return {"variable": prediction}
    if family == "multi":
        decisive = margin if model.objective == "multi:softmax" else prediction
        return {"label": decisive.argmax(axis=1), "probabilities": prediction}
    label = (prediction > 0.5).astype(np.int64)
    if model.groups > 1:
        return {"label": label, "probabilities": prediction}
    return {"label": label[:, 0], "probabilities": np.concatenate([1 - prediction, prediction], axis=1)}
