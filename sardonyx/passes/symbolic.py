"""Dimensions as products of symbols, and the shape arithmetic of a graph in terms of them.

A dim is a number times symbols: 8, S, 2*B*S. Symbols are the names of open dims, which stand for one size wherever they
are met; an open dim without a name is known by its value and axis. Sums and the like are symbols of their own, spelled
so that equal sums are equal. So `Shape -> Gather -> Mul -> Concat` has contents that can be compared with a shape.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from sardonyx.passes.query import ONNX, small_constant

_LONGEST, _DEEPEST = 64, 100  # elements of a vector that may be a shape; nodes followed back
_NAME = re.compile(r"[A-Za-z_][\w.:/]*")


@dataclass(frozen=True)
class Dim:
    """`factor` times symbols, in order; a symbol may stand more than once."""

    factor: int
    symbols: tuple[str, ...] = ()

    def __mul__(self, other: Dim) -> Dim:
        if not self.factor * other.factor:
            return Dim(0)
        return Dim(self.factor * other.factor, tuple(sorted(self.symbols + other.symbols)))

    def __add__(self, other: Dim) -> Dim:
        if not self.factor or not other.factor or self.symbols == other.symbols:
            symbols = self.symbols or other.symbols if self.factor or other.factor else ()
            factor = self.factor + other.factor
            return Dim(factor, (self.symbols if self.factor else symbols) if factor else ())
        return Dim(1, (f"({' + '.join(sorted([str(self), str(other)]))})",))

    def __sub__(self, other: Dim) -> Dim:
        if not other.factor or self.symbols == other.symbols:
            return self + Dim(-other.factor, other.symbols)
        return Dim(1, (f"({self} - {other})",))

    def over(self, other: Dim) -> Dim | None:
        """The dim which times `other` is this one, if there is one whatever the symbols stand for."""
        if not other.factor or self.factor % other.factor:
            return None
        left = list(self.symbols)
        for symbol in other.symbols:
            if symbol not in left:
                return None
            left.remove(symbol)
        return Dim(self.factor // other.factor, tuple(left))

    @property
    def number(self) -> int | None:
        """The size if it is known."""
        return None if self.symbols else self.factor

    @property
    def is_size(self) -> bool:
        """Whether it cannot be negative: differences may be."""
        return self.factor >= 0 and not any(" - " in symbol for symbol in self.symbols)

    def __str__(self) -> str:
        factor = [] if self.factor == 1 and self.symbols else [str(self.factor)]
        return "*".join([*factor, *self.symbols])


Dims: TypeAlias = tuple[Dim, ...]


def product(dims: Sequence[Dim]) -> Dim:
    """All of them multiplied."""
    return math.prod(dims, start=Dim(1))


def dims_of(value: ir.Value | None) -> Dims | None:
    """The dims of a value; None for an unknown rank."""
    if value is None or value.shape is None:
        return None
    return tuple(_dim(size, value, axis) for axis, size in enumerate(value.shape))


def _dim(size: int | ir.SymbolicDim, value: ir.Value, axis: int) -> Dim:
    if isinstance(size, int):
        return Dim(size)
    if not size.value:
        return Dim(1, (f"{value.name}[{axis}]",))
    parts = [part.strip() for part in str(size.value).split("*")]
    if all(part.isdecimal() or _NAME.fullmatch(part) for part in parts):
        return product([Dim(int(part)) if part.isdecimal() else Dim(1, (part,)) for part in parts])
    return Dim(1, (str(size.value),))


class Contents:
    """What integer scalars and vectors hold, as far as dims tell; found once for each value."""

    def __init__(self) -> None:
        self._found: dict[ir.Value, Dims | None] = {}

    def of(self, value: ir.Value | None, depth: int = 0) -> Dims | None:
        """The elements of a scalar or vector in order; None if they are unknown or no integers."""
        if value is None or depth > _DEEPEST:
            return None
        if value not in self._found:
            self._found[value] = None  # while it is looked for
            self._found[value] = self._look(value, depth + 1)
        return self._found[value]

    def _look(self, value: ir.Value, depth: int) -> Dims | None:
        array = small_constant(value, _LONGEST)
        if array is not None:
            return tuple(Dim(int(n)) for n in array.flat) if array.ndim <= 1 and array.dtype.kind in "iu" else None
        node = value.producer()
        rule = _RULES.get(node.op_type) if node is not None and node.domain == ONNX else None
        if node is None or rule is None or (value.shape is not None and len(value.shape) > 1):
            return None
        found = rule(node, lambda index: self.of(node.inputs[index] if index < len(node.inputs) else None, depth))
        return found if found is not None and len(found) <= _LONGEST else None


Inputs: TypeAlias = Callable[[int], Dims | None]


def _shape(node: ir.Node, inputs: Inputs) -> Dims | None:
    dims = dims_of(node.inputs[0])
    if dims is None:
        return None
    return dims[slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", None))]


def _size(node: ir.Node, inputs: Inputs) -> Dims | None:
    dims = dims_of(node.inputs[0])
    return None if dims is None else (product(dims),)


def _same(node: ir.Node, inputs: Inputs) -> Dims | None:
    return inputs(0)


def _cast(node: ir.Node, inputs: Inputs) -> Dims | None:
    integers = (ir.DataType.INT64, ir.DataType.INT32)
    return inputs(0) if node.attributes.get_int("to", 0) in integers else None


def _gather(node: ir.Node, inputs: Inputs) -> Dims | None:
    source, places = inputs(0), _numbers(inputs(1))
    if source is None or places is None or not all(-len(source) <= i < len(source) for i in places):
        return None
    return tuple(source[i] for i in places)


def _slice(node: ir.Node, inputs: Inputs) -> Dims | None:
    source = inputs(0)
    if len(node.inputs) < 3 or source is None:  # attributes, before opset 10
        return None
    given = [_numbers(inputs(i)) for i in range(1, len(node.inputs)) if node.inputs[i] is not None]
    if None in given or any(one is None or len(one) != 1 for one in given):
        return None
    start, end = (one[0] for one in given[:2] if one)
    step = (_numbers(inputs(4)) or [1])[0] if len(node.inputs) > 4 else 1
    return source[start:end:step] if step > 0 else None


def _concat(node: ir.Node, inputs: Inputs) -> Dims | None:
    parts = [inputs(i) for i in range(len(node.inputs))]
    return None if None in parts else tuple(dim for part in parts if part is not None for dim in part)


def _pairs(node: ir.Node, inputs: Inputs) -> list[tuple[Dim, Dim]] | None:
    left, right = inputs(0), inputs(1)
    if left is None or right is None or (len(left) != len(right) and 1 not in (len(left), len(right))):
        return None
    count = max(len(left), len(right)) if left and right else 0
    return [(left[i % len(left)], right[i % len(right)]) for i in range(count)]


def _combined(combine: Callable[[Dim, Dim], Dim | None]) -> Callable[[ir.Node, Inputs], Dims | None]:
    def rule(node: ir.Node, inputs: Inputs) -> Dims | None:
        pairs = _pairs(node, inputs)
        results = [combine(a, b) for a, b in pairs] if pairs is not None else [None]
        return None if None in results else tuple(dim for dim in results if dim is not None)

    return rule


def _equal(left: Dim, right: Dim) -> Dim | None:
    """One or zero where the symbols do not matter; a size is never negative."""
    if left == right:
        return Dim(1)
    numbers = left.number is not None and right.number is not None
    signs = (left.is_size and (right.number or 0) < 0) or (right.is_size and (left.number or 0) < 0)
    return Dim(0) if numbers or signs else None


def _where(node: ir.Node, inputs: Inputs) -> Dims | None:
    parts = [inputs(i) for i in range(3)]
    if any(part is None or not part for part in parts):
        return None
    count = max(len(part) for part in parts if part)
    keep, yes, no = ([part[i % len(part)] for i in range(count)] for part in parts if part)
    if any(k.number is None for k in keep):
        return None
    return tuple(y if k.number else n for k, y, n in zip(keep, yes, no, strict=True))


def _constant_of_shape(node: ir.Node, inputs: Inputs) -> Dims | None:
    count, value = _numbers(inputs(0)), node.attributes.get_tensor("value", None)
    if count is None or len(count) != 1 or not 0 <= count[0] <= _LONGEST or value is None:
        return None
    return (Dim(int(value.numpy().reshape(-1)[0])),) * count[0] if value.dtype == ir.DataType.INT64 else None


def _reduce_product(node: ir.Node, inputs: Inputs) -> Dims | None:
    source = inputs(0)
    return None if source is None else (product(source),)


def _numbers(dims: Dims | None) -> list[int] | None:
    numbers = None if dims is None else [dim.number for dim in dims]
    return None if numbers is None or None in numbers else [n for n in numbers if n is not None]


_RULES: dict[str, Callable[[ir.Node, Inputs], Dims | None]] = {
    "Shape": _shape,
    "Size": _size,
    "Identity": _same,
    "Squeeze": _same,
    "Unsqueeze": _same,
    "Reshape": _same,
    "Flatten": _same,
    "Cast": _cast,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Add": _combined(lambda a, b: a + b),
    "Sub": _combined(lambda a, b: a - b),
    "Mul": _combined(lambda a, b: a * b),
    "Div": _combined(lambda a, b: a.over(b) if a.is_size and b.is_size else None),
    "Equal": _combined(_equal),
    "Where": _where,
    "ConstantOfShape": _constant_of_shape,
    "ReduceProd": _reduce_product,
}


def reshaped(dims: Dims, target: Dims, *, allowzero: bool = False) -> Dims | None:
    """The dims of Reshape of `dims` to a target, in which 0 copies a dim and -1 is what is left; None if unknown."""
    result = list(target)
    for axis, dim in enumerate(target):
        if dim.number == 0 and not allowzero:
            if axis >= len(dims):
                return None
            result[axis] = dims[axis]
    open_axes = [axis for axis, dim in enumerate(result) if dim.number == -1]
    if len(open_axes) > 1 or not all(dim.is_size for axis, dim in enumerate(result) if axis not in open_axes):
        return None
    for axis in open_axes:
        rest = product([dim for other, dim in enumerate(result) if other != axis])
        found = product(dims).over(rest)
        if found is None:
            return None
        result[axis] = found
    return tuple(result)


def target_of(dims: Dims, result: Dims) -> list[int] | None:
    """A constant target with which Reshape makes `result` of `dims`: numbers, 0 to copy and at most one -1."""
    target: list[int] = []
    for axis, dim in enumerate(result):
        if dim.number is not None:
            if dim.number <= 0:
                return None  # an empty tensor's target says too little
            target.append(dim.number)
        else:
            target.append(0 if axis < len(dims) and dims[axis] == dim else -1)
    return target if target.count(-1) <= 1 else None


def shape_of(dims: Dims, old: ir.Shape | None) -> ir.Shape:
    """Dims as a value declares them: numbers and products of names; of others what was declared before."""
    before = list(old) if old is not None and len(old) == len(dims) else [None] * len(dims)
    known = [dim.number if dim.number is not None else _symbol(dim) for dim in dims]
    return ir.Shape([size if size is not None else other for size, other in zip(known, before, strict=True)])


def _symbol(dim: Dim) -> str | None:
    return str(dim) if all(_NAME.fullmatch(symbol) for symbol in dim.symbols) else None


def as_array(dims: Dims | None, value: ir.Value) -> np.ndarray | None:
    """The contents of a scalar or vector as numbers, if they are."""
    numbers = _numbers(dims)
    shape, dtype = value.shape, value.dtype
    if numbers is None or shape is None or dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    if len(shape) > 1 or (len(shape) == 0 and len(numbers) != 1):
        return None
    return np.array(numbers if len(shape) else numbers[0], dtype.numpy())
