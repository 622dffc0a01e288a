"""A TensorFlow graph in memory: nodes with plain attributes, functions, values. From protobuf or TFJS's JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from google.protobuf import json_format

from sardonyx.convert.reading.protobuf import which
from sardonyx.convert.tensorflow.schema import schema
from sardonyx.convert.tensorflow.tensors import array_of, data_type, dims
from sardonyx.errors import ConversionError, ModelFileError

Array = np.ndarray[Any, Any]
Dims = tuple[int | None, ...] | None


@dataclass(frozen=True)
class Endpoint:
    """An output of a node: "conv:0" is Endpoint("conv", 0)."""

    node: str
    port: int = 0

    @classmethod
    def of(cls, text: str) -> Endpoint:
        """From "name" or "name:port"."""
        name, colon, port = text.rpartition(":")
        return cls(name, int(port)) if colon and port.isdecimal() and len(port) < 6 else cls(text)

    def __str__(self) -> str:
        return f"{self.node}:{self.port}" if self.port else self.node


@dataclass(frozen=True)
class Named:
    """A function given as an attribute."""

    name: str


@dataclass(frozen=True)
class Node:
    """One operation. `inputs` are endpoints in order, `controls` the names of nodes that only must run before.

    Attributes are int, float, bool, bytes, ir.DataType, Dims (for shapes), Array (for tensors), Named, or a list.
    """

    name: str
    op: str
    inputs: tuple[Endpoint, ...] = ()
    controls: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean attribute."""
        return bool(self.attributes.get(name, default))

    def number(self, name: str, default: float = 0.0) -> float:
        """A float attribute."""
        return float(self.attributes.get(name, default))

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        return int(self.attributes.get(name, default))

    def integers(self, name: str, default: Iterable[int] = ()) -> list[int]:
        """A list of integers."""
        return [int(item) for item in self.attributes.get(name, default)]

    def text(self, name: str, default: str = "") -> str:
        """A text attribute."""
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def kind(self, name: str) -> ir.DataType:
        """A type attribute; UNDEFINED where there is none."""
        value = self.attributes.get(name, ir.DataType.UNDEFINED)
        return value if isinstance(value, ir.DataType) else ir.DataType.UNDEFINED

    def shape(self, name: str = "shape") -> Dims:
        """A shape attribute; None where it is not told."""
        return self.attributes.get(name)

    def array(self, name: str = "value") -> Array:
        """A tensor attribute."""
        value = self.attributes.get(name)
        if not isinstance(value, np.ndarray):
            raise ModelFileError("a node lacks its tensor", where=self.name, expected=f"the attribute {name}")
        return value


