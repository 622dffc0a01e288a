"""Operations of CoreML's intermediate language (MIL), the form in which programs and network layers become ONNX.

`Operation` is one of them, `Emitter` writes it: it hands an operation's arguments to the function that the table
`emit.OPERATIONS` has for its kind, and notices those that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.graph import GraphBuilder

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]

FLOATS = (np.float16, np.float32, np.float64)


class UnsupportedError(Exception):
    """Why a layer or an operation cannot be converted."""


@dataclass(frozen=True)
class Ref:
    """A value by its name."""

    name: str


Given = Ref | Array | str | tuple[Any, ...]
"""An argument: another operation's value, a constant, or a tuple of both."""


@dataclass(frozen=True)
class Typed:
    """A value that an operation makes; a shape of None is not known."""

    name: str
    dtype: str = "float32"
    shape: Shape | None = None


@dataclass(frozen=True)
class Operation:
    """`inputs` are arguments by MIL's names for them, options among them."""

    kind: str
    name: str
    inputs: Mapping[str, Given]
    outputs: tuple[Typed, ...]


@dataclass(frozen=True)
class Tensor:
    """A value in the graph."""

    value: ir.Value
    dtype: str
    shape: Shape | None

    @property
    def rank(self) -> int:
        """The number of dims. Raises UnsupportedError where the source does not say."""
        if self.shape is None:
            raise UnsupportedError(f"the rank of its input {self.value.name!r} is not known")
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return self.dtype in ("float16", "float32", "float64")


_IR_TYPES = {
    "bool": ir.DataType.BOOL, "int8": ir.DataType.INT8, "uint8": ir.DataType.UINT8, "int16": ir.DataType.INT16,
    "uint16": ir.DataType.UINT16, "int32": ir.DataType.INT32, "uint32": ir.DataType.UINT32,
    "int64": ir.DataType.INT64, "string": ir.DataType.STRING,
}  # fmt: skip

_REQUIRED = object()


def ir_type(dtype: str) -> ir.DataType:
    """The element type in the graph: all floating-point numbers are float32 there."""
    return _IR_TYPES.get(dtype, ir.DataType.FLOAT)


def as_constant(array: Array) -> Array:
    """As it is stored in the graph."""
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def dtype_of(array: Array) -> str:
    """The type's name as `Tensor` has it."""
    return "string" if array.dtype.kind in "UO" else array.dtype.name


@dataclass
class Emitter:
    """Writes one operation: its arguments, and nodes named after its output."""

    graph: GraphBuilder
    op: Operation
    known: Mapping[str, Tensor]
    asked: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The operation's first output."""
        return self.op.outputs[0].name if self.op.outputs else self.op.name

    def has(self, key: str) -> bool:
        """Whether the argument is given."""
        self.asked.add(key)
        return key in self.op.inputs

    def _given(self, key: str) -> Given:
        self.asked.add(key)
        if key not in self.op.inputs:
            raise UnsupportedError(f"it has no argument {key!r}")
        return self.op.inputs[key]

    def const(self, key: str, default: Any = _REQUIRED) -> Any:
        """A constant: a number, a text, or an array of one axis as a list."""
        self.asked.add(key)
        if key not in self.op.inputs and default is not _REQUIRED:
            return default
        given = self._given(key)
        if isinstance(given, Ref):
            raise UnsupportedError(f"its {key!r} is computed, expected a constant")
        return given.tolist() if isinstance(given, np.ndarray) else given

    def array(self, key: str) -> Array:
        """A constant array."""
        given = self._given(key)
        if not isinstance(given, np.ndarray):
            raise UnsupportedError(f"its {key!r} is computed, expected a constant")
        return given

    def ints(self, key: str, default: Sequence[int] | None = None) -> list[int]:
        """A constant list of whole numbers."""
        found = self.const(key, _REQUIRED if default is None else list(default))
        found = found if isinstance(found, list) else [found]
        if len(found) > 64:
            raise UnsupportedError(f"its {key!r} is a list of {len(found)} numbers")
        return [int(item) for item in found]

    def is_const(self, key: str) -> bool:
        """Whether the argument is a constant array."""
        return isinstance(self.op.inputs.get(key), np.ndarray)

    def tensor(self, key: str) -> Tensor:
        """An argument as a value; constants become initializers."""
        return self._tensor(key, self._given(key))

    def tensors(self, key: str) -> list[Tensor]:
        """A tuple of values."""
        given = self._given(key)
        items = given if isinstance(given, tuple) else (given,)
        return [self._tensor(f"{key}_{index}", item) for index, item in enumerate(items)]

    def _tensor(self, key: str, given: Given) -> Tensor:
        if isinstance(given, Ref):
            if given.name not in self.known:
                raise UnsupportedError(f"its input {given.name!r} is made by nothing")
            return self.known[given.name]
        if not isinstance(given, np.ndarray):
            raise UnsupportedError(f"its {key!r} is not an array")
        array = as_constant(given)
        return Tensor(self.graph.initializer(f"{self.name}/{key}", array), dtype_of(array), array.shape)

    def value(self, key: str) -> ir.Value:
        """As `tensor`, the graph's value."""
        return self.tensor(key).value

    def indices(self, key: str) -> ir.Value:
        """Whole numbers as int64, as ONNX wants shapes and indices."""
        if self.is_const(key):
            return self.graph.initializer(f"{self.name}/{key}", self.array(key).astype(np.int64))
        return self.cast(self.value(key), ir.DataType.INT64)

    def node(self, op_type: str, inputs: Sequence[ir.Value | None], suffix: str = "", **attributes: Any) -> ir.Value:
        """A node of ai.onnx, named after the operation and `suffix`."""
        return self.graph.node(op_type, inputs, name=f"{self.name}{suffix and '/' + suffix}", **attributes)

    def constant(self, suffix: str, array: Any, dtype: Any = np.float32) -> ir.Value:
        """An initializer."""
        return self.graph.initializer(f"{self.name}/{suffix}", np.asarray(array, dtype))

    def like(self, x: Tensor, suffix: str, number: float) -> ir.Value:
        """A number of the type of `x`."""
        return self.constant(suffix, number, np.float32 if x.is_float else np.dtype(x.dtype))

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """`value` as another type."""
        return self.node("Cast", [value], "cast", to=dtype.value)

    def unread(self) -> list[str]:
        """Arguments that nobody asked for."""
        return sorted(set(self.op.inputs) - self.asked)


