"""CatBoost models as ONNX, by CatBoost's own writer in a process of its own.

What it writes is taken apart and written again: its trees are right, but it calls every model with several outputs a
classifier with a softmax (MultiRMSE, MultiQuantile, MultiLogloss, MultiClassOneVsAll), leaves out the exponential of
Poisson and Tweedie, and gives probabilities as a list of dicts.

One input `X`, float32 [batch, features], NaN where a feature is missing. Classifiers have the outputs `label`, int64 or
strings [batch], and `probabilities`, float32 [batch, classes]; MultiLogloss and MultiCrossEntropy have both
[batch, labels]; all others have `variable`, float32 [batch, outputs], as the wrappers' `predict` says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from sardonyx.convert import trees
from sardonyx.convert.base import Array, Converted, Options, Source, Values
from sardonyx.convert.exporters import base
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.process import call
from sardonyx.convert.trees import Forest
from sardonyx.errors import ConversionError

FLOAT, INT64, STRING = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.STRING
DRIVER = "sardonyx.convert.catboost.driver"

LOSSES: dict[str, str] = {
    **dict.fromkeys(("Logloss", "CrossEntropy"), "binary"),
    "MultiClass": "softmax",
    "MultiClassOneVsAll": "one against all",
    **dict.fromkeys(("MultiLogloss", "MultiCrossEntropy"), "labels"),
    **dict.fromkeys(("Poisson", "Tweedie"), "exp"),
    **dict.fromkeys(
        (
            "RMSE", "MAE", "Quantile", "MultiQuantile", "LogLinQuantile", "MAPE", "Lq", "Huber", "Expectile", "LogCosh",
            "MultiRMSE", "MultiRMSEWithMissingValues", "YetiRank", "YetiRankPairwise", "PairLogit", "PairLogitPairwise",
            "QueryRMSE", "QuerySoftMax", "LambdaMart", "StochasticRank",
        ),
        "identity",
    ),
}  # fmt: skip
"""What CatBoost's `predict` and `predict_proba` make of scores, by loss function."""
_TYPES = {
    **dict.fromkeys(("binary", "softmax", "one against all", "labels"), ("Class", "Probability")),
    "exp": ("Exponent",),
    "identity": ("RawFormulaVal",),
}


def read(source: Source, options: Options) -> Converted:
    """The model of a .cbm file or of a CatBoost object in memory.

    Raises MissingExtraError without CatBoost, ModelFileError when it cannot load the file, ConversionError for models
    that it does not write as ONNX and for loss functions of which it is not known what they predict.
    """
    found = base.require(["catboost"], "classical", "reading CatBoost models")
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        told = _told(source, options, Path(folder))
        node = onnx.load(str(Path(folder) / "model.onnx")).graph.node[0]
    kind = LOSSES.get(told["loss"])
    if kind is None:
        raise ConversionError(
            "it is not known what this loss function predicts", where=source.where, got=str(told["loss"])[:60],
            expected=", ".join(LOSSES),
        )  # fmt: skip
    written = _Written({attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute})
    name = options.inputs[0] if options.inputs else "X"
    features = len(told["names"])
    forest = written.forest.grown(source.where, features, len(written.bias))
    builder = GraphBuilder(source.stem)
    rows = builder.input(name, FLOAT, [options.batch, features])
    score = trees.ensemble(builder, rows, forest, trees.LEQ, len(written.bias), "trees")
    score = builder.node("Add", [score, builder.initializer("bias", written.bias.astype(np.float32))], name="score")
    trees.declared(score, FLOAT, [options.batch, len(written.bias)])
    outputs = _outputs(builder, score, kind, told["labels"], len(written.bias), options.batch)
    oracle = _Library(source, kind, name, f"catboost {found['catboost']}", options.timeout)
    metadata = {"framework": f"catboost {found['catboost']}", "objective": told["loss"]}
    metadata["feature_names"] = ",".join(told["names"])
    return Converted(
        builder.model(outputs), "CatBoost", route=f"wrapped exporter ({base.described(found)})",
        oracles=(lambda: oracle,), metadata=metadata,
        make_inputs=trees.inputs_for(name, features, (forest.features, forest.splits), {}, missing=False),
    )  # fmt: skip


def _told(source: Source, options: Options, folder: Path) -> Any:
    """What the driver says of the model; it writes model.onnx to the folder."""
    path = _stored(source, folder)
    job = {"model": str(path), "onnx": str(folder / "model.onnx"), "where": source.where}
    return call(DRIVER, job, timeout=options.timeout, framework="catboost", doing="exporting the CatBoost model")[0]


def _stored(source: Source, folder: Path) -> Path:
    """The model as a file."""
    if source.path is not None:
        return source.path.absolute()
    path = folder / "model.cbm"
    source.object.save_model(str(path))
    return path