@dataclass(frozen=True)
class Function:
    """A function: its arguments are nodes of the operator `_Arg`, its results endpoints in order."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[Endpoint, ...]
    nodes: Mapping[str, Node]


@dataclass(frozen=True)
class Graph:
    """Nodes by name, functions by name, and values that lie outside: of constants and variables, by node name."""

    nodes: Mapping[str, Node]
    functions: Mapping[str, Function] = field(default_factory=dict)
    values: Mapping[str, Array] = field(default_factory=dict)
    where: str = ""
    producer: int = 0

    def with_values(self, values: Mapping[str, Array]) -> Graph:
        """The same with these values beside those there are."""
        return replace(self, values={**self.values, **values})


OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "FusedBatchNorm": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV2": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV3": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2", "reserve_space_3"),
    "TopKV2": ("values", "indices"),
    "TopK": ("values", "indices"),
    "Unique": ("y", "idx"),
    "UniqueV2": ("y", "idx"),
    "UniqueWithCounts": ("y", "idx", "count"),
    "ListDiff": ("out", "idx"),
    "MaxPoolWithArgmax": ("output", "argmax"),
    "Switch": ("output_false", "output_true"),
    "Merge": ("output", "value_index"),
    "NonMaxSuppressionV4": ("selected_indices", "valid_outputs"),
    "NonMaxSuppressionV5": ("selected_indices", "selected_scores", "valid_outputs"),
    "CombinedNonMaxSuppression": ("nmsed_boxes", "nmsed_scores", "nmsed_classes", "valid_detections"),
    "TensorListPopBack": ("output_handle", "tensor"),
    "BroadcastGradientArgs": ("r0", "r1"),
    "LookupTableExportV2": ("keys", "values"),
}
"""Operators with more than one named output, which functions refer to by name; in all others the one is a list."""


def from_message(message: Any, where: str) -> Graph:
    """The graph of a GraphDef.

    Raises ModelFileError when two nodes have the same name, or constants do not fit their shape.
    """
    try:
        return _from_message(message, where)
    except (UnicodeDecodeError, TypeError, AttributeError) as error:  # Texts that are not UTF-8 come as bytes.
        raise ModelFileError("the graph is damaged", where=where, got=str(error)[:200]) from error


def _from_message(message: Any, where: str) -> Graph:
    functions = {}
    for item in message.library.function:
        function = _function(item, where)
        functions[function.name] = function
    nodes: dict[str, Node] = {}
    for item in message.node:
        if item.name in nodes:
            raise ModelFileError("two nodes have the same name", where=where, got=repr(item.name))
        nodes[item.name] = _node(item, where, {})
    return Graph(nodes, functions, {}, where, message.versions.producer)


def from_json(topology: Mapping[str, Any], where: str, values: Mapping[str, Array] | None = None) -> Graph:
    """The graph of a GraphDef in protobuf's JSON, as TFJS's `modelTopology` is; `values` are the constants' weights.

    Raises ModelFileError when it is none.
    """
    try:
        message = json_format.ParseDict(topology, schema().new("GraphDef"), ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError, AttributeError, TypeError, ValueError) as error:
        raise ModelFileError("the JSON holds no TensorFlow graph", where=where, got=str(error)[:200]) from error
    return from_message(message, where).with_values(values or {})


def _node(item: Any, where: str, arguments: Mapping[str, str], operators: Mapping[str, str] | None = None) -> Node:
    """A node; in a function `operators` tells which operator each of its nodes has."""
    inputs, controls = [], []
    for text in item.input:
        if text.startswith("^"):
            controls.append(text[1:])
        elif operators is None:
            inputs.append(Endpoint.of(text))
        else:
            inputs.append(_inner(text, arguments, operators, where))
    attributes = {key: _attribute(value, f"{where}: {item.name}") for key, value in item.attr.items()}
    return Node(item.name, item.op, tuple(inputs), tuple(controls), attributes)


def _function(item: Any, where: str) -> Function:
    name = item.signature.name
    where = f"{where}: {name}"
    arguments = tuple(argument.name for argument in item.signature.input_arg)
    operators = {node.name: node.op for node in item.node_def}
    if len(operators) != len(item.node_def) or set(arguments) & set(operators):
        raise ModelFileError("two nodes of a function have the same name", where=where)
    nodes = {argument: Node(argument, "_Arg") for argument in arguments}
    known = dict.fromkeys(arguments, "")
    for node in item.node_def:
        nodes[node.name] = _node(node, where, known, operators)
    results = []
    for output in item.signature.output_arg:
        if output.name not in item.ret:
            raise ModelFileError("a function lacks one of its results", where=where, got=output.name)
        results.append(_inner(item.ret[output.name], known, operators, where))
    return Function(name, arguments, tuple(results), nodes)


def _inner(text: str, arguments: Mapping[str, str], operators: Mapping[str, str], where: str) -> Endpoint:
    """An endpoint in a function: "argument", "node:output:index"."""
    if text in arguments:
        return Endpoint(text)
    name, *rest = text.split(":")
    if name in arguments:
        return Endpoint(name)
    if name not in operators or len(rest) > 2 or not all(part.isdecimal() for part in rest[1:]):
        raise ModelFileError("a function refers to what it has not", where=where, got=text[:100])
    if not rest:
        return Endpoint(name)
    index = int(rest[1]) if len(rest) == 2 else 0
    names = OUTPUTS.get(operators[name], ())
    return Endpoint(name, index + (names.index(rest[0]) if rest[0] in names else 0))


def _attribute(value: Any, where: str) -> Any:
    kind = which(value, "s", "i", "f", "b", "type", "shape", "tensor", "list", "func", "placeholder")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind != "list":
        return _plain(kind, content, where)
    for name in ("s", "i", "f", "b", "type", "shape", "tensor", "func"):
        items = getattr(content, name)
        if len(items):
            return [_plain(name, item, where) for item in items]
    return []


def _plain(kind: str, content: Any, where: str) -> Any:
    if kind == "type":
        return data_type(content)
    if kind == "shape":
        return dims(content)
    if kind == "tensor":
        try:
            return array_of(content, where)
        except ModelFileError as error:
            return error
    if kind == "func":
        return Named(content.name)
    if kind == "placeholder":
        raise ConversionError("the graph is a template with open attributes", where=where, got=content)
    return content
