import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from sardonyx.errors import InvalidInputError
from sardonyx.feeds import node_arg
from sardonyx.measure.inputs import random_inputs, specs
from sardonyx.measure.ranges import ranges
from sardonyx.model.info import describe


def model(nodes, inputs, initializers=()):
    """A model of int64 inputs, given as names with dims."""
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, dims) for name, dims in inputs.items()]
    output = helper.make_empty_tensor_value_info(nodes[-1].output[0])
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in dict(initializers).items()]
    graph = helper.make_graph(nodes, "g", values, [output], tensors)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


TABLES = {"words": np.zeros((50, 4), np.float32), "columns": np.zeros((4, 9), np.float32), "axes": np.array([0])}


def test_what_picks_rows_is_below_their_number():
    nodes = [
        helper.make_node("Unsqueeze", ["ids", "axes"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["cast"], to=TensorProto.INT32),
        helper.make_node("Gather", ["words", "cast"], ["rows"]),
        helper.make_node("Gather", ["columns", "ids"], ["others"], axis=-1),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["count", "count"], ["sum"]),
    ]
    found = model(nodes, {key: ["n"] for key in ("ids", "attention_mask", "count")}, TABLES)
    assert ranges(found) == {"ids": (0, 9), "attention_mask": (1, 2)}
    inputs = random_inputs(specs([node_arg(value) for value in found.graph.inputs], {"n": 500}, found))
    assert set(np.unique(inputs["ids"])) == set(range(9))
    assert (inputs["attention_mask"] == 1).all()
    assert set(np.unique(inputs["count"])) == {0, 1}


def test_a_table_that_is_no_constant_or_has_no_rows_tells_nothing():
    nodes = [
        helper.make_node("Gather", ["other", "ids"], ["rows"]),
        helper.make_node("Gather", ["empty", "none"], ["no_rows"]),
        helper.make_node("Gather", ["empty", "beyond"], ["wrong"], axis=7),
    ]
    found = model(nodes, {key: ["n"] for key in ("other", "ids", "none", "beyond")}, {"empty": np.zeros((0, 2))})
    assert ranges(found) == {"none": (0, 1)}


def test_a_dim_named_as_a_sum_is_one():
    node = helper.make_node("Identity", ["mask"], ["y"])
    found = model([node], {"ids": ["batch", "sequence"], "mask": ["batch", "past + sequence + 1"]})
    declared = [node_arg(value) for value in found.graph.inputs]
    ids, mask = specs(declared, {"sequence": 5, "past": 7})
    assert (ids.shape, mask.shape) == ((1, 5), (1, 13))
    assert mask.assumed == ("batch",)
    assert specs(declared, {"past + sequence + 1": 4})[1].shape == (1, 4)
    with pytest.raises(InvalidInputError, match="no input has an open dimension 'past1'"):
        specs(declared, {"past1": 1})


def test_multiply_adds_of_a_dim_named_as_a_sum():
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["y"])], "g",
        [value("a", TensorProto.FLOAT, ["n", "past + n"]), value("b", TensorProto.FLOAT, ["past + n", 3]),
         value("c", TensorProto.FLOAT, ["past"])],
        [value("y", TensorProto.FLOAT, ["n", 3])],
    )  # fmt: skip
    found = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert describe(found, {"n": 2, "past": 5}).macs == 2 * 7 * 3
