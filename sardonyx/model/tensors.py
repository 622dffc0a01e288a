"""TensorProto to `ir` tensors and back: facts checked, elements viewed in place where their layout allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir

from sardonyx.errors import ModelFileError
from sardonyx.model import wire
from sardonyx.model.external import ExternalData
from sardonyx.model.types import text

Array = np.ndarray[Any, Any]

_MAX_RANK = 32  # NumPy 1's limit; no model comes near
_MAX_DENSE = 1 << 31  # bytes a sparse tensor may grow to
_SUB_BYTE = (2, 4, 6)
_WIDE_FIELD = {  # the typed field of TensorProto that holds a type; all others are in int32_data
    ir.DataType.FLOAT: wire.FLOAT_DATA,
    ir.DataType.COMPLEX64: wire.FLOAT_DATA,
    ir.DataType.DOUBLE: wire.DOUBLE_DATA,
    ir.DataType.COMPLEX128: wire.DOUBLE_DATA,
    ir.DataType.INT64: wire.INT64_DATA,
    ir.DataType.UINT32: wire.UINT64_DATA,
    ir.DataType.UINT64: wire.UINT64_DATA,
    ir.DataType.STRING: wire.STRING_DATA,
}
_FIELD_DTYPE: dict[int, np.dtype[Any]] = {
    wire.FLOAT_DATA: np.dtype(np.float32),
    wire.DOUBLE_DATA: np.dtype(np.float64),
    wire.INT32_DATA: np.dtype(np.int32),
    wire.INT64_DATA: np.dtype(np.int64),
    wire.UINT64_DATA: np.dtype(np.uint64),
}
_FIELD_NAME = {
    wire.FLOAT_DATA: "float_data",
    wire.INT32_DATA: "int32_data",
    wire.STRING_DATA: "string_data",
    wire.INT64_DATA: "int64_data",
    wire.RAW_DATA: "raw_data",
    wire.DOUBLE_DATA: "double_data",
    wire.UINT64_DATA: "uint64_data",
}


@dataclass(frozen=True)
class TensorReader:
    """Makes `ir` tensors of one model's TensorProtos.

    `where` names the model in errors. `cut` holds the payloads taken out of the protos: what stands in a
    proto's raw_data, the field of TensorProto the bytes came from, and the bytes in the file.
    """

    where: str
    external: ExternalData
    cut: dict[bytes, tuple[int, memoryview]]

    def tensor(self, proto: Any) -> ir.TensorProtocol:
        """The tensor in an onnx.TensorProto, read-only; possibly not aligned to its element size.

        Raises:
            ModelFileError: names the tensor; unknown type, bad dimensions, or not the bytes they ask for.
            NotTextError: its name or other text is not UTF-8.
        """
        name, dims = text(proto.name), list(proto.dims)
        try:
            dtype = ir.DataType(proto.data_type)
        except ValueError:
            dtype = ir.DataType.UNDEFINED
        if dtype == ir.DataType.UNDEFINED:
            self._fail(name, "unknown element type", "one that ONNX defines", f"{proto.data_type}")
        if proto.HasField("segment"):
            self._fail(name, "it is stored in segments, which ONNX never gave a meaning")
        count = self._count(name, dims, dtype)
        facts: dict[str, Any] = {
            "name": name,
            "doc_string": text(proto.doc_string) if proto.HasField("doc_string") else None,
            "metadata_props": {text(entry.key): text(entry.value) for entry in proto.metadata_props} or None,
        }
        if dtype == ir.DataType.STRING:
            return self._strings(proto, dims, count, facts)
        data = self._bytes(proto, dtype, count)
        if dtype.bitwidth in _SUB_BYTE:
            packed = np.frombuffer(data, np.uint8)
            return ir.PackedTensor(_frozen(packed), dtype, shape=ir.Shape(dims), **facts)
        array = np.frombuffer(data, dtype.numpy().newbyteorder("<"), count).reshape(dims)
        return ir.Tensor(_frozen(array), dtype, shape=ir.Shape(dims), **facts)

    def dense(self, proto: Any, name: str) -> ir.TensorProtocol:
        """The tensor an onnx.SparseTensorProto stands for, with its zeros.

        Raises:
            ModelFileError: parts that do not fit each other, or more than 2 GiB.
        """
        values, indices = self.tensor(proto.values), self.tensor(proto.indices)
        dims = list(proto.dims)
        count = self._count(name, dims, values.dtype)
        if values.dtype == ir.DataType.STRING or values.dtype.bitwidth < 8:
            self._fail(name, "sparse tensors of this type are not supported", got=str(values.dtype))
        if math.ceil(count * values.dtype.itemsize) > _MAX_DENSE:
            self._fail(name, "a sparse tensor is too large to be made dense", f"at most {_MAX_DENSE} bytes")
        nonzero, flat = values.numpy(), self._flat_indices(indices.numpy(), dims, name)
        if indices.dtype != ir.DataType.INT64 or nonzero.ndim != 1 or nonzero.shape != flat.shape:
            self._fail(name, "the indices of a sparse tensor do not fit its values")
        array = np.zeros(count, nonzero.dtype)
        array[flat] = nonzero
        return ir.Tensor(_frozen(array.reshape(dims)), values.dtype, name=name)

    def _flat_indices(self, indices: Array, dims: list[int], name: str) -> Array:
        """Positions in the flattened dense tensor, of indices (n,) that are such or (n, rank)."""
        if indices.ndim == 1:
            indices, bounds = indices[:, None], [math.prod(dims)]
        elif indices.ndim == 2 and indices.shape[1] == len(dims) > 0:
            bounds = dims
        else:
            self._fail(name, "the indices of a sparse tensor do not fit its dimensions")
        if (indices < 0).any() or (indices >= np.asarray(bounds, np.int64)).any():
            self._fail(name, "an index of a sparse tensor is out of bounds")
        strides = [math.prod(bounds[axis + 1 :]) for axis in range(len(bounds))]
        flat: Array = indices @ np.asarray(strides, np.int64)
        return flat

    def _count(self, name: str, dims: Sequence[int], dtype: ir.DataType) -> int:
        """The number of elements; also keeps every extent NumPy computes with below 2**63 bytes."""
        if len(dims) > _MAX_RANK or any(dim < 0 for dim in dims):
            shown = str(dims) if len(dims) <= _MAX_RANK else f"{len(dims)} of them"
            self._fail(name, "bad dimensions", f"at most {_MAX_RANK}, none negative", shown)
        if math.prod(dim or 1 for dim in dims) >= 1 << 58:  # 16 bytes an element at most
            self._fail(name, "its dimensions overflow", got=str(list(dims)))
        return math.prod(dims)

    def _bytes(self, proto: Any, dtype: ir.DataType, count: int) -> memoryview | bytes:
        """Exactly the bytes the elements take in raw_data's layout."""
        name, nbytes = proto.name, (count * dtype.bitwidth + 7) // 8
        if proto.data_location == proto.EXTERNAL:
            entries = [(text(entry.key), text(entry.value)) for entry in proto.external_data]
            return self.external.view(name, entries, nbytes)
        field, data = self._inline(proto, dtype)
        if field not in (0, wire.RAW_DATA, _WIDE_FIELD.get(dtype, wire.INT32_DATA)):
            self._fail(name, f"{dtype} elements cannot be in {_FIELD_NAME[field]}")
        if len(data) != nbytes:
            self._fail(
                name,
                f"its data does not fit its type {dtype} and dimensions {list(proto.dims)}",
                f"{nbytes} bytes",
                f"{len(data)}",
            )
        return data

    def _inline(self, proto: Any, dtype: ir.DataType) -> tuple[int, memoryview | bytes]:
        """The field of TensorProto that holds the elements (0: none) and their bytes in raw_data's layout."""
        raw = proto.raw_data
        typed = [field for field in _FIELD_NAME if field != wire.RAW_DATA and getattr(proto, _FIELD_NAME[field])]
        if len(typed) + bool(raw) > 1:
            self._fail(proto.name, "it holds its data in more than one field")
        if raw:
            return self.cut.get(raw, (wire.RAW_DATA, raw))
        if not typed:
            return 0, b""
        field = typed[0]
        if field == wire.STRING_DATA:
            self._fail(proto.name, f"{dtype} elements cannot be in string_data")
        numbers = np.array(getattr(proto, _FIELD_NAME[field]), _FIELD_DTYPE[field])
        return field, _narrow(numbers, field, dtype).tobytes()

    def _strings(self, proto: Any, dims: Sequence[int], count: int, facts: dict[str, Any]) -> ir.StringTensor:
        strings = list(proto.string_data)
        if proto.data_location == proto.EXTERNAL or proto.raw_data:
            self._fail(proto.name, "strings must be in string_data")
        if len(strings) != count:
            self._fail(proto.name, "its data does not fit its dimensions", f"{count} strings", f"{len(strings)}")
        return ir.StringTensor(strings, shape=ir.Shape(dims), **facts)

    def _fail(self, name: str, what: str, expected: str | None = None, got: str | None = None) -> NoReturn:
        raise ModelFileError(f"tensor {name!r}: {what}", where=self.where, expected=expected, got=got)


