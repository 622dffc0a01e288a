"""Attention, with its cache of keys and values, and TensorScatter, which updates one in place of Attention."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import is_one, is_one_of, same
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import ExprBuilder
from sardonyx.compiler.kernels.attention import AttentionBlocks
from sardonyx.compiler.kernels.attention_row import AttentionParts, AttentionRow
from sardonyx.compiler.kernels.attention_scores import UNBOUNDED, Scoring
from sardonyx.compiler.kernels.update import UpdateRows
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.ops.table import ALL, FLOATS, axis_of, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_DOUBLE = 11
"""ONNX's number of float64."""
_FLOPS_PER_FLOAT = 16
"""Multiply-adds weighed against elementwise work, when a chunk is chosen."""

_ROW_KEYS = 128
"""Keys of a block when there is one query."""


def heads_first(view: View, heads: int | None) -> View:
    """[batch, heads, sequence, size], of that or of [batch, sequence, heads * size]; ValueError when it is neither."""
    if len(view.dims) == 4:
        return view
    if len(view.dims) != 3 or not heads or heads < 0 or view.dims[2] % heads:
        raise ValueError(f"{heads} heads in {list(view.dims)}")
    batch, sequence, columns = view.dims
    size, (outer, row, column) = columns // heads, view.strides
    strides = (outer, size * column, row, column)
    return View(view.buffer, view.dtype, (batch, heads, sequence, size), strides, view.offset)


def _as(ctx: Lowering, view: View, dtype: DType) -> View:
    """The numbers as a type: they themselves, or converted."""
    if view.dtype is dtype:
        return view
    target = ctx.temporary(view.dims, dtype)
    _convert(ctx, view, target)
    return target


def _convert(ctx: Lowering, source: View, target: View) -> None:
    e = ExprBuilder()
    ctx.elementwise(e.build(e.cast(e.leaf(source.dtype), target.dtype)), [source], target, "cast")


def in_rows(ctx: Lowering, view: View) -> View:
    """The view if its last dim is contiguous, else a copy."""
    return view if same(view.strides[-1], 1) or is_one(view.dims[-1]) else ctx.copied(view)


def optional_input(node: ir.Node, index: int) -> ir.Value | None:
    """An input, or None when it is not given."""
    return node.inputs[index] if index < len(node.inputs) else None


def _output(node: ir.Node, index: int) -> ir.Value | None:
    value = node.outputs[index] if index < len(node.outputs) else None
    return value if value is not None and value.name else None


def _present(ctx: Lowering, past: ir.Value | None, new: View, value: ir.Value | None) -> View:
    """All keys, or values: those of the past, then the new ones. They are `value`, if that is given."""
    if past is None:
        if value is not None:
            ctx.define(value, new)
        return new
    before = ctx.view(past)
    batch, heads, length, size = new.dims
    if (
        len(before.dims) != 4
        or before.dtype is not new.dtype
        or (*before.dims[:2], before.dims[3])
        != (
            batch,
            heads,
            size,
        )
    ):
        raise ValueError(f"a past {list(before.dims)} for {list(new.dims)}")
    dims = (batch, heads, before.dims[2] + length, size)
    whole = ctx.temporary(dims, new.dtype) if value is None else ctx.result(value, dims, new.dtype)
    for part, start in ((before, 0), (new, before.dims[2])):
        at = whole.offset + start * whole.strides[2]
        ctx.copy(part, View(whole.buffer, whole.dtype, part.dims, whole.strides, at), "present")
    return whole


@dataclass(frozen=True)
class _Mask:
    """A mask, or none (`view`), and how many of the keys take part; `shared` by all of a head's queries."""

    view: View | None
    limit: int
    shared: bool = False

    def arguments(self) -> dict[str, View | int]:
        if self.view is None:
            return {}
        batch, head, row, _ = self.view.strides
        return arguments(mask=self.view, mask_keys=self.view.dims[3], mask_batch=batch, mask_head=head, mask_row=row)


