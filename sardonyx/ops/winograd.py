"""Convolutions by Winograd's algorithm: where it pays, and in which blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import config
from sardonyx.compiler.dims import hint
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.gemm import tile_for
from sardonyx.compiler.kernels.winograd import HEAD_WORDS, TAPS, Winograd, transform_weights
from sardonyx.compiler.layout import CACHE_LINE, uniform_stride
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.ops.places import consumed, epilogue_of
from sardonyx.ops.windows import Windows

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.fuse import Fusion
    from sardonyx.compiler.lower import Lowering
    from sardonyx.compiler.target import Target


_SHARE_OF_L2 = 0.7
"""Of the second-level cache, for a block's transformed inputs and a panel's products."""
_CYCLES_TO_ENTER = {2: 48, 4: 140}
"""For a vector of a patch's channels to be transformed, by outputs of a tile (measured)."""
_CYCLES_TO_LEAVE = {2: 43, 4: 140}
"""For a vector of a tile's filters to be transformed back and stored (measured)."""
_L3_BYTES_A_CYCLE, _MEMORY_BYTES_A_CYCLE = 10.0, 5.0
"""A thread's share (measured)."""
_OVERLAP_LOST = 0.1
"""Of the shorter of computing and reading, which does not quite vanish behind the longer."""
_CYCLES_A_REGISTER_TILE = 25
"""To begin and end one (measured)."""
_MOST_ROWS = 16
"""Register tiles of one depth in a block at most, unless tiles are few."""
_MOST_SCRATCH = 4
"""Caches of the second level that a thread's scratch memory may fill at most."""
_OF_A_KIND = 2
"""Plans that differ in the size of blocks alone, to be candidates."""
_WORTH = 0.85
"""Of direct convolution's cycles, at most, for Winograd's algorithm to be chosen."""


