"""MIL's convolutions, pooling, products, normalisations, resizing and recurrent operations as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.coreml.operations import Array, Emitter, Rule, Shape, Tensor, UnsupportedError


def _padding(e: Emitter, kernel: Sequence[int], strides: Sequence[int], shape: Shape | None) -> dict[str, Any]:
    """The attribute for padding: amounts, or ONNX's own word for 'same' where the size is open."""
    sizes = shape[-len(kernel) :] if shape is not None else (None,)
    if None in sizes and set(strides) != {1} and (kind := e.const("pad_type", "valid")) in ("same", "same_lower"):
        e.has("pad")
        return {"auto_pad": "SAME_UPPER" if kind == "same" else "SAME_LOWER"}
    return {"pads": _pads(e, kernel, strides, shape)}


def _pads(e: Emitter, kernel: Sequence[int], strides: Sequence[int], shape: Shape | None) -> list[int]:
    """ONNX's `pads`: all begins, then all ends. `kernel` is that of a dilated window."""
    spatial, kind = len(kernel), e.const("pad_type", "valid")
    given = e.ints("pad", [0] * 2 * spatial)
    if kind == "valid":
        return [0] * 2 * spatial
    if kind == "custom":
        if len(given) != 2 * spatial:
            raise UnsupportedError(f"it has {len(given)} amounts of padding, expected {2 * spatial}")
        return [*given[::2], *given[1::2]]
    if kind not in ("same", "same_lower"):
        raise UnsupportedError(f"the padding {kind!r} is not known")
    sizes = shape[-spatial:] if shape is not None else (None,) * spatial
    begins, ends = [], []
    for size, width, step in zip(sizes, kernel, strides, strict=True):
        total = max(width - 1 if size is None else (-(-size // step) - 1) * step + width - size, 0)
        begins.append(total // 2 if kind == "same" else total - total // 2)
        ends.append(total - begins[-1])
    return begins + ends


def _weight(e: Emitter, x: Tensor) -> tuple[Tensor, list[int]]:
    weight = e.tensor("weight")
    if weight.shape is None or any(size is None for size in weight.shape) or x.rank != weight.rank or x.rank < 3:
        raise UnsupportedError("the shape of its weights is not known or does not fit its input")
    return weight, [size for size in weight.shape[2:] if size is not None]


def _dilated(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    return [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]


def _conv(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    weight, kernel = _weight(e, x)
    ones = [1] * len(kernel)
    strides, dilations = e.ints("strides", ones), e.ints("dilations", ones)
    return e.node(
        "Conv",
        [x.value, weight.value, e.value("bias") if e.has("bias") else None],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=int(e.const("groups", 1)),
        **_padding(e, _dilated(kernel, dilations), strides, x.shape),
    )


def _conv_transpose(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    weight, kernel = _weight(e, x)
    spatial = len(kernel)
    strides, dilations = e.ints("strides", [1] * spatial), e.ints("dilations", [1] * spatial)
    wide = _dilated(kernel, dilations)
    if (kind := e.const("pad_type", "valid")) in ("same", "same_lower"):
        totals = [width - step for width, step in zip(wide, strides, strict=True)]
        if min(totals) < 0:
            raise UnsupportedError("'same' padding with strides wider than the kernel is not supported")
        halves = [total // 2 if kind == "same" else total - total // 2 for total in totals]
        pads = halves + [total - half for total, half in zip(totals, halves, strict=True)]
    else:
        pads = _pads(e, wide, strides, x.shape)
    extra = None
    if e.has("output_shape"):
        wanted, sizes = e.ints("output_shape")[-spatial:], (x.shape or ())[-spatial:]
        if not sizes or None in sizes:
            return _cut_transpose(e, x, weight, (strides, dilations, pads), wanted)
        extra = [
            out - ((size or 0) - 1) * step - width + begin + end
            for out, size, step, width, begin, end in zip(
                wanted, sizes, strides, wide, pads[:spatial], pads[spatial:], strict=True
            )
        ]
        if any(not 0 <= more < step for more, step in zip(extra, strides, strict=True)):
            raise UnsupportedError(f"its output shape {wanted} does not fit strides and padding")
    return e.node(
        "ConvTranspose",
        [x.value, weight.value, e.value("bias") if e.has("bias") else None],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=int(e.const("groups", 1)),
        pads=pads,
        output_padding=extra if extra and any(extra) else None,
    )


def _cut_transpose(
    e: Emitter, x: Tensor, weight: Tensor, steps: tuple[list[int], list[int], list[int]], wanted: Sequence[int]
) -> ir.Value:
    """Of an input whose size is open: everything that the kernel reaches, cut to the wanted size."""
    strides, dilations, pads = steps
    whole = e.node(
        "ConvTranspose",
        [x.value, weight.value, e.value("bias") if e.has("bias") else None],
        "whole",
        strides=strides,
        dilations=dilations,
        group=int(e.const("groups", 1)),
        output_padding=[step - 1 for step in strides],
    )
    starts = pads[: len(wanted)]
    ends = [start + size for start, size in zip(starts, wanted, strict=True)]
    lists = {"starts": starts, "ends": ends, "axes": range(-len(wanted), 0)}
    return e.node("Slice", [whole, *(e.constant(key, values, np.int64) for key, values in lists.items())])


def _pool(op_type: str) -> Rule:
    def rule(e: Emitter) -> ir.Value:
        x, kernel = e.tensor("x"), e.ints("kernel_sizes")
        strides = e.ints("strides", [1] * len(kernel))
        ceil, excluded = bool(e.const("ceil_mode", False)), bool(e.const("exclude_padding_from_average", False))
        attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "ceil_mode": int(ceil)}
        attributes |= _padding(e, kernel, strides, x.shape)
        if op_type == "AveragePool":
            if ceil and not excluded:
                raise UnsupportedError("averages that count padding with sizes rounded up are not supported")
            attributes["count_include_pad"] = int(not excluded)
        if op_type == "LpPool":
            attributes["p"] = 2
        return e.node(op_type, [x.value], **attributes)

    return rule


def _linear(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    if e.is_const("weight"):
        columns = e.constant("weight_columns", e.array("weight").T)
    else:
        columns = e.graph.transpose(e.value("weight"), [1, 0], name=f"{e.name}/weight_columns")
    if not e.has("bias"):
        return e.node("MatMul", [x.value, columns])
    return e.node("Add", [e.node("MatMul", [x.value, columns], "product"), e.value("bias")])


def _matmul(e: Emitter) -> ir.Value:
    sides = []
    for key in ("x", "y"):
        side, turned = e.tensor(key), e.const(f"transpose_{key}", False)
        order = [*range(side.rank - 2), side.rank - 1, side.rank - 2]
        sides.append(e.graph.transpose(side.value, order, name=f"{e.name}/{key}_turned") if turned else side.value)
    return e.node("MatMul", sides)


def _einsum(e: Emitter) -> ir.Value:
    return e.node("Einsum", [x.value for x in e.tensors("values")], equation=e.const("equation").replace(" ", ""))


def _optional(e: Emitter, key: str, size: int, number: float) -> ir.Value:
    return e.value(key) if e.has(key) else e.constant(key, np.full(size, number, np.float32))


def _batch_norm(e: Emitter) -> ir.Value:
    size = e.array("mean").size
    scale, shift = _optional(e, "gamma", size, 1.0), _optional(e, "beta", size, 0.0)
    given = [e.value("x"), scale, shift, e.value("mean"), e.value("variance")]
    return e.node("BatchNormalization", given, epsilon=float(e.const("epsilon", 1e-5)))


def _instance_norm(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    channels = (x.shape or (None, None))[1]
    if channels is None:
        channels = e.array("gamma").size
    scale, shift = _optional(e, "gamma", channels, 1.0), _optional(e, "beta", channels, 0.0)
    return e.node("InstanceNormalization", [x.value, scale, shift], epsilon=float(e.const("epsilon", 1e-5)))


def _layer_norm(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    axes = sorted(axis % x.rank for axis in (e.ints("axes") if e.has("axes") else range(x.rank)))
    epsilon = float(e.const("epsilon", 1e-5))
    extra = [e.value(key) if e.has(key) else None for key in ("gamma", "beta")]
    sizes = x.shape[axes[0] :] if x.shape else ()
    gamma = extra[0]
    if gamma is None and None not in sizes:
        gamma = e.constant("gamma", np.ones([size or 0 for size in sizes]))
    if axes == list(range(axes[0], x.rank)) and gamma is not None:
        beta = [extra[1]] if extra[1] is not None else []  # onnxruntime 1.32 crashes over one that is there and empty
        return e.node("LayerNormalization", [x.value, gamma, *beta], axis=axes[0], epsilon=epsilon)
    if extra != [None, None]:
        raise UnsupportedError("gamma and beta along axes that are not the last, or beta alone, are not supported")
    along = e.constant("axes", axes, np.int64)
    centred = e.node("Sub", [x.value, e.node("ReduceMean", [x.value, along], "mean")], "centred")
    variance = e.node("ReduceMean", [e.node("Mul", [centred, centred], "squares"), along], "variance")
    return e.node("Div", [centred, e.node("Sqrt", [e.node("Add", [variance, e.constant("epsilon", epsilon)])], "std")])


def _l2_norm(e: Emitter) -> ir.Value:
    x = e.value("x")
    squares = e.node("ReduceSumSquare", [x, e.constant("axes", [-3, -2, -1], np.int64)], "squares")
    shifted = e.node("Add", [squares, e.constant("epsilon", float(e.const("epsilon", 1e-6)))], "shifted")
    return e.node("Div", [x, e.node("Sqrt", [shifted], "norm")])


def _lrn(e: Emitter) -> ir.Value:
    size = int(e.const("size"))
    if size % 2 == 0:
        raise UnsupportedError(f"windows of an even size ({size}) are not supported")
    numbers: dict[str, Any] = {"alpha": float(e.const("alpha", 1e-4)), "beta": float(e.const("beta", 0.75))}
    return e.node("LRN", [e.value("x")], size=size, bias=float(e.const("k", 1.0)), **numbers)


# Resizing


def _resize(e: Emitter, scales: Sequence[float] | None, sizes: Sequence[int] | None, **attributes: Any) -> ir.Value:
    x = e.tensor("x")
    axes = [x.rank - 2, x.rank - 1]
    if scales is not None and all(size is not None for size in (x.shape or (None,))[-2:]):
        # Scales in float32 may miss a size by one.
        known = [size or 0 for size in (x.shape or ())[-2:]]
        sizes, scales = [int(size * scale) for size, scale in zip(known, scales, strict=True)], None
    given = e.constant("scales", scales) if scales is not None else None
    wanted = e.constant("sizes", sizes, np.int64) if sizes is not None else None
    return e.node("Resize", [x.value, None, given, wanted], axes=axes, **attributes)


_NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def _scales(e: Emitter) -> list[float]:
    return [float(e.const(f"scale_factor_{side}", 1.0)) for side in ("height", "width")]


def _upsample_nearest(e: Emitter) -> ir.Value:
    return _resize(e, _scales(e), None, **_NEAREST)


def _resize_nearest(e: Emitter) -> ir.Value:
    return _resize(e, None, [int(e.const(f"target_size_{side}")) for side in ("height", "width")], **_NEAREST)


def _upsample_bilinear(e: Emitter) -> ir.Value:
    aligned = bool(e.const("align_corners", True))
    if aligned and e.const("half_pixel_centers", False):
        raise UnsupportedError("aligned corners with half-pixel centres are not supported")
    mode = "half_pixel" if e.const("half_pixel_centers", not aligned) else "asymmetric"
    mode = "align_corners" if aligned else mode
    return _resize(e, _scales(e), None, mode="linear", coordinate_transformation_mode=mode)


_SAMPLING = {"STRICT_ALIGN_CORNERS": "align_corners", "DEFAULT": "asymmetric", "UNALIGN_CORNERS": "half_pixel"}


def _resize_bilinear(e: Emitter) -> ir.Value:
    sizes = [int(e.const(f"target_size_{side}", 1)) for side in ("height", "width")]
    mode = e.const("sampling_mode", "DEFAULT")
    if mode == "ALIGN_CORNERS" and min(sizes) > 1:
        mode = "STRICT_ALIGN_CORNERS"  # They differ where one pixel is wanted.
    if mode not in _SAMPLING:
        raise UnsupportedError(f"the sampling mode {mode!r} is not supported")
    return _resize(e, None, sizes, mode="linear", coordinate_transformation_mode=_SAMPLING[mode])


def _crop(e: Emitter) -> ir.Value:
    (top, bottom), (left, right) = e.ints("crop_height"), e.ints("crop_width")
    lists = ([top, left], [-bottom or 2**62, -right or 2**62], [-2, -1])
    names = ("starts", "ends", "axes")
    given = [e.constant(name, values, np.int64) for name, values in zip(names, lists, strict=True)]
    return e.node("Slice", [e.value("x"), *given])


def _blocks(key: str, mode: str) -> Rule:
    return lambda e: e.node("DepthToSpace", [e.value("x")], blocksize=int(e.const(key)), mode=mode)


def _space_to_depth(e: Emitter) -> ir.Value:
    return e.node("SpaceToDepth", [e.value("x")], blocksize=int(e.const("block_size")))


def _pixel_unshuffle(e: Emitter) -> ir.Value:
    x, block = e.tensor("x"), int(e.const("downscale_factor"))
    _, channels, height, width = x.shape or (None,) * 4
    if None in (channels, height, width):
        raise UnsupportedError("its input's size is not known")
    assert channels is not None and height is not None and width is not None
    rows, columns = height // block, width // block
    split = [0, channels, rows, block, columns, block]
    parts = e.node("Reshape", [x.value, e.constant("split", split, np.int64)], "parts")
    turned = e.node("Transpose", [parts], "turned", perm=[0, 1, 3, 5, 2, 4])
    return e.node("Reshape", [turned, e.constant("shape", [0, channels * block**2, rows, columns], np.int64)])


# Recurrent operations

_ACTIVATIONS = {
    "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "linear": "Affine", "softsign": "Softsign",
    "softplus": "Softplus", "sigmoid_hard": "HardSigmoid", "scaled_tanh": "ScaledTanh",
}  # fmt: skip
_PARAMETERS = {"Affine": (1.0, 0.0), "HardSigmoid": (0.2, 0.5), "ScaledTanh": (1.7159, 2 / 3)}


def _gates(array: Array, order: Sequence[int]) -> Array:
    parts = np.split(array.astype(np.float32), len(order))
    return np.concatenate([parts[gate] for gate in order])


def _recurrent(op_type: str, order: Sequence[int], names: Sequence[str]) -> Rule:
    """`order` are ONNX's gates as places among MIL's; `names` the options that name the activations, as ONNX has
    them."""

    def rule(e: Emitter) -> Sequence[ir.Value]:
        direction = e.const("direction", "forward")
        count = 2 if direction == "bidirectional" else 1
        functions = [_ACTIVATIONS.get(e.const(key, default), "") for key, default in _named(names)]
        if "" in functions:
            raise UnsupportedError("one of its activations is not supported")
        weights, recurrences, biases, peepholes = [], [], [], []
        for suffix in ("", "_back")[:count]:
            weights.append(_gates(e.array(f"weight_ih{suffix}"), order))
            recurrences.append(_gates(e.array(f"weight_hh{suffix}"), order))
            bias = e.array(f"bias{suffix}") if e.has(f"bias{suffix}") else np.zeros(weights[-1].shape[0])
            biases.append(np.concatenate([_gates(bias, order), np.zeros(bias.size, np.float32)]))
            if e.has(f"peephole{suffix}"):
                # MIL: input, forget, output; ONNX: input, output, forget.
                peepholes.append(_gates(e.array(f"peephole{suffix}"), (0, 2, 1)))
        hidden = recurrences[0].shape[-1]
        numbers = [_PARAMETERS.get(name, (None, None)) for name in functions] * count
        clip = e.const("clip", None)
        given = [
            e.value("x"),
            *(e.constant(k, np.stack(v)) for k, v in (("W", weights), ("R", recurrences), ("B", biases))),
            None,
            *(_state(e, key, count, hidden) for key in ("initial_h", "initial_c")[: 1 + (op_type == "LSTM")]),
        ]  # fmt: skip
        if peepholes:
            given.append(e.constant("P", np.stack(peepholes)))
        alphas, betas = ([pair[i] for pair in numbers if pair[i] is not None] for i in (0, 1))
        outputs = e.graph.nodes(
            op_type, given, 3 if op_type == "LSTM" else 2, name=f"{e.name}/{op_type.lower()}",
            hidden_size=hidden, direction=direction, activations=functions * count,
            activation_alpha=alphas or None, activation_beta=betas or None,
            clip=None if clip is None else float(clip), linear_before_reset=0 if op_type == "GRU" else None,
        )  # fmt: skip
        sequence = bool(e.const("output_sequence", False))
        return _unstacked(e, outputs, sequence, hidden * count)

    return rule


def _named(names: Sequence[str]) -> list[tuple[str, str]]:
    defaults = {"recurrent_activation": "sigmoid", "cell_activation": "tanh", "activation": "tanh"}
    return [(name, defaults[name]) for name in names]


def _state(e: Emitter, key: str, count: int, hidden: int) -> ir.Value | None:
    """[batch, directions * hidden] as [directions, batch, hidden]."""
    if not e.has(key):
        return None
    parts = e.node("Reshape", [e.value(key), e.constant("split", [0, count, hidden], np.int64)], f"{key}_parts")
    return e.node("Transpose", [parts], f"{key}_turned", perm=[1, 0, 2])


def _unstacked(e: Emitter, outputs: Sequence[ir.Value], sequence: bool, width: int) -> list[ir.Value]:
    """Directions beside one another, as MIL has them."""
    joined = e.constant("joined", [0, width], np.int64)
    states = []
    for index, state in enumerate(outputs[1:]):
        turned = e.node("Transpose", [state], f"state_{index}_turned", perm=[1, 0, 2])
        states.append(e.node("Reshape", [turned, joined], f"state_{index}"))
    if not sequence:
        return [states[0], *states]
    steps = e.node("Transpose", [outputs[0]], "steps", perm=[0, 2, 1, 3])
    return [e.node("Reshape", [steps, e.constant("rows", [0, 0, width], np.int64)]), *states]


WINDOWS: dict[str, Rule] = {
    "conv": _conv, "conv_transpose": _conv_transpose, "max_pool": _pool("MaxPool"), "avg_pool": _pool("AveragePool"),
    "l2_pool": _pool("LpPool"), "linear": _linear, "matmul": _matmul, "einsum": _einsum, "batch_norm": _batch_norm,
    "instance_norm": _instance_norm, "layer_norm": _layer_norm, "l2_norm": _l2_norm, "local_response_norm": _lrn,
    "upsample_nearest_neighbor": _upsample_nearest, "resize_nearest_neighbor": _resize_nearest,
    "upsample_bilinear": _upsample_bilinear, "resize_bilinear": _resize_bilinear, "crop": _crop,
    "depth_to_space": _blocks("block_size", "DCR"), "pixel_shuffle": _blocks("upscale_factor", "CRD"),
    "space_to_depth": _space_to_depth, "pixel_unshuffle": _pixel_unshuffle,
    # Gates: MIL has input, forget, output, cell; reset, output, update. ONNX: i, o, f, c; z, r, h.
    "lstm": _recurrent("LSTM", (0, 2, 1, 3), ("recurrent_activation", "cell_activation", "activation")),
    "gru": _recurrent("GRU", (2, 0, 1), ("recurrent_activation", "activation")),
    "rnn": _recurrent("RNN", (0,), ("activation",)),
}  # fmt: skip
