"""A Darknet network in float64 NumPy, written from Darknet's sources and not from how its layers become ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sardonyx.convert.base import Values
from sardonyx.convert.contract import over_channels
from sardonyx.convert.darknet.files import Array, Files, Section

Take = Callable[[int], Array]


def _hard_mish(x: Array) -> Array:
    return np.where(x > 0, x, np.where(x > -2, x * x / 2 + x, 0))


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "elu": lambda x: np.where(x >= 0, x, np.exp(np.minimum(x, 0)) - 1),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(0.797885 * x + 0.035677 * x**3)),
    "hard_mish": _hard_mish,
    "hardtan": lambda x: np.where(x < -1, -1, np.where(x > 1, 1, x)),
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "lhtan": lambda x: np.where(x < 0, 0.001 * x, np.where(x > 1, 0.001 * (x - 1) + 1, x)),
    "linear": lambda x: x,
    "loggy": lambda x: 2 / (1 + np.exp(-x)) - 1,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "plse": lambda x: np.where(x < -4, 0.01 * (x + 4), np.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5)),
    "ramp": lambda x: x * (x > 0) + 0.1 * x,
    "relie": lambda x: np.where(x > 0, x, 0.01 * x),
    "relu": lambda x: x * (x > 0),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "selu": lambda x: (x >= 0) * 1.0507 * x + (x < 0) * 1.0507 * 1.6732 * (np.exp(np.minimum(x, 0)) - 1),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
"""activations.h; plse is continued as the sources have it: 0 at -4 and 1 at 4."""


@dataclass(frozen=True)
class Evaluation:
    """The network as an oracle."""

    files: Files
    outputs: tuple[str, ...]
    name: str = "float64 evaluation of the source graph"

    def run(self, inputs: Values) -> Values:
        """Every layer's result by its name, float64."""
        at = 0

        def take(count: int) -> Array:
            nonlocal at
            at += count
            return self.files.weights[at - count : at].astype(np.float64)

        x = np.asarray(inputs["data"], np.float64)
        results: list[Array] = []
        for layer in self.files.layers:
            x = self._layer(layer, x, results, take)
            results.append(x)
        return {
            f"{layer.kind}_{i}": result
            for i, (layer, result) in enumerate(zip(self.files.layers, results, strict=True))
        }

    def _layer(self, layer: Section, x: Array, results: list[Array], take: Take) -> Array:
        here = len(results)

        def other(index: int) -> Array:
            return results[here + index if index < 0 else index]

        def active(total: Array) -> Array:
            return ACTIVATIONS[layer.text("activation", "linear")](total)

        kinds: dict[str, Callable[[], Array]] = {
            "conv": lambda: _convolve(layer, x, take),
            "conn": lambda: _connect(layer, x, take, self.files.transposed),
            "yolo": lambda: _detect(layer, x, self.files.net),
            "regi": lambda: _detect(layer, x, self.files.net),
            "drop": lambda: x,
            "cost": lambda: x,
            "rout": lambda: _route(layer, other),
            "shor": lambda: active(_shortcut(layer, x, other)),
            "scal": lambda: active(other(layer.int("from", 0)) * x),
            "sam": lambda: active(other(layer.int("from", 0)) * x),
            "acti": lambda: active(x),
        }
        made = kinds.get(layer.kind[:4])
        return made() if made is not None else _plain(layer, x)


def _route(layer: Section, other: Callable[[int], Array]) -> Array:
    """Channels of layers side by side, or one group of each one's."""
    parts = [other(index) for index in layer.ints("layers")]
    groups, group = layer.int("groups", 1), layer.int("group_id", 0)
    return np.concatenate([np.split(part, groups, 1)[group] for part in parts], 1)


def _shortcut(layer: Section, x: Array, other: Callable[[int], Array]) -> Array:
    """The channels that layers share, added."""
    total = x.copy()
    for index in layer.ints("from"):
        shared = min(x.shape[1], other(index).shape[1])
        total[:, :shared] += other(index)[:, :shared]
    return total


def _plain(layer: Section, x: Array) -> Array:
    """Layers that have neither weights nor other layers."""
    kind, stride = layer.kind[:4], layer.int("stride", 1)
    if kind == "maxp" or layer.kind == "max":
        return _maximum(layer, x)
    if kind in ("avgp", "avg"):
        return np.asarray(x.mean((2, 3), keepdims=True))
    if kind == "upsa":
        stride = layer.int("stride", 2)
        return x.repeat(stride, 2).repeat(stride, 3) * layer.float("scale", 1.0)
    if kind == "reor":
        return _reorder(x, stride)
    if kind == "soft":
        rows = x.reshape(len(x), layer.int("groups", 1), -1) / layer.float("temperature", 1.0)
        powers = np.exp(rows - rows.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True)).reshape(len(x), -1)
    height, width = layer.int("crop_height", 1), layer.int("crop_width", 1)
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    cut = x[:, :, top : top + height, left : left + width]
    return cut if layer.int("noadjust", 0) else cut * 2 - 1


def _normalise(x: Array, scale: Array, mean: Array, variance: Array) -> Array:
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean, variance, scale = (part.reshape(shape) for part in (mean, variance, scale))
    return (x - mean) / (np.sqrt(variance) + 0.000001) * scale


