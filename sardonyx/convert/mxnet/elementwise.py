"""MXNet's operators on single elements, sums and choices in ONNX.

Each is a function that reads the operator's parameters and emits its nodes. Semantics are those of apache/mxnet's
src/operator of 1.9 (mshadow_op.h for the elementary functions), for inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from sardonyx.convert.mxnet.call import BOOL, FLOAT, INT64, Call, Rule, type_of
from sardonyx.convert.shaped import Tensor, Unsupported, broadcast, text

_OF_INTEGERS = {"Add", "Sub", "Mul", "Max", "Min", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"}
"""What gives the same in ONNX for whole numbers as well."""
_LOSS = ("grad_scale", "margin", "momentum", "normalization", "penalty", "regularization_coefficient",
         "sparseness_target", "use_linear", "valid_thresh")  # fmt: skip


def _unary(op_type: str) -> Rule:
    return lambda c: c.unary(op_type)


def _pair(c: Call, op_type: str) -> tuple[list[ir.Value], Tensor]:
    """Both inputs, or the input and the number; and what their result is like."""
    x = c.t(0)
    if len(c.inputs) > 1:
        other = c.t(1)
        if x.dtype != other.dtype:
            raise Unsupported(f"its inputs hold {x.dtype.name} and {other.dtype.name}")
        values, shape = [x.value, other.value], broadcast(x.shape, other.shape)
    else:
        number = c.p.float("scalar", 1.0)
        c.p.ignore("is_int")
        if x.dtype != FLOAT and (number != int(number) or not 0 <= number < 128):  # which all types hold
            raise Unsupported(f"it combines {x.dtype.name} with {number}")
        values, shape = [x.value, c.scalar("scalar", number, x.dtype)], x.shape
    if op_type not in _OF_INTEGERS:
        c.floats(x)
    return values, c.tensor(x.value, shape, x.dtype)


def _binary(op_type: str, *, swapped: bool = False) -> Rule:
    """Elementwise of two inputs, with NumPy's broadcasting, or with a number."""

    def emit(c: Call) -> list[Tensor]:
        values, like = _pair(c, op_type)
        return [c.like(like, c.node(op_type, values[::-1] if swapped else values))]

    return emit


def _comparison(op_type: str, *, negated: bool = False) -> Rule:
    """Elementwise; MXNet's truth values are numbers."""

    def emit(c: Call) -> list[Tensor]:
        values, like = _pair(c, op_type)
        truth = c.node(op_type, values, "truth")
        return [_number(c, c.node("Not", [truth], "not") if negated else truth, like)]

    return emit


def _number(c: Call, truth: ir.Value, like: Tensor) -> Tensor:
    return c.like(like, c.node("Cast", [truth], to=int(like.dtype)))


def _logical(op_type: str) -> Rule:
    """Of what is not 0."""

    def emit(c: Call) -> list[Tensor]:
        values, like = _pair(c, "Equal")
        truths = [c.node("Cast", [value], f"truth_{i}", to=int(BOOL)) for i, value in enumerate(values)]
        return [_number(c, c.node(op_type, truths, "truth"), like)]

    return emit


def _logical_not(c: Call) -> list[Tensor]:
    truth = c.node("Cast", [c.t().value], "truth", to=int(BOOL))
    return [_number(c, c.node("Not", [truth], "not"), c.t())]


def _modulo(*, swapped: bool = False) -> Rule:
    """With the sign of the divisor, as Python's: x - floor(x / y) * y. Where the divisor is 0, 0."""

    def emit(c: Call) -> list[Tensor]:
        values, like = _pair(c, "Mod")
        x, other = values[::-1] if swapped else values
        whole = c.node("Floor", [c.node("Div", [x, other], "ratio")], "whole")
        rest = c.node("Sub", [x, c.node("Mul", [whole, other], "multiple")], "rest")
        zero = c.scalar("zero", 0)
        return [c.like(like, c.node("Where", [c.node("Equal", [other, zero], "by_zero"), zero, rest]))]

    return emit


