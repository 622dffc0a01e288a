"""A small builder of ONNX graphs, shared by the importers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx.helper
import onnx_ir as ir

Array = np.ndarray[Any, Any]
Dim = int | str | None


def released_versions() -> tuple[int, int]:
    """IR version and `ai.onnx` opset of the newest ONNX release that the installed onnx package knows."""
    _, ir_version, opset, *_ = onnx.helper.VERSION_TABLE[-1]
    return ir_version, opset


def _newest(domain: str) -> int:
    """The newest version of a domain of operators, of those that the newest ONNX release knows; 1 elsewhere."""
    columns = {"ai.onnx.ml": 3, "ai.onnx.training": 4}
    return int(onnx.helper.VERSION_TABLE[-1][columns[domain]]) if domain in columns else 1


class GraphBuilder:
    """Collects inputs, initializers and nodes; every value and node gets a name of its own.

    A value is named after the node that makes it. Transposes are made once for each value and order, and the
    inverse of one gives the value it was made from, so that layout changes cancel as they are asked for.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inputs: list[ir.Value] = []
        self._nodes: list[ir.Node] = []
        self._initializers: dict[str, ir.Value] = {}
        self._taken: dict[str, ir.Value] = {}
        self._copies: dict[str, int] = {}
        self._orders: dict[tuple[ir.Value, tuple[int, ...]], ir.Value] = {}
        self._domains: set[str] = set()
        self._node_names: set[str] = set()

    @property
    def node_count(self) -> int:
        """The number of nodes so far."""
        return len(self._nodes)

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[Dim]) -> ir.Value:
        """A graph input."""
        value = ir.Value(type=ir.TensorType(dtype), shape=ir.Shape(shape))
        self._inputs.append(self._register(value, name))
        return value

    def initializer(self, name: str, array: Array) -> ir.Value:
        """A constant. The same name with the same elements is the same constant; with others, a new name."""
        known = self._initializers.get(name)
        if known is not None and _equal(known, array):
            return known
        array = np.asarray(array, order="C")
        value = ir.Value(type=ir.TensorType(ir.DataType.from_numpy(array.dtype)), shape=ir.Shape(array.shape))
        self._register(value, name)
        if array.dtype.kind in "OU":
            texts = np.array([str(item).encode() for item in array.ravel()], object).reshape(array.shape)
            value.const_value = ir.StringTensor(texts, name=value.name)
        else:
            value.const_value = ir.tensor(array, name=value.name)
        self._initializers[value.name or ""] = value
        return value

    def node(
        self, op_type: str, inputs: Sequence[ir.Value | None], *, name: str, domain: str = "", **attributes: Any
    ) -> ir.Value:
        """Append a node of `ai.onnx`, or of `domain`, with one output and return that. Attributes that are None are
        left out; an `ir.Graph` (from `body`) is a graph attribute."""
        return self.nodes(op_type, inputs, 1, name=name, domain=domain, **attributes)[0]

    def nodes(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: int | Sequence[str],
        *,
        name: str,
        domain: str = "",
        **attributes: Any,
    ) -> list[ir.Value]:
        """As `node`, with so many outputs or outputs of these names; "" is one that is left out."""
        names = [f"{name}:{i}" if i else name for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
        given = {key: value for key, value in attributes.items() if value is not None}
        node = ir.node(op_type, inputs, given, domain=domain, num_outputs=len(names))
        for value, wish in zip(node.outputs, names, strict=True):
            if wish:
                self._register(value, wish)
            else:
                value.name = ""
        node.name = self._node_name(name)
        self._nodes.append(node)
        self._domains.add(domain)
        return list(node.outputs)

    def body(self, name: str) -> GraphBuilder:
        """A builder for a graph inside a node (the branch of an If, the body of a Loop), which may use this one's
        values. Its names are free in this one too, and stay taken."""
        inner = GraphBuilder(name)
        inner._taken, inner._copies, inner._domains = self._taken, self._copies, self._domains
        inner._node_names = self._node_names
        return inner

    def graph(self, outputs: Sequence[ir.Value]) -> ir.Graph:
        """The finished graph of a `body`, with these outputs. Those that it does not make are copied."""
        made = {value for node in self._nodes for value in node.outputs}
        results: list[ir.Value] = []
        for value in outputs:
            own = value in made and value not in results
            results.append(value if own else self.node("Identity", [value], name=f"{self._name}/{value.name}"))
        initializers = list(self._initializers.values())
        return ir.Graph(self._inputs, results, nodes=self._nodes, initializers=initializers, name=self._name)

    def transpose(self, value: ir.Value, order: Sequence[int], *, name: str) -> ir.Value:
        """`value` with its axes in `order`, by a node only where there is no such value yet."""
        key = (value, tuple(order))
        if key[1] == tuple(range(len(order))):
            return value
        if key not in self._orders:
            result = self.node("Transpose", [value], name=name, perm=list(order))
            inverse = sorted(range(len(order)), key=order.__getitem__)
            self._orders[key], self._orders[result, tuple(inverse)] = result, value
        return self._orders[key]

    def model(self, outputs: Sequence[tuple[str, ir.Value]]) -> ir.Model:
        """The finished model with these outputs, by name and value, in this order."""
        results: list[ir.Value] = []
        # What comes in, is constant or is an output already has a name, so is copied to have another.
        named = {*self._inputs, *self._initializers.values()}
        for name, value in outputs:
            result = value
            if value in named:
                result = self.node("Identity", [value], name=name)
                result.type, result.shape = value.type, value.shape
            self._rename(result, name)
            results.append(result)
            named.add(result)
        ir_version, opset = released_versions()
        imports = {domain: opset if not domain else _newest(domain) for domain in sorted({"", *self._domains})}
        graph = ir.Graph(
            self._inputs,
            results,
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports=imports,
            name=self._name,
        )
        return ir.Model(graph, ir_version=ir_version, producer_name="sardonyx", producer_version=version("sardonyx"))

    def _register(self, value: ir.Value, name: str) -> ir.Value:
        value.name = self._free(name)
        self._taken[value.name] = value
        return value

    def _rename(self, value: ir.Value, name: str) -> None:
        """Give `value` this very name; whichever other value had it moves aside."""
        holder = self._taken.get(name)
        if holder is value:
            return
        if holder is not None:
            self._register(holder, f"{name}/inner")
        value.name = name
        self._taken[name] = value

    def _node_name(self, name: str) -> str:
        free, copies = name, 0
        while free in self._node_names:
            copies += 1
            free = f"{name}_{copies}"
        self._node_names.add(free)
        return free

    def _free(self, name: str) -> str:
        free = name
        while free in self._taken:
            self._copies[name] = self._copies.get(name, 0) + 1
            free = f"{name}_{self._copies[name]}"
        return free


def _equal(value: ir.Value, array: Array) -> bool:
    known = value.const_value
    assert known is not None
    stored = known.numpy()
    if array.dtype.kind in "OU":
        return stored.shape == array.shape and [str(item) for item in array.ravel()] == [
            item.decode() if isinstance(item, bytes) else str(item) for item in stored.ravel()
        ]
    return stored.dtype == array.dtype and stored.shape == array.shape and stored.tobytes() == array.tobytes()
