"""A compiled subgraph: programs, their bindings to the dims of its inputs, and workspaces to run them in."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from sardonyx import config
from sardonyx.compiler.dims import LARGEST, SMALLEST, Trace, array_of
from sardonyx.compiler.jit import load_kernels
from sardonyx.compiler.memory import MemoryPlan
from sardonyx.compiler.program import Program
from sardonyx.compiler.target import Target
from sardonyx.errors import ExecutionError
from sardonyx.runtime.blueprint import Blueprint
from sardonyx.runtime.frame import Binding, Frame, Workspace
from sardonyx.runtime.threads import pool

Array = np.ndarray[Any, Any]
Dims = tuple[tuple[int, ...], ...]
Declared = Sequence[Sequence[int | str | None] | None]
"""Dims of the inputs as the graph has them: numbers, names, or nothing; None where not even the rank is known."""

_PROGRAMS = 16
"""Programs kept, each with its guards."""
_BINDINGS = 64
"""Dims whose numbers are kept."""
_OPEN_VALUES = 64
"""Elements of an input that a program can leave open: shapes and bounds have fewer."""

Rows = tuple[tuple[int | bytes, ...], ...]
"""What of a call's inputs shapes a program: dims of each, then elements of those whose values count."""


def _rows(dims: Dims, values: Sequence[Array]) -> Rows:
    """Elements as integers, or as bytes where they are no integers or very many."""
    return (*dims, *(_elements(array) for array in values))


def _elements(array: Array) -> tuple[int | bytes, ...]:
    if array.dtype.kind not in "iu" or array.size > _OPEN_VALUES:
        return (array.tobytes(),)
    return tuple(array.reshape(-1).tolist())


@dataclass(frozen=True)
class Symbol:
    """An open number: which it is, what programs show it as, and the least it may be."""

    index: int
    name: str
    smallest: int


@dataclass(frozen=True)
class Opening:
    """What programs are made for: dims of inputs and values of some, numbers but for the symbols that are left open."""

    pattern: tuple[tuple[int | bytes | Symbol, ...], ...]
    symbols: tuple[Symbol, ...]
    values: tuple[Array, ...]

    @classmethod
    def of(cls, dims: Dims, declared: Declared, values: Sequence[Array]) -> Opening:
        """Dims with one name are one symbol, if they are equal; 0 and 1 are what they are.

        A batch of 1, by far the commonest, has programs of its own; other symbols may turn out to be 1.
        """
        symbols: dict[tuple[str, int], Symbol] = {}
        taken: set[str] = set()
        pattern: list[tuple[int | bytes | Symbol, ...]] = []

        def symbol(name: str, size: int) -> Symbol:
            found = symbols.get((name, size))
            if found is None:
                shown = f"{name}.{len(symbols)}" if name in taken else name  # a name whose dims differ
                taken.add(name)
                smallest = SMALLEST if (name, size) in batches else 1
                found = symbols[name, size] = Symbol(len(symbols), shown, smallest)
            return found

        names = [_names(shape, said, index) for index, (shape, said) in enumerate(zip(dims, declared, strict=True))]
        batches = {(row[0], shape[0]) for row, shape in zip(names, dims, strict=True) if row}
        for row, shape in zip(names, dims, strict=True):
            pattern.append(tuple(_opened(zip(row, shape, strict=True), symbol)))
        for index, array in enumerate(values):
            elements = ((f"value{index}.{place}", element) for place, element in enumerate(_elements(array)))
            pattern.append(tuple(_opened(elements, symbol)))
        return cls(tuple(pattern), tuple(symbols.values()), tuple(values))

    def match(self, rows: Rows) -> list[int] | None:
        """What the symbols are for these inputs; None where they do not fit the pattern."""
        found: dict[Symbol, int] = {}
        if [len(row) for row in rows] != [len(row) for row in self.pattern]:
            return None
        for want, have in zip(chain(*self.pattern), chain(*rows), strict=True):
            if not isinstance(want, Symbol):
                fits = want == have
            else:
                fits = (
                    isinstance(have, int) and want.smallest <= have <= LARGEST and found.setdefault(want, have) == have
                )
            if not fits:
                return None
        return [found[symbol] for symbol in self.symbols]

    def bound(self, trace: Trace, rows: Rows) -> tuple[Dims, tuple[Array, ...]]:
        """The dims and the values with symbols of `trace`, which are what they are in `rows`."""
        found = self.match(rows)
        assert found is not None
        symbols = [trace.symbol(s.name, size, s.smallest) for s, size in zip(self.symbols, found, strict=True)]
        numbers: list[Any] = [
            tuple(symbols[one.index] if isinstance(one, Symbol) else one for one in row) for row in self.pattern
        ]
        given = len(numbers) - len(self.values)
        values = [
            array_of(row).reshape(array.shape) if any(isinstance(one, Symbol) for one in wanted) else array
            for row, wanted, array in zip(numbers[given:], self.pattern[given:], self.values, strict=True)
        ]
        return tuple(numbers[:given]), tuple(values)


