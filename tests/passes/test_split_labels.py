"""Text labels come from a LabelEncoder behind the classifier, in each version of that."""

import numpy as np
import onnx
import pytest
from onnx import helper

from sardonyx.model.proto import to_proto
from sardonyx.passes.split_labels import SPLIT_LABELS
from tests.passes.pass_cases import only, run_onnxruntime
from tests.suites.trees import DOMAIN, ensemble, listed, random_tree

import onnx_ir as ir  # isort: skip

TEXTS = ["cat", "dog", "eel"]


def classifier(texts: list[str], version: int) -> ir.Model:
    """Trees that vote for so many classes."""
    random = np.random.default_rng(2)
    trees = [random_tree(random, 4, 3, (-0.5, 0.0, 0.5), targets=len(texts)) for _ in range(9)]
    node = ensemble("TreeEnsembleClassifier", "y scores", classlabels_strings=texts, **listed(trees, "class"))
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [20, 3])],
        [
            helper.make_tensor_value_info("y", onnx.TensorProto.STRING, [20]),
            helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [20, len(texts)]),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, version)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_number_of_the_class_is_looked_up(version: int) -> None:
    model = classifier(TEXTS, version)
    result, applied, missed = only(SPLIT_LABELS, model)
    assert [node.op_type for node in result.graph] == ["TreeEnsembleClassifier", "LabelEncoder"]
    assert len(applied) == 1 and not missed
    onnx.checker.check_model(to_proto(result, "split"))
    x = {"x": np.random.default_rng(4).standard_normal((20, 3)).astype(np.float32)}
    for want, got in zip(run_onnxruntime(model, x), run_onnxruntime(result, x), strict=True):
        np.testing.assert_array_equal(want, got)


def test_a_single_label_stays() -> None:
    result, applied, missed = only(SPLIT_LABELS, classifier(["cat"], 3))
    assert [node.op_type for node in result.graph] == ["TreeEnsembleClassifier"]
    assert not applied and "single label" in missed[0].what
