"""The order of work of a graph that is cut into several segments: a session's model, a body of control flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sardonyx.errors import ExecutionError

if TYPE_CHECKING:
    import onnx_ir as ir


class Runnable(Protocol):
    """What a segment was compiled to: `providers.base.Executable`, as far as it matters here."""

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """Outputs in the order of the segment's outputs."""
        ...


@dataclass(frozen=True)
class _Stage:
    """One segment: which slots it reads and writes, and which nobody reads after it."""

    executable: Runnable
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    frees: tuple[int, ...]


class Plan:
    """Runs segments one after the other over a table of values; every run has its own table."""

    def __init__(self, model: ir.Model, segments: Sequence[tuple[ir.Model, Runnable]]) -> None:
        from sardonyx.model.tensors import contents

        graph = model.graph
        slots: dict[str, int] = {value.name or "": slot for slot, value in enumerate(graph.inputs)}
        self._inputs = len(slots)
        constants: list[Any] = []
        for value in graph.outputs:
            # A graph may return an initializer as it is: no segment makes it.
            tensor = value.const_value if value.is_initializer() else None
            if tensor is not None and value.name not in slots:
                slots[value.name or ""] = len(slots)
                constants.append(contents(tensor))
        self._fixed = tuple(constants)
        names = [(_names(part.graph.inputs), _names(part.graph.outputs)) for part, _ in segments]
        for _, made in names:
            for name in made:
                slots.setdefault(name, len(slots))
        self._room = (None,) * (len(slots) - self._inputs - len(constants))
        self._outputs = tuple(slots[value.name or ""] for value in graph.outputs)
        # What came in or is constant is copied on its way out, so that no caller can change it for another.
        self._borrowed = frozenset(range(self._inputs + len(constants)))
        self._copies = not self._borrowed.isdisjoint(self._outputs)
        last = {slots[name]: index for index, (read, made) in enumerate(names) for name in (*read, *made)}
        for slot in (*self._outputs, *self._borrowed):
            last.pop(slot, None)
        self._stages = tuple(
            _Stage(
                executable,
                tuple(slots[name] for name in read),
                tuple(slots[name] for name in made),
                tuple(slot for slot, final in last.items() if final == index),
            )
            for index, ((_, executable), (read, made)) in enumerate(zip(segments, names, strict=True))
        )

    def run(self, inputs: Sequence[Any], stopped: Callable[[], bool] | None = None) -> list[Any]:
        """Outputs in the graph's order, for inputs in the graph's order.

        `stopped` is asked before each segment; ExecutionError once it says so.
        """
        values: list[Any] = [*inputs, *self._fixed, *self._room]
        for stage in self._stages:
            if stopped is not None and stopped():
                raise ExecutionError("the run was told to terminate")
            results = stage.executable.run([values[slot] for slot in stage.reads])
            for slot, result in zip(stage.writes, results, strict=True):
                values[slot] = result
            for slot in stage.frees:
                values[slot] = None
        if not self._copies:
            return [values[slot] for slot in self._outputs]
        return [
            values[slot].copy() if slot in self._borrowed and values[slot] is not None else values[slot]
            for slot in self._outputs
        ]


def _names(values: Sequence[ir.Value]) -> list[str]:
    return [value.name or "" for value in values]
