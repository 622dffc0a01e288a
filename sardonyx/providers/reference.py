"""The reference provider: onnx.reference, the oracle of tests and the fallback for what nothing else runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sardonyx.errors import ExecutionError
from sardonyx.providers.base import Array, Availability, Claim, CompileOptions, StepTime
from sardonyx.providers.partition import bodies, node_name, operator, reads

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

# Where onnx.reference keeps the operators of a domain.
_OPERATORS = {
    "": "onnx.reference.ops",
    "ai.onnx.ml": "onnx.reference.ops.aionnxml",
    "ai.onnx.preview": "onnx.reference.ops.aionnx_preview",
    "ai.onnx.preview.training": "onnx.reference.ops.aionnx_preview_training",
}

_NEWER = "sardonyx.newer"  # The domain of operators that are newer than the model's opset.

# What Python and NumPy raise when a value does not suit an operator. (NotImplementedError and RecursionError
# are RuntimeErrors, numpy.linalg.LinAlgError is a ValueError.)
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


class ReferenceProvider:
    """Runs every operator that onnx.reference implements or ONNX defines as a function, in plain NumPy."""

    @property
    def name(self) -> str:
        """`reference`."""
        return "reference"

    @property
    def aliases(self) -> tuple[str, ...]:
        """A name in onnxruntime's style."""
        return ("ReferenceExecutionProvider",)

    def availability(self) -> Availability:
        """Always available: onnx is a core dependency."""
        return Availability(True)

    def claims(self, model: ir.Model) -> dict[ir.Node, Claim]:
        """Accept a node when it, all nodes in its bodies and in the model's functions it calls can run."""
        known: dict[ir.OperatorIdentifier, str] = {}
        opsets = model.graph.opset_imports
        reasons = {node: _refusal(node, opsets, model, known) for node in model.graph}
        return {node: Claim(not reason, reason) for node, reason in reasons.items()}

    def compile(self, model: ir.Model, options: CompileOptions) -> ReferenceExecutable:
        """Prepare the evaluator. The graph's own weights are used where they lie."""
        return ReferenceExecutable(model, options.profile)

    def covers(self, domain: str, op: str, version: int) -> str | None:
        """See `providers.coverage`."""
        return None if _missing(domain, op, version) else ""

    def named(self, domain: str) -> list[str]:
        """None: those it has are the standard's."""
        return []

    def hash(self) -> str:
        """The version of onnx: it alone decides what this provider computes."""
        import onnx

        return f"reference-onnx-{onnx.__version__}"


@dataclass(frozen=True)
class _Step:
    """A node of the evaluator, by which name errors and profiles call it, and what may be freed after it."""

    node: Any
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead: tuple[str, ...]


