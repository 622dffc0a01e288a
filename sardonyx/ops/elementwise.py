"""Elementwise operators: what each does to one element."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.compiler.dtypes import DType, Rounding
from sardonyx.compiler.expr import ExprBuilder
from sardonyx.compiler.fuse import present
from sardonyx.ops.table import BOOL, COMPUTED, FLOATS, INTEGERS, NUMBERS, elementwise, opset

if TYPE_CHECKING:
    import onnx_ir as ir


def _simple(operators: dict[str, str], dtypes: frozenset[DType], result: DType | None = None) -> None:
    """Operators that are one scalar operation."""
    for name, op in operators.items():

        def scalar(e: ExprBuilder, node: ir.Node, x: list[int], op: str = op) -> int:
            return e.op(op, *x, dtype=result)

        elementwise(name, dtypes=dtypes, supports=_no_broadcast_attribute)(scalar)


def _no_broadcast_attribute(node: ir.Node) -> str | None:
    """Before opset 7 binary operators had `broadcast` and `axis` attributes of another meaning."""
    return "the broadcast attribute of opset 6 and older" if "broadcast" in node.attributes else None


_SIGNED = frozenset(d for d in NUMBERS if d.is_signed)
_simple({"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}, NUMBERS)
_simple({"Neg": "neg", "Relu": "relu"}, _SIGNED)
_simple({"Abs": "abs", "Sign": "sign"}, NUMBERS)
_simple(
    {
        "Exp": "exp",
        "Log": "log",
        "Sqrt": "sqrt",
        "Tanh": "tanh",
        "Sigmoid": "sigmoid",
        "Erf": "erf",
        "Floor": "floor",
        "Ceil": "ceil",
        "Round": "round",
        "Sin": "sin",
        "Cos": "cos",
        "Tan": "tan",
        "Asin": "asin",
        "Acos": "acos",
        "Atan": "atan",
        "Sinh": "sinh",
        "Cosh": "cosh",
        "Asinh": "asinh",
        "Acosh": "acosh",
        "Atanh": "atanh",
        "Softplus": "softplus",
        "Mish": "mish",
    },
    FLOATS,
)
_simple({"IsNaN": "is_nan"}, FLOATS, DType.BOOL)
_simple({"BitwiseAnd": "and", "BitwiseOr": "or", "BitwiseXor": "xor", "BitwiseNot": "not"}, INTEGERS)
_simple(
    {
        "Less": "less",
        "LessOrEqual": "less_equal",
        "Greater": "greater",
        "GreaterOrEqual": "greater_equal",
    },
    NUMBERS,
    DType.BOOL,
)
_simple({"Equal": "equal"}, COMPUTED, DType.BOOL)
_simple({"And": "and", "Or": "or", "Xor": "xor", "Not": "not"}, BOOL)


def _fold(op: str) -> None:
    def scalar(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
        result = x[0]
        for other in x[1:]:
            result = e.op(op, result, other)
        return result

    elementwise({"add": "Sum", "max": "Max", "min": "Min"}[op], dtypes=NUMBERS)(scalar)


_fold("add")
_fold("max")
_fold("min")


@elementwise("Mod", dtypes=NUMBERS)
def mod(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """What a division leaves, of the sign of the divisor as in Python or, with `fmod`, of the dividend as in C."""
    return e.op("remainder" if node.attributes.get_int("fmod", 0) else "modulo", *x)


@elementwise("Where", dtypes=BOOL)
def where(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """Condition, yes, no."""
    return e.op("select", *x)


@elementwise("Cast", dtypes=COMPUTED)
def cast(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """To the type of the output."""
    saturate, mode = bool(node.attributes.get_int("saturate", 1)), node.attributes.get_string("round_mode", "up")
    return e.cast(x[0], _output_type(node), Rounding(saturate, mode))


def _output_type(node: ir.Node) -> DType:
    kind = DType.of(node.outputs[0].dtype.numpy()) if node.outputs[0].dtype is not None else None
    assert kind is not None
    return kind


@elementwise("Clip", dtypes=NUMBERS)
def clip(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """Between optional bounds: attributes before opset 11, inputs since. Where they cross, the upper one wins."""
    dtype, result = e.dtype(x[0]), x[0]
    if opset(node) < 11:
        low, high = node.attributes.get_float("min", None), node.attributes.get_float("max", None)
        bounds = [None if b is None else e.const(b, dtype) for b in (low, high)]
    else:
        bounds = [x[i] if present(x, i) else None for i in (1, 2)]
    if bounds[0] is not None and bounds[1] is not None:
        return e.op("clip", result, bounds[0], bounds[1])
    if bounds[0] is not None:
        result = e.op("select", e.op("greater", bounds[0], result, dtype=DType.BOOL), bounds[0], result)
    if bounds[1] is not None:
        result = e.op("select", e.op("less", bounds[1], result, dtype=DType.BOOL), bounds[1], result)
    return result


@elementwise("Reciprocal", dtypes=FLOATS)
def reciprocal(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """1 / x."""
    return e.op("div", e.const(1.0, e.dtype(x[0])), x[0])


@elementwise("LeakyRelu", dtypes=FLOATS)
def leaky_relu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x where it is not negative, alpha * x elsewhere."""
    alpha = e.const(node.attributes.get_float("alpha", 0.01), e.dtype(x[0]))
    return _where_negative(e, x[0], e.op("mul", alpha, x[0]))


