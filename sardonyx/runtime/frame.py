"""A frame: the argument blocks and the step table of a program for one binding of its dims, in a workspace's memory."""

from __future__ import annotations

import ctypes
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from sardonyx.compiler import executor as native
from sardonyx.compiler.dims import value_of
from sardonyx.compiler.memory import ALIGNMENT, MemoryPlan
from sardonyx.compiler.program import Counted, Program, View
from sardonyx.errors import ExecutionError
from sardonyx.runtime.blueprint import Blueprint, address_of
from sardonyx.runtime.given import fitting
from sardonyx.runtime.results import LARGE, Results
from sardonyx.runtime.threads import ThreadPool, words

Array = np.ndarray[Any, Any]
_FRAMES = 16
"""Bindings whose frames a workspace keeps."""


class Constants:
    """The constants of a binding that depend on its dims, by buffer index."""

    def __init__(self, binding: Binding) -> None:
        self.arrays = binding.blueprint.computed(binding.numbers)


@dataclass(eq=False)
class Binding:
    """A program for one choice of its open dims: the values of the atoms they are computed from (`dims.Trace`), its
    numbers, and where its temporaries lie in an arena.
    """

    blueprint: Blueprint
    atoms: Sequence[int]
    numbers: Array
    plan: MemoryPlan
    _computed: Callable[[], Constants | None] = field(default=lambda: None, repr=False)

    def computed(self) -> Constants:
        """The constants that depend on the dims, which live as long as a frame uses them."""
        found = self._computed()
        if found is None:
            found = Constants(self)
            self._computed = weakref.ref(found)
        return found

    @property
    def program(self) -> Program:
        """The program with its numbers in place of open dims."""
        return self.blueprint.program.bound(lambda number: value_of(number, self.atoms))