def _narrow(numbers: Array, field: int, dtype: ir.DataType) -> Array:
    """Elements of a typed field as raw_data would hold them."""
    if field == wire.UINT64_DATA and dtype == ir.DataType.UINT32:
        return numbers.astype(np.uint32)
    if field != wire.INT32_DATA or dtype.bitwidth >= 32:
        return numbers
    if dtype.bitwidth == 16:
        return numbers.astype(np.uint16)
    if dtype.bitwidth == 6:  # one element an int32; four in three bytes of raw_data
        return np.frombuffer(ir.Tensor(numbers.astype(np.uint8), dtype).tobytes(), np.uint8)
    return numbers.astype(np.uint8)  # 4-bit and 2-bit elements are packed into bytes already


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def payload(tensor: ir.TensorProtocol) -> Array:
    """The elements of a tensor as raw_data holds them: uint8, little-endian, no copy where possible."""
    if isinstance(tensor, ir.Tensor) and tensor.dtype.bitwidth >= 8 and isinstance(tensor.raw, np.ndarray):
        array = np.ascontiguousarray(tensor.raw, tensor.raw.dtype.newbyteorder("<"))
        return array.reshape(-1).view(np.uint8)
    if isinstance(tensor, ir.PackedTensor):
        return tensor.numpy_packed().reshape(-1)
    return np.frombuffer(tensor.tobytes(), np.uint8)


def payload_size(tensor: ir.TensorProtocol) -> int:
    """The number of bytes `payload` will have, without reading the elements."""
    return (math.prod(tensor.shape.numpy()) * tensor.dtype.bitwidth + 7) // 8


def contents(tensor: ir.TensorProtocol) -> Array:
    """The elements as a run gives and takes them: text as `str`, where `numpy()` has bytes."""
    array = tensor.numpy()
    if tensor.dtype != ir.DataType.STRING:
        return array
    made = np.empty(array.size, object)
    made[:] = [item.decode() if isinstance(item, bytes) else item for item in array.flat]
    return made.reshape(array.shape)
