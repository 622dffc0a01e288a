"""Shapes once the sizes of inputs are known: what ONNX's inference leaves open because a graph computes it.

Inference follows small values into Reshape, but not into Slice, Range, Expand and the like. Here the graph is walked
node by node, and what is small and known is computed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Dims = tuple[int, ...]

_MOST = 64  # elements of a value that is followed: shapes, axes, bounds
_COMPUTED = frozenset(
    {"Abs", "Add", "And", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor"}
    | {"Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range"}
    | {"ReduceProd", "Reshape", "Shape", "Size", "Slice", "Split", "Squeeze", "Sub", "Tile", "Transpose"}
    | {"Unsqueeze", "Where"}
)
_NOT_THERE = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)  # of a node that cannot be computed


def sized_shapes(model: Any) -> dict[str, Dims]:
    """The shapes of all values of the main graph that are numbers, for an onnx.ModelProto whose types are inferred.

    Its inputs have the sizes that count. Values of large initializers need not be there.
    """
    walk = _Walk(model)
    if any(node.op_type in ("Shape", "Size") for node in model.graph.node):
        for node in model.graph.node:
            walk.visit(node)
    return {name: dims for name, kind in walk.types.items() if (dims := _dims(kind)) is not None}


def _dims(kind: Any) -> Dims | None:
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    dims = tuple(dim.dim_value for dim in tensor.shape.dim)
    return None if any(dim < 0 for dim in dims) else dims


class _Walk:
    """Types of values by name, and those values that are known."""

    def __init__(self, model: Any) -> None:
        import onnx

        graph = model.graph
        self._opsets, self._ir_version = list(model.opset_import), model.ir_version
        self._versions = {entry.domain: entry.version for entry in model.opset_import}
        self.types = {info.name: info.type for info in (*graph.value_info, *graph.output, *graph.input)}
        self._values: dict[str, Array] = {}
        for tensor in graph.initializer:
            self.types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            if math.prod(tensor.dims) <= _MOST and tensor.data_location != onnx.TensorProto.EXTERNAL:
                self._values[tensor.name] = onnx.numpy_helper.to_array(tensor)

    def visit(self, node: Any) -> None:
        """Find the types of a node's outputs, then their values."""
        outputs = [name for name in node.output if name]
        if any(name not in self.types or _dims(self.types[name]) is None for name in outputs):
            self._infer(node)
        sizes = [_dims(self.types[name]) if name in self.types else None for name in outputs]
        if node.domain == "" and node.op_type in _COMPUTED and all(
            size is not None and math.prod(size) <= _MOST for size in sizes
        ):  # fmt: skip
            self._compute(node)

    def _infer(self, node: Any) -> None:
        """By ONNX's rules, told of the values that are known."""
        import onnx
        from onnx.shape_inference import InferenceError, infer_node_outputs

        inputs = [name for name in node.input if name]
        if any(name not in self.types for name in inputs):
            return
        known = {
            name: onnx.numpy_helper.from_array(self._values[name], name) for name in inputs if name in self._values
        }
        try:
            schema = onnx.defs.get_schema(node.op_type, self._versions.get(node.domain, 1), node.domain)
            found = infer_node_outputs(
                schema, node, {name: self.types[name] for name in inputs}, known,
                opset_imports=self._opsets, ir_version=self._ir_version,
            )  # fmt: skip
        except (InferenceError, onnx.defs.SchemaError, onnx.checker.ValidationError, *_NOT_THERE):
            return
        self.types |= {name: kind for name, kind in found.items() if kind.HasField("tensor_type")}

    def _compute(self, node: Any) -> None:
        """By onnx.reference; the outputs are known to be small."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        inputs, outputs = ([name for name in names if name] for names in (node.input, node.output))
        counted = node.op_type in ("Shape", "Size")
        dims = _dims(self.types[inputs[0]]) if counted and inputs and inputs[0] in self.types else None
        if dims is None and not all(name in self._values for name in inputs):
            return
        value = onnx.ValueInfoProto
        graph = onnx.helper.make_graph(
            [node], "one", [value(name=name) for name in inputs], [value(name=name) for name in outputs]
        )
        try:
            # What is only counted may be large: one element that stands for all takes no memory.
            feeds = self._values if dims is None else {inputs[0]: np.broadcast_to(np.zeros((), np.uint8), dims)}
            one = onnx.helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir_version)
            with np.errstate(all="ignore"):
                results = ReferenceEvaluator(one).run(None, {name: feeds[name] for name in inputs})
        except _NOT_THERE:
            return
        for name, result in zip(outputs, results, strict=True):
            if isinstance(result, np.ndarray | np.generic):
                self._values[name] = np.asarray(result)
