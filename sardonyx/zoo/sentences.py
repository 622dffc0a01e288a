"""The sentence encoder all-MiniLM-L6-v2: sentences to vectors whose products tell how alike they are.

A trained network (N. Reimers and others, sentence-transformers, Apache-2.0): its weights are fetched, its graph is
written here, as the exporter writes it, with the pooling that follows on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from sardonyx.errors import InvalidInputError, MissingExtraError, ModelFileError
from sardonyx.zoo import safetensors
from sardonyx.zoo.architectures import bert
from sardonyx.zoo.architectures.blocks import Blocks
from sardonyx.zoo.architectures.writer import Draw
from sardonyx.zoo.fetch import Arrived, Progress, fetch

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]

WIDTH = bert.SIZES["minilm"].width
"""Numbers of an embedding."""

LONGEST = 256
"""Tokens that are read of a sentence, the two at its ends included; the model was trained on no longer ones."""


def model(*, progress: Progress | None = None, arrived: Arrived | None = None) -> ir.Model:
    """The encoder as ONNX, its weights mapped from the fetched file.

    Inputs `input_ids`, `attention_mask` and `token_type_ids`, int64 [batch, sequence]; outputs `token_embeddings`,
    float32 [batch, sequence, 384], and `sentence_embedding`, float32 [batch, 384], of length 1. Raises
    DownloadError.
    """
    return build(fetch("sentences", progress=progress, arrived=arrived))


def build(path: Path) -> ir.Model:
    """The encoder with the weights of a safetensors file; ModelFileError where they are not those of MiniLM-L6."""
    sizes, dims = bert.SIZES["minilm"], ("batch", "sequence")
    inputs = bert.tokens(*dims)
    blocks = Blocks(inputs, _Stored(path, safetensors.read(path)))
    tokens = bert.encode(blocks, sizes, inputs, *dims)
    outputs = {
        "token_embeddings": (tokens, (*dims, sizes.width)),
        "sentence_embedding": (_pooled(blocks, tokens, inputs[1]), (dims[0], sizes.width)),
    }
    return blocks.finish("all-MiniLM-L6-v2", outputs)


@dataclass(frozen=True)
class _Stored:
    """The weights in a file (architectures.writer.Weights)."""

    path: Path
    tensors: Mapping[str, Array]

    def tensor(self, name: str, shape: tuple[int, ...], draw: Draw, *, transposed: bool) -> ir.TensorProtocol:
        """The stored tensor, a view of the file, if it is as large as the network wants it."""
        wanted = shape[::-1] if transposed else shape
        found = self.tensors.get(name)
        if found is None or found.shape != wanted or found.dtype != np.float32:
            got = "none" if found is None else f"{found.dtype} {list(found.shape)}"
            raise ModelFileError(
                "the file lacks a weight of the network", where=f"{self.path}, tensor {name!r}",
                expected=f"float32 {list(wanted)}", got=got,
            )  # fmt: skip
        return ir.Tensor(found.T if transposed else found, name=name)


def _pooled(blocks: Blocks, tokens: ir.Value, mask: ir.Value) -> ir.Value:
    """The mean of the tokens that the mask leaves, made as long as 1."""
    wide = blocks.node("Expand", blocks.unsqueeze(mask, -1), blocks.node("Shape", tokens))
    wide = blocks.cast(wide)
    one = blocks.constant([1])
    total = blocks.node("ReduceSum", blocks.node("Mul", tokens, wide), one, keepdims=0)
    count = blocks.node("Clip", blocks.node("ReduceSum", wide, one, keepdims=0), blocks.scalar(1e-9))
    mean = blocks.node("Div", total, count)
    length = blocks.node("Clip", blocks.node("ReduceL2", mean, axes=[1], keepdims=1), blocks.scalar(1e-12))
    return blocks.node("Div", mean, blocks.node("Expand", length, blocks.node("Shape", mean)))


def tokenizer(*, progress: Progress | None = None, arrived: Arrived | None = None) -> Tokenizer:
    """What takes sentences apart for the encoder. Raises DownloadError and MissingExtraError (tokenizers)."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError.of("tokenizers", "text", "reading sentences") from error
    found = Tokenizer.from_file(str(fetch("sentences-tokenizer", progress=progress, arrived=arrived)))
    found.enable_truncation(LONGEST)
    found.enable_padding()
    return found


def tokens(sentences: Sequence[str], by: Tokenizer) -> dict[str, Array]:
    """The encoder's inputs for `sentences`, padded to the longest; InvalidInputError if there are none."""
    if not sentences:
        raise InvalidInputError("there is nothing to encode", expected="at least one sentence")
    encoded = by.encode_batch(list(sentences))
    rows = {
        "input_ids": [one.ids for one in encoded],
        "attention_mask": [one.attention_mask for one in encoded],
        "token_type_ids": [one.type_ids for one in encoded],
    }
    return {name: np.array(values, np.int64) for name, values in rows.items()}
