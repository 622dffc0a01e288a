"""What integers the inputs of a model may hold, as far as the graph and their names tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

_MOVES = frozenset({"Cast", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose first input goes on as it is."""


def ranges(model: ir.Model) -> dict[str, tuple[int, int]]:
    """For inputs of `model` the least integer and the one behind the greatest.

    What picks rows of a constant table is below the number of its rows; what is named a mask is 1, for nothing is
    masked. Of other inputs nothing is known.
    """
    found: dict[str, tuple[int, int]] = {}
    for value in model.graph.inputs:
        name = value.name or ""
        if rows := list(_rows(value)):
            found[name] = (0, max(1, min(rows)))
        elif "mask" in name.lower():
            found[name] = (1, 2)
    return found


def _rows(value: ir.Value) -> Iterator[int]:
    """How many rows each constant table has that the value, perhaps in another shape, picks rows of."""
    open_, seen = [value], {value}
    while open_:
        for node, index in open_.pop().uses():
            if node.domain:
                continue
            if node.op_type == "Gather" and index == 1 and node.inputs[0] is not None:
                table, axis = node.inputs[0], node.attributes.get_int("axis", 0)
                if table.const_value is not None and table.shape is not None and -table.shape.rank() <= axis:
                    size = table.shape[axis] if axis < table.shape.rank() else None
                    yield from [size] if isinstance(size, int) else []
            elif node.op_type in _MOVES and index == 0 and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                open_.append(node.outputs[0])
