"""One MXNet operator that is emitted: its parameters, and its inputs as values or as arrays of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from sardonyx.convert.mxnet.files import Attributes
from sardonyx.convert.shaped import Array, Emitter, Tensor, Unsupported, text

FLOAT, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.BOOL
TYPES = {
    "float32": FLOAT, "float64": FLOAT, "float16": FLOAT, "uint8": ir.DataType.UINT8, "int32": ir.DataType.INT32,
    "int8": ir.DataType.INT8, "int64": INT64, "bool": BOOL,
}  # fmt: skip
"""By name, in the order of mshadow's numbers. All floats are computed in float32."""


def type_of(text: str) -> ir.DataType:
    """A type by its name or number. Raises Unsupported when there is no such type."""
    names = list(TYPES)
    name = names[int(text)] if text in tuple("01234567") else text
    if name not in TYPES:
        raise Unsupported(f"the type {text[:40]!r} is not supported")
    return TYPES[name]


@dataclass(frozen=True)
class Weight:
    """A variable with its array, or what operators on such made; it becomes a constant where a node needs it."""

    name: str
    array: Array
    zeros: bool = False
    """Zeros whose batch is open: the first state of a recurrent layer."""


Operand = Tensor | Weight


@dataclass
class Call(Emitter):
    """One operator that is emitted."""

    op: str = ""
    p: Attributes = field(default_factory=lambda: Attributes({}))
    inputs: Sequence[Operand] = ()

    def t(self, index: int = 0) -> Tensor:
        """An input as a value of the graph."""
        if index >= len(self.inputs):
            raise Unsupported(f"it has {len(self.inputs)} inputs, expected more")
        found = self.inputs[index]
        if isinstance(found, Tensor):
            return found
        if found.zeros:
            raise Unsupported("it takes zeros whose size is not known")
        value = self.graph.initializer(found.name, found.array)
        return Tensor(value, found.array.shape, ir.DataType.from_numpy(found.array.dtype))

    def a(self, index: int, shape: Sequence[int] | None = None) -> Array:
        """An input that must be an array of the parameters, of this shape."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(found, Weight):
            raise Unsupported(f"its input {index} is no array of the parameters")
        if shape is not None and found.array.shape != tuple(shape):
            raise Unsupported(f"{found.name!r} has the shape {text(found.array.shape)}, expected {text(tuple(shape))}")
        return found.array

    def weight(self, index: int, shape: Sequence[int]) -> ir.Value:
        """An input that must have this shape, as a value: a parameter, or computed."""
        if index < len(self.inputs) and isinstance(self.inputs[index], Weight):
            self.a(index, shape)
        found = self.t(index)
        if found.rank != len(shape) or any(d not in (None, s) for d, s in zip(found.shape, shape, strict=True)):
            raise Unsupported(f"its input {index} has the shape {text(found.shape)}, expected {text(tuple(shape))}")
        return found.value

    def all(self) -> list[Tensor]:
        """All inputs as values."""
        return [self.t(i) for i in range(len(self.inputs))]

    def unary(self, op_type: str, tag: str = "", **attributes: object) -> list[Tensor]:
        """A node of each element of the first input, which holds floats."""
        self.floats(self.t())
        return [self.like(self.t(), self.node(op_type, [self.t().value], tag, **attributes))]

    def floats(self, *values: Tensor) -> None:
        """Raises Unsupported where one of these holds anything else."""
        for x in values:
            if x.dtype != FLOAT:
                raise Unsupported(f"it computes with {x.dtype.name}")

    def scalar(self, tag: str, number: float, dtype: ir.DataType = FLOAT) -> ir.Value:
        """A constant number."""
        return self.constant(tag, number, dtype.numpy())


Rule = Callable[[Call], list[Tensor]]
