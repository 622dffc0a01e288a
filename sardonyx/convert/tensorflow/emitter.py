"""What TensorFlow's values are while a graph is written as ONNX, and what operators' emitters write with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.shape_inference
import onnx_ir as ir

from sardonyx.convert.graph import GraphBuilder, released_versions
from sardonyx.convert.tensorflow.graph import Function, Node
from sardonyx.convert.tensorflow.tensors import D, data_kind, numpy_type

Array = np.ndarray[Any, Any]
Dim = int | str | None

SMALL = 1024
"""Elements of a tensor of integers that are followed through the graph: shapes, axes, sizes."""


class UnsupportedError(Exception):
    """Why a node cannot be converted; it is told with all others."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of the graph. It has elements that are known (`array`), a value in the ONNX graph, or both.

    `known` are elements of small integer tensors, None where only a run tells them. With `moved` the ONNX value is
    [N, C, ...] where TensorFlow's is [N, ..., C]; moves are put off since what reads it often wants it so.
    """

    value: ir.Value | None = None
    array: Array | None = None
    known: Array | None = None
    moved: bool = False
    name: str = "constant"
    origin: Any = None
    """How it was made, for emitters that write several nodes as one."""

    @cached_property
    def kind(self) -> ir.DataType:
        """The type of its elements."""
        if self.array is not None:
            return data_kind(self.array)
        assert self.value is not None
        return self.value.dtype or D.UNDEFINED

    @cached_property
    def shape(self) -> tuple[Dim, ...] | None:
        """TensorFlow's shape: numbers, symbols, None for unknown dims; None for an unknown rank."""
        if self.array is not None:
            return tuple(self.array.shape)
        assert self.value is not None
        if self.value.shape is None:
            return None
        found: tuple[Dim, ...] = tuple(dim if isinstance(dim, int) else dim.value for dim in self.value.shape)
        return (found[0], *found[2:], found[1]) if self.moved else found

    @property
    def rank(self) -> int:
        """The number of dims. Raises UnsupportedError when that is not known."""
        if self.shape is None:
            raise UnsupportedError("the rank of its input is not known; give the graph's inputs shapes (--shape)")
        return len(self.shape)

    def elements(self, what: str) -> Array:
        """The elements, which must be known. Raises UnsupportedError otherwise."""
        if self.array is None:
            raise UnsupportedError(f"its {what} is computed when the model runs")
        return self.array

    def integers(self, what: str) -> list[int]:
        """The elements as a list of integers, which must be known."""
        return [int(item) for item in np.ravel(self.elements(what))]

    def integer(self, what: str) -> int:
        """The one element, which must be known."""
        found = self.integers(what)
        if len(found) != 1:
            raise UnsupportedError(f"its {what} has {len(found)} elements, expected one")
        return found[0]


@dataclass(frozen=True, eq=False)
class Resource:
    """A variable or table: the node that makes it."""

    key: str
    node: Node | None = None


@dataclass(frozen=True, eq=False)
class Listed:
    """A TensorList: its elements stacked over the first axis, or none yet, but known how many."""

    stacked: Tensor | None
    count: Tensor
    kind: ir.DataType
    element: tuple[Dim, ...] | None = None


@dataclass(frozen=True, eq=False)
class Missing:
    """The result of a node that could not be converted; what reads it is passed over without a word."""


Item = Tensor | Resource | Listed | Missing
Emit = Callable[["Emitter", Node, Sequence[Any]], Any]
"""What writes one operator: `(emitter, node, inputs)` to its output, or a list of its outputs."""


