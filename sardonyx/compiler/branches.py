"""Independent neighbours: steps that need not wait for the ones before them, such as the branches of a network."""

from __future__ import annotations

from collections.abc import Sequence

from sardonyx.compiler.dims import is_open, surely
from sardonyx.compiler.program import BufferKind, Step, View

MOST_STEPS = 8
"""In a group: what a group needs is alive at once."""


def group_steps(steps: Sequence[Step]) -> tuple[int, ...]:
    """For each step the first step of its group. A group's steps are neighbours of which none needs another's result
    or overwrites what another uses, so threads may go from one to the next without waiting.
    """
    firsts: list[int] = []
    group: list[Step] = []
    for index, step in enumerate(steps):
        if len(group) == MOST_STEPS or any(_depend(other, step) for other in group):
            group = []
        group.append(step)
        firsts.append(index + 1 - len(group))
    return tuple(firsts)


def _depend(one: Step, other: Step) -> bool:
    """Whether a tensor that one of them writes may share an element with one that the other reads or writes."""
    pairs = [(view, against) for view in _written(one) for against in other.views]
    pairs += [(view, against) for view in _written(other) for against in one.views]
    return any(not _disjoint(a, b) for a, b in pairs)


def _written(step: Step) -> list[View]:
    return [view for view in (step.arguments[slot] for slot in step.writes) if isinstance(view, View)]


def _disjoint(a: View, b: View) -> bool:
    """Whether no element is in both; said only where it is plain."""
    if a.buffer is not b.buffer or a.buffer.kind is BufferKind.CONSTANT:
        return True
    if a.dtype.size != b.dtype.size or not all(surely(s, ">=", 0) for view in (a, b) for s in view.strides):
        return False
    if surely(a.offset + a.span, "<=", b.offset) or surely(b.offset + b.span, "<=", a.offset):
        return True
    if is_open((*a.dims, *a.strides, a.offset, *b.dims, *b.strides, b.offset)):
        return False
    # Parts of one tensor, joined on an axis: within a stride of the next axis each keeps to columns of its own.
    for row in {*a.strides, *b.strides} - {0, 1}:
        ranges = [_columns(view, row) for view in (a, b)]
        if None not in ranges:
            (low, high), (low2, high2) = (r for r in ranges if r is not None)
            if high <= low2 or high2 <= low:
                return True
    return False


def _columns(view: View, row: int) -> tuple[int, int] | None:
    """The places modulo `row` that the view keeps to, if its strides are multiples of that or stay below."""
    reach = 1
    for size, stride in zip(view.dims, view.strides, strict=True):
        if size > 1 and stride % row:
            reach += (size - 1) * stride
    low = view.offset % row
    return (low, low + reach) if low + reach <= row else None
