"""Puts what a definition writes in a node's place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx_ir as ir

from sardonyx.errors import InvalidModelError
from sardonyx.model.foreign.body import Body, Definition
from sardonyx.model.types import read_type

_SMALL = 64
"""Elements up to which a constant may be a shape or axes, which inference must see."""


class Writer:
    """Replaces nodes of a model, whose names it keeps apart; `opsets` are those of the nodes it writes."""

    def __init__(self, model: ir.Model) -> None:
        self.opsets: Mapping[str, int] = model.graph.opset_imports
        self._taken = {value.name or "" for value in _values(model)}
        self._taken.update(node.name or "" for node in model.graph.all_nodes())

    def replace(self, node: ir.Node, definition: Definition) -> list[ir.Node]:
        """The nodes that now stand in the node's place; the last of the same operator, or of all, has its name.

        Raises:
            UnsupportedOperatorError: there is no definition of this form; nothing has been changed.
            InvalidModelError: types or attributes make no sense.
        """
        body, graph = Body(node, self._fresh, self.tell), node.graph
        assert graph is not None
        try:
            made = definition(body)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            what = f"its attributes or constants make no sense: {error}"
            raise InvalidModelError(what, where=f"node {node.name!r} ({node.op_type})") from error
        results = [made] if isinstance(made, ir.Value) else list(made)
        inside = {value for one in body.nodes for value in one.outputs}
        pairs: dict[ir.Value, ir.Value] = {}
        for index, value in enumerate(node.outputs):
            result = results[index] if index < len(results) else None
            if not value.name or (result is None and not value.uses() and not value.is_graph_output()):
                continue
            if result is None:
                body.refuse(f"its result {index} is used")
            if result not in inside or result in pairs.values():
                result = body("Identity", result)
            pairs[value] = result
        for constant in body.constants:
            graph.register_initializer(constant)
        graph.insert_before(node, body.nodes)
        for value, result in pairs.items():
            result.name, result.type = value.name, value.type or result.type
            result.shape = result.shape if value.shape is None else value.shape
            value.replace_all_uses_with(result, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        if body.nodes:
            heir = next((one for one in reversed(body.nodes) if one.op_type == node.op_type), body.nodes[-1])
            heir.name, heir.doc_string = node.name or heir.name, node.doc_string
            heir.metadata_props.update(node.metadata_props)
        return body.nodes

    def _fresh(self, wish: str) -> str:
        name, count = wish, 1
        while name in self._taken:
            name, count = f"{wish}_{count}", count + 1
        self._taken.add(name)
        return name

    def tell(self, node: ir.Node) -> None:
        """Infer what the node makes, from what is known of its inputs."""
        named = [value for value in node.outputs if value.name]
        known = all(value.type is not None and value.shape is not None for value in named)
        if known or any(True for _ in graphs_of(node)):
            return
        types = _inferred(node, self.opsets)
        for value in named:
            if value.name in types:
                kind, shape = read_type(types[value.name])
                value.type, value.shape = value.type or kind, shape if value.shape is None else value.shape


def _inferred(node: ir.Node, opsets: Mapping[str, int]) -> dict[str, Any]:
    """The types of a node's results by its schema's rule; nothing where it cannot tell."""
    import onnx
    from onnx.shape_inference import InferenceError, infer_node_outputs
    from onnx_ir import serde

    version = node.version if node.version is not None else opsets.get(node.domain)
    given = [value for value in node.inputs if value is not None]
    if version is None or any(value.type is None for value in given):
        return {}
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return {}
    types = {value.name: serde.serialize_value(value).type for value in given}
    constants = {
        value.name: serde.serialize_tensor(value.const_value)
        for value in given
        if value.const_value is not None and value.const_value.size <= _SMALL and not value.is_graph_input()
    }
    imports = [onnx.helper.make_opsetid(domain, number) for domain, number in opsets.items()]
    try:
        return dict(infer_node_outputs(schema, serde.serialize_node(node), types, constants, None, imports))
    except (InferenceError, onnx.checker.ValidationError) as error:
        raise InvalidModelError(f"its types do not fit: {error}", where=f"node {node.name!r}") from error
    except (RuntimeError, ValueError, KeyError):
        return {}


def graphs_of(node: ir.Node) -> Iterator[ir.Graph]:
    """The bodies in a node's attributes."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            yield from attribute.as_graphs()


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        yield from (value for node in graph for value in node.outputs)
