"""Operators that a graph spells out in smaller ones, put back together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from sardonyx.passes.base import Miss, Rewrite
from sardonyx.passes.pattern import COMPLETE, Match, Nearest, Pattern
from sardonyx.passes.query import ONNX, known_shape, newest_opset, opset, walk

_DEPTH, _TRIED = 12, 48
"""How many nodes below its landmark the result of an idiom may be, and how many nodes are looked at there."""


@dataclass(frozen=True)
class Built:
    """What stands for a match: nodes in order, the last of which computes its value, and constants they read."""

    nodes: Sequence[ir.Node]
    constants: Sequence[ir.Value] = ()


@dataclass(frozen=True)
class Idiom:
    """An operator of ai.onnx, `since` some version, that exporters write as a subgraph.

    A node of the operator `landmark` stands in every such subgraph and in few others: there the search begins, and
    `sardonyx optimize --explain` tells of each what was in the way. `build` makes nodes of a match for
    a model of that opset, or says why it is none after all. `same` names the value whose shape the
    result has, so that a constant of a higher rank is no match.
    """

    operator: str
    since: int
    landmark: str
    pattern: Pattern
    build: Callable[[Match, int], Built | str]
    same: str = "x"

    @cached_property
    def inside(self) -> frozenset[str]:
        """Operators a match may cover."""
        return self.pattern.operators()

    @cached_property
    def roots(self) -> frozenset[str]:
        """Operators that may compute its result."""
        return self.pattern.roots()


def recognise(model: ir.Model, idioms: Sequence[Idiom]) -> Iterator[Rewrite | Miss]:
    """A rewrite for every place where one of `idioms` fits, the first in their order; a miss for other landmarks."""
    by_landmark: dict[str, list[Idiom]] = {}
    for idiom in idioms:
        by_landmark.setdefault(idiom.landmark, []).append(idiom)
    for node in walk(model):
        if node.op_type in by_landmark and node.domain == ONNX and node.graph is not None:
            yield _recognised(model, node, by_landmark[node.op_type])


def _recognised(model: ir.Model, landmark: ir.Node, idioms: Sequence[Idiom]) -> Rewrite | Miss:
    nearest, nearest_idiom = Nearest(), idioms[0]
    for idiom in idioms:
        tried = Nearest()
        for result in _results(landmark, idiom):
            for match in idiom.pattern.match(result, Match(), tried):
                found = _rewrite(model, landmark, idiom, result, match)
                if not isinstance(found, str):
                    return found
                tried.miss(match, found, near=COMPLETE)
        if tried.depth > nearest.depth:
            nearest, nearest_idiom = tried, idiom
    return Miss(landmark, f"no {nearest_idiom.operator}: {nearest.why or 'what follows is none of its operators'}")


def _rewrite(model: ir.Model, landmark: ir.Node, idiom: Idiom, result: ir.Value, match: Match) -> Rewrite | Miss | str:
    nodes = list(dict.fromkeys(match.nodes))
    if landmark not in nodes:
        return "it is not part of the match"
    outside = _used_outside(nodes)
    if outside is not None:
        return f"{outside.name!r} is used elsewhere too"
    x = match.values.get(idiom.same)
    shapes = known_shape(x), known_shape(result)
    if shapes[0] is not None and shapes[1] is not None and len(shapes[0]) != len(shapes[1]):
        return f"the result has rank {len(shapes[1])}, {idiom.same} {len(shapes[0])}"
    newest = newest_opset(model)
    if idiom.since > newest:
        why = f"{idiom.operator} needs opset {idiom.since}, and opset {newest} is the newest allowed"
        return Miss(landmark, why)  # smaller matches are beside the point
    built = idiom.build(match, opset(model))
    if isinstance(built, str):
        return built
    built.nodes[-1].name = nodes[0].name
    for node in built.nodes:
        if node.op_type == idiom.operator and idiom.since > opset(model):
            node.version = idiom.since
    replaced = {result: built.nodes[-1].outputs[0]}
    what = f"is {idiom.operator} of {len(nodes)} nodes"
    return Rewrite(nodes[0], what, replaced, built.nodes, built.constants, remove=_in_removal_order(nodes))


def _results(landmark: ir.Node, idiom: Idiom) -> list[ir.Value]:
    """Values the landmark may be part of, farthest first: the largest match is the one that counts."""
    found: dict[ir.Node, None] = {landmark: None}
    border = [landmark]
    for _ in range(_DEPTH):
        border = [
            user
            for node in border
            for user, _ in (node.outputs[0].uses() if node.outputs else ())
            if user.op_type in idiom.inside and user.graph is landmark.graph and user not in found
        ]
        found.update(dict.fromkeys(border))
        if not border or len(found) > _TRIED:
            break
    return [node.outputs[0] for node in reversed(found) if node.op_type in idiom.roots and node.outputs]


def _used_outside(nodes: Sequence[ir.Node]) -> ir.Value | None:
    """A value computed inside, but not by the first node, that something outside reads."""
    inside = set(nodes)
    for node in nodes[1:]:
        for output in node.outputs:
            if output.is_graph_output() or any(user not in inside for user, _ in output.uses()):
                return output
    return None


def _in_removal_order(nodes: Sequence[ir.Node]) -> list[ir.Node]:
    """Each node after all that read it."""
    left, order = list(nodes), []
    while left:
        free = [n for n in left if not any(user in left for value in n.outputs for user, _ in value.uses())]
        assert free, "a match without a cycle"
        order += free
        left = [node for node in left if node not in free]
    return order
