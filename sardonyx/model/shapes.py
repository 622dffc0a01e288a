"""Types and shapes of values: facts about one, and inference for all by ONNX's own rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.errors import InvalidModelError
from sardonyx.model.results import fill
from sardonyx.model.tensors import payload, payload_size
from sardonyx.model.types import Dims, dims_of, read_type, type_string
from sardonyx.model.write import ModelWriter

_SMALL = 1024  # bytes up to which an initializer may be a shape, axes or sizes, whose values matter
_LONGEST = 1 << 16  # elements of the longest vector for which values are propagated
_LIKE_FIRST_INPUT = frozenset({"GroupNormalization"})  # results of which ONNX's inference says nothing


@dataclass(frozen=True)
class TensorSpec:
    """What is declared of a value.

    `dtype` is None for what is not a tensor, and `object` for strings. `type` is onnxruntime's name, as in
    `tensor(float)`, or "" if unknown. `dims` has a symbol's name where the size is open, None where it has
    not even a name, and is None if the rank is unknown; of sequences and maps, it is the innermost tensor's.
    """

    name: str
    dtype: np.dtype[Any] | None
    type: str
    dims: Dims | None


def tensor_spec(value: ir.Value) -> TensorSpec:
    """The declared facts of a value."""
    dtype: np.dtype[Any] | None = None
    if isinstance(value.type, ir.TensorType) and value.type.dtype != ir.DataType.UNDEFINED:
        is_string = value.type.dtype == ir.DataType.STRING
        dtype = np.dtype(object) if is_string else value.type.dtype.numpy()
    return TensorSpec(value.name or "", dtype, type_string(value.type), dims_of(value.shape))


def infer_shapes(model: ir.Model) -> ir.Model:
    """Fill in types and shapes of all values that ONNX's rules can tell, in place; returns the model.

    Values of small integer tensors are followed through shape arithmetic. What cannot be told stays as it is;
    bodies of model-local functions are left alone.

    Raises:
        InvalidModelError: a node's domain is not imported.
    """
    _apply(model.graph, infer_proto(model).graph)
    while fill(model.graph):  # which may tell what depends on that
        _apply(model.graph, infer_proto(model).graph)
    return model


def fix_dimensions(graph: ir.Graph, sizes: Mapping[str, int]) -> list[str]:
    """Put sizes in place of symbols, on every value of the graph, in place; the names that are no symbol's."""
    found: set[str] = set()
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        if value.shape is None:
            continue
        names = [None if isinstance(dim, int) else dim.value for dim in value.shape.dims]
        found.update(name for name in names if name and name in sizes)
        if not found.isdisjoint(names):
            value.shape = ir.Shape(
                [sizes.get(name, dim) if name else dim for name, dim in zip(names, value.shape.dims, strict=True)]
            )
    return [name for name in sizes if name not in found]


def fix_denoted(graph: ir.Graph, sizes: Mapping[str, int]) -> list[str]:
    """Put sizes in place of open dimensions of the inputs, by denotation, in place; the denotations that none has.

    A symbol that gets a size here has it everywhere.
    """
    found: set[str] = set()
    symbols: dict[str, int] = {}
    for value in graph.inputs:
        if value.shape is None:
            continue
        dims: list[int | str | None] = [dim if isinstance(dim, int) else dim.value for dim in value.shape.dims]
        denoted = [value.shape.get_denotation(axis) for axis in range(len(dims))]
        for axis, name in enumerate(denoted):
            if name is None or name not in sizes:
                continue
            found.add(name)
            dim = dims[axis]
            if isinstance(dim, str):
                symbols[dim] = sizes[name]
            if not isinstance(dim, int):
                dims[axis] = sizes[name]
        value.shape = ir.Shape(dims, denotations=denoted)
    fix_dimensions(graph, symbols)
    return [name for name in sizes if name not in found]


def open_symbols(graph: ir.Graph) -> None:
    """Make every symbol of the inputs' dimensions one of its own, and forget what others were derived from them."""
    for value in graph.inputs:
        if value.shape is not None:
            dims = value.shape.dims
            value.shape = ir.Shape(
                [dim if isinstance(dim, int) else f"{value.name}[{axis}]" for axis, dim in enumerate(dims)]
            )
    for value in (value for node in graph for value in node.outputs):
        if value.shape is not None:
            value.shape = ir.Shape([dim if isinstance(dim, int) else None for dim in value.shape.dims])


def infer_proto(model: ir.Model, dims: Mapping[str, int] | None = None) -> Any:
    """An onnx.ModelProto of the model with inferred types and no large weights.

    `dims` gives sizes to open dimensions, by symbol, or as `value[axis]` where there is no symbol.

    Raises:
        InvalidModelError: a node's domain is not imported.
    """
    import onnx
    from onnx.shape_inference import InferenceError

    where = f"graph {model.graph.name or ''!r}"
    proto = ModelWriter(where, _fill_small, ensembles=False).model(model)
    _stand_in(proto.graph)
    for info in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            name = dim.dim_param or f"{info.name}[{axis}]"
            if dims and name in dims and not dim.HasField("dim_value"):
                dim.dim_value = dims[name]
    try:
        inferred = onnx.shape_inference.infer_shapes(proto)
        if _computes_shapes(proto) and not _long_vectors(inferred.graph):
            return onnx.shape_inference.infer_shapes(proto, data_prop=True)
        return inferred
    except InferenceError as error:
        raise InvalidModelError(f"shapes cannot be inferred: {error}", where=where) from error


def _stand_in(graph: Any) -> None:
    """Put Identity, for inference, in place of nodes like their first input that have no inference of their own."""
    for node in graph.node:
        if node.op_type in _LIKE_FIRST_INPUT and not node.domain:
            node.op_type = "Identity"
            del node.input[1:]
            node.ClearField("attribute")


def _computes_shapes(proto: Any) -> bool:
    """Whether propagating values can tell more dims: a shape or a size is read somewhere."""
    return any(node.op_type in ("Shape", "Size") for node in proto.graph.node)


def _long_vectors(graph: Any) -> bool:
    """Whether propagating values could take long: it works element by element on every vector."""
    values = (*graph.value_info, *graph.input, *graph.output)
    return any(
        len(info.type.tensor_type.shape.dim) == 1 and info.type.tensor_type.shape.dim[0].dim_value > _LONGEST
        for info in values
    )


def _fill_small(proto: Any, tensor: ir.TensorProtocol) -> None:
    if payload_size(tensor) <= _SMALL:
        proto.raw_data = payload(tensor).tobytes()
    else:
        proto.data_location = proto.EXTERNAL  # which inference does not try to read


def _apply(graph: ir.Graph, proto: Any) -> None:
    """Copy what a GraphProto says of values to the values of the graph it was written from."""
    infos = {info.name: info.type for info in (*proto.value_info, *proto.output)}
    for value, info in zip(graph.inputs, proto.input, strict=True):
        if value.type is None:  # of a body, which need not say what it is given
            value.type, value.shape = read_type(info.type)
    for node, written in zip(graph, proto.node, strict=True):
        for value in node.outputs:
            if value.name in infos:
                kind, shape = read_type(infos[value.name])
                value.type = kind if kind is not None else value.type
                value.shape = shape if shape is not None else value.shape
        for entry in written.attribute:
            attribute = node.attributes[entry.name]
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                _apply(attribute.as_graph(), entry.g)
            elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
                for body, body_proto in zip(attribute.as_graphs(), entry.graphs, strict=True):
                    _apply(body, body_proto)
