"""`sardonyx inspect`: what is in a model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sardonyx.cli import common

if TYPE_CHECKING:
    from sardonyx.model.info import ModelInfo, ValueInfo


@common.reports_errors
def inspect(
    *,
    model: common.Model = None,
    dim: common.Dims = None,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Show a model's inputs, outputs, operators, parameters and the work of one run."""
    from sardonyx.model import file
    from sardonyx.model.info import describe

    path = common.model_or_digits(model)
    with common.spinner(f"reading {path.name}"):
        info = describe(file.load(path), common.parse_dims(dim) or None)
    if json_:
        common.print_json({"model": str(path), "file_bytes": path.stat().st_size, **asdict(info)})
    else:
        _tell(path, info)


def _tell(path: Path, info: ModelInfo) -> None:
    console = common.stdout()
    facts = common.grid()
    for name, value in _facts(path, info).items():
        facts.add_row(name, common.text(value))
    console.print(common.text(f"{path.name}  {info.name}", style="bold"))
    console.print(facts, "")
    for title, values in (("Inputs", info.inputs), ("Outputs", info.outputs)):
        shapes = [(value.name, value.type, _shape(value)) for value in values]
        common.print_table(title, "name", "type", "shape", rows=shapes)
    work = info.macs_by_operator
    operators = [(name, f"{count:,}", _count(work[name]) if name in work else "")
                 for name, count in info.operators.items()]  # fmt: skip
    columns = ("nodes", "multiply-adds")
    common.print_table("Operators", "operator", *columns, rows=operators, numeric=columns)
    for reason in info.uncounted:
        console.print(common.text(f"multiply-adds not counted: {reason}", style="dim"))


def _facts(path: Path, info: ModelInfo) -> dict[str, str]:
    assumed = ", ".join(f"{name} = {size}" for name, size in info.assumed.items())
    return {
        "size": f"{common.kib(path.stat().st_size)}, constants {common.kib(info.size_bytes)}",
        "ONNX": f"IR version {info.ir_version}, " + common.opsets(info.opsets),
        "producer": info.producer or "unknown",
        "nodes": f"{sum(info.operators.values()):,}" + (f" and {info.functions:,} functions" if info.functions else ""),
        "parameters": f"{info.parameters:,}",
        "multiply-adds": _count(info.macs) + (f" with {assumed}" if assumed else ""),
    }


def _count(work: int | None) -> str:
    return "unknown" if work is None else f"{work:,}"


def _shape(value: ValueInfo) -> str:
    if value.dims is None:
        return "unknown"
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in value.dims) + "]"