class ReferenceExecutable:
    """A model, node by node on onnx.reference's operators. Nothing changes between runs but the profile."""

    def __init__(self, model: ir.Model, profile: bool) -> None:
        graph = model.graph
        self._inputs = [value.name or "" for value in graph.inputs]
        self._outputs = [(value.name or "", _dtype(value)) for value in graph.outputs]
        self._weights = {
            name: _weight(value.const_value)
            for name, value in graph.initializers.items()
            if value.const_value is not None
        }
        self._steps = _steps(_evaluator(model), model)
        self._timed = profile
        self._times: list[StepTime] = []

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs for `inputs`; ExecutionError names the node that failed."""
        values: dict[str, Any] = {"": None, **self._weights}
        values.update(zip(self._inputs, inputs, strict=True))
        given = {id(value) for value in values.values()}
        times: list[StepTime] = []
        with np.errstate(all="ignore"):
            for step in self._steps:
                start = time.perf_counter_ns() if self._timed else 0
                _run_step(step, values)
                if self._timed:
                    duration = time.perf_counter_ns() - start
                    times.append(StepTime(step.label, f"reference {step.node.op_type}", start, duration))
        if self._timed:
            self._times = times
        return [_own(values[name], dtype, given) for name, dtype in self._outputs]

    def profile(self) -> list[StepTime]:
        """The node times of the newest run."""
        return list(self._times)


def _run_step(step: _Step, values: dict[str, Any]) -> None:
    arguments = [values[name] for name in step.inputs]
    try:
        if step.node.need_context():
            results = step.node.run(*arguments, context=values)
        else:
            results = step.node.run(*arguments)
    except _FAILURES as error:
        raise ExecutionError(
            f"the operator failed: {_cause(error)}",
            where=f"node {step.label}",
            got=", ".join(_describe(argument) for argument in arguments) or None,
            fix="check the model's inputs and the values this node is fed with",
        ) from error
    if len(results) < len(step.outputs):
        raise ExecutionError(
            "the operator gives fewer outputs than the node names",
            where=f"node {step.label}",
            expected=str(len(step.outputs)),
            got=str(len(results)),
        )
    # It may give more: a node need not name those at the end.
    values.update(zip(step.outputs, results, strict=False))
    for name in step.dead:
        values.pop(name, None)


def _cause(error: BaseException) -> str:
    """The innermost message: onnx.reference wraps TypeError in one that only lists types."""
    while isinstance(error, TypeError) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return "nothing" if value is None else type(value).__name__


def _own(value: Any, dtype: np.dtype[Any] | None, given: set[int]) -> Any:
    """An output that shares no memory with inputs, weights or other outputs, in its declared type.

    Some of onnx.reference's operators compute in a wider type than the standard says and leave it so.
    """
    if isinstance(value, list):
        return [_own(item, None, given) for item in value]
    if not isinstance(value, np.ndarray):
        return value
    if dtype is not None and value.dtype != dtype:
        return value.astype(dtype)
    if id(value) in given or not value.flags.owndata or not value.flags.c_contiguous:
        return value.copy(order="C")
    given.add(id(value))
    return value


def _dtype(value: ir.Value) -> np.dtype[Any] | None:
    import onnx_ir as ir

    if not isinstance(value.type, ir.TensorType) or value.dtype in (None, ir.DataType.UNDEFINED):
        return None
    return value.type.dtype.numpy()


def _weight(tensor: ir.TensorProtocol) -> Array:
    import onnx_ir as ir

    array = tensor.numpy()
    if tensor.dtype == ir.DataType.STRING:
        text = [item.decode() if isinstance(item, bytes) else item for item in array.flat]
        array = np.array(text, dtype=object).reshape(array.shape)
    return array


def _evaluator(model: ir.Model) -> ReferenceEvaluator:
    """The evaluator of the model's nodes, without the graph's weights: those are fed as values."""
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    from sardonyx.model.proto import to_proto
    from sardonyx.providers.reference_ops import replacements

    graph = model.graph
    view = ir.GraphView(
        graph.inputs,
        graph.outputs,
        nodes=tuple(graph),
        opset_imports=graph.opset_imports,
        name=graph.name or "graph",
    )
    bare = ir.Model(cast(ir.Graph, view), ir_version=model.ir_version, functions=_ordered_functions(model))
    where = f"graph {graph.name!r}"
    ours = [one for domain, version in graph.opset_imports.items() for one in replacements(domain, version)]
    try:
        proto = to_proto(bare, where)
        _wrap_newer(proto, proto.graph, graph.opset_imports.get("", 1), {})
        return ReferenceEvaluator(proto, new_ops=ours)
    except _FAILURES as error:
        raise ExecutionError(
            f"onnx.reference cannot be set up for this model: {_cause(error)}",
            where=where,
            fix="check the attributes of its nodes",
        ) from error


def _wrap_newer(proto: Any, graph: Any, version: int, types: Mapping[str, Any]) -> None:
    """Make functions of functions that the model's opset lacks: passes may have put them there, for a session."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    infos = (*graph.input, *graph.value_info, *graph.output)
    types = {**types, **{info.name: info.type for info in infos}}
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _wrap_newer(proto, body, version, types)
        if node.domain or _implemented("", node.op_type, version) or not onnx.defs.has(node.op_type, newest):
            continue
        function = _function(node, newest, types)
        node.domain, node.op_type = _NEWER, f"{node.op_type}_{len(proto.functions)}"
        function.domain, function.name = node.domain, node.op_type
        del node.input[:], node.attribute[:]
        node.input.extend(function.input)
        proto.functions.append(function)
        if all(entry.domain != _NEWER for entry in proto.opset_import):
            proto.opset_import.append(onnx.helper.make_opsetid(_NEWER, 1))