@dataclass(frozen=True)
class Geometry:
    """A convolution in planes as the kernel sees it: of a volume, or of an image, which is a volume one deep."""

    batch: int
    channels: int
    filters: int
    taps: int
    stride: int
    dilation: int
    pad: int
    size: tuple[int, int, int]
    out: tuple[int, int, int]
    pads: tuple[int, int]
    strides: tuple[int, int, int, int]
    y_row: int

    @classmethod
    def of(cls, x: View, y: View, shape: Windows) -> Geometry | None:
        """The geometry of a 3x3 or [d, 3, 3] convolution with steps of 1 in the planes; None for others."""
        row = uniform_stride((y.dims[0], *y.dims[2:]), (y.strides[0], *y.strides[2:]))
        planar = (shape.taps[-2:], shape.stride[-2:], shape.dilation[-2:]) == ((TAPS, TAPS), (1, 1), (1, 1))
        if not planar or row is None:
            return None
        deep = len(shape.taps) == 3
        return cls(
            batch=x.dims[0],
            channels=x.dims[1],
            filters=y.dims[1],
            taps=shape.taps[0] if deep else 1,
            stride=shape.stride[0] if deep else 1,
            dilation=shape.dilation[0] if deep else 1,
            pad=shape.before[0] if deep else 0,
            size=(shape.size[0] if deep else 1, shape.size[-2], shape.size[-1]),
            out=(shape.out[0] if deep else 1, shape.out[-2], shape.out[-1]),
            pads=(shape.before[-2], shape.before[-1]),
            strides=(x.strides[0], x.strides[2] if deep else 0, x.strides[-2], x.strides[-1]),
            y_row=row,
        )

    def now(self) -> Geometry:
        """The same with the dims of the call that the program is made for: enough to weigh costs by."""
        parts: dict[str, Any] = {
            name: tuple(map(hint, of)) if isinstance(of, tuple) else hint(of) for name, of in vars(self).items()
        }
        return replace(self, **parts)

    def tiles(self, outputs: int) -> int:
        """Tiles of one depth of all volumes."""
        return self.batch * -(-self.out[1] // outputs) * -(-self.out[2] // outputs)

    @property
    def dense(self) -> bool:
        """Whether neighbouring depths see neighbouring planes, so that a block can hold several."""
        return self.stride == self.dilation == 1


@dataclass(frozen=True)
class WinogradPlan:
    """How a convolution is cut: outputs of a tile's side, register tile, and tiles, depths and panels of a block."""

    geometry: Geometry
    outputs: int
    rows: int
    vectors: int
    tile_block: int
    depth_block: int
    panel_block: int

    @property
    def positions(self) -> int:
        """Products of a tile for one channel and filter."""
        return (self.outputs + TAPS - 1) ** 2

    @property
    def planes(self) -> int:
        """Input planes of a block."""
        return self.depth_block + self.geometry.taps - 1


def winograd_plan(ctx: Lowering, node: ir.Node, x: View, y: View, shape: Windows) -> WinogradPlan | None:
    """The blocks in which Winograd's algorithm is fastest, if it beats direct convolution."""
    geometry = Geometry.of(x, y, shape)
    if geometry is None or x.dtype is not DType.F32 or config.ACCURACY.get() == "exact":
        return None
    if min(geometry.channels, geometry.filters) < 2 * ctx.target.lanes(x.dtype):
        return None
    model = _Model(ctx.target, ctx.threads)
    now = geometry.now()
    plans = ctx.once(("winograd", now), lambda: model.candidates(now))
    best = ctx.choices.best(("winograd", now), (None, *plans), lambda plan: model.cost(now, plan), node.name or "")
    return None if best is None else replace(best, geometry=geometry)


@dataclass(frozen=True)
class _Model:
    """What convolutions cost, in cycles of the thread with the most to do."""

    target: Target
    threads: int

    def candidates(self, geometry: Geometry) -> list[WinogradPlan]:
        """The cheapest plans, and those that are so with other tiles or other numbers of panels in a block."""
        kinds: dict[tuple[int, int], list[tuple[float, WinogradPlan]]] = {}
        for plan in self.plans(geometry):
            kinds.setdefault((plan.outputs, plan.panel_block), []).append((self.cycles(plan), plan))
        return [plan for ways in kinds.values() for _, plan in sorted(ways, key=lambda way: way[0])[:_OF_A_KIND]]

    def cost(self, geometry: Geometry, plan: WinogradPlan | None) -> float:
        """To choose by: of None, direct convolution, which is taken unless it costs clearly more."""
        return _WORTH * self.direct(geometry) if plan is None else self.cycles(plan)

    def plans(self, geometry: Geometry) -> Iterator[WinogradPlan]:
        """Ways to cut a convolution, those with too much scratch memory left out."""
        deep, threads, filters = geometry.out[0], self.threads, geometry.filters
        for outputs in (2, 4):
            tiles = geometry.tiles(outputs)
            for rows, vectors in {tile_for(self.target, DType.F32, m, filters) for m in (1 << 20, tiles * deep)}:
                panels = -(-filters // (vectors * self.target.lanes(DType.F32)))
                depths = {-(-deep // part) for part in (1, 2, 3, 4, 6, 8)} if geometry.dense else {1}
                counts = {min(tiles, rows * k) for k in range(1, _MOST_ROWS + 1)}
                counts |= {-(-tiles // part) for part in range(1, 7)}
                groups = {-(-panels // share) for share in (1, threads, 2 * threads)}
                for depth, count, group in product(depths, counts, groups):
                    plan = WinogradPlan(geometry, outputs, rows, vectors, count, depth, group)
                    if self.scratch(plan) <= _MOST_SCRATCH * self.target.l2_bytes:
                        yield plan

    def scratch(self, plan: WinogradPlan) -> int:
        """Bytes of a block's transformed inputs and of a panel's products."""
        inputs = plan.tile_block * plan.planes * plan.geometry.channels
        products = plan.tile_block * plan.depth_block * plan.vectors * self.target.lanes(DType.F32)
        return plan.positions * (inputs + products) * DType.F32.size

    def cycles(self, plan: WinogradPlan) -> float:
        """Of a thread's items: products or the reading of their operands, whichever takes longer, and transforms."""
        geometry, lanes = plan.geometry, self.target.lanes(DType.F32)
        width, channels = plan.vectors * lanes, geometry.channels
        panels = -(-geometry.filters // width)
        groups = -(-panels // plan.panel_block)
        blocks = -(-geometry.tiles(plan.outputs) // plan.tile_block) * -(-geometry.out[0] // plan.depth_block)
        turn = max(plan.rows * plan.vectors / 2, 4.0)
        register_tiles = -(-plan.tile_block * plan.depth_block // plan.rows) * plan.positions * plan.panel_block
        products = register_tiles * (geometry.taps * channels * turn + _CYCLES_A_REGISTER_TILE)
        panel = plan.positions * geometry.taps * channels * width * DType.F32.size
        reading = panel * plan.panel_block / self._weight_speed(panel * plan.panel_block, panel * panels)
        entering = float(plan.tile_block * plan.planes * -(-channels // lanes) * _CYCLES_TO_ENTER[plan.outputs])
        leaving = plan.tile_block * plan.depth_block * plan.panel_block * plan.vectors * _CYCLES_TO_LEAVE[plan.outputs]
        scratch = self.scratch(plan)
        if scratch > self.target.l2_bytes * _SHARE_OF_L2:  # Written once, and read again for each panel.
            entering += scratch / _L3_BYTES_A_CYCLE
            reading += scratch * plan.panel_block / _L3_BYTES_A_CYCLE
        item = max(products, reading) + _OVERLAP_LOST * min(products, reading) + entering + leaving
        return -(-blocks * groups // self.threads) * item

    def direct(self, geometry: Geometry) -> float:
        """Of direct convolution: two vectors of multiply-adds a cycle, and its share of the weights."""
        filter_size = geometry.taps * TAPS * TAPS * geometry.channels
        pixels = geometry.batch * geometry.out[0] * geometry.out[1] * geometry.out[2]
        products = pixels * filter_size * geometry.filters / (2 * self.target.lanes(DType.F32))
        weights = filter_size * geometry.filters * DType.F32.size
        return max(products, weights / self._weight_speed(weights, weights)) / self.threads

    def _weight_speed(self, block: int, total: int) -> float:
        """Bytes a cycle at which a thread reads the weights of a block, out of the cache in which they stay.

        Those of other layers go through the third-level cache too, so a large layer's are not there the next time.
        """
        if block <= self.target.l2_bytes // 2:
            return 32.0
        return _L3_BYTES_A_CYCLE if total <= self.target.l3_bytes // 4 else _MEMORY_BYTES_A_CYCLE


def winograd(ctx: Lowering, node: ir.Node, x: View, fusion: Fusion, y: View, plan: WinogradPlan) -> None:
    """Lower a convolution with known weights as planned."""
    geometry, lanes = plan.geometry, ctx.target.lanes(x.dtype)
    width, channels = plan.vectors * lanes, geometry.channels
    panels, u = -(-geometry.filters // width), _weights(ctx, node, plan, width)
    zeros = ctx.zeros(channels, x.dtype)
    tiles, line = geometry.tiles(plan.outputs), CACHE_LINE // x.dtype.size
    chunk = max(lanes, ctx.target.l1_bytes // (3 * plan.positions * x.dtype.size) // line * line)
    # A line more than needed between positions: at powers of two apart they would share a few sets of the caches.
    v_row = -(-channels // line) * line
    v_position = plan.tile_block * plan.planes * v_row + line
    z_position = -(-plan.tile_block * plan.depth_block // plan.rows) * plan.rows * width + line
    v_at = HEAD_WORDS * 8 // x.dtype.size + plan.positions * max(chunk, width)
    z_at = v_at + plan.positions * v_position
    epilogue, operands = epilogue_of(fusion)
    blocks = (-(-tiles // plan.tile_block), -(-geometry.out[0] // plan.depth_block), -(-panels // plan.panel_block))
    x_batch, x_d, x0, x1 = geometry.strides
    ctx.step(
        Winograd(plan.outputs, plan.rows, plan.vectors, x.dtype, epilogue),
        arguments(x=x, u=u, y=y, zeros=zeros, tiles=tiles, tile_block=plan.tile_block)
        | arguments(down=-(-geometry.out[1] // plan.outputs), across=-(-geometry.out[2] // plan.outputs))
        | arguments(tile_blocks=blocks[0], depths=geometry.out[0], depth_block=plan.depth_block, channels=channels)
        | arguments(chunk=chunk, n=geometry.filters, panels=panels, panel_block=plan.panel_block, taps=geometry.taps)
        | arguments(size_d=geometry.size[0], size0=geometry.size[1], size1=geometry.size[2], out0=geometry.out[1])
        | arguments(out1=geometry.out[2], stride_d=geometry.stride, dilation_d=geometry.dilation, pad_d=geometry.pad)
        | arguments(pad0=geometry.pads[0], pad1=geometry.pads[1], x_batch=x_batch, x_d=x_d, x0=x0, x1=x1)
        | arguments(y_row=geometry.y_row, v_at=v_at, v_row=v_row, v_position=v_position, z_at=z_at)
        | arguments(z_position=z_position)
        | operands,
        domain=blocks[0] * blocks[1] * blocks[2],
        label=fusion.label,
        cost=plan.tile_block * plan.depth_block * geometry.taps * channels * plan.panel_block * width,
        scratch=(z_at + plan.positions * z_position) * x.dtype.size,
        consumes=consumed(epilogue),
    )


def _weights(ctx: Lowering, node: ir.Node, plan: WinogradPlan, width: int) -> View:
    """The transformed filters, made once a session where they are constants."""
    value = node.inputs[1]
    assert value is not None
    taps = plan.geometry.taps

    def transformed(known: np.ndarray) -> np.ndarray:
        return transform_weights(known.reshape(*known.shape[:2], taps, TAPS, TAPS), plan.outputs, width)

    layout = ("winograd", taps, plan.outputs, width)
    return ctx.packed_weights(value, layout, transformed, f"{value.name} transformed")
