"""GreedySearch and BeamSearch of com.microsoft: loops here around a compiled decoder.

The decoder is GPT's: from ids, positions and a mask, all int32, and a cache a layer, [2, rows, heads, length, size], it
gives logits [rows, length, words] and the caches with the new places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import ExecutionError, InvalidModelError
from sardonyx.providers.base import Array
from sardonyx.providers.partition import node_name

if TYPE_CHECKING:
    import onnx_ir as ir

Decoder = Callable[[Sequence[Any], Sequence[Any]], list[Any]]
"""(its own inputs, the values around it) -> its outputs."""

_LOWEST = np.finfo(np.float32).min
_FIXED = 3
"""Inputs of a decoder before its caches."""


def search_refusal(node: ir.Node) -> str:
    """Why a search cannot run here, or nothing."""
    attributes = node.attributes
    if attributes.get_int("model_type", 0) or "encoder" in attributes:
        return "a search with an encoder"
    beams = node.op_type == "BeamSearch"
    inputs = [value is not None for value in node.inputs]
    if beams and (any(inputs[10:]) or any(value.name for value in node.outputs[2:])):
        return "a search with ids of a decoder, processors, or the scores of all steps"
    for value in attributes["decoder"].as_graph().inputs[_FIXED:]:
        shape = value.shape
        if shape is None or len(shape) != 5 or not all(isinstance(shape[at], int) for at in (0, 2, 4)):
            return f"the heads of the cache {value.name!r} are not known"
    return ""


@dataclass(frozen=True)
class _Rules:
    """What a search does to scores [rows, words] before it chooses."""

    eos: int
    ngram: int
    least: int
    penalty: float
    words: Array | None
    first_words: Array | None

    def apply(self, scores: Array, told: Array, *, first: bool) -> None:
        """In place; `told` are the words so far."""
        if self.penalty != 1:
            for row, words in zip(scores, told, strict=True):
                seen = np.unique(words)
                row[seen] = np.where(row[seen] < 0, row[seen] * self.penalty, row[seen] / self.penalty)
        if self.ngram > 0:
            for row, words in zip(scores, told, strict=True):
                row[_repeats(words, self.ngram)] = _LOWEST
        if self.words is not None:
            scores[:, self.words.reshape(-1) == 0] = _LOWEST
        if first and self.first_words is not None:
            batch = len(self.first_words)
            scores[np.repeat(self.first_words == 0, len(scores) // batch, axis=0)] = _LOWEST
        if told.shape[1] < self.least:
            scores[:, self.eos] = _LOWEST


def _repeats(words: Array, size: int) -> list[int]:
    """The words that would end a run of `size` words that was there before."""
    last = words[len(words) - size + 1 :]
    starts = range(len(words) - size + 1)
    return [int(words[at + size - 1]) for at in starts if np.array_equal(words[at : at + size - 1], last)]


class _Turns:
    """The decoder's state from turn to turn."""

    def __init__(self, search: _Search, ids: Array, mask: Array | None, values: Sequence[Any]) -> None:
        self._search, self._values, self._ids = search, values, ids
        self._mask = (ids != search.pad).astype(np.int32) if mask is None else mask.astype(np.int32)
        places = np.cumsum(self._mask, axis=1, dtype=np.int32)
        self._places: Array = np.where(self._mask > 0, places - 1, 0).astype(np.int32)
        self._next = places[:, -1:]
        self._caches: list[Any] = [
            np.zeros((two, len(ids), heads, 0, size), kind) for two, heads, size, kind in search.caches
        ]
        self._first = True

    def logits(self) -> Array:
        """Of the last place, [rows, words], after a turn of the decoder."""
        decoder = self._search.first if self._first else self._search.decoder
        given = [self._ids, self._places, self._mask, *self._caches]
        result, *self._caches = decoder(given, self._values)
        if result.ndim != 3 or len(result) != len(self._ids):
            raise ExecutionError("the decoder gives no logits", where=self._search.where, got=str(list(result.shape)))
        self._first = False
        last: Array = result[:, -1].astype(np.float32)
        return last

    def chosen(self, words: Array, rows: Array | None = None) -> None:
        """Go on with these words, of the states of `rows`."""
        if rows is not None:
            self._caches = [np.take(cache, rows, axis=1) for cache in self._caches]
        self._ids, self._places = words.astype(np.int32)[:, None], self._next
        self._next = self._next + np.int32(1)
        self._mask = np.concatenate([self._mask, np.ones((len(words), 1), np.int32)], axis=1)


