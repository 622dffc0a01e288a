"""Tree ensembles against a walk through the trees in plain Python, on and next to every threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import sardonyx
from tests.suites.case import Array, Case
from tests.suites.trees import DOMAIN, MODES, Branch, Leaf, Tree, case, ensemble, listed, random_tree, split

THRESHOLDS = (-3e38, -1.5, -1e-40, 0.0, 0.1, 1.0, 2.5, 16777217.0, 1e39)
ENDS = (np.inf, -np.inf, -0.0, np.nan)


def reached(tree: Tree, row: Array) -> Leaf:
    """The leaf a row comes to; Python compares floats exactly."""
    while isinstance(tree, Branch):
        x, value = float(row[tree.feature]), tree.value
        numbers = value if isinstance(value, tuple) else (value,)
        holds = {
            "LEQ": x <= numbers[0],
            "LT": x < numbers[0],
            "GTE": x >= numbers[0],
            "GT": x > numbers[0],
            "EQ": x == numbers[0],
            "NEQ": x != numbers[0],
            "MEMBER": x in numbers,
        }[tree.mode]
        tree = tree.true if holds or (tree.missing and np.isnan(x)) else tree.false
    return tree


def votes(trees: Sequence[Tree], x: Array, targets: int, aggregate: str = "SUM") -> Array:
    """Scores in float64."""
    scores = np.zeros((len(x), targets))
    for index, row in enumerate(x):
        found: list[list[float]] = [[] for _ in range(targets)]
        for tree in trees:
            for target, weight in reached(tree, row).votes:
                found[target].append(weight)
        combine = {"MIN": min, "MAX": max}.get(aggregate, sum)
        scores[index] = [combine(part) if part else 0.0 for part in found]
    return scores / len(trees) if aggregate == "AVERAGE" else scores


def model(node: onnx.NodeProto, x: Array, ml: int) -> bytes:
    """The node alone, with open rows."""
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    rows = helper.make_tensor_value_info("x", kind, ["rows", x.shape[1]])
    graph = helper.make_graph([node], "trees", [rows], outputs)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, ml)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return made


def run(node: onnx.NodeProto, x: Array, ml: int = 3) -> list[Array]:
    """What native code says: of all rows at once and, which must be the same, of each alone."""
    session = sardonyx.InferenceSession(model(node, x, ml))
    assert {placement.provider for placement in session.explain()} == {"cpu"}
    every = session.run(None, {"x": x})
    for index in range(min(len(x), 40)):
        for whole, one in zip(every, session.run(None, {"x": x[index : index + 1]}), strict=True):
            np.testing.assert_array_equal(whole[index : index + 1], one)
    return every


def beside(thresholds: Sequence[float], dtype: Any) -> Array:
    """Each threshold as rounded to a type, the numbers next to it, and what is no threshold."""
    with np.errstate(over="ignore"):
        near = np.array(thresholds, dtype)
    around = [near, np.nextafter(near, dtype(np.inf)), np.nextafter(near, dtype(-np.inf)), np.array(ENDS, dtype)]
    return np.concatenate(around)


def around(trees: Sequence[Tree], dtype: Any, features: int) -> Array:
    """Rows for each threshold and what lies beside it, in each feature, among random numbers."""
    random = np.random.default_rng(3)
    numbers = beside(THRESHOLDS, dtype)
    x = random.choice(numbers, (len(numbers) * 4, features))
    for feature in range(features):
        x[np.arange(len(numbers)) * 4 + feature % 4, feature] = numbers
    return x.astype(dtype)


def distinct(trees: Sequence[Tree]) -> list[Tree]:
    """The trees with weights of which every sum is another, and exact: so that scores tell the leaf of each tree."""
    counter = iter(range(1, 1 << 20))

    def renamed(tree: Tree, base: int) -> Tree:
        if isinstance(tree, Leaf):
            return Leaf(tuple((target, float(next(counter) * base)) for target, _ in tree.votes))
        return Branch(
            tree.mode, tree.feature, tree.value, tree.missing, renamed(tree.true, base), renamed(tree.false, base)
        )

    return [renamed(tree, 1) for tree in trees]


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("rows", [np.float32, np.float64])
@pytest.mark.parametrize("modes", [("LEQ",), ("LT",), ("GTE",), ("GT",), ("EQ",), ("NEQ",), ("MEMBER",), MODES])
def test_leaves_are_those_of_the_comparison(modes: tuple[str, ...], rows: Any, missing: bool) -> None:
    random = np.random.default_rng(5)
    values = [float(rows(v)) for v in THRESHOLDS if abs(v) <= float(np.finfo(rows).max)]
    for _ in range(3):
        trees = distinct([random_tree(random, 4, 4, values, modes=modes, missing=missing) for _ in range(3)])
        x = around(trees, rows, 4)
        (got,) = run(ensemble("TreeEnsemble", "y", n_targets=1, **split(trees, rows)), x, ml=5)
        assert got.dtype == rows
        np.testing.assert_array_equal(got, votes(trees, x, 1))


@pytest.mark.parametrize("rows", [np.float32, np.float64])
@pytest.mark.parametrize("double", [False, True])
def test_thresholds_of_another_type_than_rows(double: bool, rows: Any) -> None:
    random, stored = np.random.default_rng(6), np.float64 if double else np.float32
    with np.errstate(over="ignore"):
        values = [float(v) for v in np.array(THRESHOLDS).astype(stored)]
    trees = distinct([random_tree(random, 5, 4, values, modes=MODES[:6], missing=True) for _ in range(5)])
    x = around(trees, rows, 4)
    (got,) = run(ensemble("TreeEnsembleRegressor", "y", n_targets=1, **listed(trees, "target", double=double)), x)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, votes(trees, x, 1))


@pytest.mark.parametrize("rows", [np.int32, np.int64])
@pytest.mark.parametrize("double", [False, True])
def test_whole_numbers_are_compared_as_floats(rows: Any, double: bool) -> None:
    random = np.random.default_rng(7)
    values = [16777216.0, 16777218.0, 0.5, -3.0, 2.0**31 - 1 if double else 2.0**31]
    trees = distinct([random_tree(random, 5, 3, values, modes=MODES[:6]) for _ in range(6)])
    x = random.choice([16777215, 16777216, 16777217, 16777218, 0, 1, -3, -4, 2**31 - 1], (90, 3)).astype(rows)
    (got,) = run(ensemble("TreeEnsembleRegressor", "y", n_targets=1, **listed(trees, "target", double=double)), x)
    np.testing.assert_array_equal(got, votes(trees, x.astype(np.float64 if double else np.float32), 1))


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize(("targets", "several"), [(1, False), (3, False), (3, True), (200, False)])
def test_aggregates_are_rounded_once(targets: int, several: bool, aggregate: str) -> None:
    random = np.random.default_rng(8)
    trees = [
        random_tree(random, 6, 5, np.linspace(-2, 2, 30), targets=targets, several=several, scale=10.0 ** (i % 7))
        for i in range(60)
    ]
    x = random.standard_normal((50, 5)).astype(np.float32)
    base = random.standard_normal(targets).astype(np.float32)
    attributes = {"n_targets": targets, "aggregate_function": aggregate, "base_values": base.tolist()}
    (got,) = run(ensemble("TreeEnsembleRegressor", "y", **attributes, **listed(trees, "target")), x)
    want = votes(trees, x, targets, aggregate) + base.astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=7e-8)


def _stumps(*classes: tuple[int, float, float]) -> dict[str, Any]:
    return listed(
        [Branch("LEQ", 0, 0.5, False, Leaf(((c, low),)), Leaf(((c, high),))) for c, low, high in classes], "class"
    )


def _logistic(*scores: float) -> list[float]:
    return [1 / (1 + np.exp(-s)) for s in scores]


def test_one_score_of_two_classes() -> None:
    x = np.array([[0.0], [1.0]], np.float32)
    cases = [
        ((0.3, 0.8), "NONE", [[0.7, 0.3], [0.2, 0.8]], [5, 9]),
        ((0.3, 0.8), "LOGISTIC", [_logistic(-0.3, 0.3), _logistic(-0.8, 0.8)], [5, 9]),
        ((-0.4, 0.6), "NONE", [[0.4, -0.4], [-0.6, 0.6]], [5, 9]),
        ((-0.4, 0.6), "LOGISTIC", [_logistic(0.4, -0.4), _logistic(-0.6, 0.6)], [5, 9]),
        ((-0.4, 0.3), "NONE", [[0.4, -0.4], [-0.3, 0.3]], [5, 9]),
        ((-0.4, 0.6), "SOFTMAX", [[0.4, -0.4], [-0.6, 0.6]], [5, 9]),
    ]
    for weights, transform, scores, labels in cases:
        node = ensemble(
            "TreeEnsembleClassifier", "label y", post_transform=transform, classlabels_int64s=[5, 9],
            **_stumps((0, *weights)),
        )  # fmt: skip
        label, got = run(node, x)
        assert label.tolist() == labels
        np.testing.assert_allclose(got, scores, rtol=1e-6)


def test_votes_for_two_classes_choose_the_higher() -> None:
    node = ensemble(
        "TreeEnsembleClassifier", "label y", classlabels_int64s=[5, 9], **_stumps((0, 0.7, 0.2), (1, 0.3, 0.8))
    )
    label, got = run(node, np.array([[0.0], [1.0]], np.float32))
    assert label.tolist() == [5, 9]
    np.testing.assert_allclose(got, [[0.7, 0.3], [0.2, 0.8]], rtol=1e-6)


def test_probit_is_the_formula_that_others_use() -> None:
    from onnx.reference.ops.aionnxml._common_classifier import probit

    random = np.random.default_rng(9)
    trees = [Branch("LEQ", 0, float(v), False, Leaf(((0, 0.01),)), Leaf(((0, 0.02),))) for v in random.normal(size=40)]
    x = random.standard_normal((30, 1)).astype(np.float32)
    attributes = listed(trees, "target") | {"n_targets": 1, "post_transform": "PROBIT"}
    (got,) = run(ensemble("TreeEnsembleRegressor", "y", **attributes), x)
    np.testing.assert_allclose(got, probit(votes(trees, x, 1)), rtol=1e-4, atol=1e-5)


def test_text_labels_come_from_a_native_index() -> None:
    random = np.random.default_rng(10)
    trees = [random_tree(random, 5, 4, (-0.5, 0.0, 0.5), targets=3) for _ in range(20)]
    x = random.standard_normal((30, 4)).astype(np.float32)
    node = ensemble("TreeEnsembleClassifier", "label y", classlabels_strings=["a", "b", "c"], **listed(trees, "class"))
    session = sardonyx.InferenceSession(model(node, x, 3))
    assert ("TreeEnsembleClassifier", "cpu") in {(p.op.split("::")[-1], p.provider) for p in session.explain()}
    label, got = session.run(None, {"x": x})
    want = votes(trees, x, 3)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    assert label.tolist() == ["abc"[best] for best in want.argmax(axis=1)]


def test_leaves_and_branches_that_trees_share() -> None:
    tensors = {"nodes_modes": np.zeros(3, np.uint8), "nodes_splits": np.array([0, 1, 2], np.float32)}
    tensors["leaf_weights"] = np.array([1, 2, 4], np.float32)
    node = ensemble(
        "TreeEnsemble", "y", n_targets=2, tree_roots=[0, 1, 2, 1], nodes_featureids=[0, 0, 0],
        nodes_truenodeids=[0, 0, 1], nodes_trueleafs=[1, 1, 1],
        nodes_falsenodeids=[2, 1, 2], nodes_falseleafs=[0, 1, 1],
        leaf_targetids=[0, 1, 1], **{k: numpy_helper.from_array(v, k) for k, v in tensors.items()},
    )  # fmt: skip
    (got,) = run(node, np.array([[-1.0], [0.5], [1.5], [2.5]], np.float32), ml=5)
    # Trees: 0 (x <= 0: leaf 0, else node 2), 1 (x <= 1: leaf 0, else 1) twice, 2 (x <= 2: leaf 1, else 2).
    np.testing.assert_array_equal(got, [[3, 2], [2, 4], [0, 8], [0, 12]])


def test_no_trees_and_no_rows() -> None:
    node = ensemble("TreeEnsembleRegressor", "y", n_targets=2, base_values=[1.0, 2.0])
    (got,) = run(node, np.zeros((9, 3), np.float32))
    np.testing.assert_array_equal(got, [[1, 2]] * 9)
    (got,) = run(ensemble("TreeEnsembleRegressor", "y", n_targets=1, **_regressor()), np.zeros((0, 3), np.float32))
    assert got.shape == (0, 1)


def _regressor(**changes: Any) -> dict[str, Any]:
    tree = Branch("LEQ", 0, 0.5, False, Leaf(((0, 1.0),)), Leaf(((0, 2.0),)))
    return listed([tree, tree], "target") | changes


def _hostile() -> Iterator[Case]:
    x = np.zeros((3, 2), np.float32)
    wrong = {
        "child-that-is-not-there": {"nodes_truenodeids": [1, 0, 0, 77, 0, 0]},
        "child-huge": {"nodes_truenodeids": [1, 0, 0, 1 << 62, 0, 0]},
        "child-negative": {"nodes_truenodeids": [-5, 0, 0, 1, 0, 0]},
        "cycle": {"nodes_truenodeids": [0, 0, 0, 1, 0, 0]},
        "several-roots": {"nodes_truenodeids": [2, 0, 0, 1, 0, 0]},
        "ids-twice": {"nodes_nodeids": [0, 1, 1, 0, 1, 2]},
        "ids-far-apart": {"nodes_nodeids": [0, 1, -(1 << 63), 0, 1, (1 << 63) - 1]},
        "lengths": {"nodes_values": [0.5]},
        "missing-length": {"nodes_missing_value_tracks_true": [1]},
        "modes": {"nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_MAYBE", "LEAF", "LEAF"]},
        "feature-beyond": {"nodes_featureids": [0, 0, 0, 2, 0, 0]},
        "feature-huge": {"nodes_featureids": [0, 0, 0, 1 << 61, 0, 0]},
        "feature-huger": {"nodes_featureids": [0, 0, 0, (1 << 63) - 1, 0, 0]},
        "feature-negative": {"nodes_featureids": [0, 0, 0, -1, 0, 0]},
        "target-beyond": {"target_ids": [0, 1, 0, 0]},
        "target-negative": {"target_ids": [0, -1, 0, 0]},
        "vote-of-nobody": {"target_nodeids": [1, 9, 1, 2]},
        "vote-of-no-tree": {"target_treeids": [0, 0, 1, 5]},
        "votes-lengths": {"target_weights": [1.0]},
        "targets-0": {"n_targets": 0},
        "targets-huge": {"n_targets": 1 << 40},
        "base-length": {"n_targets": 3, "base_values": [1.0, 2.0]},
        "aggregate": {"aggregate_function": "MEDIAN"},
        "transform": {"post_transform": "SQUARE"},
    }
    for name, changes in wrong.items():
        yield case(name, x, "TreeEnsembleRegressor", "y", {"n_targets": 1} | _regressor() | changes)
    tree = Branch("MEMBER", 0, (1.0, 2.0), False, Leaf(((0, 1.0),)), Leaf(((0, 2.0),)))
    for name, changes in {
        "branch-beyond": {"nodes_truenodeids": [9]},
        "branch-to-itself": {"nodes_trueleafs": [0]},
        "root-beyond": {"tree_roots": [3]},
        "mode-beyond": {"nodes_modes": numpy_helper.from_array(np.array([9], np.uint8))},
        "sets-too-many": {"membership_values": numpy_helper.from_array(np.array([1, np.nan, 2, np.nan], np.float32))},
        "aggregate-beyond": {"aggregate_function": 4},
        "transform-beyond": {"post_transform": -1},
    }.items():
        yield case(f"split-{name}", x, "TreeEnsemble", "y", {"n_targets": 1} | split([tree]) | changes, ml=5)
    yield case("no-labels", x, "TreeEnsembleClassifier", "y s", _stumps((0, 0.5, 0.3)))
    yield case(
        "class-beyond", x, "TreeEnsembleClassifier", "y s", _stumps((2, 1.0, 1.0)) | {"classlabels_int64s": [1, 2]}
    )


@pytest.mark.parametrize("hostile", list(_hostile()), ids=lambda hostile: hostile.name)
def test_hostile_attributes(hostile: Case) -> None:
    with pytest.raises(sardonyx.SardonyxError, match="trees"):
        sardonyx.InferenceSession(hostile.model().SerializeToString()).run(None, dict(hostile.feeds))


@pytest.mark.parametrize("estimator", ["RandomForestClassifier", "GradientBoostingClassifier", "ExtraTreesRegressor"])
@pytest.mark.parametrize("classes", [2, 3])
def test_what_scikit_learn_says(estimator: str, classes: int) -> None:
    ensembles, skl2onnx = pytest.importorskip("sklearn.ensemble"), pytest.importorskip("skl2onnx")
    random = np.random.default_rng(12)
    x = random.standard_normal((200, 6)).astype(np.float32)
    labels = (x[:, 0] + x[:, 1] * x[:, 2] > 0.3).astype(np.int64) + (x[:, 3] > 0.5 if classes == 3 else 0)
    fitted = getattr(ensembles, estimator)(n_estimators=20, max_depth=6, random_state=0).fit(x, labels)
    options = {id(fitted): {"zipmap": False}} if hasattr(fitted, "classes_") else None
    made = skl2onnx.to_onnx(fitted, x[:1], options=options)
    session = sardonyx.InferenceSession(made.SerializeToString())
    assert "cpu" in {p.provider for p in session.explain() if p.op.split("::")[-1].startswith("TreeEnsemble")}
    got = session.run(None, {"X": x})
    if options is None:
        np.testing.assert_allclose(got[0].ravel(), fitted.predict(x), rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(got[0], fitted.predict(x))
        np.testing.assert_allclose(got[1], fitted.predict_proba(x), rtol=1e-5, atol=1e-6)
