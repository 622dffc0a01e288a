"""What all demos show: how the model came to be, and how it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sardonyx.cli import common

if TYPE_CHECKING:
    from sardonyx.cli.subjects import Stage
    from sardonyx.measure.trial import Trial, Trials


def show_stages(stages: Sequence[Stage], note: str = "") -> None:
    """The stages with their numbers; before them `note`, if there is one."""
    console = common.stdout()
    if note:
        console.print(common.text(note, style="yellow"))
    for number, stage in enumerate(stages, 1):
        facts = common.grid()
        for name, value in stage.facts.items():
            facts.add_row(name, common.text(value))
        console.print(common.text(f"\n{number}. {stage.title}", style="bold"))
        console.print(facts)


def show_trials(trials: Trials, threads: int, title: str, batch: int = 1) -> None:
    """Times and differences of the runtimes."""
    ratios = {ratio.peer: f"{ratio.median:.2f}x" for ratio in trials.ratios}
    rows = [_row(trial, ratios.get(trial.name, "")) for trial in trials.trials]
    head = ("median ms", "p90 ms", f"time / {trials.base}'s")
    title = f"\n{title} ({threads} threads, batch {batch})"
    common.print_table(title, "runtime", *head, "largest difference", rows=rows, numeric=head)
    note = "The runtimes took turns; a ratio is taken within a turn, so on a busy machine trust it before the times."
    common.stdout().print(common.text(note, style="dim"))


def _row(trial: Trial, ratio: str) -> tuple[str, ...]:
    if trial.latency is None:
        return (trial.name, "-", "-", "-", str(trial.error))
    gap = f"{trial.difference.max_abs:.1e}" if trial.difference else "the reference"
    return (trial.name, f"{trial.latency.p50_ms:.3f}", f"{trial.latency.p90_ms:.3f}", ratio, gap)
