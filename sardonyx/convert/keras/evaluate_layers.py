"""Keras layers in float64: dense, windows, normalisation, merging, shapes, resizing, activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.keras.evaluate_base import Call, Function, Value

# Activations


def _sigmoid(x: Array) -> Array:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def softmax(x: Array, axes: Any = -1) -> Array:
    """exp(x) over its sum along axes."""
    axes = tuple(axes) if isinstance(axes, list | tuple) else axes
    powers = np.exp(x - x.max(axis=axes, keepdims=True))
    shares: Array = powers / powers.sum(axis=axes, keepdims=True)
    return shares


def erf(x: Array) -> Array:
    """The error function of each element, by the standard library."""
    flat = [math.erf(value) for value in x.ravel().tolist()]
    return np.array(flat).reshape(x.shape)


def gelu(x: Array) -> Array:
    """x times the share of a normal distribution below x."""
    return np.asarray(x * 0.5 * (1 + erf(x / math.sqrt(2))))


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x, and alpha (exp(x) - 1) below zero."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def leaky(x: Array, slope: float) -> Array:
    """x, and slope * x below zero."""
    return np.where(x >= 0, x, slope * x)


def _selu(x: Array) -> Array:
    return 1.0507009873554804934193349852946 * elu(x, 1.6732632423543772848170429916717)


def _hard_sigmoid_3(x: Array) -> Array:
    return np.asarray(np.clip(x + 3, 0, 6) / 6)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "celu": elu,
    "elu": elu,
    "exponential": np.exp,
    "gelu": gelu,
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0.0),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_silu": lambda x: x * _hard_sigmoid_3(x),
    "hard_swish": lambda x: x * _hard_sigmoid_3(x),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "leaky_relu": lambda x: leaky(x, 0.2),
    "linear": lambda x: x,
    "log_sigmoid": lambda x: -_softplus(-x),
    "log_softmax": lambda x: np.log(softmax(x)),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": _selu,
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "softmax": softmax,
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "swish": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
    "tanh_shrink": lambda x: x - np.tanh(x),
}


def activate(call: Call, x: Array, key: str = "activation", default: str = "linear") -> Array:
    """`x` through the activation that an option names."""
    name = call.config.get(key, default) or "linear"
    if isinstance(name, dict):
        config = name.get("config")
        if name.get("class_name") != "function" and isinstance(config, dict):
            layer = LAYERS[name["class_name"]](Call(config, {}, call.version, (Value(x),), {}))
            assert isinstance(layer, Value)
            return layer.x
        name = str(config if name.get("class_name") == "function" else name["class_name"])
    if call.version[0] == 3 and name == "hard_sigmoid":
        return _hard_sigmoid_3(x)
    return ACTIVATIONS[name](x)


def _relu_layer(call: Call) -> Value:
    x, threshold = call.f, call.get("threshold", 0.0)
    slope, limit = (_scalar(call.get(key, 0.0)) for key in ("negative_slope", "max_value"))
    if not slope and not threshold:
        return Value(np.clip(x, 0, limit if call.get("max_value") is not None else None))
    y = np.where(x >= threshold, x, slope * (x - threshold))
    if call.get("max_value") is not None:
        y = np.where(x >= threshold, np.minimum(x, limit), y)
    return Value(y)


def _scalar(value: Any) -> float:
    return float(value["value"] if isinstance(value, dict) else value)


def _leaky_relu(call: Call) -> Value:
    return Value(leaky(call.f, _scalar(call.get("alpha" if call.version[0] == 2 else "negative_slope", 0.3))))


def _prelu(call: Call) -> Value:
    return Value(np.where(call.f > 0, call.f, call.weights["alpha"] * call.f))


# Windows


def _numbers(value: Any, rank: int) -> list[int]:
    return [value] * rank if isinstance(value, int) else list(value)


def _last(call: Call, x: Array) -> Array:
    """Channels last, whatever the layer's layout is."""
    return np.moveaxis(x, 1, -1) if call.get("data_format", "channels_last") == "channels_first" else x


def _back(call: Call, x: Array) -> Array:
    return np.moveaxis(x, -1, 1) if call.get("data_format", "channels_last") == "channels_first" else x


