"""The provider `cpu`: the native compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
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
from sardonyx.model.foreign import is_known
from sardonyx.ops import OPERATORS, operator_of
from sardonyx.ops.arithmetic import arithmetic, stays_open
from sardonyx.ops.evaluate import evaluate
from sardonyx.providers.base import Availability, Claim, CompileOptions, Provider, StepTime
from sardonyx.providers.control import ControlExecutable, is_control, placed
from sardonyx.providers.coverage import FOREIGN
from sardonyx.providers.host import HostProvider
from sardonyx.providers.known import Knowledge, settled
from sardonyx.providers.partition import bodies
from sardonyx.providers.reference import ReferenceProvider
from sardonyx.providers.search import SEARCHES
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
        claims: dict[ir.Node, Claim] = {}
        settled(model.graph, lambda known: claims.update(self._claims(model, model.graph, known)))
        return claims

    def _claims(self, model: ir.Model, graph: ir.Graph, known: Knowledge) -> dict[ir.Node, Claim]:
        """For the model's graph or a body in it; `known` grows by what is known before the run."""
        claims: dict[ir.Node, Claim] = {}
        for node in graph:
            claim = self._control(model, node, known) if is_control(node) else _claim(node, known)
            known.learn(node, native=claim.accepted, folded=claim is _FOLDED)
            claims[node] = claim
        return claims

    def _control(self, model: ir.Model, node: ir.Node, known: Knowledge) -> Claim:
        """A branch known before the run takes the node's place, if that can be; other bodies are called."""
        claim = _claim(node, known)
        if claim.accepted and not claim.after:
            branches = [self._inlined(model, body, known) for body in bodies(node)]
            if all(branch is not None for branch in branches):
                return _FOLDED if all(branches) else claim
        refusal, reason = placed(node, model, self._for_bodies)
        return Claim(False, refusal) if refusal else Claim(True, reason, counts=True, alone=True)

    def _inlined(self, model: ir.Model, body: ir.Graph, known: Knowledge) -> bool | None:
        """Whether all that a body returns is known; None when its nodes could not stand in the graph around it."""
        inside = known.inside(body)
        claims = self._claims(model, body, inside)
        if not all(c.accepted and not (c.counts or c.alone or c.after) for c in claims.values()):
            return None
        known.reads.update(inside.reads)
        return all(map(inside.is_known, body.outputs))

    @property
    def _for_bodies(self) -> tuple[Provider, ...]:
        """Who runs the nodes of bodies: as in a session, what has no native code goes to `reference`."""
        return (self, HostProvider(), ReferenceProvider())

    def compile(self, model: ir.Model, options: CompileOptions) -> CPUExecutable | ControlExecutable:
        """Compile; when all input dims are declared the code is ready before the first run."""
        nodes = list(model.graph)
        if len(nodes) == 1 and is_control(nodes[0]) and self.claims(model)[nodes[0]].alone:
            return ControlExecutable(model, self._for_bodies, options)
        reads = settled(model.graph, lambda known: self._claims(model, model.graph, known)).reads
        return CPUExecutable(model, options, [i for i, value in enumerate(model.graph.inputs) if value in reads])

    def covers(self, domain: str, op: str, version: int) -> str | None:
        """See `providers.coverage`."""
        operator = OPERATORS.get((domain, op))
        if operator is not None:
            return _types_text({kind for kind in DType if not operator.dtypes.isdisjoint({kind, kind.register})})
        if domain == "" and op in ("If", "Loop", "Scan"):
            return "native bodies"
        if domain == FOREIGN and op in SEARCHES:
            return "a native body"
        return "any" if (domain, op) == ("", "Constant") else None

    def named(self, domain: str) -> list[str]:
        """See `providers.coverage`."""
        return [op for of, op in OPERATORS if of == domain] + (list(SEARCHES) if domain == FOREIGN else [])

    def hash(self) -> str:
        """Versions of the code generator and the processor."""
        return f"{codegen_version()}|{host_target().key}"


