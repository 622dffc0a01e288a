"""Transposed convolution: as ordinary ones, a phase of the result each, or as a product whose windows are added up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product as combinations
from math import gcd, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.dims import hint, least, most
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import identity
from sardonyx.compiler.fuse import Fusion
from sardonyx.compiler.kernels.gemm import pack_panels, tile_for
from sardonyx.compiler.kernels.overlap import Overlap
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View, channels_last
from sardonyx.errors import InvalidModelError
from sardonyx.ops.convolution import along_channels, implicit_gemm
from sardonyx.ops.limits import check_result
from sardonyx.ops.linear import pack
from sardonyx.ops.places import epilogue_of, matrix_place, pixel_stride, result_stride
from sardonyx.ops.table import FLOATS, ints, lowers
from sardonyx.ops.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

Array = np.ndarray[Any, Any]

_MOST_PHASES = 64
"""Steps that one transposed convolution may become."""
_BLOCK = 4096
"""Elements of an item's block of pixels."""


@dataclass(frozen=True)
class Phase:
    """The output coordinates `residue`, `residue + stride`, ... of an axis, `out` of them: taps `taps`, in the order
    in which they meet growing input coordinates, `dilation` apart, the first one `before` left of the coordinate.
    """

    residue: int
    out: int
    taps: tuple[int, ...]
    dilation: int
    before: int


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a transposed convolution."""

    size: int
    out: int
    taps: int
    stride: int
    dilation: int
    pad: int

    @property
    def period(self) -> int:
        """From one tap that reaches a coordinate to the next."""
        return self.stride // gcd(self.stride, self.dilation)

    @property
    def residues(self) -> int:
        """How many residues output coordinates leave modulo the stride."""
        return self.stride if self.out >= self.stride else int(self.out)

    @property
    def hop(self) -> int:
        """Between the inputs that those two see."""
        return self.dilation // gcd(self.stride, self.dilation)

    def phase(self, residue: int) -> Phase:
        """Output q takes input i through tap t where q = i * stride + t * dilation - pad."""
        start = residue + self.pad
        first = next((t for t in range(self.period) if (start - t * self.dilation) % self.stride == 0), self.taps)
        taps = tuple(range(first, self.taps, self.period))
        before = (len(taps) - 1) * self.hop - (start - first * self.dilation) // self.stride if taps else 0
        return Phase(residue, most(0, -((residue - self.out) // self.stride)), taps[::-1], self.hop, before)

    def reach(self) -> tuple[Array, Array, Array]:
        """For each output coordinate how many taps reach it, the first of them, and the input that one sees."""
        count, tap, source = (np.zeros(self.out, np.int64) for _ in range(3))
        for residue in range(self.residues):
            phase = self.phase(residue)
            if not phase.taps:
                continue
            nearest = np.arange(phase.out, dtype=np.int64) - phase.before + (len(phase.taps) - 1) * self.hop
            skipped = np.maximum(0, -((self.size - 1 - nearest) // self.hop))
            last = np.minimum(len(phase.taps) - 1, nearest // self.hop)
            here = slice(residue, None, self.stride)
            count[here] = np.maximum(0, last - skipped + 1)
            tap[here] = np.where(count[here] > 0, phase.taps[-1] + skipped * self.period, 0)
            source[here] = np.where(count[here] > 0, nearest - skipped * self.hop, 0)
        return count, tap, source


def _rank(node: ir.Node) -> str | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return "the rank of its input is not known"
    return None if 3 <= len(shape) <= 5 else f"{len(shape) - 2} spatial dimensions"


@lowers("ConvTranspose", dtypes=FLOATS, supports=_rank)
def conv_transpose(ctx: Lowering, node: ir.Node) -> None:
    """In 1, 2 or 3 dimensions with groups, strides, dilations, paddings, output_padding and output_shape."""
    x, w = ctx.channels_last(node.inputs[0]), ctx.view(node.inputs[1])
    group = node.attributes.get_int("group", 1)
    channels = x.dims[1]
    if group < 1 or len(w.dims) != len(x.dims) or w.dims[0] != channels or channels % group or 0 in x.dims[2:]:
        raise InvalidModelError(
            "the weights do not fit the input",
            where=node.name,
            expected=f"[{channels}, filters / {group}, {len(x.dims) - 2} window sizes] for {list(x.dims)}",
            got=str(list(w.dims)),
        )
    axes = _axes(node, x.dims[2:], w.dims[2:])
    n, spatial = w.dims[1], len(axes)
    dims = (x.dims[0], n * group, *(axis.out for axis in axes))
    check_result(node, dims, x.dtype)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    prelude = (("add", along_channels(ctx.view(bias), spatial)),) if bias is not None else ()
    place = matrix_place((0, *range(2, 2 + spatial)), 1, columns=n)
    fusion = ctx.fusion(node, dims, x.dtype, place, prelude)
    y = ctx.result(fusion.output, dims, fusion.expr.dtype, channels_last(dims), accepts=place)
    if y.size == 0:
        return
    phases = prod(axis.residues for axis in axes)
    if group == channels and n == 1 and group > 1:
        _depthwise(ctx, x, w, axes, fusion, y)
    elif group == 1 and (phases > _MOST_PHASES or (phases > 1 and n < ctx.target.lanes(x.dtype))):
        _product(ctx, node, x, w, axes, fusion, y)
    else:
        _phases(ctx, node, x, w, axes, fusion, y, group)


def _axes(node: ir.Node, size: tuple[int, ...], taps: tuple[int, ...]) -> tuple[Axis, ...]:
    rank = len(size)
    stride, dilation = (ints(node, name) or (1,) * rank for name in ("strides", "dilations"))
    pads = ints(node, "pads") or (0,) * (2 * rank)
    extra = ints(node, "output_padding") or (0,) * rank
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    wanted = ints(node, "output_shape")
    if wanted is not None:
        wanted = wanted[-rank:]
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(length * step for length, step in zip(size, stride, strict=False))
    given = (*stride, *dilation, *pads, *extra, *(wanted or ()))
    lengths = (len(stride), len(dilation), len(pads), len(extra), len(wanted or stride), len(taps))
    if lengths != (rank, rank, 2 * rank, rank, rank, rank) or any(value < 1 for value in (*stride, *dilation, *taps)):
        raise InvalidModelError(
            "strides, dilations, pads, output_padding or output_shape do not fit the input",
            where=node.name,
            expected=f"{rank} positive values each ({2 * rank} pads)",
            got=f"strides {stride}, dilations {dilation}, pads {pads}, output_padding {extra}",
        )
    if any(abs(value) >= 1 << 31 for value in given):
        raise InvalidModelError("an attribute is beyond 32 bits", where=node.name, got=str(list(given)))
    axes = []
    for axis in range(rank):
        natural = (size[axis] - 1) * stride[axis] + extra[axis] + (taps[axis] - 1) * dilation[axis] + 1
        low, high = (0, 0) if auto == "VALID" else (pads[axis], pads[rank + axis])
        if wanted is not None:
            total = most(0, natural - wanted[axis])
            low = total // 2 if auto == "SAME_UPPER" else total - total // 2
        out = wanted[axis] if wanted is not None else natural - low - high
        if out < 0:
            raise InvalidModelError("the result has a negative size", where=node.name, got=f"{out} on axis {axis}")
        axes.append(Axis(size[axis], out, taps[axis], stride[axis], dilation[axis], low))
    return tuple(axes)


def _phases(
    ctx: Lowering, node: ir.Node, x: View, w: View, axes: tuple[Axis, ...], fusion: Fusion, y: View, group: int
) -> None:
    """Each residue of the output coordinates modulo the strides is an ordinary convolution with some of the taps."""
    total = x.dims[0] * prod(axis.out for axis in axes)
    for residues in combinations(*(range(axis.residues) for axis in axes)):
        chosen = [axis.phase(residue) for axis, residue in zip(axes, residues, strict=True)]
        taps = tuple(len(phase.taps) for phase in chosen)
        out = tuple(phase.out for phase in chosen)
        ones = (1,) * len(axes)
        size, before = x.dims[2:], tuple(phase.before for phase in chosen)
        hops = tuple(phase.dilation for phase in chosen)
        spans = ((count - 1) * hop + 1 for count, hop in zip(taps, hops, strict=True))
        after = tuple(o - 1 + span - s - b for o, span, s, b in zip(out, spans, size, before, strict=True))
        shape = Windows(size, out, taps, ones, hops, before, after)
        tile = tile_for(ctx.target, x.dtype, hint(x.dims[0] * shape.pixels), w.dims[1])
        packed = _pack_phase(ctx, node, w, chosen, tile[1], group)
        pixels = None if total == x.dims[0] * shape.pixels else _pixels(ctx, x.dims[0], axes, chosen)
        implicit_gemm(ctx, x, packed, tile, shape, fusion, y, group, pixels)


def _pixels(ctx: Lowering, batch: int, axes: Sequence[Axis], chosen: Sequence[Phase]) -> View:
    """The pixels of the result that a phase computes, in order."""
    each = [(axis.stride, phase.residue) for axis, phase in zip(axes, chosen, strict=True)]

    def make(batch: int, *outs: int) -> tuple[Array]:
        pixels: Array = np.arange(batch, dtype=np.int64)
        for out, (stride, residue) in zip(outs, each, strict=True):
            pixels = pixels[..., None] * out + np.arange(residue, out, stride)
        return (pixels.reshape(-1),)

    count = batch * prod(phase.out for phase in chosen)
    numbers = (batch, *(axis.out for axis in axes))
    (found,) = ctx.computed(make, numbers, ((DType.I64, (count,)),), "pixels of a phase")
    return found


def _pack_phase(ctx: Lowering, node: ir.Node, w: View, chosen: list[Phase], vectors: int, group: int) -> View:
    """The panels of a phase's taps."""
    value = node.inputs[1]
    assert value is not None
    depth, n, width = w.dims[0] // group, w.dims[1], vectors * ctx.target.lanes(w.dtype)
    taps = tuple(phase.taps for phase in chosen)
    count = prod(len(each) for each in taps)
    if count == 0:
        return ctx.zeros(1, w.dtype)
    if ctx.is_known(value):

        def panels_of(known: Array) -> Array:
            part = known[np.ix_(*(range(d) for d in known.shape[:2]), *taps)]
            return pack_panels(part.reshape(group, depth, n, count).transpose(0, 2, 3, 1), width)

        return ctx.packed_weights(value, ("transposed", taps, group, width), panels_of, f"{value.name} {taps}")
    offset, strides = w.offset, list[int]()
    for each, stride in zip(taps, w.strides[2:], strict=True):
        offset += each[0] * stride
        strides.append((each[1] - each[0]) * stride if len(each) > 1 else 0)
    dims = (group, n, *(len(each) for each in taps), depth)
    picked = View(w.buffer, w.dtype, dims, (w.strides[0] * depth, w.strides[1], *strides, w.strides[0]), offset)
    dense = ctx.copied(picked)
    matrix = View(dense.buffer, w.dtype, (group, n, count, depth), (n * count * depth, count * depth, depth, 1))
    return pack(ctx, value, matrix, width, vectors)


