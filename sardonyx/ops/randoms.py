"""Random numbers: those of a seed are the same in each run, those without one never are."""

from __future__ import annotations

import secrets
import struct
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import least
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.randoms import Draw, Random, mixed
from sardonyx.compiler.lower import arguments, dtype_of
from sardonyx.errors import InvalidModelError
from sardonyx.ops.limits import check_result
from sardonyx.ops.table import ALL, FLOATS, ints, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_BLOCK = 1024
"""Numbers that are a step's item."""


def _key(node: ir.Node) -> tuple[bool, int]:
    """Whether each run has its own numbers, and the key they follow from, as a signed number of 64 bits."""
    seed = node.attributes.get_float("seed", None)
    (bits,) = struct.unpack("<Q", struct.pack("<d", seed)) if seed is not None else (secrets.randbits(64),)
    key = mixed(bits)
    return seed is None, key - (1 << 64) if key >> 63 else key


def _fill(ctx: Lowering, node: ir.Node, dims: tuple[int, ...]) -> None:
    """The output, of these dims, with random numbers."""
    normal = node.op_type.startswith("RandomNormal")
    kind = dtype_of(node.outputs[0])
    names = ("mean", "scale") if normal else ("low", "high")
    first, second = (node.attributes.get_float(name, default) for name, default in zip(names, (0.0, 1.0), strict=True))
    inner = kind.register.numpy.type
    low, high = inner(first), inner(second)
    last = inner(np.inf) if normal else inner(np.nextafter(kind.numpy.type(high), kind.numpy.type(low)))
    numbers = np.array([low, high if normal else high - low, last], kind.register.numpy)
    check_result(node, dims, kind)
    y = ctx.result(node.outputs[0], dims, kind)
    if y.size == 0:
        return
    fresh, key = _key(node)
    block = least(y.size, _BLOCK)
    ctx.step(
        Random(normal, fresh, kind),
        arguments(y=y, numbers=ctx.constant(numbers, "numbers"), n=y.size, block=block, key=key),
        domain=-(-y.size // block),
        label=node.name or node.op_type,
        cost=16 * block,
    )


@lowers("RandomNormal", "RandomUniform", dtypes=FLOATS, folds=False)
def random(ctx: Lowering, node: ir.Node) -> None:
    """Of a shape that is an attribute."""
    shape = ints(node, "shape") or ()
    if any(size < 0 for size in shape):
        raise InvalidModelError("a negative dim", where=node.name or node.op_type, got=str(list(shape)))
    _fill(ctx, node, shape)


@lowers("RandomNormalLike", "RandomUniformLike", dtypes=ALL, folds=False)
def random_like(ctx: Lowering, node: ir.Node) -> None:
    """Of the input's shape."""
    _fill(ctx, node, ctx.dims(node.inputs[0]))


@lowers("Multinomial", dtypes=FLOATS, folds=False)
def multinomial(ctx: Lowering, node: ir.Node) -> None:
    """Classes drawn by the logarithms of their probabilities, times any number, of [rows, classes]."""
    x, kind = ctx.row_major(node.inputs[0]), dtype_of(node.outputs[0])
    samples = node.attributes.get_int("sample_size", 1)
    if len(x.dims) != 2 or samples < 0:
        raise ValueError(f"{samples} samples of rows of classes {list(x.dims)}")
    rows, classes = x.dims
    if classes == 0 and rows != 0:
        raise ValueError("nothing can be drawn of no classes")
    check_result(node, (rows, samples), kind)
    y = ctx.result(node.outputs[0], (rows, samples), kind)
    if y.size == 0:
        return
    fresh, key = _key(node)
    ctx.step(
        Draw(fresh, x.dtype, kind),
        arguments(x=x, y=y, classes=classes, samples=samples, key=key),
        domain=rows,
        label=node.name or node.op_type,
        cost=16 * (classes + samples),
        scratch=classes * DType.F64.size,
    )
