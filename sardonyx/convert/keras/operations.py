"""Functions used as layers: Keras 3's operations (`x + y` in a functional model) and TensorFlow's in Keras 2.

A row names the function's parameters and what emits it; parameters come from the call, by place or by name, and in
Keras 3 from the operation's configuration too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.keras.activations import FUNCTIONS
from sardonyx.convert.keras.base import Emitter, Plan, Settings, Tensor, UnsupportedError, brief, text
from sardonyx.convert.keras.layers import INT64_MAX, same_layout

BOOL, FLOAT = ir.DataType.BOOL, ir.DataType.FLOAT
_FLOATS = {FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16}

Given = Mapping[str, Any]
Build = Callable[[Emitter, Given], Tensor]


def _operation(parameters: str, build: Build) -> Callable[[Settings], Plan]:
    names = parameters.split()

    def read(options: Settings) -> Plan:
        options.get("function")
        if "dtype" in names:
            options.dtype_is_free()
        fixed = {name: options.get(name) for name in names if options.get(name) is not None}

        def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
            if len(e.args) > len(names):
                raise UnsupportedError(f"it has {len(e.args)} arguments, expected {len(names)}")
            return build(e, fixed | dict(zip(names, e.args, strict=False)) | dict(e.arguments))

        arguments = frozenset({*names, "name"})
        return Plan(emit, inputs=None, takes="anything", arguments=arguments, constants=True)

    return read


def _tensor(e: Emitter, given: Given, name: str) -> Tensor:
    value = given.get(name)
    if not isinstance(value, Tensor):
        raise UnsupportedError(f"its argument {name} = {brief(value)} is no tensor")
    return e.cast(value) if value.dtype in _FLOATS else value


def _float(e: Emitter, given: Given, name: str) -> Tensor:
    return e.cast(_tensor(e, given, name))


def _number(given: Given, name: str) -> float:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnsupportedError(f"its argument {name} = {brief(value)} is no number")
    return float(value)


def _axes(x: Tensor, value: Any, name: str = "axis") -> list[int]:
    """Axes of `x` as Keras counts them, in order; None: all."""
    if value is None:
        return list(range(x.rank))
    values = list(value) if isinstance(value, tuple | list) else [value]
    if not all(isinstance(axis, int) and not isinstance(axis, bool) for axis in values):
        raise UnsupportedError(f"its argument {name} = {brief(value)} is not an axis or a list of axes")
    for axis in values:
        x.axis(axis)
    return sorted({axis % x.rank for axis in values})


def _axis(x: Tensor, value: Any, name: str = "axis") -> int:
    (axis,) = _axes(x, (value,), name)
    return axis


def _pair(e: Emitter, given: Given, a: str, b: str, *, floats: bool = False) -> list[Tensor]:
    """Two operands in one layout and type; a number takes the other's type, or float32 where that cannot hold it."""
    values = [given.get(a), given.get(b)]
    tensors = [_tensor(e, given, name) for name in (a, b) if isinstance(given.get(name), Tensor)]
    if not tensors:
        raise UnsupportedError("none of its arguments is a tensor")
    dtypes = {x.dtype for x in tensors}
    try:
        arrays = [np.asarray(v) for v in values if not isinstance(v, Tensor)]
    except (ValueError, OverflowError):
        raise UnsupportedError(f"its arguments {brief(values)} are not numbers") from None
    if any(array.dtype.kind not in "bif" or array.ndim > 8 for array in arrays):
        raise UnsupportedError(f"its arguments {brief(values)} are not numbers")
    whole = (
        not floats and len(dtypes) == 1 and not dtypes & _FLOATS and all(array.dtype.kind in "bi" for array in arrays)
    )
    dtype = tensors[0].dtype if whole else FLOAT
    tensors = [e.cast(x, dtype) for x in tensors]
    if any(array.ndim for array in arrays) or len({x.rank for x in tensors}) > 1:
        tensors = [e.plain(x) for x in tensors]
    else:
        tensors = same_layout(e, tensors)
    left = iter(tensors)
    constants = iter(arrays)
    found = []
    for name, value in zip((a, b), values, strict=True):
        if isinstance(value, Tensor):
            found.append(next(left))
        else:
            array = next(constants)
            found.append(Tensor(e.constant(name, array, dtype.numpy().type), array.shape))
    return found


