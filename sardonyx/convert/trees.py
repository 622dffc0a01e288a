"""Trees of any library as TreeEnsemble of ai.onnx.ml 5, and what classifiers and regressors make of their scores.

All comparisons of an ensemble are of one kind, `x < split` or `x <= split`, which every runtime does alike. What trees
ask otherwise becomes a column beside the input's own: whether a category is in a set, a feature whose zeros are
missing values. TreeEnsemble's own set membership is not used, since runtimes differ about it (onnxruntime up to 1.32
unrolls it to chains that share nodes, which it then takes for other trees).

Thresholds of float64 become float32 in the direction that decides every float32 number as before: the largest float32
that is not above the threshold for `x <= t` (`at_most`), the smallest that is not below it for `x < t` (`at_least`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Array, Values
from sardonyx.convert.graph import GraphBuilder
from sardonyx.errors import ConversionError, ModelFileError

ML = "ai.onnx.ml"
LEQ, LT = 0, 1
"""The modes of TreeEnsemble that are used: `x <= split` and `x < split`."""
MOST_DEPTH = 4096
"""Deeper trees are refused: runtimes descend into them by recursion."""
LOST = 1 << 62
MOST_RANGES = 1 << 22
"""Of categories in sets, in one model."""
MOST_FEATURES = 1 << 24
"""float32 inputs of more would not fit a batch of one into memory anyway."""


def at_most(values: Array) -> Array:
    """The largest float32 that are not above `values` (float64)."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)


