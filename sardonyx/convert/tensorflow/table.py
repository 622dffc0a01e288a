"""The operators of TensorFlow that can be converted, each with what writes it."""

from __future__ import annotations

from sardonyx.convert.tensorflow import ops_control, ops_image, ops_index, ops_math, ops_nn, ops_shape
from sardonyx.convert.tensorflow.emitter import Emit

EMITTERS: dict[str, Emit] = {
    **ops_math.OPERATORS,
    **ops_shape.OPERATORS,
    **ops_index.OPERATORS,
    **ops_nn.OPERATORS,
    **ops_image.OPERATORS,
    **ops_control.OPERATORS,
}
STRUCTURAL = ("Placeholder", "Merge", "RefMerge")
"""Operators that are read without an emitter."""
