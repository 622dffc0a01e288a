"""What a new length costs: first calls against second ones, programs, kernels and memory."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from bench import direct
from bench.duel import inputs_of
from sardonyx import config
from sardonyx.measure.machine import resident_mib
from sardonyx.measure.timing import percentile

EXTRA_GOAL = 3.0
"""Milliseconds that a first call of a new length may take above its second one."""
MOST_GROWTH = 0.05
"""Of the memory held when a tenth of the lengths has been seen, that the others may add."""


@dataclass(frozen=True)
class LengthCosts:
    """A session that sees many lengths.

    `first_ms` is the very first call, which compiles; of the others `extra_ms` are first calls less second ones, in
    ascending order. `programs` were lowered and `kernels` compiled after that first call. `resident_mib` is the memory
    held after a tenth of the lengths and at the end, None where the system does not tell.
    """

    lengths: int
    first_ms: float
    extra_ms: tuple[float, ...]
    programs: int
    kernels: int
    resident_mib: tuple[float, float] | None

    @property
    def growth(self) -> float | None:
        """By what part memory grew."""
        return None if self.resident_mib is None else self.resident_mib[1] / self.resident_mib[0] - 1

    @property
    def good(self) -> bool:
        """Whether new lengths cost next to nothing: half of them less than the goal, no kernel, no memory."""
        return percentile(self.extra_ms, 50) < EXTRA_GOAL and self.kernels == 0 and (self.growth or 0.0) <= MOST_GROWTH


def length_costs(
    path: Path, dims: Mapping[str, int], along: str, most: int, threads: int, progress: Callable[[str], None]
) -> LengthCosts:
    """Every length of the dim `along` from 1 to `most`, in random order, the other dims as they are in `dims`."""
    order = random.Random(0).sample(range(1, most + 1), most)
    with fresh_cache() as cache, counted_programs() as programs:
        session = direct.ours(path, threads)
        compilations: list[int] = []
        held: list[float | None] = []
        times: list[tuple[float, float]] = []
        for length in order:
            progress(f"{along} {length}")
            feeds = inputs_of(path, {**dims, along: length})
            times.append((_timed(session.run, feeds), _timed(session.run, feeds)))
            compilations.append(sum(1 for _ in (cache / "objects").rglob("*")))
            held.append(resident_mib())
            if length == order[0]:
                programs.clear()
    early, late = held[len(held) // 10], held[-1]
    return LengthCosts(
        most,
        times[0][0],
        tuple(sorted(first - second for first, second in times[1:])),
        len(programs),
        compilations[-1] - compilations[0],
        None if early is None or late is None else (early, late),
    )


def _timed(run: Callable[..., object], feeds: Mapping[str, object]) -> float:
    """Milliseconds of a call."""
    start = time.perf_counter()
    run(None, feeds)
    return 1e3 * (time.perf_counter() - start)


@contextmanager
def fresh_cache() -> Iterator[Path]:
    """An empty cache for as long as the body runs, so that what is compiled shows as files there."""
    with (
        tempfile.TemporaryDirectory(prefix="sardonyx-cache-") as folder,
        mock.patch.dict(os.environ, {config.CACHE.variable: folder}),
    ):
        yield Path(folder)


@contextmanager
def counted_programs() -> Iterator[list[None]]:
    """A list that gets an entry for each program lowered while the body runs."""
    from sardonyx.compiler.lower import Lowering

    found: list[None] = []
    lower = Lowering.run

    def run(lowering: Lowering) -> object:
        found.append(None)
        return lower(lowering)

    with mock.patch.object(Lowering, "run", run):
        yield found
