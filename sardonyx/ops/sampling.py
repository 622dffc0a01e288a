"""Reading images at other places: GridSample, AffineGrid, RoiAlign; and blocks of pixels as channels and back."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import hint, is_open
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import identity
from sardonyx.compiler.fuse import Fusion
from sardonyx.compiler.kernels.affine import AffinePlaces
from sardonyx.compiler.kernels.grid import PLANE_BLOCK, GridSample
from sardonyx.compiler.kernels.roi_pool import RoiPool
from sardonyx.compiler.kernels.sampling import RoiAlign
from sardonyx.compiler.layout import dense_like
from sardonyx.compiler.lower import anywhere, arguments
from sardonyx.compiler.program import View, channels_last, row_major
from sardonyx.errors import InvalidModelError
from sardonyx.ops.limits import check_result
from sardonyx.ops.places import epilogue_of, matrix_place, planes_place, result_stride
from sardonyx.ops.resize import Pass, resample
from sardonyx.ops.table import ALL, FLOATS, lowers, opset

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_TAPS = {"nearest": 1, "bilinear": 2, "linear": 2, "bicubic": 4, "cubic": 4}
_PADDINGS = ("zeros", "border", "reflection")
_MOST_PLACES = 1024
"""On an axis of a bin of RoiAlign; no model asks for more than a few."""
_MOST_OF_A_PLANE = 1 << 30
"""Elements, so that int32 can count them."""
_ROW = 256
"""Elements that suffice for a row of gathered elements."""


def _grid_form(node: ir.Node) -> str | None:
    mode = node.attributes.get_string("mode", "linear")
    padding = node.attributes.get_string("padding_mode", "zeros")
    if mode not in _TAPS or padding not in _PADDINGS:
        return f"mode {mode}, padding {padding}"
    x, grid = node.inputs[:2]
    if x is None or grid is None or x.shape is None or len(x.shape) not in (4, 5):
        return "the rank of its input"
    kind = DType.of(grid.dtype.numpy()) if grid.dtype is not None else None
    return None if kind and kind.register in FLOATS else "the type of its grid"


@lowers("GridSample", dtypes=FLOATS, supports=_grid_form)
def grid_sample(ctx: Lowering, node: ir.Node) -> None:
    """Images sampled at places given by a grid, in 2 or 3 dimensions."""
    x, grid = ctx.view(node.inputs[0]), ctx.view(node.inputs[1])
    spatial = len(x.dims) - 2
    if len(grid.dims) != spatial + 2 or grid.dims[0] != x.dims[0] or grid.dims[-1] != spatial:
        raise InvalidModelError(
            "the grid does not fit the input",
            where=node.name,
            expected=f"[{x.dims[0]}, {spatial} sizes, {spatial}]",
            got=str(list(grid.dims)),
        )
    if not grid.is_row_major:
        grid = ctx.copied(grid)
    dims = (*x.dims[:2], *grid.dims[1:-1])
    planes = hint(x.dims[1]) < ctx.target.lanes(x.dtype) and x.is_row_major and prod(x.dims[2:]) <= _MOST_OF_A_PLANE
    x = x if planes else ctx.channels_last(node.inputs[0])
    place = planes_place if planes else matrix_place((0, *range(2, 2 + spatial)), 1)
    fusion = ctx.fusion(node, dims, x.dtype, place)
    strides = row_major(dims) if planes else channels_last(dims)
    y = ctx.result(fusion.output, dims, fusion.expr.dtype, strides, accepts=place)
    if y.size == 0:
        return
    if x.size == 0:
        raise ValueError("no pixels to sample")
    epilogue, operands = epilogue_of(fusion)
    taps = _TAPS[node.attributes.get_string("mode", "linear")]
    corners = bool(node.attributes.get_int("align_corners", 0))
    padding = node.attributes.get_string("padding_mode", "zeros")
    pixels = prod(dims[2:])
    values = arguments(x=x, grid=grid, y=y, channels=x.dims[1], pixels=pixels, x_image=x.strides[0]) | operands
    for axis in range(spatial):
        values |= {f"size{axis}": x.dims[2 + axis], f"x{axis}": x.strides[2 + axis]}
    if planes:
        blocks = -(-pixels // PLANE_BLOCK)
        values |= arguments(y_row=y.strides[1], y_image=y.strides[0], x_plane=x.strides[1], blocks=blocks)
    else:
        values |= arguments(zeros=ctx.zeros(x.dims[1], x.dtype), y_row=result_stride(y))
    ctx.step(
        GridSample(taps, padding, corners, spatial, planes, x.dtype, grid.dtype, epilogue),
        values,
        domain=dims[0] * (blocks if planes else pixels),
        label=fusion.label,
        cost=(x.dims[1] / 2 + 8) * taps**spatial * (PLANE_BLOCK / 4 if planes else 1),
    )


def _image(node: ir.Node) -> str | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return None if shape is not None and len(shape) == 4 else "the rank of its input"


@lowers("RoiAlign", dtypes=FLOATS, supports=_image)
def roi_align(ctx: Lowering, node: ir.Node) -> None:
    """Means or maxima over the bins of regions of interest."""
    x, rois, images = ctx.channels_last(node.inputs[0]), ctx.view(node.inputs[1]), ctx.view(node.inputs[2])
    out = tuple(node.attributes.get_int(name, 1) for name in ("output_height", "output_width"))
    places = node.attributes.get_int("sampling_ratio", 0)
    mode = node.attributes.get_string("mode", "avg")
    # Before opset 16 there was no choice, and no shift by half a pixel.
    shift = node.attributes.get_string("coordinate_transformation_mode", "half_pixel" if opset(node) >= 16 else "")
    count = rois.dims[0]
    if rois.dims != (count, 4) or images.dims != (count,) or rois.dtype is not x.dtype or images.dtype is not DType.I64:
        raise InvalidModelError(
            "the regions do not fit", where=node.name, expected="rois [n, 4], batch_indices [n]", got=str(rois.dims)
        )
    if min(out) < 1 or not 0 <= places <= _MOST_PLACES or mode not in ("avg", "max"):
        raise ValueError(f"output {out}, sampling_ratio {places}, mode {mode}")
    dims = (count, x.dims[1], *out)
    check_result(node, dims, x.dtype)
    y = ctx.result(node.outputs[0], dims, x.dtype, channels_last(dims), accepts=matrix_place((0, 2, 3), 1))
    if y.size == 0:
        return
    if x.size == 0:
        raise ValueError("no pixels to sample")
    scale = ctx.constant(np.full((), node.attributes.get_float("spatial_scale", 1.0), x.dtype.numpy))
    ctx.step(
        RoiAlign(mode == "max", shift == "half_pixel", x.dtype),
        arguments(x=x, rois=_dense(ctx, rois), images=_dense(ctx, images), scale=scale, y=y)
        | arguments(zeros=ctx.zeros(x.dims[1], x.dtype), channels=x.dims[1], batch=x.dims[0], places=places)
        | arguments(x_image=x.strides[0], y_row=result_stride(y), size0=x.dims[2], size1=x.dims[3])
        | arguments(x0=x.strides[2], x1=x.strides[3], out0=out[0], out1=out[1]),
        domain=count * prod(out),
        label=node.name or "RoiAlign",
        cost=x.dims[1] * 4 * max(1, places) ** 2,
    )


@lowers("MaxRoiPool", dtypes=FLOATS, supports=_image)
def max_roi_pool(ctx: Lowering, node: ir.Node) -> None:
    """Maxima over the bins of regions of interest, which begin and end with pixels."""
    x, rois = ctx.channels_last(node.inputs[0]), ctx.view(node.inputs[1])
    out = tuple(node.attributes.get_ints("pooled_shape", ()))
    if len(rois.dims) != 2 or rois.dims[1] != 5 or rois.dtype is not x.dtype or len(out) != 2 or min(out) < 1:
        raise InvalidModelError(
            "the regions do not fit", where=node.name, expected="rois [n, 5], pooled_shape", got=f"{rois.dims}, {out}"
        )
    dims = (rois.dims[0], x.dims[1], *out)
    check_result(node, dims, x.dtype)
    y = ctx.result(node.outputs[0], dims, x.dtype, channels_last(dims), accepts=matrix_place((0, 2, 3), 1))
    if y.size == 0:
        return
    scale = np.full((), node.attributes.get_float("spatial_scale", 1.0), x.dtype.register.numpy)
    ctx.step(
        RoiPool(x.dtype),
        arguments(x=x, rois=_dense(ctx, rois), scale=ctx.constant(scale), y=y, channels=x.dims[1], batch=x.dims[0])
        | arguments(x_image=x.strides[0], y_row=result_stride(y), size0=x.dims[2], size1=x.dims[3])
        | arguments(x0=x.strides[2], x1=x.strides[3], out0=out[0], out1=out[1]),
        domain=prod(dims[:1]) * prod(out),
        label=node.name or "MaxRoiPool",
        cost=x.dims[1] * 4,
    )


def _dense(ctx: Lowering, view: View) -> View:
    return view if view.is_row_major else ctx.copied(view)


def _known_size(node: ir.Node) -> str | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return None if shape is not None and len(shape) == 3 else "the rank of its input"


@lowers("AffineGrid", dtypes=FLOATS, known=(1,), supports=_known_size)
def affine_grid(ctx: Lowering, node: ir.Node) -> None:
    """Places of GridSample under an affine map."""
    theta, size = ctx.view(node.inputs[0]), ctx.known_ints(node.inputs[1])
    assert size is not None
    batch, _, *lengths = size
    spatial = len(lengths)
    if theta.dims != (batch, spatial, spatial + 1) or spatial not in (2, 3) or any(length < 0 for length in lengths):
        raise InvalidModelError("theta does not fit the size", where=node.name, got=f"{theta.dims} for {size}")
    dims = (batch, *lengths, spatial)
    check_result(node, dims, theta.dtype)
    y = ctx.result(node.outputs[0], dims, theta.dtype)
    if y.size == 0:
        return
    corners = bool(node.attributes.get_int("align_corners", 0))

    def make(*lengths: int) -> list[np.ndarray]:
        return [_own_places(length, corners).astype(theta.dtype.numpy) for length in lengths]

    axes = ctx.computed(make, lengths, [(theta.dtype, (length,)) for length in lengths], "places")
    steps = dict(zip(("theta_batch", "theta_row", "theta_column"), theta.strides, strict=True))
    ctx.step(
        AffinePlaces(spatial, theta.dtype),
        arguments(theta=theta, y=y)
        | steps
        | {f"own{axis}": places for axis, places in enumerate(axes)}
        | {f"size{axis}": length for axis, length in enumerate(lengths)},
        domain=batch * prod(lengths[:-1]),
        label=node.name or "AffineGrid",
        cost=lengths[-1] * spatial,
    )


def _own_places(length: int, corners: bool) -> np.ndarray:
    """The places in [-1, 1] of an axis' pixels: their centres, or from end to end."""
    if corners:
        return np.linspace(-1.0, 1.0, length) if length > 1 else np.full(length, -1.0)
    return (2.0 * np.arange(length) + 1.0) / max(1, length) - 1.0


