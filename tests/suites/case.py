"""What an operator case is: the tables beside this file hold them, a family each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]
_RANDOM = np.random.default_rng(20)


def floats(*dims: int, scale: float = 1.0) -> Array:
    """Seeded normal float32 numbers."""
    return (_RANDOM.standard_normal(dims) * scale).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A small model: nodes from the inputs in `feeds` and the constants in `weights` to the output `y`."""

    name: str
    nodes: Sequence[onnx.NodeProto]
    feeds: Mapping[str, Array]
    weights: Mapping[str, Array] = field(default_factory=dict)
    opset: int = 21
    domains: Mapping[str, int] = field(default_factory=dict)

    def model(self, *, infer: bool = True) -> onnx.ModelProto:
        """The model, with inferred types unless told otherwise."""
        graph = helper.make_graph(
            self.nodes,
            "case",
            [_info(name, array) for name, array in self.feeds.items()],
            [helper.make_empty_tensor_value_info("y")],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in self.weights.items()],
        )
        opsets = [helper.make_opsetid(*domain) for domain in {"": self.opset, **self.domains}.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return onnx.shape_inference.infer_shapes(model) if infer else model


def _info(name: str, array: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node; inputs and outputs are names with spaces between, `_` stands for one not given."""
    read, made = ([name.strip("_") for name in names.split()] for names in (inputs, outputs))
    return helper.make_node(op, read, made, name=f"{op}_{outputs.split(maxsplit=1)[0]}", **attributes)
