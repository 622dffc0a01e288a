"""Inputs for the comparison that the model can have been made for: indices in range, padded sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Values
from sardonyx.convert.graph import Array

OPEN = (8, 16)
"""The sizes of dimensions beside the batch that a model leaves open."""

_PASSING = frozenset({"Cast", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})


@dataclass
class Hints:
    """What layers know of the values that they can take: how many indices, which value is padding."""

    sizes: dict[ir.Value, int] = field(default_factory=dict)
    padding: dict[ir.Value, float] = field(default_factory=dict)

    def indices(self, value: ir.Value, size: int) -> None:
        """`value` holds numbers below `size`."""
        start = _start(value)
        self.sizes[start] = min(size, self.sizes.get(start, size))

    def pads(self, value: ir.Value, padding: float) -> None:
        """Steps of `value`, [batch, time, ...], are padding where all is this."""
        self.padding[_start(value)] = padding

    def maker(self, model: ir.Model) -> Callable[[int, np.random.Generator], Values] | None:
        """Makes inputs for a batch of a size; None where nothing is known of any."""
        if not self.sizes and not self.padding:
            return None
        inputs = [(v, self.sizes.get(v), self.padding.get(v)) for v in model.graph.inputs]

        def make(batch: int, rng: np.random.Generator) -> Values:
            length = int(rng.integers(*OPEN))
            return {value.name or "": _values(value, batch, length, rng, size, pad) for value, size, pad in inputs}

        return make


def _start(value: ir.Value) -> ir.Value:
    """The graph's input that `value` is made of, if nothing but its shape and type was changed."""
    node = value.producer()
    while node is not None and node.op_type in _PASSING and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _values(
    value: ir.Value, batch: int, length: int, rng: np.random.Generator, size: int | None, pad: float | None
) -> Array:
    assert value.shape is not None and value.dtype is not None
    shape = [dim if isinstance(dim, int) else batch if axis == 0 else length for axis, dim in enumerate(value.shape)]
    dtype = value.dtype.numpy()
    if size is not None:
        array = rng.integers(0, size, shape).astype(dtype)
    elif dtype == np.bool_:
        array = rng.random(shape) < 0.5
    elif np.issubdtype(dtype, np.integer):
        array = rng.integers(0, 256 if dtype == np.uint8 else 10, shape).astype(dtype)
    else:
        array = rng.standard_normal(shape).astype(dtype)
    if pad is not None and len(shape) > 1:
        lengths = rng.integers(1, shape[1] + 1, shape[0])
        lengths[0] = shape[1]
        array[np.arange(shape[1]) >= lengths[:, None]] = pad
    return array