def _product(ctx: Lowering, node: ir.Node, x: View, w: View, axes: tuple[Axis, ...], fusion: Fusion, y: View) -> None:
    """What each input pixel adds to each pixel it reaches as one matrix product, then those sums.

    With fewer filters than a register has lanes a phase's product would leave most of them empty.
    """
    if pixel_stride(x) is None:
        x = ctx.copied(x, channels_last(x.dims))
    value, (channels, n), size = node.inputs[1], w.dims[:2], x.dims[2:]
    assert value is not None
    columns = prod(axis.taps for axis in axes) * n
    rows, vectors = tile_for(ctx.target, x.dtype, hint(x.dims[0] * prod(size)), columns)
    width = vectors * ctx.target.lanes(x.dtype)
    if ctx.is_known(value):

        def panels_of(known: Array) -> Array:
            by_tap = known.reshape(channels, n, -1).transpose(2, 1, 0)
            return pack_panels(np.ascontiguousarray(by_tap).reshape(1, columns, 1, channels), width)

        packed = ctx.packed_weights(value, ("taps", width), panels_of, f"{value.name} by taps")
    else:
        by_tap = ctx.copied(w.permute((*range(2, len(w.dims)), 1, 0)))
        matrix = View(by_tap.buffer, w.dtype, (1, columns, 1, channels), (0, channels, 0, 1))
        packed = pack(ctx, value, matrix, width, vectors)
    dims = (x.dims[0], columns, *size)
    products = ctx.temporary(dims, x.dtype, channels_last(dims))
    ones, zeros = (1,) * len(size), (0,) * len(size)
    plain = Fusion((node,), identity(x.dtype), (), node.outputs[0])
    pointwise = Windows(size, size, ones, ones, ones, zeros, zeros)
    implicit_gemm(ctx, x, packed, (rows, vectors), pointwise, plain, products, 1)
    _overlap(ctx, products, None, axes, fusion, y)


