"""Convolutions: through the implicit matrix product, or depthwise."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx import config
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.depthwise import Depthwise
from sardonyx.compiler.kernels.gemm import ImplicitGemm, tile_for
from sardonyx.compiler.kernels.winograd import OUTPUT, POSITIONS, TABLE_WORDS, Winograd, transform_weights
from sardonyx.compiler.layout import uniform_stride
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View, channels_last
from sardonyx.errors import InvalidModelError
from sardonyx.ops.linear import blocking, pack
from sardonyx.ops.places import epilogue_of, matrix_place
from sardonyx.ops.table import FLOATS, lowers
from sardonyx.ops.windows import Windows, sweep_tile, windows

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.fuse import Fusion
    from sardonyx.compiler.lower import Lowering
    from sardonyx.compiler.target import Target


_SHARE_OF_L2 = 0.6
"""Of the second-level cache, for a block's transformed inputs and products."""
_CYCLES_A_TRANSFORM = 110
"""Cycles for a vector of a tile's channels to pass one transform (measured)."""
_L3_BYTES_A_CYCLE, _MEMORY_BYTES_A_CYCLE = 10.0, 5.0
"""A thread's share (measured)."""
_MOST_ROWS = 16
"""Register tiles in a block at most."""
_WORTH = 0.85
"""Of direct convolution's cycles, at most, for Winograd's algorithm to be chosen."""
_UNROLLED = 24
"""Elements of the longest run that is unrolled."""


def _rank(node: ir.Node) -> str | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return "the rank of its input is not known"
    return None if 3 <= len(shape) <= 5 else f"{len(shape) - 2} spatial dimensions"


