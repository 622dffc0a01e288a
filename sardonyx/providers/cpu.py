"""The provider `cpu`: the native compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import config
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.jit import codegen_version, host_target
from sardonyx.compiler.lower import Lowering, Rules
from sardonyx.compiler.packed import PackedWeights, session_weights
from sardonyx.compiler.program import Program
from sardonyx.compiler.target import Target, available_threads
from sardonyx.compiler.tuning import choices_for
from sardonyx.errors import ConfigError
from sardonyx.ops import operator_of
from sardonyx.ops.arithmetic import arithmetic
from sardonyx.ops.evaluate import evaluate
from sardonyx.providers.base import Availability, Claim, CompileOptions, Provider, StepTime
from sardonyx.providers.control import ControlExecutable, is_control, placed
from sardonyx.providers.partition import bodies
from sardonyx.providers.reference import ReferenceProvider
from sardonyx.runtime.executable import Dims, NativeExecutable

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.fuse import Scalar
    from sardonyx.compiler.lower import Rule

Array = np.ndarray[Any, Any]

_NATIVE = Claim(True, "native code")
_COUNTING = Claim(True, "native code", counts=True)
_FOLDED = Claim(True, "known when the program is made")
_NEVER_FOLDED = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


class CPUProvider:
    """Compiles for this machine's processor through LLVM."""

    name = "cpu"
    aliases = ("CPUExecutionProvider",)

    def availability(self) -> Availability:
        """Wherever llvmlite can make code for the processor."""
        try:
            host_target()
        except (ConfigError, ImportError, RuntimeError) as error:
            return Availability(False, str(error), "install a llvmlite that has this processor's code generator")
        return Availability(True)

    def claims(self, model: ir.Model) -> Mapping[ir.Node, Claim]:
        """Every node with a lowering for its form and types, and every node that can be computed beforehand."""
        known: set[ir.Value] = set(model.graph.initializers.values()) - set(model.graph.inputs)
        return self._claims(model, model.graph, known)

    def _claims(self, model: ir.Model, graph: ir.Graph, known: set[ir.Value]) -> dict[ir.Node, Claim]:
        """For the model's graph or a body in it; `known` grows by what is known before the run."""
        claims: dict[ir.Node, Claim] = {}
        for node in graph:
            claim = self._control(model, node, known) if is_control(node) else _claim(node, known)
            claims[node] = claim
            if claim is _FOLDED or (claim.accepted and node.op_type in ("Shape", "Size")):
                known.update(node.outputs)
        return claims

    def _control(self, model: ir.Model, node: ir.Node, known: set[ir.Value]) -> Claim:
        """A branch known before the run takes the node's place, if that can be; other bodies are called."""
        claim = _claim(node, known)
        if claim.accepted:
            branches = [self._inlined(model, body, known) for body in bodies(node)]
            if all(branch is not None for branch in branches):
                return _FOLDED if all(branches) else claim
        refusal, reason = placed(node, model, self._for_bodies)
        return Claim(False, refusal) if refusal else Claim(True, reason, counts=True, alone=True)

    def _inlined(self, model: ir.Model, body: ir.Graph, known: set[ir.Value]) -> bool | None:
        """Whether all that a body returns is known; None when its nodes could not stand in the graph around it."""
        inside = known | set(body.initializers.values())
        claims = self._claims(model, body, inside)
        if not all(claim.accepted and not (claim.counts or claim.alone) for claim in claims.values()):
            return None
        return all(_is_known(value, inside) for value in body.outputs)

    @property
    def _for_bodies(self) -> tuple[Provider, ...]:
        """Who runs the nodes of bodies: as in a session, what has no native code goes to `reference`."""
        return (self, ReferenceProvider())

    def compile(self, model: ir.Model, options: CompileOptions) -> CPUExecutable | ControlExecutable:
        """Compile; when all input dims are declared the code is ready before the first run."""
        nodes = list(model.graph)
        if len(nodes) == 1 and is_control(nodes[0]) and self.claims(model)[nodes[0]].alone:
            return ControlExecutable(model, self._for_bodies, options)
        return CPUExecutable(model, options)

    def hash(self) -> str:
        """Versions of the code generator and the processor."""
        return f"{codegen_version()}|{host_target().key}"


