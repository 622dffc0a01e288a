"""A tagger of words: bidirectional LSTMs, as in Huang et al. 2015, without their CRF."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from sardonyx.zoo.architectures.asked import Asked, Dim
from sardonyx.zoo.architectures.blocks import Blocks
from sardonyx.zoo.architectures.writer import Weights, between, graph_input

VOCABULARY, EMBEDDING, HIDDEN, LAYERS, TAGS = 20000, 100, 256, 2, 45  # GloVe's width; the tags of the Penn Treebank
OPTIONS = {"batch", "sequence", "vocabulary", "layers", "width", "classes"}


def build(asked: Asked, weights: Weights) -> ir.Model:
    """`logits`, float32 [sequence, batch, classes], for `tokens`, int64 [sequence, batch]."""
    asked.only(OPTIONS)
    sequence, batch = asked.dim("sequence"), asked.dim("batch")
    hidden = HIDDEN if asked.width is None else max(1, round(HIDDEN * asked.width))
    vocabulary = VOCABULARY if asked.vocabulary is None else asked.vocabulary
    layers = LAYERS if asked.layers is None else asked.layers
    classes = TAGS if asked.classes is None else asked.classes
    tokens = graph_input("tokens", ir.DataType.INT64, [sequence, batch])
    blocks = Blocks([tokens], weights)
    x = blocks.node("Gather", blocks.table("embedding", vocabulary, EMBEDDING), tokens)
    states = _zeros(blocks, x, 2 * layers, batch, hidden)
    width = EMBEDDING
    for layer in range(layers):
        first = blocks.cut(states, 0, 2 * layer, 2 * layer + 2)
        y = _lstm(blocks, x, first, f"lstm.{layer}", width, hidden)
        x = blocks.node("Reshape", blocks.transpose(y, 0, 2, 1, 3), blocks.constant([0, 0, -1]))
        width = 2 * hidden
    logits = blocks.linear(x, "tags", width, classes, gain=4.0)
    return blocks.finish(asked.name, {"logits": (logits, (sequence, batch, classes))})


def _zeros(blocks: Blocks, x: ir.Value, count: int, batch: Dim, hidden: int) -> ir.Value:
    """The first states, float32 [count, batch, hidden]."""
    if isinstance(batch, int):
        return blocks.constant(np.zeros((count, batch, hidden), np.float32))
    zero = ir.tensor(np.array([0], np.float32))
    return blocks.node("ConstantOfShape", blocks.sizes(count, blocks.size(x, 1), hidden), value=zero)


def _lstm(blocks: Blocks, x: ir.Value, first: ir.Value, name: str, width: int, hidden: int) -> ir.Value:
    """[sequence, 2, batch, hidden]; weights as PyTorch draws them."""
    draw = between(-1 / math.sqrt(hidden), 1 / math.sqrt(hidden))
    shapes = {"w": (2, 4 * hidden, width), "r": (2, 4 * hidden, hidden), "b": (2, 8 * hidden)}
    w, r, b = (blocks.weight(f"{name}.{key}.weight", shape, draw) for key, shape in shapes.items())
    every, *_ = blocks.nodes("LSTM", 3, x, w, r, b, None, first, first, direction="bidirectional", hidden_size=hidden)
    return every
