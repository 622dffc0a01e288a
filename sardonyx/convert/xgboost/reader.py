"""XGBoost models as ONNX.

One input `X`, float32 [batch, features], NaN where a feature is missing (or the number that a wrapper has for it);
categories are their codes. Classifiers have
the outputs `label`, int64 [batch], and `probabilities`, float32 [batch, classes] (both [batch, labels] where there
are several labels); all others have `variable`, float32 [batch, outputs]. XGBoost compares and adds in float32, so do
the trees.

What the scikit-learn wrappers and their files predict is what their `predict` and `predict_proba` say: the rounds up
to the best one where training stopped early. A plain Booster predicts with all rounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sardonyx.convert import trees
from sardonyx.convert.base import Array, Converted, Options, Oracle, Source, Values
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.trees import Columns, Forest, Membership
from sardonyx.convert.xgboost.source import Booster, Tree, load
from sardonyx.errors import ConversionError

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64


@dataclass(frozen=True)
class Objective:
    """What an objective makes of margins. `link` tells how the base score becomes a margin: as it is, as a logarithm,
    as a logit. `transform` is what predictions are of margins; `decides` is where the second class begins in terms of
    the prediction, or "argmax", or None for what is no classifier."""

    link: str = "identity"
    transform: str = "identity"
    decides: float | str | None = None


OBJECTIVES: dict[str, Objective] = {
    **dict.fromkeys(
        (
            "reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
            "reg:quantileerror", "rank:pairwise", "rank:ndcg", "rank:map",
        ),
        Objective(),
    ),
    **dict.fromkeys(
        ("reg:gamma", "reg:tweedie", "count:poisson", "survival:cox", "survival:aft"), Objective("log", "exp")
    ),
    "reg:logistic": Objective("logit", "sigmoid"),
    "binary:logistic": Objective("logit", "sigmoid", 0.5),
    "binary:logitraw": Objective("identity", "identity", 0.5),
    "binary:hinge": Objective("identity", "step", 0.5),
    "multi:softprob": Objective("identity", "softmax", "argmax"),
    "multi:softmax": Objective("identity", "softmax", "argmax"),
}  # fmt: skip
"""By XGBoost's names; `src/objective/*.cu`: ProbToMargin and PredTransform."""


def read(source: Source, options: Options) -> Converted:
    """The model of an XGBoost file or object.

    Raises ModelFileError for damaged files, ConversionError for objectives and formats that are not supported.
    """
    model = load(source)
    objective = _objective(model, source.where)
    used, notes = chosen(model)
    name = options.inputs[0] if options.inputs else "X"
    builder = GraphBuilder(source.stem)
    rows = builder.input(name, FLOAT, [options.batch, model.features])
    if model.missing is not None:
        number = builder.initializer("missing/number", np.array(model.missing, np.float32))
        is_missing = builder.node("Equal", [rows, number], name="missing/is")
        nan = builder.initializer("missing/nan", np.array(np.nan, np.float32))
        rows = builder.node("Where", [is_missing, nan, rows], name="missing/as_nan")
    base = margins(model, objective, source.where)
    if model.linear is not None:
        margin = _linear(builder, rows, model.linear, base)
        made = trees.inputs_for(name, model.features, _no_splits(), {})
    else:
        margin, made = _forest(builder, rows, model, used, base, source.where, name)
    trees.declared(margin, FLOAT, [options.batch, model.groups])
    outputs = _outputs(builder, margin, model, objective, options.batch)
    metadata = {"framework": f"xgboost {model.version}", "objective": model.objective}
    if model.feature_names:
        metadata["feature_names"] = ",".join(model.feature_names)

    def library() -> Oracle | None:
        from sardonyx.convert.xgboost import oracle

        return oracle.library(source, model, used, name)

    def evaluation() -> Oracle:
        from sardonyx.convert.xgboost import evaluate

        return evaluate.Evaluation(model, used, name)

    return Converted(
        builder.model(outputs), f"XGBoost {model.version}", oracles=(library, evaluation),
        layers={margin.name or "": "margin"}, make_inputs=made, metadata=metadata, notes=notes,
    )  # fmt: skip


