"""Nodes computed while lowering, from arrays known then: shape arithmetic, above all. By onnx.reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import InvalidModelError, SardonyxError

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]


def evaluate(node: ir.Node, inputs: Sequence[Array | None]) -> list[Array]:
    """The node's outputs. InvalidModelError, naming it, when it cannot be computed."""
    import onnx
    from onnx.reference import ReferenceEvaluator
    from onnx_ir import serde

    proto = serde.serialize_node(node)
    names = [name for name in dict.fromkeys(proto.input) if name]
    values = {v.name: array for v, array in zip(node.inputs, inputs, strict=True) if v is not None}
    anything = onnx.TypeProto()
    graph = onnx.helper.make_graph(
        [proto],
        "one",
        [onnx.helper.make_value_info(name, anything) for name in names],
        [onnx.helper.make_value_info(name, anything) for name in proto.output if name],
    )
    imports = dict(getattr(node.graph, "opset_imports", None) or {"": onnx.defs.onnx_opset_version()})
    if node.version is not None:
        imports[node.domain] = node.version
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in imports.items()]
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    try:
        outputs = ReferenceEvaluator(model).run(None, {name: values[name] for name in names})
    except SardonyxError:
        raise
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidModelError(f"cannot be computed: {error}", where=f"{node.op_type} {node.name}") from error
    made = iter(outputs)
    return [np.asarray(next(made)) if name else np.zeros(0) for name in proto.output]
