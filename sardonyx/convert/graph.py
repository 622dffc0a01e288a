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
        array = np.ascontiguousarray(array)
        value = ir.Value(type=ir.TensorType(ir.DataType.from_numpy(array.dtype)), shape=ir.Shape(array.shape))
        self._register(value, name)
        value.const_value = ir.tensor(array, name=value.name)
        self._initializers[value.name or ""] = value
        return value

    def node(self, op_type: str, inputs: Sequence[ir.Value | None], *, name: str, **attributes: Any) -> ir.Value:
        """Append a node of `ai.onnx` with one output and return that."""
        node = ir.node(op_type, inputs, attributes)
        value = self._register(node.outputs[0], name)
        node.name = value.name
        self._nodes.append(node)
        return value

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
        graph = ir.Graph(
            self._inputs,
            results,
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": opset},
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
    return stored.dtype == array.dtype and stored.shape == array.shape and stored.tobytes() == array.tobytes()
