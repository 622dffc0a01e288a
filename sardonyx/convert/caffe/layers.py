"""What Caffe's layers are in ONNX: a function for each type, which reads the layer's options and emits its nodes.

Semantics are those of BVLC/caffe's src/caffe/layers, and of the forks that brought the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from sardonyx.convert.caffe.prototxt import Message
from sardonyx.convert.shaped import Array, Emitter, Shape, Tensor, Unsupported, broadcast, text


@dataclass
class Call(Emitter):
    """One layer that is emitted: its options `p`, its inputs, its weights, and how many outputs it has.

    `taken` is how many of the weights were asked for.
    """

    p: Message = field(default_factory=Message)
    inputs: Sequence[Tensor] = ()
    blobs: Sequence[Array] = ()
    tops: int = 1
    taken: int = 0

    @property
    def x(self) -> Tensor:
        """The only input."""
        if len(self.inputs) != 1:
            raise Unsupported(f"it has {len(self.inputs)} inputs, expected 1")
        return self.inputs[0]

    def blob(self, index: int, shape: Sequence[int]) -> Array:
        """A weight as float32 in this shape; stored shapes may have more ones."""
        if index >= len(self.blobs):
            raise Unsupported(f"the caffemodel holds {len(self.blobs)} blobs for it, expected more")
        stored = self.blobs[index]
        self.taken = max(self.taken, index + 1)
        if [dim for dim in stored.shape if dim != 1] != [dim for dim in shape if dim != 1]:
            raise Unsupported(f"its blob {index} has shape {text(stored.shape)}, expected {text(tuple(shape))}")
        return stored.astype(np.float32, copy=False).reshape(tuple(shape))

    def weight(self, index: int, shape: Sequence[int], tag: str) -> ir.Value:
        """A weight as a constant `layer/tag`."""
        return self.constant(tag, self.blob(index, shape))

    def scaled(self, value: ir.Value, scale: float, shift: float, tag: str) -> ir.Value:
        """`value * scale + shift` in as few nodes as that takes."""
        if scale != 1:
            value = self.node("Mul", [value, self.constant(f"{tag}scale", scale)], f"{tag}scaled")
        if shift != 0:
            value = self.node("Add", [value, self.constant(f"{tag}shift", shift)], f"{tag}shifted")
        return value


Rule = Callable[[Call], list[Tensor]]


def _plain(op_type: str) -> Rule:
    """A function of each element that ONNX has as well."""
    return lambda c: [c.like(c.x, c.node(op_type, [c.x.value]))]


def _identity(c: Call) -> list[Tensor]:
    return [c.like(c.x, c.node("Identity", [c.x.value]))]


def _dropout(c: Call) -> list[Tensor]:
    """Nothing in tests, unless Faster R-CNN's fork was trained without scaling (scale_train: false)."""
    ratio = c.p.float("dropout_ratio", 0.5)
    if c.p.bool("scale_train", True):
        return _identity(c)
    return [c.like(c.x, c.node("Mul", [c.x.value, c.constant("kept", 1 - ratio)]))]


def _split(c: Call) -> list[Tensor]:
    return [c.like(c.x, c.node("Identity", [c.x.value], tag=f"{i}" if i else "")) for i in range(c.tops)]


def _relu(c: Call) -> list[Tensor]:
    slope = c.p.float("negative_slope", 0.0)
    if slope == 0:
        return _plain("Relu")(c)
    return [c.like(c.x, c.node("LeakyRelu", [c.x.value], alpha=slope))]


def _prelu(c: Call) -> list[Tensor]:
    channels = c.x.known(c.x.axis(1))[0]
    size = 1 if c.p.bool("channel_shared", False) else channels
    slope = c.weight(0, (size,) + (1,) * (c.x.rank - 2), "slope")
    return [c.like(c.x, c.node("PRelu", [c.x.value, slope]))]


def _elu(c: Call) -> list[Tensor]:
    return [c.like(c.x, c.node("Elu", [c.x.value], alpha=c.p.float("alpha", 1.0)))]


def _clip(c: Call) -> list[Tensor]:
    bounds = [c.constant("min", c.p.float("min", 0.0)), c.constant("max", c.p.float("max", 0.0))]
    if not {"min", "max"} <= set(c.p.fields):
        raise Unsupported("both min and max must be given")
    return [c.like(c.x, c.node("Clip", [c.x.value, *bounds]))]


