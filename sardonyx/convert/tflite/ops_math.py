"""Arithmetic, comparison, activations, reductions, products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from sardonyx.convert.tflite.emit import (
    FIRST,
    FLOATS,
    TYPES,
    Op,
    UnsupportedError,
    Value,
    clip,
    reals,
    together,
)

Rule = Callable[[Op], None]


def _unary(make: Callable[[Op, ir.Value], ir.Value]) -> Rule:
    """An operator on each element, in the layout its input has."""

    def rule(op: Op) -> None:
        values, first = together(op, reals(op, 1))
        op.give(make(op, values[0]), first=first)

    return rule


def _plain_unary(kind: str, **attributes: object) -> Rule:
    return _unary(lambda op, x: op.node(kind, [x], **attributes))


def _binary(make: Callable[[Op, ir.Value, ir.Value], ir.Value]) -> Rule:
    """An operator on pairs of elements with broadcasting, and its fused activation."""

    def rule(op: Op) -> None:
        (a, b), first = together(op, reals(op, 2))
        op.give(op.activate(make(op, a, b)), first=first)

    return rule


def _plain_binary(kind: str) -> Rule:
    return _binary(lambda op, a, b: op.node(kind, [a, b]))


def _is_float(op: Op) -> bool:
    return op.need(0).is_float


def _like(op: Op, number: float) -> ir.Value:
    """A number of the first input's type."""
    kind = op.real(op.need(0)).kind
    return op.const(number, TYPES[kind].numpy())


def _clipped(low: float, high: float) -> Rule:
    return _unary(lambda op, x: clip(op, x, low, high))


