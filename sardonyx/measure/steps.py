"""Where a run's time goes: every step of a compiled program beside the least time the machine could need for it.

Steps are timed inside real runs: the executor notes the time when each begins (`CompileOptions.profile`), which
costs one reading of the clock, some 30 ns. Run alone, over and over, a step would find its input in caches where the
network does not leave it, would not wait for its share of weights from memory, and would not pay for handing the work
from thread to thread; the sum of such times is not the network's.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np

from sardonyx.compiler.memory import MemoryPlan, plan_memory
from sardonyx.compiler.program import Buffer, BufferKind, Program, Step, View
from sardonyx.errors import ProviderError
from sardonyx.measure.roofline import Roofline
from sardonyx.measure.runners import Inputs
from sardonyx.plan import Plan
from sardonyx.providers.base import CompileOptions, Executable

if TYPE_CHECKING:
    import onnx_ir as ir

_WARM_UP = 3  # runs
_FAST_ALGORITHM = "winograd"
"""In the name of kernels that need fewer operations than the convolution they compute."""


@runtime_checkable
class Native(Executable, Protocol):
    """An executable that is a program of native steps."""

    def program(self) -> Program:
        """The program for the declared dims or, when they are open, of the newest profiled run."""
        ...


@dataclass(frozen=True)
class Compiled:
    """A model as native segments, of which there are several where only a run tells how large results are."""

    plan: Plan
    segments: tuple[Native, ...]

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The model's outputs."""
        return self.plan.run(inputs)

    def times(self) -> list[list[float]]:
        """Milliseconds of each segment's steps in the newest run."""
        return [[1e-6 * step.duration_ns for step in segment.profile()] for segment in self.segments]


@dataclass(frozen=True)
class Work:
    """What a step has to do at the least.

    `flops` are two for each multiply-add of its ONNX nodes, as their definition says (`fast` marks an algorithm that
    gets by with fewer, so that its share of the limit may pass 1); 0 where ONNX nodes of that kind are not counted.
    `weights` are the bytes of constants read, `moved` those of other tensors read and written, each address once.
    """

    flops: int
    weights: int
    moved: int
    fast: bool


@dataclass(frozen=True)
class StepReport:
    """A step, or a group of steps that overlap: its time in milliseconds, and the limit, its arithmetic or its reading.

    `kernels` and `nodes` are those of its steps; `nodes` names the ONNX nodes a step computes, with + between them.
    """

    kernels: tuple[str, ...]
    nodes: tuple[str, ...]
    work: Work
    ms: float
    limit_ms: float
    bound: str

    @property
    def share(self) -> float:
        """The limit over the time: 1 is a step that cannot be faster."""
        return self.limit_ms / self.ms if self.ms else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"share": self.share}


@dataclass(frozen=True)
class StepsReport:
    """All steps. Times are medians over runs: `run_ms` of the whole inside native code, `call_ms` seen from Python.

    `arena` are the bytes of the temporaries' memory and `bound` those below which its plan, with steps overlapping and
    results in the place of what they are computed from, cannot go. `live` is what a run would need at most at once that
    does neither; `weights` are the bytes of the constants that steps read.
    """

    steps: tuple[StepReport, ...]
    roofline: Roofline
    run_ms: float
    call_ms: float
    arena: int
    bound: int
    live: int
    weights: int

    @property
    def limit_ms(self) -> float:
        """The sum of the steps' limits."""
        return sum(step.limit_ms for step in self.steps)


