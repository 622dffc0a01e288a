"""The encoder of Whisper (Radford et al. 2022), as Hugging Face's transformers has it."""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.zoo.architectures.asked import Asked, Dim, Sizes
from sardonyx.zoo.architectures.blocks import AFTER_GELU, Blocks
from sardonyx.zoo.architectures.writer import Weights, around, graph_input

SIZES = Sizes(layers=6, heads=8, head=64, inner=2048, positions=1500)
OPTIONS = {"batch", "layers", "width"}
MELS = 80
EPSILON = 1e-5


def build(asked: Asked, weights: Weights) -> ir.Model:
    """`last_hidden_state` for `input_features`, float32 [batch, 80, 3000]: half a minute of sound."""
    asked.only(OPTIONS)
    sizes, batch = SIZES.shrunk(asked), asked.dim("batch")
    x = graph_input("input_features", ir.DataType.FLOAT, [batch, MELS, 2 * sizes.positions])
    blocks = Blocks([x], weights)
    window = {"pads": [1, 1], "dilations": [1], "group": 1}
    x = blocks.gelu(blocks.conv(x, "encoder.conv1", MELS, sizes.width, (3,), strides=[1], **window))
    x = blocks.gelu(blocks.conv(x, "encoder.conv2", sizes.width, sizes.width, (3,), strides=[2], **window))
    places = blocks.weight("encoder.embed_positions.weight", (sizes.positions, sizes.width), around(0.0, 0.5))
    x = blocks.node("Add", blocks.transpose(x, 0, 2, 1), places)
    for layer in range(sizes.layers):
        x = _layer(blocks, sizes, x, f"encoder.layers.{layer}", batch)
    x = blocks.layer_norm(x, "encoder.layer_norm", sizes.width, EPSILON)
    return blocks.finish(asked.name, {"last_hidden_state": (x, (batch, sizes.positions, sizes.width))})


def _layer(blocks: Blocks, sizes: Sizes, x: ir.Value, name: str, batch: Dim) -> ir.Value:
    normed = blocks.layer_norm(x, f"{name}.self_attn_layer_norm", sizes.width, EPSILON)
    x = blocks.node("Add", x, _attend(blocks, sizes, normed, f"{name}.self_attn", batch))
    normed = blocks.layer_norm(x, f"{name}.final_layer_norm", sizes.width, EPSILON)
    hidden = blocks.gelu(blocks.linear(normed, f"{name}.fc1", sizes.width, sizes.inner))
    return blocks.node("Add", x, blocks.linear(hidden, f"{name}.fc2", sizes.inner, sizes.width, gain=AFTER_GELU / 4))


def _attend(blocks: Blocks, sizes: Sizes, x: ir.Value, name: str, batch: Dim) -> ir.Value:
    """Self-attention with batch and heads in one axis, the dense layer behind it included."""
    count = blocks.size(x, 0, batch)

    def heads(y: ir.Value) -> ir.Value:
        """[batch * heads, sequence, head]."""
        y = blocks.heads(y, [count, -1, sizes.heads, sizes.head])
        return blocks.reshape(y, blocks.arithmetic("Mul", count, sizes.heads), -1, sizes.head)

    query = blocks.linear(x, f"{name}.q_proj", sizes.width, sizes.width)
    query = blocks.node("Mul", query, blocks.scalar(sizes.head**-0.5))
    key = heads(blocks.linear(x, f"{name}.k_proj", sizes.width, sizes.width, bias=False))
    value = heads(blocks.linear(x, f"{name}.v_proj", sizes.width, sizes.width))
    scores = blocks.node("MatMul", heads(query), blocks.transpose(key, 0, 2, 1))
    seen = blocks.node("MatMul", blocks.node("Softmax", scores, axis=-1), value)
    seen = blocks.transpose(blocks.reshape(seen, count, sizes.heads, sizes.positions, sizes.head), 0, 2, 1, 3)
    merged = blocks.reshape(seen, count, sizes.positions, sizes.width)
    return blocks.linear(merged, f"{name}.out_proj", sizes.width, sizes.width, gain=0.25)
