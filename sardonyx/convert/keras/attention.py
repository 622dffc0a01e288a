"""Keras's attention layers, in MatMul and Softmax.

A mask is true where a query may look. Elsewhere scores become so low that nothing of them remains: a row without any
true gives all values alike. Since 3.10 the path of Keras 3 over its Softmax layer gives zeros there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from sardonyx.convert.keras.base import Emitter, Plan, Settings, Tensor, UnsupportedError, text

LOW = -3e38
"""A score that no other comes near, and float32 still holds."""

TAKES_MASKS = (3, 8)
"""The first version in which MultiHeadAttention takes the masks off its inputs, for whoever reads them later."""

ROWS_OF_ZEROS = (3, 10)
"""The first version in which `keras.layers.Softmax` gives zeros where a mask leaves nothing."""


@dataclass(frozen=True)
class _Heads:
    """Heads of a multi-head attention; keys and values have `shared` as many or fewer."""

    queries: int
    shared: int
    key_dim: int
    value_dim: int
    bias: bool


def _multi_head(options: Settings) -> Plan:
    heads, key_dim = options.integer("num_heads"), options.integer("key_dim")
    value_dim = key_dim if options.get("value_dim") is None else options.integer("value_dim")
    axes = options.get("attention_axes")
    if axes not in (None, 1, [1], [-2], -2):
        raise UnsupportedError(f"the option attention_axes = {axes} is not the one axis between batch and features")
    if options.get("output_shape") is not None:
        raise UnsupportedError("the option output_shape is not supported")
    for key in ("query_shape", "key_shape", "value_shape"):
        options.get(key)
    return _attention_plan(options, _Heads(heads, heads, key_dim, value_dim, options.flag("use_bias", True)))


def _grouped(options: Settings) -> Plan:
    size, heads = options.integer("head_dim"), options.integer("num_query_heads")
    shared = options.integer("num_key_value_heads")
    if heads % shared:
        raise UnsupportedError(f"{shared} heads of keys do not divide {heads} heads of queries")
    return _attention_plan(options, _Heads(heads, shared, size, size, options.flag("use_bias", True)))


def _attention_plan(options: Settings, heads: _Heads) -> Plan:
    dropout = options.number("dropout", 0.0)
    for key in ("seed", "flash_attention"):
        options.get(key)
    if options.flag("use_gate", False):
        raise UnsupportedError("the option use_gate is not supported")
    inside = ("query_dense", "key_dense", "value_dense", "output_dense")
    kinds = ("kernel", "bias") if heads.bias else ("kernel",)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> list[Tensor]:
        query, key, value = map(e.plain, _three(e, inputs))
        if any(x.rank != 3 for x in (query, key, value)):
            raise UnsupportedError(f"its inputs have the shape {text(query.shape)}, expected 3 dimensions")
        scores_too = e.arguments.get("return_attention_scores") is True
        zeros = options.version >= ROWS_OF_ZEROS and (dropout > 0 or scores_too)
        mask = _combined_mask(e, query, key, value)
        q = _project(e, query, "query", heads.queries, heads.key_dim, heads)
        k = _project(e, key, "key", heads.shared, heads.key_dim, heads)
        v = _project(e, value, "value", heads.shared, heads.value_dim, heads)
        scale = e.constant("scale", 1 / math.sqrt(heads.key_dim))
        turned = e.node("Transpose", [k], tag="key_turned", perm=[0, 1, 3, 2])
        scores = e.node("MatMul", [e.node("Mul", [q, scale], tag="query_scaled"), turned], tag="scores")
        weights = _softmax(e, scores, mask, zeros=zeros)
        y = e.node("MatMul", [weights, v], tag="looked_up")
        y = e.node("Transpose", [y], tag="heads_last", perm=[0, 2, 1, 3])
        width = heads.queries * heads.value_dim
        y = e.node("Reshape", [y, e.constant("joined", [0, 0, width], np.int64)], tag="join")
        features = query.shape[-1]
        kernel = e.weight("output_dense/kernel", (heads.queries, heads.value_dim, features))
        y = e.node("MatMul", [y, e.constant("output/kernel", kernel.array.reshape(width, -1))],
                   tag="output" if heads.bias else "")  # fmt: skip
        if heads.bias:
            y = e.node("Add", [y, e.vector("output_dense/bias", features)])
        out = e.tensor(y, (*query.shape[:2], features))
        outputs = [replace(out, mask=query.mask)]
        if scores_too:
            outputs.append(e.tensor(weights, (query.shape[0], heads.queries, query.shape[1], key.shape[1])))
        return outputs

    return Plan(
        emit,
        weights=tuple(f"{part}/{kind}" for part in inside for kind in kinds),
        inputs=None,
        masking="own",
        arguments=frozenset(["query", "value", "key", "attention_mask", "use_causal_mask", "return_attention_scores"]),
    )


def _three(e: Emitter, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, by position or by name; without a key the value is it."""
    order = ("query", "value", "key")
    found = dict(zip(order, inputs, strict=False))
    if len(inputs) > len(order):
        raise UnsupportedError(f"it has {len(inputs)} inputs, expected 3 at the most")
    for name in order:
        given = e.arguments.get(name)
        if isinstance(given, Tensor):
            found[name] = e.cast(given)
    if "query" not in found or "value" not in found:
        raise UnsupportedError("it needs a query and a value")
    return found["query"], found.get("key", found["value"]), found["value"]


