"""What was measured, as tables and as JSON."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.direct import OURS
from bench.duel import Protocol, Result
from bench.history import Record
from bench.models import MEAN, Goal
from bench.verdict import Spread, Verdict, judge
from sardonyx.cli import common
from sardonyx.measure.footprint import Footprint
from sardonyx.measure.roofline import Roofline, roofline
from sardonyx.measure.steps import StepReport, StepsReport

_STEADY = 0.9
_BAR = 40  # characters


def results_json(results: Sequence[Result], protocol: Protocol, mean: Spread | None, judged: bool) -> dict[str, Any]:
    """Everything, ready for JSON."""
    return {
        "protocol": asdict(protocol),
        "ratio": "time of the fastest peer of a round over Sardonyx's: quartiles of the rounds",
        "models": [_result_json(result) for result in results],
        "mean": None if mean is None else asdict(mean) | {"goal": asdict(MEAN)},
        "mean_verdict": judge(mean, MEAN).value if mean is not None and judged else None,
    }


def _result_json(result: Result) -> dict[str, Any]:
    subject = result.subject
    named = {"model": subject.name, "goal": asdict(subject.goal), "most_error": subject.most_error}
    measured = {key: value for key, value in asdict(result).items() if key != "subject"}
    found = {"verdict": result.verdict.value, "right": result.right, "best_peer": result.best_peer}
    return named | measured | found | {"gbytes": result.gbytes}


def print_streams(results: Sequence[Result], threads: int) -> None:
    """How near those that stream come to the speed at which the machine's memory is read."""
    found = [(result, result.gbytes) for result in results if result.gbytes is not None]
    if not found:
        return
    most = roofline(threads).levels[-1].gbytes
    rows = [
        (result.subject.name, f"{1e-6 * (result.moved or 0):.1f}", f"{speed:.1f}", f"{most:.1f}", f"{speed / most:.2f}")
        for result, speed in found
    ]
    head = ("MB moved", "GB/s", "memory GB/s", "share")
    common.print_table("Weights and caches", "model", *head, rows=rows, numeric=head)


def print_results(results: Sequence[Result], protocol: Protocol, mean: Spread | None, judged: bool) -> None:
    """The table of models, then what the runtimes could not do."""
    rows = [_result_row(result) for result in results]
    if mean is not None:
        verdict = judge(mean, MEAN).value if judged else "not all models"
        rows.append(("geometric mean", "", "", *_goal_cells(mean, MEAN), "", verdict))
    head = ("ms", "ratio", "quartiles", "asked", "stretch", "error")
    how = f"{protocol.threads} threads, batch {protocol.batch}, {protocol.rounds} rounds"
    title = f"Fastest peer's time / Sardonyx's ({how})"
    common.print_table(title, "model", "ms", "fastest peer", *head[1:], "verdict", rows=rows, numeric=head)
    console = common.stdout()
    for result in results:
        for name, words in result.failures.items():
            console.print(common.text(f"{result.subject.name} on {name}: {words}", style="yellow"))
        if not result.right:
            style, error = "bold red", result.errors.get(OURS, "no answer")
            most = f"at most {result.subject.most_error:.0e} is allowed"
            line = f"{result.subject.name}: WRONG, relative L2 error {error}; {most}"
            console.print(common.text(line, style=style))


def _result_row(result: Result) -> tuple[str, ...]:
    ours = f"{result.ms[OURS]:.3f}" if OURS in result.ms else "-"
    peer = f"{result.ms[result.best_peer]:.3f} {result.best_peer}" if result.best_peer else "-"
    error = f"{result.error:.1e}" if result.error is not None else "-"
    return (result.subject.name, ours, peer, *_goal_cells(result.ratio, result.subject.goal), error, _verdict(result))


def _verdict(result: Result) -> str:
    if not result.right:
        return "WRONG"
    return "FAIL" if result.verdict is Verdict.FAIL else str(result.verdict.value)


def _goal_cells(ratio: Spread | None, goal: Goal) -> tuple[str, ...]:
    """Ratio, quartiles, asked and stretch."""
    return (*spread_cells(ratio), f"{goal.asked:.2f}", "" if goal.stretch is None else f"{goal.stretch:.2f}")


def spread_cells(ratio: Spread | None) -> tuple[str, str]:
    """Median and quartiles."""
    return ("-", "-") if ratio is None else (f"{ratio.median:.2f}", f"{ratio.low:.2f}-{ratio.high:.2f}")


def print_history(model: str | None, records: Sequence[Record]) -> None:
    """The ratio of a model, or of the geometric mean for None, over time."""
    found = [(record, ratio, ms) for record in records for ratio, ms in _found(record, model)]
    widest = max((ratio.median for _, ratio, _ in found), default=1.0)
    rows = [
        (
            record.date,
            record.commit,
            f"{record.machine.processor}, {record.machine.lanes} lanes",
            f"{record.threads}x{record.batch}",
            ms,
            f"{ratio.median:.2f}",
            f"{ratio.low:.2f}-{ratio.high:.2f}",
            "█" * round(_BAR * ratio.median / widest),
        )
        for record, ratio, ms in found
    ]
    columns = ("date", "commit", "machine", "threads x batch", "ms", "ratio", "quartiles", "")
    common.print_table(model or "geometric mean", *columns, rows=rows, numeric=("ms", "ratio", "quartiles"))