class _Written:
    """The trees in CatBoost's node: `nodes_*`, `class_*` or `target_*`, ids from 0 on in each tree."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        kind = "class" if "class_ids" in attributes else "target"
        tree, node = (np.array(attributes[f"nodes_{name}"], np.int64) for name in ("treeids", "nodeids"))
        _, first = np.unique(tree, return_index=True)
        start = dict(zip(tree[first].tolist(), first.tolist(), strict=True))
        offset = np.array([start[one] for one in tree.tolist()], np.int64)
        modes = np.array(attributes["nodes_modes"])
        leaf = modes == b"LEAF"
        if not (np.isin(modes, [b"LEAF", b"BRANCH_GT"]).all() and (node == np.arange(len(tree)) - offset).all()):
            raise ConversionError("CatBoost wrote trees in another form than is known", fix="report this version")
        ids = np.array(attributes[f"{kind}_ids"], np.int64)
        weights = np.array(attributes[f"{kind}_weights"], np.float32)
        at = np.array([start[one] for one in attributes[f"{kind}_treeids"]], np.int64)
        at += np.array(attributes[f"{kind}_nodeids"], np.int64)
        targets = int(ids.max()) + 1 if len(ids) else 1
        bias = np.array(attributes.get("base_values", np.zeros(targets)), np.float64)
        if attributes.get("post_transform") == b"LOGISTIC":  # the same score with both signs: the second class's counts
            keep = ids == 1
            ids, weights, at, bias, targets = ids[keep] - 1, weights[keep], at[keep], bias[1:], 1
        if len(bias) != targets:
            raise ConversionError("CatBoost wrote base values of another number than outputs")
        self.bias = bias
        self.forest = trees.joined(
            [self._tree(attributes, leaf, offset, start, at, (ids, weights), one) for one in range(targets)]
        )

    @staticmethod
    def _tree(
        attributes: Mapping[str, Any], leaf: Array, offset: Array, start: Mapping[int, int], at: Array,
        votes: tuple[Array, Array], target: int,
    ) -> Forest:  # fmt: skip
        """All trees with the leaves' values for one target."""
        chosen = votes[0] == target
        values = np.zeros(len(leaf), np.float32)
        values[at[chosen]] = votes[1][chosen]
        number = np.where(leaf, ~(np.cumsum(leaf) - 1), np.cumsum(~leaf) - 1)
        inner = np.flatnonzero(~leaf)
        above, below = (
            number[(np.array(attributes[f"nodes_{name}nodeids"], np.int64) + offset)[inner]]
            for name in ("true", "false")
        )
        # x > v is not (x <= v), also for where NaN goes.
        return Forest(
            number[list(start.values())],
            np.array(attributes["nodes_featureids"], np.int64)[inner],
            np.array(attributes["nodes_values"], np.float32)[inner],
            np.array(attributes["nodes_missing_value_tracks_true"], np.int64)[inner] == 0,
            below,
            above,
            values[leaf],
            np.full(int(leaf.sum()), target, np.int64),
        )


def _outputs(
    builder: GraphBuilder,
    score: ir.Value,
    kind: str,
    labels: list[int] | list[str] | None,
    count: int,
    batch: int | str,
) -> list[tuple[str, ir.Value]]:
    if kind in ("identity", "exp"):
        result = builder.node("Exp", [score], name="prediction") if kind == "exp" else score
        return [("variable", trees.declared(result, FLOAT, [batch, count]))]
    if kind == "softmax":
        probabilities = builder.node("Softmax", [score], name="prediction", axis=1)
    else:
        probabilities = builder.node("Sigmoid", [score], name="prediction")
    if kind == "labels":
        zero = builder.initializer("zero", np.array(0, np.float32))
        more = builder.node("Greater", [score, zero], name="is_there")
        label = builder.node("Cast", [more], name="label", to=INT64.value)
        return [
            ("label", trees.declared(label, INT64, [batch, count])),
            ("probabilities", trees.declared(probabilities, FLOAT, [batch, count])),
        ]
    if kind == "binary":
        index, probabilities, count = trees.above(builder, score, 0.0), trees.pair(builder, probabilities), 2
    else:
        index = builder.node("ArgMax", [score], name="index", axis=1, keepdims=0)
    label = trees.labelled(builder, index, labels)
    dtype = STRING if labels and isinstance(labels[0], str) else INT64
    return [
        ("label", trees.declared(label, dtype, [batch])),
        ("probabilities", trees.declared(probabilities, FLOAT, [batch, count])),
    ]


@dataclass(frozen=True)
class _Library:
    """CatBoost's own predictions."""

    source: Source
    kind: str
    input_name: str
    name: str
    timeout: float

    def run(self, inputs: Values) -> Values:
        rows = np.asarray(inputs[self.input_name], np.float32)
        with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
            path = _stored(self.source, Path(folder))
            job = {"model": str(path), "types": list(_TYPES[self.kind]), "where": self.source.where}
            _, found = call(
                DRIVER, job, {"X": rows}, timeout=self.timeout, framework="catboost", doing="predicting with CatBoost"
            )
        if len(found) == 1:
            return {"variable": next(iter(found.values())).reshape(len(rows), -1)}
        label = found["Class"]
        if self.kind == "labels":
            return {"label": label.astype(np.int64), "probabilities": found["Probability"]}
        return {"label": label.reshape(-1), "probabilities": found["Probability"]}