def _project(e: Emitter, x: Tensor, what: str, count: int, size: int, heads: _Heads) -> ir.Value:
    """[batch, heads, length, size], each shared head as often as there are queries for it."""
    kernel = e.weight(f"{what}_dense/kernel", (x.shape[-1], count, size)).array
    bias = e.weight(f"{what}_dense/bias", (count, size)).array if heads.bias else None
    width = count * size
    y = e.node("MatMul", [x.value, e.constant(f"{what}/kernel", kernel.reshape(-1, width))], tag=what)
    if bias is not None:
        y = e.node("Add", [y, e.constant(f"{what}/bias", bias.reshape(width))], tag=f"{what}/bias_add")
    y = e.node("Reshape", [y, e.constant(f"{what}/split", [0, 0, count, size], np.int64)], tag=f"{what}/heads")
    y = e.node("Transpose", [y], tag=f"{what}/turned", perm=[0, 2, 1, 3])
    if count == heads.queries:
        return y
    each = np.repeat(np.arange(count), heads.queries // count)
    return e.node("Gather", [y, e.constant(f"{what}/repeats", each, np.int64)], tag=f"{what}/repeated", axis=1)


def _combined_mask(e: Emitter, query: Tensor, key: Tensor, value: Tensor) -> ir.Value | None:
    """What may be looked at, [batch or 1, 1, queries, keys]: the tensors' own masks, a given one and the causal one."""
    parts: list[ir.Value] = []
    keyed = isinstance(e.arguments.get("key"), Tensor) or sum(isinstance(a, Tensor) for a in e.args) > 2
    own = {"query": (query, -1), "value": (value, -2), **({"key": (key, -2)} if keyed else {})}
    for name, (tensor, axis) in own.items():
        if tensor.mask is None:
            continue
        places = e.constant(f"{name}_places", [1, 3] if axis == -1 else [1, 2], np.int64)
        parts.append(e.node("Unsqueeze", [tensor.mask, places], tag=f"{name}_mask"))
    if e.arguments.get("use_causal_mask") is True:
        parts.append(_causal(e, query, value))
    given = e.arguments.get("attention_mask")
    if isinstance(given, Tensor):
        given = e.cast(e.plain(given), ir.DataType.BOOL)
        if given.rank == 3:
            heads = e.constant("head", [1], np.int64)
            parts.append(e.node("Unsqueeze", [given.value, heads], tag="attention_mask"))
        elif given.rank == 4:
            parts.append(given.value)
        else:
            raise UnsupportedError(f"an attention mask of the shape {text(given.shape)} is not supported")
    return _all(e, parts)


def _all(e: Emitter, parts: Sequence[ir.Value]) -> ir.Value | None:
    """True where all are."""
    mask = None
    for i, part in enumerate(parts):
        mask = part if mask is None else e.node("And", [mask, part], tag=f"masks_{i}")
    return mask


def _causal(e: Emitter, query: Tensor, value: Tensor) -> ir.Value:
    """Each query sees the keys up to its own place: bool [queries, keys]."""
    zero, one = e.constant("zero", 0, np.int64), e.constant("one", 1, np.int64)
    places = []
    for name, x in (("query", query), ("key", value)):
        length = e.node("Gather", [e.node("Shape", [x.value], tag=f"{name}_shape"), one], tag=f"{name}_length")
        places.append(e.node("Range", [zero, length, one], tag=f"{name}_range"))
    rows = e.node("Unsqueeze", [places[0], e.constant("column", [1], np.int64)], tag="query_column")
    return e.node("GreaterOrEqual", [rows, places[1]], tag="causal")


def _softmax(e: Emitter, scores: ir.Value, mask: ir.Value | None, *, zeros: bool = False) -> ir.Value:
    if mask is None:
        return e.node("Softmax", [scores], tag="weights", axis=-1)
    scores = e.node("Where", [mask, scores, e.constant("low", LOW)], tag="masked")
    weights = e.node("Softmax", [scores], tag="softmax" if zeros else "weights", axis=-1)
    return e.node("Where", [mask, weights, e.constant("nothing", 0.0)], tag="weights") if zeros else weights


def _plain_attention(additive: bool) -> Callable[[Settings], Plan]:
    """Attention (products) and AdditiveAttention (sums through tanh) of [query, value] or [query, value, key]."""

    def read(options: Settings) -> Plan:
        mode = "add" if additive else options.choice("score_mode", ("dot", "concat"), "dot")
        use_scale = options.flag("use_scale", additive)
        options.number("dropout", 0.0)
        if options.get("causal"):
            raise UnsupportedError("the option causal is not supported")
        names = (["scale"] if use_scale else []) + (["concat_score_weight"] if mode == "concat" else [])

        def emit(e: Emitter, inputs: Sequence[Tensor]) -> list[Tensor]:
            if not 2 <= len(inputs) <= 3 or any(x.rank != 3 for x in inputs):
                raise UnsupportedError("it takes two or three inputs of 3 dimensions")
            query, value = map(e.plain, inputs[:2])
            key = e.plain(inputs[2]) if len(inputs) == 3 else value
            scores = _scores(e, mode, query, key, use_scale=use_scale)
            masks = _listed_masks(e, inputs)
            parts = []
            if masks[1] is not None:
                parts.append(e.node("Unsqueeze", [masks[1], e.constant("row", [1], np.int64)], tag="value_mask"))
            if e.arguments.get("use_causal_mask") is True:
                parts.append(_causal(e, query, value))
            weights = _softmax(e, scores, _all(e, parts))
            y = e.node("MatMul", [weights, value.value], tag="" if masks[0] is None else "looked_up")
            if masks[0] is not None:
                column = e.node("Unsqueeze", [masks[0], e.constant("column", [2], np.int64)], tag="query_mask")
                y = e.node("Where", [column, y, e.constant("nothing", 0.0)])
            out = replace(e.tensor(y, (*query.shape[:2], value.shape[2])), mask=masks[0])
            if e.arguments.get("return_attention_scores") is not True:
                return [out]
            return [out, e.tensor(weights, (*query.shape[:2], key.shape[1]))]

        return Plan(
            emit,
            weights=tuple(names),
            inputs=None,
            masking="own",
            arguments=frozenset({"mask", "return_attention_scores", "use_causal_mask"}),
        )

    return read


def _listed_masks(e: Emitter, inputs: Sequence[Tensor]) -> list[ir.Value | None]:
    """The masks of query and value: given as a list, or their own."""
    given = e.arguments.get("mask")
    if given is None:
        return [x.mask for x in inputs[:2]]
    if not isinstance(given, tuple) or len(given) < 2:
        raise UnsupportedError("the argument mask is not a list of masks")
    return [e.cast(mask, ir.DataType.BOOL).value if isinstance(mask, Tensor) else None for mask in given[:2]]


def _scores(e: Emitter, mode: str, query: Tensor, key: Tensor, *, use_scale: bool) -> ir.Value:
    if query.shape[-1] != key.shape[-1]:
        raise UnsupportedError(f"queries {text(query.shape)} and keys {text(key.shape)} differ in size")
    if mode == "dot":
        turned = e.node("Transpose", [key.value], tag="key_turned", perm=[0, 2, 1])
        scores = e.node("MatMul", [query.value, turned], tag="products" if use_scale else "scores")
        if use_scale:
            scale = e.weight("scale", ())
            scores = e.node("Mul", [scores, e.graph.initializer(scale.name, scale.array)], tag="scores")
        return scores
    rows = e.node("Unsqueeze", [query.value, e.constant("query_place", [2], np.int64)], tag="query_rows")
    columns = e.node("Unsqueeze", [key.value, e.constant("key_place", [1], np.int64)], tag="key_columns")
    total = e.node("Add", [rows, columns], tag="sums")
    over = e.constant("features", [3], np.int64)
    if mode == "add":
        hidden = e.node("Tanh", [total], tag="tanh")
        if use_scale:
            hidden = e.node("Mul", [hidden, e.vector("scale", query.shape[-1])], tag="scaled")
        return e.node("ReduceSum", [hidden, over], tag="scores", keepdims=0)
    if use_scale:
        total = e.node("Mul", [total, e.constant("scale", e.weight("scale", ()).array)], tag="scaled")
    summed = e.node("ReduceSum", [e.node("Tanh", [total], tag="tanh"), over], tag="summed", keepdims=0)
    return e.node("Mul", [summed, e.constant("weight", e.weight("concat_score_weight", ()).array)], tag="scores")


ATTENTION_LAYERS: dict[str, Callable[[Settings], Plan]] = {
    "AdditiveAttention": _plain_attention(additive=True),
    "Attention": _plain_attention(additive=False),
    "GroupedQueryAttention": _grouped,
    "GroupQueryAttention": _grouped,
    "MultiHeadAttention": _multi_head,
}
