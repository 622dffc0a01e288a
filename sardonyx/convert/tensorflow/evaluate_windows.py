"""TensorFlow's operators over images in NumPy, tap by tap, in TensorFlow's own layout."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.convert.tensorflow.graph import Node

Array = np.ndarray[Any, Any]

TOGETHER = 1 << 26
"""Elements that the taps of one image may see together."""


def _last(node: Node, x: Array) -> Array:
    """The image with its channels last."""
    return np.moveaxis(x, 1, -1) if node.text("data_format", "NHWC").startswith("NC") else x


def _back(node: Node, x: Array) -> Array:
    return np.moveaxis(x, -1, 1) if node.text("data_format", "NHWC").startswith("NC") else x


def _inner(node: Node, items: Sequence[int]) -> list[int]:
    return list(items[2:] if node.text("data_format", "NHWC").startswith("NC") else items[1:-1])


def _steps(node: Node, x: Array) -> tuple[list[int], list[int]]:
    """Strides and dilations of the spatial axes."""
    ones = [1] * x.ndim
    return _inner(node, node.integers("strides", ones)), _inner(node, node.integers("dilations", ones) or ones)


def _borders(node: Node, sizes: Sequence[int], reaches: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Rows of padding before and after each spatial axis."""
    padding = node.text("padding")
    if padding == "VALID":
        return [(0, 0)] * len(sizes)
    if padding == "EXPLICIT":
        flat = node.integers("explicit_paddings")
        return [(a, b) for a, b in zip(_inner(node, flat[::2]), _inner(node, flat[1::2]), strict=True)]
    found = []
    for size, reach, stride in zip(sizes, reaches, strides, strict=True):
        count = (size + stride - 1) // stride
        missing = max(0, (count - 1) * stride + reach - size)
        found.append((missing // 2, missing - missing // 2))
    return found


def _taps(
    node: Node, x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], fill: float
) -> Any:
    """For each tap of a window, its index and what it sees of the padded image."""
    reaches = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    borders = _borders(node, x.shape[1:-1], reaches, strides)
    padded = np.pad(x, [(0, 0), *borders, (0, 0)], constant_values=fill)
    counts = [(n - r) // s + 1 for n, r, s in zip(padded.shape[1:-1], reaches, strides, strict=True)]
    for tap in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(t * d, t * d + (c - 1) * s + 1, s) for t, d, c, s in zip(tap, dilations, counts, strides, strict=True)
        )
        yield tap, padded[(slice(None), *window)]


def _convolution(node: Node, x: Array, kernel: Array) -> Array:
    image = _last(node, x)
    groups = image.shape[-1] // kernel.shape[-2]
    strides, dilations = _steps(node, x)
    results = []
    for part, weights in zip(np.split(image, groups, -1), np.split(kernel, groups, -1), strict=True):
        rows = [
            _product(_taps(node, row, kernel.shape[:-2], strides, dilations, 0.0), weights) for row in part[:, None]
        ]
        results.append(np.concatenate(rows))
    return _back(node, np.concatenate(results, -1))


def _product(taps: Any, weights: Array) -> Array:
    """The sum over taps, as one product where what they see is not too much."""
    seen = list(taps)
    if sum(part.size for _, part in seen) > TOGETHER:
        return np.asarray(sum(part @ weights[tap] for tap, part in seen))
    return np.concatenate([part for _, part in seen], -1) @ weights.reshape(-1, weights.shape[-1])


def _depthwise(node: Node, x: Array, kernel: Array) -> Array:
    image = _last(node, x)
    strides, dilations = _steps(node, x)
    taps = _taps(node, image, kernel.shape[:-2], strides, dilations, 0.0)
    total = sum(seen[..., np.newaxis] * kernel[tap] for tap, seen in taps)
    return _back(node, np.asarray(total).reshape(*total.shape[:-2], -1))


def _transposed(node: Node, sizes: Array, kernel: Array, x: Array) -> Array:
    """Each element of `x` is spread over the window that it would have been made of."""
    image = _last(node, x)
    strides, dilations = _steps(node, x)
    given = [int(size) for size in sizes]
    wanted = given if len(given) == image.ndim - 2 else _inner(node, given)
    reaches = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:-2], dilations, strict=True)]
    borders = _borders(node, wanted, reaches, strides)
    padded = [size + sum(border) for size, border in zip(wanted, borders, strict=True)]
    room = [max(p, (n - 1) * s + r) for p, n, s, r in zip(padded, image.shape[1:-1], strides, reaches, strict=True)]
    result = np.zeros((image.shape[0], *room, kernel.shape[-2]))
    for tap in itertools.product(*map(range, kernel.shape[:-2])):
        window = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, image.shape[1:-1], strides, strict=True)
        )
        result[(slice(None), *window)] += image @ kernel[tap].T
    kept = tuple(slice(b[0], b[0] + size) for b, size in zip(borders, wanted, strict=True))
    return _back(node, result[(slice(None), *kept)])


