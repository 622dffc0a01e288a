"""Reading and writing at indices: Gather, Scatter and their kind. An index out of range is an ExecutionError."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.elementwise import BROADCAST, CONTIGUOUS, STRIDED
from sardonyx.compiler.kernels.indexing import REPLACE, GatherSlices, IndexElements, ScatterSlices
from sardonyx.compiler.layout import collapse, uniform_stride
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.ops.table import ALL, COMPUTED, axis_of, lowers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_BLOCK = 4096
"""Elements that one item copies."""
_COLUMNS = 256
"""Of slices that one item writes."""
_INDEX_COST = 8
"""Finding an element, beside copying one."""


@lowers("Gather", dtypes=ALL)
def gather(ctx: Lowering, node: ir.Node) -> None:
    """Slices across an axis. A single one that is known is a view."""
    x, chosen = ctx.view(node.inputs[0]), ctx.dims(node.inputs[1])
    axis = axis_of(node.attributes.get_int("axis", 0), len(x.dims))
    outer, size, inner = x.dims[:axis], x.dims[axis], x.dims[axis + 1 :]
    known = ctx.known(node.inputs[1])
    if known is not None and known.size == 1:
        index = int(known.reshape(-1)[0])
        if not -size <= index < size:
            raise ValueError(f"index {index} of {size}")
        dims = (*outer, *chosen, *inner)
        strides = (*x.strides[:axis], *(0 for _ in chosen), *x.strides[axis + 1 :])
        offset = x.offset + index % size * x.strides[axis]
        ctx.define(node.outputs[0], View(x.buffer, x.dtype, dims, strides, offset))
        return
    gather_slices(ctx, node, x, (*outer, *chosen, *inner), batch=axis, depth=1, each=False)


@lowers("GatherND", dtypes=ALL)
def gather_nd(ctx: Lowering, node: ir.Node) -> None:
    """Slices at tuples of indices, in each of the batches that the first dims are."""
    x, chosen = ctx.view(node.inputs[0]), ctx.dims(node.inputs[1])
    batch = node.attributes.get_int("batch_dims", 0)
    if not 0 <= batch < min(len(x.dims), len(chosen)) or x.dims[:batch] != chosen[:batch]:
        raise ValueError(f"{batch} dims of batches")
    depth = _depth(chosen, len(x.dims) - batch)
    dims = (*chosen[:-1], *x.dims[batch + depth :])
    gather_slices(ctx, node, x, dims, batch=batch, depth=depth, each=True)


def _depth(indices: Sequence[int], rank: int) -> int:
    """How many indices find a slice of a tensor with `rank` dims to choose from; ValueError when it has fewer."""
    if not indices or not 1 <= indices[-1] <= rank:
        raise ValueError(f"indices {list(indices)} into {rank} dims")
    return indices[-1]


def gather_slices(
    ctx: Lowering, node: ir.Node, x: View, dims: tuple[int, ...], *, batch: int, depth: int, each: bool
) -> None:
    """`batch` dims of x, then `depth` indexed ones, then slices; `each` batch has its own indices or all the same."""
    y = ctx.result(node.outputs[0], dims, x.dtype)
    if y.size == 0:
        return
    inner = batch + depth
    if not _walks_as_one(x, batch) or not _is_dense(x, inner):
        x = ctx.copied(x)
    indices, n = ctx.row_major(node.inputs[1]), prod(x.dims[inner:])
    rows = y.size // n // prod(x.dims[:batch])
    block = min(n, _BLOCK)
    blocks = -(-n // block)
    ctx.step(
        GatherSlices(depth, indices.dtype, x.dtype),
        arguments(x=x, indices=indices, y=y, rows=rows, n=n, blocks=blocks, block=block)
        | arguments(indices_batch=rows * depth if each else 0)
        | arguments(x_batch=uniform_stride(x.dims[:batch], x.strides[:batch]) or 0)
        | _indexed(ctx, node, x, range(batch, inner)),
        domain=y.size // n * blocks,
        label=node.name or node.op_type,
        writes=("y", "status"),
        cost=block + _INDEX_COST * depth,
    )


def _reduces_bits(node: ir.Node) -> str | None:
    value = node.inputs[0]
    kind = DType.of(value.dtype.numpy()) if value is not None and value.dtype is not None else None
    return f"{_combine(node)} of booleans" if kind is DType.BOOL and _combine(node) != REPLACE else None


def _combine(node: ir.Node) -> str:
    return node.attributes.get_string("reduction", REPLACE)


@lowers("ScatterND", dtypes=COMPUTED, supports=_reduces_bits)
def scatter_nd(ctx: Lowering, node: ir.Node) -> None:
    """A copy with slices at tuples of indices replaced by, or combined with, updates: one after the other."""
    x, chosen = ctx.view(node.inputs[0]), ctx.dims(node.inputs[1])
    depth = _depth(chosen, len(x.dims))
    if ctx.dims(node.inputs[2]) != (*chosen[:-1], *x.dims[depth:]):
        raise ValueError(f"updates {list(ctx.dims(node.inputs[2]))}")
    y = ctx.result(node.outputs[0], x.dims, x.dtype)
    ctx.copy(x, y, node.name or node.op_type)
    updates, indices = (ctx.row_major(value) for value in (node.inputs[2], node.inputs[1]))
    if updates.size == 0:
        return
    n = prod(x.dims[depth:])
    block, rows = min(n, _COLUMNS), updates.size // n
    ctx.step(
        ScatterSlices(depth, _combine(node), indices.dtype, x.dtype),
        arguments(updates=updates, indices=indices, y=y, rows=rows, n=n, block=block)
        | _indexed(ctx, node, y, range(depth)),
        domain=-(-n // block),
        label=node.name or node.op_type,
        writes=("y", "status"),
        cost=rows * (block + _INDEX_COST * depth),
    )


@lowers("GatherElements", dtypes=ALL)
def gather_elements(ctx: Lowering, node: ir.Node) -> None:
    """For each index the element at its own place but for the axis."""
    x, indices = ctx.view(node.inputs[0]), ctx.view(node.inputs[1])
    y = ctx.result(node.outputs[0], indices.dims, x.dtype)
    index_elements(ctx, node, x, indices, y, None, node.attributes.get_int("axis", 0))


@lowers("ScatterElements", "Scatter", dtypes=COMPUTED, supports=_reduces_bits)
def scatter_elements(ctx: Lowering, node: ir.Node) -> None:
    """A copy with elements replaced by, or combined with, updates, each at its own place but for the axis."""
    x, indices, updates = (ctx.view(value) for value in node.inputs)
    if updates.dims != indices.dims:
        raise ValueError(f"updates {list(updates.dims)} for indices {list(indices.dims)}")
    y = ctx.result(node.outputs[0], x.dims, x.dtype)
    ctx.copy(x, y, node.name or node.op_type)
    index_elements(ctx, node, y, indices, updates, _combine(node), node.attributes.get_int("axis", 0))


def index_elements(
    ctx: Lowering, node: ir.Node, x: View, indices: View, other: View, combine: str | None, along: int
) -> None:
    """Read x at indices along an axis into `other`, or combine what is in `other` into x."""
    axis, rank = axis_of(along, len(x.dims)), len(x.dims)
    if len(indices.dims) != rank or any(
        i > d for a, (i, d) in enumerate(zip(indices.dims, x.dims, strict=True)) if a != axis
    ):
        raise ValueError(f"indices {list(indices.dims)} into {list(x.dims)}")
    if indices.size == 0:
        return
    steps = [tuple(0 if a == axis else s for a, s in enumerate(x.strides)), indices.strides, other.strides]
    inner = [axis] if combine is not None else []  # else any will do
    axes = [a for a in range(rank) if a not in inner]
    nest = collapse([indices.dims[a] for a in axes], [[s[a] for a in axes] for s in (steps[2], *steps)])
    sizes = [*nest.sizes, *(indices.dims[a] for a in inner)] or [1]
    strides = [[*own, *(s[a] for a in inner)] or [0] for own, s in zip(nest.strides[1:], steps, strict=True)]
    *outer, n = sizes
    block = n if combine is not None else min(n, _BLOCK)
    loops = {f"size{at}": size for at, size in enumerate(outer)}
    for name, own in zip(("x", "indices", "other"), strides, strict=True):
        loops |= {f"{name}_step": own[-1], **{f"{name}_outer{at}": step for at, step in enumerate(own[:-1])}}
    found = _indexed(ctx, node, x, (axis,))
    of_x, of_indices, of_other = (own[-1] for own in strides)
    walk = CONTIGUOUS if of_indices == 1 else STRIDED
    if combine is None and of_indices == 0 and of_x == of_other == 1:
        walk = BROADCAST
    ctx.step(
        IndexElements(len(outer), combine, walk, indices.dtype, x.dtype),
        arguments(x=x, indices=indices, other=other, n=n, blocks=-(-n // block), block=block, status=found["status"])
        | arguments(size=found["size0"], x_axis=found["x0"])
        | loops,
        domain=prod(outer) * -(-n // block),
        label=node.name or node.op_type,
        writes=("other" if combine is None else "x", "status"),
        cost=block * _INDEX_COST,
    )


def _indexed(ctx: Lowering, node: ir.Node, x: View, axes: Sequence[int]) -> dict[str, View | int]:
    """The sizes and strides of the axes that indices choose from, and where to report one out of range."""
    sizes = [x.dims[axis] for axis in axes]
    if 0 in sizes:
        raise ValueError("indices into an empty axis")
    limits = " and ".join(f"{-size} to {size - 1}" for size in sizes)
    found = arguments(status=ctx.check(node, "an index is out of range", limits))
    for at, axis in enumerate(axes):
        found |= {f"size{at}": x.dims[axis], f"x{at}": x.strides[axis]}
    return found


def _walks_as_one(x: View, count: int) -> bool:
    """Whether the first `count` dims are one walk."""
    return uniform_stride(x.dims[:count], x.strides[:count]) is not None


def _is_dense(x: View, start: int) -> bool:
    """Whether the elements of the dims from `start` on lie side by side."""
    return prod(x.dims[start:]) == 1 or uniform_stride(x.dims[start:], x.strides[start:]) == 1