class Emitter:
    """Writes ONNX nodes, named after the TensorFlow node in hand, with types and shapes inferred at once."""

    def __init__(self, graph: GraphBuilder, run_function: Callable[[Emitter, str, Sequence[Item]], list[Item]]) -> None:
        self.graph = graph
        self.name = ""
        self.values: Mapping[str, Array] = {}
        self.functions: Mapping[str, Function] = {}
        self.symbols: dict[str, tuple[ir.Value, int]] = {}
        self._run_function = run_function
        self.notes: list[str] = []

    def call(self, function: str, arguments: Sequence[Item]) -> list[Item]:
        """The results of a function of the graph, written into this one."""
        return self._run_function(self, function, arguments)

    def inside(self, name: str) -> Emitter:
        """An emitter for the body of a node."""
        inner = Emitter(self.graph.body(name), self._run_function)
        inner.name, inner.values, inner.notes = self.name, self.values, self.notes
        inner.functions, inner.symbols = self.functions, self.symbols
        return inner

    def tensor(self, value: ir.Value, *, moved: bool = False) -> Tensor:
        """A value that TensorFlow has as this one, or with `moved` as [N, ..., C]."""
        return Tensor(value, moved=moved, name=value.name or "")

    def constant(self, array: Any, dtype: Any = None, *, tag: str = "constant") -> ir.Value:
        """An initializer for the node in hand."""
        array = np.asarray(array, dtype)
        return self.graph.initializer(f"{self.name}/{tag}", array)

    def like(self, x: Tensor, number: float) -> ir.Value:
        """A constant without dims of the type of `x`."""
        return self.constant(number, numpy_type(x.kind))

    def plain(self, x: Tensor) -> ir.Value:
        """The value in TensorFlow's order of axes."""
        if x.array is not None:
            return self._stored(x)
        assert x.value is not None
        if not x.moved:
            return x.value
        return self.transpose(x.value, [0, *range(2, x.rank), 1])

    def first(self, x: Tensor) -> ir.Value:
        """The value of a channels-last tensor as [N, C, ...]."""
        if x.moved:
            assert x.value is not None
            return x.value
        return self.transpose(self.plain(x), [0, x.rank - 1, *range(1, x.rank - 1)])

    def transpose(self, value: ir.Value, order: Sequence[int]) -> ir.Value:
        """`value` with its axes in another order; made once for each."""
        before = self.graph.node_count
        result = self.graph.transpose(value, order, name=f"{self.name}/transpose")
        if self.graph.node_count != before:
            result.type = value.type
            result.shape = ir.Shape([value.shape[axis] for axis in order]) if value.shape is not None else None
        return result

    def _stored(self, x: Tensor) -> ir.Value:
        assert x.array is not None
        array = x.array
        if array.dtype == object:
            array = np.array([_text(item) for item in array.ravel()], object).reshape(array.shape)
        return self.graph.initializer(x.name, array)

    def int64(self, x: Tensor) -> ir.Value:
        """The value as 64-bit integers."""
        if x.array is not None:
            return self.constant(x.array, np.int64, tag="ints")
        value = self.plain(x)
        return value if x.kind == D.INT64 else self.cast(value, D.INT64)

    def vector(self, x: Tensor) -> ir.Value:
        """As `int64`, with one axis."""
        if x.array is not None:
            return self.constant(np.ravel(x.array), np.int64, tag="ints")
        value = self.int64(x)
        return value if x.shape is not None and len(x.shape) == 1 else self.reshape(value, [-1])

    def cast(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        """`value` as another type."""
        return value if value.dtype == kind else self.node("Cast", [value], tag="cast", to=int(kind))

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """`value` with constant dims."""
        return self.node("Reshape", [value, self.constant(shape, np.int64, tag="shape")], tag="reshape")

    def squeeze(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """`value` without these axes of one element."""
        return (
            self.node("Squeeze", [value, self.constant(axes, np.int64, tag="axes")], tag="squeeze") if axes else value
        )

    def unsqueeze(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """`value` with axes of one element at these places."""
        return (
            self.node("Unsqueeze", [value, self.constant(axes, np.int64, tag="axes")], tag="unsqueeze")
            if axes
            else value
        )

    def node(self, op: str, inputs: Sequence[ir.Value | None], *, tag: str = "", **attributes: Any) -> ir.Value:
        """Append a node with one output, named after the TensorFlow node, and `tag` where it is a part of that."""
        return self.nodes(op, inputs, 1, tag=tag, **attributes)[0]

    def nodes(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        outputs: int,
        *,
        tag: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> list[ir.Value]:
        """As `node`, with so many outputs."""
        name = f"{self.name}/{tag}" if tag else self.name
        results = self.graph.nodes(op, inputs, outputs, name=name, domain=domain, **attributes)
        if not any(isinstance(value, ir.Graph) for value in attributes.values()):
            _infer(results)
        return results

    def each(self, x: Tensor, op: str, *more: ir.Value, **attributes: Any) -> Tensor:
        """A node that computes each element of `x` by itself: the layout stays."""
        if x.moved:
            assert x.value is not None
            return self.tensor(self.node(op, [x.value, *more], **attributes), moved=True)
        return self.tensor(self.node(op, [self.plain(x), *more], **attributes))

    def joined(self, *tensors: Tensor) -> tuple[list[ir.Value], bool]:
        """Values that broadcast against each other as the tensors do, and whether they are moved.

        They are moved where one is and the others have its rank, are single numbers, or are constants by channel.
        """
        moved = [x for x in tensors if x.moved]
        if not moved:
            return [self.plain(x) for x in tensors], False
        rank = moved[0].rank
        if all((x.moved and x.rank == rank) or _spreads(x, rank) for x in tensors):
            return [x.value if x.moved and x.value else self._spread(x, rank) for x in tensors], True
        return [self.plain(x) for x in tensors], False

    def _spread(self, x: Tensor, rank: int) -> ir.Value:
        if x.array is None:
            return self.plain(x)
        array = x.array
        if array.ndim:
            full = array.reshape((1,) * (rank - array.ndim) + array.shape)
            array = full.transpose(0, rank - 1, *range(1, rank - 1))
            array = array.reshape(array.shape[1:]) if array.shape[0] == 1 else array
        return self.graph.initializer(f"{x.name}/spread" if array.ndim else x.name, array)

    def static(self, x: Tensor) -> tuple[int, ...]:
        """The dims, all of which must be known."""
        shape = x.shape
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            raise UnsupportedError("the shape of its input is not known; give the graph's inputs shapes (--shape)")
        return tuple(int(dim) for dim in shape if isinstance(dim, int))

    def shaped(self, value: ir.Value, shape: Tensor) -> Tensor:
        """`value`, which has the dims that the elements of `shape` are, as far as those are known."""
        known = known_of(shape)
        if known is not None and known.ndim == 1:
            inferred = [None] * len(known) if value.shape is None else list(value.shape)
            value.shape = ir.Shape([
                told if told is not None and told != -1 else old for told, old in zip(known, inferred, strict=True)
            ])  # fmt: skip
        return self.tensor(value)

    def shape_of(self, x: Tensor) -> ir.Value:
        """The dims as int64, a constant where they are known."""
        if x.shape is not None and all(isinstance(dim, int) for dim in x.shape):
            return self.constant(x.shape, np.int64, tag="shape")
        return self.node("Shape", [self.plain(x)], tag="shape")


def _spreads(x: Tensor, rank: int) -> bool:
    return x.shape == () or (x.array is not None and x.array.dtype != object and x.array.ndim <= rank)


def _text(item: Any) -> str:
    if isinstance(item, str):
        return item
    try:
        return bytes(item).decode()
    except UnicodeDecodeError as error:
        raise UnsupportedError("a text constant is not UTF-8, which ONNX's texts are") from error


def known_of(x: Tensor) -> Array | None:
    """The elements of a small tensor of integers, as objects; None for those that a run tells."""
    if x.known is not None:
        return x.known
    array = x.array
    if array is not None and array.size <= SMALL and array.dtype.kind in "iub":
        return array.astype(object)
    return None


def _infer(outputs: Sequence[ir.Value]) -> None:
    """Types and shapes of a node's outputs, by the inference of the operator's own definition."""
    node = outputs[0].producer()
    assert node is not None
    proto = ir.to_proto(node)
    types: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for value in node.inputs:
        if value is None or value.name is None:
            continue
        if value.type is not None:
            types[value.name] = _type_proto(value)
        constant = value.const_value
        if constant is not None and math.prod(constant.shape.numpy()) <= SMALL and value.dtype != D.STRING:
            data[value.name] = ir.to_proto(constant)
    try:
        schema = onnx.defs.get_schema(node.op_type, *_version(node.domain))
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=_imports())
    except (onnx.shape_inference.InferenceError, onnx.defs.SchemaError, RuntimeError, KeyError) as error:
        raise UnsupportedError(f"its inputs do not fit it: {str(error)[-160:]}") from error
    for value in outputs:
        if value.name in found:
            _set(value, found[value.name])


def _version(domain: str) -> tuple[int, str]:
    return (released_versions()[1], "") if not domain else (onnx.helper.VERSION_TABLE[-1][3], domain)


def _imports() -> list[Any]:
    return [onnx.helper.make_opsetid("", released_versions()[1])]


def _type_proto(value: ir.Value) -> Any:
    shape = None if value.shape is None else [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    return onnx.helper.make_tensor_type_proto(int(value.dtype or 0), shape)


def _set(value: ir.Value, found: Any) -> None:
    tensor = found.tensor_type
    value.type = ir.TensorType(ir.DataType(tensor.elem_type))
    if tensor.HasField("shape"):
        value.shape = ir.Shape([
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim
        ])  # fmt: skip
