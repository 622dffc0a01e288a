"""Keras layers without a window: dense, merging, shapes, padding, resizing, identities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.keras.activations import fused_activation
from sardonyx.convert.keras.base import (
    MAX_DIM,
    Emitter,
    Plan,
    Settings,
    Shape,
    Tensor,
    UnsupportedError,
    brief,
    text,
)

INT64_MAX = 2**63 - 1


def _dense(options: Settings) -> Plan:
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


def _merge(op_type: str, *, pair: bool = False) -> Callable[[Settings], Plan]:
    """A merging layer: elementwise over two or more inputs, which broadcast as in `keras.layers.merging`."""

    def read(options: Settings) -> Plan:
        def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
            if len(inputs) < 2 or (pair and len(inputs) != 2):
                raise UnsupportedError(f"it has {len(inputs)} inputs, expected {'2' if pair else '2 or more'}")
            xs = same_layout(e, inputs)
            shape = _broadcast([x.shape for x in xs])
            values = [x.value for x in xs]
            mask = _any_mask(e, inputs, options.version)
            if op_type in ("Max", "Min", "Mean"):
                return replace(e.tensor(e.node(op_type, values), shape, moved=xs[0].moved), mask=mask)
            total = values[0]
            for index, value in enumerate(values[1:]):
                tag = "" if index == len(values) - 2 else f"part_{index}"
                total = e.node(op_type, [total, value], tag=tag)
            return replace(e.tensor(total, shape, moved=xs[0].moved), mask=mask)

        return Plan(emit, inputs=None, masking="own")

    return read


def _any_mask(e: Emitter, inputs: Sequence[Tensor], version: tuple[int, int]) -> ir.Value | None:
    """What merging layers make of their inputs' masks: first where all that are there are true, then, in Keras 3,
    where any is, and none where an input has none."""
    masks = list(dict.fromkeys(x.mask for x in inputs if x.mask is not None))
    if not masks or (version >= OR_OF_MASKS and any(x.mask is None for x in inputs)):
        return None
    if AND_OF_MASKS < version < OR_OF_MASKS:
        raise UnsupportedError(f"what Keras {version[0]}.{version[1]} makes of its inputs' masks is not known")
    mask = masks[0]
    for i, other in enumerate(masks[1:]):
        mask = e.node("Or" if version >= OR_OF_MASKS else "And", [mask, other], tag=f"mask_{i}")
    return mask


AND_OF_MASKS, OR_OF_MASKS = (3, 0), (3, 6)
"""The last version known to merge masks by And, and the first by Or."""


def same_layout(e: Emitter, inputs: Sequence[Tensor]) -> list[Tensor]:
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


def _concatenate(options: Settings) -> Plan:
    axis = options.integer("axis", -1, least=-8)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        if len({x.rank for x in inputs}) > 1:
            raise UnsupportedError(f"its inputs differ in rank: {', '.join(text(x.shape) for x in inputs)}")
        xs = same_layout(e, inputs)
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
        return replace(e.tensor(value, shape, moved=xs[0].moved), mask=_joined_mask(e, inputs, along, options.version))

    return Plan(emit, inputs=None, masking="own")


def _joined_mask(e: Emitter, inputs: Sequence[Tensor], along: int, version: tuple[int, int]) -> ir.Value | None:
    """The mask of a concatenation: of features merged, where an input without one counts as true; of time joined."""
    masks = [x.mask for x in inputs if x.mask is not None]
    if not masks or along == inputs[0].rank - 1:
        return _any_mask(e, inputs, version)
    if along != 1 or len(masks) < len(inputs) or inputs[0].rank != 3:
        raise UnsupportedError("inputs with masks, joined along this axis, are not supported")
    return e.node("Concat", masks, tag="mask", axis=1)


def _flatten(options: Settings) -> Plan:
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


def _reshape(options: Settings) -> Plan:
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


def _permute(options: Settings) -> Plan:
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


def _repeat_vector(options: Settings) -> Plan:
    n = options.integer("n")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        if x.rank != 2:
            raise UnsupportedError(f"its input has the shape {text(x.shape)}, expected 2 dimensions")
        row = e.node("Unsqueeze", [x.value, e.constant("axes", [1], np.int64)], tag="unsqueeze")
        value = e.node("Expand", [row, e.constant("shape", [1, n, 1], np.int64)])
        return e.tensor(value, (x.shape[0], n, x.shape[1]), dtype=x.dtype)

    return Plan(emit, takes="anything")


def _borders(options: Settings, key: str, rank: int) -> list[tuple[int, int]]:
    """What to add or cut before and after, for each spatial dimension: a number, one each, or a pair each."""
    value = options.get(key)
    each = value if isinstance(value, list) and len(value) == rank and rank > 1 else [value] * rank
    pairs = [pair if isinstance(pair, list) else [pair, pair] for pair in each]
    for pair in pairs:
        whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_DIM for n in pair)
        if len(pair) != 2 or not whole:
            raise UnsupportedError(f"the option {key} = {brief(value)} is not {rank} pairs of whole numbers")
    return [(pair[0], pair[1]) for pair in pairs]


def _zero_padding(options: Settings, rank: int) -> Plan:
    pads, data_format = _borders(options, "padding", rank), options.data_format()

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, rank)
        amounts = [0, 0, *[before for before, _ in pads], 0, 0, *[after for _, after in pads]]
        value = e.node("Pad", [x.value, e.constant("pads", amounts, np.int64)], mode="constant")
        sizes = [None if size is None else size + sum(pad) for size, pad in zip(x.sizes, pads, strict=True)]
        return e.from_spatial(x, value, sizes)

    return Plan(emit)


def _cropping(options: Settings, rank: int) -> Plan:
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


def _up_sampling(options: Settings, rank: int) -> Plan:
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


def _identity(*ignored: str) -> Callable[[Settings], Plan]:
    """A layer that does nothing at inference; the `ignored` options say what it does in training."""

    def read(options: Settings) -> Plan:
        for key in ignored:
            options.get(key)
        return Plan(lambda e, inputs: inputs[0], takes="anything")

    return read


def _augmentation(*ignored: str) -> Callable[[Settings], Plan]:
    """A layer that changes pictures at random in training; at inference it only makes them float32."""
    identity = _identity("rng_type", "auto_vectorize", "data_format", "fill_mode", "fill_value", *ignored)
    # A functional model gives its own `training` to every layer, whatever was noted when it was made.
    return lambda options: replace(identity(options), takes="numbers", arguments=frozenset({"training"}))


def _of_rank(build: Callable[[Settings, int], Plan], rank: int) -> Callable[[Settings], Plan]:
    return lambda options: build(options, rank)


PLAIN_LAYERS: dict[str, Callable[[Settings], Plan]] = {
    "Dense": _dense,
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
    "AugMix": _augmentation("value_range", "num_chains", "chain_depth", "factor", "alpha", "all_ops", "interpolation"),
    "CutMix": _augmentation("factor"),
    "MixUp": _augmentation("alpha"),
    "RandAugment": _augmentation("value_range", "num_ops", "factor", "interpolation"),
    "RandomBrightness": _augmentation("value_range", "factor"),
    "RandomColorDegeneration": _augmentation("value_range", "factor"),
    "RandomColorJitter": _augmentation(
        "value_range", "brightness_factor", "contrast_factor", "saturation_factor", "hue_factor"
    ),
    "RandomContrast": _augmentation("value_range", "factor"),
    "RandomElasticTransform": _augmentation("value_range", "factor", "scale", "interpolation"),
    "RandomErasing": _augmentation("value_range", "factor", "scale"),
    "RandomGaussianBlur": _augmentation("value_range", "factor", "kernel_size", "sigma"),
    "RandomGrayscale": _augmentation("factor"),
    "RandomHue": _augmentation("value_range", "factor"),
    "RandomInvert": _augmentation("value_range", "factor"),
    "RandomPerspective": _augmentation("factor", "scale", "interpolation"),
    "RandomPosterization": _augmentation("value_range", "factor"),
    "RandomSaturation": _augmentation("value_range", "factor"),
    "RandomSharpness": _augmentation("value_range", "factor"),
    "RandomShear": _augmentation("x_factor", "y_factor", "interpolation"),
    "RandomFlip": _augmentation("mode"),
    "RandomRotation": _augmentation("factor", "interpolation"),
    "RandomTranslation": _augmentation("height_factor", "width_factor", "interpolation"),
    "RandomZoom": _augmentation("height_factor", "width_factor", "interpolation"),
    "SpatialDropout1D": _identity("rate"),
    "SpatialDropout2D": _identity("rate", "data_format"),
    "SpatialDropout3D": _identity("rate", "data_format"),
}
