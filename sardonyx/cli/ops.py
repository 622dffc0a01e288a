"""`sardonyx ops`: the operators of the standard and what runs them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from sardonyx.cli import common
from sardonyx.errors import InvalidInputError


@common.reports_errors
def ops(
    name: Annotated[str | None, typer.Argument(help="One operator.", show_default="all")] = None,
    *,
    domain: Annotated[str | None, typer.Option("--domain", help="One domain, such as ai.onnx.ml.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page of the documentation.")] = False,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """List the operators of ONNX: versions, who runs them, in which types."""
    from sardonyx.providers import coverage, registry

    choices = registry.resolve(["cpu"], None)
    rows = coverage.table([choice.provider for choice in choices], domain, name)
    if not rows:
        asked = ".".join(part for part in (domain, name) if part)
        raise InvalidInputError(f"no operator {asked!r}", where="ops", expected="one of the standard's")
    if json_:
        common.print_json({"operators": [{**asdict(row), "domain": row.domain or "ai.onnx"} for row in rows]})
        return
    if markdown:
        typer.echo(coverage.markdown(rows), nl=False)
        return
    cells = [
        (row.domain or "ai.onnx", row.name, ", ".join(map(str, row.versions)), row.runs, row.types) for row in rows
    ]
    common.print_table("Operators", "domain", "operator", "versions", "runs on", "types", rows=cells)
