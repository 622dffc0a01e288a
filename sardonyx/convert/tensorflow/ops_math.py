"""Operators of TensorFlow that compute elements, products and reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.tensorflow.emitter import Emit, Emitter, Tensor, UnsupportedError
from sardonyx.convert.tensorflow.graph import Node
from sardonyx.convert.tensorflow.tensors import FLOATS, INTEGERS, UNSIGNED, D, numpy_type

Inputs = Sequence[Tensor]


def _one(op: str, **attributes: Any) -> Emit:
    """One ONNX node that computes each element."""

    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        return e.each(inputs[0], op, **attributes)

    return emit


def two(op: str, **attributes: Any) -> Emit:
    """One ONNX node of two inputs that broadcast."""

    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        values, moved = e.joined(*inputs)
        return e.tensor(e.node(op, values, **attributes), moved=moved)

    return emit


def _written(write: Any) -> Emit:
    """Several nodes over values that broadcast: `write(e, x, *values)`, where `x` tells the type."""

    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        values, moved = e.joined(*inputs)
        return e.tensor(write(e, inputs[0], *values), moved=moved)

    return emit


def _same(e: Emitter, node: Node, inputs: Inputs) -> Any:
    return inputs[0]


def _all_same(e: Emitter, node: Node, inputs: Inputs) -> Any:
    return list(inputs)


def _relu6(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return e.each(inputs[0], "Clip", e.like(inputs[0], 0), e.like(inputs[0], 6))


def clip_by_value(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """ClipByValue: bounds may have dims."""
    values, moved = e.joined(*inputs)
    return e.tensor(e.node("Max", [e.node("Min", [values[0], values[2]], tag="min"), values[1]]), moved=moved)


def _leaky_relu(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return e.each(inputs[0], "LeakyRelu", alpha=node.number("alpha", 0.2))


def _rsqrt(e: Emitter, x: Tensor, value: ir.Value) -> ir.Value:
    return e.node("Reciprocal", [e.node("Sqrt", [value], tag="sqrt")])


def _square(e: Emitter, x: Tensor, value: ir.Value) -> ir.Value:
    return e.node("Mul", [value, value])


def _log1p(e: Emitter, x: Tensor, value: ir.Value) -> ir.Value:
    """log(1 + x), corrected for what 1 + x rounds away: log(u) x / (u - 1)."""
    one = e.like(x, 1)
    u = e.node("Add", [value, one], tag="u")
    log = e.node("Log", [u], tag="log")
    ratio = e.node("Div", [value, e.node("Sub", [u, one], tag="v")], tag="ratio")
    corrected = e.node("Mul", [log, ratio], tag="corrected")
    large = e.node("Where", [e.node("Equal", [u, value], tag="large"), log, corrected], tag="either")
    return e.node("Where", [e.node("Equal", [u, one], tag="tiny"), value, large])


def _expm1(e: Emitter, x: Tensor, value: ir.Value) -> ir.Value:
    """exp(x) - 1, corrected for what exp(x) rounds away: (u - 1) x / log(u)."""
    one = e.like(x, 1)
    u = e.node("Exp", [value], tag="u")
    v = e.node("Sub", [u, one], tag="v")
    ratio = e.node("Div", [value, e.node("Log", [u], tag="log")], tag="ratio")
    corrected = e.node("Mul", [v, ratio], tag="corrected")
    edges = e.node(
        "Or", [e.node("Equal", [v, u], tag="large"), e.node("Equal", [v, e.like(x, -1)], tag="low")], tag="edge"
    )
    either = e.node("Where", [edges, v, corrected], tag="either")
    return e.node("Where", [e.node("Equal", [u, one], tag="tiny"), value, either])


def _round(e: Emitter, node: Node, inputs: Inputs) -> Any:
    return inputs[0] if inputs[0].kind in INTEGERS else e.each(inputs[0], "Round")


def _erfc(e: Emitter, x: Tensor, value: ir.Value) -> ir.Value:
    return e.node("Sub", [e.like(x, 1), e.node("Erf", [value], tag="erf")])


def _is_finite(e: Emitter, x: Tensor, value: ir.Value) -> ir.Value:
    odd = e.node("Or", [e.node("IsNaN", [value], tag="nan"), e.node("IsInf", [value], tag="inf")], tag="odd")
    return e.node("Not", [odd])


def _floor_div(e: Emitter, x: Tensor, a: ir.Value, b: ir.Value) -> ir.Value:
    if x.kind not in INTEGERS:
        return e.node("Floor", [e.node("Div", [a, b], tag="div")])
    quotient = e.node("Div", [a, b], tag="div")
    if x.kind in UNSIGNED:
        return quotient
    # ONNX's division of integers rounds to zero. Mod has the divisor's sign, so a - mod divides evenly.
    return e.node("Div", [e.node("Sub", [a, e.node("Mod", [a, b], tag="mod")], tag="even"), b])


def _floor_mod(e: Emitter, x: Tensor, a: ir.Value, b: ir.Value) -> ir.Value:
    if x.kind in INTEGERS:
        return e.node("Mod", [a, b])
    mod, zero = e.node("Mod", [a, b], tag="fmod", fmod=1), e.like(x, 0)
    wrong = e.node("Xor", [e.node("Less", [b, zero], tag="n1"), e.node("Less", [mod, zero], tag="n2")], tag="wrong")
    some = e.node("Not", [e.node("Equal", [mod, zero], tag="none")], tag="some")
    return e.node("Where", [e.node("And", [wrong, some], tag="fix"), e.node("Add", [mod, b], tag="fixed"), mod])


def _truncate_div(e: Emitter, x: Tensor, a: ir.Value, b: ir.Value) -> ir.Value:
    if x.kind in INTEGERS:
        return e.node("Div", [a, b])
    raise UnsupportedError("TruncateDiv of floats")


def _truncate_mod(e: Emitter, x: Tensor, a: ir.Value, b: ir.Value) -> ir.Value:
    return e.node("Mod", [a, b], fmod=1)


def _squared_difference(e: Emitter, x: Tensor, a: ir.Value, b: ir.Value) -> ir.Value:
    difference = e.node("Sub", [a, b], tag="sub")
    return e.node("Mul", [difference, difference])


def _unless_zero(op: str, by: int) -> Any:
    """`op` of both, 0 where input `by` is 0."""

    def write(e: Emitter, x: Tensor, a: ir.Value, b: ir.Value) -> ir.Value:
        zero = e.like(x, 0)
        none = e.node("Equal", [(a, b)[by], zero], tag="none")
        return e.node("Where", [none, zero, e.node(op, [a, b], tag="op")])

    return write


def _xlogy(e: Emitter, x: Tensor, a: ir.Value, b: ir.Value) -> ir.Value:
    zero = e.like(x, 0)
    product = e.node("Mul", [a, e.node("Log", [b], tag="log")], tag="mul")
    return e.node("Where", [e.node("Equal", [a, zero], tag="none"), zero, product])


def _atan2(e: Emitter, x: Tensor, y: ir.Value, over: ir.Value) -> ir.Value:
    """The angle of (over, y): that of their ratio, turned by pi on the left, and settled where over is 0."""
    zero, pi, half = e.like(x, 0), e.like(x, math.pi), e.like(x, math.pi / 2)
    below = e.node("Less", [y, zero], tag="below")
    angle = e.node("Atan", [e.node("Div", [y, over], tag="ratio")], tag="atan")
    turn = e.node("Where", [below, e.node("Neg", [pi], tag="minus"), pi], tag="turn")
    left = e.node(
        "Where", [e.node("Less", [over, zero], tag="left"), e.node("Add", [angle, turn], tag="t"), angle], tag="a"
    )
    upright = e.node("Mul", [e.node("Sign", [y], tag="sign"), half], tag="upright")
    return e.node("Where", [e.node("Equal", [over, zero], tag="none"), upright, left])


def _not_equal(e: Emitter, x: Tensor, a: ir.Value, b: ir.Value) -> ir.Value:
    return e.node("Not", [e.node("Equal", [a, b], tag="equal")])


def _shift(direction: str) -> Emit:
    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        if inputs[0].kind not in UNSIGNED:
            raise UnsupportedError("ONNX shifts unsigned integers only")
        return two("BitShift", direction=direction)(e, node, inputs)  # type: ignore[no-any-return]

    return emit


def _add_n(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    values, moved = e.joined(*inputs)
    if len(values) == 1:
        return inputs[0]
    if inputs[0].kind in FLOATS:
        return e.tensor(e.node("Sum", values), moved=moved)
    total = values[0]
    for value in values[1:]:
        total = e.node("Add", [total, value])
    return e.tensor(total, moved=moved)


def select(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """Select: a condition of one axis chooses rows."""
    condition, a, b = inputs
    if condition.rank == 1 and a.rank > 1:
        rows = e.unsqueeze(e.plain(condition), list(range(1, a.rank)))
        return e.tensor(e.node("Where", [rows, e.plain(a), e.plain(b)]))
    return two("Where")(e, node, inputs)  # type: ignore[no-any-return]


def cast(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """Cast, which cuts fractions off as ONNX does."""
    x, kind = inputs[0], node.kind("DstT")
    if kind == D.UNDEFINED or kind in (D.STRING, D.COMPLEX64, D.COMPLEX128) or x.kind in (D.COMPLEX64, D.COMPLEX128):
        raise UnsupportedError(f"a cast from {x.kind.name} to {kind.name}")
    if x.array is not None and x.array.size <= 1024 and x.kind in INTEGERS | {D.BOOL}:
        return Tensor(array=x.array.astype(numpy_type(kind)), name=e.name)
    return x if x.kind == kind else e.each(x, "Cast", to=int(kind))


def reduce(op: str) -> Emit:
    """A reduction over axes that are an input; none given means none reduced."""

    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        x, axes = inputs
        keep = node.flag("keep_dims")
        if axes.array is None:
            value = e.node(op, [e.plain(x), e.vector(axes)], keepdims=int(keep), noop_with_empty_axes=1)
            return e.tensor(value)
        chosen = axes.integers("axes")
        if not chosen:
            return x if op != "ReduceL2" else e.each(x, "Abs")
        if not x.moved:
            return e.tensor(e.node(op, [e.plain(x), e.constant(chosen, np.int64, tag="axes")], keepdims=int(keep)))
        rank = x.rank
        places = sorted({place(axis, rank) for axis in chosen})
        # Over all places or the channels the rest keeps its order.
        if keep or set(places) >= set(range(2, rank)) or places == [1]:
            value = e.node(op, [e.first(x), e.constant(places, np.int64, tag="axes")], keepdims=int(keep))
            return e.tensor(value, moved=keep)
        return e.tensor(e.node(op, [e.plain(x), e.constant(chosen, np.int64, tag="axes")], keepdims=int(keep)))

    return emit


def place(axis: int, rank: int) -> int:
    """Where an axis of [N, ..., C] is in [N, C, ...]."""
    axis = checked_axis(axis, rank)
    return axis if axis == 0 else 1 if axis == rank - 1 else axis + 1


def checked_axis(axis: int, rank: int) -> int:
    """The axis counted from the front. Raises UnsupportedError when there is none."""
    if not -rank <= axis < rank:
        raise UnsupportedError(f"its axis {axis} is none of {rank}")
    return axis % rank


def _reduce_mean(e: Emitter, node: Node, inputs: Inputs) -> Any:
    if inputs[0].kind not in FLOATS:
        raise UnsupportedError("the mean of integers")
    return reduce("ReduceMean")(e, node, inputs)


def _reduce_bool(op: str) -> Emit:
    def emit(e: Emitter, node: Node, inputs: Inputs) -> Any:
        number = e.each(inputs[0], "Cast", tag="number", to=int(D.INT32))
        found = reduce(op)(e, node, [number, inputs[1]])
        return e.each(found, "Cast", tag="truth", to=int(D.BOOL))

    return emit


def _arg(op: str) -> Emit:
    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        x = inputs[0]
        axis = inputs[1].integer("axis") if len(inputs) > 1 else 0
        value = e.node(op, [e.plain(x)], axis=checked_axis(axis, x.rank), keepdims=0)
        kind = node.kind("output_type")
        return e.tensor(value if kind in (D.UNDEFINED, D.INT64) else e.cast(value, kind))

    return emit


def _cumsum(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    axis = e.constant(inputs[1].integer("axis"), np.int64, tag="axis")
    exclusive, reverse = int(node.flag("exclusive")), int(node.flag("reverse"))
    return e.tensor(e.node("CumSum", [e.plain(inputs[0]), axis], exclusive=exclusive, reverse=reverse))


def _top_k(e: Emitter, node: Node, inputs: Inputs) -> list[Tensor]:
    count = e.vector(inputs[1]) if len(inputs) > 1 else e.constant([node.integer("k")], np.int64, tag="k")
    values, indices = e.nodes("TopK", [e.plain(inputs[0]), count], 2, axis=-1)
    kind = node.kind("index_type")
    return [e.tensor(values), e.tensor(e.cast(indices, D.INT32 if kind == D.UNDEFINED else kind))]


def _l2_loss(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    x = e.plain(inputs[0])
    total = e.node("ReduceSumSquare", [x], tag="sum", keepdims=0)
    return e.tensor(e.node("Mul", [total, e.like(inputs[0], 0.5)]))


def _transposed(e: Emitter, x: Tensor, flip: bool) -> ir.Value:
    """The value with its last two axes the other way where `flip`; a constant is stored so."""
    if not flip:
        return e.plain(x)
    rank = x.rank
    if x.array is not None:
        return e.graph.initializer(f"{x.name}/transposed", np.swapaxes(x.array, -1, -2))
    return e.transpose(e.plain(x), [*range(rank - 2), rank - 1, rank - 2])


def matmul(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """MatMul and BatchMatMul with their four names of the same two flags."""
    left = _transposed(e, inputs[0], node.flag("transpose_a") or node.flag("adj_x"))
    right = _transposed(e, inputs[1], node.flag("transpose_b") or node.flag("adj_y"))
    return e.tensor(e.node("MatMul", [left, right]))


def _fused_matmul(e: Emitter, node: Node, inputs: Inputs) -> Any:
    return fused(e, node, matmul(e, node, inputs[:2]), inputs[2:])


def fused(e: Emitter, node: Node, x: Tensor, extra: Inputs) -> Tensor:
    """What `fused_ops` says is done to the result of a product or convolution: the bias, then an activation."""
    rest = list(extra)
    for raw in node.attributes.get("fused_ops", []):
        op = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
        if op == "BiasAdd" and rest:
            x = bias_add(e, node, [x, rest.pop(0)])
        elif op == "FusedBatchNorm" and len(rest) >= 4:
            raise UnsupportedError("a fused batch normalisation")
        elif op == "LeakyRelu":
            x = e.each(x, "LeakyRelu", tag="leaky_relu", alpha=node.number("leakyrelu_alpha", 0.2))
        elif op == "Prelu" and rest:
            values, moved = e.joined(x, rest.pop(0))
            x = e.tensor(e.node("PRelu", values, tag="prelu"), moved=moved)
        elif op in ACTIVATIONS:
            x = ACTIVATIONS[op](e, node, [x])
        else:
            raise UnsupportedError(f"the fused operation {op}")
    return x


def bias_add(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """A bias by channel: the last axis, or the second of NCHW."""
    x, bias = inputs
    if node.text("data_format", "NHWC").startswith("NC"):
        column = e.unsqueeze(e.plain(bias), list(range(1, x.rank - 1))) if x.rank > 2 else e.plain(bias)
        return e.tensor(e.node("Add", [e.plain(x), column]))
    values, moved = e.joined(x, bias)
    return e.tensor(e.node("Add", values), moved=moved)


def _einsum(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return e.tensor(e.node("Einsum", [e.plain(x) for x in inputs], equation=node.text("equation")))


def _softmax(op: str) -> Emit:
    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        if inputs[0].moved:
            return e.tensor(e.node(op, [e.first(inputs[0])], axis=1), moved=True)
        return e.tensor(e.node(op, [e.plain(inputs[0])], axis=-1))

    return emit


def _fake_quant(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """Values on the grid of so many bits over a range, moved so that zero is on it (fake_quant_ops_functor.h)."""
    x = inputs[0]
    bits, narrow = node.integer("num_bits", 8), node.flag("narrow_range")
    low: Any
    high: Any
    if len(inputs) == 1:
        low, high = np.float32(node.number("min", -6.0)), np.float32(node.number("max", 6.0))
    else:
        low, high = (item.elements("range").astype(np.float32) for item in inputs[1:])
    least, most = np.float32(1 if narrow else 0), np.float32(2**bits - 1)
    scale = np.asarray((high - low) / (most - least), np.float32)
    if not (scale > 0).all() or not np.isfinite(scale).all():
        raise UnsupportedError("its range is empty")
    zero = np.clip(np.floor(least - low / scale + np.float32(0.5)), least, most).astype(np.float32)
    low, high = ((least - zero) * scale).astype(np.float32), ((most - zero) * scale).astype(np.float32)
    inverse = (np.float32(1) / scale).astype(np.float32)
    names = ("low", "high", "inverse", "scale", "zero")
    parts = [
        Tensor(array=np.asarray(a, np.float32), name=f"{e.name}/{n}")
        for n, a in zip(names, (low, high, inverse, scale, zero), strict=True)
    ]
    (value, lows, highs, inverses, scales, _), moved = e.joined(x, *parts)
    held = e.node("Max", [e.node("Min", [value, highs], tag="min"), lows], tag="max")
    steps = e.node("Mul", [e.node("Sub", [held, lows], tag="sub"), inverses], tag="mul")
    grid = e.node("Floor", [e.node("Add", [steps, e.like(x, 0.5)], tag="add")], tag="floor")
    return e.tensor(e.node("Add", [e.node("Mul", [grid, scales], tag="scaled"), lows]), moved=moved)


ACTIVATIONS: dict[str, Emit] = {
    "Relu": _one("Relu"), "Relu6": _relu6, "Elu": _one("Elu"), "Selu": _one("Selu"), "Sigmoid": _one("Sigmoid"),
    "Tanh": _one("Tanh"), "Softplus": _one("Softplus"), "Softsign": _one("Softsign"), "LeakyRelu": _leaky_relu,
}  # fmt: skip

_UNARY = {
    "Abs": "Abs", "Neg": "Neg", "Exp": "Exp", "Log": "Log", "Sqrt": "Sqrt", "Floor": "Floor", "Ceil": "Ceil",
    "Rint": "Round", "Sign": "Sign", "Erf": "Erf", "Sin": "Sin", "Cos": "Cos", "Tan": "Tan",
    "Asin": "Asin", "Acos": "Acos", "Atan": "Atan", "Sinh": "Sinh", "Cosh": "Cosh", "Asinh": "Asinh",
    "Acosh": "Acosh", "Atanh": "Atanh", "Reciprocal": "Reciprocal", "Inv": "Reciprocal", "LogicalNot": "Not",
    "IsNan": "IsNaN", "IsInf": "IsInf", "Invert": "BitwiseNot",
}  # fmt: skip

_BINARY = {
    "Add": "Add", "AddV2": "Add", "Sub": "Sub", "Mul": "Mul", "RealDiv": "Div", "Div": "Div", "Maximum": "Max",
    "Minimum": "Min", "Pow": "Pow", "LogicalAnd": "And", "LogicalOr": "Or", "Equal": "Equal", "Less": "Less",
    "LessEqual": "LessOrEqual", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual", "BitwiseAnd": "BitwiseAnd",
    "BitwiseOr": "BitwiseOr", "BitwiseXor": "BitwiseXor",
}  # fmt: skip

_SAME = (
    "Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "EnsureShape", "PlaceholderWithDefault",
    "DebugIdentity", "Print", "PrintV2", "CheckNumericsV2", "OptimizationBarrier",
)  # fmt: skip

OPERATORS: dict[str, Emit] = {
    **ACTIVATIONS,
    **{name: _one(op) for name, op in _UNARY.items()},
    **{name: two(op) for name, op in _BINARY.items()},
    **dict.fromkeys(_SAME, _same),
    "IdentityN": _all_same,
    "Round": _round,
    "ClipByValue": clip_by_value,
    "Rsqrt": _written(_rsqrt),
    "Square": _written(_square),
    "Log1p": _written(_log1p),
    "Expm1": _written(_expm1),
    "Erfc": _written(_erfc),
    "IsFinite": _written(_is_finite),
    "FloorDiv": _written(_floor_div),
    "FloorMod": _written(_floor_mod),
    "TruncateDiv": _written(_truncate_div),
    "Mod": _written(_truncate_mod),
    "TruncateMod": _written(_truncate_mod),
    "SquaredDifference": _written(_squared_difference),
    "DivNoNan": _written(_unless_zero("Div", 1)),
    "MulNoNan": _written(_unless_zero("Mul", 1)),
    "Xdivy": _written(_unless_zero("Div", 0)),
    "Xlogy": _written(_xlogy),
    "Atan2": _written(_atan2),
    "NotEqual": _written(_not_equal),
    "LeftShift": _shift("LEFT"),
    "RightShift": _shift("RIGHT"),
    "AddN": _add_n,
    "Select": select,
    "SelectV2": two("Where"),
    "Cast": cast,
    "Sum": reduce("ReduceSum"),
    "Mean": _reduce_mean,
    "Max": reduce("ReduceMax"),
    "Min": reduce("ReduceMin"),
    "Prod": reduce("ReduceProd"),
    "EuclideanNorm": reduce("ReduceL2"),
    "All": _reduce_bool("ReduceMin"),
    "Any": _reduce_bool("ReduceMax"),
    "ArgMax": _arg("ArgMax"),
    "ArgMin": _arg("ArgMin"),
    "Cumsum": _cumsum,
    "TopK": _top_k,
    "TopKV2": _top_k,
    "L2Loss": _l2_loss,
    "MatMul": matmul,
    "BatchMatMul": matmul,
    "BatchMatMulV2": matmul,
    "BatchMatMulV3": matmul,
    "_FusedMatMul": _fused_matmul,
    "BiasAdd": bias_add,
    "BiasAddV1": bias_add,
    "Einsum": _einsum,
    "Softmax": _softmax("Softmax"),
    "LogSoftmax": _softmax("LogSoftmax"),
    "FakeQuantWithMinMaxArgs": _fake_quant,
    "FakeQuantWithMinMaxVars": _fake_quant,
    "FakeQuantWithMinMaxVarsPerChannel": _fake_quant,
}
