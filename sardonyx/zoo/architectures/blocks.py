"""What transformers and other networks for sequences are made of, node by node as PyTorch's exporter writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.zoo.architectures.asked import Dim
from sardonyx.zoo.architectures.writer import Writer, around, between, normal

LOWEST = float(np.finfo(np.float32).min)
"""What a mask adds where nothing is to be seen."""
AFTER_GELU = 2.35
"""1 / E[f(z)^2] for a standard normal z."""

Size = int | ir.Value
"""A dimension: known, or an int64 scalar that the graph computes."""


class Blocks(Writer):
    """Each method appends some nodes; types and shapes within the graph are left to inference.

    Weights have the names that PyTorch gives them: `{name}.weight`, `{name}.bias`.
    """

    def node(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A node of one output."""
        (output,) = self.nodes(op_type, 1, *inputs, **attributes)
        return output

    def nodes(self, op_type: str, count: int, *inputs: ir.Value | None, **attributes: Any) -> Sequence[ir.Value]:
        """A node of `count` outputs."""
        return self.ops(op_type, inputs, [None] * count, attributes, dtypes=[None] * count)

    def finish(
        self, name: str, outputs: Mapping[str, tuple[ir.Value, Sequence[Dim]]], dtype: ir.DataType = ir.DataType.FLOAT
    ) -> ir.Model:
        """The finished model, its outputs declared with these dims."""
        for value, dims in outputs.values():
            value.type, value.shape = ir.TensorType(dtype), ir.Shape(dims)
        return self.model(name, {key: value for key, (value, _) in outputs.items()})

    # Arithmetic on shapes: a known dim is a constant of the graph, others are read from a value there

    def size(self, x: ir.Value, axis: int, known: Dim | None = None) -> Size:
        """A dim of `x`: `known` if that is a number."""
        if isinstance(known, int):
            return known
        return self.node("Gather", self.node("Shape", x), self.constant(np.array(axis)), axis=0)

    def scalar_of(self, size: Size) -> ir.Value:
        """A dim as an int64 scalar."""
        return self.constant(np.array(size)) if isinstance(size, int) else size

    def vector_of(self, size: Size) -> ir.Value:
        """A dim as an int64 vector of one."""
        return self.constant([size]) if isinstance(size, int) else self.node("Unsqueeze", size, self.constant([0]))

    def sizes(self, *sizes: Size) -> ir.Value:
        """Dims as one int64 vector."""
        known = [size for size in sizes if isinstance(size, int)]
        if len(known) == len(sizes):
            return self.constant(known)
        return self.node("Concat", *map(self.vector_of, sizes), axis=0)

    def arithmetic(self, op_type: str, x: Size, y: Size) -> Size:
        """`Add`, `Sub` or `Mul` of dims."""
        if isinstance(x, int) and isinstance(y, int):
            return {"Add": x + y, "Sub": x - y, "Mul": x * y}[op_type]
        return self.node(op_type, self.scalar_of(x), self.scalar_of(y))

    def range(self, start: Size, stop: Size) -> ir.Value:
        """The integers from `start` to below `stop`."""
        if isinstance(start, int) and isinstance(stop, int):
            return self.constant(np.arange(start, stop, dtype=np.int64))
        one = self.constant(np.array(1))
        return self.node("Range", self.scalar_of(start), self.scalar_of(stop), one)

    # Moves

    def reshape(self, x: ir.Value, *sizes: Size) -> ir.Value:
        """The same numbers in another shape; one size may be -1."""
        return self.node("Reshape", x, self.sizes(*sizes))

    def transpose(self, x: ir.Value, *axes: int) -> ir.Value:
        """The axes in another order."""
        return self.node("Transpose", x, perm=axes)

    def unsqueeze(self, x: ir.Value, *axes: int) -> ir.Value:
        """With axes of size 1, put in one at a time."""
        for axis in axes:
            x = self.node("Unsqueeze", x, self.constant([axis]))
        return x

    def expand(self, x: ir.Value, *sizes: Size) -> ir.Value:
        """Broadcast to these sizes; where one is -1, `x` has its own, which ONNX's Expand writes as 1."""
        if all(isinstance(size, int) for size in sizes):
            return self.node("Expand", x, self.constant([abs(size) for size in sizes if isinstance(size, int)]))
        shape = self.sizes(*sizes)
        ones = self.node("ConstantOfShape", self.constant([len(sizes)]), value=ir.tensor(np.array([1], np.int64)))
        kept = self.node("Equal", shape, self.node("Mul", ones, self.constant(np.array(-1))))
        return self.node("Expand", x, self.node("Where", kept, ones, shape))

    def cut(self, x: ir.Value, axis: int, start: Size, stop: Size) -> ir.Value:
        """From `start` to below `stop` along an axis."""
        return self.node("Slice", x, self.vector_of(start), self.vector_of(stop), self.constant([axis]))

    def take(self, x: ir.Value, axis: int, index: int) -> ir.Value:
        """One slice along an axis, without the axis."""
        return self.node("Gather", x, self.constant(np.array(index)), axis=axis)

    def heads(self, x: ir.Value, sizes: Sequence[Size], *, keys: bool = False) -> ir.Value:
        """[batch, sequence, heads * head] as [batch, heads, sequence, head]; `keys` with the last two swapped."""
        return self.transpose(self.reshape(x, *sizes), *((0, 2, 3, 1) if keys else (0, 2, 1, 3)))

    def cast(self, x: ir.Value, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        """Of another element type."""
        return self.node("Cast", x, to=dtype.value)

    # Layers

    def table(self, name: str, rows: int, width: int, spread: float = 1.0) -> ir.Value:
        """The rows of an embedding, normally distributed."""
        return self.weight(f"{name}.weight", (rows, width), around(0.0, spread))

    def linear(
        self, x: ir.Value, name: str, inputs: int, outputs: int, *, bias: bool = True, gain: float = 1.0
    ) -> ir.Value:
        """PyTorch's Linear on rank 3: MatMul with the transposed weight, then Add of the bias."""
        shape, draw = normal((inputs, outputs), gain, fan_in=inputs)
        y = self.node("MatMul", x, self.weight(f"{name}.weight", shape, draw, transposed=True))
        return self.node("Add", self._bias(name, outputs), y) if bias else y

    def gemm(self, x: ir.Value, name: str, inputs: int, outputs: int, gain: float = 1.0) -> ir.Value:
        """PyTorch's Linear on rank 2."""
        shape, draw = normal((outputs, inputs), gain)
        return self.node("Gemm", x, self.weight(f"{name}.weight", shape, draw), self._bias(name, outputs), transB=1)

    def conv(
        self, x: ir.Value, name: str, inputs: int, outputs: int, kernel: Sequence[int], **attributes: Any
    ) -> ir.Value:
        """Convolution with a bias."""
        shape, draw = normal((outputs, inputs, *kernel), 1.0)
        weight = self.weight(f"{name}.weight", shape, draw)
        return self.node("Conv", x, weight, self._bias(name, outputs), kernel_shape=list(kernel), **attributes)

    def layer_norm(self, x: ir.Value, name: str, width: int, epsilon: float) -> ir.Value:
        """LayerNormalization of the last axis."""
        scale = self.weight(f"{name}.weight", (width,), between(0.8, 1.2))
        bias = self.weight(f"{name}.bias", (width,), around(0.0, 0.1))
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def rms_norm(self, x: ir.Value, name: str, width: int, epsilon: float) -> ir.Value:
        """Each row over its root mean square, times a factor."""
        mean = self.node("ReduceMean", self.node("Pow", x, self.scalar(2)), axes=[-1], keepdims=1)
        root = self.node("Sqrt", self.node("Add", mean, self.scalar(epsilon)))
        normed = self.node("Mul", x, self.node("Div", self.scalar(1), root))
        return self.node("Mul", self.weight(f"{name}.weight", (width,), between(0.8, 1.2)), normed)

    def gelu(self, x: ir.Value) -> ir.Value:
        """x * Phi(x) by the error function."""
        erf = self.node("Erf", self.node("Div", x, self.scalar(math.sqrt(2))))
        return self.node("Mul", self.node("Mul", x, self.node("Add", erf, self.scalar(1))), self.scalar(0.5))

    def gelu_tanh(self, x: ir.Value) -> ir.Value:
        """GPT-2's approximation of Gelu."""
        cubed = self.node("Mul", self.node("Pow", x, self.scalar(3)), self.scalar(0.044715))
        inner = self.node("Mul", self.node("Add", x, cubed), self.scalar(math.sqrt(2 / math.pi)))
        gate = self.node("Add", self.node("Tanh", inner), self.scalar(1))
        return self.node("Mul", self.node("Mul", x, self.scalar(0.5)), gate)

    def silu(self, x: ir.Value) -> ir.Value:
        """x * sigmoid(x)."""
        return self.node("Mul", x, self.node("Sigmoid", x))

    def unseen(self, mask: ir.Value) -> ir.Value:
        """What to add to scores for a mask [batch, keys] of ones and zeros: float32 [batch, 1, 1, keys]."""
        wide = self.cast(self.unsqueeze(mask, 1, 2))
        return self.node("Mul", self.node("Sub", self.scalar(1), wide), self.scalar(LOWEST))

    def _bias(self, name: str, size: int) -> ir.Value:
        return self.weight(f"{name}.bias", (size,), around(0.0, 0.05))
