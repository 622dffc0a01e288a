"""Fusion: which elementwise nodes a kernel can absorb as its epilogue.

Operators see numbers of narrow types as their register types; each one's result is rounded to the type it has.

Starting at a node's result, nodes are added in the graph's order while each is elementwise, of the same dims, and
reads only values of the group or values that are already there. The group is then cut back to the longest prefix
from which exactly one value is used outside.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.dims import is_one, same
from sardonyx.compiler.dtypes import NEAREST, DType
from sardonyx.compiler.expr import Expr, ExprBuilder
from sardonyx.compiler.program import View

if TYPE_CHECKING:
    import onnx_ir as ir

MAX_GROUP = 32
"""Nodes in one group, the first included: bounds code size and registers."""

Scalar = Callable[["ExprBuilder", "ir.Node", list[int]], int]
"""(expression builder, node, registers of its inputs) -> register of its result."""

Placement = Callable[[View], tuple[int, ...] | None]
"""How a kernel addresses an operand stretched to the group's dims; None when it cannot."""

Operand = View | np.ndarray[Any, Any]
"""A value while lowering: in memory at run time, or known now."""


@dataclass(frozen=True)
class Fusion:
    """A group of nodes as one expression.

    Leaf 0 is the kernel's own result if the group grew from one; the other leaves are `operands`, each with the
    place the kernel gave it. `output` is the one value the group defines for others.
    """

    nodes: tuple[ir.Node, ...]
    expr: Expr
    operands: tuple[tuple[View, tuple[int, ...]], ...]
    output: ir.Value

    @property
    def label(self) -> str:
        """The nodes' names."""
        return "+".join(node.name or node.op_type for node in self.nodes)


@dataclass(frozen=True)
class Own:
    """A kernel's own result: the node and value it stands for, its type, and what is applied to it first.

    `prelude` holds scalar operations, each with its second operand if it has one, such as ("add", bias).
    """

    node: ir.Node
    value: ir.Value
    dtype: DType
    prelude: tuple[tuple[str, View | None], ...] = ()


@dataclass(frozen=True)
class Fuser:
    """What is known while lowering: values so far, scalar meanings of operators, the graph's order and outputs.

    `available` gives a value that is known or already computed, else None.
    """

    available: Callable[[ir.Value], Operand | None]
    scalar: Callable[[ir.Node], Scalar | None]
    position: Mapping[ir.Node, int]
    outputs: frozenset[ir.Value]
    view: Callable[[ir.Value], View]

    def grow(self, node: ir.Node, value: ir.Value, dims: tuple[int, ...], place: Placement) -> list[ir.Node]:
        """The nodes to fuse behind `value`, a result of `node` with `dims`, in order (without `node`)."""
        inside = {value}
        members = [node]
        best: list[ir.Node] = []
        queue = [(self.position[user], user) for user in {u for u, _ in value.uses()} if user in self.position]
        heapq.heapify(queue)
        seen = {user for _, user in queue}
        while queue and len(members) < MAX_GROUP:
            _, candidate = heapq.heappop(queue)
            if not self._fits(candidate, inside, dims, place):
                continue
            members.append(candidate)
            result = candidate.outputs[0]
            inside.add(result)
            for user in {u for u, _ in result.uses()} - seen:
                if user in self.position:
                    seen.add(user)
                    heapq.heappush(queue, (self.position[user], user))
            if self._escaping(members, inside) == [result]:
                best = members[1:]
        return best

    def _fits(self, node: ir.Node, inside: set[ir.Value], dims: tuple[int, ...], place: Placement) -> bool:
        if self.scalar(node) is None:
            return False
        for value in node.inputs:
            if value is None or value in inside:
                continue
            operand = self.available(value)
            if operand is None:
                return False
            shape = operand.dims if isinstance(operand, View) else operand.shape
            if not _stretches(tuple(shape), dims):
                return False
            if isinstance(operand, np.ndarray) and operand.size == 1:
                continue
            if place(self.view(value).broadcast(dims)) is None:
                return False
        return True

    def _escaping(self, members: list[ir.Node], inside: set[ir.Value]) -> list[ir.Value]:
        group = set(members)
        return [
            value for value in inside if value in self.outputs or any(user not in group for user, _ in value.uses())
        ]

    def fuse(
        self,
        nodes: list[ir.Node],
        own: Own | None,
        dims: tuple[int, ...],
        place: Placement,
        output: ir.Value,
    ) -> Fusion:
        """The group's expression over `own` (the kernel's result, leaf 0) and operands from outside."""
        builder = ExprBuilder()
        registers: dict[ir.Value, int] = {}
        operands: list[tuple[View, tuple[int, ...]]] = []

        def operand(view: View) -> int:
            at = place(view)
            assert at is not None
            operands.append((view, at))
            return builder.cast(builder.leaf(view.dtype), view.dtype.register)

        if own is not None:
            result = builder.cast(builder.leaf(own.dtype), own.dtype.register)
            for op, view in own.prelude:
                inputs = [result] if view is None else [result, operand(view.broadcast(dims))]
                result = builder.op(op, *inputs)
            registers[own.value] = _rounded(builder, result, own.value)

        def register(value: ir.Value) -> int:
            if value not in registers:
                known = self.available(value)
                kind = DType.of(known.dtype) if isinstance(known, np.ndarray) else None
                if isinstance(known, np.ndarray) and known.size == 1 and kind is not None and not kind.is_complex:
                    return builder.const(known.reshape(-1)[0].item(), kind.register)
                registers[value] = operand(self.view(value).broadcast(dims))
            return registers[value]

        for node in nodes:
            scalar = self.scalar(node)
            assert scalar is not None
            inputs = [register(value) if value is not None else _ABSENT for value in node.inputs]
            registers[node.outputs[0]] = _rounded(builder, scalar(builder, node, inputs), node.outputs[0])
        members = nodes if own is None else [own.node, *nodes]
        result, kind = registers[output], declared_type(output)
        if output in self.outputs and kind is not None and kind.is_narrow:
            result = builder.cast(result, kind, NEAREST)
        return Fusion(tuple(members), builder.build(result), tuple(operands), output)


def declared_type(value: ir.Value) -> DType | None:
    """The compiler's type of a value; None when it has none or says none."""
    return DType.of(value.dtype.numpy()) if value.dtype is not None else None


def _rounded(builder: ExprBuilder, register: int, value: ir.Value) -> int:
    """A value as the type it has, if that is a narrow one: each operator rounds its result, fused or not."""
    kind = declared_type(value)
    if kind is None or not kind.is_narrow:
        return register
    return builder.cast(builder.cast(register, kind, NEAREST), kind.register)


_ABSENT = 1 << 30
"""Register of an optional input that is not given."""


def present(inputs: list[int], index: int) -> bool:
    """Whether optional input `index` is given."""
    return index < len(inputs) and inputs[index] != _ABSENT


def _stretches(shape: tuple[int, ...], dims: tuple[int, ...]) -> bool:
    """Whether `shape` broadcasts to `dims` without changing them."""
    if len(shape) > len(dims):
        return False
    return all(is_one(s) or same(s, d) for s, d in zip(reversed(shape), reversed(dims), strict=False))
