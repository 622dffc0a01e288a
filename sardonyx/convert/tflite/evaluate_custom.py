"""What custom operators, non-maximum suppression and layers of two directions compute, in NumPy."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sardonyx.convert.tflite.evaluate_operators import EVALUATORS, Array, Call, Evaluator
from sardonyx.convert.tflite.flexbuffer import numbers

# MediaPipe's: options are a C structure of padding (1 is SAME), strides and the window, each width first.


def _options(call: Call, count: int) -> list[int]:
    return list(struct.unpack_from(f"<{count}i", call.source.custom or b""))


def _transpose_conv_bias(call: Call) -> Any:
    """Each element of the input adds its window of weights [out, h, w, in] to the result."""
    x, w, bias = call.x
    padding, s_w, s_h = _options(call, 3)
    (high, wide), (k_h, k_w) = x.shape[1:3], w.shape[1:3]
    whole = np.zeros((x.shape[0], (high - 1) * s_h + k_h, (wide - 1) * s_w + k_w, w.shape[0]))
    for y, column in np.ndindex(high, wide):
        part = np.einsum("ni,ohwi->nhwo", x[:, y, column], w)
        whole[:, y * s_h : y * s_h + k_h, column * s_w : column * s_w + k_w] += part
    if padding == 1:
        cut_h, cut_w = (max(0, k - (n - 1) % s - 1) for k, n, s in ((k_h, high, s_h), (k_w, wide, s_w)))
        top, left = cut_h // 2, cut_w // 2
        whole = whole[:, top : whole.shape[1] - (cut_h - top), left : whole.shape[2] - (cut_w - left)]
    return whole + bias


def _max_pool_argmax(call: Call) -> Any:
    """The largest of each window, and its place in the window as a float with 0.1 added."""
    x = call.x[0]
    padding, s_w, s_h, f_w, f_h = _options(call, 5)
    edges, counts = [(0, 0)], []
    for size, filter_size, stride in ((x.shape[1], f_h, s_h), (x.shape[2], f_w, s_w)):
        count = -(-size // stride) if padding == 1 else (size - filter_size) // stride + 1
        more = max((count - 1) * stride + filter_size - size, 0)
        edges.append((more // 2, more - more // 2))
        counts.append(count)
    padded = np.pad(x, [*edges, (0, 0)], constant_values=-np.inf)
    largest = np.empty((x.shape[0], *counts, x.shape[3]))
    places = np.empty_like(largest)
    for y, column in np.ndindex(*counts):
        window = padded[:, y * s_h : y * s_h + f_h, column * s_w : column * s_w + f_w]
        rows = window.reshape(x.shape[0], -1, x.shape[3])
        largest[:, y, column], places[:, y, column] = rows.max(1), rows.argmax(1) + 0.1
    return [largest, places]


def _max_unpooling(call: Call) -> Any:
    """Each element at its place in a window of zeros."""
    x, places = call.x
    _, _, _, f_w, f_h = _options(call, 5)
    result = np.zeros((x.shape[0], x.shape[1] * f_h, x.shape[2] * f_w, x.shape[3]))
    n, y, column, c = np.indices(x.shape)
    at = places.astype(np.int64)
    result[n, y * f_h + at // f_w, column * f_w + at % f_w, c] = x
    return result


# Non-maximum suppression: boxes are (y, x) of two opposite corners


def _overlap(a: Array, b: Array) -> float:
    """Of two boxes: what they share over what they cover; 0 where one is empty."""
    low = [np.minimum(box[:2], box[2:]) for box in (a, b)]
    high = [np.maximum(box[:2], box[2:]) for box in (a, b)]
    areas = [float(np.prod(ends - starts)) for starts, ends in zip(low, high, strict=True)]
    if min(areas) <= 0:
        return 0.0
    shared = float(np.prod(np.maximum(np.minimum(*high) - np.maximum(*low), 0)))
    return shared / (sum(areas) - shared)


def _kept(boxes: Array, scores: Array, candidates: Any, most: int, limit: float, *, at_limit: bool) -> list[int]:
    """The best boxes first, without those that overlap one before them by more than `limit` (or by just that)."""
    kept: list[int] = []
    for index in sorted(np.flatnonzero(candidates).tolist(), key=lambda i: -scores[i]):
        found = [_overlap(boxes[index], boxes[other]) for other in kept]
        if not any(value > limit or (at_limit and value == limit) for value in found) and len(kept) < most:
            kept.append(index)
    return kept


def _filled(rows: Array, count: int) -> Array:
    """`rows` with zeros after them, to `count`."""
    return np.concatenate([rows, np.zeros((max(count - len(rows), 0), *rows.shape[1:]))])


def _detections(call: Call) -> Any:
    """kernels/detection_postprocess.cc, without suppression for each class."""
    options = numbers(call.source.custom or b"")
    encoded, scores, anchors = call.x[0][0], call.x[1][0], call.x[2]
    scales = np.array([options[key] for key in ("y_scale", "x_scale", "h_scale", "w_scale")])
    centres = encoded[:, :2] / scales[:2] * anchors[:, 2:] + anchors[:, :2]
    halves = np.exp(encoded[:, 2:] / scales[2:]) * anchors[:, 2:] / 2
    boxes = np.concatenate([centres - halves, centres + halves], 1)
    likely = scores[:, scores.shape[1] - int(options["num_classes"]) :]
    best, most = likely.max(1), int(options["max_detections"])
    able = best >= np.float32(options["nms_score_threshold"])
    at = _kept(boxes, best, able, most, float(np.float32(options["nms_iou_threshold"])), at_limit=False)
    rows = [_filled(part[at], most)[None] for part in (boxes, likely.argmax(1), best)]
    return [*rows, np.array([float(len(at))])]


def _suppression(call: Call) -> Any:
    """kernels/internal/reference/non_max_suppression.h; boxes that overlap by just the limit go."""
    boxes, scores, most, limit, least = call.x[:5]
    count = int(np.ravel(most)[0])
    at = _kept(boxes, scores, scores > np.ravel(least)[0], count, float(np.ravel(limit)[0]), at_limit=True)
    parts = [np.array(at, np.int64), *([scores[at]] if call.source.name.endswith("V5") else [])]
    return [*(_filled(part, count) for part in parts), np.array(len(at))]


# Two directions


def _both(call: Call, layer: str, major: bool, ways: tuple[list[int], list[int]]) -> Any:
    """The layer of one direction over the input and over the input from its end."""
    axis, results = 0 if major else 1, []
    for back, places in enumerate(ways):
        x = np.flip(call.x[0], axis) if back else call.x[0]
        y = EVALUATORS[layer](replace(call, x=[x, *(call.x[at] for at in places)]))
        results.append(np.flip(y, axis) if back else y)
    return np.concatenate(results, -1) if call.get("merge_outputs", False) else results


def _both_lstms(call: Call) -> Any:
    ways = ([*range(1, 18), 35, 36], [*range(18, 35), 37, 38])
    return _both(call, "UNIDIRECTIONAL_SEQUENCE_LSTM", call.get("time_major"), ways)


def _both_rnns(call: Call) -> Any:
    return _both(call, "UNIDIRECTIONAL_SEQUENCE_RNN", call.get("time_major"), ([1, 2, 3, 4], [5, 6, 7, 8]))


CUSTOM: Mapping[str, Evaluator] = {
    "custom operator 'Convolution2DTransposeBias'": _transpose_conv_bias,
    "custom operator 'MaxPoolingWithArgmax2D'": _max_pool_argmax,
    "custom operator 'MaxUnpooling2D'": _max_unpooling,
    "custom operator 'TFLite_Detection_PostProcess'": _detections,
    "NON_MAX_SUPPRESSION_V4": _suppression, "NON_MAX_SUPPRESSION_V5": _suppression,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _both_lstms, "BIDIRECTIONAL_SEQUENCE_RNN": _both_rnns,
}  # fmt: skip
"""By operator."""
