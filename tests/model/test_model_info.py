"""Facts about models and shape inference, against onnx and counts done by hand."""

from __future__ import annotations

import dataclasses
import json

import ml_dtypes
import numpy as np
import onnx
import pytest
from model_cases import branches, holder, mlp, model_of, raw, value_info
from onnx import TensorProto, helper, numpy_helper

from sardonyx.errors import InvalidInputError, InvalidModelError
from sardonyx.model import file
from sardonyx.model.info import describe
from sardonyx.model.shapes import infer_shapes, tensor_spec

node = helper.make_node


def load(proto):
    return file.load(proto.SerializeToString())


def weight(name, *dims, dtype=np.float32):
    return numpy_helper.from_array(np.ones(dims, dtype), name)


def test_a_small_model_is_described_in_full():
    proto = mlp()
    proto.producer_name, proto.producer_version = "maker", "1.2"
    info = describe(load(proto))
    assert json.loads(json.dumps(dataclasses.asdict(info))) == {
        "name": "g",
        "inputs": [{"name": "x", "type": "tensor(float)", "dtype": "float32", "dims": ["N", 32]}],
        "outputs": [{"name": "y", "type": "tensor(float)", "dtype": "float32", "dims": ["N", 32]}],
        "ir_version": 10,
        "opsets": {"": 21},
        "producer": "maker 1.2",
        "operators": {"MatMul": 1, "Add": 1, "Relu": 1},
        "functions": 0,
        "parameters": 32 * 32 + 32,
        "size_bytes": 4 * (32 * 32 + 32),
        "macs": 32 * 32,
        "macs_by_operator": {"MatMul": 1024},
        "uncounted": [],
        "assumed": {"N": 1},
    }


