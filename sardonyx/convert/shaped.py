"""Emission for readers of channels-first networks: values with what is known of their shapes, problems gathered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.graph import GraphBuilder
from sardonyx.errors import ConversionError

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]

MAX_ELEMENTS = 2**30
"""Of one value, for a batch of one; more is a damaged file."""


class Unsupported(Exception):  # noqa: N818 - it is a reason, gathered with others
    """Why a layer cannot be converted."""


@dataclass(frozen=True)
class Tensor:
    """A value and its shape; None is a dim that is open until the model runs, such as the batch."""

    value: ir.Value
    shape: Shape
    dtype: ir.DataType = ir.DataType.FLOAT

    @property
    def rank(self) -> int:
        """The number of dims."""
        return len(self.shape)

    def axis(self, axis: int) -> int:
        """The axis counted from the front. Raises Unsupported when there is no such axis."""
        if not -self.rank <= axis < self.rank:
            raise Unsupported(f"the axis {axis} is out of range for an input of shape {text(self.shape)}")
        return axis % self.rank

    def known(self, *axes: int) -> list[int]:
        """The sizes of these axes. Raises Unsupported where one is open, or there is no such axis."""
        sizes = [self.shape[self.axis(axis)] for axis in axes]
        result = [size for size in sizes if size is not None]
        if len(result) != len(sizes):
            raise Unsupported(f"it needs sizes that are open in its input of shape {text(self.shape)}")
        return result


@dataclass
class Emitter:
    """Emits one layer. Its last node has the layer's name, helpers `layer/what`."""

    graph: GraphBuilder
    name: str

    def node(self, op_type: str, inputs: Sequence[ir.Value | None], tag: str = "", **attributes: Any) -> ir.Value:
        """Append a node with one output."""
        return self.graph.node(op_type, inputs, name=self.tagged(tag), **attributes)

    def nodes(
        self, op_type: str, inputs: Sequence[ir.Value | None], count: int, tag: str = "", **attributes: Any
    ) -> list[ir.Value]:
        """Append a node with `count` outputs."""
        return self.graph.nodes(op_type, inputs, count, name=self.tagged(tag), **attributes)

    def constant(self, tag: str, array: Any, dtype: Any = np.float32) -> ir.Value:
        """A constant `layer/tag`."""
        return self.graph.initializer(self.tagged(tag), np.asarray(array, dtype))

    def tensor(self, value: ir.Value, shape: Sequence[int | None], dtype: ir.DataType = ir.DataType.FLOAT) -> Tensor:
        """Declare what `value` holds. Raises Unsupported when that has no sensible size."""
        known = [dim for dim in shape if dim is not None]
        if any(dim < 1 for dim in known) or math.prod(known) > MAX_ELEMENTS:
            raise Unsupported(f"its output would have the shape {text(tuple(shape))}")
        return Tensor(value, tuple(shape), dtype)

    def like(self, x: Tensor, value: ir.Value) -> Tensor:
        """Declare that `value` has the shape and type of `x`."""
        return Tensor(value, x.shape, x.dtype)

    def reshape(self, x: Tensor, shape: Sequence[int | None], tag: str = "") -> Tensor:
        """`x` in another shape with as many elements; at most one dim of it, beside a batch that stays, is open."""
        if tuple(shape) == x.shape:
            return x if tag else self.like(x, self.node("Identity", [x.value]))
        dims = [-1 if dim is None else dim for dim in shape]
        if dims.count(-1) > 1 and x.shape[0] is None and dims[0] == -1:
            dims[0] = 0
        if dims.count(-1) > 1:
            raise Unsupported(f"a shape with several open sizes: {text(tuple(shape))}")
        if None not in x.shape and None not in shape and math.prod(x.known(*range(x.rank))) != math.prod(dims):
            raise Unsupported(f"its input of shape {text(x.shape)} cannot be reshaped to {text(tuple(shape))}")
        value = self.node("Reshape", [x.value, self.constant("shape", dims, np.int64)], tag)
        return self.tensor(value, shape, x.dtype)

    def transpose(self, x: Tensor, order: Sequence[int], tag: str = "") -> Tensor:
        """`x` with its axes in that order."""
        if sorted(order) != list(range(x.rank)):
            raise Unsupported(f"the order {list(order)} does not fit an input of shape {text(x.shape)}")
        value = self.node("Transpose", [x.value], tag, perm=list(order))
        return self.tensor(value, [x.shape[axis] for axis in order], x.dtype)

    def slices(
        self, x: Tensor, bounds: Mapping[int, tuple[int, int]], tag: str = "", size: Mapping[int, int] | None = None
    ) -> Tensor:
        """`x` between bounds by axis; of axes that are open, `size` may say how much that is."""
        starts, ends = zip(*bounds.values(), strict=True)
        arrays = [
            self.constant(f"{tag or 'slice'}_{what}", values, np.int64)
            for what, values in (("starts", starts), ("ends", ends), ("axes", tuple(bounds)))
        ]
        shape = list(x.shape)
        for axis, (start, end) in bounds.items():
            shape[axis] = (size or {}).get(axis, end - start)
        return self.tensor(self.node("Slice", [x.value, *arrays], tag), shape, x.dtype)

    def tagged(self, tag: str) -> str:
        """A name for a part of this layer."""
        return f"{self.name}/{tag}" if tag else self.name


