"""Models of classical machine learning against onnxruntime. They are made up with seeded numbers, without a framework.

`CASES` is the table: a model, how many rows it gets, and the ratio that is asked for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bench import direct
from bench.direct import OURS, PEER
from bench.verdict import Spread, round_ratios, spread
from sardonyx.measure.compare import difference
from sardonyx.measure.runners import Run
from sardonyx.measure.timing import Plan, measure

Array = np.ndarray[Any, Any]

DOMAIN = "ai.onnx.ml"
LOAD_GOAL = 2.0
"""Seconds from the bytes of a model to its first result."""


@dataclass(frozen=True)
class Case:
    """A model of rows of `features` float32 numbers, and how many times as long onnxruntime should take at least.

    Without a goal only its load is asked about: `LOAD_GOAL`.
    """

    name: str
    make: Callable[[], bytes]
    features: int
    rows: int
    goal: float | None


@dataclass(frozen=True)
class Outcome:
    """Milliseconds of a call, the ratio of onnxruntime's to ours, seconds to the first result, how far answers differ
    (relative L2) and how many labels do.
    """

    case: Case
    ms: float
    peer_ms: float
    ratio: Spread
    load_s: float
    peer_load_s: float
    gap: float
    labels: int

    @property
    def good(self) -> bool:
        """Whether the goal is reached."""
        return self.load_s <= LOAD_GOAL if self.case.goal is None else self.ratio.median >= self.case.goal


def outcome(case: Case, threads: int, rounds: int, seconds: float, progress: Callable[[str], None]) -> Outcome:
    """A case measured by turns. `seconds` are those of the timed calls of one runtime in one round."""
    progress(case.name)
    model, random = case.make(), np.random.default_rng(1)
    feeds = {"x": random.random((case.rows, case.features)).astype(np.float32)}
    runs: dict[str, Run] = {}
    loads, answers = {}, {}
    for name, load in ((OURS, lambda: partial(direct.ours(model, threads).run, None)), (PEER, _peer(model, threads))):
        start = time.perf_counter()
        runs[name] = load()
        answers[name] = runs[name](feeds)
        loads[name] = time.perf_counter() - start
    medians = measure(runs, feeds, Plan(rounds=rounds, seconds=seconds * rounds)).medians
    ours, peer = (statistics.median(medians[name]) for name in (OURS, PEER))
    scores = [[a for a in answers[name] if a.dtype.kind == "f"] for name in (OURS, PEER)]
    labels = [[a for a in answers[name] if a.dtype.kind == "i"] for name in (OURS, PEER)]
    return Outcome(
        case,
        ours,
        peer,
        spread(round_ratios(medians, OURS)),
        loads[OURS],
        loads[PEER],
        difference(*scores).rel_l2,
        sum(int((a != b).sum()) for a, b in zip(*labels, strict=True)),
    )


def _peer(model: bytes, threads: int) -> Callable[[], Run]:
    return lambda: direct.peer(model, threads)


# ---- trees -----------------------------------------------------------------------------------------------------------


@dataclass
class _Trees:
    """Nodes of trees, a tree after the other: each splits the numbers that come to it, from 0 to 1 in each feature.

    A child is the number of a node within its tree; a leaf has -1.
    """

    features: int
    random: np.random.Generator

    def by_leaves(self, leaves: int) -> tuple[Array, Array, Array]:
        """Feature, threshold and left child (the right one is the next) of a tree that splits the likeliest leaves."""
        size = 2 * leaves - 1
        feature, threshold, left = np.zeros(size, np.int64), np.zeros(size, np.float32), np.full(size, -1)
        low, high = np.zeros((size, self.features)), np.ones((size, self.features))
        weight = np.zeros(size)
        weight[0] = 1
        for made in range(1, size, 2):
            at = int(self.random.choice(size, p=weight / weight.sum()))
            share = self._split(np.array([at]), np.array([made]), feature, threshold, low, high)[0]
            left[at] = made
            weight[made : made + 2] = weight[at] * np.array([share, 1 - share])
            weight[at] = 0
        return feature, threshold, left

    def by_levels(self, depth: int, stop: float) -> tuple[Array, Array, Array]:
        """The same of a tree whose nodes are all split to a depth, but for one in `1 / stop` below the third level."""
        size = 2 ** (depth + 1) - 1
        feature, threshold, left = np.zeros(size, np.int64), np.zeros(size, np.float32), np.full(size, -1)
        low, high = np.zeros((size, self.features)), np.ones((size, self.features))
        level, count = np.zeros(1, np.int64), 1
        for index in range(depth):
            at = level[self.random.random(len(level)) >= (stop if index > 2 else 0.0)]
            children = count + 2 * np.arange(len(at))
            self._split(at, children, feature, threshold, low, high)
            left[at] = children
            level, count = np.concatenate([children, children + 1]), count + 2 * len(at)
        return feature[:count], threshold[:count], left[:count]

    def _split(self, at: Array, children: Array, feature: Array, threshold: Array, low: Array, high: Array) -> Array:
        column, share = self.random.integers(self.features, size=len(at)), self.random.uniform(0.3, 0.7, len(at))
        cut = low[at, column] + share * (high[at, column] - low[at, column])
        feature[at], threshold[at] = column, cut
        for side, bounds in ((0, high), (1, low)):
            low[children + side], high[children + side] = low[at], high[at]
            bounds[children + side, column] = cut
        return share


def _ensemble(trees: Sequence[tuple[Array, Array, Array]], weights: Array, features: int, transform: str) -> bytes:
    """A classifier of two classes with one score: leaf i, in the order of trees, votes with weights[i]."""
    feature, threshold, left = (np.concatenate(part) for part in zip(*trees, strict=True))
    sizes = [len(tree[0]) for tree in trees]
    tree, number = np.repeat(np.arange(len(trees)), sizes), np.concatenate([np.arange(size) for size in sizes])
    leaf = left < 0
    whole: dict[str, Array] = {
        "nodes_treeids": tree,
        "nodes_nodeids": number,
        "nodes_featureids": feature,
        "nodes_truenodeids": np.maximum(left, 0),
        "nodes_falsenodeids": np.where(leaf, 0, left + 1),
        "class_treeids": tree[leaf],
        "class_nodeids": number[leaf],
        "class_ids": np.zeros(int(leaf.sum()), np.int64),
        "classlabels_int64s": np.arange(2),
    }
    attributes = [onnx.AttributeProto(name=name, type="INTS", ints=values.tolist()) for name, values in whole.items()]
    for name, values in (("nodes_values", threshold), ("class_weights", weights)):
        attributes.append(onnx.AttributeProto(name=name, type="FLOATS", floats=values.tolist()))
    modes = [b"LEAF" if is_leaf else b"BRANCH_LEQ" for is_leaf in leaf.tolist()]
    attributes.append(onnx.AttributeProto(name="nodes_modes", type="STRINGS", strings=modes))
    attributes.append(onnx.AttributeProto(name="post_transform", type="STRING", s=transform.encode()))
    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "scores"], domain=DOMAIN)
    node.attribute.extend(attributes)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "trees",
        [info("x", onnx.TensorProto.FLOAT, ["rows", features])],
        [info("label", onnx.TensorProto.INT64, ["rows"]), info("scores", onnx.TensorProto.FLOAT, ["rows", 2])],
    )
    return _written(graph)


def _written(graph: onnx.GraphProto) -> bytes:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 3)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return made


@cache
def boosted(count: int, leaves: int, features: int) -> bytes:
    """Trees as LightGBM grows and exports them: by leaves, one score for both classes."""
    made = _Trees(features, np.random.default_rng(0))
    trees = [made.by_leaves(leaves) for _ in range(count)]
    weights = made.random.normal(0.0, 0.05, count * leaves).astype(np.float32)
    return _ensemble(trees, weights, features, "LOGISTIC")


@cache
def forest(count: int, depth: int, features: int) -> bytes:
    """Trees as scikit-learn's random forests grow and skl2onnx exports them: deep, with the share of one class."""
    made = _Trees(features, np.random.default_rng(0))
    trees = [made.by_levels(depth, 0.05) for _ in range(count)]
    share = made.random.random(sum(int((left < 0).sum()) for _, _, left in trees))
    return _ensemble(trees, (share / count).astype(np.float32), features, "NONE")


