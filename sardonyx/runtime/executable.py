"""A compiled subgraph: programs, their bindings to the dims of its inputs, and workspaces to run them in."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx import config
from sardonyx.compiler.dims import SMALLEST, Trace
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


@dataclass(frozen=True)
class Opening:
    """Dims of inputs with the open ones as symbols: `pattern` has each dim, or -1 - i for the i-th symbol."""

    pattern: tuple[tuple[int, ...], ...]
    values: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, dims: Dims, declared: Declared) -> Opening:
        """Dims with one name are one symbol, if they are equal; dims of 0 and 1 are what they are."""
        symbols: dict[tuple[str, int], int] = {}
        names: list[str] = []
        pattern = []
        for shape, said in zip(dims, declared, strict=True):
            row = []
            for axis, size in enumerate(shape):
                name = said[axis] if said is not None and len(said) == len(shape) else None
                if isinstance(name, int) or size < SMALLEST:
                    row.append(size)
                    continue
                if name is None:
                    name = f"d{len(symbols)}"
                index = symbols.setdefault((name, size), len(symbols))
                if index == len(names):
                    taken = name in names  # a name whose dims differ
                    names.append(f"{name}.{index}" if taken else name)
                row.append(-1 - index)
            pattern.append(tuple(row))
        return cls(tuple(pattern), tuple(size for _, size in symbols), tuple(names))

    def dims(self, trace: Trace) -> Dims:
        """The dims with symbols of `trace`."""
        symbols = [trace.symbol(name, size) for name, size in zip(self.names, self.values, strict=True)]
        return tuple(tuple(size if size >= 0 else symbols[-1 - size] for size in row) for row in self.pattern)


@dataclass
class Version:
    """A program with the trace of its lowering, and the largest memory plan so far."""

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
    threads. `declared` are the dims of each input as the graph has them.
    """

    def __init__(
        self,
        lower: Callable[[Dims], Program],
        target: Target,
        *,
        declared: Declared = (),
        threads: int,
        spin_microseconds: int,
        profile: bool,
    ) -> None:
        self._lower, self._declared, self._target, self._threads = lower, declared, target, threads
        self._spin, self._profile = spin_microseconds, profile
        self._bindings: OrderedDict[Dims, Binding] = OrderedDict()
        self._versions: OrderedDict[tuple[object, int], Version] = OrderedDict()
        self._made = 0
        self._lock = threading.Lock()
        self._free: list[Workspace] = []
        self._newest: tuple[Binding, Frame] | None = None

    @property
    def lowerings(self) -> int:
        """How many programs were made so far."""
        return self._made

    def binding(self, dims: Dims) -> Binding:
        """The program for these input dims: an earlier one if its guards admit them, else a new one."""
        found = self._bindings.get(dims)
        if found is not None:
            return found
        with self._lock:
            found = self._bindings.get(dims)
            if found is None:
                found = self._bindings[dims] = self._bind(Opening.of(dims, self._declared))
                while len(self._bindings) > _BINDINGS:
                    self._bindings.popitem(last=False)
        return found

    def _bind(self, opening: Opening) -> Binding:
        for key, version in reversed(self._versions.items()):
            found = version.bind(opening.values) if key[0] == opening.pattern else None
            if found is not None:
                self._versions.move_to_end(key)
                return found
        trace = Trace()
        program = self._lower(opening.dims(trace))
        trace.close()
        version = Version(Blueprint(program, load_kernels(program.kernels, self._target)), trace)
        found = version.bind(opening.values)
        assert found is not None
        self._made += 1
        self._versions[opening.pattern, self._made] = version
        while len(self._versions) > _PROGRAMS:
            self._versions.popitem(last=False)
        return found

    def run(self, inputs: Sequence[Array], out: Sequence[Array | None] | None = None) -> list[Array]:
        """Outputs of the subgraph, in order; into the arrays of `out` where there are some, apart from the inputs."""
        arrays = [a if a.flags.c_contiguous and a.flags.aligned else np.require(a, None, ["C", "A"]) for a in inputs]
        binding = self.binding(tuple([array.shape for array in arrays]))
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

    def program(self, dims: Dims) -> Program:
        """The program as it runs for these input dims, without open ones."""
        binding = self.binding(dims)
        return binding.program

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
