"""Tree ensembles as tables: what the three operators of ai.onnx.ml say, in one form.

`read_ensemble` understands the attributes; what comes out is a graph of decision nodes and leaves. `simplified` then
leaves one kind of decision, `x <= threshold`, in the type in which rows are compared: for a number x of that type each
of the standard's comparisons is one or two of those, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import InvalidModelError

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_LEAF = "LEAF"
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_MOST_NODES = 1 << 28
"""Of an ensemble: more do not fit what numbers them."""
_MOST_FEATURES = 1 << 32


@dataclass(frozen=True, eq=False)
class Votes:
    """What leaves say: leaf i adds `weights[j]` to target `targets[j]` for j from `starts[i]` to `starts[i + 1]`."""

    starts: Array
    targets: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Decision nodes, leaves and roots; references are the index of a node, or ~index of a leaf.

    Node i goes to `true[i]` if `x[features[i]] <mode> splits[i]`, or if that feature is NaN and `missing[i]`; else to
    `false[i]`. `members[i]` are the values of a MEMBER node. `targets` counts scores, `base` is added to them.
    """

    modes: Array
    features: Array
    splits: Array
    missing: Array
    true: Array
    false: Array
    roots: Array
    votes: Votes
    targets: int
    base: Array
    members: dict[int, Array]


def read_ensemble(node: ir.Node, targets: int) -> Ensemble:
    """The trees of a TreeEnsembleClassifier, TreeEnsembleRegressor or TreeEnsemble with so many targets.

    InvalidModelError when attributes do not fit each other: lengths, ids that do not exist, cycles, several roots.
    """
    read = _read_split if node.op_type == "TreeEnsemble" else _read_listed
    with np.errstate(all="ignore"):
        ensemble = read(node, targets)
    features = ensemble.features
    if len(features) and not (features.min() >= 0 and features.max() < _MOST_FEATURES):
        got = f"{features.min():,} to {features.max():,}"
        raise invalid(node, "indices of features that rows cannot have", f"0 to {_MOST_FEATURES - 1:,}", got)
    votes = ensemble.votes
    if len(votes.targets) and not (votes.targets.min() >= 0 and votes.targets.max() < targets):
        raise invalid(node, "a leaf votes for a target that is not there", f"0 to {targets - 1}")
    return ensemble


def invalid(node: ir.Node, what: str, expected: str | None = None, got: str | None = None) -> InvalidModelError:
    """The error for a node whose attributes make no trees."""
    return InvalidModelError(what, where=node.name or node.op_type, expected=expected, got=got)


# ---- attributes ------------------------------------------------------------------------------------------------------


def _integers(node: ir.Node, name: str) -> Array:
    found = node.attributes.get(name)
    return np.array(found.as_ints() if found is not None else (), np.int64).reshape(-1)


def numbers(node: ir.Node, name: str) -> Array:
    """An attribute of floats, or the tensor that may stand for it; float32 or float64."""
    tensor, listed = node.attributes.get(f"{name}_as_tensor"), node.attributes.get(name)
    if tensor is not None:
        return _floats(tensor.as_tensor().numpy())
    if listed is None:
        return np.zeros(0, np.float32)
    if listed.type.name == "TENSOR":
        return _floats(listed.as_tensor().numpy())
    return np.array(listed.as_floats(), np.float32)


def _floats(array: Array) -> Array:
    return np.asarray(array, np.float64 if array.dtype == np.float64 else np.float32).reshape(-1)


def _same_length(node: ir.Node, arrays: dict[str, Array]) -> int:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise invalid(node, "attributes of different lengths", got=", ".join(f"{n} {c}" for n, c in lengths.items()))
    count = next(iter(lengths.values()))
    if count > _MOST_NODES:
        raise invalid(node, "too large an ensemble", f"at most {_MOST_NODES:,} nodes", f"{count:,}")
    return count


def _missing(node: ir.Node, count: int) -> Array:
    found = _integers(node, "nodes_missing_value_tracks_true")
    if len(found) not in (0, count):
        raise invalid(node, "nodes_missing_value_tracks_true has another length", str(count), str(len(found)))
    return found != 0 if len(found) else np.zeros(count, np.bool_)


