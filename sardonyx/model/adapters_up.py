"""What a newer version of an operator of ai.onnx writes otherwise: a node of the version before, as it is from that
version on. What is not here means the same as it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.body import Body, Definition, Results

UP: dict[tuple[str, int], Definition] = {}
"""By operator and the version that brought another form."""


def _from(version: int, *names: str) -> Callable[[Definition], Definition]:
    def register(definition: Definition) -> Definition:
        UP.update(((name, version), definition) for name in names)
        return definition

    return register


def same(b: Body, *inputs: ir.Value | None, drop: tuple[str, ...] = (), **changed: Any) -> list[ir.Value]:
    """The node again with other inputs, without some attributes, others changed; those that become None go as well."""
    kept: dict[str, Any] = {name: attribute for name, attribute in b.node.attributes.items() if name not in drop}
    return list(b.many(b.node.op_type, len(b.node.outputs), *inputs, **{**kept, **changed}))


def given(b: Body) -> tuple[ir.Value | None, ...]:
    """The node's inputs."""
    return tuple(b.node.inputs)


REDUCTIONS = tuple(
    f"Reduce{name}" for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)


@_from(18, *REDUCTIONS)
@_from(13, "ReduceSum", "Squeeze", "Unsqueeze")
def axes_as_input(b: Body) -> Results:
    """Axes are an input."""
    return same(b, b.input(0), _vector(b, b.ints("axes")), drop=("axes",))


def _vector(b: Body, values: list[int] | None) -> ir.Value | None:
    return None if values is None else b.constant(values)


@_from(13, "Split")
def split_as_input(b: Body) -> Results:
    """Sizes are an input."""
    return same(b, b.input(0), _vector(b, b.ints("split")), drop=("split",))


@_from(18, "Split")
def split_counted(b: Body) -> Results:
    """Without sizes the number of parts must be said."""
    return same(b, *given(b), num_outputs=None if b.optional(1) is not None else len(b.node.outputs))


@_from(2, "Split")
def split_first(b: Body) -> Results:
    """Sizes were an attribute or an input."""
    sizes = b.ints("split")
    if b.optional(1) is not None:
        known = b.known(b.optional(1))
        sizes = b.refuse("its sizes are not constant") if known is None else [int(size) for size in known]
    return same(b, b.input(0), split=sizes)


@_from(7, "Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")
def broadcast(b: Body) -> Results:
    """The second operand's dims stood for those from `axis` on, or for the last ones."""
    left, right, axis = b.input(0), b.input(1), b.node.attributes.get_int("axis", None)
    if b.int("broadcast", 0) and axis is not None:
        inner, outer = b.rank(right), b.rank(left)
        more = outer - (axis % outer if outer else 0) - inner
        if more > 0:
            right = b("Unsqueeze", right, axes=[inner + place for place in range(more)])
    return same(b, left, right, drop=("axis", "broadcast"))


@_from(7, "Gemm")
def gemm(b: Body) -> Results:
    """C is always broadcast."""
    return same(b, *given(b), drop=("broadcast",))


@_from(7, "PRelu")
def prelu(b: Body) -> Results:
    """Slopes were one for each channel."""
    x, slope = b.input(0), b.input(1)
    rank = b.rank(x)
    if b.rank(slope) == 1 and b.dim(slope, 0) != 1 and rank > 2:
        slope = b("Unsqueeze", slope, axes=list(range(1, rank - 1)))
    return same(b, x, slope)


@_from(7, "Dropout")
def dropout(b: Body) -> Results:
    """There was a switch for training."""
    if not b.int("is_test", 0) and b.wanted(1):
        b.refuse("it is for training")
    return same(b, *given(b), drop=("is_test",))


@_from(12, "Dropout")
def dropout_ratio(b: Body) -> Results:
    """The ratio is an input."""
    ratio = b.scalar(b.float("ratio", 0.5), b.input(0))
    return same(b, b.input(0), ratio, drop=("ratio",))


@_from(7, "BatchNormalization")
def batch_normalization(b: Body) -> Results:
    """There was a switch for training."""
    if not b.int("is_test", 0) and len(b.node.outputs) > 1:
        b.refuse("it is for training")
    return same(b, *given(b), drop=("is_test",))


@_from(9, "BatchNormalization")
def batch_normalization_spatial(b: Body) -> Results:
    """Statistics were of channels, or of each place."""
    if not b.int("spatial", 1):
        b.refuse("it has statistics of each place (spatial=0)")
    return same(b, *given(b), drop=("spatial",))


@_from(14, "BatchNormalization")
def batch_normalization_training(b: Body) -> Results:
    """What training gave was named by more results."""
    if any(b.wanted(index) for index in range(1, 5)):
        b.refuse("it is for training")
    return b.many("BatchNormalization", 1, *given(b), **b.kept("epsilon", "momentum"))


_NUMBERS = {name: ir.DataType[name] for name in ir.DataType.__members__}


@_from(6, "Cast")
def cast(b: Body) -> Results:
    """The type was a name."""
    name = b.string("to", "").upper()
    if name not in _NUMBERS:
        b.refuse(f"the type {name!r}")
    return same(b, *given(b), to=int(_NUMBERS[name]))


@_from(11, "Clip")
def clip(b: Body) -> Results:
    """Bounds are inputs."""
    x = b.input(0)
    bounds = (b.scalar(b.float(name, 0.0), x) if name in b.node.attributes else None for name in ("min", "max"))
    return same(b, x, *bounds, drop=("min", "max"))


