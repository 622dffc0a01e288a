"""Keras layers in float64: pictures brought to a size, bins, pooling to a size."""

from __future__ import annotations

import bisect
from collections.abc import Callable

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.keras.evaluate_base import Call, Function, Value


def _center_crop(call: Call) -> Value:
    x, last = call.f, call.get("data_format", "channels_last") == "channels_last"
    for axis, key in zip((1, 2) if last else (2, 3), ("height", "width"), strict=True):
        start = (x.shape[axis] - call.config[key]) // 2
        x = np.take(x, range(start, start + call.config[key]), axis=axis)
    return Value(x)


def _resizing(call: Call) -> Value:
    x, last = call.f, call.get("data_format", "channels_last") == "channels_last"
    for axis, key in zip((1, 2) if last else (2, 3), ("height", "width"), strict=True):
        x = np.moveaxis(_resized(np.moveaxis(x, axis, 0), call.config[key], call.get("interpolation")), 0, axis)
    return Value(x)


def _resized(x: Array, count: int, kind: str) -> Array:
    """The first axis at `count` places: pixel i is the place (i + 1/2) n / count of a line with n pixels."""
    n, rows = len(x), []
    for i in range(count):
        place = (2 * i + 1) * n / (2 * count)
        if kind == "nearest":
            rows.append(x[min((2 * i + 1) * n // (2 * count), n - 1)])
            continue
        before = int(np.floor(place - 0.5))
        share = place - 0.5 - before
        low, high = (x[min(max(j, 0), n - 1)] for j in (before, before + 1))
        rows.append(low + share * (high - low))
    return np.stack(rows)


def _adaptive(rank: int, pooled: Callable[..., Array]) -> Function:
    def run(call: Call) -> Value:
        last = call.get("data_format", "channels_last") == "channels_last"
        x = call.f if last else np.moveaxis(call.f, 1, -1)
        sizes = call.config["output_size"]
        sizes = [sizes] * rank if isinstance(sizes, int) else sizes
        y = np.empty((x.shape[0], *sizes, x.shape[-1]))
        for place in np.ndindex(*sizes):
            box = [
                slice(int(np.floor(i * n / m)), int(np.ceil((i + 1) * n / m)))
                for i, n, m in zip(place, x.shape[1:-1], sizes, strict=True)
            ]
            y[:, *place] = pooled(x[:, *box], axis=tuple(range(1, rank + 1)))
        return Value(y if last else np.moveaxis(y, -1, 1))

    return run


def _discretization(call: Call) -> Value:
    bounds = [float(np.float32(bound)) for bound in call.config["bin_boundaries"]]
    found = [bisect.bisect_right(bounds, value) for value in call.f.ravel().tolist()]
    return Value(np.array(found, np.int32 if call.version[0] == 3 else np.int64).reshape(call.x.shape))


LAYERS: dict[str, Function] = {
    "CenterCrop": _center_crop,
    "Discretization": _discretization,
    "Resizing": _resizing,
    **{f"AdaptiveAveragePooling{rank}D": _adaptive(rank, np.mean) for rank in (1, 2, 3)},
    **{f"AdaptiveMaxPooling{rank}D": _adaptive(rank, np.max) for rank in (1, 2, 3)},
}
