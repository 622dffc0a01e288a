"""Cases of reading and writing at indices: from either end, some that meet, long and short slices, any strides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.suites.case import Array, Case, floats, node

_TYPES = (np.float32, np.float64, np.int64, np.int32, np.int16, np.int8, np.uint8, np.uint64, np.bool_)
_REDUCTIONS = ("none", "add", "mul", "min", "max")
_RANDOM = np.random.default_rng(8)


def _indices(*dims: int, below: int | Array, kind: type = np.int64) -> Array:
    """Indices from either end; `below` has a size for each of the last dim, or one for all."""
    return _RANDOM.integers(-np.asarray(below), below, dims).astype(kind)


def _like(dtype: type, *dims: int) -> Array:
    return (floats(*dims) * 9).astype(dtype) if dtype is not np.bool_ else floats(*dims) > 0


def _gathers() -> Iterator[Case]:
    x = {"x": floats(5, 13, 19)}
    for axis in (0, 1, 2, -2):
        for dims in ((), (1,), (7,), (3, 4)):
            feeds = {**x, "i": _indices(*dims, below=x["x"].shape[axis])}
            yield Case(f"Gather-{axis}-{dims}", [node("Gather", "x i", axis=axis)], feeds)
    for number in (np.array(-2), np.array([4]), np.array([[[0]]])):
        gather = [node("Gather", "x i", "g", axis=1), node("Neg", "g")]
        yield Case(f"Gather-known-{number.item()}", gather, x, {"i": number})
    yield Case("Gather-known-many", [node("Gather", "x i", axis=2)], x, {"i": _indices(3, 2, below=19, kind=np.int32)})
    table = {"t": floats(40, 9001)}
    yield Case("Gather-table", [node("Gather", "t i")], {"i": _indices(2, 3, below=40, kind=np.int32)}, table)
    for dtype in _TYPES:
        feeds = {"x": _like(dtype, 6, 70), "i": _indices(4, below=6)}
        yield Case(f"Gather-{np.dtype(dtype)}", [node("Gather", "x i")], feeds)
    turned = [node("Transpose", "x", "t", perm=[2, 0, 1]), node("Gather", "t i", axis=1)]
    yield Case("Gather-transposed", turned, {**x, "i": _indices(4, below=5)})
    stretched = [node("Expand", "x s", "e"), node("Gather", "e i", axis=1)]
    yield Case(
        "Gather-expanded", stretched, {"x": floats(3, 4, 1), "i": _indices(5, below=4)}, {"s": np.array([3, 4, 6])}
    )
    images = [node("Conv", "x w", "c"), node("Gather", "c i", axis=2)]
    yield Case("Gather-image", images, {"x": floats(2, 3, 6, 5), "i": _indices(4, below=6)}, {"w": floats(8, 3, 1, 1)})
    yield Case("Gather-none", [node("Gather", "x i", axis=1)], {**x, "i": np.zeros((0, 2), np.int64)})


def _gathers_of_tuples() -> Iterator[Case]:
    dims = (3, 4, 5, 21)
    x = {"x": floats(*dims)}
    for batch in (0, 1, 2):
        for depth in range(1, 5 - batch):
            chosen = _indices(*dims[:batch], 6, 2, depth, below=np.array(dims[batch : batch + depth]))
            name = f"GatherND-{batch}-{depth}"
            yield Case(name, [node("GatherND", "x i", batch_dims=batch)], {**x, "i": chosen})
    turned = [node("Transpose", "x", "t", perm=[1, 0, 3, 2]), node("GatherND", "t i", batch_dims=1)]
    yield Case("GatherND-transposed", turned, {**x, "i": _indices(4, 7, 2, below=np.array([3, 21]))})
    points = [node("Transpose", "x", "t", perm=[3, 1, 0, 2]), node("GatherND", "t i")]
    yield Case("GatherND-elements", points, {**x, "i": _indices(50, 4, below=np.array([21, 4, 3, 5]))})
    yield Case("GatherND-known", [node("GatherND", "x i")], x, {"i": _indices(9, 2, below=3)})
    for dtype in _TYPES:
        feeds = {"x": _like(dtype, 6, 70), "i": _indices(4, 1, below=6)}
        yield Case(f"GatherND-{np.dtype(dtype)}", [node("GatherND", "x i")], feeds)


def _gathers_of_elements() -> Iterator[Case]:
    x = {"x": floats(5, 13, 19)}
    for axis in (0, 1, -1):
        for dims in ((5, 13, 19), (4, 7, 6)):
            feeds = {**x, "i": _indices(*dims, below=x["x"].shape[axis])}
            yield Case(f"GatherElements-{axis}-{dims}", [node("GatherElements", "x i", axis=axis)], feeds)
    long = {"x": floats(30, 2), "i": _indices(9000, 2, below=30, kind=np.int32)}
    yield Case("GatherElements-long", [node("GatherElements", "x i")], long)
    for dtype in _TYPES:
        feeds = {"x": _like(dtype, 6, 9), "i": _indices(6, 3, below=9)}
        yield Case(f"GatherElements-{np.dtype(dtype)}", [node("GatherElements", "x i", axis=1)], feeds)
    turned = [node("Transpose", "x", "t", perm=[2, 0, 1]), node("GatherElements", "t i", axis=1)]
    yield Case("GatherElements-transposed", turned, {**x, "i": _indices(19, 8, 13, below=5)})
    yield Case("GatherElements-one", [node("GatherElements", "x i")], {"x": floats(4), "i": np.array([-3])})


def _scatters_of_tuples() -> Iterator[Case]:
    x = {"x": floats(6, 5, 21)}
    for reduction in _REDUCTIONS:
        for depth in (1, 2, 3):
            size = np.array((6, 5, 21)[:depth])
            chosen = _indices(4, 7, depth, below=size)  # more than there are places of the first dim: some meet
            scatter = node("ScatterND", "x i u", reduction=reduction)
            feeds = {**x, "i": chosen, "u": floats(4, 7, *(6, 5, 21)[depth:])}
            yield Case(f"ScatterND-{reduction}-{depth}", [scatter], feeds)
    for dtype in _TYPES:
        feeds = {"x": _like(dtype, 6, 70), "i": _indices(9, 1, below=6), "u": _like(dtype, 9, 70)}
        for reduction in ("none", "max") if dtype in (np.float64, np.int64, np.int32, np.int8, np.uint8) else ("none",):
            scatter = node("ScatterND", "x i u", reduction=reduction)
            yield Case(f"ScatterND-{reduction}-{np.dtype(dtype)}", [scatter], feeds)
    wide = {"x": floats(4, 3001), "i": np.array([[2], [-1], [0]]), "u": floats(3, 3001)}
    yield Case("ScatterND-wide", [node("ScatterND", "x i u")], wide)
    turned = [node("Transpose", "x", "t", perm=[2, 0, 1]), node("ScatterND", "t i u", "s"), node("Neg", "s")]
    yield Case("ScatterND-transposed", turned, {**x, "i": _indices(30, 2, below=6), "u": floats(30, 5)})
    own = [node("Relu", "x", "r"), node("Slice", "r a b", "u"), node("ScatterND", "r i u")]
    bounds = {"a": np.array([1]), "b": np.array([4])}
    yield Case("ScatterND-of-itself", own, {**x, "i": np.array([[0], [-1], [1]])}, bounds)
    nothing = {**x, "i": np.zeros((0, 2), np.int64), "u": np.zeros((0, 21), np.float32)}
    yield Case("ScatterND-none", [node("ScatterND", "x i u")], nothing)


def _scatters_of_elements() -> Iterator[Case]:
    x = {"x": floats(5, 13, 19)}
    for reduction in _REDUCTIONS:
        for axis in (0, 1, -1):
            feeds = {**x, "i": _indices(4, 12, 6, below=x["x"].shape[axis]), "u": floats(4, 12, 6)}
            scatter = node("ScatterElements", "x i u", axis=axis, reduction=reduction)
            yield Case(f"ScatterElements-{reduction}-{axis}", [scatter], feeds)
    for dtype in _TYPES:
        feeds = {"x": _like(dtype, 6, 9), "i": _indices(6, 7, below=9, kind=np.int32), "u": _like(dtype, 6, 7)}
        yield Case(f"ScatterElements-{np.dtype(dtype)}", [node("ScatterElements", "x i u", axis=1)], feeds)
    yield Case("ScatterElements-none", [node("ScatterElements", "x i u")],
               {**x, "i": np.zeros((5, 0, 19), np.int64), "u": floats(5, 0, 19)})  # fmt: skip
    yield Case("Scatter", [node("Scatter", "x i u", axis=1)], {**feeds, "x": floats(6, 9), "u": floats(6, 7)}, opset=9)


def _divisions() -> Iterator[Case]:
    for dtype in (np.int64, np.int32, np.uint8, np.int8, np.uint64):
        least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        a = np.concatenate([_RANDOM.integers(least, most, 60, dtype, endpoint=True), np.array([0, 1, most], dtype)])
        b = _RANDOM.integers(max(least, -9), 10, a.size).astype(dtype)
        b[b == 0] = 5
        feeds, name = {"a": a, "b": b}, str(np.dtype(dtype))
        yield Case(f"Div-{name}", [node("Div", "a b")], feeds)
        for number in (7, -3) if least else (7,):
            yield Case(f"Div-{name}-by-{number}", [node("Div", "a b")], {"a": a}, {"b": np.array(number, dtype)})
            yield Case(f"Mod-{name}-by-{number}", [node("Mod", "a b")], {"a": a}, {"b": np.array(number, dtype)})
        for fmod in (0, 1):
            yield Case(f"Mod-{name}-{fmod}", [node("Mod", "a b", fmod=fmod)], feeds)


CASES: tuple[Case, ...] = (
    *_gathers(),
    *_gathers_of_tuples(),
    *_gathers_of_elements(),
    *_scatters_of_tuples(),
    *_scatters_of_elements(),
    *_divisions(),
)
