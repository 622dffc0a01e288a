"""T5 small (Raffel et al. 2019), encoder and decoder in one graph, as Hugging Face's transformers has it."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from sardonyx.zoo.architectures.asked import Asked, Dim, Sizes
from sardonyx.zoo.architectures.blocks import LOWEST, Blocks
from sardonyx.zoo.architectures.layers import AFTER_RELU
from sardonyx.zoo.architectures.writer import Weights, graph_input

SIZES = Sizes(layers=6, heads=8, head=64, inner=2048, vocabulary=32128)
OPTIONS = {"batch", "sequence", "targets", "vocabulary", "layers", "width"}
BUCKETS, FARTHEST = 32, 128
EPSILON = 1e-6


def build(asked: Asked, weights: Weights) -> ir.Model:
    """`logits` for `input_ids`, `attention_mask` and `decoder_input_ids`, which have lengths of their own."""
    asked.only(OPTIONS)
    sizes = SIZES.shrunk(asked)
    batch, sequence, targets = (asked.dim(key) for key in ("batch", "sequence", "targets"))
    ids = graph_input("input_ids", ir.DataType.INT64, [batch, sequence])
    mask = graph_input("attention_mask", ir.DataType.INT64, [batch, sequence])
    answer = graph_input("decoder_input_ids", ir.DataType.INT64, [batch, targets])
    blocks = Blocks([ids, mask, answer], weights)
    words = blocks.table("shared", sizes.vocabulary, sizes.width)
    unseen = blocks.unseen(mask)

    read = blocks.node("Gather", words, ids)
    encoder = _Stack(blocks, sizes, "encoder", (batch, sequence))
    encoder.bias = blocks.node("Add", encoder.places(read), unseen)
    known = encoder.run(read, None, None)

    said = blocks.node("Gather", words, answer)
    decoder = _Stack(blocks, sizes, "decoder", (batch, targets))
    decoder.bias = blocks.node("Add", decoder.places(said), _later(blocks, said, batch, targets))
    x = decoder.run(said, known, unseen)
    x = blocks.node("Mul", x, blocks.scalar(sizes.width**-0.5))
    logits = blocks.node("MatMul", x, blocks.transpose(words, 1, 0))
    return blocks.finish(asked.name, {"logits": (logits, (batch, targets, sizes.vocabulary))})


def _later(blocks: Blocks, x: ir.Value, batch: Dim, sequence: Dim) -> ir.Value:
    """What to add to scores so that no key behind the query is seen, float32 [batch, 1, queries, keys]."""
    count, rows = blocks.size(x, 1, sequence), blocks.size(x, 0, batch)
    order = blocks.range(0, count)
    each = blocks.node("Tile", blocks.unsqueeze(order, 0, 1), blocks.sizes(rows, count, 1))
    before = blocks.node("LessOrEqual", each, blocks.unsqueeze(order, 0, 2))
    mask = blocks.unsqueeze(blocks.cast(before), 1)
    return blocks.node("Mul", blocks.node("Sub", blocks.scalar(1), mask), blocks.scalar(LOWEST))


class _Stack:
    """The layers of the encoder or of the decoder, which share a bias by distance, masks added in."""

    bias: ir.Value

    def __init__(self, blocks: Blocks, sizes: Sizes, name: str, dims: tuple[Dim, Dim]) -> None:
        self._blocks, self._sizes, self._name, self._dims = blocks, sizes, name, dims

    def run(self, x: ir.Value, known: ir.Value | None, unseen: ir.Value | None) -> ir.Value:
        """All layers and the norm behind them; `known` is what the encoder made, of which `unseen` is masked."""
        blocks, sizes = self._blocks, self._sizes
        for layer in range(sizes.layers):
            name = f"{self._name}.block.{layer}.layer"
            normed = self._norm(x, f"{name}.0")
            x = blocks.node("Add", x, self._attend(normed, normed, self.bias, f"{name}.0.SelfAttention"))
            last = 1
            if known is not None:
                seen = self._attend(self._norm(x, f"{name}.1"), known, unseen, f"{name}.1.EncDecAttention")
                x, last = blocks.node("Add", x, seen), 2
            dense = f"{name}.{last}.DenseReluDense"
            hidden = blocks.linear(self._norm(x, f"{name}.{last}"), f"{dense}.wi", sizes.width, sizes.inner, bias=False)
            hidden = blocks.node("Relu", hidden)
            gain = AFTER_RELU / 4
            x = blocks.node(
                "Add", x, blocks.linear(hidden, f"{dense}.wo", sizes.inner, sizes.width, bias=False, gain=gain)
            )
        return blocks.rms_norm(x, f"{self._name}.final_layer_norm", sizes.width, EPSILON)

    def _norm(self, x: ir.Value, name: str) -> ir.Value:
        return self._blocks.rms_norm(x, f"{name}.layer_norm", self._sizes.width, EPSILON)

    def _attend(self, x: ir.Value, seen: ir.Value, bias: ir.Value | None, name: str) -> ir.Value:
        """Attention of `x` to `seen`, without a scale; the dense layer behind it included."""
        blocks, sizes = self._blocks, self._sizes
        batch = blocks.size(x, 0, self._dims[0])

        def project(y: ir.Value, part: str, gain: float = 1.0) -> ir.Value:
            y = blocks.linear(y, f"{name}.{part}", sizes.width, sizes.width, bias=False, gain=gain)
            return blocks.heads(y, [batch, -1, sizes.heads, sizes.head], keys=part == "k")

        query, key, value = project(x, "q", 1 / sizes.head), project(seen, "k"), project(seen, "v")
        scores = blocks.node("MatMul", query, key)
        if bias is not None:
            scores = blocks.node("Add", scores, bias)
        seen = blocks.node("MatMul", blocks.node("Softmax", scores, axis=-1), value)
        seen = blocks.reshape(blocks.transpose(seen, 0, 2, 1, 3), batch, -1, sizes.width)
        return blocks.linear(seen, f"{name}.o", sizes.width, sizes.width, bias=False, gain=0.25)

    def places(self, x: ir.Value) -> ir.Value:
        """The bias by distance of key and query, float32 [1, heads, queries, keys]."""
        blocks, sizes = self._blocks, self._sizes
        order = blocks.range(0, blocks.size(x, 1, self._dims[1]))
        distance = blocks.node("Sub", blocks.unsqueeze(order, 0), blocks.unsqueeze(order, 1))
        name = f"{self._name}.block.0.layer.0.SelfAttention.relative_attention_bias"
        bias = blocks.node("Gather", blocks.table(name, BUCKETS, sizes.heads), self._bucket(distance))
        return blocks.unsqueeze(blocks.transpose(bias, 2, 0, 1), 0)

    def _bucket(self, distance: ir.Value) -> ir.Value:
        """The bucket of each distance: one each for near ones, wider and wider ones for the rest."""
        blocks = self._blocks
        if self._name == "encoder":
            count = BUCKETS // 2
            ahead = blocks.node("Greater", distance, blocks.constant(np.array(0)))
            side = blocks.node("Mul", blocks.cast(ahead, ir.DataType.INT64), blocks.constant(np.array(count)))
            distance = blocks.node("Abs", distance)
        else:
            count, side = BUCKETS, None
            distance = blocks.node("Neg", blocks.node("Min", distance, blocks.constant(np.array(0))))
        exact = count // 2
        near = blocks.node("Less", distance, blocks.constant(np.array(exact)))
        ratio = blocks.node("Log", blocks.node("Div", blocks.cast(distance), blocks.scalar(exact)))
        ratio = blocks.node("Div", ratio, blocks.scalar(math.log(FARTHEST / exact)))
        far = blocks.cast(blocks.node("Mul", ratio, blocks.scalar(count - exact)), ir.DataType.INT64)
        far = blocks.node("Add", far, blocks.constant(np.array(exact)))
        far = blocks.node("Min", far, blocks.constant(np.array(count - 1)))
        bucket = blocks.node("Where", near, distance, far)
        return bucket if side is None else blocks.node("Add", side, bucket)