def _composed(name: str) -> Rule:
    """Functions that are a few nodes of ONNX."""

    def emit(c: Call) -> list[Tensor]:
        c.floats(c.t())
        x = c.t().value
        made: dict[str, Callable[[], ir.Value]] = {
            "square": lambda: c.node("Mul", [x, x]),
            "rsqrt": lambda: c.node("Reciprocal", [c.node("Sqrt", [x], "root")]),
            "rcbrt": lambda: c.node("Reciprocal", [_cube_root(c, x, "root")]),
            "cbrt": lambda: _cube_root(c, x, ""),
            "expm1": lambda: c.node("Sub", [c.node("Exp", [x], "exp"), c.scalar("one", 1)]),
            "log1p": lambda: c.node("Log", [c.node("Add", [x, c.scalar("one", 1)], "more")]),
            "log2": lambda: c.node("Mul", [c.node("Log", [x], "log"), c.scalar("factor", 1 / math.log(2))]),
            "log10": lambda: c.node("Mul", [c.node("Log", [x], "log"), c.scalar("factor", 1 / math.log(10))]),
            "degrees": lambda: c.node("Mul", [x, c.scalar("factor", 180 / math.pi)]),
            "radians": lambda: c.node("Mul", [x, c.scalar("factor", math.pi / 180)]),
            "rint": lambda: _rounded(c, x, "Greater"),
            "round": lambda: c.node("Mul", [_rounded(c, c.node("Abs", [x], "size"), "GreaterOrEqual", "rounded"),
                                            c.node("Sign", [x], "sign")]),
            "fix": lambda: c.node("Mul", [c.node("Floor", [c.node("Abs", [x], "size")], "whole"),
                                          c.node("Sign", [x], "sign")]),
        }  # fmt: skip
        return [c.like(c.t(), made[name]())]

    return emit


def _cube_root(c: Call, x: ir.Value, tag: str) -> ir.Value:
    power = c.node("Pow", [c.node("Abs", [x], "size"), c.scalar("third", 1 / 3)], "power")
    return c.node("Mul", [power, c.node("Sign", [x], "sign")], tag)


def _rounded(c: Call, x: ir.Value, more: str, tag: str = "") -> ir.Value:
    """The next whole number, of which up where the rest is `more` than a half."""
    floor = c.node("Floor", [x], "floor")
    above = c.node(more, [c.node("Sub", [x, floor], "rest"), c.scalar("half", 0.5)], "above")
    return c.node("Add", [floor, c.node("Cast", [above], "step", to=int(FLOAT))], tag)


def _identity(c: Call) -> list[Tensor]:
    """What only matters in training."""
    c.p.ignore("p", "axes", "cudnn_off", *_LOSS)
    c.p.refuse(mode="training")
    return [c.like(c.t(), c.node("Identity", [c.t().value]))]


def _sum_all(c: Call) -> list[Tensor]:
    c.p.ignore("num_args")
    values = c.all()
    if not values:
        raise Unsupported("it adds nothing")
    c.floats(*values)
    shape = values[0].shape
    for x in values[1:]:
        shape = broadcast(shape, x.shape)
    return [c.tensor(c.node("Sum", [x.value for x in values]), shape)]


def _clip(c: Call) -> list[Tensor]:
    c.floats(c.t())
    bounds = [c.scalar(name, c.p.float(f"a_{name}", 0.0)) for name in ("min", "max")]
    return [c.like(c.t(), c.node("Clip", [c.t().value, *bounds]))]


def _hard_sigmoid(c: Call) -> list[Tensor]:
    return c.unary("HardSigmoid", alpha=c.p.float("alpha", 0.2), beta=c.p.float("beta", 0.5))


def _smooth_l1(c: Call) -> list[Tensor]:
    """(s x)^2 / 2 near 0, |x| - 1 / (2 s^2) beyond 1 / s^2."""
    c.floats(c.t())
    x, square = c.t().value, c.p.float("scalar", 1.0) ** 2
    if square <= 0:
        raise Unsupported("its scalar is 0")
    size = c.node("Abs", [x], "size")
    inner = c.node("Mul", [c.node("Mul", [x, x], "square"), c.scalar("factor", square / 2)], "inner")
    outer = c.node("Sub", [size, c.scalar("shift", 0.5 / square)], "outer")
    near = c.node("LessOrEqual", [size, c.scalar("bound", 1 / square)], "near")
    return [c.like(c.t(), c.node("Where", [near, inner, outer]))]


