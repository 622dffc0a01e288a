"""Attention (opset 23) out of products and a softmax.

softmax(scale * Q K' + mask) V, for Q, K, V of the dims [batch, heads, length, size], or three of them when there are no
heads. Any additive mask maps to the operator's as it is, minus infinity, float.min and -10000 alike. `Where` with a
number instead of the masked scores becomes an additive mask when adding that number to a score gives the number
itself: infinity, or so large that no score shows in its rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.idioms import Built, Idiom, recognise
from sardonyx.passes.pattern import Match, Nearest, either, number, op, scaled, value
from sardonyx.passes.query import ONNX, known_shape, new_constant, opset, permutation, used, walk
from sardonyx.passes.recognise_normalization import FLOATS
from sardonyx.passes.symbolic import Contents, Dim, dims_of, shape_of

_DROWNS = {ir.DataType.FLOAT: -1e30, ir.DataType.BFLOAT16: -1e30, ir.DataType.FLOAT16: -6e4}
"""From this number down a score that is added to it is lost in rounding."""

_QUERY = either(scaled(value("q"), by="q scale", divided="q divisor"), value("q"))
_KEY = either(
    scaled(op("Transpose", value("k"), name="k'"), by="k scale", divided="k divisor"),
    op("Transpose", scaled(value("k"), by="k scale", divided="k divisor"), name="k'"),
    op("Transpose", value("k"), name="k'"),
)
_PRODUCT = op("MatMul", _QUERY, _KEY)
_SCORES = either(scaled(_PRODUCT, by="scale", divided="divisor"), _PRODUCT)


_TRIANGLE = op(
    "Trilu",
    op("Expand", number(1.0), value("lengths")),
    check=lambda node: "it is the upper one" if node.attributes.get_int("upper", 1) else None,
)
_CAUSAL = op("Where", op("Equal", _TRIANGLE, number(0.0)), number(name="fill"), number(0.0))
"""A mask that hides the keys after each query."""

_BIASED = either(op("Add", _SCORES, value("mask")), _SCORES)
_TWICE = either(op("Add", _BIASED, value("second mask")), _BIASED)
_HIDDEN = op("Where", value("keep"), _TWICE, number(name="fill"))
_MASKED = either(op("Add", _HIDDEN, value("late mask")), _HIDDEN, _TWICE)
_WEIGHTS = op("Softmax", _MASKED, name="weights")
_GUARDED = op("Where", op("IsNaN", _WEIGHTS), number(0.0), _WEIGHTS)  # no key is left: the operator gives zeros, too
_ATTENTION = op("MatMul", either(_WEIGHTS, _GUARDED), value("v"), name="y")


def _attention(match: Match, version: int) -> Built | str:
    q, k, v = match["q"], match["k"], match["v"]
    rank = _rank(q, k, v)
    if isinstance(rank, str):
        return rank
    axis = match.node("weights").attributes.get_int("axis", -1 if version >= 13 else 1)
    if axis not in (-1, rank - 1):
        return f"the softmax is over axis {axis}, not over the last"
    scale = _scale(match)
    if not 0 < scale < math.inf:
        return f"its scale is {scale:g}"
    parts = _Parts(match, rank, version)
    k, v = _shared_heads(q, parts.key(), v)
    mask = parts.mask()
    if isinstance(mask, str):
        return mask
    attributes: dict[str, int | float] = {"scale": scale}
    if rank == 3:  # one head: [batch, length, size] is [batch, length, heads * size]
        attributes |= {"q_num_heads": 1, "kv_num_heads": 1}
    if mask is not None and _is_causal(mask, q, match["k'"]):
        attributes, mask = attributes | {"is_causal": 1}, None
    inputs = [q, k, v] if mask is None else [q, k, v, mask]
    return Built([*parts.nodes, ir.node("Attention", inputs, attributes)], parts.constants)


def _rank(*values: ir.Value) -> int | str:
    """The rank, 3 or 4, that all have."""
    ranks = {len(shape) if (shape := known_shape(one)) is not None else None for one in values}
    rank = ranks.pop()
    if ranks or rank not in (3, 4):
        return f"{', '.join(repr(one.name) for one in values)} are not of one rank, 3 or 4"
    wrong = next((one for one in values if one.dtype not in FLOATS), None)
    return rank if wrong is None else f"{wrong.name!r} is {wrong.dtype}"


def _scale(match: Match) -> float:
    """The product of all factors; infinite when one divides by zero."""
    scale = 1.0
    for name in ("", "q ", "k "):
        divisor = match.numbers.get(f"{name}divisor", 1.0)
        scale *= match.numbers.get(f"{name}scale", 1.0) / divisor if divisor else math.inf
    return scale


class _Parts:
    """What Attention reads, with the nodes and constants that make it so."""

    def __init__(self, match: Match, rank: int, version: int) -> None:
        self._match, self._rank, self._version = match, rank, version
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def _add(
        self, op_type: str, *inputs: ir.Value, shape: ir.Shape | None = None, **attributes: int | list[int]
    ) -> ir.Value:
        self.nodes.append(ir.node(op_type, inputs, attributes))
        made = self.nodes[-1].outputs[0]
        made.type, made.shape = self._match["q"].type, shape
        return made

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        self.constants.append(new_constant(name, array))
        return self.constants[-1]

    def key(self) -> ir.Value:
        """K with its last axes as Q has them, though its heads may have been moved by the same Transpose."""
        k = self._match["k"]
        perm = permutation(self._match.node("k'"), self._rank)
        assert perm is not None
        kept = [*perm[:-2], perm[-1], perm[-2]]
        if kept == list(range(self._rank)):
            return k
        shape = None if k.shape is None else ir.Shape([k.shape[axis] for axis in kept])
        return self._add("Transpose", k, shape=shape, perm=kept)

    def mask(self) -> ir.Value | str | None:
        """What is added to the scores, of rank 2 or 4; or why that cannot be."""
        masks = [self._match[name] for name in ("mask", "second mask", "late mask") if name in self._match]
        for mask in masks:
            obstacle = self._obstacle(mask)
            if obstacle:
                return obstacle
        if "fill" in self._match:
            keep, fill, q = self._match["keep"], self._match.numbers["fill"], self._match["q"]
            assert q.dtype is not None
            if not fill <= _DROWNS[q.dtype]:
                return f"scores masked with {fill:g} could show through where it is added to them"
            obstacle = self._obstacle(keep)
            if obstacle:
                return obstacle
            kept = self._constant(f"{keep.name}_kept", np.zeros((), q.dtype.numpy()))
            hidden = self._constant(f"{keep.name}_hidden", np.full((), fill, q.dtype.numpy()))
            masks.append(self._add("Where", keep, kept, hidden, shape=keep.shape))
        if not masks:
            return None
        if len(masks) > 1 and {len(known_shape(mask) or ()) for mask in masks} != {self._rank}:
            return "it has several masks of different ranks"
        mask = masks[0]
        for other in masks[1:]:
            mask = self._add("Add", mask, other, shape=_joint(mask, other))
        return self._of_rank(mask, len(known_shape(masks[0]) or ()))

    def _obstacle(self, mask: ir.Value) -> str | None:
        """Whether the operator would read a mask in another way: it never widens scores, and pads the last axis."""
        shape, scores = dims_of(mask), dims_of(self._match["weights"])
        if shape is None or not 2 <= len(shape) <= self._rank:
            return f"the mask {mask.name!r} is not of rank 2 to {self._rank}"
        q, k = dims_of(self._match["q"]), dims_of(self._match["k'"])
        assert q is not None and k is not None
        full = [*(scores or q)[: self._rank - 2], q[-2], k[-1]]
        for have, want in zip(reversed(shape), reversed(full), strict=False):
            sizes = have.number, want.number
            if have.number != 1 and None not in sizes and sizes[0] != sizes[1]:
                return f"the mask {mask.name!r} widens the scores"
        if shape[-1].number == 1 and full[-1].number != 1:
            return f"the mask {mask.name!r} has one element for all keys"
        return None

    def _of_rank(self, mask: ir.Value, rank: int) -> ir.Value:
        """[batch, lengths] for the only head, and [heads, lengths] for all batches, with the axis that lacks."""
        if rank != 3:
            return self._for_each_query(mask)
        axis = 1 if self._rank == 3 else 0
        shape = [*mask.shape] if mask.shape is not None else [None] * 3
        whole = ir.Shape([*shape[:axis], 1, *shape[axis:]])
        if self._version < 13:
            return self._for_each_query(self._add("Unsqueeze", mask, shape=whole, axes=[axis]))
        at = self._constant(f"{mask.name}_axis", np.array([axis]))
        return self._for_each_query(self._add("Unsqueeze", mask, at, shape=whole))

    def _for_each_query(self, mask: ir.Value) -> ir.Value:
        """A mask for all queries alike once for each: the standard broadcasts it, onnxruntime (1.32) does not.

        Where the model's opset has no Attention, the model is for a session, and no other runtime will see it.
        """
        dims, q = dims_of(mask), dims_of(self._match["q"])
        assert dims is not None and q is not None
        if self._version < 23 or dims[-2].number != 1 or q[-2].number == 1:
            return mask
        ones = [1] * (len(dims) - 2)
        if q[-2].number is not None:
            target = self._constant(f"{mask.name}_lengths", np.array([*ones, q[-2].number, 1]))
        else:
            source, axis = self._place_of(q[-2])
            length = self._add("Shape", source, shape=ir.Shape([1]), start=axis, end=axis + 1)
            one = self._constant(f"{mask.name}_one", np.array([1]))
            target = self._add("Concat", *[one] * len(ones), length, one, shape=ir.Shape([len(dims)]), axis=0)
            length.type = target.type = ir.TensorType(ir.DataType.INT64)
        return self._add("Expand", mask, target, shape=shape_of((*dims[:-2], q[-2], dims[-1]), mask.shape))

    def _place_of(self, dim: Dim) -> tuple[ir.Value, int]:
        """A value with the dim, and its axis: an input of the graph, so that all layers ask the same, or Q."""
        graph = self._match.node("y").graph
        for known in graph.inputs if graph is not None else ():
            dims = dims_of(known)
            if dims is not None and dim in dims:
                return known, dims.index(dim)
        return self._match["q"], self._rank - 2


def _joint(left: ir.Value, right: ir.Value) -> ir.Shape | None:
    """The shape of the sum of two values of one rank; of two open sizes that of the first."""
    if left.shape is None or right.shape is None:
        return None
    return ir.Shape([other if size == 1 else size for size, other in zip(left.shape, right.shape, strict=True)])


def _shared_heads(q: ir.Value, k: ir.Value, v: ir.Value) -> tuple[ir.Value, ir.Value]:
    """K and V before each of their heads was repeated for a group of Q's, which the operator does by itself."""
    before = _unrepeated(k), _unrepeated(v)
    heads, dims = dims_of(q), [dims_of(one) for one in before]
    if before[0] is None or before[1] is None or heads is None or dims[0] is None or dims[1] is None:
        return k, v
    have, shared = heads[1].number, {dims[0][1].number, dims[1][1].number}
    fewer = shared.pop()
    repeated = [known_shape(one) for one in (k, v)]
    fits = have is not None and fewer and not shared and have % fewer == 0
    if fits and all(shape is not None and shape[1] == have for shape in repeated):
        return before[0], before[1]
    return k, v


