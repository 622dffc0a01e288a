"""An `ir.Model` as an onnx.ModelProto in memory, for tools that take nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from sardonyx.model.tensors import payload
from sardonyx.model.write import ModelWriter

if TYPE_CHECKING:
    import onnx


def to_proto(model: ir.Model, where: str) -> onnx.ModelProto:
    """The proto with a copy of every tensor in it; `where` names the model in errors.

    Raises:
        InvalidModelError: the model holds something ONNX cannot.
    """

    def fill(proto: Any, tensor: ir.TensorProtocol) -> None:
        proto.raw_data = payload(tensor).tobytes()

    return ModelWriter(where, fill).model(model)