def _floor_div(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    if _is_float(op):
        return op.node("Floor", [op.node("Div", [a, b])])
    return op.node("Div", [op.node("Sub", [a, op.node("Mod", [a, b])]), b])


def _floor_mod(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    if not _is_float(op):
        return op.node("Mod", [a, b])
    rest, zero = op.node("Mod", [a, b], fmod=1), _like(op, 0)
    opposite = op.node("Xor", [op.node("Less", [rest, zero]), op.node("Less", [b, zero])])
    exact = op.node("Equal", [rest, zero])
    moved = op.node("And", [opposite, op.node("Not", [exact])])
    return op.node("Where", [moved, op.node("Add", [rest, b]), rest])


def _atan2(op: Op, y: ir.Value, x: ir.Value) -> ir.Value:
    """The angle of (x, y), by its quadrant."""
    zero, pi = _like(op, 0), _like(op, np.pi)
    below, left = op.node("Less", [y, zero]), op.node("Less", [x, zero])
    angle = op.node("Atan", [op.node("Div", [y, x])])
    turned = op.node("Add", [angle, op.node("Where", [below, _like(op, -np.pi), pi])])
    result = op.node("Where", [left, turned, angle])
    upright = op.node("Where", [below, _like(op, -np.pi / 2), _like(op, np.pi / 2)])
    level = op.node("Equal", [y, zero])
    return op.node("Where", [op.node("Equal", [x, zero]), op.node("Where", [level, zero, upright]), result])


def _squared(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    difference = op.node("Sub", [a, b])
    return op.node("Mul", [difference, difference])


def _not_equal(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    return op.node("Not", [op.node("Equal", [a, b])])


def _add_n(op: Op) -> None:
    values, first = together(op, reals(op))
    op.give(op.node("Sum", values), first=first)


def _prelu(op: Op) -> None:
    x, slope = reals(op, 2)
    (a, b), first = together(op, [x, slope])
    op.give(op.node("PRelu", [a, b]), first=first)


def _softmax(op: Op) -> None:
    x = op.real(op.need(0))
    beta = float(op.get("beta", 1.0))
    value = op.plain(x)
    if beta != 1.0:
        value = op.node("Mul", [value, op.const(beta, np.float32)])
    op.give(op.node("Softmax", [value], axis=-1))


def _log_softmax(op: Op) -> None:
    op.give(op.node("LogSoftmax", [op.plain(op.real(op.need(0)))], axis=-1))


def _l2_normalization(op: Op) -> None:
    """x / max(|x|, 1e-6) along the last axis (kernels/internal/reference/l2normalization.h)."""
    x = op.plain(op.real(op.need(0)))
    norm = op.node("ReduceL2", [x, op.const([-1])], keepdims=1)
    op.give(op.activate(op.node("Div", [x, op.node("Max", [norm, op.const(1e-6, np.float32)])])))


def _local_response(op: Op) -> None:
    """TFLite's alpha multiplies the sum of squares, ONNX's their mean over the window."""
    x = op.real(op.need(0))
    size = 2 * op.get("radius") + 1
    op.give(
        op.node(
            "LRN", [op.first(x)], size=size, bias=op.get("bias"), alpha=op.get("alpha") * size, beta=op.get("beta")
        ),
        first=True,
    )


# Reductions


def _reduction(kind: str, logical: bool = False) -> Rule:
    def rule(op: Op) -> None:
        x, keep = op.real(op.need(0)), bool(op.get("keep_dims", False))
        rank = op.rank(x)
        axes = sorted({op.axis(int(axis), rank) for axis in op.constant(1, "axes").ravel()})
        value = None if x.moved else op.plain(x)
        first = value is None and keep
        if value is None:
            # Channels first: the axes lie elsewhere; once reduced they may come out in the source's order.
            moved = sorted(FIRST.index(axis) for axis in axes)
            kept = [axis for axis in FIRST if axis not in axes]
            first = keep
            if not keep and kept != sorted(kept):
                value = op.plain(x)
            else:
                value, axes = op.first(x), moved
        if logical:
            value = op.cast(value, ir.DataType.INT32)
        result = op.node(kind, [value, op.const(axes)], keepdims=int(keep)) if axes else value
        op.give(op.cast(result, ir.DataType.BOOL) if logical else result, first=first)

    return rule


def _arg(kind: str) -> Rule:
    def rule(op: Op) -> None:
        x = op.need(0)  # Which is largest does not depend on the scale.
        rank = op.rank(x)
        axis = op.axis(int(op.constant(1, "axis").ravel()[0]), rank)
        value = op.plain(x) if x.quantization is None else op.plain(op.real(x))
        op.give(op.cast(op.node(kind, [value], axis=axis, keepdims=0), TYPES[op.out[0].kind]))

    return rule


def _cumsum(op: Op) -> None:
    x = op.plain(op.real(op.need(0)))
    axis = op.const(op.constant(1, "axis").ravel()[0], np.int64)
    op.give(op.node("CumSum", [x, axis], exclusive=int(op.get("exclusive")), reverse=int(op.get("reverse"))))


# Products


def bias(op: Op, index: int, source: int, weights: int) -> ir.Value | None:
    """A bias as real numbers. One of integers has the scales of input times weights, as the kernels take it."""
    if not op.has(index):
        return None
    value = op.need(index)
    x, w = op.need(source), op.need(weights)
    if value.quantization is None and value.kind in ("INT32", "INT64") and w.quantization and x.quantization:
        scale = tuple(x.quantization.scale[0] * scale for scale in w.quantization.scale)
        q = replace(w.quantization, scale=scale, zero_point=(0,) * len(scale), axis=0)
        value = replace(value, quantization=q, plain=None, real=None)
    return op.plain(op.real(value))


def note_hybrid(op: Op, source: int, weights: int) -> None:
    """TFLite's kernels round the activations to 8 bits on the way where only the weights are quantised."""
    x, w = op.need(source), op.need(weights)
    floats = x.kind == "FLOAT32" and x.quantization is None and not op.scope.dequantize
    if floats and w.quantization is not None and w.array is not None and op.want(0) is None:
        op.scope.hybrid = True


def _fully_connected(op: Op) -> None:
    """y = x w' + b over the last axis; without keep_num_dims all others become one."""
    if op.get("weights_format", 0):
        raise UnsupportedError("shuffled weights are not supported")
    note_hybrid(op, 0, 1)
    x, w = op.real(op.need(0)), op.need(1)
    depth = op.known(w, 1)[0]
    value = op.plain(x)
    keep = bool(op.get("keep_num_dims", False))
    if not keep and (x.dims is None or len(x.dims) != 2 or x.dims[1] != depth):
        value = op.node("Reshape", [value, op.const([-1, depth])])
    b = bias(op, 2, 0, 1)
    flat = not keep or op.rank(x) == 2
    if flat:
        result = op.node("Gemm", [value, op.weights(1, (0, 1)), b], transB=1)
    else:
        result = op.node("MatMul", [value, op.weights(1, (1, 0))])
        result = result if b is None else op.node("Add", [result, b])
    op.give(op.activate(result))


def _batch_matmul(op: Op) -> None:
    note_hybrid(op, 0, 1)
    operands = []
    for index, key in enumerate(("adj_x", "adj_y")):
        value = op.need(index)
        rank = op.rank(value)
        swapped = [*range(rank - 2), rank - 1, rank - 2]
        operands.append(op.weights(index, swapped if op.get(key, False) else range(rank)))
    op.give(op.node("MatMul", operands))


# Types


def _cast(op: Op) -> None:
    x = op.need(0)
    kind, target = op.real(x).kind, TYPES[op.out[0].kind]
    value = op.plain(op.real(x))
    if kind in FLOATS and op.out[0].kind == "UINT8":
        raise UnsupportedError("what TFLite makes of numbers outside 0 to 255 depends on the machine")
    op.give(op.cast(value, target))


def _dequantize(op: Op) -> None:
    x = op.need(0)
    if x.array is not None and x.kind in ("FLOAT16", "BFLOAT16"):
        array = x.array.astype(np.float32)
        op.alias(Value(op.name, "FLOAT32", x.dims, array=array))
    elif x.kind in ("FLOAT16", "BFLOAT16"):
        values, first = together(op, [x])
        op.give(op.cast(values[0], ir.DataType.FLOAT), first=first)
    elif x.array is not None and x.quantization is not None:
        # The numbers of what is stored; whoever uses it as weights dequantises it in the order it needs.
        op.alias(replace(op.real(x), name=op.name, plain=None, first=None))
    else:
        value = op.real(x)
        if value is x and x.kind != "FLOAT32":
            raise UnsupportedError("its input has no scale")
        values, first = together(op, [value])
        op.give(values[0], first=first)


def _quantize(op: Op) -> None:
    values, first = together(op, reals(op, 1))
    op.give(values[0], first=first)


def _fake_quant(op: Op) -> None:
    """Rounded to the steps between min and max, after these were moved so that 0 is a step."""
    low, high, bits = op.get("min"), op.get("max"), op.get("num_bits")
    least, most = int(op.get("narrow_range")), (1 << bits) - 1
    scale = np.float32((high - low) / (most - least))
    zero = float(np.clip(np.floor(least - low / scale + 0.5), least, most))
    value, first = together(op, reals(op, 1))
    bounded = clip(op, value[0], float((least - zero) * scale), float((most - zero) * scale))
    shifted = op.node(
        "Div", [op.node("Sub", [bounded, op.const((least - zero) * scale, np.float32)]), op.const(scale, np.float32)]
    )
    rounded = op.node("Floor", [op.node("Add", [shifted, op.const(0.5, np.float32)])])
    low_value = op.const((least - zero) * scale, np.float32)
    op.give(op.node("Add", [op.node("Mul", [rounded, op.const(scale, np.float32)]), low_value]), first=first)


def _bucketize(op: Op) -> None:
    """How many boundaries are not above each element."""
    x = op.plain(op.real(op.need(0)))
    lifted = op.node("Unsqueeze", [op.cast(x, ir.DataType.FLOAT), op.const([-1])])
    above = op.node("GreaterOrEqual", [lifted, op.const(op.get("boundaries"), np.float32)])
    op.give(op.node("ReduceSum", [op.cast(above, ir.DataType.INT32), op.const([-1])], keepdims=0))


def _gelu(op: Op) -> None:
    values, first = together(op, reals(op, 1))
    op.give(op.node("Gelu", values, approximate="tanh" if op.get("approximate") else "none"), first=first)


_UNARY = {
    "ABS": "Abs", "CEIL": "Ceil", "COS": "Cos", "EXP": "Exp", "FLOOR": "Floor", "LOG": "Log", "NEG": "Neg",
    "SIN": "Sin", "SQRT": "Sqrt", "TANH": "Tanh", "LOGISTIC": "Sigmoid", "ROUND": "Round", "SIGN": "Sign",
    "LOGICAL_NOT": "Not", "RELU": "Relu", "HARD_SWISH": "HardSwish", "ELU": "Elu",
}  # fmt: skip
_BINARY = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min", "POW": "Pow",
    "LESS": "Less", "GREATER": "Greater", "LESS_EQUAL": "LessOrEqual", "GREATER_EQUAL": "GreaterOrEqual",
    "EQUAL": "Equal", "LOGICAL_AND": "And", "LOGICAL_OR": "Or", "BITWISE_XOR": "BitwiseXor",
}  # fmt: skip

MATH: Mapping[str, Rule] = {
    **{name: _plain_unary(kind) for name, kind in _UNARY.items()},
    **{name: _plain_binary(kind) for name, kind in _BINARY.items()},
    "RSQRT": _unary(lambda op, x: op.node("Reciprocal", [op.node("Sqrt", [x])])),
    "SQUARE": _unary(lambda op, x: op.node("Mul", [x, x])),
    "RELU6": _clipped(0, 6), "RELU_N1_TO_1": _clipped(-1, 1), "RELU_0_TO_1": _clipped(0, 1),
    "LEAKY_RELU": _unary(lambda op, x: op.node("LeakyRelu", [x], alpha=op.get("alpha"))),
    "GELU": _gelu, "PRELU": _prelu,
    "FLOOR_DIV": _binary(_floor_div), "FLOOR_MOD": _binary(_floor_mod), "ATAN2": _binary(_atan2),
    "SQUARED_DIFFERENCE": _binary(_squared), "NOT_EQUAL": _binary(_not_equal), "ADD_N": _add_n,
    "SOFTMAX": _softmax, "LOG_SOFTMAX": _log_softmax, "L2_NORMALIZATION": _l2_normalization,
    "LOCAL_RESPONSE_NORMALIZATION": _local_response,
    "MEAN": _reduction("ReduceMean"), "SUM": _reduction("ReduceSum"), "REDUCE_PROD": _reduction("ReduceProd"),
    "REDUCE_MAX": _reduction("ReduceMax"), "REDUCE_MIN": _reduction("ReduceMin"),
    "REDUCE_ANY": _reduction("ReduceMax", logical=True), "REDUCE_ALL": _reduction("ReduceMin", logical=True),
    "ARG_MAX": _arg("ArgMax"), "ARG_MIN": _arg("ArgMin"), "CUMSUM": _cumsum,
    "FULLY_CONNECTED": _fully_connected, "BATCH_MATMUL": _batch_matmul,
    "CAST": _cast, "DEQUANTIZE": _dequantize, "QUANTIZE": _quantize, "FAKE_QUANT": _fake_quant,
    "BUCKETIZE": _bucketize,
}  # fmt: skip
"""Rules by operator."""