def _unrepeated(value: ir.Value) -> ir.Value | None:
    """x of [batch, heads, length, size] where `value` is each head of it several times over."""
    reshape = value.producer()
    expand = reshape.inputs[0].producer() if reshape is not None and reshape.inputs and reshape.inputs[0] else None
    unsqueeze = expand.inputs[0].producer() if expand is not None and expand.inputs and expand.inputs[0] else None
    chain = [node.op_type if node is not None and node.domain == ONNX else "" for node in (reshape, expand, unsqueeze)]
    if chain not in (["Reshape", "Expand", "Unsqueeze"], ["Reshape", "Expand", "Reshape"]) or unsqueeze is None:
        return None
    x = unsqueeze.inputs[0]
    assert expand is not None
    dims, lifted, wide, flat = (dims_of(one) for one in (x, unsqueeze.outputs[0], expand.outputs[0], value))
    if dims is None or wide is None or len(dims) != 4 or len(wide) != 5 or flat is None or len(flat) != 4:
        return None
    if lifted != (*dims[:2], Dim(1), *dims[2:]) or wide != (*dims[:2], wide[2], *dims[2:]):
        return None
    return x if flat == (dims[0], dims[1] * wide[2], *dims[2:]) else None


def _is_causal(mask: ir.Value, q: ir.Value, transposed: ir.Value) -> bool:
    """Whether a mask of rank 2 hides just the keys after each query: the diagonal's are never hidden."""
    for found in _CAUSAL.match(mask, Match(), Nearest()):
        dims, keys = dims_of(q), dims_of(transposed)
        lengths = Contents().of(found["lengths"])
        if dims is not None and keys is not None and q.dtype is not None and lengths == (dims[-2], keys[-1]):
            return found.numbers["fill"] <= _DROWNS[q.dtype]
    return False


