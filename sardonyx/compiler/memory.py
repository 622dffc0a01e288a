"""The memory plan: where each temporary buffer lies in one arena."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.layout import CACHE_LINE
from sardonyx.compiler.program import Buffer, BufferKind, Program

ALIGNMENT = CACHE_LINE
"""Bytes; enough for every vector type."""


@dataclass(frozen=True)
class MemoryPlan:
    """Byte offsets in the arena by buffer index, the arena's size, and the most bytes that are live at once."""

    offsets: dict[int, int]
    size: int
    lower_bound: int


def plan_memory(program: Program) -> MemoryPlan:
    """Largest buffers first, each at the lowest offset that no buffer alive at the same time uses.

    After Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference (arXiv:2001.03288).
    """
    lives = _lifetimes(program)
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[int, int] = {}
    top = 0
    for buffer in sorted((program.buffers[i] for i in lives), key=lambda b: (-b.bytes, b.index)):
        first, last = lives[buffer.index]
        size = _aligned(buffer)
        at = 0
        for low, high, begin, end in sorted(placed):
            if begin <= last and first <= end:
                if low - at >= size:
                    break
                at = max(at, high)
        offsets[buffer.index] = at
        placed.append((at, at + size, first, last))
        top = max(top, at + size)
    live = [0] * (len(program.steps) + 1)
    for index, (first, last) in lives.items():
        for step in range(first, last + 1):
            live[step] += _aligned(program.buffers[index])
    return MemoryPlan(offsets, top, max(live))


def _aligned(buffer: Buffer) -> int:
    return max(ALIGNMENT, -(-buffer.bytes // ALIGNMENT) * ALIGNMENT)


def _lifetimes(program: Program) -> dict[int, tuple[int, int]]:
    """First and last step that touches each arena buffer."""
    lives: dict[int, tuple[int, int]] = {}
    for index, step in enumerate(program.steps):
        for view in step.views:
            if view.buffer.kind is BufferKind.ARENA:
                first, _ = lives.get(view.buffer.index, (index, index))
                lives[view.buffer.index] = (first, index)
    return lives
