"""GPT-2 (Radford et al. 2019), as Hugging Face's transformers has it: without a cache of keys and values, and with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from sardonyx.zoo.architectures.asked import Asked, Dim, Sizes, total
from sardonyx.zoo.architectures.blocks import AFTER_GELU, LOWEST, Blocks
from sardonyx.zoo.architectures.writer import Weights, around, graph_input, normal

SIZES = Sizes(layers=12, heads=12, head=64, inner=3072, vocabulary=50257, positions=1024)
OPTIONS = {"batch", "sequence", "vocabulary", "layers", "width"}
EPSILON = 1e-5

Pair = tuple[ir.Value, ir.Value]
"""Keys and values, float32 [batch, heads, length, head]."""


def build(asked: Asked, weights: Weights) -> ir.Model:
    """`logits` for `input_ids` and `attention_mask`; with the cache, for `position_ids` and the past as well."""
    cached = asked.name.endswith("-cache")
    asked.only(OPTIONS | ({"past"} if cached else set()))
    sizes = SIZES.shrunk(asked)
    batch, sequence = asked.dim("batch"), asked.dim("sequence", most=sizes.positions)
    past = asked.dim("past") if cached else 0
    whole = asked.fits("past + sequence", total(past, sequence), sizes.positions) if cached else sequence
    ids = graph_input("input_ids", ir.DataType.INT64, [batch, sequence])
    mask = graph_input("attention_mask", ir.DataType.INT64, [batch, whole])
    places = graph_input("position_ids", ir.DataType.INT64, [batch, sequence])
    pasts = cache(sizes, batch, past) if cached else []
    blocks = Blocks([ids, *pasts, mask, *([places] if cached else [])], weights)
    pairs = list(zip(pasts[::2], pasts[1::2], strict=True))

    if not cached:
        count = blocks.size(ids, 1, sequence)
        places = blocks.reshape(blocks.unsqueeze(blocks.range(0, count), 0), -1, count)
    spread = 2 / math.sqrt(sizes.width)  # for logits of a deviation of 2
    words = blocks.table("transformer.wte", sizes.vocabulary, sizes.width, spread)
    positions = blocks.table("transformer.wpe", sizes.positions, sizes.width, spread)
    x = blocks.node("Add", blocks.node("Gather", words, ids), blocks.node("Gather", positions, places))
    unseen = blocks.unseen(blocks.reshape(mask, blocks.size(ids, 0, batch), -1))
    dims, presents = (batch, sequence), list[ir.Value]()
    lower = np.tril(np.ones((sizes.positions, sizes.positions), np.bool_))[None, None]
    stack = Stack(blocks, sizes, (*dims, whole), unseen, blocks.constant(lower))
    for layer in range(sizes.layers):
        x, present = stack.layer(x, f"transformer.h.{layer}", pairs[layer] if cached else None)
        presents += present
    x = blocks.layer_norm(x, "transformer.ln_f", sizes.width, EPSILON)
    logits = blocks.node("MatMul", x, blocks.transpose(words, 1, 0))
    outputs = declared(pasts, presents, (batch, sizes.kept, whole, sizes.head)) if cached else {}
    return blocks.finish(asked.name, {"logits": (logits, (*dims, sizes.vocabulary)), **outputs})


def cache(sizes: Sizes, batch: Dim, past: Dim) -> list[ir.Value]:
    """Keys and values of each layer in turn, float32 [batch, heads of keys, past, head]."""
    shape = [batch, sizes.kept, past, sizes.head]
    names = (f"past_key_values.{layer}.{part}" for layer in range(sizes.layers) for part in ("key", "value"))
    return [graph_input(name, ir.DataType.FLOAT, shape) for name in names]


def declared(
    pasts: Sequence[ir.Value], presents: Sequence[ir.Value], shape: Sequence[Dim]
) -> dict[str, tuple[ir.Value, Sequence[Dim]]]:
    """The outputs that follow on the inputs `pasts`, all of one shape."""
    names = ((value.name or "").replace("past_key_values", "present") for value in pasts)
    return {name: (value, shape) for name, value in zip(names, presents, strict=True)}


class Stack:
    """The layers, which share sizes and masks; `dims` are the batch, the queries and the keys."""

    def __init__(
        self, blocks: Blocks, sizes: Sizes, dims: tuple[Dim, Dim, Dim], unseen: ir.Value, lower: ir.Value
    ) -> None:
        self._blocks, self._sizes, self._dims, self._unseen, self._lower = blocks, sizes, dims, unseen, lower

    def layer(self, x: ir.Value, name: str, past: Pair | None) -> tuple[ir.Value, Pair]:
        """What the layer makes of `x`, and its keys and values with those of the past."""
        blocks, width, inner = self._blocks, self._sizes.width, self._sizes.inner
        normed = blocks.layer_norm(x, f"{name}.ln_1", width, EPSILON)
        seen, present = self._attend(normed, f"{name}.attn", past)
        x = blocks.node("Add", seen, x)
        normed = blocks.layer_norm(x, f"{name}.ln_2", width, EPSILON)
        hidden = blocks.gelu_tanh(self._dense(normed, f"{name}.mlp.c_fc", width, inner))
        return blocks.node("Add", x, self._dense(hidden, f"{name}.mlp.c_proj", inner, width, AFTER_GELU / 4)), present

    def _shape(self, x: ir.Value) -> list[int | ir.Value]:
        """Batch and sequence."""
        return [self._blocks.size(x, axis, dim) for axis, dim in enumerate(self._dims[:2])]

    def _dense(self, x: ir.Value, name: str, inputs: int, outputs: int, gain: float = 1.0) -> ir.Value:
        """GPT-2's Conv1D: a Gemm on rows, whose weight is not transposed."""
        blocks, shape = self._blocks, self._shape(x)
        _, draw = normal((inputs, outputs), gain, fan_in=inputs)
        weight = blocks.weight(f"{name}.weight", (inputs, outputs), draw)
        bias = blocks.weight(f"{name}.bias", (outputs,), around(0.0, 0.05))
        rows = blocks.node("Gemm", blocks.reshape(x, -1, inputs), weight, bias)
        return blocks.reshape(rows, *shape, outputs)

    def _attend(self, x: ir.Value, name: str, past: Pair | None) -> tuple[ir.Value, Pair]:
        """Self-attention to what came before, the dense layer behind it included."""
        blocks, sizes = self._blocks, self._sizes
        thirds = blocks.constant([sizes.width] * 3)
        parts = blocks.nodes("Split", 3, self._dense(x, f"{name}.c_attn", sizes.width, 3 * sizes.width), thirds, axis=2)
        query, key, value = (blocks.heads(y, [*self._shape(y), sizes.heads, sizes.head]) for y in parts)
        if past is not None:
            key = blocks.node("Concat", past[0], key, axis=-2)
            value = blocks.node("Concat", past[1], value, axis=-2)
        scores = blocks.node("MatMul", query, blocks.transpose(key, 0, 1, 3, 2))
        scores = blocks.node("Div", scores, blocks.scalar(math.sqrt(sizes.head)))
        scores = blocks.node("Where", self._before(query, key), scores, blocks.scalar(LOWEST))
        shares = blocks.node("Softmax", blocks.node("Add", scores, self._unseen), axis=-1)
        seen = blocks.transpose(blocks.node("MatMul", shares, value), 0, 2, 1, 3)
        merged = blocks.reshape(seen, *self._shape(seen), sizes.width)
        return self._dense(merged, f"{name}.c_proj", sizes.width, sizes.width, 0.25), (key, value)

    def _before(self, query: ir.Value, key: ir.Value) -> ir.Value:
        """Which keys each query may see: the last rows of a lower triangle, bool [1, 1, queries, keys]."""
        blocks = self._blocks
        keys, queries = blocks.size(key, 2, self._dims[2]), blocks.size(query, 2, self._dims[1])
        rows = blocks.cut(self._lower, 2, blocks.arithmetic("Sub", keys, queries), keys)
        return blocks.cut(rows, 3, 0, keys)
