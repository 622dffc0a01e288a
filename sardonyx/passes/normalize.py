"""A copy of a model in the form the passes count on."""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.passes.query import subgraphs


def normalized(model: ir.Model) -> ir.Model:
    """A copy, sharing the weights, in which all constants are known as such and all uses of values visible.

    Before IR version 4 each initializer had to be listed as a graph input and, by convention, none was
    overridden (ONNX, IR.md, "Initializers"); they leave the inputs and the copy becomes version 4.

    A subgraph that returns a value of an outer graph by its bare name, which onnx_ir does not link, gets an
    Identity; this one repair is made in `model` too, which otherwise could not be copied.
    """
    _link_outputs(model.graph, {})
    result = model.clone()
    if result.ir_version < 4:
        from onnx_ir.passes.common import RemoveInitializersFromInputsPass  # slow to import

        RemoveInitializersFromInputsPass()(result)
        result.ir_version = 4
    return result


def _link_outputs(graph: ir.Graph, outer: dict[str, ir.Value]) -> None:
    scope: dict[str, ir.Value] | None = None  # made only for the rare graph that has subgraphs
    for node in graph:
        for inner in subgraphs(node):
            if scope is None:
                scope = outer | _values(graph)
            _link_outputs(inner, scope)
    for index, output in enumerate(graph.outputs):
        loose = output.producer() is None and not output.is_graph_input() and not output.is_initializer()
        source = outer.get(output.name or "")
        if loose and source is not None:
            # The captured value keeps its name; the branch's output is positional and may take another.
            identity = ir.node("Identity", [source])
            graph.append(identity)
            value = identity.outputs[0]
            value.name = _unused_name(f"{output.name}_returned", graph, outer)
            value.type = output.type or source.type
            value.shape = source.shape if output.shape is None else output.shape
            graph.outputs[index] = value


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    values = [*graph.inputs, *graph.initializers.values(), *(out for node in graph for out in node.outputs)]
    return {value.name: value for value in values if value.name}


def _unused_name(wish: str, graph: ir.Graph, outer: dict[str, ir.Value]) -> str:
    taken = outer.keys() | _values(graph).keys()
    name, count = wish, 1
    while name in taken:
        name, count = f"{wish}_{count}", count + 1
    return name
