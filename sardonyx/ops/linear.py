"""Matrix products: Gemm, MatMul, and the implicit product that convolutions use too."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import ExprBuilder
from sardonyx.compiler.kernels.gemm import ImplicitGemm, PackPanels, pack_panels, tile_costs
from sardonyx.compiler.layout import uniform_stride
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.errors import InvalidModelError
from sardonyx.ops.places import consumed, epilogue_of, matrix_place
from sardonyx.ops.table import FLOATS, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_FLOPS_PER_FLOAT = 16
"""A kernel's multiply-adds weighed against elementwise work, when a chunk is chosen."""


def pack(ctx: Lowering, value: ir.Value, matrix: View, width: int, vectors: int) -> View:
    """Panels of `value` seen as [groups, n, taps, channels]: packed once when it is known, else by a step."""
    groups, n, taps, channels = matrix.dims
    if ctx.is_known(value):

        def panels_of(known: np.ndarray) -> np.ndarray:
            flat = np.ascontiguousarray(known).reshape(-1)[matrix.offset :]
            steps = tuple(s * known.itemsize for s in matrix.strides)
            return pack_panels(np.lib.stride_tricks.as_strided(flat, matrix.dims, steps, writeable=False), width)

        layout = ("panels", matrix.dims, matrix.strides, matrix.offset, width)
        return ctx.packed_weights(value, layout, panels_of, f"{value.name} in panels of {width}")
    if taps != 1 and uniform_stride((taps, channels), matrix.strides[2:]) is None:
        matrix = ctx.copied(matrix)
    row = uniform_stride((taps, channels), matrix.strides[2:])
    assert row is not None
    panels = -(-n // width)
    target = ctx.temporary((groups, panels, taps * channels, width), matrix.dtype)
    group_stride, column = matrix.strides[0], matrix.strides[1]
    ctx.step(
        PackPanels(vectors, column == 1 or n == 1, matrix.dtype),
        arguments(
            b=matrix,
            y=target,
            depth=taps * channels,
            n=n,
            b_group=group_stride,
            b_row=row,
            b_column=column,
            panels=panels,
        ),
        domain=groups * panels,
        label=f"pack {value.name}",
        cost=taps * channels * width,
    )
    return target


def register_tile(ctx: Lowering, node: ir.Node, dtype: DType, m: int, n: int, depth: int) -> tuple[int, int]:
    """(rows, vectors) of the register tile for a product of m rows, n columns and `depth` terms."""
    costs = tile_costs(ctx.target, dtype, m, n)
    return ctx.choices.best(("tile", dtype.value, m, n, depth), costs, costs.__getitem__, node.name or "")


def blocking(ctx: Lowering, groups: int, tiles: int, tile_bytes: int, panels: int) -> int:
    """Tiles in a block: as many as half of L2 holds the inputs of, but enough items for all threads, and all alike."""
    block = max(1, min(tiles, (ctx.target.l2_bytes // 2) // max(1, tile_bytes)))
    while block > 1 and groups * panels * -(-tiles // block) < 4 * ctx.threads:
        block = -(-block // 2)
    return -(-tiles // -(-tiles // block))


def fetched_ahead(ctx: Lowering, packed: View) -> bool:
    """Whether weights are better asked for before they are used: those of small layers are in the cache already."""
    return packed.size * packed.dtype.size > ctx.target.l2_bytes


@dataclass(frozen=True)
class Axes:
    """Which axes of a product's result walk its rows, its columns and its groups."""

    rows: tuple[int, ...]
    column: int | None
    groups: tuple[int, ...] = ()


def product(
    ctx: Lowering,
    node: ir.Node,
    a: View,
    b: tuple[ir.Value, View],
    dims: tuple[int, ...],
    axes: Axes,
    prelude: tuple[tuple[str, View], ...] = (),
) -> None:
    """y[g, m, n] = sum over k of a[g, m, k] * b[g, k, n], for views of three dims; `dims` are the node's own."""
    (groups, m, depth), (value, matrix) = a.dims, b
    n = matrix.dims[2]
    fusion = ctx.fusion(node, dims, a.dtype, matrix_place(axes.rows, axes.column, axes.groups), prelude)
    y = ctx.result(fusion.output, dims, fusion.expr.dtype)
    if prod(dims) == 0:
        return
    epilogue, operands = epilogue_of(fusion)
    rows, vectors = register_tile(ctx, node, a.dtype, m, n, depth)
    width = vectors * ctx.target.lanes(a.dtype)
    strides = (matrix.strides[0], matrix.strides[2], 0, matrix.strides[1])
    as_weights = View(matrix.buffer, matrix.dtype, (matrix.dims[0], n, 1, depth), strides, matrix.offset)
    packed = pack(ctx, value, as_weights, width, vectors)
    panels, tiles = -(-n // width), -(-m // rows)
    block = blocking(ctx, groups, tiles, rows * depth * a.dtype.size, panels)
    blocks = -(-tiles // block)
    ahead, contiguous = tiles > 1 and fetched_ahead(ctx, packed), a.strides[2] == 1
    ctx.step(
        ImplicitGemm(rows, vectors, 0, a.dtype, epilogue, border=False, ahead=ahead, contiguous=contiguous),
        arguments(
            x=a,
            w=packed,
            zeros=ctx.zeros(1, a.dtype),
            y=y,
            m=m,
            n=n,
            channels=depth,
            x_channel=a.strides[2],
            x_row=a.strides[1],
            x_group=a.strides[0],
            w_panel=depth * width,
            w_group=panels * depth * width if matrix.dims[0] > 1 else 0,
            y_row=n,
            y_group=m * n,
            panels=panels,
            blocks=blocks,
            block_tiles=block,
        )
        | operands,
        domain=groups * panels * blocks,
        label=fusion.label,
        cost=block * rows * width * depth / _FLOPS_PER_FLOAT,
        consumes=consumed(epilogue),
    )


@lowers("Gemm", dtypes=FLOATS)
def gemm(ctx: Lowering, node: ir.Node) -> None:
    """alpha * A' * B' + beta * C, A and B transposed as asked (a matter of strides)."""
    a, b = ctx.view(node.inputs[0]), ctx.view(node.inputs[1])
    if node.attributes.get_int("transA", 0):
        a = a.permute((1, 0))
    if node.attributes.get_int("transB", 0):
        b = b.permute((1, 0))
    if a.dims[1] != b.dims[0]:
        raise InvalidModelError(
            "the matrices do not fit", where=node.name, expected=f"{a.dims[1]} rows in B", got=str(b.dims[0])
        )
    prelude: list[tuple[str, View]] = []
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    if alpha != 1.0:
        prelude.append(("mul", _number(ctx, alpha, a.dtype)))
    c = node.inputs[2] if len(node.inputs) > 2 else None
    if c is not None:
        prelude.append(("add", _scaled(ctx, c, beta)))
    dims = (a.dims[0], b.dims[1])
    value = node.inputs[1]
    assert value is not None
    product(ctx, node, _grouped(a), (value, _grouped(b)), dims, Axes((0,), 1), tuple(prelude))


def _number(ctx: Lowering, value: float, dtype: DType) -> View:
    return ctx.constant(np.full((), value, dtype.numpy))


def _scaled(ctx: Lowering, value: ir.Value, factor: float) -> View:
    """`value` times a number: at once when it is known, else by a step."""
    known = ctx.known(value)
    if factor == 1.0:
        return ctx.view(value)
    if known is not None:
        return ctx.constant((known * known.dtype.type(factor)).astype(known.dtype))
    view = ctx.view(value)
    e = ExprBuilder()
    leaf = e.leaf(view.dtype)
    expr = e.build(e.op("mul", leaf, e.const(factor, view.dtype)))
    target = ctx.temporary(view.dims, view.dtype)
    ctx.elementwise(expr, [view], target, f"scale {value.name}")
    return target


def _grouped(matrix: View) -> View:
    return View(matrix.buffer, matrix.dtype, (1, *matrix.dims), (0, *matrix.strides), matrix.offset)


@lowers("MatMul", dtypes=FLOATS)
def matmul(ctx: Lowering, node: ir.Node) -> None:
    """NumPy's matmul: vectors get a dim of 1 that the result drops, leading dims broadcast."""
    a, b = ctx.view(node.inputs[0]), ctx.view(node.inputs[1])
    value = node.inputs[1]
    assert value is not None
    dims_a, dims_b = a.dims, b.dims
    left = a if len(dims_a) > 1 else View(a.buffer, a.dtype, (1, *dims_a), (0, *a.strides), a.offset)
    right = b if len(dims_b) > 1 else View(b.buffer, b.dtype, (*dims_b, 1), (*b.strides, 0), b.offset)
    if left.dims[-1] != right.dims[-2]:
        raise InvalidModelError(
            "the matrices do not fit",
            where=node.name,
            expected=f"{left.dims[-1]} rows in the second",
            got=str(right.dims[-2]),
        )
    batch = tuple(int(d) for d in np.broadcast_shapes(left.dims[:-2], right.dims[:-2]))
    m, n = left.dims[-2], right.dims[-1]
    dims = (*batch, *((m,) if len(dims_a) > 1 else ()), *((n,) if len(dims_b) > 1 else ()))
    lead = len(batch)
    column = len(dims) - 1 if len(dims_b) > 1 else None
    rows = (lead,) if len(dims_a) > 1 else ()
    if prod(right.dims[:-2]) == 1:  # one matrix for all: the batch is more rows
        step = uniform_stride(left.dims[:-1], left.strides[:-1])
        if step is None:
            left = ctx.copied(left)
            step = left.dims[-1]
        flat = (1, prod(left.dims[:-1]), left.dims[-1])
        a = View(left.buffer, left.dtype, flat, (0, step, left.strides[-1]), left.offset)
        one = View(right.buffer, right.dtype, (1, *right.dims[-2:]), (0, *right.strides[-2:]), right.offset)
        product(ctx, node, a, (value, one), dims, Axes((*range(lead), *rows), column))
        return
    pair = (value, _batched(ctx, right, batch))
    product(ctx, node, _batched(ctx, left, batch), pair, dims, Axes(rows, column, tuple(range(lead))))


def _batched(ctx: Lowering, view: View, batch: tuple[int, ...]) -> View:
    """The matrices as [groups, rows, columns], copied when one stride cannot walk them."""
    full = view.broadcast((*batch, *view.dims[-2:]))
    stride = uniform_stride(full.dims[:-2], full.strides[:-2])
    if stride is None:
        full = ctx.copied(full)
        stride = prod(full.dims[-2:])
    dims = (prod(batch), *full.dims[-2:])
    return View(full.buffer, full.dtype, dims, (stride, *full.strides[-2:]), full.offset)
