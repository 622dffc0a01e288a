"""Fold an inference BatchNormalization into the weights of the convolution or Gemm before it.

BatchNormalization (ai.onnx, inference): Y = (X - mean) * scale / sqrt(var + epsilon) + B, for each channel.
After a layer that is linear in its weights it is a factor on the weights and a new bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.model.content import Derived, largest
from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.query import ONNX, constant, constant_value, new_constant, only_use, opset, used, walk

Array = np.ndarray[Any, Any]

FLOATS = frozenset([ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16])


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    version = opset(model)
    for node in walk(model):
        if node.domain == ONNX and node.op_type == "BatchNormalization":
            yield _fold(node, version)


def _fold(norm: ir.Node, version: int) -> Rewrite | Miss:
    value = norm.inputs[0] if norm.inputs else None
    layer = value.producer() if value is not None else None
    if value is None or layer is None or layer.domain != ONNX or layer.op_type not in LAYERS:
        before = "an input or a constant" if layer is None else layer.op_type
        return Miss(norm, f"what comes before is {before}, not one of {', '.join(LAYERS)}")
    if not _is_inference(norm, version):
        return Miss(norm, "it is in training mode")
    if layer.graph is not norm.graph:
        return Miss(norm, f"{_name(layer)} is in another graph")
    if not only_use(value):
        return Miss(norm, f"the output of {_name(layer)} is used elsewhere too")
    affine = _affine(norm)
    if affine is None:
        return Miss(norm, "its parameters are not four constant vectors of one length, or give no finite factor")
    return LAYERS[layer.op_type](layer, norm, affine)


def _name(node: ir.Node) -> str:
    return node.name or node.op_type


def _is_inference(norm: ir.Node, version: int) -> bool:
    """Per the versions of the operator: 1 and 6 have `is_test`, 7 and 9 tell by outputs, 14 has a mode."""
    if any(used(value) for value in norm.outputs[1:]) or norm.attributes.get_int("training_mode", 0) != 0:
        return False
    if version < 14 and any(value.name for value in norm.outputs[1:]):
        return False
    if version < 9 and norm.attributes.get_int("spatial", 1) == 0:
        return False
    return version >= 7 or norm.attributes.get_int("is_test", 0) != 0


@dataclass(frozen=True)
class Affine:
    """y = x * factor + shift, float64 vectors over channels."""

    factor: Array
    shift: Array


def _affine(norm: ir.Node) -> Affine | None:
    tensors = [constant(value) for value in norm.inputs[1:5]]
    if len(tensors) != 4 or any(tensor is None or tensor.dtype not in FLOATS for tensor in tensors):
        return None
    scale, bias, mean, variance = (_float64(tensor) for tensor in tensors if tensor is not None)
    if scale.ndim != 1 or not scale.shape == bias.shape == mean.shape == variance.shape:
        return None
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
        shift = bias - mean * factor
    return Affine(factor, shift) if np.isfinite([factor, shift]).all() else None


def _float64(tensor: ir.TensorProtocol) -> Array:
    return tensor.numpy().astype(np.float64)


def _fold_conv(conv: ir.Node, norm: ir.Node, affine: Affine) -> Rewrite | Miss:
    """Weights [M, C/group, ...]: output channel first."""
    weight = _weight(conv)
    if isinstance(weight, str):
        return Miss(norm, weight)
    shape = [int(size) for size in weight.shape.numpy()]
    if len(shape) < 3 or shape[0] != len(affine.factor):
        return Miss(norm, f"{_name(conv)} has weights {shape} for {len(affine.factor)} channels")
    return _folded(conv, norm, affine, affine.factor.reshape(-1, *[1] * (len(shape) - 1)))


def _fold_conv_transpose(conv: ir.Node, norm: ir.Node, affine: Affine) -> Rewrite | Miss:
    """Weights [C, M/group, ...]: output channel g * (M/group) + m reads the g-th block of inputs."""
    weight = _weight(conv)
    if isinstance(weight, str):
        return Miss(norm, weight)
    shape = [int(size) for size in weight.shape.numpy()]
    group = conv.attributes.get_int("group", 1)
    if len(shape) < 3 or group < 1 or shape[0] % group or shape[1] * group != len(affine.factor):
        return Miss(norm, f"{_name(conv)} has weights {shape} for {len(affine.factor)} channels")
    by_group = affine.factor.reshape(group, shape[1])
    factor = np.repeat(by_group, shape[0] // group, axis=0).reshape(*shape[:2], *[1] * (len(shape) - 2))
    return _folded(conv, norm, affine, factor)


def _fold_gemm(gemm: ir.Node, norm: ir.Node, affine: Affine) -> Rewrite | Miss:
    """alpha * A' * B' + beta * C: the columns of B' are the channels; C becomes a whole bias, beta 1."""
    weight = _weight(gemm)
    if isinstance(weight, str):
        return Miss(norm, weight)
    shape = [int(size) for size in weight.shape.numpy()]
    columns_first = bool(gemm.attributes.get_int("transB", 0))
    if len(shape) != 2 or shape[0 if columns_first else 1] != len(affine.factor):
        return Miss(norm, f"{_name(gemm)} has weights {shape} for {len(affine.factor)} channels")
    factor = affine.factor[:, None] if columns_first else affine.factor
    return _folded(gemm, norm, affine, factor, beta=gemm.attributes.get_float("beta", 1.0))


