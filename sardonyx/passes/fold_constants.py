"""Compute once, now, what depends on constants alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.query import (
    ONNX,
    constant,
    constant_value,
    known_shape,
    new_constant,
    opset,
    small_constant,
    walk,
)

_MOVEMENT = """
    CastLike Cast Compress Concat ConstantOfShape DepthToSpace Expand EyeLike Flatten Gather
    GatherElements GatherND Identity NonZero OneHot Pad Range Reshape ScatterElements ScatterND
    Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Where
"""
_ELEMENTWISE = """
    Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Clip Cos Div Equal Erf Exp
    Floor Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or
    Pow Reciprocal Relu Round Sigmoid Sign Sin Sqrt Sub Sum Tanh Xor
"""
_ALONG_AXES = "ArgMax ArgMin CumSum ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"

FOLDABLE = frozenset(f"{_MOVEMENT} {_ELEMENTWISE} {_ALONG_AXES}".split())
"""Operators whose cost is linear in what they read and write, so that no model can make folding slow.

Left out on purpose: DequantizeLinear, since unfolded it tells that weights are small integers.
"""

MEBIBYTE = 1 << 20
GROWTH = 4
"""An output may be this many times as large as the constants it comes from (int8 cast to float32), or 1 MiB;
all outputs of a model together as many times as large as its weights, or 64 MiB."""

FOLDED = "sardonyx.folded"
"""Marks, in the `meta` of a value, a constant that this pass has made."""

_FAILURES = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError),
    *(onnx.shape_inference.InferenceError, onnx.defs.SchemaError),
)
"""How onnx.reference and shape inference answer a node that breaks its operator's rules. It stays in the
graph, and the error comes from the provider that runs it, with the node's name."""


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    version = opset(model)
    budget = _budget(model)
    for node in walk(model):
        if node.domain != ONNX:
            continue
        if node.op_type == "Constant":
            found: Rewrite | Miss | None = _lift(node)
        elif node.op_type in FOLDABLE and not _forwards_output(node):
            found = _known_dims(node) or _evaluate(node, version, budget)
        else:
            continue
        if found is not None:
            yield found
        if isinstance(found, Rewrite):
            budget -= sum(_nbytes(value.const_value) for value in found.constants if value.const_value)


def _budget(model: ir.Model) -> int:
    """Bytes that may still be added; what earlier rounds added has been spent and brings no new allowance."""
    weights, spent = 0, 0
    for graph in model.graphs():
        for value in graph.initializers.values():
            size = _nbytes(value.const_value) if value.const_value is not None else 0
            if FOLDED in value.meta:
                spent += size
            else:
                weights += size
    return max(64 * MEBIBYTE, GROWTH * weights) - spent


def _forwards_output(node: ir.Node) -> bool:
    """An Identity that gives a graph output its name: what folding puts there itself, so it must stay."""
    return node.op_type == "Identity" and node.outputs[0].is_graph_output()


def _lift(node: ir.Node) -> Rewrite | None:
    """Constant as an initializer, its tensor unread."""
    output = node.outputs[0]
    if output.is_graph_output() or "sparse_value" in node.attributes:
        return None
    attribute = node.attributes.get("value")
    # The original of the model shares the tensor, which keeps its name; the value's name is what counts.
    tensor = attribute.as_tensor() if attribute is not None else ir.convenience.get_const_tensor(output)
    if tensor is None:
        return None
    value = constant_value(output.name or "", tensor)
    return Rewrite(node, "becomes an initializer", replace={output: value}, constants=[value], remove=[node])


def _folded(node: ir.Node, arrays: list[np.ndarray[Any, Any]], what: str) -> Rewrite:
    """The node's outputs as constants; behind an Identity where they are outputs of the graph."""
    replace: dict[ir.Value, ir.Value] = {}
    constants, insert = [], []
    for output, array in zip(node.outputs, arrays, strict=True):
        is_output = output.is_graph_output()
        value = new_constant(f"{output.name}_value" if is_output else output.name or "", array)
        value.meta[FOLDED] = True
        constants.append(value)
        replace[output] = value
        if is_output:
            insert.append(ir.node("Identity", [value]))
            replace[output] = insert[-1].outputs[0]
    return Rewrite(node, what, replace=replace, insert=insert, constants=constants, remove=[node])


def _known_dims(node: ir.Node) -> Rewrite | None:
    """Shape and Size of a value whose dimensions are numbers, and Gather of such dimensions from a Shape."""
    if node.op_type == "Gather":
        return _picked_dims(node)
    dims = _dims(node) if node.op_type in {"Shape", "Size"} else None
    if dims is None or None in dims:
        return None
    if node.op_type == "Shape":
        return _folded(node, [np.array(dims, np.int64)], "its input's dimensions are known")
    size = math.prod(size for size in dims if size is not None)
    return _folded(node, [np.array(size, np.int64)], "its input's size is known") if size < 2**63 else None


