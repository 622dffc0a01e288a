"""A Caffe network in float64 NumPy, written from Caffe's definitions and not from how its layers become ONNX.

Slow and plain: windows are visited one tap or one window at a time, detections one box at a time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.base import Values
from sardonyx.convert.caffe.files import Layer, Network
from sardonyx.convert.caffe.prototxt import Message
from sardonyx.convert.contract import over_channels

Array = np.ndarray[Any, Any]
Function = Callable[["Step"], list[Array]]


@dataclass(frozen=True)
class Step:
    """One layer: its options, its inputs and its weights."""

    layer: Layer
    inputs: Sequence[Array]
    blobs: Sequence[Array]

    @property
    def x(self) -> Array:
        """The first input."""
        return self.inputs[0]

    def options(self, name: str) -> Message:
        """The options of this kind of layer."""
        return self.layer.message.message(name)


@dataclass(frozen=True)
class Evaluation:
    """The network as an oracle. `outputs` maps the model's outputs to blobs."""

    network: Network
    outputs: Mapping[str, str]
    name: str = "float64 evaluation of the source graph"

    def run(self, inputs: Values) -> Values:
        """Outputs by name, and the first result of each layer by the layer's name. All float64."""
        blobs: dict[str, Array] = {name: np.asarray(value, np.float64) for name, value in inputs.items()}
        found: dict[str, Array] = {}
        for layer in self.network.layers:
            if layer.type not in FUNCTIONS or any(bottom not in blobs for bottom in layer.bottoms[:1]):
                continue
            weights = [blob.astype(np.float64) for blob in self.network.weights.get(layer.name, ())]
            given = [blobs[bottom] for bottom in layer.bottoms if bottom in blobs]
            results = FUNCTIONS[layer.type](Step(layer, given, weights))
            blobs.update(zip(layer.tops, results, strict=False))
            if results:
                found[layer.name] = results[0]
        return found | {name: blobs[blob] for name, blob in self.outputs.items()}


def _each(function: Callable[[Array], Array]) -> Function:
    return lambda s: [function(s.x)]


def _sizes(p: Message, whole: str, short: str, rank: int, default: int) -> list[int]:
    if short + "_h" in p.fields or short + "_w" in p.fields:
        return [p.int(short + "_h", default), p.int(short + "_w", default)]
    values = p.ints(whole) or [default]
    return values * rank if len(values) == 1 else values


def _windows(s: Step) -> tuple[list[int], list[int], list[int], list[int]]:
    p, rank = s.options("convolution_param"), s.x.ndim - 2
    return (
        _sizes(p, "kernel_size", "kernel", rank, 1), _sizes(p, "stride", "stride", rank, 1),
        _sizes(p, "pad", "pad", rank, 0), _sizes(p, "dilation", "dilation", rank, 1),
    )  # fmt: skip


def _convolution(s: Step) -> list[Array]:
    return [_convolve(s, x) for x in s.inputs]


