"""Operators of TensorFlow that gather and scatter by indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sardonyx.convert.tensorflow.emitter import Emit, Emitter, Tensor, UnsupportedError
from sardonyx.convert.tensorflow.graph import Node
from sardonyx.convert.tensorflow.ops_math import checked_axis
from sardonyx.convert.tensorflow.tensors import numpy_type

Inputs = Sequence[Tensor]


def _gather(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """Along an axis; with batch dims, which ONNX's Gather has not, by GatherND after moving the axis to them."""
    x, indices = inputs[0], inputs[1]
    axis = inputs[2].integer("axis") if len(inputs) > 2 else 0
    batch = node.integer("batch_dims")
    if batch:
        batch = checked_axis(batch, indices.rank + 1)
        axis = checked_axis(axis, x.rank)
        order = [*range(batch), axis, *(i for i in range(batch, x.rank) if i != axis)]
        moved = e.transpose(e.plain(x), order)
        rows = e.unsqueeze(e.int64(indices), [indices.rank])
        value = e.node("GatherND", [moved, rows], batch_dims=batch)
        # What was gathered lies after the batch; it goes where the axis was.
        width, before = indices.rank - batch, axis - batch
        total = x.rank - 1 + width
        gathered = list(range(batch, batch + width))
        rest = list(range(batch + width, total))
        return e.tensor(e.transpose(value, [*range(batch), *rest[:before], *gathered, *rest[before:]]))
    if axis < 0:
        axis = checked_axis(axis, x.rank)
    return e.tensor(e.node("Gather", [e.plain(x), _indices(e, indices)], axis=axis))


def _indices(e: Emitter, x: Tensor) -> Any:
    return e.int64(x)


def _gather_nd(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return e.tensor(e.node("GatherND", [e.plain(inputs[0]), _indices(e, inputs[1])]))


def _scatter_nd(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """Updates added into zeros."""
    indices, updates, shape = inputs
    zeros = e.node("Expand", [e.like(updates, 0), e.vector(shape)], tag="zeros")
    return e.tensor(e.node("ScatterND", [zeros, _indices(e, indices), e.plain(updates)], reduction="add"))


def _tensor_scatter(reduction: str, negate: bool = False) -> Emit:
    def emit(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
        x, indices, updates = inputs
        values = e.plain(updates)
        values = e.node("Neg", [values], tag="negated") if negate else values
        return e.tensor(e.node("ScatterND", [e.plain(x), _indices(e, indices), values], reduction=reduction))

    return emit


def _segment_sum(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    """Rows added up by their segment; rows of negative segments are dropped."""
    x, segments, count = inputs
    if segments.rank != 1:
        raise UnsupportedError("its segments have more than one axis")
    rows = e.vector(count)
    if x.rank > 1:
        tail = e.node(
            "Slice",
            [e.shape_of(x), e.constant([1], np.int64, tag="one"), e.constant([x.rank], np.int64, tag="rank")],
            tag="tail",
        )
        more = e.node("Add", [rows, e.constant([1], np.int64, tag="one")], tag="rows")
        shape = e.node("Concat", [more, tail], tag="shape", axis=0)
    else:
        shape = e.node("Add", [rows, e.constant([1], np.int64, tag="one")], tag="rows")
    zeros = e.node("Expand", [e.constant(0, numpy_type(x.kind)), shape], tag="zeros")
    ids = e.int64(segments)
    # Dropped rows go to one more at the end.
    negative = e.node("Less", [ids, e.constant(0, np.int64, tag="zero")], tag="negative")
    ids = e.node("Where", [negative, e.squeeze(rows, [0]), ids], tag="ids")
    total = e.node("ScatterND", [zeros, e.unsqueeze(ids, [1]), e.plain(x)], tag="sum", reduction="add")
    first = e.constant([0], np.int64, tag="first")
    return e.tensor(e.node("Slice", [total, first, rows, e.constant([0], np.int64, tag="axes")]))


OPERATORS: dict[str, Emit] = {
    "Gather": _gather,
    "GatherV2": _gather,
    "GatherNd": _gather_nd,
    "ScatterNd": _scatter_nd,
    "TensorScatterUpdate": _tensor_scatter("none"),
    "TensorScatterAdd": _tensor_scatter("add"),
    "TensorScatterSub": _tensor_scatter("add", negate=True),
    "TensorScatterMax": _tensor_scatter("max"),
    "TensorScatterMin": _tensor_scatter("min"),
    "UnsortedSegmentSum": _segment_sum,
}
