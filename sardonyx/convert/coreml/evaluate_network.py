"""Layers of CoreML's neural networks in float64, by the formulas that `NeuralNetwork.proto` gives for each.

This shares the weights' decoding with the conversion and nothing else: layers are computed from the file's own
description, by loops over windows and steps, not from the operations that they are converted to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.contract import over_channels
from sardonyx.convert.coreml.network_base import kind_of, weights
from sardonyx.convert.reading.protobuf import numbers


@dataclass(frozen=True)
class Call:
    """A layer and its inputs in float64; None for an optional one that is not given.

    `rank` is that of values in networks of rank-5 arrays (4 without the sequence), else None.
    """

    proto: Any
    inputs: Sequence[Array | None]
    rank: int | None

    @property
    def params(self) -> Any:
        """The layer's own options."""
        return getattr(self.proto, kind_of(self.proto) or "name")

    @property
    def x(self) -> Array:
        """The first input."""
        return self.given()[0]

    def given(self) -> list[Array]:
        """The inputs that are there."""
        return [value for value in self.inputs if value is not None]

    def stored(self, params: Any, *shape: int, axis: int = 0) -> Array:
        """Weights in float64, scaled along `axis` where they are quantised; without a shape, all there are."""
        if not shape:
            shape = (numbers(params.floatValue, np.float32).size or len(params.float16Value) // 2,)
        return weights(params, shape, axis).astype(np.float64)


Function = Callable[[Call], "Array | list[Array]"]


def _channels(vector: Array) -> Array:
    return vector.reshape(-1, 1, 1)


def _or(value: float, default: float) -> float:
    return float(value) or default


# Windows


def _two(values: Sequence[int], default: int) -> list[int]:
    return [int(value) for value in values] or [default, default]


def _borders(params: Any, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]) -> list[list[int]]:
    """Padding before and after height and width. `reach` is a dilated kernel's extent."""
    if params.HasField("same"):
        made = []
        for n, k, s in zip(sizes, reach, strides, strict=True):
            total = max(0, (math.ceil(n / s) - 1) * s + k - n)
            first = total - total // 2 if params.same.asymmetryMode else total // 2
            made.append([first, total - first])
        return made
    found = params.valid.paddingAmounts.borderAmounts
    return [[int(item.startEdgeSize), int(item.endEdgeSize)] for item in found] or [[0, 0], [0, 0]]


def _convolution(call: Call) -> Array:
    p, x = call.params, call.x
    kernel, strides, dilation = _two(p.kernelSize, 3), _two(p.stride, 1), _two(p.dilationFactor, 1)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    run = _transposed if p.isDeconvolution else _forward
    y = run(call, x, kernel, strides, dilation, reach)
    return y + _channels(call.stored(p.bias, p.outputChannels)) if p.hasBias else y


def _forward(call: Call, x: Array, kernel: Any, strides: Any, dilation: Any, reach: Any) -> Array:
    p, groups = call.params, int(call.params.nGroups) or 1
    w = call.stored(p.weights, p.outputChannels, p.kernelChannels, *kernel)
    x = np.pad(x, [(0, 0), (0, 0), *_borders(p, x.shape[2:], reach, strides)])
    sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], reach, strides, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *sizes))
    ins, outs = w.shape[1], w.shape[0] // groups
    for i, j in product(*map(range, kernel)):
        rows, columns = (
            slice(at * d, at * d + s * (n - 1) + 1, s)
            for at, d, s, n in zip((i, j), dilation, strides, sizes, strict=True)
        )
        for g in range(groups):
            part, own = x[:, g * ins : (g + 1) * ins, rows, columns], slice(g * outs, (g + 1) * outs)
            y[:, own] += over_channels(w[own, :, i, j], part)
    return y


