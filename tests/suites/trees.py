"""Tree ensembles: trees as nested tuples, written as the attributes of each operator, and cases made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.suites.case import Array, Case, floats

DOMAIN = "ai.onnx.ml"
MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ", "MEMBER")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@dataclass(frozen=True)
class Leaf:
    """Votes: (target, weight)."""

    votes: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Branch:
    """A comparison of a feature with a number or, of mode MEMBER, with several."""

    mode: str
    feature: int
    value: float | tuple[float, ...]
    missing: bool
    true: Tree
    false: Tree


Tree: TypeAlias = Branch | Leaf


def random_tree(
    random: np.random.Generator,
    depth: int,
    features: int,
    values: Sequence[float],
    *,
    modes: Sequence[str] = ("LEQ",),
    targets: int = 1,
    several: bool = False,
    missing: bool = False,
    scale: float = 1.0,
) -> Tree:
    """A tree of at most that depth, with thresholds among `values`; leaves vote for one target or for several."""
    if depth == 0 or random.random() < 0.1:
        count = int(random.integers(1, targets + 1)) if several else 1
        chosen = random.choice(targets, count, replace=False).tolist()
        return Leaf(tuple((target, float(np.float32(random.normal() * scale))) for target in chosen))
    mode = str(random.choice(list(modes)))
    value: Any = float(random.choice(list(values)))
    if mode == "MEMBER":
        value = tuple(random.choice(list(values), int(random.integers(1, len(values))), replace=False).tolist())
    children = [
        random_tree(
            random, depth - 1, features, values,
            modes=modes, targets=targets, several=several, missing=missing, scale=scale,
        )
        for _ in range(2)
    ]  # fmt: skip
    tracks = missing and bool(random.integers(2))
    return Branch(mode, int(random.integers(features)), value, tracks, *children)


@dataclass
class _Listed:
    """Attributes of the operators that list nodes with ids."""

    kind: str
    lists: dict[str, list[Any]] = field(default_factory=dict)

    def put(self, **entries: Any) -> None:
        for name, value in entries.items():
            self.lists.setdefault(name, []).append(value)

    def add(self, tree: int, part: Tree, number: int = 0) -> int:
        """Write a tree in preorder; the number of the next node."""
        leaf = isinstance(part, Leaf)
        row = {"nodes_treeids": tree, "nodes_nodeids": number, "nodes_modes": "LEAF", "nodes_featureids": 0}
        row |= {"nodes_values": 0.0, "nodes_truenodeids": 0, "nodes_falsenodeids": 0}
        row |= {"nodes_missing_value_tracks_true": 0}
        if isinstance(part, Branch):
            row |= {"nodes_modes": f"BRANCH_{part.mode}", "nodes_featureids": part.feature}
            row |= {"nodes_values": part.value, "nodes_missing_value_tracks_true": int(part.missing)}
        self.put(**row)
        place, following = len(self.lists["nodes_modes"]) - 1, number + 1
        if leaf:
            for target, weight in part.votes:
                names = ("treeids", "nodeids", "ids", "weights")
                row = dict(zip((f"{self.kind}_{n}" for n in names), (tree, number, target, weight), strict=True))
                self.put(**row)
            return following
        for side in ("true", "false"):
            self.lists[f"nodes_{side}nodeids"][place] = following
            following = self.add(tree, getattr(part, side), following)
        return following


def listed(trees: Sequence[Tree], kind: str, *, double: bool = False) -> dict[str, Any]:
    """The attributes of TreeEnsembleClassifier (`kind` "class") or -Regressor ("target")."""
    made = _Listed(kind)
    for index, tree in enumerate(trees):
        made.add(index, tree)
    attributes: dict[str, Any] = dict(made.lists)
    if double:
        for name in ("nodes_values", f"{kind}_weights"):
            attributes[f"{name}_as_tensor"] = numpy_helper.from_array(np.array(attributes.pop(name), np.float64))
    return attributes


def split(trees: Sequence[Tree], dtype: Any = np.float32) -> dict[str, Any]:
    """The attributes of TreeEnsemble. Leaves have one vote, and a tree more than a leaf."""
    nodes: list[tuple[Any, ...]] = []
    leaves: list[tuple[int, float]] = []
    members: list[float] = []

    def add(part: Tree) -> tuple[int, int]:
        if isinstance(part, Leaf):
            leaves.extend(part.votes)
            return len(leaves) - 1, 1
        place = len(nodes)
        nodes.append(())
        value = part.value
        if isinstance(value, tuple):
            members.extend([*value, np.nan])
            value = 0.0
        (true, true_leaf), (false, false_leaf) = add(part.true), add(part.false)
        row = (MODES.index(part.mode), part.feature, value, int(part.missing), true, true_leaf, false, false_leaf)
        nodes[place] = row
        return place, 0

    def root(tree: Tree) -> int:
        return add(tree if isinstance(tree, Branch) else Branch("LEQ", 0, 0.0, False, tree, tree))[0]

    roots = [root(tree) for tree in trees]
    modes, features, values, missing, true, true_leaf, false, false_leaf = map(list, zip(*nodes, strict=True))
    tensors = {
        "nodes_modes": np.array(modes, np.uint8),
        "nodes_splits": np.array(values, dtype),
        "leaf_weights": np.array([weight for _, weight in leaves], dtype),
    }
    if members:
        tensors["membership_values"] = np.array(members, dtype)
    return {
        "tree_roots": roots,
        "nodes_featureids": features,
        "nodes_missing_value_tracks_true": missing,
        "nodes_truenodeids": true,
        "nodes_trueleafs": true_leaf,
        "nodes_falsenodeids": false,
        "nodes_falseleafs": false_leaf,
        "leaf_targetids": [target for target, _ in leaves],
        **{name: numpy_helper.from_array(array, name) for name, array in tensors.items()},
    }


def ensemble(op: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node with x as its rows."""
    return helper.make_node(op, ["x"], outputs.split(), name="trees", domain=DOMAIN, **attributes)