def measure_steps(model: Path, inputs: Inputs, limits: Roofline, *, runs: int = 50) -> StepsReport:
    """Runs the model `runs` times on the provider `cpu` with as many threads as `limits` is for.

    ProviderError when the provider does not run all of the model natively. All input dims must be declared.
    """
    graph, executable = compiled(model, limits.threads, inputs)
    macs = _node_macs(graph)
    feeds = [inputs[value.name or ""] for value in graph.inputs]
    calls, times = [], []
    for _ in range(_WARM_UP + runs):
        start = time.perf_counter()
        executable.run(feeds)
        calls.append(1e3 * (time.perf_counter() - start))
        times.append(executable.times())
    calls, times = calls[_WARM_UP:], times[_WARM_UP:]
    programs = [segment.program() for segment in executable.segments]
    plans = [plan_memory(program) for program in programs]
    footprint = sum(_footprint(program, plan) for program, plan in zip(programs, plans, strict=True))
    found = [
        _reports(program, macs, plan, [run[index] for run in times], limits, footprint)
        for index, (program, plan) in enumerate(zip(programs, plans, strict=True))
    ]
    return StepsReport(
        steps=tuple(itertools.chain.from_iterable(found)),
        roofline=limits,
        run_ms=statistics.median(sum(map(sum, run)) for run in times),
        call_ms=statistics.median(calls),
        arena=sum(plan.size for plan in plans),
        bound=sum(plan.lower_bound for plan in plans),
        live=max(map(live_bytes, programs)),
        weights=sum(map(constant_bytes, programs)),
    )


