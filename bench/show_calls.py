"""Costs of calls, lengths and threads, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from bench.calls import CALL_GOAL, THREADS_GOAL, CallCost, Sharing
from bench.classical import LOAD_GOAL, Outcome
from bench.direct import OURS, PEER
from bench.lengths import EXTRA_GOAL, LengthCosts
from bench.show import spread_cells
from sardonyx.cli import common
from sardonyx.measure.timing import percentile


def print_call(name: str, cost: CallCost) -> None:
    """Both times, and what ours goes into."""
    rows = [
        (OURS, f"{cost.us:.2f}", ""),
        ("  checks of the inputs", "", f"{cost.checks:.0f}"),
        ("  addresses, results, the way into native code", "", f"{cost.binding:.0f}"),
        ("  native steps", "", f"{cost.native:.0f}"),
        (PEER, f"{cost.peer_us:.2f}", ""),
    ]
    common.print_table(f"A call of {name}", "", "us", "%", rows=rows, numeric=("us", "%"))
    line = f"ratio {' ('.join(spread_cells(cost.ratio))}), goal {CALL_GOAL:.2f}"
    common.stdout().print(common.text(line, style="" if cost.ratio.median >= CALL_GOAL else "yellow"))


def print_sharing(name: str, found: Sequence[Sharing]) -> None:
    """Runs a second of one caller and of two."""
    rows = [(s.name, f"{s.alone:.1f}", f"{s.together:.1f}", *spread_cells(s.gain)) for s in found]
    head = ("one caller", "two callers", "gain", "quartiles")
    title = f"Runs a second of {name}, one native thread a call (goal: {THREADS_GOAL} times as many with two callers)"
    common.print_table(title, "runtime", *head, rows=rows, numeric=head)


def print_lengths(name: str, costs: LengthCosts) -> None:
    """First calls against second ones, and what they left behind."""
    extra = [percentile(costs.extra_ms, percent) for percent in (50, 90, 100)]
    memory, growth = costs.resident_mib, costs.growth
    rows = [
        ("first call of all, which compiles, ms", f"{costs.first_ms:.0f}", ""),
        ("a new length above its second call, ms: median", f"{extra[0]:.2f}", f"{EXTRA_GOAL:.0f}"),
        ("  nine in ten below", f"{extra[1]:.2f}", ""),
        ("  most", f"{extra[2]:.2f}", ""),
        ("programs lowered after the first call", str(costs.programs), ""),
        ("kernels compiled after the first call", str(costs.kernels), "0"),
        ("memory after a tenth of the lengths, MiB", "unknown" if memory is None else f"{memory[0]:.0f}", ""),
        ("  and at the end", "unknown" if memory is None or growth is None else f"{memory[1]:.0f} ({growth:+.1%})", ""),
    ]
    common.print_table(f"{name}: {costs.lengths} lengths in random order", "", "found", "goal", rows=rows,
                       numeric=("found", "goal"))  # fmt: skip


def print_classical(found: Sequence[Outcome], threads: int) -> None:
    """A line for each model of classical machine learning."""
    head = ("ms", "onnxruntime", "ratio", "quartiles", "goal", "load s", "onnxruntime's", "gap", "labels apart")
    rows = [
        (
            one.case.name, f"{one.ms:.4g}", f"{one.peer_ms:.4g}", *spread_cells(one.ratio),
            f"load {LOAD_GOAL:.0f} s" if one.case.goal is None else f"{one.case.goal:.1f}",
            f"{one.load_s:.2f}", f"{one.peer_load_s:.2f}", f"{one.gap:.1e}", str(one.labels),
        )
        for one in found
    ]  # fmt: skip
    common.print_table(f"Classical models, {threads} threads", "model", *head, rows=rows, numeric=head)
    for one in found:
        if not one.good:
            common.stdout().print(common.text(f"{one.case.name}: misses its goal", style="yellow"))