def at_least(values: Array) -> Array:
    """The smallest float32 that are not below `values` (float64)."""
    return -at_most(-values)


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees as arrays. References are the index of a node, or ~index of a leaf (a tree may be a single leaf).

    Node i goes to `true[i]` if the row's feature `features[i]` compares with `splits[i]` (float32), or if that feature
    is NaN and `missing[i]`; else to `false[i]`. Leaf j adds `values[j]` to score `targets[j]`.
    """

    roots: Array
    features: Array
    splits: Array
    missing: Array
    true: Array
    false: Array
    values: Array
    targets: Array

    def grown(self, where: str, columns: int, targets: int) -> Forest:
        """The same without nodes and leaves that no root leads to, checked to be trees.

        Raises ModelFileError, with `where`, when branches lead nowhere, meet again or go round, when trees are deeper
        than `MOST_DEPTH`, and for features, targets, splits or values that cannot be.
        """
        nodes, leaves = len(self.features), len(self.values)
        seen, cast = np.zeros(nodes, np.bool_), np.zeros(leaves, np.bool_)
        front, depth = self.roots, 0
        while len(front):
            if ((front >= nodes) | (front < -leaves)).any():
                raise ModelFileError("a tree has a branch that leads nowhere", where=where)
            inner, ends = front[front >= 0], ~front[front < 0]
            if (
                seen[inner].any()
                or cast[ends].any()
                or len(np.unique(inner)) < len(inner)
                or len(np.unique(ends)) < len(ends)
            ):
                raise ModelFileError("a tree's branches meet again", where=where)
            seen[inner], cast[ends] = True, True
            front, depth = np.concatenate([self.true[inner], self.false[inner]]), depth + 1
            if depth > MOST_DEPTH:
                raise ModelFileError("a tree is too deep", where=where, expected=f"at most {MOST_DEPTH:,} levels")
        made = self._only(seen, cast)
        if len(made.features) and not 0 <= made.features.min() <= made.features.max() < columns:
            got = f"{made.features.min()} to {made.features.max()}"
            raise ModelFileError(
                "a tree asks for a feature that there is not", where=where, expected=f"0 to {columns - 1}", got=got
            )
        if len(made.targets) and not 0 <= made.targets.min() <= made.targets.max() < targets:
            raise ModelFileError("a tree adds to a score that there is not", where=where, expected=f"{targets} scores")
        if np.isnan(made.splits).any() or not np.isfinite(made.values).all():
            raise ModelFileError("a tree's split is NaN, or a leaf's value is not finite", where=where)
        return made

    def _only(self, nodes: Array, leaves: Array) -> Forest:
        """Those nodes and leaves, renumbered."""
        if nodes.all() and leaves.all():
            return self
        node, leaf = np.cumsum(nodes) - 1, np.cumsum(leaves) - 1

        def moved(references: Array) -> Array:
            result = references.copy()
            result[references >= 0] = node[references[references >= 0]]
            result[references < 0] = ~leaf[~references[references < 0]]
            return result

        return Forest(
            moved(self.roots), self.features[nodes], self.splits[nodes], self.missing[nodes],
            moved(self.true[nodes]), moved(self.false[nodes]), self.values[leaves], self.targets[leaves],
        )  # fmt: skip

    def branched(self) -> Forest:
        """The same function without trees that are single leaves, and with one tree at least.

        A leaf alone becomes a decision between two leaves of its value: runtimes differ about other ways.
        """
        alone = np.flatnonzero(self.roots < 0)
        ends = ~self.roots[alone]
        values, targets = self.values, self.targets
        if not len(self.roots):
            alone, ends = np.zeros(1, np.int64), np.array([len(values)])
            values, targets = np.append(values, 0), np.append(targets, 0)
        nodes, leaves, count = len(self.features), len(values), len(alone)
        roots = self.roots.copy() if len(self.roots) else np.zeros(1, np.int64)
        roots[alone] = nodes + np.arange(count)
        return Forest(
            roots,
            np.append(self.features, np.zeros(count, np.int64)),
            np.append(self.splits, np.zeros(count, self.splits.dtype)),
            np.append(self.missing, np.zeros(count, np.bool_)),
            np.append(self.true, ~ends),
            np.append(self.false, ~(leaves + np.arange(count))),
            np.append(values, values[ends]),
            np.append(targets, targets[ends]),
        )


def joined(forests: Sequence[Forest]) -> Forest:
    """All trees of several forests. What refers to nothing in its own forest stays so, as `LOST`."""
    if not forests:
        whole = np.zeros(0, np.int64)
        floats = np.zeros(0)
        return Forest(whole, whole, floats, np.zeros(0, np.bool_), whole, whole, floats, whole)
    nodes = np.cumsum([0, *(len(forest.features) for forest in forests)])
    leaves = np.cumsum([0, *(len(forest.values) for forest in forests)])

    def moved(forest: Forest, references: Array, node: int, leaf: int) -> Array:
        lost = (references >= len(forest.features)) | (references < -len(forest.values))
        return np.where(lost, LOST, np.where(references >= 0, references + node, references - leaf))

    def references(name: str) -> Array:
        starts = zip(forests, nodes.tolist(), leaves.tolist(), strict=False)
        return np.concatenate([moved(forest, getattr(forest, name), node, leaf) for forest, node, leaf in starts])

    def plain(name: str) -> Array:
        return np.concatenate([getattr(forest, name) for forest in forests])

    return Forest(
        references("roots"), plain("features"), plain("splits"), plain("missing"), references("true"),
        references("false"), plain("values"), plain("targets"),
    )  # fmt: skip


def ensemble(builder: GraphBuilder, rows: ir.Value, forest: Forest, mode: int, targets: int, name: str) -> ir.Value:
    """The sums of the trees' leaves, [batch, targets] of float32, for rows of float32."""
    forest = forest.branched()
    true, false = forest.true, forest.false
    # onnxruntime up to 1.22 takes a root whose leaf and node have the same index for a leaf: leaves start elsewhere.
    left, right = true[forest.roots], false[forest.roots]
    mixed = (left < 0) != (right < 0)
    apart = np.unique((np.maximum(left, right) - ~np.minimum(left, right))[mixed])
    start = int(np.setdiff1d(np.arange(len(apart) + 1), apart)[0])
    unused = np.zeros(start)

    def ints(values: Array) -> list[int]:
        found: list[int] = values.astype(np.int64).tolist()
        return found

    return builder.node(
        "TreeEnsemble",
        [rows],
        name=name,
        domain=ML,
        n_targets=targets,
        aggregate_function=1,
        post_transform=0,
        tree_roots=ints(forest.roots),
        nodes_featureids=ints(forest.features),
        nodes_splits=ir.tensor(forest.splits.astype(np.float32)),
        nodes_modes=ir.tensor(np.full(len(true), mode, np.uint8)),
        nodes_missing_value_tracks_true=ints(forest.missing),
        nodes_truenodeids=ints(np.where(true < 0, ~true + start, true)),
        nodes_falsenodeids=ints(np.where(false < 0, ~false + start, false)),
        nodes_trueleafs=ints(true < 0),
        nodes_falseleafs=ints(false < 0),
        leaf_targetids=ints(np.append(unused, forest.targets)),
        leaf_weights=ir.tensor(np.append(unused, forest.values).astype(np.float32)),
    )


