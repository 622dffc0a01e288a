"""A compiled subgraph: programs by the dims of its inputs, and frames to run them in."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sardonyx import config
from sardonyx.compiler.jit import load_kernels
from sardonyx.compiler.memory import MemoryPlan, plan_memory
from sardonyx.compiler.program import BufferKind, Kernel, Program
from sardonyx.compiler.target import Target
from sardonyx.errors import ExecutionError
from sardonyx.runtime.frame import Frame
from sardonyx.runtime.threads import pool

Array = np.ndarray[Any, Any]
Dims = tuple[tuple[int, ...], ...]

_BINDINGS = 16
"""Dims whose programs and frames are kept."""


@dataclass
class Binding:
    """What is made for one choice of input dims; `free` holds the frames that no thread is using."""

    program: Program
    plan: MemoryPlan
    addresses: dict[Kernel, int]
    free: list[Frame] = field(default_factory=list)


class NativeExecutable:
    """Runs programs that `lower` makes for the dims of each call's inputs. Safe to call from several threads."""

    def __init__(
        self,
        lower: Callable[[Dims], Program],
        target: Target,
        *,
        threads: int,
        spin_microseconds: int,
        profile: bool,
    ) -> None:
        self._lower, self._target, self._threads = lower, target, threads
        self._spin, self._profile = spin_microseconds, profile
        self._bindings: OrderedDict[Dims, Binding] = OrderedDict()
        self._lock = threading.Lock()
        self._newest: tuple[Binding, Frame] | None = None

    def binding(self, dims: Dims) -> Binding:
        """The program for these input dims, compiled when they are new."""
        found = self._bindings.get(dims)
        if found is not None:
            return found
        with self._lock:
            found = self._bindings.get(dims)
            if found is None:
                program = self._lower(dims)
                plan = plan_memory(program)
                _check_memory(program, plan)
                addresses = load_kernels(program.kernels, self._target)
                found = self._bindings[dims] = Binding(program, plan, addresses)
                while len(self._bindings) > _BINDINGS:
                    self._bindings.popitem(last=False)
        return found

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs of the subgraph, in order."""
        arrays = [a if a.flags.c_contiguous and a.flags.aligned else np.require(a, None, ["C", "A"]) for a in inputs]
        binding = self.binding(tuple(array.shape for array in arrays))
        try:
            frame = binding.free.pop()
        except IndexError:
            frame = self._frame(binding)
        try:
            return frame.run(arrays)
        except MemoryError as error:
            raise ExecutionError("not enough memory for the results", got=str(error)) from error
        finally:
            binding.free.append(frame)
            if self._profile:
                self._newest = (binding, frame)

    def _frame(self, binding: Binding) -> Frame:
        workers = pool(self._target, self._threads, self._spin)
        return Frame(binding.program, binding.plan, binding.addresses, workers, profile=self._profile)

    def newest(self) -> Program | None:
        """The program of the newest profiled run."""
        return self._newest[0].program if self._newest is not None else None

    def times(self) -> list[tuple[str, str, int, int]]:
        """(nodes, kernel, start, duration) of each step of the newest profiled run, in nanoseconds."""
        if self._newest is None:
            return []
        binding, frame = self._newest
        steps = binding.program.steps
        return [(s.label, s.kernel.name, *t) for s, t in zip(steps, frame.times(), strict=True)]


def _check_memory(program: Program, plan: MemoryPlan) -> None:
    """Refuse a run that could only end with the system running out of memory."""
    results = sum(buffer.bytes for buffer in program.buffers if buffer.kind is BufferKind.OUTPUT)
    limit = config.MEMORY.get()
    if plan.size + results > limit:
        raise ExecutionError(
            "a run on inputs of these dims needs too much memory",
            expected=f"at most {limit:,} bytes",
            got=f"{plan.size + results:,}",
            fix=f"take smaller inputs, or raise {config.MEMORY.variable}",
        )