def _function(node: Any, version: int, types: Mapping[str, Any]) -> Any:
    """A function without attributes that does what one node does: with its body, if that depends on types."""
    import onnx

    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    schema, known = onnx.defs.get_schema(node.op_type, version), [types.get(name) for name in node.input]
    nodes = [inner]
    if schema.has_context_dependent_function and all(known):
        written = [kind.SerializeToString() for kind in known if kind is not None]
        body = onnx.FunctionProto.FromString(schema.get_context_dependent_function(node.SerializeToString(), written))
        renamed = dict(zip((*body.input, *body.output), (*node.input, *node.output), strict=False))
        nodes = list(body.node)
        for one in nodes:
            one.input[:] = [renamed.get(name, name) for name in one.input]
            one.output[:] = [renamed.get(name, name) for name in one.output]
    inputs = [name for name in dict.fromkeys(node.input) if name]
    opsets = [onnx.helper.make_opsetid("", version)]
    return onnx.helper.make_function(_NEWER, node.op_type, inputs, list(node.output), nodes, opsets)


def _ordered_functions(model: ir.Model) -> list[ir.Function]:
    """The model's functions, each after those it calls, as the evaluator wants them."""
    calls = {
        identifier: {node.op_identifier() for node in function.all_nodes() if node.op_identifier() in model.functions}
        for identifier, function in model.functions.items()
    }
    return [model.functions[identifier] for identifier in TopologicalSorter(calls).static_order()]


def _steps(evaluator: ReferenceEvaluator, model: ir.Model) -> list[_Step]:
    """The evaluator's nodes with the intermediate values no later node reads."""
    nodes = list(model.graph)
    kept = {value.name for value in (*model.graph.outputs, *model.graph.inputs)} | set(model.graph.initializers)
    last: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in (value.name or "" for value in (*reads(node), *node.outputs)):
            last[name] = index
    dead: list[list[str]] = [[] for _ in nodes]
    for name, index in last.items():
        if name and name not in kept:
            dead[index].append(name)
    return [
        _Step(run, _label(node), tuple(run.input), tuple(run.output), tuple(names))
        for run, node, names in zip(evaluator.rt_nodes_, nodes, dead, strict=True)
    ]


def _label(node: ir.Node) -> str:
    return f"{node_name(node)!r} ({operator(node)})"


def _refusal(node: ir.Node, opsets: Mapping[str, int], model: ir.Model, known: dict[ir.OperatorIdentifier, str]) -> str:
    """Why `node` cannot run, or nothing. `known` holds the answers for the model's functions so far."""
    identifier = node.op_identifier()
    if identifier in model.functions:
        reason = _function_refusal(identifier, model, known)
    else:
        version = node.version or opsets.get(node.domain) or opsets.get("ai.onnx")
        reason = _missing(node.domain, node.op_type, version)
    if reason:
        return reason
    for body in bodies(node):
        for inner in body:
            if reason := _refusal(inner, opsets, model, known):
                return f"in its body, {_label(inner)}: {reason}"
    return ""


def _function_refusal(
    identifier: ir.OperatorIdentifier, model: ir.Model, known: dict[ir.OperatorIdentifier, str]
) -> str:
    if identifier in known:
        return known[identifier]
    known[identifier] = "the function calls itself"  # The answer for calls met while this one is looked at.
    function = model.functions[identifier]
    reason = ""
    if identifier[2]:
        reason = f"onnx.reference knows no overloaded functions ({identifier[2]!r})"
    for inner in () if reason else function:
        if reason := _refusal(inner, function.opset_imports, model, known):
            reason = f"in the function's body, {_label(inner)}: {reason}"
            break
    known[identifier] = reason
    return reason


@cache
def _missing(domain: str, op_type: str, version: int | None) -> str:
    """Why there is no implementation of an operator, or nothing when there is one."""
    if domain not in _OPERATORS:
        return f"onnx.reference knows no operators of the domain {domain!r}"
    if version is None:
        return f"the model imports no opset for the domain {domain or 'ai.onnx'!r}"
    if _implemented(domain, op_type, version):
        return ""
    return f"onnx.reference does not implement {domain or 'ai.onnx'}::{op_type} of opset {version}"


def _implemented(domain: str, op_type: str, version: int) -> bool:
    from onnx.defs import SchemaError
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import RuntimeContextError

    from sardonyx.providers.reference_ops import replacements

    if op_type in {one.__name__ for one in replacements(domain, version)}:
        return True
    if (domain, op_type) == ("", "Scan"):  # It would take the Scan of today for Scan-8.
        return False
    load = import_module(_OPERATORS[domain]).load_op
    try:
        if domain:
            load(domain, op_type, version)
        else:
            load(domain, op_type, version, evaluator_cls=ReferenceEvaluator)
    except RuntimeContextError:
        pass  # A function whose body depends on the types of its inputs: expanded when it runs.
    except (NotImplementedError, RuntimeError, ValueError, SchemaError):
        return False
    return True
