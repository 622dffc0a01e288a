"""Control flow on native code: If, Loop, Scan and SequenceMap whose bodies are compiled, and called from here.

What a body reads from around it are inputs of its own. A turn of a loop costs a call of native code, some microseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import ExecutionError, InvalidModelError, UnsupportedOperatorError
from sardonyx.plan import Plan
from sardonyx.providers.base import Array, CompileOptions, Provider, StepTime
from sardonyx.providers.partition import bodies, node_name, operator, partition, reads
from sardonyx.providers.search import SEARCHES, search_refusal

if TYPE_CHECKING:
    import onnx_ir as ir

_FIRST_SCAN = 9
"""The opset since which Scan has no batch axis."""


def is_control(node: ir.Node) -> bool:
    """Whether this is a node with bodies that can be run here."""
    if node.domain == "com.microsoft":
        return node.op_type in SEARCHES
    return node.domain in ("", "ai.onnx") and node.op_type in ("If", "Loop", "Scan", "SequenceMap")


def placed(node: ir.Node, model: ir.Model, providers: Sequence[Provider]) -> tuple[str, str]:
    """Why the node cannot run here, or nothing, and what is to be said of its bodies when it can.

    A body's nodes go to the first of `providers` that claims them, as a model's do; some must go to the very first.
    """
    around = [value for body in bodies(node) for value in _captured(body)]
    for value in (*node.inputs, *node.outputs, *around):
        if value is not None and value.name and value.type is None:
            return f"the type of {value.name!r} is not known", ""
    refusal = search_refusal(node) if node.op_type in SEARCHES else ""
    if refusal:
        return refusal, ""
    hosted: dict[str, None] = {}
    native = False
    for body in bodies(node):
        try:
            placements = partition(body_model(model, body), providers).placements
        except UnsupportedOperatorError as error:
            return f"in its body: {error.what}", ""
        elsewhere = [placement.op for placement in placements if placement.provider != providers[0].name]
        hosted.update(dict.fromkeys(elsewhere))
        native |= any(placement.provider != providers[-1].name for placement in placements) or not placements
    if not native:
        return f"no native code for its bodies ({', '.join(hosted)})", ""
    return "", "native bodies" + (f", but for {', '.join(hosted)}" if hosted else "")


def body_model(model: ir.Model, body: ir.Graph) -> ir.Model:
    """A body as a model of its own: after its inputs those values around it that it reads, but for constants."""
    import onnx_ir as ir

    around = _captured(body)
    constants = [value for value in around if _is_constant(value)]
    view = ir.GraphView(
        [*body.inputs, *(value for value in around if not _is_constant(value))],
        body.outputs,
        nodes=list(body),
        initializers=[*body.initializers.values(), *constants],
        opset_imports=model.graph.opset_imports,
        name=body.name or "body",
    )
    return ir.Model(view.clone(), ir_version=model.ir_version)


def _captured(body: ir.Graph) -> list[ir.Value]:
    """The values around a body that it reads or returns, each once, in order."""
    inside = {*body.inputs, *body.initializers.values(), *(value for node in body for value in node.outputs)}
    read = [value for node in body for value in reads(node)] + list(body.outputs)
    return [value for value in dict.fromkeys(read) if value not in inside]


def _is_constant(value: ir.Value) -> bool:
    return value.const_value is not None and not value.is_graph_input()


class ControlExecutable:
    """A graph of one node, If, Loop or Scan. Nothing changes between runs but the profile."""

    def __init__(self, model: ir.Model, providers: Sequence[Provider], options: CompileOptions) -> None:
        graph = model.graph
        (node,) = graph
        self._name, self._op = node_name(node), operator(node)
        slots = {value: slot for slot, value in enumerate(graph.inputs)}
        self._constants: list[Any] = []

        def slot_of(value: ir.Value) -> int:
            if value not in slots:
                assert value.const_value is not None
                slots[value] = len(slots)
                self._constants.append(value.const_value.numpy())
            return slots[value]

        def compiled(name: str) -> _Body:
            body = node.attributes[name].as_graph()
            around = tuple(slot_of(value) for value in _captured(body) if not _is_constant(value))
            return _Body(_compiled(body_model(model, body), providers, options), around)

        given = tuple(None if value is None else slot_of(value) for value in node.inputs)
        version = node.version or graph.opset_imports.get("", _FIRST_SCAN)
        batched = node.op_type == "Scan" and version < _FIRST_SCAN
        self._act = (_BatchScan if batched else _KINDS[node.op_type])(node, given, compiled)
        positions = {value: index for index, value in enumerate(node.outputs) if value.name}
        self._chosen = [positions[value] for value in graph.outputs]
        self._timed = options.profile
        self._times: list[StepTime] = []

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See `providers.base.Executable`."""
        start = time.perf_counter_ns()
        results = self._act([*inputs, *self._constants])
        if self._timed:
            self._times = [StepTime(self._name, self._op, start, time.perf_counter_ns() - start)]
        given = {id(array) for array in (*inputs, *self._constants)}
        outputs = [results[index] for index in self._chosen]
        return [output.copy() if id(output) in given and output is not None else output for output in outputs]

    def profile(self) -> list[StepTime]:
        """See `providers.base.Executable`."""
        return list(self._times)