def _cache(value: ir.Value, where: str) -> tuple[int, int, int, np.dtype[Any]]:
    """Keys and values, heads, their size, and the type of a decoder's cache."""
    shape, kind = value.shape, value.dtype
    dims = [] if shape is None or len(shape) != 5 else [shape[at] for at in (0, 2, 4)]
    two, heads, size = (dim if isinstance(dim, int) else 0 for dim in dims or (0, 0, 0))
    if not (two and heads and size) or kind is None:
        raise InvalidModelError(f"the cache {value.name!r} has no heads of a known size", where=where)
    return two, heads, size, kind.numpy()


class _Search:
    """What both searches have."""

    def __init__(self, node: ir.Node, given: tuple[int | None, ...], compiled: Callable[[str], Decoder]) -> None:
        self.where, attributes = f"node {node_name(node)!r}", node.attributes
        self.decoder = compiled("decoder")
        self.first = compiled("init_decoder") if "init_decoder" in attributes else self.decoder
        self.pad, self.eos = attributes.get_int("pad_token_id", -1), attributes.get_int("eos_token_id", -1)
        if min(self.pad, self.eos) < 0:
            raise InvalidModelError("pad_token_id or eos_token_id is missing", where=self.where)
        self._ngram, self._early = (
            attributes.get_int("no_repeat_ngram_size", 0),
            attributes.get_int("early_stopping", 0),
        )
        self._slots = given
        self.caches = [_cache(value, self.where) for value in attributes["decoder"].as_graph().inputs[_FIXED:]]

    def _given(self, values: Sequence[Any], index: int) -> Array | None:
        slot = self._slots[index] if index < len(self._slots) else None
        found: Array | None = None if slot is None else values[slot]
        return found

    def _number(self, values: Sequence[Any], index: int, default: float) -> float:
        found = self._given(values, index)
        if found is None:
            return default
        if found.size != 1:
            raise ExecutionError(f"input {index} is not one number", where=self.where, got=str(list(found.shape)))
        return float(found.reshape(-1)[0])

    def _start(self, values: Sequence[Any]) -> tuple[Array, int]:
        """The given ids and the length to reach."""
        ids, length = self._given(values, 0), int(self._number(values, 1, 0))
        if ids is None or ids.ndim != 2 or not ids.size:
            raise ExecutionError("no ids [rows, length] to start from", where=self.where)
        if length <= ids.shape[1]:
            raise ExecutionError(f"max_length {length} for {ids.shape[1]} ids", where=self.where)
        return ids, length

    def _rules(self, values: Sequence[Any], penalty: int, ids: Array, words: int) -> _Rules:
        masks = (self._given(values, penalty + 1), self._given(values, penalty + 2))
        fits = (masks[0] is None or masks[0].size == words) and (
            masks[1] is None or masks[1].shape == (len(ids), words)
        )
        if not fits or self.eos >= words or ids.min() < 0 or ids.max() >= words:
            raise ExecutionError(f"masks or ids do not fit {words} words", where=self.where)
        least = int(self._number(values, 2, 0))
        return _Rules(self.eos, self._ngram, least, self._number(values, penalty, 1.0), *masks)

    def _padded(self, rows: Sequence[Array], length: int) -> Array:
        made = np.full((len(rows), length), self.pad, np.int32)
        for target, row in zip(made, rows, strict=True):
            target[: len(row)] = row
        return made


class _Greedy(_Search):
    """The likeliest word each time, until each row has ended."""

    def __call__(self, values: list[Any]) -> list[Any]:
        told, length = self._start(values)
        turns = _Turns(self, told, self._given(values, 6), values)
        ended, rules = np.zeros(len(told), bool), None
        while told.shape[1] < length and not ended.all():
            scores = turns.logits()
            first, rules = rules is None, rules or self._rules(values, 3, told, scores.shape[1])
            rules.apply(scores, told, first=first)
            words = scores.argmax(axis=1)
            ended |= words == self.eos
            words = np.where(ended, self.pad, words)
            told = np.concatenate([told, words[:, None]], axis=1)
            turns.chosen(words)
        return [self._padded(list(told), length)]


