"""Functions used as layers, in float64: NumPy's of the same meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.keras.evaluate_base import Call, Function, Value
from sardonyx.convert.keras.evaluate_layers import ACTIVATIONS, elu, erf, gelu, leaky, softmax

Given = Mapping[str, Any]


def _function(names: str, compute: Callable[[Given], Any]) -> Function:
    """`names` are the parameters in order; values come as arrays."""

    def run(call: Call) -> Value:
        given = dict(call.config) | dict(zip(names.split(), call.args, strict=False)) | dict(call.kwargs)
        return Value(np.asarray(compute({key: _array(value) for key, value in given.items()})))

    return run


def _array(value: Any) -> Any:
    if isinstance(value, Value):
        return value.x
    if isinstance(value, tuple) and any(isinstance(item, Value) for item in value):
        return [_array(item) for item in value]
    return value


def _axis(p: Given, default: Any = None) -> Any:
    axis = p.get("axis")
    axis = default if axis is None else axis
    return tuple(axis) if isinstance(axis, list | tuple) else axis


def _of_two(function: Callable[[Any, Any], Any], a: str, b: str) -> Function:
    return _function(f"{a} {b}", lambda p: function(_number(p[a]), _number(p[b])))


def _number(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, list | tuple) else value


def _of_one(function: Callable[[Array], Array], x: str) -> Function:
    return _function(x, lambda p: function(np.asarray(p[x], np.float64)))


def _reduced(function: Callable[..., Any], x: str) -> Function:
    return _function(f"{x} axis keepdims", lambda p: function(p[x], axis=_axis(p), keepdims=p.get("keepdims") is True))


def _reshape(x: str, shape: str) -> Function:
    return _function(f"{x} {shape}", lambda p: p[x].reshape([-1 if dim is None else dim for dim in p[shape]]))


def _transpose(x: str, axes: str) -> Function:
    return _function(f"{x} {axes}", lambda p: p[x].transpose(p.get(axes)))


def _item(x: str, key: str) -> Function:
    return _function(f"{x} {key}", lambda p: p[x][tuple(p[key]) if isinstance(p[key], list) else p[key]])


def _gelu(p: Given) -> Array:
    x = np.asarray(p["x"], np.float64)
    if p.get("approximate"):
        return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    return gelu(x)


_KINDS = {None: None, "float32": np.float64, "int32": np.int64, "int64": np.int64, "bool": np.bool_}


def _cast(x: str) -> Function:
    return _function(f"{x} dtype", lambda p: np.asarray(p[x]).astype(_KINDS[p["dtype"]]))


def _like(x: str, make: Callable[..., Array]) -> Function:
    return _function(f"{x} dtype", lambda p: make(p[x], dtype=_KINDS[p.get("dtype")]))


_ONE: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "Absolute": ("math.abs", np.abs),
    "Ceil": ("math.ceil", np.ceil),
    "Cos": ("math.cos", np.cos),
    "Erf": ("math.erf", erf),
    "Exp": ("math.exp", np.exp),
    "Floor": ("math.floor", np.floor),
    "Log": ("math.log", np.log),
    "Negative": ("math.negative", np.negative),
    "Reciprocal": ("math.reciprocal", np.reciprocal),
    "Rsqrt": ("math.rsqrt", lambda x: 1 / np.sqrt(x)),
    "Sign": ("math.sign", np.sign),
    "Sin": ("math.sin", np.sin),
    "Sqrt": ("math.sqrt", np.sqrt),
    "Square": ("math.square", np.square),
    "Tanh": ("math.tanh", np.tanh),
}
_TWO: dict[str, tuple[tuple[str, ...], Callable[[Any, Any], Any]]] = {
    "Add": (("math.add", "__operators__.add"), np.add),
    "Divide": (("math.truediv", "__operators__.truediv", "math.divide"), np.true_divide),
    "Equal": ((), np.equal),
    "Greater": ((), np.greater),
    "GreaterEqual": ((), np.greater_equal),
    "Less": ((), np.less),
    "LessEqual": ((), np.less_equal),
    "LogicalAnd": ((), np.logical_and),
    "LogicalOr": ((), np.logical_or),
    "Maximum": (("math.maximum",), np.maximum),
    "Minimum": (("math.minimum",), np.minimum),
    "Multiply": (("math.multiply", "__operators__.mul"), np.multiply),
    "NotEqual": ((), np.not_equal),
    "Power": (("math.pow",), np.power),
    "Subtract": (("math.subtract", "__operators__.sub"), np.subtract),
    "TrueDivide": ((), np.true_divide),
}
_REDUCED: dict[str, Callable[..., Any]] = {
    "Max": np.max,
    "Mean": np.mean,
    "Min": np.min,
    "Prod": np.prod,
    "Sum": np.sum,
}
_ACTIVATIONS = {
    "HardSilu": "hard_silu", "Relu": "relu", "Relu6": "relu6", "Selu": "selu", "Sigmoid": "sigmoid",
    "Silu": "silu", "Softplus": "softplus", "Softsign": "softsign",
}  # fmt: skip

_KERAS: dict[str, Function] = {
    **{name: _of_one(function, "x") for name, (_, function) in _ONE.items()},
    **{name: _of_two(function, "x1", "x2") for name, (_, function) in _TWO.items()},
    **{name: _reduced(function, "x") for name, function in _REDUCED.items()},
    **{name: _of_one(ACTIVATIONS[key], "x") for name, key in _ACTIVATIONS.items()},
    "All": _reduced(np.all, "x"),
    "Any": _reduced(np.any, "x"),
    "Cast": _cast("x"),
    "Clip": _function("x x_min x_max", lambda p: np.clip(p["x"], p["x_min"], p["x_max"])),
    "Concatenate": _function("xs axis", lambda p: np.concatenate(p["xs"], axis=_axis(p, -1))),
    "Elu": _function("x alpha", lambda p: elu(p["x"], p.get("alpha", 1.0))),
    "OnesLike": _like("x", np.ones_like),
    "ZerosLike": _like("x", np.zeros_like),
    "ExpandDims": _function("x axis", lambda p: np.expand_dims(p["x"], p["axis"])),
    "Gelu": _function("x approximate", _gelu),
    "GetItem": _item("x", "key"),
    "HardSigmoid": _of_one(lambda x: np.clip(x + 3, 0, 6) / 6, "x"),
    "LeakyRelu": _function("x negative_slope", lambda p: leaky(p["x"], p.get("negative_slope", 0.2))),
    "LogSoftmax": _function("x axis", lambda p: np.log(softmax(p["x"], _axis(p, -1)))),
    "LogicalNot": _function("x", lambda p: np.logical_not(p["x"])),
    "Matmul": _of_two(np.matmul, "x1", "x2"),
    "Reshape": _reshape("x", "newshape"),
    "Softmax": _function("x axis", lambda p: softmax(p["x"], _axis(p, -1))),
    "Squeeze": _function("x axis", lambda p: np.squeeze(p["x"], _axis(p))),
    "Stack": _function("x axis", lambda p: np.stack(p["x"], axis=_axis(p, 0))),
    "Transpose": _transpose("x", "axes"),
}

_TENSORFLOW: dict[str, Function] = {
    **{tf: _of_one(function, "x") for tf, function in _ONE.values()},
    **{name: _of_two(function, "x", "y") for names, function in _TWO.values() for name in names},
    **{f"math.reduce_{name.lower()}": _reduced(function, "input_tensor") for name, function in _REDUCED.items()},
    **{f"nn.{key}": _of_one(ACTIVATIONS[key], "features") for key in
       ("elu", "relu", "relu6", "selu", "silu", "softplus", "softsign", "swish")},
    "nn.sigmoid": _of_one(ACTIVATIONS["sigmoid"], "x"),
    "math.sigmoid": _of_one(ACTIVATIONS["sigmoid"], "x"),
    "nn.tanh": _of_one(np.tanh, "x"),
    "nn.gelu": _function("x approximate", _gelu),
    "nn.softmax": _function("logits axis", lambda p: softmax(p["logits"], _axis(p, -1))),
    "nn.log_softmax": _function("logits axis", lambda p: np.log(softmax(p["logits"], _axis(p, -1)))),
    "__operators__.getitem": _item("x", "slice_spec"),
    "cast": _cast("x"),
    "clip_by_value": _function(
        "x clip_value_min clip_value_max", lambda p: np.clip(p["x"], p["clip_value_min"], p["clip_value_max"])
    ),
    "concat": _function("values axis", lambda p: np.concatenate(p["values"], axis=_axis(p, -1))),
    "convert_to_tensor": _function("value", lambda p: p["value"]),
    "expand_dims": _function("input axis", lambda p: np.expand_dims(p["input"], p["axis"])),
    "identity": _function("input", lambda p: p["input"]),
    "linalg.matmul": _of_two(np.matmul, "a", "b"),
    "reshape": _reshape("tensor", "shape"),
    "squeeze": _function("input axis", lambda p: np.squeeze(p["input"], _axis(p))),
    "stack": _function("values axis", lambda p: np.stack(p["values"], axis=_axis(p, 0))),
    "compat.v1.transpose": _transpose("a", "perm"),
    "transpose": _transpose("a", "perm"),
}  # fmt: skip

LAYERS: dict[str, Function] = {
    **{f"ops.{name}": function for name, function in _KERAS.items()},
    **{f"tf.{name}": function for name, function in _TENSORFLOW.items()},
}