def _base(node: ir.Node, targets: int) -> Array:
    base = numbers(node, "base_values")
    if len(base) not in (0, 1, targets):
        raise invalid(node, "base_values has another length", str(targets), str(len(base)))
    return np.broadcast_to(base.astype(np.float64), (targets,)).copy() if len(base) else np.zeros(targets)


# ---- TreeEnsembleClassifier and TreeEnsembleRegressor: a list of nodes, each with the ids of its tree and its own ----


def _read_listed(node: ir.Node, targets: int) -> Ensemble:
    kind = "class" if node.op_type == "TreeEnsembleClassifier" else "target"
    names = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    parts = {name: _integers(node, f"nodes_{name}") for name in names}
    modes, is_leaf = _listed_modes(node)
    parts |= {"modes": modes, "values": numbers(node, "nodes_values")}
    count = _same_length(node, parts)
    keys = _Keys(node, parts["treeids"], parts["nodeids"])
    inner = np.flatnonzero(~is_leaf)
    number = np.empty(count, np.int64)
    number[inner] = np.arange(len(inner))
    leaves = np.flatnonzero(is_leaf)
    number[leaves] = ~np.arange(len(leaves))
    trees = parts["treeids"][inner]
    children = [keys.find(trees, parts[name][inner], f"nodes_{name}") for name in ("truenodeids", "falsenodeids")]
    true, false = (number[child] for child in children)
    roots = number[_roots(node, keys.tree, children)]
    votes = {name: _integers(node, f"{kind}_{name}") for name in ("treeids", "nodeids", "ids")}
    votes["weights"] = numbers(node, f"{kind}_weights")
    _same_length(node, votes)
    at = number[keys.find(votes["treeids"], votes["nodeids"], f"{kind}_nodeids")]
    cast = at < 0  # what is said at a decision is never heard
    order = np.argsort(~at[cast], kind="stable")
    starts = np.searchsorted((~at[cast])[order], np.arange(len(leaves) + 1))
    chosen = Votes(starts, votes["ids"][cast][order], votes["weights"][cast][order])
    features, splits = parts["featureids"][inner], parts["values"][inner]
    missing = _missing(node, count)[inner]
    base = _base(node, targets)
    return Ensemble(modes[inner], features, splits, missing, true, false, roots, chosen, targets, base, {})


def _listed_modes(node: ir.Node) -> tuple[Array, Array]:
    """The mode of each node, and whether it is a leaf."""
    found = node.attributes.get("nodes_modes")
    names = found.as_strings() if found is not None else ()
    numbered = {name: index for index, name in enumerate((*_MODES[:MEMBER], _LEAF))}
    try:
        modes = np.fromiter(map(numbered.__getitem__, names), np.int64, len(names))
    except KeyError as error:
        raise invalid(node, "a mode that there is not", ", ".join(numbered), str(error)) from None
    is_leaf = modes == numbered[_LEAF]
    return np.where(is_leaf, LEQ, modes), is_leaf


class _Keys:
    """Where nodes stand in the list, by the ids of their tree and their own."""

    def __init__(self, node: ir.Node, trees: Array, nodes: Array) -> None:
        self._node = node
        self._names, self.tree = np.unique(trees, return_inverse=True)
        self._low, high = (int(nodes.min()), int(nodes.max())) if len(nodes) else (0, 0)
        self._span = high - self._low + 1
        if self._span * max(len(self._names), 1) >= 1 << 62:
            raise invalid(node, "ids of nodes too far apart", got=f"{self._low} to {high}")
        keys = self.tree * self._span + (nodes - self._low)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        if len(keys) > 1 and (self._sorted[1:] == self._sorted[:-1]).any():
            raise invalid(node, "two nodes of a tree have the same id")

    def find(self, trees: Array, nodes: Array, where: str) -> Array:
        """The places of the nodes with these ids."""
        if len(trees) == 0:
            return np.zeros(0, np.int64)
        if len(self._sorted) == 0:
            raise invalid(self._node, f"{where} names a node that is not there")
        tree = np.minimum(np.searchsorted(self._names, trees), len(self._names) - 1)
        inside = (nodes >= self._low) & (nodes < self._low + self._span) & (self._names[tree] == trees)
        keys = tree * self._span + np.where(inside, nodes - self._low, 0)
        place = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        wrong = ~inside | (self._sorted[place] != keys)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            got = f"node {nodes[first]} of tree {trees[first]}"
            raise invalid(self._node, f"{where} names a node that is not there", got=got)
        return np.asarray(self._order[place])