def _padding(
    kind: str, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    pads = []
    for size, k, s, d in zip(sizes, kernel, strides, dilation, strict=True):
        reach = d * (k - 1)
        if kind == "same":
            missing = max(0, (math.ceil(size / s) - 1) * s + reach + 1 - size)
            pads.append((missing // 2, missing - missing // 2))
        else:
            pads.append((reach, 0) if kind == "causal" else (0, 0))
    return pads


def _taps(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> list[tuple[tuple[int, ...], Array]]:
    """For each place in the kernel the input under it, [batch, *outputs, channels]."""
    counts = [
        (n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[1:-1], kernel, strides, dilation, strict=True)
    ]
    found = []
    for place in product(*(range(k) for k in kernel)):
        parts = [
            slice(p * d, p * d + s * (n - 1) + 1, s)
            for p, d, s, n in zip(place, dilation, strides, counts, strict=True)
        ]
        found.append((place, x[(slice(None), *parts)]))
    return found


def _geometry(call: Call, rank: int, key: str = "kernel_size") -> tuple[list[int], list[int], list[int], str]:
    kernel = _numbers(call.get(key, 2), rank)
    strides = _numbers(call.get("strides", kernel if key == "pool_size" else 1), rank)
    return kernel, strides, _numbers(call.get("dilation_rate", 1), rank), call.get("padding", "valid")


def _padded(
    x: Array, kind: str, kernel: list[int], strides: list[int], dilation: list[int], fill: float = 0.0
) -> Array:
    pads = _padding(kind, x.shape[1:-1], kernel, strides, dilation)
    return np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill) if any(map(any, pads)) else x


def _conv(rank: int) -> Function:
    def run(call: Call) -> Value:
        kernel, strides, dilation, kind = _geometry(call, rank)
        x, w = _padded(_last(call, call.f), kind, kernel, strides, dilation), call.weights["kernel"]
        groups = call.get("groups", 1)
        ins, outs = x.shape[-1] // groups, w.shape[-1] // groups
        each = []
        for g in range(groups):
            taps = _taps(x[..., g * ins : (g + 1) * ins], kernel, strides, dilation)
            each.append(reduce(np.add, (part @ w[place][:, g * outs : (g + 1) * outs] for place, part in taps)))
        y = np.concatenate(each, axis=-1) if groups > 1 else each[0]
        return Value(_back(call, activate(call, y + call.weights.get("bias", 0.0))))

    return run


def _depthwise_sum(call: Call, rank: int) -> Array:
    kernel, strides, dilation, kind = _geometry(call, rank)
    x, w = _padded(_last(call, call.f), kind, kernel, strides, dilation), call.weights["depthwise_kernel"]
    outputs = []
    for multiple in range(w.shape[-1]):
        (first, part), *others = _taps(x, kernel, strides, dilation)
        total, product_ = part * w[first][:, multiple], np.empty(part.shape)
        for place, part in others:
            total += np.multiply(part, w[place][:, multiple], out=product_)
        outputs.append(total)
    y = np.stack(outputs, axis=-1)
    return y.reshape(*y.shape[:-2], -1)


def _depthwise(rank: int) -> Function:
    return lambda call: Value(_back(call, activate(call, _depthwise_sum(call, rank) + call.weights.get("bias", 0.0))))


def _separable(rank: int) -> Function:
    def run(call: Call) -> Value:
        point = call.weights["pointwise_kernel"].reshape(-1, call.weights["pointwise_kernel"].shape[-1])
        y = _depthwise_sum(call, rank) @ point + call.weights.get("bias", 0.0)
        return Value(_back(call, activate(call, y)))

    return run


def _conv_transpose(rank: int) -> Function:
    def run(call: Call) -> Value:
        kernel, strides, dilation, kind = _geometry(call, rank)
        x, w = _last(call, call.f), call.weights["kernel"]
        extra = None if call.get("output_padding") is None else _numbers(call.get("output_padding"), rank)
        each = zip(x.shape[1:-1], kernel, strides, dilation, extra or (None,) * rank, strict=True)
        sizes = [_deconv_length(n, k, s, d, kind, more) for n, k, s, d, more in each]
        # The convolution that goes the other way pads so; what it would see of its padding is cut off here.
        pads = _padding(kind, sizes, kernel, strides, dilation)
        whole = [max(n + before + after, s * (m - 1) + d * (k - 1) + 1) for n, (before, after), s, m, d, k in
                 zip(sizes, pads, strides, x.shape[1:-1], dilation, kernel, strict=True)]  # fmt: skip
        y = np.zeros((x.shape[0], *whole, w.shape[-2]))
        for place, part in _taps(y, kernel, strides, dilation):
            inner = part[(slice(None), *(slice(0, n) for n in x.shape[1:-1]))]
            inner += x @ w[place].T
        cut = tuple(slice(before, before + n) for (before, _), n in zip(pads, sizes, strict=True))
        y = y[(slice(None), *cut)]
        return Value(_back(call, activate(call, y + call.weights.get("bias", 0.0))))

    return run


def _deconv_length(size: int, k: int, stride: int, dilation: int, kind: str, extra: int | None) -> int:
    """`deconv_output_length`."""
    reach = k + (k - 1) * (dilation - 1)
    if extra is None:
        return size * stride if kind == "same" else size * stride + max(reach - stride, 0)
    pad = reach // 2 if kind == "same" else 0
    return (size - 1) * stride + reach - 2 * pad + extra


def _pool(rank: int, average: bool) -> Function:
    def run(call: Call) -> Value:
        kernel, strides, _, kind = _geometry(call, rank, "pool_size")
        ones = [1] * rank
        x = _last(call, call.f)
        parts = [
            part
            for _, part in _taps(
                _padded(x, kind, kernel, strides, ones, 0.0 if average else -np.inf), kernel, strides, ones
            )
        ]
        if not average:
            return Value(_back(call, reduce(np.maximum, parts)))
        inside = [
            part for _, part in _taps(_padded(np.ones_like(x), kind, kernel, strides, ones), kernel, strides, ones)
        ]
        return Value(_back(call, reduce(np.add, parts) / reduce(np.add, inside)))

    return run


def _global_pool(rank: int, average: bool) -> Function:
    def run(call: Call) -> Value:
        x, mask, keep = _last(call, call.f), call.mask(), bool(call.get("keepdims", False))
        axes = tuple(range(1, rank + 1))
        if average and mask is not None and rank == 1:
            kept = mask.astype(np.float64)[..., None]
            y = (x * kept).sum(axis=1, keepdims=keep) / kept.sum(axis=1, keepdims=keep)
        else:
            y = x.mean(axis=axes, keepdims=keep) if average else x.max(axis=axes, keepdims=keep)
        return Value(_back(call, y) if keep else y)

    return run


# Normalisation


def _axes(call: Call, rank: int, default: Any = -1) -> list[int]:
    axis = call.config.get("axis", default)
    values = [] if axis is None else axis if isinstance(axis, list) else [axis]
    return sorted({value % rank for value in values})


def _along(array: Array, axes: Sequence[int], rank: int) -> Array:
    shape = [1] * rank
    for axis, size in zip(axes, array.shape, strict=True):
        shape[axis] = size
    return array.reshape(shape)


def _batch_normalization(call: Call) -> Value:
    x = call.f
    axes = _axes(call, x.ndim)
    w = {key: _along(a, axes, x.ndim) if len(axes) == 1 else a for key, a in call.weights.items()}
    y = x - w["moving_mean"]
    y *= w.get("gamma", 1.0) / np.sqrt(w["moving_variance"] + call.get("epsilon", 1e-3))
    y += w.get("beta", 0.0)
    return Value(y)


def _layer_normalization(call: Call) -> Value:
    x = call.f
    axes = tuple(_axes(call, x.ndim))
    w = {key: _along(a, axes, x.ndim) for key, a in call.weights.items()}
    deviation = np.sqrt(x.var(axis=axes, keepdims=True) + call.get("epsilon", 1e-3))
    if call.get("rms_scaling", False):
        return Value(x / deviation * w["gamma"])
    return Value((x - x.mean(axis=axes, keepdims=True)) / deviation * w.get("gamma", 1.0) + w.get("beta", 0.0))


def _group_normalization(call: Call) -> Value:
    x, axis = call.f, call.get("axis", -1)
    y = np.moveaxis(x, axis, -1)
    channels = y.shape[-1]
    groups = call.get("groups", 32)
    groups = channels if groups == -1 else groups
    parts = []
    for part in np.split(y, groups, axis=-1):
        axes = tuple(range(1, y.ndim))
        centred = part - part.mean(axis=axes, keepdims=True)
        parts.append(centred / np.sqrt(part.var(axis=axes, keepdims=True) + call.get("epsilon", 1e-3)))
    y = np.concatenate(parts, axis=-1) * call.weights.get("gamma", 1.0) + call.weights.get("beta", 0.0)
    return Value(np.moveaxis(y, -1, axis))


def _unit_normalization(call: Call) -> Value:
    x = call.f
    length = np.sqrt((x * x).sum(axis=tuple(_axes(call, x.ndim)), keepdims=True))
    return Value(x / np.maximum(length, 1e-12 if call.version[0] == 3 else 1e-6))


def _rms_normalization(call: Call) -> Value:
    x = call.f
    axes = _axes(call, x.ndim)
    mean = (x * x).mean(axis=tuple(axes), keepdims=True)
    return Value(x / np.sqrt(mean + call.get("epsilon", 1e-6)) * _along(call.weights["scale"], axes, x.ndim))


def _rescaling(call: Call) -> Value:
    return Value(call.f * np.asarray(call.get("scale", 1.0)) + np.asarray(call.get("offset", 0.0)))


def _normalization(call: Call) -> Value:
    x = call.f
    axes = _axes(call, x.ndim)
    if call.get("mean") is not None:
        found = [np.asarray(call.get(key), np.float64) for key in ("mean", "variance")]
        mean, variance = (
            a.reshape(-1)[0] if a.size == 1 else _along(a.reshape([x.shape[i] for i in axes]), axes, x.ndim)
            for a in found
        )
    else:
        mean, variance = (_along(call.weights[key], axes, x.ndim) for key in ("mean", "variance"))
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    return Value(x * deviation + mean if call.get("invert", False) else (x - mean) / deviation)


# Merging and shapes


def _merged(merge: Callable[[Array, Array], Array]) -> Function:
    def run(call: Call) -> Value:
        return Value(reduce(merge, _level(call.values)), _any_mask(call))

    return run


def _level(values: Sequence[Value]) -> list[Array]:
    """Arrays of one rank: ones after the batch where some are missing."""
    rank = max(v.x.ndim for v in values)
    return [v.x.astype(np.float64).reshape(v.x.shape[:1] + (1,) * (rank - v.x.ndim) + v.x.shape[1:]) for v in values]


def _any_mask(call: Call) -> Array | None:
    masks = [v.mask for v in call.values]
    present = [mask for mask in masks if mask is not None]
    if call.version < (3, 6):
        return reduce(np.logical_and, present) if present else None
    return reduce(np.logical_or, present) if len(present) == len(masks) else None


def _average(call: Call) -> Value:
    arrays = _level(call.values)
    return Value(reduce(np.add, arrays) / len(arrays), _any_mask(call))


def _concatenate(call: Call) -> Value:
    axis = call.get("axis", -1)
    y = np.concatenate([v.x.astype(np.float64) for v in call.values], axis=axis)
    if all(v.mask is None for v in call.values):
        return Value(y)
    wide = []
    for value in call.values:
        mask = np.ones(value.x.shape, bool)
        if value.mask is not None:
            mask &= value.mask.reshape(value.mask.shape + (1,) * (value.x.ndim - value.mask.ndim))
        wide.append(mask)
    merge = np.all if call.version < (3, 6) else np.any
    return Value(y, np.asarray(merge(np.concatenate(wide, axis=axis), axis=-1)))


def _dense(call: Call) -> Value:
    return Value(activate(call, call.f @ call.weights["kernel"] + call.weights.get("bias", 0.0)))


def _flatten(call: Call) -> Value:
    x = call.x if call.x.ndim > 1 else call.x[:, None]
    if call.get("data_format") == "channels_first" and x.ndim > 2:
        x = np.moveaxis(x, 1, -1)
    return Value(x.reshape(x.shape[0], -1))


def _pads(value: Any, rank: int) -> list[tuple[int, int]]:
    each = value if isinstance(value, list) and len(value) == rank and rank > 1 else [value] * rank
    return [tuple(pair) if isinstance(pair, list) else (pair, pair) for pair in each]


def _zero_padding(rank: int) -> Function:
    def run(call: Call) -> Value:
        return Value(_back(call, np.pad(_last(call, call.f), [(0, 0), *_pads(call.get("padding", 1), rank), (0, 0)])))

    return run


def _cropping(rank: int) -> Function:
    def run(call: Call) -> Value:
        x = _last(call, call.f)
        cut = [slice(a, n - b) for (a, b), n in zip(_pads(call.get("cropping", 1), rank), x.shape[1:-1], strict=True)]
        return Value(_back(call, x[(slice(None), *cut)]))

    return run


def _up_sampling(rank: int) -> Function:
    def run(call: Call) -> Value:
        x = _last(call, call.f)
        for axis, factor in enumerate(_numbers(call.get("size", 2), rank), 1):
            if call.get("interpolation", "nearest") == "bilinear":
                x = _interpolated(x, axis, factor)
            else:
                x = np.repeat(x, factor, axis=axis)
        return Value(_back(call, x))

    return run


def _interpolated(x: Array, axis: int, factor: int) -> Array:
    """Linear between the centres of elements, the first and last beyond them."""
    size = x.shape[axis]
    where = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    low = np.floor(where).astype(int)
    high = np.minimum(low + 1, size - 1)
    share = _along(where - low, [axis], x.ndim)
    return np.asarray(np.take(x, low, axis=axis) * (1 - share) + np.take(x, high, axis=axis) * share)


def _identity(call: Call) -> Value:
    return call.values[0]


_IDENTITIES = (
    *("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"),
    *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
)
_WITHOUT_MASKS = (
    *("AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter"),
    *("RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur"),
    *("RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation"),
    *("RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom"),
)

_BATCH_NORMALIZATIONS = ("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization")

LAYERS: dict[str, Function] = {
    **dict.fromkeys(_IDENTITIES, _identity),
    **dict.fromkeys(_WITHOUT_MASKS, lambda call: Value(call.x)),
    "Identity": lambda call: Value(call.x),
    **dict.fromkeys(_BATCH_NORMALIZATIONS, _batch_normalization),
    **{f"Conv{n}D": _conv(n) for n in (1, 2, 3)},
    **{f"Conv{n}DTranspose": _conv_transpose(n) for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": _depthwise(n) for n in (1, 2)},
    **{f"SeparableConv{n}D": _separable(n) for n in (1, 2)},
    **{f"MaxPooling{n}D": _pool(n, average=False) for n in (1, 2, 3)},
    **{f"AveragePooling{n}D": _pool(n, average=True) for n in (1, 2, 3)},
    **{f"GlobalMaxPooling{n}D": _global_pool(n, average=False) for n in (1, 2, 3)},
    **{f"GlobalAveragePooling{n}D": _global_pool(n, average=True) for n in (1, 2, 3)},
    **{f"ZeroPadding{n}D": _zero_padding(n) for n in (1, 2, 3)},
    **{f"Cropping{n}D": _cropping(n) for n in (1, 2, 3)},
    **{f"UpSampling{n}D": _up_sampling(n) for n in (1, 2, 3)},
    "Activation": lambda call: Value(activate(call, call.f)),
    "Add": _merged(np.add),
    "Average": _average,
    "Concatenate": _concatenate,
    "Dense": _dense,
    "ELU": lambda call: Value(elu(call.f, _scalar(call.get("alpha", 1.0)))),
    "Flatten": _flatten,
    "GroupNormalization": _group_normalization,
    "LayerNormalization": _layer_normalization,
    "LeakyReLU": _leaky_relu,
    "Maximum": _merged(np.maximum),
    "Minimum": _merged(np.minimum),
    "Multiply": _merged(np.multiply),
    "Normalization": _normalization,
    "PReLU": _prelu,
    "Permute": lambda call: Value(call.x.transpose(0, *call.config["dims"])),
    "RMSNormalization": _rms_normalization,
    "ReLU": _relu_layer,
    "RepeatVector": lambda call: Value(np.repeat(call.x[:, None], call.config["n"], axis=1)),
    "Rescaling": _rescaling,
    "Reshape": lambda call: Value(call.x.reshape(call.x.shape[0], *call.config["target_shape"])),
    "Softmax": lambda call: Value(softmax(call.f, call.get("axis", -1)), call.mask()),
    "Subtract": _merged(np.subtract),
    "ThresholdedReLU": lambda call: Value(np.where(call.f > _scalar(call.get("theta", 1.0)), call.f, 0.0)),
    "UnitNormalization": _unit_normalization,
}
