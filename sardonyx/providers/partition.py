"""Which provider runs which node, and the model cut into as few subgraphs as that allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import prod
from typing import TYPE_CHECKING

from sardonyx.errors import UnsupportedOperatorError
from sardonyx.providers.base import Claim, Provider

if TYPE_CHECKING:
    import onnx_ir as ir

# Handing values from one provider to the next costs about as much as computing this many elements: a few
# microseconds. An island of nodes that together read and write fewer is not worth its two borders.
BORDER_ELEMENTS = 256

# Operators that look at the shape of what they are given, not at its elements.
_SHAPE_ONLY = frozenset({"Shape", "Size"})

_NO_ANSWER = Claim(False, "gave no answer for this node")


@dataclass(frozen=True)
class Placement:
    """Where a node of the optimised model runs, and why there."""

    node: str
    op: str
    provider: str
    reason: str


@dataclass(frozen=True)
class Segment:
    """Nodes one provider runs in one go: a model of its own whose values keep the names they had."""

    provider: Provider
    model: ir.Model


@dataclass(frozen=True)
class Partition:
    """A model shared out: segments in an order that can be run, and the placement of every node.

    `whole` says that one provider runs everything: then the only segment's model is the original one.
    """

    segments: tuple[Segment, ...]
    placements: tuple[Placement, ...]
    whole: bool


def partition(model: ir.Model, providers: Sequence[Provider]) -> Partition:
    """Share out the nodes of `model`, which must be valid and in topological order.

    Every node goes to the first of `providers` that claims it. Islands too small to be worth their borders
    then go to the provider around them, when that claims them too (`BORDER_ELEMENTS`). Nodes are ordered to
    change provider as rarely as their dependencies allow; so every segment is convex. What reads the results
    of a node that counts them (`Claim.counts`) is in a later segment, and a node that wants to be alone
    (`Claim.alone`) is. Weights are shared with the original model, never copied.

    UnsupportedOperatorError when no provider claims a node. Nested bodies go with the node they belong to.
    """
    nodes = list(model.graph)
    if not nodes:
        return Partition((), (), whole=False)
    claims = _claims(model, nodes, providers)
    while True:
        home, reasons = _homes(model, nodes, providers, claims)
        order = [list(range(len(nodes)))]
        if len(set(home)) > 1 or _borders(nodes, home, claims).any:
            order = _absorb(nodes, home, reasons, providers, claims)
        whole = len(order) == 1
        segments = [model] if whole else _cut(model, [[nodes[index] for index in part] for part in order])
        homes = [home[part[0]] for part in order]
        if whole or not _withdraw(nodes, list(zip(homes, order, segments, strict=True)), providers, claims):
            break
    placements = tuple(
        Placement(node_name(node), operator(node), providers[place].name, reason)
        for node, place, reason in zip(nodes, home, reasons, strict=True)
    )
    chosen = tuple(Segment(providers[place], part) for place, part in zip(homes, segments, strict=True))
    return Partition(chosen, placements, whole)


def _claims(model: ir.Model, nodes: Sequence[ir.Node], providers: Sequence[Provider]) -> list[dict[ir.Node, Claim]]:
    """Each provider's answers; the others are not asked when the first claims all nodes, none of which is to be alone,
    so that no cut can make it take a claim back.
    """
    first = dict(providers[0].claims(model))
    found = [first.get(node, _NO_ANSWER) for node in nodes]
    if all(claim.accepted and not (claim.alone or claim.counts or claim.after) for claim in found):
        return [first]
    return [first, *(dict(provider.claims(model)) for provider in providers[1:])]


def _withdraw(
    nodes: Sequence[ir.Node],
    cuts: Sequence[tuple[int, Sequence[int], ir.Model]],
    providers: Sequence[Provider],
    claims: Sequence[dict[ir.Node, Claim]],
) -> bool:
    """Take back claims that do not hold in the segments; whether there were any.

    A provider may claim a node for what it knows from nodes before it. Those can end up in another segment,
    and what was a constant then is an input. Every round takes claims back, so they come to an end.
    """
    withdrawn = False
    for place, part, segment in cuts:
        answers = providers[place].claims(segment)
        for index, copy in zip(part, segment.graph, strict=True):
            claim = answers.get(copy, _NO_ANSWER)
            if not claim.accepted:
                claims[place][nodes[index]] = Claim(False, f"{claim.reason}, once the graph is cut")
                withdrawn = True
    return withdrawn


def node_name(node: ir.Node) -> str:
    """The node's name, or the first value it computes when it has none."""
    return node.name or next((value.name for value in node.outputs if value.name), "?")


def operator(node: ir.Node) -> str:
    """The node's operator, with its domain unless that is ai.onnx."""
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def bodies(node: ir.Node) -> Iterable[ir.Graph]:
    """The graphs in a node's attributes."""
    import onnx_ir as ir

    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            yield from attribute.as_graphs()


