"""Keras layers that normalise: by stored statistics (batch) or by those of the input (layer, group, unit, RMS).

Batch, layer and group normalization divide by sqrt(variance + epsilon) (`keras.ops.moments`, the biased variance).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from sardonyx.convert.graph import Array
from sardonyx.convert.keras.base import Emitter, Plan, Settings, Tensor, UnsupportedError, brief, text


def _batch_normalization(options: Settings) -> Plan:
    """By the operator of that name where it fits, over other or several axes as x * scale + shift."""
    axes, epsilon = _read_axes(options), options.epsilon(1e-3)
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


def _read_axes(options: Settings) -> list[int]:
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


def _rescaling(options: Settings) -> Plan:
    scale, offset = options.numbers("scale", 1.0), options.numbers("offset", 0.0)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        y = e.node("Mul", [x.value, e.constant("scale", _last_axis(scale, x, "scale"))])
        if offset.any():
            y = e.node("Add", [y, e.constant("offset", _last_axis(offset, x, "offset"))], tag="offset_add")
        return e.like(x, y)

    return Plan(emit, takes="numbers")


def _normalization(options: Settings) -> Plan:
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


def _layer_normalization(options: Settings) -> Plan:
    """Over the axes' elements together; one scale and shift for each of them. `rms_scaling` leaves the mean in."""
    axes, epsilon = _read_axes(options), options.epsilon(1e-3)
    scale, center = options.flag("scale", True), options.flag("center", True)
    rms = options.flag("rms_scaling", False)
    # With rms_scaling Keras has no shift, whatever `center` says.
    shift = center and not rms
    scale = scale or rms
    weights = tuple(name for name, used in (("gamma", scale), ("beta", shift)) if used)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        over = _axes_of(x, axes)
        if rms:
            # Keras divides by the deviation here, mean and all: not what RMSNormalization does.
            y = e.node("Mul", [x.value, _inverse(e, x, over, epsilon, variance=True)], tag="scaled")
            return e.like(x, e.node("Mul", [y, _parameter(e, x, over, "gamma")]))
        if over == list(range(x.rank - len(over), x.rank)):
            x = e.plain(x)
            dims = [x.shape[axis] for axis in over]
            gamma = e.weight("gamma", dims).array if scale else np.ones(_whole(dims), np.float32)
            operands = [x.value, e.constant("gamma", gamma)]
            if shift:
                operands.append(e.constant("beta", e.weight("beta", dims).array))
            return e.like(x, e.node("LayerNormalization", operands, axis=over[0], epsilon=epsilon))
        held = e.constant("axes", [x.axis(axis) for axis in over], np.int64)
        middle = e.node("Sub", [x.value, e.node("ReduceMean", [x.value, held], tag="mean")], tag="sub")
        y = e.node("Mul", [middle, _inverse(e, x, over, epsilon, variance=True)], tag="scaled")
        if scale:
            y = e.node("Mul", [y, _parameter(e, x, over, "gamma")], tag="mul" if shift else "")
        if shift:
            y = e.node("Add", [y, _parameter(e, x, over, "beta")])
        return e.like(x, y)

    return Plan(emit, weights=weights)


def _inverse(e: Emitter, x: Tensor, axes: Sequence[int], epsilon: float, *, variance: bool) -> ir.Value:
    """1 / sqrt(mean of squares + epsilon), about the mean or about zero."""
    held = e.constant("axes", [x.axis(axis) for axis in axes], np.int64)
    about = x.value
    if variance:
        about = e.node("Sub", [about, e.node("ReduceMean", [about, held], tag="moment")], tag="about")
    square = e.node("ReduceMean", [e.node("Mul", [about, about], tag="squares"), held], tag="variance")
    root = e.node("Sqrt", [e.node("Add", [square, e.constant("epsilon", epsilon)], tag="safe")], tag="deviation")
    return e.node("Reciprocal", [root], tag="inverse")


