"""Inputs that onnxruntime takes and `sardonyx.InferenceSession` does not, and onnxruntime's words for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.compat.elements import Array, array_type, data_type, tensor_name
from sardonyx.compat.failures import Fail, InvalidArgument
from sardonyx.compat.sparse import SparseTensor
from sardonyx.compat.values import OrtValue
from sardonyx.feeds import NodeArg

_FIX = "Please fix either the inputs/outputs or the model."
_TYPES = {tensor_name(dtype): dtype for dtype in ir.DataType if dtype != ir.DataType.UNDEFINED}


def require_names(feed: Mapping[str, Any], required: Sequence[NodeArg]) -> None:
    """ValueError unless every input that is not optional is given."""
    names = list(feed.keys())
    missing = [arg.name for arg in required if arg.name not in feed and not arg.type.startswith("optional")]
    if missing:
        raise ValueError(f"Required inputs ({missing}) are missing from input feed ({names}).")


def require_outputs(names: Any, outputs: Sequence[NodeArg]) -> None:
    """TypeError or InvalidArgument unless these are names of outputs."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"run(): incompatible function arguments: output_names must be a list of str, not {names!r}")
    known = {arg.name for arg in outputs}
    for name in names:
        if name not in known:
            raise InvalidArgument.of(f"Invalid output name:{name}")


def converted(feed: Mapping[str, Any], known: Sequence[NodeArg], optional: Sequence[NodeArg]) -> dict[str, Any]:
    """The inputs as `sardonyx.InferenceSession.run` takes them; optionals that are not given are None."""
    args = {arg.name: arg for arg in known}
    made = {arg.name: None for arg in optional if arg.type.startswith("optional")}
    for name, value in feed.items():
        if name not in args:
            raise InvalidArgument.of(f"Invalid input name: {name}")
        made[name] = _value(value, args[name])
    return made


def _value(value: Any, arg: NodeArg) -> Any:
    if isinstance(value, OrtValue):
        value = value._value
    if isinstance(value, SparseTensor):
        value = value.dense()
    if arg.type not in _TYPES:
        return _container(value, arg)
    if value is None:
        raise Fail.of(f"Missing Input: {arg.name}")
    dtype = _TYPES[arg.type]
    array = value if isinstance(value, np.ndarray) else _array(value, arg, dtype)
    if array_type(array) != dtype:
        actual = tensor_name(array_type(array))
        raise InvalidArgument.of(f"Unexpected input data type. Actual: ({actual}) , expected: ({arg.type})")
    if dtype == ir.DataType.STRING:
        array = _text(array)
    _check_shape(array, arg)
    return array


def _container(value: Any, arg: NodeArg) -> Any:
    """A sequence's, map's or optional's value, with tensors in place of OrtValues."""
    if isinstance(value, np.ndarray) and arg.type.startswith("seq"):
        raise InvalidArgument.of(f"input with name: '{arg.name}' expected to be of type: 3 but received a tensor")
    if isinstance(value, list | tuple):
        return [item._value if isinstance(item, OrtValue) else item for item in value]
    return value


def _array(value: Any, arg: NodeArg, dtype: ir.DataType) -> Array:
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    if not isinstance(value, list | tuple):
        raise RuntimeError(f"Unable to handle object of type {type(value)}")
    try:
        if dtype == ir.DataType.STRING:
            return np.array(value, object)
        with np.errstate(all="ignore"):
            return np.array(value).astype(dtype.numpy())
    except (TypeError, ValueError) as error:
        raise RuntimeError(f"Could not create tensor from given input list for input '{arg.name}': {error}") from error


def _text(array: Array) -> Array:
    """Objects as `str` shows them, bytes as UTF-8. Raises UnicodeDecodeError."""
    if array.dtype.kind in "SV":
        flat: list[str] = [bytes(item).rstrip(b"\0").decode() for item in array.reshape(-1)]
    else:
        flat = [str(item) for item in array.reshape(-1)]
    made = np.empty(len(flat), object)
    made[:] = flat
    return made.reshape(array.shape)


def _check_shape(array: Array, arg: NodeArg) -> None:
    # An empty list of dims is a scalar's, and also that of a tensor whose rank the model leaves open.
    if not arg.shape:
        return
    if array.ndim != len(arg.shape):
        raise InvalidArgument.of(
            f"Invalid rank for input: {arg.name} Got: {array.ndim} Expected: {len(arg.shape)} {_FIX}"
        )
    wrong = [
        f" index: {axis} Got: {size} Expected: {dim}\n"
        for axis, (size, dim) in enumerate(zip(array.shape, arg.shape, strict=True))
        if isinstance(dim, int) and size != dim
    ]
    if wrong:
        raise InvalidArgument.of(
            f"Got invalid dimensions for input: {arg.name} for the following indices\n{''.join(wrong)} {_FIX}"
        )


def buffer_type(element_type: Any) -> np.dtype[Any]:
    """NumPy's type for the `element_type` of a bound buffer."""
    return data_type(element_type).numpy()