def _roots(node: ir.Node, tree: Array, children: Sequence[Array]) -> Array:
    """The place of the one node of each tree that is nobody's child."""
    nobodys = np.ones(len(tree), np.bool_)
    for child in children:
        nobodys[child] = False
    roots = np.flatnonzero(nobodys)
    count = np.bincount(tree[roots], minlength=int(tree.max()) + 1 if len(tree) else 0)
    if (count != 1).any():
        what = "a tree without a root, so with a cycle" if (count == 0).any() else "a tree with several roots"
        raise invalid(node, what)
    return roots


# ---- TreeEnsemble: decisions and leaves apart ------------------------------------------------------------------------


def _read_split(node: ir.Node, targets: int) -> Ensemble:
    names = ("featureids", "truenodeids", "falsenodeids", "trueleafs", "falseleafs")
    parts = {name: _integers(node, f"nodes_{name}") for name in names}
    modes = _tensor(node, "nodes_modes").astype(np.int64)
    parts |= {"modes": modes, "splits": _floats(_tensor(node, "nodes_splits"))}
    count = _same_length(node, parts)
    if count and not (modes.min() >= 0 and modes.max() <= MEMBER):
        raise invalid(node, "a mode that there is not", "0 to 6")
    leaves = {"weights": _floats(_tensor(node, "leaf_weights")), "targetids": _integers(node, "leaf_targetids")}
    size = _same_length(node, leaves)
    true, false = (
        _references(node, parts[f"{side}nodeids"], parts[f"{side}leafs"] != 0, count, size)
        for side in ("true", "false")
    )
    roots = _integers(node, "tree_roots")
    if len(roots) and not (roots.min() >= 0 and roots.max() < count):
        raise invalid(node, "tree_roots names a node that is not there", f"0 to {count - 1}")
    votes = Votes(np.arange(size + 1), leaves["targetids"], leaves["weights"])
    missing, members = _missing(node, count), _members(node, modes)
    base = np.zeros(targets)
    return Ensemble(
        modes, parts["featureids"], parts["splits"], missing, true, false, roots, votes, targets, base, members
    )


def _tensor(node: ir.Node, name: str) -> Array:
    found = node.attributes.get(name)
    if found is None:
        raise invalid(node, f"{name} is missing")
    return np.asarray(found.as_tensor().numpy()).reshape(-1)


def _references(node: ir.Node, ids: Array, is_leaf: Array, nodes: int, leaves: int) -> Array:
    limit = np.where(is_leaf, leaves, nodes)
    if ((ids < 0) | (ids >= limit)).any():
        raise invalid(node, "a branch leads to a node or leaf that is not there")
    return np.where(is_leaf, ~ids, ids)


def _members(node: ir.Node, modes: Array) -> dict[int, Array]:
    """The values that each MEMBER node accepts, sorted, each once."""
    wanted = np.flatnonzero(modes == MEMBER)
    if not len(wanted):
        return {}
    values = _floats(_tensor(node, "membership_values"))
    if len(values) and not np.isnan(values[-1]):
        values = np.append(values, np.float32(np.nan))  # the last delimiter adds nothing
    ends = np.flatnonzero(np.isnan(values))
    if len(ends) != len(wanted):
        raise invalid(node, "membership_values has another number of sets", str(len(wanted)), str(len(ends)))
    sets = np.split(values, ends + 1)
    return {int(at): np.unique(part[:-1]) for at, part in zip(wanted, sets, strict=False)}


# ---- one kind of decision --------------------------------------------------------------------------------------------


def simplified(ensemble: Ensemble, dtype: np.dtype[Any]) -> Ensemble:
    """The same function of rows of `dtype` with LEQ decisions alone, whose thresholds are of that type too.

    A threshold that is NaN is never met. Nodes that are put in may have several parents.
    """
    with np.errstate(all="ignore"):
        return _with_missing(_ordered(_expanded(ensemble, dtype), dtype))


def _at_most(values: Array, dtype: np.dtype[Any]) -> Array:
    """The largest numbers of a type that are not above the values."""
    near = values.astype(dtype)
    return np.where(near > values, np.nextafter(near, dtype.type(-np.inf)), near).astype(dtype)