@dataclass(frozen=True)
class _Body:
    """A compiled body, and the slots of the values around it that it reads after its own inputs."""

    run: Callable[[Sequence[Any]], list[Any]]
    around: tuple[int, ...]

    def __call__(self, own: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        return self.run([*own, *[values[slot] for slot in self.around]])


def _compiled(
    model: ir.Model, providers: Sequence[Provider], options: CompileOptions
) -> Callable[[Sequence[Any]], list[Any]]:
    parts = partition(model, providers)
    made = [(segment.model, segment.provider.compile(segment.model, options)) for segment in parts.segments]
    return made[0][1].run if parts.whole else Plan(model, made).run


_Compile = Callable[[str], _Body]
_Given = tuple[int | None, ...]


class _If:
    """One of two bodies."""

    def __init__(self, node: ir.Node, given: _Given, compiled: _Compile) -> None:
        self._where, (self._condition, *_) = _where(node), given
        self._then, self._else = compiled("then_branch"), compiled("else_branch")

    def __call__(self, values: list[Any]) -> list[Any]:
        assert self._condition is not None
        taken = _number(values[self._condition], "the condition", self._where)
        return (self._then if taken else self._else)([], values)


class _Loop:
    """A body again and again: as often as is said, and while its condition holds. Either may be absent."""

    def __init__(self, node: ir.Node, given: _Given, compiled: _Compile) -> None:
        self._where, self._body = _where(node), compiled("body")
        self._trips, self._condition, *carried = (*given, None, None)[: max(2, len(given))]
        self._carried = [slot for slot in carried if slot is not None]
        results = node.attributes["body"].as_graph().outputs[1 + len(self._carried) :]
        self._stacks = [_Stacked(0, False, _nothing(value, 0), self._where) for value in results]

    def __call__(self, values: list[Any]) -> list[Any]:
        limit = None if self._trips is None else _number(values[self._trips], "the trip count", self._where)
        going = self._condition is None or bool(_number(values[self._condition], "the condition", self._where))
        state = [values[slot] for slot in self._carried]
        slices: list[list[Array]] = [[] for _ in self._stacks]
        trip, yes = 0, np.array(True)
        while going and (limit is None or trip < limit):
            again, *results = self._body([np.array(trip, np.int64), yes, *state], values)
            going = bool(_number(again, "the condition", self._where))
            state = results[: len(state)]
            for pieces, piece in zip(slices, results[len(state) :], strict=True):
                pieces.append(piece)
            trip += 1
        return [*state, *(stack.joined(pieces) for stack, pieces in zip(self._stacks, slices, strict=True))]


class _Scan:
    """A body for each slice of the scan inputs, which are as long as each other along their axes."""

    def __init__(self, node: ir.Node, given: _Given, compiled: _Compile) -> None:
        self._where, self._body = _where(node), compiled("body")
        count = node.attributes.get_int("num_scan_inputs", 0)
        slots = [slot for slot in given if slot is not None]
        self._states, self._scanned = slots[: len(slots) - count], slots[len(slots) - count :]
        self._axes, self._backwards = (_ints(node, f"scan_input_{name}", count) for name in ("axes", "directions"))
        results = node.attributes["body"].as_graph().outputs[len(self._states) :]
        axes, backwards = (_ints(node, f"scan_output_{name}", len(results)) for name in ("axes", "directions"))
        self._stacks = [
            _Stacked(axis, bool(back), _nothing(value, axis), self._where)
            for value, axis, back in zip(results, axes, backwards, strict=True)
        ]

    def __call__(self, values: list[Any]) -> list[Any]:
        steps = []
        for slot, axis, back in zip(self._scanned, self._axes, self._backwards, strict=True):
            scanned = values[slot]
            if not -scanned.ndim <= axis < scanned.ndim:
                raise ExecutionError(f"no axis {axis} to scan along", where=self._where, got=str(list(scanned.shape)))
            ahead = np.moveaxis(scanned, axis, 0)
            steps.append(ahead[::-1] if back else ahead)
        lengths = {len(step) for step in steps}
        if len(lengths) != 1:
            raise ExecutionError("scan inputs of different lengths", where=self._where, got=str(sorted(lengths)))
        state, slices = _scanned(self._body, [values[slot] for slot in self._states], steps, len(self._stacks), values)
        return [*state, *(stack.joined(pieces) for stack, pieces in zip(self._stacks, slices, strict=True))]


def _scanned(
    body: _Body, state: list[Any], steps: Sequence[Array], outputs: int, values: list[Any]
) -> tuple[list[Any], list[list[Array]]]:
    """The last state, and the slices of each scan output."""
    slices: list[list[Array]] = [[] for _ in range(outputs)]
    for own in zip(*steps, strict=True):
        results = body([*state, *map(np.asarray, own)], values)
        state = results[: len(state)]
        for pieces, piece in zip(slices, results[len(state) :], strict=True):
            pieces.append(piece)
    return state, slices


class _BatchScan:
    """Scan-8: every row of a batch by itself, along its first axis, as far as its length says; zeros follow."""

    def __init__(self, node: ir.Node, given: _Given, compiled: _Compile) -> None:
        self._where, self._body = _where(node), compiled("body")
        count = node.attributes.get_int("num_scan_inputs", 0)
        self._lengths, *rest = given
        slots = [slot for slot in rest if slot is not None]
        self._states, self._scanned = slots[: len(slots) - count], slots[len(slots) - count :]
        self._backwards = _ints(node, "directions", count)
        results = node.attributes["body"].as_graph().outputs[len(self._states) :]
        self._stacks = [_Stacked(0, False, _nothing(value, 0), self._where) for value in results]

    def __call__(self, values: list[Any]) -> list[Any]:
        scanned, states = ([values[slot] for slot in slots] for slots in (self._scanned, self._states))
        sizes = {value.shape[:2] for value in scanned}
        if len(sizes) != 1 or any(value.ndim < 2 for value in scanned):
            raise ExecutionError("scan inputs of different sizes", where=self._where, got=str(sorted(sizes)))
        ((batch, longest),) = sizes
        lengths = [longest] * batch if self._lengths is None else values[self._lengths].reshape(-1).tolist()
        fits = len(lengths) == batch and all(0 <= length <= longest for length in lengths)
        if not fits or any(value.shape[:1] != (batch,) for value in states):
            raise ExecutionError("lengths or states do not fit the batch", where=self._where, got=str(lengths))
        rows: list[list[Array]] = []
        for row, length in enumerate(lengths):
            parts = zip(scanned, self._backwards, strict=True)
            steps = [value[row, :length][::-1] if back else value[row, :length] for value, back in parts]
            state, slices = _scanned(self._body, [value[row] for value in states], steps, len(self._stacks), values)
            stacked = (stack.joined(pieces) for stack, pieces in zip(self._stacks, slices, strict=True))
            rows.append([*state, *(_padded(array, longest) for array in stacked)])
        return [np.array(parts) for parts in zip(*rows, strict=True)]


def _padded(array: Array, length: int) -> Array:
    """With zeros up to that length."""
    return np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]), array.dtype)])


