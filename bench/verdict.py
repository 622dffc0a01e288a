"""Ratios, their spread, and what they say of a goal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from bench.models import Goal
from sardonyx.measure.timing import percentile


class Verdict(Enum):
    """What a measured ratio says of its goal.

    A gate that knows its noise: it fails only where three quarters of the rounds lie below what is asked, which no
    single busy moment does; a median below it is a warning.
    """

    STRETCH = "stretch"
    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Spread:
    """Lower quartile, median and upper quartile."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The quartiles of some values, of which there must be one at least."""
    ordered = sorted(values)
    return Spread(*(percentile(ordered, percent) for percent in (25, 50, 75)))


def round_ratios(medians: Mapping[str, Sequence[float]], ours: str) -> tuple[float, ...]:
    """For each round the time of its fastest peer over ours; `medians` are times by runtime, one a round."""
    peers = [times for name, times in medians.items() if name != ours]
    return tuple(min(theirs) / own for own, *theirs in zip(medians[ours], *peers, strict=True))


def geometric_mean(spreads: Sequence[Spread]) -> Spread:
    """The geometric means of the quartiles: the upper is reached when each network has its upper."""

    def mean(values: Sequence[float]) -> float:
        return math.exp(math.fsum(map(math.log, values)) / len(values))

    return Spread(mean([s.low for s in spreads]), mean([s.median for s in spreads]), mean([s.high for s in spreads]))


def judge(ratio: Spread, goal: Goal) -> Verdict:
    """What the ratio says of the goal."""
    if ratio.high < goal.asked:
        return Verdict.FAIL
    if ratio.median < goal.asked:
        return Verdict.WARN
    return Verdict.STRETCH if goal.stretch is not None and ratio.median >= goal.stretch else Verdict.PASS
