"""A TensorFlow graph computed in NumPy, floats in float64: what conversions are compared with without TensorFlow.

It shares nothing with the emitters but the graph that was read. Conditions of TensorFlow 1 run as TensorFlow has them:
what comes from a branch that is not taken is dead, and a Merge gives what is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from sardonyx.convert.base import Values
from sardonyx.convert.tensorflow.evaluate_operators import OPERATORS
from sardonyx.convert.tensorflow.graph import Endpoint, Graph, Named, Node
from sardonyx.errors import ConversionError

Array = np.ndarray[Any, Any]

LOOPS = 100_000
"""Times that a loop may go round."""


class _Dead:
    """What a branch that is not taken gives."""


DEAD = _Dead()


@dataclass(frozen=True)
class _Variable:
    """A resource: the name of the node that makes it."""

    name: str


class Place(Protocol):
    """An input or output of the model: its name there, and where it is in the graph."""

    @property
    def name(self) -> str:
        """In ONNX."""
        ...

    @property
    def at(self) -> Endpoint:
        """In the graph."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """The oracle that needs nothing but NumPy."""

    graph: Graph
    inputs: Sequence[Place]
    outputs: Sequence[Place]
    moved: frozenset[str] = frozenset()
    """Layers whose values are given as [N, C, ...]."""
    name: str = "float64 evaluation of the source graph"

    def run(self, inputs: Values) -> Values:
        """The outputs by name, and values of layers by node. Raises ConversionError for operators it does not have."""
        run = _Run(self.graph)
        given = {port.at: _wide(np.asarray(inputs[port.name])) for port in self.inputs}
        found = run.values(self.graph.nodes, given, [port.at for port in self.outputs])
        results = {port.name: value for port, value in zip(self.outputs, found, strict=True)}
        layers = {name: np.moveaxis(x, -1, 1) if name in self.moved else x for name, x in run.layers.items()}
        return {**layers, **results}


def _wide(value: Any) -> Any:
    """Floats as float64; all else as it is."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fV":
        return np.asarray(value).astype(np.float64)
    return np.asarray(value) if isinstance(value, np.generic) else value


