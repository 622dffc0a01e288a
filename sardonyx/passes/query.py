"""What passes ask about a graph: which values are constant, known, used, replaceable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

ONNX = ""
"""The domain of ai.onnx as onnx_ir spells it."""


def walk(model: ir.Model) -> Iterator[ir.Node]:
    """Every node of the graph and its subgraphs, outer graphs first. Removing nodes meanwhile is safe."""
    graphs = [model.graph]
    for graph in graphs:  # it grows
        for node in list(graph):
            if node.graph is not None:
                yield node
            if node.graph is not None and node.attributes:
                graphs.extend(subgraphs(node))


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The bodies of a control-flow node."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def opset(model: ir.Model) -> int:
    """The version of ai.onnx the model imports; 1 when it imports none."""
    return model.graph.opset_imports.get(ONNX, 1)


_CEILING = "sardonyx.opset_ceiling"


def allow_opset(model: ir.Model, ceiling: int | None) -> None:
    """Let passes use operators of ai.onnx up to this version, whatever the model imports; None: what it imports.

    Nodes newer than the model's opset carry their version. Such a model is for a session only: a file cannot say it.
    """
    if ceiling is None:
        model.meta.pop(_CEILING, None)
    else:
        model.meta[_CEILING] = ceiling


def newest_opset(model: ir.Model) -> int:
    """The newest version of ai.onnx of which rewrites may use operators."""
    return max(opset(model), int(model.meta.get(_CEILING, 0)))


def used(value: ir.Value) -> bool:
    """Whether anything reads the value."""
    return bool(value.uses()) or value.is_graph_output()


def only_use(value: ir.Value) -> bool:
    """Whether exactly one node input reads the value and nothing else does."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer that no caller can override, unread; None for every other value."""
    if value is None or not value.is_initializer() or value.is_graph_input():
        return None
    return value.const_value


def small_constant(value: ir.Value | None, elements: int = 1024) -> np.ndarray[Any, Any] | None:
    """The elements of a constant of at most so many, such as a shape, axes or pads; else None."""
    tensor = constant(value)
    return tensor.numpy() if tensor is not None and tensor.size <= elements else None


def replaceable(old: ir.Value, new: ir.Value) -> bool:
    """Whether `new` can stand for `old` everywhere.

    A graph output can only be taken over by a value that a node of the same graph computes and that is not
    itself an output: graph inputs, constants and captured values cannot carry its name.
    """
    if not old.is_graph_output():
        return True
    producer = new.producer()
    return producer is not None and not new.is_graph_output() and producer.graph is old.graph


def known_shape(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """Dimensions as far as they are numbers; None for an unknown rank."""
    if value is None or value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def new_constant(name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """A value that can become an initializer."""
    return constant_value(name, ir.Tensor(array, name=name))


def constant_value(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """As `new_constant`, for a tensor that already is one."""
    shape = ir.Shape([int(size) for size in tensor.shape.numpy()])
    return ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)


def permutation(transpose: ir.Node, rank: int) -> list[int] | None:
    """The order of axes a Transpose makes, reversed when it says none; None when it is not of that rank."""
    perm = transpose.attributes.get_ints("perm", None)
    order = list(range(rank))[::-1] if perm is None else list(perm)
    return order if sorted(order) == list(range(rank)) else None
