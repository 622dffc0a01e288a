"""`sardonyx optimize`: a model that computes the same with less, as a file for any runtime."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sardonyx.cli import common
from sardonyx.cli.verified import verdict_line, verified

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.measure.equivalence import Equivalence
    from sardonyx.passes.base import Change, Event, PassResult


class Levels(StrEnum):
    """What rewrites may do to results."""

    basic = "basic"
    all = "all"


Only = Annotated[list[str] | None, typer.Option("--only", metavar="PASS", help="Run this pass alone; repeatable.")]
Skip = Annotated[list[str] | None, typer.Option("--skip", metavar="PASS", help="Leave a pass out; repeatable.")]
Opset = Annotated[
    int | None,
    typer.Option(
        "--opset",
        min=1,
        help="Raise the model to this opset first, so that newer operators can be used: 17 has LayerNormalization, "
        "20 Gelu, 23 Attention, RMSNormalization and RotaryEmbedding, 24 Swish.",
        show_default="the model's",
    ),
]


@common.reports_errors
def optimize(
    *,
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The ONNX file to write.")] = None,
    level: Annotated[Levels, typer.Option("--level", help="basic: results stay bit for bit the same.")] = Levels.all,
    opset: Opset = None,
    only: Only = None,
    skip: Skip = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell what each pass did, and why nodes it is about were left.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run both models and write nothing when they differ.")
    ] = True,
    dim: common.Dims = None,
    seed: common.Seed = 0,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Simplify a model: fold what is constant, drop what does nothing, and put operators back together.

    What comes out is standard ONNX of the model's own opset, or of --opset. Without --output nothing is written.
    """
    from sardonyx.model.file import save

    start = time.perf_counter()
    with common.spinner(f"reading {model.name}") as tell:
        work = _optimized(model, level.value, opset, only or [], skip or [], tell)
        verdict: Equivalence | str = "not asked for"
        if verify:
            tell("running both models")
            fix = "this is a defect of a pass: find it with --only and --skip, or write anyway with --no-verify"
            verdict = verified(model, work.result.model, common.parse_dims(dim), seed, fix)
        if output is not None:
            tell(f"writing {output}")
            save(work.result.model, output)
    seconds = time.perf_counter() - start
    if json_:
        common.print_json(_facts(model, output, work, verdict, seconds, explain=explain))
    else:
        _tell(output, work, verdict, seconds, explain=explain)


@dataclass(frozen=True)
class _Work:
    """What the passes did to a model of so many nodes, and why they left others, by pass and node."""

    result: PassResult
    nodes: int
    inlined: int
    missed: Mapping[tuple[str, str, str], Event]


def _optimized(path: Path, level: Any, opset: int | None, only: list[str], skip: list[str], tell: Any) -> _Work:
    from sardonyx.model.check import require_valid
    from sardonyx.model.file import load
    from sardonyx.model.foreign import OPSET, expand, infer_foreign
    from sardonyx.model.opset import raise_opset
    from sardonyx.model.shapes import infer_shapes
    from sardonyx.passes.inline import inline_functions
    from sardonyx.passes.pipeline import apply, select

    try:
        passes = select(level, only, skip)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    model = load(path)
    require_valid(model, str(path))
    nodes = _count(model)
    tell("inferring shapes")
    inline_functions(model)
    inlined = _count(model)
    infer_shapes(model)
    if opset is not None:
        raise_opset(model, opset)
    if model.graph.opset_imports.get("", 1) >= OPSET:
        expand(model)
    infer_shapes(model)
    infer_foreign(model)
    missed: dict[tuple[str, str, str], Event] = {}

    def hear(event: Event) -> None:
        tell(f"{event.pass_name}: {event.op_type} {event.node}")
        if not event.applied:
            missed[event.pass_name, event.node, event.op_type] = event

    result = apply(model, passes, trace=hear)
    left = {(node.name or "", node.op_type) for graph in result.model.graphs() for node in graph}
    missed = {key: event for key, event in missed.items() if key[1:] in left}
    return _Work(result, nodes, inlined, missed)


def _count(model: ir.Model) -> int:
    return sum(len(graph) for graph in model.graphs())


def _by_pass(changes: tuple[Change, ...]) -> Iterator[dict[str, Any]]:
    """Rewrites and nodes removed (added, if below zero) by each pass, over all rounds, in the order they first ran."""
    for name in dict.fromkeys(change.pass_name for change in changes):
        own = [change for change in changes if change.pass_name == name]
        removed = sum(change.before - change.after for change in own)
        yield {"pass": name, "rewrites": sum(change.rewrites for change in own), "nodes_removed": removed}


def _facts(
    path: Path, output: Path | None, work: _Work, verdict: Equivalence | str, seconds: float, *, explain: bool
) -> dict[str, Any]:
    model = work.result.model
    facts = {
        "model": str(path),
        "output": None if output is None else str(output),
        "opsets": dict(model.graph.opset_imports),
        "nodes": {"before": work.nodes, "inlined": work.inlined, "after": _count(model)},
        "passes": list(_by_pass(work.result.changes)),
        "verified": {"reason": verdict} if isinstance(verdict, str) else asdict(verdict),
        "seconds": seconds,
    }
    if explain:
        facts["applied"] = [asdict(event) for event in work.result.events]
        facts["missed"] = [asdict(event) for event in work.missed.values()]
    return facts


def _tell(output: Path | None, work: _Work, verdict: Equivalence | str, seconds: float, *, explain: bool) -> None:
    console = common.stdout()
    nodes, model = work.nodes, work.result.model
    rows: list[tuple[str, str, str]] = []
    if work.inlined != nodes:
        rows.append(("inline-functions", "", f"{nodes - work.inlined:+,}"))
    rows += [
        (one["pass"], f"{one['rewrites']:,}", f"{-one['nodes_removed']:+,}") for one in _by_pass(work.result.changes)
    ]
    head = ("rewrites", "nodes")
    common.print_table("Passes", "pass", *head, rows=rows, numeric=head)
    if explain:
        for title, events in (("Done", work.result.events), ("Left as they are", tuple(work.missed.values()))):
            told = [(event.pass_name, f"{event.op_type} {event.node}".strip(), event.what) for event in events]
            common.print_table(title, "pass", "node", "why" if title != "Done" else "what", rows=told)
    lines = common.grid()
    lines.add_row("nodes", common.text(f"{nodes:,} to {_count(model):,}", style="bold"))
    lines.add_row("format", common.text(common.opsets(model.graph.opset_imports)))
    lines.add_row("verified", common.text(verdict_line(verdict)))
    if output is not None:
        lines.add_row("wrote", common.text(f"{output}, {common.kib(output.stat().st_size)}"))
    lines.add_row("took", common.text(f"{seconds:.2f} s"))
    console.print(lines)
