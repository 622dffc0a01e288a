"""The table of operators, on the screen and as a page of the documentation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.history import Record
from bench.operators import SIZES
from bench.ops import SLOW, Outcome
from sardonyx.cli import common

PAGE = Path(__file__).parents[1] / "docs" / "operator_speed.md"


def print_ops(outcomes: Sequence[Outcome], threads: int) -> None:
    """A line for each operator, then what is slower than onnxruntime, what has no ratio, and what is wrong."""
    columns = [f"{size} {what}" for size in SIZES for what in ("ms", "ratio")]
    rows = [
        (name, *(cell for outcome in sizes for cell in (_ms(outcome), _ratio(outcome))))
        for name, sizes in _by_name(outcomes)
    ]
    title = f"onnxruntime's time / Sardonyx's, of single operators ({threads} threads; ! below {SLOW:.2f})"
    common.print_table(title, "operator", *columns, rows=rows, numeric=columns)
    console = common.stdout()
    slow = sorted((o for o in outcomes if o.slow and o.ratio), key=lambda o: o.ratio.median if o.ratio else 0.0)
    for outcome in slow:
        console.print(common.text(f"slow: {_told(outcome)}", style="yellow"))
    for outcome in outcomes:
        if outcome.failure:
            console.print(common.text(f"{_where(outcome)}: {outcome.failure}", style="dim"))
    for outcome in outcomes:
        if outcome.wrong:
            gap = "no answer" if outcome.gap is None else f"answers {outcome.gap:.1e} apart"
            console.print(common.text(f"{_where(outcome)}: WRONG, {gap}", style="bold red"))
        elif outcome.differs:
            told = f"answers {outcome.gap:.1e} apart, ours {outcome.error:.1e} from float64"
            console.print(common.text(f"{_where(outcome)}: {told}", style="yellow"))


def page(outcomes: Sequence[Outcome], record: Record) -> str:
    """The table as Markdown, with where and when it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    lines = [
        "# Operators against onnxruntime",
        "",
        "Written by `python -m bench ops --record`; see [benchmarks](benchmarks.md). Each cell has the sizes of",
        "`bench/operators.py`, our time for a model of this one node, the call included, and how many times as long",
        f"onnxruntime takes for it by turns. Ratios below {SLOW:.2f} are bold.",
        "",
        f"{record.date}, commit {record.commit}, {record.machine.processor} with {record.machine.cores} cores,",
        f"{record.threads} threads; {versions}.",
        "",
        f"| operator | {' | '.join(SIZES)} |",
        f"|---|{'---|' * len(SIZES)}",
    ]
    for name, sizes in _by_name(outcomes):
        lines.append(f"| {name} | {' | '.join(_cell(outcome) for outcome in sizes)} |")
    return "\n".join(lines) + "\n"


def _by_name(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, list[Outcome]]]:
    for name, sizes in itertools.groupby(outcomes, key=lambda outcome: outcome.name):
        yield name, list(sizes)


def _ms(outcome: Outcome) -> str:
    return "-" if outcome.ms is None else f"{outcome.ms:.3g}" if outcome.ms < 100 else f"{outcome.ms:.0f}"


def _ratio(outcome: Outcome) -> str:
    return "-" if outcome.ratio is None else f"{'!' if outcome.slow else ''}{outcome.ratio.median:.2f}"


def _cell(outcome: Outcome) -> str:
    dims = "x".join(map(str, outcome.dims))
    if outcome.ratio is None:
        return f"{dims}: {_ms(outcome)} ms"
    ratio = f"{outcome.ratio.median:.2f}"
    return f"{dims}: {_ms(outcome)} ms, {f'**{ratio}**' if outcome.slow else ratio}"


def _where(outcome: Outcome) -> str:
    return f"{outcome.name} {outcome.size} {list(outcome.dims)}"


def _told(outcome: Outcome) -> str:
    peer = f"{outcome.peer_ms:.3g}" if outcome.peer_ms is not None else "-"
    return f"{_where(outcome)}: {_ratio(outcome)}, {_ms(outcome)} ms against {peer} ms"
