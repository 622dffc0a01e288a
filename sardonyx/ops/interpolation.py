"""What a resized axis reads: for every output coordinate its input coordinates and their weights, by ONNX's Resize."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sardonyx.compiler.dims import hint, is_open, surely

Array = np.ndarray[Any, Any]

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class Scheme:
    """The attributes of a Resize that say how it interpolates; those it does not need are at their defaults."""

    mode: str
    coordinates: str
    nearest: str
    cubic_a: float
    antialias: bool
    exclude_outside: bool


@dataclass(frozen=True)
class Scaling:
    """One axis: input and output length, their ratio as given (`length * scale` need not be whole; None: whatever it
    is), region of interest as parts of the axis. `exact`: the ratio is that of the lengths, not a float32 given.
    """

    size: int
    out: int
    scale: float | None
    exact: bool = True
    start: float = 0.0
    end: float = 1.0

    @property
    def ratio(self) -> float:
        """Of output length to input length."""
        return self.out / self.size if self.scale is None else self.scale


@dataclass(frozen=True, eq=False)
class Taps:
    """What an axis of length `size` reads: `count` input coordinates for each of `out` output coordinates, with weights
    if they are `weighed`; else there is one.

    `tables` makes (indices, weights), [count, out] each, weights float64 or None, of the two lengths and of nothing
    else. Output coordinates outside [`low`, `high`) take the extrapolation value; the tables are for those inside.
    When every input coordinate is read `repeats` times in a row, by one tap each, that is not 0.
    """

    size: int
    out: int
    count: int
    weighed: bool
    low: int
    high: int
    tables: Callable[[int, int], tuple[Array, Array | None]]
    repeats: int = 0


def taps_of(scheme: Scheme, axis: Scaling) -> Taps | None:
    """The taps of an axis; None when every output coordinate is the input coordinate itself."""
    if is_open((axis.size, axis.out)):
        return _open_taps(scheme, axis)
    low, high, indices, weights = _taps(scheme, axis)
    if weights is not None and (np.sort(weights, axis=0)[-1] == 1).all() and np.count_nonzero(weights) == high - low:
        indices = np.take_along_axis(indices, np.argmax(weights, axis=0)[None], 0)
        weights = None
    if weights is None and axis.size == axis.out == high - low and (indices[0] == np.arange(axis.size)).all():
        return None
    if weights is not None:
        used = np.flatnonzero(weights.any(axis=1))
        indices, weights = indices[used], weights[used]
    times, rest = divmod(high - low, axis.size)
    repeated = weights is None and rest == 0 and bool((indices[0] == np.arange(high - low) // max(1, times)).all())
    known = (axis.size, high - low, len(indices), weights is not None, low, high)
    return Taps(*known, lambda *_: (indices, weights), times if repeated else 0)


def _open_taps(scheme: Scheme, axis: Scaling) -> Taps | None:
    """The same for lengths of which only the names are known: all taps there may be."""
    cropped = scheme.coordinates == "tf_crop_and_resize"
    if cropped or (scheme.antialias and axis.scale is None):
        return taps_of(scheme, replace(axis, size=int(axis.size), out=int(axis.out)))
    if axis.scale in (None, 1.0) and surely(axis.size, "==", axis.out):
        return None
    one = _taps(scheme, replace(axis, size=hint(axis.size), out=hint(axis.out)))
    indices, weights = one[2:]

    def tables(size: int, out: int) -> tuple[Array, Array | None]:
        return _taps(scheme, replace(axis, size=size, out=out))[2:]

    return Taps(axis.size, axis.out, len(indices), weights is not None, 0, axis.out, tables)


def _taps(scheme: Scheme, axis: Scaling) -> tuple[int, int, Array, Array | None]:
    """The output coordinates inside, the first and the one after the last, with their indices and weights."""
    # A scale of float32 is itself rounded: 7 / 1.4 is the whole number it was meant to be in float32 only, which is
    # what onnxruntime computes in, and which pixel is nearest depends on it.
    rounded = scheme.mode == "nearest" and not axis.exact
    x = _original(scheme.coordinates, axis, np.float32 if rounded else np.float64)
    low, high = 0, axis.out
    if scheme.coordinates == "tf_crop_and_resize":
        inside = np.flatnonzero((x >= 0) & (x <= axis.size - 1))
        low, high = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)
        x = x[low:high]
    weights: Array | None
    if scheme.mode == "nearest":
        indices, weights = _nearest(scheme.nearest, x)[None], None
    else:
        indices, weights = _weighed(scheme, axis, x.astype(np.float64))
    return low, high, np.clip(indices, 0, axis.size - 1), weights


def _original(mode: str, axis: Scaling, kind: type[np.floating[Any]]) -> Array:
    """The place on the input axis that each output coordinate stands for."""
    x, half, scale = np.arange(axis.out).astype(kind), kind(0.5), kind(axis.ratio)
    length = axis.size * axis.ratio
    if mode == "asymmetric":
        place = x / scale
    elif mode == "tf_half_pixel_for_nn":
        place = (x + half) / scale
    elif mode == "align_corners":
        place = x * kind(axis.size - 1) / kind(length - 1) if length != 1 and axis.out > 1 else x * kind(0)
    elif mode == "tf_crop_and_resize":
        room, start, end = kind(axis.size - 1), kind(axis.start), kind(axis.end)
        if length == 1 or axis.out == 1:
            place = x * kind(0) + half * (start + end) * room
        else:
            place = start * room + x * (end - start) * room / kind(length - 1)
    elif mode == "pytorch_half_pixel" and axis.out == 1:
        place = x * kind(0)
    else:
        shift = kind(axis.size / 2 * (1 - axis.out / length)) if mode == "half_pixel_symmetric" else kind(0)
        place = shift + (x + half) / scale - half
    return np.asarray(place)


def _nearest(mode: str, x: Array) -> Array:
    low = np.floor(x)
    part = x - low
    up = {"floor": part < 0, "ceil": part > 0, "round_prefer_floor": part > 0.5, "round_prefer_ceil": part >= 0.5}
    return np.asarray(low + up[mode], np.int64)


def _weighed(scheme: Scheme, axis: Scaling, x: Array) -> tuple[Array, Array]:
    """The taps of each place: a kernel's support around it, stretched by 1 / scale when that is antialiasing."""
    reach, kernel = (1, _linear) if scheme.mode == "linear" else (2, _cubic(scheme.cubic_a))
    stretch = min(axis.ratio, 1.0) if scheme.antialias else 1.0
    first = int(np.floor(-reach / stretch)) + 1
    count = 2 - 2 * first
    base = np.floor(x).astype(np.int64)
    indices = base + np.arange(first, first + count)[:, None]
    weights = kernel((indices - x) * stretch)
    if scheme.antialias:
        weights /= weights.sum(axis=0)
    if scheme.exclude_outside:
        weights[(indices < 0) | (indices >= axis.size)] = 0
        total = weights.sum(axis=0)
        weights /= np.where(total == 0, 1, total)
    return indices, weights


def _linear(t: Array) -> Array:
    return np.asarray(np.clip(1 - np.abs(t), 0, 1))


def _cubic(a: float) -> Callable[[Array], Array]:
    """Keys' kernel (IEEE TASSP 29, 1153, 1981)."""

    def kernel(t: Array) -> Array:
        t = np.abs(t)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.where(t <= 1, near, np.where(t < 2, far, 0))

    return kernel
