"""Sliding windows: which input pixels a tile of output pixels sees."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType

AXIS = ("size", "out", "taps", "stride", "dilation", "pad", "x")
"""Arguments of each spatial axis: input size, output size, window size, ..., padding before, input stride."""


def axis_parameters(spatial: int) -> tuple[Parameter, ...]:
    """The slots of `spatial` axes."""
    return tuple(Parameter(f"{name}{axis}") for axis in range(spatial) for name in AXIS)


@dataclass(frozen=True)
class Pixel:
    """An output pixel of [batch, spatial...]: its index, where its window starts, its image, its place on each axis."""

    index: Int
    origin: Ptr
    batch: Int
    place: tuple[Int, ...]

    def state(self) -> list[Int | Ptr]:
        """What a loop carries to go on from here."""
        return [self.index, self.origin, self.batch, *self.place]

    @classmethod
    def of_state(cls, state: list[Int | Ptr]) -> Pixel:
        """The pixel a loop carried."""
        index, origin, batch, *place = state
        assert isinstance(index, Int)
        assert isinstance(origin, Ptr)
        assert isinstance(batch, Int)
        return cls(index, origin, batch, tuple(at for at in place if isinstance(at, Int)))


@dataclass(frozen=True)
class Tile:
    """Consecutive output pixels."""

    pixels: tuple[Pixel, ...]

    @property
    def origins(self) -> tuple[Ptr, ...]:
        """Where each one's window starts in the input; outside of it where there is padding."""
        return tuple(pixel.origin for pixel in self.pixels)

    def corner(self, k: Builder, axis: int) -> list[Int]:
        """The coordinate on an axis at which each window starts."""
        return [p.place[axis] * k.size(f"stride{axis}") - k.size(f"pad{axis}") for p in self.pixels]

    def inside(self, k: Builder) -> Val:
        """One bit: all windows lie inside the input.

        On each axis the windows move one way from the first pixel to the last, so those two tell for all, unless
        an outer axis (or the image) moved on between them: then only an axis without any padding will do.
        """
        first, last = self.pixels[0], self.pixels[-1]
        result, still = k.const(True, DType.BOOL), first.batch.equals(last.batch)
        for axis in range(len(first.place)):
            reach = (k.size(f"taps{axis}") - 1) * k.size(f"dilation{axis}")
            room = k.max(k.size(f"size{axis}") - reach, 0)
            stride, pad = k.size(f"stride{axis}"), k.size(f"pad{axis}")
            both = (first.place[axis] * stride - pad).within(room) & (last.place[axis] * stride - pad).within(room)
            furthest = (k.size(f"out{axis}") - 1) * stride - pad
            padless = pad.equals(0) & furthest.within(room)
            result = result & (padless | (still & both))
            still = still & first.place[axis].equals(last.place[axis])
        return result


def pixel_at(k: Builder, inputs: Ptr, index: Int, spatial: int) -> Pixel:
    """Decode an index."""
    place, rest = list[Int](), index
    for axis in reversed(range(spatial)):
        place.insert(0, rest % k.size(f"out{axis}"))
        rest = rest // k.size(f"out{axis}")
    origin = inputs + rest * k.size("x_row")
    for axis, at in enumerate(place):
        origin = origin + (at * k.size(f"stride{axis}") - k.size(f"pad{axis}")) * k.size(f"x{axis}")
    return Pixel(index, origin, rest, tuple(place))


def next_pixel(k: Builder, pixel: Pixel) -> Pixel:
    """The one after it; after the last of all (`m` - 1) that one again."""
    step = k.pick(pixel.index < k.size("m") - 1, 1, 0)
    index, origin, place = pixel.index + step, pixel.origin, list(pixel.place)
    if not place:
        return Pixel(index, origin + step * k.size("x_row"), pixel.batch + step, ())
    for axis in reversed(range(len(place))):
        moved = place[axis] + step
        wrapped = moved.equals(k.size(f"out{axis}"))
        place[axis] = k.pick(wrapped, 0, moved)
        pace = k.size(f"stride{axis}") * k.size(f"x{axis}")
        origin = origin + (step * pace - k.pick(wrapped, k.size(f"out{axis}") * pace, 0))
        step = k.pick(wrapped, 1, 0)
    return Pixel(index, origin + step * k.size("x_row"), pixel.batch + step, tuple(place))


def tile_from(k: Builder, pixel: Pixel, count: int) -> tuple[Tile, Pixel]:
    """`count` pixels from `pixel` on, and the one that follows; past the last of all that one is repeated."""
    pixels = [pixel]
    for _ in range(count):
        pixels.append(next_pixel(k, pixels[-1]))
    return Tile(tuple(pixels[:count])), pixels[count]
