"""A TensorFlow graph as ONNX: nodes are visited from the outputs back, each once, and its operator's emitter writes it.

Functions are written where they are called, so resources and known shapes go through them as through any node. What
only training needs is never visited. All that cannot be converted is gathered and told in one error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from sardonyx.convert.base import Options
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.tensorflow.emitter import Emitter, Item, Missing, Resource, Tensor, UnsupportedError
from sardonyx.convert.tensorflow.graph import Dims, Endpoint, Graph, Node
from sardonyx.convert.tensorflow.known import known
from sardonyx.convert.tensorflow.switches import Switches
from sardonyx.convert.tensorflow.table import EMITTERS
from sardonyx.convert.tensorflow.tensors import D, numpy_type
from sardonyx.errors import ConversionError, ModelFileError

MAX_NODES = 500_000
"""Nodes visited in one model; functions within functions could multiply them without end."""
MAX_DEPTH = 100
"""Functions within functions."""
MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
LISTED = 40
"""So many reasons are told."""

MERGES = frozenset({"Merge", "RefMerge"})
PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2", "_Arg"})


class UnknownOperatorsError(ConversionError):
    """The graph has operators that have no emitter; another converter may have."""


@dataclass(frozen=True)
class Port:
    """An input or output of the model: its name in ONNX, where it is in the graph, and for inputs type and shape
    where the node there does not tell them."""

    name: str
    at: Endpoint
    kind: ir.DataType | None = None
    shape: Dims = None


@dataclass(frozen=True)
class Written:
    """The ONNX model, TensorFlow's nodes by the names of its values, and what the user should be told.

    `moved` are nodes whose values the model has as [N, C, ...] where TensorFlow has [N, ..., C].
    """

    model: ir.Model
    layers: Mapping[str, str]
    moved: frozenset[str]
    notes: Sequence[str]


@dataclass
class _Scope:
    """A run of a graph or a function: its nodes, and what they gave so far."""

    nodes: Mapping[str, Node]
    values: dict[Endpoint, Item]
    switches: Switches
    outer: bool = False
    failed: set[str] = field(default_factory=set)
    ran: set[str] = field(default_factory=set)


def convert_graph(
    graph: Graph, inputs: Sequence[Port], outputs: Sequence[Port], options: Options, *, name: str = "graph"
) -> Written:
    """`graph` from `inputs` to `outputs` as ONNX.

    Raises ConversionError with all reasons when it cannot be converted, ModelFileError when it is damaged.
    """
    return _Conversion(graph, options, name).run(inputs, outputs)


class _Conversion:
    def __init__(self, graph: Graph, options: Options, name: str) -> None:
        self._graph = graph
        self._options = options
        self._builder = GraphBuilder(name)
        self._missing: dict[str, list[str]] = {}
        self._problems: dict[str, None] = {}
        self._layers: dict[str, str] = {}
        self._moved: set[str] = set()
        self._visited = 0
        self._depth = 0

    def run(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> Written:
        e = Emitter(self._builder, self._call)
        e.values, e.functions = self._graph.values, self._graph.functions
        scope = _Scope(self._graph.nodes, {}, Switches(self._graph.nodes), outer=True)
        for port in inputs:
            x = self._input(port)
            scope.values[port.at] = x
            for axis, dim in enumerate(x.shape or ()):
                if isinstance(dim, str) and x.value is not None:
                    e.symbols.setdefault(dim, (x.value, axis))
        found = self._endpoints(e, scope, [port.at for port in outputs])
        results = []
        for port, item in zip(outputs, found, strict=True):
            if isinstance(item, Tensor):
                e.name = port.at.node
                results.append((port.name, e.plain(item)))
            elif not isinstance(item, Missing):
                self._problems[f"the output {port.name} is a resource, no tensor"] = None
        self._refuse()
        model = self._builder.model(results)
        RemoveUnusedNodesPass()(model)
        for output in model.graph.outputs:
            if output.type is None:
                raise ConversionError("the type of an output is not known", where=output.name)
        kept = {value.name for node in model.graph for value in node.outputs}
        layers = {value: layer for value, layer in self._layers.items() if value in kept}
        return Written(model, layers, frozenset(self._moved), e.notes)

    def _refuse(self) -> None:
        reasons = [f"no emitter for the operator {op} ({_some(names)})" for op, names in self._missing.items()]
        reasons += list(self._problems)
        if reasons:
            rest = [f"and {len(reasons) - LISTED} more"] if len(reasons) > LISTED else []
            kind = UnknownOperatorsError if self._missing else ConversionError
            raise kind(
                f"the graph cannot be converted: {'; '.join(reasons[:LISTED] + rest)}",
                where=self._graph.where,
                fix="cut the graph with inputs and outputs, or install tensorflow and tf2onnx to try theirs",
            )

    def _input(self, port: Port) -> Tensor:
        node = self._graph.nodes.get(port.at.node)
        if node is None:
            raise ConversionError("the graph has no such node for an input", where=str(port.at))
        kind = port.kind or node.kind("dtype")
        if kind == D.UNDEFINED:
            kind = node.kind("T")
        shape: Any = port.shape if port.shape is not None else node.shape()
        wish = self._options.shapes.get(port.name)
        if wish is not None and shape is not None and len(wish) != len(shape):
            raise ConversionError(
                "a shape was given that does not fit an input", where=port.name, expected=str(shape), got=str(wish)
            )
        if wish is not None:
            shape = [given if given is not None else old for given, old in zip(wish, shape or wish, strict=True)]
        if kind == D.UNDEFINED:
            self._problems[f"the type of the input {port.name} is not known"] = None
        if shape is None:
            # Without a rank nothing can be said of what follows.
            self._problems[f"the shape of the input {port.name} is not known; give it one (--shape)"] = None
            shape = ()
        dims = [
            dim if dim is not None else self._options.batch if i == 0 else f"{port.name}_dim_{i}"
            for i, dim in enumerate(shape)
        ]
        value = self._builder.input(port.name, kind if kind != D.UNDEFINED else D.FLOAT, dims)
        return Tensor(value, name=port.name)

    def _call(self, e: Emitter, name: str, arguments: Sequence[Item]) -> list[Item]:
        function = self._graph.functions.get(name)
        if function is None:
            raise UnsupportedError(f"it calls the function {name}, which the graph does not have")
        if len(arguments) != len(function.arguments):
            raise UnsupportedError(
                f"it gives {len(arguments)} arguments to {name}, which takes {len(function.arguments)}"
            )
        if self._depth >= MAX_DEPTH:
            raise ModelFileError("functions are nested too deep", where=name, expected=f"at most {MAX_DEPTH} levels")
        values = {Endpoint(argument): item for argument, item in zip(function.arguments, arguments, strict=True)}
        scope = _Scope(function.nodes, values, Switches(function.nodes))
        before = e.name
        self._depth += 1
        found = self._endpoints(e, scope, function.results)
        self._depth -= 1
        e.name = before
        return found

    def _endpoints(self, e: Emitter, scope: _Scope, wanted: Sequence[Endpoint]) -> list[Item]:
        """What is at these endpoints, visiting all nodes before them, without recursion: graphs are deep."""
        stack, active = list(reversed(wanted)), set()
        while stack:
            at = stack[-1]
            if self._has(scope, at):
                stack.pop()
                continue
            node = scope.nodes.get(at.node)
            if node is None:
                raise ModelFileError("the graph refers to a node it has not", where=self._graph.where, got=str(at))
            if node.name in scope.ran:
                raise ModelFileError(
                    "the graph refers to an output a node has not", where=self._graph.where, got=str(at)
                )
            needs = [need for need in self._needs(scope, node) if not self._has(scope, need)]
            if needs:
                active.add(node.name)
                if any(need.node in active for need in needs):
                    raise ModelFileError("the graph has a circle", where=self._graph.where, got=node.name)
                stack.extend(reversed(needs))
                continue
            active.discard(node.name)
            self._visit(e, scope, node)
        return [self._at(scope, at) for at in wanted]

    @staticmethod
    def _has(scope: _Scope, at: Endpoint) -> bool:
        return at in scope.values or at.node in scope.failed

    @staticmethod
    def _at(scope: _Scope, at: Endpoint) -> Item:
        return scope.values[at] if at in scope.values else Missing()

    def _needs(self, scope: _Scope, node: Node) -> Sequence[Endpoint]:
        """Inputs to visit before a node; of a Merge only what lives, once its condition is known."""
        if node.op not in MERGES:
            return node.inputs
        condition = scope.switches.condition(node)
        if condition is None:
            return node.inputs
        if not self._has(scope, condition.at):
            return [condition.at]
        side = _truth(self._at(scope, condition.at))
        return node.inputs if side is None else [node.inputs[condition.when(side)]]

    def _visit(self, e: Emitter, scope: _Scope, node: Node) -> None:
        self._visited += 1
        if self._visited > MAX_NODES:
            raise ModelFileError("the graph calls too many functions", where=self._graph.where)
        e.name = node.name
        scope.ran.add(node.name)
        try:
            if node.op in MERGES:
                outputs: Any = self._merge(e, scope, node)
            elif node.op in PLACEHOLDERS:
                outputs = self._placeholder(e, node)
            else:
                outputs = self._emit(e, node, [self._at(scope, at) for at in node.inputs])
        except UnsupportedError as reason:
            self._problems[f"{node.op} ({node.name}): {reason}"] = None
            outputs = None
        except MALFORMED as reason:
            # Emitters take it that a node has the inputs and attributes of its operator.
            what = f"{type(reason).__name__} {str(reason)[:100]}"
            self._problems[f"{node.op} ({node.name}): its inputs or attributes are not as they should be ({what})"] = (
                None
            )
            outputs = None
        if outputs is None or isinstance(outputs, Missing):
            scope.failed.add(node.name)
            return
        listed = outputs if isinstance(outputs, list) else [outputs]
        for port, item in enumerate(listed):
            scope.values.setdefault(Endpoint(node.name, port), item)
        self._note_layer(node, listed)

    def _note_layer(self, node: Node, outputs: list[Any]) -> None:
        first = outputs[0] if outputs else None
        if isinstance(first, Tensor) and first.value is not None and first.value.name not in (None, *self._layers):
            self._layers[str(first.value.name)] = node.name
            if first.moved:
                self._moved.add(node.name)

    def _emit(self, e: Emitter, node: Node, inputs: list[Item]) -> Any:
        emit = EMITTERS.get(node.op)
        if emit is None and node.op not in self._graph.functions:
            names = self._missing.setdefault(node.op, [])
            names.append(node.name)
            return None
        if any(isinstance(item, Missing) for item in inputs):
            return None
        if emit is None:
            return e.call(node.op, inputs)
        found = known(node, inputs)
        if found is not None and all(_full(item) for item in found):
            kind = _kind_of(node, inputs)
            try:
                return [
                    Tensor(array=np.array(item.tolist(), numpy_type(kind)), name=node.name)
                    for item in found
                    if item is not None
                ]
            except OverflowError:
                found = None
        outputs = emit(e, node, inputs)
        if found is not None and isinstance(outputs, Tensor | list):
            listed = outputs if isinstance(outputs, list) else [outputs]
            return [
                replace(item, known=part) if part is not None and isinstance(item, Tensor) else item
                for item, part in zip(listed, found, strict=True)
            ]
        return outputs

    def _placeholder(self, e: Emitter, node: Node) -> Item:
        if node.kind("dtype") == D.BOOL and node.shape() in ((), None):
            e.notes.append(f"the placeholder {node.name}, a switch for training, was taken as False")
            return Tensor(array=np.array(False), name=node.name)
        if node.kind("dtype") == D.UNDEFINED:
            return Resource(node.name)
        raise UnsupportedError("the outputs depend on this placeholder, which is not one of the inputs")

    def _merge(self, e: Emitter, scope: _Scope, node: Node) -> Any:
        """The input of the branch that was taken, or a choice where only a run tells: branches have no effects."""
        condition = scope.switches.condition(node)
        if condition is None or len(node.inputs) != 2:
            raise UnsupportedError(
                "it does not join the two branches of one condition (loops of TensorFlow 1 are not read)"
            )
        predicate = self._at(scope, condition.at)
        if not isinstance(predicate, Tensor):
            return None
        side = _truth(predicate)
        if side is not None:
            index = condition.when(side)
            found = self._at(scope, node.inputs[index])
            return (
                None if isinstance(found, Missing) else [found, Tensor(array=np.array(index, np.int32), name=node.name)]
            )
        both = [self._at(scope, node.inputs[condition.when(taken)]) for taken in (True, False)]
        if not all(isinstance(item, Tensor) for item in both):
            return None
        (yes, no), moved = e.joined(*[item for item in both if isinstance(item, Tensor)])
        return [e.tensor(e.node("Where", [e.plain(predicate), yes, no]), moved=moved)]


def _truth(item: Item) -> bool | None:
    return bool(item.array.all()) if isinstance(item, Tensor) and item.array is not None else None


def _full(item: Any) -> bool:
    return item is not None and all(isinstance(element, int) for element in item.ravel())


COMPARISONS = frozenset({"Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual", "All", "Any"})


def _kind_of(node: Node, inputs: Sequence[Any]) -> ir.DataType:
    if node.op in COMPARISONS or node.op.startswith("Logical"):
        return D.BOOL
    if node.op in ("Shape", "ShapeN", "Size"):
        return node.kind("out_type") if "out_type" in node.attributes else D.INT32
    if node.op == "Rank":
        return D.INT32
    if node.op == "Cast":
        return node.kind("DstT")
    place = {"SelectV2": 1, "Fill": 1, "Split": 1, "Concat": 1}.get(node.op, 0)
    kind: ir.DataType = inputs[place].kind
    return kind


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
