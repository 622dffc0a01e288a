"""A small network of Llama's making (Touvron et al. 2023), as Hugging Face's transformers has it, with a cache."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from sardonyx.zoo.architectures.asked import Asked, Dim, Sizes, total
from sardonyx.zoo.architectures.blocks import LOWEST, Blocks
from sardonyx.zoo.architectures.gpt2 import Pair, cache, declared
from sardonyx.zoo.architectures.layers import AFTER_SILU
from sardonyx.zoo.architectures.writer import Weights, graph_input

SIZES = Sizes(layers=8, heads=8, head=64, inner=1376, vocabulary=32000, positions=2048, shared=2)
OPTIONS = {"batch", "sequence", "past", "vocabulary", "layers", "width"}
EPSILON = 1e-5
BASE = 10000.0
"""The longest wave of the rotary embedding, in radians a position to the power of -1."""


def build(asked: Asked, weights: Weights) -> ir.Model:
    """`logits` and `present.*` for `input_ids`, `attention_mask`, `position_ids` and `past_key_values.*`."""
    asked.only(OPTIONS)
    sizes = SIZES.shrunk(asked)
    batch, sequence, past = asked.dim("batch"), asked.dim("sequence", most=sizes.positions), asked.dim("past")
    whole = total(past, sequence)
    ids = graph_input("input_ids", ir.DataType.INT64, [batch, sequence])
    mask = graph_input("attention_mask", ir.DataType.INT64, [batch, whole])
    places = graph_input("position_ids", ir.DataType.INT64, [batch, sequence])
    pasts = cache(sizes, batch, past)
    blocks = Blocks([ids, mask, places, *pasts], weights)
    x = blocks.node("Gather", blocks.table("model.embed_tokens", sizes.vocabulary, sizes.width, 0.5), ids)
    unseen = _unseen(blocks, x, mask, pasts[0], (batch, sequence, past))
    stack = _Stack(blocks, sizes, (batch, sequence, whole), unseen, _waves(blocks, sizes, places, batch))
    presents: list[ir.Value] = []
    for layer, pair in enumerate(zip(pasts[::2], pasts[1::2], strict=True)):
        x, present = stack.layer(x, f"model.layers.{layer}", pair)
        presents += present
    x = blocks.rms_norm(x, "model.norm", sizes.width, EPSILON)
    logits = blocks.linear(x, "lm_head", sizes.width, sizes.vocabulary, bias=False)
    outputs = declared(pasts, presents, (batch, sizes.kept, whole, sizes.head))
    return blocks.finish(asked.name, {"logits": (logits, (batch, sequence, sizes.vocabulary)), **outputs})


def _unseen(blocks: Blocks, x: ir.Value, mask: ir.Value, past: ir.Value, dims: tuple[Dim, Dim, Dim]) -> ir.Value:
    """What to add to scores: the lowest number for keys that come later or are masked, [batch, 1, queries, keys]."""
    batch, sequence, before = dims
    queries, known = blocks.size(x, 1, sequence), blocks.size(past, 2, before)
    keys = blocks.arithmetic("Add", known, queries)
    shape = blocks.sizes(queries, keys)
    lowest = ir.tensor(np.array([LOWEST], np.float32))
    later = blocks.node("Trilu", blocks.node("ConstantOfShape", shape, value=lowest), blocks.constant(np.array(1)))
    row = blocks.reshape(blocks.range(known, keys), -1, 1)
    greater = blocks.node("Greater", blocks.range(0, keys), row)
    later = blocks.unsqueeze(blocks.node("Mul", later, blocks.cast(greater)), 0, 1)
    later = blocks.expand(later, blocks.size(x, 0, batch), 1, -1, -1)
    given = blocks.node("Add", later, blocks.cast(blocks.unsqueeze(mask, 1, 2)))
    masked = blocks.node("Equal", given, blocks.scalar(0))
    return blocks.node("Where", masked, blocks.scalar(LOWEST), later)


def _waves(blocks: Blocks, sizes: Sizes, places: ir.Value, batch: Dim) -> Pair:
    """Cosines and sines of the places, float32 [batch, 1, sequence, head]."""
    steps = BASE ** -(np.arange(0, sizes.head, 2, dtype=np.float32) / sizes.head)
    frequencies = blocks.constant(steps.astype(np.float32)[None, :, None])
    wide = blocks.expand(frequencies, blocks.size(places, 0, batch), -1, 1)
    angles = blocks.node("MatMul", wide, blocks.cast(blocks.unsqueeze(places, 1)))
    angles = blocks.transpose(angles, 0, 2, 1)
    angles = blocks.node("Concat", angles, angles, axis=-1)
    return blocks.node("Cos", angles), blocks.node("Sin", angles)


class _Stack:
    """The layers, which share sizes, masks and rotations; `dims` are the batch, the queries and the keys."""

    def __init__(self, blocks: Blocks, sizes: Sizes, dims: tuple[Dim, Dim, Dim], unseen: ir.Value, waves: Pair) -> None:
        self._blocks, self._sizes, self._dims, self._unseen, self._waves = blocks, sizes, dims, unseen, waves

    def layer(self, x: ir.Value, name: str, past: Pair) -> tuple[ir.Value, Pair]:
        """What the layer makes of `x`, and its keys and values with those of the past."""
        blocks, width, inner = self._blocks, self._sizes.width, self._sizes.inner
        normed = blocks.rms_norm(x, f"{name}.input_layernorm", width, EPSILON)
        seen, present = self._attend(normed, f"{name}.self_attn", past)
        x = blocks.node("Add", x, seen)
        normed = blocks.rms_norm(x, f"{name}.post_attention_layernorm", width, EPSILON)
        gate = blocks.silu(blocks.linear(normed, f"{name}.mlp.gate_proj", width, inner, bias=False))
        hidden = blocks.node("Mul", gate, blocks.linear(normed, f"{name}.mlp.up_proj", width, inner, bias=False))
        down = blocks.linear(hidden, f"{name}.mlp.down_proj", inner, width, bias=False, gain=AFTER_SILU / 4)
        return blocks.node("Add", x, down), present

    def _shape(self, x: ir.Value, rest: int) -> list[int | ir.Value]:
        """Batch, sequence and what they leave."""
        return [*(self._blocks.size(x, axis, dim) for axis, dim in enumerate(self._dims[:2])), rest]

    def _attend(self, x: ir.Value, name: str, past: Pair) -> tuple[ir.Value, Pair]:
        """Self-attention, several queries to a key, the dense layer behind it included."""
        blocks, sizes = self._blocks, self._sizes

        def project(part: str, heads: int) -> ir.Value:
            y = blocks.linear(x, f"{name}.{part}_proj", sizes.width, heads * sizes.head, bias=False)
            return blocks.heads(y, [*self._shape(y, heads), sizes.head])

        query, key, value = project("q", sizes.heads), project("k", sizes.kept), project("v", sizes.kept)
        waves = [blocks.unsqueeze(wave, 1) for wave in self._waves]
        query, key = self._turned(query, waves), self._turned(key, waves)
        key = blocks.node("Concat", past[0], key, axis=-2)
        value = blocks.node("Concat", past[1], value, axis=-2)
        keys = blocks.transpose(self._repeated(key), 0, 1, 3, 2)
        scores = blocks.node("Div", blocks.node("MatMul", query, keys), blocks.scalar(math.sqrt(sizes.head)))
        shares = blocks.node("Softmax", blocks.node("Add", scores, self._unseen), axis=-1)
        seen = blocks.transpose(blocks.node("MatMul", shares, self._repeated(value)), 0, 2, 1, 3)
        merged = blocks.reshape(seen, *self._shape(x, sizes.width))
        return blocks.linear(merged, f"{name}.o_proj", sizes.width, sizes.width, bias=False, gain=0.25), (key, value)

    def _turned(self, x: ir.Value, waves: list[ir.Value]) -> ir.Value:
        """The rotary embedding: the two halves of each head turned as a plane."""
        blocks, half = self._blocks, self._sizes.head // 2
        first, second = blocks.cut(x, 3, 0, half), blocks.cut(x, 3, half, np.iinfo(np.int64).max)
        aside = blocks.node("Concat", blocks.node("Neg", second), first, axis=-1)
        return blocks.node("Add", blocks.node("Mul", x, waves[0]), blocks.node("Mul", aside, waves[1]))

    def _repeated(self, x: ir.Value) -> ir.Value:
        """Each head as often as queries share it."""
        blocks, sizes = self._blocks, self._sizes
        group = sizes.heads // sizes.kept
        batch, keys = blocks.size(x, 0, self._dims[0]), blocks.size(x, 2, self._dims[2])
        wide = blocks.expand(blocks.unsqueeze(x, 2), batch, sizes.kept, group, keys, sizes.head)
        return blocks.reshape(wide, batch, sizes.heads, keys, sizes.head)
