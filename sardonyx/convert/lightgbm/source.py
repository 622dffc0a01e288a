"""What a LightGBM model says, from its text: `src/boosting/gbdt_model_text.cpp` and `src/io/tree.cpp`, versions 2 to 4.

A block of `key=value` lines for the model, one for each tree, then `end of trees`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.base import Array, Source
from sardonyx.convert.trees import MOST_FEATURES
from sardonyx.errors import ConversionError, ModelFileError

MOST_CLASSES = 1 << 20
MOST_WORDS = 1 << 16
"""Of 32 bits, in one set of categories."""
NONE, ZERO, NAN = range(3)
"""What is a missing value to a decision: nothing (NaN is 0), zero and NaN, or NaN."""


@dataclass(frozen=True, eq=False)
class Linear:
    """The linear models of a tree's leaves: leaf i is `const[i]` plus the sum of `coefficients[j]` times the feature
    `features[j]`, for j from `starts[i]` to `starts[i + 1]`."""

    const: Array
    starts: Array
    features: Array
    coefficients: Array


@dataclass(frozen=True, eq=False)
class Tree:
    """Decisions and leaves; a child below 0 is the leaf ~child. A tree of one leaf has no decisions.

    Rows go left where the feature is at most the threshold (float64), or its category in `categories` of the node.
    `missing` is NONE, ZERO or NAN; `default_left` is where missing values go. `leaves` are values, float64.
    """

    feature: Array
    threshold: Array
    missing: Array
    default_left: Array
    left: Array
    right: Array
    leaves: Array
    categories: Mapping[int, Array]
    linear: Linear | None


@dataclass(frozen=True, eq=False)
class Booster:
    """A model. `objective` is None for one of the user's own, `outputs` are the trees of an iteration. With `average`
    (random forests) scores are means over iterations. `labels` are those of a live classifier's classes."""

    version: str
    objective: str | None
    parameters: Mapping[str, str]
    features: int
    outputs: int
    average: bool
    trees: tuple[Tree, ...]
    feature_names: str
    pandas_categories: str | None
    is_classifier: bool = False
    labels: tuple[int, ...] | tuple[str, ...] | None = None


def load(source: Source) -> Booster:
    """The model of a file or of a Booster or scikit-learn wrapper in memory.

    Raises ModelFileError for damaged files, ConversionError for models that cannot be read.
    """
    if source.path is not None:
        try:
            data = source.path.read_bytes()
        except OSError as error:
            raise ModelFileError("the file cannot be read", where=source.where, got=error.strerror) from error
        try:
            return _Parser(source.where).booster(data.decode())
        except UnicodeDecodeError as error:
            raise ModelFileError("the text is not UTF-8", where=source.where, got=str(error)[:80]) from error
    model = source.object
    booster = getattr(model, "booster_", model)
    labels = getattr(model, "classes_", None)
    # Up to the best iteration, where there is one: the default of model_to_string as of predict.
    return _Parser(source.where).booster(booster.model_to_string(), labels)


def _labels(given: Any) -> tuple[int, ...] | tuple[str, ...] | None:
    if given is None:
        return None
    values = np.asarray(given).tolist()
    if all(isinstance(value, int | bool) or (isinstance(value, float) and value.is_integer()) for value in values):
        return tuple(int(value) for value in values)
    return tuple(str(value) for value in values)