class Workspace:
    """What one run at a time uses: an arena, scratch memory, and frames that refer to them. It only ever grows."""

    def __init__(self, pool: ThreadPool, *, profile: bool) -> None:
        self.pool, self.profile = pool, profile
        self.arena = self.scratch = words(1)
        self.results = Results()
        self._frames: OrderedDict[Binding, Frame] = OrderedDict()

    def frame(self, binding: Binding) -> Frame:
        """The frame of a binding, made when it is new or was made for an arena that has grown since."""
        found = self._frames.get(binding)
        if found is None:
            self._fit(binding)
            found = self._frames[binding] = Frame(binding, self)
            if len(self._frames) > _FRAMES:
                self._frames.popitem(last=False)
        return found

    def _fit(self, binding: Binding) -> None:
        steps = binding.blueprint.steps
        scratch = self.pool.threads * _aligned(int(binding.numbers[steps.scratch].max(initial=0)))
        if binding.plan.size <= 8 * self.arena.size - 8 and scratch <= 8 * self.scratch.size - 8:
            return
        self._frames.clear()
        self.arena = words(max(binding.plan.size // 8 + 1, self.arena.size))
        self.scratch = words(max(scratch // 8 + 1, self.scratch.size))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _address_place() -> int:
    """How many bytes into an array object NumPy keeps the address of the elements: behind what every object has."""
    probe, at = np.zeros(1), object.__basicsize__
    if ctypes.c_void_p.from_address(id(probe) + at).value != address_of(probe):
        raise ImportError("this interpreter or this NumPy lays out arrays in another way than CPython's")
    return at


_ADDRESS_AT = _address_place()


class Frame:
    """Runs a program for one binding of its dims. Made in a fraction of a millisecond; one run at a time."""

    def __init__(self, binding: Binding, workspace: Workspace) -> None:
        blueprint, numbers, pool = binding.blueprint, binding.numbers, workspace.pool
        program, steps = blueprint.program, blueprint.steps
        self._program = program
        self._keep = (workspace.arena, blueprint.constants)
        self._status = words(len(program.checks) or 1)
        self._counts = words(len(program.outputs) or 1)[: sum(isinstance(out, Counted) for out in program.outputs)]
        self._computed = binding.computed()
        self._tables = {index: numbers[elements] for index, elements in blueprint.tables.items()}
        self._blocks = words(int(blueprint.starts[-1]) or 1)
        words_at, of = blueprint.integers
        self._blocks[words_at] = numbers[of]
        words_at, buffers, of = blueprint.places
        self._blocks[words_at] = self._bases(binding, workspace)[buffers] + numbers[of]
        domains, chunks = numbers[steps.domain], numbers[steps.chunk]
        self._table = words(domains.size * native.STEP_WORDS or 1)
        rows = self._table[: domains.size * native.STEP_WORDS].reshape(-1, native.STEP_WORDS)
        rows[:, native.STEP_KERNEL] = blueprint.kernels
        rows[:, native.STEP_ARGUMENTS] = address_of(self._blocks) + 8 * blueprint.starts[:-1]
        rows[:, native.STEP_DOMAIN], rows[:, native.STEP_CHUNK] = domains, chunks
        rows[:, native.STEP_PARTS] = np.minimum(pool.threads, -(-domains // chunks))
        alone = np.arange(domains.size) == np.array(binding.plan.groups, np.int64)
        rows[:, native.STEP_WAITS] = alone | workspace.profile  # times of steps that overlap would mean nothing
        ticket_stride = native.LINE * (1 + pool.threads)
        self._tickets = words(domains.size * ticket_stride or 1)
        self._tickets[native.EXPECTED_RUN :: ticket_stride] = 1  # the first run's number
        self._clock = np.zeros((domains.size + 1, 2), np.int64) if workspace.profile else None
        self._job = words(native.JOB_WORDS)
        self._fill_job(workspace, ticket_stride, _aligned(int(numbers[steps.scratch].max(initial=0))))
        self._address = address_of(self._job)
        self._execute = pool.run if bool((domains > chunks).any()) else pool.solo
        # A worker that comes late still looks at these when the run is over: they are freed when none can.
        native_memory = (self._job, self._table, self._tickets, self._blocks, workspace.scratch)
        weakref.finalize(self, pool.retire, native_memory)
        self._bind_given(blueprint, numbers)
        self._results = workspace.results
        self._large = any(prod(dims) * np.dtype(dtype).itemsize >= LARGE for dims, dtype in self._made)

    def _bases(self, binding: Binding, workspace: Workspace) -> Array:
        """Addresses by buffer, of those that are not given to each run."""
        bases = binding.blueprint.bases.copy()
        buffers, places = binding.plan.places
        bases[buffers] = address_of(workspace.arena) + places
        for index, array in (self._tables | self._computed.arrays).items():
            bases[index] = address_of(array)
        status = address_of(self._status)
        for number, check in enumerate(self._program.checks):
            bases[check.status.buffer.index] = status + 8 * number
        counted = [output for output in self._program.outputs if isinstance(output, Counted)]
        for number, output in enumerate(counted):
            bases[output.count.buffer.index] = address_of(self._counts) + 8 * number
        return bases

    def _fill_job(self, workspace: Workspace, ticket_stride: int, scratch_stride: int) -> None:
        """The words the executor is given."""
        job = self._job
        job[native.JOB_STEPS] = len(self._program.steps)
        job[native.JOB_TABLE] = address_of(self._table)
        job[native.JOB_SCRATCH] = address_of(workspace.scratch)
        job[native.JOB_SCRATCH_STRIDE] = scratch_stride
        job[native.JOB_CLOCK] = address_of(self._clock) if self._clock is not None else 0
        job[native.JOB_TICKETS] = address_of(self._tickets)
        job[native.JOB_TICKET_STRIDE] = ticket_stride

    def _bind_given(self, blueprint: Blueprint, numbers: Array) -> None:
        """What the outputs are, and where the addresses of what a run is given go."""
        self._made: list[tuple[tuple[int, ...], Any]] = []
        self._constant: list[tuple[int, Array]] = []
        self._counted: list[tuple[int, int]] = []
        given = {view.buffer.index: index for index, view in enumerate(self._program.inputs)}
        for index, (output, found) in enumerate(zip(self._program.outputs, blueprint.outputs, strict=True)):
            if isinstance(output, np.ndarray):
                array = numbers[found].reshape(output.shape) if output.dtype == object else output
                self._constant.append((index, array))
                self._made.append((array.shape, array.dtype))
                continue
            view = output.view if isinstance(output, Counted) else output
            given[view.buffer.index] = len(self._program.inputs) + index
            self._made.append((tuple(numbers[found].tolist()), view.dtype.numpy))
            if isinstance(output, Counted):
                self._counted.append((index, output.axis))
        patches = words(len(blueprint.patches) * native.PATCH_WORDS or 1)
        rows = patches[: len(blueprint.patches) * native.PATCH_WORDS].reshape(-1, native.PATCH_WORDS)
        blocks = address_of(self._blocks)
        for row, patch in zip(rows, blueprint.patches, strict=True):
            row[:] = (given[patch.buffer], blocks + 8 * patch.word, numbers[patch.offset])
        holders = words(len(self._program.inputs) + len(self._program.outputs) or 1)
        job = self._job
        job[native.JOB_GIVEN], job[native.JOB_GIVEN_AT] = address_of(holders), _ADDRESS_AT
        job[native.JOB_PATCHES], job[native.JOB_PATCH_COUNT] = address_of(patches), len(rows)
        self._patches, self._holders = patches, holders.data  # a memoryview's items are set faster than an array's

    def run(self, inputs: Sequence[Array], out: Sequence[Array | None] | None = None) -> list[Array]:
        """Run on contiguous inputs of the program's dims; the outputs are new arrays, or those given.

        ExecutionError when a step found something wrong with the values.
        """
        if out is not None:
            outputs = self._given(out)
        elif self._large:
            self._results.begin()
            outputs = [self._empty(dims, dtype) for dims, dtype in self._made]
        else:
            outputs = [np.empty(dims, dtype) for dims, dtype in self._made]
        holders = self._holders
        index = 0
        for array in inputs:
            holders[index] = id(array)
            index += 1
        for array in outputs:
            holders[index] = id(array)
            index += 1
        self._execute(self._address)
        if self._program.checks:
            self._check()
        if self._constant or self._counted:
            self._finish(outputs)
        return outputs

    def _empty(self, dims: tuple[int, ...], dtype: Any) -> Array:
        """Memory for an output, of memory used before where that is worth it."""
        large = prod(dims) * np.dtype(dtype).itemsize >= LARGE
        return self._results.array(dims, dtype) if large else np.empty(dims, dtype)

    def _given(self, out: Sequence[Array | None]) -> list[Array]:
        """The caller's arrays, and new ones where there is none or only the run tells how much there is."""
        outputs = []
        for (dims, dtype), array, value in zip(self._made, out, self._program.outputs, strict=True):
            if array is None or isinstance(value, Counted):
                outputs.append(np.empty(dims, dtype))
                continue
            name = value.buffer.name if isinstance(value, View) else ""
            outputs.append(fitting(array, dims, dtype, f"output {name!r}"))
        return outputs

    def _finish(self, outputs: list[Array]) -> None:
        """Fill in what is known beforehand, and cut to size what only the run could count."""
        for index, array in self._constant:
            outputs[index][...] = array
        for (index, axis), count in zip(self._counted, self._counts.tolist(), strict=True):
            outputs[index] = outputs[index][(*(slice(None),) * axis, slice(count))].copy()

    def _check(self) -> None:
        for check, number in zip(self._program.checks, self._status.data, strict=True):
            if number:
                self._status[:] = 0
                raise ExecutionError(check.what, where=check.where, expected=check.expected, got=str(number))

    def times(self) -> list[tuple[int, int]]:
        """Start and duration in nanoseconds of each step of the newest run, when profiling."""
        if self._clock is None:
            return []
        stamps = [int(second) * 1_000_000_000 + int(nano) for second, nano in self._clock]
        return [(begin, end - begin) for begin, end in pairwise(stamps)]