def _broadcast(tensors: Sequence[Tensor]) -> tuple[tuple[int | None, ...], bool]:
    """The shape of NumPy's broadcasting, and whether the result is moved."""
    rank = max(x.rank for x in tensors)
    shapes = [(1,) * (rank - x.rank) + x.shape for x in tensors]
    result: list[int | None] = []
    for dims in zip(*shapes, strict=True):
        sizes = {dim for dim in dims if dim not in (1, None)}
        if len(sizes) > 1:
            raise UnsupportedError(f"its inputs do not broadcast: {', '.join(text(s) for s in shapes)}")
        result.append(sizes.pop() if sizes else None if None in dims else 1)
    return tuple(result), any(x.moved for x in tensors)


def _binary(op_type: str, a: str, b: str, *, floats: bool = False, result: ir.DataType | None = None) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        pair = _pair(e, given, a, b, floats=floats)
        if pair[0].dtype == BOOL and op_type not in ("And", "Or", "Equal", "NotEqual"):
            raise UnsupportedError("arithmetic with truth values is not supported")
        shape, moved = _broadcast(pair)
        operands = [x.value for x in pair]
        dtype = result or pair[0].dtype
        if op_type == "NotEqual":
            value = e.node("Not", [e.node("Equal", operands, tag="equal")])
        else:
            value = e.node(op_type, operands)
        return e.tensor(value, shape, moved=moved, dtype=dtype)

    return build


