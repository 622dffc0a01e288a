"""Elements of small integer tensors, followed from shapes and constants to where an attribute depends on them.

TensorFlow computes shapes in the graph. What is known of them when a model is converted (all but the batch, mostly)
makes for reshapes, paddings and slices with constants, and settles conditions. Elements are Python's integers, symbols
of open dims as text, or None.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.convert.tensorflow.emitter import SMALL, Tensor, known_of
from sardonyx.convert.tensorflow.graph import Node

Array = np.ndarray[Any, Any]
Rule = Callable[[Node, Sequence[Any]], Any]


def known(node: Node, inputs: Sequence[Any]) -> list[Array | None] | None:
    """What is known of the node's outputs, each an array of objects or None; None where nothing is."""
    rule = RULES.get(node.op)
    if rule is None or not all(isinstance(x, Tensor) for x in inputs):
        return None
    try:
        found = rule(node, inputs)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None
    if found is None:
        return None
    listed = found if isinstance(found, list) else [found]
    return [item if item is not None and item.size <= SMALL else None for item in listed]


def _all(inputs: Sequence[Tensor]) -> list[Array] | None:
    found = [known_of(x) for x in inputs]
    return [item for item in found if item is not None] if all(item is not None for item in found) else None


def _objects(items: Any) -> Array:
    result = np.empty(np.shape(items), object)
    result[...] = items
    return result


def _shape(node: Node, inputs: Sequence[Tensor]) -> Any:
    found = [None if x.shape is None else _objects(list(x.shape)) for x in inputs]
    return found[0] if node.op == "Shape" else found


def _size(node: Node, inputs: Sequence[Tensor]) -> Any:
    shape = inputs[0].shape
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return _objects(math.prod(int(dim) for dim in shape if isinstance(dim, int)))


def _rank(node: Node, inputs: Sequence[Tensor]) -> Any:
    return None if inputs[0].shape is None else _objects(len(inputs[0].shape))


def _elementwise(function: Callable[..., Any]) -> Rule:
    def one(*items: Any) -> Any:
        return function(*items) if all(isinstance(item, int) for item in items) else None

    def rule(node: Node, inputs: Sequence[Tensor]) -> Any:
        arrays = _all(inputs)
        if arrays is None:
            return None
        return _objects(np.frompyfunc(one, len(arrays), 1)(*arrays))

    return rule


def _reduce(function: Callable[[Sequence[Any]], Any]) -> Rule:
    def rule(node: Node, inputs: Sequence[Tensor]) -> Any:
        arrays = _all(inputs)
        if arrays is None or arrays[0].ndim != 1 or sorted(arrays[1].ravel()) not in ([0], [-1]):
            return None
        items = list(arrays[0])
        value = function(items) if all(isinstance(item, int) for item in items) else None
        return _objects([value]) if node.flag("keep_dims") else _objects(value)

    return rule


def _on_arrays(function: Callable[[Node, list[Array]], Any]) -> Rule:
    def rule(node: Node, inputs: Sequence[Tensor]) -> Any:
        arrays = _all(inputs)
        return None if arrays is None else function(node, arrays)

    return rule


def _squeeze(node: Node, arrays: list[Array]) -> Any:
    axes = node.integers("squeeze_dims")
    return np.squeeze(arrays[0], tuple(axes) or None)


def _range(node: Node, arrays: list[Array]) -> Any:
    items = range(*(int(array.item()) for array in arrays))
    return _objects(items) if len(items) <= SMALL else None


def _fill(node: Node, arrays: list[Array]) -> Any:
    dims = [int(dim) for dim in arrays[0]]
    return _objects(np.full(dims, arrays[1].item(), object)) if math.prod(dims) <= SMALL else None


def _slice(node: Node, arrays: list[Array]) -> Any:
    x, starts, sizes = arrays
    return x[tuple(slice(b, None if n == -1 else b + n) for b, n in zip(starts, sizes, strict=True))]


