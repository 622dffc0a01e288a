"""Layers of CoreML's neural networks as MIL operations (what layers do: `NeuralNetwork.proto`).

Networks that take "rank 5" arrays see every value as [sequence, batch, C, H, W]. Without recurrent layers the sequence
is 1 and left out here, so values are [N, C, H, W]; with them values have all five dims. Others ("exact") say the rank
of every value. All values are floating-point numbers, indices and truth among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.coreml.operations import Given, Operation, Ref, Shape, Typed, UnsupportedError
from sardonyx.convert.reading.protobuf import numbers, which

RECURRENT = ("simpleRecurrent", "gru", "uniDirectionalLSTM", "biDirectionalLSTM")


def kind_of(layer: Any) -> str | None:
    """Which layer this is; None where the schema does not know it."""
    skipped = {"name", "input", "output", "inputTensor", "outputTensor"}
    return next((found.name for found, _ in layer.ListFields() if found.name not in skipped), None)


def weights(params: Any, shape: Sequence[int], axis: int = 0) -> Array:
    """Weights of a shape: float32, float16, or whole numbers of 1 to 8 bits, scaled along `axis` or looked up.

    Raises UnsupportedError when there are not as many as the shape says.
    """
    count = math.prod(int(size) for size in shape)
    if params.floatValue:
        found = numbers(params.floatValue, np.float32)
    elif params.float16Value:
        found = np.frombuffer(params.float16Value, "<f2").astype(np.float32)
    elif params.rawValue and params.HasField("quantization"):
        return _quantised(params, shape, count, axis)
    elif params.int8RawValue:
        raise UnsupportedError("weights for dynamic quantisation are not supported")
    else:
        found = np.zeros(0, np.float32)
    if found.size != count:
        raise UnsupportedError(f"it has {found.size:,} weights, expected {' x '.join(map(str, shape))}")
    return found.reshape(tuple(int(size) for size in shape))


def _quantised(params: Any, shape: Sequence[int], count: int, axis: int) -> Array:
    bits = params.quantization.numberOfBits
    packed = np.frombuffer(params.rawValue, np.uint8)
    if not 1 <= bits <= 8 or packed.size != -(-count * bits // 8):
        raise UnsupportedError(f"it has {packed.size:,} bytes of weights of {bits} bits for {count:,}")
    # From the highest bit of each byte on, unlike the blobs of programs.
    stored = np.unpackbits(packed)[: count * bits].reshape(count, bits)
    codes = np.packbits(stored, axis=1).reshape(count) >> (8 - bits)
    if params.quantization.HasField("lookupTableQuantization"):
        table = np.array(params.quantization.lookupTableQuantization.floatValue, np.float32)
        if table.size != 1 << bits:
            raise UnsupportedError(f"its table has {table.size} numbers, expected {1 << bits}")
        return np.asarray(table[codes].reshape(tuple(shape)))
    linear = params.quantization.linearQuantization
    along = [1] * len(shape)
    along[axis] = -1
    scale, bias = np.array(linear.scale, np.float32), np.array(linear.bias or [0.0], np.float32)
    if scale.size not in (1, shape[axis]) or bias.size not in (1, shape[axis]):
        raise UnsupportedError(f"it has {scale.size} scales, expected 1 or {shape[axis]}")
    return np.asarray(codes.reshape(tuple(shape)) * scale.reshape(along) + bias.reshape(along), np.float32)


def _number(value: float) -> Array:
    return np.array(value, np.float32)


def _ints(values: Sequence[int]) -> Array:
    return np.array([int(value) for value in values], np.int32)


def _pair(values: Sequence[int], default: int) -> list[int]:
    if len(values) not in (0, 2):
        raise UnsupportedError(f"it has {len(values)} sizes for height and width")
    return [int(value) for value in values] or [default, default]


@dataclass
class Layer:
    """One layer and the operations made for it. `rank` is that of values in networks of rank-5 arrays, else None."""

    proto: Any
    rank: int | None
    ranks: dict[str, int]
    optional: frozenset[str] = frozenset()
    made: list[Operation] = field(default_factory=list)

    @property
    def params(self) -> Any:
        """The layer's own options."""
        return getattr(self.proto, kind_of(self.proto) or "name")

    def rank_of(self, name: str) -> int:
        """The rank of a value."""
        rank = self.rank or self.ranks.get(name)
        if not rank:
            raise UnsupportedError(f"the rank of {name!r} is not known")
        return rank

    def x(self, index: int = 0) -> Ref:
        """An input."""
        if index >= len(self.proto.input):
            raise UnsupportedError(f"it has {len(self.proto.input)} inputs")
        return Ref(self.proto.input[index])

    def typed(self, index: int = 0, dtype: str = "float32") -> Typed:
        """An output."""
        if index >= len(self.proto.output):
            raise UnsupportedError(f"it has {len(self.proto.output)} outputs")
        name = self.proto.output[index]
        shape: Shape | None = (None,) * self.rank if self.rank else None
        if not self.rank and index < len(self.proto.outputTensor):
            rank = self.proto.outputTensor[index].rank
            shape = (None,) * rank if 0 < rank <= 8 else None
        return Typed(name, dtype, shape)

    def op(self, kind: str, outputs: Sequence[Typed] | None = None, /, **inputs: Given) -> Ref:
        """An operation; without outputs, the layer's own."""
        found = tuple(outputs) if outputs is not None else (self.typed(),)
        self.made.append(Operation(kind, self.proto.name, inputs, found))
        return Ref(found[0].name)

    def step(self, kind: str, suffix: str, rank: int | None = None, dtype: str = "float32", /, **inputs: Given) -> Ref:
        """An operation whose result is not the layer's own."""
        own = self.typed().shape
        rank = rank if rank is not None or own is None else len(own)
        shape = (None,) * rank if rank else None
        name = self.proto.output[0] if self.proto.output else self.proto.name
        return self.op(kind, [Typed(f"{name}/{suffix}", dtype, shape)], **inputs)

    def windowed(self) -> None:
        """Raises UnsupportedError unless the input is [N, C, H, W]."""
        if self.rank_of(self.x().name) != 4:
            raise UnsupportedError("windows over values that are not [N, C, H, W] are not supported")


