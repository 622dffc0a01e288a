"""BERT (Devlin et al. 2018) and MiniLM (Wang et al. 2020), as Hugging Face's transformers has them."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from sardonyx.zoo.architectures.asked import Asked, Dim, Sizes
from sardonyx.zoo.architectures.blocks import AFTER_GELU, Blocks
from sardonyx.zoo.architectures.writer import Weights, graph_input

SIZES = {
    "bert-base": Sizes(layers=12, heads=12, head=64, inner=3072, vocabulary=30522, positions=512),
    "minilm": Sizes(layers=6, heads=12, head=32, inner=1536, vocabulary=30522, positions=512),
}
OPTIONS = {"batch", "sequence", "vocabulary", "layers", "width"}
KINDS = 2
EPSILON = 1e-12


def build(asked: Asked, weights: Weights) -> ir.Model:
    """`last_hidden_state` and `pooler_output` for `input_ids`, `attention_mask` and `token_type_ids`."""
    asked.only(OPTIONS)
    sizes = SIZES[asked.name].shrunk(asked)
    dims = (asked.dim("batch"), asked.dim("sequence", most=sizes.positions))
    inputs = tokens(*dims)
    blocks = Blocks(inputs, weights)
    hidden = encode(blocks, sizes, inputs, *dims)
    pooled = pool(blocks, hidden, sizes.width)
    outputs = {
        "last_hidden_state": (hidden, (*dims, sizes.width)),
        "pooler_output": (pooled, (dims[0], sizes.width)),
    }
    return blocks.finish(asked.name, outputs)


def tokens(batch: Dim, sequence: Dim) -> list[ir.Value]:
    """The three inputs, int64 [batch, sequence]."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return [graph_input(name, ir.DataType.INT64, [batch, sequence]) for name in names]


def encode(blocks: Blocks, sizes: Sizes, inputs: list[ir.Value], batch: Dim, sequence: Dim) -> ir.Value:
    """The last hidden state, float32 [batch, sequence, width]."""
    ids, mask, kinds = inputs
    unseen = blocks.unseen(mask)
    x = _embed(blocks, sizes, ids, kinds, sequence)
    for layer in range(sizes.layers):
        name = f"encoder.layer.{layer}"
        seen = _attend(blocks, sizes, x, unseen, f"{name}.attention.self", (batch, sequence))
        x = _behind(blocks, seen, x, f"{name}.attention.output", (sizes.width, sizes.width))
        inner = blocks.gelu(blocks.linear(x, f"{name}.intermediate.dense", sizes.width, sizes.inner))
        x = _behind(blocks, inner, x, f"{name}.output", (sizes.inner, sizes.width), AFTER_GELU)
    return x


def pool(blocks: Blocks, hidden: ir.Value, width: int) -> ir.Value:
    """A dense layer on the first position, float32 [batch, width]."""
    return blocks.node("Tanh", blocks.gemm(blocks.take(hidden, 1, 0), "pooler.dense", width, width))


def _embed(blocks: Blocks, sizes: Sizes, ids: ir.Value, kinds: ir.Value, sequence: Dim) -> ir.Value:
    """The normalised sum of what stands for the token, its kind and its position."""
    places = blocks.constant(np.arange(sizes.positions)[None])
    places = blocks.cut(places, 1, 0, blocks.size(ids, 1, sequence))
    rows = {"word": (sizes.vocabulary, ids), "token_type": (KINDS, kinds), "position": (sizes.positions, places)}
    words, types, positions = (
        blocks.node("Gather", blocks.table(f"embeddings.{name}_embeddings", count, sizes.width), index)
        for name, (count, index) in rows.items()
    )
    x = blocks.node("Add", blocks.node("Add", words, types), positions)
    return blocks.layer_norm(x, "embeddings.LayerNorm", sizes.width, EPSILON)


def _attend(blocks: Blocks, sizes: Sizes, x: ir.Value, unseen: ir.Value, name: str, dims: tuple[Dim, Dim]) -> ir.Value:
    """Self-attention before the dense layer behind it, float32 [batch, sequence, width]."""

    def project(part: str) -> ir.Value:
        y = blocks.linear(x, f"{name}.{part}", sizes.width, sizes.width)
        shape = [blocks.size(y, axis, dim) for axis, dim in enumerate(dims)]
        return blocks.heads(y, [*shape, sizes.heads, sizes.head], keys=part == "key")

    query, key, value = map(project, ("query", "key", "value"))
    scores = blocks.node("Div", blocks.node("MatMul", query, key), blocks.scalar(math.sqrt(sizes.head)))
    shares = blocks.node("Softmax", blocks.node("Add", scores, unseen), axis=-1)
    seen = blocks.transpose(blocks.node("MatMul", shares, value), 0, 2, 1, 3)
    shape = [blocks.size(seen, axis, dim) for axis, dim in enumerate(dims)]
    return blocks.reshape(seen, *shape, sizes.width)


def _behind(
    blocks: Blocks, x: ir.Value, before: ir.Value, name: str, widths: tuple[int, int], gain: float = 1.0
) -> ir.Value:
    """A dense layer, what was before added, normalised."""
    x = blocks.node("Add", blocks.linear(x, f"{name}.dense", *widths, gain=gain), before)
    return blocks.layer_norm(x, f"{name}.LayerNorm", widths[1], EPSILON)
