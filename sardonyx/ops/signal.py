"""Fourier transforms, of whole signals and of frames of them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import hint
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import ExprBuilder
from sardonyx.compiler.kernels.fourier import Fourier
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.ops.limits import check_result
from sardonyx.ops.table import FLOATS, axis_of, lowers, opset

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Array, Lowering

_FACTORS = 64
"""More than a length of 64 bits has."""


def _radices(n: int) -> tuple[Array]:
    """How many, then each: fours and the primes of what is left, the largest first."""
    found: list[int] = []
    rest, factor = n, 4
    while rest > 1:
        while rest % factor == 0:
            found.append(factor)
            rest //= factor
        factor = {4: 2, 2: 3}.get(factor, factor + 2)
        if factor * factor > rest > 1 and factor > 3:
            found.append(rest)
            rest = 1
    found.sort(reverse=True)
    table = np.zeros(_FACTORS + 1, np.int64)
    table[: len(found) + 1] = [len(found), *found]
    return (table,)


def _roots(n: int, sign: int) -> tuple[Array]:
    """e ** (sign * 2 pi i k / n) for k < n: real parts, then imaginary ones. Eighths of a turn are exact."""
    turns = np.arange(n, dtype=np.int64)
    octant, rest = np.divmod(8 * turns, n)
    odd = octant % 2 == 1
    angle = np.where(odd, n - rest, rest) * (np.pi / (4 * n))  # at most an eighth of a turn
    near, far = np.cos(angle), np.sin(angle)
    a, b = np.where(odd, far, near), np.where(odd, near, far)
    quarter = octant // 2
    cos = np.choose(quarter, [a, -b, -a, b])
    sin = np.choose(quarter, [b, a, -b, -a])
    return (np.concatenate([cos, sign * sin]),)


def _transform(
    ctx: Lowering, node: ir.Node, x: View, y: View, n: int, *, inverse: bool = False, mirrored: bool = False
) -> None:
    """Along the last but one axis of dense tensors, whose last axis has the parts of a number."""
    label = node.name or node.op_type
    rows, lanes = prod(x.dims[:-2]), ctx.target.lanes(DType.F64)
    width = lanes if hint(rows) > lanes // 2 else 1
    check_result(node, (4, n, width), DType.F64)
    (radices,) = ctx.computed(_radices, (n,), ((DType.I64, (_FACTORS + 1,)),), "radices")
    sign = 1 if inverse else -1
    (roots,) = ctx.computed(lambda n: _roots(n, sign), (n,), ((DType.F64, (2 * n,)),), "roots")
    (factor,) = ctx.computed(lambda n: (np.full(1, 1.0 / n if inverse else 1.0),), (n,), ((DType.F64, (1,)),), "factor")
    ctx.step(
        Fourier(x.dims[-1] == 2, mirrored, y.dims[-1] == 1, width, x.dtype),
        arguments(x=x, y=y, roots=roots, radices=radices, factor=factor)
        | arguments(rows=rows, length=x.dims[-2], n=n, bins=y.dims[-2]),
        domain=-(-rows // width),
        label=label,
        cost=64 * n * width,
        scratch=Fourier.scratch(n, width),
    )


def _scalar(ctx: Lowering, node: ir.Node, index: int) -> int | None:
    """An input that is one whole number, None when it is not given."""
    found = ctx.known_ints(node.inputs[index]) if len(node.inputs) > index else None
    if found is None:
        return None
    if len(found) != 1:
        raise ValueError(f"{len(found)} numbers where one belongs")
    return found[0]


@lowers("DFT", dtypes=FLOATS, known=(1, 2))
def dft(ctx: Lowering, node: ir.Node) -> None:
    """Of real or complex numbers, forwards or back; with `onesided` the half that the other follows from."""
    x = ctx.view(node.inputs[0])
    rank = len(x.dims)
    if opset(node) < 20:
        axis = axis_of(node.attributes.get_int("axis", 1), rank)
    else:
        given = _scalar(ctx, node, 2)
        axis = axis_of(-2 if given is None else int(given), rank)
    if rank < 2 or axis == rank - 1 or (x.dims[-1] != 1 and x.dims[-1] != 2):
        raise ValueError(f"no axis {axis} of real or complex numbers")
    inverse, onesided = (bool(node.attributes.get_int(name, 0)) for name in ("inverse", "onesided"))
    if onesided and not inverse and x.dims[-1] == 2:
        raise ValueError("half a transform of complex numbers")
    mirrored = inverse and onesided
    n = _scalar(ctx, node, 1)
    if n is None:
        n = 2 * (x.dims[axis] - 1) if mirrored else x.dims[axis]
    if n < 1:
        raise ValueError(f"a transform of length {n}")
    order = [*(a for a in range(rank - 1) if a != axis), axis, rank - 1]
    back = [order.index(a) for a in range(rank)]
    turned = x.permute(tuple(order))
    source = turned if turned.is_row_major else ctx.copied(turned)
    dims = (*turned.dims[:-2], n // 2 + 1 if onesided and not inverse else n, 1 if mirrored else 2)
    check_result(node, dims, x.dtype)
    if order == back == list(range(rank)):
        y = ctx.result(node.outputs[0], dims, x.dtype)
    else:
        y = ctx.temporary(dims, x.dtype)
        ctx.define(node.outputs[0], y.permute(tuple(back)))
    if y.size != 0:
        _transform(ctx, node, source, y, n, inverse=inverse, mirrored=mirrored)


@lowers("STFT", dtypes=FLOATS, known=(1, 3))
def stft(ctx: Lowering, node: ir.Node) -> None:
    """Of frames of a signal [batch, length, parts], each times the window."""
    signal, step = ctx.view(node.inputs[0]), _scalar(ctx, node, 1)
    if len(signal.dims) == 2:
        signal = View(signal.buffer, signal.dtype, (*signal.dims, 1), (*signal.strides, 1), signal.offset)
    given = node.inputs[2] if len(node.inputs) > 2 else None
    window = None if given is None else ctx.view(given)
    size = _scalar(ctx, node, 3)
    if size is None:
        size = signal.dims[1] if window is None else window.dims[0]
    batch, length, parts = signal.dims
    if step is None or step < 1 or size < 1 or size > length:
        raise ValueError(f"frames of {size} by steps of {step} in {length}")
    if window is not None and window.dims != (size,):
        raise ValueError(f"a window {list(window.dims)} for frames of {size}")
    onesided = bool(node.attributes.get_int("onesided", 1)) and parts != 2
    frames = (length - size) // step + 1
    a, b, c = signal.strides
    parted = View(signal.buffer, signal.dtype, (batch, frames, size, parts), (a, b * step, b, c), signal.offset)
    dims = (batch, frames, size // 2 + 1 if onesided else size, 2)
    check_result(node, dims, signal.dtype)
    y = ctx.result(node.outputs[0], dims, signal.dtype)
    if y.size == 0:
        return
    framed = ctx.temporary(parted.dims, signal.dtype)
    if window is None:
        ctx.copy(parted, framed)
    else:
        column = View(window.buffer, window.dtype, (size, 1), (window.strides[0], 0), window.offset)
        e = ExprBuilder()
        leaves = [e.leaf(view.dtype) for view in (parted, column)]
        expr = e.build(e.op("mul", *leaves))
        ctx.elementwise(expr, [parted, column.broadcast(parted.dims)], framed, node.name or node.op_type)
    _transform(ctx, node, framed, y, size)
