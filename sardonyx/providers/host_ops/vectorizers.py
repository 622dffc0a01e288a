"""Texts to vectors: TfIdfVectorizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.providers.host_ops.table import Array, Run, floats, host, ints, strings

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class _Grams:
    """Columns by n-gram of each length: single words by themselves, longer ones as tuples."""

    columns: dict[int, dict[Any, int]]
    width: int


@host("TfIdfVectorizer")
def tf_idf_vectorizer(node: ir.Node) -> Run:
    """How often each n-gram of a pool stands in a row, words up to `max_skip_count` apart; weighted, as mode says."""
    mode = node.attributes.get_string("mode")
    low, high = (node.attributes.get_int(name) for name in ("min_gram_length", "max_gram_length"))
    skips = node.attributes.get_int("max_skip_count")
    grams, weights = _grams(node, low, high), floats(node, "weights")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise ValueError(f"mode {mode!r}")
    factors = np.ones(grams.width, np.float32)
    if weights is not None:
        factors[ints(node, "ngram_indexes") or []] = weights

    def run(x: Array) -> Array:
        if x.ndim not in (1, 2):
            raise ValueError(f"words of {x.ndim} dimensions")
        rows = x.tolist() if x.ndim == 2 else [x.tolist()]
        counts = np.zeros((len(rows), grams.width), np.float32)
        for target, words in zip(counts, rows, strict=True):
            found = _found(words, grams, skips)
            if found:
                target[:] = np.bincount(found, minlength=grams.width)
        if mode == "IDF":
            counts = (counts > 0).astype(np.float32)
        made = counts if mode == "TF" else counts * factors
        return made if x.ndim == 2 else made[0]

    return run


def _grams(node: ir.Node, low: int, high: int) -> _Grams:
    pool: list[Any] = strings(node, "pool_strings") or ints(node, "pool_int64s") or []
    starts, indexes = ints(node, "ngram_counts") or [], ints(node, "ngram_indexes") or []
    columns: dict[int, dict[Any, int]] = {}
    number = 0
    for length, (start, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
        if not 0 <= start <= end <= len(pool) or (end - start) % length:
            raise ValueError(f"ngram_counts {starts} of a pool of {len(pool)}")
        for at in range(start, end, length):
            if number >= len(indexes) or indexes[number] < 0:
                raise ValueError(f"{len(indexes)} ngram_indexes, none of them negative, for more n-grams")
            if low <= length <= high:
                gram = pool[at] if length == 1 else tuple(pool[at : at + length])
                columns.setdefault(length, {})[gram] = indexes[number]
            number += 1
    return _Grams(columns, max(indexes, default=-1) + 1)


def _found(words: list[Any], grams: _Grams, skips: int) -> list[int]:
    """The column of each n-gram of the pool that stands here, as often as it does."""
    found: list[int] = []
    for length, columns in grams.columns.items():
        if length == 1:
            found += [columns[word] for word in words if word in columns]
            continue
        for step in range(1, skips + 2):
            runs = zip(*(words[place * step :] for place in range(length)), strict=False)
            found += [columns[gram] for gram in runs if gram in columns]
    return found
