"""Lowering: a graph, with its inputs' dims bound, to a program.

Nodes are lowered in the graph's order by the rules of `sardonyx.ops`, given as a table. While lowering, a value is
either a `View` of memory at run time or an array known now; a node whose inputs are all known is evaluated at once,
so shape arithmetic leaves no trace in the program.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sardonyx.compiler.dims import Dim, broadcast_dims, hint, is_one, is_open, least, most
from sardonyx.compiler.dtypes import NEAREST, DType
from sardonyx.compiler.expr import Expr, ExprBuilder, identity
from sardonyx.compiler.forms import Forms, is_widened, narrow_type
from sardonyx.compiler.fuse import Fuser, Fusion, Operand, Own, Placement, Scalar, declared_type
from sardonyx.compiler.joins import Joins
from sardonyx.compiler.kernels.elementwise import walking
from sardonyx.compiler.kernels.turn import TILE, turning
from sardonyx.compiler.layout import dense_like
from sardonyx.compiler.packed import PackedWeights
from sardonyx.compiler.program import (
    MAX_DOMAIN,
    Buffer,
    BufferKind,
    Check,
    Computed,
    Counted,
    Kernel,
    Program,
    ProgramBuilder,
    View,
    channels_last,
    row_major,
)
from sardonyx.compiler.target import Target
from sardonyx.compiler.tuning import Choices
from sardonyx.errors import CompileError, ExecutionError, SardonyxError

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]
Shared = TypeVar("Shared")
Rule = Callable[["Lowering", "ir.Node"], None]

_ELEMENTS_PER_CHUNK = 4096
"""Elementwise work a thread takes at once: long beside an atomic addition, short beside a step."""
_CHUNKS_PER_THREAD = 6


@dataclass(frozen=True)
class Rules:
    """What operators mean: rules that lower a node, and scalar functions of elementwise operators.

    `moves` says whether a node's rule takes elements of every type, since it only moves them; `joins` is the axis along
    which a node joins all its inputs; `evaluate` computes a node from known arrays (constant
    folding at lowering), `arithmetic` one whose inputs are arrays of dims, some of them open, if that is possible;
    `folds` says whether a node may be computed so at all; `wants` are the inputs that a node's rule must know.
    """

    rule: Callable[[ir.Node], Rule | None]
    scalar: Callable[[ir.Node], Scalar | None]
    joins: Callable[[ir.Node], int | None]
    evaluate: Callable[[ir.Node, Sequence[Array | None]], list[Array]]
    arithmetic: Callable[[ir.Node, Sequence[Array | None]], Array | None]
    folds: Callable[[ir.Node], bool]
    wants: Callable[[ir.Node], Sequence[ir.Value]]
    moves: Callable[[ir.Node], bool]


class Lowering:
    """One lowering in progress: what the rules in `sardonyx.ops` work with."""

    def __init__(
        self,
        graph: ir.Graph,
        dims: Sequence[tuple[int, ...]],
        target: Target,
        rules: Rules,
        threads: int,
        packed: PackedWeights,
        choices: Choices,
        given: Mapping[ir.Value, Array],
    ) -> None:
        self.target, self.threads, self.packed, self.choices = target, threads, packed, choices
        self._graph, self._rules = graph, rules
        self._program = ProgramBuilder()
        self._values: dict[ir.Value, Operand] = {}
        self._given, self._wanted = given, _wanted(graph, rules)
        self._done: set[ir.Node] = set()
        self._outputs: dict[ir.Value, int] = {}
        for index, value in enumerate(graph.outputs):
            self._outputs.setdefault(value, index)
        self._output_buffers: dict[int, View] = {}
        self._counted: dict[ir.Value, Counted] = {}
        nodes = list(graph)
        self._nodes = nodes
        self._fuser = Fuser(
            available=self._available,
            scalar=rules.scalar,
            position={node: index for index, node in enumerate(nodes)},
            outputs=frozenset(self._outputs),
            view=self.view,
        )
        self._symbols: dict[str, int] = {}
        self._inputs = [self._input(value, size) for value, size in zip(graph.inputs, dims, strict=True)]
        self.joins = Joins(rules.joins, self._expected_dims, self.temporary)
        self._shared: dict[Hashable, Any] = {}
        self._checks: list[Check] = []
        self._zeros: Array = np.zeros(0, np.float32)
        self._forms = Forms(rules.moves, self._values, self.dims, self.converted)

    def _input(self, value: ir.Value, dims: tuple[int, ...]) -> View:
        dtype = dtype_of(value)
        for size, declared in zip(dims, value.shape or (), strict=False):
            if not isinstance(declared, int) and declared.value:
                self._symbols.setdefault(declared.value, size)
        buffer = self._program.buffer(BufferKind.INPUT, prod(dims) * dtype.size, value.name or "")
        view = View(buffer, dtype, dims, row_major(dims))
        self._values[value] = view
        return view

    # ---- values ------------------------------------------------------------------------------------------------

    def is_known(self, value: ir.Value | None) -> bool:
        """Whether `known` has an array, which to ask for may mean to compute it."""
        if value is None:
            return False
        if value in self._given:
            return True
        found = self._values.get(value)
        return value.const_value is not None if found is None else isinstance(found, np.ndarray)

    def known(self, value: ir.Value | None) -> Array | None:
        """The value if it is an array known now."""
        if value is None:
            return None
        given = self._given.get(value)
        if given is not None:
            return given
        operand = self._operand(value)
        return operand if isinstance(operand, np.ndarray) else None

    def known_ints(self, value: ir.Value | None) -> list[int] | None:
        """The elements of a value known now that are numbers, dims that are open among them."""
        array = self.known(value)
        return None if array is None else [d if isinstance(d, Dim) else int(d) for d in array.reshape(-1).tolist()]

    def view(self, value: ir.Value | None) -> View:
        """The value in memory; a known array becomes a constant of the program."""
        if value is None:
            raise CompileError("a rule asked for an input that is not given")
        if value not in self._values and self._forms.of(value) is None and is_derived(value.const_value):
            return self._derived(value)
        operand = self._operand(value)
        if isinstance(operand, View):
            return operand
        return self.constant(_typed(operand, value), value.name or "")

    def dims(self, value: ir.Value | None) -> tuple[int, ...]:
        """The value's dims."""
        if value is None:
            raise CompileError("a rule asked for the dims of an input that is not given")
        if value not in self._values and value.const_value is not None:
            return tuple(int(size) for size in value.const_value.shape.numpy())
        operand = self._values[value] if value in self._values else self._operand(value)
        return operand.dims if isinstance(operand, View) else tuple(operand.shape)

    def _expected_dims(self, value: ir.Value) -> Sequence[int | None] | None:
        """Dims that the value has or, when it is not computed yet, that shape inference says it will have."""
        if value in self._values or value.const_value is not None:
            return self.dims(value)
        if value.shape is None:
            return None
        return [d if isinstance(d, int) else self._symbols.get(d.value or "") for d in value.shape]

    def _available(self, value: ir.Value) -> Operand | None:
        return self._forms.seen(value, self._as_is)

    def _as_is(self, value: ir.Value) -> Operand | None:
        found = self._values.get(value)
        if found is None and value.const_value is not None:
            found = np.asarray(value.const_value.numpy())
            if not is_derived(value.const_value):  # which are large, and asked for once, to be packed
                self._values[value] = found
        return found

    def _derived(self, value: ir.Value) -> View:
        """A view of a tensor not computed yet, and never if no step reads it as it is."""
        tensor, dtype, dims = value.const_value, dtype_of(value), self.dims(value)
        assert tensor is not None

        def make() -> View:
            buffer = self._program.buffer(BufferKind.CONSTANT, prod(dims) * dtype.size, value.name or "", tensor.numpy)
            return View(buffer, dtype, dims, row_major(dims))

        return self.once(("derived", value), make)

    def _operand(self, value: ir.Value) -> Operand:
        found = self._available(value)
        if found is None:
            raise CompileError("a value is used before it is computed", where=value.name)
        return found

    def constant(self, array: Array, name: str = "") -> View:
        """A constant of the program."""
        return self._program.constant(array, name)

    def computed(
        self,
        make: Callable[..., Sequence[Array]],
        numbers: Sequence[int],
        results: Sequence[tuple[DType, tuple[int, ...]]],
        name: str = "",
    ) -> tuple[View, ...]:
        """The arrays that `make` returns for `numbers`, dense, as constants: made at once, or whenever the dims among
        the numbers are bound. `make` depends on nothing else; `results` are the types and dims of what it returns.
        """
        if not is_open(numbers):
            return tuple(self.constant(array, name) for array in make(*numbers))
        return self._program.computed(Computed(make, tuple(numbers), tuple(results)), name)

    def packed_weights(
        self, value: ir.Value, layout: tuple[Hashable, ...], pack: Callable[[Array], Array], label: str
    ) -> View:
        """A known value as `pack` lays it out, made once and kept in the cache; `layout` as for `PackedWeights`."""
        source, form = value.const_value if value.const_value is not None else self.known(value), self._forms.of(value)
        layout = layout if form is None else (*layout, f"{declared_type(value)} as {form}")

        def make() -> Array:
            array = self.known(value)
            assert array is not None
            self._forms.forget(value)
            return pack(array)

        assert source is not None
        return self.constant(self.packed.get(source, layout, make), label)

    def zeros(self, count: int, dtype: DType) -> View:
        """At least `count` zeros."""
        if self._zeros.size < count or self._zeros.dtype != dtype.numpy:
            self._zeros = np.zeros(max(count, 1024), dtype.numpy)
        return self._program.constant(self._zeros, "zeros")

    def once(self, key: Hashable, make: Callable[[], Shared]) -> Shared:
        """What several steps of this program can share, made for the first of them."""
        if key not in self._shared:
            self._shared[key] = make()
        found: Shared = self._shared[key]
        return found

    def define(self, value: ir.Value, operand: Operand) -> None:
        """Say what a node's output is."""
        self._values[value] = operand

    # ---- memory ------------------------------------------------------------------------------------------------

    def temporary(self, dims: tuple[int, ...], dtype: DType, strides: tuple[int, ...] | None = None) -> View:
        """Memory for an intermediate result, row-major unless strides are given; it must be dense."""
        buffer = self._program.buffer(BufferKind.ARENA, prod(dims) * dtype.size)
        return View(buffer, dtype, dims, strides or row_major(dims))

    def result(
        self,
        value: ir.Value,
        dims: tuple[int, ...],
        dtype: DType,
        strides: tuple[int, ...] | None = None,
        *,
        accepts: Placement | None = None,
    ) -> View:
        """Memory for a node's output, which it also defines: the graph's own output memory when the layout allows.

        With `accepts` it may be a part of a larger tensor, if that can place it: the dims then lie in the order of
        `strides`, with gaps.
        """
        steps = strides or row_major(dims)
        if accepts is not None and value not in self._outputs:
            part = self.joins.part(value, dims, dtype, steps)
            if part is not None and accepts(part) is not None:
                self._values[value] = part
                return part
        view = View(Buffer(-1, BufferKind.ARENA, 0), dtype, dims, steps)
        index = self._outputs.get(value)
        final = index is not None and index not in self._output_buffers and not is_widened(value, dtype)
        if index is not None and final and view.is_row_major:
            buffer = self._program.buffer(BufferKind.OUTPUT, prod(dims) * dtype.size, value.name or "")
            view = self._output_buffers[index] = View(buffer, dtype, dims, row_major(dims))
        else:
            view = self.temporary(dims, dtype, steps)
        self._values[value] = view
        return view

    def counted(self, value: ir.Value, dims: tuple[int, ...], dtype: DType, axis: int) -> Counted:
        """Memory for a node's output of which only a run knows how many entries along `axis` there are, and for their
        number. `dims` have room for the most there can be. It is not for other nodes of this graph to read.
        """
        final = value in self._outputs and not is_widened(value, dtype)
        kind = BufferKind.OUTPUT if final else BufferKind.ARENA
        view, count = (
            View(self._program.buffer(kind, prod(size) * of.size, value.name or ""), of, size, row_major(size))
            for size, of in ((dims, dtype), ((), DType.I64))
        )
        made = self._counted[value] = Counted(view, count, axis)
        return made

    def check(self, node: ir.Node, what: str, expected: str) -> View:
        """One int64 to which a step writes what is wrong with the values it is given: see `program.Check`."""
        status = View(self._program.buffer(BufferKind.STATUS, DType.I64.size), DType.I64, (), ())
        self._checks.append(Check(status, _where(node), what, expected))
        return status

    def channels_last(self, value: ir.Value | None) -> View:
        """The image [N, C, spatial...] with its channels contiguous: as it is, or a copy that stands for it from
        now on.
        """
        view = self.view(value)
        if view.dims[1] == 1 or view.strides[1] == 1:
            return view
        copied = self.copied(view, channels_last(view.dims))
        assert value is not None
        if not self._forms.replace(value, copied):
            self._values[value] = copied
        return copied

    def row_major(self, value: ir.Value | None) -> View:
        """The value as NumPy's C order has it: as it is, or a copy that stands for it from now on."""
        view = self.view(value)
        if view.is_row_major:
            return view
        assert value is not None
        if self._forms.of(value) is not None:
            copied = self.copied(view)
            self._forms.replace(value, copied)
            return copied
        copied = self.result(value, view.dims, view.dtype)
        self.copy(view, copied)
        return copied

    def copied(self, view: View, strides: tuple[int, ...] | None = None) -> View:
        """A dense copy, row-major unless strides are given."""
        target = self.temporary(view.dims, view.dtype, strides)
        self.copy(view, target)
        return target

    def converted(self, view: View, dtype: DType, label: str) -> View:
        """A dense copy as a type that has all its numbers, laid out alike."""
        target = self.temporary(view.dims, dtype, dense_like(view.dims, view.strides))
        self.copy(view, target, label)
        return target

    def copy(self, source: View, target: View, label: str = "copy") -> None:
        """Copy elements; between a narrow type and its register type they are converted."""
        source = source.broadcast(target.dims)
        if source.dtype is not target.dtype:
            if source.dtype.register is not target.dtype.register:
                raise CompileError("a copy changes the type", expected=str(target.dtype), got=str(source.dtype))
            e = ExprBuilder()
            self.elementwise(e.build(e.cast(e.leaf(source.dtype), target.dtype, NEAREST)), [source], target, label)
            return
        source, target = source.raw, target.raw
        turned = turning(source, target, self.target.lanes(source.dtype))
        if turned is None:
            self.elementwise(identity(source.dtype), [source], target, label)
        else:
            self.step(turned.kernel, turned.arguments, domain=turned.domain, label=label, cost=TILE * TILE)

    # ---- steps -------------------------------------------------------------------------------------------------

    def step(
        self,
        kernel: Kernel,
        arguments: Mapping[str, View | int],
        *,
        domain: int,
        label: str,
        writes: tuple[str, ...] = ("y",),
        cost: float = 0.0,
        scratch: int = 0,
        consumes: Iterable[str] = (),
    ) -> None:
        """Run a kernel over `domain` items; `cost` is an item's work in floating-point operations or elements.

        `consumes` is explained at `Step`. Each thread's part is cut into a few chunks for others to help with, none too
        short to be worth taking.
        """
        if domain == 0:
            return
        if hint(domain) > MAX_DOMAIN:
            raise ValueError(f"{domain:,} items of work in one step, more than {MAX_DOMAIN:,}")
        fair = -(-domain // (_CHUNKS_PER_THREAD * self.threads)) if self.threads > 1 else domain
        chunk = least(most(fair, self._worth_taking(cost), 1), domain)
        sizes = {"domain": domain, "chunk": chunk, "scratch": scratch}
        self._program.step(kernel, arguments, writes=writes, label=label, consumes=consumes, **sizes)

    @staticmethod
    def _worth_taking(cost: float) -> int:
        """Items of this work that a thread should take at once."""
        if isinstance(cost, Dim):
            return _ELEMENTS_PER_CHUNK // most(cost, 1)
        return int(_ELEMENTS_PER_CHUNK / cost) if cost else 1

    def elementwise(self, expr: Expr, operands: Sequence[View], target: View, label: str) -> None:
        """target = expr(operands), all of the target's dims (stride 0 where they broadcast)."""
        if target.size != 0:
            walk = walking(expr, operands, target, self.target.lanes(DType.F32), _ELEMENTS_PER_CHUNK)
            names = [f"x{index}" for index in range(len(operands))]
            self.step(walk.kernel, walk.arguments, domain=walk.domain, label=label, cost=walk.cost, consumes=names)

    # ---- fusion ------------------------------------------------------------------------------------------------

    def fusion(
        self,
        node: ir.Node,
        dims: tuple[int, ...],
        dtype: DType,
        place: Placement,
        prelude: tuple[tuple[str, View | None], ...] = (),
    ) -> Fusion:
        """The epilogue behind `node`'s first output, after `prelude`; its nodes count as lowered."""
        value = node.outputs[0]
        nodes = self._fuser.grow(node, value, dims, place)
        output = nodes[-1].outputs[0] if nodes else value
        self._done.update(nodes)
        self._forms.rounded.add(output)
        return self._fuser.fuse(nodes, Own(node, value, dtype, prelude), dims, place, output)

    def elementwise_group(self, node: ir.Node) -> None:
        """Lower an elementwise node with those that can follow it in one kernel."""
        shapes = [self.dims(value) for value in node.inputs if value is not None]
        dims = broadcast_dims(*shapes)
        nodes = [node, *self._fuser.grow(node, node.outputs[0], dims, anywhere)]
        self._done.update(nodes)
        fusion = self._fuser.fuse(nodes, None, dims, anywhere, nodes[-1].outputs[0])
        self.elementwise_fusion(fusion, [view for view, _ in fusion.operands], dims)

    def elementwise_fusion(self, fusion: Fusion, operands: Sequence[View], dims: tuple[int, ...]) -> None:
        """Run a fusion as a kernel of its own; the result lies like the first operand that has all its dims."""
        full = [v for v in operands if all(s or is_one(d) for s, d in zip(v.strides, v.dims, strict=True))]
        strides = dense_like(dims, full[0].strides) if full else None
        target = self.result(fusion.output, dims, fusion.expr.dtype, strides, accepts=anywhere)
        self.elementwise(fusion.expr, operands, target, fusion.label)

    # ---- the whole ---------------------------------------------------------------------------------------------

    def run(self) -> Program:
        """Lower every node."""
        for node in self._nodes:
            if node not in self._done:
                self._lower(node)
        outputs = [self._output(index, value) for index, value in enumerate(self._graph.outputs)]
        program = Program(
            tuple(self._program.buffers),
            tuple(self._program.steps),
            tuple(self._inputs),
            tuple(outputs),
            tuple(self._checks),
        )
        program.verify()
        return program

    def _fold(self, node: ir.Node) -> bool:
        """Compute a node whose inputs are known; whether that can be done for all dims they may be."""
        known = [self.known(value) for value in node.inputs]
        if any(array is not None and array.dtype == object for array in known):
            made = self._rules.arithmetic(node, known)
            if made is not None:
                self.define(node.outputs[0], made)
                return True
            lowered = self._rules.rule(node) is not None or self._rules.scalar(node) is not None
            if lowered and self._wanted.isdisjoint(node.outputs):
                return False
            known = [None if a is None else a.astype(np.int64) if a.dtype == object else a for a in known]
        for value, array in zip(node.outputs, self._rules.evaluate(node, known), strict=True):
            self.define(value, np.asarray(array))
        return True

    def inline(self, body: ir.Graph, outputs: Sequence[ir.Value]) -> None:
        """Lower the nodes of a body here; `outputs` are then what it returns."""
        for node in body:
            self._lower(node)
        for value, result in zip(outputs, body.outputs, strict=True):
            self.define(value, self._operand(result))

    def _lower(self, node: ir.Node) -> None:
        known = self._rules.folds(node) and all(value is None or self.is_known(value) for value in node.inputs)
        rule = self._rules.rule(node)
        try:
            if known and self._fold(node):
                return
            if rule is not None:
                self._apply(rule, node)
            elif self._rules.scalar(node) is not None:
                self.elementwise_group(node)
            else:
                raise CompileError(f"no rule for {node.domain or 'ai.onnx'}.{node.op_type}", where=node.name)
        except (ArithmeticError, LookupError, MemoryError, ValueError) as error:
            if isinstance(error, SardonyxError):
                raise
            shapes = ", ".join(str(list(self.dims(value))) for value in node.inputs if value is not None)
            raise ExecutionError(f"does not fit its inputs: {error}", where=_where(node), got=shapes) from error

    def _apply(self, rule: Rule, node: ir.Node) -> None:
        """Run a rule, and round what it computed to narrow types."""
        with self._forms.seen_by(node):
            rule(self, node)
        for value, kind, made in self._forms.unrounded(node):
            if isinstance(made, np.ndarray):
                self._values[value] = made.astype(kind.numpy)
            elif made.dtype is kind.register:
                final, e = value in self._outputs, ExprBuilder()
                result = e.cast(e.leaf(made.dtype), kind, NEAREST)
                expr = e.build(result if final else e.cast(result, made.dtype))
                y = self.result(value, made.dims, expr.dtype, dense_like(made.dims, made.strides))
                self.elementwise(expr, [made], y, f"{value.name} as {kind.value}")

    def _output(self, index: int, value: ir.Value) -> Operand | Counted:
        """Where output `index` is at the end; copied to the output's memory when it lies elsewhere."""
        made = self._output_buffers.get(index)
        if made is not None:
            return made
        counted = self._counted.get(value)
        if counted is not None:
            if self._outputs[value] == index and counted.view.buffer.kind is BufferKind.OUTPUT:
                return counted
            view, count = (self._exported(part, value) for part in (counted.view, counted.count))
            return Counted(view, count, counted.axis)
        operand = self._operand(value)
        return _typed(operand, value) if isinstance(operand, np.ndarray) else self._exported(operand, value)

    def _exported(self, view: View, value: ir.Value) -> View:
        """A copy in memory of an output."""
        kind = narrow_type(value)
        dtype = kind if kind is not None and kind.register is view.dtype else view.dtype
        buffer = self._program.buffer(BufferKind.OUTPUT, view.size * dtype.size, value.name or "")
        target = View(buffer, dtype, view.dims, row_major(view.dims))
        self.copy(view, target, f"output {value.name}")
        return target


def _where(node: ir.Node) -> str:
    return f"node {node.name or node.outputs[0].name!r} ({node.op_type})"


def _wanted(graph: ir.Graph, rules: Rules) -> frozenset[ir.Value]:
    """The values that rules must know, and those that they are computed from."""
    import onnx_ir as ir

    found: set[ir.Value] = set()
    left = [value for node in ir.traversal.RecursiveGraphIterator(graph) for value in rules.wants(node)]
    while left:
        value = left.pop()
        producer = value.producer()
        if value in found:
            continue
        found.add(value)
        if producer is not None and producer.op_type not in ("Shape", "Size"):
            left += [each for each in producer.inputs if each is not None]
    return frozenset(found)


def _typed(array: Array, value: ir.Value) -> Array:
    """A known array as others read it: arrays of dims become int64, other types take what the dims are now."""
    other = array.dtype == object and value.dtype is not None and value.dtype.numpy() != np.int64
    return array.astype(value.dtype.numpy()) if other and value.dtype is not None else array


def arguments(**values: View | int) -> dict[str, View | int]:
    """A kernel's arguments by name."""
    return values


def anywhere(view: View) -> tuple[int, ...]:
    """The placement of an elementwise kernel: it addresses any operand."""
    return ()


def is_derived(tensor: ir.TensorProtocol | None) -> bool:
    """Whether the tensor's elements are computed whenever they are asked for."""
    from sardonyx.model.content import Derived

    return isinstance(tensor, Derived)


def dtype_of(value: ir.Value) -> DType:
    """The compiler's type of a value; CompileError when it has none."""
    found = declared_type(value)
    if found is None:
        raise CompileError(f"no native type for {value.dtype}", where=value.name)
    return found
