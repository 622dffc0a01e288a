"""What is known of a graph's values when a program is made for it: constants, what follows from dims, small inputs.

Rules must know some inputs of their operators: shapes, axes, bounds. Where those are inputs of the graph, or follow
from such by the arithmetic of shapes, programs are made for their values as for dims. What a run computes in another
way is for an earlier segment: there it is a result, and here an input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING

from sardonyx.compiler.dtypes import DType
from sardonyx.ops.arithmetic import stays_open

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir

_MOST_ELEMENTS = 64
"""Of an input whose value shapes programs."""


@dataclass(frozen=True)
class Knowledge:
    """What is known of a graph's values, as far as its nodes have been looked at.

    `fixed` are the same in every program, `open` follow from dims and from the values of `reads`, inputs that programs
    are made for. `readable` maps what would follow from other small inputs to those.
    """

    fixed: set[ir.Value]
    open: set[ir.Value] = field(default_factory=set)
    reads: set[ir.Value] = field(default_factory=set)
    readable: dict[ir.Value, frozenset[ir.Value]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: ir.Graph) -> Knowledge:
        """What is known of a model's graph before any node."""
        readable = {value: frozenset({value}) for value in graph.inputs if _is_small_integer(value)}
        return cls(set(graph.initializers.values()) - set(graph.inputs), readable=readable)

    def inside(self, body: ir.Graph) -> Knowledge:
        """What is known in a body, where no inputs are read on account of the body alone."""
        return replace(
            self, fixed=self.fixed | set(body.initializers.values()), open=set(self.open), reads=set(self.reads)
        )

    def again(self) -> Knowledge:
        """What is known before any node when the inputs that turned out to be read are."""
        return replace(self, fixed=set(self.fixed), open=set(self.reads), reads=set(self.reads))

    def is_fixed(self, value: ir.Value) -> bool:
        """Whether it is the same in every program."""
        return value in self.fixed or (value.const_value is not None and not value.is_graph_input())

    def is_known(self, value: ir.Value) -> bool:
        """Whether it is known when a program is made."""
        return value in self.open or self.is_fixed(value)

    def learn(self, node: ir.Node, *, native: bool, folded: bool) -> None:
        """Note what is known of a node's outputs: it runs here if `native`, and beforehand if `folded`."""
        given = [value for value in node.inputs if value is not None]
        if native and node.op_type in ("Shape", "Size") and not node.domain:
            (self.fixed if all(_size(value) is not None for value in given) else self.open).update(node.outputs)
        elif folded:
            (self.fixed if all(map(self.is_fixed, given)) else self.open).update(node.outputs)
        elif given and stays_open(node) and all(self.is_known(v) or v in self.readable for v in given):
            sources = [source for value in given for source in self.readable.get(value, ())]
            self.readable.update(dict.fromkeys(node.outputs, frozenset(sources)))

    def demand(self, value: ir.Value) -> tuple[bool, str]:
        """Have a value known that a rule must know: whether it has to come from an earlier segment, and why it cannot
        be known at all, if so.
        """
        if self.is_known(value):
            return False, ""
        if value in self.readable:
            self.reads.update(self.readable[value])
            return False, ""
        refusal = f"input {value.name!r} is not known before the run"
        if value.dtype is None or DType.of(value.dtype.numpy()) is None:
            return False, refusal
        if (_size(value) or 0) > _MOST_ELEMENTS:
            return False, f"{refusal}, and has more than {_MOST_ELEMENTS} elements"
        if value.is_graph_input():
            self.reads.add(value)
            return False, ""
        return True, ""


def _size(value: ir.Value) -> int | None:
    """How many elements a value has, if its dims are numbers."""
    if value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        return None
    return prod(int(dim) for dim in value.shape if isinstance(dim, int))


def _is_small_integer(value: ir.Value) -> bool:
    kind = DType.of(value.dtype.numpy()) if value.dtype is not None else None
    size = _size(value)
    return kind is not None and not kind.is_float and size is not None and size <= _MOST_ELEMENTS


def settled(graph: ir.Graph, look: Callable[[Knowledge], object]) -> Knowledge:
    """What is known of a graph once `look`, which goes through its nodes, demands no more inputs to be read."""
    knowledge = Knowledge.of(graph)
    while True:
        look(knowledge)
        again = knowledge.again()
        if again.reads <= knowledge.open:
            return knowledge
        knowledge = again