class CPUExecutable:
    """A compiled subgraph; a new choice of input dims makes a new program out of mostly the same kernels."""

    def __init__(self, model: ir.Model, options: CompileOptions) -> None:
        self._graph, self._packed = model.graph, session_weights()
        self._target = host_target()
        self._threads = options.threads or available_threads()
        self._native = NativeExecutable(
            self._lower,
            self._target,
            declared=[_declared(value) for value in model.graph.inputs],
            threads=self._threads,
            spin_microseconds=config.SPIN.get(),
            profile=options.profile,
        )
        dims = _declared_dims(model.graph)
        if dims is not None:
            self._native.binding(dims)

    def _lower(self, dims: Dims) -> Program:
        return lower(self._graph, dims, self._target, self._threads, self._packed)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See `providers.base.Executable`."""
        return self._native.run(inputs)

    def run_into(self, inputs: Sequence[Array], out: Sequence[Array | None]) -> list[Array]:
        """See `providers.base.WritesInto`."""
        return self._native.run(inputs, out)

    def profile(self) -> list[StepTime]:
        """See `providers.base.Executable`."""
        return [StepTime(*step) for step in self._native.times()]

    def program(self, dims: Dims | None = None) -> Program:
        """The program for these input dims: if not given the declared ones or, if open, the newest profiled run's."""
        chosen = dims if dims is not None else _declared_dims(self._graph)
        program = self._native.newest() if chosen is None else self._native.program(chosen)
        if program is None:
            raise ValueError("the inputs have symbolic dims: say which")
        return program


def lower(graph: ir.Graph, dims: Dims, target: Target, threads: int, packed: PackedWeights) -> Program:
    """The program of a graph whose inputs have these dims, for any processor, this one or another."""
    rules = Rules(_rule, _scalar, _joins, evaluate, arithmetic, _folds)
    return Lowering(graph, dims, target, rules, threads, packed, choices_for(target, threads)).run()


def _rule(node: ir.Node) -> Rule | None:
    operator = operator_of(node)
    return operator.rule if operator is not None else None


def _scalar(node: ir.Node) -> Scalar | None:
    operator = operator_of(node)
    return operator.scalar if operator is not None else None


def _folds(node: ir.Node) -> bool:
    operator = operator_of(node)
    return operator is None or operator.folds


def _joins(node: ir.Node) -> int | None:
    operator = operator_of(node)
    return operator.joins(node) if operator is not None and operator.joins is not None else None


def _declared(value: ir.Value) -> tuple[int | str | None, ...] | None:
    """An input's dims as the graph has them."""
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def _declared_dims(graph: ir.Graph) -> Dims | None:
    """The inputs' dims if all are numbers."""
    found: list[tuple[int, ...]] = []
    for value in graph.inputs:
        if value.shape is None or not all(isinstance(d, int) for d in value.shape):
            return None
        found.append(tuple(int(d) for d in value.shape if isinstance(d, int)))
    return tuple(found)


def _claim(node: ir.Node, known: set[ir.Value]) -> Claim:
    import onnx_ir as ir

    nested = any(a.type.name in ("GRAPH", "GRAPHS") for a in node.attributes.values())
    nested |= any(isinstance(value.type, ir.SequenceType | ir.OptionalType) for value in node.outputs)
    given = [value for value in node.inputs if value is not None]
    foldable = not nested and _folds(node) and node.op_type not in _NEVER_FOLDED
    if foldable and all(_is_known(v, known) for v in given):
        return _FOLDED
    operator = operator_of(node)
    if operator is None:
        return Claim(False, f"no native code for {node.domain or 'ai.onnx'}.{node.op_type}")
    for index, value in enumerate((*node.inputs, *node.outputs)):
        if value is None or (index >= len(node.inputs) and not value.name):
            continue
        tensor = value.type if type(value.type) is ir.TensorType else None
        kind = DType.of(tensor.dtype.numpy()) if tensor is not None else None
        if kind is None:
            return Claim(False, f"no native type for {value.type} of {value.name!r}")
        if index == 0 and kind not in operator.dtypes:
            return Claim(False, f"no native code for {node.op_type} of {kind.value}")
    for index in operator.known:
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is not None and not _is_known(value, known):
            return Claim(False, f"input {value.name!r} is not known before the run")
    reason = operator.supports(node) if operator.supports is not None else None
    accepted = _COUNTING if operator.counts else _NATIVE
    return accepted if reason is None else Claim(False, reason)


def _is_known(value: ir.Value, known: set[ir.Value]) -> bool:
    return value in known or (value.const_value is not None and not value.is_graph_input())