IDIOMS = (Idiom("Attention", 23, "Softmax", _ATTENTION, _attention, same="q"),)


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    if opset(model) < 7:  # operators broadcast by attributes
        return
    yield from recognise(model, IDIOMS)
    for node in walk(model):
        if node.domain == ONNX and node.op_type == "Attention":
            yield from _without_repeats(node)


def _without_repeats(node: ir.Node) -> Iterator[Rewrite]:
    """An Attention whose keys and values an exporter repeated for each group of heads."""
    q, k, v = node.inputs[:3]
    if q is None or k is None or v is None or len(node.inputs) > 4:  # a cache holds repeated heads
        return
    fewer = _shared_heads(q, k, v)
    if fewer == (k, v) or any(value.name and used(value) for value in node.outputs[1:]):
        return
    anew = ir.Node(
        ONNX,
        node.op_type,
        [q, *fewer, *node.inputs[3:]],
        list(node.attributes.values()),
        name=node.name,
        version=node.version,
    )
    yield Rewrite(node, "shares heads", {node.outputs[0]: anew.outputs[0]}, insert=[anew], remove=[node])


RECOGNISE_ATTENTION = Pass(
    name="recognise-attention",
    gain="The scores, which grow with the square of the length, need never be in memory.",
    placed="After shapes are simplified, which tell ranks, heads and lengths, and rotations of Q and K are found.",
    exact=False,
    rewrites=_rewrites,
)
