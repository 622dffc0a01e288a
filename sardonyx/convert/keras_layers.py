"""Keras layers without a window: dense, normalisation, merging, shapes, padding, resizing, identities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.graph import Array
from sardonyx.convert.keras_activations import fused_activation
from sardonyx.convert.keras_base import (
    MAX_DIM,
    Emitter,
    Options,
    Plan,
    Shape,
    Tensor,
    UnsupportedError,
    brief,
    text,
)

INT64_MAX = 2**63 - 1


def _dense(options: Options) -> Plan:
    """Kernel [inputs, units], over the last axis of any rank."""
    units, use_bias = options.integer("units"), options.flag("use_bias", True)
    finish = fused_activation(options)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.plain(inputs[0])
        if x.rank < 2:
            raise UnsupportedError(f"its input has the shape {text(x.shape)}, expected 2 dimensions or more")
        weight = e.weight("kernel", (x.shape[-1], units))
        kernel = e.graph.initializer(weight.name, weight.array)
        bias = [e.vector("bias", units)] if use_bias else []
        shape = (*x.shape[:-1], units)
        if x.rank == 2:
            y = e.tensor(e.node("Gemm", [x.value, kernel, *bias]), shape)
        else:
            y = e.tensor(e.node("MatMul", [x.value, kernel]), shape)
            if bias:
                y = e.tensor(e.node("Add", [y.value, *bias], tag="bias_add"), shape)
        return finish(e, y, "")

    return Plan(emit, weights=("kernel", "bias") if use_bias else ("kernel",), takes="numbers")


def _batch_normalization(options: Options) -> Plan:
    """By the operator of that name where it fits, over other or several axes as x * scale + shift."""
    axes, epsilon = _read_axes(options), options.number("epsilon", 1e-3)
    scale, center = options.flag("scale", True), options.flag("center", True)
    options.number("momentum", 0.99)
    weights = tuple(name for name, used in (("gamma", scale), ("beta", center)) if used)
    state = ("moving_mean", "moving_variance")
    if not axes:
        raise UnsupportedError("the option axis names no axis")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        over = _axes_of(x, axes)
        if over == [x.rank - 1]:
            x = e.move(x)
        if len(over) > 1 or x.axis(over[0]) != 1:
            return _scale_and_shift(e, x, over, epsilon=epsilon, has={*weights, *state})
        mean, variance = (e.vector(key, x.shape[over[0]]) for key in state)
        channels = _length(mean)
        gamma = e.vector("gamma", channels) if scale else e.constant("gamma", np.ones(channels))
        beta = e.vector("beta", channels) if center else e.constant("beta", np.zeros(channels))
        value = e.node("BatchNormalization", [x.value, gamma, beta, mean, variance], epsilon=epsilon)
        return e.like(x, value)

    return Plan(emit, weights=weights, state=state)


def _length(value: ir.Value) -> int:
    assert value.const_value is not None
    return value.const_value.size


def _scale_and_shift(e: Emitter, x: Tensor, axes: Sequence[int], *, epsilon: float, has: set[str]) -> Tensor:
    # Over one axis Keras keeps the weights as vectors, over several in the input's rank with ones between.
    dims = [x.shape[axis] if axis in axes else 1 for axis in range(1, x.rank)]
    dims = [x.shape[axes[0]]] if len(axes) == 1 else [1, *dims]
    weights = {key: e.weight(key, dims).array.astype(np.float64) for key in sorted(has)}
    factor = weights.get("gamma", 1.0) / np.sqrt(weights["moving_variance"] + epsilon)
    shift = weights.get("beta", 0.0) - weights["moving_mean"] * factor
    held = axes if len(axes) == 1 else range(x.rank)
    y = e.node("Mul", [x.value, e.constant("scale", _spread(factor, x, held))])
    return e.like(x, e.node("Add", [y, e.constant("shift", _spread(shift, x, held))], tag="add"))


def _spread(array: Array, x: Tensor, axes: Sequence[int]) -> Array:
    """`array`, whose dimensions are `axes` of `x`, in a shape that broadcasts against the value of `x`."""
    shape = [1] * x.rank
    for axis, size in zip(axes, array.shape, strict=True):
        shape[axis] = size
    return array.reshape(shape).transpose(x.order())


def _read_axes(options: Options) -> list[int]:
    axes = options.get("axis", -1)
    axes = [] if axes is None else axes if isinstance(axes, list) else [axes]
    if not all(isinstance(axis, int) and not isinstance(axis, bool) for axis in axes):
        raise UnsupportedError(f"the option axis = {brief(axes)} is not an axis or a list of axes")
    return axes


def _axes_of(x: Tensor, axes: Sequence[int]) -> list[int]:
    """The axes counted from the front, in order. The batch and what is not there are unsupported."""
    if any(x.axis(axis) == 0 for axis in axes):
        raise UnsupportedError("the option axis names the batch")
    return sorted({axis % x.rank for axis in axes})


def _last_axis(array: Array, x: Tensor, what: str) -> Array:
    """A number, or one for each element of the last axis, so that it broadcasts against the value of `x`."""
    if array.size == 1:
        return array.reshape(())
    if array.shape != (x.shape[-1],):
        raise UnsupportedError(f"the option {what} has shape {text(array.shape)} for an input of {text(x.shape)}")
    return _spread(array, x, [x.rank - 1])


def _rescaling(options: Options) -> Plan:
    scale, offset = options.numbers("scale", 1.0), options.numbers("offset", 0.0)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        y = e.node("Mul", [x.value, e.constant("scale", _last_axis(scale, x, "scale"))])
        if offset.any():
            y = e.node("Add", [y, e.constant("offset", _last_axis(offset, x, "offset"))], tag="offset_add")
        return e.like(x, y)

    return Plan(emit, takes="numbers")


def _normalization(options: Options) -> Plan:
    """(x - mean) / max(sqrt(variance), 1e-7), or its inverse; mean and variance are weights or options."""
    axes = _read_axes(options)
    invert = options.flag("invert", False)
    given = options.get("mean") is not None
    if given != (options.get("variance") is not None):
        raise UnsupportedError("of the options mean and variance only one is given")
    constants = [options.numbers(key, 0.0) for key in ("mean", "variance")] if given else []

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        kept = _axes_of(x, axes)
        dims = [x.shape[axis] for axis in kept]
        mean, variance = (
            [_as_dims(array, dims) for array in constants]
            if given
            else [e.weight(key, dims).array for key in ("mean", "variance")]
        )
        deviation = np.maximum(np.sqrt(variance.astype(np.float64)), 1e-7)
        middle, width = (e.constant(tag, _spread(array, x, kept)) for tag, array in
                         (("mean", mean), ("deviation", deviation)))  # fmt: skip
        if invert:
            y = e.node("Mul", [x.value, width])
            return e.like(x, e.node("Add", [y, middle], tag="add"))
        y = e.node("Sub", [x.value, middle], tag="sub")
        return e.like(x, e.node("Div", [y, width]))

    return Plan(emit, state=() if given else ("mean", "variance", "count"), takes="numbers")


def _as_dims(array: Array, dims: Sequence[int | None]) -> Array:
    """An option's numbers in the shape `dims`: a number for all, or as many as there are."""
    known = [dim for dim in dims if dim is not None]
    if len(known) < len(dims) or (array.size != 1 and array.size != math.prod(known)):
        raise UnsupportedError(
            f"the options mean and variance have {array.size} numbers for axes of {text(tuple(dims))}"
        )
    # One number for all stays one, whatever size a file may claim for the axes.
    return array.reshape([1] * len(dims)) if array.size == 1 else array.reshape(known)


