"""The memory plan: where each temporary buffer lies in one arena."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sardonyx.compiler.branches import group_steps
from sardonyx.compiler.dims import hint, surely
from sardonyx.compiler.layout import CACHE_LINE
from sardonyx.compiler.program import Buffer, BufferKind, Program, Step, View

Array = np.ndarray[Any, Any]

ALIGNMENT = CACHE_LINE
"""Bytes; enough for every vector type."""


@dataclass(frozen=True)
class MemoryPlan:
    """Byte offsets in the arena by buffer index, the arena's size, and the most bytes that are live at once.

    `sizes` are the bytes it has room for, by buffer index. `groups` has for each step the first of those it may
    overlap with (`branches`), which the offsets allow for.
    """

    offsets: dict[int, int]
    size: int
    lower_bound: int
    sizes: tuple[int, ...]
    groups: tuple[int, ...]

    @cached_property
    def places(self) -> tuple[Array, Array]:
        """The offsets as arrays: buffers and bytes."""
        return np.array(list(self.offsets), np.int64), np.array(list(self.offsets.values()), np.int64)

    def fits(self, sizes: Array) -> bool:
        """Whether buffers of these sizes have room where they lie."""
        buffers, _ = self.places
        return bool((sizes[buffers] <= np.array(self.sizes, np.int64)[buffers]).all())


@dataclass
class Block:
    """Memory that one buffer after another holds: each is computed element by element from the one before.

    It is alive from the group of steps `first` to the group `last`.
    """

    first: int
    last: int
    buffers: list[int]


@dataclass(frozen=True)
class Lifetimes:
    """When which memory of a program is in use, whatever its open dims are."""

    groups: tuple[int, ...]
    blocks: tuple[Block, ...]

    def plan(self, sizes: Sequence[int]) -> MemoryPlan:
        """Largest blocks first, each at the lowest offset that no block alive at the same time uses.

        `sizes` are the buffers' bytes, by index. After Pisarchyk and Lee, Efficient Memory Management for Deep Neural
        Net Inference (arXiv:2001.03288).
        """
        placed: list[tuple[int, int, int, int]] = []
        offsets: dict[int, int] = {}
        live = [0] * (len(self.groups) + 1)
        room = [(_aligned(max(sizes[buffer] for buffer in block.buffers)), block) for block in self.blocks]
        for size, block in sorted(room, key=lambda pair: (-pair[0], pair[1].buffers[0])):
            at = 0
            for low, high, begin, end in placed:
                if begin <= block.last and block.first <= end:
                    if low - at >= size:
                        break
                    at = max(at, high)
            offsets |= dict.fromkeys(block.buffers, at)
            insort(placed, (at, at + size, block.first, block.last))
            for step in range(block.first, block.last + 1):
                live[step] += size
        top = max((high for _, high, _, _ in placed), default=0)
        return MemoryPlan(offsets, top, max(live), tuple(sizes), self.groups)


def plan_memory(program: Program) -> MemoryPlan:
    """The plan of a program, for its dims as they were when it was made."""
    return lifetimes(program).plan([hint(buffer.bytes) for buffer in program.buffers])


def _aligned(size: int) -> int:
    return max(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)


def lifetimes(program: Program) -> Lifetimes:
    """The arena buffers with the steps that touch them; those that take over another's memory joined to it."""
    groups = group_steps(program.steps)
    blocks: dict[int, Block] = {}
    uses: Counter[tuple[int, int]] = Counter()
    for index, step in zip(groups, program.steps, strict=True):
        uses.update((index, buffer) for buffer in {view.buffer.index for view in step.views})
        for view in step.views:
            if view.buffer.kind is BufferKind.ARENA:
                block = blocks.setdefault(view.buffer.index, Block(index, index, [view.buffer.index]))
                block.last = index
    for index, step in zip(groups, program.steps, strict=True):
        pair = _takes_over(step)
        if pair is None or any(uses[index, buffer.index] > 1 for buffer in pair):
            continue
        source, target = (blocks[buffer.index] for buffer in pair)
        if source is not target and source.last == index == target.first:
            source.last = target.last
            source.buffers += target.buffers
            blocks |= dict.fromkeys(target.buffers, source)
    return Lifetimes(groups, tuple({id(block): block for block in blocks.values()}.values()))


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
        if arena and alone and surely(source.buffer.bytes, "==", result.buffer.bytes) and _same_place(source, result):
            return source.buffer, result.buffer
    return None


def _same_place(a: View, b: View) -> bool:
    """Whether each element lies at the same byte of its buffer."""
    if a.dtype.size != b.dtype.size or not surely(a.offset, "==", b.offset):
        return False
    steps = [[(d, s) for d, s in zip(v.dims, v.strides, strict=True) if not surely(d, "==", 1)] for v in (a, b)]
    if len(steps[0]) != len(steps[1]):
        return False
    pairs = zip(*steps, strict=True)
    return all(surely(d, "==", other) and surely(s, "==", step) for (d, s), (other, step) in pairs)
