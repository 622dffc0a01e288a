"""TensorFlow's operators in NumPy, as its documentation says what they do. Floats come and go as float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx.convert.tensorflow.evaluate_windows import WINDOWS
from sardonyx.convert.tensorflow.graph import Node

Array = np.ndarray[Any, Any]
Operator = Callable[..., Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _plain(function: Callable[..., Any]) -> Operator:
    """A function of the inputs alone."""

    def operator(node: Node, *inputs: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*inputs)

    return operator


def _guarded(function: Callable[..., Any], where: Callable[..., Any]) -> Operator:
    """0 where `where` is true of the inputs, else the function."""

    def operator(node: Node, a: Array, b: Array) -> Any:
        with np.errstate(all="ignore"):
            return np.where(where(a, b), 0.0, function(a, b))

    return operator


def _floor_mod(a: Array, b: Array) -> Any:
    if a.dtype.kind in "iu":
        return np.mod(a, b)
    # In float64 the quotient of float32 numbers may round up to a whole number it is not.
    rest = np.fmod(a, b)
    return np.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)


def _div(a: Array, b: Array) -> Any:
    return np.trunc(a / b).astype(a.dtype) if a.dtype.kind in "iu" else a / b


def _selu(x: Array) -> Any:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


def _select(node: Node, condition: Array, a: Array, b: Array) -> Any:
    if node.op == "Select" and condition.ndim == 1 and a.ndim > 1:
        condition = condition.reshape((-1,) + (1,) * (a.ndim - 1))
    return np.where(condition, a, b)


def _cast(node: Node, x: Array) -> Any:
    kind = node.kind("DstT")
    if kind.is_floating_point():
        return x.astype(kind.numpy()).astype(np.float64)
    return np.trunc(x).astype(kind.numpy()) if x.dtype.kind == "f" and kind.name != "BOOL" else x.astype(kind.numpy())


def _reduction(function: Callable[..., Any]) -> Operator:
    def operator(node: Node, x: Array, axes: Array) -> Any:
        return function(x, axis=tuple(int(axis) for axis in np.ravel(axes)), keepdims=node.flag("keep_dims"))

    return operator


def _sum(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


def _prod(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.prod(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


def _norm(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


def _arg(function: Callable[..., Any]) -> Operator:
    def operator(node: Node, x: Array, axis: Any = 0) -> Any:
        kind = node.kind("output_type")
        return function(x, axis=int(axis)).astype(np.int32 if kind.name == "INT32" else np.int64)

    return operator


def _cumsum(node: Node, x: Array, axis: Array) -> Any:
    at = int(axis)
    x = np.flip(x, at) if node.flag("reverse") else x
    total = np.cumsum(x, at, dtype=x.dtype)
    total = total - x if node.flag("exclusive") else total
    return np.flip(total, at) if node.flag("reverse") else total


def _top_k(node: Node, x: Array, k: Any = None) -> list[Array]:
    count = int(k) if k is not None else node.integer("k")
    order = np.argsort(-x, axis=-1, kind="stable")[..., :count]
    return [np.take_along_axis(x, order, -1), order.astype(np.int32)]


def _matmul(node: Node, a: Array, b: Array) -> Any:
    if node.flag("transpose_a") or node.flag("adj_x"):
        a = np.swapaxes(a, -1, -2)
    if node.flag("transpose_b") or node.flag("adj_y"):
        b = np.swapaxes(b, -1, -2)
    return a @ b


def _softmax(node: Node, x: Array) -> Any:
    power = np.exp(x - x.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def _log_softmax(node: Node, x: Array) -> Any:
    y = x - x.max(-1, keepdims=True)
    return y - np.log(np.exp(y).sum(-1, keepdims=True))


def _bias(node: Node, x: Array, bias: Array) -> Any:
    if node.text("data_format", "NHWC").startswith("NC"):
        bias = bias.reshape((-1,) + (1,) * (x.ndim - 2))
    return x + bias


def _fake_quant(node: Node, x: Array, low: Any = None, high: Any = None) -> Any:
    """Clamp, then to the nearest of the steps, halves up."""
    # The grid is laid in float32, where which step is zero may be a tie.
    lows = np.asarray(node.number("min", -6.0) if low is None else low, np.float32)
    highs = np.asarray(node.number("max", 6.0) if high is None else high, np.float32)
    first, last = np.float32(node.flag("narrow_range")), np.float32(2.0 ** node.integer("num_bits", 8) - 1)
    step = (highs - lows) / (last - first)
    zero = np.clip(np.floor(first - lows / step + np.float32(0.5)), first, last)
    start, end = (first - zero) * step, (last - zero) * step
    return np.floor((np.clip(x, start, end) - start) / step + 0.5) * step + start


def _dims(value: Any) -> list[int]:
    return [int(item) for item in np.ravel(value)]


def _out_type(node: Node) -> Any:
    return np.int64 if node.kind("out_type").name == "INT64" else np.int32


def _squeeze(node: Node, x: Array) -> Any:
    return np.squeeze(x, tuple(node.integers("squeeze_dims")) or None)


def _split(node: Node, axis: Array, x: Array) -> list[Array]:
    return np.split(x, node.integer("num_split", 1), int(axis))


def _split_v(node: Node, x: Array, sizes: Array, axis: Array) -> list[Array]:
    parts = _dims(sizes)
    if -1 in parts:
        parts[parts.index(-1)] = x.shape[int(axis)] - sum(part for part in parts if part != -1)
    return np.split(x, np.cumsum(parts)[:-1], int(axis))


def _slice(node: Node, x: Array, begin: Array, size: Array) -> Any:
    index = tuple(
        slice(start, x.shape[i] if count == -1 else start + count)
        for i, (start, count) in enumerate(zip(_dims(begin), _dims(size), strict=True))
    )
    return x[index]


def _strided(node: Node, x: Array, begin: Array, end: Array, strides: Array) -> Any:
    def has(mask: str, i: int) -> bool:
        return bool(node.integer(f"{mask}_mask") & 1 << i)

    index: list[Any] = []
    for i, (start, stop, step) in enumerate(zip(_dims(begin), _dims(end), _dims(strides), strict=True)):
        if has("ellipsis", i):
            index.append(...)
        elif has("new_axis", i):
            index.append(np.newaxis)
        elif has("shrink_axis", i):
            index.append(start)
        else:
            index.append(slice(None if has("begin", i) else start, None if has("end", i) else stop, step))
    return np.asarray(x[tuple(index)])


def _pad(node: Node, x: Array, pads: Array, value: Any = 0) -> Any:
    mode = node.text("mode", "constant").lower()
    extra = {"constant_values": value} if mode == "constant" else {}
    return np.pad(x, [(int(a), int(b)) for a, b in pads], mode, **extra)  # type: ignore[call-overload]


def _one_hot(node: Node, indices: Array, depth: Any, on: Any, off: Any) -> Any:
    axis = node.integer("axis", -1)
    places = np.expand_dims(indices, axis)
    shape = [1] * places.ndim
    shape[axis] = int(depth)
    return np.where(places == np.arange(int(depth)).reshape(shape), on, off)


def _reverse_sequence(node: Node, x: Array, lengths: Array) -> Any:
    time, batch = node.integer("seq_dim"), node.integer("batch_dim")
    moved = np.moveaxis(x, (batch, time), (0, 1)).copy()
    for row, length in zip(moved, _dims(lengths), strict=True):
        row[:length] = row[:length][::-1].copy()
    return np.moveaxis(moved, (0, 1), (batch, time))


def _band(node: Node, x: Array, lower: Any, upper: Any) -> Any:
    row, column = np.indices(x.shape[-2:])
    kept = ((int(lower) < 0) | (row - column <= int(lower))) & ((int(upper) < 0) | (column - row <= int(upper)))
    return np.where(kept, x, np.zeros_like(x))


def _roll(node: Node, x: Array, shift: Array, axis: Array) -> Any:
    return np.roll(x, tuple(_dims(shift)), tuple(_dims(axis)))


def _unique(node: Node, x: Array) -> list[Array]:
    """In the order in which they come first."""
    values, first, places, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    rank = np.argsort(order)
    return [values[order], rank[places.ravel()].astype(np.int32), counts[order].astype(np.int32)]


def _gather(node: Node, x: Array, indices: Array, axis: Any = 0) -> Any:
    at, batch = int(axis), node.integer("batch_dims")
    if batch < 0:
        batch += indices.ndim
    if at < 0:
        at += x.ndim
    if batch == 0:
        return np.take(x, indices, at)
    inner = Node(node.name, node.op, attributes={"batch_dims": batch - 1})
    return np.stack([_gather(inner, row, places, at - 1) for row, places in zip(x, indices, strict=True)])


def _gather_nd(node: Node, x: Array, indices: Array) -> Any:
    return x[tuple(np.moveaxis(indices, -1, 0))]


def _scatter(function: Any) -> Operator:
    def operator(node: Node, x: Array, indices: Array, updates: Array) -> Any:
        result = x.copy()
        places = tuple(np.moveaxis(indices, -1, 0))
        if function is None:
            result[places] = updates
        else:
            function.at(result, places, updates)
        return result

    return operator


def _scatter_nd(node: Node, indices: Array, updates: Array, shape: Array) -> Any:
    result = np.zeros(_dims(shape), updates.dtype)
    np.add.at(result, tuple(np.moveaxis(indices, -1, 0)), updates)
    return result


def _segment_sum(node: Node, x: Array, segments: Array, count: Any) -> Any:
    result = np.zeros((int(count), *x.shape[segments.ndim :]), x.dtype)
    for row, segment in zip(x, _dims(segments), strict=True):
        if segment >= 0:
            result[segment] += row
    return result


def _same(node: Node, *inputs: Any) -> Any:
    return list(inputs)


def _fused(base: str, inputs: int) -> Operator:
    """The operator, then what `fused_ops` tells."""

    def operator(node: Node, *given: Any) -> Any:
        x, rest = OPERATORS[base](node, *given[:inputs]), list(given[inputs:])
        for raw in node.attributes.get("fused_ops", []):
            op = bytes(raw).decode()
            if op == "BiasAdd":
                x = _bias(node, x, rest.pop(0))
            elif op == "LeakyRelu":
                x = np.where(x > 0, x, x * node.number("leakyrelu_alpha", 0.2))
            elif op == "Prelu":
                x = np.where(x > 0, x, x * rest.pop(0))
            else:
                x = OPERATORS[op](node, x)
        return x

    return operator


_UNARY: dict[str, Callable[..., Any]] = {
    "Abs": np.abs, "Neg": np.negative, "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt, "Floor": np.floor,
    "Ceil": np.ceil, "Round": np.round, "Rint": np.rint, "Sign": np.sign, "Erf": _erf, "Erfc": _erfc, "Sin": np.sin,
    "Cos": np.cos, "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan, "Sinh": np.sinh,
    "Cosh": np.cosh, "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh, "Expm1": np.expm1,
    "Log1p": np.log1p, "Reciprocal": lambda x: 1 / x, "Inv": lambda x: 1 / x, "LogicalNot": np.logical_not,
    "IsNan": np.isnan, "IsInf": np.isinf, "IsFinite": np.isfinite, "Invert": np.invert, "Square": np.square,
    "Rsqrt": lambda x: 1 / np.sqrt(x), "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0), "Relu6": lambda x: np.clip(x, 0, 6), "Selu": _selu,
    "Elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), "Softplus": lambda x: np.logaddexp(x, 0),
    "Softsign": lambda x: x / (1 + np.abs(x)),
}  # fmt: skip

_BINARY: dict[str, Callable[..., Any]] = {
    "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply, "RealDiv": np.divide, "Div": _div,
    "FloorDiv": lambda a, b: a // b, "FloorMod": _floor_mod, "TruncateDiv": _div, "TruncateMod": np.fmod,
    "Mod": np.fmod, "Maximum": np.maximum, "Minimum": np.minimum, "Pow": np.power, "Atan2": np.arctan2,
    "SquaredDifference": lambda a, b: (a - b) ** 2, "LogicalAnd": np.logical_and, "LogicalOr": np.logical_or,
    "Equal": np.equal, "NotEqual": np.not_equal, "Less": np.less, "LessEqual": np.less_equal, "Greater": np.greater,
    "GreaterEqual": np.greater_equal, "BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor, "LeftShift": np.left_shift, "RightShift": np.right_shift,
}  # fmt: skip

_SAME = (
    "Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "CheckNumericsV2", "EnsureShape",
    "PlaceholderWithDefault", "DebugIdentity", "Print", "PrintV2", "OptimizationBarrier", "IdentityN",
)  # fmt: skip

OPERATORS: dict[str, Operator] = {
    **WINDOWS,
    **{name: _plain(function) for name, function in {**_UNARY, **_BINARY}.items()},
    **dict.fromkeys(_SAME, _same),
    "DivNoNan": _guarded(np.divide, lambda a, b: b == 0),
    "MulNoNan": _guarded(np.multiply, lambda a, b: b == 0),
    "Xdivy": _guarded(np.divide, lambda a, b: a == 0),
    "Xlogy": _guarded(lambda a, b: a * np.log(b), lambda a, b: a == 0),
    "LeakyRelu": lambda node, x: np.where(x > 0, x, x * node.number("alpha", 0.2)),
    "AddN": lambda node, *inputs: sum(inputs[1:], inputs[0]),
    "ClipByValue": lambda node, x, low, high: np.maximum(np.minimum(x, high), low),
    "Select": _select,
    "SelectV2": _select,
    "Cast": _cast,
    "Sum": _reduction(_sum),
    "Mean": _reduction(np.mean),
    "Max": _reduction(np.max),
    "Min": _reduction(np.min),
    "Prod": _reduction(_prod),
    "All": _reduction(np.all),
    "Any": _reduction(np.any),
    "EuclideanNorm": _reduction(_norm),
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "Cumsum": _cumsum,
    "TopK": _top_k,
    "TopKV2": _top_k,
    "L2Loss": lambda node, x: (x * x).sum() / 2,
    "MatMul": _matmul,
    "BatchMatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "BatchMatMulV3": _matmul,
    "_FusedMatMul": _fused("MatMul", 2),
    "_FusedConv2D": _fused("Conv2D", 2),
    "FusedConv2D": _fused("Conv2D", 2),
    "_FusedDepthwiseConv2dNative": _fused("DepthwiseConv2dNative", 2),
    "FusedDepthwiseConv2dNative": _fused("DepthwiseConv2dNative", 2),
    "Einsum": lambda node, *inputs: np.einsum(node.text("equation"), *inputs),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "BiasAdd": _bias,
    "BiasAddV1": _bias,
    "FakeQuantWithMinMaxArgs": _fake_quant,
    "FakeQuantWithMinMaxVars": _fake_quant,
    "FakeQuantWithMinMaxVarsPerChannel": _fake_quant,
    "Shape": lambda node, x: np.array(x.shape, _out_type(node)),
    "ShapeN": lambda node, *inputs: [np.array(x.shape, _out_type(node)) for x in inputs],
    "Size": lambda node, x: np.array(x.size, _out_type(node)),
    "Rank": lambda node, x: np.array(x.ndim, np.int32),
    "Reshape": lambda node, x, shape: x.reshape(_dims(shape)),
    "ExpandDims": lambda node, x, axis: np.expand_dims(x, int(np.ravel(axis)[0])),
    "Squeeze": _squeeze,
    "Transpose": lambda node, x, order: x.transpose(_dims(order)),
    "Concat": lambda node, axis, *parts: np.concatenate(parts, int(axis)),
    "ConcatV2": lambda node, *given: np.concatenate(given[:-1], int(given[-1])),
    "Pack": lambda node, *parts: np.stack(parts, node.integer("axis")),
    "Unpack": lambda node, x: list(np.moveaxis(x, node.integer("axis"), 0)),
    "Split": _split,
    "SplitV": _split_v,
    "Slice": _slice,
    "StridedSlice": _strided,
    "Pad": _pad,
    "PadV2": _pad,
    "MirrorPad": _pad,
    "Tile": lambda node, x, times: np.tile(x, _dims(times)),
    "Range": lambda node, start, limit, step: np.arange(start, limit, step).astype(np.asarray(start).dtype),
    "Fill": lambda node, shape, value: np.full(_dims(shape), value),
    "ZerosLike": lambda node, x: np.zeros_like(x),
    "OnesLike": lambda node, x: np.ones_like(x),
    "OneHot": _one_hot,
    "BroadcastTo": lambda node, x, shape: np.broadcast_to(x, _dims(shape)),
    "BroadcastArgs": lambda node, a, b: np.array(np.broadcast_shapes(tuple(_dims(a)), tuple(_dims(b))), a.dtype),
    "ReverseV2": lambda node, x, axes: np.flip(x, tuple(_dims(axes))),
    "ReverseSequence": _reverse_sequence,
    "LinSpace": lambda node, start, stop, count: np.linspace(float(start), float(stop), int(count)),
    "InvertPermutation": lambda node, x: np.argsort(x).astype(x.dtype),
    "MatrixBandPart": _band,
    "Roll": _roll,
    "Where": lambda node, x: np.argwhere(x),
    "Unique": _unique,
    "UniqueWithCounts": _unique,
    "Gather": _gather,
    "GatherV2": _gather,
    "GatherNd": _gather_nd,
    "ScatterNd": _scatter_nd,
    "TensorScatterUpdate": _scatter(None),
    "TensorScatterAdd": _scatter(np.add),
    "TensorScatterSub": _scatter(np.subtract),
    "TensorScatterMax": _scatter(np.maximum),
    "TensorScatterMin": _scatter(np.minimum),
    "UnsortedSegmentSum": _segment_sum,
    "VarIsInitializedOp": lambda node, x: np.array(True),
}