def _slopes(node: ir.Node) -> str | None:
    return "slopes by channel, before opset 7" if opset(node) < 7 else None


@elementwise("PRelu", dtypes=FLOATS, supports=_slopes)
def prelu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x where it is not negative, slope * x elsewhere."""
    return _where_negative(e, x[0], e.op("mul", x[1], x[0]))


@elementwise("Elu", dtypes=FLOATS)
def elu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x where it is not negative, alpha * (e ** x - 1) elsewhere."""
    dtype, less_one = e.dtype(x[0]), e.op("expm1", x[0])
    return _where_negative(e, x[0], e.op("mul", e.const(node.attributes.get_float("alpha", 1.0), dtype), less_one))


@elementwise("Selu", dtypes=FLOATS)
def selu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """gamma * x where x is positive, gamma * alpha * (e ** x - 1) elsewhere (arXiv:1706.02515)."""
    dtype = e.dtype(x[0])
    alpha = node.attributes.get_float("alpha", 1.67326319217681884765625)
    gamma = e.const(node.attributes.get_float("gamma", 1.05070102214813232421875), dtype)
    less_one = e.op("expm1", x[0])
    return e.op("mul", gamma, _where_negative(e, x[0], e.op("mul", e.const(alpha, dtype), less_one)))


@elementwise("HardSigmoid", dtypes=FLOATS)
def hard_sigmoid(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """alpha * x + beta between 0 and 1."""
    return _hard_sigmoid(e, x[0], node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5))