def _transposed(call: Call, x: Array, kernel: Any, strides: Any, dilation: Any, reach: Any) -> Array:
    p, groups = call.params, int(call.params.nGroups) or 1
    outs = int(p.outputChannels) // groups
    w = call.stored(p.weights, p.kernelChannels, outs, *kernel, axis=1)
    whole = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, reach, strict=True)]
    ins = x.shape[1] // groups
    y = np.zeros((x.shape[0], int(p.outputChannels), *whole))
    for i, j in product(*map(range, kernel)):
        rows, columns = (
            slice(at * d, at * d + s * (n - 1) + 1, s)
            for at, d, s, n in zip((i, j), dilation, strides, x.shape[2:], strict=True)
        )
        for g in range(groups):
            part, own = x[:, g * ins : (g + 1) * ins], slice(g * outs, (g + 1) * outs)
            y[:, own, rows, columns] += over_channels(w[g * ins : (g + 1) * ins, :, i, j].T, part)
    if p.HasField("same"):
        sizes = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
        cut = _borders(p, sizes, reach, strides)
    else:
        cut = _borders(p, x.shape[2:], reach, strides)
        sizes = [n - a - b for n, (a, b) in zip(whole, cut, strict=True)]
    sizes = [int(size) for size in p.outputShape] or sizes
    missing = [(0, max(0, a + n - have)) for (a, _), n, have in zip(cut, sizes, whole, strict=True)]
    y = np.pad(y, [(0, 0), (0, 0), *missing])
    (top, _), (left, _) = cut
    return y[:, :, top : top + sizes[0], left : left + sizes[1]]


def _pooling(call: Call) -> Array:
    p, x = call.params, call.x
    if p.globalPooling:
        pool = (np.max, np.mean, _length)[p.type]
        return np.asarray(pool(x, axis=(-2, -1), keepdims=True))
    kernel, strides, last = _two(p.kernelSize, 3), _two(p.stride, 1), p.HasField("includeLastPixel")
    if last:
        pads = [[amount, amount] for amount in _two(p.includeLastPixel.paddingAmounts, 0)]
    else:
        pads = _borders(p, x.shape[2:], kernel, strides)
    sizes = []
    for n, k, s, (a, b) in zip(x.shape[2:], kernel, strides, pads, strict=True):
        size = (n + a + b - k + (s - 1) * last) // s + 1
        sizes.append(size - 1 if last and (size - 1) * s >= n + a else size)
    y = np.empty((*x.shape[:2], *sizes))
    for place in np.ndindex(*sizes):
        box, area = [], 1
        for at, n, k, s, (a, b) in zip(place, x.shape[2:], kernel, strides, pads, strict=True):
            start = at * s - a
            end = min(start + k, n + b)
            box.append(slice(max(start, 0), min(end, n)))
            area *= end - start if last else k
        window = x[:, :, *box]
        if p.type == 1 and not p.avgPoolExcludePadding:
            y[:, :, *place] = window.sum(axis=(2, 3)) / area
        else:
            y[:, :, *place] = (np.max, np.mean, _length)[p.type](window, axis=(2, 3))
    return y


def _length(x: Array, **over: Any) -> Array:
    return np.asarray(np.sqrt((x * x).sum(**over)))


# One value


def _sigmoid(x: Array) -> Array:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), 1 - 1 / (1 + np.exp(-np.abs(x))))


def activate(p: Any, x: Array, call: Call) -> Array:
    """An activation with its own parameters."""
    kind = next(found.name for found, _ in p.ListFields())
    given = getattr(p, kind)
    plain: dict[str, Callable[[Array], Array]] = {
        "ReLU": lambda x: np.where(x > 0, x, 0.0), "tanh": np.tanh, "sigmoid": _sigmoid,
        "softsign": lambda x: x / (1 + np.abs(x)), "softplus": lambda x: np.logaddexp(x, 0.0),
        "linear": lambda x: given.alpha * x + given.beta,
        "leakyReLU": lambda x: np.where(x < 0, given.alpha * x, x),
        "thresholdedReLU": lambda x: np.where(x >= given.alpha, x, 0.0),
        "scaledTanh": lambda x: given.alpha * np.tanh(given.beta * x),
        "sigmoidHard": lambda x: np.minimum(np.maximum(given.alpha * x + given.beta, 0), 1),
        "ELU": lambda x: np.where(x >= 0, x, given.alpha * np.expm1(np.minimum(x, 0))),
        "PReLU": lambda x: np.where(x >= 0, x, _channels(call.stored(given.alpha)) * x),
        "parametricSoftplus": lambda x: (
            _channels(call.stored(given.alpha)) * np.logaddexp(0.0, _channels(call.stored(given.beta)) * x)
        ),
    }  # fmt: skip
    return plain[kind](x)


