"""Operators of TensorFlow over pictures and boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.tensorflow.emitter import Emit, Emitter, Tensor, UnsupportedError
from sardonyx.convert.tensorflow.graph import Node
from sardonyx.convert.tensorflow.tensors import D

Array = np.ndarray[Any, Any]
Inputs = Sequence[Tensor]


def _image_sizes(x: Tensor) -> list[int] | None:
    shape = x.shape
    if shape is None or len(shape) != 4:
        return None
    height, width = shape[1:3]
    return [height, width] if isinstance(height, int) and isinstance(width, int) else None


def _bilinear(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x, size = inputs
    value = e.cast(e.first(x), D.FLOAT)
    align, half = node.flag("align_corners"), node.flag("half_pixel_centers")
    mode = "align_corners" if align else "half_pixel" if half else "asymmetric"
    resized = e.node(
        "Resize", [value, None, None, e.vector(size)], mode="linear", coordinate_transformation_mode=mode, axes=[2, 3]
    )
    return e.tensor(resized, moved=True)


def _nearest(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """Whole multiples by Resize; others by the indices of rows and columns, counted in float32 as TensorFlow does."""
    x, size = inputs
    align, half = node.flag("align_corners"), node.flag("half_pixel_centers")
    here = _image_sizes(x)
    value = e.first(x)
    if here and size.array is not None and not align:
        wanted = size.integers("size")
        if all(n and out % n == 0 for n, out in zip(here, wanted, strict=True)):
            factors = [out // n for n, out in zip(here, wanted, strict=True)]
            scales = e.constant(factors, np.float32, tag="scales")
            attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return e.tensor(e.node("Resize", [value, None, scales], axes=[2, 3], **attributes), moved=True)
    sizes = e.vector(size)
    for place, axis in enumerate((2, 3)):
        out = e.node("Gather", [sizes, e.constant(place, np.int64, tag="at")], tag="out")
        n = e.squeeze(e.node("Shape", [value], tag="dim", start=axis, end=axis + 1), [0])
        value = e.node("Gather", [value, _nearest_index(e, n, out, align, half)], axis=axis)
    return e.tensor(value, moved=True)


def _nearest_index(e: Emitter, n: ir.Value, out: ir.Value, align: bool, half: bool) -> ir.Value:
    """Which of `n` rows each of `out` takes."""
    zero, one = e.constant(0, np.int64, tag="zero"), e.constant(1, np.int64, tag="one")
    places = e.cast(e.node("Range", [zero, out, one], tag="range"), D.FLOAT)
    floats = [e.cast(n, D.FLOAT), e.cast(out, D.FLOAT)]
    unit = e.constant(1, np.float32, tag="unit")
    if align:
        less = [e.node("Sub", [number, unit], tag="less") for number in floats]
        scale = e.node("Div", [less[0], e.node("Max", [less[1], unit], tag="most")], tag="scale")
    else:
        scale = e.node("Div", floats, tag="scale")
    shift = e.constant(0.5, np.float32, tag="half")
    if half:
        places = e.node("Add", [places, shift], tag="centres")
    index = e.node("Mul", [places, scale], tag="places")
    if align:
        index = e.node("Add", [index, shift], tag="rounded")
    ints = e.cast(e.node("Floor", [index], tag="floor"), D.INT64)
    return e.node("Min", [ints, e.node("Sub", [n, one], tag="last")], tag="index")


def _by_matrices(weights: Callable[[int, int, Node], Array]) -> Emit:
    """Rows and columns as products with matrices of weights, for sizes that are known."""

    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        x, size = inputs
        here, wanted = _image_sizes(x), size.integers("size")
        if here is None:
            raise UnsupportedError("the size of its image is not known")
        rows, columns = (weights(n, out, node).astype(np.float32) for n, out in zip(here, wanted, strict=True))
        value = e.cast(e.first(x), D.FLOAT)
        value = e.node("MatMul", [value, e.constant(columns.T, tag="columns")], tag="columns")
        return e.tensor(e.node("MatMul", [e.constant(rows, tag="rows"), value]), moved=True)

    return emit


def _scale(n: int, out: int, align: bool) -> np.float32:
    return np.float32(n - 1) / np.float32(out - 1) if align and out > 1 else np.float32(n) / np.float32(out)


def _cubic_weights(n: int, out: int, node: Node) -> Array:
    """The weights of TensorFlow's bicubic kernel, from its table of 1024 offsets (resize_bicubic_op.cc)."""
    align, half = node.flag("align_corners"), node.flag("half_pixel_centers")
    a = -0.5 if half else -0.75
    scale = _scale(n, out, align)
    matrix = np.zeros((out, n))
    for row in range(out):
        place = (np.float32(row) + np.float32(0.5)) * scale - np.float32(0.5) if half else np.float32(row) * scale
        low = int(np.floor(place))
        offset = np.rint((place - np.float32(low)) * np.float32(1024)) / 1024
        taps = [_cubic(abs(offset - i), a) for i in (-1, 0, 1, 2)]
        places = [low - 1, low, low + 1, low + 2]
        if half:
            taps = [tap if 0 <= at < n else 0.0 for tap, at in zip(taps, places, strict=True)]
            total = sum(taps)
            taps = [tap / total for tap in taps] if abs(total) >= 1000 * np.finfo(np.float32).tiny else taps
        for tap, at in zip(taps, places, strict=True):
            matrix[row, min(max(at, 0), n - 1)] += tap
    return matrix


