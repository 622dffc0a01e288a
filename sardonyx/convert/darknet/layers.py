"""What Darknet's layers are in ONNX: for each kind of section a function that reads its options and emits its nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from sardonyx.convert.darknet.files import Section
from sardonyx.convert.shaped import Array, Emitter, Tensor, Unsupported, text

MAX_SIZE = 2**20
MAX_CELLS = 2**13


class Floats:
    """The weights file: floats taken one layer after the other."""

    def __init__(self, values: Array, transposed: bool) -> None:
        self.values, self.transposed, self.at = values, transposed, 0

    def take(self, count: int) -> Array:
        """The next floats, as float64. Raises Unsupported when there are not as many."""
        if not 0 <= count <= len(self.values) - self.at:
            left = len(self.values) - self.at
            raise Unsupported(f"the weights file holds {left:,} more floats where it needs {count:,}")
        self.at += count
        return self.values[self.at - count : self.at].astype(np.float64)


@dataclass
class Call(Emitter):
    """One layer that is emitted: its options, its input, all earlier results by index, and the weights."""

    o: Section = field(default_factory=lambda: Section("", {}))
    net: Section = field(default_factory=lambda: Section("", {}))
    index: int = 0
    x: Tensor = field(default_factory=lambda: Tensor(ir.Value(), ()))
    earlier: Sequence[Tensor | None] = ()
    floats: Floats = field(default_factory=lambda: Floats(np.empty(0), False))

    def picture(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        if self.x.rank != 4:
            raise Unsupported(f"its input of shape {text(self.x.shape)} is no picture")
        channels, height, width = self.x.known(1, 2, 3)
        return channels, height, width

    def other(self, index: int) -> Tensor:
        """The result of another layer: counted from here where it is negative."""
        place = self.index + index if index < 0 else index
        if not 0 <= place < self.index:
            raise Unsupported(f"there is no layer {index} before it")
        found = self.earlier[place]
        if found is None:
            raise Blocked
        return found

    def refuse(self, **allowed: str) -> None:
        """Refuse options that have another value than that which changes nothing."""
        for name, value in allowed.items():
            if self.o.text(name, value) != value:
                raise Unsupported(f"{name} = {self.o.values[name][:40]} is not supported")


class Blocked(Exception):  # noqa: N818 - no error: an input of it was told already
    """A layer cannot be emitted because one that it takes could not."""


Rule = Callable[[Call], Tensor]


def _scaled(c: Call, x: ir.Value, factor: float, tag: str) -> ir.Value:
    return c.node("Mul", [x, c.constant(f"{tag}_factor", factor)], tag)


def _loggy(c: Call, x: ir.Value) -> ir.Value:
    return c.node("Tanh", [_scaled(c, x, 0.5, "half")])  # 2 / (1 + exp(-x)) - 1


def _hard_mish(c: Call, x: ir.Value) -> ir.Value:
    raised = c.node("Add", [_scaled(c, x, 0.5, "half"), c.constant("one", 1)], "raised")
    return c.node("Mul", [x, c.node("Clip", [raised, c.constant("zero", 0), c.constant("one", 1)], "gate")])


def _swish(c: Call, x: ir.Value) -> ir.Value:
    return c.node("Mul", [x, c.node("Sigmoid", [x], "gate")])


def _relie(slope: float) -> Callable[[Call, ir.Value], ir.Value]:
    return lambda c, x: c.node("LeakyRelu", [x], alpha=slope)


def _ramp(c: Call, x: ir.Value) -> ir.Value:
    return c.node("Add", [c.node("Relu", [x], "positive"), _scaled(c, x, 0.1, "tenth")])


def _clip(low: float, high: float) -> Callable[[Call, ir.Value], ir.Value]:
    return lambda c, x: c.node("Clip", [x, c.constant("low", low), c.constant("high", high)])


def _pieces(low: float, high: float, slope: float, outer: float, shift: float) -> Callable[[Call, ir.Value], ir.Value]:
    """`slope * x + shift` between the bounds, and the gentler `outer` slope beyond them."""

    def emit(c: Call, x: ir.Value) -> ir.Value:
        inner = c.node("Clip", [x, c.constant("low", low), c.constant("high", high)], "inner")
        rest = _scaled(c, c.node("Sub", [x, inner], "rest"), outer, "outer")
        middle = _scaled(c, inner, slope, "middle")
        return c.node("Add", [c.node("Add", [middle, c.constant("shift", shift)], "shifted"), rest])

    return emit


ACTIVATIONS: dict[str, Callable[[Call, ir.Value], ir.Value]] = {
    "elu": lambda c, x: c.node("Elu", [x]),
    "gelu": lambda c, x: c.node("Gelu", [x], approximate="tanh"),
    "hard_mish": _hard_mish,
    "hardtan": _clip(-1, 1),
    "leaky": lambda c, x: c.node("LeakyRelu", [x], alpha=0.1),
    "lhtan": _pieces(0, 1, 1, 0.001, 0),
    "linear": lambda c, x: c.node("Identity", [x]),
    "loggy": _loggy,
    "logistic": lambda c, x: c.node("Sigmoid", [x]),
    "mish": lambda c, x: c.node("Mish", [x]),
    "plse": _pieces(-4, 4, 0.125, 0.01, 0.5),
    "ramp": _ramp,
    "relie": _relie(0.01),
    "relu": lambda c, x: c.node("Relu", [x]),
    "relu6": _clip(0, 6),
    "selu": lambda c, x: c.node("Selu", [x], alpha=1.6732, gamma=1.0507),
    "swish": _swish,
    "tanh": lambda c, x: c.node("Tanh", [x]),
}
"""By name, as activations.h of either Darknet has them."""


def _activate(c: Call, value: ir.Value | Callable[[str], ir.Value], default: str) -> ir.Value:
    """The layer's activation; `value` is emitted as the layer's own node where that is linear."""
    name = c.o.text("activation", default)
    if name not in ACTIVATIONS:
        raise Unsupported(f"the activation {name[:40]!r} is not supported")
    if callable(value):
        if name == "linear":
            return value("")
        value = value("linear")
    return ACTIVATIONS[name](c, value)


def _positive(c: Call, name: str, default: int, least: int = 1) -> int:
    value = c.o.int(name, default)
    if not least <= value <= MAX_SIZE:
        raise Unsupported(f"{name} is {value}")
    return value


def _strides(c: Call, default: int) -> list[int]:
    stride = _positive(c, "stride", default)
    return [_positive(c, "stride_y", stride), _positive(c, "stride_x", stride)]


def _normalised(weights: Array, bias: Array, scale: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
    """Weights and bias with the normalisation in them: (x - mean) / (sqrt(variance) + 1e-6) (normalize_cpu)."""
    if np.any(variance < 0):
        raise Unsupported("a stored variance is negative")
    factor = scale / (np.sqrt(variance) + 1e-6)
    return weights * factor.reshape(-1, *[1] * (weights.ndim - 1)), bias - mean * factor


def _convolutional(c: Call) -> Tensor:
    channels, height, width = c.picture()
    c.refuse(binary="0", xnor="0", antialiasing="0", assisted_excitation="0", share_index="-1000000000",
             dontloadscales="0", dontload="0", flipped="0", deform="0", sway="0", rotate="0", stretch="0",
             stretch_sway="0", bin_output="0", dot="0")  # fmt: skip
    filters, size, groups = _positive(c, "filters", 1), _positive(c, "size", 1), _positive(c, "groups", 1)
    strides, dilation = _strides(c, 1), _positive(c, "dilation", 1)
    pad = size // 2 if c.o.int("pad", 0) else _positive(c, "padding", 0, 0)
    pad *= dilation
    if channels % groups or filters % groups:
        raise Unsupported(f"{channels} channels and {filters} filters are not {groups} groups")
    norm = c.o.int("batch_normalize", 0)
    bias = c.floats.take(filters)
    scale, mean, variance = (c.floats.take(filters) for _ in range(3)) if norm else (None, None, None)
    weights = c.floats.take(filters * (channels // groups) * size * size)
    weights = weights.reshape(filters, channels // groups, size, size)
    if scale is not None and mean is not None and variance is not None:
        weights, bias = _normalised(weights, bias, scale, mean, variance)
    span = dilation * (size - 1) + 1
    sizes = [(n + 2 * pad - span) // s + 1 if n + 2 * pad >= span else 0
             for n, s in zip((height, width), strides, strict=True)]  # fmt: skip
    given = [c.x.value, c.constant("weights", weights), c.constant("biases", bias)]

    def convolve(tag: str) -> ir.Value:
        return c.node("Conv", given, tag, kernel_shape=[size] * 2, strides=strides, pads=[pad] * 4,
                      dilations=[dilation] * 2, group=groups)  # fmt: skip

    return c.tensor(_activate(c, convolve, "logistic"), (c.x.shape[0], filters, *sizes))


def _flat(c: Call) -> Tensor:
    size = int(np.prod(c.x.known(*range(1, c.x.rank))))
    return c.x if c.x.rank == 2 else c.reshape(c.x, (c.x.shape[0], size), "flat")


def _connected(c: Call) -> Tensor:
    flat, outputs = _flat(c), _positive(c, "output", 1)
    inputs = flat.known(1)[0]
    bias, weights = c.floats.take(outputs), c.floats.take(outputs * inputs)
    weights = weights.reshape(inputs, outputs).T if c.floats.transposed else weights.reshape(outputs, inputs)
    if c.o.int("batch_normalize", 0):
        weights, bias = _normalised(weights, bias, *(c.floats.take(outputs) for _ in range(3)))
    given = [flat.value, c.constant("weights", weights), c.constant("biases", bias)]
    return c.tensor(
        _activate(c, lambda tag: c.node("Gemm", given, tag, transB=1), "logistic"), (flat.shape[0], outputs)
    )


def _maxpool(c: Call) -> Tensor:
    """Half of the padding, rounded down, lies before the picture (make_maxpool_layer, forward_maxpool_layer)."""
    _, *sizes = c.picture()
    c.refuse(maxpool_depth="0", antialiasing="0")
    strides = _strides(c, 1)
    size = _positive(c, "size", strides[0])
    padding = _positive(c, "padding", size - 1, 0)
    before, outputs, after = padding // 2, [], []
    for length, stride in zip(sizes, strides, strict=True):
        count = (length + padding - size) // stride + 1 if length + padding >= size else 0
        end = (count - 1) * stride + size - length - before
        if before >= size or end >= size:
            raise Unsupported(f"a window of {size} with a padding of {padding} would hold nothing")
        outputs.append(count)
        after.append(max(0, end))
    pads = [before, before, *after]
    value = c.node("MaxPool", [c.x.value], kernel_shape=[size] * 2, strides=strides, pads=pads)
    return c.tensor(value, (*c.x.shape[:2], *outputs))


def _avgpool(c: Call) -> Tensor:
    channels, _, _ = c.picture()
    return c.tensor(c.node("GlobalAveragePool", [c.x.value]), (c.x.shape[0], channels, 1, 1))


def _route(c: Call) -> Tensor:
    inputs = [c.other(index) for index in c.o.ints("layers")]
    groups, group = _positive(c, "groups", 1), c.o.int("group_id", 0)
    if not inputs or not 0 <= group < groups or len({(x.shape[0], *x.shape[2:]) for x in inputs}) != 1:
        raise Unsupported(f"it joins inputs of shapes {', '.join(text(x.shape) for x in inputs)}")
    if groups > 1:
        sizes = [x.known(1)[0] // groups for x in inputs]
        inputs = [c.slices(x, {1: (group * size, (group + 1) * size)}, f"group_{i}")
                  for i, (x, size) in enumerate(zip(inputs, sizes, strict=True))]  # fmt: skip
    if len(inputs) == 1:
        return c.like(inputs[0], c.node("Identity", [inputs[0].value]))
    total = sum(x.known(1)[0] for x in inputs)
    value = c.node("Concat", [x.value for x in inputs], axis=1)
    return c.tensor(value, (inputs[0].shape[0], total, *inputs[0].shape[2:]))


def _shortcut(c: Call) -> Tensor:
    """The input plus another layer's result, of which channels that are not there count as zeros."""
    c.refuse(weights_type="none", weights_normalization="none", alpha="1", beta="1")
    value, tail = c.x.value, c.o.ints("from")
    channels = c.picture()[0]
    if not tail:
        raise Unsupported("from is missing")
    for i, index in enumerate(tail):
        other = c.other(index)
        if other.rank != 4 or other.shape[2:] != c.x.shape[2:] or (len(tail) > 1 and other.shape != c.x.shape):
            raise Unsupported(f"it adds inputs of shapes {text(c.x.shape)} and {text(other.shape)}")
        have, addend = other.known(1)[0], other.value
        if have > channels:
            addend = c.slices(other, {1: (0, channels)}, "cut").value
        elif have < channels:
            pads = c.constant("pads", [0] * 5 + [channels - have, 0, 0], np.int64)
            addend = c.node("Pad", [addend, pads], "padded")
        last = i == len(tail) - 1
        left = value

        def add(tag: str, left: ir.Value = left, addend: ir.Value = addend) -> ir.Value:
            return c.node("Add", [left, addend], tag)

        value = _activate(c, add, "linear") if last else add(f"sum_{i}")
    return c.like(c.x, value)


