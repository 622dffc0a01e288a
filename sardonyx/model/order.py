"""Who waits for whom: dependencies between nodes, and cycles in them."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

import onnx_ir as ir

T = TypeVar("T", bound=Hashable)


def dependencies(graph: ir.Graph) -> dict[ir.Node, set[ir.Node]]:
    """For every node of the graph, those of the same graph whose outputs it uses, in its subgraphs too."""
    found: dict[ir.Node, set[ir.Node]] = {}
    for node in graph:
        users = [node]
        for attribute in node.attributes.values():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.GRAPH:
                users += attribute.as_graph().all_nodes()
            elif attribute.type == ir.AttributeType.GRAPHS:
                users += [user for body in attribute.as_graphs() for user in body.all_nodes()]
        producers = {value.producer() for user in users for value in user.inputs if value is not None}
        found[node] = {producer for producer in producers if producer is not None and producer.graph is graph}
    return found


def find_cycle(needs: Mapping[T, Collection[T]]) -> list[T]:
    """Nodes that need each other in a circle, each the next; empty when there is none."""
    done: set[T] = set()
    for root in needs:
        path: list[T] = []
        on_path: set[T] = set()
        stack = [(root, False)]
        while stack:
            node, left = stack.pop()
            if left:
                path.pop()
                on_path.discard(node)
                done.add(node)
            elif node in on_path:
                return path[path.index(node) :]
            elif node not in done:
                path.append(node)
                on_path.add(node)
                stack.append((node, True))
                stack += [(needed, False) for needed in needs.get(node, ()) if needed not in done]
    return []
