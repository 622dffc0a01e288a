"""Layers of CoreML's first neural networks as MIL operations (what layers do: `NeuralNetwork.proto`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.convert.coreml.network_base import Layer, ints, number, pair, weights
from sardonyx.convert.coreml.operations import Given, Ref, Typed, UnsupportedError
from sardonyx.convert.reading.protobuf import numbers, which


def _padding(params: Any) -> dict[str, Given]:
    if params.HasField("same"):
        return {"pad_type": "same_lower" if params.same.asymmetryMode else "same"}
    borders = params.valid.paddingAmounts.borderAmounts
    if not borders:
        return {"pad_type": "valid"}
    return {"pad_type": "custom", "pad": ints(_edges(borders))}


def _edges(borders: Any) -> list[int]:
    if len(borders) != 2:
        raise UnsupportedError(f"it has borders of {len(borders)} axes, expected 2")
    return [int(size) for item in borders for size in (item.startEdgeSize, item.endEdgeSize)]


def _convolution(layer: Layer) -> None:
    p = layer.params
    layer.windowed()
    if len(layer.proto.input) != 1:
        raise UnsupportedError("weights that are computed are not supported")
    kernel, groups = pair(p.kernelSize, 3), int(p.nGroups) or 1
    out = int(p.outputChannels)
    inner = [int(p.kernelChannels), out // groups] if p.isDeconvolution else [out, int(p.kernelChannels)]
    inputs: dict[str, Given] = {
        "x": layer.x(), "weight": weights(p.weights, [*inner, *kernel], 1 if p.isDeconvolution else 0),
        "strides": ints(pair(p.stride, 1)), "dilations": ints(pair(p.dilationFactor, 1)),
        "groups": ints([groups])[0:1].reshape(()), **_padding(p),
    }  # fmt: skip
    if p.hasBias:
        inputs["bias"] = weights(p.bias, [out])
    if p.isDeconvolution and p.outputShape:
        inputs["output_shape"] = ints(pair(p.outputShape, 0))
    layer.op("conv_transpose" if p.isDeconvolution else "conv", **inputs)


def _pooling(layer: Layer) -> None:
    p = layer.params
    kind = {0: "max", 1: "avg", 2: "l2"}[p.type]
    if p.globalPooling:
        reduction = {"max": "reduce_max", "avg": "reduce_mean", "l2": "reduce_l2_norm"}[kind]
        layer.op(reduction, x=layer.x(), axes=ints([-2, -1]), keep_dims=np.array(True))
        return
    layer.windowed()
    inputs: dict[str, Given] = {
        "x": layer.x(), "kernel_sizes": ints(pair(p.kernelSize, 3)), "strides": ints(pair(p.stride, 1)),
    }  # fmt: skip
    excluded = bool(p.avgPoolExcludePadding)
    if p.HasField("includeLastPixel"):
        amounts = pair(p.includeLastPixel.paddingAmounts, 0)
        inputs |= {"pad_type": "custom", "pad": ints([a for a in amounts for _ in "be"]), "ceil_mode": np.array(True)}
        excluded = excluded or not any(amounts)  # Windows are counted as far as they lie inside the padded input.
    else:
        inputs |= _padding(p)
    if kind == "avg":
        inputs["exclude_padding_from_average"] = np.array(excluded)
    layer.op(f"{kind}_pool", **inputs)


_SIMPLE_ACTIVATIONS = {
    "ReLU": "relu", "tanh": "tanh", "sigmoid": "sigmoid", "softsign": "softsign", "softplus": "softplus",
}  # fmt: skip
_SCALED_ACTIVATIONS = {
    "linear": ("linear_activation", "beta"), "leakyReLU": ("leaky_relu",), "thresholdedReLU": ("thresholded_relu",),
    "scaledTanh": ("scaled_tanh", "beta"), "sigmoidHard": ("sigmoid_hard", "beta"), "ELU": ("elu",),
}  # fmt: skip


def _activation(layer: Layer) -> None:
    p = layer.params
    kind = which(p, *_SIMPLE_ACTIVATIONS, *_SCALED_ACTIVATIONS, "PReLU", "parametricSoftplus")
    if kind is None:
        raise UnsupportedError("its activation is not known")
    given = getattr(p, kind)
    if kind in _SIMPLE_ACTIVATIONS:
        layer.op(_SIMPLE_ACTIVATIONS[kind], x=layer.x())
    elif kind in _SCALED_ACTIVATIONS:
        name, *more = _SCALED_ACTIVATIONS[kind]
        layer.op(name, x=layer.x(), alpha=number(given.alpha), **{key: number(getattr(given, key)) for key in more})
    else:
        layer.windowed()
        keys = ("alpha",) if kind == "PReLU" else ("alpha", "beta")
        inputs = {key: weights(getattr(given, key), [_stored(getattr(given, key))]) for key in keys}
        layer.op("prelu" if kind == "PReLU" else "softplus_parametric", x=layer.x(), **inputs)


def _stored(params: Any) -> int:
    """How many weights there are, where nothing else says it."""
    return numbers(params.floatValue, np.float32).size or len(params.float16Value) // 2


def _inner_product(layer: Layer) -> None:
    p = layer.params
    if p.int8DynamicQuantize:
        raise UnsupportedError("dynamic quantisation is not supported")
    inputs: dict[str, Given] = {"weight": weights(p.weights, [p.outputChannels, p.inputChannels])}
    if p.hasBias:
        inputs["bias"] = weights(p.bias, [p.outputChannels])
    rank = layer.rank_of(layer.x().name)
    if rank < 4:
        layer.op("linear", x=layer.x(), **inputs)
        return
    rows = layer.step("squeeze", "rows", rank - 2, x=layer.x(), axes=ints([-2, -1]))
    product = layer.step("linear", "product", rank - 2, x=rows, **inputs)
    layer.op("expand_dims", x=product, axes=ints([-2, -1]))


def _embedding(layer: Layer) -> None:
    p = layer.params
    rank = layer.rank_of(layer.x().name)
    table = weights(p.weights, [p.outputChannels, p.inputDim]).T
    if p.hasBias:
        table = table + weights(p.bias, [p.outputChannels])
    indices = layer.step("squeeze", "indices", rank - 3, x=layer.x(), axes=ints([-3, -2, -1]))
    rows = layer.step("gather", "rows", rank - 2, x=np.ascontiguousarray(table), indices=indices, axis=np.array(0))
    layer.op("expand_dims", x=rows, axes=ints([-2, -1]))


def _embedding_nd(layer: Layer) -> None:
    p = layer.params
    rank = layer.rank_of(layer.x().name)
    table = weights(p.weights, [p.embeddingSize, p.vocabSize]).T
    if p.hasBias:
        table = table + weights(p.bias, [p.embeddingSize])
    indices = layer.step("squeeze", "indices", rank - 1, x=layer.x(), axes=ints([-1]))
    layer.op("gather", x=np.ascontiguousarray(table), indices=indices, axis=np.array(0))


def _batchnorm(layer: Layer) -> None:
    p = layer.params
    layer.windowed()
    keys = ["gamma", "beta"] if p.computeMeanVar else ["gamma", "beta", "mean", "variance"]
    if p.computeMeanVar and not p.instanceNormalization:
        raise UnsupportedError("statistics of the whole batch are not supported")
    inputs = {key: weights(getattr(p, key), [p.channels]) for key in keys}
    epsilon = number(p.epsilon or 1e-5)
    layer.op("instance_norm" if p.computeMeanVar else "batch_norm", x=layer.x(), epsilon=epsilon, **inputs)


def _mvn(layer: Layer) -> None:
    p = layer.params
    axes = ints([-3, -2, -1] if p.acrossChannels else [-2, -1])
    if p.normalizeVariance:
        layer.op("layer_norm", x=layer.x(), axes=axes, epsilon=number(p.epsilon or 1e-6))
        return
    mean = layer.step("reduce_mean", "mean", x=layer.x(), axes=axes, keep_dims=np.array(True))
    layer.op("sub", x=layer.x(), y=mean)


def _lrn(layer: Layer) -> None:
    p = layer.params
    layer.op(
        "local_response_norm", x=layer.x(), size=np.array(int(p.localSize)), alpha=number(p.alpha),
        beta=number(p.beta), k=number(p.k or 1.0),
    )  # fmt: skip


def _crop(layer: Layer) -> None:
    if len(layer.proto.input) != 1:
        raise UnsupportedError("cropping to another value's size is not supported")
    top, bottom, left, right = _edges(layer.params.cropAmounts.borderAmounts)
    layer.op("crop", x=layer.x(), crop_height=ints([top, bottom]), crop_width=ints([left, right]))


def _pad(layer: Layer) -> None:
    p = layer.params
    kind = which(p, "constant", "reflection", "replication") or "constant"
    mode = {"constant": "constant", "reflection": "reflect", "replication": "replicate"}[kind]
    pad = ints(_edges(p.paddingAmounts.borderAmounts))
    layer.op("pad", x=layer.x(), pad=pad, mode=mode, constant_val=number(p.constant.value))


def _upsample(layer: Layer) -> None:
    p = layer.params
    factors = list(p.fractionalScalingFactor) or [float(size) for size in p.scalingFactor] or [1.0, 1.0]
    if len(factors) != 2:
        raise UnsupportedError(f"it has {len(factors)} factors, expected 2")
    inputs = {"scale_factor_height": number(factors[0]), "scale_factor_width": number(factors[1])}
    if not p.mode:
        layer.op("upsample_nearest_neighbor", x=layer.x(), **inputs)
        return
    aligned = np.array(p.linearUpsampleMode == 1)
    half = {} if p.linearUpsampleMode else {"half_pixel_centers": np.array(False)}
    layer.op("upsample_bilinear", x=layer.x(), align_corners=aligned, **inputs, **half)


def _resize_bilinear(layer: Layer) -> None:
    p = layer.params
    height, width = pair(p.targetSize, 1)
    modes = {0: "STRICT_ALIGN_CORNERS", 1: "ALIGN_CORNERS", 2: "DEFAULT", 3: "OFFSET_CORNERS"}
    sizes = {"target_size_height": np.array(height), "target_size_width": np.array(width)}
    layer.op("resize_bilinear", x=layer.x(), sampling_mode=modes[p.mode.samplingMethod], **sizes)


def _unary(layer: Layer) -> None:
    p = layer.params
    epsilon = number(p.epsilon or 1e-6)
    x = layer.x()
    if p.shift or p.scale not in (0.0, 1.0):
        scale = number(p.scale or 1.0)
        x = layer.step("linear_activation", "scaled", x=x, alpha=scale, beta=number(p.shift))
    options: list[tuple[str, dict[str, Given]]] = [
        ("sqrt", {}), ("rsqrt", {"epsilon": epsilon}), ("inverse", {"epsilon": epsilon}),
        ("pow", {"y": number(p.alpha)}), ("exp", {}), ("log", {"epsilon": number(0.0)}), ("abs", {}),
        ("threshold", {"alpha": number(p.alpha)}),
    ]  # fmt: skip
    kind, more = options[p.type]
    layer.op(kind, x=x, **more)


def _merge(kind: str, neutral: float | None = None) -> Callable[[Layer], None]:
    """Of several inputs, or of one and the number `alpha`."""

    def rule(layer: Layer) -> None:
        names = list(layer.proto.input)
        if len(names) == 1:
            if neutral is None:
                layer.op("identity", x=layer.x())
                return
            layer.op(kind, x=layer.x(), y=number(layer.params.alpha))
            return
        result = layer.x()
        for index in range(1, len(names) - 1):
            result = layer.step(kind, f"of_{index + 1}", x=result, y=layer.x(index))
        layer.op(kind, x=result, y=layer.x(len(names) - 1))

    return rule


def _average(layer: Layer) -> None:
    result, count = layer.x(), len(layer.proto.input)
    for index in range(1, count):
        result = layer.step("add", f"of_{index + 1}", x=result, y=layer.x(index))
    layer.op("mul", x=result, y=number(1 / count))


def _spread(layer: Layer, shape: Sequence[int]) -> tuple[int, ...]:
    """[C], [1, H, W] and [C, H, W] as they broadcast to [..., C, H, W]."""
    sizes = tuple(int(size) for size in shape)
    return (*sizes, 1, 1) if len(sizes) == 1 else sizes


def _scale(layer: Layer) -> None:
    p = layer.params
    scale = weights(p.scale, p.shapeScale).reshape(_spread(layer, p.shapeScale))
    if not p.hasBias:
        layer.op("mul", x=layer.x(), y=scale)
        return
    bias = weights(p.bias, p.shapeBias).reshape(_spread(layer, p.shapeBias))
    layer.op("add", x=layer.step("mul", "scaled", x=layer.x(), y=scale), y=bias)


def _bias(layer: Layer) -> None:
    p = layer.params
    layer.op("add", x=layer.x(), y=weights(p.bias, p.shape).reshape(_spread(layer, p.shape)))


def _dot(layer: Layer) -> None:
    if layer.params.cosineSimilarity:
        raise UnsupportedError("cosine similarity is not supported")
    product = layer.step("mul", "products", x=layer.x(), y=layer.x(1))
    layer.op("reduce_sum", x=product, axes=ints([-3]), keep_dims=np.array(True))


_REDUCTIONS = ("sum", "mean", "prod", "sum", "sum_square", "l1_norm", "l2_norm", "max", "min")


def _reduce(layer: Layer) -> None:
    p = layer.params
    axes = ([-3, -2, -1], [-2, -1], [-3], [-2], [-1])[p.axis]
    if p.mode == 9:
        layer.op("reduce_argmax", x=layer.x(), axis=np.array(axes[0]), keep_dims=np.array(True))
        return
    x = layer.x()
    if p.mode == 3:  # the sum of logarithms, where MIL's operation of that name is the logarithm of the sum
        x = layer.step("log", "logarithms", x=x, epsilon=number(p.epsilon or 1e-6))
    layer.op(f"reduce_{_REDUCTIONS[p.mode]}", x=x, axes=ints(axes), keep_dims=np.array(True))


def _load_constant(layer: Layer) -> None:
    shape = [int(size) for size in layer.params.shape]
    data = weights(layer.params.data, shape)
    if layer.rank:
        data = data.reshape([1] * (layer.rank - len(shape)) + shape)
    layer.op("identity", [Typed(layer.typed().name, "float32", data.shape)], x=data)


def _reshape(layer: Layer) -> None:
    p = layer.params
    shape = [int(size) for size in p.targetShape]
    if layer.rank != 4 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] != 1):
        raise UnsupportedError("reshaping the sequence is not supported")
    channels, height, width = shape[-3:]
    if not p.mode:
        layer.op("reshape", x=layer.x(), shape=ints([0, channels, height, width]))
        return
    last = layer.step("transpose", "last", x=layer.x(), perm=ints([0, 2, 3, 1]))
    moved = layer.step("reshape", "moved", x=last, shape=ints([0, height, width, channels]))
    layer.op("transpose", x=moved, perm=ints([0, 3, 1, 2]))


def _flatten(layer: Layer) -> None:
    rank = layer.rank_of(layer.x().name)
    x = layer.x()
    if layer.params.mode:
        order = [*range(rank - 3), rank - 2, rank - 1, rank - 3]
        x = layer.step("transpose", "last", x=x, perm=ints(order))
    layer.op("reshape", x=x, shape=ints([*[0] * (rank - 3), -1, 1, 1]))


def _permute(layer: Layer) -> None:
    axes = [int(axis) for axis in layer.params.axis]
    if not layer.rank or sorted(axes) != [0, 1, 2, 3]:
        raise UnsupportedError(f"the order {axes} is not one of sequence, C, H, W")
    if layer.rank == 4:
        if axes[0] != 0:
            raise UnsupportedError("moving the sequence is not supported")
        layer.op("transpose", x=layer.x(), perm=ints(axes))
        return
    order = [axis + 1 if axis else 0 for axis in axes]  # The batch stays where it is.
    layer.op("transpose", x=layer.x(), perm=ints([order[0], 1, *order[1:]]))


def _concat(layer: Layer) -> None:
    if layer.params.sequenceConcat and layer.rank != 5:
        raise UnsupportedError("concatenation along the sequence is not supported")
    values = tuple(Ref(name) for name in layer.proto.input)
    layer.op("concat", values=values, axis=np.array(-5 if layer.params.sequenceConcat else -3))


def _split(layer: Layer) -> None:
    count = np.array(int(layer.params.nOutputs))
    layer.op("split", layer.outputs(), x=layer.x(), num_splits=count, axis=np.array(-3))


def _reorganize(layer: Layer) -> None:
    kind, key = (
        ("space_to_depth", "block_size"), ("depth_to_space", "block_size"), ("pixel_shuffle", "upscale_factor"),
    )[layer.params.mode]  # fmt: skip
    layer.op(kind, x=layer.x(), **{key: np.array(int(layer.params.blockSize))})


def _slice(layer: Layer) -> None:
    p = layer.params
    rank, axis = layer.rank_of(layer.x().name), -3 + p.axis
    begin, end, stride = [0] * rank, [0] * rank, [1] * rank
    begin[axis], end[axis], stride[axis] = int(p.startIndex), int(p.endIndex), int(p.stride) or 1
    masks = np.array([index != rank + axis for index in range(rank)])
    given = {"begin": ints(begin), "end": ints(end), "stride": ints(stride)}
    layer.op("slice_by_index", x=layer.x(), begin_mask=masks, end_mask=masks, **given)


LEGACY: dict[str, Callable[[Layer], None]] = {
    "convolution": _convolution, "pooling": _pooling, "activation": _activation, "innerProduct": _inner_product,
    "embedding": _embedding, "embeddingND": _embedding_nd, "batchnorm": _batchnorm, "mvn": _mvn,
    "l2normalize": lambda layer: _ignore(
        layer.op("l2_norm", x=layer.x(), epsilon=number(layer.params.epsilon or 1e-6))
    ),
    "softmax": lambda layer: _ignore(layer.op("softmax", x=layer.x(), axis=np.array(-3))),
    "lrn": _lrn, "crop": _crop, "padding": _pad, "upsample": _upsample, "resizeBilinear": _resize_bilinear,
    "unary": _unary, "add": _merge("add", 0.0), "multiply": _merge("mul", 1.0), "average": _average,
    "scale": _scale, "bias": _bias, "max": _merge("maximum"), "min": _merge("minimum"), "dot": _dot,
    "reduce": _reduce, "loadConstant": _load_constant, "loadConstantND": _load_constant, "reshape": _reshape,
    "flatten": _flatten, "permute": _permute, "concat": _concat, "split": _split, "reorganizeData": _reorganize,
    "slice": _slice,
}  # fmt: skip


def _ignore(_: Ref) -> None:
    pass