def _cubic(x: float, a: float) -> float:
    """Keys' kernel."""
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


def _area_weights(n: int, out: int, node: Node) -> Array:
    """The share of each pixel in the stretch that a result covers."""
    scale = _scale(n, out, node.flag("align_corners"))
    matrix = np.zeros((out, n))
    for row in range(out):
        start, end = float(np.float32(row) * scale), float(np.float32(row + 1) * scale)
        for at in range(int(np.floor(start)), int(np.ceil(end))):
            matrix[row, min(max(at, 0), n - 1)] += (min(at + 1, end) - max(at, start)) / float(scale)
    return matrix


def _nms(e: Emitter, node: Node, inputs: Inputs) -> Any:
    """The boxes that overlap none of a higher score."""
    boxes, scores, most, *thresholds = inputs
    if node.flag("pad_to_max_output_size"):
        raise UnsupportedError("pad_to_max_output_size")
    if node.op == "NonMaxSuppressionV5" and thresholds.pop().elements("soft_nms_sigma").any():
        raise UnsupportedError("soft suppression")
    if not thresholds:
        overlap = e.constant([node.number("iou_threshold", 0.5)], np.float32, tag="overlap")
    else:
        overlap = e.cast(e.reshape(e.plain(thresholds[0]), [1]), D.FLOAT)
    least = [e.cast(e.reshape(e.plain(thresholds[1]), [1]), D.FLOAT)] if len(thresholds) > 1 else []
    given = [e.cast(e.unsqueeze(e.plain(boxes), [0]), D.FLOAT), e.cast(e.unsqueeze(e.plain(scores), [0, 1]), D.FLOAT)]
    found = e.node("NonMaxSuppression", [*given, e.vector(most), overlap, *least], tag="boxes")
    index = e.node("Gather", [found, e.constant(2, np.int64, tag="at")], tag="index", axis=1)
    chosen = e.tensor(e.cast(index, D.INT32))
    if node.op in ("NonMaxSuppression", "NonMaxSuppressionV2", "NonMaxSuppressionV3"):
        return chosen
    count = e.tensor(e.cast(e.node("Size", [index], tag="count"), D.INT32))
    if node.op == "NonMaxSuppressionV4":
        return [chosen, count]
    return [chosen, e.tensor(e.node("Gather", [e.plain(scores), index], tag="scores")), count]


OPERATORS: dict[str, Emit] = {
    "ResizeBilinear": _bilinear,
    "ResizeNearestNeighbor": _nearest,
    "ResizeBicubic": _by_matrices(_cubic_weights),
    "ResizeArea": _by_matrices(_area_weights),
    "NonMaxSuppression": _nms,
    "NonMaxSuppressionV2": _nms,
    "NonMaxSuppressionV3": _nms,
    "NonMaxSuppressionV4": _nms,
    "NonMaxSuppressionV5": _nms,
}