Result = ir.Value | Sequence[ir.Value]
Rule = Callable[[Emitter], Result]


@dataclass
class Operations:
    """Writes operations one after the other and gathers what cannot be converted."""

    graph: GraphBuilder
    rules: Mapping[str, Rule]
    known: dict[str, Tensor] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    layers: dict[str, str] = field(default_factory=dict)

    def run(self, operations: Sequence[Operation]) -> None:
        """Write them all; values of those that cannot be are `lost`, with all that depends on them."""
        for op in operations:
            refs = {given.name for item in op.inputs.values() for given in _refs(item)}
            if op.kind in self.rules and refs & self.lost:
                self.lost.update(item.name for item in op.outputs)
                continue
            try:
                self._emit(op)
            except UnsupportedError as error:
                self.problems.setdefault(f"{op.name!r} ({op.kind})", str(error))
                self.lost.update(item.name for item in op.outputs)

    def _emit(self, op: Operation) -> None:
        rule = self.rules.get(op.kind)
        if rule is None:
            raise UnsupportedError("operations of this kind are not supported")
        emitter = Emitter(self.graph, op, self.known)
        made = rule(emitter)
        values = [made] if isinstance(made, ir.Value) else list(made)
        if unread := emitter.unread():
            raise UnsupportedError(f"options {', '.join(unread)} are not supported")
        if len(values) < len(op.outputs):
            raise UnsupportedError(f"it has {len(op.outputs)} outputs, expected {len(values)}")
        rank = result_rank(op, {name: len(x.shape) for name, x in self.known.items() if x.shape is not None})
        for item, value in zip(op.outputs, values, strict=False):
            shape = item.shape if item.shape is not None or rank is None else (None,) * rank
            self.known[item.name] = Tensor(value, item.dtype, shape)
            self.layers[value.name or ""] = op.name


def _refs(given: Given) -> list[Ref]:
    if isinstance(given, Ref):
        return [given]
    return [ref for item in given for ref in _refs(item)] if isinstance(given, tuple) else []


_SHAPED = ("reshape", "fill", "broadcast_to")
_FIXED = {"flatten2d": 2, "non_zero": 2, "range_1d": 1, "shape": 1}


def result_rank(op: Operation, ranks: Mapping[str, int]) -> int | None:  # noqa: PLR0911 - one rule a kind
    """The rank of an operation's results by those of its inputs; None where that is not known."""
    given = op.inputs
    found = [
        _rank(item, ranks) for value in given.values() for item in (value if isinstance(value, tuple) else (value,))
    ]
    own = _rank(given.get("x", given.get("indices", "")), ranks)
    if op.kind in _FIXED:
        return _FIXED[op.kind]
    if op.kind in _SHAPED:
        shape = given.get("shape")
        return int(shape.size) if isinstance(shape, np.ndarray) else None
    if own is None and "x" in given:
        return None
    own = own or 0
    axes = given.get("axes")
    count = int(axes.size) if isinstance(axes, np.ndarray) else own
    kept = given.get("keep_dims", np.array(op.kind.startswith("reduce_arg")))
    if op.kind == "expand_dims":
        return own + count
    if op.kind == "squeeze":
        return own - count if "axes" in given else None
    if op.kind.startswith("reduce_"):
        dropped = 1 if op.kind.startswith("reduce_arg") else count
        return own if isinstance(kept, np.ndarray) and kept.all() else own - dropped
    if op.kind == "slice_by_index":
        squeezed = given.get("squeeze_mask")
        return own - (int(np.count_nonzero(squeezed)) if isinstance(squeezed, np.ndarray) else 0)
    if op.kind == "gather":
        indices = _rank(given.get("indices", ""), ranks)
        return None if indices is None else own + indices - 1
    if op.kind == "one_hot":
        return own + 1
    if op.kind == "gather_nd":
        return None
    if op.kind in ("conv", "conv_transpose", "linear", "batch_norm", "layer_norm", "instance_norm", "pad", "tile"):
        return own
    if op.kind in ("lstm", "gru", "rnn"):
        sequence = given.get("output_sequence")
        return 3 if isinstance(sequence, np.ndarray) and sequence.all() else 2
    known = [rank for rank in found if rank is not None]
    return None if len(known) < len(found) else max(known, default=0) + (op.kind == "stack")


def _rank(given: Given, ranks: Mapping[str, int]) -> int | None:
    if isinstance(given, Ref):
        return ranks.get(given.name)
    return given.ndim if isinstance(given, np.ndarray) else 0
