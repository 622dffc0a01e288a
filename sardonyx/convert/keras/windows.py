"""Keras layers that slide a window: convolutions and pooling, in one to three dimensions.

Padding is TensorFlow's (`tf.nn.convolution`, "Notes on padding"): SAME pads so that the output has
ceil(size / stride) elements, the odd one at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.keras.activations import fused_activation
from sardonyx.convert.keras.base import Emitter, Plan, Settings, Shape, Spatial, Tensor, UnsupportedError


@dataclass(frozen=True)
class Window:
    """A window's geometry, one number a spatial dimension; `padding` is valid, same or causal."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: str

    def output(self, sizes: Shape) -> Shape:
        """The sizes after the window slid over `sizes`."""
        extents, padded = self._extents(), self.padding != "valid"
        return tuple(
            None if size is None else -(-(size if padded else size - extent + 1) // stride)
            for size, extent, stride in zip(sizes, extents, self.strides, strict=True)
        )

    def attributes(self, sizes: Shape) -> dict[str, Any]:
        """The attributes of Conv and of the pooling operators."""
        attributes: dict[str, Any] = {"kernel_shape": list(self.kernel), "strides": list(self.strides)}
        if any(dilation > 1 for dilation in self.dilations):
            attributes["dilations"] = list(self.dilations)
        extents = self._extents()
        if self.padding == "causal":
            return attributes | {"pads": [extents[0] - 1, 0]}
        if self.padding == "same":
            totals = [
                _same_padding(size, extent, stride)
                for size, extent, stride in zip(sizes, extents, self.strides, strict=True)
            ]
            known = [total for total in totals if total is not None]
            if len(known) < len(totals):
                return attributes | {"auto_pad": "SAME_UPPER"}
            if any(known):
                before = [total // 2 for total in known]
                attributes["pads"] = before + [total - half for total, half in zip(known, before, strict=True)]
        return attributes

    def _extents(self) -> list[int]:
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]


def _same_padding(size: int | None, extent: int, stride: int) -> int | None:
    """The padding of one dimension in all, or None where it depends on a size that is not known."""
    if stride == 1:
        return extent - 1
    if size is None:
        return None
    return max((-(-size // stride) - 1) * stride + extent - size, 0)


def _window(options: Settings, rank: int, kernel: str = "kernel_size", *, causal: bool = False) -> Window:
    allowed = ("valid", "same", "causal") if causal else ("valid", "same")
    size = options.ints(kernel, rank)
    return Window(
        kernel=size,
        strides=options.ints("strides", rank, 1),
        dilations=options.ints("dilation_rate", rank, 1),
        padding=options.choice("padding", allowed, "valid"),
    )


def _bias(e: Emitter, use_bias: bool, length: int) -> list[ir.Value]:
    return [e.vector("bias", length)] if use_bias else []


def _kernel(e: Emitter, key: str, shape: Sequence[int | None], order: Sequence[int]) -> ir.Value:
    weight = e.weight(key, shape)
    return e.graph.initializer(weight.name, weight.array.transpose(order))


def _weights(*names: str, use_bias: bool) -> tuple[str, ...]:
    return (*names, "bias") if use_bias else names


def conv(options: Settings, rank: int) -> Plan:
    """Conv1D, Conv2D, Conv3D: kernel [*window, input channels / groups, filters]."""
    window, data_format = _window(options, rank, causal=rank == 1), options.data_format()
    filters, groups = options.integer("filters"), options.integer("groups", 1)
    use_bias, finish = options.flag("use_bias", True), fused_activation(options)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, rank)
        if x.channels % groups or filters % groups:
            raise UnsupportedError(f"{groups} groups divide {x.channels} channels and {filters} filters unevenly")
        shape = (*window.kernel, x.channels // groups, filters)
        kernel = _kernel(e, "kernel", shape, [rank + 1, rank, *range(rank)])
        operands = [x.value, kernel, *_bias(e, use_bias, filters)]
        value = e.node("Conv", operands, group=groups, **window.attributes(x.sizes))
        return finish(e, e.from_spatial(x, value, window.output(x.sizes), filters), "")

    return Plan(emit, weights=_weights("kernel", use_bias=use_bias))


def _emit_depthwise(
    e: Emitter, x: Spatial, window: Window, multiplier: int, *, bias: Sequence[ir.Value] = (), tag: str = ""
) -> ir.Value:
    """Kernel [*window, channels, multiplier]; the output's channels vary fastest along the multiplier."""
    rank = len(window.kernel)
    weight = e.weight("depthwise_kernel", (*window.kernel, x.channels, multiplier))
    array = weight.array.transpose([rank, rank + 1, *range(rank)]).reshape(-1, 1, *window.kernel)
    kernel = e.graph.initializer(weight.name, array)
    return e.node("Conv", [x.value, kernel, *bias], tag=tag, group=x.channels, **window.attributes(x.sizes))


def depthwise(options: Settings, rank: int) -> Plan:
    """DepthwiseConv1D and DepthwiseConv2D."""
    window, data_format = _window(options, rank), options.data_format()
    multiplier = options.integer("depth_multiplier", 1)
    use_bias, finish = options.flag("use_bias", True), fused_activation(options)
    # What the layer inherits from Conv and does not use.
    for key in ("filters", "groups"):
        options.get(key)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, rank)
        channels = x.channels * multiplier
        value = _emit_depthwise(e, x, window, multiplier, bias=_bias(e, use_bias, channels))
        return finish(e, e.from_spatial(x, value, window.output(x.sizes), channels), "")

    return Plan(emit, weights=_weights("depthwise_kernel", use_bias=use_bias))


def separable(options: Settings, rank: int) -> Plan:
    """SeparableConv1D and SeparableConv2D: a depthwise convolution, then a pointwise one."""
    window, data_format = _window(options, rank, causal=rank == 1), options.data_format()
    filters, multiplier = options.integer("filters"), options.integer("depth_multiplier", 1)
    use_bias, finish = options.flag("use_bias", True), fused_activation(options)
    if options.integer("groups", 1) != 1:
        raise UnsupportedError("groups in a separable convolution are not supported")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, rank)
        value = _emit_depthwise(e, x, window, multiplier, tag="depthwise")
        shape = (*[1] * rank, x.channels * multiplier, filters)
        kernel = _kernel(e, "pointwise_kernel", shape, [rank + 1, rank, *range(rank)])
        operands = [value, kernel, *_bias(e, use_bias, filters)]
        value = e.node("Conv", operands, kernel_shape=[1] * rank)
        return finish(e, e.from_spatial(x, value, window.output(x.sizes), filters), "")

    return Plan(emit, weights=_weights("depthwise_kernel", "pointwise_kernel", use_bias=use_bias))


def conv_transpose(options: Settings, rank: int) -> Plan:
    """Conv1DTranspose, Conv2DTranspose, Conv3DTranspose: kernel [*window, filters, input channels]."""
    window, data_format = _window(options, rank), options.data_format()
    filters, use_bias = options.integer("filters"), options.flag("use_bias", True)
    finish = fused_activation(options)
    extra = None if options.get("output_padding") is None else options.ints("output_padding", rank, least=0)
    if options.integer("groups", 1) != 1:
        raise UnsupportedError("groups in a transposed convolution are not supported")
    if any(d > 1 for d in window.dilations) and any(s > 1 for s in window.strides):
        raise UnsupportedError("dilation and strides together in a transposed convolution are not supported")
    pads, paddings, steps = _transposed_padding(window, extra)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, rank)
        kernel = _kernel(e, "kernel", (*window.kernel, filters, x.channels), [rank + 1, rank, *range(rank)])
        attributes: dict[str, Any] = {"kernel_shape": list(window.kernel), "strides": list(window.strides)}
        attributes |= {"dilations": list(window.dilations)} if any(d > 1 for d in window.dilations) else {}
        attributes |= {"pads": pads} if any(pads) else {}
        attributes |= {"output_padding": paddings} if any(paddings) else {}
        value = e.node("ConvTranspose", [x.value, kernel, *_bias(e, use_bias, filters)], **attributes)
        sizes = [
            None if size is None else (size - 1) * stride + step
            for size, stride, step in zip(x.sizes, window.strides, steps, strict=True)
        ]
        return finish(e, e.from_spatial(x, value, sizes, filters), "")

    return Plan(emit, weights=_weights("kernel", use_bias=use_bias))


def _transposed_padding(window: Window, extra: tuple[int, ...] | None) -> tuple[list[int], list[int], list[int]]:
    """`pads` and `output_padding` of ConvTranspose, and the output's size less (size - 1) * stride.

    Keras first computes the output's size (`conv_utils.deconv_output_length`); TensorFlow then pads as the
    convolution that goes the other way would (`same`), or not at all.
    """
    before, after, paddings, steps = [], [], [], []
    for i, (kernel, stride, dilation) in enumerate(zip(window.kernel, window.strides, window.dilations, strict=True)):
        extent = (kernel - 1) * dilation + 1
        if extra is None:
            step = stride if window.padding == "same" else max(extent, stride)
        else:
            step = extent + extra[i] - (2 * (extent // 2) if window.padding == "same" else 0)
            if extra[i] >= stride:
                raise UnsupportedError(f"the option output_padding = {list(extra)} is not less than the strides")
        if step < 1:
            raise UnsupportedError("its options leave no output")
        total = max(extent - step, 0) if window.padding == "same" else 0
        before.append(total // 2)
        after.append(total - total // 2)
        paddings.append(max(step - extent, 0))
        steps.append(step)
    return before + after, paddings, steps


def pool(options: Settings, rank: int, op_type: str) -> Plan:
    """Max- and AveragePooling; the average leaves padding out."""
    if options.get("strides") is None:
        strides = options.ints("pool_size", rank, 2)
    else:
        strides = options.ints("strides", rank)
    window = Window(
        kernel=options.ints("pool_size", rank, 2),
        strides=strides,
        dilations=(1,) * rank,
        padding=options.choice("padding", ("valid", "same"), "valid"),
    )
    data_format = options.data_format()

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, rank)
        attributes = window.attributes(x.sizes)
        if op_type == "AveragePool":
            attributes["count_include_pad"] = 0
        value = e.node(op_type, [x.value], **attributes)
        return e.from_spatial(x, value, window.output(x.sizes))

    return Plan(emit)


def global_pool(options: Settings, rank: int, op_type: str) -> Plan:
    """GlobalMax- and GlobalAveragePooling, with the dimensions kept as 1 or dropped."""
    data_format, keepdims = options.data_format(), options.flag("keepdims", False)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        if x.rank != rank + 2:
            raise UnsupportedError(f"its input has {x.rank} dimensions, expected {rank + 2}")
        if x.mask is not None and op_type == "GlobalAveragePool" and rank == 1:
            return _masked_mean(e, x, data_format, keepdims)
        if data_format == "channels_last" and not x.moved:
            return _reduce(e, x, range(1, rank + 1), op_type, keepdims)  # cheaper than a Transpose before it
        y = e.spatial(x, data_format, rank)
        value = e.node(op_type, [y.value])
        if keepdims:
            return e.from_spatial(y, value, [1] * rank)
        e.from_spatial(y, value, [1] * rank)
        return e.tensor(e.node("Flatten", [value], tag="flatten", axis=1), (y.batch, y.channels))

    return Plan(emit, arguments=frozenset({"mask"}) if rank == 1 and op_type == "GlobalAveragePool" else frozenset())


def _masked_mean(e: Emitter, x: Tensor, data_format: str, keepdims: bool) -> Tensor:
    """GlobalAveragePooling1D under a mask: the mean of the steps that are not masked."""
    if data_format != "channels_last":
        raise UnsupportedError("a mask over channels-first steps is not supported")
    x = e.plain(x)
    last, time = e.constant("last", [2], np.int64), e.constant("axes", [1], np.int64)
    weight = e.node("Cast", [x.mask], tag="mask", to=int(ir.DataType.FLOAT))
    weight = e.node("Unsqueeze", [weight, last], tag="weight")
    total = e.node(
        "ReduceSum", [e.node("Mul", [x.value, weight], tag="masked"), time], tag="total", keepdims=int(keepdims)
    )
    count = e.node("ReduceSum", [weight, time], tag="count", keepdims=int(keepdims))
    dims = (x.shape[0], 1, x.shape[2]) if keepdims else (x.shape[0], x.shape[2])
    return e.tensor(e.node("Div", [total, count]), dims)


def _reduce(e: Emitter, x: Tensor, axes: Sequence[int], op_type: str, keepdims: bool) -> Tensor:
    over = e.constant("axes", list(axes), np.int64)
    reduce = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}[op_type]
    value = e.node(reduce, [x.value, over], keepdims=int(keepdims))
    if keepdims:
        return e.tensor(value, [1 if axis in axes else dim for axis, dim in enumerate(x.shape)])
    return e.tensor(value, [dim for axis, dim in enumerate(x.shape) if axis not in axes])


Reader = Callable[[Settings], Plan]


def _of_rank(build: Callable[..., Plan], rank: int, *arguments: str) -> Reader:
    return lambda options: build(options, rank, *arguments)


WINDOW_LAYERS: dict[str, Reader] = {
    **{f"Conv{rank}D": _of_rank(conv, rank) for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": _of_rank(conv_transpose, rank) for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _of_rank(depthwise, rank) for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _of_rank(separable, rank) for rank in (1, 2)},
    **{f"MaxPooling{rank}D": _of_rank(pool, rank, "MaxPool") for rank in (1, 2, 3)},
    **{f"AveragePooling{rank}D": _of_rank(pool, rank, "AveragePool") for rank in (1, 2, 3)},
    **{f"GlobalMaxPooling{rank}D": _of_rank(global_pool, rank, "GlobalMaxPool") for rank in (1, 2, 3)},
    **{f"GlobalAveragePooling{rank}D": _of_rank(global_pool, rank, "GlobalAveragePool") for rank in (1, 2, 3)},
}