@lowers("Conv", dtypes=FLOATS, supports=_rank)
def conv(ctx: Lowering, node: ir.Node) -> None:
    """Convolution in 1, 2 or 3 dimensions with groups, strides, dilations and paddings."""
    x, w = ctx.channels_last(node.inputs[0]), ctx.view(node.inputs[1])
    group = node.attributes.get_int("group", 1)
    channels, filters = x.dims[1], w.dims[0]
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
    place = matrix_place((0, *range(2, 2 + spatial)), 1, columns=filters // group)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    prelude: tuple[tuple[str, View], ...] = ()
    if bias is not None:
        prelude = (("add", _along_channels(ctx.view(bias), spatial)),)
    fusion = ctx.fusion(node, dims, x.dtype, place, prelude)
    y = ctx.result(fusion.output, dims, fusion.expr.dtype, channels_last(dims))
    if y.size == 0:
        return
    if group == channels == filters and w.dims[1] == 1:
        _depthwise(ctx, node, x, w, shape, fusion, y)
    elif group == 1 and ctx.known(node.inputs[1]) is not None and (plan := winograd_plan(ctx, x, y, shape)):
        _winograd(ctx, node, x, shape, fusion, y, plan)
    else:
        _implicit_gemm(ctx, node, x, w, shape, fusion, y, group)


def _along_channels(vector: View, spatial: int) -> View:
    """A vector [C] as [C, 1, ...], to be stretched over an image."""
    dims, strides = (*vector.dims, *(1,) * spatial), (*vector.strides, *(0,) * spatial)
    return View(vector.buffer, vector.dtype, dims, strides, vector.offset)


def _implicit_gemm(
    ctx: Lowering, node: ir.Node, x: View, w: View, shape: Windows, fusion: Fusion, y: View, group: int
) -> None:
    depth, n = x.dims[1] // group, y.dims[1] // group
    # With one channel its stride never counts: that of the last axis joins the taps to one run.
    channel = x.strides[1] if x.dims[1] > 1 else x.strides[-1]
    m, taps, spatial = x.dims[0] * shape.pixels, prod(shape.taps), len(shape.out)
    rows, vectors = tile_for(ctx.target, x.dtype, m, n)
    width = vectors * ctx.target.lanes(x.dtype)
    strides = (w.strides[0] * n, w.strides[0], _tap_stride(w), w.strides[1])
    as_weights = View(w.buffer, w.dtype, (group, n, taps, depth), strides, w.offset)
    value = node.inputs[1]
    assert value is not None
    packed = pack(ctx, value, as_weights, width, vectors)
    panels, tiles = -(-n // width), -(-m // rows)
    block = blocking(ctx, group, tiles, rows * taps * depth * x.dtype.size, panels)
    blocks = -(-tiles // block)
    epilogue, operands = epilogue_of(fusion)
    pixel = uniform_stride((x.dims[0], *x.dims[2:]), (x.strides[0], *x.strides[2:]))
    if shape.is_pointwise and pixel is not None:
        spatial, unrolled, geometry = 0, 0, arguments(x_row=pixel)
    else:
        run = _Run.of(x, shape, depth, channel)
        unrolled = run.length if channel == 1 and run.length <= _UNROLLED else 0
        geometry = _geometry(ctx, x, shape, rows) | arguments(run=run.length, run_taps=run.count)
    ctx.step(
        ImplicitGemm(rows, vectors, spatial, x.dtype, epilogue, unrolled),
        arguments(
            x=x,
            w=packed,
            y=y,
            m=m,
            n=n,
            channels=depth,
            zeros=ctx.zeros((depth - 1) * abs(channel) + 1, x.dtype),
            x_channel=channel,
            x_group=depth * channel,
            w_panel=taps * depth * width,
            w_group=panels * taps * depth * width,
            y_row=y.dims[1],
            y_group=n,
            panels=panels,
            blocks=blocks,
            block_tiles=block,
        )
        | geometry
        | operands,
        domain=group * panels * blocks,
        label=fusion.label,
        cost=block * rows * width * taps * depth / 16,
    )


def _geometry(ctx: Lowering, x: View, shape: Windows, rows: int) -> dict[str, View | int]:
    """The axes and the window tables, which layers of one shape share."""
    key = ("windows", shape, x.dims[0], x.strides, rows)
    tables = ctx.once(key, lambda: shape.tables(x, rows))
    return shape.arguments(x) | arguments(
        origins=ctx.constant(tables.origins, "origins of windows"),
        corners=ctx.constant(tables.corners, "corners of windows"),
        inside=ctx.constant(tables.inside, "tiles inside"),
        corner_axis=tables.origins.size,
    )


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


@dataclass(frozen=True)
class WinogradPlan:
    """Register tile, tiles of a block and of all images, for a convolution where Winograd's algorithm pays."""

    rows: int
    vectors: int
    block: int
    down: int
    across: int
    tiles: int


def winograd_plan(ctx: Lowering, x: View, y: View, shape: Windows) -> WinogradPlan | None:
    """The blocks in which F(4x4, 3x3) is fastest, if it beats direct convolution; by a model of a thread's cycles.

    Direct convolution does 9 multiply-adds an output and channel, two vectors of them a cycle. Winograd does 36 for
    16 outputs, reads all weights once a block, moves each tile's vectors through two transforms, and through the
    third-level cache when a block is too large for the second.
    """
    ones, lanes, size = (1, 1), ctx.target.lanes(x.dtype), x.dtype.size
    fits = shape.taps == (3, 3) and shape.stride == ones and shape.dilation == ones and x.dtype is DType.F32
    channels, n = x.dims[1], y.dims[1]
    if not fits or min(channels, n) < 2 * lanes or config.ACCURACY.get() == "exact":
        return None
    down, across = (-(-length // OUTPUT) for length in shape.out)
    tiles = x.dims[0] * down * across
    rows, vectors = tile_for(ctx.target, x.dtype, 1 << 20, n)
    padded = -(-n // (vectors * lanes)) * vectors * lanes
    weights = POSITIONS * channels * padded * size

    def cycles(block: int) -> float:
        """Of the thread with the most blocks."""
        products = POSITIONS * block * channels * padded / (2 * lanes)
        scratch = POSITIONS * block * (channels + padded) * size
        spilled = 2 * scratch / _L3_BYTES_A_CYCLE if scratch > ctx.target.l2_bytes * _SHARE_OF_L2 else 0.0
        moves = block * (channels + padded) / lanes * _CYCLES_A_TRANSFORM + spilled
        each = max(products, weights / _weight_speed(ctx.target, weights)) + moves
        blocks = -(-tiles // block)
        return -(-blocks // ctx.threads) * each

    most = max(1, -(-tiles // (ctx.threads * rows)))
    block = min((rows * k for k in range(1, min(most, _MOST_ROWS) + 1)), key=cycles)
    direct = x.dims[0] * shape.pixels * 9 * channels * n / (2 * lanes) / ctx.threads
    if cycles(block) > _WORTH * direct:
        return None
    return WinogradPlan(rows, vectors, block, down, across, tiles)


def _weight_speed(target: Target, weights: int) -> float:
    """Bytes a cycle at which a thread reads that many bytes of weights, from the cache they fit in."""
    if weights <= target.l2_bytes // 2:
        return 32.0
    return _L3_BYTES_A_CYCLE if weights <= target.l3_bytes // 2 else _MEMORY_BYTES_A_CYCLE


def _winograd(
    ctx: Lowering, node: ir.Node, x: View, shape: Windows, fusion: Fusion, y: View, plan: WinogradPlan
) -> None:
    width = plan.vectors * ctx.target.lanes(x.dtype)
    known, value, channels, n = ctx.known(node.inputs[1]), node.inputs[1], x.dims[1], y.dims[1]
    assert known is not None
    assert value is not None

    def make() -> np.ndarray:
        return transform_weights(known, width)

    stable = value.const_value is not None
    u = ctx.packed.get((id(value.const_value), "winograd", width), make) if stable else make()
    panels = -(-n // width)
    z_at = TABLE_WORDS * 2 + POSITIONS * plan.block * channels
    spare_at = z_at + POSITIONS * plan.block * panels * width
    epilogue, operands = epilogue_of(fusion)
    ctx.step(
        Winograd(plan.rows, plan.vectors, x.dtype, epilogue),
        arguments(x=x, u=ctx.constant(u, f"{value.name} transformed"), y=y, zeros=ctx.zeros(channels, x.dtype))
        | arguments(tiles=plan.tiles, down=plan.down, across=plan.across, block=plan.block, channels=channels, n=n)
        | arguments(panels=panels, size0=shape.size[0], size1=shape.size[1], out0=shape.out[0], out1=shape.out[1])
        | arguments(pad0=shape.before[0], pad1=shape.before[1], x_batch=x.strides[0], x0=x.strides[2])
        | arguments(x1=x.strides[3], y_row=n, z_at=z_at, spare_at=spare_at)
        | operands,
        domain=-(-plan.tiles // plan.block),
        label=fusion.label,
        cost=plan.block * channels * n,
        scratch=(spare_at + 2 * width) * x.dtype.size,
    )


def _tap_stride(w: View) -> int:
    """The one stride of a filter's taps; weights are dense."""
    return uniform_stride(w.dims[2:], w.strides[2:]) or 0


def _depthwise(ctx: Lowering, node: ir.Node, x: View, w: View, shape: Windows, fusion: Fusion, y: View) -> None:
    channels, taps = x.dims[1], prod(shape.taps)
    known, value = ctx.known(node.inputs[1]), node.inputs[1]
    if known is None:
        view = View(w.buffer, w.dtype, (taps, channels), (_tap_stride(w), w.strides[0]), w.offset)
        weights = ctx.copied(view)
    else:
        assert value is not None
        key = (id(value.const_value), "depthwise")

        def make() -> np.ndarray:
            return np.ascontiguousarray(known.reshape(channels, taps).T)

        weights = ctx.constant(ctx.packed.get(key, make) if value.const_value is not None else make())
    epilogue, operands = epilogue_of(fusion)
    pixels, vectors = sweep_tile(ctx.target.lanes(x.dtype), channels)
    ctx.step(
        Depthwise(pixels, vectors, len(shape.out), x.dtype, epilogue),
        arguments(x=x, w=weights, y=y, y_row=channels) | shape.sweep(x) | operands,
        domain=x.dims[0] * shape.rows,
        label=fusion.label,
        cost=shape.out[-1] * channels * taps / 4,
    )