@lowers("DepthToSpace", "SpaceToDepth", dtypes=ALL, supports=_image)
def depth_to_space(ctx: Lowering, node: ir.Node) -> None:
    """Blocks of pixels as channels and back: another view, and one copy."""
    x = ctx.view(node.inputs[0])
    side = node.attributes.get_int("blocksize", 0)
    batch, channels, height, width = x.dims
    widens = node.op_type == "DepthToSpace"
    fits = side > 0 and (channels % side**2 == 0 if widens else height % side == width % side == 0)
    if not fits:
        raise InvalidModelError(
            "the block does not divide the input", where=node.name, got=f"{side} for {list(x.dims)}"
        )
    across = node.attributes.get_string("mode", "DCR") == "CRD"
    if widens:
        dims = (batch, channels // side**2, height * side, width * side)
    else:
        dims = (batch, channels * side**2, height // side, width // side)
    y = ctx.result(node.outputs[0], dims, x.dtype, dense_like(dims, x.strides), accepts=anywhere)
    if y.size == 0:
        return
    if widens:
        _rearrange(ctx, node, _blocks(x, side, across), _pixels(y, side))
    else:
        _rearrange(ctx, node, _pixels(x, side), _blocks(y, side, across))


def _blocks(view: View, side: int, across: bool) -> View:
    """[N, side * side * C, H, W] as [N, C, H, W, side, side]; `across`: the block's pixels move fastest."""
    batch, channels, height, width = view.dims
    count, (image, step, *rest) = channels // side**2, view.strides
    inner = (side**2 * step, *rest, side * step, step) if across else (step, *rest, side * count * step, count * step)
    return View(view.buffer, view.dtype, (batch, count, height, width, side, side), (image, *inner), view.offset)


def _pixels(view: View, side: int) -> View:
    """[N, C, H * side, W * side] as [N, C, H, W, side, side]."""
    batch, channels, height, width = view.dims
    image, step, down, right = view.strides
    dims = (batch, channels, height // side, width // side, side, side)
    return View(view.buffer, view.dtype, dims, (image, step, side * down, side * right, down, right), view.offset)


def _rearrange(ctx: Lowering, node: ir.Node, source: View, target: View) -> None:
    """A copy; where runs of neighbours are shorter than a register, elements are gathered through a table."""
    order = tuple(sorted(range(len(target.dims)), key=lambda axis: (-target.strides[axis], -target.dims[axis])))
    order = tuple(axis for axis in order if target.dims[axis] == 1) + tuple(a for a in order if target.dims[a] > 1)
    columns, length, run = 0, 1, 1
    for axis in reversed(order):
        if target.strides[axis] != length or target.dims[axis] == 1 or is_open((length,)) or length >= _ROW:
            break
        run = run * target.dims[axis] if source.strides[axis] == length == run else run
        columns, length = columns + 1, length * target.dims[axis]
    if run >= ctx.target.lanes(DType.F32) or columns == 0:
        ctx.copy(source, target, node.name or node.op_type)
        return
    plain = Fusion((node,), identity(source.dtype), (), node.outputs[0])
    resample(ctx, source, target, Pass({}, order, columns, True), plain)
