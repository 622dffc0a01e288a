"""Measuring the choices that lowering makes, and keeping those that are fastest on this machine.

Every problem of a model (`compiler.tuning`) tries its candidates at the same time as the others: in trial i each takes
its candidate i, the model runs, and the executor times the steps of each problem's nodes. So candidates are timed in
the network, with caches as it leaves them, in as many compilations as the longest list has candidates. Runs of a trial
alternate with runs of the model of costs' favourites, and only ratios of neighbours count: clocks change by more from
one second to the next than candidates differ.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sardonyx.compiler.jit import host_target
from sardonyx.compiler.target import available_threads
from sardonyx.compiler.tuning import Choices, forget_choices, keep_choices, trial

if TYPE_CHECKING:
    from sardonyx.compiler.tuning import Choice
    from sardonyx.measure.runners import Inputs
    from sardonyx.session import InferenceSession

Progress = Callable[[int, int], None]
"""Told how many turns are done of how many."""

_WARM_UP = 2
"""Runs of a turn that are not counted."""
_GAIN = 0.97
"""Of the favourite's time, at most in the median, for another candidate to be kept; and three quarters of the ratios
must be below 1."""


@dataclass(frozen=True)
class Tuned:
    """A problem's outcome: its nodes, the model's favourite and the candidate kept, with milliseconds a run of each."""

    problem: str
    nodes: tuple[str, ...]
    favourite: str
    kept: str
    favourite_ms: float
    kept_ms: float

    @property
    def changed(self) -> bool:
        """Whether the measurement disagrees with the model of costs."""
        return self.kept != self.favourite


@dataclass
class _Times:
    """Milliseconds of a run in the favourites by problem, and a candidate's over those by problem and candidate."""

    favourites: dict[str, list[float]] = field(default_factory=dict)
    ratios: dict[tuple[str, str], list[float]] = field(default_factory=dict)


def tune(
    model: Path, inputs: Inputs, *, threads: int | None = None, rounds: int = 3, runs: int = 8, progress: Progress
) -> list[Tuned]:
    """Try every candidate in `rounds` rounds of `runs` pairs of runs, and keep what is fastest in the cache.

    Problems that only a measured choice brings up are tried next. Sessions made afterwards, by any process of this
    user, take what was kept.
    """
    target, count = host_target(), threads or available_threads()
    best: dict[str, str] = {}
    tuned: list[Tuned] = []
    while True:
        made = _choices(model, inputs, count, best)
        fresh = {problem: choice for problem, choice in made.items() if problem not in best}
        if not fresh:
            break
        times, turns = _Times(), max(len(choice.candidates) for choice in fresh.values())
        favourites, *others = [_Trial(model, count, fresh, best, turn) for turn in range(turns)]
        for done in range(rounds * len(others)):
            progress(done, rounds * len(others))
            _compare(favourites, others[done % len(others)], inputs, runs, times)
        progress(rounds * len(others), rounds * len(others))
        for problem, choice in fresh.items():
            tuned.append(_outcome(problem, choice, times))
            best[problem] = tuned[-1].kept
    keep_choices(target, count, best)
    return sorted(tuned, key=lambda found: found.kept_ms - found.favourite_ms)


def forget(threads: int | None = None) -> int:
    """Drop what was measured with this many threads; how many choices that were."""
    return forget_choices(host_target(), threads or available_threads())


def _session(model: Path, threads: int) -> InferenceSession:
    from sardonyx.options import SessionOptions
    from sardonyx.session import InferenceSession

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    return InferenceSession(model, options, providers=["cpu", "reference"])


def _choices(model: Path, inputs: Inputs, threads: int, best: Mapping[str, str]) -> dict[str, Choice]:
    """The problems of the model when those in `best` are settled."""
    choices = Choices(best)
    with trial(choices):
        _session(model, threads).run(None, dict(inputs))
    return {problem: choice for problem, choice in choices.made.items() if len(choice.candidates) > 1}


class _Trial:
    """A session in which each fresh problem takes its candidate of one turn."""

    def __init__(
        self, model: Path, threads: int, fresh: Mapping[str, Choice], best: Mapping[str, str], turn: int
    ) -> None:
        self.fresh = fresh
        self.taken = {name: choice.candidates[turn % len(choice.candidates)] for name, choice in fresh.items()}
        self._choices = Choices({**best, **self.taken})
        with trial(self._choices):
            self._session = _session(model, threads)

    def run(self, inputs: Inputs) -> dict[str, float]:
        """Run once: milliseconds by problem."""
        with trial(self._choices):
            self._session.run(None, dict(inputs))
        steps = [(_first_node(step.name), step.duration_ns) for step in self._session.step_times()]
        return {
            problem: sum(duration for node, duration in steps if node in choice.nodes) / 1e6
            for problem, choice in self.fresh.items()
        }


def _compare(favourites: _Trial, other: _Trial, inputs: Inputs, runs: int, times: _Times) -> None:
    """Run both by turns, and note the ratios of neighbours."""
    for run in range(_WARM_UP + runs):
        before, after = favourites.run(inputs), other.run(inputs)
        if run < _WARM_UP:
            continue
        for problem, candidate in other.taken.items():
            times.favourites.setdefault(problem, []).append(before[problem])
            if candidate != favourites.taken[problem] and before[problem]:
                times.ratios.setdefault((problem, candidate), []).append(after[problem] / before[problem])


def _first_node(label: str) -> str:
    """The node for which a step's kernel was chosen: the others in its label are fused behind it."""
    return label.split("+", 1)[0]


def _outcome(problem: str, choice: Choice, times: _Times) -> Tuned:
    """The candidate to keep: the one with the least median ratio, if that is clearly a gain, else the favourite."""
    favourite, base = choice.candidates[0], statistics.median(times.favourites[problem])
    kept, least = favourite, 1.0
    for candidate in choice.candidates[1:]:
        ratios = sorted(times.ratios.get((problem, candidate), [1.0]))
        ratio, upper = statistics.median(ratios), ratios[len(ratios) * 3 // 4]
        if ratio < min(least, _GAIN) and upper < 1.0:
            kept, least = candidate, ratio
    return Tuned(problem, tuple(sorted(choice.nodes)), favourite, kept, base, base * least)