def reads(node: ir.Node) -> list[ir.Value]:
    """The values a node reads, those its bodies capture from around it included; each once, in order."""
    import onnx_ir as ir

    found = {value: None for value in node.inputs if value is not None}
    for body in bodies(node):
        inside = set(body.inputs) | set(body.initializers.values())
        wanted: dict[ir.Value, None] = {}
        for inner in ir.traversal.RecursiveGraphIterator(body):
            inside.update(inner.outputs)
            for deeper in bodies(inner):
                inside.update(deeper.inputs, deeper.initializers.values())
                wanted.update(dict.fromkeys(deeper.outputs))
            wanted.update((value, None) for value in inner.inputs if value is not None)
        wanted.update(dict.fromkeys(body.outputs))
        found.update((value, None) for value in wanted if value not in inside)
    return list(found)


def _homes(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    providers: Sequence[Provider],
    claims: Sequence[Mapping[ir.Node, Claim]],
) -> tuple[list[int], list[str]]:
    """The first provider that claims each node, as an index, and why it is that one."""
    home: list[int] = []
    reasons: list[str] = []
    refused: list[tuple[ir.Node, str]] = []
    for node in nodes:
        declined: list[str] = []
        for index, provider in enumerate(providers):
            claim = claims[index].get(node, _NO_ANSWER)
            if claim.accepted:
                home.append(index)
                reasons.append("; ".join(declined) or claim.reason or "first choice")
                break
            declined.append(f"{provider.name}: {claim.reason or 'declined'}")
        else:
            refused.append((node, "; ".join(declined)))
    if refused:
        raise _unsupported(model, providers, refused)
    return home, reasons


def _unsupported(
    model: ir.Model, providers: Sequence[Provider], refused: Sequence[tuple[ir.Node, str]]
) -> UnsupportedOperatorError:
    node, why = refused[0]
    version = model.graph.opset_imports.get(node.domain)
    others = sorted({operator(other) for other, _ in refused[1:]} - {operator(node)})
    known = node.domain.startswith("ai.onnx") or not node.domain
    fix = "add a provider that runs it, such as 'cpu'" if known else "bring it as a model-local function or a provider"
    if others:
        fix += f"; also without a provider: {', '.join(others[:10])}" + (", ..." if len(others) > 10 else "")
    return UnsupportedOperatorError(
        f"no provider of the session runs {node.op_type} of domain {node.domain or 'ai.onnx'!r}, "
        f"opset {version if version is not None else 'not imported'} ({why})",
        where=f"node {node_name(node)!r}",
        expected=f"an operator of {' or '.join(provider.name for provider in providers)}",
        fix=fix,
    )


def _absorb(
    nodes: Sequence[ir.Node],
    home: list[int],
    reasons: list[str],
    providers: Sequence[Provider],
    claims: Sequence[Mapping[ir.Node, Claim]],
) -> list[list[int]]:
    """Give islands not worth their borders to the provider around them; returns the final segments.

    Changes `home` and `reasons`. No node moves twice, so it ends.
    """
    before = _dependencies(nodes)
    order = _schedule(before, home, _borders(nodes, home, claims))
    moved: set[int] = set()
    while True:
        islands = _islands(order, nodes, home, claims, moved)
        for segment, place, elements in islands:
            for index in segment:
                reasons[index] = (
                    f"absorbed: {providers[home[index]].name} could run it, but an island of {elements} "
                    f"elements is not worth leaving {providers[place].name} for"
                )
                home[index] = place
            moved.update(segment)
        if not islands:
            return order
        order = _schedule(before, home, _borders(nodes, home, claims))


@dataclass(frozen=True)
class _Borders:
    """Where segments end though the provider does not change: nodes of which only a run tells the dims of the
    results, nodes that are a segment of their own, and pairs of nodes of which the second needs the first's result
    before its segment is made.
    """

    counting: frozenset[int]
    alone: frozenset[int]
    apart: frozenset[tuple[int, int]]

    @property
    def any(self) -> bool:
        return bool(self.counting or self.alone or self.apart)

    def between(self, earlier: int, later: int) -> bool:
        """Whether one of these ends a segment before the other."""
        return earlier in self.counting or (earlier, later) in self.apart


def _borders(nodes: Sequence[ir.Node], home: Sequence[int], claims: Sequence[Mapping[ir.Node, Claim]]) -> _Borders:
    """The borders, where nodes run now."""
    answers = [claims[place].get(node, _NO_ANSWER) for node, place in zip(nodes, home, strict=True)]
    counting, alone = (
        frozenset(index for index, claim in enumerate(answers) if getattr(claim, name)) for name in ("counts", "alone")
    )
    producer = {value: index for index, node in enumerate(nodes) for value in node.outputs}
    apart = ((producer[value], index) for index, claim in enumerate(answers) for value in claim.after)
    return _Borders(counting, alone, frozenset(apart))


