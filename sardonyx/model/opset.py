"""A model in a newer version of ai.onnx, by ONNX's own converter."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from sardonyx.errors import InvalidModelError
from sardonyx.model.file import load
from sardonyx.model.tensors import payload, payload_size
from sardonyx.model.write import ModelWriter

_SMALL = 1024  # bytes up to which a tensor may be axes or a shape, which the converter must see


def raise_opset(model: ir.Model, version: int) -> ir.Model:
    """The model with its nodes of ai.onnx as that version has them; `model` itself if it imports one as new.

    Model-local functions must have been expanded. Weights are shared, not copied. The opsets of other domains stay.

    Raises:
        InvalidModelError: there is no such version, or the converter cannot bring a node there.
    """
    import onnx
    import onnx.version_converter

    where, old = f"graph {model.graph.name or ''!r}", model.graph.opset_imports.get("", 1)
    if old >= version:
        return model
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        raise InvalidModelError(f"opset {version} does not exist", where=where, expected=f"at most {newest}")
    weights: dict[str, ir.TensorProtocol] = {}

    def fill(proto: Any, tensor: ir.TensorProtocol) -> None:
        if payload_size(tensor) <= _SMALL:
            proto.raw_data = payload(tensor).tobytes()
        elif proto.name in model.graph.initializers:
            weights[proto.name] = tensor
        else:
            raise InvalidModelError(f"the large tensor {proto.name!r} is in a node or a body", where=where)

    proto = ModelWriter(where, fill).model(model)
    overridable = {value.name for value in proto.graph.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in weights]
    for tensor in proto.graph.initializer:  # the converter copies and reads what it is given: inputs stand for weights
        if tensor.name in weights and tensor.name not in overridable:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            proto.graph.input.append(info)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    try:
        converted = onnx.version_converter.convert_version(proto, version)
    except (RuntimeError, ValueError, IndexError) as error:
        raise InvalidModelError(
            f"onnx cannot convert it from opset {old} to {version}: {error}", where=where, fix="keep the model's opset"
        ) from error
    return _with_weights(converted, model, weights, overridable)


def _with_weights(
    proto: Any, model: ir.Model, weights: dict[str, ir.TensorProtocol], overridable: set[str]
) -> ir.Model:
    """What was converted, with its weights, and with what the converter drops of the model's own data."""
    import onnx

    opsets = [entry for entry in proto.opset_import if not entry.domain]
    proto.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(opsets))
    for domain, version in model.graph.opset_imports.items():
        if domain and all(entry.domain != domain for entry in proto.opset_import):
            proto.opset_import.append(onnx.helper.make_opsetid(domain, version))
    result = load(proto.SerializeToString())
    for name in ("producer_name", "producer_version", "domain", "doc_string", "model_version"):
        setattr(result, name, getattr(model, name))
    result.metadata_props.update(model.metadata_props)
    result.graph.doc_string = model.graph.doc_string
    for value in list(result.graph.inputs):
        if value.name in weights:
            value.const_value = weights[value.name]
            if value.name not in overridable:
                result.graph.inputs.remove(value)
            result.graph.register_initializer(value)
    return result
