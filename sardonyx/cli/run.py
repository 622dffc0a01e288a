"""`sardonyx run`: run a model once and show what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sardonyx.cli import common
from sardonyx.errors import InvalidInputError

if TYPE_CHECKING:
    from sardonyx.cli.inputs import Given
    from sardonyx.measure.inputs import Spec
    from sardonyx.providers.base import Array


@common.reports_errors
def run(
    *,
    model: common.Model = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="[NAME=]FILE",
            help="A .npy, .npz, .pb, .png or .jpg file; repeatable. Inputs without one are made up.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Pixels are multiplied by this.", show_default="1/255, or 1 for integers"),
    ] = None,
    mean: Annotated[str, typer.Option(help="Then this is subtracted: a number, or one for each channel.")] = "0",
    std: Annotated[str, typer.Option(help="Then pixels are divided by this: as --mean.")] = "1",
    dim: common.Dims = None,
    seed: common.Seed = 0,
    provider: Annotated[
        list[str] | None,
        typer.Option(help="Provider to run on, in order of preference; repeatable.", show_default="cpu"),
    ] = None,
    threads: common.Threads = None,
    save_outputs: Annotated[
        Path | None,
        typer.Option(
            help="Where to: .npz, .npy (a single output), or a folder for output_0.pb, output_1.pb, ...",
            show_default=False,
        ),
    ] = None,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Run a model once and show its outputs.

    Without a model, the digits net reads a digit it has not been trained on.
    """
    from sardonyx.cli.inputs import Pixels, gather
    from sardonyx.measure.inputs import specs
    from sardonyx.model.file import load

    path, classes = common.model_or_digits(model), _classes(model)
    pixels = Pixels(scale, _numbers("--mean", mean), _numbers("--std", std))
    dims = common.parse_dims(dim)
    session = common.open_session(path, provider, threads)
    wanted = specs(session.get_inputs(), dims, load(path))
    given = [_example()] if model is None and not inputs else gather(inputs or [], wanted, pixels, seed)
    with common.spinner(f"running {path.name}"):
        arrays = session.run(None, {value.name: value.array for value in given})
    outputs = {declared.name: array for declared, array in zip(session.get_outputs(), arrays, strict=True)}
    saved = _save(save_outputs, outputs) if save_outputs else []
    ran = Outcome(path, session.get_providers(), given, outputs, _assumed(given, wanted), saved)
    if json_:
        common.print_json(_machine(ran))
    else:
        _tell(ran, classes)


def _numbers(option: str, value: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{option} wants a number, or several with commas, not {value!r}") from error


def _classes(model: Path | None) -> tuple[str, ...]:
    from sardonyx.zoo import digits

    return digits.CLASSES if model is None else ()


def _example() -> Given:
    from sardonyx.cli.inputs import Given
    from sardonyx.zoo import digits

    held = digits.held_out()
    shown = digits.SHOWN
    return Given("image", held.images[shown : shown + 1], f"held-out digit, a {held.labels[shown]}")


@dataclass(frozen=True)
class Outcome:
    """One run: what went in, by which providers, and what came out by name."""

    model: Path
    providers: list[str]
    given: list[Given]
    outputs: dict[str, Array]
    assumed: list[str]  # symbols whose size was made up
    saved: list[Path]


def _tell(ran: Outcome, classes: tuple[str, ...]) -> None:
    from sardonyx.cli.show import described, top

    console = common.stdout()
    console.print(common.text(f"{ran.model.name} on {', '.join(ran.providers)}", style="bold"))
    fed = [(v.name, f"{v.array.dtype} {list(v.array.shape)}", v.source) for v in ran.given]
    common.print_table("Inputs", "name", "type", "from", rows=fed)
    for symbol in ran.assumed:
        console.print(common.text(f"{symbol} was taken as 1; --dim {symbol}=SIZE sets it", style="dim"))
    for name, array in ran.outputs.items():
        console.print(common.text(f"{name}  {array.dtype} {list(array.shape)}", style="bold"))
        console.print(common.text(described(array)))
        if likeliest := top(array, classes):
            shares = [(label, f"{100 * p:.2f} %") for label, p in likeliest]
            common.print_table("Likeliest", "class", "probability", rows=shares, numeric=["probability"])
    for file in ran.saved:
        console.print(common.text(f"wrote {file}", style="dim"))


def _assumed(given: list[Given], specs: list[Spec]) -> list[str]:
    """Symbols that were given no size, of inputs whose values were made up."""
    drawn = {value.name for value in given if value.drawn}
    return sorted({symbol for spec in specs if spec.name in drawn for symbol in spec.assumed})


def _machine(ran: Outcome) -> dict[str, Any]:
    from sardonyx.cli.show import as_json

    fed = [
        {"name": v.name, "dtype": str(v.array.dtype), "shape": list(v.array.shape), "source": v.source}
        for v in ran.given
    ]
    return {
        "model": str(ran.model),
        "providers": ran.providers,
        "inputs": fed,
        "outputs": [as_json(name, array) for name, array in ran.outputs.items()],
        "assumed": dict.fromkeys(ran.assumed, 1),
        "saved": [str(file) for file in ran.saved],
    }


def _save(target: Path, outputs: dict[str, Array]) -> list[Path]:
    """Write the outputs where and as `target` says; the files written."""
    import numpy as np

    suffix = target.suffix.lower()
    try:
        if suffix == ".npz":
            with target.open("wb") as file:
                np.savez(file, allow_pickle=False, **outputs)
            return [target]
        if suffix == ".npy":
            if len(outputs) != 1:
                raise InvalidInputError(
                    "a .npy file holds one array", where=str(target), got=f"{len(outputs)} outputs",
                    fix="save to a .npz file or a folder",
                )  # fmt: skip
            np.save(target, next(iter(outputs.values())), allow_pickle=False)
            return [target]
        return _save_tensors(target, outputs)
    except OSError as error:
        raise InvalidInputError("cannot write the outputs", where=str(target), got=error.strerror) from error


def _save_tensors(folder: Path, outputs: dict[str, Array]) -> list[Path]:
    """One TensorProto a file, named as the data sets of ONNX's backend tests are."""
    from onnx.numpy_helper import from_array

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for i, (name, array) in enumerate(outputs.items()):
        files.append(folder / f"output_{i}.pb")
        files[-1].write_bytes(from_array(array, name).SerializeToString())
    return files
