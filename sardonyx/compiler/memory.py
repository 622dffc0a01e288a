"""The memory plan: where each temporary buffer lies in one arena."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sardonyx.compiler.branches import group_steps
from sardonyx.compiler.layout import CACHE_LINE
from sardonyx.compiler.program import Buffer, BufferKind, Program, Step, View

ALIGNMENT = CACHE_LINE
"""Bytes; enough for every vector type."""


@dataclass(frozen=True)
class MemoryPlan:
    """Byte offsets in the arena by buffer index, the arena's size, and the most bytes that are live at once.

    `groups` has for each step the first of those it may overlap with (`branches`), which the offsets allow for.
    """

    offsets: dict[int, int]
    size: int
    lower_bound: int
    groups: tuple[int, ...]


@dataclass
class _Block:
    """Memory that one buffer after another holds: each is computed element by element from the one before.

    It is alive from the group of steps `first` to the group `last`.
    """

    first: int
    last: int
    bytes: int
    buffers: list[int]


def plan_memory(program: Program) -> MemoryPlan:
    """Largest blocks first, each at the lowest offset that no block alive at the same time uses.

    After Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference (arXiv:2001.03288).
    """
    groups = group_steps(program.steps)
    blocks = _blocks(program, groups)
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[int, int] = {}
    top = 0
    for block in sorted(blocks, key=lambda b: (-b.bytes, b.buffers[0])):
        at = 0
        for low, high, begin, end in sorted(placed):
            if begin <= block.last and block.first <= end:
                if low - at >= block.bytes:
                    break
                at = max(at, high)
        offsets |= dict.fromkeys(block.buffers, at)
        placed.append((at, at + block.bytes, block.first, block.last))
        top = max(top, at + block.bytes)
    live = [0] * (len(program.steps) + 1)
    for block in blocks:
        for step in range(block.first, block.last + 1):
            live[step] += block.bytes
    return MemoryPlan(offsets, top, max(live), groups)


def _aligned(buffer: Buffer) -> int:
    return max(ALIGNMENT, -(-buffer.bytes // ALIGNMENT) * ALIGNMENT)


def _blocks(program: Program, groups: tuple[int, ...]) -> list[_Block]:
    """The arena buffers with the steps that touch them; those that take over another's memory joined to it."""
    blocks: dict[int, _Block] = {}
    uses: Counter[tuple[int, int]] = Counter()
    for index, step in zip(groups, program.steps, strict=True):
        uses.update((index, buffer) for buffer in {view.buffer.index for view in step.views})
        for view in step.views:
            if view.buffer.kind is BufferKind.ARENA:
                block = blocks.setdefault(
                    view.buffer.index, _Block(index, index, _aligned(view.buffer), [view.buffer.index])
                )
                block.last = index
    for index, step in zip(groups, program.steps, strict=True):
        pair = _takes_over(step)
        if pair is None or any(uses[index, buffer.index] > 1 for buffer in pair):
            continue
        source, target = (blocks[buffer.index] for buffer in pair)
        if source is not target and source.last == index == target.first and source.bytes == target.bytes:
            source.last = target.last
            source.buffers += target.buffers
            blocks |= dict.fromkeys(target.buffers, source)
    return list({id(block): block for block in blocks.values()}.values())


def _takes_over(step: Step) -> tuple[Buffer, Buffer] | None:
    """A buffer that the step reads for the last time element by element, and the one it writes in the same order."""
    if len(step.writes) != 1:
        return None
    result = step.arguments[step.writes[0]]
    for slot in step.consumes:
        source = step.arguments[slot]
        if not (isinstance(source, View) and isinstance(result, View)):
            continue
        arena = source.buffer.kind is BufferKind.ARENA is result.buffer.kind
        alone = sum(view.buffer is source.buffer for view in step.views) == 1
        if arena and alone and _same_place(source, result):
            return source.buffer, result.buffer
    return None


def _same_place(a: View, b: View) -> bool:
    """Whether each element lies at the same byte of its buffer."""
    if a.dtype.size != b.dtype.size or a.offset != b.offset or a.size != b.size:
        return False
    steps = ([(d, s) for d, s in zip(v.dims, v.strides, strict=True) if d != 1] for v in (a, b))
    return next(steps) == next(steps)
