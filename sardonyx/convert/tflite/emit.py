"""What the emitters of operators work with: values in two layouts, quantised or real, and the operator at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.tflite.file import Operator, Quantization, Tensor

Array = np.ndarray[Any, Any]
Dims = tuple[int | None, ...]

FIRST = (0, 3, 1, 2)
"""[N, H, W, C] to [N, C, H, W]."""
LAST = (0, 2, 3, 1)
"""And back."""

TYPES: Mapping[str, ir.DataType] = {
    "FLOAT32": ir.DataType.FLOAT, "FLOAT16": ir.DataType.FLOAT16, "FLOAT64": ir.DataType.DOUBLE,
    "INT32": ir.DataType.INT32, "INT64": ir.DataType.INT64, "INT16": ir.DataType.INT16, "INT8": ir.DataType.INT8,
    "UINT8": ir.DataType.UINT8, "UINT16": ir.DataType.UINT16, "UINT32": ir.DataType.UINT32,
    "UINT64": ir.DataType.UINT64, "BOOL": ir.DataType.BOOL, "BFLOAT16": ir.DataType.BFLOAT16,
    "INT4": ir.DataType.INT8, "UINT4": ir.DataType.UINT8, "INT2": ir.DataType.INT8,
}  # fmt: skip
"""Types of ONNX by TFLite's; those of less than a byte are widened."""
FLOATS = ("FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16")
QUANTISED = ("INT8", "UINT8", "INT16", "INT4", "UINT4", "INT2")


class UnsupportedError(Exception):
    """An operator cannot be converted; the message says why."""


@dataclass
class Value:
    """A tensor in the ONNX graph: a constant, or values for its layouts as they are asked for.

    `quantization` is None where the value holds real numbers (or integers that mean themselves).
    """

    name: str
    kind: str
    dims: Dims | None
    quantization: Quantization | None = None
    array: Array | None = None
    plain: ir.Value | None = None
    first: ir.Value | None = None
    real: Value | None = field(default=None, repr=False)
    stored: Value | None = field(default=None, repr=False)
    """For real numbers: what they are dequantised from, in each layout that is asked for."""
    made: ir.Value | None = None
    """What the operator gave, which the other layout is made of."""
    extra: Any = None
    """What a resource, or another thing that is no tensor, refers to."""

    @property
    def is_float(self) -> bool:
        """Whether it stands for real numbers."""
        return self.kind in FLOATS or self.quantization is not None

    @property
    def moved(self) -> bool:
        """Whether it is there with channels first alone."""
        if self.stored is not None and self.plain is None and self.first is None:
            return self.stored.moved
        return self.first is not None and self.plain is None


@dataclass
class Scope:
    """What is shared by all operators of a conversion."""

    graph: GraphBuilder
    subgraph: Callable[..., list[Value]]
    """Emits a subgraph: `(index, inputs, builder, prefix)` gives its outputs."""
    dequantize: bool = False
    variables: dict[str, Value] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)
    hybrid: bool = False
    initialising: int = 0


