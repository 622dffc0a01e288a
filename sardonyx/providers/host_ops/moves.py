"""Moves and comparisons of strings, in arrays of objects. What only moves elements works for any type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sardonyx.ops.table import axis_of
from sardonyx.providers.host_ops.table import Array, Run, host, ints, ranked

if TYPE_CHECKING:
    import onnx_ir as ir


@host("Identity")
def identity(node: ir.Node) -> Run:
    """The value, of whatever type."""
    return lambda x: x


@host("Reshape")
def reshape(node: ir.Node) -> Run:
    """To dims of which one may be -1; 0 is the old dim unless `allowzero`."""
    fixed, plain = ints(node, "shape"), bool(node.attributes.get_int("allowzero", 0))

    def run(x: Array, shape: Array | None = None) -> Array:
        wanted = list(fixed) if fixed is not None else [] if shape is None else shape.tolist()
        if not plain:
            wanted = [x.shape[at] if size == 0 and at < x.ndim else size for at, size in enumerate(wanted)]
        return x.reshape(wanted)

    return run


@host("Flatten")
def flatten(node: ir.Node) -> Run:
    """To a matrix, cut before an axis."""
    axis = node.attributes.get_int("axis", 1)

    def run(x: Array) -> Array:
        at = axis + x.ndim if axis < 0 else axis
        return x.reshape(int(np.prod(x.shape[:at], dtype=np.int64)), -1 if x.size else int(np.prod(x.shape[at:])))

    return run


@host("Squeeze")
def squeeze(node: ir.Node) -> Run:
    """Without axes of one."""
    given = ints(node, "axes")

    def run(x: Array, axes: Array | None = None) -> Array:
        chosen = given if axes is None else axes.tolist()
        return np.squeeze(x, None if chosen is None else tuple(chosen))

    return run


@host("Unsqueeze")
def unsqueeze(node: ir.Node) -> Run:
    """With new axes of one."""
    given = ints(node, "axes")

    def run(x: Array, axes: Array | None = None) -> Array:
        return np.expand_dims(x, tuple(given or [] if axes is None else axes.reshape(-1).tolist()))

    return run


@host("Transpose")
def transpose(node: ir.Node) -> Run:
    """The axes in another order."""
    order = ints(node, "perm")
    return lambda x: np.transpose(x, order)


@host("Concat")
def concat(node: ir.Node) -> Run:
    """Along an axis."""
    axis = node.attributes.get_int("axis", 1)
    return lambda *arrays: np.concatenate(arrays, axis)


@host("Gather")
def gather(node: ir.Node) -> Run:
    """Slices of an axis."""
    axis = node.attributes.get_int("axis", 0)
    return lambda x, chosen: ranked(np.take(x, chosen, axis))


@host("GatherElements")
def gather_elements(node: ir.Node) -> Run:
    """For each index the element at its own place but for the axis."""
    axis = node.attributes.get_int("axis", 0)

    def run(x: Array, chosen: Array) -> Array:
        size = x.shape[axis]
        if chosen.size and not (-size <= chosen.min() and chosen.max() < size):
            raise IndexError(f"an index out of range of {size}")
        return np.take_along_axis(x, chosen, axis)

    return run


@host("GatherND")
def gather_nd(node: ir.Node) -> Run:
    """Slices at tuples of indices."""
    batch = node.attributes.get_int("batch_dims", 0)

    def run(x: Array, chosen: Array) -> Array:
        lead, depth = chosen.shape[:batch], chosen.shape[-1]
        if not 0 <= batch < min(x.ndim, chosen.ndim) or x.shape[:batch] != lead or batch + depth > x.ndim:
            raise ValueError(f"{batch} dims of batches and {depth} indices into {list(x.shape)}")
        grids = np.indices(chosen.shape[:-1], sparse=True)[:batch] if lead else ()
        return ranked(x[(*grids, *(chosen[..., place] for place in range(depth)))])

    return run


@host("Slice")
def slice_(node: ir.Node) -> Run:
    """From starts to ends along axes, by steps."""
    old = [ints(node, name) for name in ("starts", "ends", "axes")]

    def run(x: Array, *given: Array | None) -> Array:
        if given:
            starts, ends, axes, steps = [None if a is None else a.tolist() for a in (*given, None, None)[:4]]
        else:
            starts, ends, axes = old
            steps = None
        chosen = [slice(None)] * x.ndim
        for place, (start, end) in enumerate(zip(starts or [], ends or [], strict=True)):
            axis = axis_of(axes[place] if axes is not None else place, x.ndim)
            step = steps[place] if steps is not None else 1
            stop = None if step < 0 and end < -x.shape[axis] else end
            chosen[axis] = slice(start, stop, step)
        return x[tuple(chosen)]

    return run


@host("Split")
def split(node: ir.Node) -> Run:
    """Parts along an axis: of sizes given, or as even as can be."""
    axis, fixed, count = node.attributes.get_int("axis", 0), ints(node, "split"), len(node.outputs)

    def run(x: Array, sizes: Array | None = None) -> tuple[Array, ...]:
        parts = fixed if sizes is None else sizes.tolist()
        if parts is None:
            each = -(-x.shape[axis] // count)
            parts = [min(each, max(0, x.shape[axis] - each * place)) for place in range(count)]
        if sum(parts) != x.shape[axis] or min(parts, default=0) < 0:
            raise ValueError(f"parts of {parts} of {x.shape[axis]}")
        return tuple(np.split(x, np.cumsum(parts)[:-1], axis))

    return run


@host("Expand")
def expand(node: ir.Node) -> Run:
    """Stretched to the dims that it and `shape` have together."""
    return lambda x, shape: np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist())))


@host("Tile")
def tile(node: ir.Node) -> Run:
    """Repeated along axes."""
    return lambda x, repeats: np.tile(x, tuple(repeats.tolist()))


@host("Where")
def where(node: ir.Node) -> Run:
    """One of two, element by element."""
    return lambda condition, yes, no: ranked(np.where(condition, yes, no))


@host("Equal")
def equal(node: ir.Node) -> Run:
    """Element by element."""
    return lambda a, b: np.asarray(a == b, np.bool_)


@host("Shape")
def shape(node: ir.Node) -> Run:
    """The dims, from `start` to `end`."""
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", None)
    return lambda x: np.array(x.shape[start:end], np.int64)


@host("Size")
def size(node: ir.Node) -> Run:
    """How many elements there are."""
    return lambda x: np.array(x.size, np.int64)


@host("Compress")
def compress(node: ir.Node) -> Run:
    """What a condition selects along an axis, or of all elements."""
    axis = node.attributes.get_int("axis", None)
    return lambda x, condition: np.compress(condition, x, axis)


@host("Unique")
def unique(node: ir.Node) -> Run:
    """Distinct elements, or slices of an axis; where each is first, where each element is among them, how often."""
    axis, ordered = node.attributes.get_int("axis", None), bool(node.attributes.get_int("sorted", 1))

    def run(x: Array) -> tuple[Array, ...]:
        codes = None
        if x.dtype.kind == "O" and axis is not None:  # NumPy sorts no slices of objects
            codes, numbers = np.unique(x, return_inverse=True)
            x = numbers.reshape(x.shape)
        values, first, back, counts = np.unique(
            x, return_index=True, return_inverse=True, return_counts=True, axis=axis
        )
        back = back.reshape(-1)
        if not ordered:
            order = np.argsort(first)
            values = np.take(values, order, axis if axis is not None else 0)
            first, counts = first[order], counts[order]
            back = np.argsort(order)[back]
        return values if codes is None else codes[values], first, back, counts

    return run


def _replaces(node: ir.Node) -> str | None:
    return None if node.attributes.get_string("reduction", "none") == "none" else "a reduction"


@host("ScatterElements", takes=_replaces)
def scatter_elements(node: ir.Node) -> Run:
    """A copy with elements replaced at their own places but for the axis."""
    axis = node.attributes.get_int("axis", 0)

    def run(x: Array, chosen: Array, updates: Array) -> Array:
        made = x.copy()
        np.put_along_axis(made, chosen, updates, axis)
        return made

    return run


@host("ScatterND", takes=_replaces)
def scatter_nd(node: ir.Node) -> Run:
    """A copy with slices replaced at tuples of indices."""

    def run(x: Array, chosen: Array, updates: Array) -> Array:
        made = x.copy()
        made[tuple(chosen[..., place] for place in range(chosen.shape[-1]))] = updates
        return made

    return run