def _depthwise(ctx: Lowering, x: View, w: View, axes: tuple[Axis, ...], fusion: Fusion, y: View) -> None:
    by_tap = ctx.copied(w.permute((*range(2, len(w.dims)), 0, 1)))
    _overlap(ctx, x, by_tap, axes, fusion, y)


def _overlap(ctx: Lowering, x: View, w: View | None, axes: tuple[Axis, ...], fusion: Fusion, y: View) -> None:
    """Add up at each pixel of y: inputs times weights [taps..., channels], or products [N, taps * channels, ...]."""
    channels = y.dims[1]
    epilogue, operands = epilogue_of(fusion)
    tap_strides = [channels * prod(a.taps for a in axes[i + 1 :]) for i in range(len(axes))]
    tables: dict[str, View | int] = {}
    for i, axis in enumerate(axes):
        step = -axis.hop * x.strides[2 + i]
        if w is None:
            step += axis.period * tap_strides[i]
        else:
            tables[f"w_step{i}"] = axis.period * tap_strides[i]
        tables |= _reach(ctx, i, axis, x.strides[2 + i], tap_strides[i], weighed=w is not None)
        tables |= {f"step{i}": step, f"out{i}": axis.out}
    if w is not None:
        tables |= {"w": w}
    work = channels * prod(-(-axis.taps // axis.period) for axis in axes)
    along = axes[-1].out
    block = most(1, least(along, _BLOCK // work))
    rows, blocks = y.dims[0] * prod(axis.out for axis in axes[:-1]), -(-along // block)
    ctx.step(
        Overlap(len(axes), w is not None, x.dtype, epilogue),
        arguments(x=x, y=y, channels=channels, x_image=x.strides[0], y_row=result_stride(y))
        | arguments(blocks=blocks, block=block)
        | tables
        | operands,
        domain=rows * blocks,
        label=fusion.label,
        cost=block * work,
    )


def _reach(
    ctx: Lowering, number: int, axis: Axis, input_stride: int, tap_stride: int, *, weighed: bool
) -> dict[str, View | int]:
    """The tables of `Overlap` for an axis: see `Axis.reach`, in elements; taps by themselves if they have weights."""

    def make(size: int, out: int, pad: int, input_stride: int, tap_stride: int) -> tuple[Array, ...]:
        count, tap, source = replace(axis, size=size, out=out, pad=pad).reach()
        first = source * input_stride
        return (tap * tap_stride, count, first) if weighed else (count, first + tap * tap_stride)

    names = ("tap", "count", "first") if weighed else ("count", "first")
    numbers = (axis.size, axis.out, axis.pad, input_stride, tap_stride)
    views = ctx.computed(make, numbers, ((DType.I64, (axis.out,)),) * len(names), "reach of taps")
    return {f"{name}{number}": view for name, view in zip(names, views, strict=True)}
