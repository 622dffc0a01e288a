"""A TFLite graph in float64, by NumPy and the schema's semantics alone: what a conversion is compared with.

Nothing here is shared with the emission. Quantised tensors are rounded as TFLite rounds, halves away from zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sardonyx.convert.base import Values
from sardonyx.convert.tflite.evaluate_custom import CUSTOM
from sardonyx.convert.tflite.evaluate_operators import EVALUATORS, Call
from sardonyx.convert.tflite.file import Model, Operator, Subgraph, Tensor

Array = np.ndarray[Any, Any]

MAX_TURNS = 100_000
"""Turns of a loop."""

_INTEGERS = {
    "INT32": np.int32, "INT64": np.int64, "INT16": np.int16, "INT8": np.int8, "UINT8": np.uint8, "UINT16": np.uint16,
    "UINT32": np.uint32, "UINT64": np.uint64, "BOOL": np.bool_, "INT4": np.int8, "UINT4": np.uint8, "INT2": np.int8,
}  # fmt: skip
_KNOWN = {**EVALUATORS, **CUSTOM}
_CONTROL = ("IF", "WHILE", "CALL_ONCE", "VAR_HANDLE", "ASSIGN_VARIABLE", "READ_VARIABLE")
_ROUNDED = ("INT8", "UINT8", "INT16", "INT4", "UINT4", "INT2")


def known() -> list[str]:
    """The operators that can be evaluated."""
    return sorted((*_KNOWN, *_CONTROL))


class Missing(Exception):  # noqa: N818 - tells what is missing rather than of an error
    """An operator that cannot be evaluated here."""


@dataclass(frozen=True)
class Evaluation:
    """An oracle. `sides` tells the subgraph and its inputs and outputs by name and tensor."""

    model: Model
    sides: Any
    dequantize: bool = False
    name: str = "float64 evaluation of the source graph"

    def run(self, inputs: Values) -> Values:
        """Outputs by name and tensors by theirs. Raises Missing where an operator is not known here."""
        run = _Run(self.model, self.dequantize)
        graph = self.model.subgraphs[self.sides.subgraph]
        given = {at: inputs[name] for name, at in self.sides.inputs.items()}
        with np.errstate(all="ignore"):
            values = run.graph(graph, given, list(self.sides.outputs.values()))
        named = {
            tensor.name: values[at] for at, tensor in enumerate(graph.tensors) if at in values and tensor.data is None
        }
        return {**named, **{name: values[at] for name, at in self.sides.outputs.items()}}


@dataclass
class _Run:
    """Values as the file stores them: floats as float64, quantised ones as their integers."""

    model: Model
    dequantize: bool
    variables: dict[str, Array] = field(default_factory=dict)

    def graph(self, graph: Subgraph, given: Mapping[int, Any], wanted: Sequence[int]) -> dict[int, Any]:
        values: dict[int, Any] = {at: self._taken(graph.tensors[at], array) for at, array in given.items()}
        made = {at for operator in graph.operators for at in operator.outputs}
        for at, tensor in enumerate(graph.tensors):
            if at in values:
                continue
            if tensor.data is not None:
                values[at] = tensor.data
            elif tensor.variable and at not in made:
                zero = tensor.quantization.zero_point[0] if tensor.quantization else 0
                values[at] = np.full([dim or 0 for dim in tensor.dims or ()], float(zero))
        needed = _ancestors(graph, set(wanted), set(given))
        for index, operator in enumerate(graph.operators):
            if index in needed:
                self._step(graph, operator, values)
        return values

    def _taken(self, tensor: Tensor, array: Any) -> Any:
        floats = isinstance(array, np.ndarray) and array.dtype.kind == "f"
        return array.astype(np.float64) if floats else array

    def _step(self, graph: Subgraph, operator: Operator, values: dict[int, Any]) -> None:
        control = getattr(self, f"_{operator.name.lower()}") if operator.name in _CONTROL else None
        inputs = [self._real(graph.tensors[at], values[at]) if at >= 0 else None for at in operator.inputs]
        outputs = [graph.tensors[at] for at in operator.outputs]
        if control is not None:
            results = control(operator, [values.get(at) for at in operator.inputs], inputs)
            values.update(zip(operator.outputs, results, strict=False))
            return
        if operator.name not in _KNOWN:
            raise Missing(f"{operator.name} cannot be evaluated")
        found = _KNOWN[operator.name](Call(operator, inputs, outputs))
        results = found if isinstance(found, list) else [found]
        for at, tensor, result in zip(operator.outputs, outputs, results, strict=False):
            values[at] = self._stored(tensor, np.asarray(result))

    def _real(self, tensor: Tensor, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        q = tensor.quantization
        if value.dtype.kind == "f" and (q is None or (tensor.data is None and self.dequantize)):
            return value.astype(np.float64)
        if q is None or tensor.kind not in (*_ROUNDED, "INT32", "INT64") or not any(q.scale):
            return value
        if tensor.kind in ("INT32", "INT64") and tensor.data is None:
            return value
        shape = [-1 if axis == q.axis else 1 for axis in range(value.ndim)] if len(q.scale) > 1 else ()
        scale, zero = (np.asarray(part, np.float64).reshape(shape) for part in (q.scale, q.zero_point))
        return (value.astype(np.float64) - zero) * scale

    def _stored(self, tensor: Tensor, value: Array) -> Array:
        q = tensor.quantization
        if q is not None and tensor.kind in _ROUNDED and any(q.scale):
            if self.dequantize:
                return value.astype(np.float64)
            steps = value.astype(np.float64) / q.scale[0]
            whole = np.sign(steps) * np.floor(np.abs(steps) + 0.5) + q.zero_point[0]
            limits = np.iinfo(_INTEGERS[tensor.kind])
            value = np.clip(whole, limits.min, limits.max)
        return value.astype(_INTEGERS.get(tensor.kind, np.float64))

    # Graphs inside, and variables. Each gets the values as they are stored, and as real numbers.

    def _inner(self, index: int, stored: Sequence[Any]) -> list[Any]:
        graph = self.model.subgraphs[index]
        values = self.graph(graph, dict(zip(graph.inputs, stored, strict=True)), graph.outputs)
        return [values[at] for at in graph.outputs]

    def _if(self, operator: Operator, stored: list[Any], real: list[Any]) -> list[Any]:
        key = "then_subgraph_index" if np.ravel(stored[0])[0] else "else_subgraph_index"
        return self._inner(operator.get(key), stored[1:])

    def _while(self, operator: Operator, stored: list[Any], real: list[Any]) -> list[Any]:
        for _ in range(MAX_TURNS):
            if not np.ravel(self._inner(operator.get("cond_subgraph_index"), stored)[0])[0]:
                return stored
            stored = self._inner(operator.get("body_subgraph_index"), stored)
        raise Missing("a loop does not end")

    def _call_once(self, operator: Operator, stored: list[Any], real: list[Any]) -> list[Any]:
        return self._inner(operator.get("init_subgraph_index"), [])

    def _var_handle(self, operator: Operator, stored: list[Any], real: list[Any]) -> list[Any]:
        return [f"{operator.get('container')}/{operator.get('shared_name')}"]

    def _assign_variable(self, operator: Operator, stored: list[Any], real: list[Any]) -> list[Any]:
        self.variables[stored[0]] = stored[1]
        return []

    def _read_variable(self, operator: Operator, stored: list[Any], real: list[Any]) -> list[Any]:
        return [self.variables[stored[0]]]


def _ancestors(graph: Subgraph, wanted: set[int], given: set[int]) -> set[int]:
    """The operators that the wanted tensors come from; those without results do something else."""
    found = set()
    for index in reversed(range(len(graph.operators))):
        operator = graph.operators[index]
        if not operator.outputs or wanted & set(operator.outputs) - given:
            found.add(index)
            wanted = wanted | set(operator.inputs)
    return found
