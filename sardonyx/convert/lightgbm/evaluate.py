"""A LightGBM model evaluated in float64, by its own tables: what conversions are compared with where LightGBM is not
installed. It follows `Tree::Predict` in LightGBM's tree.h, and shares nothing with how the ONNX is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sardonyx.convert.base import Array, Values
from sardonyx.convert.lightgbm.source import Booster, Tree


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The model, for the input called `input_name`."""

    model: Booster
    input_name: str

    @property
    def name(self) -> str:
        """What this is."""
        return "float64 evaluation of the source's trees"

    def run(self, inputs: Values) -> Values:
        """The outputs that the model has, and the layer "score"."""
        x = np.asarray(inputs[self.input_name]).astype(np.float64)
        x = np.where(np.abs(x) <= np.float32(1e-35), 0.0, x)  # as LightGBM takes rows
        model = self.model
        score = np.zeros((len(x), model.outputs))
        for number, tree in enumerate(model.trees):
            score[:, number % model.outputs] += _values(tree, x)
        if model.average:
            score /= len(model.trees) / model.outputs
        return {"score": score, **outcomes(model, _predict(model, score))}


def _values(tree: Tree, x: Array) -> Array:
    leaf = np.full(len(x), -1, np.int64) if not len(tree.feature) else _descend(tree, x)
    values = tree.leaves[~leaf].copy()
    if tree.linear is not None:
        for one in np.unique(~leaf).tolist():
            rows = np.flatnonzero(~leaf == one)
            part = slice(tree.linear.starts[one], tree.linear.starts[one + 1])
            given = x[np.ix_(rows, tree.linear.features[part])]
            known = ~np.isnan(given).any(axis=1)
            values[rows[known]] = tree.linear.const[one] + given[known] @ tree.linear.coefficients[part]
    return values


def _descend(tree: Tree, x: Array) -> Array:
    """The child below 0 that each row comes to."""
    at = np.zeros(len(x), np.int64)
    while (moving := at >= 0).any():
        for node in np.unique(at[moving]).tolist():
            rows = np.flatnonzero(at == node)
            value = x[rows, tree.feature[node]]
            if node in tree.categories:
                usable = np.abs(np.nan_to_num(value, nan=np.inf, posinf=np.inf)) < 2**31
                code = np.where(usable, value, -1).astype(np.int64)  # towards zero
                left = (code >= 0) & np.isin(code, tree.categories[node])
            else:
                kind = tree.missing[node]
                value = value if kind == 2 else np.where(np.isnan(value), 0.0, value)
                gone = np.isnan(value) if kind == 2 else (np.abs(value) <= np.float32(1e-35)) & (kind == 1)
                left = np.where(gone, tree.default_left[node], value <= tree.threshold[node])
            at[rows] = np.where(left, tree.left[node], tree.right[node])
    return at


def _predict(model: Booster, score: Array) -> Array:
    steepness = float(model.parameters.get("sigmoid", "1"))
    match model.objective:
        case "multiclass":
            powers = np.exp(score - score.max(axis=1, keepdims=True))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))
        case "binary" | "multiclassova" | "cross_entropy":
            return np.asarray(1 / (1 + np.exp(-steepness * score)))
        case "cross_entropy_lambda":
            return np.asarray(np.logaddexp(0, score))
        case "poisson" | "gamma" | "tweedie":
            return np.asarray(np.exp(score))
        case "huber":
            return score
        case _:
            return np.asarray(np.sign(score) * score**2) if "sqrt" in model.parameters else score


def outcomes(model: Booster, prediction: Array) -> dict[str, Array]:
    """The model's outputs by name, from predictions [batch, outputs], as the scikit-learn wrapper says."""
    if model.objective in ("multiclass", "multiclassova"):
        label, probabilities = prediction.argmax(axis=1), prediction
    elif model.objective == "binary" or (model.is_classifier and model.objective is not None):
        probabilities = np.concatenate([1 - prediction, prediction], axis=1)
        label = probabilities.argmax(axis=1)
    else:
        return {"variable": prediction}
    if model.labels is not None and len(model.labels) == probabilities.shape[1]:
        label = np.array(model.labels, object if isinstance(model.labels[0], str) else np.int64)[label]
    return {"label": label, "probabilities": probabilities}
