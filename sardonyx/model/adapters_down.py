"""What an older version of an operator of ai.onnx writes otherwise: a node of a version, as it was before it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from sardonyx.model.adapters_up import REDUCTIONS, given, same
from sardonyx.model.foreign.body import Array, Body, Definition, Results

DOWN: dict[tuple[str, int], Definition] = {}
"""By operator and the version that brought the form that goes."""


def _before(version: int, *names: str) -> Callable[[Definition], Definition]:
    def register(definition: Definition) -> Definition:
        DOWN.update(((name, version), definition) for name in names)
        return definition

    return register


def _constant(b: Body, index: int, what: str) -> Array | None:
    """An input's elements, None when it is not given; refuses what only a run tells."""
    value = b.optional(index)
    if value is None:
        return None
    known = b.known(value)
    return b.refuse(f"{what} are an attribute, and here not constant") if known is None else known


def _integers(b: Body, index: int, what: str) -> list[int] | None:
    known = _constant(b, index, what)
    return None if known is None else [int(one) for one in known.reshape(-1)]


def _number(b: Body, index: int, what: str) -> float | None:
    known = _constant(b, index, what)
    return None if known is None or known.size == 0 else float(known.reshape(-1)[0])


@_before(18, *REDUCTIONS)
@_before(13, "ReduceSum")
def axes_as_attribute(b: Body) -> Results:
    """Axes are an attribute."""
    axes = _integers(b, 1, "axes")
    if not axes and b.int("noop_with_empty_axes", 0):
        if b.node.op_type in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd"):
            return b("Identity", b.input(0))
        b.refuse("it reduces no axis")
    return same(b, b.input(0), drop=("noop_with_empty_axes",), axes=axes or None)


@_before(13, "Squeeze", "Unsqueeze")
def squeeze(b: Body) -> Results:
    """Axes are an attribute, and in Squeeze may be left out."""
    return same(b, b.input(0), axes=_integers(b, 1, "axes"))


@_before(13, "Split")
def split(b: Body) -> Results:
    """Sizes are an attribute."""
    return same(b, b.input(0), split=_integers(b, 1, "sizes"))


