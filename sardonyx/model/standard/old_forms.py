"""Forms that operators had in old opsets or have in training, by what newer ones say for inference."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sardonyx.errors import InvalidModelError
from sardonyx.model.foreign.body import Body, Results
from sardonyx.model.standard.table import defines


def rename_attributes(model: ir.Model) -> None:
    """Write attributes of Cast-1 and Pad-1 as all later versions do, in place, which is what all else reads.

    Cast-1 names the type that others number, Pad-1 calls its widths `paddings`.

    Raises InvalidModelError for the name of no type.
    """
    for node in model.graph.all_nodes():
        if node.domain == "" and node.op_type in _RENAMED:
            _RENAMED[node.op_type](node)


def _cast(node: ir.Node) -> None:
    target = node.attributes.get("to")
    if target is None or target.type != ir.AttributeType.STRING:
        return
    name = target.as_string().upper()
    if name not in ir.DataType.__members__:
        raise InvalidModelError("there is no such type", where=f"node {node.name!r}: attribute 'to'", got=name)
    node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType[name]))


def _pad(node: ir.Node) -> None:
    widths = node.attributes.pop("paddings", None)
    if widths is not None:
        node.attributes["pads"] = ir.AttrInt64s("pads", widths.as_ints())


_RENAMED = {"Cast": _cast, "Pad": _pad}


def _stretched(b: Body, value: ir.Value, before: int, after: int) -> ir.Value:
    """With that many dims of 1 on either side."""
    rank = b.rank(value)
    axes = [*range(before), *range(before + rank, before + rank + after)]
    return b("Unsqueeze", value, axes) if axes else value


@defines("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater")
def aligned(b: Body) -> Results:
    """Before opset 7: the second operand's dims lie along the first's from `axis` on, if that is given, else last."""
    if "broadcast" not in b.node.attributes:
        b.refuse("it broadcasts as NumPy does")
    x, y = b.input(0), b.input(1)
    if "axis" in b.node.attributes and b.int("broadcast", 0):
        axis = b.int("axis")
        rest = b.rank(x) - (axis + b.rank(x) if axis < 0 else axis) - b.rank(y)
        if rest < 0:
            b.refuse(f"axis {axis} leaves too few dims")
        y = _stretched(b, y, 0, rest)
    return b(b.node.op_type, x, y)


@defines("PRelu")
def prelu(b: Body) -> Results:
    """Before opset 7: a slope, or one for each channel."""
    x, slope = b.input(0), b.input(1)
    if b.rank(slope) == 1 and b.rank(x) > 2:
        slope = _stretched(b, slope, 0, b.rank(x) - 2)
    return b("PRelu", x, slope)


@defines("Slice")
def slice_(b: Body) -> Results:
    """Before opset 10: bounds as attributes."""
    starts, ends = b.ints("starts"), b.ints("ends")
    if starts is None or ends is None:
        b.refuse("its bounds are no attributes")
    return b("Slice", b.input(0), starts, ends, b.ints("axes"))


@defines("Upsample")
def upsample(b: Body) -> Results:
    """Opset 1: factors of height and width."""
    if "height_scale" not in b.node.attributes:
        b.refuse("it has no height_scale")
    scales = np.array([1, 1, b.float("height_scale", 1.0), b.float("width_scale", 1.0)], np.float32)
    mode = {"bilinear": "linear"}.get(b.string("mode", "nearest"), b.string("mode", "nearest"))
    return b(
        "Resize",
        b.input(0),
        None,
        scales,
        mode=mode,
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


@defines("Tile")
def tile(b: Body) -> Results:
    """Opset 1: so many times along one axis."""
    if b.optional(2) is None:
        b.refuse("it has a repetition for each axis")
    x, tiles, axis = b.input(0), b.input(1), b.known(b.input(2))
    if axis is None:
        b.refuse("its axis is not a constant")
    where, rank = int(axis.reshape(-1)[0]), b.rank(x)
    count = b("Reshape", b.cast(tiles, ir.DataType.INT64), [1])
    return b("Tile", x, b("Concat", [1] * where, count, [1] * (rank - where - 1), axis=0))


@defines("BatchNormalization")
def batch_normalization(b: Body) -> Results:
    """With statistics that are no constants or one for each activation, and in training: (x - mean) * scale /
    sqrt(variance + epsilon) + bias; the mean and variance are then those of the batch, and the running ones returned.
    """
    x, (scale, bias, mean, variance) = b.input(0), (b.input(index) for index in range(1, 5))
    rank = b.rank(x)
    spatial = b.int("spatial", 1)
    training = b.int("training_mode", 0) or b.wanted(1)
    if training and not spatial:
        b.refuse("training with statistics of each activation")
    results: list[ir.Value | None] = []
    if training:
        mean, variance, results = _batch_statistics(b, x, mean, variance)
    inverse = b("Div", scale, b("Sqrt", b("Add", variance, b.scalar(b.float("epsilon", 1e-5), variance))))
    rest = rank - 2 if spatial else 0
    centre, factor, shift = (
        _stretched(b, b.cast(value, b.dtype(x)), 0, rest) if rest else b.cast(value, b.dtype(x))
        for value in (mean, inverse, bias)
    )
    return [b("Add", b("Mul", b("Sub", x, centre), factor), shift), *results]


def _batch_statistics(
    b: Body, x: ir.Value, mean: ir.Value, variance: ir.Value
) -> tuple[ir.Value, ir.Value, list[ir.Value | None]]:
    """Mean and variance of the batch, then the running ones and, as old opsets return them, those of the batch."""
    wide = b.cast(x, b.dtype(mean))
    axes = [axis for axis in range(b.rank(x)) if axis != 1]
    centre = b("ReduceMean", wide, axes, keepdims=1)
    apart = b("Sub", wide, centre)
    found = [b("ReduceMean", wide, axes, keepdims=0), b("ReduceMean", b("Mul", apart, apart), axes, keepdims=0)]
    momentum = b.float("momentum", 0.9)
    running = [
        b("Add", b("Mul", old, b.scalar(momentum, old)), b("Mul", new, b.scalar(1 - momentum, new)))
        for old, new in zip((mean, variance), found, strict=True)
    ]
    return found[0], found[1], [*running, *found]