# ---- pipelines -------------------------------------------------------------------------------------------------------


@cache
def logistic(features: int) -> bytes:
    """A StandardScaler and a LogisticRegression of two classes, in the nodes that skl2onnx writes."""
    random = np.random.default_rng(0)
    scale, weights = random.uniform(0.5, 2, features).tolist(), random.normal(0, 0.3, features)
    scaler = helper.make_node("Scaler", ["x"], ["scaled"], domain=DOMAIN, offset=[0.5] * features, scale=scale)
    classifier = helper.make_node(
        "LinearClassifier", ["scaled"], ["label", "raw"], domain=DOMAIN, classlabels_ints=[0, 1], multi_class=1,
        coefficients=[*(-weights).tolist(), *weights.tolist()], intercepts=[-0.1, 0.1], post_transform="LOGISTIC",
    )  # fmt: skip
    normalizer = helper.make_node("Normalizer", ["raw"], ["scores"], domain=DOMAIN, norm="L1")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [scaler, classifier, normalizer],
        "logistic",
        [info("x", onnx.TensorProto.FLOAT, ["rows", features])],
        [info("label", onnx.TensorProto.INT64, ["rows"]), info("scores", onnx.TensorProto.FLOAT, ["rows", 2])],
    )
    return _written(graph)


CASES: tuple[Case, ...] = (
    Case("boosted 500x64, 10,000 rows", partial(boosted, 500, 64, 28), 28, 10_000, 3.0),
    Case("boosted 500x64, 1 row", partial(boosted, 500, 64, 28), 28, 1, 1.0),
    Case("forest 200, depth 12, 10,000 rows", partial(forest, 200, 12, 28), 28, 10_000, 5.0),
    Case("forest 200, depth 12, 1 row", partial(forest, 200, 12, 28), 28, 1, 1.0),
    Case("scaler and logistic regression, 10,000 rows", partial(logistic, 28), 28, 10_000, 1.0),
    Case("scaler and logistic regression, 1 row", partial(logistic, 28), 28, 1, 1.0),
    Case("boosted 5000x31, load", partial(boosted, 5000, 31, 28), 28, 100, None),
    Case("boosted 5000x64, load", partial(boosted, 5000, 64, 28), 28, 100, None),
)