def _merge(op_type: str, *, pair: bool = False) -> Callable[[Options], Plan]:
    """A merging layer: elementwise over two or more inputs, which broadcast as in `keras.layers.merging`."""

    def read(options: Options) -> Plan:
        def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
            if len(inputs) < 2 or (pair and len(inputs) != 2):
                raise UnsupportedError(f"it has {len(inputs)} inputs, expected {'2' if pair else '2 or more'}")
            xs = _same_layout(e, inputs)
            shape = _broadcast([x.shape for x in xs])
            values = [x.value for x in xs]
            if op_type in ("Max", "Min", "Mean"):
                return e.tensor(e.node(op_type, values), shape, moved=xs[0].moved)
            total = values[0]
            for index, value in enumerate(values[1:]):
                tag = "" if index == len(values) - 2 else f"part_{index}"
                total = e.node(op_type, [total, value], tag=tag)
            return e.tensor(total, shape, moved=xs[0].moved)

        return Plan(emit, inputs=None)

    return read


def _same_layout(e: Emitter, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The inputs in one layout and rank; as Keras does, lower ranks get dimensions of 1 after the batch."""
    rank = max(x.rank for x in inputs)
    if all(x.rank == rank for x in inputs):
        return [e.move(x) for x in inputs] if any(x.moved for x in inputs) else list(inputs)
    result = []
    for x in map(e.plain, inputs):
        y = x
        if missing := rank - x.rank:
            axes = e.constant("axes", list(range(1, missing + 1)), np.int64)
            y = e.tensor(
                e.node("Unsqueeze", [x.value, axes], tag="unsqueeze"),
                (x.shape[0], *[1] * missing, *x.shape[1:]),
            )
        result.append(y)
    return result


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    result = []
    for dims in zip(*shapes, strict=True):
        sizes = {dim for dim in dims if dim not in (1, None)}
        if len(sizes) > 1:
            raise UnsupportedError(f"its inputs do not broadcast: {', '.join(map(text, shapes))}")
        result.append(sizes.pop() if sizes else None if None in dims else 1)
    return tuple(result)


def _concatenate(options: Options) -> Plan:
    axis = options.integer("axis", -1, least=-8)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        if len({x.rank for x in inputs}) > 1:
            raise UnsupportedError(f"its inputs differ in rank: {', '.join(text(x.shape) for x in inputs)}")
        xs = _same_layout(e, inputs)
        place, along = xs[0].axis(axis), axis % xs[0].rank
        others = [[*x.shape[:along], 1, *x.shape[along + 1 :]] for x in xs]
        shape = list(xs[0].shape)
        for index, dims in enumerate(zip(*others, strict=True)):
            known = {dim for dim in dims if dim is not None}
            if len(known) > 1:
                raise UnsupportedError(f"its inputs do not fit together: {', '.join(text(x.shape) for x in inputs)}")
            shape[index] = known.pop() if known else None
        sizes = [x.shape[along] for x in xs]
        known_sizes = [size for size in sizes if size is not None]
        shape[along] = sum(known_sizes) if len(known_sizes) == len(sizes) else None
        value = e.node("Concat", [x.value for x in xs], axis=place)
        return e.tensor(value, shape, moved=xs[0].moved)

    return Plan(emit, inputs=None)


def _flatten(options: Options) -> Plan:
    data_format = options.data_format()

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        dims = [dim for dim in x.shape[1:] if dim is not None]
        size = math.prod(dims) if len(dims) == x.rank - 1 else None
        if x.is_row():
            value = x.value
        elif data_format == "channels_first" and x.rank > 2:  # Keras flattens these channels-last, too.
            x = e.plain(x)
            value = e.graph.transpose(x.value, [0, *range(2, x.rank), 1], name=f"{e.name}/transpose")
        else:
            value = e.plain(x).value
        return e.tensor(e.node("Flatten", [value], axis=1), (x.shape[0], size), dtype=x.dtype)

    return Plan(emit, takes="anything")


def _reshape(options: Options) -> Plan:
    target = options.get("target_shape")
    if (
        not isinstance(target, list)
        or not all(isinstance(dim, int) and (dim == -1 or 0 < dim <= MAX_DIM) for dim in target)
        or target.count(-1) > 1
    ):
        raise UnsupportedError(f"the option target_shape = {brief(target)} is not a shape with at most one -1")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        known = math.prod(dim for dim in target if dim != -1)
        dims = [dim for dim in x.shape[1:] if dim is not None]
        size = math.prod(dims) if len(dims) == x.rank - 1 else None
        if size is not None and (size % known if -1 in target else size != known):
            raise UnsupportedError(f"an input of {text(x.shape)} cannot be reshaped to {target}")
        shape = [size // known if dim == -1 and size is not None else dim for dim in target]
        declared = (x.shape[0], *[None if dim == -1 else dim for dim in shape])
        result = Tensor(x.value, declared)
        # Nothing but one axis is longer than 1: then the layout is free, and the moved one saves a Transpose.
        moved = len(declared) > 3 and x.is_row() and result.is_row()
        order = Tensor(x.value, declared, moved).order()
        wanted = [0, *shape]
        value = x.value if x.is_row() else e.plain(x).value
        value = e.node("Reshape", [value, e.constant("shape", [wanted[axis] for axis in order], np.int64)])
        return e.tensor(value, declared, moved=moved, dtype=x.dtype)

    return Plan(emit, takes="anything")


def _permute(options: Options) -> Plan:
    dims = options.get("dims")
    if not isinstance(dims, list) or not all(isinstance(d, int) for d in dims):
        raise UnsupportedError(f"the option dims = {brief(dims)} is not a list of axes")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        if sorted(dims) != list(range(1, x.rank)):
            raise UnsupportedError(f"the option dims = {dims} does not order the axes of {text(x.shape)}")
        order = [x.axis(axis) for axis in (0, *dims)]
        value = e.graph.transpose(x.value, order, name=e.name)
        return e.tensor(value, [x.shape[axis] for axis in (0, *dims)], dtype=x.dtype)

    return Plan(emit, takes="anything")


def _repeat_vector(options: Options) -> Plan:
    n = options.integer("n")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        if x.rank != 2:
            raise UnsupportedError(f"its input has the shape {text(x.shape)}, expected 2 dimensions")
        row = e.node("Unsqueeze", [x.value, e.constant("axes", [1], np.int64)], tag="unsqueeze")
        value = e.node("Expand", [row, e.constant("shape", [1, n, 1], np.int64)])
        return e.tensor(value, (x.shape[0], n, x.shape[1]), dtype=x.dtype)

    return Plan(emit, takes="anything")


def _borders(options: Options, key: str, rank: int) -> list[tuple[int, int]]:
    """What to add or cut before and after, for each spatial dimension: a number, one each, or a pair each."""
    value = options.get(key)
    each = value if isinstance(value, list) and len(value) == rank and rank > 1 else [value] * rank
    pairs = [pair if isinstance(pair, list) else [pair, pair] for pair in each]
    for pair in pairs:
        whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_DIM for n in pair)
        if len(pair) != 2 or not whole:
            raise UnsupportedError(f"the option {key} = {brief(value)} is not {rank} pairs of whole numbers")
    return [(pair[0], pair[1]) for pair in pairs]


def _zero_padding(options: Options, rank: int) -> Plan:
    pads, data_format = _borders(options, "padding", rank), options.data_format()

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, rank)
        amounts = [0, 0, *[before for before, _ in pads], 0, 0, *[after for _, after in pads]]
        value = e.node("Pad", [x.value, e.constant("pads", amounts, np.int64)], mode="constant")
        sizes = [None if size is None else size + sum(pad) for size, pad in zip(x.sizes, pads, strict=True)]
        return e.from_spatial(x, value, sizes)

    return Plan(emit)


def _cropping(options: Options, rank: int) -> Plan:
    crops, data_format = _borders(options, "cropping", rank), options.data_format()

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, rank)
        starts = e.constant("starts", [before for before, _ in crops], np.int64)
        ends = e.constant("ends", [-after if after else INT64_MAX for _, after in crops], np.int64)
        axes = e.constant("axes", list(range(2, rank + 2)), np.int64)
        value = e.node("Slice", [x.value, starts, ends, axes])
        sizes = [None if size is None else size - sum(crop) for size, crop in zip(x.sizes, crops, strict=True)]
        return e.from_spatial(x, value, sizes)

    return Plan(emit)


def _up_sampling(options: Options, rank: int) -> Plan:
    factors, data_format = options.ints("size", rank, 2), options.data_format()
    linear = options.choice("interpolation", ("nearest", "bilinear"), "nearest") == "bilinear"
    # TensorFlow 2 resizes about half-pixel centres, TensorFlow 1 about corners; the version tells which.
    if linear and options.version < (2, 3):
        raise UnsupportedError("bilinear interpolation before Keras 2.3 depends on the TensorFlow it ran on")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, rank)
        mode: dict[str, Any] = (
            {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
            if linear
            else {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        )
        scales = e.constant("scales", [1, 1, *factors])
        value = e.node("Resize", [x.value, None, scales], **mode)
        sizes = [None if size is None else size * f for size, f in zip(x.sizes, factors, strict=True)]
        return e.from_spatial(x, value, sizes)

    return Plan(emit)


def _identity(*ignored: str) -> Callable[[Options], Plan]:
    """A layer that does nothing at inference; the `ignored` options say what it does in training."""

    def read(options: Options) -> Plan:
        for key in ignored:
            options.get(key)
        return Plan(lambda e, inputs: inputs[0], takes="anything")

    return read


def _augmentation(*ignored: str) -> Callable[[Options], Plan]:
    """A layer that changes pictures at random in training; at inference it only makes them float32."""
    identity = _identity("rng_type", "auto_vectorize", "data_format", "fill_mode", "fill_value", *ignored)
    return lambda options: replace(identity(options), takes="numbers")


def _of_rank(build: Callable[[Options, int], Plan], rank: int) -> Callable[[Options], Plan]:
    return lambda options: build(options, rank)


PLAIN_LAYERS: dict[str, Callable[[Options], Plan]] = {
    "Dense": _dense,
    "BatchNormalization": _batch_normalization,
    "BatchNormalizationV1": _batch_normalization,
    "BatchNormalizationV2": _batch_normalization,
    "SyncBatchNormalization": _batch_normalization,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Add": _merge("Add"),
    "Subtract": _merge("Sub", pair=True),
    "Multiply": _merge("Mul"),
    "Average": _merge("Mean"),
    "Maximum": _merge("Max"),
    "Minimum": _merge("Min"),
    "Concatenate": _concatenate,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat_vector,
    **{f"ZeroPadding{rank}D": _of_rank(_zero_padding, rank) for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": _of_rank(_cropping, rank) for rank in (1, 2, 3)},
    **{f"UpSampling{rank}D": _of_rank(_up_sampling, rank) for rank in (1, 2, 3)},
    "ActivityRegularization": _identity("l1", "l2"),
    "AlphaDropout": _identity("rate"),
    "Dropout": _identity("rate"),
    "GaussianDropout": _identity("rate"),
    "GaussianNoise": _identity("stddev"),
    "Identity": _identity(),
    "RandomBrightness": _augmentation("factor", "value_range"),
    "RandomContrast": _augmentation("factor"),
    "RandomFlip": _augmentation("mode"),
    "RandomRotation": _augmentation("factor", "interpolation"),
    "RandomTranslation": _augmentation("height_factor", "width_factor", "interpolation"),
    "RandomZoom": _augmentation("height_factor", "width_factor", "interpolation"),
    "SpatialDropout1D": _identity("rate"),
    "SpatialDropout2D": _identity("rate", "data_format"),
    "SpatialDropout3D": _identity("rate", "data_format"),
}
