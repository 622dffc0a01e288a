"""ViT (Dosovitskiy et al. 2020), as timm has it, with the attention that PyTorch's exporter takes apart."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sardonyx.errors import SardonyxError
from sardonyx.zoo.architectures.asked import Asked, Dim, Sizes
from sardonyx.zoo.architectures.blocks import AFTER_GELU, Blocks
from sardonyx.zoo.architectures.writer import Weights, around, graph_input

SIZES = {
    "vit-b16": Sizes(layers=12, heads=12, head=64, inner=3072),
    "vit-s16": Sizes(layers=12, heads=6, head=64, inner=1536),
}
OPTIONS = {"batch", "image", "classes", "layers", "width"}
PATCH, IMAGE, CLASSES = 16, 224, 1000
EPSILON = 1e-6
END = np.iinfo(np.int64).max


def build(asked: Asked, weights: Weights) -> ir.Model:
    """`logits` for `input`, float32 [batch, 3, image, image]; a batch of 1 unless asked for otherwise."""
    asked.only(OPTIONS)
    sizes = SIZES[asked.name].shrunk(asked)
    batch = 1 if asked.batch is None else asked.batch
    image = IMAGE if asked.image is None else asked.image
    if image < PATCH or image % PATCH:
        raise SardonyxError(
            f"an image of {image} pixels is not made of patches", where="zoo.architectures",
            expected=f"a multiple of {PATCH}",
        )  # fmt: skip
    x = graph_input("input", ir.DataType.FLOAT, [batch, 3, image, image])
    blocks = Blocks([x], weights)
    count = (image // PATCH) ** 2 + 1
    x = _embed(blocks, x, sizes.width, count, batch)
    for layer in range(sizes.layers):
        x = _layer(blocks, sizes, x, f"blocks.{layer}", batch, count)
    x = blocks.layer_norm(x, "norm", sizes.width, EPSILON)
    classes = CLASSES if asked.classes is None else asked.classes
    logits = blocks.gemm(blocks.take(x, 1, 0), "head", sizes.width, classes)
    return blocks.finish(asked.name, {"logits": (logits, (batch, classes))})


def _embed(blocks: Blocks, x: ir.Value, width: int, count: int, batch: Dim) -> ir.Value:
    """The class token and the patches, each with its learned position, float32 [batch, count, width]."""
    x = blocks.conv(x, "patch_embed.proj", 3, width, (PATCH, PATCH), strides=[PATCH, PATCH])
    if isinstance(batch, int):
        rows = blocks.reshape(x, batch, width, count - 1)
    else:
        kept = blocks.cut(blocks.node("Shape", x), 0, 0, 2)
        rows = blocks.node("Reshape", x, blocks.node("Concat", kept, blocks.constant([-1]), axis=0))
    rows = blocks.transpose(rows, 0, 2, 1)
    token = blocks.weight("cls_token.weight", (1, 1, width), around(0.0, 1.0))
    token = blocks.expand(token, blocks.size(rows, 0, batch), -1, -1)
    places = blocks.weight("pos_embed.weight", (1, count, width), around(0.0, 0.5))
    return blocks.node("Add", blocks.node("Concat", token, rows, axis=1), places)


def _layer(blocks: Blocks, sizes: Sizes, x: ir.Value, name: str, batch: Dim, count: int) -> ir.Value:
    normed = blocks.layer_norm(x, f"{name}.norm1", sizes.width, EPSILON)
    shape = [blocks.size(normed, 0, batch), count]
    qkv = blocks.linear(normed, f"{name}.attn.qkv", sizes.width, 3 * sizes.width)
    qkv = blocks.transpose(blocks.reshape(qkv, *shape, 3, sizes.heads, sizes.head), 2, 0, 3, 1, 4)
    query, key, value = (blocks.take(qkv, 0, index) for index in range(3))
    seen = _attention(blocks, query, key, value)
    seen = blocks.reshape(blocks.transpose(seen, 0, 2, 1, 3), *shape, sizes.width)
    x = blocks.node("Add", x, blocks.linear(seen, f"{name}.attn.proj", sizes.width, sizes.width, gain=0.25))
    normed = blocks.layer_norm(x, f"{name}.norm2", sizes.width, EPSILON)
    hidden = blocks.gelu(blocks.linear(normed, f"{name}.mlp.fc1", sizes.width, sizes.inner))
    dense = blocks.linear(hidden, f"{name}.mlp.fc2", sizes.inner, sizes.width, gain=AFTER_GELU / 4)
    return blocks.node("Add", x, dense)


def _attention(blocks: Blocks, query: ir.Value, key: ir.Value, value: ir.Value) -> ir.Value:
    """scaled_dot_product_attention: half of the scale on either side, read from the query's shape."""
    size = blocks.cut(blocks.node("Shape", query), 0, -1, END)
    scale = blocks.node("Div", blocks.scalar(1), blocks.node("Sqrt", blocks.cast(size)))
    query = blocks.node("Mul", query, blocks.node("Sqrt", scale))
    keys = blocks.node("Mul", blocks.transpose(key, 0, 1, 3, 2), blocks.node("Sqrt", scale))
    return blocks.node("MatMul", blocks.node("Softmax", blocks.node("MatMul", query, keys), axis=-1), value)
