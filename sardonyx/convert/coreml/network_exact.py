"""Layers that came with exact ranks (CoreML 3): most are a MIL operation with its options by other names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sardonyx.convert.coreml.network import LEGACY
from sardonyx.convert.coreml.network_base import Layer, ints, number, weights
from sardonyx.convert.coreml.network_recurrent import RECURRENT_LAYERS
from sardonyx.convert.coreml.operations import Given, Ref, Typed, UnsupportedError

Rule = Callable[[Layer], None]


def _plain(kind: str, *inputs: str) -> Rule:
    def rule(layer: Layer) -> None:
        if len(layer.proto.input) != len(inputs):
            raise UnsupportedError(f"it has {len(layer.proto.input)} inputs, expected {len(inputs)}")
        layer.op(kind, **{key: layer.x(index) for index, key in enumerate(inputs)})

    return rule


def _options(kind: str, **names: str) -> Rule:
    """One input, and numbers or lists of numbers from the layer's options: MIL's name by the layer's."""

    def rule(layer: Layer) -> None:
        given: dict[str, Given] = {}
        for key, name in names.items():
            value = getattr(layer.params, name)
            if isinstance(value, float):
                given[key] = number(value)
            else:
                given[key] = np.array(value) if isinstance(value, bool | int) else ints(value)
        layer.op(kind, x=layer.x(), **given)

    return rule


def _truth(kind: str) -> Rule:
    """Comparisons and logic, whose results are numbers here; with a number `alpha` for the second input."""

    def rule(layer: Layer) -> None:
        given: dict[str, Given] = {"x": layer.x()}
        if kind != "logical_not":
            given["y"] = layer.x(1) if len(layer.proto.input) > 1 else number(layer.params.alpha)
        found = layer.step(kind, "truth", None, "bool", **given)
        layer.op("cast", x=found, dtype="fp32")

    return rule


def _reduce(kind: str) -> Rule:
    def rule(layer: Layer) -> None:
        p = layer.params
        axes: Mapping[str, Given] = {} if p.reduceAll else {"axes": ints(p.axes)}
        layer.op(kind, x=layer.x(), keep_dims=np.array(bool(p.keepDims)), **axes)

    return rule


def _arg(kind: str) -> Rule:
    def rule(layer: Layer) -> None:
        p = layer.params
        layer.op(kind, x=layer.x(), axis=np.array(int(p.axis)), keep_dims=np.array(not p.removeDim))

    return rule


def _values(kind: str) -> Rule:
    def rule(layer: Layer) -> None:
        if kind == "concat" and layer.params.interleave:
            raise UnsupportedError("interleaved concatenation is not supported")
        layer.op(kind, values=tuple(Ref(name) for name in layer.proto.input), axis=np.array(int(layer.params.axis)))

    return rule


def _extreme(kind: str) -> Rule:
    def rule(layer: Layer) -> None:
        count = len(layer.proto.input)
        result = layer.x()
        for index in range(1, count - 1):
            result = layer.step(kind, f"of_{index + 1}", x=result, y=layer.x(index))
        layer.op(kind, x=result, y=layer.x(count - 1))

    return rule


def _batched_matmul(layer: Layer) -> None:
    p = layer.params
    turned = {"transpose_x": np.array(bool(p.transposeA)), "transpose_y": np.array(bool(p.transposeB))}
    if len(layer.proto.input) == 2:
        layer.op("matmul", x=layer.x(), y=layer.x(1), **turned)
        return
    if p.int8DynamicQuantize or p.transposeA or p.transposeB:
        raise UnsupportedError("weights that are transposed or quantised at run time are not supported")
    matrix = weights(p.weights, [p.weightMatrixFirstDimension, p.weightMatrixSecondDimension], 1)
    if not p.hasBias:
        layer.op("matmul", x=layer.x(), y=matrix)
        return
    product = layer.step("matmul", "product", x=layer.x(), y=matrix)
    layer.op("add", x=product, y=weights(p.bias, [p.weightMatrixSecondDimension]))


def _slice_static(layer: Layer) -> None:
    p = layer.params
    count = len(p.beginIds)
    lists = {"begin_mask": p.beginMasks, "end_mask": p.endMasks, "squeeze_mask": p.squeezeMasks}
    masks = {key: np.array(list(values) or [False] * count, bool) for key, values in lists.items()}
    places = {"begin": ints(p.beginIds), "end": ints(p.endIds), "stride": ints(p.strides)}
    layer.op("slice_by_index", x=layer.x(), **places, **masks)


def _squeeze(layer: Layer) -> None:
    p = layer.params
    layer.op("squeeze", x=layer.x(), **({} if p.squeezeAll else {"axes": ints(p.axes)}))


def _split_nd(layer: Layer) -> None:
    p = layer.params
    sizes = {"split_sizes": ints(p.splitSizes)} if p.splitSizes else {"num_splits": np.array(int(p.numSplits))}
    layer.op("split", layer.outputs(), x=layer.x(), axis=np.array(int(p.axis)), **sizes)


def _reverse(layer: Layer) -> None:
    layer.op("reverse", x=layer.x(), axes=ints([axis for axis, turn in enumerate(layer.params.reverseDim) if turn]))


def _constant_pad(layer: Layer) -> None:
    p = layer.params
    if p.padToGivenOutputSizeMode:
        raise UnsupportedError("padding to a given size is not supported")
    layer.op("pad", x=layer.x(), pad=ints(p.padAmounts), mode="constant", constant_val=number(p.value))


def _layer_norm(layer: Layer) -> None:
    p = layer.params
    sizes = [int(size) for size in p.normalizedShape]
    given = {key: weights(getattr(p, key), sizes) for key in ("gamma", "beta")}
    layer.op("layer_norm", x=layer.x(), axes=ints(range(-len(sizes), 0)), epsilon=number(p.eps or 1e-5), **given)


