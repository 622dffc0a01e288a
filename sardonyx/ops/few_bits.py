"""MatMulNBits: products with weights of 2, 4 or 8 bits, which stay so in memory."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.few_bits import FewBits
from sardonyx.compiler.lower import arguments
from sardonyx.errors import InvalidModelError
from sardonyx.ops.places import consumed, epilogue_of, matrix_place
from sardonyx.ops.table import lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

Array = np.ndarray[Any, Any]

_FLOPS_PER_FLOAT = 16
"""Multiply-adds weighed against elementwise work, when a chunk is chosen."""


def _form(node: ir.Node) -> str | None:
    given = node.attributes
    bits, block, n, k = (given.get_int(name, 0) for name in ("bits", "block_size", "N", "K"))
    bits = bits or 4
    if bits not in (2, 4, 8) or block < 16 or block & (block - 1) or n < 1 or k < 1 or k % (8 // bits):
        return f"{bits} bits in blocks of {block}"
    inputs = list(node.inputs)
    if len(inputs) > 4 and inputs[4] is not None:
        return "columns in another order"
    zeros = inputs[3] if len(inputs) > 3 else None
    if zeros is not None and (zeros.dtype is None or zeros.dtype.name != "UINT8"):
        return "zero points that are not packed"
    types = [None if value is None or value.dtype is None else value.dtype.name for value in inputs[1:3]]
    return None if types == ["UINT8", "FLOAT"] else f"weights of {types}"


@lowers(
    "MatMulNBits", dtypes=frozenset({DType.F32}), known=(1, 2, 3), supports=_form, domain="com.microsoft", folds=False
)
def matmul_nbits(ctx: Lowering, node: ir.Node) -> None:
    """x * ((codes - zeros) * scales)'; `B` is [N, blocks, bytes of a block], the first codes in the lowest bits."""
    get = node.attributes.get_int
    bits, block, n, depth = get("bits", 4) or 4, get("block_size"), get("N"), get("K")
    x, width = ctx.view(node.inputs[0]), FewBits.width(ctx.target)
    _require(ctx, node, (bits, block, n, depth))
    x = x if x.strides[-1] == 1 and len(x.dims) == 2 else ctx.row_major(node.inputs[0])
    m, blocks, size = prod(x.dims[:-1]), -(-depth // block), depth * bits // 8
    zeros = node.inputs[3] if len(node.inputs) > 3 else None
    bias = node.inputs[5] if len(node.inputs) > 5 else None
    weights = _weights(ctx, node, (n, blocks, size, width), bits)
    dims = (*x.dims[:-1], n)
    rank = len(dims)
    prelude = () if bias is None else (("add", ctx.view(bias)),)
    fusion = ctx.fusion(node, dims, x.dtype, matrix_place(tuple(range(rank - 1)), rank - 1), prelude)
    y = ctx.result(fusion.output, dims, fusion.expr.dtype)
    if y.size == 0:
        return
    epilogue, operands = epilogue_of(fusion)
    kernel = FewBits(bits, zeros is not None, epilogue)
    panels = -(-n // width)
    ctx.step(
        kernel,
        weights
        | arguments(x=x, y=y, m=m, n=n, depth=size, block=block * bits // 8, blocks=blocks)
        | arguments(x_row=x.strides[-2] if rank > 1 else 0)
        | operands,
        domain=panels * m,
        label=fusion.label,
        cost=width * depth / _FLOPS_PER_FLOAT,
        consumes=consumed(epilogue),
    )


def _require(ctx: Lowering, node: ir.Node, form: tuple[int, int, int, int]) -> None:
    """That the inputs are as large as the attributes say.

    Raises:
        InvalidModelError: one is not.
    """
    bits, block, n, depth = form
    blocks = -(-depth // block)
    columns = ctx.dims(node.inputs[0])[-1:]
    wanted = {0: depth, 1: n * blocks * block * bits // 8, 2: n * blocks, 3: n * -(-blocks * bits // 8), 5: n}
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        found = prod(columns) if index == 0 else prod(ctx.dims(value))
        if found != wanted.get(index) or (index == 0 and not columns):
            what = f"input {index} does not fit N = {n}, K = {depth}, bits = {bits} and block_size = {block}"
            raise InvalidModelError(what, where=f"node {node.name!r}", expected=f"{wanted.get(index)}", got=f"{found}")


def _weights(ctx: Lowering, node: ir.Node, dims: tuple[int, int, int, int], bits: int) -> dict[str, Any]:
    """Codes [panels, bytes, width], and scales and zeros [panels, blocks, width], columns past the last one 0."""
    n, blocks, size, width = dims
    w, scales, zeros = (node.inputs[at] if at < len(node.inputs) else None for at in (1, 2, 3))
    assert w is not None
    assert scales is not None

    def panels(rows: Array) -> Array:
        padded = np.zeros((-(-n // width) * width, rows.shape[1]), rows.dtype)
        padded[:n] = rows
        return np.ascontiguousarray(padded.reshape(-1, width, rows.shape[1]).transpose(0, 2, 1))

    def levels(known: Array) -> Array:
        fields = known.reshape(n, -1)[:, :, None] >> np.arange(0, 8, bits, dtype=np.uint8)
        return panels((fields & ((1 << bits) - 1)).astype(np.uint8).reshape(n, -1)[:, :blocks])

    made = [
        (w, "codes", lambda known: panels(known.reshape(n, -1)[:, :size])),
        (scales, "scales", lambda known: panels(known.reshape(n, blocks))),
    ]
    made += [] if zeros is None else [(zeros, "zeros", levels)]
    names = ("w", "scales", "zeros")
    return {
        name: ctx.packed_weights(value, ("few bits", what, dims, bits), pack, f"{what} of {value.name}")
        for name, (value, what, pack) in zip(names, made, strict=False)
    }