@dataclass
class Problems:
    """Why layers cannot be converted: the first reason of each, all told in one error."""

    where: str
    fix: str
    found: dict[str, str] = field(default_factory=dict)

    def add(self, layer: str, reason: object) -> None:
        """Note a reason."""
        self.found.setdefault(layer, str(reason))

    def check(self) -> None:
        """Raises ConversionError when there is any."""
        if not self.found:
            return
        shown = list(self.found.items())
        more = [f"and {len(shown) - 200} more"] * (len(shown) > 200)
        reasons = "; ".join([f"{layer}: {reason}" for layer, reason in shown[:200]] + more)
        count = f"{len(shown)} layers" if len(shown) > 1 else "a layer"
        raise ConversionError(f"{count} cannot be converted: {reasons}", where=self.where, fix=self.fix)


def finish(
    graph: GraphBuilder, outputs: Sequence[tuple[str, Tensor]], *, batch: int | str, batched: bool = True
) -> ir.Model:
    """The model with these outputs, whose first dims are called `batch` where they are open."""
    for _, tensor in outputs:
        dims: list[int | str | None] = list(tensor.shape)
        if dims and dims[0] is None and batched:
            dims[0] = batch
        tensor.value.type = ir.TensorType(tensor.dtype)
        tensor.value.shape = ir.Shape(dims)
    return graph.model([(name, tensor.value) for name, tensor in outputs])


def text(shape: Sequence[int | None]) -> str:
    """A shape for messages: [?, 64, 64, 1]."""
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of an elementwise result, by NumPy's rules. Raises Unsupported when they do not fit."""
    rank = max(len(a), len(b))
    result: list[int | None] = []
    for x, y in zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True):
        if x != y and 1 not in (x, y) and None not in (x, y):
            raise Unsupported(f"inputs of shapes {text(a)} and {text(b)} do not fit")
        result.append(y if x == 1 else x if y == 1 else x if x is not None else y)
    return tuple(result)


def average(
    e: Emitter, value: ir.Value, kernel: list[int], stride: list[int], pad: list[int], after: list[int]
) -> ir.Value:
    """The mean over windows, of which zeros count up to the padding that was asked for, not what lies after it."""
    beyond = [max(0, end - p) for end, p in zip(after, pad, strict=True)]
    if any(beyond) and any(pad):
        # Of the padding after the end so much as windows cover; more could fit another window.
        ends = [min(p, end) for end, p in zip(after, pad, strict=True)]
        value = e.node("Pad", [value, e.constant("pads", [0, 0, *pad, 0, 0, *ends], np.int64)], "padded")
        pad, after = [0] * len(pad), beyond
    counted = int(not any(beyond))
    pads = pad + after
    return e.node("AveragePool", [value], kernel_shape=kernel, strides=stride, pads=pads, count_include_pad=counted)