# ---- columns beside the input's own ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Membership:
    """Whether the whole part of a feature is one of some categories; for NaN it is `missing`.

    `packed` are the categories as bytes, so that equal sets are found to be equal: int64, sorted, each once, from 0 on.
    With `negative` numbers between -1 and 0 have the category 0, as a conversion to integers says.
    """

    feature: int
    packed: bytes
    missing: bool = False
    negative: bool = False

    @property
    def categories(self) -> Array:
        """The categories, int64."""
        return np.frombuffer(self.packed, np.int64)

    @property
    def largest(self) -> int:
        """The largest category, or 0."""
        return int(self.categories[-1]) if self.packed else 0

    def bounds(self) -> Array:
        """Where numbers begin to be in the set, where they begin not to be, and so on: float64."""
        found = self.categories
        starts, ends = found[np.diff(found, prepend=-2) != 1], found[np.diff(found, append=-2) != 1] + 1
        bounds = np.stack([starts, ends], 1).reshape(-1).astype(np.float64)
        if self.negative and len(bounds) and bounds[0] == 0:
            bounds[0] = np.nextafter(np.float32(-1), np.float32(0))
        return bounds


@dataclass
class Columns:
    """Numbers for the columns that trees look at: those of the input, then those that are computed beside it."""

    features: int
    zeros: dict[int, int] = field(default_factory=dict)
    memberships: dict[Membership, int] = field(default_factory=dict)
    nearly_zero: float = 0.0

    @classmethod
    def of(
        cls, features: int, zeros: Sequence[int], memberships: Sequence[Membership], nearly_zero: float = 0.0
    ) -> Columns:
        """The columns of so many features, of features whose zeros (up to `nearly_zero`) are missing, of sets."""
        first = {feature: features + i for i, feature in enumerate(dict.fromkeys(zeros))}
        start = features + len(first)
        return cls(features, first, {s: start + i for i, s in enumerate(dict.fromkeys(memberships))}, nearly_zero)

    @property
    def count(self) -> int:
        """All columns."""
        return self.features + len(self.zeros) + len(self.memberships)

    def write(self, builder: GraphBuilder, rows: ir.Value) -> ir.Value:
        """The rows with all columns: float32 [batch, count]."""
        parts = [rows]
        if self.zeros:
            index = builder.initializer("zeros/features", np.array(list(self.zeros), np.int64))
            chosen = builder.node("Gather", [rows, index], name="zeros/values", axis=1)
            size = builder.node("Abs", [chosen], name="zeros/size")
            limit = builder.initializer("zeros/limit", np.array(self.nearly_zero, np.float32))
            small = builder.node("LessOrEqual", [size, limit], name="zeros/small")
            nan = builder.initializer("zeros/missing", np.array(np.nan, np.float32))
            parts.append(builder.node("Where", [small, nan, chosen], name="zeros/as_missing"))
        if self.memberships:
            ranges = sum(len(member.bounds()) for member in self.memberships)
            if ranges > MOST_RANGES:
                raise ConversionError(
                    "too many sets of categories", expected=f"{MOST_RANGES:,} ranges", got=f"{ranges:,}"
                )
            sets = joined([_search(member, target) for target, member in enumerate(self.memberships)])
            parts.append(ensemble(builder, rows, sets, LT, len(self.memberships), "categories"))
        return parts[0] if len(parts) == 1 else builder.node("Concat", parts, name="columns", axis=1)


def _search(member: Membership, target: int) -> Forest:
    """The tree that gives 1 for a feature in the set and 0 for any other: a search among the bounds of its ranges."""
    bounds = member.bounds()
    splits: list[float] = []
    true: list[int] = []
    false: list[int] = []
    values: list[float] = []

    def leaf(value: bool) -> int:
        values.append(float(value))
        return ~(len(values) - 1)

    def node(low: int, high: int) -> int:
        """The search among bounds[low:high]; behind an odd number of bounds one is in the set."""
        if low == high:
            return leaf(low % 2 == 1)
        middle = (low + high) // 2
        at = len(splits)
        splits.append(bounds[middle])
        true.append(0)
        false.append(0)
        true[at], false[at] = node(low, middle), node(middle + 1, high)
        return at

    root = node(0, len(bounds))
    if member.missing:  # no number is below -inf
        splits.append(-np.inf)
        true.append(leaf(True))
        false.append(root)
        root = len(splits) - 1
    return Forest(
        np.array([root], np.int64),
        np.full(len(splits), member.feature, np.int64),
        at_least(np.array(splits, np.float64)),
        # Below the lowest bound is where NaN belongs that is not in the set.
        np.ones(len(splits), np.bool_),
        np.array(true, np.int64),
        np.array(false, np.int64),
        np.array(values),
        np.full(len(values), target, np.int64),
    )


