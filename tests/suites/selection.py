"""Cases of selection: ties, axes either way, every kind of number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.suites.case import Case, floats, node

_TYPES = (np.float32, np.float64, np.int64, np.int32)


def _top() -> Iterator[Case]:
    x = {"x": floats(4, 37, 21)}
    ties = {"x": np.round(floats(3, 300, scale=2))}
    for largest in (0, 1):
        for axis in (0, 1, 2, -1):
            for count in (1, 3, x["x"].shape[axis]):
                for outputs in ("y i", "v y") if count == 3 else ("v y",):
                    top = node("TopK", "x k", outputs, axis=axis, largest=largest)
                    yield Case(f"TopK-{largest}-{axis}-{count}-{outputs[0]}", [top], x, {"k": np.array([count])})
        for count in (1, 7, 300):
            top = node("TopK", "x k", "v y", largest=largest)
            yield Case(f"TopK-{largest}-ties-{count}", [top], ties, {"k": np.array([count])})
        for dtype in _TYPES:
            values = {"x": (floats(5, 90) * 9).astype(dtype)}
            top = node("TopK", "x k", "y i", largest=largest)
            yield Case(f"TopK-{largest}-{np.dtype(dtype)}", [top], values, {"k": np.array([11])})
        special = np.array([[0.0, -0.0, np.inf, -np.inf, 1e-42, -1e-42, 0.0, -0.0, 3.0]], np.float32)
        top = node("TopK", "x k", "v y", largest=largest)
        yield Case(f"TopK-{largest}-special", [top], {"x": special}, {"k": np.array([9])})
    for direction in (1, -1):  # every element replaces one, or none does
        line = {"x": np.arange(1000, dtype=np.float32)[::direction].copy()}
        yield Case(f"TopK-sorted-already-{direction}", [node("TopK", "x k", "v y")], line, {"k": np.array([70])})
    yield Case("TopK-none", [node("TopK", "x k", "v y")], x, {"k": np.array([0])})
    yield Case("TopK-10", [node("TopK", "x k", "v y", axis=1)], x, {"k": np.array([5])}, opset=10)
    yield Case(
        "TopK-channels-last",
        [
            node("Conv", "x w", "c"),
            node("TopK", "c k", "v i", axis=1),
            node("Cast", "i", "f", to=1),
            node("Add", "v f"),
        ],
        {"x": floats(2, 6, 5, 4)},
        {"w": floats(20, 6, 1, 1), "k": np.array([3])},
    )
    yield Case("TopK-unsorted", [node("TopK", "x k", "v i", sorted=0), node("ReduceSum", "v")], x, {"k": np.array([5])})


def _extremes() -> Iterator[Case]:
    images = {"x": np.round(floats(2, 21, 9, 10))}
    for op in ("ArgMax", "ArgMin"):
        for last in (0, 1):
            for axis in (0, 1, 3, -2):
                for keep in (0, 1):
                    attributes = {"axis": axis, "keepdims": keep, "select_last_index": last}
                    yield Case(f"{op}-{axis}-{keep}-{last}", [node(op, "x", **attributes)], images)
            yield Case(
                f"{op}-last-{last}",
                [node("Conv", "x w", "c"), node("Round", "c", "r"), node(op, "r", axis=1, select_last_index=last)],
                images,
                {"w": floats(19, 21, 1, 1)},
            )
            line = {"x": np.full((3, 70), -np.inf, np.float32)}
            yield Case(f"{op}-infinite-{last}", [node(op, "x", axis=1, select_last_index=last)], line)
        for dtype in (*_TYPES, np.uint8, np.int8):
            values = {"x": (floats(7, 50) * 9).astype(dtype)}
            yield Case(f"{op}-{np.dtype(dtype)}", [node(op, "x", axis=-1)], values)
    yield Case("ArgMax-13", [node("ArgMax", "x", axis=1)], images, opset=11)


def _boxes(images: int, count: int, *, centred: bool) -> np.ndarray:
    corner, size = np.abs(floats(images, count, 2)), np.abs(floats(images, count, 2)) + np.float32(0.3)
    boxes = np.concatenate([corner, size if centred else corner + size], axis=2)
    if not centred:
        boxes[:, ::3] = boxes[:, ::3][:, :, [2, 3, 0, 1]]  # the corners in any order
    return boxes


def _counted() -> Iterator[Case]:
    for centred in (0, 1):
        feeds = {"b": _boxes(2, 150, centred=bool(centred)), "s": np.round(floats(2, 3, 150), 1)}
        for most, overlap, least in ((20, 0.5, 0.1), (1000, 0.3, -5.0), (3, 0.0, 0.0), (0, 0.5, 0.0), (5, 0.5, 99.0)):
            thresholds = {
                "m": np.array([most]),
                "t": np.array([overlap], np.float32),
                "l": np.array([least], np.float32),
            }
            suppress = node("NonMaxSuppression", "b s m t l", center_point_box=centred)
            yield Case(f"NonMaxSuppression-{centred}-{most}-{overlap}-{least}", [suppress], feeds, thresholds)
    few = {"m": np.array([7])}
    yield Case("NonMaxSuppression-defaults", [node("NonMaxSuppression", "b s m")], feeds, few)
    yield Case("NonMaxSuppression-none", [node("NonMaxSuppression", "b s")], feeds)
    flat = {"b": np.zeros((1, 9, 4), np.float32), "s": floats(1, 1, 9)}
    yield Case("NonMaxSuppression-no-area", [node("NonMaxSuppression", "b s m")], flat, few)
    fed = {**feeds, "t": np.array([0.4], np.float32), "l": np.array([0.2], np.float32)}
    yield Case("NonMaxSuppression-fed", [node("NonMaxSuppression", "b s m t l")], fed, few)
    yield Case("NonMaxSuppression-fed-most", [node("NonMaxSuppression", "b s m t l")], {**fed, **few})
    then = [
        node("NonMaxSuppression", "b s m t", "n"),
        node("Cast", "n", "f", to=1),
        node("Mul", "f f", "q"),
        node("ReduceSum", "q a"),
    ]
    yield Case("NonMaxSuppression-then", then, feeds, {**few, "t": np.array([0.5], np.float32), "a": np.array([1])})
    for dtype in (np.float32, np.int64, np.bool_, np.uint8):
        sparse = {"x": (np.abs(floats(5, 31, 40)) > 1).astype(dtype)}
        yield Case(f"NonZero-{np.dtype(dtype)}", [node("NonZero", "x")], sparse)
    yield Case("NonZero-nothing", [node("NonZero", "x")], {"x": np.zeros((3, 4), np.float32)})
    yield Case("NonZero-everything", [node("NonZero", "x")], {"x": np.ones(20000, np.float32)})
    yield Case("NonZero-empty", [node("NonZero", "x")], {"x": np.ones((3, 0), np.float32)})
    transposed = [node("Transpose", "x", "t"), node("NonZero", "t", "n"), node("Transpose", "n", "c"), node("Neg", "c")]
    yield Case("NonZero-then", transposed, {"x": np.round(floats(9, 14))})


CASES: tuple[Case, ...] = (*_top(), *_extremes(), *_counted())
