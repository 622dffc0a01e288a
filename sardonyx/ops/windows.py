"""The geometry of sliding windows, from the attributes that convolutions and pools share."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.dims import exactly, hint, least, most
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.planes import Combine, PlaneWindows
from sardonyx.compiler.kernels.window import AXIS, WindowAxis, window_tables
from sardonyx.compiler.layout import uniform_stride
from sardonyx.compiler.lower import arguments
from sardonyx.errors import InvalidModelError
from sardonyx.ops.places import epilogue_of
from sardonyx.ops.table import ints

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from sardonyx.compiler.expr import Expr
    from sardonyx.compiler.fuse import Fusion
    from sardonyx.compiler.lower import Lowering
    from sardonyx.compiler.program import View

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Windows:
    """Input and output sizes, window sizes, strides, dilations and paddings, one of each an axis."""

    size: tuple[int, ...]
    out: tuple[int, ...]
    taps: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def is_pointwise(self) -> bool:
        """Whether output pixel m sees input pixel m alone."""
        ones = (1,) * len(self.size)
        return self.taps == ones and self.stride == ones and not any(self.before) and not any(self.after)

    @property
    def reaches_out(self) -> bool:
        """Whether some window leaves the input."""
        axes = zip(self.size, self.out, self.taps, self.stride, self.dilation, self.before, strict=True)
        return any(pad > 0 or (o - 1) * s - pad + (t - 1) * d >= size for size, o, t, s, d, pad in axes)

    def arguments(self, x: View) -> dict[str, View | int]:
        """The kernel arguments of `kernels.window.axis_parameters`, for an input [N, C, spatial...]."""
        values: dict[str, View | int] = {}
        for axis in range(len(self.size)):
            values |= {
                f"size{axis}": self.size[axis],
                f"out{axis}": self.out[axis],
                f"taps{axis}": self.taps[axis],
                f"stride{axis}": self.stride[axis],
                f"dilation{axis}": self.dilation[axis],
                f"pad{axis}": self.before[axis],
                f"x{axis}": x.strides[2 + axis],
            }
        return values

    def tables(self, ctx: Lowering, x: View, rows: int) -> dict[str, View | int]:
        """The window tables of `kernels.window`, for tiles of `rows` pixels of an input [N, C, spatial...]; layers of
        one shape share them.
        """
        tiles, spatial = -(-x.dims[0] * self.pixels // rows), len(self.size)
        axes = (self.size, self.out, self.taps, self.stride, self.dilation, self.before, x.strides[2:])
        numbers = (rows, x.dims[0], x.strides[0], *(number for axis in zip(*axes, strict=True) for number in axis))

        def make(rows: int, batch: int, image: int, *numbers: int) -> tuple[Array, Array, Array]:
            each = len(AXIS)
            axes = [WindowAxis(*numbers[at : at + each]) for at in range(0, len(numbers), each)]
            return window_tables(rows, batch, image, axes)

        pixels = tiles * rows
        results = ((DType.I64, (pixels,)), (DType.I64, (spatial, pixels)), (DType.U8, (tiles,)))
        key = ("windows", exactly(numbers))
        origins, corners, inside = ctx.once(key, lambda: ctx.computed(make, numbers, results, "windows"))
        return arguments(origins=origins, corners=corners, inside=inside, corner_axis=pixels)

    def sweep(self, x: View) -> dict[str, View | int]:
        """The kernel arguments of `kernels.sweep.sweep_parameters` but for the result's stride."""
        reach = (self.taps[-1] - 1) * self.dilation[-1] + 1
        low = least(-(-self.before[-1] // self.stride[-1]), self.out[-1])
        high = (self.size[-1] + self.before[-1] - reach) // self.stride[-1] + 1
        high = most(low, least(high, self.out[-1]))
        inner = arguments(inner_low=low, inner_high=high, channels=x.dims[1], x_row=x.strides[0])
        return inner | self.arguments(x)

    @property
    def rows(self) -> int:
        """Output rows of one image."""
        return prod(self.out[:-1])

    @property
    def pixels(self) -> int:
        """Output pixels of one image."""
        return prod(self.out)


def windows(node: ir.Node, size: Sequence[int], taps: Sequence[int], *, where: str) -> Windows:
    """Read a node's geometry for input sizes `size` and window sizes `taps`, by the rules of ONNX's Conv and pools.

    Raises InvalidModelError when a window does not fit into its padded input.
    """
    rank = len(size)
    stride = ints(node, "strides") or (1,) * rank
    dilation = ints(node, "dilations") or (1,) * rank
    pads = ints(node, "pads") or (0,) * (2 * rank)
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    ceil = bool(node.attributes.get_int("ceil_mode", 0))
    lengths = (len(stride), len(dilation), len(pads), len(taps))
    if lengths != (rank, rank, 2 * rank, rank) or any(value < 1 for value in (*stride, *dilation, *taps)):
        raise InvalidModelError(
            "strides, dilations, pads or kernel_shape do not fit the input",
            where=where,
            expected=f"{rank} positive values each ({2 * rank} pads)",
            got=f"strides {stride}, dilations {dilation}, pads {pads}, kernel {tuple(taps)}",
        )
    before, after, out = [], [], []
    for axis in range(rank):
        span = (taps[axis] - 1) * dilation[axis] + 1
        low, high = pads[axis], pads[rank + axis]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            steps = -(-size[axis] // stride[axis])
            total = most(0, (steps - 1) * stride[axis] + span - size[axis])
            low = total // 2 if auto == "SAME_UPPER" else total - total // 2
            high = total - low
        elif auto == "VALID":
            low = high = 0
        room = size[axis] + low + high - span
        if room < 0:
            raise InvalidModelError(
                "the window is larger than the padded input",
                where=where,
                expected=f"at least {span} on spatial axis {axis}",
                got=str(hint(size[axis] + low + high)),
            )
        last = room // stride[axis]
        if ceil:  # a last window may reach over the end, but it must start inside the input or its left pad
            last = least(-(-room // stride[axis]), most(last, (size[axis] + low - 1) // stride[axis]))
        count = last + 1
        before.append(low)
        after.append(high)
        out.append(count)
    return Windows(tuple(size), tuple(out), tuple(taps), stride, dilation, tuple(before), tuple(after))


_MOST_APART = 4
"""Pixels of a plane that a vector takes, at most: of those further apart most is read for nothing."""
_ROW_TAPS = 9
"""Taps of a row of a plane, at most: they are unrolled."""
_WINDOW_TAPS = 25
"""Of a window in a plane that has weights, at most: they are unrolled."""
_FARTHEST = 64
"""From a row's first tap to its last, at most, in planes."""


def in_planes(ctx: Lowering, x: View, shape: Windows, *, weighed: bool = False) -> bool:
    """Whether windows are best read from planes: the input lies so, and a row of the result fills half a vector.

    What comes out lies in planes as well. Turning the channels to the end takes longer than either way of reading.
    """
    lanes, stride = ctx.target.lanes(x.dtype), shape.stride[-1]
    if x.dtype.size not in (4, 8) or x.strides[-1] != 1 or stride > _MOST_APART or 2 * hint(shape.out[-1]) < lanes:
        return False
    taps, dilation = shape.taps[-1], shape.dilation[-1]
    if taps > _ROW_TAPS or taps * dilation > _FARTHEST or (weighed and prod(shape.taps) > _WINDOW_TAPS):
        return False
    return uniform_stride(x.dims[:2], x.strides[:2]) is not None


def plane_windows(
    ctx: Lowering,
    x: View,
    shape: Windows,
    fusion: Fusion,
    y: View,
    combine: Combine,
    before: Expr,
    more: dict[str, View | int],
) -> None:
    """y = fusion(the windows of x combined), both in planes; `more` is what this way to combine takes besides."""
    epilogue, operands = epilogue_of(fusion)
    last = (int(shape.taps[-1]), shape.stride[-1], shape.dilation[-1])
    dilated = any(d != 1 for d in shape.dilation[:-1])
    rows = tuple(int(taps) for taps in shape.taps[:-1]) if combine == "weighed" else ()
    kernel = PlaneWindows(combine, before, *last, dilated, rows, len(shape.out), epilogue)
    plane = uniform_stride(x.dims[:2], x.strides[:2]) or 0
    ctx.step(
        kernel,
        arguments(x=x, y=y, y_image=y.strides[0], y_row=y.strides[1], rows=shape.rows)
        | shape.sweep(x)
        | arguments(x_row=plane)
        | more
        | operands,
        domain=prod(x.dims[:2]) * shape.rows,
        label=fusion.label,
        cost=hint(shape.out[-1] * prod(shape.taps)) / 4,
    )


def sweep_tile(lanes: int, channels: int) -> tuple[int, int]:
    """(pixels, vectors of channels) that a sweeping kernel computes at once: eight accumulators.

    Those cover the latency of an addition, and leave registers on every processor.
    """
    return (4, 2) if channels >= 2 * lanes else (8, 1)
