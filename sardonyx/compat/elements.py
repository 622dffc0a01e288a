"""Element types: NumPy's, ONNX's numbers, and the names onnxruntime shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.model.types import type_string

Array = np.ndarray[Any, Any]


def data_type(dtype: Any) -> ir.DataType:
    """The ONNX type of a NumPy type, or with one of ONNX's numbers. Raises RuntimeError when there is none."""
    try:
        return ir.DataType(dtype) if isinstance(dtype, int) else ir.DataType.from_numpy(np.dtype(dtype))
    except (TypeError, ValueError) as error:
        raise RuntimeError(f"{dtype} can't be converted to MLDataType.") from error


def array_type(array: Array) -> ir.DataType:
    """The ONNX type of an array's elements; text of any kind is strings."""
    is_text = array.dtype.kind in "OUST" or array.dtype.type is np.void
    return ir.DataType.STRING if is_text else data_type(array.dtype)


def tensor_name(dtype: ir.DataType) -> str:
    """Such as `tensor(float)`."""
    return type_string(ir.TensorType(dtype))
