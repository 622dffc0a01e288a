"""The provider `host`: what native code cannot hold (strings, sequences, maps, optionals) and the user's operators."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import ExecutionError, InvalidModelError, SardonyxError
from sardonyx.model.custom import CustomOperator, attributes_of, registered
from sardonyx.providers.base import Availability, Claim, CompileOptions, StepTime
from sardonyx.providers.host_ops import HOST
from sardonyx.providers.host_ops.table import Run
from sardonyx.providers.partition import bodies, node_name, operator

if TYPE_CHECKING:
    import onnx_ir as ir

_ACCEPTED = Claim(True, "runs in NumPy")


class HostProvider:
    """Runs the operators of its table, and those the user registered, one after the other in NumPy and Python."""

    name = "host"
    aliases = ("HostExecutionProvider",)

    def availability(self) -> Availability:
        """Always."""
        return Availability(True)

    def claims(self, model: ir.Model) -> Mapping[ir.Node, Claim]:
        """Every node of an operator in the table, or registered, unless the model defines it itself."""
        return {node: _claim(node, model) for node in model.graph}

    def compile(self, model: ir.Model, options: CompileOptions) -> HostExecutable:
        """Read the attributes of all nodes."""
        return HostExecutable(model, options.profile)

    def covers(self, domain: str, op: str, version: int) -> str | None:
        """See `providers.coverage`."""
        return "" if (domain, op) in HOST else None

    def named(self, domain: str) -> list[str]:
        """See `providers.coverage`."""
        return [op for of, op in HOST if of == domain]

    def hash(self) -> str:
        """NumPy's version."""
        return f"host-numpy-{np.__version__}"


def _claim(node: ir.Node, model: ir.Model) -> Claim:
    domain = "" if node.domain == "ai.onnx" else node.domain
    if node.op_identifier() in model.functions:
        return Claim(False, "a function of the model")
    if registered(domain, node.op_type) is not None:
        return Claim(True, "registered by the user")
    row = HOST.get((domain, node.op_type))
    if row is None or any(True for _ in bodies(node)):
        return Claim(False, f"no {domain or 'ai.onnx'}.{node.op_type} in NumPy")
    reason = row.takes(node) if row.takes is not None else None
    return _ACCEPTED if reason is None else Claim(False, reason)


@dataclass(frozen=True)
class _Step:
    """A node's function, where its values are in a run's table, and which of those nobody reads after it."""

    run: Run
    where: str
    operator: str
    reads: tuple[int, ...]
    writes: tuple[int | None, ...]
    frees: tuple[int, ...]
    single: bool


class HostExecutable:
    """A graph of host operators. Nothing changes between runs but the profile."""

    def __init__(self, model: ir.Model, profile: bool) -> None:
        graph = model.graph
        slots: dict[ir.Value, int] = {value: slot for slot, value in enumerate(graph.inputs)}
        self._constants: list[Any] = []
        for value in graph.initializers.values():
            if value not in slots and value.const_value is not None:
                slots[value] = len(slots)
                self._constants.append(_weight(value.const_value))
        self._constants.append(None)  # what stands for an input not given
        self._nothing = len(slots)
        given = self._nothing + 1
        made = [value for node in graph for value in node.outputs]
        slots.update((value, slot) for slot, value in enumerate(made, given))
        self._room = [None] * len(made)
        self._outputs = tuple((slots[value], _is_plain(value)) for value in graph.outputs)
        self._plain = all(plain for _, plain in self._outputs)
        kept = {*range(given), *(slot for slot, _ in self._outputs)}
        nodes = list(graph)
        last = {slots[value]: node for node in nodes for value in (*node.inputs, *node.outputs) if value is not None}
        frees: dict[ir.Node, list[int]] = {node: [] for node in nodes}
        for slot, node in last.items():
            if slot not in kept:
                frees[node].append(slot)
        self._steps = tuple(_step(node, slots, self._nothing, frees[node]) for node in nodes)
        self._timed = profile
        self._times: list[StepTime] = []

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """See `providers.base.Executable`."""
        values = [*inputs, *self._constants, *self._room]
        times: list[StepTime] = []
        for step in self._steps:
            start = time.perf_counter_ns() if self._timed else 0
            _run_step(step, values)
            if self._timed:
                times.append(StepTime(step.where, f"host {step.operator}", start, time.perf_counter_ns() - start))
        if self._timed:
            self._times = times
        if self._plain:
            return [values[slot] for slot, _ in self._outputs]
        borrowed = {id(value) for value in (*inputs, *self._constants)}
        return [values[slot] if plain else _own(values[slot], borrowed) for slot, plain in self._outputs]

    def profile(self) -> list[StepTime]:
        """See `providers.base.Executable`."""
        return list(self._times)


