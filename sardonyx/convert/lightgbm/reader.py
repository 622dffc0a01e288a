"""LightGBM models as ONNX.

One input `X`, float32 [batch, features], NaN where a feature is missing; categories are their codes. Classifiers
(binary, multiclass, multiclassova) have the outputs `label`, int64 [batch] or strings, and `probabilities`, float32
[batch, classes]; all others have `variable`, float32 [batch, outputs].

LightGBM compares in float64: a float32 x goes left if x <= t, t of float64. ONNX compares x with the largest float32
that is not above t, which decides every float32 x in the same way. Sums are float32 here and float64 there; leaves
with linear models are computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sardonyx.convert import trees
from sardonyx.convert.base import Array, Converted, Options, Oracle, Source
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.lightgbm.source import NONE, ZERO, Booster, Tree, load
from sardonyx.convert.trees import Columns, Forest, Membership
from sardonyx.errors import ConversionError, ModelFileError

FLOAT, DOUBLE, INT64 = ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64
NEARLY_ZERO = float(np.float32(1e-35))
"""Numbers of at most this size are zero to LightGBM (`kZeroThreshold` in meta.h)."""


@dataclass(frozen=True)
class Objective:
    """What an objective makes of scores. `parameters` are those that its line in the file may have."""

    transform: str = "identity"
    parameters: tuple[str, ...] = ()


OBJECTIVES: dict[str, Objective] = {
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "mape"), Objective("identity", ("sqrt",))),
    "quantile": Objective("identity", ("sqrt", "alpha")),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), Objective("exp", ("sqrt",))),
    **dict.fromkeys(("lambdarank", "rank_xendcg"), Objective()),
    "binary": Objective("sigmoid", ("sigmoid",)),
    "cross_entropy": Objective("sigmoid"),
    "cross_entropy_lambda": Objective("softplus"),
    "multiclass": Objective("softmax", ("num_class",)),
    "multiclassova": Objective("sigmoid", ("num_class", "sigmoid")),
}
"""By LightGBM's names; `src/objective/*.hpp`: ConvertOutput."""
_SQUARED = ("regression", "regression_l1", "fair", "mape", "quantile")
"""Objectives that `reg_sqrt` turns to square roots; the others say that they do not take it."""