class _SequenceMap:
    """A body for each item of a sequence: of others, which are as long, the items beside it; of tensors themselves."""

    def __init__(self, node: ir.Node, given: _Given, compiled: _Compile) -> None:
        self._where, self._body, self._results = _where(node), compiled("body"), len(node.outputs)
        self._given = [slot for slot in given if slot is not None]

    def __call__(self, values: list[Any]) -> list[Any]:
        inputs = [values[slot] for slot in self._given]
        lengths = {len(value) for value in inputs if isinstance(value, list)}
        if len(lengths) != 1:
            raise ExecutionError("sequences of different lengths", where=self._where, got=str(sorted(lengths)))
        made: list[list[Any]] = [[] for _ in range(self._results)]
        for place in range(lengths.pop()):
            own = [value[place] if isinstance(value, list) else value for value in inputs]
            for items, item in zip(made, self._body(own, values), strict=True):
                items.append(item)
        return list(made)


_KINDS: Mapping[str, Callable[[ir.Node, _Given, _Compile], Callable[[list[Any]], list[Any]]]] = {
    "If": _If,
    "Loop": _Loop,
    "Scan": _Scan,
    "SequenceMap": _SequenceMap,
    **SEARCHES,
}


@dataclass(frozen=True)
class _Stacked:
    """A scan output: its axis and direction, and what it is when there is no turn to make a slice of it."""

    axis: int
    backwards: bool
    nothing: Array
    where: str

    def joined(self, slices: list[Array]) -> Array:
        """The slices along the new axis."""
        if not slices:
            return self.nothing.copy()
        try:
            whole = np.array(slices[::-1] if self.backwards else slices)  # which is quicker than np.stack
            return whole if self.axis == 0 else np.ascontiguousarray(np.moveaxis(whole, 0, self.axis))
        except ValueError as error:
            shapes = ", ".join(sorted({str(list(piece.shape)) for piece in slices})[:4])
            raise ExecutionError(f"a scan output cannot be made: {error}", where=self.where, got=shapes) from error


