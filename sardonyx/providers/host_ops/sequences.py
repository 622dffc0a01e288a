"""Sequences and optionals: lists, and values that may be None. A list is never changed in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.providers.host_ops.table import Array, Run, host

if TYPE_CHECKING:
    import onnx_ir as ir


@host("SequenceConstruct")
def sequence_construct(node: ir.Node) -> Run:
    """Of all inputs."""
    return lambda *items: list(items)


@host("SequenceEmpty")
def sequence_empty(node: ir.Node) -> Run:
    """Of nothing."""
    return list


@host("SequenceLength")
def sequence_length(node: ir.Node) -> Run:
    """How many items."""
    return lambda items: np.array(len(items), np.int64)


@host("SequenceAt")
def sequence_at(node: ir.Node) -> Run:
    """One item; negative places count from the end."""
    return lambda items, place: items[_place(place, len(items))]


@host("SequenceInsert")
def sequence_insert(node: ir.Node) -> Run:
    """One item more, before a place or at the end."""

    def run(items: list[Any], item: Any, place: Array | None = None) -> list[Any]:
        at = len(items) if place is None else _place(place, len(items), 1)
        return [*items[:at], item, *items[at:]]

    return run


@host("SequenceErase")
def sequence_erase(node: ir.Node) -> Run:
    """One item less, the last unless a place is given."""

    def run(items: list[Any], place: Array | None = None) -> list[Any]:
        at = _place(np.array(-1) if place is None else place, len(items))
        return [*items[:at], *items[at + 1 :]]

    return run


def _place(place: Array, length: int, beyond: int = 0) -> int:
    at = int(place.reshape(-1)[0])
    if not -length <= at < length + beyond:
        raise IndexError(f"place {at} of {length}")
    return at + length if at < 0 else at


@host("SplitToSequence")
def split_to_sequence(node: ir.Node) -> Run:
    """Parts along an axis: of one size, the last maybe smaller, of sizes given, or single slices."""
    axis, keep = node.attributes.get_int("axis", 0), bool(node.attributes.get_int("keepdims", 1))

    def run(x: Array, sizes: Array | None = None) -> list[Array]:
        total = x.shape[axis]
        if sizes is None:
            parts = np.split(x, total, axis) if total else []
            return parts if keep else [np.squeeze(part, axis) for part in parts]
        if sizes.ndim == 0:
            each = int(sizes)
            if each <= 0:
                raise ValueError(f"parts of {each}")
            return np.split(x, range(each, total, each), axis)
        if sizes.sum() != total or (sizes < 0).any():
            raise ValueError(f"parts of {sizes.tolist()} of {total}")
        return np.split(x, np.cumsum(sizes)[:-1], axis)

    return run


@host("ConcatFromSequence")
def concat_from_sequence(node: ir.Node) -> Run:
    """All items along an axis, or a new one."""
    axis, new = node.attributes.get_int("axis"), bool(node.attributes.get_int("new_axis", 0))
    return lambda items: np.stack(items, axis) if new else np.concatenate(items, axis)


@host("Optional")
def optional(node: ir.Node) -> Run:
    """The value, or nothing."""
    return lambda value=None: value


@host("OptionalHasElement")
def optional_has_element(node: ir.Node) -> Run:
    """Whether there is a value."""
    return lambda value=None: np.array(value is not None)


@host("OptionalGetElement")
def optional_get_element(node: ir.Node) -> Run:
    """The value, which must be there."""

    def run(value: Any) -> Any:
        if value is None:
            raise ValueError("there is nothing in the optional")
        return value

    return run
