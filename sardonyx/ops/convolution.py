"""Convolutions: through the implicit matrix product, or depthwise."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import hint, is_open
from sardonyx.compiler.expr import identity
from sardonyx.compiler.kernels.depthwise import Depthwise, DepthwiseRows
from sardonyx.compiler.kernels.gemm import ImplicitGemm, dot_tile, pack_dot
from sardonyx.compiler.layout import uniform_stride
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View, channels_last, row_major
from sardonyx.errors import InvalidModelError
from sardonyx.ops.linear import blocking, fetched_ahead, pack, register_tile
from sardonyx.ops.pad import bordered
from sardonyx.ops.places import consumed, epilogue_of, matrix_place, pixel_stride, planes_place, result_stride
from sardonyx.ops.table import FLOATS, lowers
from sardonyx.ops.windows import Windows, in_planes, plane_windows, sweep_tile, windows
from sardonyx.ops.winograd import winograd, winograd_plan

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.fuse import Fusion
    from sardonyx.compiler.lower import Lowering


_UNROLLED = 24
"""Elements of the longest run that is unrolled."""
_UNROLLED_TURNS = 64
"""Elements of all the runs of one axis, at most, for them to be unrolled too."""
_ROW_TAPS = 9
"""Taps of a row, at most, for a depthwise convolution to unroll them."""
_DOT_FILTERS = 4
"""At most, for vectors to run along the channels of the input instead."""
_FEW_CHANNELS = 4
"""At most, for an image whose channels lie apart to be read as it is."""
_PLANE_ZEROS = 256
"""No fewer than the columns that a vector of pixels of a plane sees."""


def _rank(node: ir.Node) -> str | None:
    # Where a branch's results go in, the weights alone may tell.
    shape = next((value.shape for value in node.inputs[:2] if value is not None and value.shape is not None), None)
    if shape is None:
        return "the rank of its input is not known"
    return None if 3 <= len(shape) <= 5 else f"{len(shape) - 2} spatial dimensions"


@lowers("Conv", dtypes=FLOATS, supports=_rank)
def conv(ctx: Lowering, node: ir.Node) -> None:
    """Convolution in 1, 2 or 3 dimensions with groups, strides, dilations and paddings."""
    w = ctx.view(node.inputs[1])
    group = node.attributes.get_int("group", 1)
    x, filters = ctx.view(node.inputs[0]), w.dims[0]
    channels = x.dims[1]
    if len(w.dims) != len(x.dims) or w.dims[1] * group != channels or filters % group:
        raise InvalidModelError(
            "the weights do not fit the input",
            where=node.name,
            expected=f"[a multiple of {group}, {channels} / {group}, {len(x.dims) - 2} window sizes]",
            got=str(list(w.dims)),
        )
    shape = windows(node, x.dims[2:], w.dims[2:], where=node.name or "Conv")
    dims = (x.dims[0], filters, *shape.out)
    spatial = len(shape.out)
    as_planes, depthwise = group == 1 and _few_planes(x, w), group == channels == filters and w.dims[1] == 1
    planes = depthwise and in_planes(ctx, x, shape, weighed=True)
    if not as_planes and not planes:
        x = ctx.channels_last(node.inputs[0])
    place = planes_place if planes else matrix_place((0, *range(2, 2 + spatial)), 1, columns=filters // group)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    prelude: tuple[tuple[str, View], ...] = ()
    if bias is not None:
        prelude = (("add", along_channels(ctx.view(bias), spatial)),)
    fusion = ctx.fusion(node, dims, x.dtype, place, prelude)
    strides = row_major(dims) if planes else channels_last(dims)
    y = ctx.result(fusion.output, dims, fusion.expr.dtype, strides, accepts=place)
    if y.size == 0:
        return
    if planes:
        weights = arguments(w=ctx.row_major(node.inputs[1]), zeros=ctx.zeros(_PLANE_ZEROS, x.dtype))
        plane_windows(ctx, x, shape, fusion, y, "weighed", identity(x.dtype), weights)
    elif depthwise:
        _depthwise(ctx, node, x, w, shape, fusion, y)
    elif group == 1 and ctx.is_known(node.inputs[1]) and (plan := winograd_plan(ctx, node, x, y, shape)):
        winograd(ctx, node, x, fusion, y, plan)
    elif as_planes and all(pad >= 0 for pad in (*shape.before, *shape.after)):
        _over_planes(ctx, node, x, w, shape, fusion, y)
    else:
        _implicit_gemm(ctx, node, x, w, shape, fusion, y, group)


def _few_planes(x: View, w: View) -> bool:
    """Whether the input is an image of few channels as people hand it in, each channel a plane."""
    return 0 < x.dims[1] <= _FEW_CHANNELS and x.strides[-1] == 1 and prod(w.dims[2:]) > 1


def _over_planes(ctx: Lowering, node: ir.Node, x: View, w: View, shape: Windows, fusion: Fusion, y: View) -> None:
    """The channels as one more axis that windows span: planes are read where they are, rows of taps as one run.

    Padding is copied around the image: with so few channels a test for each tap costs more than the product.
    """
    label = f"{node.name} input"
    if any(shape.before) or any(shape.after):
        x = bordered(ctx, x, (0, 0, *shape.before), (0, 0, *shape.after), label)

    def deeper(view: View) -> View:
        batch, channels, *spatial = view.dims
        dims, steps = (batch, 1, channels, *spatial), (view.strides[0], 1, *view.strides[1:])
        return View(view.buffer, view.dtype, dims, steps, view.offset)

    none = (0,) * (len(shape.taps) + 1)
    taps, stride, dilation = (x.dims[1], *shape.taps), (1, *shape.stride), (1, *shape.dilation)
    over = Windows((x.dims[1], *x.dims[2:]), (1, *shape.out), taps, stride, dilation, none, none)
    flat = View(y.buffer, y.dtype, (*y.dims[:2], 1, *y.dims[2:]), (*y.strides[:2], 0, *y.strides[2:]), y.offset)
    _implicit_gemm(ctx, node, deeper(x), deeper(w), over, fusion, flat, 1)


def along_channels(vector: View, spatial: int) -> View:
    """A vector [C] as [C, 1, ...], to be stretched over an image."""
    dims, strides = (*vector.dims, *(1,) * spatial), (*vector.strides, *(0,) * spatial)
    return View(vector.buffer, vector.dtype, dims, strides, vector.offset)


def _implicit_gemm(
    ctx: Lowering, node: ir.Node, x: View, w: View, shape: Windows, fusion: Fusion, y: View, group: int
) -> None:
    depth, n = x.dims[1] // group, y.dims[1] // group
    strides = (w.strides[0] * n, w.strides[0], _tap_stride(w), w.strides[1])
    as_weights = View(w.buffer, w.dtype, (group, n, prod(shape.taps), depth), strides, w.offset)
    value = node.inputs[1]
    assert value is not None
    lanes = ctx.target.lanes(x.dtype)
    if n <= lanes // 2 and n <= _DOT_FILTERS and depth % lanes == 0 and group == 1 and ctx.is_known(value):
        filters, taps = n, prod(shape.taps)

        def pack_filters(known: np.ndarray) -> np.ndarray:
            return pack_dot(np.moveaxis(known.reshape(filters, depth, taps), 1, 2), lanes)

        packed = ctx.packed_weights(value, ("dot", filters, depth, taps, lanes), pack_filters, f"{value.name} to dot")
        implicit_gemm(ctx, x, packed, dot_tile(ctx.target, n), shape, fusion, y, group, dot=True)
        return
    rows, vectors = register_tile(ctx, node, x.dtype, x.dims[0] * shape.pixels, n, depth * prod(shape.taps))
    packed = pack(ctx, value, as_weights, vectors * lanes, vectors)
    implicit_gemm(ctx, x, packed, (rows, vectors), shape, fusion, y, group)


def implicit_gemm(
    ctx: Lowering,
    x: View,
    packed: View,
    tile: tuple[int, int],
    shape: Windows,
    fusion: Fusion,
    y: View,
    group: int,
    pixels: View | None = None,
    *,
    dot: bool = False,
) -> None:
    """Convolve `x` with weights packed for a register tile of (rows, vectors), or for `ImplicitGemm.dot`.

    `pixels` holds those of `y` that the windows compute, as int64 indices over images and axes; all of them in order
    when None.
    """
    depth, n = x.dims[1] // group, y.dims[1] // group
    # With one channel its stride never counts: that of the last axis joins the taps to one run.
    channel = x.strides[1] if x.dims[1] > 1 else x.strides[-1]
    m, taps = x.dims[0] * shape.pixels, prod(shape.taps)
    rows, vectors = tile
    width = vectors if dot else vectors * ctx.target.lanes(x.dtype)
    panels, tiles = -(-n // width), -(-m // rows)
    block = blocking(ctx, group, tiles, rows * taps * depth * x.dtype.size, panels)
    blocks = -(-tiles // block)
    epilogue, operands = epilogue_of(fusion)
    spatial, unrolled, geometry = _geometry(ctx, x, shape, (depth, channel), rows, dot=dot)
    kernel = ImplicitGemm(
        rows,
        vectors,
        spatial,
        x.dtype,
        epilogue,
        *unrolled,
        border=spatial > 0 and shape.reaches_out,
        dot=dot,
        ahead=fetched_ahead(ctx, packed) and unrolled == (0, 0),
        contiguous=channel == 1,
        scattered=pixels is not None,
    )
    zeros = ctx.zeros((depth - 1) * abs(channel) + 1, x.dtype)
    ctx.step(
        kernel,
        arguments(x=x, w=packed, y=y, m=m, n=n, channels=depth, zeros=zeros)
        | arguments(x_channel=channel, x_group=depth * channel, y_row=result_stride(y), y_group=n)
        | arguments(w_panel=taps * depth * width, w_group=panels * taps * depth * width)
        | arguments(panels=panels, blocks=blocks, block_tiles=block)
        | ({} if pixels is None else arguments(pixels=pixels))
        | geometry
        | operands,
        domain=group * panels * blocks,
        label=fusion.label,
        cost=hint(block) * rows * width * taps * depth / 16,
        consumes=consumed(epilogue),
    )


def _geometry(
    ctx: Lowering, x: View, shape: Windows, channels: tuple[int, int], rows: int, *, dot: bool
) -> tuple[int, tuple[int, int], dict[str, View | int]]:
    """How windows are walked: over how many spatial axes (0 where a pixel is all of one), what of a window is unrolled,
    and the kernel's arguments for it. `channels` are how many of a group there are, and their stride.
    """
    pixel = pixel_stride(x)
    if shape.is_pointwise and pixel is not None:
        return 0, (0, 0), arguments(x_row=pixel)
    run = _Run.of(x, shape, *channels)
    unrolled = (0, 0) if dot else run.unrolled(shape, *channels)
    found = shape.arguments(x) | shape.tables(ctx, x, rows) | arguments(run=run.length, run_taps=run.count)
    return len(shape.out), unrolled, found


@dataclass(frozen=True)
class _Run:
    """Elements of a window that are contiguous in the input and in the weights, and how many such runs the last axis
    has: all its taps with their channels in one run when a pixel holds no others, else a run a tap.
    """

    length: int
    count: int

    @classmethod
    def of(cls, x: View, shape: Windows, depth: int, channel: int) -> _Run:
        taps = shape.taps[-1]
        joined = shape.dilation[-1] == 1 and x.strides[-1] == depth * channel
        return cls(taps * depth, 1) if joined else cls(depth, taps)

    def unrolled(self, shape: Windows, depth: int, channel: int) -> tuple[int, int]:
        """How much of it to unroll: (elements of a run, runs of the axis before the last)."""
        if channel != 1 or self.length > _UNROLLED:
            return 0, 0
        turns = shape.taps[-2] if len(shape.taps) > 1 else 1
        together = depth == self.count == 1 and not shape.reaches_out and turns * self.length <= _UNROLLED_TURNS
        return self.length, turns if together and turns > 1 else 0


def _tap_stride(w: View) -> int:
    """The one stride of a filter's taps; weights are dense."""
    return uniform_stride(w.dims[2:], w.strides[2:]) or 0


