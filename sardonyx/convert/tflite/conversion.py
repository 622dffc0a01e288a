"""A TFLite model as ONNX: its graph walked once, operator by operator, each written by its row of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Options
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.tflite.emit import FIRST, TYPES, Op, Scope, UnsupportedError, Value, copied, quantization_of
from sardonyx.convert.tflite.file import Model, Operator, Signature, Subgraph, Tensor
from sardonyx.convert.tflite.table import OPERATORS
from sardonyx.errors import ConversionError, InvalidModelError
from sardonyx.model.shapes import infer_shapes

MAX_DEPTH = 16
"""Graphs within graphs."""
MAX_OPERATORS = 100_000
"""Operators that are written; graphs called again and again could multiply them without end."""
MISFITS = (ValueError, IndexError, TypeError, KeyError, OverflowError, ZeroDivisionError, AssertionError)
"""What an emitter raises on operands that the operator cannot have."""


@dataclass
class Interface:
    """Which tensors of which subgraph are inputs and outputs, and what they are called."""

    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass
class Result:
    """The ONNX model, and what its values are called in the file."""

    model: ir.Model
    interface: Interface
    layers: dict[str, str]
    notes: list[str]
    hybrid: bool


def interface(model: Model, options: Options, where: str) -> Interface:
    """Inputs and outputs as the options ask: a signature's, or tensors by name; else the first graph's own."""
    if options.signature is not None:
        found = {signature.key: signature for signature in model.signatures}
        if options.signature not in found:
            raise ConversionError(
                f"the file has no signature {options.signature!r}", where=where, expected=f"one of {sorted(found)}"
            )
        chosen: Signature = found[options.signature]
        result = Interface(chosen.subgraph, dict(chosen.inputs), dict(chosen.outputs))
    else:
        graph = model.subgraphs[0]
        names = unique_names(graph)
        result = Interface(0, {names[i]: i for i in graph.inputs}, {names[i]: i for i in graph.outputs})
    known = {name: i for i, name in enumerate(unique_names(model.subgraphs[result.subgraph]))}
    for side, wished in (("inputs", options.inputs), ("outputs", options.outputs)):
        if missing := [name for name in wished if name not in known and name not in getattr(result, side)]:
            raise ConversionError(f"the file has no tensors {missing}", where=where, fix="see `sardonyx inspect`")
        if wished:
            own = getattr(result, side)
            setattr(result, side, {name: own.get(name, known.get(name)) for name in wished})
    return result


def unique_names(graph: Subgraph) -> list[str]:
    """A name for each tensor: its own, numbered where others have it too."""
    taken: set[str] = set()
    names = []
    for index, tensor in enumerate(graph.tensors):
        name = tensor.name or f"tensor_{index}"
        name = f"{name}_{index}" if name in taken else name
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


@dataclass
class Conversion:
    """The state of one conversion."""

    model: Model
    options: Options
    where: str
    problems: dict[str, list[str]] = field(default_factory=dict)
    count: int = 0
    depth: int = 0

    def run(self) -> Result:
        """The ONNX model. Raises ConversionError with all that cannot be converted."""
        sides = interface(self.model, self.options, self.where)
        source = self.model.subgraphs[sides.subgraph]
        graph = GraphBuilder(source.name or "main")
        self.scope = Scope(graph, self.call, self.options.dequantize)
        values: dict[int, Value] = {}
        for name, index in sides.inputs.items():
            values[index] = self._input(graph, name, source.tensors[index])
        names = unique_names(source)
        self._emit(source, values, graph, names, list(sides.outputs.values()))
        if self.problems:
            raise self._error()
        outputs = self._outputs(graph, sides, values)
        if self.problems:
            raise self._error()
        return self._finished(graph, sides, source, values, names, outputs)

    def _outputs(self, graph: GraphBuilder, sides: Interface, values: dict[int, Value]) -> list[tuple[str, ir.Value]]:
        outputs = []
        for name, index in sides.outputs.items():
            if index not in values or values[index].kind not in TYPES:
                self._refuse(f"the output {name!r}", "nothing computes it")
                continue
            nothing = Operator("output", (), (), None)
            outputs.append((name, Op(self.scope, graph, nothing, [], [], [name]).plain(values[index])))
        return outputs

    def _finished(
        self, graph: GraphBuilder, sides: Interface, source: Subgraph, values: dict[int, Value], names: Sequence[str],
        outputs: Sequence[tuple[str, ir.Value]],
    ) -> Result:  # fmt: skip
        model = graph.model(outputs)
        for value, (_, index) in zip(model.graph.outputs, sides.outputs.items(), strict=True):
            value.type = ir.TensorType(TYPES[values[index].kind])
        try:
            infer_shapes(model)
        except InvalidModelError as error:
            raise ConversionError(f"the file's operands do not fit its operators: {error}", where=self.where) from error
        layers: dict[str, str] = {}
        for index in (index for operator in source.operators for index in operator.outputs):
            found = values.get(index)
            if found is None or found.made is None:
                continue
            self._check(names[index], found.plain, found, None)
            self._check(names[index], found.first, found, FIRST)
            layers.setdefault(found.made.name or "", names[index])
        if self.problems:
            raise self._error()
        self._declare(model, sides, values)
        return Result(model, sides, layers, sorted(self.scope.notes), self.scope.hybrid)

    def _check(self, name: str, stored: ir.Value | None, value: Value, order: tuple[int, ...] | None) -> None:
        """A shape that follows from the operators must be the one that the file declares."""
        if stored is None or stored.shape is None or value.dims is None:
            return
        dims = value.dims
        if order is not None and len(dims) == len(order):
            dims = tuple(dims[axis] for axis in order)
        found = stored.shape.dims
        agree = len(found) == len(dims) and all(
            not isinstance(a, int) or b is None or a == b for a, b in zip(found, dims, strict=True)
        )
        if not agree:
            self._refuse(f"the tensor {name!r}", f"it is declared as {list(dims)} but comes out as {list(found)}")

    def _declare(self, model: ir.Model, sides: Interface, values: dict[int, Value]) -> None:
        """Give outputs the dims that the file knows where they do not follow from the inputs'."""
        for value, index in zip(model.graph.outputs, sides.outputs.values(), strict=True):
            dims = values[index].dims
            if dims is None:
                continue
            found: Sequence[Any] = value.shape.dims if value.shape is not None else [None] * len(dims)
            merged = [b if b is not None and not isinstance(a, int) else a for a, b in zip(found, dims, strict=True)]
            value.shape = ir.Shape(merged)

    # Problems

    def _refuse(self, what: str, why: object) -> None:
        places = self.problems.setdefault(str(why), [])
        if what not in places:
            places.append(what)

    def _error(self) -> ConversionError:
        reasons = []
        for why, places in self.problems.items():
            more = f" and {len(places) - 3} more" if len(places) > 3 else ""
            reasons.append(f"{', '.join(places[:3])}{more}: {why}")
        return ConversionError(
            f"the model cannot be converted: {'; '.join(reasons)}",
            where=self.where,
            fix="export it with other operators, or from its source (Keras, TensorFlow) instead",
        )

    # Graphs

    def _input(self, graph: GraphBuilder, name: str, tensor: Tensor) -> Value:
        if tensor.kind not in TYPES or tensor.dims is None:
            self._refuse(
                f"the input {name!r}", f"inputs of type {tensor.kind} and dims {tensor.dims} are not supported"
            )
            return Value(name, tensor.kind, tensor.dims)
        wished = self.options.shapes.get(name, (None,) * len(tensor.dims))
        if len(wished) != len(tensor.dims):
            raise ConversionError(f"the input {name!r} has {len(tensor.dims)} dims", where=self.where, got=str(wished))
        dims: list[int | str | None] = []
        for axis, (size, wish) in enumerate(zip(tensor.dims, wished, strict=True)):
            if size is not None and wish not in (None, size):
                raise ConversionError(
                    f"the file fixes dim {axis} of the input {name!r}", where=self.where, expected=str(size),
                    got=str(wish), fix="export the model with that dim open",
                )  # fmt: skip
            symbol = self.options.batch if axis == 0 else f"{name}_dim_{axis}"
            dims.append(size if size is not None else wish if wish is not None else symbol)
        q = None if self.options.dequantize else quantization_of(tensor)
        kind = "FLOAT32" if self.options.dequantize and quantization_of(tensor) is not None else tensor.kind
        value = Value(name, kind, tuple(dim if isinstance(dim, int) else None for dim in dims), q)
        value.plain = graph.input(name, TYPES[kind], dims)
        return value

    def call(self, index: int, inputs: Sequence[Value], graph: GraphBuilder, prefix: str) -> list[Value]:
        """The outputs of a subgraph for these inputs, written into `graph`, which may be a body."""
        if not 0 <= index < len(self.model.subgraphs):
            raise UnsupportedError(f"there is no graph {index}")
        source = self.model.subgraphs[index]
        if len(inputs) != len(source.inputs):
            raise UnsupportedError(f"the graph {source.name!r} gets {len(inputs)} inputs, not {len(source.inputs)}")
        if self.depth >= MAX_DEPTH:
            raise UnsupportedError(f"graphs call one another more than {MAX_DEPTH} deep")
        # Copies: transposes made inside a body are not there outside.
        values = {at: copied(value) for at, value in zip(source.inputs, inputs, strict=True)}
        self.depth += 1
        try:
            names = [f"{prefix}/{name}" for name in unique_names(source)]
            self._emit(source, values, graph, names, source.outputs)
        finally:
            self.depth -= 1
        if any(at not in values for at in source.outputs):
            raise UnsupportedError(f"the graph {source.name!r} cannot be converted")
        return [values[at] for at in source.outputs]

    def _emit(
        self,
        source: Subgraph,
        values: dict[int, Value],
        graph: GraphBuilder,
        names: Sequence[str],
        wanted: Sequence[int],
    ) -> None:
        needed = _needed(source, values, wanted)
        for index, operator in enumerate(source.operators):
            if index in needed:
                self.count += 1
                if self.count > MAX_OPERATORS:
                    raise ConversionError(f"the model has more than {MAX_OPERATORS:,} operators", where=self.where)
                self._apply(source, operator, values, graph, names)
        for at in wanted:
            if at not in values:
                self._constant(source.tensors[at], at, names, values)

    def _apply(
        self, source: Subgraph, operator: Operator, values: dict[int, Value], graph: GraphBuilder, names: Sequence[str]
    ) -> None:
        result = repr(names[operator.outputs[0]]) if operator.outputs else "its effect"
        rule = OPERATORS.get(operator.name)
        if rule is None:
            self._refuse(result, f"{operator.name} is not supported")
            return
        what = f"{operator.name} {result}"
        for at in operator.inputs:
            if at >= 0 and at not in values:
                self._constant(source.tensors[at], at, names, values)
        if any(at >= 0 and at not in values for at in operator.inputs):
            if not self.problems:
                self._refuse(what, "nothing computes one of its inputs")
            return
        inputs = [values.get(at) for at in operator.inputs]
        outputs = [source.tensors[at] for at in operator.outputs]
        op = Op(self.scope, graph, operator, inputs, outputs, [names[at] for at in operator.outputs])
        try:
            if operator.options is not None and operator.options.unknown():
                raise UnsupportedError("it has options that are not known")
            rule(op)
        except UnsupportedError as error:
            self._refuse(what, error)
        except MISFITS as error:
            self._refuse(what, f"its operands do not fit it ({type(error).__name__}: {str(error)[:120]})")
        else:
            values.update(zip(operator.outputs, op.results, strict=False))

    def _constant(self, tensor: Tensor, at: int, names: Sequence[str], values: dict[int, Value]) -> None:
        """A constant, or a variable, which starts every run as zero."""
        data = tensor.data
        if data is None and tensor.variable and tensor.dims is not None and None not in tensor.dims:
            if tensor.kind not in TYPES or np.prod([dim or 0 for dim in tensor.dims]) > 1 << 24:
                return
            q = quantization_of(tensor)
            data = np.full([dim or 0 for dim in tensor.dims], q.zero_point[0] if q else 0, TYPES[tensor.kind].numpy())
            self.scope.notes.add("variables of the source start at zero in every run")
        if data is not None:
            values[at] = Value(names[at], tensor.kind, data.shape, quantization_of(tensor), data)


def _needed(source: Subgraph, given: Mapping[int, Value], wanted: Sequence[int]) -> set[int]:
    """The operators that the wanted tensors depend on, and those that are there for what they do."""
    tensors, needed = set(wanted), set()
    for index in range(len(source.operators) - 1, -1, -1):
        operator = source.operators[index]
        if not operator.outputs or any(at in tensors and at not in given for at in operator.outputs):
            needed.add(index)
            tensors.update(operator.inputs)
    return needed
