"""An AArch64 machine to run programs on: Debian's cross linker, and QEMU for the processor.

A program's memory (arguments, arena, constants, step table) is laid out here as `runtime.frame` does it, but for an
address of another process. Every tensor outside the arena ends where a page begins that nobody may touch, so reading
or writing past an end is caught; memory that nothing has written holds NaN.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.compiler import executor as native
from sardonyx.compiler.jit import compile_module, kernel_object
from sardonyx.compiler.memory import MemoryPlan, plan_memory
from sardonyx.compiler.program import BufferKind, Counted, Kernel, Program, View
from sardonyx.compiler.target import Target

Array = np.ndarray[Any, Any]

AARCH64 = Target.from_features("aarch64-unknown-linux-gnu", "generic", {})
COMPILER, SYMBOLS, EMULATOR = "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-nm", "qemu-aarch64"
PACKAGES = "qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
"""Debian's, which have them."""
PROCESSOR = "cortex-a53"
"""An ARMv8.0, so that a newer instruction is an illegal one."""

_BASE = 1 << 36
_PAGE = 4096
_HEAD = 7
"""Words before the addresses of guard pages."""
_SPINS = 100
_UNWRITTEN = 0xFF
"""A byte; floats of them are NaN."""


def missing_tools() -> list[str]:
    """Which of the commands are not on this machine."""
    return [name for name in (COMPILER, SYMBOLS, EMULATOR) if shutil.which(name) is None]


@dataclass
class Memory:
    """An image in the making; it begins with room for the head and the addresses of guard pages."""

    data: bytearray = field(default_factory=lambda: bytearray(2 * _PAGE))
    guards: list[int] = field(default_factory=list)

    def place(self, array: Array) -> int:
        """Copy an array in at a cache line of its own; its address."""
        self.data += bytes(-len(self.data) % 64)
        self.data += array.tobytes()
        return _BASE + len(self.data) - array.nbytes

    def place_guarded(self, array: Array) -> int:
        """The same with its end at the end of a page, and a guard page behind."""
        self.data += bytes((-len(self.data) - array.nbytes) % _PAGE)
        self.data += array.tobytes() + bytes(_PAGE)
        self.guards.append(_BASE + len(self.data) - _PAGE)
        return _BASE + len(self.data) - _PAGE - array.nbytes

    def finish(self, *head: int) -> bytes:
        """The image, with `head` (pool, job, threads, runs) in its first words."""
        assert _HEAD + len(self.guards) <= 2 * _PAGE // 8
        words = np.array([_BASE, len(self.data), *head, len(self.guards), *self.guards], np.int64).tobytes()
        self.data[: len(words)] = words
        return bytes(self.data)


def unwritten(size: int) -> Array:
    """`size` bytes that nothing has written."""
    return np.full(size, _UNWRITTEN, np.uint8)


