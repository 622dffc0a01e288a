"""Inputs and outputs of a graph that names none: placeholders, and results that nothing reads."""

from __future__ import annotations

from collections.abc import Sequence

from sardonyx.convert.base import Options
from sardonyx.convert.tensorflow.graph import Endpoint, Graph, Node
from sardonyx.convert.tensorflow.table import EMITTERS
from sardonyx.convert.tensorflow.tensors import D
from sardonyx.convert.tensorflow.variables import VARIABLES
from sardonyx.convert.tensorflow.writing import PLACEHOLDERS, Port
from sardonyx.errors import ConversionError

NO_RESULTS = frozenset(
    {"Const", "NoOp", "Assert", "VarIsInitializedOp", "ReadVariableOp", "Shape", "Switch", *VARIABLES}
)
"""Operators whose results, when nothing reads them, are left over and no outputs."""
TRAINING = (
    "Assign", "Save", "Restore", "Apply", "Gradient", "Grad", "Summary", "Iterator", "Queue", "Dataset", "Random",
    "MergeV2Checkpoints", "ShardedFilename", "Scatter", "IsVariableInitialized",
)  # fmt: skip
"""Parts of names of operators that only training or saving has."""


def ports(graph: Graph, options: Options) -> tuple[list[Port], list[Port]]:
    """The inputs and outputs that the user names, else those that the graph shows.

    Raises ConversionError when the graph has no outputs, or lacks what was named.
    """
    outputs = [_named(graph, text) for text in options.outputs] or _outputs(graph)
    if not outputs:
        raise ConversionError("the graph shows no outputs", where=graph.where, fix="name them: outputs")
    inputs = [_named(graph, text) for text in options.inputs]
    return inputs or _inputs(graph, outputs), outputs


def _named(graph: Graph, text: str) -> Port:
    at = Endpoint.of(text)
    if at.node not in graph.nodes:
        close = [name for name in graph.nodes if at.node.lower() in name.lower()][:5]
        raise ConversionError(
            "the graph has no such node",
            where=graph.where,
            got=text,
            fix=f"is it one of {', '.join(close)}?" if close else None,
        )
    return Port(text, at)


def _inputs(graph: Graph, outputs: Sequence[Port]) -> list[Port]:
    """The placeholders before the outputs, in the graph's order; switches of training are none."""
    found = _placeholders(graph, [port.at.node for port in outputs])
    return [Port(node.name, Endpoint(node.name)) for node in found if not is_switch(node)]


def _placeholders(graph: Graph, outputs: Sequence[str]) -> list[Node]:
    """The placeholders before these nodes, in the graph's order."""
    before, stack = set(outputs), list(outputs)
    while stack:
        node = graph.nodes.get(stack.pop())
        for at in node.inputs if node is not None else ():
            if at.node not in before:
                before.add(at.node)
                stack.append(at.node)
    return [node for name, node in graph.nodes.items() if name in before and node.op in PLACEHOLDERS]


def is_switch(node: Node) -> bool:
    """Whether a placeholder is one that tells whether the graph trains: a single bool."""
    return node.kind("dtype") == D.BOOL and node.shape() in ((), None)


def _outputs(graph: Graph) -> list[Port]:
    """Results that nothing reads, of operators that compute; of a graph in training, those without the labels."""
    read = {at.node for node in graph.nodes.values() for at in node.inputs}
    found = [node.name for node in graph.nodes.values() if node.name not in read and _computes(graph, node)]
    if any("Apply" in node.op for node in graph.nodes.values()):
        needs = {name: {node.name for node in _placeholders(graph, [name]) if not is_switch(node)} for name in found}
        # What needs all that there is, labels too, is a loss.
        everything = set().union(*needs.values())
        found = [name for name in found if needs[name] and (len(everything) == 1 or needs[name] < everything)]
    return [Port(name, Endpoint(name)) for name in found]


def _computes(graph: Graph, node: Node) -> bool:
    if node.op in NO_RESULTS or node.op in PLACEHOLDERS or any(part in node.op for part in TRAINING):
        return False
    if node.op == "Identity" and (_copies_variable(graph, node) or node.kind("T") == D.BOOL):
        return False  # Conditions leave copies of bools.
    known = node.op in EMITTERS or node.op in graph.functions
    return known and not node.name.startswith(("gradients/", "save/"))


def _copies_variable(graph: Graph, node: Node) -> bool:
    source = graph.nodes.get(node.inputs[0].node) if node.inputs else None
    return source is not None and (source.op in VARIABLES or source.op in ("Const", "ReadVariableOp"))
