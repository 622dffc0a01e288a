"""Elements and types: TensorFlow's, as NumPy and ONNX have them."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from sardonyx.errors import ModelFileError

Array = np.ndarray[Any, Any]

D = ir.DataType

TYPES = {
    1: D.FLOAT, 2: D.DOUBLE, 3: D.INT32, 4: D.UINT8, 5: D.INT16, 6: D.INT8, 7: D.STRING, 8: D.COMPLEX64, 9: D.INT64,
    10: D.BOOL, 14: D.BFLOAT16, 17: D.UINT16, 18: D.COMPLEX128, 19: D.FLOAT16, 22: D.UINT32, 23: D.UINT64,
    24: D.FLOAT8E5M2, 25: D.FLOAT8E4M3FN,
}  # fmt: skip
"""ONNX's types by the numbers of TensorFlow's `DataType`."""

REF = 100
"""What TensorFlow adds to the type of a reference."""

INTEGERS = {D.INT8, D.INT16, D.INT32, D.INT64, D.UINT8, D.UINT16, D.UINT32, D.UINT64}
UNSIGNED = {D.UINT8, D.UINT16, D.UINT32, D.UINT64}
FLOATS = {D.FLOAT, D.DOUBLE, D.FLOAT16, D.BFLOAT16}

MAX_ELEMENTS = 1 << 26
"""Elements that a constant of few stored bytes may claim: one number can stand for all of a tensor."""

_FIELDS = {
    D.FLOAT: "float_val", D.DOUBLE: "double_val", D.INT32: "int_val", D.UINT8: "int_val", D.INT16: "int_val",
    D.INT8: "int_val", D.UINT16: "int_val", D.INT64: "int64_val", D.BOOL: "bool_val", D.FLOAT16: "half_val",
    D.BFLOAT16: "half_val", D.UINT32: "uint32_val", D.UINT64: "uint64_val", D.STRING: "string_val",
}  # fmt: skip


def data_type(number: int) -> ir.DataType:
    """The ONNX type of one of TensorFlow's; UNDEFINED for resources, variants, quantised and unknown ones."""
    return TYPES.get(number % REF, D.UNDEFINED)


def numpy_type(kind: ir.DataType) -> np.dtype[Any]:
    """NumPy's type; text is `object`."""
    return np.dtype(object) if kind == D.STRING else kind.numpy()


def data_kind(array: Array) -> ir.DataType:
    """The ONNX type of an array."""
    return D.STRING if array.dtype.kind in "OSU" else D.from_numpy(array.dtype)


def dims(shape: Any) -> tuple[int | None, ...] | None:
    """A TensorShapeProto's dims, None where they are open; None for an unknown rank."""
    if shape.unknown_rank:
        return None
    return tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)


def array_of(proto: Any, where: str) -> Array:
    """The elements of a TensorProto; text is an `object` array of `bytes`.

    Fewer elements than the shape has are repeated from the last. Raises ModelFileError when there are too many, none
    where some are needed, or the type is none that ONNX has.
    """
    kind = data_type(proto.dtype)
    if kind not in _FIELDS:
        raise ModelFileError("a constant has a type that ONNX has none for", where=where, got=f"type {proto.dtype}")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    count = math.prod(shape)
    if proto.tensor_shape.unknown_rank or any(dim < 0 for dim in shape) or count > MAX_ELEMENTS:
        raise ModelFileError("a constant has no usable shape", where=where, got=str(shape))
    dtype = numpy_type(kind)
    if proto.tensor_content and kind != D.STRING:
        return _content(proto.tensor_content, dtype, shape, where)
    stored = getattr(proto, _FIELDS[kind])
    if len(stored) > count or (not len(stored) and count):
        if len(stored) or kind == D.STRING:
            raise ModelFileError(
                "a constant's elements do not fit its shape", where=where, got=f"{len(stored)} for {shape}"
            )
        return np.zeros(shape, dtype)  # protobuf leaves out what is zero
    if kind == D.STRING:
        values = np.empty(len(stored), object)
        values[:] = list(stored)
    elif kind in (D.FLOAT16, D.BFLOAT16):
        values = np.array(stored, np.uint32).astype(np.uint16).view(dtype)
    else:
        values = np.array(stored, np.int64 if _FIELDS[kind] == "int_val" else dtype).astype(dtype)
    if len(values) < count:
        values = np.concatenate([values, np.full(count - len(values), values[-1], values.dtype)])
    return values.reshape(shape)


def _content(data: bytes, dtype: np.dtype[Any], shape: list[int], where: str) -> Array:
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ModelFileError(
            "a constant's elements do not fit its shape", where=where, got=f"{len(data):,} bytes for {dtype} {shape}"
        )
    if dtype == ml_dtypes.bfloat16 or dtype.itemsize == 1:
        return np.frombuffer(data, dtype).reshape(shape)
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
