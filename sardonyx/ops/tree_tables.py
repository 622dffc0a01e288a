"""Tree ensembles laid out for the kernels of `compiler/kernels/trees.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.trees import CHAINS, identity, words
from sardonyx.ops.ensemble import Ensemble, invalid

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]

_DEEPEST = 1 << 16
"""Decisions on the way to a leaf."""
_SPARSE = 4
"""Times as large as its votes a table of all leaves and targets may be."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Arrays for the kernels, by the names of their parameters, and sizes.

    Trees stand in groups of `CHAINS` with one first target, filled up by trees that vote for nothing, the flattest
    first; nodes stand as the trees do, parents before children, and leaves behind all of them.
    """

    arrays: dict[str, Array]
    columns: int
    trees: int
    counted: int
    inner: int
    width: int
    lists: bool
    features: int

    @property
    def weight(self) -> DType:
        """The type of the leaves' weights."""
        found = DType.of(self.arrays["weights"].dtype)
        assert found is not None
        return found


@dataclass(frozen=True, eq=False)
class _Shape:
    """What trees look like: how far each node is from the top (the longest way) and from the bottom."""

    levels: list[Array]
    heights: Array


def tables(node: ir.Node, ensemble: Ensemble, aggregate: str, dtype: DType) -> Tables:
    """Lay out an ensemble of `x <= threshold` decisions; InvalidModelError when it has a cycle or is too deep."""
    shape = _shape(node, ensemble)
    first, width = _targets(ensemble, shape)
    depth = np.where(ensemble.roots >= 0, np.append(shape.heights, 0)[np.maximum(ensemble.roots, -1)], 0)
    order = np.lexsort((depth, first))
    spans = _groups(first[order])
    node_order, leaf_order, tree_of_leaf = _order(ensemble, shape, order)
    inner, leaves = len(node_order), len(leaf_order)
    place = np.empty(inner, np.int64)
    place[node_order] = np.arange(inner)
    leaf_place = np.empty(leaves + 1, np.int64)
    leaf_place[leaf_order] = np.arange(leaves)
    leaf_place[leaves] = leaves  # the leaf of the trees that vote for nothing

    def position(references: Array) -> Array:
        at_node = np.append(place, 0)[np.maximum(references, -1)]
        return np.where(references >= 0, at_node, inner + leaf_place[np.clip(~references, 0, leaves)])

    filled = np.full(len(spans), ~leaves)
    real = spans >= 0
    filled[real] = ensemble.roots[order][spans[real]]
    nodes, features, tracks = _nodes(ensemble, node_order, leaves + 1, position, dtype)
    arrays = {
        "nodes": nodes,
        "features": features,
        "tracks": tracks,
        "roots": position(filled) * words(dtype),
        "depths": np.where(real, depth[order][np.maximum(spans, 0)] if len(order) else 0, 0).astype(np.int64),
        "base": ensemble.base,
    }
    votes, lists = _votes(ensemble, leaf_order, first[tree_of_leaf] if len(first) else first, width, aggregate)
    if not lists:
        arrays["firsts"] = _filled_firsts(first[order], spans)
    highest = int(features.max()) + 1 if len(features) else 0
    return Tables(arrays | votes, len(features), len(spans), len(ensemble.roots), inner, width, lists, highest)


def _shape(node: ir.Node, ensemble: Ensemble) -> _Shape:
    """Nodes in levels, each below all its parents."""
    count = len(ensemble.true)
    children = np.stack([ensemble.true, ensemble.false], axis=1)
    waiting = np.bincount(children[children >= 0], minlength=count)
    level = np.flatnonzero(waiting == 0)
    levels: list[Array] = []
    while len(level):
        levels.append(level)
        if len(levels) > _DEEPEST:
            raise invalid(node, "a tree is too deep", f"at most {_DEEPEST:,} decisions")
        below = children[level].reshape(-1)
        below = below[below >= 0]
        if len(below) == 0:
            break
        np.subtract.at(waiting, below, 1)
        level = np.unique(below[waiting[below] == 0])
    if sum(map(len, levels)) != count:
        raise invalid(node, "the branches of a tree lead into a cycle")
    heights = np.zeros(count + 1, np.int64)  # the last one stands for leaves
    for level in reversed(levels):
        heights[level] = 1 + heights[np.maximum(children[level], -1)].max(axis=1)
    return _Shape(levels, heights[:count])


def _labels(ensemble: Ensemble, shape: _Shape, order: Array) -> tuple[Array, Array]:
    """For each node and leaf the place in `order` of a tree that it belongs to; behind all where it is in none."""
    trees = len(order)
    nodes = np.full(len(ensemble.true), trees)
    leaves = np.full(len(ensemble.votes.starts) - 1, trees)
    roots = ensemble.roots[order]
    inside = roots >= 0
    nodes[roots[inside]] = np.flatnonzero(inside)
    leaves[~roots[~inside]] = np.flatnonzero(~inside)
    for level in shape.levels:
        for side in (ensemble.true, ensemble.false):
            child, label = side[level], nodes[level]
            known = label < trees
            child, label = child[known], label[known]
            at_node = child >= 0
            nodes[child[at_node]] = label[at_node]
            leaves[~child[~at_node]] = label[~at_node]
    return nodes, leaves


