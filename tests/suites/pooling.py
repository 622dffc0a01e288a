"""Cases of pooling beyond the plain ones: norms, places of maxima, integers, every attribute of a window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.suites.case import Case, floats, node

_WINDOWS = {
    "strides": {"kernel_shape": [3, 2], "strides": [2, 1]},
    "pads": {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "strides": [1, 2]},
    "dilations": {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 1, 1, 1]},
    "same-upper": {"kernel_shape": [4, 3], "auto_pad": "SAME_UPPER", "strides": [2, 3]},
    "same-lower": {"kernel_shape": [4, 3], "auto_pad": "SAME_LOWER", "strides": [2, 3]},
    "valid": {"kernel_shape": [4, 3], "auto_pad": "VALID", "strides": [2, 3]},
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    "ceil-dilations": {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1, "dilations": [1, 2]},
}


def _windows() -> Iterator[Case]:
    """Of images plane by plane, as they are fed, and channels last, as they are behind a convolution."""
    image, filters = {"x": floats(2, 11, 10, 13)}, {"k": floats(19, 11, 1, 1)}
    for name, window in _WINDOWS.items():
        for op in ("MaxPool", "AveragePool", "LpPool"):
            yield Case(f"{op}-{name}", [node(op, "x", **window)], image, opset=22)
            behind = [node("Conv", "x k", "c"), node(op, "c", **window)]
            yield Case(f"{op}-{name}-channels-last", behind, image, filters, opset=22)
        for order in (0, 1):
            both = node("MaxPool", "x", "m y", storage_order=order, **window)
            yield Case(f"MaxPool-{name}-indices-{order}", [both], image, opset=22)


def _planes() -> Iterator[Case]:
    """Rows of several vectors, with and without an edge; every stride; nodes behind; sums that count the padding."""
    wide = {"x": floats(2, 3, 9, 71)}
    for stride in (1, 2, 3, 4, 5):
        window = {"kernel_shape": [3, 3], "strides": [2, stride], "pads": [1, 1, 1, 1]}
        for op in ("MaxPool", "AveragePool", "LpPool"):
            yield Case(f"{op}-planes-{stride}", [node(op, "x", **window)], wide)
        counted = node("AveragePool", "x", count_include_pad=1, ceil_mode=1, dilations=[1, 2], **window)
        yield Case(f"AveragePool-planes-{stride}-padded", [counted], wide, opset=22)
    behind = [node("MaxPool", "x", "m", kernel_shape=[2, 5]), node("Mul", "m s", "t"), node("Add", "t r")]
    scaled = {**wide, "r": floats(2, 3, 8, 67)}
    yield Case("MaxPool-planes-epilogue", behind, scaled, {"s": floats(3, 1, 1)})
    outside = {"kernel_shape": [2, 2], "strides": [9, 1], "pads": [1, 1, 1, 1]}
    yield Case("AveragePool-planes-narrow", [node("AveragePool", "x", **outside)], {"x": floats(1, 2, 3, 4)})
    infinite = {"x": np.where(floats(1, 2, 6, 40) > 1, np.inf, floats(1, 2, 6, 40)).astype(np.float32)}
    yield Case("MaxPool-planes-infinite", [node("MaxPool", "x", kernel_shape=[3, 3], pads=[1] * 4)], infinite)
    yield Case("MaxPool-planes-1d", [node("MaxPool", "x", kernel_shape=[3], strides=[2])], {"x": floats(2, 5, 50)})
    cube = {"kernel_shape": [2, 3, 2], "pads": [0, 1, 1, 1, 0, 1]}
    yield Case("AveragePool-planes-3d", [node("AveragePool", "x", **cube)], {"x": floats(2, 3, 4, 5, 21)})
    double = {"x": floats(1, 3, 8, 19).astype(np.float64)}
    yield Case("MaxPool-planes-double", [node("MaxPool", "x", kernel_shape=[2, 3], strides=[1, 2])], double)


def _norms() -> Iterator[Case]:
    image = {"x": floats(2, 20, 6, 7)}
    for p in (1, 2, 3, 6):
        yield Case(f"LpPool-p{p}", [node("LpPool", "x", kernel_shape=[3, 3], p=p)], image)
        yield Case(f"GlobalLpPool-p{p}", [node("GlobalLpPool", "x", p=p)], image)
    zeros = {"x": np.zeros((1, 3, 4, 4), np.float32)}
    yield Case("LpPool-zeros", [node("LpPool", "x", kernel_shape=[2, 2], p=3)], zeros)
    yield Case(
        "LpPool-fused",
        [
            node("Conv", "x k", "c"),
            node("LpPool", "c", "l", kernel_shape=[2, 2]),
            node("Neg", "l", "n"),
            node("Exp", "n"),
        ],
        image,
        {"k": floats(33, 20, 1, 1)},
    )
    yield Case("LpPool-1d", [node("LpPool", "x", kernel_shape=[4], strides=[3])], {"x": floats(2, 5, 16)})
    yield Case("LpPool-3d", [node("LpPool", "x", kernel_shape=[2, 3, 2])], {"x": floats(1, 9, 5, 6, 4)})


def _places() -> Iterator[Case]:
    for order in (0, 1):
        line = node("MaxPool", "x", "m y", kernel_shape=[4], strides=[3], storage_order=order)
        yield Case(f"MaxPool-indices-1d-{order}", [line], {"x": floats(2, 5, 16)})
        cube = node("MaxPool", "x", "m y", kernel_shape=[2, 3, 2], pads=[0, 1, 1, 0, 1, 1], storage_order=order)
        yield Case(f"MaxPool-indices-3d-{order}", [cube], {"x": floats(2, 35, 5, 6, 4)})
    ties = {"x": np.round(floats(1, 18, 9, 9))}
    both = node("MaxPool", "x", "m i", kernel_shape=[3, 3], strides=[2, 2])
    yield Case("MaxPool-indices-ties", [both, node("Neg", "i")], ties)
    fused = [both, node("Relu", "m", "r"), node("Cast", "i", "f", to=1), node("Add", "r f")]
    yield Case("MaxPool-indices-fused", fused, {"x": floats(1, 40, 9, 9)})
    for dtype in (np.uint8, np.int8):
        image = {"x": (floats(1, 37, 8, 9) * 40).astype(dtype)}
        window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        yield Case(f"MaxPool-{np.dtype(dtype)}", [node("MaxPool", "x", **window)], image)
        yield Case(f"MaxPool-{np.dtype(dtype)}-indices", [node("MaxPool", "x", "m y", **window)], image)
    double = {"x": floats(1, 6, 8, 9).astype(np.float64)}
    yield Case("MaxPool-double-indices", [node("MaxPool", "x", "m y", kernel_shape=[2, 2])], double)


CASES: tuple[Case, ...] = (*_windows(), *_planes(), *_norms(), *_places())
