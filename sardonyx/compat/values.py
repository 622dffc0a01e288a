"""OrtValue: a tensor, sparse tensor, sequence, map or nothing, in the processor's memory."""

from __future__ import annotations

import ctypes
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.compat.devices import OrtDevice, OrtMemoryInfo, require_memory
from sardonyx.compat.elements import Array, array_type, data_type, tensor_name
from sardonyx.compat.sparse import SparseTensor


def memory_at(pointer: int, shape: Sequence[int], dtype: np.dtype[Any], owner: Any = None) -> Array:
    """An array over memory at an address, which the caller vouches for; `owner` lives as long as the array."""
    dims = tuple(int(dim) for dim in shape)
    size = math.prod(dims) * dtype.itemsize
    if size < 0:
        raise RuntimeError("Tensor shape.Size() must be >= 0")
    if size == 0:
        return np.empty(dims, dtype)
    buffer: Any = (ctypes.c_char * size).from_address(pointer)
    buffer.owner = owner
    return np.frombuffer(buffer, dtype).reshape(dims)


class OrtValue:
    """A value for inputs and outputs of sessions. Made from an array it shares the array's memory."""

    _value: Any

    def __init__(self, ortvalue: OrtValue, numpy_obj: Array | None = None, session: Any = None) -> None:
        if not isinstance(ortvalue, OrtValue):
            raise ValueError("`Provided ortvalue` needs to be of type `OrtValue`")
        self._value = ortvalue._value

    @classmethod
    def of(cls, value: Any) -> OrtValue:
        """Of what `InferenceSession.run` gives: an array, a list, a dict, a SparseTensor or None."""
        made = cls.__new__(cls)
        made._value = value
        return made

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: Array, /, device_type: str | OrtDevice = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """A tensor in the memory of this array, or in a copy where the array is not contiguous."""
        if not isinstance(numpy_obj, np.ndarray) or array_type(numpy_obj) == ir.DataType.STRING:
            raise RuntimeError("Creation of OrtValues is currently only supported from non-string numpy arrays")
        require_memory(device_type, device_id, vendor_id)
        return cls.of(np.require(numpy_obj, requirements=["C", "A"]))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: Array, /, onnx_element_type: int) -> OrtValue:
        """A tensor in the memory of this array, its elements taken for those of an ONNX type of the same width."""
        dtype = data_type(int(onnx_element_type)).numpy()
        if dtype.itemsize != data.dtype.itemsize:
            raise RuntimeError(
                f"Items size in the incoming array: {data.dtype.itemsize} specified by onnxtype: {dtype.itemsize}"
            )
        return cls.of(np.ascontiguousarray(data).view(dtype))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any,
        device_type: str | OrtDevice = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: OrtMemoryInfo | None = None,
    ) -> OrtValue:
        """A tensor of these dims whose elements are yet to be written; `element_type` is NumPy's or ONNX's number."""
        if memory_info is not None and (device_type != "cpu" or device_id != 0 or vendor_id != -1):
            warnings.warn(
                "device_type, device_id, and vendor_id are ignored when memory_info is provided.", stacklevel=2
            )
        elif memory_info is None:
            require_memory(device_type, device_id, vendor_id)
        if math.prod(shape) < 0:
            raise RuntimeError("Tensor shape.Size() must be >= 0")
        return cls.of(np.zeros([int(dim) for dim in shape], data_type(element_type).numpy()))

    ortvalue_from_shape_and_onnx_type = ortvalue_from_shape_and_type

    @classmethod
    def ort_value_from_sparse_tensor(cls, sparse_tensor: SparseTensor) -> OrtValue:
        """A sparse tensor."""
        return cls.of(sparse_tensor)

    def as_sparse_tensor(self) -> SparseTensor:
        """The sparse tensor; RuntimeError for something else."""
        if not isinstance(self._value, SparseTensor):
            raise RuntimeError("OrtValue does not contain a sparse tensor")
        return self._value

    def data_ptr(self) -> int:
        """The address of the first element."""
        return int(self._tensor().ctypes.data)

    def device_name(self) -> str:
        """`cpu`."""
        return "cpu"

    def shape(self) -> list[int]:
        """The dims."""
        return self._value.dense_shape() if isinstance(self._value, SparseTensor) else list(self._tensor().shape)

    def data_type(self) -> str:
        """Such as `tensor(float)` or `seq(tensor(float))`."""
        return _type_of(self._value)

    def element_type(self) -> int:
        """ONNX's number of the element type."""
        return int(array_type(self._tensor()))

    def tensor_size_in_bytes(self) -> int:
        """Elements times their size."""
        return int(self._tensor().nbytes)

    def has_value(self) -> bool:
        """False for an optional that holds nothing."""
        return self._value is not None

    def is_tensor(self) -> bool:
        """Whether it is a tensor."""
        return isinstance(self._value, np.ndarray)

    def is_sparse_tensor(self) -> bool:
        """Whether it is a sparse tensor."""
        return isinstance(self._value, SparseTensor)

    def is_tensor_sequence(self) -> bool:
        """Whether it is a sequence of tensors."""
        return isinstance(self._value, list) and all(isinstance(item, np.ndarray) for item in self._value)

    def numpy(self) -> Array:
        """The tensor, in the same memory; RuntimeError for something else."""
        return self._tensor().view()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.numpy()
        return np.array(array, dtype=dtype, copy=copy) if copy is not None else np.asarray(array, dtype=dtype)

    def __dlpack__(self, *, stream: Any = None, **wanted: Any) -> Any:
        capsule: Any = self._tensor().__dlpack__(**wanted)
        return capsule

    def to_dlpack(self) -> Any:
        """A DLPack capsule of the tensor."""
        return self.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    @classmethod
    def from_dlpack(cls, data: Any, /) -> OrtValue:
        """A tensor in the memory of another library's, or of a DLPack capsule's. RuntimeError if not contiguous."""
        try:
            array: Array = np.from_dlpack(data if hasattr(data, "__dlpack__") else _Capsule(data))
        except (TypeError, ValueError, AttributeError) as error:
            raise TypeError("from_dlpack expected a valid DLPack capsule named 'dltensor'") from error
        if not array.flags.c_contiguous:
            raise RuntimeError("ORT only supports contiguous tensor for now.")
        # NumPy shows what came without a word on that as read-only; onnxruntime may write to it, and so may we.
        return cls.of(memory_at(array.ctypes.data, array.shape, array.dtype, array))

    def update_inplace(self, data: Array | OrtValue) -> None:
        """Copy elements over this tensor's. RuntimeError when there are more or fewer, or of another type."""
        if isinstance(data, OrtValue):
            data = data._tensor()
        if not isinstance(data, np.ndarray):
            raise TypeError("data must be a numpy.ndarray or an OrtValue.")
        target = self._tensor()
        if data.size != target.size:
            raise RuntimeError("The input size of numpy arrays does not match the size of the OrtValue.")
        if data.dtype != target.dtype:
            raise RuntimeError(f"The input type {data.dtype} does not match the type {target.dtype} of the OrtValue.")
        np.copyto(target, data.reshape(target.shape))

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot pickle 'OrtValue' object")

    def _tensor(self) -> Array:
        if not isinstance(self._value, np.ndarray):
            raise RuntimeError("Only OrtValues that are Tensors are convertible to Numpy objects")
        return self._value

    def _get_c_value(self) -> OrtValue:
        return self

    @property
    def _ortvalue(self) -> OrtValue:
        return self


