"""Arithmetic of shapes: nodes computed while lowering from arrays of dims, some of which are open.

Such arrays hold objects (`compiler.dims.array_of`), and NumPy does the arithmetic with Python's operators. What is
not here is computed for the dims at hand, and the program is good for those only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.dims import array_of, least, most
from sardonyx.ops.table import axes_input

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]
Inputs = Sequence[Array]


def arithmetic(node: ir.Node, inputs: Sequence[Array | None]) -> Array | None:
    """The node's output as an array of objects or bits; None where the operator, or its form, is not known here."""
    compute = _OPERATORS.get(node.op_type) if not node.domain else None
    given = [array for array in inputs if array is not None]
    if compute is None or len(given) != len(inputs) or not all(array.dtype.kind in "iOb" for array in given):
        return None
    made = compute(node, given)
    return None if made is None else _settled(made)


def stays_open(node: ir.Node) -> bool:
    """Whether the node's output follows from arrays of dims without taking their values, as far as types tell.

    Bits do: they are what comparisons decided. Bodies are for others to look into.
    """
    import onnx_ir as ir

    given = {value.dtype for value in node.inputs if value is not None}
    integers = {ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL}
    if node.domain or not given <= integers or any(value.dtype not in integers for value in node.outputs):
        return False
    bodies = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
    return node.op_type in _OPERATORS or (given <= {ir.DataType.BOOL} and not bodies)


def _settled(array: Array) -> Array:
    """Plain integers where no element is open."""
    if array.dtype != object:
        return array
    return array_of(array.reshape(-1).tolist()).reshape(array.shape)


def _objects(array: Array) -> Array:
    """Python's numbers, so that nothing wraps around or is rounded before a dim comes in."""
    return array.astype(object)


def _binary(compute: Callable[[Any, Any], Any]) -> Callable[[ir.Node, Inputs], Array | None]:
    def apply(node: ir.Node, inputs: Inputs) -> Array | None:
        a, b = (_objects(array) for array in inputs)
        return np.asarray(np.frompyfunc(compute, 2, 1)(a, b), dtype=object)

    return apply


def _unary(compute: Callable[[Any], Any]) -> Callable[[ir.Node, Inputs], Array | None]:
    def apply(node: ir.Node, inputs: Inputs) -> Array | None:
        return np.asarray(np.frompyfunc(compute, 1, 1)(_objects(inputs[0])), dtype=object)

    return apply


def _compare(compute: Callable[[Any, Any], bool]) -> Callable[[ir.Node, Inputs], Array | None]:
    """Bits, which are the same for all dims that the guards of the comparison admit."""

    def apply(node: ir.Node, inputs: Inputs) -> Array | None:
        a, b = (_objects(array) for array in inputs)
        return np.asarray(np.frompyfunc(compute, 2, 1)(a, b)).astype(np.bool_)

    return apply


def _quotient(a: int, b: int) -> int:
    """Towards 0, as ONNX divides integers; dims are not negative."""
    return a // b if a >= 0 and b > 0 else int(a / b)


def _fold(compute: Callable[..., int]) -> Callable[[ir.Node, Inputs], Array | None]:
    def apply(node: ir.Node, inputs: Inputs) -> Array | None:
        result = _objects(inputs[0])
        for other in inputs[1:]:
            result = np.frompyfunc(compute, 2, 1)(result, _objects(other))
        return np.asarray(result, dtype=object)

    return apply


def _cast(node: ir.Node, inputs: Inputs) -> Array | None:
    import onnx

    to = node.attributes.get_int("to", 0)
    return inputs[0] if to in (onnx.TensorProto.INT64, onnx.TensorProto.INT32) else None


def _gather(node: ir.Node, inputs: Inputs) -> Array | None:
    data, indices = inputs
    if indices.dtype == object:
        return None
    return np.asarray(np.take(data, indices, axis=node.attributes.get_int("axis", 0)), dtype=object)


def _concat(node: ir.Node, inputs: Inputs) -> Array | None:
    return np.concatenate([_objects(array) for array in inputs], axis=node.attributes.get_int("axis", 0))


def _slice(node: ir.Node, inputs: Inputs) -> Array | None:
    data, *bounds = inputs
    if len(inputs) < 3 or any(array.dtype == object for array in bounds):
        return None
    starts, ends, *rest = ([int(i) for i in bound.reshape(-1)] for bound in bounds)
    axes = rest[0] if rest else list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    parts = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        parts[axis] = slice(start, end if end > -(1 << 62) else None, step)
    return data[tuple(parts)]


def _axes(node: ir.Node, inputs: Inputs, rank: int) -> list[int] | None:
    given = [int(a) for a in inputs[1].reshape(-1)] if len(inputs) > 1 else None
    return axes_input(given, node, rank)


def _unsqueeze(node: ir.Node, inputs: Inputs) -> Array | None:
    data = inputs[0]
    count = len(inputs[1].reshape(-1)) if len(inputs) > 1 else len(node.attributes.get_ints("axes", []))
    return np.expand_dims(data, tuple(_axes(node, inputs, data.ndim + count) or ()))


def _squeeze(node: ir.Node, inputs: Inputs) -> Array | None:
    axes = _axes(node, inputs, inputs[0].ndim)
    return np.squeeze(inputs[0], None if axes is None else tuple(axes))


def _reshape(node: ir.Node, inputs: Inputs) -> Array | None:
    data, dims = inputs[0], inputs[1] if len(inputs) > 1 else None
    if dims is None or dims.dtype == object:
        return None
    wanted = [data.shape[i] if d == 0 else int(d) for i, d in enumerate(dims)]
    return data.reshape(wanted)


def _where(node: ir.Node, inputs: Inputs) -> Array | None:
    condition, yes, no = inputs
    return np.where(condition, _objects(yes), _objects(no)) if condition.dtype == np.bool_ else None


def _reduce(compute: Callable[[Sequence[int]], int]) -> Callable[[ir.Node, Inputs], Array | None]:
    def apply(node: ir.Node, inputs: Inputs) -> Array | None:
        """Of vectors only."""
        if inputs[0].ndim != 1 or not inputs[0].size or (len(inputs) > 1 and inputs[1].size != 1):
            return None
        result = np.empty(1 if node.attributes.get_int("keepdims", 1) else (), dtype=object)
        result[...] = compute(inputs[0].tolist())
        return result

    return apply


def _same(node: ir.Node, inputs: Inputs) -> Array | None:
    return inputs[0]


_OPERATORS: dict[str, Callable[[ir.Node, Inputs], Array | None]] = {
    "Abs": _unary(abs),
    "Add": _binary(lambda a, b: a + b),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b),
    "Div": _binary(_quotient),
    "Mod": _binary(lambda a, b: a % b),
    "Min": _fold(least),
    "Max": _fold(most),
    "Equal": _compare(lambda a, b: a == b),
    "Less": _compare(lambda a, b: a < b),
    "LessOrEqual": _compare(lambda a, b: a <= b),
    "Greater": _compare(lambda a, b: a > b),
    "GreaterOrEqual": _compare(lambda a, b: a >= b),
    "Cast": _cast,
    "Concat": _concat,
    "Gather": _gather,
    "Identity": _same,
    "Neg": _unary(lambda a: -a),
    "ReduceMax": _reduce(lambda numbers: most(*numbers)),
    "ReduceMin": _reduce(lambda numbers: least(*numbers)),
    "ReduceProd": _reduce(prod),
    "ReduceSum": _reduce(sum),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""What each operator does with arrays of dims."""