def _mask(ctx: Lowering, value: ir.Value | None, dims: tuple[int, ...], group: int) -> _Mask:
    """The mask stretched to `dims` but for the last, in which it may be shorter: keys beyond it take no part."""
    keys = dims[3]
    if value is None:
        return _Mask(None, keys)
    view = ctx.view(value)
    if not 1 <= len(view.dims) <= 4:
        raise ValueError(f"a mask {list(view.dims)}")
    length = view.dims[-1]
    if length == 0:
        return _Mask(None, 0)
    if length != keys and length > keys:
        raise ValueError(f"a mask {list(view.dims)} of {keys} keys")
    full = in_rows(ctx, view).broadcast((*dims[:3], length))
    shared = full.strides[2] == 0 and (full.strides[1] == 0 or group == 1)
    return _Mask(full, length, shared)


@dataclass(frozen=True)
class _Heads:
    """What one step of attention works on: q, k, v and y as [batch, heads, sequence, size], and their scaling."""

    q: View
    k: View
    v: View
    y: View
    numbers: View
    scoring: Scoring

    def arguments(self, limit: int) -> dict[str, View | int]:
        heads = self.k.dims[1]
        found = arguments(q=self.q, k=self.k, v=self.v, y=self.y, numbers=self.numbers)
        found |= arguments(rows=self.q.dims[2], group=self.q.dims[1] // heads, heads=heads, keys=self.k.dims[2])
        found |= arguments(limit=limit, depth=self.q.dims[3])
        for name, view in (("q", self.q), ("k", self.k), ("v", self.v), ("y", self.y)):
            strides = zip(("batch", "head", "row"), view.strides, strict=False)
            found |= {f"{name}_{over}": stride for over, stride in strides}
        return found


def _check(q: View, k: View, v: View) -> None:
    batch, heads, _, depth = q.dims
    if k.dims[:3] != v.dims[:3] or k.dims[0] != batch or k.dims[3] != depth or not k.dims[1] or heads % k.dims[1]:
        raise ValueError(f"heads {list(q.dims)}, {list(k.dims)} and {list(v.dims)} do not fit")


@lowers("Attention", dtypes=FLOATS)
def attention(ctx: Lowering, node: ir.Node) -> None:
    """softmax(scale * Q * K' + mask) * V for each head, with the keys and values of the past before the new ones.

    Softmax is at least as precise as asked: in the type of Q, or in float64.
    """
    get, given = node.attributes.get_int, [optional_input(node, index) for index in range(7)]
    q, k, v = (
        heads_first(ctx.view(value), get(name, 0))
        for value, name in zip(given[:3], ("q_num_heads", "kv_num_heads", "kv_num_heads"), strict=True)
    )
    _check(q, k, v)
    if (given[4] is None) != (given[5] is None) or (given[4] is not None and given[6] is not None):
        raise ValueError("a past of keys comes with one of values, and without nonpad_kv_seqlen")
    past = 0 if given[4] is None else ctx.dims(given[4])[2]
    k, v = (_present(ctx, given[4 + index], view, _output(node, 1 + index)) for index, view in enumerate((k, v)))
    kind, own = (DType.F64 if get("softmax_precision", 1) == _DOUBLE else q.dtype), q.dtype
    q, k, v = (in_rows(ctx, _as(ctx, view, kind)) for view in (q, k, v))
    batch, heads, rows, depth = q.dims
    width = v.dims[3]
    flat = len(ctx.dims(given[0])) == 3
    dims = (batch, rows, heads * width) if flat else (batch, heads, rows, width)
    # Where heads are put back behind rows next, they lie there already.
    users = {user.op_type for user, _ in node.outputs[0].uses()}
    turned = not flat and users == {"Transpose"}
    strides = (rows * heads * width, width, heads * width, 1) if turned else None
    result = ctx.result(node.outputs[0], dims, own, strides)
    target = result if own is kind else ctx.temporary(dims, kind)
    mask = _mask(ctx, given[3], (batch, heads, rows, k.dims[2]), heads // k.dims[1])
    scoring, more = _scoring(ctx, node, mask, past)
    cap = node.attributes.get_float("softcap", 0.0)
    scale = node.attributes.get_float("scale", 1 / sqrt(max(1, int(depth))))
    numbers = ctx.constant(np.array([scale, cap, 1 / cap if cap > 0 else 0], kind.numpy))
    if scoring.wanted is not None:
        value = _output(node, 3)
        assert value is not None
        every = (batch, heads, rows, k.dims[2])
        wanted = ctx.result(value, every, own)
        more |= arguments(scores=wanted if own is kind else ctx.temporary(every, kind))
    _attend(ctx, node, _Heads(q, k, v, heads_first(target, heads), numbers, scoring), mask, more)
    if own is not kind:
        _convert(ctx, target, result)
        if scoring.wanted is not None:
            scores = more["scores"]
            assert isinstance(scores, View)
            _convert(ctx, scores, wanted)


def _scoring(ctx: Lowering, node: ir.Node, mask: _Mask, past: int) -> tuple[Scoring, dict[str, View | int]]:
    """What shapes the scores' code, and its arguments but for the output of scores."""
    get, lengths = node.attributes.get_int, optional_input(node, 6)
    left, right = (get(f"{side}_window_size", -1) for side in ("left", "right"))
    if min(left, right) < -1:
        raise ValueError(f"a window of {left} keys before and {right} after")
    left, right = (UNBOUNDED if reach < 0 else min(reach, UNBOUNDED) for reach in (left, right))
    if get("is_causal", 0):
        right = 0
    mode = get("qk_matmul_output_mode", 0)
    if not 0 <= mode <= 3:
        raise ValueError(f"scores of mode {mode}")
    scoring = Scoring(
        mask=None if mask.view is None else mask.view.dtype,
        softcap=node.attributes.get_float("softcap", 0.0) > 0,
        banded=min(left, right) < UNBOUNDED,
        counted=lengths is not None,
        wanted=None if _output(node, 3) is None else mode,
    )
    found = mask.arguments()
    if scoring.banded:
        found |= arguments(past=past, left=left, right=right)
    if lengths is not None:
        if ctx.dims(lengths) != ctx.dims(node.inputs[0])[:1]:
            raise ValueError(f"lengths {list(ctx.dims(lengths))}")
        found |= arguments(lengths=ctx.row_major(lengths))
    return scoring, found


def _attend(ctx: Lowering, node: ir.Node, on: _Heads, mask: _Mask, more: dict[str, View | int]) -> None:
    """The step."""
    if on.y.size == 0:
        return
    batch, heads, rows, _ = on.q.dims
    groups, depth, width = on.k.dims[1], int(on.q.dims[3]), int(on.v.dims[3])
    if is_one_of(rows, [on.k.dims[2]]) and on.scoring.wanted is None:
        _attend_row(ctx, node, on, mask, more)
        return
    share = int(groups) // ctx.threads
    kernel = AttentionBlocks.fitting(ctx.target, on.scoring, on.q.dtype, depth, width, shared=mask.shared, share=share)
    at_once = kernel.rows_at_once(ctx.target)
    blocks = -(-(heads // groups * rows) // at_once)
    ctx.step(
        kernel,
        on.arguments(mask.limit) | more | arguments(blocks=blocks),
        domain=batch * groups * blocks,
        label=node.name or node.op_type,
        writes=("y",) if on.scoring.wanted is None else ("y", "scores"),
        cost=at_once * kernel.block * (depth + width) / _FLOPS_PER_FLOAT,
        scratch=kernel.scratch(ctx.target, depth),
    )


def _attend_row(ctx: Lowering, node: ir.Node, on: _Heads, mask: _Mask, more: dict[str, View | int]) -> None:
    """The same for one query a head. Threads share the keys of a few heads; their parts are then joined."""
    batch, heads, _, depth = on.q.dims
    keys, width, groups, kind = on.k.dims[2], int(on.v.dims[3]), int(on.k.dims[1]), on.q.dtype
    group = int(heads // groups)
    parts = -(-ctx.threads // groups) if batch == 1 else 1
    kernel = AttentionRow(min(4, group), _ROW_KEYS, width, parts > 1, on.scoring, kind)
    given = on.arguments(mask.limit) | more | arguments(parts=parts, part=-(-keys // parts))
    kept: dict[str, View | int] = {}
    if parts > 1:
        pieces = (batch * groups * parts, group)
        kept = arguments(y=ctx.temporary((*pieces, width), kind))
        kept |= arguments(tops=ctx.temporary(pieces, kind), totals=ctx.temporary(pieces, kind))
    label = node.name or node.op_type
    ctx.step(
        kernel,
        given | kept,
        domain=batch * groups * parts,
        label=label,
        writes=("y", *list(kept)[1:]),
        cost=_ROW_KEYS * (int(depth) + width),
        scratch=kernel.scratch(ctx.target, group),
    )
    if kept:
        given = arguments(sums=kept["y"], tops=kept["tops"], totals=kept["totals"], y=on.y)
        ctx.step(
            AttentionParts(width, kind),
            given | arguments(parts=parts, group=group, y_head=on.y.strides[1]),
            domain=heads,
            label=label,
            cost=parts * width,
        )


_UPDATE_BLOCK = 64
"""Rows of a cache that one item copies."""


@lowers("TensorScatter", dtypes=ALL)
def tensor_scatter(ctx: Lowering, node: ir.Node) -> None:
    """The cache with the rows from a batch's index on replaced; an index without room for them is an error."""
    x, updates = (ctx.row_major(value) for value in node.inputs[:2])
    rank = len(x.dims)
    axis = axis_of(node.attributes.get_int("axis", -2), rank)
    mode = node.attributes.get_string("mode", "linear")
    if axis == 0 or mode not in ("linear", "circular") or updates.dtype is not x.dtype:
        raise ValueError(f"mode {mode} on axis {axis}")
    length, n = x.dims[axis], prod(x.dims[axis + 1 :])
    if len(updates.dims) != rank or any(
        u != d for a, (u, d) in enumerate(zip(updates.dims, x.dims, strict=True)) if a != axis
    ):
        raise ValueError(f"updates {list(updates.dims)} of {list(x.dims)}")
    count, start = updates.dims[axis], optional_input(node, 2)
    if count != length and count > length:
        raise ValueError(f"{count} new rows of {length}")
    y = ctx.result(node.outputs[0], x.dims, x.dtype)
    if y.size == 0:
        return
    starts = ctx.constant(np.zeros(1, np.int64)) if start is None else ctx.row_major(start)
    if start is not None and starts.dims != x.dims[:1]:
        raise ValueError(f"indices {list(starts.dims)} for {x.dims[0]} batches")
    found = arguments(x=x, updates=updates, y=y, start=starts, start_step=0 if start is None else 1)
    if mode == "linear":
        found |= arguments(status=ctx.check(node, "an index leaves no room for the update", f"0 to {length - count}"))
    blocks = -(-length // _UPDATE_BLOCK)
    ctx.step(
        UpdateRows(mode == "circular", x.dtype),
        found
        | arguments(length=length, count=count, n=n, inner=prod(x.dims[1:axis]), blocks=blocks, block=_UPDATE_BLOCK),
        domain=prod(x.dims[:axis]) * blocks,
        label=node.name or node.op_type,
        writes=("y", "status") if mode == "linear" else ("y",),
        cost=_UPDATE_BLOCK * 16,
    )