def _islands(
    order: Sequence[Sequence[int]],
    nodes: Sequence[ir.Node],
    home: Sequence[int],
    claims: Sequence[Mapping[ir.Node, Claim]],
    moved: set[int],
) -> list[tuple[Sequence[int], int, int]]:
    """Segments to give up now, no two of them neighbours: with the provider around them, their elements."""
    found: list[tuple[Sequence[int], int, int]] = []
    taken = -2
    for position, segment in enumerate(order):
        around = {home[order[p][0]] for p in (position - 1, position + 1) if 0 <= p < len(order)}
        if position == taken + 1 or len(around) != 1 or not moved.isdisjoint(segment):
            continue
        if home[segment[0]] in around:  # cut off by a node that counts
            continue
        place = around.pop()
        elements = _elements(nodes[index] for index in segment)
        if elements is None or elements > BORDER_ELEMENTS:
            continue
        if all(nodes[index] in claims[place] and claims[place][nodes[index]].accepted for index in segment):
            found.append((segment, place, elements))
            taken = position
    return found


def _elements(nodes: Iterable[ir.Node]) -> int | None:
    """How many elements the nodes read and write in all; None when a shape is open or a body may loop."""
    total = 0
    for node in nodes:
        if any(True for _ in bodies(node)):
            return None
        data = list(node.outputs) if node.op_type in _SHAPE_ONLY else [*node.inputs, *node.outputs]
        for value in data:
            if value is None or not value.name:
                continue
            dims = value.shape.dims if value.shape is not None else (None,)
            if not all(isinstance(dim, int) for dim in dims):
                return None
            total += prod(dim for dim in dims if isinstance(dim, int))
    return total


def _dependencies(nodes: Sequence[ir.Node]) -> list[list[int]]:
    """For each node the indices of those whose outputs it reads."""
    producer = {value: index for index, node in enumerate(nodes) for value in node.outputs}
    return [sorted({producer[value] for value in reads(node) if value in producer}) for node in nodes]


def _schedule(before: Sequence[Sequence[int]], home: Sequence[int], borders: _Borders) -> list[list[int]]:
    """Segments of nodes (indices, ascending) of one provider each, in an order that can be run.

    Takes all it can of one provider before it turns to the next: for two providers this changes provider as
    rarely as possible once it is known which begins, so each beginning is tried and the shortest kept.
    """
    starts = sorted({home[index] for index, earlier in enumerate(before) if not earlier})
    return min((_drain(before, home, borders, start) for start in starts), key=len)


def _drain(before: Sequence[Sequence[int]], home: Sequence[int], borders: _Borders, start: int) -> list[list[int]]:
    after: list[list[int]] = [[] for _ in before]
    for index, earlier in enumerate(before):
        for one in earlier:
            after[one].append(index)
    missing = [len(earlier) for earlier in before]
    ready: dict[int, list[int]] = {place: [] for place in sorted(set(home))}  # Heaps.
    for index, count in enumerate(missing):
        if not count:
            heappush(ready[home[index]], index)
    segments: list[list[int]] = []
    place = start
    while any(ready.values()):
        segment: list[int] = []
        held: list[int] = []  # Ready, but for a later segment: they want one, or read what was counted in this one.
        while ready[place] and borders.alone.isdisjoint(segment):
            index = heappop(ready[place])
            if segment and index in borders.alone:
                held.append(index)
                continue
            segment.append(index)
            for later in after[index]:
                missing[later] -= 1
                if not missing[later]:
                    counted = any(borders.between(one, later) and one in segment for one in before[later])
                    heappush(held if counted else ready[home[later]], later)
        for later in held:
            heappush(ready[home[later]], later)
        if segment:
            segments.append(sorted(segment))
        # Next comes whoever has the earliest node waiting: that keeps close to the model's own order.
        waiting = [place for place in ready if ready[place]]
        place = min(waiting, key=lambda place: ready[place][0], default=place)
    return segments


def _cut(model: ir.Model, segments: Sequence[Sequence[ir.Node]]) -> list[ir.Model]:
    """A model for each segment. Values keep their names; tensors are shared with the original."""
    import onnx_ir as ir

    graph = model.graph
    wanted: dict[ir.Value, int] = {value: len(segments) for value in graph.outputs}
    needs = [_needs(nodes) for nodes in segments]
    for position, values in enumerate(needs):
        for value in values:
            wanted[value] = max(wanted.get(value, 0), position)
    constant = set(graph.initializers.values()) - set(graph.inputs)
    models = []
    for position, nodes in enumerate(segments):
        made = [value for node in nodes for value in node.outputs]
        view = ir.GraphView(
            [value for value in needs[position] if value not in constant],
            [value for value in made if wanted.get(value, -1) > position],
            nodes=nodes,
            initializers=[value for value in needs[position] if value in constant],
            opset_imports=graph.opset_imports,
            name=f"{graph.name or 'graph'}.{position}",
        )
        models.append(
            ir.Model(
                view.clone(),
                ir_version=model.ir_version,
                producer_name=model.producer_name,
                functions=[function.clone() for function in model.functions.values()],
            )
        )
    return models


def _needs(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """Values read by the nodes and made by none of them; each once, in order."""
    made = {value for node in nodes for value in node.outputs}
    return [value for value in dict.fromkeys(v for node in nodes for v in reads(node)) if value not in made]
