"""What an XGBoost model says, from its JSON or UBJSON: `doc/model.schema` of XGBoost, 1.0 to 3.2.

What changed between versions: `base_score` became a list (3.1), leaves of trees with several outputs got a list of
their own (3.1), `iteration_indptr` came (1.6), directions were booleans (1.x), dart keeps its trees one level deeper.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sardonyx.convert.base import Array, Source
from sardonyx.convert.trees import MOST_FEATURES
from sardonyx.convert.xgboost import ubjson
from sardonyx.errors import ConversionError, ModelFileError

MOST_GROUPS = 1 << 20


@dataclass(frozen=True, eq=False)
class Tree:
    """Node i is a leaf if `left[i]` is -1. Else rows go left where the feature is below the condition, or, at nodes in
    `categories`, where its category is not among those; rows without the feature go left where `default_left` says.

    `values` are leaves' values by node, [nodes, outputs]; `group` is the output of a tree that has but one.
    """

    left: Array
    right: Array
    feature: Array
    condition: Array
    default_left: Array
    categories: Mapping[int, tuple[int, ...]]
    values: Array
    group: int
    weight: float


@dataclass(frozen=True, eq=False)
class Booster:
    """A model. `base` are the outputs' base scores as the user knows them, before the objective's link function."""

    version: str
    kind: str
    objective: str
    features: int
    groups: int
    base: Array
    trees: tuple[Tree, ...]
    linear: Array | None
    iterations: tuple[int, ...]
    best_iteration: int | None
    estimator: str | None
    feature_names: tuple[str, ...]
    attributes: Mapping[str, str]
    missing: float | None = None
    """A number that stands for a missing value as NaN does: wrappers in memory may have one."""


def load(source: Source) -> Booster:
    """The model of a file or of a Booster or scikit-learn wrapper in memory.

    Raises ModelFileError for damaged files, ConversionError for formats and models that cannot be read.
    """
    where = source.where
    if source.path is None:
        model = source.object
        booster = model.get_booster() if hasattr(model, "get_booster") else model
        parsed = ubjson.parse(bytes(booster.save_raw("ubj")), where)
        missing = getattr(model, "missing", None)
        given = float(missing) if isinstance(missing, int | float | np.number) and not np.isnan(missing) else None
        return replace(_Parser(where).booster(parsed, _estimator(model)), missing=given)
    if not re.match(rb"\s*\{", source.head):
        raise ConversionError(
            "the binary format of XGBoost before 2.0 is not supported",
            where=where,
            expected="JSON or UBJSON",
            fix="load it in XGBoost 1.x or 2.x and save it again with booster.save_model('model.json')",
        )
    try:
        data = source.file().read_bytes()
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=where, got=error.strerror) from error
    return _Parser(where).booster(_json(data, where) if re.match(rb'\s*\{\s*"', data) else ubjson.parse(data, where))


def _estimator(model: Any) -> str:
    """What wrappers write into a file's attribute `scikit_learn`, and "booster" for a plain one."""
    kind = getattr(model, "_estimator_type", None)
    if hasattr(model, "get_booster"):
        name = type(model).__name__.lower()
        return str(kind or next((k for k in ("classifier", "ranker") if k in name), "regressor"))
    return "booster"


def _json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            "the JSON is damaged", where=where, got=str(error)[:200], fix="fetch or save the file again"
        ) from error


