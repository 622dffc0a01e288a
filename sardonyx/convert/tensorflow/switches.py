"""Conditions of TensorFlow 1: Switch sends a value to one of two branches, Merge takes what comes out of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sardonyx.convert.tensorflow.graph import Endpoint, Node

Guards = Mapping[Endpoint, bool]


@dataclass(frozen=True)
class Condition:
    """What a Merge depends on, and which of its inputs is alive when that is true."""

    at: Endpoint
    true_input: int

    def when(self, side: bool) -> int:
        """The input that is alive when the condition is `side`."""
        return self.true_input if side else 1 - self.true_input


class Switches:
    """Finds the condition of each Merge: the one on which its two inputs are alive on different sides."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._guards: dict[str, Guards] = {}
        self._found: dict[str, Condition | None] = {}

    def condition(self, merge: Node) -> Condition | None:
        """The condition of a Merge of two inputs, None where there is not just one."""
        if merge.name not in self._found:
            self._found[merge.name] = self._find(merge)
        return self._found[merge.name]

    def _find(self, merge: Node) -> Condition | None:
        if len(merge.inputs) != 2:
            return None
        first, second = (self._of(at) for at in merge.inputs)
        differ = [at for at, side in first.items() if second.get(at, side) != side]
        return Condition(differ[0], 0 if first[differ[0]] else 1) if len(differ) == 1 else None

    def _of(self, at: Endpoint) -> Guards:
        """The conditions, each with its side, under which `at` is computed. Control inputs count too: constants of
        a branch have nothing else."""
        stack = [at.node]
        active: set[str] = set()
        while stack:
            name = stack[-1]
            node = self._nodes.get(name)
            if name in self._guards or node is None:
                stack.pop()
                continue
            before = [*node.inputs, *(Endpoint(name) for name in node.controls)]
            open_ = [source.node for source in before if source.node not in self._guards and source.node in self._nodes]
            if open_ and name not in active and not active.intersection(open_):
                active.add(name)
                stack.extend(open_)
                continue
            active.discard(name)
            self._guards[name] = self._combined(node)
            stack.pop()
        return self._here(at)

    def _here(self, at: Endpoint) -> Guards:
        guards = dict(self._guards.get(at.node, {}))
        node = self._nodes.get(at.node)
        if node is not None and node.op in ("Switch", "RefSwitch") and len(node.inputs) == 2:
            guards[self._origin(node.inputs[1])] = at.port == 1
        return guards

    def _origin(self, at: Endpoint) -> Endpoint:
        """A condition by the value it comes from: `pred_id` is a copy of it."""
        for _ in range(100):
            node = self._nodes.get(at.node)
            if node is None or node.op != "Identity" or not node.inputs:
                break
            at = node.inputs[0]
        return at

    def _combined(self, node: Node) -> Guards:
        parts = [self._here(at) for at in node.inputs] + [self._guards.get(name, {}) for name in node.controls]
        if node.op in ("Merge", "RefMerge") and parts:
            return {at: side for at, side in parts[0].items() if all(part.get(at) == side for part in parts[1:])}
        combined: dict[Endpoint, bool] = {}
        for part in parts:
            combined.update(part)
        return combined