def _relu6(c: Call) -> list[Tensor]:
    return [c.like(c.x, c.node("Clip", [c.x.value, c.constant("min", 0), c.constant("max", 6)]))]


def _swish(c: Call) -> list[Tensor]:
    gate = c.node("Sigmoid", [c.scaled(c.x.value, c.p.float("beta", 1.0), 0, "")], "gate")
    return [c.like(c.x, c.node("Mul", [c.x.value, gate]))]


def _power(c: Call) -> list[Tensor]:
    """(shift + scale * x) ^ power; a whole power has a value for negative numbers as well."""
    power, scale, shift = c.p.float("power", 1.0), c.p.float("scale", 1.0), c.p.float("shift", 0.0)
    value = c.scaled(c.x.value, scale, shift, "")
    if power == 1:
        return [c.like(c.x, c.node("Identity", [value]))]
    return [c.like(c.x, c.node("Pow", [value, c.constant("power", power)]))]


def _base(c: Call) -> float:
    """The logarithm of a base that is -1 for e."""
    base = c.p.float("base", -1.0)
    if (base != -1 and base <= 0) or base == 1:
        raise Unsupported(f"the base is {base}, expected a positive number other than 1")
    return 1.0 if base == -1 else math.log(base)


def _exp(c: Call) -> list[Tensor]:
    log = _base(c)
    scale, shift = c.p.float("scale", 1.0) * log, c.p.float("shift", 0.0) * log
    return [c.like(c.x, c.node("Exp", [c.scaled(c.x.value, scale, shift, "")]))]


def _log(c: Call) -> list[Tensor]:
    log = _base(c)
    value = c.scaled(c.x.value, c.p.float("scale", 1.0), c.p.float("shift", 0.0), "")
    if log == 1:
        return [c.like(c.x, c.node("Log", [value]))]
    return [c.like(c.x, c.node("Mul", [c.node("Log", [value], "log"), c.constant("factor", 1 / log)]))]


def _threshold(c: Call) -> list[Tensor]:
    above = c.node("Greater", [c.x.value, c.constant("threshold", c.p.float("threshold", 0.0))], "above")
    return [c.like(c.x, c.node("Cast", [above], to=int(ir.DataType.FLOAT)))]


def _softmax(c: Call) -> list[Tensor]:
    return [c.like(c.x, c.node("Softmax", [c.x.value], axis=c.x.axis(c.p.int("axis", 1))))]


def _loss_softmax(c: Call) -> list[Tensor]:
    x = c.inputs[0]
    return [c.like(x, c.node("Softmax", [x.value], axis=x.axis(c.p.int("axis", 1))))]


def _batch_norm(c: Call) -> list[Tensor]:
    """Stored sums over the batches seen, and how much those weigh."""
    if not c.p.bool("use_global_stats", True):
        raise Unsupported("it takes mean and variance of the batch it is given (use_global_stats: false)")
    c.p.ignore("moving_average_fraction")
    channels = 1 if c.x.rank == 1 else c.x.known(1)[0]
    factor = float(c.blob(2, [1])[0])
    scale = np.float32(0 if factor == 0 else 1 / factor)
    mean, variance = c.blob(0, [channels]) * scale, c.blob(1, [channels]) * scale
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    arrays = [("scale", ones), ("bias", zeros), ("mean", mean), ("variance", variance)]
    eps = c.p.float("eps", 1e-5)
    if c.x.rank < 2 or float((variance + np.float32(eps)).min()) <= 0:
        raise Unsupported("it has no value for its input or its stored variance")
    values = [c.constant(tag, array) for tag, array in arrays]
    return [c.like(c.x, c.node("BatchNormalization", [c.x.value, *values], epsilon=eps))]


def _spread(c: Call, x: Tensor, other: Tensor | None, index: int, tag: str) -> tuple[ir.Value, Shape]:
    """What Scale and Bias apply along axes from `axis` on: a second input or a weight, ready to broadcast."""
    first = c.p.int("axis", 1)
    axis = first % x.rank if -x.rank <= first <= x.rank else x.axis(first)
    if other is not None:
        shape: Shape = other.shape
    else:
        axes = c.p.int("num_axes", 1)
        end = x.rank if axes == -1 else axis + axes
        if not axis <= end <= x.rank:
            raise Unsupported(f"its axes {axis} to {end} are not those of its input of shape {text(x.shape)}")
        shape = tuple(x.known(*range(axis, end)))
    padding = (1,) * (x.rank - axis - len(shape)) if shape else ()
    if len(padding) + len(shape) + axis > x.rank:
        raise Unsupported(f"inputs of shapes {text(x.shape)} and {text(shape)} do not fit")
    if other is None:
        known = [dim for dim in shape if dim is not None]
        return c.weight(index, (*known, *padding), tag), (*shape, *padding)
    if not padding:
        return other.value, shape
    spread = c.reshape(other, (*shape, *padding), f"{tag}_shape")
    return spread.value, spread.shape


