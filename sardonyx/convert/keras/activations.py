"""Keras's activation functions and activation layers.

The formulas are those of `keras.activations` and `keras.layers` of Keras 2 and 3; where an ONNX operator has the
same definition it is used, else the formula is spelled out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.keras.base import Emitter, Plan, Settings, Tensor, UnsupportedError, brief

Activation = Callable[[Emitter, Tensor, str], Tensor]
"""Emits the function on a tensor; the last node gets the tag."""


def activation_name(value: Any, version: tuple[int, int]) -> tuple[str, Any]:
    """The name of an option `activation` and the configuration that comes with it, if any."""
    name, config = "linear" if value is None else value, None
    if isinstance(value, dict):
        name, config = value.get("class_name"), value.get("config")
        if name == "function":
            name, config = config, None
    if not isinstance(name, str):
        raise UnsupportedError(f"the activation {brief(value)} is not known")
    if version[0] == 3 and f"{name}_3" in FUNCTIONS:
        name = f"{name}_3"
    return name, config


def activation(value: Any, version: tuple[int, int]) -> Activation:
    """The function that an option `activation` names: a word, or a serialised layer or function."""
    name, config = activation_name(value, version)
    if name in FUNCTIONS and not config:
        return FUNCTIONS[name]
    if name in ACTIVATION_LAYERS and isinstance(config, dict):
        options = Settings(config, version)
        plan = ACTIVATION_LAYERS[name](options)
        options.finish()
        if not plan.weights:
            return lambda e, x, tag: _one(plan.emit(e.inner(e.graph, tag), [x]))
    raise UnsupportedError(f"the activation {brief(value)} is not known")


def _one(made: Tensor | list[Tensor]) -> Tensor:
    assert isinstance(made, Tensor)
    return made


def fused_activation(options: Settings) -> Activation:
    """The activation at the end of a layer that does something else before."""
    value = options.get("activation")
    function = activation(value, options.version)
    tag = value if isinstance(value, str) else "activation"
    return lambda e, x, _: function(e, x, tag)


def _linear(e: Emitter, x: Tensor, tag: str) -> Tensor:
    return x


def _operator(op_type: str, **attributes: Any) -> Activation:
    return lambda e, x, tag: e.like(x, e.node(op_type, [x.value], tag=tag, **attributes))


def _softmax(axis: int | Sequence[int]) -> Activation:
    axes = [axis] if isinstance(axis, int) else list(axis)

    def emit(e: Emitter, x: Tensor, tag: str) -> Tensor:
        places = [x.axis(axis) for axis in axes]
        if len(places) == 1:
            return e.like(x, e.node("Softmax", [x.value], tag=tag, axis=places[0]))
        # Over several axes Keras spells it as exp(x - logsumexp(x)).
        over = e.constant(_under(tag, "axes"), sorted(places), np.int64)
        total = e.node("ReduceLogSumExp", [x.value, over], tag=_under(tag, "logsumexp"), keepdims=1)
        difference = e.node("Sub", [x.value, total], tag=_under(tag, "sub"))
        return e.like(x, e.node("Exp", [difference], tag=tag))

    return emit


def _swish(e: Emitter, x: Tensor, tag: str) -> Tensor:
    gate = e.node("Sigmoid", [x.value], tag=_under(tag, "sigmoid"))
    return e.like(x, e.node("Mul", [x.value, gate], tag=tag))


def relu(*, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0) -> Activation:
    """`keras.backend.relu`: x where x > threshold, at most `max_value`, else slope * (x - threshold)."""

    def emit(e: Emitter, x: Tensor, tag: str) -> Tensor:
        if max_value is None and threshold == 0:
            if negative_slope:
                return e.like(x, e.node("LeakyRelu", [x.value], tag=tag, alpha=negative_slope))
            return e.like(x, e.node("Relu", [x.value], tag=tag))
        last = "sub" if negative_slope else "clip" if max_value is not None else "threshold"

        def step(what: str, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
            return e.node(op_type, inputs, tag=tag if what == last else _under(tag, what), **attributes)

        y = step("threshold", "ThresholdedRelu", x.value, alpha=threshold) if threshold else x.value
        if max_value is not None:
            limits = (e.constant(_under(tag, "min"), 0.0), e.constant(_under(tag, "max"), max_value))
            y = step("clip", "Clip", y, *limits)
        if negative_slope:
            below = step("below", "Sub", e.constant(_under(tag, "start"), threshold), x.value)
            below = step("negative", "Relu", below)
            below = step("scaled", "Mul", below, e.constant(_under(tag, "slope"), negative_slope))
            y = step("sub", "Sub", y, below)
        return e.like(x, y)

    return emit


def _under(tag: str, what: str) -> str:
    return f"{tag}/{what}" if tag else what


def _gated(gate: Activation) -> Activation:
    """x * gate(x)."""
    return lambda e, x, tag: e.like(x, e.node("Mul", [x.value, gate(e, x, _under(tag, "gate")).value], tag=tag))


def _log_softmax(e: Emitter, x: Tensor, tag: str) -> Tensor:
    return e.like(x, e.node("LogSoftmax", [x.value], tag=tag, axis=x.axis(-1)))


def _log_sigmoid(e: Emitter, x: Tensor, tag: str) -> Tensor:
    turned = e.node("Neg", [x.value], tag=_under(tag, "turned"))
    return e.like(x, e.node("Neg", [e.node("Softplus", [turned], tag=_under(tag, "softplus"))], tag=tag))


def _squareplus(e: Emitter, x: Tensor, tag: str) -> Tensor:
    """(x + sqrt(x^2 + 4)) / 2."""
    square = e.node("Mul", [x.value, x.value], tag=_under(tag, "square"))
    more = e.node("Add", [square, e.constant(_under(tag, "four"), 4.0)], tag=_under(tag, "more"))
    total = e.node("Add", [x.value, e.node("Sqrt", [more], tag=_under(tag, "root"))], tag=_under(tag, "sum"))
    return e.like(x, e.node("Mul", [total, e.constant(_under(tag, "half"), 0.5)], tag=tag))


def _hard_tanh(e: Emitter, x: Tensor, tag: str) -> Tensor:
    limits = (e.constant(_under(tag, "min"), -1.0), e.constant(_under(tag, "max"), 1.0))
    return e.like(x, e.node("Clip", [x.value, *limits], tag=tag))


def _tanh_shrink(e: Emitter, x: Tensor, tag: str) -> Tensor:
    return e.like(x, e.node("Sub", [x.value, e.node("Tanh", [x.value], tag=_under(tag, "tanh"))], tag=tag))


# ONNX's defaults for Selu are Keras's constants. HardSigmoid's are written out: max(0, min(1, alpha x + 0.5)), where
# Keras 3 has another slope than Keras 2; what changed in Keras 3 has a row of its own, NAME_3.
_HARD_SIGMOID_3 = _operator("HardSigmoid", alpha=1 / 6, beta=0.5)
FUNCTIONS: dict[str, Activation] = {
    "celu": _operator("Celu", alpha=1.0),
    "hard_shrink": _operator("Shrink", lambd=0.5, bias=0.0),
    "hard_sigmoid_3": _HARD_SIGMOID_3,
    "hard_silu": _gated(_HARD_SIGMOID_3),
    "hard_swish": _gated(_HARD_SIGMOID_3),
    "hard_tanh": _hard_tanh,
    "log_sigmoid": _log_sigmoid,
    "log_softmax": _log_softmax,
    "soft_shrink": _operator("Shrink", lambd=0.5, bias=0.5),
    "squareplus": _squareplus,
    "tanh_shrink": _tanh_shrink,
    "elu": _operator("Elu", alpha=1.0),
    "exponential": _operator("Exp"),
    "gelu": _operator("Gelu", approximate="none"),
    "hard_sigmoid": _operator("HardSigmoid", alpha=0.2, beta=0.5),
    "leaky_relu": relu(negative_slope=0.2),
    "linear": _linear,
    "mish": _operator("Mish"),
    "relu": relu(),
    "relu6": relu(max_value=6.0),
    "selu": _operator("Selu"),
    "sigmoid": _operator("Sigmoid"),
    "silu": _swish,
    "softmax": _softmax(-1),
    "softplus": _operator("Softplus"),
    "softsign": _operator("Softsign"),
    "swish": _swish,
    "tanh": _operator("Tanh"),
}


def _plan(function: Activation) -> Plan:
    # A layer always has a node, so that its name is found in the graph, unless it does nothing at all.
    return Plan(lambda e, inputs: function(e, inputs[0], ""))


def _activation(options: Settings) -> Plan:
    return _plan(activation(options.get("activation"), options.version))


def _relu(options: Settings) -> Plan:
    limit = None if options.get("max_value") is None else options.number("max_value")
    slope = 0.0 if options.get("negative_slope") is None else options.number("negative_slope")
    threshold = 0.0 if options.get("threshold") is None else options.number("threshold")
    if (limit is not None and limit < 0) or threshold < 0:
        raise UnsupportedError("a negative max_value or threshold is nothing that Keras makes")
    return _plan(relu(max_value=limit, negative_slope=slope, threshold=threshold))


def _leaky_relu(options: Settings) -> Plan:
    return _plan(
        _operator("LeakyRelu", alpha=options.number("alpha" if options.version[0] == 2 else "negative_slope", 0.3))
    )


def _elu(options: Settings) -> Plan:
    return _plan(_operator("Elu", alpha=options.number("alpha", 1.0)))


def _thresholded_relu(options: Settings) -> Plan:
    return _plan(_operator("ThresholdedRelu", alpha=options.number("theta", 1.0)))


def _softmax_layer(options: Settings) -> Plan:
    axis = options.get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    if not axes or len(axes) > 8 or not all(isinstance(a, int) and not isinstance(a, bool) for a in axes):
        raise UnsupportedError(f"the option axis = {brief(axis)} is not an axis or a list of axes")
    softmax = _softmax(axes)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        if inputs[0].mask is not None:
            raise UnsupportedError("a softmax under a mask is not supported")
        return softmax(e, inputs[0], "")

    return Plan(emit, masking="own")


def _prelu(options: Settings) -> Plan:
    shared = options.get("shared_axes") or []
    if not isinstance(shared, list) or not all(isinstance(axis, int) for axis in shared):
        raise UnsupportedError(f"the option shared_axes = {brief(shared)} is not a list of axes")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        shape = [1 if axis in shared else x.shape[axis] for axis in range(1, x.rank)]
        slope = e.weight("alpha", shape)
        array = slope.array.transpose([axis - 1 for axis in x.order()[1:]])
        return e.like(x, e.node("PRelu", [x.value, e.graph.initializer(slope.name, array)]))

    return Plan(emit, weights=("alpha",))


ACTIVATION_LAYERS: dict[str, Callable[[Settings], Plan]] = {
    "Activation": _activation,
    "ELU": _elu,
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
    "ReLU": _relu,
    "Softmax": _softmax_layer,
    "ThresholdedReLU": _thresholded_relu,
}
