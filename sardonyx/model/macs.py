"""Multiply-accumulate operations of a node, from the shapes of its inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx_ir as ir

Dims = tuple[int, ...]


class UnknownShapeError(Exception):
    """A shape that the count needs is not known."""


class Shapes:
    """The shapes of one node's inputs and outputs; asking for an unknown one is UnknownShapeError."""

    def __init__(self, node: ir.Node, known: Callable[[ir.Value], Dims | None]) -> None:
        self.node = node
        self._known = known

    def input(self, index: int, rank: int = 0) -> Dims:
        """Dimensions of an input that must be there, of at least `rank`."""
        return self._of(self.node.inputs, index, rank)

    def output(self) -> Dims:
        """Dimensions of the first output."""
        return self._of(self.node.outputs, 0, 0)

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def _of(self, values: Sequence[ir.Value | None], index: int, rank: int) -> Dims:
        value = values[index] if index < len(values) else None
        dims = self._known(value) if value is not None else None
        if dims is None or len(dims) < rank:
            raise UnknownShapeError
        return dims


def _convolution(weight: int) -> Callable[[Shapes], int]:
    # weights [M, C/group, k...]: every output element is a sum over C/group * k
    return lambda shapes: math.prod(shapes.output()) * math.prod(shapes.input(weight, 3)[1:])


def _transposed_convolution(shapes: Shapes) -> int:
    # weights [C, M/group, k...]: every input element goes into M/group * k outputs
    return math.prod(shapes.input(0)) * math.prod(shapes.input(1, 3)[1:])


def _matmul(shapes: Shapes) -> int:
    return math.prod(shapes.output()) * shapes.input(0, 1)[-1]


def _gemm(shapes: Shapes) -> int:
    transposed = shapes.node.attributes.get_int("transA", 0)
    return math.prod(shapes.output()) * shapes.input(0, 2)[0 if transposed else 1]


def _recurrent(shapes: Shapes) -> int:
    # X [steps, batch, I] (or batch first), W [directions, gates * H, I], R [directions, gates * H, H]
    steps, batch = shapes.input(0, 3)[:2]
    return steps * batch * (math.prod(shapes.input(1)) + math.prod(shapes.input(2)))


def _attention(shapes: Shapes) -> int:
    # [batch, length, heads * size] or [batch, heads, length, size]; past keys come before the new ones
    keys = shapes.input(1, 3)[-2] + (shapes.input(4, 3)[-2] if shapes.has(4) else 0)
    return keys * (math.prod(shapes.input(0)) + math.prod(shapes.output()))


_RULES: dict[str, Callable[[Shapes], int]] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "DeformConv": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Gemm": _gemm,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "Attention": _attention,
}


def is_counted(node: ir.Node) -> bool:
    """Whether the node is of a kind whose multiply-accumulates are counted."""
    return node.domain == "" and node.op_type in _RULES


def count(node: ir.Node, known: Callable[[ir.Value], Dims | None]) -> int | None:
    """Multiply-accumulates of a counted node; `known` gives a value's shape; None when one is missing."""
    try:
        return _RULES[node.op_type](Shapes(node, known))
    except UnknownShapeError:
        return None