def _scale_channels(c: Call) -> Tensor:
    """Another layer's result times this one's, a number a channel (AlexeyAB)."""
    c.refuse(scale_wh="0")
    other = c.other(c.o.int("from", 0))
    if other.rank != 4 or c.x.rank != 4 or other.shape[:2] != c.x.shape[:2] or c.x.shape[2:] != (1, 1):
        raise Unsupported(f"it scales an input of shape {text(other.shape)} by one of {text(c.x.shape)}")
    return c.like(other, _activate(c, lambda tag: c.node("Mul", [other.value, c.x.value], tag), "linear"))


def _sam(c: Call) -> Tensor:
    """Another layer's result times this one's (AlexeyAB)."""
    other = c.other(c.o.int("from", 0))
    if other.shape != c.x.shape:
        raise Unsupported(f"it multiplies inputs of shapes {text(other.shape)} and {text(c.x.shape)}")
    return c.like(c.x, _activate(c, lambda tag: c.node("Mul", [other.value, c.x.value], tag), "linear"))


def _upsample(c: Call) -> Tensor:
    _, height, width = c.picture()
    stride, scale = _positive(c, "stride", 2), c.o.float("scale", 1.0)
    value = c.node(
        "Resize", [c.x.value, None, c.constant("scales", [1, 1, stride, stride])], "" if scale == 1 else "larger",
        mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    if scale != 1:
        value = _scaled(c, value, scale, "")
    return c.tensor(value, (*c.x.shape[:2], height * stride, width * stride))


def _reorg(c: Call) -> Tensor:
    """Darknet's own order: the input's memory is read as fewer channels of a larger picture (reorg_cpu)."""
    c.refuse(reverse="0", flatten="0", extra="0")
    channels, height, width = c.picture()
    s = _positive(c, "stride", 1)
    if channels % (s * s) or height % s or width % s:
        raise Unsupported(f"its input of shape {text(c.x.shape)} cannot be cut by {s}")
    batch, fewer = c.x.shape[0], channels // (s * s)
    apart = c.reshape(c.x, (batch, fewer, height, s, width, s), "apart")
    turned = c.transpose(apart, [0, 3, 5, 1, 2, 4], "turned")
    return c.reshape(turned, (batch, channels * s * s, height // s, width // s))


def _softmax(c: Call) -> Tensor:
    c.refuse(spatial="0", tree="", noloss="0")
    flat, groups = _flat(c), _positive(c, "groups", 1)
    size, temperature = flat.known(1)[0], c.o.float("temperature", 1.0)
    if size % groups or temperature <= 0:
        raise Unsupported(f"{size} numbers are not {groups} groups, or the temperature is {temperature}")
    if temperature != 1:
        flat = c.like(flat, _scaled(c, flat.value, 1 / temperature, "cooled"))
    if groups == 1:
        return c.like(flat, c.node("Softmax", [flat.value], axis=1))
    apart = c.reshape(flat, (flat.shape[0], groups, size // groups), "apart")
    return c.reshape(c.like(apart, c.node("Softmax", [apart.value], "softmax", axis=2)), flat.shape)


def _activation(c: Call) -> Tensor:
    return c.like(c.x, _activate(c, c.x.value, "linear"))


def _dropout(c: Call) -> Tensor:
    return c.like(c.x, c.node("Identity", [c.x.value]))


def _crop(c: Call) -> Tensor:
    """The middle of the picture, from 0..1 to -1..1 unless told not to (forward_crop_layer)."""
    _, height, width = c.picture()
    size = [_positive(c, "crop_height", 1), _positive(c, "crop_width", 1)]
    offsets = [(height - size[0]) // 2, (width - size[1]) // 2]
    if min(offsets) < 0:
        raise Unsupported(f"it cuts {size} out of {[height, width]}")
    plain = c.o.int("noadjust", 0)
    for name in ("flip", "angle", "saturation", "exposure", "shift"):
        c.o.text(name)
    bounds = {axis: (o, o + s) for axis, o, s in zip((2, 3), offsets, size, strict=True)}
    cut = c.slices(c.x, bounds, "" if plain else "cut")
    if plain:
        return cut
    return c.like(cut, c.node("Add", [_scaled(c, cut.value, 2, "doubled"), c.constant("shift", -1)]))


def _boxes(
    c: Call,
    anchors: Array,
    classes: int,
    *,
    sharp: bool,
    stretch: float,
    picked: Callable[[ir.Value], ir.Value],
    unit: Array,
) -> Tensor:
    """Rows of boxes. `sharp` says that values come activated; `unit` is what anchors are measured by."""
    channels, height, width = c.picture()
    count, row = len(anchors), 5 + classes
    if max(height, width) > MAX_CELLS:
        raise Unsupported(f"it has {height} by {width} cells")
    if channels != count * row:
        raise Unsupported(f"it has {channels} channels, expected {count} times {row}")
    batch = c.x.shape[0]
    apart = c.reshape(c.x, (batch, count, row, height, width), "apart")
    moved = c.transpose(apart, [0, 3, 4, 1, 2], "by_place")  # batch, row, column, anchor, numbers
    sizes = c.constant("parts", [2, 2, 1, classes], np.int64)
    centre, extent, objectness, scores = c.nodes("Split", [moved.value, sizes], 4, "part", axis=-1)
    if not sharp:
        centre, objectness = c.node("Sigmoid", [centre], "centre"), c.node("Sigmoid", [objectness], "objectness")
    if stretch != 1:
        centre = c.node(
            "Add", [_scaled(c, centre, stretch, "stretched"), c.constant("back", 0.5 - 0.5 * stretch)], "eased"
        )
    # A row and a column, since a short text could ask for a map of all cells that does not fit into memory.
    column, row_of = np.arange(width)[:, None] * [1, 0], np.arange(height)[:, None] * [0, 1]
    centre = c.node("Add", [centre, c.constant("columns", column[None, None, :, None])], "in_row")
    centre = c.node("Add", [centre, c.constant("rows_above", row_of[None, :, None, None])], "in_cells")
    centre = c.node("Mul", [centre, c.constant("cell", [1 / width, 1 / height])], "in_picture")
    if sharp:
        extent = c.node("Mul", [extent, extent], "square")
        anchors = anchors * 4
    else:
        extent = c.node("Exp", [extent], "growth")
    extent = c.node("Mul", [extent, c.constant("anchors", anchors / unit)], "extent")
    scores = c.node("Mul", [picked(scores), objectness], "scores")
    rows = c.node("Concat", [centre, extent, objectness, scores], "rows", axis=-1)
    return c.reshape(c.tensor(rows, moved.shape), (batch, height * width * count, row))


_TRAINING = (
    "jitter", "ignore_thresh", "truth_thresh", "random", "thresh", "rescore", "absolute", "object_scale", "max",
    "noobject_scale", "class_scale", "coord_scale", "bias_match", "max_boxes", "iou_normalizer", "cls_normalizer",
    "obj_normalizer", "iou_loss", "nms_kind", "beta_nms", "max_delta", "iou_thresh", "resize", "label_smooth_eps",
    "show_details", "objectness_smooth", "focal_loss", "map", "delta_normalizer", "iou_thresh_kind",
    "iou_weights_type", "counters_per_class", "truth_weights", "embedding_layer", "nms_threshold", "letter_box",
    "fm_confidence", "track_history_size", "sim_thresh", "dets_for_track", "dets_for_show", "track_ciou_norm",
)  # fmt: skip
"""Options of detection layers that say how they are trained or shown."""


def _pairs(c: Call, count: int) -> Array:
    values = c.o.floats("anchors")
    if len(values) < 2 * count or min(values, default=0) <= 0:
        raise Unsupported(f"it has {len(values)} anchors, expected {2 * count} positive numbers")
    return np.array(values[: 2 * count]).reshape(count, 2)


def _yolo(c: Call) -> Tensor:
    number, classes = _positive(c, "num", 1), _positive(c, "classes", 20)
    anchors, mask = _pairs(c, number), c.o.ints("mask") or list(range(number))
    for name in _TRAINING:
        c.o.text(name)
    if any(not 0 <= index < number for index in mask):
        raise Unsupported(f"mask is {mask[:10]} of {number} anchors")
    sharp = bool(c.o.int("new_coords", 0))

    def picked(scores: ir.Value) -> ir.Value:
        return scores if sharp else c.node("Sigmoid", [scores], "class_scores")

    unit = np.array([c.net.int("width", 0), c.net.int("height", 0)])
    return _boxes(c, anchors[mask], classes, sharp=sharp, stretch=c.o.float("scale_x_y", 1.0), picked=picked, unit=unit)


def _region(c: Call) -> Tensor:
    number, classes = _positive(c, "num", 1), _positive(c, "classes", 20)
    anchors, soft = _pairs(c, number), c.o.int("softmax", 0)
    for name in _TRAINING:
        c.o.text(name)
    c.refuse(tree="", background="0", coords="4", mask="0")
    _, height, width = c.picture()

    def picked(scores: ir.Value) -> ir.Value:
        if soft:
            return c.node("Softmax", [scores], "class_scores", axis=-1)
        return c.node("Sigmoid", [scores], "class_scores")

    return _boxes(c, anchors, classes, sharp=False, stretch=1.0, picked=picked, unit=np.array([width, height]))


LAYERS: dict[str, Rule] = {
    "activation": _activation, "avg": _avgpool, "avgpool": _avgpool, "conn": _connected, "connected": _connected,
    "conv": _convolutional, "convolutional": _convolutional, "crop": _crop, "dropout": _dropout, "max": _maxpool,
    "maxpool": _maxpool, "region": _region, "reorg": _reorg, "route": _route, "sam": _sam,
    "scale_channels": _scale_channels, "shortcut": _shortcut, "soft": _softmax, "softmax": _softmax,
    "upsample": _upsample, "yolo": _yolo,
}  # fmt: skip
"""By the name of the section."""

DETECTIONS = ("yolo", "region")