def _pool(node: Node, x: Array, *window: Array) -> Array:
    image = _last(node, x)
    extents, strides = (
        [_inner(node, [int(n) for n in item]) for item in window]
        if window
        else [_inner(node, node.integers("ksize")), _inner(node, node.integers("strides"))]
    )
    ones = [1] * len(extents)
    if node.op.startswith("Max"):
        return _back(node, np.max([seen for _, seen in _taps(node, image, extents, strides, ones, -np.inf)], 0))
    total = sum(seen for _, seen in _taps(node, image, extents, strides, ones, 0.0))
    count = sum(seen for _, seen in _taps(node, np.ones_like(image), extents, strides, ones, 0.0))
    return _back(node, total / count)


def _batch_norm(node: Node, x: Array, scale: Array, offset: Array, mean: Array, variance: Array) -> list[Array]:
    image = _last(node, x)
    if node.flag("is_training", True):
        axes = tuple(range(image.ndim - 1))
        mean, variance = image.mean(axes), image.var(axes)
    y = (image - mean) / np.sqrt(variance + node.number("epsilon", 1e-4)) * scale + offset
    return [_back(node, y), mean, variance, mean, variance]


def _lrn(node: Node, x: Array) -> Array:
    radius = node.integer("depth_radius", 5)
    squares = np.pad(x * x, [(0, 0)] * (x.ndim - 1) + [(radius, radius)])
    total = sum(squares[..., i : i + x.shape[-1]] for i in range(2 * radius + 1))
    return x / (node.number("bias", 1.0) + node.number("alpha", 1.0) * total) ** node.number("beta", 0.5)


def _space_to_depth(node: Node, x: Array) -> Array:
    image, b = _last(node, x), node.integer("block_size")
    parts = [image[:, i::b, j::b] for i in range(b) for j in range(b)]
    return _back(node, np.concatenate(parts, -1))