def read(source: Source, options: Options) -> Converted:
    """The model of a LightGBM file or object.

    Raises ModelFileError for damaged files, ConversionError for objectives that are not known.
    """
    model = load(source)
    transform, factor = _transform(model, source.where)
    name = options.inputs[0] if options.inputs else "X"
    builder = GraphBuilder(source.stem)
    rows = builder.input(name, FLOAT, [options.batch, model.features])
    columns, forests = _forests(model)
    forest = trees.joined(forests).grown(source.where, columns.count, model.outputs)
    at_columns = np.array([*range(model.features), *columns.zeros], np.int64)
    plain = forest.features < len(at_columns)
    made = trees.inputs_for(
        name, model.features, (at_columns[forest.features[plain]], forest.splits[plain]),
        {member.feature: member.largest for member in columns.memberships},
    )  # fmt: skip
    widened = columns.write(builder, rows)
    if any(tree.linear is not None for tree in model.trees):
        score = _linear(builder, rows, widened, model, forests, source.where)
    else:
        if model.average:
            forest = trees.scaled(forest, 1 / max(len(model.trees) // model.outputs, 1))
        score = trees.ensemble(builder, widened, forest, trees.LEQ, model.outputs, "score")
    trees.declared(score, FLOAT, [options.batch, model.outputs])
    outputs = _outputs(builder, score, model, transform, factor, options.batch)
    metadata = {"framework": "lightgbm", "objective": model.objective or "custom"}
    metadata |= {"feature_names": model.feature_names} if model.feature_names else {}
    metadata |= {"pandas_categorical": model.pandas_categories} if model.pandas_categories not in (None, "null") else {}

    def library() -> Oracle | None:
        from sardonyx.convert.lightgbm import oracle

        return oracle.library(source, model, name)

    def evaluation() -> Oracle:
        from sardonyx.convert.lightgbm import evaluate

        return evaluate.Evaluation(model, name)

    return Converted(
        builder.model(outputs), f"LightGBM text v{model.version}", oracles=(library, evaluation),
        layers={score.name or "": "score"}, make_inputs=made, metadata={k: v for k, v in metadata.items() if v},
    )  # fmt: skip


def _transform(model: Booster, where: str) -> tuple[str, float]:
    """The transform of scores, and the factor of a sigmoid."""
    if model.objective is None:
        return "identity", 1.0
    found = OBJECTIVES.get(model.objective)
    unknown = sorted(set(model.parameters) - set(found.parameters)) if found else []
    if found is None or unknown:
        raise ConversionError(
            f"{'parameters of' if unknown else ''} the objective are not known".strip(), where=where,
            expected=", ".join(OBJECTIVES), got=" ".join([model.objective[:40], *unknown])[:100],
        )  # fmt: skip
    factor = _number(model.parameters.get("sigmoid", "1"), where)
    if not factor > 0:
        raise ConversionError("the factor of the sigmoid must be above 0", where=where, got=str(factor))
    classes = model.parameters.get("num_class")
    if (classes is not None and classes != str(model.outputs)) or (found.transform == "softmax" and model.outputs < 2):
        raise ModelFileError("the objective has another number of classes", where=where, got=str(classes))
    if "sqrt" in model.parameters and model.objective in _SQUARED:
        return "square", factor
    return found.transform, factor


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ModelFileError("a parameter of the objective is no number", where=where, got=text[:40]) from None


# ---- trees -----------------------------------------------------------------------------------------------------------


def _forests(model: Booster) -> tuple[Columns, list[Forest]]:
    """The columns that the trees look at, and each tree."""
    members = [
        {
            node: Membership(int(tree.feature[node]), categories.astype(np.int64).tobytes(), negative=True)
            for node, categories in tree.categories.items()
        }
        for tree in model.trees
    ]
    zeros: dict[int, None] = {}
    for tree in model.trees:
        at = (tree.missing == ZERO) & ~np.isin(np.arange(len(tree.feature)), list(tree.categories))
        zeros.update(dict.fromkeys(tree.feature[at].tolist()))
    sets = [member for nodes in members for member in nodes.values()]
    columns = Columns.of(model.features, list(zeros), sets, NEARLY_ZERO)
    forests = [
        _tree(tree, {node: columns.memberships[member] for node, member in nodes.items()}, columns, i % model.outputs)
        for i, (tree, nodes) in enumerate(zip(model.trees, members, strict=True))
    ]
    return columns, forests


def _tree(tree: Tree, members: dict[int, int], columns: Columns, target: int) -> Forest:
    # What is nearly zero comes to the trees as zero (c_api.cpp, RowPairFunctionFromDenseMatric).
    near = np.abs(tree.threshold) <= NEARLY_ZERO
    beside = np.where(tree.threshold < 0, np.nextafter(np.float32(-NEARLY_ZERO), np.float32(-1)), NEARLY_ZERO)
    features, splits = tree.feature.copy(), trees.at_most(np.where(near, beside, tree.threshold))
    # Where NaN is no missing value, it is compared as 0.
    missing = np.where(tree.missing == NONE, tree.threshold >= 0, tree.default_left)
    true, false = tree.left.copy(), tree.right.copy()
    if columns.zeros:
        for node in np.flatnonzero(tree.missing == ZERO).tolist():
            features[node] = columns.zeros.get(int(features[node]), features[node])
    for node, column in members.items():  # those in the set have 1, and go left
        features[node], splits[node], missing[node] = column, 0.5, False
        true[node], false[node] = tree.right[node], tree.left[node]
    root = np.array([0 if len(features) else ~0], np.int64)
    targets = np.full(len(tree.leaves), target, np.int64)
    return Forest(root, features, splits, missing.astype(np.bool_), true, false, tree.leaves, targets)


def _linear(
    builder: GraphBuilder, rows: ir.Value, widened: ir.Value, model: Booster, forests: list[Forest], where: str
) -> ir.Value:
    """Scores where leaves have linear models: trees give the number of the leaf, tables what it says.

    A leaf of whose features one is NaN has its constant value instead.
    """
    count, outputs = len(forests), model.outputs
    indexed = [
        Forest(f.roots, f.features, f.splits, f.missing, f.true, f.false, np.arange(len(f.values)), f.targets * 0 + i)
        for i, f in enumerate(forests)
    ]
    found = trees.joined(indexed)
    leaf = trees.ensemble(builder, widened, found, trees.LEQ, count, "leaf")
    starts = np.cumsum([0, *(len(tree.leaves) for tree in model.trees)])
    const, plain, features, factors = _tables(model, where)
    at = builder.node("Cast", [leaf], name="leaf/local", to=INT64.value)
    at = builder.node("Add", [at, builder.initializer("leaf/starts", starts[:-1].astype(np.int64))], name="leaf/index")
    width = features.shape[1]

    def ints(name: str, *values: int) -> ir.Value:
        return builder.initializer(name, np.array(values, np.int64))

    def looked_up(name: str, table: Array) -> ir.Value:
        return builder.node("Gather", [builder.initializer(f"{name}/table", table), at], name=name, axis=0)

    padded = builder.node("Pad", [rows, ints("linear/pads", 0, 0, 0, 1)], name="linear/padded")  # a feature that is 0
    which = builder.node(
        "Reshape", [looked_up("linear/features", features), ints("linear/flat", -1, count * width)], name="linear/which"
    )
    taken = builder.node("GatherElements", [padded, which], name="linear/taken", axis=1)
    taken = builder.node("Reshape", [taken, ints("linear/deep", -1, count, width)], name="linear/values")
    unknown = builder.node("Cast", [builder.node("IsNaN", [taken], name="linear/nan")], name="linear/nans", to=1)
    last = ints("linear/last", 2)
    worst = builder.node("ReduceMax", [unknown, last], name="linear/worst", keepdims=0)
    half = builder.initializer("linear/half", np.array(0.5, np.float32))
    any_unknown = builder.node("Greater", [worst, half], name="linear/unknown")
    exact = builder.node("Cast", [taken], name="linear/exact", to=DOUBLE.value)
    product = builder.node("Mul", [exact, looked_up("linear/coefficients", factors)], name="linear/products")
    total = builder.node("ReduceSum", [product, last], name="linear/sum", keepdims=0)
    total = builder.node("Add", [total, looked_up("linear/const", const)], name="linear/result")
    value = builder.node("Where", [any_unknown, looked_up("linear/plain", plain), total], name="linear/leaf")
    value = builder.node(
        "Reshape", [value, ints("linear/rounds", -1, count // outputs, outputs)], name="linear/by_round"
    )
    value = builder.node("ReduceSum", [value, ints("linear/round", 1)], name="linear/score", keepdims=0)
    if model.average:
        rounds = builder.initializer("linear/count", np.array(count // outputs, np.float64))
        value = builder.node("Div", [value, rounds], name="linear/mean")
    return builder.node("Cast", [value], name="score", to=FLOAT.value)


def _tables(model: Booster, where: str) -> tuple[Array, Array, Array, Array]:
    """By leaf: constant, value where a feature is NaN, features (padded with one that is 0) and coefficients."""
    total = sum(len(tree.leaves) for tree in model.trees)
    width = max(int(np.diff(tree.linear.starts).max()) for tree in model.trees if tree.linear is not None)
    width = max(width, 1)
    if total * width > 1 << 28:
        raise ConversionError("linear models of leaves with too many features", where=where, got=f"{total * width:,}")
    plain = np.concatenate([tree.leaves for tree in model.trees])
    const, factors = plain.copy(), np.zeros((total, width))
    features = np.full((total, width), model.features, np.int64)
    start = 0
    for tree in model.trees:
        count = len(tree.leaves)
        if tree.linear is not None:
            sizes = np.diff(tree.linear.starts)
            leaf = np.repeat(np.arange(count), sizes)
            place = np.arange(len(leaf)) - tree.linear.starts[leaf]
            if ((tree.linear.features < 0) | (tree.linear.features >= model.features)).any():
                raise ModelFileError("a leaf's linear model has a feature that there is not", where=where)
            const[start : start + count] = tree.linear.const
            features[start + leaf, place], factors[start + leaf, place] = tree.linear.features, tree.linear.coefficients
        start += count
    return const, plain, features, factors


# ---- results ---------------------------------------------------------------------------------------------------------


def _outputs(
    builder: GraphBuilder, score: ir.Value, model: Booster, transform: str, factor: float, batch: int | str
) -> list[tuple[str, ir.Value]]:
    prediction = _transformed(builder, score, transform, factor)
    several = model.objective in ("multiclass", "multiclassova")
    if not several and model.objective != "binary" and not (model.is_classifier and model.objective is not None):
        return [("variable", trees.declared(prediction, FLOAT, [batch, model.outputs]))]
    classes = model.outputs if several else 2
    if several:
        index = builder.node("ArgMax", [_decisive(builder, score, model, factor)], name="index", axis=1, keepdims=0)
        probabilities = prediction
    else:
        binary = model.objective == "binary"
        index = trees.above(builder, score if binary else prediction, 0.0 if binary else 0.5)
        probabilities = trees.pair(builder, prediction)
    labels = model.labels if model.labels is not None and len(model.labels) == classes else None
    label = trees.labelled(builder, index, labels)
    kind = ir.DataType.STRING if labels and isinstance(labels[0], str) else INT64
    return [
        ("label", trees.declared(label, kind, [batch])),
        ("probabilities", trees.declared(probabilities, FLOAT, [batch, classes])),
    ]


def _decisive(builder: GraphBuilder, score: ir.Value, model: Booster, factor: float) -> ir.Value:
    """The class is where this is largest. Sigmoids of large scores are 1 in float64; LightGBM takes the first."""
    if model.objective != "multiclassova":
        return score
    exact = builder.node("Cast", [score], name="exact", to=DOUBLE.value)
    steep = builder.node("Mul", [exact, builder.initializer("exact/sigmoid", np.array(factor))], name="exact/steep")
    return builder.node("Sigmoid", [steep], name="exact/prediction")


def _transformed(builder: GraphBuilder, score: ir.Value, transform: str, factor: float) -> ir.Value:
    if transform == "sigmoid":
        if factor != 1:
            score = builder.node(
                "Mul", [score, builder.initializer("sigmoid", np.array(factor, np.float32))], name="steep"
            )
        return builder.node("Sigmoid", [score], name="prediction")
    if transform == "exp":
        return builder.node("Exp", [score], name="prediction")
    if transform == "softmax":
        return builder.node("Softmax", [score], name="prediction", axis=1)
    if transform == "softplus":
        return builder.node("Softplus", [score], name="prediction")
    if transform == "square":  # of a root, with its sign
        size = builder.node("Abs", [score], name="size")
        return builder.node("Mul", [score, size], name="prediction")
    return score
