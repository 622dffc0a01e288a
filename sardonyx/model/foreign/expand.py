"""Foreign operators replaced by their definitions."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from sardonyx.model.foreign.body import DEFINITIONS, MICROSOFT, OPSET
from sardonyx.model.foreign.writer import Writer, graphs_of
from sardonyx.model.schema import operator

HOSTED = frozenset((MICROSOFT, name) for name in ("Inverse", "NGramRepeatBlock", "Tokenizer"))
"""Foreign operators that no others define: the provider `host` runs them."""

SEARCHES = frozenset((MICROSOFT, name) for name in ("BeamSearch", "GreedySearch"))
"""Loops around a decoder, into whose bodies onnx's inference does not look."""


def is_known(domain: str, name: str) -> bool:
    """Whether the operator is defined here, or run as it is."""
    key = _plain(domain), name
    return key in DEFINITIONS or key in HOSTED or key in SEARCHES


def is_foreign(node: ir.Node, model: ir.Model) -> bool:
    """Whether the node is defined here, and neither by the standard nor by a function of the model."""
    if (_plain(node.domain), node.op_type) not in DEFINITIONS or node.op_identifier() in model.functions:
        return False
    if _plain(node.domain):
        return True
    version = node.version if node.version is not None else model.graph.opset_imports.get("", 1)
    return operator("", node.op_type, version) is None


def foreign_nodes(model: ir.Model) -> list[ir.Node]:
    """Those of the model, in bodies too."""
    return [node for node in model.graph.all_nodes() if is_foreign(node, model)]


def expand(model: ir.Model, keep: Callable[[ir.Node], bool] = lambda node: False) -> ir.Model:
    """Put the definitions of foreign operators in their place, in place; of all but those that `keep` asks for.

    Shapes are inferred. The model's opset rises to that of the definitions.

    Raises:
        UnsupportedOperatorError: a form of an operator that has no definition.
        InvalidModelError: a node of the model cannot be brought to that opset.
    """
    from sardonyx.model.opset import raise_opset
    from sardonyx.model.shapes import infer_shapes

    wanted = {node for node in foreign_nodes(model) if not keep(node)}
    if not wanted and not any((node.domain, node.op_type) in SEARCHES for node in model.graph.all_nodes()):
        return model
    raise_opset(model, OPSET)
    infer_shapes(model)
    _Expansion(model, wanted).graph(model.graph)
    return model


def infer_foreign(model: ir.Model) -> None:
    """Types and shapes of what foreign operators make, by their definitions, and of what comes after; in place."""
    if not foreign_nodes(model):
        return
    from sardonyx.model.shapes import infer_shapes

    twin = expand(model.clone())
    infer_shapes(twin)
    found = {value.name: value for graph in twin.graphs() for node in graph for value in node.outputs}
    for graph in model.graphs():
        for value in (value for node in graph for value in node.outputs):
            other = found.get(value.name)
            if value.name and other is not None:
                value.type = value.type if other.type is None else other.type
                value.shape = value.shape if other.shape is None else other.shape


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


class _Expansion:
    """One walk over a model's graphs, in the order of their nodes, so that all before a node is known."""

    def __init__(self, model: ir.Model, wanted: set[ir.Node]) -> None:
        self._writer, self._wanted = Writer(model), wanted

    def graph(self, graph: ir.Graph) -> None:
        for node in list(graph):
            for body in graphs_of(node):
                self.graph(body)
            if node in self._wanted:
                self._writer.replace(node, DEFINITIONS[_plain(node.domain), node.op_type])
            else:
                self._writer.tell(node)