def _below(values: Array, dtype: np.dtype[Any]) -> Array:
    """The largest numbers of a type that are below the values; NaN where there is none."""
    near = values.astype(dtype)
    lower = np.where(near >= values, np.nextafter(near, dtype.type(-np.inf)), near)
    return np.where(values == -np.inf, np.nan, lower).astype(dtype)


def _expanded(ensemble: Ensemble, dtype: np.dtype[Any]) -> Ensemble:
    """EQ, NEQ and MEMBER as searches: `x <= v`, and if so not `x < v`."""
    special = np.flatnonzero(ensemble.modes >= EQ)
    if not len(special):
        return ensemble
    search = _Search(len(ensemble.modes))
    modes, splits, missing = ensemble.modes.copy(), ensemble.splits.astype(np.float64), ensemble.missing.copy()
    true, false = ensemble.true.copy(), ensemble.false.copy()
    for at in special.tolist():
        yes, no = int(ensemble.true[at]), int(ensemble.false[at])
        if modes[at] == NEQ:
            yes, no = no, yes
        values = ensemble.members[at] if modes[at] == MEMBER else splits[at : at + 1]
        tracks = bool(missing[at]) and modes[at] != NEQ  # a NaN differs from every number
        search.feature = int(ensemble.features[at])
        modes[at], missing[at] = LEQ, tracks
        if len(values) == 0:
            splits[at], true[at], false[at] = np.nan, yes, no
        else:
            splits[at], true[at], false[at] = search.node(values, yes, no, tracks)
    return replace(
        ensemble,
        modes=np.append(modes, search.modes),
        features=np.append(ensemble.features, np.array(search.features, np.int64)),
        splits=np.append(splits, np.array(search.splits, splits.dtype)),
        missing=np.append(missing, np.array(search.missing, np.bool_)),
        true=np.append(true, np.array(search.true, np.int64)),
        false=np.append(false, np.array(search.false, np.int64)),
        members={},
    )


class _Search:
    """Nodes behind those there are, which find out whether a feature is among sorted values."""

    def __init__(self, first: int) -> None:
        self._first, self.feature = first, 0
        self.modes: list[int] = []
        self.features: list[int] = []
        self.splits: list[float] = []
        self.missing: list[bool] = []
        self.true: list[int] = []
        self.false: list[int] = []

    def _add(self, mode: int, split: float, true: int, false: int, missing: bool) -> int:
        self.modes.append(mode)
        self.features.append(self.feature)
        self.splits.append(split)
        self.true.append(true)
        self.false.append(false)
        self.missing.append(missing)
        return self._first + len(self.modes) - 1

    def node(self, values: Array, yes: int, no: int, missing: bool) -> tuple[float, int, int]:
        """The threshold and children of a node that decides between `yes` and `no`."""
        middle = (len(values) - 1) // 2
        value = values[middle]
        if len(values) == 1:
            return value, self._add(LT, value, no, yes, False), no
        low, high = values[: middle + 1], values[middle + 1 :]
        return value, *(self._add(LEQ, *self.node(part, yes, no, missing), missing) for part in (low, high))


def _ordered(ensemble: Ensemble, dtype: np.dtype[Any]) -> Ensemble:
    """LT, GTE and GT as LEQ: by the next smaller number, and the other way round."""
    modes, splits = ensemble.modes, ensemble.splits
    thresholds = np.where((modes == LT) | (modes == GTE), _below(splits, dtype), _at_most(splits, dtype)).astype(dtype)
    swap = ((modes == GTE) | (modes == GT)) & ~np.isnan(splits)  # nothing is beyond NaN, either way
    return _swapped(replace(ensemble, modes=np.full_like(modes, LEQ), splits=thresholds), swap)


def _swapped(ensemble: Ensemble, where: Array) -> Ensemble:
    """The same decisions with their branches, and the way of NaN, the other way round where it says so."""
    return replace(
        ensemble,
        missing=ensemble.missing ^ where,
        true=np.where(where, ensemble.false, ensemble.true),
        false=np.where(where, ensemble.true, ensemble.false),
    )


def _with_missing(ensemble: Ensemble) -> Ensemble:
    """A threshold that only NaN meets as one that only NaN does not meet: so NaN may be compared as minus infinity
    wherever it tracks true.
    """
    only = np.isnan(ensemble.splits) & ensemble.missing
    splits = np.where(only, ensemble.splits.dtype.type(np.inf), ensemble.splits)
    return _swapped(replace(ensemble, splits=splits), only)