def _opened(
    numbers: Iterable[tuple[str | None, int | bytes]], symbol: Callable[[str, int], Symbol]
) -> Iterator[int | bytes | Symbol]:
    """Numbers, and symbols for those that have a name and are large enough."""
    for name, number in numbers:
        if name is not None and isinstance(number, int) and SMALLEST <= number <= LARGEST:
            yield symbol(name, number)
        else:
            yield number


def _names(shape: tuple[int, ...], said: Sequence[int | str | None] | None, index: int) -> list[str | None]:
    """A name for each dim of an input, None for those that the graph fixes."""
    if said is None or len(said) != len(shape):
        said = [None] * len(shape)
    return [None if isinstance(name, int) else name or f"d{index}.{axis}" for axis, name in enumerate(said)]


@dataclass
class Version:
    """A program with the trace of its lowering, and the largest memory plan so far."""

    opening: Opening
    blueprint: Blueprint
    trace: Trace
    plan: MemoryPlan | None = None

    def bind(self, values: Sequence[int]) -> Binding | None:
        """The program for these values of its symbols; None when a guard does not hold for them.

        ExecutionError when that needs too much memory.
        """
        atoms = self.trace.bound(values)
        if atoms is None:
            return None
        numbers = self.blueprint.numbers.evaluate(atoms)
        self.blueprint.check(numbers)
        sizes = numbers[self.blueprint.sizes]
        plan = self.plan if self.plan is not None and self.plan.fits(sizes) else self._grown(values, sizes)
        _check_memory(plan, int(sizes[self.blueprint.results].sum()))
        self.plan = plan
        return Binding(self.blueprint, atoms, numbers, plan)

    def _grown(self, values: Sequence[int], sizes: Array) -> MemoryPlan:
        """A plan with room for these sizes; when it is not the first, with room for larger dims as well."""
        if self.plan is not None:
            atoms = self.trace.bound([1 << (value - 1).bit_length() for value in values])
            if atoms is not None:
                numbers = self.blueprint.numbers.evaluate(atoms)
                plan = self.blueprint.lifetimes.plan(np.maximum(sizes, numbers[self.blueprint.sizes]).tolist())
                if plan.size <= config.MEMORY.get():
                    return plan
        return self.blueprint.lifetimes.plan(sizes.tolist())


