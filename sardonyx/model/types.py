"""ONNX's types as `ir` objects, both ways; adds the map type, which onnx_ir has no class for."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

ATTRIBUTE_FIELDS: dict[ir.AttributeType, tuple[str, bool]] = {
    ir.AttributeType.INT: ("i", False),
    ir.AttributeType.INTS: ("ints", True),
    ir.AttributeType.FLOAT: ("f", False),
    ir.AttributeType.FLOATS: ("floats", True),
    ir.AttributeType.STRING: ("s", False),
    ir.AttributeType.STRINGS: ("strings", True),
    ir.AttributeType.TENSOR: ("t", False),
    ir.AttributeType.TENSORS: ("tensors", True),
    ir.AttributeType.GRAPH: ("g", False),
    ir.AttributeType.GRAPHS: ("graphs", True),
    ir.AttributeType.TYPE_PROTO: ("tp", False),
    ir.AttributeType.TYPE_PROTOS: ("type_protos", True),
}
"""The field of AttributeProto that holds a kind of value, and whether it is a list."""


Dims = tuple[int | str | None, ...]


class NotTextError(Exception):
    """A string field is not UTF-8; protobuf hands such a field over as bytes."""


def text(value: Any) -> str:
    """The value of a string field. Raises NotTextError."""
    if not isinstance(value, str):
        raise NotTextError
    return value


class MapType(ir.SequenceType):
    """`map(key, value)` of the ai.onnx.ml domain, as ZipMap makes it.

    A kind of sequence to onnx_ir, which thus finds the element type of the innermost tensor through it.
    """

    def __init__(self, key_type: ir.DataType, value_type: ir.TypeProtocol, *, denotation: str | None = None) -> None:
        super().__init__(value_type, denotation=denotation)
        self.key_type = key_type

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MapType) and self.key_type == other.key_type and super().__eq__(other)

    def __hash__(self) -> int:
        return super().__hash__()

    def __repr__(self) -> str:
        return f"Map({self.key_type!r}, {self.elem_type!r})"


def read_type(proto: Any) -> tuple[ir.TypeProtocol | None, ir.Shape | None]:
    """The type in an onnx.TypeProto and the shape of its innermost tensor; None for what is left out.

    A negative dimension reads as unknown, as onnxruntime has it.

    Raises:
        ValueError: an element type ONNX does not define, or an opaque type.
        NotTextError: a name in it is not UTF-8.
    """
    kind = proto.WhichOneof("value")
    denotation = text(proto.denotation) if proto.HasField("denotation") else None
    if kind is None:
        return None, None
    if kind in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(proto, kind)
        shape = read_shape(tensor.shape) if tensor.HasField("shape") else None
        if not tensor.elem_type:
            return None, shape
        make = ir.TensorType if kind == "tensor_type" else ir.SparseTensorType
        return make(ir.DataType(tensor.elem_type), denotation=denotation), shape
    if kind in ("sequence_type", "optional_type"):
        inner, shape = _inner(getattr(proto, kind).elem_type, kind)
        wrap = ir.SequenceType if kind == "sequence_type" else ir.OptionalType
        return wrap(inner, denotation=denotation), shape
    if kind == "map_type":
        inner, shape = _inner(proto.map_type.value_type, kind)
        return MapType(ir.DataType(proto.map_type.key_type), inner, denotation=denotation), shape
    raise ValueError(f"{kind} is not supported")


def _inner(proto: Any, kind: str) -> tuple[ir.TypeProtocol, ir.Shape | None]:
    inner, shape = read_type(proto)
    if inner is None:
        raise ValueError(f"{kind} does not say what it holds")
    return inner, shape


def read_shape(proto: Any) -> ir.Shape:
    """The dimensions in an onnx.TensorShapeProto."""
    dims: list[int | str | None] = []
    for dim in proto.dim:
        if dim.HasField("dim_value"):
            dims.append(dim.dim_value if dim.dim_value >= 0 else None)
        else:
            dims.append(text(dim.dim_param) or None)
    denotations = [text(dim.denotation) or None for dim in proto.dim]
    return ir.Shape(dims, denotations=denotations, frozen=True)


def write_type(proto: Any, kind: ir.TypeProtocol | None, shape: ir.Shape | None) -> None:
    """Fill an onnx.TypeProto; `shape` goes to the innermost tensor and is lost when there is no type."""
    if kind is None:
        return
    if kind.denotation:
        proto.denotation = kind.denotation
    if isinstance(kind, MapType):
        proto.map_type.key_type = kind.key_type.value
        write_type(proto.map_type.value_type, kind.elem_type, shape)
    elif isinstance(kind, ir.SequenceType):
        write_type(proto.sequence_type.elem_type, kind.elem_type, shape)
    elif isinstance(kind, ir.OptionalType):
        write_type(proto.optional_type.elem_type, kind.elem_type, shape)
    else:
        tensor = proto.sparse_tensor_type if isinstance(kind, ir.SparseTensorType) else proto.tensor_type
        tensor.elem_type = kind.dtype.value
        if shape is not None:
            write_shape(tensor.shape, shape)


def write_shape(proto: Any, shape: ir.Shape) -> None:
    """Fill an onnx.TensorShapeProto."""
    proto.ClearField("dim")  # touches the field: a scalar has a shape without dimensions
    for index, dim in enumerate(shape):
        entry = proto.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        elif dim.value is not None:
            entry.dim_param = str(dim.value)
        if denotation := shape.get_denotation(index):
            entry.denotation = denotation


def dims_of(shape: ir.Shape | None) -> Dims | None:
    """A shape as plain numbers, symbol names and None."""
    if shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in shape.dims)


def summands(name: str) -> list[str]:
    """The symbols and numbers in the name of a dim that exporters write as a sum: `past + sequence`."""
    return [part.strip() for part in name.split(" + ")]


def type_string(kind: ir.TypeProtocol | None) -> str:
    """The type as onnxruntime writes it, `tensor(float)` or `seq(map(int64,tensor(float)))`; "" unknown."""
    if kind is None:
        return ""
    if isinstance(kind, MapType):
        return f"map({kind.key_type.name.lower()},{type_string(kind.elem_type)})"
    if isinstance(kind, ir.SequenceType):
        return f"seq({type_string(kind.elem_type)})"
    if isinstance(kind, ir.OptionalType):
        return f"optional({type_string(kind.elem_type)})"
    name = "sparse_tensor" if isinstance(kind, ir.SparseTensorType) else "tensor"
    return f"{name}({kind.dtype.name.lower()})"
