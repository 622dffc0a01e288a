"""Compute equal expressions once (common subexpression elimination)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.query import ONNX, constant, replaceable, walk

NONDETERMINISTIC = frozenset(
    [
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
        "Dropout",
    ]
)
"""Operators two runs of which may differ (Dropout in training)."""

TENSOR_LIMIT = 64
"""Elements up to which tensor attributes are compared; larger ones are weights and differ."""


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    seen: dict[Hashable, ir.Node] = {}
    contents: dict[ir.Value, Hashable] = {}
    for node in walk(model):
        if node.domain != ONNX or node.op_type in NONDETERMINISTIC | {"BatchNormalization"}:
            continue
        attributes = _attributes(node)
        if attributes is None:
            continue
        # Values are compared by identity: topological order makes equal inputs the same value by now.
        inputs = tuple(_content(value, contents) for value in node.inputs)
        key = (node.graph, node.op_type, inputs, len(node.outputs), attributes)
        first = seen.setdefault(key, node)
        if first is node:
            continue
        pairs = dict(zip(node.outputs, first.outputs, strict=True))
        if not all(bool(old.name) == bool(new.name) for old, new in pairs.items()):
            continue
        if all(replaceable(old, new) for old, new in pairs.items()):
            yield Rewrite(node, f"the same as {first.name or first.op_type}", replace=pairs, remove=[node])
        else:
            yield Miss(node, "its output is one of the graph's and cannot be taken over")


def _content(value: ir.Value | None, known: dict[ir.Value, Hashable]) -> Hashable:
    """The value itself; the elements of a small constant, of which exporters write one for each use."""
    if value is None:
        return None
    if value not in known:
        tensor = constant(value)
        small = tensor is not None and tensor.size <= TENSOR_LIMIT and tensor.dtype != ir.DataType.STRING
        known[value] = value if tensor is None or not small else _elements(tensor)
    return known[value]


def _elements(tensor: ir.TensorProtocol) -> Hashable:
    return (tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes())


def _attributes(node: ir.Node) -> Hashable | None:
    """The attributes as a key; None when they cannot be compared cheaply."""
    key: list[tuple[str, Hashable]] = []
    for name, attribute in sorted(node.attributes.items()):
        value = attribute.value
        if attribute.is_ref() or isinstance(value, ir.Graph):
            return None
        if attribute.type == ir.AttributeType.TENSOR:
            if value.size > TENSOR_LIMIT:
                return None
            value = _elements(value)
        elif isinstance(value, list | tuple):
            value = tuple(value)
        if not isinstance(value, str | int | float | bytes | tuple):
            return None
        if isinstance(value, tuple) and not all(isinstance(item, Hashable) for item in value):
            return None
        # -0.0 equals 0.0 and 1 equals True, so the text is compared too.
        key.append((name, (attribute.type, value, repr(value))))
    return tuple(key)


MERGE_DUPLICATES = Pass(
    name="merge-duplicates",
    gain="Exporters repeat the same shape arithmetic and casts; each is computed once.",
    placed="After identities are gone, so that equal inputs are one value.",
    exact=True,
    rewrites=_rewrites,
)