@dataclass
class Op:
    """An operator while it is emitted: `i` are its inputs (None where left out), `out` the file's words on outputs."""

    scope: Scope
    graph: GraphBuilder
    source: Operator
    i: list[Value | None]
    out: list[Tensor]
    names: list[str]
    results: list[Value] = field(default_factory=list)
    scratch: int = 0

    @property
    def name(self) -> str:
        """What nodes are called."""
        return self.names[0] if self.names else self.source.name

    def get(self, key: str, default: Any = None) -> Any:
        """An option."""
        return self.source.get(key, default)

    def need(self, index: int) -> Value:
        """An input that must be there."""
        if index >= len(self.i) or (value := self.i[index]) is None:
            raise UnsupportedError(f"it lacks input {index}")
        return value

    def has(self, index: int) -> bool:
        """Whether the input is there."""
        return index < len(self.i) and self.i[index] is not None

    def constant(self, index: int, what: str = "") -> Array:
        """The elements of an input that must be a constant."""
        value = self.need(index)
        if value.array is None:
            raise UnsupportedError(f"its input {index}{what and f' ({what})'} is computed; it must be a constant")
        return value.array

    # Nodes

    def node(self, kind: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """A node of one result, named after the operator."""
        return self.graph.node(kind, inputs, name=self._next(), **attributes)

    def nodes(self, kind: str, inputs: Sequence[ir.Value | None], count: int, **attributes: Any) -> list[ir.Value]:
        """A node of several results."""
        name = self._next()
        names = [f"{name}:{i}" if i else name for i in range(count)]
        return self.graph.nodes(kind, inputs, names, name=name, **attributes)

    def _next(self) -> str:
        self.scratch += 1
        return self.name if self.scratch == 1 else f"{self.name}/{self.scratch - 1}"

    def const(self, elements: Any, dtype: Any = np.int64) -> ir.Value:
        """A constant of this operator."""
        array = np.asarray(elements, dtype)
        return self.graph.initializer(f"{self.name}/const_{array.dtype.name}_{_short(array)}", array)

    def cast(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        """A Cast."""
        return self.node("Cast", [value], to=int(kind))

    # Values

    def plain(self, value: Value) -> ir.Value:
        """The stored elements in the source's own layout."""
        if value.plain is None:
            if value.array is not None:
                value.plain = self.scope.graph.initializer(value.name, widened(value.array))
            elif value.stored is not None:
                value.plain = self._dequantised(self.plain(value.stored), value)
            else:
                assert value.first is not None
                value.plain = self.graph.transpose(value.first, LAST, name=f"{value.name}/nhwc")
        return value.plain

    def first(self, value: Value) -> ir.Value:
        """The stored elements with channels first; `value` has four dims."""
        if value.first is None:
            if value.array is not None:
                value.first = self.scope.graph.initializer(f"{value.name}/nchw", widened(value.array).transpose(FIRST))
            elif value.stored is not None and not (value.stored.quantization and value.stored.quantization.per_axis):
                value.first = self._dequantised(self.first(value.stored), value)
            else:
                self.plain(value)
                assert value.plain is not None
                value.first = self.graph.transpose(value.plain, FIRST, name=f"{value.name}/nchw")
        return value.first

    def real(self, value: Value) -> Value:
        """`value` as the numbers it stands for: itself, or dequantised."""
        if value.quantization is None:
            return value
        if value.real is None:
            value.real = Value(f"{value.name}/real", "FLOAT32", value.dims, stored=value)
        return value.real

    def _dequantised(self, stored: ir.Value, value: Value) -> ir.Value:
        source = value.stored
        assert source is not None
        assert source.quantization is not None
        return dequantized(self, stored, source.quantization, source.kind, value.name)

    def weights(self, index: int, order: Sequence[int]) -> ir.Value:
        """An input's numbers with axes in `order`; a constant is stored so."""
        value = constant_of(self.need(index))
        q = value.quantization
        if value.array is None:
            return self.graph.transpose(self.plain(self.real(value)), order, name=f"{value.name}/moved")
        stored = self.scope.graph.initializer(value.name, widened(value.array).transpose(order))
        if q is None:
            return stored
        moved = replace(q, axis=tuple(order).index(q.axis)) if q.per_axis else q
        return dequantized(self, stored, moved, value.kind, f"{value.name}/real")

    def rank(self, value: Value) -> int:
        """How many dims it has."""
        if value.dims is None:
            raise UnsupportedError(f"the file does not say how many dims {value.name!r} has")
        return len(value.dims)

    def known(self, value: Value, *axes: int) -> list[int]:
        """The sizes of those axes, which must be fixed."""
        self.rank(value)
        sizes = [(value.dims or ())[axis] for axis in axes]
        if None in sizes:
            raise UnsupportedError(
                f"the sizes of {value.name!r} are open, {list(value.dims or ())}; it needs them fixed"
            )
        return [size for size in sizes if size is not None]

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < rank:
            raise UnsupportedError(f"axis {axis} is not one of {rank}")
        return axis % rank

    def shape(self, value: Value) -> ir.Value:
        """The dims as int64, a constant where all are fixed."""
        if value.dims is not None and None not in value.dims:
            return self.const(value.dims)
        return self.node("Shape", [self.plain(value)])

    # Results

    def want(self, index: int) -> Quantization | None:
        """How result `index` is to be quantised."""
        return None if self.scope.dequantize else quantization_of(self.out[index])

    def give(
        self, value: ir.Value | None, index: int = 0, *, first: bool = False, quantization: Quantization | None = None
    ) -> None:
        """Result `index`, with channels first or as the source has it. `quantization` is that of `value`.

        Where the file says that the result is quantised otherwise, it is so.
        """
        tensor = self.out[index]
        want = self.want(index)
        if value is not None and want != quantization:
            if quantization is not None:
                value = dequantized(self, value, quantization, tensor.kind, f"{self.names[index]}/real")
            value = (
                value if want is None else quantized(self, value, want, tensor.kind, f"{self.names[index]}/quantized")
            )
        kind = "FLOAT32" if want is None and tensor.quantization and tensor.kind in QUANTISED else tensor.kind
        result = Value(self.names[index], kind, tensor.dims, want)
        result.made = value
        result.plain, result.first = (None, value) if first else (value, None)
        while len(self.results) <= index:
            self.results.append(Value("", "", None))
        self.results[index] = result

    def alias(self, value: Value, index: int = 0) -> None:
        """Result `index` is `value` itself."""
        while len(self.results) <= index:
            self.results.append(Value("", "", None))
        self.results[index] = value

    def activate(self, value: ir.Value) -> ir.Value:
        """The activation that is fused into the operator."""
        code = self.get("fused_activation_function", 0)
        if code not in ACTIVATIONS:
            raise UnsupportedError(f"its fused activation {code} is not supported")
        return ACTIVATIONS[code](self, value)


def clip(op: Op, value: ir.Value, low: float, high: float) -> ir.Value:
    """Between two numbers."""
    return op.node("Clip", [value, op.const(low, np.float32), op.const(high, np.float32)])


ACTIVATIONS: Mapping[int, Callable[[Op, ir.Value], ir.Value]] = {
    0: lambda op, x: x,
    1: lambda op, x: op.node("Relu", [x]),
    2: lambda op, x: clip(op, x, -1, 1),
    3: lambda op, x: clip(op, x, 0, 6),
    4: lambda op, x: op.node("Tanh", [x]),
}
"""Fused activations by their codes; SIGN_BIT (5) has no kernel in TFLite either."""


def copied(value: Value) -> Value:
    """A copy for a body: what is made inside it is not there outside."""
    stored = copied(value.stored) if value.stored is not None else None
    return replace(value, real=None, stored=stored)


def quantization_of(tensor: Tensor) -> Quantization | None:
    """How a tensor's elements stand for real numbers; None where they are numbers themselves."""
    q = tensor.quantization
    fits = tensor.kind in QUANTISED or (tensor.kind in ("INT32", "INT64") and tensor.data is not None)
    return q if q is not None and fits and any(q.scale) else None


def dequantized(op: Op, value: ir.Value, q: Quantization, kind: str, name: str) -> ir.Value:
    """DequantizeLinear of a value of TFLite's type `kind`. What it does not take is multiplied out instead."""
    scale = op.const(q.scale if q.per_axis else q.scale[0], np.float32)
    zeros = np.asarray(q.zero_point if q.per_axis else q.zero_point[0])
    if kind == "INT64":  # the bias of convolutions with 16-bit activations
        if zeros.any() or (q.per_axis and q.axis != 0):
            raise UnsupportedError("its bias is quantised in a way that TFLite has no kernel for")
        return op.graph.node("Mul", [op.cast(value, ir.DataType.FLOAT), scale], name=name)
    zero = op.const(zeros, TYPES[kind].numpy())
    axis = q.axis if q.per_axis else None
    return op.graph.node("DequantizeLinear", [value, scale, zero], name=name, axis=axis)


def quantized(op: Op, value: ir.Value, q: Quantization, kind: str, name: str) -> ir.Value:
    """QuantizeLinear to a type of TFLite."""
    if q.per_axis:
        raise UnsupportedError("its result has a scale for each channel, which TFLite only has for constants")
    dtype = TYPES[kind].numpy()
    scale, zero = op.const(q.scale[0], np.float32), op.const(q.zero_point[0], dtype)
    return op.graph.node("QuantizeLinear", [value, scale, zero], name=name)


def widened(array: Array) -> Array:
    """Elements as ONNX stores them."""
    return np.asarray(array, order="C")


def together(op: Op, values: Iterable[Value]) -> tuple[list[ir.Value], bool]:
    """Real or plain values for an elementwise node, all in one layout, and whether that is channels first.

    Channels first where a value is so already, and the others have four dims too or are constants that broadcast.
    """
    values = list(values)
    wanted = any(value.moved for value in values)
    able = all(value.dims is not None and (len(value.dims) == 4 or _constant(value) is not None) for value in values)
    if not (wanted and able):
        return [op.plain(value) for value in values], False
    return [op.first(value if len(value.dims or ()) == 4 else _four(value)) for value in values], True


def constant_of(value: Value) -> Value:
    """What a constant of dequantised numbers is stored as; other values as they are."""
    return value.stored if value.stored is not None and value.stored.array is not None else value


def _constant(value: Value) -> Array | None:
    """The elements of a constant with one scale at most, real or stored."""
    source = value.stored or value
    return None if source.quantization is not None and source.quantization.per_axis else source.array


def _four(value: Value) -> Value:
    """A constant of fewer dims with ones before them."""
    array = _constant(value)
    assert array is not None
    array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    if value.stored is not None:
        return Value(value.name, value.kind, array.shape, stored=_four(value.stored))
    return replace(value, array=array, dims=array.shape, plain=None, first=None, real=None)


def reals(op: Op, count: int | None = None) -> list[Value]:
    """The first `count` inputs (all) as real numbers."""
    return [op.real(op.need(index)) for index in range(len(op.i) if count is None else count)]


def _short(array: Array) -> str:
    """A few words for a small constant, to find it by."""
    return "_".join(map(str, array.ravel()[:4].tolist())).replace("-", "m") or "none"