def _nothing(value: ir.Value, axis: int) -> Array:
    """A scan output without slices: 0 for dims that the body leaves open."""
    dims = [dim if isinstance(dim, int) else 0 for dim in value.shape or ()]
    if not -len(dims) - 1 <= axis <= len(dims):
        raise InvalidModelError(f"no axis {axis} for a scan output", where=value.name, got=str(dims))
    dims.insert(axis if axis >= 0 else axis + len(dims) + 1, 0)
    return np.zeros(dims, value.dtype.numpy() if value.dtype is not None else np.float32)


def _ints(node: ir.Node, name: str, count: int) -> list[int]:
    """An attribute of `count` numbers, 0 when it is not given; InvalidModelError when they are more or fewer."""
    given = node.attributes.get_ints(name, None)
    found = [0] * count if given is None else [int(number) for number in given]
    if len(found) != count:
        raise InvalidModelError(f"{name} of the wrong length", where=_where(node), expected=str(count), got=str(found))
    return found


def _where(node: ir.Node) -> str:
    return f"node {node_name(node)!r} ({operator(node)})"


def _number(value: Array, what: str, where: str) -> int:
    """The one element of a tensor."""
    if value.size != 1:
        raise ExecutionError(f"{what} is not one value", where=where, got=str(list(value.shape)))
    return int(value.reshape(-1)[0])
