"""Cases of copies that turn tensors: long and short dims, whole and broken tiles, every size of element."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.suites.case import Case, floats, node


def _turned() -> Iterator[Case]:
    shapes = [
        ((8, 8), (1, 0)),
        ((33, 70), (1, 0)),
        ((129, 65), (1, 0)),
        ((7, 40), (1, 0)),
        ((40, 7), (1, 0)),
        ((3, 17, 19), (0, 2, 1)),
        ((9, 5, 41), (2, 1, 0)),
        ((35, 10, 34), (2, 0, 1)),
        ((2, 3, 40, 33), (0, 1, 3, 2)),
        ((2, 12, 9, 10), (0, 2, 3, 1)),
        ((2, 9, 10, 12), (0, 3, 1, 2)),
        ((4, 9, 3, 16), (3, 0, 2, 1)),
        ((2, 3, 2, 11, 9), (4, 2, 0, 1, 3)),
        ((0, 20, 30), (0, 2, 1)),
    ]
    for dims, order in shapes:
        yield Case(f"Transpose-{dims}-{order}", [node("Transpose", "x", perm=order)], {"x": floats(*dims)})
    for dtype in (np.float64, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_):
        values = {"x": (floats(3, 37, 20) * 9).astype(dtype)}
        yield Case(f"Transpose-{np.dtype(dtype)}", [node("Transpose", "x", perm=[0, 2, 1])], values)


def _of_parts() -> Iterator[Case]:
    """Turned tensors that are cut, reversed or stretched before, and go into a part of another after."""
    x = {"x": floats(3, 40, 50)}
    turn = node("Transpose", "s", "t", perm=[0, 2, 1])
    bounds = {"b": np.array([2, 3]), "e": np.array([36, 47]), "a": np.array([1, 2])}
    yield Case("Transpose-sliced", [node("Slice", "x b e a", "s"), turn, node("Identity", "t")], x, bounds)
    back = {"b": np.array([-1]), "e": np.array([-1000]), "a": np.array([2]), "p": np.array([-1])}
    yield Case("Transpose-reversed", [node("Slice", "x b e a p", "s"), turn, node("Identity", "t")], x, back)
    wide = {"w": np.array([3, 40, 50])}
    for dims in ((3, 1, 50), (3, 40, 1)):
        nodes = [node("Expand", "x w", "s"), turn, node("Identity", "t")]
        yield Case(f"Transpose-stretched-{dims}", nodes, {"x": floats(*dims)}, wide)
    joined = [node("Identity", "x", "s"), turn, node("Concat", "z t", axis=1)]
    yield Case("Transpose-joined", joined, {**x, "z": floats(3, 5, 40)})
    yield Case(
        "Transpose-of-a-sum", [node("Add", "x x", "s"), turn, node("Reshape", "t n")], x, {"n": np.array([3, -1])}
    )


def _backward() -> Iterator[Case]:
    """Rows read from their ends: alone, in a sum with rows read forwards, in elements of each size."""
    back = {"b": np.array([-1]), "e": np.array([-1000]), "a": np.array([1]), "p": np.array([-1])}
    for length in (1, 7, 8, 31, 200):
        yield Case(f"Slice-backward-{length}", [node("Slice", "x b e a p")], {"x": floats(5, length)}, back)
    summed = [node("Slice", "x b e a p", "s"), node("Add", "s x")]
    yield Case("Slice-backward-added", summed, {"x": floats(3, 45)}, back)
    for dtype in (np.float64, np.int64, np.int16, np.uint8, np.bool_):
        values = {"x": (floats(4, 39) * 9).astype(dtype)}
        yield Case(f"Slice-backward-{np.dtype(dtype)}", [node("Slice", "x b e a p")], values, back)


CASES: tuple[Case, ...] = (*_turned(), *_of_parts(), *_backward())
