"""`sardonyx convert`: a model of another framework to an ONNX file, compared with its source."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sardonyx.cli import common
from sardonyx.errors import ConfigError

if TYPE_CHECKING:
    from sardonyx.convert.api import Conversion
    from sardonyx.convert.base import Options
    from sardonyx.convert.parity import Parity

UNVERIFIED = 3
"""The exit status of `--strict` where there was nothing to compare with."""

_VERDICTS = {
    "verified": ("verified", "bold green"),
    "different": ("DIFFERENT from the source", "bold red"),
    "unverified": ("UNVERIFIED: there was nothing to compare with", "bold yellow"),
}

Names = Annotated[str | None, typer.Option(metavar="A,B,...")]


@common.reports_errors
def convert(
    *,
    source: Annotated[
        Path | None, typer.Argument(help="The model: a file or folder; --formats lists which.", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The ONNX file to write.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="NAME", help="The format, where the content does not tell.")
    ] = None,
    structure: Annotated[
        Path | None, typer.Option(help="The network's description, where SOURCE holds only its weights.")
    ] = None,
    inputs: Annotated[str | None, typer.Option("--inputs", metavar="A,B", help="Tensors that become inputs.")] = None,
    outputs: Annotated[
        str | None, typer.Option("--outputs", metavar="A,B", help="Tensors that become outputs.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=1,3,h,w", help="Dims of an input: sizes, symbols, ? for open."),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="The tag of a SavedModel.")] = None,
    signature: Annotated[str | None, typer.Option(help="The signature of a SavedModel.")] = None,
    inputs_as_nchw: Annotated[
        bool, typer.Option("--inputs-as-nchw", help="Take pictures as N, C, H, W instead of N, H, W, C.")
    ] = False,
    outputs_as_nchw: Annotated[
        bool, typer.Option("--outputs-as-nchw", help="Give pictures as N, C, H, W instead of N, H, W, C.")
    ] = False,
    mean: Annotated[str | None, typer.Option(metavar="R,G,B", help="Subtracted from pictures, in the graph.")] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="Multiplied with pictures after that, in the graph.")
    ] = None,
    swap_channels: Annotated[
        bool, typer.Option("--swap-channels", help="Take RGB where the source takes BGR, or the reverse.")
    ] = False,
    bytes_: Annotated[bool, typer.Option("--bytes", help="Take pictures as bytes (uint8).")] = False,
    rename_inputs: Annotated[str | None, typer.Option(metavar="A,B", help="New names of the inputs.")] = None,
    rename_outputs: Annotated[str | None, typer.Option(metavar="A,B", help="New names of the outputs.")] = None,
    opset: Annotated[int | None, typer.Option(min=1, help="The version of ai.onnx; the newest by default.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="An .npz file of inputs to compare on, by name.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Compare the result with the source.")] = True,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 3 where there is nothing to compare with.")
    ] = False,
    tolerance: Annotated[float | None, typer.Option(min=0, help="The relative difference that is rounding.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that a framework's exporter may take.")] = 600,
    seed: common.Seed = 0,
    formats: Annotated[bool, typer.Option("--formats", help="List what can be converted, and exit.")] = False,
    list_ops: Annotated[
        str | None, typer.Option("--list-ops", metavar="NAME", help="List a format's operators, and exit.")
    ] = None,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Convert a model to ONNX and compare it with its source.

    Nothing is left at OUTPUT when both differ. The report is written beside it, as NAME.parity.json.
    """
    if formats or list_ops is not None:
        _list(list_ops, json_)
        return
    if source is None or output is None:
        raise typer.BadParameter("what to convert, and to where? SOURCE --output FILE")
    from sardonyx.convert.api import convert as run
    from sardonyx.convert.finish import Preprocessing
    from sardonyx.errors import ParityError

    start = time.perf_counter()
    try:
        with common.spinner(f"converting {source.name}") as tell:
            done = run(
                source,
                output,
                options=_options(inputs, outputs, shape, tag, signature, structure, timeout),
                kind=from_,
                inputs_as_nchw=inputs_as_nchw,
                outputs_as_nchw=outputs_as_nchw,
                preprocessing=Preprocessing(_numbers("mean", mean), _numbers("scale", scale), swap_channels, bytes_),
                rename_inputs=_names(rename_inputs),
                rename_outputs=_names(rename_outputs),
                opset=opset,
                data=data or (),
                verify=verify,
                tolerance=tolerance,
                seed=seed,
                tell=tell,
            )
    except ParityError as error:
        if not json_:
            _show_report(error.report)
        raise
    _tell(done, source, output, time.perf_counter() - start, json_)
    if strict and (done.report is None or done.report.verdict == "unverified"):
        raise typer.Exit(UNVERIFIED)


