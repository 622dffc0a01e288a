"""Operators of com.microsoft that no others define."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.providers.host_ops.patterns import pattern
from sardonyx.providers.host_ops.table import Array, Run, host, strings, texts

if TYPE_CHECKING:
    import onnx_ir as ir

_MICROSOFT = "com.microsoft"
_START, _END = "\x02", "\x03"
"""What marks the begin and end of a text."""


@host("Inverse", domain=_MICROSOFT)
def inverse(node: ir.Node) -> Run:
    """Of each matrix; a singular one is an error."""

    def run(x: Array) -> Array:
        wide = x if x.dtype == np.float64 else x.astype(np.float32)
        made: Array = np.linalg.inv(wide).astype(x.dtype)
        return made

    return run


@host("NGramRepeatBlock", domain=_MICROSOFT)
def n_gram_repeat_block(node: ir.Node) -> Run:
    """The scores [rows, words], -inf for each word that would repeat a run of `ngram_size` words of its row."""
    size = node.attributes.get_int("ngram_size", 0)
    if size <= 0:
        raise ValueError(f"ngram_size {size}")

    def run(words: Array, scores: Array) -> Array:
        made = scores.copy()
        length = words.shape[1]
        for row, given in enumerate(words):
            last = given[length - size + 1 :]
            for start in range(length - size + 1):
                banned = int(given[start + size - 1])
                if np.array_equal(given[start : start + size - 1], last):
                    if not 0 <= banned < scores.shape[1]:
                        raise ValueError(f"the word {banned} of {scores.shape[1]}")
                    made[row, banned] = -np.inf
        return made

    return run


@host("Tokenizer", domain=_MICROSOFT)
def tokenizer(node: ir.Node) -> Run:
    """Texts [n] or [n, m] as tokens, in one more dim, as long as the longest; shorter ones end in `pad_value`s.

    Tokens lie between matches of `separators` (one that is empty: each character), or are those of `tokenexp`; those of
    fewer than `mincharnum` characters are left out.
    """
    attributes = node.attributes
    separators, expression = strings(node, "separators"), attributes.get_string("tokenexp", None)
    least, padding = attributes.get_int("mincharnum", 1), attributes.get_string("pad_value", "")
    if least < 1 or (separators is None) == (expression is None):
        raise ValueError("either separators or tokenexp, and a mincharnum of at least 1")
    cut = _finder(expression) if expression is not None else _splitter(separators or [])
    mark = bool(attributes.get_int("mark", 0))

    def run(x: Array) -> Array:
        rows = [[token for token in cut(text) if len(token) >= least] for text in x.ravel().tolist()]
        longest = max(map(len, rows), default=0)
        if mark:
            rows, longest = [[_START, *row, _END] for row in rows], longest + 2
        padded = (token for row in rows for token in (*row, *[padding] * (longest - len(row))))
        return texts(padded, (*x.shape, longest))

    return run


def _finder(expression: str) -> Callable[[str], Sequence[str]]:
    found = pattern(expression).finditer
    return lambda text: [match.group() for match in found(text) if match.group()]


def _splitter(separators: Sequence[str]) -> Callable[[str], Sequence[str]]:
    if list(separators) == [""]:
        return list
    patterns = [pattern(separator) for separator in separators]

    def split(text: str) -> list[str]:
        parts = [text]
        for one in patterns:
            parts = [piece for part in parts for piece in _between(one, part)]
        return parts

    return split


def _between(separator: Any, text: str) -> list[str]:
    ends = [match.span() for match in separator.finditer(text) if match.group()]
    starts = [0, *(end for _, end in ends)]
    return [text[start:end] for start, end in zip(starts, [*(begin for begin, _ in ends), len(text)], strict=True)]
