"""Writes nodes into an ONNX graph, each with its constants, its random weights and the shape of what it returns."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnx_ir as ir

OPSET, IR_VERSION = 17, 8
"""Recent, and read by every runtime in use."""

Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
Weight: TypeAlias = tuple[tuple[int, ...], Draw]
"""The shape of a weight and how to draw it."""


class Weights(Protocol):
    """Where the weights of a network come from."""

    def tensor(self, name: str, shape: tuple[int, ...], draw: Draw, *, transposed: bool) -> ir.TensorProtocol:
        """The float32 weight `name` of this shape, made when first read.

        `draw` is how a random one is drawn; with `transposed`, frameworks store it with its axes the other way.
        """
        ...


@dataclass(frozen=True)
class Seeded:
    """Random weights, each with a stream of random numbers of its own."""

    seed: int

    def tensor(self, name: str, shape: tuple[int, ...], draw: Draw, *, transposed: bool) -> ir.TensorProtocol:
        """As Weights has it."""
        seed = [self.seed, zlib.crc32(name.encode())]

        def make() -> ir.Tensor[Array]:
            return ir.Tensor(np.asarray(draw(np.random.default_rng(seed), shape), np.float32), name=name)

        return ir.LazyTensor(make, ir.DataType.FLOAT, ir.Shape(shape), cache=True, name=name)


class Writer:
    """A graph under construction: `op` appends a node.

    Where shapes are given, activations start with the axis of the batch, which they leave out; `batch` is a number
    or the name of a symbol.
    """

    def __init__(self, inputs: Sequence[ir.Value], weights: Weights, *, batch: int | str = 1) -> None:
        self._inputs, self._weights, self._batch = list(inputs), weights, batch
        self._nodes: list[ir.Node] = []
        self._initializers: list[ir.Value] = []

    def model(self, name: str, outputs: Mapping[str, ir.Value]) -> ir.Model:
        """The finished model; `outputs` get the names they are given under."""
        for new, output in outputs.items():
            output.name = new
        graph = ir.Graph(
            self._inputs,
            list(outputs.values()),
            nodes=self._nodes,
            initializers=self._initializers,
            opset_imports={"": OPSET},
            name=name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="sardonyx")

    def op(
        self, op_type: str, inputs: Sequence[ir.Value | None], shape: Sequence[int] | None,
        attributes: Mapping[str, Any] | None = None, weights: Mapping[str, Weight] | None = None,
        *, dtype: ir.DataType = ir.DataType.FLOAT,
    ) -> ir.Value:  # fmt: skip
        """Output of a node whose weights follow its inputs; `shape` is without the batch, None if it is not known."""
        (output,) = self.ops(op_type, inputs, [shape], attributes, weights, dtypes=[dtype])
        return output

    def ops(
        self, op_type: str, inputs: Sequence[ir.Value | None], shapes: Sequence[Sequence[int] | None],
        attributes: Mapping[str, Any] | None = None, weights: Mapping[str, Weight] | None = None,
        *, dtypes: Sequence[ir.DataType | None] | None = None,
    ) -> Sequence[ir.Value]:  # fmt: skip
        """As `op`, for a node with an output of each of `shapes`; float32 unless `dtypes` says otherwise.

        A None in `dtypes` leaves a type to be inferred.
        """
        name = f"{op_type.lower()}_{len(self._nodes)}"
        parameters = [self.weight(f"{name}.{key}", *weight) for key, weight in (weights or {}).items()]
        node = ir.node(op_type, [*inputs, *parameters], dict(attributes or {}), name=name, num_outputs=len(shapes))
        types = [ir.DataType.FLOAT] * len(shapes) if dtypes is None else dtypes
        for index, (output, shape, dtype) in enumerate(zip(node.outputs, shapes, types, strict=True)):
            output.name = f"{name}_output" + (f"_{index}" if index else "")
            output.type = None if dtype is None else ir.TensorType(dtype)
            output.shape = None if shape is None else ir.Shape([self._batch, *shape])
        self._nodes.append(node)
        return node.outputs

    def constant(self, array: Array | Sequence[int]) -> ir.Value:
        """An initializer that is not random: an array, or integers as int64."""
        name = f"constant_{len(self._initializers)}"
        tensor = ir.Tensor(array if isinstance(array, np.ndarray) else np.array(array, np.int64), name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        self._initializers.append(value)
        return value

    def scalar(self, number: float) -> ir.Value:
        """A float32 initializer of no dimensions."""
        return self.constant(np.array(number, np.float32))

    def weight(self, name: str, shape: tuple[int, ...], draw: Draw, *, transposed: bool = False) -> ir.Value:
        """An initializer out of the network's weights."""
        tensor = self._weights.tensor(name, shape, draw, transposed=transposed)
        value = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape), const_value=tensor)
        self._initializers.append(value)
        return value


def graph_input(name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    """An input of a network; names in its shape are symbols."""
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def dims(x: ir.Value) -> list[int]:
    """The dimensions of an activation without the batch: channels, then depth, height, width; or features."""
    assert x.shape is not None
    return [size for size in x.shape[1:] if isinstance(size, int)]


def normal(shape: tuple[int, ...], gain: float, fan_in: int | None = None) -> Weight:
    """Weights of variance gain / fan-in: how many products are added up, by default all but the first axis."""
    deviation = math.sqrt(gain / (fan_in or math.prod(shape[1:])))

    def draw(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        array = random.standard_normal(shape, np.float32)
        array *= np.float32(deviation)
        return array

    return shape, draw


def around(mean: float, deviation: float) -> Draw:
    """Normally distributed."""
    return lambda random, shape: random.normal(mean, deviation, shape)


def between(low: float, high: float) -> Draw:
    """Uniformly distributed."""
    return lambda random, shape: random.uniform(low, high, shape)