def works(program: Program, macs: Mapping[str, int], groups: Sequence[Sequence[int]]) -> list[Work]:
    """The least work of every group of steps; `macs` are multiply-adds by the name of an ONNX node.

    A node that several steps name counts in equal parts for each, so that the sum over the steps is the network's.
    """
    named = [set(step.label.split("+")) for step in program.steps]
    uses = Counter(name for names in named for name in names)

    def work(group: Sequence[int]) -> Work:
        steps = [program.steps[index] for index in group]
        views = [view for step in steps for view in step.views]
        return Work(
            flops=sum(2 * macs.get(name, 0) // uses[name] for index in group for name in named[index]),
            weights=_bytes(view for view in views if view.buffer.kind is BufferKind.CONSTANT),
            moved=_bytes(view for view in views if view.buffer.kind is not BufferKind.CONSTANT),
            fast=any(_FAST_ALGORITHM in step.kernel.name for step in steps),
        )

    return [work(group) for group in groups]


def live_bytes(program: Program) -> int:
    """The most bytes of temporaries that are needed at once when steps run one by one: those of each buffer from the
    first step that touches it to the last.
    """
    touched = [{v.buffer for v in step.views if v.buffer.kind is BufferKind.ARENA} for step in program.steps]
    most, live = 0, 0
    left = Counter(buffer for buffers in touched for buffer in buffers)
    seen: set[Buffer] = set()
    for buffers in touched:
        live += sum(buffer.bytes for buffer in buffers - seen)
        seen |= buffers
        most = max(most, live)
        left.subtract(buffers)
        live -= sum(buffer.bytes for buffer in buffers if not left[buffer])
    return most


def constant_bytes(program: Program) -> int:
    """Bytes of the constants that steps read, each once."""
    return _bytes(v for step in program.steps for v in step.views if v.buffer.kind is BufferKind.CONSTANT)


def _bytes(views: Iterable[View]) -> int:
    """Bytes of distinct elements behind the views: a stride of 0 reads one again, and equal views are one."""
    sizes: dict[tuple[int, int, tuple[int, ...]], int] = {}
    for view in views:
        count = view.dtype.size
        for size, stride in zip(view.dims, view.strides, strict=True):
            count *= size if stride else min(size, 1)
        key = (view.buffer.index, view.offset, view.strides)
        sizes[key] = max(sizes.get(key, 0), min(count, view.buffer.bytes))
    return sum(sizes.values())


def _footprint(program: Program, plan: MemoryPlan) -> int:
    """All bytes that a run touches."""
    return plan.size + sum(buffer.bytes for buffer in program.buffers if buffer.kind is not BufferKind.ARENA)


def _reports(
    program: Program,
    macs: Mapping[str, int],
    plan: MemoryPlan,
    times: Sequence[Sequence[float]],
    limits: Roofline,
    footprint: int,
) -> tuple[StepReport, ...]:
    """`times` are milliseconds, by run and step. Only those of whole groups of overlapping steps mean something."""
    groups = [[*group] for _, group in itertools.groupby(range(len(program.steps)), key=lambda i: plan.groups[i])]
    medians = [statistics.median(sum(run[index] for index in group) for run in times) for group in groups]
    return tuple(
        _report([program.steps[index] for index in group], work, ms, limits, footprint)
        for group, work, ms in zip(groups, works(program, macs, groups), medians, strict=True)
    )


def _report(steps: Sequence[Step], work: Work, ms: float, limits: Roofline, footprint: int) -> StepReport:
    """Weights come from where all that a run touches fits, since they were last read a run ago; what a step reads of
    other tensors may still lie as near as its own size allows.
    """
    by = {
        "arithmetic": limits.arithmetic_ms(work.flops),
        f"weights from {limits.level(footprint).name}": limits.read_ms(work.weights, footprint),
        f"tensors in {limits.level(work.moved).name}": limits.read_ms(work.moved, work.moved),
    }
    bound = max(by, key=lambda name: by[name])
    kernels = tuple(dict.fromkeys(step.kernel.name for step in steps))
    return StepReport(kernels, tuple(step.label for step in steps), work, ms, by[bound], bound)


def compiled(path: Path, threads: int, inputs: Inputs) -> tuple[ir.Graph, Compiled]:
    """The graph as the provider `cpu` compiles it, every node with a name of its own, and its executables. Its symbols
    have the sizes that the inputs give them.

    ProviderError when the provider does not run all of it natively.
    """
    from sardonyx.model import file
    from sardonyx.model.check import require_valid
    from sardonyx.model.shapes import fix_dimensions, infer_shapes
    from sardonyx.passes.pipeline import NEWEST_OPSET, optimize
    from sardonyx.providers import registry
    from sardonyx.providers.partition import partition

    model = file.load(path)
    require_valid(model, str(path))
    fix_dimensions(model.graph, _sizes(model.graph, inputs))
    infer_shapes(model)
    model = optimize(model, opset_ceiling=NEWEST_OPSET)
    infer_shapes(model)  # with the sizes that are constants now
    for index, node in enumerate(model.graph):
        node.name = f"{node.op_type.lower()}_{index}" if not node.name or "+" in node.name else node.name
    provider = registry.get("cpu")
    declined = [f"{node.name}: {claim.reason}" for node, claim in provider.claims(model).items() if not claim.accepted]
    if declined:
        raise ProviderError("not all of the model is native", where=str(path), got="; ".join(declined[:3]))
    parts = [segment.model for segment in partition(model, [provider]).segments]
    made = [provider.compile(part, CompileOptions(threads, profile=True)) for part in parts]
    native = tuple(executable for executable in made if isinstance(executable, Native))
    if len(native) != len(made):
        raise ProviderError("the provider has no program to look at", where=provider.name)
    return model.graph, Compiled(Plan(model, list(zip(parts, made, strict=True))), native)


def _sizes(graph: ir.Graph, inputs: Inputs) -> dict[str, int]:
    """Of the symbols in the graph's inputs."""
    return {
        dim.value: size
        for value in graph.inputs
        for dim, size in zip(value.shape or (), np.shape(inputs[value.name or ""]), strict=False)
        if not isinstance(dim, int) and dim.value
    }


def _node_macs(graph: ir.Graph) -> dict[str, int]:
    from sardonyx.model import macs

    def known(value: ir.Value) -> tuple[int, ...] | None:
        dims = tuple(value.shape) if value.shape is not None else None
        return None if dims is None or not all(isinstance(d, int) for d in dims) else cast("tuple[int, ...]", dims)

    found = {node.name or "": macs.count(node, known) for node in graph if macs.is_counted(node)}
    return {name: count for name, count in found.items() if count is not None}