def case(
    name: str, x: Array, op: str, outputs: str = "y", attributes: Mapping[str, Any] | None = None, ml: int = 3
) -> Case:
    """A case of one ensemble."""
    return Case(name, [ensemble(op, outputs, **(attributes or {}))], {"x": x}, domains={DOMAIN: ml})


_GRID = (-1.5, -0.5, 0.0, 0.25, 1.0)
_WHOLE = (1.0, 2.0, 3.0, 4.0, 7.0)
"""onnxruntime knows sets of small whole numbers alone."""


def _regressors(random: np.random.Generator) -> Iterator[Case]:
    for rows in (1, 5, 61):
        x = floats(rows, 9)
        trees = [random_tree(random, 6, 9, _GRID) for _ in range(19)]
        for aggregate in AGGREGATES:
            attributes = listed(trees, "target") | {"n_targets": 1, "aggregate_function": aggregate}
            yield case(f"TreeEnsembleRegressor-{aggregate}-{rows}", x, "TreeEnsembleRegressor", "y", attributes)
        several = [random_tree(random, 4, 9, _GRID, targets=5, several=True) for _ in range(11)]
        for aggregate in AGGREGATES[:2]:
            attributes = listed(several, "target") | {"n_targets": 5, "aggregate_function": aggregate}
            attributes["base_values"] = [0.5, -1.0, 0.0, 2.0, 3.0]
            yield case(f"TreeEnsembleRegressor-several-{aggregate}-{rows}", x, "TreeEnsembleRegressor", "y", attributes)
        attributes = listed(trees, "target") | {"n_targets": 1}
        yield case(
            f"TreeEnsembleRegressor-double-{rows}", x.astype(np.float64), "TreeEnsembleRegressor", "y", attributes
        )
    deep = [random_tree(random, 12, 9, np.linspace(-2, 2, 50), targets=300) for _ in range(9)]  # votes in lists
    attributes = listed(deep, "target") | {"n_targets": 300, "aggregate_function": "SUM"}
    yield case("TreeEnsembleRegressor-many-targets", floats(40, 9), "TreeEnsembleRegressor", "y", attributes)
    yield case("TreeEnsembleRegressor-many-targets-1", floats(1, 9), "TreeEnsembleRegressor", "y", attributes)


def _classifiers(random: np.random.Generator) -> Iterator[Case]:
    x = random.standard_normal((33, 9)).astype(np.float32)
    for outputs in ("y scores", "label y"):
        trees = [random_tree(random, 5, 9, _GRID, targets=3) for _ in range(13)]
        attributes = listed(trees, "class") | {"classlabels_int64s": [3, 1, 2]}
        for dtype in (np.float64, np.int64, np.int32):
            name = f"TreeEnsembleClassifier-{np.dtype(dtype)}-{outputs[0]}"
            yield case(name, (x * 3).astype(dtype), "TreeEnsembleClassifier", outputs, attributes)
        for classes, several in ((3, False), (4, True)):
            trees = [random_tree(random, 5, 9, _GRID, targets=classes, several=several) for _ in range(13)]
            for transform in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"):
                attributes = listed(trees, "class") | {"classlabels_int64s": list(range(10, 10 + classes))}
                attributes["post_transform"] = transform
                name = f"TreeEnsembleClassifier-{classes}-{transform}-{outputs[0]}"
                yield case(name, x, "TreeEnsembleClassifier", outputs, attributes)
        trees = [random_tree(random, 5, 9, _GRID) for _ in range(13)]
        for transform in ("NONE", "LOGISTIC", "SOFTMAX"):
            attributes = listed(trees, "class") | {"classlabels_int64s": [7, 4], "post_transform": transform}
            name = f"TreeEnsembleClassifier-2-{transform}-{outputs[0]}"
            yield case(name, x, "TreeEnsembleClassifier", outputs, attributes)
            positive = {"class_weights": np.abs(attributes["class_weights"]) / 13}
            yield case(f"{name}-positive", x, "TreeEnsembleClassifier", outputs, attributes | positive)


def _ensembles(random: np.random.Generator) -> Iterator[Case]:
    for dtype in (np.float32, np.float64):
        for rows in (1, 30):
            for modes in (("LEQ",), MODES[:4], MODES):
                trees = [random_tree(random, 5, 9, _WHOLE, modes=modes, targets=2) for _ in range(13)]
                x = np.round(floats(rows, 9) * 4).astype(dtype)
                attributes = split(trees, dtype) | {"n_targets": 2}
                name = f"TreeEnsemble-{np.dtype(dtype)}-{rows}-{len(modes)}"
                yield case(name, x, "TreeEnsemble", "y", attributes, ml=5)


def _cases() -> Iterator[Case]:
    random = np.random.default_rng(11)
    yield from _regressors(random)
    yield from _classifiers(random)
    yield from _ensembles(random)


CASES: tuple[Case, ...] = tuple(_cases())