class NativeExecutable:
    """Runs programs that `lower` makes, each good for all dims that its guards admit. Safe to call from several
    threads. `declared` are the dims of each input as the graph has them; `reads` are the inputs, by index, whose values
    shape programs as dims do: `lower` gets both.
    """

    def __init__(
        self,
        lower: Callable[[Dims, Sequence[Array]], Program],
        target: Target,
        *,
        declared: Declared = (),
        reads: Sequence[int] = (),
        threads: int,
        spin_microseconds: int,
        profile: bool,
    ) -> None:
        self._lower, self._declared, self._target, self._threads = lower, declared, target, threads
        self._reads = tuple(reads)
        self._spin, self._profile = spin_microseconds, profile
        self._bindings: OrderedDict[tuple[object, ...], Binding] = OrderedDict()
        self._versions: OrderedDict[int, Version] = OrderedDict()
        self._made = 0
        self._lock = threading.Lock()
        self._free: list[Workspace] = []
        self._newest: tuple[Binding, Frame] | None = None

    @property
    def lowerings(self) -> int:
        """How many programs were made so far."""
        return self._made

    def binding(self, dims: Dims, values: Sequence[Array] = ()) -> Binding:
        """The program for these dims of the inputs, and for these values of those that are read: an earlier one if its
        guards admit them, else a new one.
        """
        key = (*dims, *[array.tobytes() for array in values]) if values else dims
        found = self._bindings.get(key)
        if found is not None:
            return found
        with self._lock:
            found = self._bindings.get(key)
            if found is None:
                found = self._bindings[key] = self._bind(dims, values)
                while len(self._bindings) > _BINDINGS:
                    self._bindings.popitem(last=False)
        return found

    def _bind(self, dims: Dims, values: Sequence[Array]) -> Binding:
        rows = _rows(dims, values)
        matches = [(number, version.opening.match(rows)) for number, version in reversed(self._versions.items())]
        # A program made for a 1 is better for it than one that is right for all sizes.
        for number, symbols in sorted(matches, key=lambda match: 1 in (match[1] or ())):
            found = self._versions[number].bind(symbols) if symbols is not None else None
            if found is not None:
                self._versions.move_to_end(number)
                return found
        opening = Opening.of(dims, self._declared, [array.copy() for array in values])
        trace = Trace()
        program = self._lower(*opening.bound(trace, rows))
        trace.close()
        version = Version(opening, Blueprint(program, load_kernels(program.kernels, self._target)), trace)
        symbols = opening.match(rows)
        assert symbols is not None
        found = version.bind(symbols)
        assert found is not None
        self._made += 1
        self._versions[self._made] = version
        while len(self._versions) > _PROGRAMS:
            self._versions.popitem(last=False)
        return found

    def run(self, inputs: Sequence[Array], out: Sequence[Array | None] | None = None) -> list[Array]:
        """Outputs of the subgraph, in order; into the arrays of `out` where there are some, apart from the inputs."""
        arrays = [a if a.flags.c_contiguous and a.flags.aligned else np.require(a, None, ["C", "A"]) for a in inputs]
        dims = tuple([array.shape for array in arrays])
        binding = self.binding(dims, [arrays[index] for index in self._reads]) if self._reads else self.binding(dims)
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = Workspace(pool(self._target, self._threads, self._spin), profile=self._profile)
        try:
            frame = workspace.frame(binding)
            if self._profile:
                self._newest = (binding, frame)
            return frame.run(arrays, out)
        except MemoryError as error:
            raise ExecutionError("not enough memory for the results", got=str(error)) from error
        finally:
            self._free.append(workspace)

    def program(self, dims: Dims, values: Sequence[Array] = ()) -> Program:
        """The program as it runs for these input dims and values, without open ones."""
        return self.binding(dims, values).program

    def newest(self) -> Program | None:
        """The program of the newest profiled run, without open dims."""
        return self._newest[0].program if self._newest is not None else None

    def times(self) -> list[tuple[str, str, int, int]]:
        """(nodes, kernel, start, duration) of each step of the newest profiled run, in nanoseconds."""
        if self._newest is None:
            return []
        binding, frame = self._newest
        steps = binding.blueprint.program.steps
        return [(s.label, s.kernel.name, *t) for s, t in zip(steps, frame.times(), strict=True)]


def _check_memory(plan: MemoryPlan, results: int) -> None:
    """Refuse a run that could only end with the system running out of memory; `results` are bytes of outputs."""
    limit = config.MEMORY.get()
    if plan.size + results > limit:
        raise ExecutionError(
            "a run on inputs of these dims needs too much memory",
            expected=f"at most {limit:,} bytes",
            got=f"{plan.size + results:,}",
            fix=f"take smaller inputs, or raise {config.MEMORY.variable}",
        )