def chosen(model: Booster) -> tuple[int, tuple[str, ...]]:
    """How many of the trees are used, and what the user is told about it."""
    best = model.best_iteration
    if best is None or model.linear is not None or best + 1 >= len(model.iterations) - 1:
        return len(model.trees), ()
    if model.estimator in ("classifier", "regressor", "ranker"):
        return model.iterations[best + 1], (f"training stopped early: {best + 1} rounds are used, up to the best",)
    return len(model.trees), (
        f"the best round was {best}; all are used, as Booster.predict does; booster[: {best + 1}] drops the others",
    )


def _objective(model: Booster, where: str) -> Objective:
    found = OBJECTIVES.get(model.objective)
    if found is None:
        raise ConversionError(
            "the objective is not known", where=where, got=model.objective[:60],
            expected=", ".join(OBJECTIVES), fix="set one of these before saving: its outputs are margins transformed",
        )  # fmt: skip
    if model.objective == "binary:logitraw" and re.match(r"0\.|1\.[0-6]\.", model.version):
        raise ConversionError(
            "what its base score means changed before XGBoost 1.7", where=where, got=f"a model of {model.version}",
            fix="train it with a newer XGBoost, or with the objective binary:logistic",
        )  # fmt: skip
    return found


def margins(model: Booster, objective: Objective, where: str) -> Array:
    """Base scores as margins, float64 [outputs]."""
    # A linear booster takes the first for all outputs (XGBoost 3.2, gblinear.cc: PredictBatchInternal).
    base = model.base if model.linear is None else np.full_like(model.base, model.base[0])
    if objective.link == "identity":
        return base
    if objective.link == "log":
        if (base <= 0).any():
            raise ConversionError("a base score must be above 0", where=where, got=str(base[:4]))
        return np.asarray(np.log(base))
    if ((base < 0) | (base > 1)).any():
        raise ConversionError("a base score must be a probability", where=where, got=str(base[:4]))
    bounded = np.clip(base, 1e-6, 1 - 1e-6)  # as XGBoost does from 3.1 on; before it took no 0 and no 1
    return np.asarray(-np.log(1 / bounded - 1))


# ---- boosters --------------------------------------------------------------------------------------------------------


def _linear(builder: GraphBuilder, rows: ir.Value, weights: Array, base: Array) -> ir.Value:
    """Missing features add nothing."""
    missing = builder.node("IsNaN", [rows], name="missing")
    known = builder.node("Where", [missing, builder.initializer("zero", np.array(0, np.float32)), rows], name="known")
    product = builder.node("MatMul", [known, builder.initializer("weights", weights[:-1].copy())], name="product")
    bias = builder.initializer("bias", (weights[-1] + base).astype(np.float32))
    return builder.node("Add", [product, bias], name="margin")


def _no_splits() -> tuple[Array, Array]:
    return np.zeros(0, np.int64), np.zeros(0, np.float32)


def _forest(
    builder: GraphBuilder, rows: ir.Value, model: Booster, used: int, base: Array, where: str, name: str
) -> tuple[ir.Value, Callable[[int, np.random.Generator], Values]]:
    """The margins of gbtree and dart, and what makes inputs that test them."""
    taken = model.trees[:used]
    sets = {
        (number, node): Membership(
            int(tree.feature[node]), np.array(categories, np.int64).tobytes(), not bool(tree.default_left[node])
        )
        for number, tree in enumerate(taken)
        for node, categories in tree.categories.items()
        if tree.left[node] != -1
    }
    columns = Columns.of(model.features, (), tuple(sets.values()))
    by_tree: dict[int, dict[int, int]] = {}
    for (number, node), member in sets.items():
        by_tree.setdefault(number, {})[node] = columns.memberships[member]
    forest = trees.joined([_tree(tree, by_tree.get(number, {})) for number, tree in enumerate(taken)])
    forest = forest.grown(where, columns.count, model.groups)
    numeric = forest.features < model.features
    bounds = {member.feature: member.largest for member in columns.memberships}
    made = trees.inputs_for(name, model.features, (forest.features[numeric], forest.splits[numeric]), bounds)
    total = trees.ensemble(builder, columns.write(builder, rows), forest, trees.LT, model.groups, "trees")
    start = builder.initializer("base_score", base.astype(np.float32))
    return builder.node("Add", [total, start], name="margin"), made


