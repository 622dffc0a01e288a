"""Custom operators in common use: MediaPipe's, and the end of SSD detectors. Non-maximum suppression."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.tflite.emit import TYPES, Op, UnsupportedError
from sardonyx.convert.tflite.flexbuffer import numbers
from sardonyx.convert.tflite.ops_shapes import longs
from sardonyx.convert.tflite.ops_windows import transposed

Rule = Callable[[Op], None]

SAME = 1
"""In the C structures that MediaPipe's options are; 2 is VALID."""


def _structure(op: Op, count: int) -> tuple[int, ...]:
    """The first integers of a C structure."""
    data = op.source.custom or b""
    if len(data) < 4 * count:
        raise UnsupportedError("its options are not those that MediaPipe writes")
    found = struct.unpack(f"<{count}i", data[: 4 * count])
    if found[0] not in (1, 2) or min(found[1:]) < 1:
        raise UnsupportedError(f"its options are {list(found)}")
    return found


def _transpose_conv_bias(op: Op) -> None:
    """Weights [out, h, w, in]; with SAME, what is too much is cut (mediapipe/util/tflite/operations)."""
    padding, stride_w, stride_h = _structure(op, 3)
    x, w = op.real(op.need(0)), op.need(1)
    kernel, strides, sizes = op.known(w, 1, 2), (stride_h, stride_w), op.known(x, 1, 2)
    cut = [
        max(0, k - (size - 1) % s - 1) if padding == SAME else 0
        for size, k, s in zip(sizes, kernel, strides, strict=True)
    ]
    target = [s * (size - 1) + k - c for size, k, s, c in zip(sizes, kernel, strides, cut, strict=True)]
    bias = op.plain(op.real(op.need(2)))
    result = transposed(op, x, op.weights(1, (3, 0, 1, 2)), bias, kernel, strides, [c // 2 for c in cut], target)
    op.give(result, first=True)


def _max_pool_argmax(op: Op) -> None:
    """The largest of each window, and where in the window the first of them is, as a float with 0.1 added."""
    padding, stride_w, stride_h, filter_w, filter_h = _structure(op, 5)
    x = op.real(op.need(0))
    value = op.first(x)
    sizes = op.known(x, 1, 2)
    pads, outs = [0] * 8, []
    for axis, (size, k, s) in enumerate(zip(sizes, (filter_h, filter_w), (stride_h, stride_w), strict=True), 2):
        out = -(-size // s) if padding == SAME else (size - k + s) // s
        total = max((out - 1) * s + k - size, 0)
        pads[axis], pads[axis + 4] = total // 2, total - total // 2
        outs.append(out)
    if any(pads):
        value = op.node("Pad", [value, op.const(pads), op.const(np.finfo(np.float32).min, np.float32)])
    taps = []
    for y in range(filter_h):
        for column in range(filter_w):
            ends = [y + (outs[0] - 1) * stride_h + 1, column + (outs[1] - 1) * stride_w + 1]
            tap = op.node("Slice", [value, *map(op.const, ([y, column], ends, [2, 3], [stride_h, stride_w]))])
            taps.append(op.node("Unsqueeze", [tap, op.const([0])]))
    stacked = op.node("Concat", taps, axis=0)
    op.give(op.node("ReduceMax", [stacked, op.const([0])], keepdims=0), first=True)
    place = op.cast(op.node("ArgMax", [stacked], axis=0, keepdims=0), ir.DataType.FLOAT)
    op.give(op.node("Add", [place, op.const(0.1, np.float32)]), 1, first=True)


def _max_unpooling(op: Op) -> None:
    """Each element goes to the place in its window that the indices say; zeros elsewhere."""
    _, stride_w, stride_h, filter_w, filter_h = _structure(op, 5)
    if not stride_w == stride_h == filter_w == filter_h:
        raise UnsupportedError("windows that are not square or not side by side are not supported")
    x, places = op.first(op.real(op.need(0))), op.first(op.real(op.need(1)))
    whole, zero = op.cast(places, ir.DataType.INT32), op.const(0, np.float32)
    taps = []
    for tap in range(filter_w * filter_h):
        here = op.node("Equal", [whole, op.const(tap, np.int32)])
        taps.append(op.node("Where", [here, x, zero]))
    stacked = op.node("Concat", taps, axis=1)
    op.give(op.node("DepthToSpace", [stacked], blocksize=filter_w, mode="DCR"), first=True)


# Non-maximum suppression


def _below(number: float) -> Any:
    """The next smaller float32: what is greater than that is at least `number`."""
    return np.nextafter(np.float32(number), np.float32(-np.inf))


def _rows(op: Op, value: ir.Value, size: int | None, count: ir.Value) -> ir.Value:
    """`value` with rows of zeros after it, to `count` rows."""
    have = op.node("Shape", [value], start=0, end=1)
    more = op.node("Sub", [count, have])
    pads = [op.const([0]), more] if size is None else [op.const([0, 0]), more, op.const([0])]
    return op.node("Pad", [value, op.node("Concat", pads, axis=0)])


def _detections(op: Op) -> None:
    """Boxes from anchors, the best class of each, those that overlap removed (kernels/detection_postprocess.cc)."""
    options = numbers(op.source.custom or b"")
    if options.get("use_regular_nms") or options.get("max_classes_per_detection", 1) != 1:
        raise UnsupportedError("suppression for each class, or several classes for a detection, is not supported")
    encoded, scores, anchors = (op.real(op.need(index)) for index in range(3))
    if encoded.dims is None or encoded.dims[0] != 1:
        raise UnsupportedError("it takes a batch of 1 alone")
    background = op.known(scores, 2)[0] - int(options["num_classes"])
    flat = op.node("Squeeze", [op.plain(encoded), op.const([0])])
    where = op.nodes("Split", [flat], 4, axis=1, num_outputs=4)
    base = op.nodes("Split", [op.plain(anchors)], 4, axis=1, num_outputs=4)
    scales = [op.const(options[key], np.float32) for key in ("y_scale", "x_scale", "h_scale", "w_scale")]
    scaled = [op.node("Div", pair) for pair in zip(where, scales, strict=True)]
    half = op.const(0.5, np.float32)
    corners: list[ir.Value] = []
    for axis in (0, 1):
        centre = op.node("Add", [op.node("Mul", [scaled[axis], base[axis + 2]]), base[axis]])
        extent = op.node("Mul", [op.node("Mul", [op.node("Exp", [scaled[axis + 2]]), base[axis + 2]]), half])
        corners += [op.node("Sub", [centre, extent]), op.node("Add", [centre, extent])]
    boxes = op.node("Concat", [corners[0], corners[2], corners[1], corners[3]], axis=1)
    likely = op.node("Slice", [op.plain(scores), *map(op.const, ([background], [2**62], [2]))])
    best = op.node("ReduceMax", [likely, op.const([2])], keepdims=0)
    kind = op.node("Squeeze", [op.node("ArgMax", [likely], axis=2, keepdims=0), op.const([0])])
    most = op.const([int(options["max_detections"])])
    overlap = op.const([options["nms_iou_threshold"]], np.float32)
    least = op.const([_below(options["nms_score_threshold"])], np.float32)
    lifted = [op.node("Unsqueeze", [value, op.const([0])]) for value in (boxes, best)]
    chosen = op.node("NonMaxSuppression", [*lifted, most, overlap, least])
    at = op.node("Squeeze", [op.node("Slice", [chosen, *map(op.const, ([2], [3], [1]))]), op.const([1])])
    flat_best = op.node("Squeeze", [best, op.const([0])])
    kinds = op.cast(op.node("Gather", [kind, at], axis=0), ir.DataType.FLOAT)
    results = [
        _rows(op, op.node("Gather", [boxes, at], axis=0), 4, most),
        _rows(op, kinds, None, most),
        _rows(op, op.node("Gather", [flat_best, at], axis=0), None, most),
        op.cast(op.node("Shape", [at]), ir.DataType.FLOAT),
    ]
    for index, value in enumerate(results):
        op.give(value if index == 3 else op.node("Unsqueeze", [value, op.const([0])]), index)


def _suppression(op: Op) -> None:
    """Boxes [n, 4] and scores [n]; inputs 2 to 4: how many at most, overlap and score; results filled up with zeros."""
    soft = op.source.name.endswith("V5")
    if soft and op.constant(5, "soft_nms_sigma").ravel()[0] != 0:
        raise UnsupportedError("scores that fade with overlap are not supported")
    boxes, scores = op.plain(op.real(op.need(0))), op.plain(op.real(op.need(1)))
    most = op.node("Reshape", [longs(op, 2), op.const([1])])
    # Boxes that overlap by just the threshold are removed, which ONNX keeps.
    overlap = _below(float(op.constant(3, "overlap").ravel()[0]))
    least = op.node("Reshape", [op.plain(op.need(4)), op.const([1])])
    chosen = op.node(
        "NonMaxSuppression",
        [
            op.node("Unsqueeze", [boxes, op.const([0])]), op.node("Unsqueeze", [scores, op.const([0, 1])]), most,
            op.const([overlap], np.float32), least,
        ],
    )  # fmt: skip
    at = op.node("Squeeze", [op.node("Slice", [chosen, *map(op.const, ([2], [3], [1]))]), op.const([1])])
    op.give(op.cast(_rows(op, at, None, most), TYPES[op.out[0].kind]), 0)
    if soft:
        op.give(_rows(op, op.node("Gather", [scores, at], axis=0), None, most), 1)
    count = op.node("Squeeze", [op.node("Shape", [at]), op.const([0])])
    op.give(op.cast(count, ir.DataType.INT32), len(op.out) - 1)


CUSTOM: Mapping[str, Rule] = {
    "custom operator 'Convolution2DTransposeBias'": _transpose_conv_bias,
    "custom operator 'MaxPoolingWithArgmax2D'": _max_pool_argmax,
    "custom operator 'MaxUnpooling2D'": _max_unpooling,
    "custom operator 'TFLite_Detection_PostProcess'": _detections,
    "NON_MAX_SUPPRESSION_V4": _suppression,
    "NON_MAX_SUPPRESSION_V5": _suppression,
}
"""Rules by operator."""