# ---- from scores to results ------------------------------------------------------------------------------------------


def labelled(builder: GraphBuilder, index: ir.Value, classes: Sequence[int] | Sequence[str] | None) -> ir.Value:
    """The labels of classes by index (int64 [batch]); the index itself where classes have no labels of their own."""
    if classes is None or list(classes) == list(range(len(classes))):
        return index
    numbers = all(isinstance(label, int) for label in classes)
    if numbers:
        return builder.node(
            "Gather", [builder.initializer("labels", np.array(classes, np.int64)), index], name="label", axis=0
        )
    return builder.node(
        "LabelEncoder", [index], name="label", domain=ML,
        keys_int64s=list(range(len(classes))), values_strings=[str(label) for label in classes],
    )  # fmt: skip


def pair(builder: GraphBuilder, positive: ir.Value) -> ir.Value:
    """Probabilities of both classes [batch, 2] by that of the second [batch, 1]."""
    one = builder.initializer("one", np.array(1, np.float32))
    other = builder.node("Sub", [one, positive], name="negative")
    return builder.node("Concat", [other, positive], name="probabilities", axis=1)


def above(builder: GraphBuilder, score: ir.Value, threshold: float) -> ir.Value:
    """1 where a score [batch, 1] is above the threshold, else 0: int64 [batch]."""
    limit = builder.initializer("threshold", np.array(threshold, np.float32))
    more = builder.node("Greater", [score, limit], name="is_second")
    whole = builder.node("Cast", [more], name="second", to=ir.DataType.INT64.value)
    return builder.node("Reshape", [whole, builder.initializer("flat", np.array([-1], np.int64))], name="index")


def declared(value: ir.Value, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    """The value with its type and shape told."""
    value.type, value.shape = ir.TensorType(dtype), ir.Shape(shape)
    return value


# ---- inputs that test trees ------------------------------------------------------------------------------------------


def inputs_for(
    name: str, features: int, numeric: tuple[Array, Array], categories: Mapping[int, int], *, missing: bool = True
) -> Callable[[int, np.random.Generator], Values]:
    """Makes inputs at the thresholds `numeric` (features and their splits), next to them and elsewhere, with some NaN.

    `categories` has for each categorical feature a bound of its categories.
    """
    usual = np.abs(numeric[1]) < 1e30  # nothing that overflows in sums
    which, splits = numeric[0][usual], numeric[1][usual].astype(np.float32)
    order = np.argsort(which, kind="stable")
    which, splits = which[order], splits[order]
    found = {int(f): np.unique(part) for f, part in _groups(which, splits)}

    def make(batch: int, rng: np.random.Generator) -> Values:
        rows = rng.standard_normal((batch, features), np.float32)
        for feature, values in found.items():
            drawn = values[rng.integers(0, len(values), batch)]
            kind = rng.integers(0, 4, batch)
            beside = np.nextafter(drawn, np.where(kind == 1, -np.inf, np.inf).astype(np.float32))
            spread = (float(np.std(values)) or 1.0) * rng.normal(size=batch)
            with np.errstate(over="ignore"):
                away = (drawn + spread).astype(np.float32)
            rows[:, feature] = np.select([kind == 0, kind == 3], [drawn, away], beside)
        for feature, bound in categories.items():
            rows[:, feature] = rng.integers(-1, bound + 2, batch)
        if missing:
            rows[rng.random(rows.shape, np.float32) < 0.05] = np.nan
        return {name: rows}

    return make


def _groups(keys: Array, values: Array) -> list[tuple[int, Array]]:
    """Runs of equal keys (sorted) with their values."""
    starts = np.flatnonzero(np.diff(keys, prepend=-1)) if len(keys) else np.zeros(0, np.int64)
    return list(zip(keys[starts].tolist(), np.split(values, starts[1:]), strict=True)) if len(keys) else []


def scaled(forest: Forest, factors: Array | float) -> Forest:
    """The same with leaves' values multiplied."""
    return replace(forest, values=forest.values * factors)
