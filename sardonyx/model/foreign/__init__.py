"""Operators that are not ai.onnx's, defined by those that are: one function an operator, in a file a family."""

from sardonyx.model.foreign import activations, attention, experimental, linear, quantized
from sardonyx.model.foreign.body import DEFINITIONS, OPSET
from sardonyx.model.foreign.expand import expand, foreign_nodes, infer_foreign, is_foreign, is_known

__all__ = [
    "DEFINITIONS",
    "OPSET",
    "activations",
    "attention",
    "expand",
    "experimental",
    "foreign_nodes",
    "infer_foreign",
    "is_foreign",
    "is_known",
    "linear",
    "quantized",
]