def _convolve(s: Step, x: Array) -> Array:
    p, (kernel, stride, pad, dilation) = s.options("convolution_param"), _windows(s)
    groups, outputs = p.int("group", 1), p.int("num_output", 0)
    padded = np.pad(x, [(0, 0), (0, 0), *[(n, n) for n in pad]])
    sizes = [
        (n - d * (k - 1) - 1) // t + 1 for n, d, k, t in zip(padded.shape[2:], dilation, kernel, stride, strict=True)
    ]
    channels = x.shape[1] // groups
    weights = s.blobs[0].reshape(groups, outputs // groups, channels, *kernel)
    result = np.zeros((x.shape[0], groups, outputs // groups, *sizes))
    for tap in _taps(kernel):
        places: list[Any] = [slice(t * d, t * d + (n - 1) * step + 1, step)
                  for t, d, n, step in zip(tap, dilation, sizes, stride, strict=True)]  # fmt: skip
        seen = padded[(slice(None), slice(None), *places)].reshape(x.shape[0], groups, channels, *sizes)
        result += over_channels(weights[(Ellipsis, *tap)], seen)
    result = result.reshape(x.shape[0], outputs, *sizes)
    return result + _column(s.blobs[1], result.ndim) if p.bool("bias_term", True) else result


def _deconvolution(s: Step) -> list[Array]:
    """Every input element adds the kernel, times itself, where it lies in the output."""
    p, (kernel, stride, pad, dilation) = s.options("convolution_param"), _windows(s)
    groups, outputs, results = p.int("group", 1), p.int("num_output", 0), []
    for x in s.inputs:
        apart = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
        weights = s.blobs[0].reshape(groups, apart.shape[2], outputs // groups, *kernel)
        whole = [
            (n - 1) * t + d * (k - 1) + 1 for n, t, d, k in zip(x.shape[2:], stride, dilation, kernel, strict=True)
        ]
        canvas = np.zeros((x.shape[0], groups, outputs // groups, *whole))
        for tap in _taps(kernel):
            places: tuple[Any, ...] = tuple(slice(t * d, t * d + (n - 1) * step + 1, step)
                           for t, d, n, step in zip(tap, dilation, x.shape[2:], stride, strict=True))  # fmt: skip
            spread = over_channels(weights[(Ellipsis, *tap)].swapaxes(1, 2), apart)
            canvas[(Ellipsis, *places)] += spread
        inner: tuple[Any, ...] = tuple(slice(n, size - n) for n, size in zip(pad, whole, strict=True))
        result = canvas.reshape(x.shape[0], outputs, *whole)[(Ellipsis, *inner)]
        results.append(result + _column(s.blobs[1], result.ndim) if p.bool("bias_term", True) else result)
    return results


def _taps(kernel: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """All places in a window."""
    return itertools.product(*map(range, kernel))


def _column(vector: Array, rank: int) -> Array:
    return vector.reshape(1, -1, *[1] * (rank - 2))


def _pooling(s: Step) -> list[Array]:
    """Window by window, as PoolingLayer::Forward_cpu goes."""
    p = s.options("pooling_param")
    mean = p.text("pool", "MAX") in ("AVE", "1")
    height, width = s.x.shape[2:]
    if p.bool("global_pooling", False):
        return [s.x.mean((2, 3), keepdims=True) if mean else s.x.max((2, 3), keepdims=True)]
    kernel = _sizes(p, "kernel_size", "kernel", 2, 1)
    stride, pad = _sizes(p, "stride", "stride", 2, 1), _sizes(p, "pad", "pad", 2, 0)
    up = p.bool("ceil_mode", p.text("round_mode", "CEIL") in ("CEIL", "0"))
    counts = []
    for size, k, t, n in zip((height, width), kernel, stride, pad, strict=True):
        count = math.floor((size + 2 * n - k) / t + (0 if not up else 1 - 1e-9)) + 1
        counts.append(count - 1 if any(pad) and (count - 1) * t >= size + n else count)
    result = np.zeros((*s.x.shape[:2], *counts))
    for i, j in np.ndindex(*counts):
        top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
        bottom, right = min(top + kernel[0], height + pad[0]), min(left + kernel[1], width + pad[1])
        area = (bottom - top) * (right - left)
        window = s.x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        result[:, :, i, j] = window.sum((2, 3)) / area if mean else window.max((2, 3))
    return [result]


def _lrn(s: Step) -> list[Array]:
    p = s.options("lrn_param")
    size, alpha, beta = p.int("local_size", 5), p.float("alpha", 1.0), p.float("beta", 0.75)
    square, half, total = s.x**2, size // 2, np.zeros_like(s.x)
    if p.text("norm_region", "ACROSS_CHANNELS") in ("ACROSS_CHANNELS", "0"):
        for channel in range(s.x.shape[1]):
            total[:, channel] = square[:, max(0, channel - half) : channel + half + 1].sum(1)
        return [s.x * (p.float("k", 1.0) + alpha / size * total) ** -beta]
    for i, j in np.ndindex(*s.x.shape[2:]):
        total[:, :, i, j] = square[:, :, max(0, i - half) : i + half + 1, max(0, j - half) : j + half + 1].sum((2, 3))
    return [s.x * (1 + alpha * total / size**2) ** -beta]


def _inner_product(s: Step) -> list[Array]:
    p = s.options("inner_product_param")
    axis = p.int("axis", 1) % s.x.ndim
    rows = s.x.reshape(math.prod(s.x.shape[:axis]), -1)
    outputs = p.int("num_output", 0)
    weights = s.blobs[0].reshape(-1, outputs).T if p.bool("transpose", False) else s.blobs[0].reshape(outputs, -1)
    result = rows @ weights.T
    if p.bool("bias_term", True):
        result = result + s.blobs[1].ravel()
    return [result.reshape(*s.x.shape[:axis], outputs)]


def _embed(s: Step) -> list[Array]:
    p = s.options("embed_param")
    table = s.blobs[0].reshape(p.int("input_dim", 0), p.int("num_output", 0))
    rows = table[s.x.astype(int)]
    return [rows + s.blobs[1].ravel() if p.bool("bias_term", True) else rows]


def _batch_norm(s: Step) -> list[Array]:
    p = s.options("batch_norm_param")
    factor = s.blobs[2].ravel()[0]
    mean, variance = (_column(blob.ravel() / factor if factor else blob.ravel() * 0, s.x.ndim) for blob in s.blobs[:2])
    return [(s.x - mean) / np.sqrt(variance + p.float("eps", 1e-5))]


def _along(x: Array, vector: Array, axis: int) -> Array:
    """`vector`'s axes lie along those of `x` from `axis` on."""
    return vector.reshape(*vector.shape, *[1] * (x.ndim - axis - vector.ndim)) if vector.ndim else vector


def _operand(s: Step, p: Message, index: int) -> tuple[Array, int]:
    axis = p.int("axis", 1) % max(s.x.ndim, 1)
    if len(s.inputs) == 2:
        return s.inputs[1], axis
    count = p.int("num_axes", 1)
    shape = s.x.shape[axis:] if count == -1 else s.x.shape[axis : axis + count]
    return s.blobs[index].reshape(shape), axis


def _scale(s: Step) -> list[Array]:
    p = s.options("scale_param")
    factor, axis = _operand(s, p, 0)
    result = s.x * _along(s.x, factor, axis)
    if p.bool("bias_term", False):
        result = result + _along(s.x, s.blobs[-1].reshape(factor.shape), axis)
    return [result]


def _bias(s: Step) -> list[Array]:
    addend, axis = _operand(s, s.options("bias_param"), 0)
    return [s.x + _along(s.x, addend, axis)]


def _softmax(s: Step) -> list[Array]:
    axis = s.options("softmax_param").int("axis", 1)
    powers = np.exp(s.x - s.x.max(axis, keepdims=True))
    return [powers / powers.sum(axis, keepdims=True)]


def _relu(s: Step) -> list[Array]:
    slope = s.options("relu_param").float("negative_slope", 0.0)
    return [np.where(s.x > 0, s.x, slope * s.x)]


def _prelu(s: Step) -> list[Array]:
    return [np.where(s.x > 0, s.x, _column(s.blobs[0].ravel(), s.x.ndim) * s.x)]


def _elu(s: Step) -> list[Array]:
    return [np.where(s.x > 0, s.x, s.options("elu_param").float("alpha", 1.0) * np.expm1(np.minimum(s.x, 0)))]


def _clip(s: Step) -> list[Array]:
    p = s.options("clip_param")
    return [np.clip(s.x, p.float("min", 0), p.float("max", 0))]


def _power(s: Step) -> list[Array]:
    p = s.options("power_param")
    return [(p.float("shift", 0.0) + p.float("scale", 1.0) * s.x) ** p.float("power", 1.0)]


def _exp(s: Step) -> list[Array]:
    p = s.options("exp_param")
    base = p.float("base", -1.0)
    return [(math.e if base == -1 else base) ** (p.float("shift", 0.0) + p.float("scale", 1.0) * s.x)]


def _log(s: Step) -> list[Array]:
    p = s.options("log_param")
    base = p.float("base", -1.0)
    value = np.log(p.float("shift", 0.0) + p.float("scale", 1.0) * s.x)
    return [value if base == -1 else value / math.log(base)]


def _threshold(s: Step) -> list[Array]:
    return [(s.x > s.options("threshold_param").float("threshold", 0.0)).astype(float)]


def _swish(s: Step) -> list[Array]:
    return [s.x / (1 + np.exp(-s.options("swish_param").float("beta", 1.0) * s.x))]


def _dropout(s: Step) -> list[Array]:
    p = s.options("dropout_param")
    return [s.x if p.bool("scale_train", True) else s.x * (1 - p.float("dropout_ratio", 0.5))]


def _concat(s: Step) -> list[Array]:
    p = s.options("concat_param")
    return [np.concatenate(s.inputs, p.int("axis", p.int("concat_dim", 1)))]


def _slice(s: Step) -> list[Array]:
    p = s.options("slice_param")
    points = p.ints("slice_point")
    return np.split(s.x, points or len(s.layer.tops), p.int("axis", p.int("slice_dim", 1)))


def _eltwise(s: Step) -> list[Array]:
    p = s.options("eltwise_param")
    stacked = np.stack(s.inputs)
    operation = p.text("operation", "SUM")
    if operation in ("PROD", "0"):
        return [stacked.prod(0)]
    if operation in ("MAX", "2"):
        return [stacked.max(0)]
    return [np.tensordot(np.array(p.floats("coeff") or [1.0] * len(stacked)), stacked, 1)]


def _flatten(s: Step) -> list[Array]:
    p = s.options("flatten_param")
    start, end = p.int("axis", 1) % s.x.ndim, p.int("end_axis", -1) % s.x.ndim
    return [s.x.reshape(*s.x.shape[:start], math.prod(s.x.shape[start : end + 1]), *s.x.shape[end + 1 :])]


def _reshape(s: Step) -> list[Array]:
    p = s.options("reshape_param")
    dims, axis, count = p.message("shape").ints("dim"), p.int("axis", 0), p.int("num_axes", -1)
    axis = axis if axis >= 0 else s.x.ndim + axis + 1
    end = s.x.ndim if count < 0 else axis + count
    middle = [s.x.shape[axis + i] if dim == 0 else dim for i, dim in enumerate(dims)]
    return [s.x.reshape(*s.x.shape[:axis], *middle, *s.x.shape[end:])]


def _permute(s: Step) -> list[Array]:
    order = s.options("permute_param").ints("order")
    return [s.x.transpose(order + [axis for axis in range(s.x.ndim) if axis not in order])]


def _crop(s: Step) -> list[Array]:
    p, (x, like) = s.options("crop_param"), s.inputs
    axis, offsets = p.int("axis", 2) % x.ndim, p.ints("offset") or [0]
    offsets = offsets * (x.ndim - axis) if len(offsets) == 1 else offsets
    for i, offset in enumerate(offsets):
        x = np.take(x, range(offset, offset + like.shape[axis + i]), axis + i)
    return [x]


def _reduction(s: Step) -> list[Array]:
    p = s.options("reduction_param")
    axes = tuple(range(p.int("axis", 0) % s.x.ndim, s.x.ndim))
    operation = p.text("operation", "SUM")
    value = {"ASUM": np.abs, "2": np.abs, "SUMSQ": np.square, "3": np.square}.get(operation, np.asarray)(s.x)
    total = value.mean(axes) if operation in ("MEAN", "4") else value.sum(axes)
    return [np.asarray(total * p.float("coeff", 1.0))]


def _argmax(s: Step) -> list[Array]:
    p = s.options("argmax_param")
    top, both = p.int("top_k", 1), p.bool("out_max_val", False)
    if "axis" in p.fields:
        axis = p.int("axis", 0)
        index = _best(s.x, axis, top)
        return [np.take_along_axis(s.x, index, axis) if both else index.astype(float)]
    rows = s.x.reshape(len(s.x), -1)
    index = _best(rows, 1, top)
    parts = [index.astype(float), np.take_along_axis(rows, index, 1)]
    found = np.stack(parts[: 1 + both], 1)
    return [found.reshape(*found.shape, *[1] * (s.x.ndim - 3))]


def _best(x: Array, axis: int, top: int) -> Array:
    """Where the largest are, as pairs of value and index compare: the last of equal ones first."""
    places = np.moveaxis(np.broadcast_to(np.arange(x.shape[axis]), np.moveaxis(x, axis, -1).shape), -1, axis)
    return np.take(np.flip(np.lexsort((places, x), axis), axis), range(top), axis)


def _tile(s: Step) -> list[Array]:
    p = s.options("tile_param")
    return [np.concatenate([s.x] * p.int("tiles", 0), p.int("axis", 1))]


def _mvn(s: Step) -> list[Array]:
    p = s.options("mvn_param")
    axes = tuple(range(1 if p.bool("across_channels", False) else 2, s.x.ndim))
    result = s.x - s.x.mean(axes, keepdims=True)
    if p.bool("normalize_variance", True):
        result = result / (s.x.std(axes, keepdims=True) + p.float("eps", 1e-9))
    return [result]


def _normalize(s: Step) -> list[Array]:
    p = s.options("norm_param")
    axes = tuple(range(1, s.x.ndim)) if p.bool("across_spatial", True) else (1,)
    norm = np.sqrt((s.x**2).sum(axes, keepdims=True) + p.float("eps", 1e-10))
    return [s.x / norm * _column(s.blobs[0].ravel(), s.x.ndim)]


def _shuffle(s: Step) -> list[Array]:
    groups = s.options("shuffle_channel_param").int("group", 1)
    size = s.x.shape[1] // groups
    return [s.x[:, [g * size + i for i in range(size) for g in range(groups)]]]


def _axpy(s: Step) -> list[Array]:
    scale, x, y = s.inputs
    return [scale.reshape(*x.shape[:2], 1, 1) * x + y]


def _padding(s: Step) -> list[Array]:
    pad = s.options("convolution_param").int("pad", 0)
    return [np.pad(s.x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])]


def _interp(s: Step) -> list[Array]:
    p, x = s.options("interp_param"), s.x
    first, last = p.int("pad_beg", 0), p.int("pad_end", 0)
    x = x[:, :, -first : x.shape[2] + last, -first : x.shape[3] + last]
    sizes = [p.int("height", 0), p.int("width", 0)]
    shrink, zoom = p.int("shrink_factor", 0), p.int("zoom_factor", 0)
    if len(s.inputs) == 2:
        sizes = list(s.inputs[1].shape[2:])
    elif shrink or zoom:
        sizes = [(size - 1) // max(shrink, 1) + 1 for size in x.shape[2:]]
        sizes = [size + (size - 1) * (zoom - 1) for size in sizes] if zoom else sizes
    for axis, size in zip((2, 3), sizes, strict=True):
        at = np.arange(size) * ((x.shape[axis] - 1) / (size - 1) if size > 1 else 0)
        low = np.floor(at).astype(int)
        high, part = np.minimum(low + 1, x.shape[axis] - 1), at - low
        part = part.reshape(-1, *[1] * (3 - axis))
        x = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return [x]


def _upsample(s: Step) -> list[Array]:
    p = s.options("upsample_param")
    scale = p.int("scale", p.int("stride", 2))
    return [np.kron(s.x, np.ones((1, 1, scale, scale)))]


def _parameter(s: Step) -> list[Array]:
    return [s.blobs[0].reshape(s.options("parameter_param").message("shape").ints("dim"))]


def _prior_box(s: Step) -> list[Array]:
    """One box after the other (PriorBoxLayer::Forward_cpu)."""
    p = s.options("prior_box_param")
    rows, columns = s.x.shape[2:]
    height = p.float("img_h", p.float("img_size", 0)) or s.inputs[1].shape[2]
    width = p.float("img_w", p.float("img_size", 0)) or s.inputs[1].shape[3]
    step_y = p.float("step_h", p.float("step", 0)) or height / rows
    step_x = p.float("step_w", p.float("step", 0)) or width / columns
    ratios: list[float] = [1.0]
    for ratio in p.floats("aspect_ratio"):
        if not any(abs(ratio - known) < 1e-6 for known in ratios):
            ratios.append(ratio)
            if p.bool("flip", True):
                ratios.append(1 / ratio)
    boxes = []
    for row, column in np.ndindex(rows, columns):
        x, y = (column + p.float("offset", 0.5)) * step_x, (row + p.float("offset", 0.5)) * step_y
        for i, small in enumerate(p.floats("min_size")):
            sizes = [(small, small)]
            if p.floats("max_size"):
                sizes.append((math.sqrt(small * p.floats("max_size")[i]),) * 2)
            sizes += [(small * ratio**0.5, small / ratio**0.5) for ratio in ratios[1:]]
            boxes += [((x - w / 2) / width, (y - h / 2) / height, (x + w / 2) / width, (y + h / 2) / height)
                      for w, h in sizes]  # fmt: skip
    flat = np.array(boxes).ravel()
    flat = np.clip(flat, 0, 1) if p.bool("clip", False) else flat
    variance = p.floats("variance") or [0.1]
    variance = variance * 4 if len(variance) == 1 else variance
    return [np.stack([flat, np.tile(variance, len(boxes))])[None]]


def _detection_output(s: Step) -> list[Array]:
    p = s.options("detection_output_param")
    classes, count = p.int("num_classes", 0), s.inputs[2].shape[2] // 4
    prior, variance = s.inputs[2].reshape(2, count, 4)
    location = s.inputs[0].reshape(len(s.x), count, -1, 4)
    scores = s.inputs[1].reshape(len(s.x), count, classes)
    rows: list[list[float]] = []
    for image in range(len(s.x)):
        kept = []
        for label in range(classes):
            if label != p.int("background_label_id", 0):
                own = location[image, :, 0 if p.bool("share_location", True) else label]
                boxes = _boxes(p, own, prior, variance)
                kept += [
                    (scores[image, i, label], label, i, boxes[i]) for i in _suppress(p, boxes, scores[image, :, label])
                ]
        most = p.int("keep_top_k", -1)
        best = sorted(kept, key=lambda item: -item[0])[: most if most >= 0 else None]
        best.sort(key=lambda item: (item[1], -item[0]))
        rows += [[image, label, score, *box] for score, label, _, box in best]
    rows = rows or [[image, *[-1.0] * 6] for image in range(len(s.x))]
    return [np.array(rows)[None, None]]


def _boxes(p: Message, delta: Array, prior: Array, variance: Array) -> Array:
    delta = delta if p.bool("variance_encoded_in_target", False) else delta * variance
    size, code = prior[:, 2:] - prior[:, :2], p.text("code_type", "CORNER")
    if code in ("CENTER_SIZE", "2"):
        centre = (prior[:, :2] + prior[:, 2:]) / 2 + delta[:, :2] * size
        extent = size * np.exp(delta[:, 2:])
        boxes = np.concatenate([centre - extent / 2, centre + extent / 2], 1)
    else:
        boxes = prior + delta * (np.tile(size, 2) if code in ("CORNER_SIZE", "3") else 1)
    return boxes.clip(0, 1) if p.bool("clip", False) else boxes


def _suppress(p: Message, boxes: Array, scores: Array) -> list[int]:
    nms = p.message("nms_param")
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > p.float("confidence_threshold", -np.inf)]
    order = order[: nms.int("top_k", -1)] if nms.int("top_k", -1) >= 0 else order
    kept: list[int] = []
    for i in order:
        if all(_overlap(boxes[i], boxes[j]) <= nms.float("nms_threshold", 0.3) for j in kept):
            kept.append(int(i))
    return kept


def _overlap(a: Array, b: Array) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    if np.any(high < low):
        return 0.0
    areas = [float(np.prod(box[2:] - box[:2])) for box in (a, b)]
    shared = float(np.prod(high - low))
    return shared / (sum(areas) - shared)


FUNCTIONS: dict[str, Function] = {
    "AbsVal": _each(np.abs), "ArgMax": _argmax, "Axpy": _axpy, "BNLL": _each(lambda x: np.logaddexp(0, x)),
    "BatchNorm": _batch_norm, "Bias": _bias, "Clip": _clip, "Concat": _concat, "Convolution": _convolution,
    "ConvolutionDepthwise": _convolution, "Crop": _crop, "Deconvolution": _deconvolution,
    "DepthwiseConvolution": _convolution, "DetectionOutput": _detection_output, "Dropout": _dropout, "ELU": _elu,
    "Eltwise": _eltwise, "Embed": _embed, "Exp": _exp, "Flatten": _flatten, "InnerProduct": _inner_product,
    "Interp": _interp, "LRN": _lrn, "Log": _log, "MVN": _mvn, "Mish": _each(lambda x: x * np.tanh(np.logaddexp(0, x))),
    "Normalize": _normalize, "PReLU": _prelu, "Padding": _padding, "Parameter": _parameter, "Permute": _permute,
    "Pooling": _pooling, "Power": _power, "PriorBox": _prior_box, "ReLU": _relu, "ReLU6": _each(lambda x: x.clip(0, 6)),
    "Reduction": _reduction, "Reshape": _reshape, "Scale": _scale, "ShuffleChannel": _shuffle,
    "Sigmoid": _each(lambda x: 1 / (1 + np.exp(-x))), "Silence": lambda s: [], "Slice": _slice, "Softmax": _softmax,
    "SoftmaxWithLoss": _softmax, "Split": lambda s: [s.x] * len(s.layer.tops), "Swish": _swish, "TanH": _each(np.tanh),
    "Threshold": _threshold, "Tile": _tile, "Upsample": _upsample,
}  # fmt: skip
"""What each type of layer computes."""