def _found(record: Record, model: str | None) -> list[tuple[Spread, str]]:
    """The ratio and our milliseconds, if this record has them."""
    if model is None:
        return [] if record.mean is None else [(record.mean, "")]
    return [(row.ratio, f"{row.ms[OURS]:.3f}") for row in record.rows if row.model == model and row.ratio is not None]


def steps_json(report: StepsReport, limits: Sequence[Roofline]) -> dict[str, Any]:
    """Everything, ready for JSON."""
    fields = asdict(report) | {"limit_ms": report.limit_ms, "machine": [asdict(limit) for limit in limits]}
    return fields | {"steps": [step.as_dict() for step in report.steps]}


def print_steps(name: str, report: StepsReport, limits: Sequence[Roofline]) -> None:
    """Every step, sums by kernel, the machine's limits and the memory."""
    console = common.stdout()
    total = sum(step.ms for step in report.steps)
    rows = [
        (str(i), *_step_cells(step, total), step.bound, " | ".join(step.nodes)[:40])
        for i, step in enumerate(report.steps)
    ]
    head = ("ms", "%", "GFLOP", "GFLOP/s", "weights MB", "tensors MB", "limit ms", "limit/time")
    common.print_table(f"Steps of {name}", "#", "kernel", *head, "limited by", "nodes", rows=rows, numeric=("#", *head))
    kinds: dict[str, list[StepReport]] = defaultdict(list)
    for step in report.steps:
        kinds[_kind(step)].append(step)
    kernels = sorted(kinds.items(), key=lambda item: -sum(step.ms for step in item[1]))
    sums = [(kind, str(len(steps)), *_sums(steps, total)) for kind, steps in [*kernels, ("all", report.steps)]]
    common.print_table("By kernel", "kernel", "steps", *head, rows=sums, numeric=("steps", *head))
    if any(step.work.fast for step in report.steps):
        console.print(common.text("* counted as direct convolution, of which it does about a quarter", style="dim"))
    _print_machine(report, limits)


def _print_machine(report: StepsReport, limits: Sequence[Roofline]) -> None:
    rows = [
        (str(limit.threads), f"{limit.gflops:.0f}", *(f"{level.gbytes:.0f}" for level in limit.levels))
        for limit in limits
    ]
    head = ("threads", "GFLOP/s", *(f"{level.name} GB/s" for level in limits[0].levels))
    common.print_table("The machine, measured now", *head, rows=rows, numeric=head)
    lines = [
        f"run {report.run_ms:.3f} ms, call {report.call_ms:.3f} ms; sum of limits {report.limit_ms:.3f} ms",
        f"arena {report.arena / 1e6:.2f} MB, its lower bound {report.bound / 1e6:.2f} MB; "
        f"live at once, step by step, {report.live / 1e6:.2f} MB; weights {report.weights / 1e6:.2f} MB",
    ]
    for line in lines:
        common.stdout().print(common.text(line))
    share = limits[-1].gflops / (limits[0].gflops * limits[-1].threads / limits[0].threads)
    if min(report.roofline.steady, share) < _STEADY:
        busy = (
            f"the machine is busy: arithmetic ran at {100 * report.roofline.steady:.0f} % of its best in the median, "
            f"and {limits[-1].threads} threads reach {100 * share:.0f} % of that many times one"
        )
        common.stdout().print(common.text(busy, style="yellow"))


def _kind(step: StepReport) -> str:
    return "+".join(step.kernels) + ("*" if step.work.fast else "")


def _step_cells(step: StepReport, total: float) -> tuple[str, ...]:
    return (_kind(step), *_sums([step], total))


def _sums(steps: Sequence[StepReport], total: float) -> tuple[str, ...]:
    ms, limit = sum(step.ms for step in steps), sum(step.limit_ms for step in steps)
    flops = sum(step.work.flops for step in steps)
    return (
        f"{ms:.3f}",
        f"{100 * ms / total:.1f}",
        f"{flops / 1e9:.3f}",
        f"{flops / ms / 1e6:.0f}" if ms else "-",
        f"{sum(step.work.weights for step in steps) / 1e6:.2f}",
        f"{sum(step.work.moved for step in steps) / 1e6:.2f}",
        f"{limit:.3f}",
        f"{limit / ms:.2f}" if ms else "-",
    )


def median_costs(costs: Mapping[str, Sequence[Footprint]]) -> list[dict[str, Any]]:
    """The medians of repeated loads, by name."""

    def middle(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    return [
        {
            "name": name,
            "load_ms": middle([cost.load_ms for cost in found]),
            "first_run_ms": middle([cost.first_run_ms for cost in found]),
            "peak_mib": middle([cost.peak_mib for cost in found]),
        }
        for name, found in costs.items()
    ]


def print_costs(name: str, costs: Sequence[Mapping[str, Any]]) -> None:
    """Load time and memory."""
    head = ("load_ms", "first_run_ms", "peak_mib")
    rows = [(cost["name"], *("unknown" if cost[key] is None else f"{cost[key]:.1f}" for key in head)) for cost in costs]
    titles = ("load ms", "first run ms", "peak MiB")
    common.print_table(
        f"{name} in fresh processes, above the bare runtime", "runtime", *titles, rows=rows, numeric=titles
    )