def _logical(op_type: str, a: str, b: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        if any(not isinstance(given.get(name), Tensor) or given[name].dtype != BOOL for name in (a, b)):
            raise UnsupportedError("its arguments are not truth values")
        return _binary(op_type, a, b)(e, given)

    return build


def _unary(op_type: str, x: str, **attributes: Any) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        tensor = _float(e, given, x)
        return e.like(tensor, e.node(op_type, [tensor.value], **attributes))

    return build


def _not(e: Emitter, given: Given) -> Tensor:
    x = e.cast(_tensor(e, given, "x"), BOOL)
    return e.like(x, e.node("Not", [x.value]))


def _rsqrt(e: Emitter, given: Given) -> Tensor:
    x = _float(e, given, "x")
    return e.like(x, e.node("Reciprocal", [e.node("Sqrt", [x.value], tag="root")]))


def _square(e: Emitter, given: Given) -> Tensor:
    x = _float(e, given, "x")
    return e.like(x, e.node("Mul", [x.value, x.value]))


def _function(name: str, x: str) -> Build:
    """An activation that takes nothing else."""
    return lambda e, given: FUNCTIONS[name](e, _float(e, given, x), "")


def _gelu(e: Emitter, given: Given) -> Tensor:
    x = _float(e, given, "x")
    about = given.get("approximate")
    if about not in (None, True, False):
        raise UnsupportedError(f"its argument approximate = {brief(about)} is not true or false")
    return e.like(x, e.node("Gelu", [x.value], approximate="tanh" if about else "none"))


def _leaky(e: Emitter, given: Given) -> Tensor:
    x = _float(e, given, "x")
    return e.like(
        x, e.node("LeakyRelu", [x.value], alpha=_number({"negative_slope": 0.2} | dict(given), "negative_slope"))
    )


def _elu(e: Emitter, given: Given) -> Tensor:
    x = _float(e, given, "x")
    return e.like(x, e.node("Elu", [x.value], alpha=_number({"alpha": 1.0} | dict(given), "alpha")))


def _filled(number: int) -> Build:
    """ZerosLike and OnesLike."""

    def build(e: Emitter, given: Given) -> Tensor:
        x = _tensor(e, given, "x")
        dtype = x.dtype if given.get("dtype") is None else _type(given["dtype"])
        shape = e.node("Shape", [x.value], tag="shape")
        value = e.node("Expand", [e.constant("number", number, dtype.numpy().type), shape])
        return e.tensor(value, x.shape, moved=x.moved, dtype=dtype)

    return build


def _softmax(op_type: str, x: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        tensor = _float(e, given, x)
        axis = -1 if given.get("axis") is None else given["axis"]
        return e.like(tensor, e.node(op_type, [tensor.value], axis=tensor.axis(_axis(tensor, axis))))

    return build


def _clip(low: str, high: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        x = _float(e, given, "x")
        limits = [e.constant(name, _number(given, name)) for name in (low, high)]
        return e.like(x, e.node("Clip", [x.value, *limits]))

    return build


def _reduction(op_type: str, x: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        tensor = _tensor(e, given, x)
        if op_type == "ReduceMean" or tensor.dtype not in (FLOAT, ir.DataType.INT32, ir.DataType.INT64):
            tensor = e.cast(tensor)
        over = _axes(tensor, given.get("axis"))
        if 0 in over:
            raise UnsupportedError("it reduces over the batch")
        keep = given.get("keepdims") is True
        tensor = tensor if keep else e.plain(tensor)
        held = e.constant("axes", [tensor.axis(axis) for axis in over], np.int64)
        value = e.node(op_type, [tensor.value, held], keepdims=int(keep))
        dims = [1 if axis in over else dim for axis, dim in enumerate(tensor.shape) if keep or axis not in over]
        return e.tensor(value, dims, moved=tensor.moved, dtype=tensor.dtype)

    return build


def _truth(op_type: str) -> Build:
    """Any and all."""

    def build(e: Emitter, given: Given) -> Tensor:
        x = e.cast(e.cast(_tensor(e, given, "x"), BOOL))
        y = _reduction(op_type, "x")(e.inner(e.graph, "numbers"), {**given, "x": x})
        return e.tensor(e.node("Cast", [y.value], to=int(BOOL)), y.shape, moved=y.moved, dtype=BOOL)

    return build


def _reshape(x: str, shape: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        tensor = e.plain(_tensor(e, given, x))
        wanted = given.get(shape)
        if (
            not isinstance(wanted, tuple | list)
            or not all(d is None or isinstance(d, int) for d in wanted)
            or not wanted
        ):
            raise UnsupportedError(f"its argument {shape} = {brief(wanted)} is not a shape of numbers")
        dims = [-1 if dim is None else dim for dim in wanted]
        known = [dim for dim in tensor.shape if dim is not None]
        total = math.prod(known) if len(known) == tensor.rank else None
        rest = math.prod(dim for dim in dims if dim != -1)
        rows = tensor.shape[1:]
        if dims.count(-1) > 1 or any(dim < -1 or dim == 0 for dim in dims):
            raise UnsupportedError(f"its argument {shape} = {brief(wanted)} is not a shape with at most one -1")
        if total is None and (dims[0] != -1 or None in rows or math.prod(d or 0 for d in rows) != rest):
            raise UnsupportedError(
                f"reshaping {text(tensor.shape)} to {dims} would mix samples or depend on their number"
            )
        if total is not None and (total % rest if -1 in dims else total != rest):
            raise UnsupportedError(f"an input of {text(tensor.shape)} cannot be reshaped to {dims}")
        declared = [(None if total is None else total // rest) if dim == -1 else dim for dim in dims]
        value = e.node("Reshape", [tensor.value, e.constant("shape", dims, np.int64)])
        return e.tensor(value, declared, dtype=tensor.dtype)

    return build


def _transpose(x: str, axes: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        tensor = e.plain(_tensor(e, given, x))
        wanted = given.get(axes)
        order = list(wanted) if isinstance(wanted, tuple | list) else list(reversed(range(tensor.rank)))
        if (
            not all(isinstance(axis, int) for axis in order)
            or sorted(order) != list(range(tensor.rank))
            or order[0] != 0
        ):
            raise UnsupportedError(f"its argument {axes} = {brief(wanted)} moves the batch or does not order the axes")
        value = e.graph.transpose(tensor.value, order, name=e.name)
        return e.tensor(value, [tensor.shape[axis] for axis in order], dtype=tensor.dtype)

    return build


def _expand_dims(x: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        tensor = e.plain(_tensor(e, given, x))
        axis = given.get("axis")
        place = axis + tensor.rank + 1 if isinstance(axis, int) and axis < 0 else axis
        if not isinstance(place, int) or not 0 < place <= tensor.rank:
            raise UnsupportedError(f"its argument axis = {brief(axis)} is not a place after the batch")
        value = e.node("Unsqueeze", [tensor.value, e.constant("axes", [place], np.int64)])
        return e.tensor(value, (*tensor.shape[:place], 1, *tensor.shape[place:]), dtype=tensor.dtype)

    return build


def _squeeze(x: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        tensor = e.plain(_tensor(e, given, x))
        axis = given.get("axis")
        over = [i for i, dim in enumerate(tensor.shape) if dim == 1] if axis is None else _axes(tensor, axis)
        if any(tensor.shape[i] != 1 for i in over) or 0 in over:
            raise UnsupportedError(f"{text(tensor.shape)} cannot be squeezed along {over}")
        value = e.node("Squeeze", [tensor.value, e.constant("axes", over, np.int64)])
        return e.tensor(value, [dim for i, dim in enumerate(tensor.shape) if i not in over], dtype=tensor.dtype)

    return build


def _several(e: Emitter, given: Given, name: str) -> list[Tensor]:
    values = given.get(name)
    if not isinstance(values, tuple) or not values or not all(isinstance(x, Tensor) for x in values):
        raise UnsupportedError(f"its argument {name} is not a list of tensors")
    dtypes = {x.dtype for x in values}
    same = len(dtypes) == 1 and not dtypes & _FLOATS
    return [e.plain(x if same else e.cast(x)) for x in values]


def _joined(name: str, *, stack: bool) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        xs = _several(e, given, name)
        axis = given.get("axis")
        axis = 0 if axis is None and stack else -1 if axis is None else axis
        if stack:
            each = _expand_dims("x")
            xs = [each(e.inner(e.graph, f"part_{i}"), {"x": x, "axis": axis}) for i, x in enumerate(xs)]
        if len({x.rank for x in xs}) > 1:
            raise UnsupportedError(f"its inputs differ in rank: {', '.join(text(x.shape) for x in xs)}")
        along = _axis(xs[0], axis)
        shapes = [(*x.shape[:along], *x.shape[along + 1 :]) for x in xs]
        if along == 0 or any(len(set(dims) - {None}) > 1 for dims in zip(*shapes, strict=True)):
            raise UnsupportedError(f"its inputs do not fit together: {', '.join(text(x.shape) for x in xs)}")
        sizes = [x.shape[along] for x in xs]
        shape = list(xs[0].shape)
        shape[along] = None if None in sizes else sum(size or 0 for size in sizes)
        return e.tensor(e.node("Concat", [x.value for x in xs], axis=along), shape, dtype=xs[0].dtype)

    return build


def _get_item(x: str, key: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        tensor = e.plain(_tensor(e, given, x))
        items = list(given[key]) if isinstance(given.get(key), tuple) else [given.get(key)]
        count = sum(item is not ... and item is not None for item in items)
        if items.count(...) > 1 or count > tensor.rank:
            raise UnsupportedError(f"the index {brief(items)} does not fit {text(tensor.shape)}")
        if ... not in items:
            items.append(...)
        at = items.index(...)
        items[at : at + 1] = [slice(None)] * (tensor.rank - count)
        return _sliced(e, tensor, items)

    return build


def _sliced(e: Emitter, x: Tensor, items: Sequence[Any]) -> Tensor:
    """NumPy's basic indexing, one item an axis (None: a new one)."""
    bounds: list[tuple[int, int, int, int]] = []
    dropped: list[int] = []
    added: list[int] = []
    shape: list[int | None] = []
    axis = 0
    for item in items:
        if item is None:
            added.append(len(shape))
            shape.append(1)
            continue
        dim = x.shape[axis]
        part = _part(item)
        if part != slice(None):
            if axis == 0:
                raise UnsupportedError("it takes a part of the batch")
            step = 1 if part.step is None else part.step
            start = part.start if part.start is not None else (0 if step > 0 else -1)
            stop = part.stop if part.stop is not None else (INT64_MAX if step > 0 else -INT64_MAX)
            bounds.append((start, stop, axis, step))
            dim = None if dim is None else len(range(*part.indices(dim)))
        if isinstance(item, int):
            if dim not in (None, 1):
                raise UnsupportedError(f"the index {item} is out of range for {text(x.shape)}")
            dropped.append(axis)
        else:
            shape.append(dim)
        axis += 1
    value = x.value
    if bounds:
        columns = zip(("starts", "ends", "axes", "steps"), zip(*bounds, strict=True), strict=True)
        operands = [e.constant(tag, list(column), np.int64) for tag, column in columns]
        value = e.node("Slice", [value, *operands], tag="part" if dropped or added else "")
    if dropped:
        value = e.node("Squeeze", [value, e.constant("dropped", dropped, np.int64)], tag="squeeze" if added else "")
    if added:
        value = e.node("Unsqueeze", [value, e.constant("added", added, np.int64)])
    return x if value is x.value else e.tensor(value, shape, dtype=x.dtype)


def _part(item: Any) -> slice:
    """An index of one axis as a slice; a number as the slice of one element."""
    if isinstance(item, int) and not isinstance(item, bool):
        return slice(item, None if item == -1 else item + 1, None)
    bounds = (item.start, item.stop, item.step) if isinstance(item, slice) else ("none",)
    if not all(n is None or (isinstance(n, int) and not isinstance(n, bool)) for n in bounds) or 0 in bounds[2:]:
        raise UnsupportedError(f"the index {brief(item)} is no number or slice")
    return slice(*bounds)


def _matmul(a: str, b: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        x, y = (e.plain(_float(e, given, name)) for name in (a, b))
        if given.get("transpose_a") or given.get("transpose_b"):
            raise UnsupportedError("transposed operands are not supported")
        if x.rank != y.rank or x.rank < 3 or (x.shape[-1] != y.shape[-2]):
            raise UnsupportedError(f"the product of {text(x.shape)} and {text(y.shape)} is not supported")
        front, _ = _broadcast([Tensor(x.value, x.shape[:-2]), Tensor(y.value, y.shape[:-2])])
        return e.tensor(e.node("MatMul", [x.value, y.value]), (*front, x.shape[-2], y.shape[-1]))

    return build


_TYPES = {"float32": FLOAT, "int32": ir.DataType.INT32, "int64": ir.DataType.INT64, "bool": BOOL}


def _cast(x: str) -> Build:
    def build(e: Emitter, given: Given) -> Tensor:
        return e.cast(_tensor(e, given, x), _type(given.get("dtype")))

    return build


def _type(name: Any) -> ir.DataType:
    if not isinstance(name, str) or name not in _TYPES:
        raise UnsupportedError(f"the type {brief(name)} is not supported")
    return _TYPES[name]


def _same(x: str) -> Build:
    return lambda e, given: _tensor(e, given, x)


_UNARY = {
    "abs": ("Abs", "Absolute"),
    "ceil": ("Ceil", "Ceil"),
    "cos": ("Cos", "Cos"),
    "exp": ("Exp", "Exp"),
    "floor": ("Floor", "Floor"),
    "log": ("Log", "Log"),
    "negative": ("Neg", "Negative"),
    "reciprocal": ("Reciprocal", "Reciprocal"),
    "sign": ("Sign", "Sign"),
    "sin": ("Sin", "Sin"),
    "sqrt": ("Sqrt", "Sqrt"),
    "tanh": ("Tanh", "Tanh"),
    "erf": ("Erf", "Erf"),
}
_ACTIVATIONS = {
    "hard_silu": "HardSilu",
    "relu": "Relu",
    "relu6": "Relu6",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "silu": "Silu",
    "softplus": "Softplus",
    "softsign": "Softsign",
}
_BINARY = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Maximum": "Max", "Minimum": "Min"}
_COMPARED = {
    "Equal": "Equal",
    "NotEqual": "NotEqual",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
}
_REDUCED = {"Mean": "ReduceMean", "Sum": "ReduceSum", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd"}

_KERAS: dict[str, tuple[str, Build]] = {
    **{name: ("x1 x2", _binary(op, "x1", "x2")) for name, op in _BINARY.items()},
    **{name: ("x1 x2", _binary(op, "x1", "x2", result=BOOL)) for name, op in _COMPARED.items()},
    "Divide": ("x1 x2", _binary("Div", "x1", "x2", floats=True)),
    "TrueDivide": ("x1 x2", _binary("Div", "x1", "x2", floats=True)),
    "Power": ("x1 x2", _binary("Pow", "x1", "x2", floats=True)),
    "LogicalAnd": ("x1 x2", _logical("And", "x1", "x2")),
    "LogicalOr": ("x1 x2", _logical("Or", "x1", "x2")),
    "LogicalNot": ("x", _not),
    **{name: ("x", _unary(op, "x")) for op, name in _UNARY.values()},
    **{name: ("x", _function(function, "x")) for function, name in _ACTIVATIONS.items()},
    "HardSigmoid": ("x", _function("hard_sigmoid_3", "x")),
    "Elu": ("x alpha", _elu),
    "Gelu": ("x approximate", _gelu),
    "LeakyRelu": ("x negative_slope", _leaky),
    "Softmax": ("x axis", _softmax("Softmax", "x")),
    "LogSoftmax": ("x axis", _softmax("LogSoftmax", "x")),
    "Rsqrt": ("x", _rsqrt),
    "Square": ("x", _square),
    "Clip": ("x x_min x_max", _clip("x_min", "x_max")),
    **{name: ("x axis keepdims", _reduction(op, "x")) for name, op in _REDUCED.items()},
    "Any": ("x axis keepdims", _truth("ReduceMax")),
    "All": ("x axis keepdims", _truth("ReduceMin")),
    "Cast": ("x dtype", _cast("x")),
    "Concatenate": ("xs axis", _joined("xs", stack=False)),
    "ExpandDims": ("x axis", _expand_dims("x")),
    "OnesLike": ("x dtype", _filled(1)),
    "ZerosLike": ("x dtype", _filled(0)),
    "GetItem": ("x key", _get_item("x", "key")),
    "Matmul": ("x1 x2", _matmul("x1", "x2")),
    "Reshape": ("x newshape", _reshape("x", "newshape")),
    "Squeeze": ("x axis", _squeeze("x")),
    "Stack": ("x axis", _joined("x", stack=True)),
    "Transpose": ("x axes", _transpose("x", "axes")),
}

_TENSORFLOW: dict[str, tuple[str, Build]] = {
    **{f"math.{name.lower()}": ("x y", _binary(op, "x", "y")) for name, op in _BINARY.items()},
    **{f"__operators__.{op.lower()}": ("x y", _binary(op, "x", "y")) for op in ("Add", "Sub", "Mul")},
    "math.truediv": ("x y", _binary("Div", "x", "y", floats=True)),
    "math.divide": ("x y", _binary("Div", "x", "y", floats=True)),
    "__operators__.truediv": ("x y", _binary("Div", "x", "y", floats=True)),
    "math.pow": ("x y", _binary("Pow", "x", "y", floats=True)),
    **{f"math.{name}": ("x", _unary(op, "x")) for name, (op, _) in _UNARY.items()},
    **{f"nn.{name}": ("features", _function(name, "features")) for name in
       ("elu", "relu", "relu6", "selu", "silu", "softplus", "softsign")},
    "nn.swish": ("features", _function("silu", "features")),
    "nn.sigmoid": ("x", _function("sigmoid", "x")),
    "nn.tanh": ("x", _unary("Tanh", "x")),
    "math.sigmoid": ("x", _function("sigmoid", "x")),
    "nn.gelu": ("x approximate", _gelu),
    "nn.softmax": ("logits axis", _softmax("Softmax", "logits")),
    "nn.log_softmax": ("logits axis", _softmax("LogSoftmax", "logits")),
    "math.rsqrt": ("x", _rsqrt),
    "math.square": ("x", _square),
    "clip_by_value": ("x clip_value_min clip_value_max", _clip("clip_value_min", "clip_value_max")),
    **{f"math.reduce_{name.lower()}": ("input_tensor axis keepdims", _reduction(op, "input_tensor"))
       for name, op in _REDUCED.items()},
    "__operators__.getitem": ("x slice_spec", _get_item("x", "slice_spec")),
    "cast": ("x dtype", _cast("x")),
    "concat": ("values axis", _joined("values", stack=False)),
    "convert_to_tensor": ("value", _same("value")),
    "expand_dims": ("input axis", _expand_dims("input")),
    "identity": ("input", _same("input")),
    "linalg.matmul": ("a b transpose_a transpose_b", _matmul("a", "b")),
    "reshape": ("tensor shape", _reshape("tensor", "shape")),
    "squeeze": ("input axis", _squeeze("input")),
    "stack": ("values axis", _joined("values", stack=True)),
    "compat.v1.transpose": ("a perm", _transpose("a", "perm")),
    "transpose": ("a perm", _transpose("a", "perm")),
}  # fmt: skip

OPERATIONS: dict[str, Callable[[Settings], Plan]] = {
    **{f"ops.{name}": _operation(*row) for name, row in _KERAS.items()},
    **{f"tf.{name}": _operation(*row) for name, row in _TENSORFLOW.items()},
}