def _depthwise(ctx: Lowering, node: ir.Node, x: View, w: View, shape: Windows, fusion: Fusion, y: View) -> None:
    channels, taps = x.dims[1], prod(shape.taps)
    value = node.inputs[1]
    if not ctx.is_known(value):
        view = View(w.buffer, w.dtype, (taps, channels), (_tap_stride(w), w.strides[0]), w.offset)
        weights = ctx.copied(view)
    else:
        assert value is not None

        def by_tap(known: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(known.reshape(channels, taps).T)

        weights = ctx.packed_weights(value, ("depthwise", taps, channels), by_tap, f"{value.name} by tap")
    epilogue, operands = epilogue_of(fusion)
    pixels, vectors = sweep_tile(ctx.target.lanes(x.dtype), channels)
    spatial = len(shape.out)
    shared = arguments(x=x, w=weights, y=y, y_row=result_stride(y)) | shape.sweep(x) | operands
    kernel: Depthwise | DepthwiseRows = Depthwise(pixels, vectors, spatial, x.dtype, epilogue)
    if shape.taps[-1] <= _ROW_TAPS:
        last = (shape.taps[-1], shape.stride[-1], shape.dilation[-1])
        kernel = DepthwiseRows(*_row_tile(shape, pixels, vectors), spatial, *last, x.dtype, epilogue)
        shared |= arguments(zeros=ctx.zeros(channels, x.dtype))
    ctx.step(
        kernel,
        shared,
        domain=x.dims[0] * shape.rows,
        label=fusion.label,
        cost=hint(shape.out[-1]) * channels * taps / 4,
    )


def _row_tile(shape: Windows, pixels: int, vectors: int) -> tuple[int, int]:
    """(pixels, vectors) for a depthwise convolution with unrolled rows: as `sweep_tile` says, or more pixels and one
    vector, where that leaves fewer pixels to be computed twice or the taps more registers.
    """
    out = shape.out[-1]
    if out < pixels:  # open rows as short as this one are many: tiles for the shortest
        return (1 if out == 1 else 2 if is_open((out,)) else out), vectors
    if vectors == 1:
        return pixels, vectors
    now = hint(out)
    wide = min(range(5, 9), key=lambda p: -(-now // p) * p)
    costs = (-(-now // pixels) * pixels * (1.0 if shape.taps[-1] <= 3 else 1.2), -(-now // wide) * wide * 1.1)
    return (pixels, vectors) if costs[0] <= costs[1] or out < wide else (wide, 1)
