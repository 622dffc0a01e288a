"""What a pass is, and the runner that applies passes, checks them and tells what they did.

A pass does not change a graph: it yields `Rewrite` values, and the runner carries each out before it asks for
the next. So everything delicate (names of graph outputs, values captured by subgraphs, fresh names) stands in
one place, a trace costs nothing, and a defect is found by bisecting over the number of rewrites (`limit`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from sardonyx.passes.query import replaceable, subgraphs, walk
from sardonyx.passes.verify import Debug, verify

MAX_ROUNDS = 8
"""How often the list of passes is repeated at most. Models out of exporters need two rounds (the second finds
nothing); the bound keeps a hostile chain, in which each round enables one more rewrite, linear."""


@dataclass(frozen=True)
class Rewrite:
    """One change of a graph, as data.

    `insert` goes before `node`; every use of a key of `replace`, graph outputs included, becomes a use of its
    value; `constants` become initializers of the node's graph; `remove` and `drop` (initializers) go away.
    Outputs of inserted nodes and constants that stand in `replace` take over name, type and shape.
    """

    node: ir.Node | None
    what: str
    replace: Mapping[ir.Value, ir.Value] = field(default_factory=dict)
    insert: Sequence[ir.Node] = ()
    constants: Sequence[ir.Value] = ()
    remove: Sequence[ir.Node] = ()
    drop: Sequence[ir.Value] = ()


@dataclass(frozen=True)
class Miss:
    """A node a pass is about, with the reason why it stays as it is."""

    node: ir.Node
    why: str


@dataclass(frozen=True)
class Pass:
    """A named source of rewrites.

    `gain` says in a line what it is for, `placed` why it stands where it stands in the pipeline; `exact` is
    whether every rewrite leaves all results as they are, bit for bit.
    """

    name: str
    gain: str
    placed: str
    exact: bool
    rewrites: Callable[[ir.Model], Iterator[Rewrite | Miss]]

    def __call__(self, model: ir.Model) -> PassResult:
        """Apply all rewrites of this pass to `model`, in place."""
        return run(model, [self], rounds=1)


@dataclass(frozen=True)
class Event:
    """What a pass did to a node (`applied`), or why it left it alone. `node` is its name, maybe empty."""

    pass_name: str
    node: str
    op_type: str
    what: str
    applied: bool


Trace = Callable[[Event], None]


@dataclass(frozen=True)
class Change:
    """What one turn of a pass did: how many rewrites, and the nodes of all graphs before and after it."""

    pass_name: str
    rewrites: int
    before: int
    after: int


@dataclass(frozen=True)
class PassResult:
    """The model, what was applied to it in order, and what each turn of a pass that did anything came to."""

    model: ir.Model
    events: tuple[Event, ...]
    changes: tuple[Change, ...] = ()

    @property
    def modified(self) -> bool:
        """Whether anything was applied."""
        return bool(self.events)


def run(
    model: ir.Model,
    passes: Sequence[Pass],
    *,
    rounds: int = MAX_ROUNDS,
    limit: int | None = None,
    trace: Trace | None = None,
    debug: Debug | None = None,
) -> PassResult:
    """Apply `passes` in order to `model`, in place, again and again until none finds anything.

    `limit` stops after that many rewrites, for bisection. Raises CompileError, which names the pass, when
    `debug` is given and a pass broke the graph or changed its results.
    """
    names = _Names(model)
    events: list[Event] = []
    changes: list[Change] = []
    nodes = _nodes(model)
    reference = debug.evaluate(model) if debug and debug.evaluate else None
    seen: dict[str, int] = {}  # how many rewrites there were when a pass last looked at the graph
    for _ in range(rounds):
        before_round = len(events)
        for step in passes:
            before_pass = len(events)
            if seen.get(step.name) == before_pass:
                continue
            seen[step.name] = before_pass
            for found in step.rewrites(model):
                event = _event(step, found)
                if isinstance(found, Rewrite):
                    if limit is not None and len(events) >= limit:
                        return PassResult(model, tuple(events), tuple(changes))
                    _apply(found, names)
                    events.append(event)
                if trace:
                    trace(event)
            if len(events) > before_pass:
                changes.append(Change(step.name, len(events) - before_pass, nodes, _nodes(model)))
                nodes = changes[-1].after
            if debug and len(events) > before_pass:
                fix = f"this is a defect of the pass; look at the rewrites up to limit={len(events)}"
                verify(model, f"pass {step.name}", debug, reference, fix)
        if len(events) == before_round:
            break
    return PassResult(model, tuple(events), tuple(changes))


def _nodes(model: ir.Model) -> int:
    return sum(1 for _ in walk(model))


def _event(step: Pass, found: Rewrite | Miss) -> Event:
    node = found.node
    name, op_type = (node.name or "", node.op_type) if node else ("", "")
    if isinstance(found, Rewrite):
        return Event(step.name, name, op_type, found.what, applied=True)
    return Event(step.name, name, op_type, found.why, applied=False)


class _Names:
    """All value names of a model, gathered when the first fresh one is asked for."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._taken: set[str] | None = None

    def fresh(self, wish: str) -> str:
        if self._taken is None:
            self._taken = {name for name in _value_names(self._model) if name}
        name, count = wish, 1
        while name in self._taken:
            name, count = f"{wish}_{count}", count + 1
        self._taken.add(name)
        return name


def _value_names(model: ir.Model) -> Iterator[str | None]:
    for graph in model.graphs():
        yield from (value.name for value in graph.inputs)
        yield from graph.initializers
        yield from (value.name for node in graph for value in node.outputs)


def _apply(rewrite: Rewrite, names: _Names) -> None:
    inherited = {value.name for value in (*rewrite.drop, *rewrite.replace)}
    for value in rewrite.drop:
        assert value.graph is not None and value.name is not None
        del value.graph.initializers[value.name]
    fresh = {*rewrite.constants, *(value for node in rewrite.insert for value in node.outputs)}
    for old, new in rewrite.replace.items():
        if new in fresh:
            new.name, new.type = old.name, old.type or new.type
            # A constant knows its shape better than what was inferred of the value it replaces.
            if old.shape is not None and (new.const_value is None or old.is_graph_output()):
                new.shape = old.shape
    if rewrite.node is not None:
        graph = rewrite.node.graph
        assert graph is not None
        for constant in rewrite.constants:
            if constant.name not in inherited:
                constant.name = names.fresh(constant.name or "constant")
            graph.register_initializer(constant)
        graph.insert_before(rewrite.node, rewrite.insert)
    for old, new in rewrite.replace.items():
        _replace(old, new)
    for node in rewrite.remove:
        _remove(node)


def _replace(old: ir.Value, new: ir.Value) -> None:
    assert replaceable(old, new)
    if old.is_graph_output():
        # The interface stays: the new value carries the declared name, type and shape.
        new.name, new.type = old.name, old.type or new.type
        new.shape = new.shape if old.shape is None else old.shape
    elif new.producer() is not None:
        new.type, new.shape = new.type or old.type, old.shape if new.shape is None else new.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def _remove(node: ir.Node) -> None:
    graph = node.graph
    assert graph is not None
    graph.remove(node, safe=True)
    # What its subgraphs captured is no longer used from here.
    for inner_graph in subgraphs(node):
        for inner in ir.traversal.RecursiveGraphIterator(inner_graph):
            for index in range(len(inner.inputs)):
                inner.replace_input_with(index, None)
