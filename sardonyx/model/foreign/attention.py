"""Attention in the forms of com.microsoft, all by the standard's Attention."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.body import Body, Results, defines, pieces

_FILTER = -10000.0
"""What is added to the scores of masked keys, unless the node says otherwise."""


@dataclass(frozen=True)
class _Parts:
    """Queries, keys and values as [batch, sequence, heads * size] or, all of them, [batch, heads, sequence, size]."""

    q: ir.Value
    k: ir.Value
    v: ir.Value


def _past_pair(b: Body, past: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    return (None, None) if past is None else (b.index(past, 0), b.index(past, 1))


def _filtered(b: Body, keep: ir.Value, like: ir.Value) -> ir.Value:
    """0 where a key is kept, the filter's value elsewhere; `keep` holds truth values."""
    low = b.float("mask_filter_value", _FILTER)
    return b("Where", keep, b.scalar(0.0, like), b.scalar(low, like))


def _before(b: Body, total: ir.Value, ends: ir.Value) -> ir.Value:
    """[batch, total]: which of the places 0 to total lie before each of `ends`, [batch]."""
    places = b("Range", np.array(0, np.int64), b("Squeeze", total, [0]), np.array(1, np.int64))
    return b("Less", places, b("Unsqueeze", b.cast(ends, ir.DataType.INT64), [1]))


def _padding(b: Body, mask: ir.Value, x: ir.Value, total: ir.Value) -> ir.Value:
    """What is to be added to the scores for a mask of keys: [batch] lengths, [2 * batch] ends and starts, [batch, keys]
    or [batch, queries, keys] truth values.
    """
    rank = b.rank(mask)
    if rank == 1:
        batch, given = b.dim(x, 0), b.dim(mask, 0)
        both = batch is not None and given == 2 * batch and given > 0
        if given is None or batch is None or given not in (batch, 2 * batch):
            if given is not None and batch is not None:
                b.refuse(f"a mask of {given} numbers for a batch of {batch}")
            both = False  # one length a row, the only form of an open batch that is in use
        ends = b.cut(mask, [0], b.size(x, 0), 0) if both else mask
        keep = _before(b, total, ends)
        if both:
            starts = b.cut(mask, b.size(x, 0), [2 * (batch or 0)], 0)
            keep = b("And", keep, b("Not", _before(b, total, starts)))
        return _filtered(b, b("Unsqueeze", keep, [1, 2]), x)
    if rank not in (2, 3):
        b.refuse(f"a mask of {rank} dims")
    keep = b("Greater", b.cast(mask, ir.DataType.INT64), np.array(0, np.int64))
    return _filtered(b, b("Unsqueeze", keep, [1, 2] if rank == 2 else [1]), x)


def _attend(
    b: Body,
    parts: _Parts,
    heads: tuple[int, int],
    mask: ir.Value | None,
    past: tuple[ir.Value | None, ir.Value | None] = (None, None),
    *,
    causal: bool = False,
    softcap: float = 0.0,
    wanted: int = 1,
) -> list[ir.Value]:
    """Attention's results: those of the flat layout, and the keys and values in all, if asked for."""
    flat = b.rank(parts.q) == 3
    scale = b.float("scale", 0.0)
    found = b.many(
        "Attention",
        wanted,
        parts.q,
        parts.k,
        parts.v,
        mask,
        *past,
        is_causal=int(causal) or None,
        softcap=softcap or None,
        scale=scale or None,
        q_num_heads=heads[0] if flat else None,
        kv_num_heads=heads[1] if flat else None,
    )
    if flat:
        return list(found)
    turned = b("Transpose", found[0], perm=[0, 2, 1, 3])
    return [b("Reshape", turned, [0, 0, -1]), *found[1:]]


@defines("Attention")
def attention(b: Body) -> Results:
    """Self-attention with its projection: queries, keys and values are products of one input."""
    x, weights, bias = b.input(0), b.input(1), b.optional(2)
    made = b.sum(b("MatMul", x, weights), bias)
    return _self_attention(b, made, b.known_dim(weights, 1), b.optional(3), b.optional(4), b.optional(5))


@defines("QAttention")
def quantized_attention(b: Body) -> Results:
    """The same of quantised inputs and weights; what follows the products is in float."""
    x, weights, bias, x_scale, w_scale = (b.input(index) for index in range(5))
    product = b("MatMulInteger", x, weights, b.optional(6), b.optional(7))
    made = b("Mul", b.cast(product, b.dtype(bias)), b("Mul", x_scale, w_scale))
    return _self_attention(b, b("Add", made, bias), b.known_dim(weights, 1), b.optional(5), b.optional(8), None)