def _cast(c: Call) -> list[Tensor]:
    dtype = type_of(c.p.text("dtype", "float32"))
    return [c.tensor(c.node("Cast", [c.t().value], to=int(dtype)), c.t().shape, dtype)]


def _by_root_of_width(c: Call) -> list[Tensor]:
    c.floats(c.t())
    size = c.t().known(c.t().axis(-1))[0]
    return [c.like(c.t(), c.node("Div", [c.t().value, c.scalar("root", math.sqrt(size))]))]


def _where(c: Call) -> list[Tensor]:
    chosen, a, b = c.all()
    if chosen.rank != a.rank:
        raise Unsupported(f"it chooses by {text(chosen.shape)} among {text(a.shape)}")
    truth = c.node("Cast", [chosen.value], "truth", to=int(BOOL))
    return [c.tensor(c.node("Where", [truth, a.value, b.value]), broadcast(a.shape, b.shape), a.dtype)]


# Sums, products, choices


def _reduced_axes(c: Call) -> tuple[list[int], bool]:
    x, keep = c.t(), c.p.bool("keepdims", False)
    axes = [x.axis(axis) for axis in c.p.ints("axis")] if c.p.has("axis") else []
    if c.p.bool("exclude", False):
        axes = [axis for axis in range(x.rank) if axis not in axes]
    elif not axes:
        axes = list(range(x.rank))
    return axes, keep


def _reduce(op_type: str) -> Rule:
    def emit(c: Call) -> list[Tensor]:
        return [_reduced(c, op_type, *_reduced_axes(c))]

    return emit


def _reduced(c: Call, op_type: str, axes: list[int], keep: bool) -> Tensor:
    x = c.t()
    c.p.refuse(dtype="None", out_dtype="None")
    value = c.node(op_type, [x.value, c.constant("axes", axes, np.int64)], keepdims=int(keep or len(axes) == x.rank))
    shape = [1 if i in axes else dim for i, dim in enumerate(x.shape) if keep or i not in axes]
    if not keep and len(axes) == x.rank:  # MXNet has no scalars: what is left is [1].
        value = c.node("Reshape", [value, c.constant("one", [1], np.int64)], "flat")
        shape = [1]
    return c.tensor(value, shape, x.dtype)


def _norm(c: Call) -> list[Tensor]:
    order = c.p.int("ord", 2)
    if order not in (1, 2):
        raise Unsupported(f"the norm {order}")
    return [_reduced(c, f"ReduceL{order}", *_reduced_axes(c))]


def _argmax(op_type: str) -> Rule:
    def emit(c: Call) -> list[Tensor]:
        x, keep = c.t(), c.p.bool("keepdims", False)
        if not c.p.has("axis"):
            raise Unsupported("it has no axis")
        axis = x.axis(c.p.int("axis", 0))
        keep = keep or x.rank == 1  # MXNet has no scalars.
        index = c.node(op_type, [x.value], "index", axis=axis, keepdims=int(keep))
        shape = (*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :])
        return [c.tensor(c.node("Cast", [index], to=int(FLOAT)), shape)]

    return emit


def _argmax_channel(c: Call) -> list[Tensor]:
    index = c.node("ArgMax", [c.t().value], "index", axis=1, keepdims=0)
    return [c.tensor(c.node("Cast", [index], to=int(FLOAT)), (*c.t().shape[:1], *c.t().shape[2:]))]


def _embedding(c: Call) -> list[Tensor]:
    rows, size = c.p.int("input_dim", 0), c.p.int("output_dim", 0)
    c.p.text("sparse_grad")
    c.p.refuse(dtype="float32")
    index = _index(c, c.t(0), rows)
    return [c.tensor(c.node("Gather", [c.weight(1, (rows, size)), index], axis=0), (*c.t(0).shape, size))]


def _index(c: Call, x: Tensor, rows: int) -> ir.Value:
    """Indices as whole numbers within the rows: MXNet clips them."""
    index = c.node("Cast", [x.value], "index", to=int(INT64))
    return c.node("Clip", [index, c.scalar("first", 0, INT64), c.scalar("last", rows - 1, INT64)], "inside")