def _picked_dims(gather: ir.Node) -> Rewrite | None:
    """Works where other dimensions of the same Shape, such as the batch, are symbols."""
    source, index = gather.inputs[0], small_constant(gather.inputs[1])
    shape = source.producer() if source is not None else None
    if shape is None or (shape.op_type, shape.domain) != ("Shape", ONNX) or index is None:
        return None
    dims = _dims(shape) or ()
    if index.dtype.kind != "i" or not all(-len(dims) <= i < len(dims) for i in index.flat):
        return None
    picked = [dims[i] for i in index.flat]
    if None in picked:
        return None
    return _folded(gather, [np.array(picked, np.int64).reshape(index.shape)], "picks known dimensions")


def _dims(node: ir.Node) -> tuple[int | None, ...] | None:
    """What a Shape node returns, or Size multiplies, as far as it is known."""
    shape = known_shape(node.inputs[0])
    if shape is None:
        return None
    return shape[slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", None))]


def _evaluate(node: ir.Node, version: int, budget: int) -> Rewrite | Miss | None:
    tensors: dict[str, ir.TensorProtocol] = {}
    for value in node.inputs:
        if value is None:
            continue
        tensor = constant(value)
        if tensor is None:
            return None
        tensors[value.name or ""] = tensor
    if not tensors or not all(output.name for output in node.outputs):
        return None
    proto = ir.serde.serialize_node(node)
    allowed = min(budget, max(MEBIBYTE, GROWTH * sum(_nbytes(tensor) for tensor in tensors.values())))
    try:
        types = _output_types(proto, version, tensors)
        size = _output_bytes(proto, types, tensors)
        if size is None or size > allowed:
            return Miss(node, "the size of its result is unknown" if size is None else f"{size} bytes are too many")
        arrays = _run(proto, version, {name: tensor.numpy() for name, tensor in tensors.items()})
        if any(kind.elem_type != ir.DataType.from_numpy(a.dtype) for kind, a in zip(types, arrays, strict=True)):
            return Miss(node, "its result has another type than its operator says")
    except _FAILURES as error:
        return Miss(node, f"it cannot be computed: {error}")
    return _folded(node, arrays, "all its inputs are constant")


def _output_types(
    proto: onnx.NodeProto, version: int, tensors: dict[str, ir.TensorProtocol]
) -> list[onnx.TypeProto.Tensor]:
    """Types of all outputs by ONNX shape inference, which knows the values of small inputs such as shapes."""
    small = {name: tensor for name, tensor in tensors.items() if tensor.size <= 1024}
    types = onnx.shape_inference.infer_node_outputs(
        onnx.defs.get_schema(proto.op_type, version, ONNX),
        proto,
        {name: _type_proto(tensor) for name, tensor in tensors.items()},
        {name: ir.serde.serialize_tensor(tensor) for name, tensor in small.items()},
        opset_imports=[onnx.helper.make_opsetid(ONNX, version)],
    )
    return [types[name].tensor_type for name in proto.output]


def _output_bytes(
    proto: onnx.NodeProto, types: list[onnx.TypeProto.Tensor], tensors: dict[str, ir.TensorProtocol]
) -> int | None:
    """Bytes of all outputs at most, before anything is computed; None when they depend on values."""
    if proto.op_type in {
        "NonZero",
        "Compress",
    }:  # at most as many indices, or elements, as there are elements
        tensor = tensors[proto.input[0]]
        return int(tensor.size * max(1, len(tensor.shape)) * max(8, tensor.dtype.itemsize))
    total = 0.0
    for kind in types:
        if not kind.HasField("shape") or any(not dim.HasField("dim_value") for dim in kind.shape.dim):
            return None
        total += math.prod(dim.dim_value for dim in kind.shape.dim) * ir.DataType(kind.elem_type).itemsize
    return math.ceil(total)


def _nbytes(tensor: ir.TensorProtocol) -> int:
    """Bytes of the elements; strings, which are never folded, count as nothing."""
    return 0 if tensor.dtype == ir.DataType.STRING else tensor.nbytes


def _type_proto(tensor: ir.TensorProtocol) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(tensor.dtype, [int(size) for size in tensor.shape.numpy()])


def _run(proto: onnx.NodeProto, version: int, feeds: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The node's outputs by onnx.reference."""
    from onnx.reference import ReferenceEvaluator  # loads 200 operators: only when something is folded

    def untyped(name: str) -> onnx.ValueInfoProto:
        return onnx.helper.make_empty_tensor_value_info(name)

    inputs, outputs = map(untyped, feeds), map(untyped, proto.output)
    graph = onnx.helper.make_graph([proto], "fold", list(inputs), list(outputs))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(ONNX, version)])
    with np.errstate(all="ignore"):  # what IEEE says is the result; it is not news
        results = ReferenceEvaluator(model).run(None, feeds)
    # Contiguous, as everyone expects of weights: a transposed or broadcast view would only delay the work.
    return [np.asarray(result, order="C") for result in results]


FOLD_CONSTANTS = Pass(
    name="fold-constants",
    gain="Shape arithmetic and prepared weights are computed once, not at every run.",
    placed="First: every other pass asks which of a node's inputs are constant.",
    exact=True,
    rewrites=_rewrites,
)