def _padding(params: Any) -> dict[str, Given]:
    if params.HasField("same"):
        return {"pad_type": "same_lower" if params.same.asymmetryMode else "same"}
    borders = params.valid.paddingAmounts.borderAmounts
    if not borders:
        return {"pad_type": "valid"}
    return {"pad_type": "custom", "pad": _ints(_edges(borders))}


def _edges(borders: Any) -> list[int]:
    if len(borders) != 2:
        raise UnsupportedError(f"it has borders of {len(borders)} axes, expected 2")
    return [int(size) for item in borders for size in (item.startEdgeSize, item.endEdgeSize)]


def _convolution(layer: Layer) -> None:
    p = layer.params
    layer.windowed()
    if len(layer.proto.input) != 1:
        raise UnsupportedError("weights that are computed are not supported")
    kernel, groups = _pair(p.kernelSize, 3), int(p.nGroups) or 1
    out = int(p.outputChannels)
    inner = [int(p.kernelChannels), out // groups] if p.isDeconvolution else [out, int(p.kernelChannels)]
    inputs: dict[str, Given] = {
        "x": layer.x(), "weight": weights(p.weights, [*inner, *kernel], 1 if p.isDeconvolution else 0),
        "strides": _ints(_pair(p.stride, 1)), "dilations": _ints(_pair(p.dilationFactor, 1)),
        "groups": _ints([groups])[0:1].reshape(()), **_padding(p),
    }  # fmt: skip
    if p.hasBias:
        inputs["bias"] = weights(p.bias, [out])
    if p.isDeconvolution and p.outputShape:
        inputs["output_shape"] = _ints(_pair(p.outputShape, 0))
    layer.op("conv_transpose" if p.isDeconvolution else "conv", **inputs)


def _pooling(layer: Layer) -> None:
    p = layer.params
    kind = {0: "max", 1: "avg", 2: "l2"}[p.type]
    if p.globalPooling:
        reduction = {"max": "reduce_max", "avg": "reduce_mean", "l2": "reduce_l2_norm"}[kind]
        layer.op(reduction, x=layer.x(), axes=_ints([-2, -1]), keep_dims=np.array(True))
        return
    layer.windowed()
    inputs: dict[str, Given] = {
        "x": layer.x(), "kernel_sizes": _ints(_pair(p.kernelSize, 3)), "strides": _ints(_pair(p.stride, 1)),
    }  # fmt: skip
    excluded = bool(p.avgPoolExcludePadding)
    if p.HasField("includeLastPixel"):
        amounts = _pair(p.includeLastPixel.paddingAmounts, 0)
        inputs |= {"pad_type": "custom", "pad": _ints([a for a in amounts for _ in "be"]), "ceil_mode": np.array(True)}
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
        layer.op(name, x=layer.x(), alpha=_number(given.alpha), **{key: _number(getattr(given, key)) for key in more})
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
    rows = layer.step("squeeze", "rows", rank - 2, x=layer.x(), axes=_ints([-2, -1]))
    product = layer.step("linear", "product", rank - 2, x=rows, **inputs)
    layer.op("expand_dims", x=product, axes=_ints([-2, -1]))


def _embedding(layer: Layer) -> None:
    p = layer.params
    rank = layer.rank_of(layer.x().name)
    table = weights(p.weights, [p.outputChannels, p.inputDim]).T
    if p.hasBias:
        table = table + weights(p.bias, [p.outputChannels])
    indices = layer.step("squeeze", "indices", rank - 3, x=layer.x(), axes=_ints([-3, -2, -1]))
    rows = layer.step("gather", "rows", rank - 2, x=np.ascontiguousarray(table), indices=indices, axis=np.array(0))
    layer.op("expand_dims", x=rows, axes=_ints([-2, -1]))


def _embedding_nd(layer: Layer) -> None:
    p = layer.params
    rank = layer.rank_of(layer.x().name)
    table = weights(p.weights, [p.embeddingSize, p.vocabSize]).T
    if p.hasBias:
        table = table + weights(p.bias, [p.embeddingSize])
    indices = layer.step("squeeze", "indices", rank - 1, x=layer.x(), axes=_ints([-1]))
    layer.op("gather", x=np.ascontiguousarray(table), indices=indices, axis=np.array(0))


def _batchnorm(layer: Layer) -> None:
    p = layer.params
    layer.windowed()
    keys = ["gamma", "beta"] if p.computeMeanVar else ["gamma", "beta", "mean", "variance"]
    if p.computeMeanVar and not p.instanceNormalization:
        raise UnsupportedError("statistics of the whole batch are not supported")
    inputs = {key: weights(getattr(p, key), [p.channels]) for key in keys}
    epsilon = _number(p.epsilon or 1e-5)
    layer.op("instance_norm" if p.computeMeanVar else "batch_norm", x=layer.x(), epsilon=epsilon, **inputs)


def _mvn(layer: Layer) -> None:
    p = layer.params
    axes = _ints([-3, -2, -1] if p.acrossChannels else [-2, -1])
    if p.normalizeVariance:
        layer.op("layer_norm", x=layer.x(), axes=axes, epsilon=_number(p.epsilon or 1e-6))
        return
    mean = layer.step("reduce_mean", "mean", x=layer.x(), axes=axes, keep_dims=np.array(True))
    layer.op("sub", x=layer.x(), y=mean)


def _lrn(layer: Layer) -> None:
    p = layer.params
    layer.op(
        "local_response_norm", x=layer.x(), size=np.array(int(p.localSize)), alpha=_number(p.alpha),
        beta=_number(p.beta), k=_number(p.k or 1.0),
    )  # fmt: skip


def _crop(layer: Layer) -> None:
    if len(layer.proto.input) != 1:
        raise UnsupportedError("cropping to another value's size is not supported")
    top, bottom, left, right = _edges(layer.params.cropAmounts.borderAmounts)
    layer.op("crop", x=layer.x(), crop_height=_ints([top, bottom]), crop_width=_ints([left, right]))


def _pad(layer: Layer) -> None:
    p = layer.params
    kind = which(p, "constant", "reflection", "replication") or "constant"
    mode = {"constant": "constant", "reflection": "reflect", "replication": "replicate"}[kind]
    pad = _ints(_edges(p.paddingAmounts.borderAmounts))
    layer.op("pad", x=layer.x(), pad=pad, mode=mode, constant_val=_number(p.constant.value))


def _upsample(layer: Layer) -> None:
    p = layer.params
    factors = list(p.fractionalScalingFactor) or [float(size) for size in p.scalingFactor] or [1.0, 1.0]
    if len(factors) != 2:
        raise UnsupportedError(f"it has {len(factors)} factors, expected 2")
    inputs = {"scale_factor_height": _number(factors[0]), "scale_factor_width": _number(factors[1])}
    if not p.mode:
        layer.op("upsample_nearest_neighbor", x=layer.x(), **inputs)
        return
    aligned = np.array(p.linearUpsampleMode == 1)
    half = {} if p.linearUpsampleMode else {"half_pixel_centers": np.array(False)}
    layer.op("upsample_bilinear", x=layer.x(), align_corners=aligned, **inputs, **half)


def _resize_bilinear(layer: Layer) -> None:
    p = layer.params
    height, width = _pair(p.targetSize, 1)
    modes = {0: "STRICT_ALIGN_CORNERS", 1: "ALIGN_CORNERS", 2: "DEFAULT", 3: "OFFSET_CORNERS"}
    sizes = {"target_size_height": np.array(height), "target_size_width": np.array(width)}
    layer.op("resize_bilinear", x=layer.x(), sampling_mode=modes[p.mode.samplingMethod], **sizes)


def _unary(layer: Layer) -> None:
    p = layer.params
    epsilon = _number(p.epsilon or 1e-6)
    x = layer.x()
    if p.shift or p.scale not in (0.0, 1.0):
        scale = _number(p.scale or 1.0)
        x = layer.step("linear_activation", "scaled", x=x, alpha=scale, beta=_number(p.shift))
    options: list[tuple[str, dict[str, Given]]] = [
        ("sqrt", {}), ("rsqrt", {"epsilon": epsilon}), ("inverse", {"epsilon": epsilon}),
        ("pow", {"y": _number(p.alpha)}), ("exp", {}), ("log", {"epsilon": _number(0.0)}), ("abs", {}),
        ("threshold", {"alpha": _number(p.alpha)}),
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
            layer.op(kind, x=layer.x(), y=_number(layer.params.alpha))
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
    layer.op("mul", x=result, y=_number(1 / count))


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
    layer.op("reduce_sum", x=product, axes=_ints([-3]), keep_dims=np.array(True))


_REDUCTIONS = ("sum", "mean", "prod", "log_sum", "sum_square", "l1_norm", "l2_norm", "max", "min")


def _reduce(layer: Layer) -> None:
    p = layer.params
    axes = ([-3, -2, -1], [-2, -1], [-3], [-2], [-1])[p.axis]
    if p.mode == 9:
        layer.op("reduce_argmax", x=layer.x(), axis=np.array(axes[0]), keep_dims=np.array(True))
        return
    more = {"epsilon": _number(p.epsilon or 1e-6)} if p.mode == 3 else {}
    layer.op(f"reduce_{_REDUCTIONS[p.mode]}", x=layer.x(), axes=_ints(axes), keep_dims=np.array(True), **more)


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
        layer.op("reshape", x=layer.x(), shape=_ints([0, channels, height, width]))
        return
    last = layer.step("transpose", "last", x=layer.x(), perm=_ints([0, 2, 3, 1]))
    moved = layer.step("reshape", "moved", x=last, shape=_ints([0, height, width, channels]))
    layer.op("transpose", x=moved, perm=_ints([0, 3, 1, 2]))


def _flatten(layer: Layer) -> None:
    rank = layer.rank_of(layer.x().name)
    x = layer.x()
    if layer.params.mode:
        order = [*range(rank - 3), rank - 2, rank - 1, rank - 3]
        x = layer.step("transpose", "last", x=x, perm=_ints(order))
    layer.op("reshape", x=x, shape=_ints([*[0] * (rank - 3), -1, 1, 1]))


def _permute(layer: Layer) -> None:
    axes = [int(axis) for axis in layer.params.axis]
    if not layer.rank or sorted(axes) != [0, 1, 2, 3]:
        raise UnsupportedError(f"the order {axes} is not one of sequence, C, H, W")
    if layer.rank == 4:
        if axes[0] != 0:
            raise UnsupportedError("moving the sequence is not supported")
        layer.op("transpose", x=layer.x(), perm=_ints(axes))
        return
    order = [axis + 1 if axis else 0 for axis in axes]  # The batch stays where it is.
    layer.op("transpose", x=layer.x(), perm=_ints([order[0], 1, *order[1:]]))


def _concat(layer: Layer) -> None:
    if layer.params.sequenceConcat and layer.rank != 5:
        raise UnsupportedError("concatenation along the sequence is not supported")
    values = tuple(Ref(name) for name in layer.proto.input)
    layer.op("concat", values=values, axis=np.array(-5 if layer.params.sequenceConcat else -3))


def _outputs(layer: Layer) -> list[Typed]:
    return [layer.typed(index) for index in range(len(layer.proto.output))]


def _split(layer: Layer) -> None:
    count = np.array(int(layer.params.nOutputs))
    layer.op("split", _outputs(layer), x=layer.x(), num_splits=count, axis=np.array(-3))


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
    given = {"begin": _ints(begin), "end": _ints(end), "stride": _ints(stride)}
    layer.op("slice_by_index", x=layer.x(), begin_mask=masks, end_mask=masks, **given)


# Recurrent layers

_RECURRENT_ACTIVATIONS = {"sigmoid": "sigmoid", "tanh": "tanh"}


def _function(activation: Any) -> str:
    """CoreML clips what goes into activations at 50: those that still change there are not supported."""
    kind = which(activation, *_RECURRENT_ACTIVATIONS, "linear", "ReLU", "sigmoidHard")
    hard = activation.sigmoidHard
    if kind == "sigmoidHard" and (hard.alpha, hard.beta) == (np.float32(0.2), np.float32(0.5)):
        return "sigmoid_hard"
    if kind not in _RECURRENT_ACTIVATIONS:
        raise UnsupportedError(f"the activation {kind or 'it has'} is not supported in recurrent layers")
    return _RECURRENT_ACTIVATIONS[kind]


def _functions(activations: Any, *keys: str) -> dict[str, Given]:
    if len(activations) != len(keys):
        raise UnsupportedError(f"it has {len(activations)} activations, expected {len(keys)}")
    return {key: _function(item) for key, item in zip(keys, activations, strict=True)}


def _stacked(params: Any, names: Sequence[str], shape: Sequence[int]) -> Array:
    return np.concatenate([weights(getattr(params, name), shape) for name in names])


def _lstm_weights(p: Any, own: Any, suffix: str, sizes: tuple[int, int]) -> dict[str, Given]:
    gates = ("inputGate", "forgetGate", "outputGate", "blockInput")
    width, hidden = sizes
    found: dict[str, Given] = {
        f"weight_ih{suffix}": _stacked(own, [f"{gate}WeightMatrix" for gate in gates], (hidden, width)),
        f"weight_hh{suffix}": _stacked(own, [f"{gate}RecursionMatrix" for gate in gates], (hidden, hidden)),
    }
    bias = np.zeros(4 * hidden, np.float32)
    if p.params.hasBiasVectors:
        bias = _stacked(own, [f"{gate}BiasVector" for gate in gates], (hidden,))
    if p.params.forgetBias:
        bias[hidden : 2 * hidden] += 1
    if p.params.hasPeepholeVectors:
        names = [f"{gate}PeepholeVector" for gate in gates[:3]]
        found[f"peephole{suffix}"] = _stacked(own, names, (hidden,))
    return found | {f"bias{suffix}": bias}


def _lstm(layer: Layer) -> None:
    p = layer.params
    both = kind_of(layer.proto) == "biDirectionalLSTM"
    if p.params.coupledInputAndForgetGate:
        raise UnsupportedError("coupled gates are not supported")
    # Each step adds at most 1 to a cell, so that clipping it at 500 or 50,000, as converters write, does nothing.
    if 0.0 < p.params.cellClipThreshold < 500.0:
        raise UnsupportedError("clipping the cells is not supported")
    keys = ("recurrent_activation", "cell_activation", "activation")
    functions = _functions(p.activationsForwardLSTM if both else p.activations, *keys)
    if both and functions != _functions(p.activationsBackwardLSTM, *keys):
        raise UnsupportedError("directions with different activations are not supported")
    all_weights = list(p.weightParams) if both else [p.weightParams]
    if len(all_weights) != 1 + both:
        raise UnsupportedError(f"it has weights of {len(all_weights)} directions, expected {1 + both}")
    sizes = (int(p.inputVectorSize), int(p.outputVectorSize))
    given: dict[str, Given] = dict(functions)
    for own, suffix in zip(all_weights, ("", "_back"), strict=False):
        given |= _lstm_weights(p, own, suffix, sizes)
    direction = "bidirectional" if both else "reverse" if p.reverseInput else "forward"
    _run(layer, "lstm", p.params.sequenceOutput, given | {"direction": direction})


def _gru(layer: Layer) -> None:
    p = layer.params
    width, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    gates = ("resetGate", "outputGate", "updateGate")
    given: dict[str, Given] = {
        "weight_ih": _stacked(p, [f"{gate}WeightMatrix" for gate in gates], (hidden, width)),
        "weight_hh": _stacked(p, [f"{gate}RecursionMatrix" for gate in gates], (hidden, hidden)),
        **_functions(p.activations, "recurrent_activation", "activation"),
    }
    if p.hasBiasVectors:
        given["bias"] = _stacked(p, [f"{gate}BiasVector" for gate in gates], (hidden,))
    _run(layer, "gru", p.sequenceOutput, given | {"direction": "reverse" if p.reverseInput else "forward"})


def _simple_recurrent(layer: Layer) -> None:
    p = layer.params
    width, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    given: dict[str, Given] = {
        "weight_ih": weights(p.weightMatrix, (hidden, width)), "activation": _function(p.activation),
        "weight_hh": weights(p.recursionMatrix, (hidden, hidden)),
    }  # fmt: skip
    if p.hasBiasVector:
        given["bias"] = weights(p.biasVector, (hidden,))
    _run(layer, "rnn", p.sequenceOutput, given | {"direction": "reverse" if p.reverseInput else "forward"})


def _run(layer: Layer, kind: str, sequence: bool, given: dict[str, Given]) -> None:
    """[S, B, C, 1, 1] in and out; states that are optional inputs start at zero."""
    x = layer.step("squeeze", "steps", 3, x=layer.x(), axes=_ints([-2, -1]))
    name = layer.typed().name
    both = given["direction"] == "bidirectional"
    states = ("h", "c") if kind == "lstm" else ("h",)
    given = given | _initial(layer, states, both)
    outputs = [Typed(f"{name}/{kind}", "float32", (None,) * (3 if sequence else 2))]
    outputs += [Typed(f"{name}/{state}", "float32", (None, None)) for state in states]
    layer.op(kind, outputs, x=x, output_sequence=np.array(sequence), **given)
    made = [item.name for item in outputs]
    if both:
        halves = [[Typed(f"{state}_{i}", "float32", (None, None)) for i in range(2)] for state in made[1:]]
        for state, parts in zip(made[1:], halves, strict=True):
            layer.op("split", parts, x=Ref(state), num_splits=np.array(2), axis=np.array(-1))
        made = [made[0], *(parts[i].name for i in range(2) for parts in halves)]
    for index, (source, _) in enumerate(zip(made, layer.proto.output, strict=False)):
        axes = [-2, -1] if sequence and not index else [0, 3, 4]
        layer.op("expand_dims", [layer.typed(index)], x=Ref(source), axes=_ints(axes))


def _initial(layer: Layer, states: Sequence[str], both: bool) -> dict[str, Given]:
    """The states that the layer is given, as [batch, directions * hidden]."""
    names = [name for name in layer.proto.input[1:] if name not in layer.optional]
    if not names:
        return {}
    if len(names) != len(states) * (1 + both):
        raise UnsupportedError(f"it has {len(names)} initial states, expected {len(states) * (1 + both)}")
    rows = [layer.step("squeeze", f"in_{i}", 2, x=Ref(n), axes=_ints([0, 3, 4])) for i, n in enumerate(names)]
    found: dict[str, Given] = {}
    for index, state in enumerate(states):
        parts = tuple(rows[index :: len(states)])
        found[f"initial_{state}"] = (
            parts[0] if not both else layer.step("concat", f"in_{state}", 2, values=parts, axis=np.array(-1))
        )
    return found


LEGACY: dict[str, Callable[[Layer], None]] = {
    "convolution": _convolution, "pooling": _pooling, "activation": _activation, "innerProduct": _inner_product,
    "embedding": _embedding, "embeddingND": _embedding_nd, "batchnorm": _batchnorm, "mvn": _mvn,
    "l2normalize": lambda layer: _ignore(
        layer.op("l2_norm", x=layer.x(), epsilon=_number(layer.params.epsilon or 1e-6))
    ),
    "softmax": lambda layer: _ignore(layer.op("softmax", x=layer.x(), axis=np.array(-3))),
    "lrn": _lrn, "crop": _crop, "padding": _pad, "upsample": _upsample, "resizeBilinear": _resize_bilinear,
    "unary": _unary, "add": _merge("add", 0.0), "multiply": _merge("mul", 1.0), "average": _average,
    "scale": _scale, "bias": _bias, "max": _merge("maximum"), "min": _merge("minimum"), "dot": _dot,
    "reduce": _reduce, "loadConstant": _load_constant, "loadConstantND": _load_constant, "reshape": _reshape,
    "flatten": _flatten, "permute": _permute, "concat": _concat, "split": _split, "reorganizeData": _reorganize,
    "slice": _slice, "uniDirectionalLSTM": _lstm, "biDirectionalLSTM": _lstm, "gru": _gru,
    "simpleRecurrent": _simple_recurrent,
}  # fmt: skip


def _ignore(_: Ref) -> None:
    pass
