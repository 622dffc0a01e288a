"""`sardonyx convert`: a model of another framework to an ONNX file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sardonyx.cli import common


@common.reports_errors
def convert(
    *,
    source: Annotated[Path, typer.Argument(help="The model: a Keras HDF5 file (.h5, .hdf5).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    inputs_as_nchw: Annotated[
        bool, typer.Option("--inputs-as-nchw", help="Take pictures as N, C, H, W instead of N, H, W, C.")
    ] = False,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Convert a model to ONNX, without the framework it was made in."""
    from sardonyx.convert import api
    from sardonyx.model import file
    from sardonyx.model.info import describe

    start = time.perf_counter()
    with common.spinner(f"converting {source.name}") as tell:
        model = api.convert(source, inputs_as_nchw=inputs_as_nchw)
        tell(f"writing {output}")
        file.save(model, output)
    seconds = time.perf_counter() - start
    info = describe(model)
    size = output.stat().st_size
    if json_:
        facts = {"source": str(source), "output": str(output), "bytes": size, "seconds": seconds}
        facts |= {
            "opsets": dict(info.opsets),
            "operators": dict(info.operators),
            "parameters": info.parameters,
        }
        common.print_json(facts)
        return
    lines = common.grid()
    lines.add_row("wrote", common.text(f"{output}, {common.kib(size)}", style="bold"))
    lines.add_row("format", common.text(common.opsets(info.opsets)))
    lines.add_row("nodes", common.text(f"{sum(info.operators.values()):,}"))
    lines.add_row("parameters", common.text(f"{info.parameters:,}"))
    lines.add_row("took", common.text(f"{seconds:.2f} s"))
    common.stdout().print(lines)
    common.stdout().print(common.text(f"sardonyx run {output}", style="dim"))