def _targets(ensemble: Ensemble, shape: _Shape) -> tuple[Array, int]:
    """For each tree the first target that it may vote for, and for how many from there on any may."""
    trees, votes = len(ensemble.roots), ensemble.votes
    everything = np.zeros(trees, np.int64), max(ensemble.targets, 1)
    if ensemble.targets <= 1 or not trees or not len(votes.targets):
        return everything
    _, leaves = _labels(ensemble, shape, np.arange(trees))
    if _is_shared(ensemble, shape, leaves):
        return everything
    voters = np.repeat(leaves, np.diff(votes.starts))
    low, high = np.full(trees + 1, ensemble.targets), np.full(trees + 1, -1)
    np.minimum.at(low, voters, votes.targets)
    np.maximum.at(high, voters, votes.targets)
    low, high = np.where(high < 0, 0, low)[:trees], high[:trees]
    width = max(1, int((high - low).max(initial=0)) + 1)
    return np.clip(low, 0, ensemble.targets - width), width


def _is_shared(ensemble: Ensemble, shape: _Shape, leaves: Array) -> bool:
    """Whether trees have a leaf in common."""
    nodes, _ = _labels(ensemble, shape, np.arange(len(ensemble.roots)))
    edges = [(side[side < 0], nodes[side < 0]) for side in (ensemble.true, ensemble.false)]
    at_root = ensemble.roots < 0
    edges.append((ensemble.roots[at_root], np.flatnonzero(at_root)))
    unreached = len(ensemble.roots)
    shared = any(((leaves[~leaf] != tree) & (tree != unreached)).any() for leaf, tree in edges)
    inner = [(side[side >= 0], nodes[side >= 0]) for side in (ensemble.true, ensemble.false)]
    return shared or any(((nodes[child] != tree) & (tree != unreached)).any() for child, tree in inner)


def _groups(first: Array) -> Array:
    """Trees, sorted by their first targets, in groups: indices of trees, and -1 (in front) to fill up a group."""
    if not len(first):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.append(True, first[1:] != first[:-1]))
    parts = []
    for begin, end in zip(starts, np.append(starts[1:], len(first)), strict=True):
        parts += [np.full(-(end - begin) % CHAINS, -1), np.arange(begin, end)]
    return np.concatenate(parts)


def _filled_firsts(first: Array, spans: Array) -> Array:
    """The first target of each tree of the groups: those that fill up have their group's."""
    if not len(spans):
        return np.zeros(0, np.int64)
    last = spans.reshape(-1, CHAINS)[:, -1]
    return np.repeat(first[last], CHAINS)


def _order(ensemble: Ensemble, shape: _Shape, order: Array) -> tuple[Array, Array, Array]:
    """Nodes and leaves in the order of trees, nodes of a tree by level; and each such leaf's tree."""
    nodes, leaves = _labels(ensemble, shape, order)
    level = np.empty(len(nodes), np.int64)
    for index, members in enumerate(shape.levels):
        level[members] = index
    leaf_order = np.argsort(leaves, kind="stable")
    trees = order[np.minimum(leaves[leaf_order], len(order) - 1)] if len(order) else leaves[leaf_order]
    return np.lexsort((level, nodes)), leaf_order, trees


def _nodes(ensemble: Ensemble, order: Array, leaves: int, position: Any, dtype: DType) -> tuple[Array, Array, Array]:
    """The table of nodes, and the features that its columns stand for, with whether their NaN tracks true."""
    inner, size = len(order), words(dtype)
    keys = ensemble.features[order] * 2 + ensemble.missing[order]
    wanted, column = np.unique(keys, return_inverse=True)
    if not len(wanted):
        wanted = np.zeros(1, np.int64)  # something for leaves to compare with
    table = np.zeros((inner + leaves, size), np.int32)
    head = dtype.size // 4
    table[:inner, :head] = ensemble.splits[order].astype(dtype.numpy).reshape(-1, 1).view(np.int32)
    table[:inner, head] = column
    for part, side in enumerate((ensemble.true, ensemble.false)):
        table[:inner, head + 1 + part] = position(side[order]) * size
        table[inner:, head + 1 + part] = np.arange(inner, inner + leaves) * size
    return table, wanted // 2, wanted % 2 == 1


def _votes(
    ensemble: Ensemble, leaf_order: Array, first: Array, width: int, aggregate: str
) -> tuple[dict[str, Array], bool]:
    """The leaves' weights in their new order, with one more leaf that has none: a table, or lists where that would be
    much larger.
    """
    votes, leaves = ensemble.votes, len(leaf_order)
    counts = np.diff(votes.starts)[leaf_order]
    starts = np.concatenate([[0], np.cumsum(counts)])
    index = np.repeat(votes.starts[:-1][leaf_order] - starts[:-1], counts) + np.arange(starts[-1])
    ids, weights = votes.targets[index], votes.weights[index]
    if leaves * width > _SPARSE * len(ids) + 4096:
        return {"weights": weights, "ids": ids, "starts": np.append(starts, starts[-1])}, True
    leaf = np.repeat(np.arange(leaves), counts)
    cell = leaf * width + ids - np.repeat(first, counts)
    table = np.full((leaves + 1) * width, identity(aggregate))
    combine = {"MIN": np.minimum, "MAX": np.maximum}.get(aggregate, np.add)
    combine.at(table, cell, weights.astype(np.float64))
    several = len(np.unique(cell)) < len(cell)
    return {"weights": table if several else table.astype(weights.dtype)}, False