def _depth_to_space(node: Node, x: Array) -> Array:
    image, b = _last(node, x), node.integer("block_size")
    n, h, w, c = image.shape
    result = np.zeros((n, h * b, w * b, c // b**2))
    for k, part in enumerate(np.split(image, b * b, -1)):
        result[:, k // b :: b, k % b :: b] = part
    return _back(node, result)


def _space_to_batch(node: Node, x: Array, block: Array, pads: Array) -> Array:
    around = [(0, 0), *[(int(a), int(b)) for a, b in pads], *[(0, 0)] * (x.ndim - 1 - len(pads))]
    padded = np.pad(x, around)
    places = itertools.product(*(range(int(b)) for b in block))
    return np.concatenate([
        padded[(slice(None), *(slice(p, None, int(b)) for p, b in zip(place, block, strict=True)))] for place in places
    ])  # fmt: skip


def _batch_to_space(node: Node, x: Array, block: Array, crops: Array) -> Array:
    sizes = [int(b) for b in block]
    parts = np.split(x, int(np.prod(sizes)))
    wide = [n * b for n, b in zip(x.shape[1:], sizes, strict=False)]
    result = np.zeros((parts[0].shape[0], *wide, *x.shape[1 + len(sizes) :]), x.dtype)
    for place, part in zip(itertools.product(*map(range, sizes)), parts, strict=True):
        result[(slice(None), *(slice(p, None, b) for p, b in zip(place, sizes, strict=True)))] = part
    kept = tuple(slice(int(a), n - int(b)) for (a, b), n in zip(crops, wide, strict=True))
    return result[(slice(None), *kept)]


def _places(node: Node, n: int, out: int, *, nearest: bool = False) -> Array:
    """Where each of `out` rows lies among `n`, in float32, as TensorFlow counts."""
    rows = np.arange(out, dtype=np.float32)
    if node.flag("align_corners"):
        return rows * np.float32(np.float32(n - 1) / np.float32(out - 1) if out > 1 else 0)
    scale = np.float32(np.float32(n) / np.float32(out))
    if not node.flag("half_pixel_centers"):
        return rows * scale
    centred = (rows + np.float32(0.5)) * scale
    return centred if nearest else centred - np.float32(0.5)


def _along(function: Callable[[Node, int, int], list[dict[int, float]]]) -> Callable[..., Array]:
    """A resizing that is done along rows, then columns, as weighted sums; the function tells the weights."""

    def operator(node: Node, x: Array, size: Array) -> Array:
        for axis, out in ((1, int(size[0])), (2, int(size[1]))):
            rows = function(node, x.shape[axis], out)
            x = np.stack([sum(np.take(x, at, axis) * weight for at, weight in row.items()) for row in rows], axis)
        return x

    return operator


def _bilinear(node: Node, n: int, out: int) -> list[dict[int, float]]:
    rows = []
    for place in _places(node, n, out).astype(np.float64):
        low = int(np.floor(place))
        share = place - low
        row: dict[int, float] = {}
        for at, weight in ((low, 1 - share), (low + 1, share)):
            held = min(max(at, 0), n - 1)
            row[held] = row.get(held, 0.0) + weight
        rows.append(row)
    return rows


def _nearest(node: Node, n: int, out: int) -> list[dict[int, float]]:
    places = _places(node, n, out, nearest=True)
    places = np.floor(places + np.float32(0.5)) if node.flag("align_corners") else np.floor(places)
    return [{min(int(place), n - 1): 1.0} for place in places]


def _bicubic(node: Node, n: int, out: int) -> list[dict[int, float]]:
    """Keys' kernel at offsets of 1/1024; with half pixels, what lies outside has no weight."""
    half = node.flag("half_pixel_centers")
    a = -0.5 if half else -0.75
    rows = []
    for place in _places(node, n, out):
        low = int(np.floor(place))
        t = float(np.rint((place - np.float32(low)) * 1024)) / 1024
        row: dict[int, float] = {}
        for at in range(low - 1, low + 3):
            d = abs(low + t - at)
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            weight = near if d <= 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            if half and not 0 <= at < n:
                continue
            held = min(max(at, 0), n - 1)
            row[held] = row.get(held, 0.0) + weight
        total = sum(row.values()) if half else 1.0
        rows.append({at: weight / total for at, weight in row.items()})
    return rows


def _area(node: Node, n: int, out: int) -> list[dict[int, float]]:
    edges = np.append(_places(node, n, out), 0).astype(np.float64)
    step = n / out if not node.flag("align_corners") or out == 1 else (n - 1) / (out - 1)
    rows = []
    for start in edges[:-1]:
        row: dict[int, float] = {}
        for at in range(int(start), int(np.ceil(start + step - 1e-6))):
            covered = min(at + 1, start + step) - max(at, start)
            row[min(at, n - 1)] = row.get(min(at, n - 1), 0.0) + covered / step
        rows.append(row)
    return rows


def _nms(node: Node, boxes: Array, scores: Array, most: Any, *limits: Any) -> Any:
    overlap = float(limits[0]) if limits else node.number("iou_threshold", 0.5)
    least = float(limits[1]) if len(limits) > 1 else -np.inf
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    chosen: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if len(chosen) == int(most) or not scores[i] > least:
            break
        shared = [np.prod(np.maximum(np.minimum(high[i], high[j]) - np.maximum(low[i], low[j]), 0)) for j in chosen]
        areas = [np.prod(high[i] - low[i]) + np.prod(high[j] - low[j]) - s for j, s in zip(chosen, shared, strict=True)]
        if all(s <= overlap * area for s, area in zip(shared, areas, strict=True)):
            chosen.append(int(i))
    index = np.array(chosen, np.int32)
    count = np.array(len(chosen), np.int32)
    if node.op == "NonMaxSuppressionV5":
        return [index, scores[index], count]
    return [index, count] if node.op == "NonMaxSuppressionV4" else index


WINDOWS: dict[str, Callable[..., Any]] = {
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed,
    "Conv3DBackpropInputV2": _transposed,
    "MaxPool": _pool,
    "MaxPoolV2": _pool,
    "MaxPool3D": _pool,
    "AvgPool": _pool,
    "AvgPool3D": _pool,
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "LRN": _lrn,
    "SpaceToDepth": _space_to_depth,
    "DepthToSpace": _depth_to_space,
    "SpaceToBatchND": _space_to_batch,
    "BatchToSpaceND": _batch_to_space,
    "ResizeBilinear": _along(_bilinear),
    "ResizeNearestNeighbor": _along(_nearest),
    "ResizeBicubic": _along(_bicubic),
    "ResizeArea": _along(_area),
    **dict.fromkeys([f"NonMaxSuppression{suffix}" for suffix in ("", "V2", "V3", "V4", "V5")], _nms),
}
