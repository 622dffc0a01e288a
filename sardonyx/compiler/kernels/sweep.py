"""Sweeping a window along rows of pixels, channels last: what depthwise convolution and pooling share.

An item of the domain is one output row. The window is clipped to the input on the outer axes once a row; along the
row the pixels whose window lies inside go in tiles of several, those at its two ends one by one with their window
clipped as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.kernels.window import axis_parameters

Range = tuple[Int, Int]


def sweep_parameters(spatial: int) -> tuple[Parameter, ...]:
    """Counts and strides, the pixels [`inner_low`, `inner_high`) of a row whose window is inside, and the axes."""
    names = ("channels", "x_row", "y_row", "inner_low", "inner_high")
    return (*(Parameter(name) for name in names), *axis_parameters(spatial))


@dataclass(frozen=True)
class Pixels:
    """Neighbouring output pixels: index of the first, address of each one's window, taps inside on each axis.

    `corner` holds the first one's window's start on each axis.
    """

    index: Int
    origins: tuple[Ptr, ...]
    taps: tuple[Range, ...]
    corner: tuple[Int, ...]


def taps_between(k: Builder, axis: int, corner: Int, low: Int, high: Int, *, dilated: bool = True) -> Range:
    """The taps of an axis whose coordinate, from `corner` on, lies in [low, high)."""
    before, until = k.max(low - corner, 0), k.max(high - corner, 0)
    if dilated:
        step = k.size(f"dilation{axis}")
        before, until = (before + step - 1) // step, (until + step - 1) // step
    return before, k.min(until, k.size(f"taps{axis}"))


def row_at(
    k: Builder, inputs: Ptr, spatial: int, row: Int, *, dilated: bool = True
) -> tuple[Ptr, list[Int], list[Range]]:
    """For an output row: the address of its windows' corner (at 0 on the last axis), and for each outer axis the
    corner's coordinate and the taps inside the input.
    """
    rest, position = row, list[Int]()
    for axis in reversed(range(spatial - 1)):
        position.insert(0, rest % k.size(f"out{axis}"))
        rest = rest // k.size(f"out{axis}")
    base = inputs + rest * k.size("x_row")
    corner = [at * k.size(f"stride{a}") - k.size(f"pad{a}") for a, at in enumerate(position)]
    sizes = [k.size(f"size{axis}") for axis in range(spatial - 1)]
    outer = [taps_between(k, a, at, k.index(0), sizes[a], dilated=dilated) for a, at in enumerate(corner)]
    for axis, at in enumerate(corner):
        base = base + at * k.size(f"x{axis}")
    return base, corner, outer


def sweep_rows(k: Builder, inputs: Ptr, spatial: int, tile: int, compute: Callable[[Pixels], None]) -> None:
    """Call `compute` on all pixels of the rows [k.begin, k.end), `tile` at a time where their windows are inside.

    The last tile of a row is moved back to end with it, so a few pixels are computed twice.
    """
    last = spatial - 1
    with k.loop(k.end, start=k.begin) as row:
        base, corner, outer = row_at(k, inputs, spatial, row)
        first = row * k.size(f"out{last}")
        step = k.size(f"stride{last}") * k.size(f"x{last}")

        def pixels(at: Int, count: int, inside: bool) -> Pixels:
            start = at * k.size(f"stride{last}") - k.size(f"pad{last}")
            origin = base + start * k.size(f"x{last}")
            along = (k.index(0), k.size(f"taps{last}"))
            if not inside:
                along = taps_between(k, last, start, k.index(0), k.size(f"size{last}"))
            origins = tuple(origin + step * r for r in range(count))
            return Pixels(first + at, origins, (*outer, along), (*corner, start))

        low, high = k.size("inner_low"), k.size("inner_high")
        tiled = k.pick(high - low >= tile, 1, 0)
        until = k.pick(tiled.equals(1), low, k.size(f"out{last}"))
        with k.loop(until) as at:
            compute(pixels(at, 1, inside=False))
        with k.loop(k.pick(tiled.equals(1), high, 0), start=low, step=tile) as at:
            compute(pixels(k.min(at, high - tile), tile, inside=True))
        with k.loop(k.size(f"out{last}"), start=k.pick(tiled.equals(1), high, k.size(f"out{last}"))) as at:
            compute(pixels(at, 1, inside=False))


def walk_taps(
    k: Builder,
    pixels: Pixels,
    carry: list[Val],
    body: Callable[[Sequence[Ptr], Int], None],
) -> None:
    """Call `body` with each pixel's address and the tap's index (row-major over the axes), for the taps inside."""

    def axis_loop(axis: int, offset: Int, index: Int) -> None:
        if axis == len(pixels.taps):
            body([origin + offset for origin in pixels.origins], index)
            return
        first, last = pixels.taps[axis]
        reach = k.size(f"dilation{axis}") * k.size(f"x{axis}")
        start = index * k.size(f"taps{axis}")
        moving: list[Int | Ptr] = [offset + first * reach, start + first]
        with k.loop(last, start=first, carry=carry, moving=moving):
            here, at = moving
            assert isinstance(here, Int)
            assert isinstance(at, Int)
            axis_loop(axis + 1, here, at)
            moving[:] = [here + reach, at + 1]

    axis_loop(0, k.index(0), k.index(0))


def channel_blocks(k: Builder, vectors: int, lanes: int, compute: Callable[[Int, int, Val | None], None]) -> None:
    """Call `compute(first channel, vectors, mask)` over all channels: whole blocks, vectors, and a masked rest."""
    channels = k.size("channels")
    blocks = channels // (vectors * lanes) * (vectors * lanes)
    whole = channels // lanes * lanes
    with k.loop(blocks, step=vectors * lanes) as channel:
        compute(channel, vectors, None)
    if vectors > 1:
        with k.loop(whole, start=blocks, step=lanes) as channel:
            compute(channel, 1, None)
    with k.when(whole < channels):
        compute(whole, 1, k.first_lanes(channels - whole, lanes))
