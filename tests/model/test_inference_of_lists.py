"""Shape inference over our own serialisation."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

import sardonyx
from sardonyx.model.file import load, save
from sardonyx.model.shapes import infer_proto, infer_shapes


def test_inference_of_large_ensembles_leaves_their_lists_out_and_files_keep_them(tmp_path):
    """Serialising half a million numbers for inference, which reads none of them, took longer than loading them."""
    count = 20_000
    node = onnx.helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=3,
        nodes_treeids=[0] * count, nodes_values=[0.5] * count, nodes_modes=["LEAF"] * count,
    )  # fmt: skip
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])
    y = onnx.helper.make_empty_tensor_value_info("y")
    imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    proto = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    model = load(proto.SerializeToString())
    assert [entry.name for entry in infer_proto(model).graph.node[0].attribute] == ["n_targets"]
    (found,) = infer_shapes(model).graph.outputs
    assert (found.shape[1], found.dtype) == (3, ir.DataType.FLOAT)
    save(model, tmp_path / "m.onnx")
    stored = onnx.load(tmp_path / "m.onnx").graph.node[0].attribute
    assert {entry.name: len(entry.ints or entry.floats or entry.strings) for entry in stored} == {
        "n_targets": 0, "nodes_treeids": count, "nodes_values": count, "nodes_modes": count,
    }  # fmt: skip
    value = model.graph[0].attributes["nodes_values"].value
    assert isinstance(value, tuple)
    assert {type(entry) for entry in value} == {float}


def test_large_tree_ensembles_have_a_type_and_are_compiled():
    """ONNX's rule for TreeEnsemble wants the lists that are left out; without a type they ran on the reference."""
    count = 20_000
    node = onnx.helper.make_node(
        "TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", n_targets=3, aggregate_function=1, post_transform=0,
        tree_roots=list(range(count)), nodes_featureids=[0] * count, nodes_truenodeids=[0] * count,
        nodes_falsenodeids=[1] * count, nodes_trueleafs=[1] * count, nodes_falseleafs=[1] * count,
        nodes_splits=onnx.numpy_helper.from_array(np.zeros(count, np.float32)),
        nodes_modes=onnx.numpy_helper.from_array(np.zeros(count, np.uint8)), leaf_targetids=[0, 2],
        leaf_weights=onnx.numpy_helper.from_array(np.array([1, 2], np.float32)),
    )  # fmt: skip
    last = onnx.helper.make_node("Neg", ["y"], ["z"])
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])
    z = onnx.helper.make_empty_tensor_value_info("z")
    imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("ai.onnx.ml", 5)]
    graph = onnx.helper.make_graph([node, last], "g", [x], [z])
    proto = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    (found,) = infer_shapes(load(proto.SerializeToString())).graph.outputs
    assert (str(found.shape), found.dtype) == ("[n,3]", ir.DataType.FLOAT)
    session = sardonyx.InferenceSession(proto)
    assert {place.provider for place in session.explain()} == {"cpu"}
    (got,) = session.run(None, {"x": np.array([[-1, 0], [1, 0]], np.float32)})
    assert got.tolist() == [[-count, 0, 0], [0, 0, -2 * count]]