def _strided(node: Node, arrays: list[Array]) -> Any:
    x, starts, stops, steps = arrays
    masks = {name: node.integer(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    index: list[Any] = []
    for i, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
        if masks["ellipsis"] >> i & 1:
            index.append(Ellipsis)
        elif masks["new_axis"] >> i & 1:
            index.append(None)
        elif masks["shrink_axis"] >> i & 1:
            index.append(operator.index(start))
        else:
            first = None if masks["begin"] >> i & 1 else operator.index(start)
            last = None if masks["end"] >> i & 1 else operator.index(stop)
            index.append(slice(first, last, step))
    found = x[tuple(index)]
    return found if isinstance(found, np.ndarray) else _objects(found)


def _gather(node: Node, arrays: list[Array]) -> Any:
    axis = int(arrays[2].item()) if len(arrays) > 2 else 0
    indices = arrays[1].astype(np.int64)
    if node.integer("batch_dims") or (indices < 0).any():
        return None
    return _objects(np.take(arrays[0], indices, axis=axis))


def _unpack(node: Node, arrays: list[Array]) -> Any:
    return [_objects(item) for item in np.moveaxis(arrays[0], node.integer("axis"), 0)]


def _split(node: Node, arrays: list[Array]) -> Any:
    return list(np.split(arrays[1], node.integer("num_split", 1), axis=int(arrays[0].item())))


def _div(a: int, b: int) -> int:
    """C's division."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _broadcast_args(node: Node, arrays: list[Array]) -> Any:
    return _objects(np.broadcast_shapes(*(tuple(int(dim) for dim in array) for array in arrays)))


RULES: dict[str, Rule] = {
    "Shape": _shape,
    "ShapeN": _shape,
    "Size": _size,
    "Rank": _rank,
    "Add": _elementwise(operator.add),
    "AddV2": _elementwise(operator.add),
    "Sub": _elementwise(operator.sub),
    "Mul": _elementwise(operator.mul),
    "FloorDiv": _elementwise(operator.floordiv),
    "TruncateDiv": _elementwise(_div),
    "Div": _elementwise(_div),
    "FloorMod": _elementwise(operator.mod),
    "Maximum": _elementwise(max),
    "Minimum": _elementwise(min),
    "Neg": _elementwise(operator.neg),
    "Abs": _elementwise(abs),
    "Equal": _elementwise(operator.eq),
    "NotEqual": _elementwise(operator.ne),
    "Less": _elementwise(operator.lt),
    "LessEqual": _elementwise(operator.le),
    "Greater": _elementwise(operator.gt),
    "GreaterEqual": _elementwise(operator.ge),
    "LogicalAnd": _elementwise(lambda a, b: a and b),
    "LogicalOr": _elementwise(lambda a, b: a or b),
    "LogicalNot": _elementwise(operator.not_),
    "SelectV2": _elementwise(lambda c, a, b: a if c else b),
    "Prod": _reduce(math.prod),
    "Sum": _reduce(sum),
    "Max": _reduce(max),
    "Min": _reduce(min),
    "All": _reduce(all),
    "Any": _reduce(any),
    "Pack": _on_arrays(lambda node, arrays: np.stack(arrays, node.integer("axis"))),
    "ConcatV2": _on_arrays(lambda node, arrays: np.concatenate(arrays[:-1], int(arrays[-1].item()))),
    "Concat": _on_arrays(lambda node, arrays: np.concatenate(arrays[1:], int(arrays[0].item()))),
    "Reshape": _on_arrays(lambda node, arrays: arrays[0].reshape([int(dim) for dim in arrays[1]])),
    "ExpandDims": _on_arrays(lambda node, arrays: np.expand_dims(arrays[0], int(arrays[1].item()))),
    "Squeeze": _on_arrays(_squeeze),
    "Range": _on_arrays(_range),
    "Fill": _on_arrays(_fill),
    "Slice": _on_arrays(_slice),
    "StridedSlice": _on_arrays(_strided),
    "GatherV2": _on_arrays(_gather),
    "Gather": _on_arrays(_gather),
    "Unpack": _on_arrays(_unpack),
    "Split": _on_arrays(_split),
    "BroadcastArgs": _on_arrays(_broadcast_args),
    "ReverseV2": _on_arrays(lambda node, arrays: np.flip(arrays[0], tuple(int(axis) for axis in arrays[1]))),
    "InvertPermutation": _on_arrays(lambda node, arrays: _objects(np.argsort(arrays[0].astype(np.int64)))),
    "Tile": _on_arrays(
        lambda node, arrays: np.tile(arrays[0], [int(n) for n in arrays[1]]) if sum(arrays[1]) <= SMALL else None
    ),
    "Cast": lambda node, inputs: known_of(inputs[0]) if _keeps(node, inputs[0]) else None,
}


def _keeps(node: Node, x: Tensor) -> bool:
    """Whether a cast keeps integers as they are: to wide types."""
    return node.kind("DstT").name in ("INT32", "INT64") and x.kind.name in ("INT32", "INT64", "BOOL", "UINT8")
