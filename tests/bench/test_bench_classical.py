"""The bench of classical models: what it makes is what it says, and what it measures is there."""

from functools import partial

import numpy as np
import onnx
import pytest

from bench import show_calls
from bench.classical import CASES, Case, boosted, forest, outcome


def test_trees_are_as_large_as_asked_for() -> None:
    (node,) = onnx.load_from_string(boosted(5, 16, 4)).graph.node
    listed = {attribute.name: attribute for attribute in node.attribute}
    assert list(listed["nodes_modes"].strings).count(b"LEAF") == 5 * 16
    assert set(listed["nodes_featureids"].ints) <= set(range(4))
    (node,) = onnx.load_from_string(forest(3, 5, 4)).graph.node
    listed = {attribute.name: attribute for attribute in node.attribute}
    leaves = list(listed["nodes_modes"].strings).count(b"LEAF")
    assert 3 * 8 < leaves <= 3 * 32
    assert len(listed["class_weights"].floats) == leaves
    assert np.sum(listed["class_weights"].floats) > 0


@pytest.mark.parametrize("make", [partial(boosted, 12, 8, 4), partial(forest, 7, 4, 4)])
def test_an_outcome_holds_both_answers_together(make: partial[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    found = outcome(Case("small", make, 4, 33, 0.001), 1, 2, 0.001, told.append)
    assert told == ["small"]
    assert found.gap < 1e-6 and found.labels == 0
    assert found.ms > 0 and found.ratio.low <= found.ratio.median <= found.ratio.high
    assert found.good
    show_calls.print_classical([found], 1)
    assert "small" in capsys.readouterr().out


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