@dataclass
class _Run:
    """One run: all calls of functions in it."""

    graph: Graph
    layers: dict[str, Array] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def values(self, nodes: Mapping[str, Node], given: Mapping[Endpoint, Any], wanted: Sequence[Endpoint]) -> list[Any]:
        """What is at these endpoints."""
        done: dict[Endpoint, Any] = dict(given)
        ran: set[str] = set()
        stack = [at.node for at in reversed(wanted) if at not in done]
        while stack:
            node = nodes[stack[-1]]
            before = [at for at in node.inputs if at not in done]
            before += [Endpoint(name) for name in self._pivots(nodes, node) if Endpoint(name) not in done]
            waiting = [at.node for at in before if at.node not in ran]
            if waiting and node.name not in ran:
                stack.extend(reversed(waiting))
                continue
            stack.pop()
            if node.name in ran:
                continue
            ran.add(node.name)
            for port, value in enumerate(self._node(nodes, node, done)):
                done.setdefault(Endpoint(node.name, port), value)
        return [done[at] for at in wanted]

    @staticmethod
    def _pivots(nodes: Mapping[str, Node], node: Node) -> list[str]:
        """What a constant of a branch waits for."""
        if node.inputs:
            return []
        return [name for name in node.controls if name in nodes and nodes[name].op in ("Identity", "Switch")]

    def _node(self, nodes: Mapping[str, Node], node: Node, done: Mapping[Endpoint, Any]) -> list[Any]:
        inputs = [done.get(at) for at in node.inputs]
        if node.op in ("Merge", "RefMerge"):
            alive = [i for i, value in enumerate(inputs) if value is not DEAD]
            return [inputs[alive[0]], np.int32(alive[0])] if alive else [DEAD, DEAD]
        inputs += [done.get(Endpoint(name)) for name in self._pivots(nodes, node)]
        if any(value is DEAD for value in inputs):
            return [DEAD] * 16
        results = [_wide(value) for value in self._computed(node, inputs[: len(node.inputs)])]
        self._note(node, results)
        return results

    def _note(self, node: Node, results: list[Any]) -> None:
        if node.name in self.seen:
            self.layers.pop(node.name, None)  # Several functions have one of that name.
        elif results and isinstance(results[0], np.ndarray) and results[0].dtype.kind in "fiub":
            self.layers[node.name] = results[0]
        self.seen.add(node.name)

    def _computed(self, node: Node, inputs: list[Any]) -> list[Any]:
        special = getattr(self, f"_op_{node.op.lower()}", None)
        if special is not None:
            found = special(node, inputs)
        elif node.op in OPERATORS:
            found = OPERATORS[node.op](node, *inputs)
        elif node.op in self.graph.functions:
            found = self._call(node.op, inputs)
        else:
            raise ConversionError("the evaluation has no such operator", where=node.name, got=node.op)
        return found if isinstance(found, list) else [found]

    def _call(self, name: str, arguments: Sequence[Any]) -> list[Any]:
        function = self.graph.functions[name]
        given = {Endpoint(argument): value for argument, value in zip(function.arguments, arguments, strict=True)}
        return self.values(function.nodes, given, function.results)

    @staticmethod
    def _named(node: Node, name: str) -> str:
        named = node.attributes[name]
        assert isinstance(named, Named)
        return named.name

    def _stored(self, name: str, node: Node) -> Any:
        return self.graph.values[name] if name in self.graph.values else node.array()

    def _op_const(self, node: Node, inputs: list[Any]) -> Any:
        return self._stored(node.name, node)

    def _op_placeholder(self, node: Node, inputs: list[Any]) -> Any:
        return np.array(False)  # Only switches for training are not given.

    def _op_varhandleop(self, node: Node, inputs: list[Any]) -> Any:
        return _Variable(node.name)

    def _op_variablev2(self, node: Node, inputs: list[Any]) -> Any:
        return self._stored(node.name, node)

    def _op_readvariableop(self, node: Node, inputs: list[Any]) -> Any:
        return self.graph.values[inputs[0].name]

    def _op_resourcegather(self, node: Node, inputs: list[Any]) -> Any:
        return OPERATORS["Gather"](node, self.graph.values[inputs[0].name], inputs[1])

    def _op_switch(self, node: Node, inputs: list[Any]) -> Any:
        value, condition = inputs
        return [DEAD, value] if condition else [value, DEAD]

    def _op_partitionedcall(self, node: Node, inputs: list[Any]) -> Any:
        return self._call(self._named(node, "f"), inputs)

    _op_statefulpartitionedcall = _op_partitionedcall

    def _op_if(self, node: Node, inputs: list[Any]) -> Any:
        branch = "then_branch" if np.asarray(inputs[0]).any() else "else_branch"
        return self._call(self._named(node, branch), inputs[1:])

    _op_statelessif = _op_if

    def _op_case(self, node: Node, inputs: list[Any]) -> Any:
        branches = node.attributes["branches"]
        index = int(inputs[0])
        return self._call(branches[index if 0 <= index < len(branches) else -1].name, inputs[1:])

    _op_statelesscase = _op_case

    def _op_while(self, node: Node, inputs: list[Any]) -> Any:
        state = list(inputs)
        for _ in range(LOOPS):
            if not np.asarray(self._call(self._named(node, "cond"), state)[0]).all():
                return state
            state = self._call(self._named(node, "body"), state)
        raise ConversionError("a loop does not end", where=node.name)

    _op_statelesswhile = _op_while

    # Lists of tensors are Python's.

    def _op_tensorlistreserve(self, node: Node, inputs: list[Any]) -> Any:
        return (None,) * int(inputs[1])

    def _op_emptytensorlist(self, node: Node, inputs: list[Any]) -> Any:
        return ()

    def _op_tensorlistfromtensor(self, node: Node, inputs: list[Any]) -> Any:
        return tuple(inputs[0])

    def _op_tensorlistgetitem(self, node: Node, inputs: list[Any]) -> Any:
        return np.asarray(inputs[0][int(inputs[1])])

    def _op_tensorlistsetitem(self, node: Node, inputs: list[Any]) -> Any:
        items, index = list(inputs[0]), int(inputs[1])
        items[index] = inputs[2]
        return tuple(items)

    def _op_tensorlistpushback(self, node: Node, inputs: list[Any]) -> Any:
        return (*inputs[0], inputs[1])

    def _op_tensorlistlength(self, node: Node, inputs: list[Any]) -> Any:
        return np.int32(len(inputs[0]))

    def _op_tensorliststack(self, node: Node, inputs: list[Any]) -> Any:
        like = next((item for item in inputs[0] if item is not None), None)
        if like is None:
            raise ConversionError("a list of tensors is empty", where=node.name)
        return np.stack([np.zeros_like(like) if item is None else item for item in inputs[0]])
