"""What this machine reaches at most: float32 multiply-adds a second, and bytes a second from each level of memory.

Both are measured, by kernels made with the compiler's own builder and run by its own threads, so that they say what
generated code can get here and now.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sardonyx import config
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.jit import host_target
from sardonyx.compiler.kernels.probe import MultiplyAdd, ReadStream
from sardonyx.compiler.layout import aligned_zeros
from sardonyx.compiler.program import BufferKind, Kernel, Program, ProgramBuilder, View
from sardonyx.compiler.target import Target
from sardonyx.runtime.executable import NativeExecutable

_F32 = DType.F32
_SECONDS, _LEAST_RUNS = 0.15, 5  # of a probe
_TURNS = 40_000  # of the multiply-add loop in one item: about 0.1 ms
_ITEMS_PER_THREAD = 8
_READ_VECTORS = 8  # registers of sums: enough loads in flight for every level


@dataclass(frozen=True)
class Level:
    """A level of memory: how many bytes it holds for all threads together, and how many GB/s they read from it."""

    name: str
    capacity: int
    gbytes: float


@dataclass(frozen=True)
class Roofline:
    """The limits for `threads` threads: float32 GFLOP/s (a multiply-add counts twice) and levels, nearest first.

    The last level is main memory, with a capacity no working set exceeds. `steady` is the fastest run of the arithmetic
    over the median one: 1 on a machine that does nothing else, and times taken where it is low are not to be trusted.
    """

    threads: int
    gflops: float
    levels: tuple[Level, ...]
    steady: float

    def level(self, size: int) -> Level:
        """The nearest level that holds `size` bytes."""
        return next((level for level in self.levels if size <= level.capacity), self.levels[-1])

    def arithmetic_ms(self, flops: float) -> float:
        """The least time for this many operations."""
        return 1e3 * flops / (self.gflops * 1e9)

    def read_ms(self, size: int, working_set: int) -> float:
        """The least time to read `size` bytes that come from where `working_set` bytes fit."""
        return 1e3 * size / (self.level(working_set).gbytes * 1e9)


@lru_cache(maxsize=8)
def roofline(threads: int) -> Roofline:
    """The limits of this machine for a number of threads, measured now (about a second), once a process."""
    target = host_target()
    near, far = target.l2_bytes * threads, max(target.l3_bytes, 2 * target.l2_bytes * threads)
    # An item of the first level is what one thread keeps, read many times; of the others each byte is read once a run.
    levels = (
        Level("L2", near, _read_speed(target, threads, items=threads, size=target.l2_bytes // 2, passes=64)),
        Level("L3", far, _read_speed(target, threads, items=8 * threads, size=far // (16 * threads), passes=1)),
        Level(
            "memory", 1 << 62, _read_speed(target, threads, items=64 * threads, size=far // (16 * threads), passes=1)
        ),
    )
    gflops, steady = _arithmetic_speed(target, threads)
    return Roofline(threads, gflops, levels, steady)


def _arithmetic_speed(target: Target, threads: int) -> tuple[float, float]:
    """GFLOP/s of float32 multiply-adds in registers, and how steady they were."""
    lanes, chains = target.lanes(_F32), target.vector_registers - 4
    items = _ITEMS_PER_THREAD * threads
    x = np.full(lanes, 0.5, np.float32)
    durations = _durations(MultiplyAdd(chains, _F32), x, {"turns": _TURNS}, items, threads, target)
    gflops = 2e-9 * items * _TURNS * chains * lanes / min(durations)
    return gflops, min(durations) / statistics.median(durations)


def _read_speed(target: Target, threads: int, *, items: int, size: int, passes: int) -> float:
    """GB/s when each of `items` items of about `size` bytes is read `passes` times."""
    step = _READ_VECTORS * target.lanes(_F32)
    count = max(1, size // _F32.size // step) * step
    x = aligned_zeros((items * count,), _F32.numpy)
    x[:] = 1  # so that every page is a page of its own
    sizes = {"count": count, "passes": passes}
    return 1e-9 * x.nbytes * passes / min(_durations(ReadStream(_READ_VECTORS, _F32), x, sizes, items, threads, target))


def _durations(
    kernel: Kernel, x: np.ndarray, sizes: Mapping[str, int], items: int, threads: int, target: Target
) -> list[float]:
    """Seconds of each of some runs of a kernel over `items` items.

    Taken from outside: the executor's own clock starts when the calling thread does, by which time a worker may have
    done it all.
    """
    program = _program(kernel, x, sizes, items)
    executable = NativeExecutable(
        lambda dims, values: program, target, threads=threads, spin_microseconds=config.SPIN.get(), profile=False
    )
    executable.run([])  # which compiles
    begin = now = time.perf_counter()
    durations: list[float] = []
    while now - begin < _SECONDS or len(durations) < _LEAST_RUNS:
        before = now
        executable.run([])
        now = time.perf_counter()
        durations.append(now - before)
    return durations


def _program(kernel: Kernel, x: np.ndarray, sizes: Mapping[str, int], items: int) -> Program:
    built = ProgramBuilder()
    y = View(built.buffer(BufferKind.OUTPUT, items * _F32.size), _F32, (items,), (1,))
    built.step(kernel, {"x": built.constant(x), "y": y, **sizes}, writes=("y",), domain=items, label="probe")
    program = Program(tuple(built.buffers), tuple(built.steps), (), (y,))
    program.verify()
    return program