class _Parser:
    def __init__(self, where: str) -> None:
        self._where = where

    def booster(self, document: Any, estimator: str | None = None) -> Booster:
        learner = self._part(document, "learner")
        parameters = self._part(learner, "learner_model_param")
        features, classes = self._integer(parameters, "num_feature"), self._integer(parameters, "num_class", 0)
        groups = max(classes, self._integer(parameters, "num_target", 1), 1)
        if not (0 <= features <= MOST_FEATURES and groups <= MOST_GROUPS):
            raise self._wrong("numbers of features or outputs that cannot be", f"{features:,} and {groups:,}")
        given = learner.get("attributes")
        attributes = {str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {}
        booster = self._part(learner, "gradient_booster")
        kind = str(booster.get("name"))
        trees: tuple[Tree, ...] = ()
        linear: Array | None = None
        iterations: tuple[int, ...] = (0,)
        if kind == "gblinear":
            linear = self._linear(self._part(booster, "model"), features, groups)
        elif kind in ("gbtree", "dart"):
            inner = self._part(booster, "gbtree") if kind == "dart" else booster
            drop = self._array(booster, "weight_drop", np.float32) if kind == "dart" else None
            trees, iterations = self._trees(self._part(inner, "model"), groups, drop)
        else:
            raise ConversionError(
                "an unknown booster", where=self._where, expected="gbtree, dart or gblinear", got=kind[:40]
            )
        version = self._array(document, "version", np.int64).tolist() if "version" in document else []
        return Booster(
            ".".join(map(str, version[:3])) or "of an unknown version",
            kind, str(self._part(learner, "objective").get("name")), features, groups, self._base(parameters, groups),
            trees, linear, iterations, self._best(attributes), estimator or self._saved_estimator(attributes),
            self._names(learner), attributes,
        )  # fmt: skip

    # ---- parameters

    def _names(self, learner: Mapping[str, Any]) -> tuple[str, ...]:
        names = learner.get("feature_names")
        return tuple(str(name) for name in names) if isinstance(names, list) else ()

    def _saved_estimator(self, attributes: Mapping[str, str]) -> str | None:
        try:
            kind = json.loads(attributes["scikit_learn"])["_estimator_type"]
        except (KeyError, ValueError, TypeError, RecursionError):
            return None
        return str(kind)

    def _best(self, attributes: Mapping[str, str]) -> int | None:
        text = attributes.get("best_iteration")
        return int(text) if text is not None and re.fullmatch(r"\d{1,9}", text) else None

    def _base(self, parameters: Mapping[str, Any], groups: int) -> Array:
        text = str(parameters.get("base_score", "0.5"))
        try:
            values = np.array([float(part) for part in text.strip("[] ").split(",") if part.strip()], np.float64)
        except ValueError:
            raise self._wrong("base_score is no number", text[:80]) from None
        if len(values) not in (1, groups) or not np.isfinite(values).all():
            raise self._wrong(f"base_score has not one number for each of {groups} outputs", text[:80])
        # It is a float32 in XGBoost.
        return np.broadcast_to(values.astype(np.float32).astype(np.float64), (groups,)).copy()

    # ---- boosters

    def _linear(self, model: Mapping[str, Any], features: int, groups: int) -> Array:
        weights = self._array(model, "weights", np.float32)
        if len(weights) != (features + 1) * groups:
            raise self._wrong("weights of another number", str(len(weights)), str((features + 1) * groups))
        return weights.reshape(features + 1, groups)

    def _trees(
        self, model: Mapping[str, Any], groups: int, drop: Array | None
    ) -> tuple[tuple[Tree, ...], tuple[int, ...]]:
        listed = model.get("trees")
        info = self._array(model, "tree_info", np.int64)
        if not isinstance(listed, list) or len(listed) != len(info) or (drop is not None and len(drop) != len(info)):
            raise self._wrong("trees, tree_info and weight_drop do not fit each other")
        weights = drop if drop is not None else np.ones(len(info), np.float32)
        trees = tuple(
            self._tree(tree, groups, int(group), float(weight), number)
            for number, (tree, group, weight) in enumerate(zip(listed, info, weights, strict=True))
        )
        return trees, self._iterations(model, trees, groups)

    def _iterations(self, model: Mapping[str, Any], trees: tuple[Tree, ...], groups: int) -> tuple[int, ...]:
        """Where each boosting round's trees begin, and where the last one's end."""
        if "iteration_indptr" in model:
            starts = self._array(model, "iteration_indptr", np.int64)
            if len(starts) and (starts[0] != 0 or starts[-1] != len(trees) or (np.diff(starts) < 0).any()):
                raise self._wrong("iteration_indptr does not fit the trees")
            return tuple(starts.tolist()) or (0,)
        per_tree = groups if trees and trees[0].values.shape[1] == 1 else 1
        parallel = self._integer(self._part(model, "gbtree_model_param"), "num_parallel_tree", 1)
        step = max(parallel, 1) * per_tree
        return (*range(0, len(trees), step), len(trees))

    def _tree(self, tree: Any, groups: int, group: int, weight: float, number: int) -> Tree:
        if not isinstance(tree, dict):
            raise self._wrong("a tree is no object")
        left, right = self._array(tree, "left_children", np.int64), self._array(tree, "right_children", np.int64)
        feature = self._array(tree, "split_indices", np.int64)
        condition = self._array(tree, "split_conditions", np.float32)
        default_left = self._array(tree, "default_left", np.int64) != 0
        count = len(left)
        if not count or {len(right), len(feature), len(condition), len(default_left)} != {count}:
            raise self._wrong(f"the arrays of tree {number} have different lengths")
        outputs = self._integer(self._part(tree, "tree_param"), "size_leaf_vector", 1)
        leaf = left == -1
        if outputs <= 1:
            values = condition[:, None]
            if not 0 <= group < groups:
                raise self._wrong(f"tree {number} belongs to an output that there is not", str(group))
        elif outputs == groups:
            values = self._vectors(tree, outputs, leaf, right, number)
        else:
            raise self._wrong(f"tree {number} has leaves of another number of outputs", str(outputs), str(groups))
        categories = self._categories(tree, count, number)
        return Tree(left, right, feature, condition, default_left, categories, values, group, weight)

    def _vectors(self, tree: Mapping[str, Any], outputs: int, leaf: Array, right: Array, number: int) -> Array:
        """Values of leaves with several outputs: a list of leaves, named by their right child; or, before 3.1, the
        weights of all nodes."""
        if "leaf_weights" not in tree:
            values = self._array(tree, "base_weights", np.float32)
            if len(values) != len(leaf) * outputs:
                raise self._wrong(f"base_weights of tree {number} has another length", str(len(values)))
            return values.reshape(len(leaf), outputs)
        stored = self._array(tree, "leaf_weights", np.float32)
        at = np.where(leaf, right, 0)
        count = len(stored) // outputs
        if len(stored) % outputs or leaf.sum() > count or (leaf & ((right < 0) | (right >= count))).any():
            raise self._wrong(f"leaf_weights of tree {number} does not fit its leaves")
        return stored.reshape(-1, outputs)[at]

    def _categories(self, tree: Mapping[str, Any], count: int, number: int) -> dict[int, tuple[int, ...]]:
        kinds = self._array(tree, "split_type", np.int64) if "split_type" in tree else np.zeros(count, np.int64)
        if not kinds.any():
            return {}
        names = ("categories_nodes", "categories_segments", "categories_sizes", "categories")
        nodes, starts, sizes, values = (self._array(tree, name, np.int64) for name in names)
        ends = starts + sizes
        if not len(nodes) == len(starts) == len(sizes) or len(kinds) != count or not set(kinds.tolist()) <= {0, 1}:
            raise self._wrong(f"the categories of tree {number} do not fit its nodes")
        if len(nodes) and (
            starts.min() < 0 or sizes.min() < 0 or ends.max() > len(values) or sizes.sum() > len(values)
        ):
            raise self._wrong(f"the categories of tree {number} lie outside their list")
        if len(values) and not 0 <= values.min() <= values.max() < 1 << 24:
            raise self._wrong(f"tree {number} has categories that cannot be")
        listed = values.tolist()
        found = {
            node: tuple(sorted(set(listed[start:end])))
            for node, start, end in zip(nodes.tolist(), starts.tolist(), ends.tolist(), strict=True)
        }
        if set(found) != set(np.flatnonzero(kinds).tolist()):
            raise self._wrong(f"tree {number} has categorical nodes without categories")
        return found

    # ---- fields

    def _part(self, owner: Any, name: str) -> dict[str, Any]:
        part = owner.get(name) if isinstance(owner, dict) else None
        if not isinstance(part, dict):
            raise self._wrong(f"there is no {name!r}")
        return part

    def _integer(self, owner: Mapping[str, Any], name: str, default: int | None = None) -> int:
        value = owner.get(name, default)
        if not re.fullmatch(r"-?\d{1,18}", str(value)):
            raise self._wrong(f"{name!r} is no whole number", str(value)[:40])
        return int(str(value))

    def _array(self, owner: Mapping[str, Any], name: str, dtype: Any) -> Array:
        try:
            found = np.asarray(owner[name])
            if found.ndim != 1 or (len(found) and found.dtype.kind not in "biuf"):
                raise ValueError("not a list of numbers")
            if np.dtype(dtype).kind == "i" and found.dtype.kind == "f" and len(found):
                raise ValueError("not whole numbers")
            with np.errstate(over="ignore"):
                return found.astype(dtype)
        except KeyError:
            raise self._wrong(f"there is no {name!r}") from None
        except (ValueError, TypeError, OverflowError) as error:
            raise self._wrong(f"{name!r} is no list of numbers", str(error)[:80]) from None

    def _wrong(self, what: str, got: str | None = None, expected: str | None = None) -> ModelFileError:
        return ModelFileError(
            f"this is no model as XGBoost writes it: {what}", where=self._where, expected=expected, got=got,
            fix="save it again with booster.save_model('model.json')",
        )  # fmt: skip