def _step(node: ir.Node, slots: Mapping[ir.Value, int], nothing: int, frees: Sequence[int]) -> _Step:
    domain = "" if node.domain == "ai.onnx" else node.domain
    own = registered(domain, node.op_type)
    where = f"node {node_name(node)!r} ({operator(node)})"
    try:
        run = _custom(own, node) if own is not None else HOST[domain, node.op_type].make(node)
    except (AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
        raise InvalidModelError(f"its attributes make no sense: {error}", where=where) from error
    reads = tuple(nothing if value is None else slots[value] for value in node.inputs)
    writes = tuple(slots[value] if value.name else None for value in node.outputs)
    single = len(writes) == 1 and writes[0] is not None
    return _Step(run, where, node.op_type, reads, writes, tuple(frees), single)


def _run_step(step: _Step, values: list[Any]) -> None:
    given = [values[slot] for slot in step.reads]
    try:
        made = step.run(*given)
    except SardonyxError:
        raise
    except Exception as error:  # what Python and NumPy raise, or a user's function
        got = ", ".join(map(_described, given)) or None
        raise ExecutionError(f"{type(error).__name__}: {error}", where=step.where, got=got) from error
    if step.single and not isinstance(made, tuple):
        values[step.writes[0]] = made  # type: ignore[index]
    else:
        _put(step, values, made if isinstance(made, tuple) else (made,))
    for slot in step.frees:
        values[slot] = None


def _put(step: _Step, values: list[Any], results: tuple[Any, ...]) -> None:
    if len(results) < len(step.writes):
        expected = f"{len(step.writes)} outputs"
        raise ExecutionError(
            "fewer outputs than the node names", where=step.where, expected=expected, got=str(len(results))
        )
    for slot, result in zip(step.writes, results, strict=False):
        if slot is not None:
            values[slot] = result


def _custom(own: CustomOperator, node: ir.Node) -> Callable[..., tuple[Any, ...]]:
    """The user's function, whose results are arrays of the types inferred for them: native code may read them."""
    import onnx_ir as ir

    attributes = attributes_of(node)
    kinds = [value.type.dtype if isinstance(value.type, ir.TensorType) else None for value in node.outputs]
    declared = [None if k is None else np.dtype(object) if k.name == "STRING" else k.numpy() for k in kinds]
    ranks = [
        None if value.shape is None or kind is None else len(value.shape)
        for value, kind in zip(node.outputs, kinds, strict=True)
    ]

    def run(*inputs: Any) -> tuple[Any, ...]:
        made = own.fn(*inputs, **attributes)
        results = made if isinstance(made, tuple) else (made,)
        arrays: tuple[Any, ...] = tuple(
            one if one is None or isinstance(one, list | dict) else np.asarray(one) for one in results
        )
        for array, dtype, rank in zip(arrays, declared, ranks, strict=False):
            if dtype is not None and (not isinstance(array, np.ndarray) or array.dtype != dtype):
                raise TypeError(f"the function gives {_described(array)} where {dtype} is declared")
            if rank is not None and np.ndim(array) != rank:
                raise TypeError(f"the function gives {_described(array)} where {rank} dimensions are declared")
        return arrays

    return run


def _weight(tensor: ir.TensorProtocol) -> Any:
    array = tensor.numpy()
    if array.dtype.kind not in "OSUT":
        return array
    text = [item.decode() if isinstance(item, bytes) else item for item in array.flat]
    return np.array(text, dtype=object).reshape(array.shape)


def _is_plain(value: ir.Value) -> bool:
    """Whether it is made of maps, which share no memory with anything."""
    import onnx_ir as ir

    from sardonyx.model.types import MapType

    kind = value.type
    while isinstance(kind, ir.SequenceType | ir.OptionalType) and not isinstance(kind, MapType):
        kind = kind.elem_type
    return isinstance(kind, MapType)


def _own(value: Any, borrowed: set[int]) -> Any:
    """A result that shares no memory with inputs, constants or other results."""
    if isinstance(value, list):
        return [_own(item, borrowed) for item in value]
    if not isinstance(value, np.ndarray):
        return value.copy() if isinstance(value, dict) and id(value) in borrowed else _scalar(value)
    if id(value) in borrowed or value.base is not None or not value.flags.c_contiguous:
        return value.copy()
    borrowed.add(id(value))
    return value


def _scalar(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, np.generic) else value


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return "nothing" if value is None else type(value).__name__
