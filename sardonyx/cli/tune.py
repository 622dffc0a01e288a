"""`sardonyx tune`: measure what the compiler chooses for a model, and keep what is fastest on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sardonyx.cli import common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.measure.tune import Tuned


@common.reports_errors
def tune(
    *,
    model: common.Model = None,
    threads: common.Threads = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Turns of each candidate.")] = 3,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Runs of a turn.")] = 8,
    dim: common.Dims = None,
    seed: common.Seed = 0,
    forget: Annotated[bool, typer.Option("--forget", help="Drop what was measured before, for all models.")] = False,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Measure the compiler's choices for a model, and keep the fastest for every later session on this machine.

    For each convolution and matrix product: which algorithm, which register tile, which blocks. The choices are kept
    in the cache, for this processor and this number of threads.
    """
    from sardonyx.measure import tune as tuning
    from sardonyx.measure.inputs import random_inputs, specs
    from sardonyx.model.file import load

    if forget:
        dropped = tuning.forget(threads)
        if json_:
            common.print_json({"forgotten": dropped})
        else:
            common.stdout().print(f"{dropped} choices forgotten")
        return
    path = common.model_or_digits(model)
    declared = common.open_session(path, ["cpu", "reference"], threads).get_inputs()
    inputs = random_inputs(specs(declared, common.parse_dims(dim), load(path)), seed)
    with common.counted("measuring candidates") as told:
        found = tuning.tune(path, inputs, threads=threads, rounds=rounds, runs=runs, progress=told)
    if json_:
        common.print_json({"model": str(path), "choices": [asdict(one) | {"changed": one.changed} for one in found]})
    else:
        _tell(found)


def _tell(found: Sequence[Tuned]) -> None:
    console = common.stdout()
    better = [one for one in found if one.changed]
    rows = [
        (
            ", ".join(one.nodes[:3]) + (f" and {len(one.nodes) - 3} more" if len(one.nodes) > 3 else ""),
            _short(one.kept),
            _short(one.favourite),
            f"{one.kept_ms:.3f}",
            f"{one.favourite_ms:.3f}",
            f"{one.favourite_ms / one.kept_ms:.2f}x" if one.kept_ms else "",
        )
        for one in better
    ]
    head = ("ms", "ms before", "gain")
    if rows:
        common.print_table("Better than expected", "nodes", "kept", "before", *head, rows=rows, numeric=head)
    gain = sum(one.favourite_ms - one.kept_ms for one in better)
    console.print(f"{len(found)} choices measured, {len(better)} changed: {gain:.3f} ms less a run")


def _short(candidate: str) -> str:
    """A candidate's name without what the problem says already."""
    if candidate == "None":
        return "direct"
    name, _, fields = candidate.partition("(geometry=")
    return f"{name}({fields.split('), ', 1)[-1]}" if fields else f"tile {candidate}"