def test_given_sizes_are_used():
    model = load(mlp())
    before = str(model)
    assert describe(model, {"N": 7}).macs == 7 * 32 * 32
    assert describe(model, {"N": 7}).assumed == {}
    assert str(model) == before
    for dims, message in (
        ({"M": 2}, "no input has an open dimension 'M'; expected N"),
        ({"N": 0}, "at least 1"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            describe(model, dims)


def test_a_nameless_batch_is_assumed_and_other_open_dimensions_are_not():
    matmul = [node("MatMul", ["x", "w"], ["y"], "m")]
    w = [weight("w", 4, 5)]
    info = describe(load(model_of(matmul, [value_info("x", [None, 4])], [value_info("y", None)], w)))
    assert (info.macs, info.assumed) == (20, {"x[0]": 1})
    model = load(model_of(matmul, [value_info("x", ["B", "T", 4])], [value_info("y", None)], w))
    info = describe(model)
    assert (info.macs, info.macs_by_operator, info.assumed) == (None, {"MatMul": None}, {"B": 1})
    assert info.uncounted == ("MatMul 'm': a shape is unknown",)
    assert describe(model, {"T": 3}).macs == 3 * 20


MACS = {
    # (operator, attributes, shapes of inputs, expected)
    "conv": ("Conv", {"pads": [1, 1, 1, 1]}, [[2, 3, 8, 8], [16, 3, 3, 3]], 2 * 16 * 64 * 27),
    "strided": ("Conv", {"strides": [2, 2]}, [[1, 3, 8, 8], [16, 3, 2, 2], [16]], 16 * 16 * 12),
    "grouped": ("Conv", {"group": 4}, [[1, 4, 8, 8], [4, 1, 1, 1]], 4 * 64),
    "3-d": ("Conv", {}, [[1, 2, 4, 4, 4], [3, 2, 2, 2, 2]], 3 * 27 * 16),
    "transposed": ("ConvTranspose", {"strides": [2, 2]}, [[1, 8, 5, 5], [8, 4, 2, 2]], 25 * 8 * 4 * 4),
    "gemm": ("Gemm", {}, [[5, 6], [6, 7], [7]], 5 * 6 * 7),
    "gemm, both transposed": ("Gemm", {"transA": 1, "transB": 1}, [[6, 5], [7, 6]], 5 * 6 * 7),
    "matmul": ("MatMul", {}, [[2, 3, 5, 6], [6, 7]], 6 * 5 * 6 * 7),
    "dot": ("MatMul", {}, [[6], [6]], 6),
    "lstm": ("LSTM", {"hidden_size": 8}, [[10, 2, 4], [1, 32, 4], [1, 32, 8]], 20 * 32 * 12),
    "gru": (
        "GRU", {"hidden_size": 8, "direction": "bidirectional"},
        [[10, 2, 4], [2, 24, 4], [2, 24, 8]], 20 * 48 * 12,
    ),
    "attention": ("Attention", {}, [[1, 2, 5, 8], [1, 2, 6, 8], [1, 2, 6, 4]], 2 * 5 * 6 * (8 + 4)),
}  # fmt: skip


@pytest.mark.parametrize("case", MACS)
def test_multiply_accumulates(case):
    op, attributes, shapes, expected = MACS[case]
    names = [f"i{index}" for index in range(len(shapes))]
    inputs = [value_info(name, dims) for name, dims in zip(names, shapes, strict=True)]
    proto = model_of([node(op, names, ["y"], **attributes)], inputs, [value_info("y", None)], opset=23)
    info = describe(load(proto))
    assert (info.macs, info.macs_by_operator) == (expected, {op: expected})


def test_quantized_operators_are_counted():
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    conv = node("QLinearConv", names, ["y"])
    scalars = [weight(name, dtype=np.float32 if name[1] == "s" else np.uint8) for name in names if len(name) == 2]
    w = weight("w", 4, 3, 1, 1, dtype=np.uint8)
    proto = model_of(
        [conv], [value_info("x", [1, 3, 5, 5], TensorProto.UINT8)], [value_info("y", None, 2)], [w, *scalars]
    )
    assert describe(load(proto)).macs == 4 * 25 * 3


def test_shape_arithmetic_is_followed():
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Concat", ["n", "rest"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["r"]),
        node("MatMul", ["r", "w"], ["y"]),
    ]
    constants = [weight("w", 6, 5), numpy_helper.from_array(np.array([0]), "zero")]
    constants.append(numpy_helper.from_array(np.array([6]), "rest"))
    proto = model_of(nodes, [value_info("x", ["N", 2, 3])], [value_info("y", None)], constants)
    info = describe(load(proto), {"N": 4})
    assert info.macs == 4 * 6 * 5
    assert info.parameters == 30  # not the integers that make up shapes


def test_bodies_with_work_have_no_count_but_functions_do():
    body = helper.make_graph([node("MatMul", ["x", "x"], ["t"], "inside")], "then", [], [value_info("t", None)])
    other = helper.make_graph([node("Neg", ["x"], ["e"])], "else", [], [value_info("e", None)])
    both = [node("If", ["c"], ["y"], then_branch=body, else_branch=other)]
    inputs = [value_info("x", [3, 3]), value_info("c", [], TensorProto.BOOL)]
    info = describe(load(model_of(both, inputs, [value_info("y", None)])))
    assert info.macs is None
    assert "inside" in info.uncounted[0]
    assert info.operators == {"If": 1, "MatMul": 1, "Neg": 1}

    function = helper.make_function(
        "own", "F", ["a"], ["b"], [node("MatMul", ["a", "a"], ["b"])], [helper.make_opsetid("", 21)]
    )
    call = [node("F", ["x"], ["y"], domain="own"), node("F", ["y"], ["z"], domain="own")]
    proto = model_of(call, inputs[:1], [value_info("z", None)], functions=[function], extra=[("own", 1)])
    info = describe(load(proto))
    assert (info.macs, info.operators, info.functions) == (2 * 27, {"own::F": 2}, 1)


def test_constants_everywhere_are_counted():
    info = describe(load(branches(np.ones(600, np.float32))))
    assert (info.parameters, info.size_bytes) == (1200, 4800)
    held = holder(
        weight("h", 4, dtype=ml_dtypes.bfloat16),
        raw("n", [5], "INT4", bytes(3)),
        weight("i", 2, dtype=np.int64),
    )
    info = describe(load(held))
    assert (info.parameters, info.size_bytes) == (4 + 5, 8 + 3 + 16)


def test_invalid_models_are_described_as_far_as_it_goes():
    info = describe(load(model_of([node("Odd", ["x"], ["y"], domain="o"), node("MatMul", ["y", "y"], ["z"])],
                                  [value_info("x", [1])], [value_info("z", None)])))  # fmt: skip
    assert (info.macs, info.operators) == (None, {"o::Odd": 1, "MatMul": 1})


def shapes_of(graph):
    infos = (*graph.value_info, *graph.output)
    return {info.name: [d.dim_value or d.dim_param for d in info.type.tensor_type.shape.dim] for info in infos}


def test_inference_agrees_with_onnx_and_works_in_place():
    for proto in (mlp(), branches(np.ones(600, np.float32))):
        model = load(proto)
        assert infer_shapes(model) is model
        expected = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
        for name, dims in shapes_of(expected).items():
            value = next(v for n in model.graph for v in n.outputs if v.name == name)
            assert list(tensor_spec(value).dims) == dims
    then = model.graph[0].attributes["then_branch"].as_graph()
    assert tensor_spec(then.outputs[0]).dims == (600,)
    assert model.graph[0].attributes["else_branch"].as_graph()[0].outputs[0].shape == [600]


def test_inference_does_not_read_large_weights():
    model = load(mlp(64))
    w = model.graph.initializers["w"]

    class Untouchable(type(w.const_value)):
        def tobytes(self):
            raise AssertionError("the weight was read")

        numpy = __array__ = tobytes

    w.const_value.__class__ = Untouchable
    infer_shapes(model)
    assert tensor_spec(model.graph[0].outputs[0]).dims == ("N", 64)
    describe(model)


def test_inference_keeps_what_it_cannot_tell():
    known = value_info("h", ["N", 5])
    nodes = [node("Odd", ["x"], ["h"], domain="o"), node("Relu", ["h"], ["y"])]
    proto = model_of(nodes, [value_info("x", [1])], [value_info("y", None)], extra=[("o", 1)], value_info=[known])
    model = infer_shapes(load(proto))
    assert [tensor_spec(n.outputs[0]).dims for n in model.graph] == [("N", 5), ("N", 5)]
    with pytest.raises(InvalidModelError, match="opset import"):
        infer_shapes(load(model_of(nodes, [value_info("x", [1])], [value_info("y", None)])))


def test_specs_of_every_kind_of_value():
    tensor = helper.make_tensor_type_proto
    of_map = helper.make_map_type_proto(TensorProto.INT64, tensor(TensorProto.FLOAT, []))
    kinds = {
        "f": (
            tensor(TensorProto.FLOAT, [1, "N", None]),
            np.dtype(np.float32),
            "tensor(float)",
            (1, "N", None),
        ),
        "s": (tensor(TensorProto.STRING, None), np.dtype(object), "tensor(string)", None),
        "b": (tensor(TensorProto.BFLOAT16, []), np.dtype(ml_dtypes.bfloat16), "tensor(bfloat16)", ()),
        "m": (helper.make_sequence_type_proto(of_map), None, "seq(map(int64,tensor(float)))", ()),
        "o": (
            helper.make_optional_type_proto(tensor(TensorProto.INT8, [2])),
            None,
            "optional(tensor(int8))",
            (2,),
        ),
        "z": (
            helper.make_sparse_tensor_type_proto(TensorProto.DOUBLE, [3]),
            None,
            "sparse_tensor(double)",
            (3,),
        ),
        "u": (onnx.TypeProto(), None, "", None),
        "n": (tensor(TensorProto.FLOAT, [-1, 0]), np.dtype(np.float32), "tensor(float)", (None, 0)),
    }
    inputs = [helper.make_value_info(name, kind[0]) for name, kind in kinds.items()]
    model = load(model_of([node("Relu", ["f"], ["y"])], inputs, [value_info("y", None)]))
    for value, (name, (_, dtype, text, dims)) in zip(model.graph.inputs, kinds.items(), strict=True):
        spec = tensor_spec(value)
        assert (spec.name, spec.dtype, spec.type, spec.dims) == (name, dtype, text, dims)
