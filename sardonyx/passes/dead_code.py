"""Remove nodes and initializers that no output depends on."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.query import used


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    # Backwards, so that one sweep removes whole chains; a subgraph's nodes come before the node that owns it.
    for node in reversed(list(ir.traversal.RecursiveGraphIterator(model.graph))):
        if not any(used(value) for value in node.outputs):
            yield Rewrite(node, "no output is used", remove=[node])
    for graph in model.graphs():
        unused = [v for v in graph.initializers.values() if not used(v) and not v.is_graph_input()]
        if unused:
            yield Rewrite(None, f"{len(unused)} initializers are not used", drop=unused)


DEAD_CODE = Pass(
    name="dead-code",
    gain="Nodes and weights nobody reads cost time and memory.",
    placed="Last: it sweeps up what the passes before it left without a reader.",
    exact=True,
    rewrites=_rewrites,
)
