"""Operators of TensorFlow with a window over an image, and what goes with them: normalisation, blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.tensorflow.emitter import Emit, Emitter, Tensor, UnsupportedError
from sardonyx.convert.tensorflow.graph import Node
from sardonyx.convert.tensorflow.ops_math import fused
from sardonyx.convert.tensorflow.tensors import numpy_type

Inputs = Sequence[Tensor]
Size = int | None


@dataclass(frozen=True)
class Blocks:
    """What SpaceToBatchND took apart, and the convolution that was done on its blocks: a dilated one of the whole."""

    x: Tensor
    block: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    convolution: tuple[Node, Tensor] | None = None


@dataclass(frozen=True)
class Window:
    """The attributes of a window over the spatial axes."""

    first: bool
    """The layout is [N, C, ...]."""
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    explicit: tuple[tuple[int, int], ...]
    padding: str

    @classmethod
    def of(cls, node: Node, rank: int, strides: Sequence[int] | None = None) -> Window:
        """Of a node over inputs of that rank."""
        first = node.text("data_format", "N...C").startswith("NC")
        pick = slice(2, rank) if first else slice(1, rank - 1)
        steps = list(strides) if strides is not None else node.integers("strides", [1] * rank)
        dilations = node.integers("dilations", [1] * rank)
        if len(steps) != rank or len(dilations) != rank:
            raise UnsupportedError(f"its strides {steps} and dilations {dilations} are not for {rank} axes")
        others = {0, 1} if first else {0, rank - 1}
        if any(items[axis] != 1 for items in (steps, dilations) for axis in others):
            raise UnsupportedError("its window moves over the batch or the channels")
        pads = node.integers("explicit_paddings", [0] * (2 * rank)) or [0] * (2 * rank)
        rows = [(pads[2 * i], pads[2 * i + 1]) for i in range(rank)][pick]
        return cls(first, tuple(steps[pick]), tuple(dilations[pick]), tuple(rows), node.text("padding", "VALID"))

    def sizes(self, x: Tensor) -> list[Size]:
        """The spatial dims of `x`, None where they are open."""
        shape = x.shape or ()
        inner = shape[2:] if self.first else shape[1:-1]
        return [dim if isinstance(dim, int) else None for dim in inner]

    def value(self, e: Emitter, x: Tensor) -> ir.Value:
        """`x` as [N, C, ...]."""
        return e.plain(x) if self.first else e.first(x)

    def padding_of(self, x: Tensor, kernel: Sequence[int]) -> dict[str, Any]:
        """ONNX's attributes for the padding, as numbers wherever they can be known."""
        if self.padding == "VALID":
            return {}
        if self.padding == "EXPLICIT":
            return _pads(self.explicit)
        if self.padding != "SAME":
            raise UnsupportedError(f"the padding {self.padding}")
        rows = []
        sizes = self.sizes(x)
        for size, extent, stride, dilation in zip(sizes, kernel, self.strides, self.dilations, strict=True):
            reach = (extent - 1) * dilation + 1
            if stride == 1:
                total = reach - 1
            elif size is not None:
                total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            else:
                return {"auto_pad": "SAME_UPPER"}
            rows.append((total // 2, total - total // 2))
        return _pads(rows)


def _pads(rows: Sequence[tuple[int, int]]) -> dict[str, Any]:
    flat = [row[0] for row in rows] + [row[1] for row in rows]
    return {"pads": flat} if any(flat) else {}


def _kernel(e: Emitter, x: Tensor, depthwise: bool = False) -> tuple[ir.Value, tuple[int, ...]]:
    """The weights [*window, in, out] as [out, in, *window], and their shape here; depthwise [in * out, 1, *window]."""
    shape = e.static(x)
    rank = len(shape)
    order = [rank - 2, rank - 1, *range(rank - 2)] if depthwise else [rank - 1, rank - 2, *range(rank - 2)]
    wanted = (shape[-2] * shape[-1], 1, *shape[:-2])
    if x.array is not None:
        array = x.array.transpose(order)
        return e.graph.initializer(f"{x.name}/kernel", array.reshape(wanted) if depthwise else array), shape
    value = e.transpose(e.plain(x), order)
    return (e.reshape(value, wanted) if depthwise else value), shape


def _convolution(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x, kernel = inputs[:2]
    window = Window.of(node, kernel.rank)
    result = _convolve(e, x, kernel, window, window.padding_of(x, e.static(kernel)[:-2]))
    if x.origin is not None and window.padding == "VALID" and set(window.strides) == {1} and not window.first:
        return replace(result, origin=replace(x.origin, convolution=(node, kernel)))
    return result


def _convolve(e: Emitter, x: Tensor, kernel: Tensor, window: Window, padding: dict[str, Any]) -> Tensor:
    weights, shape = _kernel(e, kernel)
    groups = _groups(x, window, shape[-2])
    value = e.node(
        "Conv", [window.value(e, x), weights], strides=window.strides, dilations=window.dilations,
        kernel_shape=shape[:-2], group=groups, **padding,
    )  # fmt: skip
    return e.tensor(value, moved=not window.first)


def _groups(x: Tensor, window: Window, each: int) -> int:
    if x.shape is None:
        return 1
    channels = x.shape[1] if window.first else x.shape[-1]
    if not isinstance(channels, int):
        return 1
    if each < 1 or channels % each:
        raise UnsupportedError(f"{channels} channels for weights of {each}")
    return channels // each


def _depthwise(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x, kernel = inputs[:2]
    window = Window.of(node, 4)
    result = _convolve_depthwise(e, x, kernel, window, window.padding_of(x, e.static(kernel)[:-2]))
    if x.origin is not None and window.padding == "VALID" and set(window.strides) == {1} and not window.first:
        return replace(result, origin=replace(x.origin, convolution=(node, kernel)))
    return result


def _convolve_depthwise(e: Emitter, x: Tensor, kernel: Tensor, window: Window, padding: dict[str, Any]) -> Tensor:
    weights, shape = _kernel(e, kernel, depthwise=True)
    value = e.node(
        "Conv", [window.value(e, x), weights], strides=window.strides, dilations=window.dilations,
        kernel_shape=shape[:-2], group=shape[-2], **padding,
    )  # fmt: skip
    return e.tensor(value, moved=not window.first)


def _fused_convolution(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    count = node.integer("num_args", len(inputs) - 2)
    emit = _depthwise if "epthwise" in node.op else _convolution
    return fused(e, node, emit(e, node, inputs[:2]), inputs[2 : 2 + max(count, len(inputs) - 2)])


def _transposed(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """The gradient of a convolution by its input: of the sizes given, padded as that convolution would be."""
    sizes, kernel, x = inputs
    rank = kernel.rank
    window = Window.of(node, rank)
    shape = e.static(kernel)
    order = [rank - 1, rank - 2, *range(rank - 2)]
    if kernel.array is not None:
        weights = e.graph.initializer(f"{kernel.name}/kernel", kernel.array.transpose(order))
    else:
        weights = e.transpose(e.plain(kernel), order)
    wanted = _sizes(sizes, window, rank)
    here = window.sizes(x)
    reaches = [(k - 1) * d + 1 for k, d in zip(shape[:-2], window.dilations, strict=True)]
    common: dict[str, Any] = {"strides": window.strides, "dilations": window.dilations, "kernel_shape": shape[:-2]}
    value = window.value(e, x)
    if all(n is not None for n in wanted) and all(n is not None for n in here):
        rows, extra = [], []
        known = [(int(n or 0), int(m or 0)) for n, m in zip(here, wanted, strict=True)]
        for (n, out), reach, stride, told in zip(known, reaches, window.strides, window.explicit, strict=True):
            full = (n - 1) * stride + reach
            total = max(full - out, 0)
            before, after = {
                "SAME": (total // 2, total - total // 2), "VALID": (0, 0), "EXPLICIT": told
            }.get(window.padding, (0, 0))  # fmt: skip
            rows.append((before, after))
            extra.append(out - (full - before - after))
        if any(not 0 <= more < max(stride, 2) for more, stride in zip(extra, window.strides, strict=True)):
            raise UnsupportedError(f"its output of {wanted} does not fit its input of {here}")
        more: dict[str, Any] = {"output_padding": extra} if any(extra) else {}
        return e.tensor(
            e.node("ConvTranspose", [value, weights], **common, **_pads(rows), **more), moved=not window.first
        )
    if window.padding == "EXPLICIT":
        raise UnsupportedError("explicit paddings with sizes that only a run tells")
    longer = [max(stride - reach, 0) for stride, reach in zip(window.strides, reaches, strict=True)]
    more = {"output_padding": longer} if any(longer) else {}
    whole = e.node("ConvTranspose", [value, weights], tag="whole", **common, **more)
    return e.tensor(_crop(e, whole, value, sizes, window, reaches), moved=not window.first)


def _sizes(sizes: Tensor, window: Window, rank: int) -> list[Size]:
    found = sizes.known if sizes.known is not None else sizes.array
    if found is None:
        return [None] * (rank - 2)
    items = [int(item) if isinstance(item, int | np.integer) else None for item in found.ravel()]
    if len(items) == rank - 2:
        return items
    return items[2:] if window.first else items[1:-1]


def _crop(
    e: Emitter, whole: ir.Value, value: ir.Value, sizes: Tensor, window: Window, reaches: Sequence[int]
) -> ir.Value:
    """The middle of a transposed convolution that was not padded, of sizes that only a run tells."""
    spatial = len(reaches)
    given = e.vector(sizes)
    count = sizes.shape[0] if sizes.shape else None
    if count != spatial:
        start = 2 if window.first else 1
        bounds = [e.constant([start], np.int64, tag="from"), e.constant([start + spatial], np.int64, tag="to")]
        given = e.node("Slice", [given, *bounds], tag="wanted")
    if window.padding == "SAME":
        inner = e.node("Shape", [value], tag="inner", start=2)
        steps = e.constant(window.strides, np.int64, tag="strides")
        less = e.node("Sub", [inner, e.constant([1], np.int64, tag="one")], tag="less")
        full = e.node(
            "Add", [e.node("Mul", [less, steps], tag="m"), e.constant(reaches, np.int64, tag="reach")], tag="full"
        )
        total = e.node(
            "Max", [e.node("Sub", [full, given], tag="over"), e.constant([0], np.int64, tag="zero")], tag="total"
        )
        begins = e.node("Div", [total, e.constant([2], np.int64, tag="two")], tag="begins")
    else:
        begins = e.constant([0] * spatial, np.int64, tag="begins")
    ends = e.node("Add", [begins, given], tag="ends")
    axes = e.constant(range(2, 2 + spatial), np.int64, tag="axes")
    return e.node("Slice", [whole, begins, ends, axes])


def _pool(op: str) -> Emit:
    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        x = inputs[0]
        if len(inputs) > 1:
            extents, strides = (item.integers("window") for item in inputs[1:3])
        else:
            extents, strides = node.integers("ksize"), node.integers("strides")
        window = Window.of(node, len(extents), strides)
        kernel = extents[2:] if window.first else extents[1:-1]
        if extents[0] != 1 or extents[1 if window.first else -1] != 1:
            raise UnsupportedError("it pools over the batch or the channels")
        value = e.node(
            op, [window.value(e, x)], kernel_shape=kernel, strides=window.strides, **window.padding_of(x, kernel)
        )
        return e.tensor(value, moved=not window.first)

    return emit


def _batch_norm(e: Emitter, node: Node, inputs: Inputs) -> list[Tensor]:
    x, scale, offset, mean, variance = inputs
    first = node.text("data_format", "NHWC").startswith("NC")
    value = e.plain(x) if first else e.first(x)
    epsilon = node.number("epsilon", 1e-4)
    if node.flag("is_training", True):
        return [e.tensor(_by_own_moments(e, x, value, scale, offset, epsilon), moved=not first)]
    parts = [e.plain(part) for part in (scale, offset, mean, variance)]
    y = e.node("BatchNormalization", [value, *parts], epsilon=epsilon)
    return [e.tensor(y, moved=not first), mean, variance, mean, variance]


def _by_own_moments(e: Emitter, x: Tensor, value: ir.Value, scale: Tensor, offset: Tensor, epsilon: float) -> ir.Value:
    axes = e.constant([0, *range(2, x.rank)], np.int64, tag="axes")
    mean = e.node("ReduceMean", [value, axes], tag="mean", keepdims=1)
    centred = e.node("Sub", [value, mean], tag="centred")
    square = e.node("Mul", [centred, centred], tag="square")
    variance = e.node("ReduceMean", [square, axes], tag="variance", keepdims=1)
    root = e.node("Sqrt", [e.node("Add", [variance, e.like(x, epsilon)], tag="add")], tag="root")
    columns = [e.unsqueeze(e.plain(part), list(range(1, x.rank - 1))) for part in (scale, offset)]
    normal = e.node("Div", [centred, root], tag="normal")
    return e.node("Add", [e.node("Mul", [normal, columns[0]], tag="scaled"), columns[1]])


def _lrn(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    size = 2 * node.integer("depth_radius", 5) + 1
    value = e.node(
        "LRN", [e.first(inputs[0])], size=size, bias=node.number("bias", 1.0),
        alpha=node.number("alpha", 1.0) * size, beta=node.number("beta", 0.5),
    )  # fmt: skip
    return e.tensor(value, moved=True)


def _depth(op: str) -> Emit:
    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        layout = node.text("data_format", "NHWC")
        if layout not in ("NHWC", "NCHW"):
            raise UnsupportedError(f"the layout {layout}")
        value = e.plain(inputs[0]) if layout == "NCHW" else e.first(inputs[0])
        return e.tensor(e.node(op, [value], blocksize=node.integer("block_size")), moved=layout == "NHWC")

    return emit


def _dim(e: Emitter, value: ir.Value, axis: int) -> ir.Value:
    return e.node("Shape", [value], tag="dim", start=axis, end=axis + 1)


def _space_to_batch(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """Rows of blocks of the image, each place of a block as an image of its own, all along the batch."""
    x, block, pads = inputs[0], inputs[1].integers("block_shape"), inputs[2]
    count, rank = len(block), x.rank
    origin = None
    if pads.array is not None:
        rows = tuple((int(a), int(b)) for a, b in pads.array.tolist())
        origin = Blocks(x, tuple(block), rows)
        before = [0, *(row[0] for row in rows), *[0] * (rank - 1 - count)]
        after = [0, *(row[1] for row in rows), *[0] * (rank - 1 - count)]
        amounts = e.constant(before + after, np.int64, tag="pads")
    else:
        columns = e.transpose(e.int64(pads), [1, 0])
        widths = e.constant([0, 1, 0, rank - 1 - count], np.int64, tag="widths")
        amounts = e.reshape(e.node("Pad", [columns, widths], tag="around"), [-1])
    value = e.node("Pad", [e.plain(x), amounts, e.constant(0, numpy_type(x.kind), tag="zero")], tag="pad")
    parts = [_dim(e, value, 0)]
    for i, size in enumerate(block):
        step = e.constant([size], np.int64, tag="block")
        parts += [e.node("Div", [_dim(e, value, 1 + i), step], tag="blocks"), step]
    parts += [_dim(e, value, axis) for axis in range(1 + count, rank)]
    value = e.node("Reshape", [value, e.node("Concat", parts, tag="apart", axis=0)], tag="blocks")
    order = [*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2), *range(2 * count + 1, rank + count)]
    rest = [parts[1 + 2 * i] for i in range(count)] + parts[1 + 2 * count :]
    shape = e.node("Concat", [e.constant([-1], np.int64, tag="all"), *rest], tag="together", axis=0)
    result = e.node("Reshape", [e.transpose(value, order), shape])
    return replace(e.tensor(result), origin=origin)


def _batch_to_space(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x, block, crops = inputs[0], inputs[1].integers("block_shape"), inputs[2]
    if (
        isinstance(x.origin, Blocks)
        and x.origin.convolution
        and x.origin.block == tuple(block)
        and crops.array is not None
    ):
        found = _dilated(e, x.origin, crops.array.tolist())
        if found is not None:
            return found
    value, count, rank = e.plain(x), len(block), x.rank
    dims = [_dim(e, value, axis) for axis in range(1, rank)]
    steps = [e.constant([size], np.int64, tag="block") for size in block]
    apart = e.node("Concat", [*steps, e.constant([-1], np.int64, tag="batch"), *dims], tag="apart", axis=0)
    value = e.node("Reshape", [value, apart], tag="blocks")
    order = [count]
    for i in range(count):
        order += [count + 1 + i, i]
    order += range(2 * count + 1, rank + count)
    wide = [e.node("Mul", [dim, step], tag="wide") for dim, step in zip(dims[:count], steps, strict=True)]
    shape = e.node("Concat", [e.constant([-1], np.int64, tag="all"), *wide, *dims[count:]], tag="together", axis=0)
    value = e.node("Reshape", [e.transpose(value, order), shape], tag="space")
    columns = e.transpose(e.int64(crops), [1, 0])
    starts, ends = (
        e.node("Gather", [columns, e.constant(i, np.int64, tag="row")], tag=tag, axis=0)
        for i, tag in enumerate(("s", "e"))
    )
    stops = e.node("Sub", [e.node("Concat", wide, tag="sizes", axis=0), ends], tag="stops")
    return e.tensor(e.node("Slice", [value, starts, stops, e.constant(range(1, count + 1), np.int64, tag="axes")]))


def _dilated(e: Emitter, blocks: Blocks, crops: list[list[int]]) -> Tensor | None:
    """One dilated convolution for one done on blocks: the rate is the block, padding is what was not cut off."""
    assert blocks.convolution is not None
    node, kernel = blocks.convolution
    if kernel.rank != 2 + len(blocks.block):
        return None
    rows = [(pad[0] - crop[0], pad[1] - crop[1]) for pad, crop in zip(blocks.pads, crops, strict=True)]
    if any(side < 0 for row in rows for side in row):
        return None
    window = replace(Window.of(node, kernel.rank), dilations=blocks.block)
    convolve = _convolve_depthwise if node.op.startswith("Depthwise") else _convolve
    name, e.name = e.name, node.name
    result = convolve(e, blocks.x, kernel, window, _pads(rows))
    e.name = name
    return result


OPERATORS: dict[str, Emit] = {
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "_FusedConv2D": _fused_convolution,
    "FusedConv2D": _fused_convolution,
    "_FusedDepthwiseConv2dNative": _fused_convolution,
    "FusedDepthwiseConv2dNative": _fused_convolution,
    "Conv2DBackpropInput": _transposed,
    "Conv3DBackpropInputV2": _transposed,
    "MaxPool": _pool("MaxPool"),
    "MaxPoolV2": _pool("MaxPool"),
    "MaxPool3D": _pool("MaxPool"),
    "AvgPool": _pool("AveragePool"),
    "AvgPool3D": _pool("AveragePool"),
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "LRN": _lrn,
    "SpaceToDepth": _depth("SpaceToDepth"),
    "DepthToSpace": _depth("DepthToSpace"),
    "SpaceToBatchND": _space_to_batch,
    "BatchToSpaceND": _batch_to_space,
}