class _Parser:
    def __init__(self, where: str) -> None:
        self._where = where

    def booster(self, text: str, labels: Any = None) -> Booster:
        body, end, rest = text.partition("end of trees")
        if not end:
            raise self._wrong("it has no end", fix="fetch or save the file again: a part is missing")
        parts = re.split(r"^Tree=\d+[ \r]*$", body, flags=re.MULTILINE)
        header = self._block(parts[0])
        version = header.get("version", "").lstrip("v")
        if version not in ("2", "3", "4"):
            raise ConversionError(
                "a version of LightGBM's text that is not supported", where=self._where,
                expected="v2, v3 or v4", got=version[:20], fix="load it in LightGBM 4 and save it again",
            )  # fmt: skip
        features = self._integer(header, "max_feature_idx") + 1
        outputs, classes = self._integer(header, "num_tree_per_iteration"), self._integer(header, "num_class")
        trees = tuple(self._tree(part, number) for number, part in enumerate(parts[1:]))
        if not (1 <= features <= MOST_FEATURES and 1 <= outputs <= MOST_CLASSES and classes in (1, outputs)):
            raise self._wrong(f"{features:,} features, {classes:,} classes, {outputs:,} trees an iteration")
        if len(trees) % outputs or ("tree_sizes" in header and len(header["tree_sizes"].split()) != len(trees)):
            raise self._wrong(f"{len(trees):,} trees are not as many as it says")
        words = header.get("objective", "").split()
        parameters = dict(word.partition(":")[::2] for word in words[1:])
        found = re.search(r"^pandas_categorical:(.*)$", rest, re.MULTILINE)
        return Booster(
            version, words[0] if words else None, parameters, features, outputs, "average_output" in header, trees,
            header.get("feature_names", ""), found[1].strip() if found else None, labels is not None, _labels(labels),
        )  # fmt: skip

    def _block(self, text: str) -> dict[str, str]:
        lines = (line.partition("=") for line in text.splitlines())
        return {key.strip(): value for key, _, value in lines}

    def _tree(self, text: str, number: int) -> Tree:
        block = self._block(text)
        leaves = self._floats(block, "leaf_value", number)
        count = self._integer(block, "num_leaves")
        if count < 1 or len(leaves) != count:
            raise self._wrong(f"tree {number} says {count:,} leaves and has {len(leaves):,}")
        inner = count - 1
        if not inner:
            none = np.zeros(0, np.int64)
            return Tree(none, np.zeros(0), none, none, none, none, leaves, {}, self._linear(block, count, number))
        feature, left, right, decision = (
            self._integers(block, name, number)
            for name in ("split_feature", "left_child", "right_child", "decision_type")
        )
        threshold = self._floats(block, "threshold", number)
        if {len(feature), len(left), len(right), len(decision), len(threshold)} != {inner}:
            raise self._wrong(f"the lists of tree {number} have different lengths")
        missing = (decision >> 2) & 3
        if (decision < 0).any() or (decision > 11).any() or np.isnan(threshold).any():
            raise self._wrong(f"tree {number} has decisions that there are not")
        categories = self._categories(block, np.flatnonzero(decision & 1), threshold, number)
        linear = self._linear(block, count, number)
        return Tree(feature, threshold, missing, (decision & 2) != 0, left, right, leaves, categories, linear)

    def _categories(self, block: Mapping[str, str], nodes: Array, threshold: Array, number: int) -> dict[int, Array]:
        """Each node's set, from bits; its threshold says which set."""
        if not len(nodes):
            return {}
        bounds, words = (self._integers(block, name, number) for name in ("cat_boundaries", "cat_threshold"))
        which = threshold[nodes]
        if len(bounds) < 2 or bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] > len(words):
            raise self._wrong(f"the sets of categories of tree {number} do not fit their bits")
        if len(words) and not 0 <= words.min() <= words.max() < 1 << 32:
            raise self._wrong(f"tree {number} has bits of categories that are none")
        whole = which.astype(np.int64) if np.isfinite(which).all() else np.full(len(which), -1)
        if ((whole < 0) | (whole >= len(bounds) - 1)).any() or len(np.unique(whole)) < len(whole):
            raise self._wrong(f"tree {number} has a set of categories that there is not")
        if np.diff(bounds).max() > MOST_WORDS:
            raise self._wrong(f"tree {number} has categories that are too large")
        found = {}
        for node, one in zip(nodes.tolist(), whole.tolist(), strict=True):
            packed = words[bounds[one] : bounds[one + 1]].astype("<u4").view(np.uint8)
            found[node] = np.flatnonzero(np.unpackbits(packed, bitorder="little"))
        return found

    def _linear(self, block: Mapping[str, str], count: int, number: int) -> Linear | None:
        if block.get("is_linear", "0").strip() in ("0", ""):
            return None
        const = self._floats(block, "leaf_const", number)
        sizes = self._integers(block, "num_features", number)
        features, coefficients = (
            self._integers(block, "leaf_features", number),
            self._floats(block, "leaf_coeff", number),
        )
        if len(const) != count or len(sizes) != count or (sizes < 0).any():
            raise self._wrong(f"the linear models of tree {number} are not one a leaf")
        if not (len(features) == len(coefficients) == sizes.sum()) or not np.isfinite(coefficients).all():
            raise self._wrong(f"the linear models of tree {number} have other numbers of features than they say")
        return Linear(const, np.cumsum([0, *sizes.tolist()]), features, coefficients)

    # ---- values

    def _integer(self, block: Mapping[str, str], name: str) -> int:
        text = block.get(name, "").strip()
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise self._wrong(f"{name} is no whole number", got=text[:40])
        return int(text)

    def _integers(self, block: Mapping[str, str], name: str, number: int) -> Array:
        return self._numbers(block, name, number, int, np.int64)

    def _floats(self, block: Mapping[str, str], name: str, number: int) -> Array:
        return self._numbers(block, name, number, float, np.float64)

    def _numbers(self, block: Mapping[str, str], name: str, number: int, kind: Any, dtype: Any) -> Array:
        words: Sequence[str] = block.get(name, "").split()
        try:
            if any("_" in word for word in words):  # Python would take them
                raise ValueError("a word with '_'")
            return np.array([kind(word) for word in words], dtype)
        except (ValueError, OverflowError) as error:
            raise self._wrong(f"{name} of tree {number} is no list of numbers", got=str(error)[:80]) from None

    def _wrong(
        self, what: str, got: str | None = None, fix: str = "save it again with booster.save_model"
    ) -> ModelFileError:
        return ModelFileError(f"this is no model as LightGBM writes it: {what}", where=self._where, got=got, fix=fix)