@_before(18, "Split")
def split_equal(b: Body) -> Results:
    """Parts are of the same size, or their sizes are said."""
    count = b.node.attributes.get_int("num_outputs", None)
    if count is None:
        return same(b, *given(b))
    axis = b.int("axis", 0)
    size = b.dim(b.input(0), axis)
    if size is None:
        b.refuse(f"it makes {count} parts of an open dim")
    part = -(-size // count)
    if size % count == 0:
        return same(b, b.input(0), drop=("num_outputs",))
    return same(b, b.input(0), b.constant([part] * (count - 1) + [size - part * (count - 1)]), drop=("num_outputs",))


@_before(12, "Dropout")
def dropout(b: Body) -> Results:
    """The ratio is an attribute, and the session says whether it trains."""
    training = b.optional(2)
    known = b.known(training)
    if training is not None and (known is None or bool(known)):
        b.refuse("it is for training")
    return same(b, b.input(0), drop=("seed",), ratio=_number(b, 1, "ratios"))


@_before(14, "BatchNormalization")
def batch_normalization(b: Body) -> Results:
    """There is no switch for training."""
    if b.int("training_mode", 0):
        b.refuse("it is for training")
    return same(b, *given(b), drop=("training_mode",))


@_before(7, "BatchNormalization", "Dropout")
def switch(b: Body) -> Results:
    """A switch says that it is not for training."""
    return same(b, *given(b), is_test=1)


@_before(6, "BatchNormalization")
def batch_normalization_first(b: Body) -> Results:
    """It tells which inputs a runtime may write over."""
    return same(b, *given(b), consumed_inputs=[0, 0, 0, 1, 1])


@_before(6, "Cast")
def cast(b: Body) -> Results:
    """The type is a name."""
    return same(b, b.input(0), to=ir.DataType(b.int("to", 1)).name)


@_before(2, "GlobalLpPool", "LpPool")
def lp_pool(b: Body) -> Results:
    """The norm's order is a fraction."""
    return same(b, b.input(0), p=float(b.int("p", 2)))


@_before(12, "Constant")
def constant(b: Body) -> Results:
    """Only tensors."""
    for name, attribute in b.node.attributes.items():
        if name.startswith("value_string"):
            texts = [attribute.value] if name == "value_string" else list(attribute.value)
            dims = [] if name == "value_string" else [len(texts)]
            return b("Constant", value=ir.StringTensor([text.encode() for text in texts], shape=ir.Shape(dims)))
        if name.startswith("value_"):
            kind = np.int64 if name.startswith("value_int") else np.float32
            return b("Constant", value=ir.Tensor(np.array(attribute.value, kind)))
    return same(b)


@_before(11, "Clip")
def clip(b: Body) -> Results:
    """Bounds are attributes."""
    return same(b, b.input(0), min=_number(b, 1, "bounds"), max=_number(b, 2, "bounds"))


@_before(20, "DFT")
def dft(b: Body) -> Results:
    """The axis is an attribute, and was the first of the signal's."""
    axes = _integers(b, 2, "axes")
    axis = axes[0] if axes else -2
    return same(b, *given(b)[:2], axis=axis + b.rank(b.input(0)) if axis < 0 else axis)


@_before(7, "Gemm")
def gemm(b: Body) -> Results:
    """C is broadcast where it is said."""
    return same(b, *given(b), broadcast=1)


@_before(11, "Gemm")
def gemm_addend(b: Body) -> Results:
    """C must be given."""
    if b.optional(2) is not None:
        return same(b, *given(b))
    return same(b, *given(b)[:2], b.scalar(0.0, b.input(0)))


@_before(7, "Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")
def broadcast(b: Body) -> Results:
    """The second operand's dims stand for the first one's last ones."""
    shapes = [value.shape for value in (b.input(0), b.input(1))]
    left, right = ([dim if isinstance(dim, int) else str(dim) for dim in shape or ()] for shape in shapes)
    if None in shapes or left[len(left) - len(right) :] != right:
        b.refuse("the operands' dims differ, or are not known")
    return same(b, *given(b), broadcast=None if left == right else 1)


@_before(20, "GridSample")
def grid_sample(b: Body) -> Results:
    """Modes have other names, and there are only planes."""
    if b.rank(b.input(0)) != 4:
        b.refuse("it samples more than planes")
    mode = b.string("mode", "linear")
    return same(b, *given(b), mode={"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode))


@_before(13, "Hardmax", "LogSoftmax", "Softmax")
def softmax(b: Body) -> Results:
    """They are over all dims from `axis` on: another axis is brought last."""
    x, axis = b.input(0), b.int("axis", -1)
    rank = b.rank(x)
    axis %= rank or 1
    if axis == rank - 1:
        return same(b, x, axis=axis)
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    y = b(b.node.op_type, b("Transpose", x, perm=order), axis=rank - 1)
    return b("Transpose", y, perm=order)


@_before(11, "Pad")
def pad(b: Body) -> Results:
    """Widths and value are attributes."""
    pads = _integers(b, 1, "widths")
    return same(b, b.input(0), pads=pads, value=_number(b, 2, "values"))


@_before(2, "Pad")
def pad_first(b: Body) -> Results:
    """Widths have another name."""
    return same(b, b.input(0), drop=("pads",), paddings=b.ints("pads"))


@_before(18, "Pad")
def pad_axes(b: Body) -> Results:
    """All axes have widths."""
    if b.string("mode", "constant") == "wrap":
        b.refuse("the mode 'wrap'")
    if b.optional(3) is None:
        return same(b, *given(b))
    pads, axes, rank = _integers(b, 1, "widths") or [], _integers(b, 3, "axes") or [], b.rank(b.input(0))
    full = [0] * (2 * rank)
    for index, axis in enumerate(axes):
        full[axis % rank], full[axis % rank + rank] = pads[index], pads[index + len(axes)]
    return same(b, b.input(0), b.constant(full), b.optional(2))


@_before(28, "Mod")
def mod(b: Body) -> Results:
    """Floats have the sign of the dividend, as in C."""
    if not b.int("fmod", 0) and b.dtype(b.input(0)).is_floating_point():
        b.refuse("the remainder of floats with the divisor's sign")
    return same(b, *given(b))


@_before(8, "Max", "Mean", "Min", "Sum")
def alike(b: Body) -> Results:
    """All operands have the same dims."""
    shapes = {None if value is None or value.shape is None else str(value.shape) for value in given(b)}
    if len(shapes) > 1 or None in shapes:
        b.refuse("the operands' dims differ, or are not known")
    return same(b, *given(b))


@_before(22, "AveragePool", "MaxPool")
def pool(b: Body) -> Results:
    """With ceil_mode there may be a last window in nothing but padding."""
    x, strides, kernel = b.input(0), b.ints("strides"), b.ints("kernel_shape") or []
    pads, dilations = b.ints("pads") or [0] * (2 * len(kernel)), b.ints("dilations") or [1] * len(kernel)
    for axis, width in enumerate(kernel if b.int("ceil_mode", 0) else []):
        size, stride = b.known_dim(x, 2 + axis), strides[axis] if strides else 1
        reach = size + pads[axis] + pads[axis + len(kernel)] - dilations[axis] * (width - 1) - 1
        if -(-reach // stride) * stride >= size + pads[axis]:
            b.refuse("with ceil_mode a last window would begin in the padding")
    return same(b, *given(b))


@_before(5, "Reshape")
def reshape(b: Body) -> Results:
    """The shape is an attribute."""
    return same(b, b.input(0), shape=_integers(b, 1, "shapes"))


@_before(6, "Tile")
def tile(b: Body) -> Results:
    """One axis at a time."""
    x = b.input(0)
    for axis, count in enumerate(_integers(b, 1, "counts") or ()):
        x = b("Tile", x, *(b.scalar(float(n), x) for n in (count, axis)))
    return x


@_before(7, "PRelu")
def prelu(b: Body) -> Results:
    """A slope, or one for each channel."""
    x, slope = b.input(0), b.input(1)
    dims = [b.known_dim(slope, axis) for axis in range(b.rank(slope))]
    rest = b.rank(x) - 2
    channels = dims[max(0, len(dims) - rest - 1)] if len(dims) > rest else 1
    if any(size != 1 for size in (*dims[: -rest - 1], *dims[len(dims) - rest :])):
        b.refuse(f"a slope of dims {dims}")
    return same(b, x, b("Reshape", slope, shape=[channels]))


@_before(10, "Slice")
def slice_(b: Body) -> Results:
    """Starts, ends and axes are attributes, and there are no steps."""
    starts, ends, axes, steps = (_integers(b, at, "starts, ends, axes or steps") for at in range(1, 5))
    if steps and any(step != 1 for step in steps):
        b.refuse(f"steps {steps}")
    return same(b, b.input(0), starts=starts, ends=ends, axes=axes)


@_before(10, "TopK")
def top_k(b: Body) -> Results:
    """How many is an attribute."""
    counts = _integers(b, 1, "counts")
    return same(b, b.input(0), k=(counts or [0])[0])


@_before(15, "Shape")
def shape(b: Body) -> Results:
    """All dims, of which some are cut."""
    start, end = b.int("start", 0), b.node.attributes.get_int("end", None)
    whole = b("Shape", b.input(0))
    if not start and end is None:
        return whole
    rank = b.rank(b.input(0))
    low = max(0, min(rank, start + rank if start < 0 else start))
    high = rank if end is None else max(0, min(rank, end + rank if end < 0 else end))
    return b("Slice", whole, b.constant([low]), b.constant([max(low, high)]), b.constant([0]))


@_before(11, "Resize")
def resize(b: Body) -> Results:
    """Places are found in one way, and by scales."""
    rule = b.string("coordinate_transformation_mode", "half_pixel"), b.string("mode", "nearest")
    floor = b.string("nearest_mode", "round_prefer_floor") == "floor"
    if rule[0] != "asymmetric" or rule[1] not in ("nearest", "linear") or (rule[1] == "nearest" and not floor):
        b.refuse(f"{rule[1]} places found as {rule[0]}")
    scales = b.optional(2)
    if scales is None or b.optional(3) is not None or b.dim(scales, 0) == 0:
        b.refuse("sizes in place of scales")
    return b("Resize", b.input(0), scales, mode=rule[1])


@_before(13, "Resize")
def resize_inputs(b: Body) -> Results:
    """All of region, scales and sizes are inputs, maybe empty ones."""
    roi, scales = (b.constant(np.zeros(0, np.float32)) if b.optional(at) is None else b.optional(at) for at in (1, 2))
    return same(b, b.input(0), roi, scales, b.optional(3))


@_before(18, "Resize")
def resize_axes(b: Body) -> Results:
    """All axes have a scale."""
    if b.int("antialias", 0) or b.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        b.refuse("antialiasing, or a policy for the ratio of sides")
    if b.ints("axes") is not None and sorted(b.ints("axes") or ()) != list(range(b.rank(b.input(0)))):
        b.refuse("scales of some axes")
    if b.ints("axes") is not None and b.ints("axes") != sorted(b.ints("axes") or ()):
        b.refuse("axes in another order")
    return same(b, *given(b), drop=("antialias", "keep_aspect_ratio_policy", "axes"))


@_before(10, "Resize")
def resize_as_upsample(b: Body) -> Results:
    """It is called Upsample, and only makes larger."""
    scales = b.known(b.input(1))
    if scales is None or (scales < 1).any():
        b.refuse("scales that are not known to be at least 1")
    return b("Upsample", b.input(0), b.input(1), mode=b.string("mode", "nearest"))


@_before(9, "Upsample")
def upsample(b: Body) -> Results:
    """Scales are an attribute."""
    scales = _constant(b, 1, "scales")
    assert scales is not None
    return same(b, b.input(0), scales=[float(scale) for scale in scales])


@_before(7, "Upsample")
def upsample_pictures(b: Body) -> Results:
    """Scales of pictures have names of their own."""
    scales = b.node.attributes.get_floats("scales", ())
    if len(scales) != 4 or any(scale != 1 for scale in scales[:2]):
        b.refuse("scales of other dims than a picture's")
    return same(b, b.input(0), drop=("scales",), height_scale=scales[2], width_scale=scales[3])


@_before(16, "RoiAlign")
def roi_align(b: Body) -> Results:
    """Regions begin at the corner of a pixel."""
    if b.string("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        b.refuse("regions that begin half a pixel before")
    return same(b, *given(b), drop=("coordinate_transformation_mode",))


@_before(11, "ScatterElements")
def scatter(b: Body) -> Results:
    """It is called Scatter."""
    return b("Scatter", *given(b), **b.kept("axis"))
