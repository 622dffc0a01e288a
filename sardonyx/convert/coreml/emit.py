"""MIL's operations on elements, shapes and axes as ONNX. What they mean: coremltools, converters/mil/mil/ops/defs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.coreml.emit_windows import WINDOWS
from sardonyx.convert.coreml.operations import Emitter, Result, Rule, Tensor, UnsupportedError, ir_type

INT64 = ir.DataType.INT64


def _plain(op_type: str, *keys: str) -> Rule:
    return lambda e: e.node(op_type, [e.value(key) for key in keys])


def _shifted(op_type: str, epsilon: float) -> Rule:
    """Of `x + epsilon`."""

    def rule(e: Emitter) -> ir.Value:
        shift = float(e.const("epsilon", epsilon))
        x = e.value("x")
        return e.node(op_type, [e.node("Add", [x, e.constant("epsilon", shift)], "shifted") if shift else x])

    return rule


def _rsqrt(e: Emitter) -> ir.Value:
    shifted = e.node("Add", [e.value("x"), e.constant("epsilon", float(e.const("epsilon", 1e-12)))], "shifted")
    return e.node("Reciprocal", [e.node("Sqrt", [shifted], "sqrt")])


def _exp2(e: Emitter) -> ir.Value:
    return e.node("Pow", [e.constant("two", 2.0), e.value("x")])


def _square(e: Emitter) -> ir.Value:
    return e.node("Mul", [e.value("x"), e.value("x")])


def _clip(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    return e.node("Clip", [x.value, e.like(x, "min", e.const("alpha")), e.like(x, "max", e.const("beta"))])


def _threshold(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    return e.node("Max", [x.value, e.like(x, "alpha", e.const("alpha"))])


def _relu6(e: Emitter) -> ir.Value:
    return e.node("Clip", [e.value("x"), e.constant("min", 0.0), e.constant("max", 6.0)])


def _linear_activation(e: Emitter) -> ir.Value:
    scaled = e.node("Mul", [e.value("x"), e.constant("alpha", e.const("alpha"))], "scaled")
    return e.node("Add", [scaled, e.constant("beta", e.const("beta", 0.0))])


def _scaled_tanh(e: Emitter) -> ir.Value:
    inner = e.node("Mul", [e.value("x"), e.constant("beta", e.const("beta", 1.0))], "scaled")
    return e.node("Mul", [e.node("Tanh", [inner], "tanh"), e.constant("alpha", e.const("alpha", 1.0))])


def _channelwise(e: Emitter, key: str, x: Tensor) -> ir.Value:
    array = e.array(key).astype(np.float32)
    return e.constant(key, array.reshape(-1, *[1] * (x.rank - 2)) if array.size > 1 else array.reshape(()))


def _softplus_parametric(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    scaled = e.node("Mul", [x.value, _channelwise(e, "beta", x)], "scaled")
    return e.node("Mul", [e.node("Softplus", [scaled], "softplus"), _channelwise(e, "alpha", x)])


def _prelu(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    return e.node("PRelu", [x.value, _channelwise(e, "alpha", x)])


def _clamped_relu(e: Emitter) -> ir.Value:
    leaky = e.node("LeakyRelu", [e.value("x")], "leaky", alpha=float(e.const("alpha")))
    return e.node("Min", [leaky, e.constant("beta", e.const("beta"))])


def _thresholded_relu(e: Emitter) -> ir.Value:
    x = e.value("x")
    above = e.node("GreaterOrEqual", [x, e.constant("alpha", e.const("alpha", 1.0))], "above")
    return e.node("Where", [above, x, e.constant("zero", 0.0)])


def _silu(e: Emitter) -> ir.Value:
    return e.node("Mul", [e.value("x"), e.node("Sigmoid", [e.value("x")], "sigmoid")])


def _gelu(e: Emitter) -> ir.Value:
    mode, x = e.const("mode", "EXACT"), e.value("x")
    if mode == "SIGMOID_APPROXIMATION":
        inner = e.node("Mul", [x, e.constant("scale", 1.702)], "scaled")
        return e.node("Mul", [x, e.node("Sigmoid", [inner], "sigmoid")])
    if mode not in ("EXACT", "TANH_APPROXIMATION"):
        raise UnsupportedError(f"the mode {mode!r} is not known")
    return e.node("Gelu", [x], approximate="none" if mode == "EXACT" else "tanh")


def _softmax(e: Emitter) -> ir.Value:
    return e.node("Softmax", [e.value("x")], axis=int(e.const("axis", -1)))


def _numbers(e: Emitter, defaults: Mapping[str, float]) -> dict[str, Any]:
    return {key: float(e.const(key, default)) for key, default in defaults.items()}


def _activation(op_type: str, **defaults: float) -> Rule:
    return lambda e: e.node(op_type, [e.value("x")], **_numbers(e, defaults))


def _cast(e: Emitter) -> ir.Value:
    x, kind = e.tensor("x"), e.const("dtype")
    names = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}
    dtype = ir_type(names.get(kind, kind))
    if names.get(kind, kind) not in ("float16", "float32", "bool", "int8", "uint8", "int16", "uint16", "int32"):
        raise UnsupportedError(f"casts to {kind!r} are not supported")
    return e.node("Cast", [x.value], to=dtype.value) if ir_type(x.dtype) != dtype else e.node("Identity", [x.value])


def _floor_div(e: Emitter) -> ir.Value:
    x, y = e.tensor("x"), e.tensor("y")
    if x.is_float:
        return e.node("Floor", [e.node("Div", [x.value, y.value], "quotient")])
    # ONNX divides whole numbers towards zero; what is left over has the sign of the divisor.
    rest = e.node("Mod", [x.value, y.value], "rest")
    return e.node("Div", [e.node("Sub", [x.value, rest], "whole"), y.value])


def _real_div(e: Emitter) -> ir.Value:
    if not e.tensor("x").is_float:
        raise UnsupportedError("the quotient of whole numbers is not supported")
    return e.node("Div", [e.value("x"), e.value("y")])


def _mod(e: Emitter) -> ir.Value:
    x, y = e.tensor("x"), e.tensor("y")
    if not x.is_float:
        return e.node("Mod", [x.value, y.value])
    whole = e.node("Floor", [e.node("Div", [x.value, y.value], "quotient")], "floor")
    return e.node("Sub", [x.value, e.node("Mul", [whole, y.value], "whole")])


def _not_equal(e: Emitter) -> ir.Value:
    return e.node("Not", [e.node("Equal", [e.value("x"), e.value("y")], "equal")])


def _logical(op_type: str, *keys: str) -> Rule:
    def rule(e: Emitter) -> ir.Value:
        tensors = [e.tensor(key) for key in keys]
        given = [x.value if x.dtype == "bool" else e.cast(x.value, ir.DataType.BOOL) for x in tensors]
        return e.node(op_type, given)

    return rule


def _select(e: Emitter) -> ir.Value:
    cond = e.tensor("cond")
    test = cond.value if cond.dtype == "bool" else e.cast(cond.value, ir.DataType.BOOL)
    return e.node("Where", [test, e.value("a"), e.value("b")])


# Reductions


def _reduce(op_type: str) -> Rule:
    def rule(e: Emitter) -> ir.Value:
        axes = e.constant("axes", e.ints("axes"), np.int64) if e.has("axes") else None
        x = e.value("x")
        if op_type in ("ReduceLogSum",) and (epsilon := float(e.const("epsilon", 0.0))):
            total = e.node("ReduceSum", [x, axes], "sum", keepdims=int(e.const("keep_dims", False)))
            return e.node("Log", [e.node("Add", [total, e.constant("epsilon", epsilon)], "shifted")])
        return e.node(op_type, [x, axes], keepdims=int(e.const("keep_dims", False)))

    return rule


def _arg(op_type: str) -> Rule:
    def rule(e: Emitter) -> ir.Value:
        attributes: dict[str, Any] = {"axis": int(e.const("axis", -1)), "keepdims": int(e.const("keep_dims", True))}
        found = e.node(op_type, [e.value("x")], "indices", **attributes)
        return _as_output(e, found, e.const("output_dtype", "int32"))

    return rule


def _as_output(e: Emitter, found: ir.Value, wanted: str = "int32") -> ir.Value:
    if e.op.outputs[0].dtype in ("float16", "float32"):
        wanted = "float32"  # a layer of a network, where all numbers are
    if wanted not in ("int32", "uint16", "float32"):
        raise UnsupportedError(f"the output type {wanted!r} is not supported")
    return e.node("Cast", [found], to=ir_type(wanted).value)


# Shapes and axes


def _concat(e: Emitter) -> ir.Value:
    if e.const("interleave", False):
        raise UnsupportedError("interleaved concatenation is not supported")
    return e.node("Concat", [x.value for x in e.tensors("values")], axis=int(e.const("axis")))


def _stack(e: Emitter) -> ir.Value:
    axis = int(e.const("axis"))
    axes = e.constant("axes", [axis], np.int64)
    parts = [e.node("Unsqueeze", [x.value, axes], f"part_{i}") for i, x in enumerate(e.tensors("values"))]
    return e.node("Concat", parts, axis=axis)


def _split(e: Emitter) -> list[ir.Value]:
    axis, count = int(e.const("axis")), len(e.op.outputs)
    sizes = e.ints("split_sizes", ()) if e.has("split_sizes") else []
    given = e.const("num_splits", count)
    if given != count or (sizes and len(sizes) != count):
        raise UnsupportedError(f"it makes {count} parts, not {given if given != count else len(sizes)}")
    split = e.constant("sizes", sizes, np.int64) if sizes else None
    names = [item.name for item in e.op.outputs]
    attributes: dict[str, Any] = {"axis": axis, "num_outputs": None if sizes else count}
    return e.graph.nodes("Split", [e.value("x"), split], names, name=e.name, **attributes)


def _reshape(e: Emitter) -> ir.Value:
    return e.node("Reshape", [e.value("x"), e.indices("shape")])


def _transpose(e: Emitter) -> ir.Value:
    return e.node("Transpose", [e.value("x")], perm=e.ints("perm"))


def _expand_dims(e: Emitter) -> ir.Value:
    return e.node("Unsqueeze", [e.value("x"), e.indices("axes")])


def _squeeze(e: Emitter) -> ir.Value:
    return e.node("Squeeze", [e.value("x"), e.indices("axes") if e.has("axes") else None])


def _flatten2d(e: Emitter) -> ir.Value:
    return e.node("Flatten", [e.value("x")], axis=int(e.const("axis", 1)))


_END = np.iinfo(np.int64).max


def _slice_by_index(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    begin, end = e.ints("begin"), e.ints("end")
    stride = e.ints("stride", [1] * len(begin))
    masks = {key: e.const(key, [False] * len(begin)) for key in ("begin_mask", "end_mask", "squeeze_mask")}
    starts, ends, drop = [], [], []
    for axis, (first, last, step) in enumerate(zip(begin, end, stride, strict=True)):
        squeezed = masks["squeeze_mask"][axis]
        drop += [axis] if squeezed else []
        open_first, open_last = masks["begin_mask"][axis], masks["end_mask"][axis]
        starts.append((_END if step < 0 else 0) if open_first and not squeezed else first)
        # After the last element from behind (-1) comes the end, not the element -1 + 1 = 0.
        after = first + 1 if first != -1 else _END
        ends.append(after if squeezed else (-_END if step < 0 else _END) if open_last else last)
        stride[axis] = 1 if squeezed else step
    given = [e.constant(k, v, np.int64) for k, v in (("starts", starts), ("ends", ends))]
    axes = e.constant("axes", range(len(begin)), np.int64)
    cut = e.node("Slice", [x.value, *given, axes, e.constant("steps", stride, np.int64)], "cut" if drop else "")
    return e.node("Squeeze", [cut, e.constant("squeezed", drop, np.int64)]) if drop else cut


def _slice_by_size(e: Emitter) -> ir.Value:
    begin, size = e.ints("begin"), e.ints("size")
    ends = [_END if extent == -1 else first + extent for first, extent in zip(begin, size, strict=True)]
    given = [e.constant(k, v, np.int64) for k, v in (("starts", begin), ("ends", ends), ("axes", range(len(begin))))]
    return e.node("Slice", [e.value("x"), *given])


def _pad(e: Emitter) -> ir.Value:
    x, amounts, mode = e.tensor("x"), e.ints("pad"), e.const("mode", "constant")
    if mode not in ("constant", "reflect", "replicate"):
        raise UnsupportedError(f"the mode {mode!r} is not known")
    axes = range(x.rank - len(amounts) // 2, x.rank)
    pads = e.constant("pads", [*amounts[::2], *amounts[1::2]], np.int64)
    number = float(e.const("constant_val", 0.0))
    fill = e.like(x, "fill", number) if mode == "constant" else None
    onnx_mode = {"replicate": "edge"}.get(mode, mode)
    return e.node("Pad", [x.value, pads, fill, e.constant("axes", axes, np.int64)], mode=onnx_mode)


def _tile(e: Emitter) -> ir.Value:
    return e.node("Tile", [e.value("x"), e.indices("reps")])


def _gather(e: Emitter) -> ir.Value:
    if e.const("batch_dims", 0):
        raise UnsupportedError("gathering with batch dims is not supported")
    e.const("validate_indices", False)
    return e.node("Gather", [e.value("x"), e.indices("indices")], axis=int(e.const("axis", 0)))


def _gather_along_axis(e: Emitter) -> ir.Value:
    e.const("validate_indices", False)
    return e.node("GatherElements", [e.value("x"), e.indices("indices")], axis=int(e.const("axis", 0)))


def _gather_nd(e: Emitter) -> ir.Value:
    e.const("validate_indices", False)
    return e.node("GatherND", [e.value("x"), e.indices("indices")], batch_dims=int(e.const("batch_dims", 0)))


_SCATTERS = {"update": "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _scatter(op_type: str) -> Rule:
    def rule(e: Emitter) -> ir.Value:
        mode = e.const("mode", "add")
        if mode not in _SCATTERS:
            raise UnsupportedError(f"the mode {mode!r} is not supported")
        e.const("validate_indices", False)
        given = [e.value("data"), e.indices("indices"), e.value("updates")]
        axis = int(e.const("axis", 0)) if op_type == "ScatterElements" else None
        return e.node(op_type, given, reduction=_SCATTERS[mode], axis=axis)

    return rule


def _fill(e: Emitter) -> ir.Value:
    value = e.array("value") if e.has("value") else np.zeros((), np.float32)
    value = value.astype(np.float32) if value.dtype.kind == "f" else value
    return e.node("Expand", [e.constant("value", value.reshape(()), value.dtype), e.indices("shape")])


def _fill_like(e: Emitter) -> ir.Value:
    value = e.array("value") if e.has("value") else np.zeros((), np.float32)
    value = value.astype(np.float32) if value.dtype.kind == "f" else value
    shape = e.node("Shape", [e.value("ref_tensor")], "shape")
    return e.node("Expand", [e.constant("value", value.reshape(()), value.dtype), shape])


def _broadcast_to(e: Emitter) -> ir.Value:
    return e.node("Expand", [e.value("x"), e.indices("shape")])


def _range(e: Emitter) -> ir.Value:
    return e.node("Range", [e.value("start"), e.value("end"), e.value("step")])


def _shape(e: Emitter) -> ir.Value:
    return _as_output(e, e.node("Shape", [e.value("x")], "dims"))


def _reverse(e: Emitter) -> ir.Value:
    x = e.tensor("x")
    axes = e.ints("axes") if e.has("axes") else list(range(x.rank))
    lists = (("starts", [-1] * len(axes)), ("ends", [-_END] * len(axes)), ("axes", axes), ("steps", [-1] * len(axes)))
    return e.node("Slice", [x.value, *(e.constant(key, values, np.int64) for key, values in lists)])


def _cumsum(e: Emitter) -> ir.Value:
    flags: dict[str, Any] = {key: int(e.const(key, False)) for key in ("exclusive", "reverse")}
    return e.node("CumSum", [e.value("x"), e.constant("axis", int(e.const("axis", 0)), np.int64)], **flags)


def _one_hot(e: Emitter) -> ir.Value:
    on, off = (np.asarray(e.const(key, number)) for key, number in (("on_value", 1), ("off_value", 0)))
    dtype = np.float32 if e.op.outputs[0].dtype in ("float16", "float32") else np.int32
    values = e.constant("values", [off.item(), on.item()], dtype)
    depth = e.constant("depth", int(e.const("one_hot_vector_size")), np.int64)
    return e.node("OneHot", [e.indices("indices"), depth, values], axis=int(e.const("axis", -1)))


def _topk(e: Emitter) -> list[ir.Value]:
    if not e.const("sort", True) or not e.const("return_indices", True):
        raise UnsupportedError("unsorted results and those without indices are not supported")
    count = e.constant("k", [int(e.const("k", 1))], np.int64)
    return _sorted(e, count, int(not e.const("ascending", False)), e.const("output_indices_dtype", "int32"))


def _sorted(e: Emitter, count: ir.Value, largest: int, indices: str) -> list[ir.Value]:
    axis = int(e.const("axis", -1))
    values, found = e.graph.nodes("TopK", [e.value("x"), count], 2, name=e.name, axis=axis, largest=largest)
    is_float = len(e.op.outputs) > 1 and e.op.outputs[1].dtype in ("float16", "float32")
    dtype = ir_type("float32" if is_float else indices)
    return [values, e.node("Cast", [found], "indices", to=dtype.value)]


def _argsort(e: Emitter) -> ir.Value:
    axis = int(e.const("axis", -1))
    size = e.node("Gather", [e.node("Shape", [e.value("x")], "shape"), e.constant("axis", [axis], np.int64)], "size")
    largest = int(not e.const("ascending", False))
    found = e.graph.nodes("TopK", [e.value("x"), size], 2, name=f"{e.name}/sorted", axis=axis, largest=largest)[1]
    return _as_output(e, found, e.const("output_dtype", "int32"))


def _band_part(e: Emitter) -> ir.Value:
    x, lower, upper = e.value("x"), int(e.const("lower", -1)), int(e.const("upper", -1))
    if upper >= 0:
        x = e.node("Trilu", [x, e.constant("upper", upper, np.int64)], "low", upper=0)
    if lower >= 0:
        x = e.node("Trilu", [x, e.constant("lower", -lower, np.int64)], "high", upper=1)
    return e.node("Identity", [x])


def _non_zero(e: Emitter) -> ir.Value:
    found = e.node("Transpose", [e.node("NonZero", [e.value("x")], "found")], "rows", perm=[1, 0])
    return e.node("Cast", [found], to=ir.DataType.INT32.value)


def _classify(e: Emitter) -> list[ir.Value]:
    classes, given = e.op.inputs["classes"], e.tensor("probabilities")
    e.asked.add("classes")
    if not isinstance(classes, np.ndarray):
        raise UnsupportedError("its classes are computed, expected a constant")
    flat = given.value
    if given.rank > 1:
        flat = e.node("Reshape", [flat, e.constant("flat", [-1, classes.size], np.int64)], "flat")
    best = e.node("ArgMax", [flat], "best", axis=-1, keepdims=0)
    if classes.dtype.kind not in "OUi":
        raise UnsupportedError(f"classes of type {classes.dtype} are not supported")
    names = classes.astype(np.int64 if classes.dtype.kind == "i" else object)
    return [e.node("Gather", [e.constant("classes", names, names.dtype), best]), e.node("Identity", [flat], "scores")]


def _attention(e: Emitter) -> ir.Value:
    query, key = e.tensor("query"), e.tensor("key")
    width = (query.shape or (None,))[-1]
    if width is None:
        raise UnsupportedError("the width of its queries is not known")
    order = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    scores = e.node("MatMul", [query.value, e.graph.transpose(key.value, order, name=f"{e.name}/keys")], "products")
    scores = e.node("Mul", [scores, e.constant("scale", 1 / math.sqrt(width))], "scores")
    if e.has("attn_mask"):
        mask = e.tensor("attn_mask")
        if mask.dtype == "bool":
            scores = e.node("Where", [mask.value, scores, e.constant("masked", -np.inf)], "kept")
        else:
            scores = e.node("Add", [scores, mask.value], "masked")
    return e.node("MatMul", [e.node("Softmax", [scores], "weights", axis=-1), e.value("value")])


_UNARY = {
    "abs": "Abs", "acos": "Acos", "asin": "Asin", "atan": "Atan", "atanh": "Atanh", "acosh": "Acosh",
    "asinh": "Asinh", "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "erf": "Erf", "exp": "Exp", "floor": "Floor",
    "round": "Round", "sign": "Sign", "sin": "Sin", "sinh": "Sinh", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh",
    "sigmoid": "Sigmoid", "relu": "Relu", "softplus": "Softplus", "softsign": "Softsign", "identity": "Identity",
}  # fmt: skip
_BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "maximum": "Max", "minimum": "Min", "pow": "Pow", "equal": "Equal",
    "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater", "greater_equal": "GreaterOrEqual",
}  # fmt: skip
_REDUCTIONS = {
    "sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd",
    "sum_square": "ReduceSumSquare", "log_sum": "ReduceLogSum", "log_sum_exp": "ReduceLogSumExp",
    "l1_norm": "ReduceL1", "l2_norm": "ReduceL2",
}  # fmt: skip

_OTHERS: dict[str, Callable[[Emitter], Result]] = {
    "log": _shifted("Log", 1e-45), "inverse": _shifted("Reciprocal", 1e-4), "rsqrt": _rsqrt, "exp2": _exp2,
    "square": _square, "clip": _clip, "threshold": _threshold, "relu6": _relu6,
    "linear_activation": _linear_activation, "scaled_tanh": _scaled_tanh, "softplus_parametric": _softplus_parametric,
    "prelu": _prelu, "clamped_relu": _clamped_relu, "thresholded_relu": _thresholded_relu, "silu": _silu,
    "gelu": _gelu, "softmax": _softmax, "leaky_relu": _activation("LeakyRelu", alpha=0.01),
    "elu": _activation("Elu", alpha=1.0), "sigmoid_hard": _activation("HardSigmoid", alpha=0.2, beta=0.5),
    "cast": _cast, "floor_div": _floor_div, "real_div": _real_div, "mod": _mod, "not_equal": _not_equal,
    "logical_and": _logical("And", "x", "y"), "logical_or": _logical("Or", "x", "y"),
    "logical_xor": _logical("Xor", "x", "y"), "logical_not": _logical("Not", "x"), "select": _select,
    "reduce_argmax": _arg("ArgMax"), "reduce_argmin": _arg("ArgMin"), "concat": _concat, "stack": _stack,
    "split": _split, "reshape": _reshape, "transpose": _transpose, "expand_dims": _expand_dims, "squeeze": _squeeze,
    "flatten2d": _flatten2d, "slice_by_index": _slice_by_index, "slice_by_size": _slice_by_size, "pad": _pad,
    "tile": _tile, "gather": _gather, "gather_along_axis": _gather_along_axis, "gather_nd": _gather_nd,
    "scatter_nd": _scatter("ScatterND"), "scatter_along_axis": _scatter("ScatterElements"), "fill": _fill,
    "fill_like": _fill_like, "broadcast_to": _broadcast_to, "range_1d": _range, "shape": _shape,
    "reverse": _reverse, "cumsum": _cumsum, "one_hot": _one_hot, "topk": _topk, "argsort": _argsort,
    "band_part": _band_part, "non_zero": _non_zero, "classify": _classify,
    "scaled_dot_product_attention": _attention,
}  # fmt: skip

OPERATIONS: dict[str, Rule] = {
    **{kind: _plain(op_type, "x") for kind, op_type in _UNARY.items()},
    **{kind: _plain(op_type, "x", "y") for kind, op_type in _BINARY.items()},
    **{f"reduce_{kind}": _reduce(op_type) for kind, op_type in _REDUCTIONS.items()},
    **_OTHERS,
    **WINDOWS,
}
"""What writes each kind of operation."""