def _take(c: Call) -> list[Tensor]:
    x, index = c.t(0), c.t(1)
    axis = x.axis(c.p.int("axis", 0))
    c.p.refuse(mode="clip")
    value = c.node("Gather", [x.value, _index(c, index, x.known(axis)[0])], axis=axis)
    return [c.tensor(value, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), x.dtype)]


def _one_hot(c: Call) -> list[Tensor]:
    depth = c.p.int("depth", 1)
    c.p.refuse(dtype="float32")
    index = c.node("Cast", [c.t().value], "index", to=int(INT64))
    levels = c.constant("levels", [c.p.float("off_value", 0.0), c.p.float("on_value", 1.0)])
    # ONNX counts negative indices from the end; MXNet has nothing there.
    inside = c.node("Where", [c.node("Less", [index, c.scalar("zero", 0, INT64)], "below"),
                              c.scalar("outside", depth, INT64), index], "at")  # fmt: skip
    value = c.node("OneHot", [inside, c.scalar("depth", depth, INT64), levels], axis=-1)
    return [c.tensor(value, (*c.t().shape, depth))]


def _dot(c: Call) -> list[Tensor]:
    a, b = c.t(0), c.t(1)
    c.p.refuse(forward_stype="None")
    if a.rank != 2 or b.rank != 2:
        raise Unsupported(f"it multiplies inputs of shapes {text(a.shape)} and {text(b.shape)}")
    return [_product_of(c, a, b)]


def _product_of(c: Call, a: Tensor, b: Tensor, tag: str = "") -> Tensor:
    """A matrix product, of transposed matrices where that is asked."""
    order = [*range(a.rank - 2), a.rank - 1, a.rank - 2]
    a = c.transpose(a, order, "left") if c.p.bool("transpose_a", False) else a
    b = c.transpose(b, order, "right") if c.p.bool("transpose_b", False) else b
    inner = (a.shape[-1], b.shape[-2])
    if None not in inner and inner[0] != inner[1]:
        raise Unsupported(f"it multiplies inputs of shapes {text(a.shape)} and {text(b.shape)}")
    return c.tensor(
        c.node("MatMul", [a.value, b.value], tag), (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    )


def _batch_dot(c: Call) -> list[Tensor]:
    a, b = c.t(0), c.t(1)
    c.p.refuse(forward_stype="None", alpha="1.0", axis="-2")
    if a.rank < 3 or a.rank != b.rank:
        raise Unsupported(f"it multiplies inputs of shapes {text(a.shape)} and {text(b.shape)}")
    return [_product_of(c, a, b)]


def _gemm(c: Call) -> list[Tensor]:
    """_linalg_gemm2: alpha times a product."""
    c.p.refuse(axis="-2")
    a, b, alpha = c.t(0), c.t(1), c.p.float("alpha", 1.0)
    if a.rank < 2 or a.rank != b.rank:
        raise Unsupported(f"it multiplies inputs of shapes {text(a.shape)} and {text(b.shape)}")
    found = _product_of(c, a, b, "" if alpha == 1 else "product")
    return [found if alpha == 1 else c.like(found, c.node("Mul", [found.value, c.scalar("alpha", alpha)]))]


def _pick(c: Call) -> list[Tensor]:
    """One element of each row along an axis, by indices, which are clipped."""
    x, keep = c.t(), c.p.bool("keepdims", False)
    c.p.refuse(mode="clip")
    axis = x.axis(c.p.int("axis", -1))
    index = c.t(1)
    inside = _index(c, index, x.known(axis)[0])
    at = c.constant("axes", [axis], np.int64)
    flat = (*x.shape[:axis], *x.shape[axis + 1 :])
    if index.shape == flat:
        inside = c.node("Unsqueeze", [inside, at], "deeper")
    elif index.shape != (*x.shape[:axis], 1, *x.shape[axis + 1 :]):
        raise Unsupported(f"it picks by {text(index.shape)} from {text(x.shape)}")
    value = c.node("GatherElements", [x.value, inside], "" if keep else "picked", axis=axis)
    shape = (*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :])
    if x.rank == 1 and not keep:
        raise Unsupported("it picks from a single row")
    return [c.tensor(value if keep else c.node("Squeeze", [value, at]), shape, x.dtype)]


