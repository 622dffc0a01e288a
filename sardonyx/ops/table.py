"""The table of operators that the compiler knows, and what each of them asks of a node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.fuse import Scalar
from sardonyx.compiler.lower import Rule

if TYPE_CHECKING:
    import onnx_ir as ir

FLOATS = frozenset({DType.F32, DType.F64})
INTEGERS = frozenset(d for d in DType if d.value.startswith(("int", "uint")) and not d.is_narrow)
NUMBERS = FLOATS | INTEGERS
BOOL = frozenset({DType.BOOL})
COMPUTED = NUMBERS | BOOL
"""All that a processor computes with. Operators that take a narrow type's register type take it, too."""
ALL = frozenset(DType)
"""For operators that only move elements."""

Support = Callable[["ir.Node"], str | None]


@dataclass(frozen=True)
class Operator:
    """One operator: either a rule that lowers it or a scalar function that says what it does to each element.

    `dtypes` are the types its first input may have; `known` the inputs that must be known when the program is
    lowered (constants, or computed from dims); `supports` gives the reason why a node's form is not native; `joins` is
    the axis along which it joins all its inputs; `counts` says that only a run tells how many results there are;
    `folds` that onnx.reference computes it, in all its forms, when all inputs are known.
    """

    name: str
    domain: str
    dtypes: frozenset[DType]
    rule: Rule | None = None
    scalar: Scalar | None = None
    known: tuple[int, ...] = ()
    supports: Support | None = None
    joins: Callable[[ir.Node], int] | None = None
    counts: bool = False
    folds: bool = True

    @property
    def moves(self) -> bool:
        """Whether it takes elements of every type, since it computes nothing with them."""
        return self.dtypes >= ALL


OPERATORS: dict[tuple[str, str], Operator] = {}
"""By domain and name; `ai.onnx` is the empty domain."""


def lowers(
    *names: str,
    dtypes: frozenset[DType],
    known: tuple[int, ...] = (),
    supports: Support | None = None,
    domain: str = "",
    joins: Callable[[ir.Node], int] | None = None,
    counts: bool = False,
    folds: bool = True,
) -> Callable[[Rule], Rule]:
    """Register a lowering rule for operators."""

    def register(rule: Rule) -> Rule:
        _add(
            Operator(name, domain, dtypes, rule, None, known, supports, joins=joins, counts=counts, folds=folds)
            for name in names
        )
        return rule

    return register


def elementwise(
    *names: str,
    dtypes: frozenset[DType],
    known: tuple[int, ...] = (),
    supports: Support | None = None,
    domain: str = "",
) -> Callable[[Scalar], Scalar]:
    """Register the scalar function of elementwise operators."""

    def register(scalar: Scalar) -> Scalar:
        _add(Operator(name, domain, dtypes, scalar=scalar, known=known, supports=supports) for name in names)
        return scalar

    return register


def _add(operators: Iterable[Operator]) -> None:
    for operator in operators:
        key = (operator.domain, operator.name)
        if key in OPERATORS:
            raise ValueError(f"operator {key} is registered twice")
        OPERATORS[key] = operator


def operator_of(node: ir.Node) -> Operator | None:
    """The table's row for a node."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    return OPERATORS.get((domain, node.op_type))


def opset(node: ir.Node) -> int:
    """The version of the node's domain that its model imports."""
    if node.version is not None:
        return node.version
    graph = node.graph
    imports = getattr(graph, "opset_imports", {}) if graph is not None else {}
    return int(imports.get(node.domain, 1))


def ints(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """An attribute of integers, None when it is not given."""
    attribute = node.attributes.get(name)
    return None if attribute is None else tuple(attribute.as_ints())


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front; ValueError when there is none such."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank} dimensions")
    return axis + rank if axis < 0 else axis


def axes_input(known: list[int] | None, node: ir.Node, rank: int) -> list[int] | None:
    """Axes given as an input (already read) or, in older opsets, as an attribute; None when not given at all.

    ValueError when one is not there or named twice.
    """
    given = ints(node, "axes")
    axes = known if known is not None else given
    if axes is None:
        return None
    found = sorted(axis_of(int(a), rank) for a in axes)
    if len(set(found)) != len(found):
        raise ValueError(f"axes {list(axes)} name one twice")
    return found