def _scale(c: Call) -> list[Tensor]:
    x = c.inputs[0]
    second = c.inputs[1] if len(c.inputs) == 2 else None
    bias = c.p.bool("bias_term", False)
    factor, shape = _spread(c, x, second, 0, "scale")
    value = c.node("Mul", [x.value, factor], "scaled" if bias else "")
    if bias:
        # With a second input the bias is the first weight, of that input's shape.
        dims = [dim for dim in shape if dim is not None]
        value = c.node("Add", [value, c.weight(0 if second else 1, dims, "bias")])
    return [c.tensor(value, broadcast(x.shape, shape))]


def _bias(c: Call) -> list[Tensor]:
    x = c.inputs[0]
    addend, shape = _spread(c, x, c.inputs[1] if len(c.inputs) == 2 else None, 0, "bias")
    return [c.tensor(c.node("Add", [x.value, addend]), broadcast(x.shape, shape))]


def _inner_product(c: Call) -> list[Tensor]:
    axis = c.x.axis(c.p.int("axis", 1))
    size = math.prod(c.x.known(*range(axis, c.x.rank)))
    outputs = c.p.int("num_output", 0)
    transposed = c.p.bool("transpose", False)
    weight = c.weight(0, (size, outputs) if transposed else (outputs, size), "weight")
    bias = c.weight(1, (outputs,), "bias") if c.p.bool("bias_term", True) else None
    if axis == 1:
        flat = c.x if c.x.rank == 2 else c.reshape(c.x, (c.x.shape[0], size), "flat")
        inputs = [flat.value, weight] + ([bias] if bias else [])
        return [c.tensor(c.node("Gemm", inputs, transB=int(not transposed)), (c.x.shape[0], outputs))]
    flat = c.reshape(c.x, (*c.x.shape[:axis], size), "flat")
    if not transposed:
        weight = c.node("Transpose", [weight], "weight_t", perm=[1, 0])
    value = c.node("MatMul", [flat.value, weight], "product" if bias else "")
    value = c.node("Add", [value, bias]) if bias else value
    return [c.tensor(value, (*c.x.shape[:axis], outputs))]


def _embed(c: Call) -> list[Tensor]:
    outputs, inputs = c.p.int("num_output", 0), c.p.int("input_dim", 0)
    index = c.node("Cast", [c.x.value], "index", to=int(ir.DataType.INT64))
    bias = c.p.bool("bias_term", True)
    value = c.node("Gather", [c.weight(0, (inputs, outputs), "weight"), index], "rows" if bias else "", axis=0)
    if bias:
        value = c.node("Add", [value, c.weight(1, (outputs,), "bias")])
    return [c.tensor(value, (*c.x.shape, outputs))]


def _concat(c: Call) -> list[Tensor]:
    axis = c.inputs[0].axis(c.p.int("axis", c.p.int("concat_dim", 1)))
    shapes = [x.shape for x in c.inputs]
    if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) > 1:
        raise Unsupported(f"inputs of shapes {', '.join(map(text, shapes))} do not fit")
    sizes = [shape[axis] for shape in shapes]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    shape = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
    return [c.tensor(c.node("Concat", [x.value for x in c.inputs], axis=axis), shape)]