def _binaries() -> dict[str, Rule]:
    """Elementwise operators under their many names."""
    rules: dict[str, Rule] = {}
    for name, old, op_type in (
        ("add", "plus", "Add"), ("sub", "minus", "Sub"), ("mul", "mul", "Mul"), ("div", "div", "Div"),
        ("power", "power", "Pow"), ("maximum", "maximum", "Max"), ("minimum", "minimum", "Min"),
    ):  # fmt: skip
        title = old.capitalize()
        names = [f"broadcast_{name}", f"elemwise_{name}", f"_{old}", f"_{title}", f"_{old}_scalar", f"_{title}Scalar"]
        rules |= dict.fromkeys(names, _binary(op_type))
        if name in ("sub", "div", "power"):
            rules |= dict.fromkeys((f"_r{old}_scalar", f"_R{title}Scalar"), _binary(op_type, swapped=True))
    for name in ("elemwise_power", "elemwise_maximum", "elemwise_minimum"):
        del rules[name]  # There are no such operators.
    rules |= {"broadcast_plus": _binary("Add"), "broadcast_minus": _binary("Sub"), "_grad_add": _binary("Add")}
    for name, op_type in (("greater", "Greater"), ("greater_equal", "GreaterOrEqual"), ("lesser", "Less"),
                          ("lesser_equal", "LessOrEqual"), ("equal", "Equal")):  # fmt: skip
        rules |= dict.fromkeys((f"broadcast_{name}", f"_{name}", f"_{name}_scalar"), _comparison(op_type))
    names = ["broadcast_not_equal", "_not_equal", "_not_equal_scalar"]
    rules |= dict.fromkeys(names, _comparison("Equal", negated=True))
    for name in ("and", "or", "xor"):
        names = [f"broadcast_logical_{name}", f"_logical_{name}", f"_logical_{name}_scalar"]
        rules |= dict.fromkeys(names, _logical(name.capitalize()))
    rules |= dict.fromkeys(("broadcast_mod", "_mod", "_mod_scalar"), _modulo())
    return rules | {"_rmod_scalar": _modulo(swapped=True)}


RULES: dict[str, Rule] = {
    **_binaries(),
    **{name: _unary(name.capitalize()) for name in (
        "abs", "sqrt", "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sigmoid", "relu", "softsign", "erf",
        "floor", "ceil", "sign", "reciprocal",
    )},
    "arcsin": _unary("Asin"), "arccos": _unary("Acos"), "arctan": _unary("Atan"), "arcsinh": _unary("Asinh"),
    "arccosh": _unary("Acosh"), "arctanh": _unary("Atanh"), "negative": _unary("Neg"),
    **{name: _composed(name) for name in (
        "square", "rsqrt", "cbrt", "rcbrt", "expm1", "log1p", "log2", "log10", "degrees", "radians", "rint", "round",
        "fix",
    )},
    "trunc": _composed("fix"),
    **dict.fromkeys(("BlockGrad", "Dropout", "MakeLoss", "_copy", "identity", "make_loss", "stop_gradient",
                     "LinearRegressionOutput", "MAERegressionOutput", "IdentityAttachKLSparseReg", "SVMOutput"),
                    _identity),
    **dict.fromkeys(("ElementWiseSum", "add_n"), _sum_all),
    **dict.fromkeys(("Cast", "cast"), _cast),
    **dict.fromkeys(("_linalg_gemm2", "linalg_gemm2"), _gemm),
    **dict.fromkeys(("max", "max_axis"), _reduce("ReduceMax")),
    **dict.fromkeys(("min", "min_axis"), _reduce("ReduceMin")),
    **dict.fromkeys(("sum", "sum_axis"), _reduce("ReduceSum")),
    "Embedding": _embedding, "_contrib_div_sqrt_dim": _by_root_of_width, "argmax": _argmax("ArgMax"),
    "argmax_channel": _argmax_channel, "argmin": _argmax("ArgMin"), "batch_dot": _batch_dot, "clip": _clip,
    "dot": _dot, "hard_sigmoid": _hard_sigmoid, "logical_not": _logical_not, "mean": _reduce("ReduceMean"),
    "norm": _norm, "one_hot": _one_hot, "pick": _pick, "prod": _reduce("ReduceProd"), "smooth_l1": _smooth_l1,
    "take": _take, "where": _where,
}  # fmt: skip
"""By the operator's name."""
