"""One model and one input on several runtimes: what each answers, how long it takes, how exact it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sardonyx.errors import SardonyxError
from sardonyx.measure.compare import Difference, difference
from sardonyx.measure.runners import Inputs, Run, runner
from sardonyx.measure.timing import Latency, Plan, Ratio, measure
from sardonyx.providers.base import Array

REFERENCE = "sardonyx/reference"
_FEW = Plan(rounds=1, seconds=0.3, warm_up=1)  # for the reference, which is exact and slow


@dataclass(frozen=True)
class Trial:
    """How one runtime did. `error` is set, and the rest empty, when it could not load or run the model.

    `difference` is to the reference provider's outputs; None for the reference itself and when there is none.
    """

    name: str
    outputs: tuple[Array, ...] = ()
    latency: Latency | None = None
    difference: Difference | None = None
    error: SardonyxError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything but the outputs, ready for JSON."""
        return {
            "name": self.name,
            "latency": asdict(self.latency) if self.latency else None,
            "difference": asdict(self.difference) if self.difference else None,
            "error": self.error.as_dict() if self.error else None,
        }


@dataclass(frozen=True)
class Trials:
    """The trials in the order asked for, and the ratios of the other fast ones to the first."""

    trials: tuple[Trial, ...]
    ratios: tuple[Ratio, ...]

    @property
    def base(self) -> str:
        """The runtime the ratios are to; empty when none but the reference ran."""
        return next((t.name for t in self.trials if t.latency and t.name != REFERENCE), "")

    def __getitem__(self, name: str) -> Trial:
        """The trial of one runtime; KeyError when it was not asked for."""
        return {trial.name: trial for trial in self.trials}[name]


@dataclass(frozen=True)
class Attempt:
    """What runs, what came out of the first run, and what failed, by the names of the runtimes asked for."""

    names: tuple[str, ...]
    runs: dict[str, Run]
    outputs: dict[str, tuple[Array, ...]]
    errors: dict[str, SardonyxError]


def attempt(
    names: Sequence[str],
    model: Path,
    inputs: Inputs,
    threads: int,
    *,
    answered: Callable[[tuple[Array, ...]], None] = lambda _: None,
) -> Attempt:
    """Load the model in every runtime named and run it once. A failure does not stop the others.

    `answered` is called with the outputs of the first that runs, as soon as they are there.
    """
    found = Attempt(tuple(names), {}, {}, {})
    for name in names:
        try:
            run = runner(name).load(model, threads)
            found.outputs[name] = tuple(run(inputs))
            found.runs[name] = run
            if len(found.runs) == 1:
                answered(found.outputs[name])
        except SardonyxError as error:
            found.errors[name] = error
    return found


def hold_trials(
    tried: Attempt, inputs: Inputs, plan: Plan, *, progress: Callable[[str], None] = lambda _: None
) -> Trials:
    """Time the runtimes that ran, on the same inputs, and compare what they answered with the reference."""
    timings = [
        measure(some, inputs, how, progress=lambda name: progress(f"timing {name}"))
        for some, how in _by_pace(tried.runs, plan)
    ]
    latencies = {latency.name: latency for timing in timings for latency in timing.latencies}
    return Trials(
        tuple(_trial(name, tried, latencies) for name in tried.names),
        tuple(ratio for timing in timings for ratio in timing.ratios),
    )


def _by_pace(runs: Mapping[str, Run], plan: Plan) -> list[tuple[dict[str, Run], Plan]]:
    """The reference apart, with fewer calls; groups that are not empty."""
    fast = {name: run for name, run in runs.items() if name != REFERENCE}
    slow = {name: run for name, run in runs.items() if name == REFERENCE}
    return [(some, how) for some, how in ((fast, plan), (slow, _FEW)) if some]


def _trial(name: str, tried: Attempt, latencies: Mapping[str, Latency]) -> Trial:
    if name in tried.errors:
        return Trial(name, error=tried.errors[name])
    exact = tried.outputs.get(REFERENCE)
    gap = None if exact is None or name == REFERENCE else difference(tried.outputs[name], exact)
    return Trial(name, tried.outputs[name], latencies[name], gap)
