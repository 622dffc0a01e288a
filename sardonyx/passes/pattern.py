"""Subgraphs written down as expressions, and what a graph lacks to be one.

A pattern stands for a value. `op("Sqrt", VARIANCE)` is what a Sqrt makes of what VARIANCE stands for, `value("x")` is
anything, the same wherever the name is met again, `number(2.0)` a constant of one element. `either` gives alternatives,
which also makes nodes optional; operators that commute match in both orders. Patterns are values without state: name
them as constants and build larger ones of them.

Matching goes from a result back to what it is computed from. It yields every way in which the pattern fits; where there
is none, `Nearest` tells how far it came and what was in the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import ml_dtypes
import numpy as np
import onnx_ir as ir

from sardonyx.passes.query import ONNX, small_constant

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "And", "Or", "Equal"})
_CLOSE = 1e-6  # relative difference within which a constant is the number that a formula has
COMPLETE = 1000

Check = Callable[[ir.Node], str | None]
"""Why a node of the right operator does not fit, or None."""


@dataclass(frozen=True)
class Match:
    """Where the names of a pattern stand, and the nodes it covers, each before those it reads."""

    values: Mapping[str, ir.Value] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    nodes: tuple[ir.Node, ...] = ()

    def __getitem__(self, name: str) -> ir.Value:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values or name in self.numbers

    def node(self, name: str) -> ir.Node:
        """The node that computes a named value."""
        found = self.values[name].producer()
        assert found is not None
        return found

    def with_value(self, name: str, value: ir.Value) -> Match:
        """As this, with a name for a value."""
        return Match({**self.values, name: value}, self.numbers, self.nodes) if name else self

    def with_number(self, name: str, number: float) -> Match:
        """As this, with a name for a number."""
        return Match(self.values, {**self.numbers, name: number}, self.nodes) if name else self

    def with_node(self, node: ir.Node) -> Match:
        """As this, with another node covered."""
        return Match(self.values, self.numbers, (*self.nodes, node))


@dataclass
class Nearest:
    """How far matching came at best: the number of nodes that fitted, and why the next did not."""

    depth: int = -1
    why: str = ""

    def miss(self, found: Match, why: str, *, near: int = 0) -> None:
        """Matching ended here. A node of the right operator with something wrong is nearer (1) than another node, and
        nearest is a whole match (`COMPLETE`) that is none after all.
        """
        depth = 2 * len(found.nodes) + near
        if depth > self.depth:
            self.depth, self.why = depth, why


class Pattern(Protocol):
    """What a value may be."""

    def match(self, value: ir.Value | None, found: Match, nearest: Nearest) -> Iterator[Match]:
        """Every way in which `value` fits after what was `found` before."""
        ...

    def operators(self) -> frozenset[str]:
        """The operators a match may cover."""
        ...

    def roots(self) -> frozenset[str]:
        """The operators that may compute the value itself."""
        ...


@dataclass(frozen=True)
class Anything:
    """Any value; a named one is the same wherever its name stands."""

    name: str

    def match(self, value: ir.Value | None, found: Match, nearest: Nearest) -> Iterator[Match]:
        """See `Pattern`."""
        known = found.values.get(self.name)
        if value is None:
            nearest.miss(found, f"an input {self.name!r} is missing")
        elif known is None:
            yield found.with_value(self.name, value)
        elif known is value:
            yield found
        else:
            nearest.miss(found, f"{value.name!r} is not {known.name!r}, which the pattern has in both places")

    def operators(self) -> frozenset[str]:
        """None: what computes it is not covered."""
        return frozenset()

    def roots(self) -> frozenset[str]:
        """None."""
        return frozenset()


@dataclass(frozen=True)
class Number:
    """A constant of one element, which is `wanted` if that is given."""

    wanted: float | None
    name: str

    def match(self, value: ir.Value | None, found: Match, nearest: Nearest) -> Iterator[Match]:
        """See `Pattern`."""
        array = small_constant(value, 1)
        if array is None or array.size != 1 or array.ndim > 1 or array.dtype.kind not in "fiuV":
            what = repr(value.name) if value is not None else "a missing input"
            nearest.miss(found, f"{what} is not a constant number")
            return
        number = float(array.astype(np.float64).reshape(()))
        if self.wanted is not None and not math.isclose(number, self.wanted, rel_tol=_tolerance(array.dtype)):
            nearest.miss(found, f"{number:g} is not {self.wanted:g}")
            return
        yield found.with_number(self.name, number)

    def operators(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def roots(self) -> frozenset[str]:
        """None."""
        return frozenset()


@dataclass(frozen=True)
class Operation:
    """What a node of one operator computes; `kept` nodes are not covered, so others may read them too."""

    op_type: str
    inputs: tuple[Pattern, ...]
    name: str
    check: Check | None
    more: bool
    kept: bool

    def match(self, value: ir.Value | None, found: Match, nearest: Nearest) -> Iterator[Match]:
        """See `Pattern`."""
        known = found.values.get(self.name) if self.name else None
        if known is not None:
            if known is value:
                yield found
            else:
                nearest.miss(found, f"{value.name if value else ''!r} is not {known.name!r}, computed before")
            return
        node = value.producer() if value is not None else None
        obstacle = self._obstacle(value, node, found)
        if obstacle is not None or node is None or value is None:
            nearest.miss(found, obstacle or "an input is missing")
            return
        wrong = self.check(node) if self.check is not None else None
        if wrong is not None:
            nearest.miss(found, f"{node.name or value.name!r} ({node.op_type}): {wrong}", near=1)
            return
        here = (found if self.kept else found.with_node(node)).with_value(self.name, value)
        yield from self._inputs(tuple(node.inputs), here, nearest)
        if self.op_type in COMMUTATIVE and len(self.inputs) == 2 and node.inputs[0] is not node.inputs[1]:
            yield from self._inputs((node.inputs[1], node.inputs[0]), here, nearest)

    def _obstacle(self, value: ir.Value | None, node: ir.Node | None, found: Match) -> str | None:
        if value is None:
            return f"an input that a {self.op_type} should compute is missing"
        if node is None:
            return f"{value.name!r} is an input or a constant, not the result of {self.op_type}"
        what = f"{node.name or value.name!r} ({node.op_type})"
        if node.op_type != self.op_type or node.domain != ONNX or node.outputs[0] is not value:
            return f"{what} is not {self.op_type}"
        if found.nodes and node.graph is not found.nodes[0].graph:
            return f"{what} is in another graph"
        given = len(node.inputs)
        fits = given == len(self.inputs) or (given > len(self.inputs) and self.more)
        return None if fits else f"{what} has {given} inputs"

    def _inputs(self, given: tuple[ir.Value | None, ...], found: Match, nearest: Nearest) -> Iterator[Match]:
        def rest(index: int, found: Match) -> Iterator[Match]:
            if index == len(self.inputs):
                yield found
                return
            for more in self.inputs[index].match(given[index], found, nearest):
                yield from rest(index + 1, more)

        return rest(0, found)

    def operators(self) -> frozenset[str]:
        """See `Pattern`."""
        return frozenset().union({self.op_type}, *(one.operators() for one in self.inputs))

    def roots(self) -> frozenset[str]:
        """See `Pattern`."""
        return frozenset({self.op_type})


@dataclass(frozen=True)
class Either:
    """The first of the alternatives that fits."""

    alternatives: tuple[Pattern, ...]

    def match(self, value: ir.Value | None, found: Match, nearest: Nearest) -> Iterator[Match]:
        """See `Pattern`."""
        for one in self.alternatives:
            yield from one.match(value, found, nearest)

    def operators(self) -> frozenset[str]:
        """See `Pattern`."""
        return frozenset().union(*(one.operators() for one in self.alternatives))

    def roots(self) -> frozenset[str]:
        """See `Pattern`."""
        return frozenset().union(*(one.roots() for one in self.alternatives))


def value(name: str) -> Pattern:
    """Anything; the same value wherever the name is met."""
    return Anything(name)


def number(wanted: float | None = None, name: str = "") -> Pattern:
    """A constant scalar, or one in a vector of one: `wanted` within rounding, or any."""
    return Number(wanted, name)


def op(
    op_type: str,
    *inputs: Pattern,
    name: str = "",
    check: Check | None = None,
    more: bool = False,
    kept: bool = False,
) -> Pattern:
    """The first result of a node. `name` keeps it, and where it is met again it is the same value; `more` allows inputs
    beyond those given; `kept` says that the node stays, and others may read it.
    """
    return Operation(op_type, inputs, name, check, more, kept)


def either(*alternatives: Pattern) -> Pattern:
    """One of several, the first that fits."""
    return Either(alternatives)


def scaled(pattern: Pattern, factor: float | None = None, *, by: str = "", divided: str = "") -> Pattern:
    """A value times a number or divided by one: `factor` or its inverse, or any, named `by` or `divided`."""
    inverse = None if factor is None else 1 / factor
    return either(op("Mul", pattern, number(factor, by)), op("Div", pattern, number(inverse, divided)))


def square(pattern: Pattern) -> Pattern:
    """A value times itself; name what it is made of, or it may be the product of two."""
    return either(op("Pow", pattern, number(2.0)), op("Mul", pattern, pattern))


def root(pattern: Pattern) -> Pattern:
    """A square root."""
    return either(op("Sqrt", pattern), op("Pow", pattern, number(0.5)))


def inverse_root(pattern: Pattern) -> Pattern:
    """One over a square root."""
    one = number(1.0)
    powers = op("Pow", pattern, number(-0.5)), op("Pow", root(pattern), number(-1.0))
    return either(op("Reciprocal", root(pattern)), op("Div", one, root(pattern)), *powers)


def _tolerance(dtype: np.dtype[np.generic]) -> float:
    """Rounding to a short type moves a constant further than writing it with a few digits."""
    if dtype.kind not in "fV":
        return 0.0
    info: Any = ml_dtypes.finfo  # untyped
    return max(_CLOSE, 2 * float(info(dtype).eps))
