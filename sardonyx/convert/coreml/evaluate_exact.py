"""Layers of networks with exact ranks (CoreML 3) in float64, by what `NeuralNetwork.proto` says of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.coreml.evaluate_network import LAYERS as LEGACY
from sardonyx.convert.coreml.evaluate_network import Call, Function
from sardonyx.convert.coreml.evaluate_recurrent import LAYERS as RECURRENT


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _one(function: Callable[[Array], Any]) -> Function:
    return lambda call: np.asarray(function(call.x), np.float64)


def _all(function: Callable[..., Any]) -> Function:
    return lambda call: np.asarray(function(*call.given()), np.float64)


def _compared(function: Callable[[Any, Any], Any]) -> Function:
    """Truth as numbers; with one input the other is the number `alpha`."""

    def run(call: Call) -> Array:
        given = call.given()
        other = given[1] if len(given) > 1 else np.float64(call.params.alpha)
        return np.asarray(function(given[0], other), np.float64)

    return run


def _reduced(function: Callable[..., Any]) -> Function:
    def run(call: Call) -> Array:
        p = call.params
        axes = tuple(range(call.x.ndim)) if p.reduceAll or not p.axes else _ints(p.axes)
        return np.asarray(function(call.x, axis=axes, keepdims=bool(p.keepDims)))

    return run


def _arg(function: Callable[..., Any]) -> Function:
    return lambda call: np.asarray(
        function(call.x, axis=int(call.params.axis), keepdims=not call.params.removeDim), np.float64
    )


def _batched_matmul(call: Call) -> Array:
    p, given = call.params, call.given()
    if len(given) > 1:
        a, b = (x.swapaxes(-1, -2) if turn else x for x, turn in zip(given, (p.transposeA, p.transposeB), strict=True))
        return np.asarray(a @ b)
    y = call.x @ call.stored(p.weights, p.weightMatrixFirstDimension, p.weightMatrixSecondDimension, axis=1)
    return np.asarray(y + call.stored(p.bias, p.weightMatrixSecondDimension) if p.hasBias else y)


def _slice_static(call: Call) -> Array:
    p = call.params
    parts: list[Any] = []
    for axis, (begin, end, stride) in enumerate(zip(p.beginIds, p.endIds, p.strides, strict=True)):
        masks = [bool(mask[axis]) if mask else False for mask in (p.beginMasks, p.endMasks, p.squeezeMasks)]
        open_begin, open_end, squeezed = masks
        part = slice(None if open_begin else int(begin), None if open_end else int(end), int(stride))
        parts.append(int(begin) if squeezed else part)
    return np.asarray(call.x[tuple(parts)])


def _shaped(call: Call) -> Array:
    shape = _ints(call.params.targetShape)
    return call.x.reshape([call.x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


def _split(call: Call) -> list[Array]:
    p = call.params
    if not p.splitSizes:
        return np.split(call.x, int(p.numSplits), axis=int(p.axis))
    return np.split(call.x, np.cumsum(_ints(p.splitSizes))[:-1], axis=int(p.axis))


def _constant_pad(call: Call) -> Array:
    p = call.params
    pairs = np.array(_ints(p.padAmounts)).reshape(-1, 2).tolist()
    return np.pad(call.x, [*[(0, 0)] * (call.x.ndim - len(pairs)), *pairs], constant_values=p.value)


def _layer_normalization(call: Call) -> Array:
    p = call.params
    sizes = _ints(p.normalizedShape)
    axes = tuple(range(-len(sizes), 0))
    centred = call.x - call.x.mean(axis=axes, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + (p.eps or 1e-5))
    return np.asarray(call.stored(p.gamma, *sizes) * y + call.stored(p.beta, *sizes))


def _one_hot(call: Call) -> Array:
    p, size = call.params, int(call.params.oneHotVectorSize)
    found = np.where(call.x[..., None] == np.arange(size), p.onValue, p.offValue)
    return np.moveaxis(found, -1, int(p.axis))


def _top_k(call: Call) -> list[Array]:
    p = call.params
    order = np.argsort(call.x if p.useBottomK else -call.x, axis=int(p.axis), kind="stable")
    places = np.take(order, range(int(p.K)), axis=int(p.axis))
    return [np.take_along_axis(call.x, places, int(p.axis)), places.astype(np.float64)]


def _argsort(call: Call) -> Array:
    x = -call.x if call.params.descending else call.x
    return np.argsort(x, axis=int(call.params.axis), kind="stable").astype(np.float64)


def _gelu(call: Call) -> Array:
    x = call.x
    if call.params.mode == 0:
        return np.asarray(x * np.reshape([0.5 * math.erfc(-v / math.sqrt(2)) for v in x.ravel().tolist()], x.shape))
    if call.params.mode == 1:
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(x / (1 + np.exp(-1.702 * x)))


def _clamped(call: Call) -> Array:
    p, x = call.params, call.x
    return np.asarray(np.where(x >= 0, np.minimum(x, p.beta), np.minimum(p.alpha * x, p.beta)))


def _softmax(call: Call) -> Array:
    axis = int(call.params.axis)
    powers = np.exp(call.x - call.x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _cumsum(call: Call) -> Array:
    p, axis = call.params, int(call.params.axis)
    x = np.flip(call.x, axis) if p.reverse else call.x
    total = np.cumsum(x, axis=axis) - (x if p.excludeFinalSum else 0)
    return np.flip(total, axis) if p.reverse else total


def _band(call: Call) -> Array:
    lower, upper = int(call.params.numLower), int(call.params.numUpper)
    rows, columns = np.indices(call.x.shape[-2:])
    kept = ((lower < 0) | (rows - columns <= lower)) & ((upper < 0) | (columns - rows <= upper))
    return np.where(kept, call.x, 0.0)


def _squeeze(call: Call) -> Array:
    return np.squeeze(call.x, None if call.params.squeezeAll else _ints(call.params.axes))


def _flat(call: Call) -> Array:
    axis = int(call.params.axis)
    return call.x.reshape(math.prod(call.x.shape[:axis]), -1)


def _places(call: Call) -> Array:
    return call.given()[1].astype(np.int64)


def _gather_nd(call: Call) -> Array:
    return np.asarray(call.x[tuple(np.moveaxis(_places(call), -1, 0))])


def _erf(x: Array) -> Array:
    return np.reshape([math.erf(value) for value in x.ravel().tolist()], x.shape)


_NAMED: dict[str, Callable[[Array], Any]] = {
    **{name: getattr(np, name) for name in ("ceil", "floor", "sign", "round", "exp2", "sin", "cos", "tan")},
    **{name: getattr(np, name) for name in ("sinh", "cosh", "tanh")},
    **{name: getattr(np, f"arc{name[1:]}") for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh")},
    "erf": _erf, "copy": lambda x: x, "getShape": lambda x: np.array(x.shape),
}  # fmt: skip
_PAIRS: dict[str, Callable[..., Any]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "pow": np.power,
    "floorDiv": lambda x, y: np.floor(x / y), "mod": np.mod,
    "max": lambda *given: reduce(np.maximum, given), "min": lambda *given: reduce(np.minimum, given),
    "where": lambda kept, x, y: np.where(kept != 0, x, y),
}  # fmt: skip
_TRUTH: dict[str, Callable[[Any, Any], Any]] = {
    "equal": np.equal, "notEqual": np.not_equal, "lessThan": np.less, "lessEqual": np.less_equal,
    "greaterThan": np.greater, "greaterEqual": np.greater_equal,
}  # fmt: skip
_LOGIC = {"logicalAnd": np.logical_and, "logicalOr": np.logical_or, "logicalXor": np.logical_xor}
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "L1": lambda x, **over: np.abs(x).sum(**over), "L2": lambda x, **over: np.sqrt((x * x).sum(**over)),
    "Max": np.max, "Min": np.min, "Sum": np.sum, "Prod": np.prod, "Mean": np.mean,
    "LogSum": lambda x, **over: np.log(x.sum(**over)), "SumSquare": lambda x, **over: (x * x).sum(**over),
    "LogSumExp": lambda x, **over: np.log(np.exp(x).sum(**over)),
}  # fmt: skip

LAYERS: dict[str, Function] = {
    **LEGACY, **RECURRENT,
    **{name: _one(function) for name, function in _NAMED.items()},
    **{f"{name}Broadcastable": _all(function) for name, function in _PAIRS.items()},
    **{name: _compared(function) for name, function in _TRUTH.items()},
    **{name: _all(function) for name, function in _LOGIC.items()}, "logicalNot": _one(np.logical_not),
    **{f"reduce{name}": _reduced(function) for name, function in _REDUCTIONS.items()},
    "clip": lambda call: np.minimum(np.maximum(call.x, call.params.minVal), call.params.maxVal),
    "clampedReLU": _clamped, "gelu": _gelu, "softmaxND": _softmax, "cumSum": _cumsum, "matrixBandPart": _band,
    "transpose": lambda call: call.x.transpose(_ints(call.params.axes)),
    "tile": lambda call: np.tile(call.x, _ints(call.params.reps)),
    "expandDims": lambda call: np.expand_dims(call.x, _ints(call.params.axes)), "flattenTo2D": _flat,
    "reshapeStatic": _shaped, "rankPreservingReshape": _shaped,
    "broadcastToStatic": lambda call: np.broadcast_to(call.x, _ints(call.params.targetShape)),
    "lowerTriangular": lambda call: np.tril(call.x, int(call.params.k)),
    "upperTriangular": lambda call: np.triu(call.x, int(call.params.k)),
    "stack": lambda call: np.stack(call.given(), int(call.params.axis)),
    "concatND": lambda call: np.concatenate(call.given(), int(call.params.axis)), "splitND": _split,
    "squeeze": _squeeze,
    "reverse": lambda call: np.flip(call.x, tuple(axis for axis, turn in enumerate(call.params.reverseDim) if turn)),
    "gather": lambda call: np.take(call.x, _places(call), int(call.params.axis)), "gatherND": _gather_nd,
    "gatherAlongAxis": lambda call: np.take_along_axis(call.x, _places(call), int(call.params.axis)),
    "argMax": _arg(np.argmax), "argMin": _arg(np.argmin), "argSort": _argsort, "topK": _top_k,
    "batchedMatmul": _batched_matmul, "sliceStatic": _slice_static, "constantPad": _constant_pad,
    "layerNormalization": _layer_normalization, "oneHot": _one_hot,
    "fillStatic": lambda call: np.full(_ints(call.params.targetShape), call.params.value),
    "fillLike": lambda call: np.full(call.x.shape, call.params.value),
}  # fmt: skip
