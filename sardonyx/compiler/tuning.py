"""Choices that lowering makes among ways to compute the same: by a model of costs, or as they were measured here.

A rule offers candidates to `Choices.best`, which takes the one that a measurement on this machine found fastest
(`sardonyx tune`), else the one the model of costs prefers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from sardonyx.compiler.cache import ObjectCache, cache_folder, source_digest

if TYPE_CHECKING:
    from sardonyx.compiler.target import Target

Candidate = TypeVar("Candidate", bound=Hashable)

MOST_CANDIDATES = 8
"""Worth a measurement: the best by the model."""


@dataclass
class Choice:
    """One choice: candidates by name, the model's favourite first, which was taken, and the nodes it is for."""

    candidates: tuple[str, ...]
    taken: str
    nodes: set[str]


@dataclass
class Choices:
    """The choices of lowerings. `measured` names the candidate to take by problem; `made` collects what was chosen."""

    measured: Mapping[str, str] = field(default_factory=dict)
    made: dict[str, Choice] = field(default_factory=dict)

    def best(
        self, problem: Hashable, candidates: Iterable[Candidate], cost: Callable[[Candidate], float], node: str
    ) -> Candidate:
        """The candidate to use for `problem`, which says all that the cost depends on, at a node. Reprs are names.

        A measured candidate that is no longer offered is ignored.
        """
        key = repr(problem)
        ranked = {repr(candidate): candidate for candidate in sorted(candidates, key=cost)[:MOST_CANDIDATES]}
        first = next(iter(ranked))
        taken = self.measured.get(key, first)
        taken = taken if taken in ranked else first
        self.made.setdefault(key, Choice(tuple(ranked), taken, set())).nodes.add(node)
        return ranked[taken]


_TRIAL: ContextVar[Choices | None] = ContextVar("trial", default=None)


def choices_for(target: Target, threads: int) -> Choices:
    """What a lowering chooses by: what was measured on this machine with this many threads, or a trial under way."""
    return _TRIAL.get() or Choices(measured_choices(target, threads))


@contextmanager
def trial(choices: Choices) -> Iterator[None]:
    """Lower by these choices, in this context."""
    token = _TRIAL.set(choices)
    try:
        yield
    finally:
        _TRIAL.reset(token)


def measured_choices(target: Target, threads: int) -> dict[str, str]:
    """The candidate by problem, as measured on this machine with this many threads; empty when nothing was."""
    raw = ObjectCache(cache_folder("choices")).get(_key(target, threads))
    return {} if raw is None else json.loads(raw)


def keep_choices(target: Target, threads: int, choices: Mapping[str, str]) -> bool:
    """Add measured choices to those of this machine; whether they could be kept."""
    return _keep(target, threads, measured_choices(target, threads) | dict(choices))


def forget_choices(target: Target, threads: int) -> int:
    """Drop the choices measured with this many threads; how many there were."""
    known = measured_choices(target, threads)
    _keep(target, threads, {})
    return len(known)


def _keep(target: Target, threads: int, choices: Mapping[str, str]) -> bool:
    return ObjectCache(cache_folder("choices")).put(_key(target, threads), json.dumps(choices).encode())


def _key(target: Target, threads: int) -> str:
    """Choices hold for this processor and its caches, and until the code changes that they choose among."""
    caches = f"{target.l1_bytes}/{target.l2_bytes}/{target.l3_bytes}"
    return f"choices|{source_digest('compiler', 'ops')}|{target.key}|{caches}|{threads}"