def _type_of(value: Any) -> str:
    match value:
        case np.ndarray():
            return tensor_name(array_type(value))
        case SparseTensor():
            return value.data_type()
        case [dict() as first, *_]:
            return f"seq({_type_of(first)})"
        case list():
            return f"seq({_type_of(value[0])})" if value else "seq(tensor(float))"
        case dict() if value:
            key, item = next(iter(value.items()))
            kind = "string" if isinstance(key, str) else "int64"
            return f"map({kind},{_type_of(np.asarray(item, np.float32 if isinstance(item, float) else None))})"
        case None:
            return "optional"
    raise RuntimeError(f"no ONNX type for {type(value).__name__}")


class _Capsule:
    """A raw DLPack capsule behind the protocol that NumPy asks for."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_wanted: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class OrtValueVector(list[OrtValue]):
    """A list of OrtValues under the names of a C++ vector."""

    def push_back(self, value: Any) -> None:
        """Append an OrtValue or a DLPack capsule."""
        self.append(value if isinstance(value, OrtValue) else OrtValue.from_dlpack(value))

    def push_back_batch(
        self,
        _tensors: Sequence[Any],
        pointers: Sequence[int],
        element_types: Sequence[Any],
        shapes: Sequence[Sequence[int]],
        devices: Sequence[OrtDevice],
    ) -> None:
        """Append tensors over memory at these addresses, which the tensors of the first list own."""
        rows = zip(_tensors, pointers, element_types, shapes, devices, strict=True)
        for owner, pointer, element_type, shape, device in rows:
            require_memory(device)
            self.append(OrtValue.of(memory_at(pointer, shape, data_type(element_type).numpy(), owner)))

    def element_type_at(self, idx: int) -> int:
        """ONNX's number of a tensor's element type."""
        return self[idx].element_type()

    def dlpack_at(self, idx: int) -> Any:
        """A DLPack capsule of a tensor."""
        return self[idx].to_dlpack()

    def to_dlpacks(self, to_tensor: Any = None) -> list[Any]:
        """DLPack capsules of all, or what `to_tensor` makes of each."""
        capsules = [value.to_dlpack() for value in self]
        return [to_tensor(capsule) for capsule in capsules] if to_tensor is not None else capsules

    def reserve(self, size: int) -> None:
        """Accepted: a list grows by itself."""

    def shrink_to_fit(self) -> None:
        """Accepted likewise."""


def copy_tensors(src: Sequence[OrtValue], dst: Sequence[OrtValue], stream: Any = None) -> None:
    """Copy the elements of each tensor to the tensor at the same place of the other list."""
    if len(src) != len(dst):
        raise RuntimeError("copy_tensors: the lists differ in length")
    for source, target in zip(src, dst, strict=True):
        target.update_inplace(source)