class _Kept:
    """The best ends of a row's beams so far, as (score, words)."""

    def __init__(self, count: int, power: float, *, early: bool) -> None:
        self._count, self._power, self._early = count, power, early
        self.ends: list[tuple[float, Array]] = []
        self.done = False

    def add(self, total: float, words: Array) -> None:
        self.ends.append((float(np.float32(total / len(words) ** self._power)), words))
        self.ends = sorted(self.ends, key=lambda end: -end[0])[: self._count]

    def judge(self, best: float, length: int) -> None:
        """Whether what is under way cannot become better than what is kept."""
        if len(self.ends) == self._count:
            self.done = self._early or self.ends[-1][0] >= best / length**self._power


class _Beams(_Search):
    """Several rows for each given one: of all their continuations the likeliest go on."""

    def __call__(self, values: list[Any]) -> list[Any]:
        ids, length = self._start(values)
        count, wanted = (int(self._number(values, at, 1)) for at in (3, 4))
        if not 1 <= wanted <= count:
            raise ExecutionError(f"{wanted} results of {count} beams", where=self.where)
        power = self._number(values, 5, 1.0)
        told, mask = np.repeat(ids, count, axis=0), self._given(values, 9)
        turns = _Turns(self, told, None if mask is None else np.repeat(mask, count, axis=0), values)
        totals = np.full((len(ids), count), -1e9, np.float32)
        totals[:, 0] = 0
        kept, rules = [_Kept(count, power, early=bool(self._early)) for _ in ids], None
        while told.shape[1] < length and not all(row.done for row in kept):
            scores = turns.logits()
            scores -= scores.max(axis=1, keepdims=True)
            scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
            first, rules = rules is None, rules or self._rules(values, 6, ids, scores.shape[1])
            rules.apply(scores, told, first=first)
            scores = (scores + totals.reshape(-1, 1)).reshape(len(ids), -1)
            words, rows, totals = self._step(scores, told, kept, count)
            told = np.concatenate([told[rows], words[:, None]], axis=1)
            turns.chosen(words, rows)
        for row, ends in enumerate(kept):
            for beam in range(0 if ends.done else count):
                ends.add(float(totals[row, beam]), told[row * count + beam])
        rows_out = [end for ends in kept for end in ends.ends[:wanted]]
        sequences = self._padded([words for _, words in rows_out], length).reshape(len(ids), wanted, length)
        return [sequences, np.array([score for score, _ in rows_out], np.float32).reshape(len(ids), wanted)]

    def _step(self, scores: Array, told: Array, kept: list[_Kept], count: int) -> tuple[Array, Array, Array]:
        """The words that go on, the rows they go on from, and the sums of their scores [batch, count]."""
        width = scores.shape[1] // count
        words, rows = (np.full((len(kept), count), self.pad), np.arange(len(told)).reshape(len(kept), count))
        totals = np.zeros((len(kept), count), np.float32)
        for batch, ends in enumerate(kept):
            if ends.done:
                continue
            order = np.argsort(-scores[batch], kind="stable")[: 2 * count]
            taken = 0
            for rank, place in enumerate(order.tolist()):
                row, word = batch * count + place // width, place % width
                if word == self.eos:
                    if rank < count:
                        ends.add(float(scores[batch, place]), told[row])
                elif taken < count:
                    words[batch, taken], rows[batch, taken], totals[batch, taken] = word, row, scores[batch, place]
                    taken += 1
            ends.judge(float(scores[batch].max()), told.shape[1])
        return words.reshape(-1), rows.reshape(-1), totals


SEARCHES: Mapping[str, Any] = {"GreedySearch": _Greedy, "BeamSearch": _Beams}
"""By operator of com.microsoft: made of a node, the slots of its inputs, and what compiles a body."""