def _parameter(e: Emitter, x: Tensor, axes: Sequence[int], key: str) -> ir.Value:
    return e.constant(key, _spread(e.weight(key, [x.shape[axis] for axis in axes]).array, x, axes))


def _whole(dims: Sequence[int | None]) -> list[int]:
    if None in dims:
        raise UnsupportedError(f"the axes to be normalised have an open size: {text(dims)}")
    return [dim for dim in dims if dim is not None]


def _group_normalization(options: Settings) -> Plan:
    """Channels in groups; the statistics of each group over all but the batch."""
    groups, axis = options.integer("groups", 32, least=-1), options.integer("axis", -1, least=-8)
    epsilon = options.epsilon(1e-3)
    scale, center = options.flag("scale", True), options.flag("center", True)
    weights = tuple(name for name, used in (("gamma", scale), ("beta", center)) if used)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        (place,) = _axes_of(x, [axis])
        channels = x.shape[place]
        if channels is None or place not in (1, x.rank - 1):
            raise UnsupportedError(f"groups along axis {place} of {text(x.shape)} are not supported")
        count = channels if groups == -1 else groups
        if count == 0 or channels % count:
            raise UnsupportedError(f"{count} groups do not divide {channels} channels")
        x = e.move(x) if place == x.rank - 1 else e.plain(x)
        gamma = e.vector("gamma", channels) if scale else e.constant("gamma", np.ones(channels))
        beta = e.vector("beta", channels) if center else e.constant("beta", np.zeros(channels))
        operands = [x.value, gamma, beta]
        return e.like(x, e.node("GroupNormalization", operands, num_groups=count, epsilon=epsilon))

    return Plan(emit, weights=weights)


def _unit_normalization(options: Settings) -> Plan:
    """x / max(length, least): Keras 3 has 1e-12 for the least, `tf.linalg.l2_normalize` that under the root."""
    axes, least = _read_axes(options), 1e-12 if options.version[0] == 3 else 1e-6

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        return e.like(x, unit(e, x.value, [x.axis(axis) for axis in axes], least))

    return Plan(emit)


def unit(e: Emitter, value: ir.Value, axes: Sequence[int], least: float, tag: str = "") -> ir.Value:
    """`value` at length 1 along axes of it; lengths below `least` count as that."""
    start = f"{tag}/" if tag else ""
    held = e.constant(f"{start}axes", sorted(axes), np.int64)
    square = e.node("ReduceSumSquare", [value, held], tag=f"{start}squares")
    safe = e.node("Max", [square, e.constant(f"{start}least", least**2)], tag=f"{start}safe")
    return e.node("Div", [value, e.node("Sqrt", [safe], tag=f"{start}length")], tag=tag)


def _rms_normalization(options: Settings) -> Plan:
    """x / sqrt(mean of squares + epsilon) * scale (`keras.ops.rms_normalization`)."""
    axes, epsilon = _read_axes(options), options.epsilon(1e-6)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        over = _axes_of(x, axes)
        if over != list(range(x.rank - len(over), x.rank)):
            raise UnsupportedError(f"the axes {over} are not the last, to which alone Keras can apply the scale")
        y = e.node("Mul", [x.value, _inverse(e, x, over, epsilon, variance=False)], tag="scaled")
        return e.like(x, e.node("Mul", [y, _parameter(e, x, over, "scale")]))

    return Plan(emit, weights=("scale",))


NORMALIZATION_LAYERS: dict[str, Callable[[Settings], Plan]] = {
    "BatchNormalization": _batch_normalization,
    "BatchNormalizationV1": _batch_normalization,
    "BatchNormalizationV2": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "LayerNormalization": _layer_normalization,
    "Normalization": _normalization,
    "RMSNormalization": _rms_normalization,
    "Rescaling": _rescaling,
    "SyncBatchNormalization": _batch_normalization,
    "UnitNormalization": _unit_normalization,
}
