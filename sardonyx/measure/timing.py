"""Latency of several runtimes on one model, measured fairly in one process.

Runtimes are interleaved: each round times each of them for a moment, so that a change of clock speed or a
noisy neighbour touches all alike, and ratios are taken within a round. Between two runtimes stands a pause,
because the workers of the last one still spin for a while and the next would look up to twice as slow; then
come warm-up calls that are not timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sardonyx.measure.runners import Inputs, Run

PAUSE = 0.15  # seconds; workers of the runtimes measured so far spin for less
WARM_UP = 2  # calls


@dataclass(frozen=True)
class Plan:
    """How long to measure: `seconds` of timed calls for each runtime in all, spread over `rounds`.

    A runtime is called at least once a round, however slow.
    """

    rounds: int = 5
    seconds: float = 1.0
    warm_up: int = WARM_UP
    pause: float = PAUSE


@dataclass(frozen=True)
class Latency:
    """Times of single calls, in milliseconds, and calls a second while called without a break.

    Percentiles and throughput are taken within each round; what stands here is the median of the rounds, so
    that a round in which the machine was busy, and which therefore has fewer calls, counts like any other.
    """

    name: str
    calls: int
    min_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    throughput: float


@dataclass(frozen=True)
class Ratio:
    """A peer's time over the time of the runtime measured: above 1 where the peer is slower.

    The ratio of the medians of each round; then the median, the lowest and the highest of the rounds.
    """

    peer: str
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Timing:
    """What `measure` found: a latency for each runtime, and the ratios of the others to the first.

    `medians` are each round's median times in milliseconds, by runtime.
    """

    latencies: tuple[Latency, ...]
    ratios: tuple[Ratio, ...]
    medians: Mapping[str, tuple[float, ...]]


def measure(
    runs: Mapping[str, Run],
    inputs: Inputs,
    plan: Plan | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> Timing:
    """Times loaded runtimes by turns on the same inputs. `progress` hears the name of each turn's runtime."""
    plan = plan or Plan()
    rounds: dict[str, list[list[float]]] = {name: [] for name in runs}
    for _ in range(plan.rounds):
        for name, run in runs.items():
            if progress:
                progress(name)
            time.sleep(plan.pause)
            rounds[name].append(_turn(run, inputs, plan))
    first, *peers = runs
    return Timing(
        tuple(_latency(name, turns) for name, turns in rounds.items()),
        tuple(_ratio(peer, rounds[peer], rounds[first]) for peer in peers),
        {name: tuple(1e3 * statistics.median(turn) for turn in turns) for name, turns in rounds.items()},
    )


def _turn(run: Run, inputs: Inputs, plan: Plan) -> list[float]:
    for _ in range(plan.warm_up):
        run(inputs)
    times: list[float] = []
    now = time.perf_counter()
    end = now + plan.seconds / plan.rounds
    while not times or now < end:
        before = now
        run(inputs)
        now = time.perf_counter()
        times.append(now - before)
    return times


def _latency(name: str, turns: Sequence[Sequence[float]]) -> Latency:
    def middle(percent: float) -> float:
        return 1e3 * statistics.median(percentile(sorted(turn), percent) for turn in turns)

    return Latency(
        name=name,
        calls=sum(map(len, turns)),
        min_ms=1e3 * min(map(min, turns)),
        p50_ms=middle(50),
        p90_ms=middle(90),
        p99_ms=middle(99),
        throughput=statistics.median(len(turn) / sum(turn) for turn in turns),
    )


def _ratio(peer: str, theirs: Sequence[Sequence[float]], ours: Sequence[Sequence[float]]) -> Ratio:
    ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(theirs, ours, strict=True)]
    return Ratio(peer, statistics.median(ratios), min(ratios), max(ratios))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The percentile of sorted values, by linear interpolation between neighbours (as numpy's default)."""
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