def _slice(c: Call) -> list[Tensor]:
    axis = c.x.axis(c.p.int("axis", c.p.int("slice_dim", 1)))
    size = c.x.known(axis)[0]
    points = c.p.ints("slice_point")
    if not points:
        if size % c.tops:
            raise Unsupported(f"{size} cannot be cut into {c.tops} equal parts")
        points = [size // c.tops * i for i in range(1, c.tops)]
    sizes = [end - start for start, end in zip([0, *points], [*points, size], strict=True)]
    if len(sizes) != c.tops or min(sizes) < 1:
        raise Unsupported(f"{size} cannot be cut at {points[:20]} into {c.tops} parts")
    values = c.nodes("Split", [c.x.value, c.constant("sizes", sizes, np.int64)], c.tops, axis=axis)
    shapes = [(*c.x.shape[:axis], part, *c.x.shape[axis + 1 :]) for part in sizes]
    return [c.tensor(value, shape) for value, shape in zip(values, shapes, strict=True)]


def _eltwise(c: Call) -> list[Tensor]:
    operation = c.p.choice("operation", ("PROD", "SUM", "MAX"), "SUM")
    c.p.ignore("stable_prod_grad")
    coefficients = c.p.floats("coeff")
    if len({x.shape for x in c.inputs}) != 1 or len(c.inputs) < 2:
        raise Unsupported(f"its inputs have shapes {', '.join(text(x.shape) for x in c.inputs)}, not one")
    if coefficients and (operation != "SUM" or len(coefficients) != len(c.inputs)):
        raise Unsupported(f"it has {len(coefficients)} coefficients for {operation} of {len(c.inputs)} inputs")
    values = [x.value for x in c.inputs]
    if operation == "SUM":
        factors = coefficients or [1.0] * len(values)
        values = [c.scaled(v, k, 0, f"{i}_") for i, (v, k) in enumerate(zip(values, factors, strict=True))]
    op_type = {"PROD": "Mul", "SUM": "Add", "MAX": "Max"}[operation]
    result = values[0]
    for i, value in enumerate(values[1:], 2):
        result = c.node(op_type, [result, value], "" if i == len(values) else f"{i}")
    return [c.like(c.inputs[0], result)]


def _axpy(c: Call) -> list[Tensor]:
    """scale * x + y with a scale a channel (SENet's fork)."""
    if len(c.inputs) != 3:
        raise Unsupported(f"it has {len(c.inputs)} inputs, expected 3")
    scale, x, y = c.inputs
    if x.rank != 4 or x.shape != y.shape or scale.shape[:2] != x.shape[:2]:
        raise Unsupported(f"its inputs have shapes {', '.join(text(x.shape) for x in c.inputs)}")
    spread = c.reshape(scale, (*x.shape[:2], 1, 1), "spread")
    return [c.like(x, c.node("Add", [c.node("Mul", [spread.value, x.value], "scaled"), y.value]))]


def _product(dims: Sequence[int | None]) -> int | None:
    return None if None in dims else math.prod(dim for dim in dims if dim is not None)


def _known_product(dims: Sequence[int | None]) -> int:
    return math.prod(dim for dim in dims if dim is not None)


def _flatten(c: Call) -> list[Tensor]:
    start, end = c.x.axis(c.p.int("axis", 1)), c.x.axis(c.p.int("end_axis", -1))
    if start > end:
        raise Unsupported(f"it flattens the axes {start} to {end}")
    return [c.reshape(c.x, (*c.x.shape[:start], _product(c.x.shape[start : end + 1]), *c.x.shape[end + 1 :]))]


def _reshape(c: Call) -> list[Tensor]:
    dims = c.p.message("shape").ints("dim")
    first, count = c.p.int("axis", 0), c.p.int("num_axes", -1)
    start = first if first >= 0 else c.x.rank + first + 1
    end = c.x.rank if count == -1 else start + count
    if not 0 <= start <= end <= c.x.rank or dims.count(-1) > 1 or any(dim < -1 for dim in dims):
        raise Unsupported(f"its shape {dims[:20]} does not fit an input of shape {text(c.x.shape)}")
    if any(dim == 0 and start + i >= c.x.rank for i, dim in enumerate(dims)):
        raise Unsupported(f"its shape {dims[:20]} keeps an axis that its input of shape {text(c.x.shape)} lacks")
    target = [c.x.shape[start + i] if dim == 0 else dim for i, dim in enumerate(dims)]
    full: list[int | None] = [*c.x.shape[:start], *target, *c.x.shape[end:]]
    if -1 in full:
        # The open batch stays, or goes into the dim that is inferred.
        kept = list(c.x.shape)
        rest = [dim for dim in full if dim != -1]
        if None in kept and None in rest:
            kept.remove(None)
            rest.remove(None)
        total, known = _product(kept), _product(rest)
        if total is not None and (known is None or known < 1 or total % known):
            raise Unsupported(f"its input of shape {text(c.x.shape)} cannot be reshaped to {dims[:20]}")
        full[full.index(-1)] = None if total is None or known is None else total // known
    elif None in full and _known_product(full) != _known_product(c.x.shape):
        raise Unsupported(f"its input of shape {text(c.x.shape)} cannot be reshaped to {dims[:20]}")
    return [c.reshape(c.x, full)]


def _permute(c: Call) -> list[Tensor]:
    given = c.p.ints("order")
    order = [*given, *(axis for axis in range(c.x.rank) if axis not in given)]
    return [c.transpose(c.x, order)]


def _crop(c: Call) -> list[Tensor]:
    if len(c.inputs) != 2 or c.inputs[0].rank != c.inputs[1].rank:
        raise Unsupported("it needs two inputs with as many axes")
    x, like = c.inputs
    axis, offsets = x.axis(c.p.int("axis", 2)), c.p.ints("offset")
    axes = list(range(axis, x.rank))
    if len(offsets) not in (0, 1, len(axes)):
        raise Unsupported(f"it has {len(offsets)} offsets for {len(axes)} axes")
    offsets = offsets * len(axes) if len(offsets) == 1 else offsets or [0] * len(axes)
    sizes, have = like.known(*axes), x.known(*axes)
    if any(not 0 <= o <= h - s for o, s, h in zip(offsets, sizes, have, strict=True)):
        raise Unsupported(f"inputs of shapes {text(x.shape)} and {text(like.shape)} with offsets {offsets} do not fit")
    return [c.slices(x, {a: (o, o + s) for a, o, s in zip(axes, offsets, sizes, strict=True)})]


def _reduction(c: Call) -> list[Tensor]:
    operation = c.p.choice("operation", ("", "SUM", "ASUM", "SUMSQ", "MEAN"), "SUM")
    op_type = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}[operation]
    axis, factor = c.x.axis(c.p.int("axis", 0)), c.p.float("coeff", 1.0)
    axes = c.constant("axes", range(axis, c.x.rank), np.int64)
    value = c.node(op_type, [c.x.value, axes], "" if factor == 1 else "reduced", keepdims=0)
    if factor != 1:
        value = c.node("Mul", [value, c.constant("coeff", factor)])
    return [c.tensor(value, c.x.shape[:axis])]


