"""Keras layers that bring pictures to a size, sort numbers into bins, and pool to a size that is given.

Written after the layers' documentation and `keras/src/layers/preprocessing`, `keras/src/layers/pooling`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from sardonyx.convert.graph import Array
from sardonyx.convert.keras.base import Emitter, Plan, Settings, Spatial, Tensor, UnsupportedError, text

MAX_INDICES = 1 << 20
"""Places in all windows of one axis, which become constants of the graph."""

_TRAINING = frozenset({"training"})  # what calls of these layers note, though it changes nothing


def _known(x: Spatial) -> list[int]:
    sizes = [size for size in x.sizes if size is not None]
    if len(sizes) < len(x.sizes):
        raise UnsupportedError(f"its input has the open sizes {text(x.sizes)}; give them as shapes")
    return sizes


def _center_crop(options: Settings) -> Plan:
    """The middle of pictures; smaller pictures, which Keras resizes instead, are unsupported."""
    wanted, data_format = (options.integer("height"), options.integer("width")), options.data_format()

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, 2)
        sizes = _known(x)
        if any(size < want for size, want in zip(sizes, wanted, strict=True)):
            raise UnsupportedError(f"its input of {text(sizes)} is smaller than what it crops to, {text(wanted)}")
        starts = [(size - want) // 2 for size, want in zip(sizes, wanted, strict=True)]
        ends = [start + want for start, want in zip(starts, wanted, strict=True)]
        bounds = [e.constant(key, value, np.int64) for key, value in (("starts", starts), ("ends", ends))]
        return e.from_spatial(x, e.node("Slice", [x.value, *bounds, e.constant("axes", [2, 3], np.int64)]), wanted)

    return Plan(emit, takes="numbers", arguments=_TRAINING)


def _resizing(options: Settings) -> Plan:
    """To a size about half-pixel centres (`tf.image.resize`), linear or by the nearest pixel."""
    wanted, data_format = (options.integer("height"), options.integer("width")), options.data_format()
    kind = options.choice("interpolation", ("bilinear", "nearest"), "bilinear")
    for key in ("fill_mode", "fill_value"):  # of padding, which is refused where it is asked for
        options.get(key)
    mode = {"mode": "linear"} if kind == "bilinear" else {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.spatial(inputs[0], data_format, 2)
        dims = [x.batch, x.channels, *wanted]
        if x.batch is None:
            shape = e.node("Shape", [x.value], tag="head", end=2)
            sizes = e.node("Concat", [shape, e.constant("tail", wanted, np.int64)], tag="sizes", axis=0)
        else:
            sizes = e.constant("sizes", dims, np.int64)
        operands = [x.value, None, None, sizes]
        value = e.node("Resize", operands, coordinate_transformation_mode="half_pixel", **mode)
        return e.from_spatial(x, value, wanted)

    return Plan(emit, takes="numbers", arguments=_TRAINING)


def _adaptive_pool(rank: int, reduce: str) -> Callable[[Settings], Plan]:
    """Window i of an axis of n elements pooled to m holds those from floor(i n / m) up to ceil((i + 1) n / m).

    Windows are boxes, so one axis after the other is pooled, each by gathering its windows.
    """

    def read(options: Settings) -> Plan:
        wanted, data_format = options.ints("output_size", rank), options.data_format()

        def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
            x = e.spatial(inputs[0], data_format, rank)
            value = x.value
            for axis, (size, count) in enumerate(zip(_known(x), wanted, strict=True)):
                places, shares = _windows(size, count)
                tag = f"axis_{axis}"
                value = e.node("Gather", [value, e.constant(f"{tag}_places", places, np.int64)], tag=tag, axis=axis + 2)
                if reduce == "ReduceSum":
                    weights = shares.reshape(*shares.shape, *(1,) * (rank - 1 - axis))
                    value = e.node("Mul", [value, e.constant(f"{tag}_shares", weights)], tag=f"{tag}_parts")
                over = e.constant(f"{tag}_axis", [axis + 3], np.int64)
                value = e.node(reduce, [value, over], tag=f"{tag}_pooled", keepdims=0)
            return e.from_spatial(x, value, wanted)

        return Plan(emit)

    return read


def _windows(size: int, count: int) -> tuple[Array, Array]:
    """Places in each window, [count, longest], the last again where a window is shorter, and their shares in a mean."""
    if count > size:
        raise UnsupportedError(f"pooling {size} elements to {count} is not supported")
    longest = -(-size // count) + 1
    if count * longest > MAX_INDICES:
        raise UnsupportedError(f"pooling {size} elements to {count} would need too large a table")
    windows = [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
    longest = max(map(len, windows))
    places = np.array([[*window, *[window[-1]] * (longest - len(window))] for window in windows])
    return places, np.array([[(i < len(w)) / len(w) for i in range(longest)] for w in windows])


def _discretization(options: Settings) -> Plan:
    """The number of boundaries at or below each number."""
    options.choice("output_mode", ("int",), "int")
    for key in ("num_bins", "epsilon"):  # what boundaries were made by
        options.get(key)
    if options.get("bin_boundaries") is None:
        raise UnsupportedError("its boundaries are not in its configuration")
    options.dtype_is_free()
    boundaries = options.numbers("bin_boundaries", 0.0)
    if boundaries.ndim != 1 or not boundaries.size or (np.diff(boundaries) < 0).any():
        raise UnsupportedError("the option bin_boundaries is no list of numbers in order")
    dtype = ir.DataType.INT32 if options.version[0] == 3 else ir.DataType.INT64

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        each = e.node("Unsqueeze", [x.value, e.constant("axis", [-1], np.int64)], tag="each")
        above = e.node("GreaterOrEqual", [each, e.constant("boundaries", boundaries)], tag="above")
        counted = e.node("Cast", [above], tag="counted", to=int(dtype))
        value = e.node("ReduceSum", [counted, e.constant("last", [-1], np.int64)], keepdims=0)
        return e.tensor(value, x.shape, moved=x.moved, dtype=dtype)

    return Plan(emit, takes="numbers")


PICTURE_LAYERS: dict[str, Callable[[Settings], Plan]] = {
    "CenterCrop": _center_crop,
    "Discretization": _discretization,
    "Resizing": _resizing,
    **{f"AdaptiveAveragePooling{rank}D": _adaptive_pool(rank, "ReduceSum") for rank in (1, 2, 3)},
    **{f"AdaptiveMaxPooling{rank}D": _adaptive_pool(rank, "ReduceMax") for rank in (1, 2, 3)},
}