@_from(4, "Concat")
def concat(b: Body) -> Results:
    """The axis must be said."""
    return same(b, *given(b), axis=b.int("axis", 1))


@_from(20, "DFT")
def dft(b: Body) -> Results:
    """The axis is an input."""
    axis = b.constant(np.array(b.int("axis", 1)))
    return same(b, b.input(0), b.optional(1), axis, drop=("axis",))


@_from(7, "GRU", "LSTM", "RNN")
def recurrent(b: Body) -> Results:
    """What is not named is not made."""
    return same(b, *given(b), drop=("output_sequence",))


@_from(2, "GlobalLpPool", "LpPool")
def lp_pool(b: Body) -> Results:
    """The norm's order is an integer."""
    order = b.float("p", 2.0)
    if order != int(order):
        b.refuse(f"a norm of order {order}")
    return same(b, *given(b), p=int(order))


@_from(20, "GridSample")
def grid_sample(b: Body) -> Results:
    """Modes have other names."""
    mode = b.string("mode", "bilinear")
    return same(b, *given(b), mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


@_from(21, "GroupNormalization")
def group_normalization(b: Body) -> Results:
    """Scales are of channels, not of groups."""
    x, groups = b.input(0), b.int("num_groups")
    channels = b.known_dim(x, 1)
    if groups < 1 or channels % groups:
        b.refuse(f"{groups} groups of {channels} channels")
    wide = (
        b("Reshape", b("Expand", b("Reshape", b.input(at), [-1, 1]), [1, channels // groups]), [-1]) for at in (1, 2)
    )
    return same(b, x, *wide)


@_from(13, "Hardmax", "LogSoftmax", "Softmax")
def softmax(b: Body) -> Results:
    """They were over all dims from `axis` on."""
    x, axis = b.input(0), b.int("axis", 1)
    if axis == -1 or (x.shape is not None and axis == len(x.shape) - 1):
        return same(b, x, axis=-1)
    flat = b(b.node.op_type, b("Flatten", x, axis=axis), axis=-1)
    return b("Reshape", flat, b("Shape", x))


@_from(2, "Pad")
def pad_first(b: Body) -> Results:
    """The attribute has another name."""
    return same(b, *given(b), drop=("paddings",), pads=b.ints("paddings"))


@_from(11, "Pad")
def pad(b: Body) -> Results:
    """Widths and value are inputs."""
    pads, value = b.ints("pads"), b.float("value", 0.0)
    if pads is None:
        b.refuse("the attribute 'pads' is missing")
    x = b.input(0)
    return same(b, x, b.constant(pads), b.scalar(value, x) if value else None, drop=("pads", "value"))


@_from(5, "Reshape")
def reshape(b: Body) -> Results:
    """The shape is an input."""
    return same(b, b.input(0), b.constant(b.ints("shape") or []), drop=("shape",))


@_from(6, "Tile")
def tile(b: Body) -> Results:
    """One axis was repeated."""
    count, axis = b.known(b.input(1)), b.known(b.input(2))
    if count is None or axis is None:
        b.refuse("how often it repeats which axis is not constant")
    repeats = [1] * b.rank(b.input(0))
    repeats[int(axis.item())] = int(count.item())
    return same(b, b.input(0), b.constant(repeats))


@_from(10, "Slice")
def slice_(b: Body) -> Results:
    """Starts, ends and axes are inputs."""
    starts, ends = b.ints("starts"), b.ints("ends")
    if starts is None or ends is None:
        b.refuse("'starts' or 'ends' are missing")
    axes = _vector(b, b.ints("axes"))
    return same(b, b.input(0), b.constant(starts), b.constant(ends), axes, drop=("starts", "ends", "axes"))


@_from(10, "TopK")
def top_k(b: Body) -> Results:
    """How many is an input."""
    return same(b, b.input(0), b.constant([b.int("k")]), drop=("k",))


@_from(7, "Upsample")
def upsample_first(b: Body) -> Results:
    """Scales were two."""
    height, width = b.float("height_scale", 1.0), b.float("width_scale", 1.0)
    return same(b, *given(b), drop=("height_scale", "width_scale"), scales=[1.0, 1.0, height, width])


@_from(9, "Upsample")
def upsample(b: Body) -> Results:
    """Scales are an input."""
    scales = b.node.attributes.get_floats("scales", ())
    return same(b, b.input(0), b.constant(np.array(scales, np.float32)), drop=("scales",))


@_from(10, "Upsample")
def upsample_as_resize(b: Body) -> Results:
    """It is called Resize."""
    return b("Resize", *given(b), mode=b.string("mode", "nearest"))


@_from(11, "Resize")
def resize(b: Body) -> Results:
    """How places are found has become a choice."""
    empty = b.constant(np.zeros(0, np.float32))
    given = b.input(0), empty, b.input(1)
    return same(b, *given, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


@_from(16, "RoiAlign")
def roi_align(b: Body) -> Results:
    """Regions began at the corner of a pixel."""
    return same(b, *given(b), coordinate_transformation_mode="output_half_pixel")


@_from(11, "Scatter")
def scatter(b: Body) -> Results:
    """It is called ScatterElements."""
    return b("ScatterElements", *given(b), **b.kept("axis"))


@_from(9, "Scan")
def scan(b: Body) -> Results:
    """There was a batch axis."""
    b.refuse("Scan-8 runs over a batch, which no later version does")
