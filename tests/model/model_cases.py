"""Small models that the tests of this folder share, built with the onnx package."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

DTYPES = {
    "FLOAT": np.float32,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "UINT16": np.uint16,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "FLOAT16": np.float16,
    "DOUBLE": np.float64,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "COMPLEX64": np.complex64,
    "COMPLEX128": np.complex128,
    "BFLOAT16": ml_dtypes.bfloat16,
    "FLOAT8E4M3FN": ml_dtypes.float8_e4m3fn,
    "FLOAT8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "FLOAT8E5M2": ml_dtypes.float8_e5m2,
    "FLOAT8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "FLOAT8E8M0": ml_dtypes.float8_e8m0fnu,
    "UINT4": ml_dtypes.uint4,
    "INT4": ml_dtypes.int4,
    "FLOAT4E2M1": ml_dtypes.float4_e2m1fn,
    "UINT2": ml_dtypes.uint2,
    "INT2": ml_dtypes.int2,
    "FLOAT6E2M3": ml_dtypes.float6_e2m3fn,
    "FLOAT6E3M2": ml_dtypes.float6_e3m2fn,
}
BITS = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}


def value_info(name, dims, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, dims)


def raw(name, dims, kind, data):
    return TensorProto(name=name, dims=dims, data_type=getattr(TensorProto, kind), raw_data=data)


def model_of(nodes, inputs, outputs, initializers=(), *, opset=21, functions=(), extra=(), **graph):
    made = helper.make_graph(nodes, "g", inputs, outputs, list(initializers), **graph)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in extra)]
    return helper.make_model(made, opset_imports=opsets, functions=list(functions), ir_version=10)


def mlp(width=32):
    """y = Relu(x @ w + b); w has `width` * `width` floats."""
    rng = np.random.default_rng(0)
    w = onnx.numpy_helper.from_array(rng.standard_normal((width, width), np.float32), "w")
    b = onnx.numpy_helper.from_array(rng.standard_normal(width, np.float32), "b")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "matmul"),
        helper.make_node("Add", ["h", "b"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["y"], "relu"),
    ]
    return model_of(nodes, [value_info("x", ["N", width])], [value_info("y", ["N", width])], [w, b])


def holder(*tensors):
    """A model whose only point is the initializers it holds."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return model_of(nodes, [value_info("x", [1])], [value_info("y", [1])], tensors)


def branches(weight):
    """An If whose branches hold a weight: one as an initializer, the other in a Constant node."""
    tensor = onnx.numpy_helper.from_array(weight, "inner")
    then = helper.make_graph(
        [helper.make_node("Add", ["x", "inner"], ["t"])], "then", [], [value_info("t", None)], [tensor]
    )
    constant = onnx.numpy_helper.from_array(weight * 2, "held")
    other = helper.make_graph(
        [
            helper.make_node("Constant", [], ["k"], value=constant),
            helper.make_node("Sub", ["x", "k"], ["e"]),
        ],
        "else",
        [],
        [value_info("e", None)],
    )
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    inputs = [value_info("x", list(weight.shape)), value_info("c", [], TensorProto.BOOL)]
    return model_of(nodes, inputs, [value_info("y", list(weight.shape))])