def _tree(tree: Tree, columns: dict[int, int]) -> Forest:
    """The tree, once for each output where its leaves are vectors. `columns` are those of its categorical nodes."""
    leaf = tree.left == -1
    nodes = np.flatnonzero(~leaf)
    number = np.where(leaf, ~(np.cumsum(leaf) - 1), np.cumsum(~leaf) - 1)
    features, splits = tree.feature.copy(), tree.condition.copy()
    for node, column in columns.items():  # 1 where the category is in the set, and so goes right
        features[node], splits[node] = column, 0.5

    def children(references: Array) -> Array:
        inside = (references >= 0) & (references < len(leaf))
        return np.where(inside, number[np.where(inside, references, 0)], len(leaf))[nodes]

    # XGBoost multiplies the leaves of dart in float32.
    values = tree.values[leaf].astype(np.float32) * np.float32(tree.weight)
    shape = (
        number[:1], features[nodes], splits[nodes], tree.default_left[nodes], children(tree.left), children(tree.right),
    )  # fmt: skip
    count = values.shape[1]
    targets = range(count) if count > 1 else (tree.group,)
    return trees.joined(
        [Forest(*shape, values[:, i], np.full(len(values), target, np.int64)) for i, target in enumerate(targets)]
    )


# ---- results ---------------------------------------------------------------------------------------------------------


def _outputs(
    builder: GraphBuilder, margin: ir.Value, model: Booster, objective: Objective, batch: int | str
) -> list[tuple[str, ir.Value]]:
    prediction = _transformed(builder, margin, objective.transform)
    if objective.decides is None or model.estimator in ("regressor", "ranker"):
        return [("variable", trees.declared(prediction, FLOAT, [batch, model.groups]))]
    classes = model.groups
    if objective.decides == "argmax":
        # The wrappers take the largest probability, multi:softmax the largest margin.
        scores = prediction if model.objective == "multi:softprob" else margin
        label = builder.node("ArgMax", [scores], name="label", axis=1, keepdims=0)
        probabilities = prediction
    elif model.groups > 1:  # several labels, each there or not
        limit = builder.initializer("threshold", np.array(objective.decides, np.float32))
        more = builder.node("Greater", [prediction, limit], name="is_there")
        label = builder.node("Cast", [more], name="label", to=INT64.value)
        probabilities = prediction
    else:
        assert isinstance(objective.decides, float)
        label = trees.above(builder, prediction, objective.decides)
        probabilities, classes = trees.pair(builder, prediction), 2
    several = model.groups > 1 and objective.decides != "argmax"
    trees.declared(label, INT64, [batch, model.groups] if several else [batch])
    return [("label", label), ("probabilities", trees.declared(probabilities, FLOAT, [batch, classes]))]


def _transformed(builder: GraphBuilder, margin: ir.Value, transform: str) -> ir.Value:
    if transform == "sigmoid":
        return builder.node("Sigmoid", [margin], name="prediction")
    if transform == "exp":
        return builder.node("Exp", [margin], name="prediction")
    if transform == "softmax":
        return builder.node("Softmax", [margin], name="prediction", axis=1)
    if transform == "step":
        zero = builder.initializer("zero", np.array(0, np.float32))
        more = builder.node("Greater", [margin, zero], name="is_above")
        return builder.node("Cast", [more], name="prediction", to=FLOAT.value)
    return margin