def _argmax(c: Call) -> list[Tensor]:
    """Indices as floats, with an axis the largest along it, else of everything of an item as [N, 1 or 2, k, 1...].

    Of equal elements Caffe takes the last (it sorts pairs of value and index), TopK the first: it gets them reversed.
    """
    top, both = c.p.int("top_k", 1), c.p.bool("out_max_val", False)
    along = c.x.axis(c.p.int("axis", 0)) if "axis" in c.p.fields else None
    ones = (1,) * (c.x.rank - 3)
    x = c.x if along is not None else c.reshape(c.x, (c.x.shape[0], 1, _product(c.x.shape[1:]), *ones), "flat")
    axis = 2 if along is None else along
    size = x.known(axis)[0]
    if not 1 <= top <= size:
        raise Unsupported(f"top_k is {top} for an input of shape {text(x.shape)}")
    bounds = [c.constant(f"reverse_{k}", [v], np.int64) for k, v in enumerate((-1, -(2**62), axis, -1))]
    turned = c.node("Slice", [x.value, *bounds], "reversed")
    best, index = c.nodes("TopK", [turned, c.constant("k", [top], np.int64)], 2, "best", axis=axis)
    shape = (*x.shape[:axis], top, *x.shape[axis + 1 :])
    if along is not None and both:
        return [c.tensor(c.node("Identity", [best]), shape)]
    index = c.node("Sub", [c.constant("last", size - 1, np.int64), index], "index")
    place = c.node("Cast", [index], "place" if both else "", to=int(ir.DataType.FLOAT))
    if not both:
        return [c.tensor(place, shape)]
    return [c.tensor(c.node("Concat", [place, best], axis=1), (shape[0], 2, top, *ones))]


def _tile(c: Call) -> list[Tensor]:
    axis, tiles = c.x.axis(c.p.int("axis", 1)), c.p.int("tiles", 0)
    counts = [tiles if i == axis else 1 for i in range(c.x.rank)]
    size = c.x.shape[axis]
    shape = (*c.x.shape[:axis], None if size is None else size * tiles, *c.x.shape[axis + 1 :])
    return [c.tensor(c.node("Tile", [c.x.value, c.constant("tiles", counts, np.int64)]), shape)]


