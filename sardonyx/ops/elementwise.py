"""Elementwise operators: what each does to one element."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import ExprBuilder
from sardonyx.compiler.fuse import present
from sardonyx.ops.table import ALL, BOOL, FLOATS, INTEGERS, NUMBERS, elementwise, opset

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
_simple({"Neg": "neg", "Abs": "abs", "Sign": "sign", "Relu": "relu"}, _SIGNED)
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
    },
    FLOATS,
)
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
_simple({"Equal": "equal"}, NUMBERS, DType.BOOL)
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


@elementwise("Mod", dtypes=INTEGERS)
def mod(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """What a division leaves, of the sign of the divisor as in Python or, with `fmod`, of the dividend as in C."""
    return e.op("remainder" if node.attributes.get_int("fmod", 0) else "modulo", *x)


@elementwise("Where", dtypes=BOOL)
def where(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """Condition, yes, no."""
    return e.op("select", *x)


@elementwise("Cast", dtypes=ALL)
def cast(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """To the type of the output."""
    kind = DType.of(node.outputs[0].dtype.numpy()) if node.outputs[0].dtype is not None else None
    assert kind is not None
    return e.cast(x[0], kind)


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


@elementwise("PRelu", dtypes=FLOATS)
def prelu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x where it is not negative, slope * x elsewhere."""
    return _where_negative(e, x[0], e.op("mul", x[1], x[0]))


@elementwise("Elu", dtypes=FLOATS)
def elu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x where it is not negative, alpha * (e ** x - 1) elsewhere."""
    dtype = e.dtype(x[0])
    less_one = e.op("sub", e.op("exp", x[0]), e.const(1.0, dtype))
    return _where_negative(e, x[0], e.op("mul", e.const(node.attributes.get_float("alpha", 1.0), dtype), less_one))


@elementwise("Selu", dtypes=FLOATS)
def selu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """gamma * x where x is positive, gamma * alpha * (e ** x - 1) elsewhere (arXiv:1706.02515)."""
    dtype = e.dtype(x[0])
    alpha = node.attributes.get_float("alpha", 1.67326319217681884765625)
    gamma = e.const(node.attributes.get_float("gamma", 1.05070102214813232421875), dtype)
    less_one = e.op("sub", e.op("exp", x[0]), e.const(1.0, dtype))
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


@elementwise("Softplus", dtypes=FLOATS)
def softplus(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """log(1 + e ** x), as max(x, 0) + log(1 + e ** -|x|), which never overflows."""
    tail = e.op("exp", e.op("neg", e.op("abs", x[0])))
    return e.op("add", e.op("relu", x[0]), e.op("log", e.op("add", e.const(1.0, e.dtype(x[0])), tail)))


@elementwise("Mish", dtypes=FLOATS)
def mish(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x * tanh(softplus(x)) (arXiv:1908.08681)."""
    return e.op("mul", x[0], e.op("tanh", softplus(e, node, x)))


@elementwise("Gelu", dtypes=FLOATS)
def gelu(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """x * Phi(x), exact or by its tanh approximation (arXiv:1606.08415)."""
    dtype = e.dtype(x[0])
    half, one = e.const(0.5, dtype), e.const(1.0, dtype)
    if node.attributes.get_string("approximate", "none") == "tanh":
        cube = e.op("mul", e.op("mul", x[0], x[0]), x[0])
        inner = e.op("add", x[0], e.op("mul", e.const(0.044715, dtype), cube))
        bell = e.op("tanh", e.op("mul", e.const(0.7978845608028654, dtype), inner))
    else:
        bell = e.op("erf", e.op("mul", e.const(0.7071067811865476, dtype), x[0]))
    return e.op("mul", e.op("mul", half, x[0]), e.op("add", one, bell))


def _where_negative(e: ExprBuilder, x: int, negative: int) -> int:
    """`negative` where x < 0, else x."""
    condition = e.op("less", x, e.const(0.0, e.dtype(x)), dtype=DType.BOOL)
    return e.op("select", condition, negative, x)


def _hard_sigmoid(e: ExprBuilder, x: int, alpha: float, beta: float) -> int:
    dtype = e.dtype(x)
    line = e.op("add", e.op("mul", e.const(alpha, dtype), x), e.const(beta, dtype))
    return e.op("clip", line, e.const(0.0, dtype), e.const(1.0, dtype))
