"""What a caller gives beside a model: where its external data lies, and tensors in place of the file's own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.errors import InvalidInputError

Array = np.ndarray[Any, Any]

_EXTERNAL = 1  # TensorProto.EXTERNAL


@dataclass(frozen=True)
class Supplied:
    """`folder` is where external data lies (None: beside the model's file), `files` are such files in memory.

    `initializers` are values for those that a model has, `external` for those that it must have as external data.
    Arrays are read where they are.
    """

    folder: Path | None = None
    files: Mapping[str, memoryview] = field(default_factory=dict)
    initializers: Mapping[str, Array] = field(default_factory=dict)
    external: Mapping[str, Array] = field(default_factory=dict)

    def place(self, graph: Any, where: str) -> dict[str, memoryview]:
        """Make the tensors given here external data of an onnx.GraphProto; the files by location, all in memory.

        Raises:
            InvalidInputError: names the tensor; the model has none of this name, or of another type or other dims.
        """
        files = dict(self.files)
        if not self.initializers and not self.external:
            return files
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        for name in self.external:
            if name not in tensors or tensors[name].data_location != _EXTERNAL:
                has = "an initializer in the model itself" if name in tensors else "no initializer of this name"
                raise InvalidInputError(
                    f"external initializer {name!r}", where=where, expected="one with external data", got=has
                )
        for name, array in {**self.initializers, **self.external}.items():
            if name in tensors:
                _replace(tensors[name], array, files, f"{where}: initializer {name!r}")
        return files


def _replace(tensor: Any, array: Array, files: dict[str, memoryview], where: str) -> None:
    import onnx_ir as ir

    dtype = ir.DataType(tensor.data_type)
    if array.dtype != dtype.numpy() or list(array.shape) != list(tensor.dims):
        raise InvalidInputError(
            "a value that does not fit",
            where=where,
            expected=f"{dtype.numpy()} {list(tensor.dims)}",
            got=f"{array.dtype} {list(array.shape)}",
        )
    name, dims, doc = tensor.name, list(tensor.dims), tensor.doc_string
    tensor.Clear()
    tensor.name, tensor.data_type, tensor.doc_string = name, int(dtype), doc
    tensor.dims.extend(dims)
    if dtype == ir.DataType.STRING:
        tensor.string_data.extend(str(text).encode() for text in array.flat)
        return
    if dtype.bitwidth < 8:
        data = memoryview(ir.Tensor(array, dtype=dtype).tobytes())
    else:
        flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        data = memoryview(flat).toreadonly()
    location = f"\0{secrets.token_hex(16)}"  # which no file in the model's folder can have
    files[location] = data
    tensor.data_location = _EXTERNAL
    for key, value in (("location", location), ("length", str(len(data)))):
        tensor.external_data.add(key=key, value=value)