def _one_hot(layer: Layer) -> None:
    p = layer.params
    numbers = {"on_value": number(p.onValue), "off_value": number(p.offValue)}
    size = np.array(int(p.oneHotVectorSize))
    layer.op("one_hot", indices=layer.x(), one_hot_vector_size=size, axis=np.array(int(p.axis)), **numbers)


def _top_k(layer: Layer) -> None:
    p = layer.params
    if len(layer.proto.input) != 1:
        raise UnsupportedError("a number of elements that is computed is not supported")
    given = {"axis": np.array(int(p.axis)), "k": np.array(int(p.K)), "ascending": np.array(bool(p.useBottomK))}
    layer.op("topk", layer.outputs(), x=layer.x(), **given)


def _triangle(lower: bool) -> Rule:
    def rule(layer: Layer) -> None:
        k = int(layer.params.k)
        if k:
            raise UnsupportedError("triangles beside the diagonal are not supported")
        layer.op("band_part", x=layer.x(), lower=np.array(-1 if lower else 0), upper=np.array(0 if lower else -1))

    return rule


def _fill_static(layer: Layer) -> None:
    p = layer.params
    shape = tuple(int(size) for size in p.targetShape)
    layer.op("fill", [Typed(layer.typed().name, "float32", shape)], shape=ints(shape), value=number(p.value))


def _fill_like(layer: Layer) -> None:
    layer.op("fill_like", ref_tensor=layer.x(), value=number(layer.params.value))


def _gelu(layer: Layer) -> None:
    layer.op("gelu", x=layer.x(), mode=("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")[layer.params.mode])


def _argsort(layer: Layer) -> None:
    p = layer.params
    layer.op("argsort", x=layer.x(), axis=np.array(int(p.axis)), ascending=np.array(not p.descending))


def _gather(kind: str) -> Rule:
    def rule(layer: Layer) -> None:
        axis = {} if kind == "gather_nd" else {"axis": np.array(int(layer.params.axis))}
        layer.op(kind, x=layer.x(), indices=layer.x(1), **axis)

    return rule


_SAME = (
    "ceil", "floor", "sign", "round", "exp2", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
    "asinh", "acosh", "atanh", "erf",
)  # fmt: skip
_BROADCAST = {
    "addBroadcastable": "add", "subtractBroadcastable": "sub", "multiplyBroadcastable": "mul",
    "divideBroadcastable": "real_div", "floorDivBroadcastable": "floor_div", "modBroadcastable": "mod",
    "powBroadcastable": "pow",
}  # fmt: skip
_TRUTH = {
    "equal": "equal", "notEqual": "not_equal", "lessThan": "less", "lessEqual": "less_equal",
    "greaterThan": "greater", "greaterEqual": "greater_equal", "logicalAnd": "logical_and",
    "logicalOr": "logical_or", "logicalXor": "logical_xor", "logicalNot": "logical_not",
}  # fmt: skip
_REDUCTIONS = {
    "reduceL1": "l1_norm", "reduceL2": "l2_norm", "reduceMax": "max", "reduceMin": "min", "reduceSum": "sum",
    "reduceProd": "prod", "reduceMean": "mean", "reduceLogSum": "log_sum", "reduceSumSquare": "sum_square",
    "reduceLogSumExp": "log_sum_exp",
}  # fmt: skip

LAYERS: dict[str, Rule] = {
    **LEGACY,
    **RECURRENT_LAYERS,
    **{name: _plain(name, "x") for name in _SAME},
    **{name: _plain(kind, "x", "y") for name, kind in _BROADCAST.items()},
    **{name: _truth(kind) for name, kind in _TRUTH.items()},
    **{name: _reduce(f"reduce_{kind}") for name, kind in _REDUCTIONS.items()},
    "copy": _plain("identity", "x"), "whereBroadcastable": _plain("select", "cond", "a", "b"),
    "getShape": _plain("shape", "x"), "maxBroadcastable": _extreme("maximum"),
    "minBroadcastable": _extreme("minimum"), "clip": _options("clip", alpha="minVal", beta="maxVal"),
    "clampedReLU": _options("clamped_relu", alpha="alpha", beta="beta"), "gelu": _gelu,
    "softmaxND": _options("softmax", axis="axis"), "transpose": _options("transpose", perm="axes"),
    "tile": _options("tile", reps="reps"), "expandDims": _options("expand_dims", axes="axes"),
    "flattenTo2D": _options("flatten2d", axis="axis"), "reshapeStatic": _options("reshape", shape="targetShape"),
    "rankPreservingReshape": _options("reshape", shape="targetShape"),
    "broadcastToStatic": _options("broadcast_to", shape="targetShape"),
    "cumSum": _options("cumsum", axis="axis", exclusive="excludeFinalSum", reverse="reverse"),
    "matrixBandPart": _options("band_part", lower="numLower", upper="numUpper"),
    "lowerTriangular": _triangle(True), "upperTriangular": _triangle(False), "stack": _values("stack"),
    "concatND": _values("concat"), "splitND": _split_nd, "squeeze": _squeeze, "reverse": _reverse,
    "gather": _gather("gather"), "gatherND": _gather("gather_nd"), "gatherAlongAxis": _gather("gather_along_axis"),
    "argMax": _arg("reduce_argmax"), "argMin": _arg("reduce_argmin"), "argSort": _argsort, "topK": _top_k,
    "batchedMatmul": _batched_matmul, "sliceStatic": _slice_static, "constantPad": _constant_pad,
    "layerNormalization": _layer_norm, "oneHot": _one_hot, "fillStatic": _fill_static, "fillLike": _fill_like,
}  # fmt: skip
"""What reads each kind of layer."""
