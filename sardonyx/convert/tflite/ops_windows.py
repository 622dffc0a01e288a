"""Convolutions, pooling, resizing, space and depth: operators on pictures, which ONNX has channels first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.tflite.emit import TYPES, Op, UnsupportedError, Value, clip
from sardonyx.convert.tflite.ops_math import bias, note_hybrid

Rule = Callable[[Op], None]

SAME = 0
STEPS = {1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
"""The ends that fused activations cut at, by their codes."""


def _padding(
    op: Op, x: Value, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> dict[str, Any]:
    """`pads`, or where the size is open and must be looked at, `auto_pad`."""
    if min(*kernel, *strides, *dilations) < 1:
        raise UnsupportedError("its kernel, strides or dilations are not positive")
    if op.get("padding") != SAME:
        return {}
    before, after = [], []
    sizes = (x.dims or ())[1:-1]
    if None in sizes and any(step != 1 for step in strides):
        return {"auto_pad": "SAME_UPPER"}
    for open_size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        size = open_size or 1  # With strides of 1 the size does not matter.
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    pads = before + after
    return {"pads": pads} if any(pads) else {}


def _steps(op: Op, key: str, spatial: str = "hw") -> list[int]:
    return [int(op.get(key.format(axis))) for axis in spatial]


def _conv(op: Op) -> None:
    """Weights are [out, h, w, in / groups]."""
    note_hybrid(op, 0, 1)
    x, w = op.real(op.need(0)), op.need(1)
    if op.rank(x) != 4 or op.rank(w) != 4:
        raise UnsupportedError("its input or its weights do not have four dims")
    kernel = op.known(w, 1, 2)
    depth, per_group, out = (*op.known(x, 3), *op.known(w, 3), *op.known(w, 0))
    if per_group < 1 or depth % per_group or out % (depth // per_group):
        raise UnsupportedError(f"weights for {per_group} channels do not fit an input of {depth}")
    strides, dilations = _steps(op, "stride_{}"), _steps(op, "dilation_{}_factor")
    result = op.node(
        "Conv", [op.first(x), op.weights(1, (0, 3, 1, 2)), bias(op, 2, 0, 1)],
        kernel_shape=kernel, strides=strides, dilations=dilations, group=depth // per_group,
        **_padding(op, x, kernel, strides, dilations),
    )  # fmt: skip
    op.give(op.activate(result), first=True)


def _depthwise(op: Op) -> None:
    """Weights are [1, h, w, in * multiplier]."""
    note_hybrid(op, 0, 1)
    x, w = op.real(op.need(0)), op.need(1)
    if op.rank(x) != 4 or op.rank(w) != 4 or op.known(w, 0) != [1]:
        raise UnsupportedError("its input or its weights do not have the dims of a depthwise convolution")
    kernel, out, depth = op.known(w, 1, 2), op.known(w, 3)[0], op.known(x, 3)[0]
    if depth < 1 or out % depth:
        raise UnsupportedError(f"weights for {out} channels do not fit an input of {depth}")
    strides, dilations = _steps(op, "stride_{}"), _steps(op, "dilation_{}_factor")
    result = op.node(
        "Conv", [op.first(x), op.weights(1, (3, 0, 1, 2)), bias(op, 2, 0, 1)],
        kernel_shape=kernel, strides=strides, dilations=dilations, group=depth,
        **_padding(op, x, kernel, strides, dilations),
    )  # fmt: skip
    op.give(op.activate(result), first=True)


def _conv_3d(op: Op) -> None:
    """Weights are [d, h, w, in, out]."""
    x, w = op.real(op.need(0)), op.need(1)
    if op.rank(x) != 5 or op.rank(w) != 5:
        raise UnsupportedError("its input or its weights do not have five dims")
    kernel, strides = op.known(w, 0, 1, 2), _steps(op, "stride_{}", "dhw")
    dilations = _steps(op, "dilation_{}_factor", "dhw")
    value = op.graph.transpose(op.plain(x), (0, 4, 1, 2, 3), name=f"{x.name}/ncdhw")
    groups = op.known(x, 4)[0] // max(op.known(w, 3)[0], 1)
    result = op.node(
        "Conv", [value, op.weights(1, (4, 3, 0, 1, 2)), bias(op, 2, 0, 1)],
        kernel_shape=kernel, strides=strides, dilations=dilations, group=groups,
        **_padding(op, x, kernel, strides, dilations),
    )  # fmt: skip
    op.give(op.graph.transpose(op.activate(result), (0, 2, 3, 4, 1), name=f"{op.name}/ndhwc"))


def transposed(
    op: Op, x: Value, weights: ir.Value, given: ir.Value | None, kernel: Sequence[int], strides: Sequence[int],
    before: Sequence[int], target: Sequence[int],
) -> ir.Value:  # fmt: skip
    """A transposed convolution whose result has so many elements cut before, and the sizes of `target`."""
    after, extra = [], []
    for size, k, s, cut, want in zip(op.known(x, 1, 2), kernel, strides, before, target, strict=True):
        rest = (size - 1) * s + k - cut - want
        after.append(max(rest, 0))
        extra.append(max(-rest, 0))
    if any(more >= step for more, step in zip(extra, strides, strict=True)):
        raise UnsupportedError("its output is larger than its input can reach")
    return op.node(
        "ConvTranspose", [op.first(x), weights, given], kernel_shape=list(kernel), strides=list(strides),
        pads=[*before, *after], output_padding=extra if any(extra) else None,
    )  # fmt: skip


def _transpose_conv(op: Op) -> None:
    """Inputs: the output's shape, weights [out, h, w, in], the input, perhaps a bias. Padding is that of the
    convolution from the output back to the input (kernels/transpose_conv.cc)."""
    note_hybrid(op, 2, 1)
    x, w = op.real(op.need(2)), op.need(1)
    kernel, strides = op.known(w, 1, 2), _steps(op, "stride_{}")
    shape = op.need(0).array
    # With an open batch the shape is computed, but the file still says which sizes come out.
    target = [int(n) for n in shape.ravel()[1:3]] if shape is not None else list((op.out[0].dims or ())[1:3])
    if len(target) != 2 or None in target:
        raise UnsupportedError("the size of its output is open")
    sizes = [int(n or 0) for n in target]
    before = [0, 0]
    if op.get("padding") == SAME:
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(sizes, strides, kernel, strict=True)]
        before = [total // 2 for total in totals]
    weights = op.weights(1, (3, 0, 1, 2))
    result = transposed(op, x, weights, bias(op, 3, 2, 1), kernel, strides, before, sizes)
    op.give(op.activate(result), first=True)


def _whole(op: Op) -> bool:
    """Whether TFLite averages the stored integers themselves: the result has the scale of the input."""
    q = op.need(0).quantization
    return q is not None and q == op.want(0)


def _numbers(op: Op) -> Value:
    """The first input as floats: its stored integers where these are averaged, else the numbers they stand for."""
    x = op.need(0)
    return (
        Value(f"{x.name}/float", "FLOAT32", x.dims, first=op.cast(op.first(x), ir.DataType.FLOAT))
        if _whole(op)
        else op.real(x)
    )


def _averaged(op: Op, value: ir.Value, code: int) -> None:
    """The result after activation `code`; averages of stored integers are rounded, halves away from zero."""
    if not _whole(op):
        op.give(op.activate(value) if code else value, first=True)
        return
    q, kind = op.want(0), op.out[0].kind
    away = op.node("Floor", [op.node("Add", [op.node("Abs", [value]), op.const(0.5, np.float32)])])
    rounded = op.node("Mul", [op.node("Sign", [value]), away])
    if code in STEPS and q is not None:
        limits = np.iinfo(TYPES[kind].numpy())
        ends = [np.clip(np.round(end / q.scale[0]) + q.zero_point[0], limits.min, limits.max) for end in STEPS[code]]
        rounded = clip(op, rounded, *map(float, ends))
    elif code:
        raise UnsupportedError(f"its fused activation {code} is not supported")
    op.give(op.cast(rounded, TYPES[kind]), first=True, quantization=q)


def _pool(kind: str) -> Rule:
    def rule(op: Op) -> None:
        x = _numbers(op) if kind == "AveragePool" else op.real(op.need(0))
        kernel = [op.get("filter_height"), op.get("filter_width")]
        strides = _steps(op, "stride_{}")
        padding = _padding(op, x, kernel, strides, (1, 1))
        attributes: dict[str, Any] = dict(kernel_shape=kernel, strides=strides, **padding)
        value = op.first(x)
        if kind == "LpPool":
            # Root of the mean of squares, of those inside (kernels/internal/reference/pooling.h).
            square = op.node("AveragePool", [op.node("Mul", [value, value])], **attributes)
            op.give(op.activate(op.node("Sqrt", [square])), first=True)
        elif kind == "MaxPool":
            op.give(op.activate(op.node(kind, [value], **attributes)), first=True)
        else:
            _averaged(op, op.node(kind, [value], **attributes), op.get("fused_activation_function", 0))

    return rule


# Sizes


def _resize_bilinear(op: Op) -> None:
    mode = (
        "align_corners" if op.get("align_corners") else "half_pixel" if op.get("half_pixel_centers") else "asymmetric"
    )
    x = _numbers(op)
    result = op.node(
        "Resize", [op.first(x), None, None, _sizes(op, x)], mode="linear", coordinate_transformation_mode=mode
    )
    _averaged(op, result, 0)


def _sizes(op: Op, x: Value) -> ir.Value:
    """[batch, channels, height, width] of the result."""
    target = op.need(1)
    dims = x.dims or (None,) * 4
    if target.array is not None and None not in (dims[0], dims[3]):
        return op.const([dims[0], dims[3], *target.array.ravel().tolist()])
    shape = op.node("Shape", [op.first(x)], start=0, end=2)
    return op.node("Concat", [shape, op.cast(op.plain(target), ir.DataType.INT64)], axis=0)


def _resize_nearest(op: Op) -> None:
    """By Resize where its rounding is TFLite's, else by the rows and columns that TFLite takes."""
    x = op.real(op.need(0))
    align, half = bool(op.get("align_corners")), bool(op.get("half_pixel_centers"))
    sizes = [int(n) for n in op.constant(1, "size").ravel()]
    value = op.first(x)
    places = [nearest(old, new, align, half) for old, new in zip(op.known(x, 1, 2), sizes, strict=True)]
    olds = op.known(x, 1, 2)
    whole = all(
        new % old == 0 and place == [i * old // new for i in range(new)]
        for old, new, place in zip(olds, sizes, places, strict=True)
    )
    if whole:
        times = [1, 1, *(new // old for old, new in zip(olds, sizes, strict=True))]
        value = op.node(
            "Resize", [value, None, op.const(times, np.float32)],
            mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip
    else:
        for axis, place in enumerate(places, 2):
            value = op.node("Gather", [value, op.const(place)], axis=axis)
    op.give(value, first=True)


def nearest(old: int, new: int, align: bool, half: bool) -> list[int]:
    """Which of `old` elements each of `new` is, in float32 (kernels/internal/reference/resize_nearest_neighbor.h)."""
    if not 0 < new <= 1 << 16:
        raise UnsupportedError(f"it resizes to {new} rows or columns")
    scale = np.float32((old - 1) / (new - 1)) if align and new > 1 else np.float32(old) / np.float32(new)
    places = (np.arange(new, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
    chosen = np.floor(places + np.float32(0.5)) if align else np.floor(places)
    return np.clip(chosen.astype(np.int64), 0, old - 1).tolist()  # type: ignore[no-any-return]


def _space_to_depth(op: Op) -> None:
    op.give(op.node("SpaceToDepth", [op.first(op.real(op.need(0)))], blocksize=op.get("block_size")), first=True)


def _depth_to_space(op: Op) -> None:
    result = op.node("DepthToSpace", [op.first(op.real(op.need(0)))], blocksize=op.get("block_size"), mode="DCR")
    op.give(result, first=True)


WINDOWS: Mapping[str, Rule] = {
    "CONV_2D": _conv, "DEPTHWISE_CONV_2D": _depthwise, "CONV_3D": _conv_3d, "TRANSPOSE_CONV": _transpose_conv,
    "MAX_POOL_2D": _pool("MaxPool"), "AVERAGE_POOL_2D": _pool("AveragePool"), "L2_POOL_2D": _pool("LpPool"),
    "RESIZE_BILINEAR": _resize_bilinear, "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "SPACE_TO_DEPTH": _space_to_depth, "DEPTH_TO_SPACE": _depth_to_space,
}  # fmt: skip
"""Rules by operator."""