def _inner_product(call: Call) -> Array:
    p, x = call.params, call.x
    matrix = call.stored(p.weights, p.outputChannels, p.inputChannels)
    bias = call.stored(p.bias, p.outputChannels) if p.hasBias else 0.0
    if x.ndim < 4:
        return x @ matrix.T + bias
    return (x.reshape(*x.shape[:-3], -1) @ matrix.T + bias)[..., None, None]


def _embedding(call: Call) -> Array:
    p = call.params
    rows = call.x[..., 0, 0, 0].astype(np.int64)
    found = np.moveaxis(call.stored(p.weights, p.outputChannels, p.inputDim)[:, rows], 0, -1)
    return (found + (call.stored(p.bias, p.outputChannels) if p.hasBias else 0.0))[..., None, None]


def _embedding_nd(call: Call) -> Array:
    p = call.params
    rows = call.x[..., 0].astype(np.int64)
    found = np.moveaxis(call.stored(p.weights, p.embeddingSize, p.vocabSize)[:, rows], 0, -1)
    return found + (call.stored(p.bias, p.embeddingSize) if p.hasBias else 0.0)


def _batchnorm(call: Call) -> Array:
    p, x = call.params, call.x
    gamma, beta = (_channels(call.stored(getattr(p, key), p.channels)) for key in ("gamma", "beta"))
    if p.computeMeanVar:
        mean, variance = x.mean(axis=(-2, -1), keepdims=True), x.var(axis=(-2, -1), keepdims=True)
    else:
        mean, variance = (_channels(call.stored(getattr(p, key), p.channels)) for key in ("mean", "variance"))
    return np.asarray(gamma * (x - mean) / np.sqrt(variance + _or(p.epsilon, 1e-5)) + beta)


def _mvn(call: Call) -> Array:
    p, x = call.params, call.x
    axes = (-3, -2, -1) if p.acrossChannels else (-2, -1)
    centred = np.asarray(x - x.mean(axis=axes, keepdims=True))
    if not p.normalizeVariance:
        return centred
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + _or(p.epsilon, 1e-6)))


def _l2_normalize(call: Call) -> Array:
    total = (call.x**2).sum(axis=(-3, -2, -1), keepdims=True)
    return np.asarray(call.x / np.sqrt(total + _or(call.params.epsilon, 1e-6)))


