"""Measuring the choices that lowering makes, and keeping those that are fastest on this machine.

Every problem of a model (`compiler.tuning`) tries its candidates at the same time as the others: in turn i each takes
its candidate i, the model runs, and the steps of each problem's nodes are timed by the executor. So candidates are
timed in the network, with caches as it leaves them, in as many compilations as the longest list has candidates.
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
"""Of the favourite's time, at most, for another candidate to be kept: less may be noise."""


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
    """Milliseconds of runs by problem and candidate."""

    of: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def median(self, problem: str, candidate: str) -> float:
        return statistics.median(self.of[problem, candidate])


def tune(
    model: Path, inputs: Inputs, *, threads: int | None = None, rounds: int = 3, runs: int = 8, progress: Progress
) -> list[Tuned]:
    """Try every candidate in `rounds` rounds of `runs` runs, and keep what is fastest in the cache.

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
        trials = [_Trial(model, count, fresh, best, turn) for turn in range(turns)]
        for done in range(rounds * turns):
            progress(done, rounds * turns)
            trials[done % turns].measure(inputs, runs, times)
        progress(rounds * turns, rounds * turns)
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
        self._fresh = fresh
        self._taken = {name: choice.candidates[turn % len(choice.candidates)] for name, choice in fresh.items()}
        self._choices = Choices({**best, **self._taken})
        with trial(self._choices):
            self._session = _session(model, threads)

    def measure(self, inputs: Inputs, runs: int, times: _Times) -> None:
        """Run, and add what the steps of each problem took."""
        with trial(self._choices):
            for run in range(_WARM_UP + runs):
                self._session.run(None, dict(inputs))
                if run < _WARM_UP:
                    continue
                steps = self._session.step_times()
                for problem, choice in self._fresh.items():
                    spent = sum(step.duration_ns for step in steps if _first_node(step.name) in choice.nodes) / 1e6
                    times.of.setdefault((problem, self._taken[problem]), []).append(spent)


def _first_node(label: str) -> str:
    """The node for which a step's kernel was chosen: the others in its label are fused behind it."""
    return label.split("+", 1)[0]


def _outcome(problem: str, choice: Choice, times: _Times) -> Tuned:
    favourite = choice.candidates[0]
    fastest = min(choice.candidates, key=lambda name: times.median(problem, name))
    base, least = times.median(problem, favourite), times.median(problem, fastest)
    kept = fastest if least < _GAIN * base else favourite
    return Tuned(problem, tuple(sorted(choice.nodes)), favourite, kept, base, times.median(problem, kept))
