"""Matrix products: Gemm and MatMul, and what products and convolutions share: packed weights, tiles, blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import broadcast_dims, exactly, hint, is_one, is_one_of, is_open, least, most, same
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import ExprBuilder
from sardonyx.compiler.kernels.dots import Dots
from sardonyx.compiler.kernels.gemm import PackPanels, pack_panels, tile_costs
from sardonyx.compiler.kernels.matmul import COLUMNS, PANELS, ROWS, TURNS, MatMul, PackRows
from sardonyx.compiler.layout import uniform_stride
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.errors import InvalidModelError
from sardonyx.ops.places import consumed, epilogue_of, matrix_place
from sardonyx.ops.table import FLOATS, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.fuse import Fusion
    from sardonyx.compiler.lower import Lowering

PRODUCTS = FLOATS | {DType.I32, DType.I64, DType.U32, DType.U64}
"""Types that matrices are multiplied in; sums of integers wrap."""
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
    m = max(hint(m), _FEW_ROWS) if is_open((m,)) else m  # where rows are few now there may be many another time
    costs = tile_costs(ctx.target, dtype, m, n)
    return ctx.choices.best(("tile", dtype.value, m, n, depth), costs, costs.__getitem__, node.name or "")


def blocking(ctx: Lowering, groups: int, tiles: int, tile_bytes: int, panels: int) -> int:
    """Tiles in a block: as many as half of L2 holds the inputs of, but enough items for all threads, and all alike."""
    room = max(1, (ctx.target.l2_bytes // 2) // max(1, tile_bytes))
    if is_open((tiles,)):
        block = most(1, least(room, tiles * groups * panels // (4 * ctx.threads)))
        return -(-tiles // -(-tiles // block))
    block = max(1, min(tiles, room))
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
    b: tuple[ir.Value | None, View],
    dims: tuple[int, ...],
    axes: Axes,
    prelude: tuple[tuple[str, View], ...] = (),
) -> None:
    """y[g, m, n] = sum over k of a[g, m, k] * b[g, k, n], with what follows the node; `dims` are the node's own.

    A view has three dims, or four when g walks two axes of them.
    """
    value, right = b
    if is_one(right.dims[-1]) and not is_one(a.dims[-2]) and len(axes.rows) == 1:
        # A matrix times a vector: the same transposed.
        swap = (*range(len(a.dims) - 2), len(a.dims) - 1, len(a.dims) - 2)
        axes, a, value, right = Axes((), axes.rows[0], axes.groups), right.permute(swap), None, a.permute(swap)
    fusion = ctx.fusion(node, dims, a.dtype, matrix_place(axes.rows, axes.column, axes.groups), prelude)
    y = ctx.result(fusion.output, dims, fusion.expr.dtype)
    if prod(dims):
        multiply(ctx, node, a, (value, right), y, fusion)


def multiply(ctx: Lowering, node: ir.Node, a: View, b: tuple[ir.Value | None, View], y: View, fusion: Fusion) -> None:
    """The step of a product that is not empty, into a row-major y. `b` comes with its value if it is a node's input."""
    a, (value, right) = _four(a), (b[0], _four(b[1]))
    single = not ctx.is_known(value) and is_one_of(a.dims[2], right.dims[2:])
    if single and same(right.strides[2], 1) and not is_one(right.dims[3]):
        _dots(ctx, a if a.strides[3] == 1 else ctx.copied(a), right, y, fusion)
        return
    (outer, inner, m, depth), n = a.dims, right.dims[3]
    epilogue, operands = epilogue_of(fusion)
    rows, vectors = product_tile(ctx, node, a.dtype, n, depth)
    if single:
        rows, vectors = 1, _vectors_of_a_row(ctx, a.dtype, n)
    width = vectors * ctx.target.lanes(a.dtype)
    panels, tiles, groups = -(-n // width), -(-m // rows), outer * inner
    longest = most(TURNS, ctx.target.l1_bytes // (width * a.dtype.size))
    chunk = -(-(depth // most(1, depth // longest) + 1) // TURNS) * TURNS
    together = _PANELS_TOGETHER if type(depth) is int and depth >= 2 * longest else 1
    parts, block = -(-panels // together), -(-_BLOCK_ROWS // rows)
    blocks = most(-(-tiles // block), least(tiles, -(-4 * ctx.threads // most(1, groups * parts))))
    second = _second(ctx, value, right, width)
    several = type(m) is not int or m > rows
    packed = second.source == PANELS and groups == 1 and a.strides[3] == 1 and several
    straight, ahead = a.strides[3] == 1 or depth == 1, packed and fetched_ahead(ctx, second.view)
    kernel = MatMul(rows, vectors, second.source, a.dtype, epilogue, straight, packed, ahead)
    a = _packed_rows(ctx, a, rows) if packed else a
    ctx.step(
        kernel,
        _factors(a, second, y)
        | arguments(m=m, n=n, panels=panels, together=together, blocks=blocks, chunk=chunk)
        | arguments(x_row=a.strides[2], x_column=a.strides[3], w_step=second.step, y_row=n, y_group=m * n)
        | operands,
        domain=groups * parts * blocks,
        label=fusion.label,
        cost=hint(-(-tiles // blocks) * together * rows * width * depth) / _FLOPS_PER_FLOAT,
        scratch=kernel.scratch(ctx.target, together, block, 2 * longest + TURNS),
        consumes=consumed(epilogue),
    )


def _packed_rows(ctx: Lowering, a: View, rows: int) -> View:
    """One matrix in tiles of at most `rows` rows (`PackRows`), once for all products that read it like that."""

    def make() -> View:
        m, depth = a.dims[2:]
        y = ctx.temporary((1, 1, m, depth), a.dtype)
        ctx.step(
            PackRows(rows, a.dtype),
            arguments(x=a, y=y, m=m, depth=depth, x_row=a.strides[2]),
            domain=-(-m // rows),
            label="pack rows",
            cost=rows * hint(depth),
        )
        return y

    place = (a.buffer.index, exactly((a.offset, a.dims, a.strides)), rows)
    return ctx.once(("rows", *place), make)


def _dots(ctx: Lowering, a: View, right: View, y: View, fusion: Fusion) -> None:
    """A vector times a matrix whose transpose has contiguous rows."""
    n, depth = right.dims[3], right.dims[2]
    epilogue, operands = epilogue_of(fusion)
    second = _Second(ROWS, right, right.strides[0], right.strides[1], right.strides[3])
    parts = -(-n // Dots.rows(ctx.target, a.dtype))
    ctx.step(
        Dots(a.dtype, epilogue),
        _factors(a, second, y) | arguments(n=n, parts=parts, w_row=second.step) | operands,
        domain=prod(a.dims[:2]) * parts,
        label=fusion.label,
        cost=Dots.rows(ctx.target, a.dtype) * hint(depth) / _FLOPS_PER_FLOAT,
        consumes=consumed(epilogue),
    )


_BLOCK_ROWS = 256
"""Of a product's first matrix that pass each panel of the second: so often is what is read of those used."""
_PANELS_TOGETHER = 2
"""Panels that a chunk of a block of the first matrix passes while it is near."""
_MOST_ROWS = 8
"""Of a product's tiles: there is code for each height."""
_FEW_ROWS = 96
"""Of an open number of rows: with more of them the last tile, which may be nearly empty, counts little."""
_MANY = 1 << 16
"""What stands for a number of rows, or of columns that is not known, when a tile is chosen."""


def product_tile(ctx: Lowering, node: ir.Node, dtype: DType, n: int, depth: int) -> tuple[int, int]:
    """(rows, vectors) of the tiles of a product with n columns, for any number of rows."""
    columns, terms = (size if type(size) is int else _MANY for size in (n, depth))
    costs = tile_costs(ctx.target, dtype, _MANY, columns)
    costs = {tile: cost for tile, cost in costs.items() if tile[0] <= _MOST_ROWS}
    return ctx.choices.best(("product", dtype.value, columns, terms), costs, costs.__getitem__, node.name or "")


def _vectors_of_a_row(ctx: Lowering, dtype: DType, n: int) -> int:
    """Vectors of a tile of one row: many, for long runs of a matrix that is read once, but none that are empty."""
    most_columns = 8 * ctx.target.lanes(dtype)
    if type(n) is not int:
        return 8
    panels = -(-n // most_columns)
    return -(-n // (panels * ctx.target.lanes(dtype)))


@dataclass(frozen=True)
class _Second:
    """A product's second matrix as its kernel reads it: `MatMul` explains the source and the step."""

    source: str
    view: View
    outer: int
    group: int
    step: int


def _factors(a: View, second: _Second, y: View) -> dict[str, View | int]:
    """The arguments that all kernels of products have."""
    groups = arguments(x_outer=a.strides[0], x_group=a.strides[1], w_outer=second.outer, w_group=second.group)
    return arguments(x=a, w=second.view, y=y, depth=a.dims[3], inner=a.dims[1]) | groups


def _second(ctx: Lowering, value: ir.Value | None, b: View, width: int) -> _Second:
    """Constants in panels, the same for all groups only once; others as they lie, or copied when no axis is dense."""
    _, inner, depth, n = b.dims
    if value is not None and ctx.is_known(value):
        strides = tuple(0 if d == 1 else s for d, s in zip(b.dims[:2], b.strides[:2], strict=True))
        own = [(d, s) for d, s in zip(b.dims[:2], strides, strict=True) if s]
        step = uniform_stride([d for d, _ in own], [s for _, s in own])
        if step is not None:
            dims = (prod(d for d, _ in own), n, 1, depth)
            matrix = View(b.buffer, b.dtype, dims, (step, b.strides[3], 0, b.strides[2]), b.offset)
            packed = pack(ctx, value, matrix, width, width // ctx.target.lanes(b.dtype))
            panel, group = depth * width, packed.strides[0]
            inside = group if strides[1] else 0
            across = (group * inner if strides[1] else group) if strides[0] else 0
            return _Second(PANELS, packed, across, inside, panel)
    if b.strides[3] != 1 and n != 1 and b.strides[2] != 1 and depth != 1:
        b = ctx.copied(b)
    columns = b.strides[3] == 1 or n == 1
    return _Second(COLUMNS if columns else ROWS, b, b.strides[0], b.strides[1], b.strides[2 if columns else 3])


def _four(matrices: View) -> View:
    """With two axes of groups."""
    lead = 4 - len(matrices.dims)
    dims, strides = (1,) * lead + matrices.dims, (0,) * lead + matrices.strides
    return View(matrices.buffer, matrices.dtype, dims, strides, matrices.offset)


def _whole_factors(node: ir.Node) -> str | None:
    of = node.inputs[0]
    floating = of is None or of.dtype is None or of.dtype.is_floating_point()
    factors = (node.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))
    return None if floating or all(f.is_integer() for f in factors) else "integers times a fraction"


@lowers("Gemm", dtypes=PRODUCTS, supports=_whole_factors)
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


@lowers("MatMul", dtypes=PRODUCTS)
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
    batch = broadcast_dims(left.dims[:-2], right.dims[:-2])
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
    left, stacked = batched(ctx, left, right, batch)
    pair = (value if stacked.buffer is right.buffer else None, stacked)
    product(ctx, node, left, pair, dims, Axes(rows, column, tuple(range(lead))))


def batched(ctx: Lowering, left: View, right: View, batch: tuple[int, ...]) -> tuple[View, View]:
    """Both stacks of matrices, stretched to `batch`, as [outer, inner, rows, columns].

    The batch is cut where two strides walk the axes of both; copied when there is no such place.
    """
    pair = [view.broadcast((*batch, *view.dims[-2:])) for view in (left, right)]
    for cut in range(len(batch)):
        levels = [_levels(view, cut) for view in pair]
        if all(levels):
            break
    else:
        levels = [_levels(view, 0) or _levels(ctx.copied(view), 0) for view in pair]
    one, other = levels
    assert one is not None
    assert other is not None
    return one, other


def _levels(view: View, cut: int) -> View | None:
    """The axes before `cut` as one, those from there to the matrices' own as another, if a stride each walks them."""
    parts = [slice(0, cut), slice(cut, len(view.dims) - 2)]
    steps = [uniform_stride(view.dims[part], view.strides[part]) for part in parts]
    sizes = [prod(view.dims[part]) for part in parts]
    if steps[0] is None or steps[1] is None:
        return None
    strides = (steps[0], steps[1], *view.strides[-2:])
    return View(view.buffer, view.dtype, (*sizes, *view.dims[-2:]), strides, view.offset)
