"""Convolution, pooling and batch normalisation.

Padding is CNTK's (ConvolveGeometry.h). With automatic padding an axis of n elements gives 1 + (n - 1) // stride
results, whose windows' centres stand so that as many elements are left before the first as after the last; with a
kernel of even size the centre is the lower of the two. That may begin windows inside the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sardonyx.convert.cntk.emit import Call, Rule, Sample
from sardonyx.convert.shaped import Unsupported, text

_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Window:
    """How windows lie along one axis of `size` elements: padding before and after (negative: elements left out)."""

    size: int | None
    kernel: int
    stride: int
    dilation: int
    count: int | None
    before: int
    after: int

    @classmethod
    def along(
        cls,
        size: int | None,
        kernel: int,
        stride: int,
        dilation: int = 1,
        *,
        auto: bool,
        pads: tuple[int, int],
        ceil: bool = False,
    ) -> Window:
        """By CNTK's rules; `size` and so `count` may be open. Raises Unsupported where it gives no result."""
        if min(1 if size is None else size, kernel, stride, dilation) < 1 or min(pads) < 0:
            raise Unsupported("its windows have no sensible sizes")
        reach = (kernel - 1) * dilation + 1
        if size is None:
            if ceil or (auto and (stride > 1 or dilation > 1)):
                raise Unsupported("how its windows lie depends on a size that is not known")
            before, after = ((kernel - 1) // 2, kernel // 2) if auto else pads
            return cls(size, kernel, stride, dilation, None, before, after)
        if auto:
            if dilation > 1 and kernel > 1:
                # CNTK 2.7 has no dilation on CPUs, and how its GPUs centre such windows is not written down.
                raise Unsupported("automatic padding of dilated windows is not supported")
            count = -(-(size - 1) // stride) + 1 if ceil else (size - 1) // stride + 1
            before = (kernel - 1) // 2 - (size - (count - 1) * stride - 1) // 2
        else:
            before, room = pads[0], size + sum(pads) - reach
            if room < 0:
                raise Unsupported(f"a window of {reach} does not fit an axis of {size}")
            count = (-(-room // stride) if ceil else room // stride) + 1
        return cls(size, kernel, stride, dilation, count, before, (count - 1) * stride + reach - size - before)


def _per_axis(c: Call, name: str, rank: int, kind: type[int], default: int) -> list[int]:
    """A setting for each static axis, as NumPy orders them; one for all is repeated."""
    values = c.options(name, kind) if c.has(name) else [default]
    c.asked.add(name)
    if len(values) == 1:
        values = values * rank
    if len(values) > rank:
        raise Unsupported(f"its {name} has {len(values)} entries for {rank} axes")
    # Axes beyond the window's own are left as they are.
    return [default] * (rank - len(values)) + [int(value) for value in values[::-1]]


def _windows(c: Call, x: Sample, kernel: Sequence[int], ceil: bool = False) -> list[Window]:
    rank = len(kernel)
    strides = _per_axis(c, "strides", rank, int, 1)
    dilations = _per_axis(c, "dilation", rank, int, 1)
    autos = _per_axis(c, "autoPadding", rank, bool, 0)
    lower, upper = (_per_axis(c, name, rank, int, 0) for name in ("lowerPad", "upperPad"))
    return [
        Window.along(size, k, s, d, auto=bool(auto), pads=(low, high), ceil=ceil)
        for size, k, s, d, auto, low, high in zip(
            x.shape[x.rank - rank :], kernel, strides, dilations, autos, lower, upper, strict=True)
    ]  # fmt: skip


def _trimmed(c: Call, x: Sample, windows: Sequence[Window]) -> tuple[Sample, list[int]]:
    """`x` without what no window covers, on its last axes, and ONNX's pads."""
    starts = [max(0, -window.before) for window in windows]
    ends = [_END if window.size is None else window.size - max(0, -window.after) for window in windows]
    pads = [max(0, window.before) for window in windows] + [max(0, window.after) for window in windows]
    if not any(starts) and all(window.after >= 0 or (window.before >= 0 and window.stride + window.after > 0)
                               for window in windows):  # fmt: skip
        return x, pads  # ONNX leaves out as much itself.
    axes = range(-len(windows), 0)
    parts = [c.constant(f"trim_{i}", part, np.int64) for i, part in enumerate((starts, ends, list(axes)))]
    sizes = [None if window.size is None else b - a for window, a, b in zip(windows, starts, ends, strict=True)]
    shape = [*x.shape[: x.rank - len(windows)], *sizes]
    return c.made(c.node("Slice", [x.value, *parts], "trimmed"), x.dynamic, shape), pads


@dataclass(frozen=True)
class _Rows:
    """A value as [batch, *shape] whatever its dynamic axes are."""

    value: Sample
    origin: Sample

    @classmethod
    def of(cls, c: Call, x: Sample, shape: Sequence[int | None]) -> _Rows:
        if len(x.dynamic) == 1:
            return cls(c.reshape(x, shape, "rows"), x)
        if not x.dynamic or None in shape:
            raise Unsupported(f"its input is a constant, or open in several dims: {text(x.shape)}")
        value = c.node("Reshape", [x.value, c.constant("rows_to", [-1, *shape], np.int64)], "rows")
        return cls(c.made(value, ("rows",), shape), x)

    def back(self, c: Call, result: Sample, shape: Sequence[int | None]) -> Sample:
        if len(self.origin.dynamic) == 1:
            return c.reshape(c.made(result.value, self.origin.dynamic, result.shape), shape, "shaped")
        ahead = c.node("Shape", [self.origin.value], "dynamic", start=0, end=len(self.origin.dynamic))
        sizes = c.node("Concat", [ahead, c.constant("static", list(shape), np.int64)], "sizes", axis=0)
        return c.made(c.node("Reshape", [result.value, sizes], "shaped"), self.origin.dynamic, shape)


def _convolution(c: Call) -> list[Sample]:
    """The kernel is [maps, channels, *axes]; with `transpose` [channels, maps, *axes]."""
    x, weights = c.operand(1), c.operand(0).known()
    c.ignore("maxTempMemSizeInSamples")
    if c.operand(0).dynamic:
        raise Unsupported("its kernel is no parameter")
    if c.option("sequential", bool, False) or not all(c.options("sharing", bool) if c.has("sharing") else [True]):
        raise Unsupported("windows over sequences or with weights of their own are not supported")
    c.asked.add("sharing")
    if len(weights) not in (x.rank, x.rank + 1) or x.rank < 2:
        raise Unsupported(f"a kernel of shape {text(weights)} for an input of shape {text(x.shape)}")
    stored = list(weights[-x.rank :]) if c.has("kernelShape") else []
    if stored and [int(size) for size in c.options("kernelShape", int)[::-1]] != stored:
        raise Unsupported("its kernelShape is not that of its kernel")
    c.asked.add("kernelShape")
    transposed = c.option("transpose", bool, False)
    if len(weights) == x.rank:
        weights = (1, *weights)
    kernel = c.reshape(c.operand(0), weights, "kernel")
    return [(_deconvolved if transposed else _convolved)(c, x, kernel)]


def _convolved(c: Call, x: Sample, kernel: Sample) -> Sample:
    weights, groups = kernel.known(), c.option("groups", int, 1)
    asked = c.options("outputShape", int) if c.has("outputShape") else []
    c.asked.add("outputShape")
    if weights[1] * groups != x.shape[0] or groups < 1 or weights[0] % groups:
        raise Unsupported(f"a kernel of {weights[1]} channels and {groups} groups for {x.shape[0]} channels")
    channel, *windows = _all_windows(c, x, weights[1:])
    if groups == 1 and (channel.count != 1 or channel.before or channel.after):
        raise Unsupported("it slides over channels")
    if any(window.size is not None and window.kernel > window.size for window in windows):
        raise Unsupported("its kernel is larger than its input")
    shape = (weights[0], *(window.count for window in windows))
    if any(asked) and tuple(asked[::-1]) != shape:
        raise Unsupported(f"its output shape is not {text(shape)}")
    trimmed, pads = _trimmed(c, x, windows)
    rows = _Rows.of(c, trimmed, trimmed.shape)
    value = c.node(
        "Conv", [rows.value.value, kernel.value], kernel_shape=list(weights[2:]), group=groups, pads=pads,
        strides=[window.stride for window in windows], dilations=[window.dilation for window in windows],
    )  # fmt: skip
    return rows.back(c, c.made(value, ("rows",), shape), shape)


def _all_windows(c: Call, x: Sample, kernel: Sequence[int]) -> list[Window]:
    """Windows along channels and axes."""
    channel = Sample(x.value, x.dynamic, (kernel[0], *x.shape[1:]))
    return _windows(c, channel, kernel)


def _deconvolved(c: Call, x: Sample, kernel: Sample) -> Sample:
    weights = kernel.known()
    strides = _per_axis(c, "strides", x.rank, int, 1)[1:]
    autos = _per_axis(c, "autoPadding", x.rank, bool, 0)
    lower, upper = (_per_axis(c, name, x.rank, int, 0)[1:] for name in ("lowerPad", "upperPad"))
    if c.option("groups", int, 1) != 1 or any(size != 1 for size in _per_axis(c, "dilation", x.rank, int, 1)):
        raise Unsupported("groups and dilation are not supported in transposed convolutions")
    if weights[0] != x.known()[0] or autos[0]:
        raise Unsupported(f"a kernel of shape {text(weights)} for an input of shape {text(x.shape)}")
    asked = c.options("outputShape", int)[::-1] if c.has("outputShape") else []
    c.asked.add("outputShape")
    sizes = list(asked[1:]) if any(asked) else [
        (n - 1) * s + (1 if auto else k - low - high)
        for n, k, s, auto, low, high in zip(x.known()[1:], weights[2:], strides, autos[1:], lower, upper, strict=True)
    ]  # fmt: skip
    if len(sizes) != x.rank - 1 or (asked and any(asked) and asked[0] != weights[1]):
        raise Unsupported("its output shape does not fit")
    # The windows are those of the convolution that leads from the output to the input.
    windows = [
        Window.along(size, k, s, auto=bool(auto), pads=(low, high))
        for size, k, s, auto, low, high in zip(sizes, weights[2:], strides, autos[1:], lower, upper, strict=True)
    ]
    if [window.count for window in windows] != list(x.known()[1:]) or any(window.before < 0 for window in windows):
        raise Unsupported(f"its output shape {text(tuple(sizes))} does not fit its input {text(x.shape)}")
    more = [max(0, -window.after) for window in windows]
    if any(extra >= window.stride for extra, window in zip(more, windows, strict=True)):
        raise Unsupported("its output shape leaves more room than a stride")
    rows = _Rows.of(c, x, x.known())
    value = c.node(
        "ConvTranspose", [rows.value.value, kernel.value], kernel_shape=list(weights[2:]), strides=strides,
        pads=[window.before for window in windows] + [max(0, window.after) for window in windows],
        output_padding=more if any(more) else None,
    )  # fmt: skip
    shape = (weights[1], *sizes)
    return rows.back(c, c.made(value, ("rows",), shape), shape)


_MAX, _AVERAGE = range(2)


def _pooling(c: Call) -> list[Sample]:
    x, kind = c.operand(), c.option("poolingType", int)
    sizes = c.option("poolingWindowShape", list)
    # A window that the file leaves open is the whole axis (global pooling).
    kernel = [size if size < 2**63 else x.known()[x.rank - len(sizes) + i] for i, size in enumerate(sizes[::-1])]
    ceil, padding = c.option("ceilOutDim", bool, False), c.option("includePad", bool, False)
    if kind not in (_MAX, _AVERAGE) or not 0 < len(kernel) <= x.rank:
        raise Unsupported(f"pooling of type {kind} with a window of {len(kernel)} axes is not supported")
    windows = _windows(c, x, kernel, ceil)
    if any(window.size is None or window.kernel > window.size for window in windows):
        raise Unsupported("its window is larger than its input")
    if ceil and padding:
        raise Unsupported("padding that counts with sizes rounded up is not supported")
    while len(windows) > 1 and windows[0].kernel == windows[0].stride == 1 and not windows[0].before:
        windows = windows[1:]
    shape = [*x.shape[: x.rank - len(windows)], *(window.count for window in windows)]
    trimmed, pads = _trimmed(c, x, windows)
    ahead = math.prod(trimmed.known()[: x.rank - len(windows)])
    rows = _Rows.of(c, trimmed, (ahead, *trimmed.known()[x.rank - len(windows) :]))
    counted = {"count_include_pad": int(padding)} if kind == _AVERAGE else {}
    value = c.node(
        "MaxPool" if kind == _MAX else "AveragePool", [rows.value.value], "pooled",
        kernel_shape=[window.kernel for window in windows], strides=[window.stride for window in windows], pads=pads,
        **counted,
    )  # fmt: skip
    pooled = c.made(value, ("rows",), (ahead, *(window.count for window in windows)))
    result = rows.back(c, pooled, c.made(value, x.dynamic, shape).known())
    return [c.like(result, c.node("Identity", [result.value]))]


def _batch_normalization(c: Call) -> list[Sample]:
    """By the running statistics: (x - mean) * scale / sqrt(variance + epsilon) + bias."""
    x, epsilon = c.operand(), float(c.option("epsilon", float))
    spatial = c.option("spatial", bool)
    c.ignore("blendTimeConstant", "normalizationTimeConstant", "useCuDNNEngine", "disableRegularization")
    scale, bias, mean, variance = (c.weight(index).reshape(-1) for index in range(1, 5))
    shape = x.known()
    size = shape[0] if spatial and shape else math.prod(shape)
    if not shape or {len(scale), len(bias), len(mean), len(variance)} != {size}:
        raise Unsupported(f"statistics of {len(scale)} values for an input of shape {text(shape)}")
    if (variance + epsilon <= 0).any():
        raise Unsupported("its variance is not positive")
    factor = scale / np.sqrt(variance + epsilon)
    places = (size, *(1,) * (len(shape) - 1)) if spatial else shape
    scaled = c.node("Mul", [x.value, c.constant("factor", factor.reshape(places))], "scaled")
    shift = c.constant("shift", (bias - mean * factor).reshape(places))
    return [c.like(x, c.node("Add", [scaled, shift]))]


RULES: dict[str, Rule] = {
    "Convolution": _convolution, "Pooling": _pooling, "BatchNormalization": _batch_normalization,
}  # fmt: skip