def _softmax(x: Array, axis: int = -3) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _lrn(call: Call) -> Array:
    p, x = call.params, call.x
    size, total, squares = int(p.localSize), np.zeros_like(call.x), call.x**2
    for channel in range(x.shape[-3]):
        first = max(0, channel - (size - 1) // 2)
        total[..., channel, :, :] = squares[..., first : channel + size // 2 + 1, :, :].sum(axis=-3)
    return np.asarray(x / (_or(p.k, 1.0) + p.alpha / size * total) ** p.beta)


def _crop(call: Call) -> Array:
    (top, bottom), (left, right) = (
        (int(item.startEdgeSize), int(item.endEdgeSize)) for item in call.params.cropAmounts.borderAmounts
    )
    return call.x[..., top : call.x.shape[-2] - bottom, left : call.x.shape[-1] - right]


def _pad(call: Call) -> Array:
    p = call.params
    borders = [(int(item.startEdgeSize), int(item.endEdgeSize)) for item in p.paddingAmounts.borderAmounts]
    widths = [*[(0, 0)] * (call.x.ndim - 2), *borders]
    if p.HasField("reflection"):
        return np.pad(call.x, widths, mode="reflect")
    if p.HasField("replication"):
        return np.pad(call.x, widths, mode="edge")
    return np.pad(call.x, widths, constant_values=p.constant.value)


# Grids


def _sampled(x: Array, axis: int, places: Array) -> Array:
    """Linear between elements at places from 0 to the last."""
    places = np.clip(places, 0, x.shape[axis] - 1)
    before = np.minimum(places.astype(int), x.shape[axis] - 1)
    after = np.minimum(before + 1, x.shape[axis] - 1)
    share = (places - before).reshape((-1,) + (1,) * (-axis - 1))
    return np.asarray(np.take(x, before, axis) * (1 - share) + np.take(x, after, axis) * share)


def _upsample(call: Call) -> Array:
    p, x = call.params, call.x
    factors = list(p.fractionalScalingFactor) or [int(size) for size in p.scalingFactor] or [1, 1]
    for axis, factor in zip((-2, -1), factors, strict=True):
        n = x.shape[axis]
        count = int(n * factor)
        steps = np.arange(count)
        if not p.mode:
            x = np.take(x, np.minimum((steps / factor).astype(int), n - 1), axis)
            continue
        last = max(count - 1, 1)
        spacing = ((n - n / count) / last, (n - 1) / last, n / count)[p.linearUpsampleMode]
        x = _sampled(x, axis, steps * spacing + (0.5 * spacing - 0.5) * (p.linearUpsampleMode == 2))
    return x


def _resize_bilinear(call: Call) -> Array:
    p, x = call.params, call.x
    for axis, count in zip((-2, -1), _two(p.targetSize, 1), strict=True):
        n = x.shape[axis]
        spacing = max(1, n - 1) / count
        first, last = (
            (0.0, n - 1.0), ((n - 1) / 2, (n - 1) / 2) if count == 1 else (0.0, n - 1.0), (0.0, n - n / count),
            (0.5 * spacing, 0.5 * spacing + (count - 1) * spacing),
        )[p.mode.samplingMethod]  # fmt: skip
        x = _sampled(x, axis, np.linspace(first, last, count))
    return x


def _reorganize(call: Call) -> Array:
    """The example in the format's description, written out."""
    x, b = call.x, int(call.params.blockSize)
    *head, c, h, w = x.shape
    if call.params.mode == 0:
        y = np.empty((*head, c * b * b, h // b, w // b))
        for i, j, k in product(range(b), range(b), range(c)):
            y[..., (i * b + j) * c + k, :, :] = x[..., k, i::b, j::b]
        return y
    c //= b * b
    y = np.empty((*head, c, h * b, w * b))
    for i, j, k in product(range(b), range(b), range(c)):
        source = (i * b + j) * c + k if call.params.mode == 1 else k * b * b + i * b + j
        y[..., k, i::b, j::b] = x[..., source, :, :]
    return y


# Elementwise, shapes


def _unary(call: Call) -> Array:
    p = call.params
    x, epsilon = _or(p.scale, 1.0) * call.x + p.shift, _or(p.epsilon, 1e-6)
    functions: Sequence[Callable[[], Any]] = (
        lambda: np.sqrt(x), lambda: 1 / np.sqrt(x + epsilon), lambda: 1 / (x + epsilon), lambda: x**p.alpha,
        lambda: np.exp(x), lambda: np.log(x), lambda: np.abs(x), lambda: np.maximum(x, p.alpha),
    )  # fmt: skip
    return np.asarray(functions[p.type]())


def _with_alpha(merge: Callable[[Any, Any], Any]) -> Function:
    def run(call: Call) -> Array:
        given = call.given()
        return np.asarray(reduce(merge, given) if len(given) > 1 else merge(given[0], call.params.alpha))

    return run


def _merged(merge: Callable[[Any, Any], Any]) -> Function:
    return lambda call: np.asarray(reduce(merge, call.given()))


def _shaped(call: Call, params: Any, shape: Sequence[int]) -> Array:
    sizes = [int(size) for size in shape]
    return call.stored(params, *sizes).reshape([*sizes, 1, 1] if len(sizes) == 1 else sizes)


def _scale(call: Call) -> Array:
    p = call.params
    y = call.x * _shaped(call, p.scale, p.shapeScale)
    return y + _shaped(call, p.bias, p.shapeBias) if p.hasBias else y


_AXES = ((-3, -2, -1), (-2, -1), (-3,), (-2,), (-1,))
REDUCTIONS: tuple[Callable[..., Any], ...] = (
    np.sum, np.mean, np.prod, lambda x, epsilon, **over: np.log(x + epsilon).sum(**over),
    lambda x, **over: (x * x).sum(**over), lambda x, **over: np.abs(x).sum(**over), _length, np.max, np.min,
)  # fmt: skip


def _reduce(call: Call) -> Array:
    p, axes = call.params, _AXES[call.params.axis]
    if p.mode == 9:
        return np.asarray(call.x.argmax(axis=axes[0], keepdims=True), np.float64)
    more = {"epsilon": _or(p.epsilon, 1e-6)} if p.mode == 3 else {}
    return np.asarray(REDUCTIONS[p.mode](call.x, axis=axes, keepdims=True, **more))


def _constant(call: Call) -> Array:
    shape = [int(size) for size in call.params.shape]
    data = call.stored(call.params.data, *shape)
    return data.reshape([1] * ((call.rank or len(shape)) - len(shape)) + shape)


def _reshape(call: Call) -> Array:
    p, x = call.params, call.x
    c, h, w = (int(size) for size in p.targetShape[-3:])
    if not p.mode:
        return x.reshape(len(x), c, h, w)
    return np.moveaxis(np.moveaxis(x, 1, -1).reshape(len(x), h, w, c), -1, 1)


def _flatten(call: Call) -> Array:
    x = np.moveaxis(call.x, -3, -1) if call.params.mode else call.x
    return x.reshape(*x.shape[:-3], -1, 1, 1)


def _permute(call: Call) -> Array:
    axes = [int(axis) for axis in call.params.axis]
    whole = call.x if call.x.ndim == 5 else call.x[None]
    moved = np.moveaxis(np.moveaxis(whole, 1, 0).transpose(0, *(axis + 1 for axis in axes)), 0, 1)
    return moved if call.x.ndim == 5 else moved[0]


def _slice(call: Call) -> Array:
    p = call.params
    part = slice(int(p.startIndex), int(p.endIndex), int(p.stride) or 1)
    return np.moveaxis(np.moveaxis(call.x, -3 + p.axis, 0)[part], 0, -3 + p.axis)


LAYERS: dict[str, Function] = {
    "convolution": _convolution, "pooling": _pooling, "innerProduct": _inner_product, "embedding": _embedding,
    "activation": lambda call: activate(call.params, call.x, call), "embeddingND": _embedding_nd,
    "batchnorm": _batchnorm, "mvn": _mvn, "l2normalize": _l2_normalize, "softmax": lambda call: _softmax(call.x),
    "lrn": _lrn, "crop": _crop, "padding": _pad, "upsample": _upsample, "resizeBilinear": _resize_bilinear,
    "unary": _unary, "add": _with_alpha(np.add), "multiply": _with_alpha(np.multiply),
    "average": lambda call: np.asarray(sum(call.given()) / len(call.given())), "scale": _scale,
    "bias": lambda call: call.x + _shaped(call, call.params.bias, call.params.shape), "max": _merged(np.maximum),
    "min": _merged(np.minimum), "reduce": _reduce, "loadConstant": _constant, "loadConstantND": _constant,
    "dot": lambda call: np.asarray((call.given()[0] * call.given()[1]).sum(axis=-3, keepdims=True)),
    "reshape": _reshape, "flatten": _flatten, "permute": _permute, "reorganizeData": _reorganize, "slice": _slice,
    "concat": lambda call: np.concatenate(call.given(), axis=-5 if call.params.sequenceConcat else -3),
    "split": lambda call: list(np.split(call.x, int(call.params.nOutputs), axis=-3)),
}  # fmt: skip