LAYERS = {"Conv": _fold_conv, "ConvTranspose": _fold_conv_transpose, "Gemm": _fold_gemm}
"""What folds an affine map of each channel, which some node computes, into the layer before that node."""


def _weight(layer: ir.Node) -> ir.TensorProtocol | str:
    """The weights, unread, or why they cannot be changed."""
    value = layer.inputs[1] if len(layer.inputs) > 1 else None
    weight = constant(value)
    if value is None or weight is None:
        return f"the weights of {_name(layer)} are not constant"
    if weight.dtype not in FLOATS:
        return f"the weights of {_name(layer)} are {weight.dtype}"
    if not only_use(value):
        return f"the weights of {_name(layer)} are shared; a copy for each user would cost memory"
    return weight


def _folded(layer: ir.Node, norm: ir.Node, affine: Affine, factor: Array, beta: float = 1.0) -> Rewrite | Miss:
    """The layer anew, with weights * `factor` (broadcast) and bias beta * bias * affine.factor + shift."""
    weight_value, bias_value = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else None
    assert weight_value is not None and weight_value.const_value is not None
    channels, shift = len(affine.factor), affine.shift
    drop = [weight_value]
    bias_name = f"{norm.outputs[0].name}_bias"
    if bias_value is not None:
        bias = constant(bias_value)
        # Gemm's C may be anything that broadcasts to [M, N]; a bias is one value, or a row of N.
        if bias is None or not (bias.size == 1 or (bias.size == channels == bias.shape[-1])):
            return Miss(norm, f"the bias of {_name(layer)} is not a constant vector over channels")
        shift = beta * _float64(bias).reshape(-1) * affine.factor + shift
        if only_use(bias_value):
            drop.append(bias_value)
            bias_name = bias_value.name or bias_name
    weight = scaled(weight_value.const_value, factor)
    dtype = weight_value.const_value.dtype.numpy()
    with np.errstate(over="ignore"):
        new_bias = np.broadcast_to(shift, channels).astype(dtype)
    if weight is None or not np.isfinite(new_bias).all():
        return Miss(norm, f"the folded weights do not fit {dtype}")
    parameters = [constant_value(weight_value.name or "", weight), new_constant(bias_name, new_bias)]
    attributes = [a for a in layer.attributes.values() if a.name != "beta"]
    anew = ir.Node(
        ONNX,
        layer.op_type,
        [layer.inputs[0], *parameters],
        attributes,
        name=layer.name,
        version=layer.version,
    )
    return Rewrite(
        norm,
        f"into {_name(layer)}",
        replace={norm.outputs[0]: anew.outputs[0]},
        insert=[anew],
        constants=parameters,
        remove=[norm, layer],
        drop=drop,
    )


def scaled(weight: ir.TensorProtocol, factor: Array) -> ir.TensorProtocol | None:
    """weight * factor, broadcast; None when an element of it is not finite.

    When the largest weight and factor tell that all are finite, the product is computed only when it is asked for:
    never if the compiler finds it packed in its cache.
    """
    dtype = weight.dtype.numpy()
    if dtype.kind == "f" and largest(weight) * float(np.abs(factor).max(initial=0)) <= float(np.finfo(dtype).max):
        recipe = b"|".join([b"scaled", repr(factor.shape).encode(), factor.tobytes()])
        return Derived(weight, lambda array: _product(array, factor), recipe)
    scaled = _product(weight.numpy(), factor)
    return ir.Tensor(scaled) if np.isfinite(scaled).all() else None


def _product(weight: Array, factor: Array) -> Array:
    """weight * factor, multiplied in float64 and rounded once, without a float64 copy of the weights."""
    result = np.empty(weight.shape, weight.dtype)
    with np.errstate(over="ignore"):
        if weight.dtype.kind == "f":
            return np.multiply(weight, factor, out=result, dtype=np.float64, casting="same_kind")
        for row, scaled in enumerate(np.broadcast_to(factor, weight.shape)):  # ml_dtypes: no mixed ufuncs
            result[row] = (weight[row].astype(np.float64) * scaled).astype(weight.dtype)
    return result


FOLD_BATCHNORM = Pass(
    name="fold-batchnorm",
    gain="At inference it is a multiply-add per element, which the layer before can do for nothing.",
    placed="After copies and paddings between the two are gone.",
    exact=False,
    rewrites=_rewrites,
)
