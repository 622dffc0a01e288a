"""`sardonyx opset`: a model in another version of ONNX's operators, newer or older."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sardonyx.cli import common
from sardonyx.cli.verified import verdict_line, verified

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.measure.equivalence import Equivalence
    from sardonyx.model.opset import Obstacle


@common.reports_errors
def opset(
    *,
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    to: Annotated[int, typer.Option("--to", min=1, help="The version of ai.onnx.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The ONNX file to write.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run both models and write nothing when they differ.")
    ] = True,
    dim: common.Dims = None,
    seed: common.Seed = 0,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Convert a model to a newer or older opset.

    All nodes that the opset cannot say are listed with the reason; then nothing is written and the exit status is 1.
    Without --output the model is only checked. Operators of other domains stay as they are.
    """
    from sardonyx.model.file import load, save

    start = time.perf_counter()
    with common.spinner(f"reading {model.name}") as tell:
        changed = load(model)
        before = dict(changed.graph.opset_imports)
        obstacles = _converted(changed, to, str(model))
        verdict: Equivalence | str = "not asked for"
        if verify and not obstacles:
            tell("running both models")
            fix = "this is a defect of the conversion; write anyway with --no-verify"
            verdict = verified(model, changed, common.parse_dims(dim), seed, fix)
        if output is not None and not obstacles:
            tell(f"writing {output}")
            save(changed, output)
    facts = {
        "model": str(model),
        "output": str(output) if output is not None and not obstacles else None,
        "opsets": {"before": before, "after": before if obstacles else dict(changed.graph.opset_imports)},
        "obstacles": [asdict(one) for one in obstacles],
        "verified": {"reason": verdict} if isinstance(verdict, str) else asdict(verdict),
        "seconds": time.perf_counter() - start,
    }
    if json_:
        common.print_json(facts)
    elif obstacles:
        rows = [(one.node, one.op, one.reason) for one in obstacles]
        common.print_table(f"Opset {to} cannot say", "node", "operator", "why", rows=rows)
    else:
        lines = common.grid()
        lines.add_row("before", common.text(common.opsets(before)))
        lines.add_row("now", common.text(common.opsets(changed.graph.opset_imports), style="bold"))
        lines.add_row("verified", common.text(verdict_line(verdict)))
        if output is not None:
            lines.add_row("wrote", common.text(f"{output}, {common.kib(output.stat().st_size)}"))
        common.stdout().print(lines)
    if obstacles:
        raise typer.Exit(1)


def _converted(model: ir.Model, version: int, where: str) -> list[Obstacle]:
    """Bring the model there, in place, and check what came out; what stands in the way."""
    from sardonyx.model.check import check, require_valid
    from sardonyx.model.foreign import expand
    from sardonyx.model.opset import Obstacle, convert_opset
    from sardonyx.model.shapes import infer_shapes
    from sardonyx.passes.inline import inline_functions

    require_valid(model, where)
    inline_functions(model)
    infer_shapes(model)
    # Experimental operators of ai.onnx are no part of any opset; other domains have versions of their own.
    expand(model, keep=lambda node: node.domain not in ("", "ai.onnx"))
    obstacles = convert_opset(model, version)
    if not obstacles:
        found = [entry for entry in check(model) if entry.severity == "error"]
        obstacles = [Obstacle(entry.where, entry.code, entry.message) for entry in found]
    return obstacles