def _mvn(c: Call) -> list[Tensor]:
    """(x - mean) / (std + eps): the epsilon is added to the root."""
    axes = list(range(1 if c.p.bool("across_channels", False) else 2, c.x.rank))
    chosen = c.constant("axes", axes, np.int64)
    scaled = c.p.bool("normalize_variance", True)
    mean = c.node("ReduceMean", [c.x.value, chosen], "mean")
    value = c.node("Sub", [c.x.value, mean], "centred" if scaled else "")
    if scaled:
        variance = c.node("ReduceMean", [c.node("Mul", [value, value], "square"), chosen], "variance")
        root = c.node("Add", [c.node("Sqrt", [variance], "root"), c.constant("eps", c.p.float("eps", 1e-9))], "std")
        value = c.node("Div", [value, root])
    return [c.like(c.x, value)]


def _normalize(c: Call) -> list[Tensor]:
    """SSD's: by the root of the sum of squares and an epsilon, times a weight a channel."""
    channels = c.x.known(1)[0]
    axes = list(range(1, c.x.rank)) if c.p.bool("across_spatial", True) else [1]
    c.p.ignore("scale_filler")
    square = c.node("Mul", [c.x.value, c.x.value], "square")
    total = c.node("ReduceSum", [square, c.constant("axes", axes, np.int64)], "sum")
    root = c.node("Sqrt", [c.scaled(total, 1, c.p.float("eps", 1e-10), "sum_")], "root")
    size = 1 if c.p.bool("channel_shared", True) else channels
    scale = c.weight(0, (size,) + (1,) * (c.x.rank - 2), "scale")
    return [c.like(c.x, c.node("Mul", [c.node("Div", [c.x.value, root], "normalized"), scale]))]


def _shuffle(c: Call) -> list[Tensor]:
    groups, channels = c.p.int("group", 1), c.x.known(1)[0]
    if groups < 1 or channels % groups:
        raise Unsupported(f"{channels} channels are not {groups} groups")
    rest = c.x.shape[2:]
    apart = c.reshape(c.x, (c.x.shape[0], groups, channels // groups, *rest), "apart")
    turned = c.transpose(apart, [0, 2, 1, *range(3, 3 + len(rest))], "turned")
    return [c.reshape(turned, c.x.shape)]


def _parameter(c: Call) -> list[Tensor]:
    shape = c.p.message("shape").ints("dim")
    return [c.tensor(c.node("Identity", [c.weight(0, shape, "value")]), shape)]


def _nothing(c: Call) -> list[Tensor]:
    return []


RULES: dict[str, tuple[str, Rule]] = {
    "AbsVal": ("", _plain("Abs")),
    "ArgMax": ("argmax_param", _argmax),
    "Axpy": ("", _axpy),
    "BNLL": ("", _plain("Softplus")),
    "BatchNorm": ("batch_norm_param", _batch_norm),
    "Bias": ("bias_param", _bias),
    "Clip": ("clip_param", _clip),
    "Concat": ("concat_param", _concat),
    "Crop": ("crop_param", _crop),
    "Dropout": ("dropout_param", _dropout),
    "ELU": ("elu_param", _elu),
    "Eltwise": ("eltwise_param", _eltwise),
    "Embed": ("embed_param", _embed),
    "Exp": ("exp_param", _exp),
    "Flatten": ("flatten_param", _flatten),
    "InnerProduct": ("inner_product_param", _inner_product),
    "Log": ("log_param", _log),
    "MVN": ("mvn_param", _mvn),
    "Mish": ("", _plain("Mish")),
    "Normalize": ("norm_param", _normalize),
    "PReLU": ("prelu_param", _prelu),
    "Parameter": ("parameter_param", _parameter),
    "Permute": ("permute_param", _permute),
    "Power": ("power_param", _power),
    "ReLU": ("relu_param", _relu),
    "ReLU6": ("", _relu6),
    "Reduction": ("reduction_param", _reduction),
    "Reshape": ("reshape_param", _reshape),
    "Scale": ("scale_param", _scale),
    "ShuffleChannel": ("shuffle_channel_param", _shuffle),
    "Sigmoid": ("", _plain("Sigmoid")),
    "Silence": ("", _nothing),
    "Slice": ("slice_param", _slice),
    "Softmax": ("softmax_param", _softmax),
    "SoftmaxWithLoss": ("softmax_param", _loss_softmax),
    "Split": ("", _split),
    "Swish": ("swish_param", _swish),
    "TanH": ("", _plain("Tanh")),
    "Threshold": ("threshold_param", _threshold),
    "Tile": ("tile_param", _tile),
}
"""By type: the message with its options, and what emits it."""
