"""`ir.Model` to ModelProto, with the tensors' elements left to the caller.

Does what `ir.serde.serialize_model` does, except that no tensor is read: a model turns into a proto of a few
kilobytes, for streaming to a file and for shape inference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir

from sardonyx.errors import InvalidModelError
from sardonyx.model.types import ATTRIBUTE_FIELDS, write_type

FillTensor = Callable[[Any, ir.TensorProtocol], None]
"""Puts the elements of a tensor into its TensorProto, of which the rest is filled."""

_QUANTIZATION = "quant_parameter_tensor_names"
_FUNCTION_VALUE_INFO = 10  # IR version that brought value_info to functions
_LONG = 1 << 14
_DEVICES = 11  # IR version that brought device configurations


class ModelWriter:
    """Writes one model. `where` names it in errors; `fill` is called for all tensors but strings.

    Without `ensembles` the lists that describe trees and the like (attributes of ai.onnx.ml longer than any list of
    labels) are left out.
    """

    def __init__(self, where: str, fill: FillTensor, *, ensembles: bool = True) -> None:
        self.where = where
        self.fill = fill
        self.ensembles = ensembles

    def model(self, model: ir.Model) -> Any:
        """The onnx.ModelProto.

        Raises:
            InvalidModelError: an initializer without a value, or an attribute that ONNX cannot hold.
        """
        import onnx

        proto = onnx.ModelProto(ir_version=model.ir_version)
        _copy_texts(proto, model, "producer_name", "producer_version", "domain", "doc_string")
        if model.model_version:
            proto.model_version = model.model_version
        _write_opsets(proto, model.graph.opset_imports)
        _write_strings(proto.metadata_props, model.metadata_props)
        self._ir_version = model.ir_version
        if self._ir_version >= _DEVICES:
            for entry in model.device_configurations:
                proto.configuration.append(ir.serde.serialize_model_configuration(entry))
        self._graph(proto.graph, model.graph)
        for function in model.functions.values():
            self._function(proto.functions.add(), function)
        return proto

    def _graph(self, proto: Any, graph: ir.Graph) -> None:
        _copy_texts(proto, graph, "name", "doc_string")
        annotated: dict[str, ir.Value] = {}
        ends = {value.name for value in (*graph.inputs, *graph.outputs)}
        for value in graph.inputs:
            _write_info(proto.input.add(), value)
            annotated[str(value.name)] = value
        for value in graph.initializers.values():
            annotated[str(value.name)] = value
            if value.name not in ends:
                _write_info_if_any(proto.value_info, value)
            if value.const_value is None:
                raise InvalidModelError(f"initializer {value.name!r} has no value", where=self.where)
            self._tensor(proto.initializer.add(), value.const_value, str(value.name))
        for node in graph:
            self._node(proto.node.add(), node)
            for value in node.outputs:
                annotated[str(value.name)] = value
                if value.name not in ends:
                    _write_info_if_any(proto.value_info, value)
        for value in graph.outputs:
            _write_info(proto.output.add(), value)
            annotated[str(value.name)] = value
        for name, value in annotated.items():
            if names := value.meta.get(_QUANTIZATION):
                annotation = proto.quantization_annotation.add(tensor_name=name)
                _write_strings(annotation.quant_parameter_tensor_names, names)
        _write_strings(proto.metadata_props, graph.metadata_props)

    def _function(self, proto: Any, function: ir.Function) -> None:
        _copy_texts(proto, function, "domain", "name", "overload", "doc_string")
        _write_opsets(proto, function.opset_imports)
        _write_strings(proto.metadata_props, function.metadata_props)
        values = list(function.inputs)
        proto.input.extend(value.name for value in function.inputs)
        proto.output.extend(value.name for value in function.outputs)
        for attribute in function.attributes.values():
            if attribute.value is not None:
                self._attribute(proto.attribute_proto.add(), attribute)
            else:
                proto.attribute.append(attribute.name)
        for node in function:
            self._node(proto.node.add(), node)
            values += node.outputs
        if self._ir_version >= _FUNCTION_VALUE_INFO:
            for value in values:
                _write_info_if_any(proto.value_info, value)

    def _node(self, proto: Any, node: ir.Node) -> None:
        proto.op_type = node.op_type
        _copy_texts(proto, node, "domain", "name", "overload", "doc_string")
        _write_strings(proto.metadata_props, node.metadata_props)
        proto.input.extend("" if value is None else value.name for value in node.inputs)
        outputs = [value.name or "" for value in node.outputs]
        while outputs and not outputs[-1]:
            outputs.pop()
        proto.output.extend(outputs)
        for attribute in node.attributes.values():
            if self.ensembles or node.domain != "ai.onnx.ml" or not _is_long(attribute):
                self._attribute(proto.attribute.add(), attribute)
        if self._ir_version >= _DEVICES:
            for entry in node.device_configurations:
                proto.device_configurations.append(ir.serde.serialize_node_device_configuration(entry))

    def _attribute(self, proto: Any, attribute: ir.Attr) -> None:
        proto.name, proto.type = attribute.name, attribute.type.value
        if attribute.doc_string:
            proto.doc_string = attribute.doc_string
        if attribute.is_ref():
            proto.ref_attr_name = attribute.ref_attr_name
            return
        if attribute.type not in ATTRIBUTE_FIELDS:
            if attribute.value is None:
                return
            what = f"attribute {attribute.name!r}: {attribute.type.name} cannot be written"
            raise InvalidModelError(what, where=self.where)
        field, many = ATTRIBUTE_FIELDS[attribute.type]
        if not many:
            self._attribute_value(proto, field, attribute)
        elif attribute.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS):
            getattr(proto, field).extend(attribute.value)
        elif attribute.type == ir.AttributeType.STRINGS:
            known = {entry: _encoded(entry) for entry in set(attribute.value)}
            proto.strings.extend(map(known.__getitem__, attribute.value))
        else:
            for entry in attribute.value:
                self._attribute_message(getattr(proto, field).add(), entry)

    def _attribute_value(self, proto: Any, field: str, attribute: ir.Attr) -> None:
        if attribute.type in (ir.AttributeType.INT, ir.AttributeType.FLOAT):
            setattr(proto, field, attribute.value)
        elif attribute.type == ir.AttributeType.STRING:
            proto.s = _encoded(attribute.value)
        else:
            message = getattr(proto, field)
            message.SetInParent()  # present even when empty
            self._attribute_message(message, attribute.value)

    def _attribute_message(self, proto: Any, value: Any) -> None:
        if isinstance(value, ir.Graph):
            self._graph(proto, value)
        elif isinstance(value, ir.TypeAndShape):
            write_type(proto, value.type, value.shape)
        else:
            self._tensor(proto, value, value.name or "")

    def _tensor(self, proto: Any, tensor: ir.TensorProtocol, name: str) -> None:
        if name:
            proto.name = name
        if tensor.doc_string:
            proto.doc_string = tensor.doc_string
        proto.data_type = tensor.dtype.value
        proto.dims.extend(tensor.shape.numpy())
        _write_strings(proto.metadata_props, tensor.metadata_props)
        if tensor.dtype == ir.DataType.STRING:
            strings = tensor.string_data() if isinstance(tensor, ir.StringTensor) else tensor.numpy().ravel().tolist()
            proto.string_data.extend(_encoded(entry) for entry in strings)
        else:
            self.fill(proto, tensor)


def _is_long(attribute: ir.Attr) -> bool:
    return isinstance(attribute.value, tuple) and len(attribute.value) > _LONG


def _write_info_if_any(infos: Any, value: ir.Value) -> None:
    if value.name and (value.type is not None or value.metadata_props or value.doc_string):
        _write_info(infos.add(), value)


def _write_info(proto: Any, value: ir.Value) -> None:
    proto.name = value.name
    write_type(proto.type, value.type, value.shape)
    if value.doc_string:
        proto.doc_string = value.doc_string
    _write_strings(proto.metadata_props, value.metadata_props)


def _write_opsets(proto: Any, opsets: Mapping[str, int]) -> None:
    for domain, version in opsets.items():
        proto.opset_import.add(domain=domain, version=version)


def _write_strings(entries: Any, strings: Mapping[str, str]) -> None:
    for key in sorted(strings):
        entries.add(key=key, value=strings[key])


def _copy_texts(proto: Any, source: Any, *fields: str) -> None:
    for field in fields:
        if text := getattr(source, field):
            setattr(proto, field, text)


def _encoded(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
