"""Which tensor of a checkpoint each variable has: what the graph's own restoring nodes assign to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.tensorflow.bundle import Bundle
from sardonyx.convert.tensorflow.graph import Endpoint, Graph, Named, Node
from sardonyx.errors import ModelFileError

Array = np.ndarray[Any, Any]

VARIABLES = frozenset({"VariableV2", "Variable", "VarHandleOp"})
ASSIGNS = frozenset({"Assign", "AssignVariableOp"})
COPIES = frozenset({"Identity", "Cast", "Reshape"})


@dataclass(frozen=True)
class _Place:
    """A tensor of the checkpoint, and which part of it."""

    key: str
    part: str = ""


class Values(Mapping[str, Array]):
    """The values of a graph's variables by node, read when they are asked for."""

    def __init__(self, graph: Graph, bundle: Bundle | None, restore: str | None) -> None:
        """`restore` is the node that restores all, where the saver names one."""
        self._bundle = bundle
        self._nodes = {node.name: node for node in graph.nodes.values() if node.op in VARIABLES}
        self._places = _places(graph, restore) if bundle is not None else {}
        self._read: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._read:
            node, bundle = self._nodes[name], self._bundle
            place = self._place(node)
            if bundle is None or place is None:
                raise KeyError(name)
            array = bundle.read(place.key, place.part)
            declared = node.shape()
            if declared is not None and (
                len(declared) != array.ndim
                or any(d not in (None, n) for d, n in zip(declared, array.shape, strict=True))
            ):
                raise ModelFileError(
                    "the checkpoint has another shape than the graph", where=f"{bundle.where}: {place.key}",
                    expected=str(declared), got=str(array.shape),
                )  # fmt: skip
            self._read[name] = array
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._nodes and self._place(self._nodes[str(name)]) is not None

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._nodes if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _place(self, node: Node) -> _Place | None:
        if self._bundle is None:
            return None
        found = self._places.get(node.name)
        if found is None:
            # Without a saver in the graph, the tensors have the variables' names.
            named = [name for name in (node.name, node.text("shared_name")) if name in self._bundle]
            found = _Place(named[0]) if named else None
        return found


def _places(graph: Graph, restore: str | None) -> dict[str, _Place]:
    chosen = _before(graph, restore) if restore else None
    found: dict[str, _Place] = {}
    arguments = {name: Endpoint(name) for name in graph.nodes}
    for node in graph.nodes.values():
        if chosen is not None and node.name not in chosen:
            continue
        if node.op in ASSIGNS:
            _assigned(graph.nodes, node, arguments, found)
        elif isinstance(node.attributes.get("f"), Named):
            _in_function(graph, node, found)
    return found


def _in_function(graph: Graph, call: Node, found: dict[str, _Place]) -> None:
    function = graph.functions.get(call.attributes["f"].name)
    if function is None or len(function.arguments) != len(call.inputs):
        return
    if not any(node.op == "RestoreV2" for node in function.nodes.values()):
        return
    arguments = dict(zip(function.arguments, call.inputs, strict=True))
    for node in function.nodes.values():
        if node.op in ASSIGNS:
            _assigned(function.nodes, node, arguments, found)


def _assigned(
    nodes: Mapping[str, Node], node: Node, arguments: Mapping[str, Endpoint], found: dict[str, _Place]
) -> None:
    if len(node.inputs) < 2:
        return
    variable = _source(nodes, node.inputs[0]).node
    source = _source(nodes, node.inputs[1])
    restore = nodes.get(source.node)
    if restore is None or restore.op != "RestoreV2" or len(restore.inputs) != 3 or variable not in arguments:
        return
    names, parts = (nodes.get(_source(nodes, at).node) for at in restore.inputs[1:])
    if names is None or parts is None or names.op != "Const" or parts.op != "Const":
        return
    keys, slices = names.array().ravel(), parts.array().ravel()
    if source.port < min(len(keys), len(slices)) and keys.dtype == slices.dtype == object:
        place = _Place(keys[source.port].decode(errors="replace"), slices[source.port].decode(errors="replace"))
        found.setdefault(arguments[variable].node, place)


def _source(nodes: Mapping[str, Node], at: Endpoint) -> Endpoint:
    """Where a value comes from, through copies."""
    for _ in range(20):
        node = nodes.get(at.node)
        if node is None or node.op not in COPIES or not node.inputs:
            break
        if node.op == "Cast" and node.kind("SrcT") != node.kind("DstT"):
            break
        at = node.inputs[0]
    return at


def _before(graph: Graph, name: str) -> set[str] | None:
    """The nodes that run before one, by inputs and controls; None where there is no such node."""
    start = Endpoint.of(name).node
    if start not in graph.nodes:
        return None
    found, stack = {start}, [start]
    while stack:
        node = graph.nodes[stack.pop()]
        for after in (*node.controls, *(at.node for at in node.inputs)):
            if after in graph.nodes and after not in found:
                found.add(after)
                stack.append(after)
    return found
