"""Fold a factor or a summand for each channel into the weights of the layer before it.

Conv, ConvTranspose and Gemm take both, as an inference BatchNormalization does (`fold_batchnorm`); a MatMul by constant
weights takes factors.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.fold_batchnorm import FLOATS, LAYERS, Affine, Array, scaled
from sardonyx.passes.query import ONNX, constant, constant_value, only_use, opset, walk

_TAKEN = frozenset({"Mul", "Div", "Add", "Sub"})


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    if opset(model) < 7:  # operators broadcast by attributes
        return
    for node in walk(model):
        if node.domain == ONNX and node.op_type in _TAKEN and len(node.inputs) == 2:
            found = _fold(node)
            if found is not None:
                yield found


def _fold(node: ir.Node) -> Rewrite | Miss | None:
    operands = _operands(node)
    channels = _channels(operands[0]) if operands is not None else None
    if operands is None or channels is None:
        return None
    layer, tensor = operands
    vector = _by_channel(tensor, layer, channels)
    if vector is None:
        return Miss(node, f"{tensor.dtype}{[int(n) for n in tensor.shape.numpy()]} is not one number a channel")
    affine = _affine(node.op_type, vector)
    if affine is None:
        return Miss(node, "it divides by zero")
    if layer.op_type == "MatMul":
        return _fold_matmul(layer, node, affine) if node.op_type in {"Mul", "Div"} else None
    return LAYERS[layer.op_type](layer, node, affine)


def _operands(node: ir.Node) -> tuple[ir.Node, ir.TensorProtocol] | None:
    """The node whose result, which nothing else reads, is combined with a constant, and that constant."""
    swapped = node.op_type in {"Mul", "Add"} and constant(node.inputs[0]) is not None
    value, other = (node.inputs[1], node.inputs[0]) if swapped else (node.inputs[0], node.inputs[1])
    tensor, layer = constant(other), value.producer() if value is not None else None
    if value is None or tensor is None or layer is None or layer.domain != ONNX or layer.graph is not node.graph:
        return None
    return (layer, tensor) if tensor.dtype in FLOATS and only_use(value) else None


def _channels(layer: ir.Node) -> int | None:
    """How many results a layer with constant weights has for each pixel or row; None for other nodes."""
    weight = constant(layer.inputs[1]) if len(layer.inputs) > 1 and layer.op_type in {*LAYERS, "MatMul"} else None
    shape = [] if weight is None else [int(size) for size in weight.shape.numpy()]
    if layer.op_type == "Conv" and len(shape) > 2:
        return shape[0]
    if layer.op_type == "ConvTranspose" and len(shape) > 2:
        return shape[1] * layer.attributes.get_int("group", 1)
    if layer.op_type in {"Gemm", "MatMul"} and len(shape) == 2:
        return shape[0] if layer.attributes.get_int("transB", 0) else shape[1]
    return None


def _by_channel(tensor: ir.TensorProtocol, layer: ir.Node, channels: int) -> Array | None:
    """The constant as a vector over channels; None when it differs within one or raises the rank."""
    shape, output = [int(size) for size in tensor.shape.numpy()], layer.outputs[0].shape
    if output is None or len(shape) > len(output) or tensor.size not in (1, channels):
        return None
    place = -1 if layer.op_type in {"Gemm", "MatMul"} else 1 - len(output)
    if tensor.size > 1 and (len(shape) < -place or shape[place] != channels):
        return None
    return np.broadcast_to(tensor.numpy().astype(np.float64).reshape(-1), channels)


def _affine(op_type: str, vector: Array) -> Affine | None:
    one, zero = np.ones_like(vector), np.zeros_like(vector)
    with np.errstate(divide="ignore"):
        factor = vector if op_type == "Mul" else 1 / vector if op_type == "Div" else one
    shift = vector if op_type == "Add" else -vector if op_type == "Sub" else zero
    return Affine(factor, shift) if np.isfinite([factor, shift]).all() else None


def _fold_matmul(layer: ir.Node, node: ir.Node, affine: Affine) -> Rewrite | Miss:
    weight = layer.inputs[1]
    assert weight is not None and weight.const_value is not None
    if weight.const_value.dtype not in FLOATS or not only_use(weight):
        return Miss(node, "the weights are shared, or no floats")
    tensor = scaled(weight.const_value, affine.factor)
    if tensor is None:
        return Miss(node, "the folded weights do not fit their type")
    anew = constant_value(weight.name or "", tensor)
    product = ir.node("MatMul", [layer.inputs[0], anew], name=layer.name)
    replaced = {node.outputs[0]: product.outputs[0]}
    what = f"into {layer.name or 'the MatMul'}"
    return Rewrite(node, what, replaced, insert=[product], constants=[anew], remove=[node, layer], drop=[weight])


FOLD_SCALES = Pass(
    name="fold-scales",
    gain="A factor or summand for each channel costs a pass over the activation; in the weights it costs nothing.",
    placed="After batch normalisations are folded, which leave layers in their last form; before patterns are matched.",
    exact=False,
    rewrites=_rewrites,
)
