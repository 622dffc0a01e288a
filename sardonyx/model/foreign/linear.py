"""Products: with activations, of transposed or quantised matrices."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.activations import activated
from sardonyx.model.foreign.body import Body, Results, defines


def _turned(b: Body, x: ir.Value, flip: int, batch: int) -> ir.Value:
    """The matrix with its two dims exchanged (`flip`), after its first batch dim was put before its last (`batch`)."""
    rank = b.rank(x) if flip or batch else 0
    if rank < 2:
        return x
    order = list(range(rank))
    if batch:  # the dims of the matrix are the first and the last; the others come before
        order = [*order[1:-1], 0, order[-1]]
    if flip:
        order[-2:] = order[:-3:-1]
    return b("Transpose", x, perm=order)


@defines("FusedMatMul", "TransposeMatMul")
def fused_matmul(b: Body) -> Results:
    """alpha * A * B, each transposed if so asked."""
    left = _turned(b, b.input(0), b.int("transA", 0), b.int("transBatchA", 0))
    right = _turned(b, b.input(1), b.int("transB", 0), b.int("transBatchB", 0))
    y, alpha = b("MatMul", left, right), b.float("alpha", 1.0)
    return y if alpha == 1 else b("Mul", y, b.scalar(alpha, y))


@defines("FusedGemm")
def fused_gemm(b: Body) -> Results:
    """Gemm and an activation."""
    kept = b.kept("alpha", "beta", "transA", "transB")
    y = b("Gemm", b.input(0), b.input(1), b.optional(2), **kept)
    alpha, beta = (
        b.float(name, 0.0) if name in b.node.attributes else None for name in ("activation_alpha", "activation_beta")
    )
    return activated(b, y, b.string("activation", ""), alpha, beta)


_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


@defines("FusedConv")
def fused_conv(b: Body) -> Results:
    """Conv, a sum and an activation."""
    y = b.sum(b("Conv", b.input(0), b.input(1), b.optional(2), **b.kept(*_CONV)), b.optional(3))
    return _conv_activation(b, y)


@defines("NhwcFusedConv")
def nhwc_fused_conv(b: Body) -> Results:
    """The same with channels last, in images as well as filters."""
    x, w = (channels_first(b, one) for one in (b.input(0), b.input(1)))
    y = channels_last(b, b("Conv", x, w, b.optional(2), **b.kept(*_CONV)))
    return _conv_activation(b, b.sum(y, b.optional(3)))


def _conv_activation(b: Body, y: ir.Value) -> ir.Value:
    given = [*b.node.attributes.get_floats("activation_params", ()), None, None]
    return activated(b, y, b.string("activation", ""), given[0], given[1])


def channels_first(b: Body, x: ir.Value) -> ir.Value:
    """[N, C, ...] of [N, ..., C]."""
    rank = b.rank(x)
    return b("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])


def channels_last(b: Body, x: ir.Value) -> ir.Value:
    """[N, ..., C] of [N, C, ...]."""
    rank = b.rank(x)
    return b("Transpose", x, perm=[0, *range(2, rank), 1])


@defines("MatMulInteger16")
def matmul_integer16(b: Body) -> Results:
    """The product of int16 matrices in int32."""
    unsigned = b.dtype(b.input(0)) == b.dtype(b.input(1)) == ir.DataType.UINT16
    kind = ir.DataType.UINT32 if unsigned else ir.DataType.INT32
    return b("MatMul", b.cast(b.input(0), kind), b.cast(b.input(1), kind))


def _to_float(b: Body, product: ir.Value, scale: ir.Value, bias: ir.Value | None) -> ir.Value:
    return b.sum(b("Mul", b.cast(product, b.dtype(scale)), scale), bias)


@defines("MatMulIntegerToFloat")
def matmul_integer_to_float(b: Body) -> Results:
    """The product of quantised matrices, in float."""
    product = b("MatMulInteger", b.input(0), b.input(1), b.optional(4), b.optional(5))
    return _to_float(b, product, b("Mul", b.input(2), b.input(3)), b.optional(6))


@defines("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(b: Body) -> Results:
    """The product of a matrix that is quantised for it and a quantised one."""
    x, scale, zero = b.many("DynamicQuantizeLinear", 3, b.input(0))
    product = b("MatMulInteger", x, b.input(1), zero, b.optional(3))
    return _to_float(b, product, b("Mul", scale, b.input(2)), b.optional(4))


@defines("MatMulNBits")
def matmul_nbits(b: Body) -> Results:
    """A times a matrix of few bits: `B` is [N, blocks, bytes of a block], the lowest bits first."""
    x, packed, scales, zeros = b.input(0), b.input(1), b.input(2), b.optional(3)
    bits, block, n, k = b.int("bits", 4), b.int("block_size"), b.int("N"), b.int("K")
    if bits not in (2, 4, 8) or block < 16 or block & (block - 1) or n < 1 or k < 1:
        b.refuse(f"{bits} bits in blocks of {block}")
    blocks = -(-k // block)
    codes = unpacked(b, packed, bits, (n, blocks, block), blocks * block)
    kind = b.dtype(scales)
    if zeros is None:
        levels: ir.Value = b.scalar(float(1 << (bits - 1)), scales)
    elif b.dtype(zeros) == ir.DataType.UINT8:
        wide = -(-blocks * bits // 8) * 8 // bits
        levels = b.cut(unpacked(b, zeros, bits, (n, wide), wide), [0], [blocks], 1)
        levels = b("Reshape", b.cast(levels, kind), [n, blocks, 1])
    else:
        levels = b("Reshape", zeros, [n, blocks, 1])
    scale = b("Reshape", scales, [n, blocks, 1])
    order = b.optional(4)
    if order is not None:  # the block of each column
        flat = b.cut(b("Reshape", codes, [n, blocks * block]), [0], [k], 1)
        order = b.cut(order, [0], [k], 0)
        levels, scale = (
            b("Gather", b("Reshape", b("Expand", one, [n, blocks, 1]), [n, blocks]), order, axis=1)
            for one in (levels, scale)
        )
        weights = b("Mul", b("Sub", b.cast(flat, kind), levels), scale)
    else:
        weights = b("Mul", b("Sub", b.cast(codes, kind), levels), scale)
        weights = b.cut(b("Reshape", weights, [n, blocks * block]), [0], [k], 1)
    y = b("MatMul", x, b("Transpose", b("CastLike", weights, x), perm=[1, 0]))
    return b.sum(y, b.optional(5))


def unpacked(b: Body, packed: ir.Value, bits: int, dims: tuple[int, ...], row: int) -> ir.Value:
    """Unsigned numbers of so many bits, one a byte, as `dims`, of which each row holds `row`."""
    if bits == 8:
        return b("Reshape", packed, list(dims))
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    split = b("BitShift", b("Reshape", packed, [-1, 1]), shifts, direction="RIGHT")
    return b("Reshape", b("BitwiseAnd", split, np.array((1 << bits) - 1, np.uint8)), list(dims))


@defines("CDist")
def cdist(b: Body) -> Results:
    """The distance (or its square) of each row of A to each of B."""
    metric = b.string("metric", "sqeuclidean")
    if metric not in ("euclidean", "sqeuclidean"):
        b.refuse(f"the metric {metric!r}")
    a, c = b.input(0), b.input(1)
    squares = [b("ReduceSumSquare", one, [1], keepdims=1) for one in (a, c)]
    product = b("MatMul", a, b("Transpose", c, perm=[1, 0]))
    cross = b("Mul", product, b.scalar(-2.0, a))
    total = b("Add", b("Add", cross, squares[0]), b("Transpose", squares[1], perm=[1, 0]))
    total = b("Max", total, b.scalar(0.0, a))
    return b("Sqrt", total) if metric == "euclidean" else total


@defines("Trilu")
def trilu(b: Body) -> Results:
    """As in the standard, whose it became."""
    return b("Trilu", b.input(0), b.optional(1), **b.kept("upper"))


@defines("ExpandDims")
def expand_dims(b: Body) -> Results:
    """Unsqueeze by one axis."""
    return b("Unsqueeze", b.input(0), b("Reshape", b.cast(b.input(1), ir.DataType.INT64), [1]))


@defines("BiasSoftmax")
def bias_softmax(b: Body) -> Results:
    """Softmax of a sum, over all dims from `axis` on, which must be the last one."""
    x, axis = b.input(0), b.int("axis", 1)
    if axis not in (-1, b.rank(x) - 1) or not b.int("is_inner_broadcast"):
        b.refuse(f"axis {axis} of {b.rank(x)} dims")
    return b("Softmax", b("Add", x, b.input(1)), axis=-1)