def _self_attention(
    b: Body,
    made: ir.Value,
    width: int,
    mask: ir.Value | None,
    past: ir.Value | None,
    bias: ir.Value | None,
) -> Results:
    if b.int("past_present_share_buffer", 0):
        b.refuse("a buffer that past and present share")
    heads = b.int("num_heads")
    sizes = b.ints("qkv_hidden_sizes") or [width // 3] * 3
    if heads <= 0 or sum(sizes) != width or any(size % heads for size in sizes) or sizes[0] != sizes[1]:
        b.refuse(f"{heads} heads of {sizes} in {width} columns")
    q, k, v = pieces(b, made, sizes, 2)
    if b.int("do_rotary", 0):
        b.refuse("rotary embedding by angles that no input gives")
    before = _past_pair(b, past)
    total = b.size(made, 1)
    if before[0] is not None:
        total = b("Add", total, b.size(before[0], 2))
    added = None if mask is None else _padding(b, mask, made, total)
    added = bias if added is None else b.sum(added, bias)
    wanted = 3 if b.wanted(1) else 1
    causal = bool(b.int("unidirectional", 0))
    y, *present = _attend(b, _Parts(q, k, v), (heads, heads), added, before, causal=causal, wanted=wanted)
    if not present:
        return y
    return y, b("Concat", *(b("Unsqueeze", part, [0]) for part in present), axis=0)


@defines("MultiHeadAttention")
def multi_head_attention(b: Body) -> Results:
    """Attention of queries, keys and values in one tensor, two or three, with their bias."""
    heads = b.int("num_heads")
    parts = _separate(b, heads)
    if b.optional(8) is not None or b.optional(9) is not None:
        b.refuse("a buffer that past and present share")
    past = b.optional(6), b.optional(7)
    x, total = parts.q, b.size(parts.k, -2)
    if past[0] is not None:
        total = b("Add", total, b.size(past[0], 2))
    mask = b.optional(4)
    added = None if mask is None else _padding(b, mask, x, total)
    bias = b.optional(5)
    added = bias if added is None else b.sum(added, bias)
    if b.wanted(3):
        b.refuse("the scores as a result")
    wanted = 3 if b.wanted(1) or b.wanted(2) else 1
    return _attend(b, parts, (heads, heads), added, past, causal=bool(b.int("unidirectional", 0)), wanted=wanted)


def _separate(b: Body, heads: int) -> _Parts:
    """Queries, keys and values with their bias, all of three or all of four dims."""
    q, k, v, bias = b.input(0), b.optional(1), b.optional(2), b.optional(3)
    if k is None or v is None:
        source, count = (q, 3) if k is None else (k, 2)  # [batch, sequence, heads, count, size]
        packed = [b("Reshape", b.index(source, place, 3), [0, 0, -1]) for place in range(count)]
        q, k, v = packed if count == 3 else (q, *packed)
    if bias is not None:
        rows = 4 if b.rank(k) == 4 else 3
        width = b.dim(q, 2) if b.dim(q, 2) is not None else b.dim(k, 2)
        total = b.known_dim(bias, 0)
        size = width if width is not None else total // 3
        if rows == 4:  # keys and values of a cache have their bias
            q = b("Add", q, b.cut(bias, [0], [size], 0))
        else:
            sizes = (size, size, total - 2 * size)
            q, k, v = (b("Add", one, part) for one, part in zip((q, k, v), pieces(b, bias, sizes, 0), strict=True))
    if b.rank(k) == 4:
        q = b("Transpose", b("Reshape", q, [0, 0, heads, -1]), perm=[0, 2, 1, 3])
    return _Parts(q, k, v)


@defines("RotaryEmbedding")
def rotary_embedding(b: Body) -> Results:
    """As in the standard, but that a single place stands for those that follow it."""
    x, places, cos, sin = (b.input(index) for index in range(4))
    if b.int("is_packed_batching", 0):
        b.refuse("packed batches")
    if b.rank(places) == 1:
        sequence = b.size(x, -2)
        steps = b("Range", np.array(0, np.int64), b("Squeeze", sequence, [0]), np.array(1, np.int64))
        places = b("Expand", b("Add", places, steps), b.joined(b.size(x, 0), sequence))
    y, heads = x, b.int("num_heads", 0)
    if b.rank(x) == 3 and not heads:
        heads = b.known_dim(x, 2) // (2 * b.known_dim(cos, 1))
    y = _rotate(b, x, cos, sin, places, heads, bool(b.int("interleaved", 0)), b.int("rotary_embedding_dim", 0))
    factor = b.float("scale", 1.0)
    return y if factor == 1 else b("Mul", y, b.scalar(factor, y))


def _rotate(
    b: Body,
    x: ir.Value,
    cos: ir.Value,
    sin: ir.Value,
    places: ir.Value,
    heads: int,
    interleaved: bool,
    size: int = 0,
) -> ir.Value:
    return b(
        "RotaryEmbedding",
        x,
        cos,
        sin,
        places,
        interleaved=int(interleaved) or None,
        num_heads=heads if b.rank(x) == 3 else None,
        rotary_embedding_dim=size or None,
    )


@defines("GroupQueryAttention")
def group_query_attention(b: Body) -> Results:
    """Causal attention with a cache, several heads of queries to one of keys and values.

    `seqlens_k` counts each row's keys but one, the new ones included, so new keys go to that many places before its
    end; a first call may hold rows that end earlier, which start at 0. The cache is as long as the longest row, or
    longer where it came so.
    """
    for index, what in (
        (12, "a quantised cache"),
        (13, "a quantised cache"),
        (14, "normalised queries"),
        (16, "qlens"),
    ):
        if b.optional(index) is not None:
            b.refuse(what)
    if b.wanted(3) or b.int("sliding_window_cache", 0) or not b.int("causal", 1):
        b.refuse("scores as a result, a sliding cache, or attention that is not causal")
    heads, groups = b.int("num_heads"), b.int("kv_num_heads")
    if heads <= 0 or groups <= 0 or heads % groups:
        b.refuse(f"{heads} heads of queries for {groups} of keys")
    q, k, v = _grouped(b, heads, groups)
    rows = b.size(q, 2)
    ends = b("Add", b.cast(b.input(5), ir.DataType.INT64), np.array(1, np.int64))
    ends = b("Reshape", ends, [-1])
    start = b("Max", b("Sub", ends, rows), np.array(0, np.int64))
    places = b.optional(9)
    if places is None:
        steps = b("Range", np.array(0, np.int64), b("Squeeze", rows, [0]), np.array(1, np.int64))
        places = b("Add", b("Unsqueeze", start, [1]), steps)
    if b.int("do_rotary", 0):
        interleaved = bool(b.int("rotary_interleaved", 0))
        q, k = (_rotate(b, one, b.input(7), b.input(8), places, 0, interleaved) for one in (q, k))
    total = b("Reshape", b.cast(b.input(6), ir.DataType.INT64), [1])
    k, v = (_cached(b, new, b.optional(index), start, total) for index, new in ((3, k), (4, v)))
    mask = _reach(b, start, rows, b.size(k, 2))
    keys, values, added = _with_sink(b, k, v, mask, q, heads)
    y = _attend(b, _Parts(q, keys, values), (heads, groups), added, softcap=b.float("softcap", 0.0))[0]
    return y, k, v


def _grouped(b: Body, heads: int, groups: int) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Queries, keys and values as [batch, heads, sequence, size]."""
    q, k, v = b.input(0), b.optional(1), b.optional(2)
    if k is None or v is None:
        size = b.known_dim(q, 2) // (heads + 2 * groups)
        q, k, v = pieces(b, q, [heads * size, groups * size, groups * size], 2)
    counts = (heads, groups, groups)
    first, second, third = (
        b("Transpose", b("Reshape", one, [0, 0, count, -1]), perm=[0, 2, 1, 3])
        for one, count in zip((q, k, v), counts, strict=True)
    )
    return first, second, third


def _cached(b: Body, new: ir.Value, past: ir.Value | None, start: ir.Value, total: ir.Value) -> ir.Value:
    """The cache, at least `total` long, with the new rows from `start` on."""
    if past is None:
        return new
    if b.dim(past, 2) == 0:
        return new
    missing = b("Max", b("Sub", total, b.size(past, 2)), np.array(0, np.int64))
    zeros = np.zeros(1, np.int64)
    room = b("Pad", past, b("Concat", b.constant([0] * 6), missing, zeros, axis=0))
    return b("TensorScatter", room, new, start, axis=2)


def _reach(b: Body, start: ir.Value, rows: ir.Value, keys: ir.Value) -> ir.Value:
    """[batch, 1, queries, keys]: which keys a query sees, those up to its own place and, with a window, not too far."""
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    steps = b("Range", zero, b("Squeeze", rows, [0]), one)
    own = b("Add", b("Unsqueeze", start, [1, 2, 3]), b("Unsqueeze", steps, [1]))
    there = b("Range", zero, b("Squeeze", keys, [0]), one)
    seen = b("LessOrEqual", there, own)
    window = b.int("local_window_size", -1)
    if window > 0:
        seen = b("And", seen, b("Greater", there, b("Sub", own, np.array(window, np.int64))))
    return seen


def _with_sink(
    b: Body, k: ir.Value, v: ir.Value, mask: ir.Value, q: ir.Value, heads: int
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Keys, values and what is added to scores; softmax's denominator may have one more term, exp(sink) of a head (or
    1): a key and a value of zeros.
    """
    bias, sink = b.optional(10), b.optional(11)
    smooth = b.int("smooth_softmax", 0) > 0
    if bias is None and sink is None and not smooth:
        return k, v, mask
    added = b.sum(b("Where", mask, b.scalar(0.0, q), b.scalar(-math.inf, q)), bias)
    if sink is None and not smooth:
        return k, v, added
    row = b("Pad", b("Mul", b.cut(k, [0], [1], 2), b.scalar(0.0, k)), [0] * 8)
    last = b("Mul", b.cut(v, [0], [1], 2), b.scalar(0.0, v))
    level = b.scalar(0.0, q) if sink is None else b("Reshape", b("CastLike", sink, q), [1, heads, 1, 1])
    shape = b.joined(b.size(q, 0), heads, b.size(q, 2), b.size(k, 2))
    wide = b("Expand", added, shape)
    column = b("Expand", level, b.joined(b.size(q, 0), heads, b.size(q, 2), 1))
    return (
        b("Concat", k, row, axis=2),
        b("Concat", v, last, axis=2),
        b("Concat", wide, column, axis=3),
    )
