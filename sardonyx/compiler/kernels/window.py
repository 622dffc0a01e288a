"""Sliding windows: which input pixels a tile of output pixels sees. Shared by convolutions and pools."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr

AXIS = ("size", "out", "taps", "stride", "dilation", "pad", "x")
"""Arguments of each spatial axis: input size, output size, window size, ..., padding before, input stride."""


def axis_parameters(spatial: int) -> tuple[Parameter, ...]:
    """The slots of `spatial` axes."""
    return tuple(Parameter(f"{name}{axis}") for axis in range(spatial) for name in AXIS)


@dataclass(frozen=True)
class Tile:
    """Consecutive output pixels: the address and the coordinates where each one's window starts, and its index."""

    origins: tuple[Ptr, ...]
    corners: tuple[tuple[Int, ...], ...]
    rows: tuple[Int, ...]


def tile_at(k: Builder, inputs: Ptr, start: Int, count: int, spatial: int) -> Tile:
    """The pixels `start`, `start + 1`, ... of [batch, spatial...], none past the last (`m` - 1), which repeats.

    The first is decoded with divisions, the others follow with a carry.
    """
    last = k.size("m") - 1
    index, batch = start, start
    position: list[Int] = []
    for axis in reversed(range(spatial)):
        position.insert(0, batch % k.size(f"out{axis}"))
        batch = batch // k.size(f"out{axis}")
    origins, corners, rows = [], [], []
    for r in range(count):
        corner = tuple(position[a] * k.size(f"stride{a}") - k.size(f"pad{a}") for a in range(spatial))
        offset = batch * k.size("x_row")
        for axis, at in enumerate(corner):
            offset = offset + at * k.size(f"x{axis}")
        origins.append(inputs + offset)
        corners.append(corner)
        rows.append(index)
        if r + 1 < count:
            step = k.pick(index < last, 1, 0)
            index = index + step
            for axis in reversed(range(spatial)):
                moved = position[axis] + step
                wrapped = moved.equals(k.size(f"out{axis}"))
                position[axis] = k.pick(wrapped, 0, moved)
                step = k.pick(wrapped, 1, 0)
            batch = batch + step
    return Tile(tuple(origins), tuple(corners), tuple(rows))
