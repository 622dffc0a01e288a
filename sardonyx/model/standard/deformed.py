"""Convolution whose taps are moved."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.body import Body, Results
from sardonyx.model.standard.table import defines


def _places(b: Body, x: ir.Value, offset: ir.Value, axis: int, taps: list[int]) -> ir.Value:
    """Where the taps lie on a spatial axis, as GridSample counts, [N * groups, taps, out..., 1]; `offset` has the axes
    behind the taps. In float64, so that whole places stay whole.
    """
    spatial, kind = len(taps), ir.DataType.DOUBLE
    strides, dilations = (b.ints(name) or [1] * spatial for name in ("strides", "dilations"))
    pads = b.ints("pads") or [0] * (2 * spatial)
    own = np.indices(taps)[axis].reshape(-1, *[1] * spatial) * dilations[axis] - pads[axis]
    size = b("Reshape", b.size(offset, 3 + axis), np.array([], np.int64))
    steps = b("Mul", b("Range", np.array(0), size, np.array(1)), np.array(strides[axis]))
    shape = [1] * (spatial + 1)
    shape[1 + axis] = -1
    corners = b("Add", b("Reshape", steps, shape), np.array(own))
    at = b("Add", b.cast(corners, kind), b.cast(b("Gather", offset, np.array(axis), axis=2), kind))
    length = b.cast(b("Reshape", b.size(x, 2 + axis), np.array([], np.int64)), kind)
    one, two = np.array(1.0), np.array(2.0)
    centred = b("Div", b("Add", b("Mul", at, two), one), length)
    return b("Unsqueeze", b("Sub", centred, one), [-1])


@defines("DeformConv")
def deform_conv(b: Body) -> Results:
    """Images sampled where each tap of the window lies, then a product with the filters. 2 or 3 spatial dims."""
    x, w, offset, bias, mask = b.input(0), b.input(1), b.input(2), b.optional(3), b.optional(4)
    spatial = b.rank(x) - 2
    if spatial not in (2, 3):
        b.refuse(f"{spatial} spatial dims")
    taps = [b.known_dim(w, 2 + axis) for axis in range(spatial)]
    channels, filters, count = b.known_dim(x, 1), b.known_dim(w, 0), int(np.prod(taps))
    group, moved = b.int("group", 1), b.int("offset_group", 1)
    if min(group, moved, count) < 1 or channels % group or channels % moved or filters % group:
        b.refuse(f"{group} groups and {moved} of offsets do not divide the channels")
    out = [b.size(offset, 2 + axis) for axis in range(spatial)]
    images = b("Mul", b.size(x, 0), [moved])
    offsets = b("Reshape", offset, b.joined(images, count, spatial, *out))
    axes = [_places(b, x, offsets, axis, taps) for axis in range(spatial)]
    grid = b("Concat", *reversed(axes), axis=-1)
    flat = b("Reshape", grid, b.joined(images, -1, *out[1:], spatial))
    parts = b("Reshape", x, b.joined(images, channels // moved, *(b.size(x, 2 + a) for a in range(spatial))))
    sampled = b("GridSample", parts, flat, mode="linear", padding_mode="zeros", align_corners=0)
    if mask is not None:
        sampled = b("Mul", sampled, b("Reshape", mask, b.joined(images, 1, -1, *out[1:])))
    columns = b("Reshape", sampled, b.joined(b.size(x, 0), group, channels // group * count, -1))
    rows = b("Reshape", w, [1, group, filters // group, channels // group * count])
    y = b("Reshape", b("MatMul", rows, columns), b.joined(b.size(x, 0), filters, *out))
    return y if bias is None else b("Add", y, b("Unsqueeze", bias, list(range(1, spatial + 1))))
