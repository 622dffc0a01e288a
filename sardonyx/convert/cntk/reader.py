"""From CNTK's operators to a model, and what the result is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Converted, Options, Oracle, Source, Values
from sardonyx.convert.cntk import emit, sequences, windows
from sardonyx.convert.cntk.emit import Call, Sample
from sardonyx.convert.cntk.file import BATCH, INPUT, Function, Network, Shape, Variable, open_network
from sardonyx.convert.cntk.sequences import DELAYS, Loop, dependencies
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.shaped import Problems, Unsupported
from sardonyx.errors import ConversionError

RULES = {**emit.RULES, **windows.RULES, **sequences.RULES}
_SEQUENCE = "defaultDynamicAxis"
_INDICES = {"Gather": 0, "OneHotOp": 0}
"""Operators with indices, and which input they are."""
_KEPT = ("Reshape", "TransposeAxes", "NoOp", "Pass", "Squeeze", "StopGradient")
"""Operators whose result has the elements of their input."""


def read(source: Source, options: Options) -> Converted:
    """The function of `source` as ONNX."""
    network = open_network(source.file())
    return _Conversion(network, options, source.where, source.stem).run()


def supported() -> list[str]:
    """The operators that can be converted."""
    return sorted([*RULES, *sequences.READ_WITH_OTHERS, "Block", "Combine"])


@dataclass
class _Conversion:
    network: Network
    options: Options
    where: str
    stem: str
    values: dict[str, Sample] = field(default_factory=dict)
    inputs: dict[str, Variable] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.problems = Problems(self.where, "replace them in the network, or name other outputs")
        self.graph = GraphBuilder(self.stem)
        self.outputs = self._outputs()

    def run(self) -> Converted:
        """The model with all that belongs to it."""
        groups = list(_groups(self.network, self.outputs.values()))
        used = self._used(groups)
        for group in groups:
            self._group(group, used)
        for uid in self.outputs.values():
            if uid in self.network.variables:
                self._leaf(uid)
        self.problems.check()
        model = self._model()
        made = {value.name for node in model.graph for value in node.outputs}
        return Converted(
            model, f"CNTK 2 (function version {self.network.version})", oracles=[self._oracle(groups)],
            layers={name: shown for name, shown in self.shown.items() if name in made},
            make_inputs=self._make_inputs(model), notes=self._notes(),
        )  # fmt: skip

    def _outputs(self) -> dict[str, str]:
        """Outputs by name: the root's, or those that are asked for by their operator's name, uid or block."""
        if not self.options.outputs:
            return dict(self.network.outputs)
        known = {uid: uid for uid in self.network.results}
        known.update({function.uid: function.output() for function in self.network.functions.values()})
        known.update(
            {function.name: function.output() for function in self.network.functions.values() if function.name}
        )
        known.update({name: uid for uid, name in self.network.layers.items()})
        known.update(self.network.outputs)
        missing = [name for name in self.options.outputs if name not in known]
        if missing:
            raise ConversionError("it has no such outputs", where=self.where, got=", ".join(missing))
        return {name: known[name] for name in self.options.outputs}

    # Operators

    def _used(self, groups: Sequence[Sequence[Function]]) -> set[str]:
        """Results that another group asks for, or that are outputs."""
        used = set(self.outputs.values())
        for group in groups:
            inner = {function.uid for function in group}
            for function in group:
                used.update(uid for uid in dependencies(function) if self.network.results.get(uid) not in inner)
        return used

    def _group(self, group: Sequence[Function], used: set[str]) -> None:
        for function in group:
            for uid in dependencies(function):
                if uid in self.network.variables:
                    self._leaf(uid)
        unsupported = [function for function in group if function.op not in RULES]
        for function in unsupported:
            self.problems.add(f"{function.shown!r} ({function.op})", "operators of this kind are not supported")
        inner = {function.output(i) for function in group for i in range(2)}
        outer = [uid for function in group for uid in dependencies(function) if uid not in inner]
        if unsupported or any(uid not in self.values for uid in outer):
            return
        function = group[0]
        try:
            if len(group) == 1 and function.output() not in function.inputs:
                self.values.update({function.output(i): made for i, made in enumerate(
                    self._emit(self.graph, function, self.values))})  # fmt: skip
            else:
                function = next((function for function in group if function.op in DELAYS), function)
                loop = Loop(self.network, group, self.values, used)
                self.values.update(sequences.scan(self.graph, loop, self._emit))
        except Unsupported as error:
            self.problems.add(f"{function.shown!r} ({function.op})", error)

    def _emit(self, graph: GraphBuilder, function: Function, values: Mapping[str, Sample]) -> list[Sample]:
        """One operator. Raises Unsupported, with its name where it is one of a loop."""
        given = [values.get(uid) for uid in dependencies(function)]
        operands = [operand for operand in given if operand is not None]
        if len(operands) < len(given):
            raise Unsupported(f"{function.shown} is computed from itself")
        call = Call(graph, function, operands, self.network)
        try:
            made = RULES[function.op](call)
            unread = sorted(set(function.attributes) - call.asked)
            if unread:
                raise Unsupported(f"attributes that are not supported: {', '.join(unread)}")
        except Unsupported as error:
            raise Unsupported(f"{function.shown}: {error}") if graph is not self.graph else error from None
        for i, sample in enumerate(made):
            shown = self.network.layers.get(function.output(i)) or function.shown
            self.shown[sample.value.name or ""] = shown
        return made

    # Inputs

    def _leaf(self, uid: str) -> None:
        if uid in self.values:
            return
        variable = self.network.variables[uid]
        name = variable.name or variable.uid
        if variable.array is not None:
            array = variable.array.astype(np.float32)
            self.values[uid] = Sample(self.graph.initializer(name, array), (), variable.shape, array)
            return
        if variable.kind != INPUT:
            raise ConversionError("a variable of another kind is used", where=self.where, got=uid)
        dims, shape = self._shape(variable, name)
        if len(variable.dynamic) > 2 or (variable.dynamic and variable.dynamic[0] != BATCH):
            self.problems.add(f"the input {name!r}", f"its dynamic axes are {', '.join(variable.dynamic)}")
        if None in shape:
            self.problems.add(f"the input {name!r}", "its shape is not known: give it in shapes")
            return
        value = self.graph.input(name, ir.DataType.FLOAT, dims)
        self.inputs[value.name or name] = variable
        self.values[uid] = Sample(value, variable.dynamic, shape)

    def _shape(self, variable: Variable, name: str) -> tuple[list[int | str | None], Shape]:
        """All dims, and those that CNTK calls the shape. Dynamic axes have symbols, which users may replace."""
        ahead: list[int | str | None] = [self._symbol(axis) for axis in variable.dynamic]
        given = self.options.shapes.get(name)
        if given is None:
            return [*ahead, *variable.shape], variable.shape
        if len(given) != len(ahead) + len(variable.shape):
            raise ConversionError(
                "an input has another number of dims", where=f"{self.where}: {name}",
                expected=str(len(ahead) + len(variable.shape)), got=str(len(given)),
            )  # fmt: skip
        shape: list[int | None] = []
        for asked, stored in zip(given[len(ahead) :], variable.shape, strict=True):
            if stored is not None and asked not in (stored, None):
                raise ConversionError("an input's dims are fixed in the file", where=f"{self.where}: {name}",
                                      expected=str(stored), got=str(asked))  # fmt: skip
            shape.append(stored if stored is not None else asked if isinstance(asked, int) else None)
        dims = [symbol if asked is None else asked for asked, symbol in zip(given, ahead, strict=False)]
        return [*dims, *shape], tuple(shape)

    def _symbol(self, axis: str) -> int | str:
        return self.options.batch if axis == BATCH else "sequence" if axis == _SEQUENCE else axis

    def _make_inputs(self, model: ir.Model) -> Callable[[int, np.random.Generator], Values] | None:
        """Indices where they are asked for; None where numbers from a normal distribution serve."""
        limits: dict[str, int] = {}
        for function in self.network.functions.values():
            if function.op in _INDICES:
                origin = function.inputs[0]
                while (maker := self.network.maker(origin)) is not None and maker.op in _KEPT:
                    origin = maker.inputs[0]
                count = function.attributes.get("numClass")
                if function.op == "Gather" and function.inputs[1] in self.network.variables:
                    count = (self.network.variables[function.inputs[1]].shape or (1,))[0]
                limits[origin] = min(limits.get(origin, 2**31), count if isinstance(count, int) else 1)
        if not any(variable.uid in limits for variable in self.inputs.values()):
            return None
        shapes = {value.name or "": list(value.shape or ()) for value in model.graph.inputs}

        def make(batch: int, rng: np.random.Generator) -> Values:
            made = {}
            for name, dims in shapes.items():
                shape = [dim if isinstance(dim, int) else batch if i == 0 else 7 for i, dim in enumerate(dims)]
                limit = limits.get(self.inputs[name].uid)
                values = rng.normal(0, 1, shape) if limit is None else rng.integers(0, limit, shape)
                made[name] = values.astype(np.float32)
            return made

        return make

    # Results

    def _model(self) -> ir.Model:
        made: list[tuple[str, ir.Value]] = []
        for name, uid in self.outputs.items():
            sample = self.values[uid]
            sample.value.type = ir.TensorType(ir.DataType.FLOAT)
            sample.value.shape = ir.Shape([*(self._symbol(axis) for axis in sample.dynamic), *sample.shape])
            made.append((name, sample.value))
        model = self.graph.model(made)
        kept = {value.name for _, value in made}
        for name, value in list(model.graph.initializers.items()):
            if not value.uses() and name not in kept:  # Statistics that were folded, counts of training.
                del model.graph.initializers[name]
        return model

    def _notes(self) -> list[str]:
        variables = self.network.variables.values()
        notes = []
        if any(variable.array is not None and variable.array.dtype == np.float64 for variable in variables):
            notes.append("it computes in float64; the result in float32")
        if any(len(variable.dynamic) > 1 for variable in self.inputs.values()):
            notes.append("all sequences of a batch have one length")
        if any(variable.sparse for variable in self.inputs.values()):
            notes.append("its sparse inputs are dense")
        return notes

    def _oracle(self, groups: list[list[Function]]) -> Callable[[], Oracle | None]:
        def evaluated() -> Oracle | None:
            from sardonyx.convert.cntk.evaluate import Evaluation

            return Evaluation(self.network, groups, self.outputs, {name: v.uid for name, v in self.inputs.items()})

        return evaluated


# ---- order -----------------------------------------------------------------------------------------------------------


def _groups(network: Network, outputs: Iterable[str]) -> Iterator[list[Function]]:
    """Operators that the outputs depend on in the order of their computation, those of a loop together.

    Tarjan's strongly connected components, without recursion.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    for root in outputs:
        if root not in network.results or network.results[root] in index:
            continue
        work: list[tuple[str, Iterator[str]]] = []
        start = network.results[root]
        while True:
            if start not in index:
                index[start] = low[start] = len(index)
                stack.append(start)
                on_stack.add(start)
                work.append((start, _makers(network, network.functions[start])))
            uid, rest = work[-1]
            follow = next(rest, None)
            if follow is not None:
                if follow not in index:
                    start = follow
                elif follow in on_stack:
                    low[uid] = min(low[uid], index[follow])
                    start = uid
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[uid])
                start = work[-1][0]
            if low[uid] == index[uid]:
                at = stack.index(uid)
                members = stack[at:]
                del stack[at:]
                on_stack.difference_update(members)
                yield _steps(network, members)
            if not work:
                break


def _makers(network: Network, function: Function) -> Iterator[str]:
    return iter([network.results[uid] for uid in dependencies(function) if uid in network.results])


def _steps(network: Network, members: Sequence[str]) -> list[Function]:
    """A loop's operators in the order in which each step computes them, the delays first."""
    if len(members) == 1:
        return [network.functions[members[0]]]
    waiting = dict.fromkeys(members, 0)
    follows: dict[str, list[str]] = {uid: [] for uid in members}
    for uid in members:
        if network.functions[uid].op not in DELAYS:
            for maker in _makers(network, network.functions[uid]):
                if maker in waiting:
                    waiting[uid] += 1
                    follows[maker].append(uid)
    order = [uid for uid in members if not waiting[uid]]
    for uid in order:
        for follow in follows[uid]:
            waiting[follow] -= 1
            if not waiting[follow]:
                order.append(follow)
    # A circle without a delay is left, which is refused where it is emitted.
    order += [uid for uid in members if waiting[uid]]
    return [network.functions[uid] for uid in order]
