"""A frame: the memory of one run of a program, its arena, argument blocks and step table, used over and over."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler import executor as native
from sardonyx.compiler.memory import ALIGNMENT, MemoryPlan
from sardonyx.compiler.program import BufferKind, Counted, Kernel, Program, View
from sardonyx.errors import ExecutionError
from sardonyx.runtime.threads import ThreadPool, words

if TYPE_CHECKING:
    from sardonyx.compiler.program import Step

Array = np.ndarray[Any, Any]


Patch = tuple[int, int]
"""A word of the argument blocks that holds an address in an input or output, and how many bytes in that lies."""


def address_of(array: Array) -> int:
    """Address of an array's first element."""
    return int(array.__array_interface__["data"][0])


class Frame:
    """Memory to run `program` once at a time. Made in about a millisecond; owned by one thread while it runs."""

    def __init__(
        self,
        program: Program,
        plan: MemoryPlan,
        addresses: Mapping[Kernel, int],
        pool: ThreadPool,
        *,
        profile: bool,
    ) -> None:
        self._program = program
        self._arena = words(plan.size // 8 + 1)
        bases: dict[int, int] = {b: address_of(self._arena) + at for b, at in plan.offsets.items()}
        self._constants = _constants(program)
        bases |= {index: address_of(array) for index, array in self._constants.items()}
        self._status = words(len(program.checks) or 1)
        places = {check.status.buffer.index: 8 * index for index, check in enumerate(program.checks)}
        bases |= {index: address_of(self._status) + at for index, at in places.items()}
        scratch = max((step.scratch for step in program.steps), default=0)
        stride = -(-scratch // ALIGNMENT) * ALIGNMENT
        self._scratch = words(stride * pool.threads // 8 + 1)
        self._blocks = words(sum(len(step.arguments) for step in program.steps) or 1)
        self._table = words(len(program.steps) * native.STEP_WORDS or 1)
        ticket_stride = native.LINE * (1 + pool.threads)
        self._tickets = words(len(program.steps) * ticket_stride or 1)
        self._clock = np.zeros((len(program.steps) + 1, 2), np.int64) if profile else None
        self._patches: dict[int, list[Patch]] = {}
        at = 0
        for index, step in enumerate(program.steps):
            row = self._table[index * native.STEP_WORDS :]
            parts = min(pool.threads, -(-step.domain // step.chunk))
            waits = profile or plan.groups[index] == index  # times of steps that overlap would mean nothing
            block = address_of(self._blocks) + 8 * at
            row[: native.STEP_WAITS + 1] = (addresses[step.kernel], block, step.domain, step.chunk, parts, waits)
            at = self._fill(step, at, bases)
        self._tickets[native.EXPECTED_RUN :: ticket_stride] = 1  # the first run's number
        self._job = self._make_job(ticket_stride, stride)
        self._address = address_of(self._job)
        shared = any(step.domain > step.chunk for step in program.steps)
        self._execute = pool.run if shared else pool.solo
        # A worker that comes late still looks at these when the run is over: they are freed when none can.
        native_memory = (self._job, self._table, self._tickets, self._blocks, self._scratch)
        weakref.finalize(self, pool.retire, native_memory)
        self._bound = [self._patches.get(view.buffer.index, []) for view in program.inputs]
        self._made: list[tuple[View | Array, Any, list[Patch]]] = [
            (v, v.dtype.numpy, self._patches.get(v.buffer.index, [])) if isinstance(v, View) else (v, v.dtype, [])
            for v in (output.view if isinstance(output, Counted) else output for output in program.outputs)
        ]
        self._counted = [
            (index, output.axis, self._patches.get(output.count.buffer.index, []))
            for index, output in enumerate(program.outputs)
            if isinstance(output, Counted)
        ]
        self._words = self._blocks.data  # a memoryview, whose items are set faster than an array's

    def _make_job(self, ticket_stride: int, scratch_stride: int) -> Array:
        """The words the executor is given."""
        job = words(native.JOB_WORDS)
        job[native.JOB_STEPS] = len(self._program.steps)
        job[native.JOB_TABLE] = address_of(self._table)
        job[native.JOB_SCRATCH] = address_of(self._scratch)
        job[native.JOB_SCRATCH_STRIDE] = scratch_stride
        job[native.JOB_CLOCK] = address_of(self._clock) if self._clock is not None else 0
        job[native.JOB_TICKETS] = address_of(self._tickets)
        job[native.JOB_TICKET_STRIDE] = ticket_stride
        return job

    def _fill(self, step: Step, at: int, bases: Mapping[int, int]) -> int:
        """Write a step's argument block at word `at`; returns the next free word."""
        for argument in step.arguments:
            if isinstance(argument, View):
                offset = argument.offset * argument.dtype.size
                if argument.buffer.kind in (BufferKind.INPUT, BufferKind.OUTPUT):
                    self._patches.setdefault(argument.buffer.index, []).append((at, offset))
                else:
                    self._blocks[at] = bases[argument.buffer.index] + offset
            else:
                self._blocks[at] = argument
            at += 1
        return at

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run on contiguous inputs of the program's dims; the outputs are new arrays.

        ExecutionError when a step found something wrong with the values.
        """
        words = self._words
        for array, patches in zip(inputs, self._bound, strict=True):
            base = address_of(array)
            for word, offset in patches:
                words[word] = base + offset
        outputs: list[Array] = []
        for made, dtype, patches in self._made:
            if isinstance(made, View):
                output = np.empty(made.dims, dtype)
                base = address_of(output)
                for word, offset in patches:
                    words[word] = base + offset
            else:
                output = made.copy()
            outputs.append(output)
        counts = np.zeros(len(self._counted), np.int64)
        for slot, (_, _, patches) in enumerate(self._counted):
            for word, _ in patches:
                words[word] = address_of(counts) + 8 * slot
        self._execute(self._address)
        if self._program.checks:
            self._check()
        for (index, axis, _), count in zip(self._counted, counts, strict=True):
            whole = (slice(None),) * axis
            outputs[index] = outputs[index][(*whole, slice(int(count)))].copy()
        return outputs

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


def _constants(program: Program) -> dict[int, Array]:
    """The constants that steps use, at addresses that fit their type."""
    used = {v.buffer.index for step in program.steps for v in step.views if v.buffer.kind is BufferKind.CONSTANT}
    arrays: dict[int, Array] = {}
    for index in sorted(used):
        data = program.buffers[index].data
        assert data is not None
        # A tensor in a file may lie at any byte; native code wants natural alignment.
        arrays[index] = data if data.flags.aligned else data.copy()
    return arrays