def _convolve(layer: Section, x: Array, take: Take) -> Array:
    filters, size, groups = layer.int("filters", 1), layer.int("size", 1), layer.int("groups", 1)
    step_y, step_x = (layer.int(f"stride_{axis}", layer.int("stride", 1)) for axis in "yx")
    dilation = layer.int("dilation", 1)
    pad = (size // 2 if layer.int("pad", 0) else layer.int("padding", 0)) * dilation
    bias = take(filters)
    norm = [take(filters) for _ in range(3)] if layer.int("batch_normalize", 0) else []
    channels = x.shape[1] // groups
    weights = take(filters * channels * size * size).reshape(groups, filters // groups, channels, size, size)
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    rows = (x.shape[2] - dilation * (size - 1) - 1) // step_y + 1
    columns = (x.shape[3] - dilation * (size - 1) - 1) // step_x + 1
    result = np.zeros((len(x), groups, filters // groups, rows, columns))
    for i, j in np.ndindex(size, size):
        top, left = i * dilation, j * dilation
        seen = x[:, :, top : top + (rows - 1) * step_y + 1 : step_y, left : left + (columns - 1) * step_x + 1 : step_x]
        seen = seen.reshape(len(x), groups, channels, rows, columns)
        result += over_channels(weights[..., i, j], seen)
    result = result.reshape(len(x), filters, rows, columns)
    result = _normalise(result, *norm) if norm else result
    return ACTIVATIONS[layer.text("activation", "logistic")](result + bias[:, None, None])


def _connect(layer: Section, x: Array, take: Take, transposed: bool) -> Array:
    rows, outputs = x.reshape(len(x), -1), layer.int("output", 1)
    bias, weights = take(outputs), take(outputs * rows.shape[1])
    if transposed:
        result = rows @ weights.reshape(-1, outputs)
    else:
        result = rows @ weights.reshape(outputs, -1).T
    if layer.int("batch_normalize", 0):
        result = _normalise(result, *(take(outputs) for _ in range(3)))
    return ACTIVATIONS[layer.text("activation", "logistic")](result + bias)


def _maximum(layer: Section, x: Array) -> Array:
    """Window by window; what lies outside counts as the smallest number (forward_maxpool_layer)."""
    step_y, step_x = (layer.int(f"stride_{axis}", layer.int("stride", 1)) for axis in "yx")
    size = layer.int("size", layer.int("stride", 1))
    padding = layer.int("padding", size - 1)
    height, width = x.shape[2:]
    result = np.full(
        (*x.shape[:2], (height + padding - size) // step_y + 1, (width + padding - size) // step_x + 1), -np.inf
    )
    for i, j in np.ndindex(*result.shape[2:]):
        for m, n in np.ndindex(size, size):
            row, column = i * step_y + m - padding // 2, j * step_x + n - padding // 2
            if 0 <= row < height and 0 <= column < width:
                result[:, :, i, j] = np.maximum(result[:, :, i, j], x[:, :, row, column])
    return result


def _reorder(x: Array, stride: int) -> Array:
    """Index by index, as reorg_cpu goes (not forward)."""
    batch, channels, height, width = x.shape
    memory, fewer = x.reshape(batch, -1), channels // stride**2
    result = np.empty_like(memory)
    for k in range(channels):
        for j, i in np.ndindex(height, width):
            column, row = i * stride + k // fewer % stride, j * stride + k // fewer // stride
            source = column + width * stride * (row + height * stride * (k % fewer))
            result[:, i + width * (j + height * k)] = memory[:, source]
    return result.reshape(batch, channels * stride**2, height // stride, width // stride)


def _detect(layer: Section, x: Array, net: Section) -> Array:
    """Box by box (get_yolo_box, get_region_box)."""
    anchors, classes = np.array(layer.floats("anchors")).reshape(-1, 2), layer.int("classes", 20)
    yolo, sharp, stretch = layer.kind == "yolo", layer.int("new_coords", 0), layer.float("scale_x_y", 1.0)
    mask = layer.ints("mask") or list(range(layer.int("num", 1)))
    height, width = x.shape[2:]
    whole = (net.int("width", 0), net.int("height", 0)) if yolo else (width, height)
    rows = np.zeros((len(x), height, width, len(mask), 5 + classes))
    for n, anchor in enumerate(mask):
        part = x[:, n * (5 + classes) : (n + 1) * (5 + classes)].transpose(0, 2, 3, 1)
        soft = part if sharp else 1 / (1 + np.exp(-part))
        for j, i in np.ndindex(height, width):
            place = soft[:, j, i, :2] * stretch - 0.5 * (stretch - 1)
            rows[:, j, i, n, 0] = (place[:, 0] + i) / width
            rows[:, j, i, n, 1] = (place[:, 1] + j) / height
        for axis in (0, 1):
            growth = part[..., 2 + axis]
            growth = (growth * 2) ** 2 if sharp else np.exp(growth)
            rows[..., n, 2 + axis] = growth * anchors[anchor, axis] / whole[axis]
        rows[..., n, 4] = soft[..., 4]
        scores = soft[..., 5:]
        if not yolo and layer.int("softmax", 0):
            powers = np.exp(part[..., 5:] - part[..., 5:].max(-1, keepdims=True))
            scores = powers / powers.sum(-1, keepdims=True)
        rows[..., n, 5:] = scores * soft[..., 4:5]
    return rows.reshape(len(x), math.prod(rows.shape[1:4]), -1)
