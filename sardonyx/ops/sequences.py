"""Running sums and products, slices chosen by a condition, determinants."""

from __future__ import annotations

from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.sequence import Compress, Cumulate, Determinant
from sardonyx.compiler.kernels.unique import Unique
from sardonyx.compiler.lower import arguments
from sardonyx.ops.limits import check_result
from sardonyx.ops.table import ALL, FLOATS, NUMBERS, axis_of, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering
    from sardonyx.compiler.program import View


@lowers("CumSum", "CumProd", dtypes=NUMBERS, known=(1,))
def cumulate(ctx: Lowering, node: ir.Node) -> None:
    """Along an axis, forwards or backwards, with or without the element itself."""
    x, given = ctx.row_major(node.inputs[0]), ctx.known(node.inputs[1])
    assert given is not None
    axis = axis_of(int(given.reshape(-1)[0]), len(x.dims))
    y = ctx.result(node.outputs[0], x.dims, x.dtype)
    if y.size == 0:
        return
    exclusive, reverse = (bool(node.attributes.get_int(name, 0)) for name in ("exclusive", "reverse"))
    length, inner = x.dims[axis], prod(x.dims[axis + 1 :])
    lanes = ctx.target.lanes(DType.F32)
    blocks = -(-inner // lanes)
    ctx.step(
        Cumulate("add" if node.op_type == "CumSum" else "mul", exclusive, reverse, x.dtype),
        arguments(x=x, y=y, length=length, inner=inner, blocks=blocks),
        domain=prod(x.dims[:axis]) * blocks,
        label=node.name or node.op_type,
        cost=length * lanes,
    )


@lowers("Compress", dtypes=ALL, counts=True)
def compress(ctx: Lowering, node: ir.Node) -> None:
    """The slices across an axis, or the elements when there is none, for which a condition holds."""
    x, condition = ctx.row_major(node.inputs[0]), ctx.row_major(node.inputs[1])
    axis = node.attributes.get_int("axis", None)
    dims = (x.size,) if axis is None else x.dims
    along = 0 if axis is None else axis_of(axis, len(dims))
    rows, length = condition.size, dims[along]
    if rows > length:
        raise ValueError(f"{rows} conditions for {length} slices")
    result = ctx.counted(node.outputs[0], dims, x.dtype, along)
    if x.size == 0:
        return
    n = prod(dims[along + 1 :])
    ctx.step(
        Compress(x.dtype),
        arguments(x=x, condition=condition, y=result.view, total=result.count, rows=rows, length=length, n=n),
        domain=prod(dims[:along]),
        label=node.name or node.op_type,
        writes=("y", "total"),
        cost=rows * n,
    )


@lowers("Det", dtypes=FLOATS)
def determinant(ctx: Lowering, node: ir.Node) -> None:
    """Of the matrices that the last two dims are."""
    x = ctx.row_major(node.inputs[0])
    if len(x.dims) < 2 or x.dims[-1] != x.dims[-2]:
        raise ValueError(f"{list(x.dims)} where square matrices belong")
    y = ctx.result(node.outputs[0], x.dims[:-2], x.dtype)
    n = x.dims[-1]
    if y.size == 0:
        return
    lanes = ctx.target.lanes(x.dtype)
    pitch = -(-n // lanes) * lanes
    check_result(node, (n, pitch), x.dtype)
    ctx.step(
        Determinant(x.dtype),
        arguments(x=x, y=y, n=n, pitch=pitch),
        domain=y.size,
        label=node.name or node.op_type,
        scratch=n * pitch * x.dtype.size,
        cost=n * n * n,
    )


@lowers("Unique", dtypes=NUMBERS, counts=True)
def unique(ctx: Lowering, node: ir.Node) -> None:
    """The distinct slices across an axis, or elements when there is none, with their first places, the places of all
    among them, and how often each occurs.
    """
    x, axis = ctx.row_major(node.inputs[0]), node.attributes.get_int("axis", None)
    dims = (x.size,) if axis is None else x.dims
    along = 0 if axis is None else axis_of(axis, len(dims))
    length, label = dims[along], node.name or node.op_type
    shapes = [(dims, x.dtype, along), *(((length,), DType.I64, 0) for _ in range(3))]
    results: list[tuple[View, View]] = []
    for value, shape in zip_longest(node.outputs, shapes):
        if value is not None and value.name:
            made = ctx.counted(value, *shape)
            results.append((made.view, made.count))
        else:
            results.append((ctx.temporary(shape[0], shape[1]), ctx.temporary((), DType.I64)))
    if x.size == 0:
        return
    names, totals = ("y", "first", "inverse", "counts"), ("y_total", "first_total", "inverse_total", "counts_total")
    ctx.step(
        Unique(bool(node.attributes.get_int("sorted", 1)), x.dtype),
        arguments(x=x, outer=prod(dims[:along]), length=length, inner=prod(dims[along + 1 :]))
        | {name: view for name, (view, _) in zip(names, results, strict=True)}
        | {name: count for name, (_, count) in zip(totals, results, strict=True)}
        | arguments(levels=(length - 1).bit_length()),
        domain=1,
        label=label,
        writes=(*names, *totals),
        scratch=Unique.scratch(length),
    )