@elementwise("HardSwish", dtypes=FLOATS)
def hard_swish(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x * hard_sigmoid(x) with alpha 1/6 and beta 1/2."""
    return e.op("mul", x[0], _hard_sigmoid(e, x[0], 1.0 / 6.0, 0.5))


@elementwise("Swish", dtypes=FLOATS)
def swish(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x * sigmoid(alpha * x)."""
    alpha = node.attributes.get_float("alpha", 1.0)
    scaled = x[0] if alpha == 1.0 else e.op("mul", e.const(alpha, e.dtype(x[0])), x[0])
    return e.op("mul", x[0], e.op("sigmoid", scaled))


@elementwise("Softsign", dtypes=FLOATS)
def softsign(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x / (1 + |x|)."""
    return e.op("div", x[0], e.op("add", e.const(1.0, e.dtype(x[0])), e.op("abs", x[0])))


@elementwise("Gelu", dtypes=FLOATS)
def gelu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x * Phi(x), exact or by its tanh approximation (arXiv:1606.08415)."""
    return e.op("gelu_tanh" if node.attributes.get_string("approximate", "none") == "tanh" else "gelu", x[0])


@elementwise("Celu", dtypes=FLOATS)
def celu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x where it is not negative, alpha * (e ** (x / alpha) - 1) elsewhere."""
    alpha = e.const(node.attributes.get_float("alpha", 1.0), e.dtype(x[0]))
    return _where_negative(e, x[0], e.op("mul", alpha, e.op("expm1", e.op("div", x[0], alpha))))


@elementwise("Shrink", dtypes=NUMBERS)
def shrink(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x + bias below -lambd, x - bias above lambd, 0 between. In float64, of integers too."""
    lambd, bias = node.attributes.get_float("lambd", 0.5), node.attributes.get_float("bias", 0.0)
    kind = e.dtype(x[0])
    wide = kind if kind.is_float else DType.F64
    value = e.cast(x[0], wide)
    below = e.op("less", value, e.const(-lambd, wide), dtype=DType.BOOL)
    above = e.op("greater", value, e.const(lambd, wide), dtype=DType.BOOL)
    inside = e.op("select", above, e.op("sub", value, e.const(bias, wide)), e.const(0.0, wide))
    return e.cast(e.op("select", below, e.op("add", value, e.const(bias, wide)), inside), kind)


@elementwise("ThresholdedRelu", dtypes=FLOATS)
def thresholded_relu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x above alpha, 0 elsewhere."""
    dtype = e.dtype(x[0])
    alpha = e.const(node.attributes.get_float("alpha", 1.0), dtype)
    return e.op("select", e.op("greater", x[0], alpha, dtype=DType.BOOL), x[0], e.const(0.0, dtype))


@elementwise("SwiGLU", dtypes=FLOATS)
def swiglu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """Swish of the first times the second."""
    return e.op("mul", swish(e, node, x[:1]), x[1])


@elementwise("Mean", dtypes=FLOATS)
def mean(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """Of all inputs."""
    result = x[0]
    for other in x[1:]:
        result = e.op("add", result, other)
    return e.op("div", result, e.const(float(len(x)), e.dtype(result)))


@elementwise("IsInf", dtypes=FLOATS)
def is_inf(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """Whether it is an infinity of the signs asked for."""
    wanted = [
        sign * float("inf")
        for name, sign in (("detect_positive", 1), ("detect_negative", -1))
        if node.attributes.get_int(name, 1)
    ]
    result = e.const(False, DType.BOOL)
    for value in wanted:
        result = e.op("or", result, e.op("equal", x[0], e.const(value, e.dtype(x[0])), dtype=DType.BOOL))
    return result


@elementwise("BitShift", dtypes=INTEGERS)
def bit_shift(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """By as many places as the second says."""
    return e.op("shift_left" if node.attributes.get_string("direction") == "LEFT" else "shift_right", *x)


@elementwise("Pow", dtypes=NUMBERS)
def power(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x ** y in the type of x. The common exponents take no logarithm."""
    base, dtype, known = x[0], e.dtype(x[0]), e.constant(x[1])
    if dtype.is_float and known in (1.0, 2.0, 3.0, -1.0, 0.5, -0.5):
        return _small_power(e, base, float(known))
    return e.op("power", base, x[1], dtype=dtype)


def _small_power(e: ExprBuilder, x: int, exponent: float) -> int:
    dtype = e.dtype(x)
    if exponent in (1.0, 2.0, 3.0):
        return x if exponent == 1.0 else e.op("mul", _small_power(e, x, exponent - 1.0), x)
    if exponent < 0.0:
        return e.op("div", e.const(1.0, dtype), _small_power(e, x, -exponent))
    positive = e.op("add", x, e.const(0.0, dtype))  # the power of -0 is 0, of -infinity infinity
    least = e.op("equal", x, e.const(float("-inf"), dtype), dtype=DType.BOOL)
    return e.op("select", least, e.const(float("inf"), dtype), e.op("sqrt", positive))


def _where_negative(e: ExprBuilder, x: int, negative: int) -> int:
    """`negative` where x < 0, else x."""
    condition = e.op("less", x, e.const(0.0, e.dtype(x)), dtype=DType.BOOL)
    return e.op("select", condition, negative, x)


def _hard_sigmoid(e: ExprBuilder, x: int, alpha: float, beta: float) -> int:
    dtype = e.dtype(x)
    line = e.op("add", e.op("mul", e.const(alpha, dtype), x), e.const(beta, dtype))
    return e.op("clip", line, e.const(0.0, dtype), e.const(1.0, dtype))