@dataclass(frozen=True)
class Machine:
    """Programs linked for the emulated processor: `addresses` of their kernels in the executable `file`."""

    file: Path
    addresses: Mapping[str, int]

    @classmethod
    def link(cls, kernels: Iterable[Kernel], folder: Path) -> Machine:
        """Compile the kernels and the executor, and link them with `runner.c`."""
        objects = {kernel.symbol: kernel_object(kernel, AARCH64) for kernel in kernels}
        objects["executor"] = compile_module(native.executor_module(AARCH64), AARCH64)
        for name, code in objects.items():
            (folder / f"{name}.o").write_bytes(code)
        file = folder / "program"
        files = [folder / f"{name}.o" for name in objects]
        runner = Path(__file__).with_name("runner.c")
        command = [COMPILER, "-O1", "-Wall", "-Werror", "-static", "-pthread", "-o", file, runner, *files, "-lm"]
        subprocess.run(command, check=True)
        listing = subprocess.run([SYMBOLS, file], check=True, capture_output=True, text=True).stdout
        fields = [line.split() for line in listing.splitlines()]
        addresses = {words[2]: int(words[0], 16) for words in fields if len(words) == 3 and words[2] in objects}
        return cls(file, addresses)

    def run(self, program: Program, feeds: Sequence[Array], *, threads: int = 2, runs: int = 3) -> list[Array]:
        """The program's outputs; CalledProcessError when it crashes."""
        memory, plan = Memory(), plan_memory(program)
        bases = _place_buffers(program, plan, feeds, memory)
        job = self._place_job(program, plan, bases, memory, threads)
        pool = np.zeros(native.POOL_WORDS, np.int64)
        pool[native.POOL_SPIN] = _SPINS
        image = self.file.with_name("image")
        image.write_bytes(memory.finish(memory.place(pool), job, threads, runs))
        subprocess.run([EMULATOR, "-cpu", PROCESSOR, self.file, image], check=True, timeout=120)
        written = image.read_bytes()

        def result(view: View) -> Array:
            at = bases[view.buffer.index] - _BASE
            return np.frombuffer(written, view.dtype.numpy, view.size, at).reshape(view.dims)

        for check in program.checks:
            assert not result(check.status), check
        results: list[Array] = []
        for output in program.outputs:
            if isinstance(output, Counted):
                count = int(result(output.count).item())
                results.append(np.take(result(output.view), range(count), output.axis))
            else:
                results.append(result(output) if isinstance(output, View) else output)
        return results

    def _place_job(
        self, program: Program, plan: MemoryPlan, bases: Mapping[int, int], memory: Memory, threads: int
    ) -> int:
        table = np.zeros((len(program.steps), native.STEP_WORDS), np.int64)
        for index, (row, step) in enumerate(zip(table, program.steps, strict=True)):
            block = [
                bases[a.buffer.index] + a.offset * a.dtype.size if isinstance(a, View) else a for a in step.arguments
            ]
            parts = min(threads, -(-step.domain // step.chunk))
            address = memory.place(np.array(block, np.int64))
            waits = plan.groups[index] == index
            kernel = self.addresses[step.kernel.symbol]
            row[: native.STEP_WAITS + 1] = (kernel, address, step.domain, step.chunk, parts, waits)
        stride = native.LINE * (1 + threads)
        tickets = np.zeros((len(program.steps), stride), np.int64)
        tickets[:, native.EXPECTED_RUN] = 1
        scratch = -(-max((step.scratch for step in program.steps), default=0) // 64) * 64
        job = np.zeros(native.JOB_WORDS, np.int64)
        job[native.JOB_STEPS], job[native.JOB_TABLE] = len(program.steps), memory.place(table)
        job[native.JOB_SCRATCH] = memory.place_guarded(unwritten(scratch * threads))
        job[native.JOB_SCRATCH_STRIDE] = scratch
        job[native.JOB_TICKETS], job[native.JOB_TICKET_STRIDE] = memory.place(tickets), stride
        return memory.place(job)


def _place_buffers(program: Program, plan: MemoryPlan, feeds: Sequence[Array], memory: Memory) -> dict[int, int]:
    """Addresses by buffer index."""
    arena = memory.place_guarded(unwritten(-(-plan.size // 64) * 64))
    bases = {index: arena + at for index, at in plan.offsets.items()}
    given = {view.buffer.index: feed for view, feed in zip(program.inputs, feeds, strict=True)}
    for buffer in program.buffers:
        if buffer.kind is BufferKind.INPUT:
            bases[buffer.index] = memory.place_guarded(given[buffer.index])
        elif buffer.kind is BufferKind.OUTPUT:
            bases[buffer.index] = memory.place_guarded(unwritten(buffer.bytes))
        elif buffer.kind is BufferKind.STATUS:
            bases[buffer.index] = memory.place_guarded(np.zeros(buffer.bytes, np.uint8))
        elif buffer.kind is BufferKind.CONSTANT:
            assert buffer.data is not None
            bases[buffer.index] = memory.place_guarded(buffer.data)
    return bases