class CPUExecutable:
    """A compiled subgraph; a new choice of input dims makes a new program out of mostly the same kernels.

    `reads` are the inputs, by index, whose values programs are made for, too.
    """

    def __init__(self, model: ir.Model, options: CompileOptions, reads: Sequence[int] = ()) -> None:
        self._graph, self._reads, self._packed = model.graph, tuple(reads), session_weights()
        self._target = host_target()
        self._threads = options.threads or available_threads()
        self._native = NativeExecutable(
            self._lower,
            self._target,
            declared=[_declared(value) for value in model.graph.inputs],
            reads=self._reads,
            threads=self._threads,
            spin_microseconds=config.SPIN.get(),
            profile=options.profile,
        )
        dims = _declared_dims(model.graph)
        if dims is not None and not self._reads:
            self._native.binding(dims)

    def _lower(self, dims: Dims, values: Sequence[Array]) -> Program:
        given = {self._graph.inputs[index]: value for index, value in zip(self._reads, values, strict=True)}
        return lower(self._graph, dims, self._target, self._threads, self._packed, given)

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
        """The program for these input dims: if not given the declared ones or, if open, the newest profiled run's.

        The latter also where values of inputs shape programs.
        """
        chosen = dims if dims is not None or self._reads else _declared_dims(self._graph)
        program = self._native.newest() if chosen is None else self._native.program(chosen)
        if program is None:
            raise ValueError("the inputs have symbolic dims: say which")
        return program


def lower(
    graph: ir.Graph,
    dims: Dims,
    target: Target,
    threads: int,
    packed: PackedWeights,
    given: Mapping[ir.Value, Array] = MappingProxyType({}),
) -> Program:
    """The program of a graph whose inputs have these dims, for any processor, this one or another; some inputs are
    `given` by value.
    """
    rules = Rules(_rule, _scalar, _joins, evaluate, arithmetic, _folds, _wants, _moves)
    return Lowering(graph, dims, target, rules, threads, packed, choices_for(target, threads), given).run()


def _wants(node: ir.Node) -> list[ir.Value]:
    operator = operator_of(node)
    known = operator.known if operator is not None else ()
    return [value for index in known if index < len(node.inputs) and (value := node.inputs[index]) is not None]


_KINDS = {
    "all": set(DType),
    "floats": {kind for kind in DType if kind.is_float},
    "integers": {kind for kind in DType if kind.value.startswith(("int", "uint"))},
    "complex": {kind for kind in DType if kind.is_complex},
}


def _types_text(types: set[DType]) -> str:
    """Element types, those that go together by one word."""
    words: list[str] = []
    for word, group in _KINDS.items():
        if group <= types:
            words.append(word)
            types = types - group
    return ", ".join([*words, *(kind.value for kind in DType if kind in types)])


def _rule(node: ir.Node) -> Rule | None:
    operator = operator_of(node)
    return operator.rule if operator is not None else None


def _scalar(node: ir.Node) -> Scalar | None:
    operator = operator_of(node)
    return operator.scalar if operator is not None else None


def _folds(node: ir.Node) -> bool:
    operator = operator_of(node)
    return operator.folds if operator is not None else not is_known(node.domain, node.op_type)


def _moves(node: ir.Node) -> bool:
    operator = operator_of(node)
    return operator is not None and operator.moves


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


def _claim(node: ir.Node, known: Knowledge) -> Claim:
    import onnx_ir as ir

    nested = any(a.type.name in ("GRAPH", "GRAPHS") for a in node.attributes.values())
    nested |= any(isinstance(value.type, ir.SequenceType | ir.OptionalType) for value in node.outputs)
    given = [value for value in node.inputs if value is not None]
    # Text is none of the compiler's values, known or not.
    text = any(value.dtype == ir.DataType.STRING for value in (*given, *node.outputs))
    foldable = not nested and not text and _folds(node) and node.op_type not in _NEVER_FOLDED
    if foldable and (all(map(known.is_fixed, given)) or (stays_open(node) and all(map(known.is_known, given)))):
        return _FOLDED
    claim = _native(node, known)
    # Other operators on dims take their values, so a program serves one choice of them: it had better run natively.
    return _FOLDED if not claim.accepted and foldable and all(map(known.is_known, given)) else claim


def _native(node: ir.Node, known: Knowledge) -> Claim:
    """What native code there is for a node whose inputs are not all known."""
    import onnx_ir as ir

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
        if index == 0 and kind not in operator.dtypes and kind.register not in operator.dtypes:
            return Claim(False, f"no native code for {node.op_type} of {kind.value}")
    reason = operator.supports(node) if operator.supports is not None else None
    if reason is not None:
        return Claim(False, reason)
    after: list[ir.Value] = []
    for value in _wants(node):
        later, reason = known.demand(value)
        if reason:
            return Claim(False, reason)
        after += [value] * later
    claim = _COUNTING if operator.counts else _NATIVE
    return replace(claim, after=tuple(after)) if after else claim
