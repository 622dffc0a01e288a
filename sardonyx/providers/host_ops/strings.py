"""Operators on strings alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.providers.host_ops.patterns import pattern
from sardonyx.providers.host_ops.table import Array, Run, host, ranked, strings, texts

if TYPE_CHECKING:
    import onnx_ir as ir


@host("StringConcat")
def string_concat(node: ir.Node) -> Run:
    """Element by element one after the other."""
    return lambda a, b: ranked(np.add(a, b, dtype=object))


@host("StringSplit")
def string_split(node: ir.Node) -> Run:
    """A new last axis of parts, filled up with empty ones, and how many there are; without delimiter at white space."""
    delimiter = node.attributes.get_string("delimiter", None) or None
    most = node.attributes.get_int("maxsplit", None)

    def run(x: Array) -> tuple[Array, Array]:
        parts = [item.split(delimiter, -1 if most is None else most) for item in x.ravel().tolist()]
        width = max(map(len, parts), default=0)
        made = texts((text for row in parts for text in (*row, *[""] * (width - len(row)))), (len(parts), width))
        counts = np.array([len(row) for row in parts], np.int64)
        return made.reshape(*x.shape, width), counts.reshape(x.shape)

    return run


@host("RegexFullMatch")
def regex_full_match(node: ir.Node) -> Run:
    """Whether a pattern matches all of an element."""
    matches = pattern(node.attributes.get_string("pattern", "")).fullmatch
    return lambda x: np.array([matches(item) is not None for item in x.ravel().tolist()], np.bool_).reshape(x.shape)


@host("StringNormalizer")
def string_normalizer(node: ir.Node) -> Run:
    """Without stop words, in another case; one empty string when nothing is left. A vector, or a matrix of one row."""
    action = node.attributes.get_string("case_change_action", "NONE")
    exact = bool(node.attributes.get_int("is_case_sensitive", 0))
    words = strings(node, "stopwords") or []
    if action not in ("NONE", "LOWER", "UPPER"):
        raise ValueError(f"case_change_action {action!r}")
    changes: dict[str, Callable[[str], str]] = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}
    change = changes[action]
    stops = {word if exact else word.lower() for word in words}

    def run(x: Array) -> Array:
        if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
            raise ValueError(f"strings of dims {list(x.shape)}")
        kept = [item for item in x.ravel().tolist() if (item if exact else item.lower()) not in stops]
        made = [change(item) for item in kept] or [""]
        return texts(made, (len(made),) if x.ndim == 1 else (1, len(made)))

    return run
