"""ModelProto to `ir.Model`.

Does what `ir.serde.deserialize_model` does and differs where that loses, logs or cannot: names that are used
but not defined are left to `check` without a word, names defined twice are an error, sparse tensors become
dense, map types are kept, and every tensor comes from the caller's reader. Training information is not kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import onnx_ir as ir

from sardonyx.errors import InvalidModelError, ModelFileError
from sardonyx.model.tensors import TensorReader
from sardonyx.model.types import ATTRIBUTE_FIELDS, read_type, text

Scope = dict[str, ir.Value]

_QUANTIZATION = "quant_parameter_tensor_names"  # the key onnx_ir keeps annotations under


class _Numbers(ir.Attr):
    """A list of numbers out of protobuf, which has made them ints and floats: onnx_ir would turn to each again, a
    second for an ensemble of a few hundred thousand nodes."""

    __slots__ = ("_numbers",)

    def __init__(self, name: str, kind: ir.AttributeType, numbers: Iterable[Any], doc_string: str | None) -> None:
        super().__init__(name, kind, None, doc_string=doc_string)
        self._numbers = tuple(numbers)

    @property
    def value(self) -> tuple[Any, ...]:
        return self._numbers


class ModelReader:
    """Builds one model. `where` names it in errors."""

    def __init__(self, where: str, tensors: TensorReader) -> None:
        self.where = where
        self.tensors = tensors

    def model(self, proto: Any) -> ir.Model:
        """The model in an onnx.ModelProto.

        Raises:
            ModelFileError: a tensor or type that cannot be read.
            InvalidModelError: a name is defined twice, or an initializer has none.
            NotTextError: a name or other text is not UTF-8.
        """
        graph = self._graph(proto.graph, [])
        graph.opset_imports.update(_opsets(proto))
        return ir.Model(
            graph,
            ir_version=proto.ir_version,
            producer_name=_optional(proto, "producer_name"),
            producer_version=_optional(proto, "producer_version"),
            domain=_optional(proto, "domain"),
            model_version=proto.model_version if proto.HasField("model_version") else None,
            doc_string=_optional(proto, "doc_string"),
            functions=[self._function(function) for function in proto.functions],
            metadata_props=_strings(proto.metadata_props),
            device_configurations=self._devices(proto),
        )

    def _graph(self, proto: Any, outer: list[Scope]) -> ir.Graph:
        scope: Scope = {}
        infos = {text(info.name): info for info in proto.value_info}
        inputs = [self._define(scope, info.name, "graph input", info) for info in proto.input]
        initializers = [self._initializer(scope, infos, self.tensors.tensor(tensor)) for tensor in proto.initializer]
        initializers += [
            self._initializer(scope, infos, self.tensors.dense(sparse, text(sparse.values.name)))
            for sparse in proto.sparse_initializer
        ]
        self._declare_outputs(proto.node, scope, infos)
        scopes = [*outer, scope]
        nodes = [self._node(node, scopes) for node in proto.node]
        outputs = []
        for info in proto.output:
            value = scope.get(text(info.name)) or ir.Value(name=info.name)  # undefined: for `check` to find
            self._describe(value, info)
            outputs.append(value)
        for annotation in proto.quantization_annotation:
            if (annotated := scope.get(text(annotation.tensor_name))) is not None:
                annotated.meta[_QUANTIZATION] = _strings(annotation.quant_parameter_tensor_names)
        return ir.Graph(
            inputs,
            outputs,
            nodes=nodes,
            initializers=initializers,
            doc_string=_optional(proto, "doc_string"),
            name=_optional(proto, "name"),
            metadata_props=_strings(proto.metadata_props),
        )

    def _function(self, proto: Any) -> ir.Function:
        scope: Scope = {}
        infos = {text(info.name): info for info in proto.value_info}
        inputs = [self._define(scope, name, "function input", infos.get(name)) for name in proto.input]
        self._declare_outputs(proto.node, scope, infos)
        nodes = [self._node(node, [scope]) for node in proto.node]
        outputs = [scope.get(text(name)) or ir.Value(name=name) for name in proto.output]
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=nodes,
            doc_string=_optional(proto, "doc_string"),
            opset_imports=_opsets(proto),
            name=text(proto.name),
            metadata_props=_strings(proto.metadata_props),
        )
        attributes = [self._attribute(entry, []) for entry in proto.attribute_proto]
        attributes += [ir.Attr(text(name), ir.AttributeType.UNDEFINED, None) for name in proto.attribute]
        return ir.Function(
            text(proto.domain), text(proto.name), text(proto.overload), graph=graph, attributes=attributes
        )

    def _define(self, scope: Scope, name: Any, role: str, info: Any = None) -> ir.Value:
        if text(name) in scope:
            self._invalid(f"the name {name!r} is defined twice, the second time as {role}")
        value = scope[name] = ir.Value(name=name)
        if info is not None:
            self._describe(value, info)
        return value

    def _initializer(self, scope: Scope, infos: dict[str, Any], tensor: ir.TensorProtocol) -> ir.Value:
        name = text(tensor.name)
        if not name:
            self._invalid("an initializer has no name")
        value = scope.get(name)  # an input's default value
        if value is None:
            value = self._define(scope, name, "initializer", infos.get(name))
        elif value.const_value is not None:
            self._invalid(f"there are two initializers {name!r}")
        value.type = value.type or ir.TensorType(tensor.dtype)
        if value.shape is None:
            value.shape = ir.Shape(tensor.shape.numpy(), frozen=True)
        value.const_value = tensor
        return value

    def _declare_outputs(self, nodes: Iterable[Any], scope: Scope, infos: dict[str, Any]) -> None:
        """Define what nodes make before any node is read: a subgraph may come before what it captures."""
        for node in nodes:
            for name in node.output:
                if name:
                    role = f"output of node {node.name!r} ({node.op_type})"
                    self._define(scope, name, role, infos.get(name))

    def _describe(self, value: ir.Value, info: Any) -> None:
        try:
            value.type, value.shape = read_type(info.type)
        except ValueError as error:
            raise ModelFileError(f"type of value {info.name!r}: {error}", where=self.where) from None
        value.doc_string = _optional(info, "doc_string")
        if info.metadata_props:
            value.metadata_props.update(_strings(info.metadata_props))

    def _node(self, proto: Any, scopes: list[Scope]) -> ir.Node:
        scope = scopes[-1]
        return ir.Node(
            text(proto.domain),
            text(proto.op_type),
            [_find(name, scopes) for name in proto.input],
            [self._attribute(entry, scopes) for entry in proto.attribute],
            overload=text(proto.overload),
            outputs=[scope[name] if name else ir.Value(name="") for name in proto.output],
            name=text(proto.name),
            doc_string=_optional(proto, "doc_string"),
            metadata_props=_strings(proto.metadata_props),
            device_configurations=self._node_devices(proto, scopes),
        )

    def _devices(self, proto: Any) -> tuple[Any, ...]:
        read = ir.serde.deserialize_model_configuration
        try:
            return tuple(map(read, getattr(proto, "configuration", ())))
        except ir.serde.SerdeError as error:
            raise ModelFileError("its device configuration is damaged", where=self.where) from error

    def _node_devices(self, proto: Any, scopes: list[Scope]) -> tuple[Any, ...]:
        entries = getattr(proto, "device_configurations", ())
        values = {name: value for level in scopes for name, value in level.items()} if entries else {}
        read = functools.partial(ir.serde.deserialize_node_device_configuration, values=values)
        try:
            return tuple(map(read, entries))
        except ir.serde.SerdeError as error:
            what = f"node {proto.name!r}: its device configuration is damaged"
            raise ModelFileError(what, where=self.where) from error

    def _attribute(self, proto: Any, scopes: list[Scope]) -> ir.Attr:
        name, kind = text(proto.name), ir.AttributeType(proto.type)
        doc_string = _optional(proto, "doc_string")
        if proto.ref_attr_name:
            return ir.RefAttr(name, text(proto.ref_attr_name), kind, doc_string=doc_string)
        if kind == ir.AttributeType.SPARSE_TENSOR and name == "sparse_value":  # of Constant
            return ir.AttrTensor("value", self.tensors.dense(proto.sparse_tensor, name), doc_string)
        value = self._attribute_value(proto, kind, scopes)
        if kind in (ir.AttributeType.INTS, ir.AttributeType.FLOATS):
            return _Numbers(name, kind, value, doc_string)
        return ir.Attr(name, kind, value, doc_string=doc_string)

    def _attribute_value(self, proto: Any, kind: ir.AttributeType, scopes: list[Scope]) -> Any:
        if kind == ir.AttributeType.UNDEFINED:
            return None
        if kind not in ATTRIBUTE_FIELDS:
            what = f"attribute {proto.name!r}: sparse tensors are supported as initializers and in Constant only"
            raise ModelFileError(what, where=self.where)
        field, many = ATTRIBUTE_FIELDS[kind]
        value = getattr(proto, field)
        convert: Callable[[Any], Any]
        match kind:
            case ir.AttributeType.STRINGS:  # a tree ensemble says a few words a million times
                convert = {entry: _lenient(entry) for entry in set(value)}.__getitem__
            case ir.AttributeType.STRING:
                convert = _lenient
            case ir.AttributeType.TENSOR | ir.AttributeType.TENSORS:
                convert = self.tensors.tensor
            case ir.AttributeType.GRAPH | ir.AttributeType.GRAPHS:
                convert = functools.partial(self._graph, outer=scopes)
            case ir.AttributeType.TYPE_PROTO | ir.AttributeType.TYPE_PROTOS:
                convert = functools.partial(self._type, proto.name)
            case _:
                return value
        return [convert(entry) for entry in value] if many else convert(value)

    def _type(self, name: str, proto: Any) -> ir.TypeAndShape:
        try:
            return ir.TypeAndShape(*read_type(proto))
        except ValueError as error:
            raise ModelFileError(f"attribute {name!r}: {error}", where=self.where) from None

    def _invalid(self, what: str) -> NoReturn:
        raise InvalidModelError(what, where=self.where)


def _find(name: Any, scopes: list[Scope]) -> ir.Value | None:
    """The value a node's input names, from the innermost scope that has it; a new one if none does."""
    if not name:
        return None
    for scope in reversed(scopes):
        if (value := scope.get(name)) is not None:
            return value
    return scopes[-1].setdefault(text(name), ir.Value(name=name))


def _opsets(proto: Any) -> dict[str, int]:
    """Imported versions by domain; "ai.onnx" is the long name of "", as onnx_ir has it on nodes."""
    pairs = ((text(entry.domain), entry.version) for entry in proto.opset_import)
    return {"" if domain == "ai.onnx" else domain: version for domain, version in pairs}


def _strings(entries: Iterable[Any]) -> dict[str, str]:
    return {text(entry.key): text(entry.value) for entry in entries}


def _optional(proto: Any, field: str) -> str | None:
    return text(getattr(proto, field)) if proto.HasField(field) else None


def _lenient(value: bytes) -> str | bytes:
    """A string attribute; custom operators also keep plain bytes in them."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