def _options(
    inputs: str | None,
    outputs: str | None,
    shape: list[str] | None,
    tag: str | None,
    signature: str | None,
    structure: Path | None,
    timeout: float,
) -> Options:
    from sardonyx.convert.base import Options

    return Options(
        inputs=_names(inputs),
        outputs=_names(outputs),
        shapes=dict(map(_shape, shape or ())),
        tag=tag,
        signature=signature,
        structure=structure,
        timeout=timeout,
    )


def _names(given: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",") if name.strip()) if given else ()


def _numbers(option: str, given: str | None) -> tuple[float, ...]:
    try:
        return tuple(map(float, _names(given)))
    except ValueError:
        raise ConfigError(
            "cannot be read", where=f"--{option}", expected="numbers, as 1.5 or 1,2,3", got=given
        ) from None


def _shape(given: str) -> tuple[str, tuple[int | str | None, ...]]:
    name, equals, dims = given.rpartition("=")
    if not equals or not name:
        raise ConfigError("cannot be read", where="--shape", expected="NAME=1,3,h,w", got=given)
    return name, tuple(int(dim) if dim.isdecimal() else None if dim == "?" else dim for dim in _names(dims))


def _list(name: str | None, json_: bool) -> None:
    from sardonyx.convert.base import Source
    from sardonyx.convert.formats import FORMATS, find

    if name is None:
        if json_:
            common.print_json({entry.name: entry.sources for entry in FORMATS})
        else:
            common.print_table("What can be converted", "format", "sources",
                               rows=[(entry.name, entry.sources) for entry in FORMATS])  # fmt: skip
        return
    found = find(Source(), name).operators()
    if found is None:
        raise ConfigError("its operators cannot be listed", where=name, fix="they are its own exporter's")
    if json_:
        common.print_json({"format": name, "operators": found})
    else:
        common.stdout().print(common.text("\n".join(found)))


def _tell(done: Conversion, source: Path, output: Path, seconds: float, json_: bool) -> None:
    from sardonyx.model.info import describe

    info = describe(done.model)
    size = output.stat().st_size
    if json_:
        facts: dict[str, Any] = {"source": str(source), "output": str(output), "bytes": size, "seconds": seconds}
        facts |= {"opsets": dict(info.opsets), "operators": dict(info.operators), "parameters": info.parameters}
        facts |= {"parity": done.report.as_dict() if done.report is not None else None, "notes": list(done.notes)}
        common.print_json(facts)
        return
    if done.report is not None:
        _show_report(done.report)
    lines = common.grid()
    lines.add_row("wrote", common.text(f"{output}, {common.kib(size)}", style="bold"))
    lines.add_row("opsets", common.text(common.opsets(info.opsets)))
    lines.add_row("nodes", common.text(f"{sum(info.operators.values()):,}"))
    lines.add_row("parameters", common.text(f"{info.parameters:,}"))
    lines.add_row("took", common.text(f"{seconds:.2f} s"))
    for note in done.notes:
        lines.add_row("note", common.text(note))
    common.stdout().print(lines)
    common.stdout().print(common.text(f"sardonyx run {output}", style="dim"))


def _show_report(report: Parity) -> None:
    rows = [
        (
            one.output,
            one.sample,
            "x".join(map(str, one.shape)) or "scalar",
            f"{one.max_abs:.2g}",
            f"{one.relative:.2g}",
            f"{one.tolerance:.2g}",
            "same" if one.same else "DIFFERENT",
        )
        for one in report.comparisons
    ]
    if rows:
        columns = ("output", "inputs", "shape", "max abs", "relative", "tolerance", "")
        common.print_table("Compared with the source", *columns, rows=rows, numeric=columns[3:6])
    lines = common.grid()
    words, style = _VERDICTS[report.verdict]
    lines.add_row("parity", common.text(words, style=style))
    lines.add_row("source", common.text(f"{report.format}, by {report.route}"))
    if report.oracle:
        lines.add_row("compared with", common.text(report.oracle))
    if report.diverging:
        lines.add_row("differs first at", common.text(report.diverging, style="bold"))
    for note in report.notes:
        lines.add_row("note", common.text(note))
    common.stdout().print(lines)
