"""Writing a definition: the nodes that do what one node does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np
import onnx_ir as ir

from sardonyx.errors import UnsupportedOperatorError

Array = np.ndarray[Any, Any]
Operand: TypeAlias = "ir.Value | Array | Sequence[int] | None"
Results: TypeAlias = "ir.Value | Sequence[ir.Value | None]"
Definition: TypeAlias = "Callable[[Body], Results]"

OPSET = 24
"""The version of ai.onnx that definitions are written in; its operators must mean the same in later ones."""

DEFINITIONS: dict[tuple[str, str], Definition] = {}
"""By domain and name."""

MICROSOFT = "com.microsoft"


def defines(*names: str, domain: str = MICROSOFT) -> Callable[[Definition], Definition]:
    """Register the definition of foreign operators."""

    def register(definition: Definition) -> Definition:
        for name in names:
            if (domain, name) in DEFINITIONS:
                raise ValueError(f"operator {domain}.{name} is defined twice")
            DEFINITIONS[domain, name] = definition
        return definition

    return register


class Body:
    """Nodes in place of `node`, as they are written: `b("Add", x, y)` gives the sum.

    Arrays are constants, and lists of Python's integers int64 vectors. `tell` is asked for what is known of each new
    node's results at once, so that ranks and types can be asked for.
    """

    def __init__(self, node: ir.Node, fresh: Callable[[str], str], tell: Callable[[ir.Node], None]) -> None:
        self.node = node
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []
        self._fresh, self._tell = fresh, tell
        self._label = node.name or next((value.name for value in node.outputs if value.name), None) or node.op_type

    def __call__(self, op: str, *inputs: Operand, domain: str = "", **attributes: Any) -> ir.Value:
        """The one result of a new node; attributes that are None are left out."""
        return self.many(op, 1, *inputs, domain=domain, **attributes)[0]

    def many(self, op: str, outputs: int, *inputs: Operand, domain: str = "", **attributes: Any) -> Sequence[ir.Value]:
        """The results of a new node."""
        given = [one if one is None or isinstance(one, ir.Value) else self.constant(one) for one in inputs]
        while given and given[-1] is None:
            given.pop()
        name = self._fresh(f"{self._label}/{op}")
        made = [ir.Value(name=name if not index else self._fresh(f"{name}_{index}")) for index in range(outputs)]
        kept = {key: value for key, value in attributes.items() if value is not None}
        node = ir.node(op, given, kept, domain=domain, outputs=made, name=name)
        self.nodes.append(node)
        self._tell(node)
        return made

    def constant(self, array: Array | Sequence[int]) -> ir.Value:
        """A constant."""
        values = array if isinstance(array, np.ndarray) else np.array(array, np.int64)
        name = self._fresh(f"{self._label}/constant")
        shape = ir.Shape(list(values.shape))
        tensor = ir.Tensor(values, name=name)
        value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.constants.append(value)
        return value

    def scalar(self, number: float, like: ir.Value) -> ir.Value:
        """A number of the type of another value."""
        dtype = self.dtype(like)
        if dtype == ir.DataType.BFLOAT16:
            return self("CastLike", np.array(number, np.float32), like)
        return self.constant(np.array(number, dtype.numpy()))

    def cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        """The value as another type."""
        return value if value.dtype == to else self("Cast", value, to=int(to))

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        """A dim, as a vector of one."""
        end = axis + 1 if axis != -1 else None
        return self("Shape", value, start=axis, end=end)

    def joined(self, *parts: ir.Value | int) -> ir.Value:
        """A vector of dims, each a number or a vector."""
        return self("Concat", *(np.array([one]) if isinstance(one, int) else one for one in parts), axis=0)

    def cut(self, value: ir.Value, start: Operand, end: Operand, axis: int) -> ir.Value:
        """The places from `start` to before `end` on an axis."""
        return self("Slice", value, start, end, [axis], [1])

    def index(self, value: ir.Value, place: int, axis: int = 0) -> ir.Value:
        """One place of an axis, which goes."""
        return self("Gather", value, np.array(place), axis=axis)

    def sum(self, value: ir.Value, *others: ir.Value | None) -> ir.Value:
        """The sum of those that are given."""
        for other in others:
            value = value if other is None else self("Add", value, other)
        return value

    def input(self, index: int) -> ir.Value:
        """An input that must be given."""
        value = self.optional(index)
        return value if value is not None else self.refuse(f"input {index} is missing")

    def optional(self, index: int) -> ir.Value | None:
        """An input, or None when it is not given."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def wanted(self, index: int) -> bool:
        """Whether the node's result is given a name."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index].name)

    def string(self, name: str, default: str) -> str:
        """An attribute."""
        return self.node.attributes.get_string(name, default)

    def ints(self, name: str) -> list[int] | None:
        """An attribute, or None when it is not given."""
        found = self.node.attributes.get_ints(name, None)
        return None if found is None else list(found)

    def kept(self, *names: str) -> dict[str, Any]:
        """Those of the node's attributes, as they are."""
        return {name: self.node.attributes[name].value for name in names if name in self.node.attributes}

    def rank(self, value: ir.Value) -> int:
        """The number of dims."""
        if value.shape is None:
            self.refuse(f"the rank of {value.name!r} is not known")
        return len(value.shape)

    def dim(self, value: ir.Value, axis: int) -> int | None:
        """A dim, if it is a number."""
        size = None if value.shape is None or len(value.shape) <= max(axis, -axis - 1) else value.shape[axis]
        return size if isinstance(size, int) else None

    def known_dim(self, value: ir.Value, axis: int) -> int:
        """A dim that must be a number."""
        size = self.dim(value, axis)
        return size if size is not None else self.refuse(f"dim {axis} of {value.name!r} is not known")

    def dtype(self, value: ir.Value) -> ir.DataType:
        """The element type."""
        if value.dtype is None:
            self.refuse(f"the type of {value.name!r} is not known")
        return value.dtype

    def known(self, value: ir.Value | None) -> Array | None:
        """The elements of a constant; None for any other value."""
        if value is None or value.is_graph_input():
            return None
        maker = value.producer()
        if value.const_value is None and maker is not None and maker.op_type == "Constant" and not maker.domain:
            return next((_array(attribute) for attribute in maker.attributes.values()), None)
        return None if value.const_value is None else value.const_value.numpy()

    def refuse(self, what: str) -> NoReturn:
        """Raise: this form of the operator has no definition."""
        kind = f"{self.node.domain or 'ai.onnx'}.{self.node.op_type}"
        raise UnsupportedOperatorError(
            f"this form of {kind} is not supported: {what}", where=f"node {self.node.name or self._label!r}"
        )

    # Last in the class, since they hide the types of these names.

    def int(self, name: str, default: int | None = None) -> int:
        """An attribute; without `default` it must be given."""
        value = self.node.attributes.get_int(name, default)
        return value if value is not None else self.refuse(f"the attribute {name!r} is missing")

    def float(self, name: str, default: float) -> float:
        """An attribute."""
        return self.node.attributes.get_float(name, default)


def _array(attribute: ir.Attr) -> Array | None:
    """What a Constant's attribute holds, if it is numbers."""
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.as_tensor().numpy()
    kinds = {"INT": np.int64, "INTS": np.int64, "FLOAT": np.float32, "FLOATS": np.float32}
    kind = kinds.get(attribute.type.name)
    return None if kind is None else np.array(attribute.value, kind)


def pieces(b: Body, value: ir.Value, sizes: Sequence[int], axis: int) -> Iterator[ir.Value]:
    """The parts of these sizes along an axis."""
    start = 0
    for size in sizes:
        yield b.cut(value, [start], [start + size], axis)
        start += size
